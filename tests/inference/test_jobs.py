"""Proves that big jobs give every row its answer in order, end byte for byte alike however often they are stopped, and
refuse what is broken by row, line and reason, keeping what is done.
Run: pytest tests/inference/test_jobs.py (-m slow: all kills)
"""

import csv
import gzip
import json
import os
import random
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from conftest import assert_near
from test_inference import LABELS, VOCAB, saved, texts

from minibert import cli
from minibert.fast.models import BertForSequenceClassification, BertModel
from minibert.inference import jobs
from minibert.inference.text_encoder import TextEncoder
from minibert.inference.text_models import TextClassifier
from minibert.io.examples import read_examples
from minibert.io.locks import held
from minibert.io.rows import open_lines, read_rows
from minibert.options import Reading

ROWS = 120


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("classifier"), BertForSequenceClassification)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("encoder"), BertModel)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "rows.tsv", texts(ROWS))


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["id\ttext", *(f"{i}\t{text}" for i, text in enumerate(rows))]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run(capsys):
    """Runs a command line in this process: (exit status, stdout, stderr). Budgets are small, so windows are many."""

    def call(command: str, directory: Path, data: Path, out: Path, *words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        words = (command, directory, "--data", data, "--out", out, "--device", "cpu", *words)
        if "--tokens-per-batch" not in words:
            words += ("--tokens-per-batch", 20)
        status = cli.main([str(word) for word in words])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def refusal(run):
    """The last line of a job that ends with exit status 2."""

    def call(*words: object) -> str:
        status, out, err = run(*words)
        assert (status, out) == (2, ""), err
        return err.splitlines()[-1]

    return call


@pytest.fixture(scope="module")
def whole(model, data, tmp_path_factory) -> bytes:
    """What an uninterrupted job writes."""
    out = tmp_path_factory.mktemp("whole") / "whole.tsv"
    words = ("--device", "cpu", "--tokens-per-batch", "20")
    assert cli.main(["predict", str(model), "--data", str(data), "--out", str(out), *words]) == 0
    return out.read_bytes()


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- answers ----


def expected(model: Path, rows: list[str], pairs: list[str] | None = None) -> list[tuple[str, float]]:
    return TextClassifier.from_pretrained(model, device="cpu").predict(rows, pairs)


@pytest.mark.parametrize("tokens", [5, 20, 1024])
def test_every_row_has_its_answer_in_order(run, model, data, tmp_path, tokens):
    out = tmp_path / "out.tsv"
    status, stdout, stderr = run("predict", model, data, out, "--tokens-per-batch", tokens)
    assert (status, stdout) == (0, f"rows {ROWS}  left out 0  {out}\n")
    assert stderr.splitlines()[0].endswith("rows.tsv: texts (text); ignored: id")
    head, *lines = out.read_text(encoding="utf-8").splitlines()
    answers = expected(model, texts(ROWS))
    assert head == "row\tlabel\tprobability"
    assert len({label for label, _ in answers}) > 1, "one label alone would prove nothing"
    for number, (line, (label, probability)) in enumerate(zip(lines, answers, strict=True), 1):
        row, name, p = line.split("\t")
        assert (row, name) == (str(number), label)
        assert float(p) == pytest.approx(probability, abs=2e-6)
    assert left_in(tmp_path) == ["out.tsv"]


def test_a_jsonl_holds_all_probabilities_and_a_csv_commas(run, model, data, tmp_path, whole):
    assert run("predict", model, data, tmp_path / "out.jsonl")[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["row"] for row in rows] == list(range(1, ROWS + 1))
    assert all(list(row["probabilities"]) == list(LABELS.values()) for row in rows)
    lines = [f"{row['row']}\t{row['label']}\t{row['probabilities'][row['label']]:.6f}\n" for row in rows]
    assert "".join(lines) == whole.decode().split("\n", 1)[1]
    assert run("predict", model, data, tmp_path / "out.csv")[0] == 0
    assert (tmp_path / "out.csv").read_bytes() == whole.replace(b"\t", b",")


@pytest.mark.slow
def test_the_kind_of_input_does_not_matter(run, model, tmp_path, whole):
    rows = texts(ROWS)
    inputs = {
        "rows.txt": "".join(f"{text}\r\n" for text in rows),
        "rows.csv": "\ufeffid,text\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(rows)),
        "rows.jsonl": "".join(json.dumps({"label": 7, "text": text}) + "\n\n" for text in rows),
    }
    for name, content in inputs.items():
        (tmp_path / name).write_bytes(content.encode())
        assert run("predict", model, tmp_path / name, tmp_path / f"{name}.tsv")[0] == 0
        assert (tmp_path / f"{name}.tsv").read_bytes() == whole, name


def test_pairs_are_read_as_second_texts(run, model, tmp_path):
    first, second = texts(30, seed=1), texts(30, seed=2)
    lines = [f"{a}\t{b}" for a, b in zip(first, second, strict=True)]
    (tmp_path / "pairs.tsv").write_text("text\ttext_b\n" + "\n".join(lines) + "\n", encoding="utf-8")
    assert run("predict", model, tmp_path / "pairs.tsv", tmp_path / "out.tsv")[0] == 0
    rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_text().splitlines()[1:]]
    answers = expected(model, first, second)
    assert [(label, float(p)) for _, label, p in rows] == [(n, pytest.approx(p, abs=2e-6)) for n, p in answers]
    assert answers != expected(model, first)


@pytest.mark.slow
def test_options_choose_columns_and_length(run, model, data, tmp_path, whole):
    headless = tmp_path / "headless.tsv"
    headless.write_text(data.read_text(encoding="utf-8").split("\n", 1)[1], encoding="utf-8")
    assert run("predict", model, headless, tmp_path / "out.tsv", "--columns", "id,text")[0] == 0
    assert (tmp_path / "out.tsv").read_bytes() == whole
    assert run("predict", model, data, tmp_path / "short.tsv", "--max-length", 5)[0] == 0
    short = [" ".join(text.split()[:3]) for text in texts(ROWS)]
    rows = [line.split("\t")[1] for line in (tmp_path / "short.tsv").read_text().splitlines()[1:]]
    assert rows == [label for label, _ in expected(model, short)]
    assert run("predict", model, data, tmp_path / "long.tsv", "--max-length", 1000)[0] == 0
    assert (tmp_path / "long.tsv").read_bytes() == whole


@pytest.mark.parametrize(("pooling", "normalize"), [("mean", True), ("cls", False)])
def test_vectors_are_those_of_the_encoder_row_by_row(run, encoder, data, tmp_path, pooling, normalize):
    out = tmp_path / "out.npy"
    words = ("--pooling", pooling, *["--normalize"] * normalize)
    assert run("embed", encoder, data, out, *words)[0] == 0
    vectors = np.load(out, mmap_mode="r")
    theirs = TextEncoder.from_pretrained(encoder, device="cpu").embed(texts(ROWS), pooling)
    theirs = torch.nn.functional.normalize(theirs) if normalize else theirs
    assert (vectors.shape, vectors.dtype) == ((ROWS, 15), np.float32)
    assert_near(torch.from_numpy(np.array(vectors)), theirs)


def test_the_head_of_a_npy_has_room_for_any_number_of_rows(monkeypatch, encoder, data, tmp_path):
    heads = []
    monkeypatch.setattr(jobs, "run", lambda options, settings, trained, answer, head, body: heads.append(head))
    options = cli.EmbedOptions(directory=str(encoder), text=(), data=str(data), out=str(tmp_path / "out.npy"))
    jobs.embed_file(options, "mean", False)
    assert len({len(heads[0](rows)) for rows in (0, 1, 10**6, 10**15)}) == 1


@pytest.mark.slow
def test_vectors_of_minilm_equal_those_of_sentence_transformers(run, minilm, tmp_path):
    """Some texts are longer than the 256 tokens that it reads."""
    peer = pytest.importorskip("sentence_transformers")
    rows = ["A man is eating food.", "白日依山尽", "", "The cat sat on the mat, " * 100, "Don't! ¿Qué? " * 20]
    (tmp_path / "rows.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert run("embed", minilm, tmp_path / "rows.txt", tmp_path / "out.npy", "--tokens-per-batch", 300)[0] == 0
    theirs = peer.SentenceTransformer(str(minilm), device="cpu").encode(rows, show_progress_bar=False)
    assert_near(np.load(tmp_path / "out.npy"), theirs)


# ---- reading ----

READABLE = {
    "quotes.tsv": 'text\tx\n"a ""b"" c"\t1\n"two\nlines"\t2\n\n好\t3\n',
    "returns.csv": "x,text\r1,a\r2,b\r\n3,c\n",
    "bom.csv": "\ufefftext\na\n",
    "no last line feed.tsv": "text\na\nb",
    "separators.jsonl": '{"text": "a\u2028b"}\r\n\n{"text": "", "n": 1}',
    "alias.tsv": "Sentence1\tsentence2\na\tb\n",
    "spaces.tsv": " text \tx\n a \t\n",
    "wide.tsv": f"text\tx\n{'a' * 200_000}\t1\n",
}


@pytest.mark.parametrize("name", READABLE)
def test_rows_are_those_that_training_reads(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(READABLE[name].encode())
    whole = read_examples(path, labelled=False)
    with open_lines(path) as lines:
        rows = list(read_rows(lines))
    assert [row.text for row in rows] == whole.texts
    assert [row.pair for row in rows] == (whole.pairs or [None] * len(rows))
    assert [row.place for row in rows] == [f"{path}:{line}" for line in whole.lines]
    assert not any(row.problem for row in rows)


# One broken row between good ones: the file's name, its bytes, the broken row's number and line, and the reason.
BROKEN = [
    ("short.tsv", b"id\ttext\n1\ta\nb\n3\tc\n", 2, 3, "has 1 columns, not the 2 of id, text"),
    ("quote.tsv", b'id\ttext\n1\ta\n2\t"b\n3\tc\n', 2, 3, "a quoted field is not closed properly"),
    ("bytes.tsv", b"id\ttext\n1\ta\n2\t\xc4\xe3\n3\tc\n", 2, 3, "byte 0xc4 is not UTF-8"),
    ("bytes.txt", b"a\n\xff\nc\n", 2, 2, "byte 0xff is not UTF-8"),
    ("cut.jsonl", b'{"text": "a"}\n{"text": "b\n{"text": "c"}\n', 2, 2, "not JSON"),
    ("deep.jsonl", b'{"text": "a"}\n' + b"[" * 100_000 + b'\n{"text": "c"}\n', 2, 2, "not JSON"),
    ("list.jsonl", b'{"text": "a"}\n[1]\n{"text": "c"}\n', 2, 2, "holds a list, not an object"),
    ("other.jsonl", b'{"text": "a"}\n{"t": "b"}\n{"text": "c"}\n', 2, 2, "has no text column"),
    ("number.jsonl", b'{"text": "a"}\n{"text": 5}\n{"text": "c"}\n', 2, 2, "text is 5; give a string"),
    ("pair.jsonl", b'{"text": "a"}\n{"text": "b", "text_b": "b"}\n{"text": "c"}\n', 2, 2, "not as in the first row"),
    ("half.jsonl", b'{"text": "a"}\n{"text": "\\ud83d"}\n{"text": "c"}\n', 2, 2, "half of a surrogate pair"),
]


@pytest.mark.parametrize(("name", "content", "row", "line", "reason"), BROKEN, ids=[case[0] for case in BROKEN])
def test_a_broken_row_stops_or_costs_itself_alone(run, refusal, model, tmp_path, name, content, row, line, reason):
    path, out = tmp_path / name, tmp_path / "out.tsv"
    path.write_bytes(content)
    message = refusal("predict", model, path, out)
    assert message.startswith(f"minibert: row {row}, {path}")
    assert reason in message
    assert f":{line}: " in message or "has no text column" in message
    assert "--on-error skip" in message
    assert left_in(tmp_path) == [name], "what holds no row is not left behind"
    status, stdout, stderr = run("predict", model, path, out, "--on-error", "skip")
    assert (status, stdout) == (0, f"rows 3  left out 1  {out}\n")
    assert stderr.splitlines()[-1].startswith(f"1 rows left out; the first: row {row}, {path}")
    answers = zip(("1", "3"), expected(model, ["a", "c"]), strict=True)
    assert out.read_text().splitlines()[1:] == [f"{n}\t{label}\t{p:.6f}" for n, (label, p) in answers]


def test_a_pipe_among_a_models_files_is_not_waited_for(run, model, data, tmp_path):
    copied = Path(shutil.copytree(model, tmp_path / "copied"))
    os.mkfifo(copied / "sentence_bert_config.json")
    assert run("predict", copied, data, tmp_path / "out.tsv")[0] == 0


def test_the_name_of_a_file_with_rows_left_out_is_shown_harmlessly(run, model, tmp_path):
    path = tmp_path / "r\x1b[2J.txt"
    path.write_bytes(b"a\n\xff\n")
    assert "\x1b" not in run("predict", model, path, tmp_path / "out.tsv", "--on-error", "skip")[2]


def test_a_line_without_end_is_not_read_into_memory(monkeypatch, tmp_path):
    monkeypatch.setattr("minibert.io.rows.LONGEST", 100)
    path = tmp_path / "rows.txt"
    path.write_text(f"a\n{'b' * 1000}\nc\n{'d' * 98}\n{'e' * 99}\nf", encoding="utf-8")
    with open_lines(path) as lines:
        rows = list(read_rows(lines))
    assert [row.text for row in rows] == ["a", "", "c", "d" * 98, "", "f"]
    assert rows[1].problem == f"{path}:2: the line is longer than 99 characters; cut it"


def test_the_hash_is_that_of_all_lines_however_they_are_given_back(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_bytes(b'text\n"a\nb\nc\xff\nd\n')
    with open_lines(path) as lines:
        rows = [(row.place[-1], row.text) for row in read_rows(lines)]
    assert rows == [("2", ""), ("3", "b"), ("4", ""), ("5", "d")]
    assert lines.digest.hexdigest() == jobs.hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("rows.tsv", b"id\tx\n1\ta\n", "has no text column; its columns are 'id', 'x'"),
        ("rows.tsv", b"text\ttext\na\tb\n", "two columns are named 'text'"),
        ("rows.tsv", b'"text\na\n', ":1: the header cannot be read"),
        ("rows.tsv", b"te\xfft\na\n", ":1: the header cannot be read (byte 0xff"),
        ("rows.tsv", b"", "holds no rows"),
        ("rows.tsv", b"text\n\n", "holds no rows"),
        ("rows.jsonl", b'{"t": 1}\n', "has no text column"),
        ("rows.jsonl", b"\n", "holds no rows"),
        ("rows.txt", b"", "holds no rows"),
        ("rows.xml", b"a", "unknown kind of file '.xml'"),
    ],
)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_file_that_does_not_fit_is_refused_whatever_rows_may_do(
    refusal, model, tmp_path, name, content, reason, on_error
):
    (tmp_path / name).write_bytes(content)
    assert reason in refusal("predict", model, tmp_path / name, tmp_path / "out.tsv", "--on-error", on_error)
    assert left_in(tmp_path) == [name]


def test_what_is_no_file_is_refused(refusal, model, data, tmp_path):
    assert "rows.txt: no such file" in refusal("predict", model, tmp_path / "rows.txt", tmp_path / "out.tsv")
    assert "a directory; name a file" in refusal("predict", model, tmp_path, tmp_path / "out.tsv")
    assert "unknown kind of output '.npy'" in refusal("predict", model, data, tmp_path / "out.npy")
    assert "unknown kind of output '.tsv'" in refusal("embed", model, data, tmp_path / "out.tsv")
    assert "missing: no such directory" in refusal("predict", model, data, tmp_path / "missing" / "out.tsv")
    assert "tokens_per_batch is 0" in refusal("predict", model, data, tmp_path / "out.tsv", "--tokens-per-batch", 0)
    (tmp_path / "out.tsv").write_text("mine")
    assert "out.tsv: is there already" in refusal("predict", model, data, tmp_path / "out.tsv")
    assert left_in(tmp_path) == ["out.tsv"]
    assert (tmp_path / "out.tsv").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"out": None}, "--data is given without --out"),
        ({"data": None}, "--out is given without --data"),
        ({"text": ("a",)}, "and 1 texts are given; choose one"),
        ({"on_error": "ignore"}, "on_error 'ignore' is unknown; choose stop, skip"),
        ({"quoting": "all"}, "quoting 'all' is unknown; choose minimal, none"),
        ({"pair": "b"}, "--pair goes with texts"),
    ],
)
def test_options_that_do_not_go_together_are_refused(changes, reason):
    with pytest.raises(ValueError, match=reason):
        cli.PredictOptions(**{"directory": "m", "text": (), "data": "a.tsv", "out": "b.tsv", **changes})


# ---- answers that are no numbers, memory, the worker ----


@pytest.fixture
def poisoned(tmp_path_factory) -> dict[str, Path]:
    """Models whose answer is NaN wherever a text holds "z"."""
    directories = {}
    for command, kind in {"predict": BertForSequenceClassification, "embed": BertModel}.items():
        directory = saved(tmp_path_factory.mktemp(command), kind)
        model = kind.from_pretrained(directory)
        embeddings = getattr(model, "bert", model).embeddings
        embeddings.token.weight.data[VOCAB.index("z")] = 1e30  # what is added to it is lost: the variance is 0
        model.config = model.config.replace(layer_norm_eps=0.0)
        model.save_pretrained(directory)
        directories[command] = directory
    return directories


def test_rows_without_a_finite_answer_are_named_and_not_written(run, refusal, poisoned, tmp_path):
    path = write(tmp_path / "rows.tsv", ["a", "b z", "c", "z"])
    message = refusal("predict", poisoned["predict"], path, tmp_path / "out.tsv")
    assert f"row 2, {path}:3: the model's answer is not finite" in message
    status, stdout, stderr = run("predict", poisoned["predict"], path, tmp_path / "out.tsv", "--on-error", "skip")
    assert (status, stdout) == (0, f"rows 4  left out 2  {tmp_path / 'out.tsv'}\n")
    assert f"the first: row 2, {path}:3" in stderr
    assert [line.split("\t")[0] for line in (tmp_path / "out.tsv").read_text().splitlines()] == ["row", "1", "3"]


def test_vectors_of_rows_left_out_are_nan_so_that_the_others_keep_their_place(run, poisoned, tmp_path):
    (tmp_path / "rows.txt").write_bytes(b"a\n\xff\nb z\nc\n")
    out = tmp_path / "out.npy"
    status, stdout, _ = run("embed", poisoned["embed"], tmp_path / "rows.txt", out, "--on-error", "skip", "--json")
    result = json.loads(stdout)
    assert (status, result["rows"], result["left_out"], result["out"]) == (0, 4, 2, str(out))
    assert "row 2" in result["first_left_out"]
    vectors = np.load(out)
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, False]
    theirs = TextEncoder.from_pretrained(poisoned["embed"], device="cpu").embed(["a", "c"])
    assert_near(vectors[[0, 3]], theirs)


def test_a_budget_beyond_memory_is_refused_with_what_to_try(refusal, run, model, data, tmp_path, monkeypatch, whole):
    """A model that asks for a petabyte where a batch has more than 99 tokens."""
    real = BertForSequenceClassification.forward

    def forward(self, input_ids, *rest):
        if len(input_ids) > 99:
            torch.empty(10**15)
        return real(self, input_ids, *rest)

    monkeypatch.setattr(BertForSequenceClassification, "forward", forward)
    out = tmp_path / "out.tsv"
    message = refusal("predict", model, data, out, "--tokens-per-batch", 500)
    less = "--tokens-per-batch 250, or cut long rows with --max-length 15"
    assert f"a batch of 500 tokens does not fit into memory; try {less}" in message
    assert run("predict", model, data, out, "--tokens-per-batch", 31)[0] == 0
    assert [line.split("\t")[:2] for line in out.read_text().splitlines()] == [
        line.split("\t")[:2] for line in whole.decode().splitlines()
    ]


def test_other_errors_of_the_model_are_not_taken_for_memory(run, model, data, tmp_path, monkeypatch):
    def forward(*rest):
        raise RuntimeError("something else")

    monkeypatch.setattr(BertForSequenceClassification, "forward", forward)
    with pytest.raises(RuntimeError, match="something else"):
        run("predict", model, data, tmp_path / "out.tsv")


def test_a_worker_that_dies_keeps_what_is_done(run, model, data, tmp_path, monkeypatch, whole):
    calls = []

    def take(rows, tokens):
        calls.append(tokens)
        if len(calls) == 4:
            raise MemoryError
        return real(rows, tokens)

    real, out = jobs.take, tmp_path / "out.tsv"
    monkeypatch.setattr(jobs, "take", take)
    status, _, stderr = run("predict", model, data, out)
    kept, message = stderr.splitlines()[-2:]
    assert (status, message) == (
        2,
        "minibert: a batch of 20 tokens does not fit into memory; "
        "try --tokens-per-batch 10, or cut long rows with --max-length 15",
    )
    done = progress(out)["rows"]
    assert kept == f"{done} rows are done and kept in {out}.partial, for the same command to go on from"
    assert 20 < done < 60, "three windows of 160 tokens"
    assert run("predict", model, data, out)[0] == 0
    assert out.read_bytes() == whole


# ---- stopped and continued ----


def progress(out: Path) -> dict:
    return json.loads(out.with_name(f"{out.name}.journal").read_text(encoding="utf-8").splitlines()[-1])


def test_a_signal_behind_the_journal_tells_of_what_the_journal_tells(run, model, data, tmp_path, monkeypatch):
    out, real = tmp_path / "out.tsv", jobs.atomic_write

    def interrupted(path, content):
        real(path, content)
        if json.loads(content.splitlines()[-1])["rows"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "atomic_write", interrupted)
    status, _, err = run("predict", model, data, out, *BUDGET)
    assert (status, progress(out)["rows"] > 0) == (130, True)
    assert f"{progress(out)['rows']} rows are done and kept in {out}.partial" in err


def test_answers_are_on_the_disk_before_the_journal_tells_of_them(run, model, data, tmp_path, monkeypatch):
    out, real, synced, told = tmp_path / "out.tsv", os.fsync, {}, []

    def fsync(handle):
        real(handle)
        path = next((path for path in tmp_path.iterdir() if path.stat().st_ino == os.fstat(handle).st_ino), None)
        if path is None:  # the directory
            return
        synced[path.suffix] = path.stat().st_size
        if ".journal" in path.name:
            told.append(json.loads(path.read_bytes().splitlines()[-1])["size"])
            assert told[-1] == synced[".partial"]

    monkeypatch.setattr(os, "fsync", fsync)
    assert run("predict", model, data, out)[0] == 0
    assert told[-1] == out.stat().st_size


def test_a_row_mended_after_a_stop_is_gone_on_from(run, refusal, model, data, tmp_path, whole):
    path, out = tmp_path / "rows.tsv", tmp_path / "out.tsv"
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:81], "cut off\n", *lines[82:]]), encoding="utf-8")
    assert f"row 81, {path}:82: has 1 columns" in refusal("predict", model, path, out)
    done = progress(out)["rows"]
    assert 40 < done <= 80
    before = Path(f"{out}.partial").read_bytes()
    assert whole.startswith(before)
    path.write_bytes(data.read_bytes())
    assert run("predict", model, path, out)[0] == 0
    assert out.read_bytes() == whole


def test_after_a_stop_rows_can_be_skipped_instead(run, refusal, model, data, tmp_path, whole):
    path, out = tmp_path / "rows.tsv", tmp_path / "out.tsv"
    path.write_bytes(data.read_bytes().replace(b"\n80\t", b"\n"))
    refusal("predict", model, path, out)
    assert run("predict", model, path, out, "--on-error", "skip")[1] == f"rows {ROWS}  left out 1  {out}\n"
    lines = whole.splitlines()
    assert [line.split(b"\t")[0] for line in out.read_bytes().splitlines()] == [
        line.split(b"\t")[0] for line in [*lines[:81], *lines[82:]]
    ]


def test_a_job_begun_by_release_0_1_is_gone_on_from(run, model, stopped, whole):
    """Its journal had a line for each window; what was being added when it was killed may be cut off."""
    journal = Path(f"{stopped[1]}.journal")
    settings, done = journal.read_bytes().splitlines()
    before = json.dumps({"rows": 0, "size": 0, "digest": "", "left_out": 0, "first_left_out": None}).encode()
    journal.write_bytes(b"\n".join([settings, before, done, done[:20]]))
    assert run("predict", model, *stopped)[0] == 0
    assert stopped[1].read_bytes() == whole


def test_a_journal_that_was_being_written_when_its_job_was_killed_is_removed_at_the_end(run, model, data, tmp_path):
    (tmp_path / ".out.tsv.journal.0a1b2c3d").touch()
    (tmp_path / ".out.tsv.journal.swp").touch()
    assert run("predict", model, data, tmp_path / "out.tsv")[0] == 0
    assert left_in(tmp_path) == [".out.tsv.journal.swp", "out.tsv"]


class Killed(BaseException):
    """As if by SIGKILL: nothing is tidied up after it."""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "embed"])
def test_a_job_killed_within_any_step_ends_as_if_it_had_not_been(run, model, encoder, tmp_path, monkeypatch, command):
    """Every write is torn in the middle once, and each step at the end does not happen. One window at most is done
    twice."""
    real, computed = jobs.checked_answers, []
    monkeypatch.setattr(jobs, "checked_answers", lambda *rest: computed.append(1) or real(*rest))
    data = write(tmp_path / "rows.tsv", texts(60))
    directory, name = (model, "out.tsv") if command == "predict" else (encoder, "out.npy")
    whole = tmp_path / name
    assert run(command, directory, data, whole)[0] == 0
    windows = len(computed)
    for step in range(1000):
        out = tmp_path / str(step) / name
        out.parent.mkdir()
        computed.clear()
        killed = killed_at(step, lambda out=out: run(command, directory, data, out))
        assert run(command, directory, data, out)[0] in ((0,) if killed else (2,)), "2: it was complete"
        assert out.read_bytes() == whole.read_bytes()
        assert left_in(out.parent) == [name]
        assert len(computed) <= windows + 1
        if not killed:
            break
    assert step > 8, "two writes at the beginning, two a window, one and two other steps at the end"


def killed_at(step: int, job) -> bool:
    """Runs the job and kills it at the step of this number; False if it has fewer."""
    counter = iter(range(1000))

    def killing(real, tear=None):
        def call(*arguments):
            if next(counter) == step:
                if tear:
                    tear(*arguments)
                raise Killed
            return real(*arguments)

        return call

    def half(self, data):
        self.file.write(data[: len(data) // 2])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs.Output, "_write", killing(jobs.Output._write, half))
        patch.setattr(jobs.os, "replace", killing(os.replace))
        patch.setattr(jobs.Path, "unlink", killing(Path.unlink))
        patch.setattr(jobs.Output, "give_up", lambda output: output.file and output.file.close())
        try:
            job()
        except Killed:
            return True
    return False


def test_a_file_that_is_cut_while_it_is_read_is_refused_and_what_was_done_is_kept(
    run, model, data, tmp_path, monkeypatch, whole
):
    path, out, real = tmp_path / "rows.tsv", tmp_path / "out.tsv", jobs.checked_answers
    path.write_bytes(data.read_bytes())

    def cut(*rest):  # whole rows: what is read of half a one is answered, and is not in the mended file
        os.truncate(path, path.read_bytes().rfind(b"\n", 0, -400) + 1)
        return real(*rest)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "checked_answers", cut)
        status, stdout, stderr = run("predict", model, path, out)
    assert (status, stdout, out.exists()) == (2, "", False)
    assert f"{path}: was changed while it was read; see that it is whole" in stderr.splitlines()[-1]
    path.write_bytes(data.read_bytes())
    assert run("predict", model, path, out)[0] == 0
    assert out.read_bytes() == whole


def test_a_file_that_is_added_to_while_it_is_read_is_refused(run, model, data, tmp_path, monkeypatch):
    """At its end no row is broken, and yet the last ones are missing."""
    path, real = tmp_path / "rows.tsv", jobs.Output.add
    path.write_bytes(data.read_bytes())

    def add(output, body, window, problems):
        real(output, body, window, problems)
        if window.end == ROWS:
            with path.open("a") as file:
                file.write("300\tone more\n")

    monkeypatch.setattr(jobs.Output, "add", add)
    status, _, stderr = run("predict", model, path, tmp_path / "out.tsv")
    kept, last = stderr.splitlines()[-2:]
    assert (status, kept.split(" rows")[0]) == (2, str(ROWS))
    assert f"{path}: was changed while it was read" in last


def test_an_output_that_another_process_writes_is_left_to_it(refusal, model, data, tmp_path):
    """Two locks of one process are as strange to each other as those of two."""
    out = tmp_path / "out.tsv"
    with held(out):
        Path(f"{out}.partial").write_text("theirs")
        assert f"{out}: another process is writing there; wait for it" in refusal("predict", model, data, out)
    assert Path(f"{out}.partial").read_text() == "theirs"


@pytest.mark.parametrize("name", ["partial", "journal"])
def test_a_link_in_the_place_of_a_part_is_refused_and_not_followed(refusal, model, data, tmp_path, name):
    (tmp_path / "mine").write_text("kept")
    (tmp_path / f"out.tsv.{name}").symlink_to("mine")
    assert f"out.tsv.{name}: is no regular file; delete it to begin anew" in refusal(
        "predict", model, data, tmp_path / "out.tsv"
    )
    assert (tmp_path / "mine").read_text() == "kept"


def test_the_part_of_nobody_is_not_written_into_as_it_may_have_a_second_name(run, model, data, tmp_path):
    (tmp_path / "mine").write_text("kept")
    os.link(tmp_path / "mine", tmp_path / "out.tsv.partial")
    assert run("predict", model, data, tmp_path / "out.tsv")[0] == 0
    assert (tmp_path / "mine").read_text() == "kept"


def test_the_journal_goes_only_after_the_name_of_the_output_is_on_the_disk(run, model, data, tmp_path, monkeypatch):
    calls, replace, unlink = [], os.replace, Path.unlink
    monkeypatch.setattr(jobs, "sync_directory", lambda directory: calls.append(f"sync {directory}"))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(f"replace {b}"), replace(a, b))[1])
    monkeypatch.setattr(Path, "unlink", lambda self, **how: (calls.append(f"unlink {self}"), unlink(self, **how))[1])
    out = tmp_path / "out.tsv"
    assert run("predict", model, data, out)[0] == 0
    assert calls[-3:] == [f"replace {out}", f"sync {tmp_path}", f"unlink {out}.journal"]


@pytest.fixture
def stopped(refusal, model, data, tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Data and output of a job that has stopped in the middle."""
    path, out = tmp_path / "rows.tsv", tmp_path / "out.tsv"
    path.write_bytes(data.read_bytes().replace(b"\n80\t", b"\n"))
    refusal("predict", model, path, out)
    path.write_bytes(data.read_bytes())
    return path, out


def test_other_settings_do_not_go_on_with_it(refusal, model, stopped, tmp_path):
    for words, name in (
        (("--max-length", 9), "max_length"),
        (("--quoting", "none"), "quoting"),
        (("--columns", "id,text"), "columns"),
    ):
        message = refusal("predict", model, *stopped, *words)
        assert f"out.tsv.journal: begun with another {name}; take the same, or delete" in message
    other = saved(tmp_path / "other", BertForSequenceClassification, id2label={0: "x", 1: "y"})
    assert "begun with another model; " in refusal("predict", other, *stopped)
    assert progress(stopped[1])["rows"] > 40, "it is kept all the same"


def test_the_same_rows_go_on_though_they_are_packed_by_gzip_and_others_do_not(run, refusal, model, stopped, whole):
    path, out = stopped
    content = path.read_bytes()
    path.write_bytes(gzip.compress(content.replace(b"\n5\t", b"\n5\ta ")))
    assert "rows are not those that" in refusal("predict", model, *stopped)
    path.write_bytes(gzip.compress(content))
    assert run("predict", model, *stopped)[0] == 0
    assert out.read_bytes() == whole


def test_other_rows_do_not_go_on_with_it(refusal, model, stopped):
    path, out = stopped
    content = path.read_bytes()
    done = progress(out)["rows"]
    for changed in (content.replace(b"\n5\t", b"\n5\ta "), b"\n".join(content.split(b"\n")[:50]) + b"\n"):
        path.write_bytes(changed)
        assert f"its first {done} rows are not those that {out}.partial was made of" in refusal(
            "predict", model, *stopped
        )
    path.write_bytes(content)
    assert progress(out)["rows"] == done


def test_a_damaged_journal_and_a_shorter_part_are_refused(refusal, run, model, stopped, whole):
    journal, partial = (Path(f"{stopped[1]}.{name}") for name in ("journal", "partial"))
    content = journal.read_bytes(), partial.read_bytes()
    partial.write_bytes(content[1][:-500])
    assert "out.tsv.partial: shorter than" in refusal("predict", model, *stopped)
    partial.write_bytes(content[1])
    for damaged in (b"[]\n" + content[0], b"nonsense\n", content[0] + b'{"rows": 5}\n'.replace(b"rows", b"raws")):
        journal.write_bytes(damaged)
        assert "out.tsv.journal: damaged; delete" in refusal("predict", model, *stopped)
    journal.unlink()
    assert run("predict", model, *stopped)[0] == 0, "anew"
    assert stopped[1].read_bytes() == whole


@pytest.mark.parametrize(("name", "value"), [("rows", None), ("size", "1"), ("left_out", []), ("digest", 1)])
def test_a_journal_of_the_wrong_types_is_damaged(refusal, model, stopped, name, value):
    data, out = stopped
    journal = Path(f"{out}.journal")
    first, last = journal.read_bytes().splitlines()
    journal.write_bytes(b"%s\n%s\n" % (first, json.dumps(json.loads(last) | {name: value}).encode()))
    assert f"{journal}: damaged; delete {journal} to begin anew" in refusal("predict", model, data, out)


def test_rows_left_out_before_a_stop_are_counted_at_the_end(run, refusal, poisoned, tmp_path):
    """Of those that the model could not answer nothing but the journal knows."""
    rows = ["z", *texts(100)]
    path, out = (
        write(tmp_path / "rows.tsv", [row.replace("z", "y") if i else row for i, row in enumerate(rows)]),
        tmp_path / "o.tsv",
    )
    killed_at(10, lambda: run("predict", poisoned["predict"], path, out, "--on-error", "skip"))
    assert progress(out)["left_out"] == 1
    status, stdout, stderr = run("predict", poisoned["predict"], path, out, "--on-error", "skip")
    assert (status, stdout) == (0, f"rows 101  left out 1  {out}\n")
    assert f"1 rows left out; the first: row 1, {path}:2" in stderr


def test_progress_is_told_in_lines_where_there_is_no_terminal(run, model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "SECONDS", 0)
    stderr = run("predict", model, data, tmp_path / "out.tsv")[2]
    lines = stderr.splitlines()
    lines = [line for line in lines if "rows.tsv" not in line]  # what was read, and what is [UNK]
    assert len(lines) > 5
    assert "\r" not in stderr
    assert all(f" of about {ROWS + 1} rows  " in line and " rows/s  " in line and " left" in line for line in lines)
    counts = [int(line.split()[0]) for line in lines]
    assert counts == sorted(counts)
    assert counts[-1] == ROWS


# ---- as a process ----

MANY = 3000
BUDGET = ("--tokens-per-batch", 80)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("many") / "rows.tsv", texts(MANY))


@pytest.fixture(scope="module")
def whole_many(model, many, tmp_path_factory) -> bytes:
    out = tmp_path_factory.mktemp("whole") / "out.tsv"
    words = ("predict", model, "--data", many, "--out", out, "--device", "cpu", *BUDGET)
    assert cli.main([str(word) for word in words]) == 0
    return out.read_bytes()


def start(model: Path, data: Path, out: Path, **how) -> processes.Process:
    """The command as a process of its own, with one thread as here, so that every sum is the same."""
    words = ["predict", model, "--data", data, "--out", out, "--device", "cpu", *BUDGET]
    return processes.minibert(*words, **how)


def wait_for(out: Path, size: int, process: processes.Process) -> None:
    """Until so many bytes are written, or the job has ended."""
    partial = Path(f"{out}.partial")
    while process.poll() is None and not (partial.exists() and partial.stat().st_size >= size):
        time.sleep(0.002)


def kill_at_random(model: Path, many: Path, out: Path, whole: bytes, kills: int, seed: int) -> None:
    dice = random.Random(seed)
    for kill in range(kills):
        process = start(model, many, out)
        share = len(whole) // (kills + 1)
        wait_for(out, dice.randrange(share * kill, share * (kill + 1)), process)
        time.sleep(dice.random() / 100)
        process.kill()
        process.communicate(timeout=60)
        assert whole.startswith(Path(f"{out}.partial").read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_process_killed_often_ends_as_if_it_had_not_been(run, model, many, tmp_path, whole_many, seed):
    out = tmp_path / "out.tsv"
    kill_at_random(model, many, out, whole_many, kills=8, seed=seed)
    assert run("predict", model, many, out, *BUDGET)[0] == 0
    assert out.read_bytes() == whole_many


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_stopped_by_a_signal_says_so_and_goes_on_later(run, model, many, tmp_path, whole_many, number):
    out = tmp_path / "out.tsv"
    process = start(model, many, out)
    wait_for(out, len(whole_many) // 3, process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, ""), stderr
    kept, last = stderr.splitlines()[-2:]
    rows = progress(out)["rows"]
    assert kept == f"{rows} rows are done and kept in {out}.partial, for the same command to go on from"
    assert last == "minibert: interrupted"
    assert run("predict", model, many, out, *BUDGET)[0] == 0
    assert out.read_bytes() == whole_many


@pytest.mark.slow
def test_a_full_disk_is_told_and_what_is_done_is_kept(run, model, many, tmp_path, whole_many):
    """A limit on the size of files stands in for the disk."""
    out = tmp_path / "out.tsv"
    limit = len(whole_many) // 2
    process = start(model, many, out, file_size=limit)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (2, "")
    kept, last = stderr.splitlines()[-2:]
    assert "rows are done and kept in" in kept
    assert last == f"minibert: [Errno 27] File too large: '{out}.partial'; make room, then type the command again"
    assert progress(out)["rows"] > MANY // 4
    assert run("predict", model, many, out, *BUDGET)[0] == 0
    assert out.read_bytes() == whole_many


def test_a_disk_that_is_full_from_the_start_leaves_nothing(run, model, data, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device", str(self.partial))

    monkeypatch.setattr(jobs.Output, "_write", full)
    out = tmp_path / "out.tsv"
    assert run("predict", model, data, out)[1:] == (
        "",
        f"minibert: [Errno 28] No space left on device: '{out}.partial'; make room, then type the command again\n",
    )
    assert left_in(tmp_path) == []


# ---- columns that are kept, labels that are asked for ----

STRANGE = ["a\tb", "two\nlines", 'say "x"', "a,b", "cr\rcr", " spaced ", "", "房间", "'single", '"', "\r\n"]


def strange(path: Path) -> list[list[str]]:
    """A .csv whose fields hold all that a table may trip over; its rows."""
    rows = [[f"{i}", texts(1, seed=i)[0], field] for i, field in enumerate(STRANGE)]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["id", "text", "Title, long"], *rows])
    return rows


@pytest.mark.parametrize(("kind", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_kept_columns_stand_behind_the_answers_and_are_read_as_they_were(run, model, tmp_path, kind, delimiter):
    rows, out = strange(tmp_path / "in.csv"), tmp_path / f"out.{kind}"
    assert run("predict", model, tmp_path / "in.csv", out, "--keep")[0] == 0
    with out.open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file, delimiter=delimiter, strict=True)
    assert head == ["row", "label", "probability", "id", "text", "Title, long"]
    assert [line[3:] for line in lines] == rows
    with open_lines(out, Reading(text_column="Title, long")) as ours:
        assert [row.text for row in read_rows(ours)] == STRANGE
    answers = expected(model, [row[1] for row in rows])
    assert [line[:2] for line in lines] == [[f"{n}", label] for n, (label, _) in enumerate(answers, 1)]


def test_columns_are_kept_by_name_number_and_in_the_order_asked(run, model, tmp_path):
    rows = strange(tmp_path / "in.csv")
    status, _, stderr = run(
        "predict", model, tmp_path / "in.csv", tmp_path / "out.jsonl", "--keep", '"Title, long",1,id'
    )
    assert (status, stderr) == (0, f"{tmp_path / 'in.csv'}: texts (text)\n"), "none is ignored"
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [list(row.items())[3:] for row in found] == [[("Title, long", row[2]), ("id", row[0])] for row in rows]


def test_columns_of_a_file_without_a_header_are_kept_by_number(run, model, tmp_path):
    path = write(tmp_path / "rows.tsv", texts(20))
    path.write_text(path.read_text(encoding="utf-8").split("\n", 1)[1], encoding="utf-8")
    assert run("predict", model, path, tmp_path / "out.tsv", "--text-column", "2", "--keep", "1")[0] == 0
    head, *lines = (tmp_path / "out.tsv").read_text(encoding="utf-8").splitlines()
    assert head.split("\t")[3:] == ["1"]
    assert [line.split("\t")[3] for line in lines] == [f"{i}" for i in range(20)]


def test_a_row_left_out_moves_no_kept_field_to_another(run, model, tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text("id\ttext\nA\ta\nB\tb\tc\nC\tc\n", encoding="utf-8")
    assert run("predict", model, path, tmp_path / "out.tsv", "--keep", "--on-error", "skip")[0] == 0
    lines = (tmp_path / "out.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert [(line.split("\t")[0], line.split("\t")[3]) for line in lines] == [("1", "A"), ("3", "C")]


def test_values_of_json_keep_their_kind_and_are_json_in_a_table(run, model, tmp_path):
    rows = [{"text": "a", "n": 7, "tags": ["x", "房"]}, {"text": "b", "n": 0.5, "tags": None}]
    (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert run("predict", model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--keep")[0] == 0
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [{name: json.loads(line)[name] for name in rows[0]} for line in lines] == rows
    assert run("predict", model, tmp_path / "in.jsonl", tmp_path / "out.csv", "--keep", "n,tags")[0] == 0
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [row[3:] for row in csv.reader(file)] == [["n", "tags"], ["7", '["x", "房"]'], ["0.5", ""]]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"text": "b", "more": 1}', "has a column 'more' that the first row has not; name those to keep, --keep"),
        ('{"text": "b", "id": "\\ud800"}', "id holds half of a surrogate pair"),
        ('{"text": "b", "id": ["\\ud800"]}', "id holds half of a surrogate pair"),
    ],
)
def test_a_row_of_which_something_would_be_lost_is_broken(refusal, model, tmp_path, row, reason):
    (tmp_path / "in.jsonl").write_text('{"text": "a", "id": "1"}\n' + row + "\n", encoding="utf-8")
    message = refusal("predict", model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--keep")
    assert f"row 2, {tmp_path / 'in.jsonl'}:2: {reason}" in message


@pytest.mark.parametrize(
    ("header", "words", "reason"),
    [
        (
            "id\ttext\tLabel",
            [],
            "its column 'Label' has the name of one of the answers; type --keep id,text, or",
        ),
        (
            "row\ttext\tid, 2",
            [],
            "its column 'row' has the name of one of the answers; type --keep 'text,\"id, 2\"',",
        ),
        ("id\ttext\tx", ["y"], "has no column 'y' to keep; type --keep id,text,x"),
        ("id\ttext\tx", ["4"], "has no column '4' to keep; type --keep id,text,x"),
        ("id\ttext\t", ["3"], "has no column '' to keep; type --keep id,text"),
        ("id\ttext\tx", [""], "has no column '' to keep; type --keep id,text,x"),
    ],
)
def test_columns_that_cannot_be_kept_are_refused_and_the_remedy_works(
    run, refusal, model, tmp_path, header, words, reason
):
    path, out = tmp_path / "rows.tsv", f"out.{'jsonl' if 'row' in header else 'tsv'}"
    path.write_text(f"{header}\n1\ta b\t2\n", encoding="utf-8")
    message = refusal("predict", model, path, tmp_path / out, "--keep", *words)
    assert f"{path}: {reason}" in message
    remedy = shlex.split(re.search("--keep .*?(?=, or|$)", message)[0])
    assert run("predict", model, path, tmp_path / out, *remedy)[0] == 0


def test_a_column_without_a_name_is_not_kept_which_is_said(run, model, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(",text\n0,a b\n", encoding="utf-8")
    _, _, stderr = run("predict", model, path, tmp_path / "out.csv", "--keep")
    assert stderr.splitlines()[0] == f"{path}: a column without a name is not kept"
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").startswith("row,label,probability,text\n")


def test_a_key_of_json_with_spaces_around_it_is_kept_as_it_is(run, model, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", " id ": 7}\n', encoding="utf-8")
    assert run("predict", model, path, tmp_path / "out.jsonl", "--keep", "id")[0] == 0
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))[" id "] == 7


def test_a_number_is_a_place_as_for_text_column_and_a_name_may_be_in_other_case(run, model, tmp_path):
    (tmp_path / "in.csv").write_text("0,1,Text\nx,y,a b\n", encoding="utf-8")
    words = ("--text-column", "text", "--keep", "1\nTEXT")
    assert run("predict", model, tmp_path / "in.csv", tmp_path / "out.csv", *words)[0] == 0
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()[0].endswith(",0,Text")


def test_a_file_without_rows_keeps_nothing(refusal, model, tmp_path):
    (tmp_path / "rows.tsv").write_text("id\ttext\n")
    assert "holds no rows" in refusal("predict", model, tmp_path / "rows.tsv", tmp_path / "out.tsv", "--keep", "id")
    assert left_in(tmp_path) == ["rows.tsv"]


ASKED = [["--keep", "id"], ["--top", "2"], ["--probabilities"]]


@pytest.mark.parametrize("words", ASKED, ids=lambda words: words[0])
def test_a_job_that_asks_for_more_is_not_gone_on_with_by_one_that_does_not(refusal, model, tmp_path, words):
    """Nor the other way."""
    path, out = tmp_path / "rows.tsv", tmp_path / "out.tsv"
    name, rows = words[0].removeprefix("--"), write(path, texts(40)).read_bytes()
    for begun, other in ((words, []), ([], words)):
        path.write_bytes(rows.replace(b"\n35\t", b"\n"))
        refusal("predict", model, path, out, *begun)
        path.write_bytes(rows)
        message = refusal("predict", model, path, out, *other)
        assert f"out.tsv.journal: begun with another {name}; take the same, or delete" in message
        Path(f"{out}.journal").unlink()


@pytest.mark.parametrize("kind", ["tsv", "jsonl"])
def test_a_job_with_kept_columns_that_was_stopped_ends_as_if_it_had_not_been(run, refusal, model, data, tmp_path, kind):
    path, out, words = tmp_path / "rows.tsv", tmp_path / f"out.{kind}", ("--keep", "id,text", "--top", 2)
    rows = write(path, texts(40)).read_bytes()
    assert run("predict", model, path, tmp_path / f"whole.{kind}", *words)[0] == 0
    path.write_bytes(rows.replace(b"\n35\t", b"\n"))
    refusal("predict", model, path, out, *words)
    assert progress(out)["rows"] > 10
    path.write_bytes(rows)
    assert run("predict", model, path, out, *words)[0] == 0
    assert out.read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()
