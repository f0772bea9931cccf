"""Proves that every task of fine-tuning is trained as transformers trains it, and what a model that goes on keeps.

Run: pytest tests/training/test_tasks.py
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import assert_near, padded_batch, small_config, stir, twins
from sklearn.utils.class_weight import compute_class_weight
from test_model import compare_gradients
from test_report import view
from test_train import NO_DROPOUT, VOCAB, refusal, rows_of, small, weights, words, write_rows

from minibert import cli
from minibert.core.config import BertConfig
from minibert.core.data import Examples, chunks, shuffled
from minibert.fast.batches import collate, encode_examples
from minibert.fast.layout import Packed, pack
from minibert.fast.models import BertForMaskedLM, BertForSequenceClassification, BertModel
from minibert.fast.twins import prepare
from minibert.inference.scores import LabelScores, RegressionScores, Scores
from minibert.inference.text_models import TextClassifier
from minibert.io.examples import read_examples
from minibert.io.labels import label_values
from minibert.text.tokenizer import Tokenizer
from minibert.training import engine
from minibert.training.fine_tuning import FineTuning, TrainOptions, train
from minibert.training.losses import Criterion, balanced_weights
from minibert.training.mistakes import worst_numbers, worst_sets

LABELS = {  # task -> of row i, in a .tsv
    "classification": lambda i: ("neg", "pos")[i % 2],
    "multi-label": lambda i: ("", "a", "b", "a|b", "c", "c|a")[i % 6],
    "regression": lambda i: f"{i % 7 / 7:.3f}",
}
NAMES = {"classification": ["neg", "pos"], "multi-label": ["a", "b", "c"], "regression": ["LABEL_0"]}
TYPES = {
    "classification": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}
tasks = pytest.mark.parametrize("task", LABELS)


def relabel(path: Path, task: str) -> Path:
    """The rows of write_rows under labels of a task."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [f"{LABELS[task](i)}\t{line.partition(chr(9))[2]}" for i, line in enumerate(lines[1:])]
    path.write_text("\n".join([lines[0], *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, dict[str, str]]:
    """task -> small files for the options data, dev and test."""
    folder, sizes = tmp_path_factory.mktemp("data"), {"data": 40, "dev": 12, "test": 14}
    return {
        task: {n: str(relabel(write_rows(folder / f"{task}-{n}.tsv", k, k), task)) for n, k in sizes.items()}
        for task in LABELS
    }


def pretrained(folder: Path, names: list[str], kind: type = BertForSequenceClassification, **changes: object) -> Path:
    """A stirred model as if trained, without dropout."""
    sizes = dict(vocab_size=len(VOCAB), max_position_embeddings=16, id2label=dict(enumerate(names)))
    stir(kind(small_config(**sizes, **NO_DROPOUT, **changes))).save_pretrained(folder)
    Tokenizer(VOCAB).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> dict[str, Path]:
    """task -> a finished run of two epochs."""
    folder = tmp_path_factory.mktemp("runs")
    return {task: train(small(data[task], folder / task, task=task, epochs=2, log_every=1))[1] for task in LABELS}


def config_of(out: Path) -> dict:
    return json.loads((out / "config.json").read_text(encoding="utf-8"))


# ---- the arithmetic ----


@pytest.mark.numeric
@pytest.mark.parametrize("layout", ["packed", pytest.param("padded", marks=pytest.mark.slow)])
@tasks
def test_thirty_steps_of_each_task_equal_a_plain_transformers_loop(data, tmp_path, task, layout):
    """The lines of the run's metrics.jsonl, beside the losses of BertForSequenceClassification with problem_type."""
    start = pretrained(tmp_path / "start", NAMES[task], problem_type=TYPES[task])
    recipe = dict(lr=1e-3, weight_decay=0.01, dropout=0.0, seed=3, epochs=6, log_every=1, task=task)
    out = train(small(data[task], tmp_path / "run", model=str(start), layout=layout, **recipe))[1]

    model = transformers.AutoModelForSequenceClassification.from_pretrained(start).train()
    assert model.config.problem_type == TYPES[task]
    plain = [p for name, p in model.named_parameters() if name.endswith(("bias", "LayerNorm.weight"))]
    decayed = [p for name, p in model.named_parameters() if not name.endswith(("bias", "LayerNorm.weight"))]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 3, 30)
    rows = read_examples(data[task]["data"], labelled="many")
    encoding, labels = encode_examples(Tokenizer(VOCAB), rows, 16), label_values(rows, NAMES[task], task)
    losses = []
    for part in (part for epoch in range(6) for part in chunks(shuffled(40, seed=3, epoch=epoch), 8)):
        loss = model(*collate(encoding, labels, part, 0)[:3], labels=torch.from_numpy(labels[part])).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    found = [row["loss"] for row in rows_of(out, "step")]
    apart = [abs(a - b) for a, b in zip(found, losses, strict=True)]
    print(f"{task}, {layout}: losses within {max(apart):.1e}, from {losses[0]:.3f} to {losses[-1]:.3f}")
    assert len(found) == 30
    assert max(losses) - min(losses) > 1e-2, "the loss has not moved, so comparing it proves nothing"
    assert max(apart) <= 2e-6


@pytest.mark.numeric
@pytest.mark.slow
@pytest.mark.parametrize("length", [2, 3, 17, 128, 257, 512])  # one token alone gives queries and keys no gradient
@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("packed", [False, True])
@tasks
def test_the_loss_and_every_gradient_of_each_task_equal_transformers(task, packed, backend, length):
    names = {i: f"c{i}" for i in range(1 if task == "regression" else 7)}
    ours, theirs = twins("BertForSequenceClassification", backend, id2label=names, problem_type=TYPES[task])
    batch, draw = padded_batch(rows=5, length=length, seed=length), torch.Generator().manual_seed(length)
    labels = {
        "classification": torch.randint(7, (5,), generator=draw),
        "multi-label": torch.randint(2, (5, 7), generator=draw).float(),
        "regression": torch.randn(5, generator=draw),
    }[task]
    wanted = theirs(**batch, labels=labels).loss
    wanted.backward()
    if packed:
        layout = Packed.from_lengths(batch["attention_mask"].sum(dim=1).tolist(), length, first_only=True)
        inputs = {name: pack(batch[name], layout) for name in ("input_ids", "token_type_ids")}
        logits = prepare(ours)(**inputs, batch=layout)
    else:
        logits = ours(**batch)
    loss = Criterion(task)(logits, labels)[0] / 5
    loss.backward()
    assert abs(loss - wanted) <= 1e-6 * max(1, abs(wanted))
    compare_gradients(ours, theirs)


def test_rows_that_are_none_count_for_no_task():
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    none = {"classification": -100, "multi-label": np.nan, "regression": np.nan}
    labels = {
        "classification": torch.tensor([0, 1, 1]),
        "multi-label": torch.tensor([[0.0, 1], [1, 1], [0, 0]]),
        "regression": torch.tensor([0.5, -100, 2]),
    }
    for task in LABELS:
        whole = Criterion(task)(logits[:2], labels[task][:2])
        with_none = labels[task].clone()
        with_none[2] = none[task]
        torch.testing.assert_close(Criterion(task)(logits, with_none), whole)


def test_balanced_weights_of_classes_are_scikit_learns():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_weights(labels, 3, "classification").tolist() == pytest.approx(wanted)


def test_balanced_weights_make_a_label_count_as_much_as_its_absence():
    """Of 4 rows one has label a, three have label b: its 1 counts three times, the other's a third."""
    labels = np.float32([[1, 1], [0, 1], [0, 1], [0, 0]])
    assert balanced_weights(labels, 2, "multi-label").tolist() == pytest.approx([3, 1 / 3])
    loss, _ = Criterion("multi-label", weights=torch.tensor([3.0, 1 / 3]))(torch.zeros(4, 2), torch.tensor(labels))
    assert loss.item() == pytest.approx(np.log(2) * (3 + 3 + 3 / 3 + 1) / 2)


def test_smoothing_gives_a_share_of_each_label_to_all():
    """Two classes, 0.2: 0.9 and 0.1; a label that is there 0.9, one that is not 0.1."""
    logits, log = torch.tensor([[2.0, 0.0]]), torch.nn.functional.logsigmoid(torch.tensor([2.0, -2.0, 0.0])).tolist()
    loss, _ = Criterion("classification", 0.2)(logits, torch.tensor([0]))
    assert loss.item() == pytest.approx(-0.9 * log[0] - 0.1 * log[1])
    loss, _ = Criterion("multi-label", 0.2)(logits, torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx((-0.9 * log[0] - 0.1 * log[1] - log[2]) / 2)


def test_frozen_parts_stay_and_the_others_move(data, tmp_path):
    start = pretrained(tmp_path / "start", ["neg", "pos"])
    files = data["classification"]
    out = train(small(files, tmp_path / "run", model=str(start), freeze=1, lr=1e-3, weight_decay=5.0, epochs=2))[1]
    before, after = weights(start), weights(out)
    still = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(("bert.embeddings.", "bert.layers.0."))}
    assert still == frozen


# ---- what is measured, kept and saved ----


@tasks
def test_a_run_says_the_scores_of_its_task(data, trained, task):
    epoch, step = rows_of(trained[task], "epoch")[-1], rows_of(trained[task], "step")[-1]
    own = {
        "classification": ({"loss", "accuracy"}, {"loss", "accuracy"}),
        "multi-label": ({"loss", "exact_match"}, {"loss", "exact_match", "micro_f1", "macro_f1"}),
        "regression": ({"loss"}, {"loss", "pearson", "spearman"}),
    }
    train_scores, dev_scores = own[task]
    assert step.keys() == {"step", "lr", *train_scores}
    assert epoch.keys() == {"epoch", *(f"train_{n}" for n in train_scores), *(f"dev_{n}" for n in dev_scores)}


@tasks
def test_evaluate_repeats_the_result_of_the_run(data, trained, task, capsys):
    result = json.loads((trained[task] / "run.json").read_text(encoding="utf-8"))["result"]
    assert cli.main(["evaluate", str(trained[task]), "--data", data[task]["test"], "--device", "cpu", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["task"], answer["labels"], answer["rows"]) == (task, NAMES[task], 14)
    assert {n: answer[n] for n in result if n != "split"} == pytest.approx(
        {n: v for n, v in result.items() if n != "split"}, rel=1e-4
    )


@tasks
def test_evaluate_ends_with_a_line_of_its_tasks_scores(data, trained, task, capsys):
    assert cli.main(["evaluate", str(trained[task]), "--data", data[task]["test"], "--device", "cpu"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    names = {"classification": "accuracy", "multi-label": "exact match", "regression": "Pearson"}
    assert line.startswith(names[task])
    assert line.endswith("  rows 14")


@tasks
def test_transformers_reads_the_task_and_gives_the_same_logits(data, trained, task):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(trained[task]).eval()
    assert model.config.problem_type == TYPES[task]
    assert list(model.config.id2label.values()) == NAMES[task]
    texts = read_examples(data[task]["test"], labelled="many").texts
    inputs = transformers.AutoTokenizer.from_pretrained(trained[task])(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**inputs).logits
    ours = TextClassifier.from_pretrained(trained[task], device="cpu").logits(texts)
    assert_near(ours, theirs)


@pytest.mark.slow  # importing sentence-transformers takes seconds
@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_a_cross_encoder_of_sentence_transformers_answers_as_the_run_was_trained(data, trained, tmp_path, task):
    """Several labels at once: probabilities; a regression: the number itself. It asks in pairs alone, so that the model
    must not know that it was trained on single texts."""
    peer = pytest.importorskip("sentence_transformers", reason="install the extra: pip install -e '.[test]'")
    texts = read_examples(data[task]["test"], labelled="many").texts
    directory = Path(shutil.copytree(trained[task], tmp_path / "model"))
    config = {name: value for name, value in config_of(directory).items() if name != "minibert"}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    logits = TextClassifier.from_pretrained(directory, device="cpu").logits(texts, texts)
    wanted = logits.sigmoid() if task == "multi-label" else logits[:, 0]
    model = peer.CrossEncoder(str(directory), device="cpu", max_length=16)
    found = model.predict([(text, text) for text in texts], convert_to_tensor=True, show_progress_bar=False)
    assert_near(found, wanted)


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_the_report_of_another_task_speaks_of_no_classes(data, trained, task):
    page = (trained[task] / "report.html").read_text(encoding="utf-8").partition("</style>")[2]
    assert "onfusion" not in page
    assert "majority class" not in page
    assert "confident" not in page
    assert {"multi-label": "most frequent labels", "regression": "mean of the training rows"}[task] in page


def test_a_cross_encoder_of_an_earlier_release_is_evaluated_by_its_sigmoid(data, tmp_path, capsys):
    """One label and no problem_type, as sentence-transformers saves them: `predict` answers sigmoid(logit)."""
    start = pretrained(tmp_path / "model", ["LABEL_0"])
    rows = read_examples(data["regression"]["test"])
    logits = TextClassifier.from_pretrained(start, device="cpu").logits(rows.texts)[:, 0].double().numpy()
    wanted = np.square(1 / (1 + np.exp(-logits)) - np.array(rows.labels, float)).mean()
    assert cli.main(["evaluate", str(start), "--data", data["regression"]["test"], "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
@tasks
def test_a_run_of_any_task_that_is_killed_and_resumed_ends_as_if_undisturbed(
    data, trained, tmp_path, monkeypatch, task
):
    options = small(data[task], tmp_path / "run", task=task, epochs=2, log_every=1)
    tell = FineTuning.tell

    def dies(run, rate):
        tell(run, rate)
        if run.progress.step == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "tell", dies)
        with pytest.raises(KeyboardInterrupt):
            train(options)
    out = train(TrainOptions(resume=options.out))[1]
    for name in ("model.safetensors", "config.json", "metrics.jsonl"):
        assert (out / name).read_bytes() == (trained[task] / name).read_bytes()


def with_scores(monkeypatch: pytest.MonkeyPatch, scores: list) -> list[dict]:
    """Makes the epochs' scores these; returns a list that gets the weights at the end of each."""
    seen = []

    def measured(task, split):
        seen.append({name: tensor.clone() for name, tensor in task.model.state_dict().items()})
        return scores[len(seen) - 1]

    monkeypatch.setattr(FineTuning, "scores", measured)
    return seen


def of_classes(*values: tuple[float, float, float]) -> list[Scores]:
    return [Scores(*numbers, [[1, 0], [0, 1]]) for numbers in values]  # accuracy, loss, macro F1


SCORED = [  # task, best_by, scores of three epochs, the one that is kept
    ("classification", None, of_classes((0.5, 0.4, 0), (0.9, 0.8, 0), (0.9, 0.7, 0)), 2),
    ("classification", None, of_classes((0.9, 0.7, 0), (0.9, 0.8, 0), (0.9, 0.7, 0)), 0),
    ("classification", "loss", of_classes((0.5, 0.9, 0), (0.6, 0.3, 0), (0.7, 0.4, 0)), 1),
    ("classification", "macro_f1", of_classes((0.9, 0.9, 0.1), (0.6, 0.5, 0.3), (0.7, 0.4, 0.2)), 1),
    ("multi-label", None, [LabelScores(0.5, 0.5, f1, 0.5, [[1, 1, 1]] * 3) for f1 in (0.2, 0.4, 0.3)], 1),
    ("regression", None, [RegressionScores(0.5, 0.5, loss) for loss in (3.0, 1.5, 2.0)], 1),
    ("regression", "pearson", [RegressionScores(r, r, 1.0) for r in (float("nan"), -0.5, 0.2)], 2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "best_by", "scores", "kept"), SCORED)
def test_the_epoch_that_is_kept_is_the_best_by_the_score_and_of_equals_by_the_loss(
    data, tmp_path, monkeypatch, task, best_by, scores, kept
):
    seen = with_scores(monkeypatch, scores)
    out = train(small(data[task], tmp_path / "run", task=task, best_by=best_by, epochs=3))[1]
    found = weights(out)
    assert [all(torch.equal(found[n], t) for n, t in epoch.items()) for epoch in seen] == [n == kept for n in range(3)]
    assert f"{kept + 1} <b>best</b>" in view((out / "report.html").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "kept"), [(0.7, 1), (0.9, 0)])
def test_the_loss_of_the_best_epoch_of_a_run_that_release_0_1_began_is_the_logged_one(
    data, tmp_path, monkeypatch, loss, kept
):
    """Its states do not hold it. Two epochs of equal accuracy, the run is stopped between them."""
    seen, save_state = with_scores(monkeypatch, of_classes((0.9, 0.8, 0), (0.9, loss, 0))), engine.save_state

    def dies(*rest):
        save_state(*rest)
        raise KeyboardInterrupt

    options = small(data["classification"], tmp_path / "run", epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "save_state", dies)
        with pytest.raises(KeyboardInterrupt):
            train(options)
    (path,) = (tmp_path / "run").glob("state-*.pt")
    state = torch.load(path, weights_only=True)
    assert state["progress"].pop("best_loss") == 0.8
    torch.save(state, path)
    found = weights(train(TrainOptions(resume=options.out))[1])
    assert all(torch.equal(found[name], tensor) for name, tensor in seen[kept].items())


def test_patience_ends_a_run_after_so_many_epochs_that_were_not_better(data, tmp_path, monkeypatch, capsys):
    with_scores(monkeypatch, of_classes(*((a, 0.5, 0) for a in (0.5, 0.4, 0.6, 0.6, 0.3, 0.9))))
    out = train(small(data["classification"], tmp_path / "run", epochs=6, patience=2))[1]
    assert [row["epoch"] for row in rows_of(out, "epoch")] == [1, 2, 3, 4, 5]
    assert "no epoch was better since epoch 3: stopped, as --patience says" in capsys.readouterr().err


# ---- going on ----


def logits_kept(start: Path, out: Path, texts: list[str]) -> bool:
    """Whether both models give the same logits, which lr 0 leaves alone."""
    return torch.equal(*(TextClassifier.from_pretrained(path, device="cpu").logits(texts) for path in (start, out)))


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("classification", ["pos", "neg"]),
        ("multi-label", ["c", "a", "b"]),
        ("regression", ["score"]),
    ],
)
def test_a_classifier_with_the_same_names_keeps_their_order_and_its_head(data, tmp_path, task, names, capsys):
    start = pretrained(tmp_path / "start", names, problem_type=TYPES[task])
    out = train(small(data[task], tmp_path / "run", model=str(start), lr=0.0))[1]
    assert "a new head" not in capsys.readouterr().err
    assert list(config_of(out)["id2label"].values()) == names
    assert config_of(out)["problem_type"] == TYPES[task], "the model's own task is not the default"
    assert logits_kept(start, out, ["good room", "bad film"])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["red", "green"], "; its own, not used, is for red, green (classification)"),
        (["neg", "pos", "so so"], "; its own, not used, is for neg, pos, so so (classification)"),
    ],
)
def test_other_names_or_another_count_get_a_new_head_which_is_said_in_a_line(data, tmp_path, names, said, capsys):
    start = pretrained(tmp_path / "start", names)
    out = train(small(data["classification"], tmp_path / "run", model=str(start), lr=0.0))[1]
    lines = capsys.readouterr().err.splitlines()
    assert f"{start}: a new head is drawn, for neg, pos (classification){said}" in lines
    assert config_of(out)["id2label"] == {"0": "neg", "1": "pos"}
    before, after = weights(start) if len(names) == 2 else {}, weights(out)
    assert after["classifier.weight"].std() < 0.05, "the head is not drawn as fresh ones are"
    assert not after["classifier.bias"].any()
    for name in before.keys() - {"classifier.weight", "classifier.bias"}:
        assert torch.equal(before[name], after[name])


def test_classes_without_names_are_their_numbers(data, tmp_path):
    """LABEL_0 and LABEL_1 are what a file calls 0 and 1, so the head goes on."""
    start = pretrained(tmp_path / "start", ["LABEL_0", "LABEL_1"])
    files = {}
    for name, path in data["classification"].items():
        text = Path(path).read_text(encoding="utf-8").replace("neg\t", "0\t").replace("pos\t", "1\t")
        files[name] = str(tmp_path / f"{name}.tsv")
        Path(files[name]).write_text(text, encoding="utf-8")
    out = train(small(files, tmp_path / "run", model=str(start), lr=0.0))[1]
    assert list(config_of(out)["id2label"].values()) == ["0", "1"]
    assert logits_kept(start, out, ["good room", "bad film"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM])
@tasks
def test_an_encoder_and_a_masked_lm_get_a_head_of_the_task_that_is_asked_for(data, tmp_path, kind, task, capsys):
    start = pretrained(tmp_path / "start", ["LABEL_0", "LABEL_1"], kind)
    out = train(small(data[task], tmp_path / "run", model=str(start), task=task))[1]
    assert "a new head is drawn, for " in capsys.readouterr().err
    assert config_of(out)["problem_type"] == TYPES[task]


def test_another_task_gets_a_new_head(data, tmp_path, capsys):
    start = pretrained(tmp_path / "start", ["a", "b", "c"])
    train(small(data["multi-label"], tmp_path / "run", model=str(start), task="multi-label"))
    assert "for a, b, c (multi-label); its own, not used, is for a, b, c (classification)" in capsys.readouterr().err


def test_a_run_that_began_before_labels_had_an_order_goes_on_in_the_old_one(data, tmp_path, monkeypatch):
    start = pretrained(tmp_path / "start", ["pos", "neg"])
    options = small(data["classification"], tmp_path / "run", model=str(start), lr=0.0)
    with monkeypatch.context() as patch:
        patch.setattr("minibert.training.engine.fit", lambda *rest: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(options)
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({name: value for name, value in record.items() if name != "labels"}), encoding="utf-8")
    out = train(TrainOptions(resume=options.out))[1]
    assert list(config_of(out)["id2label"].values()) == ["neg", "pos"]


@pytest.mark.parametrize(
    ("task", "names", "known"),
    [
        ("classification", ["pos", "neg"], {}),
        ("multi-label", ["a", "b", "c"], {"activation_fn": "torch.nn.modules.activation.Sigmoid"}),
        ("regression", ["score"], {"activation_fn": "torch.nn.modules.linear.Identity"}),
    ],
)
def test_what_a_cross_encoder_said_of_its_logits_is_no_more_true_after_training(data, tmp_path, task, names, known):
    start = pretrained(tmp_path / "start", names, problem_type=TYPES[task])
    old = {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh"}
    old["sentence_transformers"] = {"activation_fn": "torch.nn.modules.activation.Tanh", "version": "5.1.0"}
    (start / "config.json").write_text(json.dumps(config_of(start) | old), encoding="utf-8")
    config = config_of(train(small(data[task], tmp_path / "run", model=str(start)))[1])
    assert "sbert_ce_default_activation_function" not in config
    assert config["sentence_transformers"] == {"version": "5.1.0", **known}


def test_a_score_behind_a_sigmoid_gets_a_new_head_for_a_regression(data, tmp_path, capsys):
    start = pretrained(tmp_path / "start", ["score"], problem_type="regression")
    said = {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}
    (start / "config.json").write_text(json.dumps(config_of(start) | said), encoding="utf-8")
    train(small(data["regression"], tmp_path / "run", model=str(start)))
    assert "a new head is drawn, for one number (regression)" in capsys.readouterr().err


# ---- mistakes ----


@pytest.mark.parametrize(
    ("content", "changes", "reason"),
    [
        ("label\ttext\n1\ta\n2.5\tb\n", {}, ":3: label '2.5' is a number and no class; type --task regression, or"),
        ("label\ttext\n1\ta\ngood\tb\n", {"task": "regression"}, ":3: label 'good' is no number, as a regression"),
        ("label\ttext\n1\ta\n1e39\tb\n", {"task": "regression"}, ":3: label '1e39' is no number"),
        ("label\ttext\na||b\ta\n", {"task": "multi-label"}, ":2: label 'a||b' has an empty name; write a|b"),
        ("label\ttext\n\ta\n", {"task": "multi-label"}, ": no row has a label; give some rows one or more"),
        ("label\ttext\na\ta\n\tb\n", {}, ":3: the label is empty; give every row one"),
    ],
)
def test_labels_of_another_task_are_refused_with_file_line_and_remedy(tmp_path, capsys, content, changes, reason):
    path = tmp_path / "bad.tsv"
    path.write_text(content, encoding="utf-8")
    assert f"{path}{reason}" in refusal(capsys, small({"data": str(path)}, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": "nonsense"}, "task 'nonsense' is unknown; choose classification, multi-label, regression"),
        ({"best_by": "pearson"}, "best_by 'pearson' is unknown; choose accuracy, loss, macro_f1"),
        (
            {"task": "regression", "best_by": "accuracy"},
            "best_by 'accuracy' is unknown; choose loss, pearson, spearman",
        ),
        ({"task": "regression", "class_weights": "balanced"}, "a regression has none"),
        ({"task": "regression", "label_smoothing": 0.1}, "a regression has none"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; it must lie between 0 and 0.99"),
        ({"patience": 0}, "patience is 0; it must be at least 1"),
        ({"freeze": 3}, "freeze is 3; the model has 2 layers, so give 0 (the embeddings) to 2"),
        ({"task": "regression", "graphs": True}, "graphs is for --task classification"),
    ],
)
def test_options_that_do_not_go_together_cost_one_line(data, tmp_path, capsys, changes, reason):
    with_defaults = [f"--{name.replace('_', '-')}" for name in changes]
    given = words(small(data["classification"], tmp_path / "run"))
    for flag, value in zip(with_defaults, changes.values(), strict=True):
        given += [flag] if value is True else [flag, str(value)]
    capsys.readouterr()
    assert cli.main(given) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert reason in last
    assert not (tmp_path / "run").exists()


def test_joined_labels_in_a_classification_are_said_to_be_one_name(data, tmp_path, capsys):
    rows = Path(data["multi-label"]["data"]).read_text(encoding="utf-8").replace("\n\t", "\nnone\t")
    (tmp_path / "data.tsv").write_text(rows, encoding="utf-8")
    train(small({"data": str(tmp_path / "data.tsv")}, tmp_path / "run"))
    assert "'a|b' is read as the name of one class; --task multi-label reads several" in capsys.readouterr().err


def test_lists_in_json_lines_are_several_labels(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [{"text": "x", "label": label} for label in (["a", "b"], [], "b|a", [1])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    examples = read_examples(path, labelled="many")
    assert examples.labels == ["a|b", "", "b|a", "1"]
    assert label_values(examples, ["1", "a", "b"], "multi-label").tolist() == [
        [0, 1, 1],
        [0, 0, 0],
        [0, 1, 1],
        [1, 0, 0],
    ]


@pytest.mark.parametrize(
    ("label", "labelled", "reason"),
    [
        (["a"], True, r":1: label is \['a'\]; give a string, or train with --task multi-label"),
        (2.5, True, ":1: label is 2.5; give a string, or train with --task regression"),
        (["a|b"], "many", r":1: label is \['a\|b'\]; give a list of names, without \| in them"),
        ([""], "many", r":1: label is \[''\]; give a list of names"),
        ([2.5], "many", r":1: label is \[2.5\]; give a list of names"),
        (None, "many", ":1: label is missing; give a string"),
    ],
)
def test_lists_that_are_no_labels_are_refused_with_their_line(tmp_path, label, labelled, reason):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"text": "x", "label": label}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=reason):
        read_examples(path, labelled=labelled)


def test_numbers_in_json_lines_are_labels_of_a_regression(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "x", "label": 2.5}\n{"text": "y", "label": -1}\n', encoding="utf-8")
    assert label_values(read_examples(path, labelled="number"), ["LABEL_0"], "regression").tolist() == [2.5, -1]


@pytest.mark.slow
def test_the_config_of_a_run_is_its_own(trained):
    """Also the number of labels: a regression has one."""
    assert {task: BertConfig.from_file(out / "config.json").num_labels for task, out in trained.items()} == {
        "classification": 2,
        "multi-label": 3,
        "regression": 1,
    }


# ---- the worst mistakes ----


def examples(count: int) -> Examples:
    return Examples([f"text {i}" for i in range(count)], None, None, list(range(count)), "rows.tsv")


def test_the_worst_rows_of_several_labels_are_those_of_the_largest_loss():
    """Row 0 is right, row 2 further off than row 1."""
    truth = np.float32([[1, 0], [0, 1], [1, 1]])
    found = worst_sets(torch.tensor([[3.0, -3], [-1, -1], [-4, -4]]), examples(3), truth, ["a", "b"])
    assert [(m["text"], m["label"], m["predicted"]) for m in found] == [
        ("text 2", "a, b", "none"),
        ("text 1", "b", "none"),
    ]


def test_the_worst_rows_of_a_regression_are_the_furthest_off():
    found = worst_numbers(torch.tensor([[1.0], [5.0], [2.0]]), examples(3), np.float32([1.5, 2, 4]), ["x"], most=2)
    assert [(m["text"], m["label"], m["predicted"]) for m in found] == [("text 1", "2", "5"), ("text 2", "4", "2")]
