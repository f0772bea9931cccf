"""Proves that a classifier's answers are those of transformers' pipeline and of sentence-transformers' CrossEncoder,
for classes, several labels at once and one score, whoever saved the model. Run: pytest tests/inference/test_answers.py
(-m slow: the other direction, and older layouts)
"""

import csv
import io
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from conftest import small_config
from test_inference import LABELS, POSITIONS, VOCAB, saved, texts

from minibert import cli
from minibert.fast.models import BertForSequenceClassification
from minibert.inference.answers import CROSS_ENCODERS, activation_of, answers, for_cross_encoders, task_of
from minibert.inference.text_models import TextClassifier
from minibert.text.tokenizer import Tokenizer

pytestmark = pytest.mark.numeric

IDENTITY, SIGMOID = CROSS_ENCODERS["none"], CROSS_ENCODERS["sigmoid"]
ONE = {0: "similarity"}
MULTI, REGRESSION = "multi_label_classification", "regression"
KINDS = {  # name -> labels, problem_type, task, activation
    "classes": (LABELS, None, "classification", "softmax"),
    "classes that say so": (LABELS, "single_label_classification", "classification", "softmax"),
    "several labels": (LABELS, MULTI, "multi-label", "sigmoid"),
    "one of several labels": (ONE, MULTI, "multi-label", "sigmoid"),
    "one score": (ONE, None, "regression", "sigmoid"),
    "regression": (ONE, REGRESSION, "regression", "none"),
    "several numbers": (LABELS, REGRESSION, "regression", "none"),
}


def config(labels: dict[int, str] = LABELS, problem_type: str | None = None, **others: object):
    return small_config(id2label=labels, problem_type=problem_type, others=others)


@pytest.fixture(scope="module")
def directories(tmp_path_factory) -> dict[str, Path]:
    """A stirred model of each kind, saved by its model class."""
    return {
        name: saved(
            tmp_path_factory.mktemp("kind"), BertForSequenceClassification, id2label=labels, problem_type=problem
        )
        for name, (labels, problem, *_) in KINDS.items()
    }


def load(directory: Path) -> TextClassifier:
    return TextClassifier.from_pretrained(directory, device="cpu")


def settings(directory: Path, file: str = "config.json", **changes: object) -> Path:
    """Some fields of a JSON file in a directory changed."""
    path = directory / file
    values = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**values, **changes}), encoding="utf-8")
    return directory


# ---- what the files say ----


@pytest.mark.parametrize("name", KINDS)
def test_the_config_says_task_and_activation(name):
    labels, problem, task, activation = KINDS[name]
    assert (task_of(config(labels, problem)), activation_of(config(labels, problem))) == (task, activation)


def test_a_single_class_is_refused_as_transformers_does(tmp_path, capsys):
    directory = saved(tmp_path, BertForSequenceClassification, id2label=ONE, problem_type="single_label_classification")
    assert cli.main(["predict", str(directory), "a"]) == 2
    assert "write 'regression' for a score without bounds, or leave problem_type out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("others", "activation"),
    [
        ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "5.1.0"}}, "none"),
        ({"sentence_transformers": {"activation_fn": SIGMOID}, "sbert_ce_default_activation_function": "x"}, "sigmoid"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "none"),
        ({"sbert_ce_default_activation_function": None}, "softmax"),
        ({"sentence_transformers": {"version": "5.1.0"}}, "softmax"),
        ({"sentence_transformers": {"activation_fn": None}}, "softmax"),
        ({"sentence_transformers": "5.1.0"}, "softmax"),
    ],
)
def test_a_cross_encoders_own_activation_comes_first(others, activation):
    assert activation_of(config(**others)) == activation


@pytest.mark.parametrize("name", ["torch.nn.modules.activation.Tanh", "Sigmoid()", "", 7, ["x"] * 1000])
def test_an_activation_that_is_not_known_is_refused_by_name(name, tmp_path, capsys):
    directory = saved(tmp_path, BertForSequenceClassification, id2label=ONE)
    settings(directory, "config_sentence_transformers.json", activation_fn=name)
    assert cli.main(["predict", str(directory), "a"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"{directory}: activation_fn of this CrossEncoder is {str(name)[:20]}" in err
    assert f"where minibert knows {IDENTITY} or {SIGMOID}; write one" in err
    assert len(err) < 400


def test_a_cross_encoder_that_puts_a_prompt_before_texts_is_refused(tmp_path):
    directory = saved(tmp_path, BertForSequenceClassification, id2label=ONE)
    file = "config_sentence_transformers.json"
    settings(directory, file, activation_fn=SIGMOID, default_prompt_name="q", prompts={"q": "query: "})
    with pytest.raises(ValueError, match=r"default_prompt_name is 'q', .*; set it to null, and write the prompt"):
        load(directory)


def test_a_settings_file_that_is_no_json_is_refused(tmp_path):
    directory = saved(tmp_path, BertForSequenceClassification, id2label=ONE)
    (directory / "config_sentence_transformers.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"config_sentence_transformers\.json: .* copy it again"):
        load(directory)


# ---- answers ----


def test_several_labels_are_all_of_probability_one_half_and_more_in_the_order_of_the_ids():
    logits = torch.tensor([[-0.1, 0.0, 3.0], [-1.0, -2.0, -0.5], [5.0, 0.2, 1.0]])
    found = answers(config(problem_type=MULTI), logits)
    assert [answer.label for answer in found] == ["neutral|positive", "", "negative|neutral|positive"]


def test_the_value_of_several_labels_is_the_probability_of_the_least_certain_decision():
    (found,) = answers(config(problem_type=MULTI), torch.tensor([[-0.4, 2.0, 3.0]]))
    assert found.value == pytest.approx(1 - 1 / (1 + math.exp(0.4)))
    assert found.each == pytest.approx([1 / (1 + math.exp(-x)) for x in (-0.4, 2.0, 3.0)])


def test_several_labels_of_a_cross_encoder_that_gives_logits_are_the_same():
    logits = torch.tensor([[-0.4, 2.0, 3.0]])
    raw = config(problem_type=MULTI, sbert_ce_default_activation_function=IDENTITY)
    (found,), (wanted,) = answers(raw, logits), answers(config(problem_type=MULTI), logits)
    assert found[:2] == wanted[:2]
    assert found.each == logits[0].tolist()


def test_a_single_label_is_answered_by_its_name_and_score():
    logits = torch.tensor([[0.3], [-2.0]])
    assert [answer[:2] for answer in answers(config(ONE, REGRESSION), logits)] == [
        (["similarity"], pytest.approx(0.3)),
        (["similarity"], -2.0),
    ]
    assert answers(config(ONE), logits)[0].value == pytest.approx(1 / (1 + math.exp(-0.3)))


@pytest.mark.parametrize("name", KINDS)
def test_predict_and_probabilities_are_of_the_logits_whatever_the_head(name, directories):
    classifier, rows, pairs = load(directories[name]), texts(7, seed=1), texts(7, seed=2)
    logits = classifier.logits(rows, pairs)
    function = {"softmax": lambda x: x.softmax(dim=1), "sigmoid": torch.sigmoid, "none": lambda x: x}[KINDS[name][3]]
    torch.testing.assert_close(classifier.probabilities(rows, pairs), function(logits), rtol=0, atol=1e-6)
    assert classifier.predict(rows, pairs) == [(a.label, a.value) for a in answers(classifier.config, logits)]


# ---- the command ----


def predicted(capsys: pytest.CaptureFixture, directory: Path, *words: str) -> str:
    assert cli.main(["predict", str(directory), *words, "--device", "cpu"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["several labels", "one score", "regression", "several numbers"])
def test_predict_prints_label_value_and_text_a_line_each(name, directories, capsys):
    rows = ["a b c", "房间很干净", "x"]
    found = predicted(capsys, directories[name], *rows)
    wanted = zip(load(directories[name]).predict(rows), rows, strict=True)
    assert found == "".join(f"{label}\t{value:.4f}\t{text}\n" for (label, value), text in wanted)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("classes", ["label", "probabilities"]),
        ("several labels", ["labels", "probability", "probabilities"]),
        ("one score", ["label", "score"]),
        ("regression", ["label", "score"]),
        ("several numbers", ["label", "scores"]),
    ],
)
def test_json_names_what_the_numbers_are(name, keys, directories, capsys, tmp_path):
    (row,) = json.loads(predicted(capsys, directories[name], "a b c", "--json"))["predictions"]
    assert list(row) == ["text", *keys]
    (tmp_path / "rows.txt").write_text("a b c\n", encoding="utf-8")
    predicted(capsys, directories[name], "--data", str(tmp_path / "rows.txt"), "--out", str(tmp_path / "out.jsonl"))
    line = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    assert list(line) == ["row", *keys]
    (each,) = load(directories[name]).probabilities(["a b c"]).tolist()
    shown = [row["score"]] if "score" in row else list(row[keys[-1]].values())
    assert shown == pytest.approx(each, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("several labels", "labels probability probability_negative probability_neutral probability_positive"),
        ("one score", "label score"),
        ("regression", "label score"),
        ("several numbers", "label score score_negative score_neutral score_positive"),
    ],
)
def test_a_table_has_the_columns_of_its_kind(name, columns, directories, capsys, tmp_path):
    rows = texts(20, seed=4)
    (tmp_path / "rows.txt").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    predicted(capsys, directories[name], "--data", str(tmp_path / "rows.txt"), "--out", str(tmp_path / "out.csv"))
    head, *found = csv.reader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8")))
    assert head == ["row", *columns.split()]
    classifier = load(directories[name])
    each = classifier.probabilities(rows).tolist()
    for number, (row, (label, value), numbers) in enumerate(zip(found, classifier.predict(rows), each, strict=True), 1):
        assert row[:2] == [str(number), label]
        assert [float(x) for x in row[2:]] == pytest.approx([value, *numbers][: len(columns.split()) - 1], abs=2e-6)


def test_a_job_begun_by_a_release_that_knew_no_activation_is_not_gone_on_with(
    directories, capsys, tmp_path, monkeypatch
):
    directory, out = shutil.copytree(directories["one score"], tmp_path / "model"), tmp_path / "out.tsv"
    (tmp_path / "rows.txt").write_text("a\nb\n", encoding="utf-8")
    words = ["predict", str(directory), "--data", str(tmp_path / "rows.txt"), "--out", str(out), "--device", "cpu"]
    words += ["--tokens-per-batch", "1"]
    with monkeypatch.context() as patch:
        patch.setattr("minibert.inference.jobs.Output.finish", interrupted)
        assert cli.main(words) == 130
    journal = tmp_path / "out.tsv.journal"
    begun, *others = journal.read_text(encoding="utf-8").splitlines()
    begun = {name: value for name, value in json.loads(begun).items() if name != "activation"}
    journal.write_text("\n".join([json.dumps(begun), *others, ""]), encoding="utf-8")
    capsys.readouterr()
    assert cli.main(words) == 2
    assert "out.tsv.journal" in capsys.readouterr().err


def interrupted(self: object) -> None:
    raise KeyboardInterrupt


# ---- transformers and sentence-transformers ----


def pipelines_scores(directory: Path, rows: list[str], pairs: list[str]) -> torch.Tensor:
    """[N, L] in the order of the labels."""
    classify = transformers.pipeline("text-classification", model=str(directory), device="cpu", top_k=None)
    both = [{"text": text, "text_pair": pair} for text, pair in zip(rows, pairs, strict=True)]
    found = [{one["label"]: one["score"] for one in classify(row)} for row in both]
    return torch.tensor([[row[classify.model.config.id2label[i]] for i in range(len(row))] for row in found])


ROWS = ["a b c", "房间很干净 x", "", "a"], ["d", "下次还住 b", "c", "的 一 是 z z z z"]


@pytest.mark.parametrize("name", KINDS)
def test_transformers_pipeline_loads_what_is_saved_and_gives_the_same(name, directories, tmp_path):
    classifier = load(directories[name])
    classifier.save_pretrained(tmp_path)
    torch.testing.assert_close(pipelines_scores(tmp_path, *ROWS), classifier.probabilities(*ROWS), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_what_transformers_saves_is_answered_as_its_pipeline_does(name, directories, tmp_path):
    model = transformers.BertForSequenceClassification.from_pretrained(directories[name])
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(directories[name]).save_pretrained(tmp_path)
    torch.testing.assert_close(
        load(tmp_path).probabilities(*ROWS), pipelines_scores(directories[name], *ROWS), rtol=0, atol=1e-5
    )


def cross_encoders_scores(encoder: object, rows: list[str], pairs: list[str], batch: int = 3) -> torch.Tensor:
    found = encoder.predict(list(zip(rows, pairs, strict=True)), batch_size=batch, show_progress_bar=False)
    return torch.tensor(found).reshape(len(rows), -1)


@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name][3] != "softmax"])
def test_a_cross_encoder_loads_what_is_saved_and_gives_the_same(name, directories, tmp_path):
    from sentence_transformers import CrossEncoder

    rows, pairs = texts(9, seed=1), texts(9, seed=2)  # some longer than the model goes
    classifier = load(directories[name])
    classifier.save_pretrained(tmp_path)
    found = cross_encoders_scores(CrossEncoder(str(tmp_path), device="cpu"), rows, pairs)
    torch.testing.assert_close(found, classifier.probabilities(rows, pairs), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [ONE, LABELS], ids=["one", "three"])
@pytest.mark.parametrize("activation", [None, "Sigmoid", "Identity"])
def test_what_a_cross_encoder_saves_is_answered_as_it_does(labels, activation, tmp_path):
    from sentence_transformers import CrossEncoder

    saved(tmp_path / "first", BertForSequenceClassification, id2label=labels)
    function = activation and getattr(torch.nn, activation)()
    encoder = CrossEncoder(str(tmp_path / "first"), device="cpu", activation_fn=function)
    encoder.save_pretrained(str(tmp_path / "theirs"))
    rows, pairs = texts(9, seed=1), texts(9, seed=2)
    wanted = cross_encoders_scores(encoder, rows, pairs)
    ours = load(tmp_path / "theirs")
    torch.testing.assert_close(ours.probabilities(rows, pairs), wanted, rtol=0, atol=1e-5)
    ours.save_pretrained(tmp_path / "ours")
    again = CrossEncoder(str(tmp_path / "ours"), device="cpu")
    torch.testing.assert_close(cross_encoders_scores(again, rows, pairs), wanted, rtol=0, atol=1e-5)


@pytest.fixture
def theirs(tmp_path) -> Path:
    """A directory that a CrossEncoder has saved."""
    from sentence_transformers import CrossEncoder

    saved(tmp_path / "first", BertForSequenceClassification, id2label=ONE)
    CrossEncoder(str(tmp_path / "first"), device="cpu").save_pretrained(str(tmp_path / "theirs"))
    return tmp_path / "theirs"


def test_as_many_tokens_are_read_as_a_cross_encoders_files_say(theirs):
    from sentence_transformers import CrossEncoder

    whole = load(theirs).probabilities(*ROWS)
    settings(theirs, "sentence_bert_config.json", max_seq_length=7)
    ours = load(theirs).probabilities(*ROWS)
    wanted = cross_encoders_scores(CrossEncoder(str(theirs), device="cpu"), *ROWS)
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)
    assert (ours - whole).abs().max() > 1e-3
    load(theirs).save_pretrained(theirs.parent / "ours")
    assert load(theirs.parent / "ours").max_length == 7


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"max_seq_length": "7"},
            r"sentence_bert_config\.json: max_seq_length is '7'; it must be a whole number from 2",
        ),
        ({"max_seq_length": 1}, r"max_seq_length is 1; it must be a whole number from 2, or null"),
        (
            {"do_lower_case": True},
            r'do_lower_case is true, but not in tokenizer_config\.json; write "do_lower_case": tr',
        ),
    ],
)
def test_settings_of_a_cross_encoder_that_are_not_followed_are_refused(changes, reason, theirs):
    Tokenizer(VOCAB, lowercase=False).save_pretrained(theirs)
    settings(theirs, "sentence_bert_config.json", **changes)
    with pytest.raises(ValueError, match=reason):
        load(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("function", [IDENTITY, SIGMOID])
@pytest.mark.parametrize("release", ["3", "5"])
def test_layouts_of_older_releases_are_answered_as_a_cross_encoder_does(function, release, tmp_path):
    from sentence_transformers import CrossEncoder

    old = {"sbert_ce_default_activation_function": function}
    field = old if release == "3" else {"sentence_transformers": {"activation_fn": function, "version": "5.1.0"}}
    directory = settings(saved(tmp_path, BertForSequenceClassification, id2label=ONE), **field)
    wanted = cross_encoders_scores(CrossEncoder(str(directory), device="cpu"), *ROWS)
    torch.testing.assert_close(load(directory).probabilities(*ROWS), wanted, rtol=0, atol=1e-5)


def test_saving_keeps_what_a_model_answers_and_changes_nothing_on_it(directories, tmp_path):
    classifier = load(directories["regression"])
    before = classifier.model.config
    classifier.save_pretrained(tmp_path)
    assert classifier.model.config is before
    assert activation_of(load(tmp_path).config) == "none"
    assert for_cross_encoders(load(tmp_path).config) == before
    assert load(tmp_path).max_length == POSITIONS
    assert load(tmp_path).tokenizer.vocab == VOCAB


# ---- the best labels, every probability, another threshold ----


def written(capsys: pytest.CaptureFixture, directory: Path, out: Path, *words: str) -> list[list[str]]:
    """The rows of a table of answers to three texts."""
    (out.parent / "rows.txt").write_text("a b c\nx\n房间很干净\n", encoding="utf-8")
    predicted(capsys, directory, "--data", str(out.parent / "rows.txt"), "--out", str(out), *words)
    return list(csv.reader(io.StringIO(out.read_text(encoding="utf-8")), delimiter="\t"))


def in_order(directory: Path) -> list[list[tuple[str, str]]]:
    """Of each text its labels with their probabilities, the best first."""
    rows = load(directory).probabilities(["a b c", "x", "房间很干净"]).tolist()
    named = [zip(LABELS.values(), (f"{x:.6f}" for x in row), strict=True) for row in rows]
    return [sorted(row, key=lambda pair: -float(pair[1])) for row in named]


def flat(pairs: list[tuple[str, str]]) -> list[str]:
    return [cell for pair in pairs for cell in pair]


@pytest.mark.parametrize("top", [1, 2, 3, 9])
def test_the_best_classes_stand_in_columns_the_best_first(directories, capsys, tmp_path, top):
    head, *lines = written(capsys, directories["classes"], tmp_path / "out.tsv", "--top", str(top))
    more = [f"{name}_{k}" for k in range(2, min(top, 3) + 1) for name in ("label", "probability")]
    assert head == ["row", "label", "probability", *more]
    assert [line[1:] for line in lines] == [flat(row[:top]) for row in in_order(directories["classes"])]


def test_the_best_of_several_labels_stand_behind_the_answer(directories, capsys, tmp_path):
    head, *lines = written(capsys, directories["several labels"], tmp_path / "out.tsv", "--top", "2")
    assert head[:3] == ["row", "labels", "probability"]
    assert head[3:] == ["label_1", "probability_1", "label_2", "probability_2"]
    assert [line[3:] for line in lines] == [flat(row[:2]) for row in in_order(directories["several labels"])]


def test_the_best_of_several_scores_are_scores(directories, capsys, tmp_path):
    head, *_ = written(capsys, directories["several numbers"], tmp_path / "out.tsv", "--top", "2")
    assert head == ["row", "label", "score", "label_2", "score_2"]


def test_json_holds_the_best_alone_in_their_order(directories, capsys):
    (row,) = json.loads(predicted(capsys, directories["classes"], "a b c", "--top", "2", "--json"))["predictions"]
    assert list(row["probabilities"]) == [name for name, _ in in_order(directories["classes"])[0][:2]]


def test_predict_prints_the_best_before_the_text(directories, capsys):
    found = predicted(capsys, directories["classes"], "a b c", "--top", "2").removesuffix("\n").split("\t")
    wanted = in_order(directories["classes"])[0][:2]
    assert (found[0], found[2], found[4]) == (wanted[0][0], wanted[1][0], "a b c")
    assert [float(found[i]) for i in (1, 3)] == pytest.approx([float(p) for _, p in wanted], abs=1e-4)


def test_of_equal_classes_the_best_is_the_answer():
    (found,) = answers(config(), torch.tensor([[1.0, 2.0, 2.0]]), top=2)
    assert (found.label, found.best) == ("neutral", [1, 2])


def test_every_probability_of_classes_has_a_column_if_asked(directories, capsys, tmp_path):
    head, *lines = written(capsys, directories["classes"], tmp_path / "out.tsv", "--probabilities")
    assert head == ["row", "label", "probability", *(f"probability_{name}" for name in LABELS.values())]
    wanted = [dict(row) for row in in_order(directories["classes"])]
    assert [dict(zip(LABELS.values(), line[3:], strict=True)) for line in lines] == wanted


def test_a_threshold_gives_the_labels_of_that_probability_and_more():
    """Probabilities 0.25, 0.75 and 0.5; the least certain decision is the one furthest on the wrong side."""
    logits = torch.tensor([[-math.log(3), math.log(3), 0.0]])
    found = {t: answers(config(problem_type=MULTI), logits, threshold=t)[0] for t in (0.2, 0.5, 0.7, 0.8)}
    assert {t: answer.label for t, answer in found.items()} == {
        0.2: "negative|neutral|positive",
        0.5: "neutral|positive",
        0.7: "neutral",
        0.8: "",
    }
    assert {t: round(answer.value, 6) for t, answer in found.items()} == {0.2: 0.25, 0.5: 0.5, 0.7: 0.5, 0.8: 0.25}


def test_a_threshold_reaches_texts_and_files(directories, capsys, tmp_path):
    directory = directories["several labels"]
    wanted = ["|".join(sorted(n for n, p in row if float(p) >= 0.1)) for row in in_order(directory)]
    _, *lines = written(capsys, directory, tmp_path / "out.tsv", "--threshold", "0.1")
    assert [line[1] for line in lines] == wanted
    assert predicted(capsys, directory, "a b c", "--threshold", "0.1").split("\t")[0] == wanted[0]
    _, *plain = written(capsys, directory, tmp_path / "plain.tsv")
    assert [line[1] for line in plain] != wanted, "so that it proves something"


@pytest.mark.parametrize(
    ("name", "words", "reason"),
    [
        (
            "classes",
            ["--threshold", "0.7"],
            "--threshold 0.7 is for a model of several labels at once, and this one",
        ),
        ("one score", ["--top", "2"], "--top 2 is for a model of several labels, and this one has one; leave it out"),
        ("several labels", ["--threshold", "1"], "threshold is 1; it must lie between 0 and 1, such as 0.5"),
        ("classes", ["--top", "0"], "top is 0; it must be at least 1"),
        ("classes", ["--keep"], "--keep is for --data and --out; leave it out"),
        ("classes", ["--probabilities"], "--probabilities is for --data and --out; leave it out, --json shows all"),
        ("classes", ["--probabilities", "--top", "2"], "--top and --probabilities are both given; choose one"),
    ],
)
def test_what_a_model_cannot_be_asked_is_refused_in_one_line(name, words, reason, directories, capsys):
    assert cli.main(["predict", str(directories[name]), "a", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert reason in err


def test_a_threshold_goes_into_the_journal(directories, tmp_path, capsys):
    (tmp_path / "rows.tsv").write_text("text\n" + "a\n" * 20 + "b\tc\n")
    words = [str(directories["several labels"]), "--data", str(tmp_path / "rows.tsv"), "--out", str(tmp_path / "o.tsv")]
    words += ["--tokens-per-batch", "1", "--device", "cpu"]
    assert cli.main(["predict", *words]) == 2
    assert cli.main(["predict", *words, "--threshold", "0.3"]) == 2
    assert "o.tsv.journal: begun with another threshold; take the same" in capsys.readouterr().err
