"""Reads mutated data files as the commands do: no traceback, no hang, a short line of error, one truth.

    python tests/fuzz_data.py                          # 10,000 files, about 6 minutes of one core
    python tests/fuzz_data.py --from 4000 --seed 1     # the rest of another 10,000
    python tests/fuzz_data.py --from 17 --cases 1 --processes 1 --keep /tmp/seen    # leaves what case 17 has read

A file is drawn row by row (kind, delimiter, header, quotes, line ends, encoding, nasty texts and labels), then some of
its bytes are changed. It is read by `train`, which is stopped before its model, and by evaluate, predict, embed and
doctor, some with options. Where core's plain reader accepts a file, io's has to give the same rows or refuse. What else
counts as a fault stands in fuzz_runner.py.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import sys
from pathlib import Path

import fuzz_files
import fuzz_runner
from fuzz_runner import Call, Case

from minibert import cli
from minibert.core import data as core
from minibert.io.examples import meant, read_examples
from minibert.training import fine_tuning
from minibert.training.ranks import Ranks

TEXTS = ("good room", "bad film, not clean", "房间很干净", "a\tb", "a;b|c", 'say "hi"', '"', "'", "  ", "", "a\nb")
TEXTS += ("\r", "x" * 3000, "text", "=1+1", "\\N")
TEXTS += ("\0", "\x1b[31mred", "\u2028", "\ufeffgood", "\u202eabc", "é è ü", "😀", "\ud83d", "ﬁ １２", "label")
LABELS = ("yes", "no", "0", "1", "1.0", "１", "True", "TRUE", "好", "", " ", "nan", "None", "a|b", "-1", "0.5")
LABELS += ("1e3", "x" * 300)
HEADS = (["label", "text"], ["text", "label"], ["label", "text", "text_b"], ["id", "sentence1", "sentence2", "label"])
HEADS += (["标签", "内容"], ["category", "content"], ["review", "label"], ["label", "text", "text"], ["", "a", "b"])
HEADS += (["premise", "hypothesis", "label"], ["text"], ["\x1b[31m", "text", "label"], ["label", "text", "", ""])
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "big5", "cp1252", "latin-1")
ENDINGS = (".tsv", ".csv", ".jsonl", ".json", ".txt")
SMALL = 20_000_000  # bytes that both readers are compared on
STRANGE = (None, 1, 1.5, True, [], ["a", "b"], {}, {"a": 1}, 10**30, float("nan"), [["deep"]])
OPTIONS = (["--quoting", "none"], ["--columns", "label,text"], ["--columns", "text"], ["--delimiter", "tab"])
OPTIONS += (["--delimiter", ";"], ["--encoding", "latin-1"])
OPTIONS += (["--encoding", "gb18030"], ["--encoding", "utf-16"], ["--encoding", "cp1252"], ["--text-column", "2"])
OPTIONS += (["--text-column", "text", "--label-column", "1"], *(["--format", name[1:]] for name in ENDINGS))


def prepare(home: Path) -> None:
    fuzz_files.model(home / "model")
    fuzz_files.model(home / "several", problem_type="multi_label_classification")
    (home / "first").mkdir()
    os.chdir(home / "first")
    Path("data.tsv").write_text("label\ttext\nyes\ta\nno\tb\n", encoding="utf-8")
    cli.COMMANDS["train"] = (cli.COMMANDS["train"][0], read_only)
    for call in commands("data.tsv", "../model", "out.tsv", [], []):
        fuzz_runner.called(cli.main, call.words)


def read_only(options: object) -> None:
    """All that `train` does before it trains."""
    fine_tuning.prepare(options.filled(), Path("run"), Ranks())


# ---- files ----


def drawn_rows(dice: random.Random) -> tuple[list[str], list[list[object]]]:
    """A header and rows, most of them whole."""
    head, nasty = dice.choice(HEADS), dice.choice((0, 0, 0.1, 0.5))
    labels = dice.choice((LABELS[:2], LABELS[:2], LABELS[2:4], LABELS))
    rows: list[list[object]] = []
    for number in range(dice.choice((0, 1, 3, 8, 8, 40))):
        row: list[object] = []
        for name in head:
            is_label = name in ("label", "标签", "category")
            text = dice.choice(TEXTS) if dice.random() < nasty else f"{dice.choice(TEXTS[:3])} {number}"
            row.append(dice.choice(labels) if is_label else text)
        rows.append(row if dice.random() < 0.98 else row[: dice.randrange(len(row) + 1)] + ["more"] * dice.randrange(3))
    return head, rows


def as_table(dice: random.Random, head: list[str], rows: list[list[object]]) -> str:
    file = io.StringIO()
    style = {"delimiter": dice.choice("\t\t,,;|"), "lineterminator": dice.choice(("\n", "\n", "\r\n", "\r"))}
    lines = [head, *rows] if dice.random() < 0.8 else rows
    if dice.random() < 0.3:  # quotes are plain text
        return "".join(style["delimiter"].join(map(str, row)) + style["lineterminator"] for row in lines)
    csv.writer(file, quoting=dice.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)), **style).writerows(lines)
    return file.getvalue()


def as_json(dice: random.Random, head: list[str], rows: list[list[object]]) -> str:
    if dice.random() < 0.2:
        rows = [[dice.choice(STRANGE) if dice.random() < 0.3 else value for value in row] for row in rows]
    records = [dict(zip(head, row, strict=False)) for row in rows]
    ascii_only, how = dice.random() < 0.5, dice.random()
    if how < 0.6:
        return "".join(json.dumps(record, ensure_ascii=ascii_only) + "\n" for record in records)
    whole: object = records
    if how > 0.95:
        whole = {"data": records}
    elif how > 0.85:
        whole = {name: [record.get(name) for record in records] for name in head}
    return json.dumps(whole, ensure_ascii=ascii_only, indent=dice.choice((None, 2)))


def drawn_file(dice: random.Random) -> tuple[str, bytes]:
    """The name of a data file, and what it holds."""
    kind = dice.choice(("table", "table", "json", "texts"))
    head, rows = drawn_rows(dice)
    if kind == "texts":
        text = "".join(f"{dice.choice(TEXTS)}\n" for _ in rows)
    else:
        text = (as_table if kind == "table" else as_json)(dice, head, rows)
    ending = dice.choice(ENDINGS) if dice.random() < 0.3 else {"table": ".tsv", "json": ".jsonl", "texts": ".txt"}[kind]
    if kind == "table" and ending == ".tsv" and dice.random() < 0.5:
        ending = ".csv"
    encoding = dice.choice(ENCODINGS) if dice.random() < 0.25 else "utf-8"
    data = text.encode(encoding, dice.choice(("replace", "ignore")))
    name = dice.choice(("data", "data", "data", "da\nta", "d\x1b[31m", "a" * 200, "好 1"))
    return f"{name}{ending}", data


def changed(dice: random.Random, data: bytes) -> tuple[str, bytes]:
    """What was done to the bytes, and what they are now."""
    done = []
    while dice.random() < 0.45:
        change = dice.choice(fuzz_files.BYTES)
        data = change(dice, data)
        done.append(change.__name__)
    how = dice.random()
    if how < 0.002:
        data, done = data + b"x" * 70_000_000, [*done, "an endless line"]
    elif how < 0.004:
        data, done = b"[" * dice.choice((3000, 300_000)) + data, [*done, "depth"]
    elif how < 0.006:
        data, done = b"\0" * 3_000_000 + data, [*done, "zeros"]
    elif how < 0.03:
        data, done = gzip.compress(data, 1), [*done, "gzip"]
        data = data if dice.random() < 0.5 else dice.choice(fuzz_files.BYTES)(dice, data)
    elif how < 0.032:
        data, done = gzip.compress(bytes(200_000_000), 1), [*done, "a bomb"]
    return ", ".join(done), data


# ---- both readers ----


def compare(path: str) -> list[str]:
    """Where io's reader gives other rows than core's, which no command reads with and which bounds no line."""
    if os.path.isfile(path) and os.path.getsize(path) > SMALL:
        return []
    try:
        plain = core.read_examples(path)
    except (ValueError, OSError):
        return []
    try:
        full = read_examples(path)
    except (ValueError, OSError):
        return []  # it looks at more
    wrong = []
    for name in ("texts", "pairs"):
        if getattr(plain, name) != getattr(full, name):
            wrong.append(f"{name}: core {str(getattr(plain, name))[:300]}, io {str(getattr(full, name))[:300]}")
    if [meant(label) for label in plain.labels] != [meant(label) for label in full.labels]:
        wrong.append(f"labels: core {plain.labels[:9]}, io {full.labels[:9]}")
    return wrong


def make(dice: random.Random) -> Case:
    name, data = drawn_file(dice)
    done, data = changed(dice, data)
    if dice.random() < 0.02:
        name += ".gz"
    path = Path(name)
    path.write_bytes(data)
    if dice.random() < 0.01:
        fuzz_files.change_path(dice, path, sizes=(50_000_000,))
        done += ", path"
    more = dice.choice(OPTIONS) if dice.random() < 0.25 else []
    model = dice.choice(("../model", "../model", "../several"))
    out = ["--on-error", "skip"] * (dice.random() < 0.3)
    calls = commands(name, model, dice.choice(("out.tsv", "out.jsonl")), more, out)
    return Case(f"{name[:20]!r} {len(data)} bytes, {done}", dice.sample(calls, 2), lambda: compare(name))


def commands(name: str, model: str, out: str, more: list[str], how: list[str]) -> list[Call]:
    """All that read a data file. more: options of all, how: of those that write an output."""
    return [
        Call(["train", "--data", name, "--model", "../model", "--max-length", "16", *more]),
        Call(["evaluate", model, "--data", name, *more]),
        Call(["predict", model, "--data", name, "--out", out, *more, *how]),
        Call(["embed", "../model", "--data", name, "--out", "out.npy", *more, *how]),
        Call(["doctor", "../model", "--data", name, *more], (0, 1, 2)),
    ]


if __name__ == "__main__":
    sys.exit(fuzz_runner.main("fuzz_data", __doc__))
