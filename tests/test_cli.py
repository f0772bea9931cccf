"""Proves that the command line does its commands, prints results alone on stdout, and explains every mistake in one
line. Run: pytest tests/test_cli.py
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from conftest import SHARED, needs_shared
from test_train import small, write_rows

from minibert import cli
from minibert.inference.text_encoder import TextEncoder
from minibert.inference.text_models import TextClassifier, with_shape
from minibert.io.examples import read_examples
from minibert.text.tokenizer import Tokenizer
from minibert.training.fine_tuning import TrainOptions, train

# The command line is a contract: who adds an option adds it here.
OPTIONS = {
    "train": (
        "--model --preset --vocab-size --data --dev --test --columns --quoting --out --epochs --batch-size"
        " --accumulation --lr --warmup --weight-decay --clip --dropout --max-length --layout --attention --precision"
        " --device --threads --seed --log-every --resume --tokens-per-batch --compile --graphs --save-every --keep"
        " --parallel --token-dropout --pooler --task --freeze --class-weights --best-by --patience --label-smoothing"
        " --tensorboard"
    ),
    "evaluate": (
        "--data --columns --quoting --max-length --tokens-per-batch --attention --device --precision --json --threshold"
        " --report"
    ),
    "predict": (
        "--data --out --on-error --columns --quoting --max-length --tokens-per-batch --attention --device --json"
        " --precision --pair --top --threshold --probabilities --keep"
    ),
    "embed": (
        "--data --out --on-error --columns --quoting --max-length --tokens-per-batch --attention --device --json"
        " --precision --pooling --normalize --no-normalize"
    ),
    "encode": "--pair --model --max-length --truncation --padding --split-special-tokens --json",
    "parity": "--lengths --layers --seed --json",
    "vocab": "--size --out --cased --character-coverage --encoding --json",
    "pretrain": (
        "--corpus --encoding --out --cache --vocab --vocab-size --cased --character-coverage --model --preset --layers"
        " --width --nsp --whole-word-mask --max-length --held-out --steps --epochs --batch-size --tokens-per-batch"
        " --accumulation --lr --warmup --schedule --weight-decay --clip --dropout --layout --attention --precision"
        " --compile --graphs --device --threads --seed --log-every --eval-every --save-every --keep --parallel --resume"
        " --tensorboard"
    ),
    "fill-mask": "--model --top-k --attention --device --json",
    "explain": "--pair --model --target --out --max-length --attention --json",
    "course": "--answer --repair --hint --solution --stage --undo --chinese --json",
    "doctor": "--data --dev --test --columns --quoting --max-length --json",
}
READING = " --text-column --pair-column --label-column --delimiter --format --encoding"
OPTIONS |= {name: OPTIONS[name] + READING for name in ("train", "evaluate", "predict", "embed", "doctor")}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.tsv", 40)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    """A small trained classifier."""
    files = {"data": str(data), "dev": str(data)}
    return train(small(files, tmp_path_factory.mktemp("runs") / "trained", epochs=6, lr=1e-3))[1]


@pytest.fixture
def run(capsys):
    """Runs a command line in this process: (exit status, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as stop:  # argparse leaves this way
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def refusal(run):
    """The one line of a command that ends with exit status 2 and no output."""

    def call(*words: object) -> str:
        status, out, err = run(*words)
        assert (status, out) == (2, "")
        assert err.startswith("minibert")
        assert err.count("\n") == 1
        return err

    return call


def stdin(monkeypatch, content: bytes, terminal: bool = False) -> None:
    stream = io.TextIOWrapper(io.BytesIO(content))
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdin", stream)


def vocabulary(directory: Path, **at: int) -> Path:
    """A model directory with nothing but a vocab.txt; ids by keyword, blanks filled."""
    tokens = [f"[unused{i}]" for i in range(130)]
    for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]):
        tokens[i] = token
    for token, i in at.items():
        tokens[i] = token
    directory.mkdir(exist_ok=True)
    (directory / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return directory


# ---- all commands ----


@pytest.mark.parametrize("command", OPTIONS)
def test_help_shows_every_option_and_no_other(run, command):
    status, out, _ = run(command, "--help")
    assert status == 0
    shown = re.findall(r"^  (?:-h, )?(--[a-z-]+)", out.split("\noptions:\n")[1], re.MULTILINE)
    assert sorted(shown) == sorted(["--help", "--lang", *OPTIONS[command].split()])


def test_help_lists_every_command(run):
    status, out, _ = run("--help")
    assert status == 0
    assert [command for command in OPTIONS if re.search(rf"\n    {command}\s", out)] == list(OPTIONS)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["--fly"], "COMMAND"),
        (["encode", "a", "--fly"], "unrecognized arguments: --fly"),
        (["train", "--epochs", "many"], "invalid int value: 'many'"),
        (["train", "--epochs", "2.5"], "invalid int value: '2.5'"),
        (["train", "--lr"], "expected one argument"),
        (["train", "--epochs", "0"], "epochs is 0; it must be at least 1"),
        (["train", "--preset", "huge"], "preset 'huge' is unknown; choose tiny, mini"),
        (["train", "stray"], "unrecognized arguments: stray"),
        (["evaluate", "somewhere"], "required: --data"),
        (["predict"], "required: DIRECTORY"),
        (["predict", "m", "--data", "a.tsv"], "--data is given without --out"),
        (["embed", "m", "text", "--data", "a.tsv", "--out", "a.npy"], "and 1 texts are given; choose one"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(refusal, words, reason):
    assert reason in refusal(*words)


def test_options_may_stand_before_between_and_after_texts(run, trained):
    """argparse alone would take the texts after an option for too many (before Python 3.12)."""
    texts = ("good room", "bad film")
    expected = run("predict", trained, *texts, "--json")
    assert expected[0] == 0
    assert run("predict", trained, "--json", *texts) == expected
    assert run("predict", "--json", trained, *texts) == expected
    assert run("predict", trained, texts[0], "--json", texts[1]) == expected


def test_a_text_that_looks_like_an_option_goes_behind_two_dashes(run, trained):
    status, out, _ = run("predict", trained, "--", "--good", "-1")
    assert status == 0
    assert [line.split("\t")[2] for line in out.splitlines()] == ["--good", "-1"]


def test_ctrl_c_anywhere_is_exit_130(run, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "train", (TrainOptions, interrupted))
    assert run("train") == (130, "", "minibert: interrupted\n")


def test_ctrl_c_while_torch_is_imported_is_exit_130(tmp_path):
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt\n")
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    result = minibert("fill-mask", "a [MASK]", env={**os.environ, "PYTHONPATH": path})
    assert (result.returncode, result.stdout, result.stderr.splitlines()) == (130, b"", [b"minibert: interrupted"])


def test_errors_of_several_lines_become_one(refusal, monkeypatch):
    def fails(options):
        raise ValueError("first\n  second")

    monkeypatch.setitem(cli.COMMANDS, "train", (TrainOptions, fails))
    assert refusal("train") == "minibert: first second\n"


def test_main_needs_no_real_streams(monkeypatch, tmp_path):
    """As in a notebook, where stdout is no file."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    assert cli.main(["encode", "a", "--model", str(vocabulary(tmp_path / "v", a=5))]) == 0
    assert "input_ids" in out.getvalue()


# ---- train ----


def test_train_prints_its_result_alone_on_stdout_and_the_rest_on_stderr(run, data, tmp_path):
    words = f"train --data {data} --test {data} --epochs 1 --batch-size 8 --max-length 16 --device cpu --log-every 2"
    status, out, err = run(*words.split(), "--out", tmp_path / "run")
    assert status == 0
    assert re.fullmatch(rf"accuracy [01]\.\d{{3}}  loss \d\.\d{{4}}  macro F1 [01]\.\d{{3}}  {tmp_path / 'run'}\n", out)
    assert "epoch 1/1  batch   4/5  loss" in err
    assert "majority class  accuracy 0.500 on test" in err
    assert "\r" not in err, "a progress bar where there is no terminal"
    result = json.loads((tmp_path / "run" / "run.json").read_text())["result"]
    assert out.startswith(f"accuracy {result['accuracy']:.3f}  loss {result['loss']:.4f}")


def test_train_without_a_network_says_how_to_go_on(refusal, data, tmp_path):
    message = refusal("train", "--data", data, "--model", "some/model", "--out", tmp_path / "run")
    assert "some/model" in message
    assert "HF_ENDPOINT" in message
    assert not (tmp_path / "run").exists()


# ---- evaluate ----


def test_evaluate_prints_tables_and_ends_with_a_line_of_scores(run, trained, data):
    """What is in the tables: tests/training/test_evaluation.py."""
    status, out, err = run("evaluate", trained, "--data", data, "--device", "cpu")
    assert (status, err) == (0, f"{data.name}: 40 rows, texts (text), 2 labels: neg (20), pos (20)\n")
    assert re.fullmatch(r"accuracy [01]\.\d{3}  loss \d\.\d{4}  macro F1 [01]\.\d{3}  rows 40", out.splitlines()[-1])


def test_evaluate_json_is_one_object_that_equals_the_predictions(run, trained, data):
    status, out, _ = run("evaluate", trained, "--data", data, "--json")
    assert (status, out.count("\n")) == (0, 1)
    result = json.loads(out)
    rows = read_examples(data)
    answers = [label for label, _ in TextClassifier.from_pretrained(trained).predict(rows.texts)]
    hits = sum(a == b for a, b in zip(answers, rows.labels, strict=True))
    assert (result["rows"], result["labels"], result["accuracy"]) == (40, ["neg", "pos"], hits / 40)
    assert sum(map(sum, result["confusion"])) == 40
    assert 0.5 < result["accuracy"] < 1, "so that it proves something"
    old = {"rows", "task", "labels", "accuracy", "loss", "macro_f1", "confusion"}
    assert result.keys() == old | {"counts", "per_label"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("label\ttext\nother\ta\n", ":2: label 'other' is none of the training data's neg, pos"),
        ("text\na\n", ": has no label column"),
        ("", ": is empty"),
    ],
)
def test_evaluate_refuses_bad_data_in_one_line(refusal, trained, tmp_path, content, reason):
    path = tmp_path / "bad.tsv"
    path.write_text(content, encoding="utf-8")
    assert f"{path}{reason}" in refusal("evaluate", trained, "--data", path)


def test_evaluate_refuses_a_token_budget_of_zero(refusal, trained, data):
    assert "tokens_per_batch is 0" in refusal("evaluate", trained, "--data", data, "--tokens-per-batch", "0")


# ---- predict ----


def test_predict_prints_label_probability_and_text_a_line_each(run, trained):
    status, out, err = run("predict", trained, "good great 干净", "bad awful 肮脏")
    assert (status, err) == (0, "")
    answers = TextClassifier.from_pretrained(trained).predict(["good great 干净", "bad awful 肮脏"])
    texts = ["good great 干净", "bad awful 肮脏"]
    lines = [f"{label}\t{p:.4f}\t{text}\n" for (label, p), text in zip(answers, texts, strict=True)]
    assert out == "".join(lines)


def test_predict_json_is_one_object_with_all_probabilities(run, trained):
    status, out, err = run("predict", trained, "干净", "", "--json")
    assert (status, out.count("\n")) == (0, 1)
    assert err == "texts: 1 text is empty; remove these rows, or look for what emptied them\n"
    assert "干净" in out
    rows = json.loads(out)["predictions"]
    assert [row["text"] for row in rows] == ["干净", ""]
    for row in rows:
        assert row["probabilities"].keys() == {"neg", "pos"}
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)


@pytest.mark.parametrize(
    "content",
    [b"good\nbad room\n", b"good\nbad room", b"good\r\nbad room\r\n", b"\xef\xbb\xbfgood\nbad room\n"],
    ids=["lines", "no last line feed", "CRLF", "BOM"],
)
def test_predict_reads_one_text_a_line_from_stdin(run, trained, monkeypatch, content):
    stdin(monkeypatch, content)
    _, out, _ = run("predict", trained, "--json")
    assert [row["text"] for row in json.loads(out)["predictions"]] == ["good", "bad room"]


def test_empty_lines_of_stdin_are_texts_and_line_separators_are_none(run, trained, monkeypatch):
    stdin(monkeypatch, "\n好\u2028好\n\n".encode())
    _, out, _ = run("predict", trained, "--json")
    assert [row["text"] for row in json.loads(out)["predictions"]] == ["", "好\u2028好", ""]


@pytest.mark.parametrize(
    ("content", "terminal", "reason"),
    [
        (b"", False, "standard input is empty"),
        (b"ok \xff", False, "standard input is not UTF-8 (byte 3)"),
        (b"never read", True, "no text given"),
    ],
)
def test_predict_without_texts_says_what_is_wrong(refusal, trained, monkeypatch, content, terminal, reason):
    stdin(monkeypatch, content, terminal)
    assert reason in refusal("predict", trained)


def test_predict_takes_a_pair(run, trained, tmp_path):
    model = TextClassifier.from_pretrained(trained)
    model.config = with_shape(model.config, pairs=True)
    model.save_pretrained(tmp_path)
    _, out, _ = run("predict", tmp_path, "good", "--pair", "very bad", "--json")
    probabilities = json.loads(out)["predictions"][0]["probabilities"]
    logits = model.logits(["good"], ["very bad"])
    assert list(probabilities.values()) == pytest.approx(logits.softmax(dim=1)[0].tolist())
    assert run("predict", trained, "good", "--json")[1] != out


def test_predict_needs_a_model_directory(refusal, tmp_path):
    assert "no such directory" in refusal("predict", tmp_path / "nothing", "text")
    assert str(tmp_path) in refusal("predict", tmp_path, "text")


def test_predict_reads_as_many_tokens_as_asked(run, trained):
    long = run("predict", trained, "good bad bad bad", "--max-length", 3, "--tokens-per-batch", 5)
    assert long[0] == 0
    assert long[1].split("\t")[:2] == run("predict", trained, "good")[1].split("\t")[:2]


def test_predict_and_embed_take_files_of_any_size(run, trained, data, tmp_path):
    """What is in them: tests/inference/test_jobs.py."""
    status, out, err = run("predict", trained, "--data", data, "--out", tmp_path / "out.tsv", "--json")
    assert status == 0
    assert err.splitlines()[0].startswith(f"{data}: texts (text)")
    assert json.loads(out) == {"rows": 40, "left_out": 0, "first_left_out": None, "out": str(tmp_path / "out.tsv")}
    assert run("embed", trained, "--data", data, "--out", tmp_path / "out.npy")[1].startswith("rows 40  left out 0")


# ---- embed ----


def test_embed_prints_a_vector_a_line(run, trained, monkeypatch):
    vectors = TextEncoder.from_pretrained(trained).embed(["good room", "bad"])
    status, out, err = run("embed", trained, "good room", "bad")
    assert (status, err) == (0, "")
    rows = [[float(number) for number in line.split("\t")] for line in out.splitlines()]
    torch.testing.assert_close(torch.tensor(rows), vectors, rtol=1e-5, atol=1e-6)
    stdin(monkeypatch, b"good room\nbad\n")
    assert run("embed", trained)[1] == out


def test_embed_json_is_one_object_and_its_options_reach_the_vectors(run, trained):
    status, out, _ = run("embed", trained, "good room", "--json", "--pooling", "cls", "--normalize", "--max-length", 3)
    (row,) = json.loads(out)["embeddings"]
    vector = TextEncoder.from_pretrained(trained).embed(["good"], "cls")[0]
    assert status == 0
    torch.testing.assert_close(torch.tensor(row), vector / vector.norm(), rtol=0, atol=1e-6)


def test_embed_names_the_poolings_that_it_knows(refusal, trained):
    line = refusal("embed", trained, "a", "--pooling", "median")
    assert "pooling 'median' is unknown; choose cls, mean, max, mean-sqrt, weighted-mean, last" in line


# ---- encode ----


def test_encode_shows_the_ids_of_the_tutorials_example(run, tmp_path):
    """The characters stand where bert-base-chinese would not have them: on lines 108 to 112."""
    model = vocabulary(tmp_path / "v", 白=107, 日=108, 依=109, 山=110, 尽=111, **{",": 120})
    status, out, err = run("encode", "白日依山尽,", "白", "--model", model)
    assert (status, err) == (0, "")
    first, second = out.split("\n\n")
    rows = {line.split()[0]: line.split()[1:] for line in first.splitlines()}
    assert rows["tokens"] == ["[CLS]", *"白日依山尽,", "[SEP]"]
    assert rows["input_ids"] == ["2", "107", "108", "109", "110", "111", "120", "3"]
    assert rows["token_type_ids"] == ["0"] * 8
    assert rows["special_tokens_mask"] == ["1", *["0"] * 6, "1"]
    assert rows["length"] == ["8"]
    assert rows["attention_mask"] == ["1"] * 8
    assert rows["decoded"] == ["[CLS]", "白", "日", "依", "山", "尽,", "[SEP]"]
    assert second.splitlines()[1].split() == ["input_ids", "2", "107", "3", *["0"] * 5]


@needs_shared
def test_encode_gives_the_tutorials_ids_with_the_vocabulary_of_bert_base_chinese(run, tmp_path):
    shutil.copy(SHARED / "vocab" / "bert-base-chinese.vocab.txt", tmp_path / "vocab.txt")
    _, out, _ = run("encode", "白日依山尽,", "床前明月光,疑是地上霜。", "--model", tmp_path, "--json")
    result = json.loads(out)
    assert result["input_ids"][0] == [101, 4635, 3189, 898, 2255, 2226, 117, 102, *[0] * 6]
    assert result["length"] == [8, 14]
    assert result["decoded"][1] == "[CLS] 床 前 明 月 光, 疑 是 地 上 霜 。 [SEP]"


def test_encode_json_is_one_object(run, tmp_path):
    model = vocabulary(tmp_path / "v", a=7, b=8)
    status, out, err = run("encode", "a", "--pair", "b b", "--model", model, "--json")
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out) == {
        "tokens": [["[CLS]", "a", "[SEP]", "b", "b", "[SEP]"]],
        "input_ids": [[2, 7, 3, 8, 8, 3]],
        "token_type_ids": [[0, 0, 0, 1, 1, 1]],
        "special_tokens_mask": [[1, 0, 1, 0, 0, 1]],
        "length": [6],
        "attention_mask": [[1] * 6],
        "decoded": ["[CLS] a [SEP] b b [SEP]"],
    }


def test_encode_passes_its_options_on(run, tmp_path):
    model = vocabulary(tmp_path / "v", a=7, b=8)
    options = ("--model", model, "--json", "--max-length", 6, "--truncation", "only_second", "--padding", "none")
    _, out, _ = run("encode", "a", "--pair", "b b b b b", *options)
    assert json.loads(out)["input_ids"] == [[2, 7, 3, 8, 8, 3]]
    _, out, _ = run("encode", "a", "--padding", "max_length", "--max-length", 5, "--model", model, "--json")
    assert json.loads(out)["input_ids"] == [[2, 7, 3, 0, 0]]
    _, out, _ = run("encode", "[SEP]", "--model", model, "--json")
    assert json.loads(out)["input_ids"] == [[2, 3, 3]]
    _, out, _ = run("encode", "[SEP]", "--split-special-tokens", "--model", model, "--json")
    assert json.loads(out)["input_ids"] == [[2, 1, 1, 1, 3]]


def test_encode_reads_stdin_where_no_text_is_given(run, tmp_path, monkeypatch):
    stdin(monkeypatch, b"a\nb\n")
    _, out, _ = run("encode", "--model", vocabulary(tmp_path / "v", a=7, b=8), "--json")
    assert json.loads(out)["input_ids"] == [[2, 7, 3], [2, 8, 3]]


def test_encode_without_a_model_uses_the_vocabulary_of_the_bundled_reviews(run):
    status, out, _ = run("encode", "The room was clean. 房间很干净", "--json")
    assert status == 0
    tokens = json.loads(out)["tokens"][0]
    assert "[UNK]" not in tokens
    assert tokens[:5] == ["[CLS]", "the", "room", "was", "clean"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--truncation", "both"], "choose one of longest_first"),
        (["--padding", "left"], "choose one of longest"),
        (["--max-length", "1"], "max_length 1 is too small"),
        (["--truncation", "only_second"], "without pairs"),
    ],
)
def test_encode_refuses_what_cannot_be_done(refusal, tmp_path, words, reason):
    assert reason in refusal("encode", "a", "--model", vocabulary(tmp_path / "v", a=7), *words)


# ---- parity ----


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    """A small model that transformers has saved."""
    torch.manual_seed(0)
    sizes = dict(vocab_size=53, hidden_size=10, num_attention_heads=2, num_hidden_layers=2, intermediate_size=17)
    config = transformers.BertConfig(**sizes, max_position_embeddings=19, num_labels=3)
    directory = tmp_path_factory.mktemp("foreign")
    transformers.BertForSequenceClassification(config).save_pretrained(directory)
    return directory


STAGES = (
    "embeddings", "attention.query", "attention.key", "attention.value", "attention.scores", "attention.probs",
    "attention.context", "attention.norm", "ffn.inner", "ffn.output", "ffn.norm", "last_hidden_state", "pooler",
    "classifier",
)  # fmt: skip


def test_parity_prints_every_stage_and_exits_0(run, foreign):
    status, out, err = run("parity", foreign)
    assert status == 0
    assert [stage for stage in STAGES if not re.search(rf"(^|\.){re.escape(stage)}", out, re.MULTILINE)] == []
    assert "transformers" in out.splitlines()[1]
    assert out.endswith("equal, as far as float32 goes\n")
    assert "length 16" in err


def test_parity_json_is_one_object(run, foreign):
    status, out, _ = run("parity", foreign, "--lengths", "1,5,19", "--json")
    assert (status, out.count("\n")) == (0, 1)
    result = json.loads(out)
    assert result["above"] == []
    assert {"layers.0.attention.scores", "layers.1.ffn.norm"} <= {row["stage"] for row in result["stages"]}
    assert max(max(row["differences"].values()) for row in result["stages"] if row["differences"]) <= 1e-5


@pytest.mark.parametrize("lengths", ["0", "20", "a", "1,,2", "-1"])
def test_parity_refuses_lengths_the_model_does_not_have(refusal, foreign, lengths):
    assert "whole numbers from 1 to 19" in refusal("parity", foreign, f"--lengths={lengths}")


# ---- as a process ----


def minibert(*words: object, **how) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "minibert", *map(str, words)]
    return subprocess.run(command, capture_output=True, timeout=120, **how)


def test_python_m_minibert_writes_utf8_also_where_the_locale_is_c(tmp_path):
    model = vocabulary(tmp_path / "v", 白=107)
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    result = minibert("encode", "--json", "--model", model, input="白\n".encode(), env=env)
    assert (result.returncode, result.stderr) == (0, b"")
    assert json.loads(result.stdout.decode("utf-8"))["tokens"] == [["[CLS]", "白", "[SEP]"]]
    assert "白".encode() in result.stdout


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    """`minibert encode … | head -1`: far more output than a pipe holds, of which one line is read."""
    model = vocabulary(tmp_path / "v", a=7)
    command = [sys.executable, "-m", "minibert", "encode", "--model", str(model)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"a a a a a a a a a a a a\n" * 2000)
    process.stdin.close()
    assert process.stdout.readline().startswith(b"tokens")
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141
    process.stderr.close()


def test_a_directory_with_a_broken_vocabulary_is_one_line(refusal, trained, tmp_path):
    broken = shutil.copytree(trained, tmp_path / "broken")
    tokens = Tokenizer.from_pretrained(trained).vocab
    (broken / "vocab.txt").write_text("\n".join([*tokens, "##more"]) + "\n", encoding="utf-8")
    message = refusal("predict", broken, "text")
    assert f"the vocabulary has {len(tokens) + 1} tokens, the config says vocab_size {len(tokens)}" in message
