"""Whole data files: every row read and checked (rows.py), its label too; and rows held out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from minibert.core import data as core
from minibert.core.data import Examples
from minibert.core.encoding import Ints
from minibert.io.opening import ending_of
from minibert.io.rows import GLUED, Lines, open_lines, read_rows
from minibert.options import DELIMITERS, Reading

MISSING = ("nan", "NaN", "None", "NULL", "null", "<NA>", "#N/A")
WIDE = {0xFEE0 + code: code for code in range(0x21, 0x7F)}  # the wide forms of ASCII
WHOLE = re.compile(r"([+-]?)(0|[1-9][0-9]*)(?:\.0*)?")
SHOWN = 6  # labels, or columns, that a line names


def read_examples(
    path: str | Path,
    columns: Sequence[str] | str | None = None,
    quoting: str = "minimal",
    labelled: bool | str | None = True,
) -> Examples:
    """Reads and checks a whole data file.

    columns: the column names of a file without a header. quoting, labelled: see `read_rows`.

    Raises ValueError, with file, line and reason: the file is missing, empty, not UTF-8, of an unknown kind, lacks a
    column or has a bad row.
    """
    names = columns if isinstance(columns, str) or columns is None else ",".join(columns)
    return read_as(path, Reading(columns=names, quoting=quoting), labelled)[0]


def read_as(path: str | Path, how: Reading, labelled: bool | str | None = True) -> tuple[Examples, str]:
    """A whole data file as `how` says, and what was read, in a line. See read_examples."""
    path = Path(path)
    how.check_reading()
    texts, pairs, labels, numbers = [], [], [], []  # rows themselves would keep the garbage collector busy
    try:
        with open_lines(path, how, labelled) as lines:
            for row in read_rows(lines):
                if row.problem:
                    raise ValueError(row.problem)
                texts.append(row.text)
                pairs.append(row.pair)
                labels.append(row.label)
                numbers.append(row.line)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; give a data file" if error.strerror else str(error)) from None
    if not texts:
        raise ValueError(f"{path}: is empty or holds no rows; give at least one")
    labels = None if labels[0] is None else spelled_alike(path, labels, numbers, labelled)
    examples = Examples(texts, None if pairs[0] is None else pairs, labels, numbers, str(path))
    check_joined(examples, lines)
    count = f"{len(texts)} row{'s' * (len(texts) != 1)}"
    return examples, f"{path.name}: {count}, {what_is_read(lines)}{labels_read(examples, lines)}{aside(lines)}"


def spelled_alike(
    path: Path, labels: Sequence[str], numbers: Sequence[int], labelled: bool | str | None
) -> Sequence[str]:
    """Labels, those that mean the same in one spelling: numbers as whole ones, else the first that is there.

    Raises ValueError: a label is what pandas and others write where there is none.
    """
    first: dict[str, str] = {}
    spelled: dict[str, str] = {}  # label as it stands -> as it is meant
    for label, line in zip(labels, numbers, strict=True):
        if label not in spelled:
            parts = [part.strip() for part in label.split("|")]
            if absent := next((part for part in parts if part in MISSING), None):
                raise ValueError(
                    f"{path}:{line}: the label is {absent}, which means that there is none; delete the row, or call"
                    " the label by another word"
                )
            spelled[label] = "|".join(first.setdefault(meant(part), spelling(part)) for part in parts)
    if labelled == "number":
        return labels
    return [spelled[label] for label in labels]


def spelling(label: str) -> str:
    """A whole number's usual one; of all else its own."""
    return meant(label) if WHOLE.fullmatch(label.translate(WIDE)) else label


def meant(label: str) -> str:
    """What labels that mean the same have in common: 1, 1.0 and a wide １; True and TRUE."""
    label = label.strip().translate(WIDE)
    if number := WHOLE.fullmatch(label):
        return f"{'-' * (number[1] == '-' and number[2] != '0')}{number[2]}"
    return label.lower() if label.lower() in ("true", "false") else label


def check_joined(examples: Examples, lines: Lines) -> None:
    """Refuses a text that holds other rows, which a quote at its beginning has joined: each of its lines begins, or
    ends, with a label as a row does."""
    if lines.layout.kind != "table" or examples.labels is None or len(lines.columns) < 2:
        return
    place, known = lines.columns.index(lines.names["label"]), set(examples.labels)
    mark = lines.layout.delimiter
    several = [
        (text.split("\n"), line) for text, line in zip(examples.texts, examples.lines, strict=True) if "\n" in text
    ]
    for parts, line in several:
        if place == 0:
            labels = [part.partition(mark)[0] for part in parts[1:] if mark in part]
        elif place == len(lines.columns) - 1:
            labels = [part.rstrip("\r").rpartition(mark)[2] for part in parts[:-1] if mark in part]
        else:
            continue
        if len(labels) == len(parts) - 1 and known.issuperset(labels):
            raise ValueError(f"{examples.source}:{line}: {GLUED}")


def check_shapes(splits: Sequence[Examples | None]) -> None:
    """Refuses files of which one has pairs and another single texts."""
    given = [rows for rows in splits if rows is not None]
    for rows in given[1:]:
        if (rows.pairs is None) != (given[0].pairs is None):
            here, there = ("single texts" if one.pairs is None else "pairs" for one in (rows, given[0]))
            raise ValueError(
                f"{rows.source}: holds {here}, but {given[0].source} {there}; give files alike, or name the columns by"
                " --text-column, --pair-column"
            )


def what_is_read(lines: Lines) -> str:
    """ "texts (review)" or "pairs (sentence1, sentence2)"."""
    names = [lines.names[kind].strip() for kind in ("text", "pair") if kind in lines.names]
    return f"{'pairs' if len(names) > 1 else 'texts'} ({', '.join(names)})"


def labels_read(examples: Examples, lines: Lines) -> str:
    """The labels by number, and the column, if it is not called so."""
    if examples.labels is None:
        return ""
    name = lines.names["label"].strip()
    column = "" if name.lower() == "label" else f" ({name})"
    if lines.labelled == "number":
        return f", labels{column} {examples.labels[0]}, …"
    each = examples.labels
    if lines.labelled == "many":
        each = [part.strip() for label in each for part in label.split("|")]
    counts = Counter(each)
    shown = ", ".join(f"{label[:30]} ({n})" for label, n in counts.most_common(SHOWN))
    return f", {len(counts)} label{'s' * (len(counts) != 1)}{column}: {shown}{', …' * (len(counts) > SHOWN)}"


def aside(lines: Lines) -> str:
    """What is not as one would think: the encoding, the delimiter; and the columns that are not used."""
    layout, words = lines.layout, ""
    usual = "," if ending_of(lines.path) == ".csv" else "\t"
    if layout.kind == "table" and layout.delimiter != usual:
        words += f", columns by {next((n for n, d in DELIMITERS.items() if d == layout.delimiter), 'delimiter')}"
    if layout.kind != "table" and not layout.newline:
        words += ", lines ended by carriage returns"
    if layout.encoding != "utf-8-sig":
        words += f", read as {layout.encoding}"
    used = (*lines.names.values(), *lines.keep)
    ignored = [name.strip()[:30] for name in lines.columns if name.strip() and name not in used]
    if ignored:
        words += f"; ignored: {', '.join(ignored[:SHOWN])}{', …' * (len(ignored) > SHOWN)}"
    return words


def label_ids(examples: Examples, names: Sequence[str]) -> Ints:
    """Labels as numbers, [N]; ValueError for one that is not among the names.

    As core's, however they are spelled (`meant`); where classes have no names but transformers' LABEL_0, LABEL_1 …,
    0, 1 … mean them too.
    """
    own = {}
    for name in reversed(names):
        own[meant(name)] = name
    labels = [label if label in names else own.get(meant(label), label) for label in examples.labels]
    examples = replace(examples, labels=labels)
    if list(names) == (unnamed := [f"LABEL_{i}" for i in range(len(names))]):
        numbers = {str(i): name for i, name in enumerate(unnamed)}
        examples = replace(examples, labels=[numbers.get(label, label) for label in examples.labels])
    return core.label_ids(examples, names)


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Splits rows at random: (what remains, what is held out), each in the order of the file.

    share: of all rows, to be held out; one row at least. The same seed draws the same rows.
    """
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    count = max(1, round(share * len(examples)))
    return take(examples, sorted(order[count:])), take(examples, sorted(order[:count]))


def take(examples: Examples, rows: Sequence[int]) -> Examples:
    """Some of the rows."""
    columns = (examples.texts, examples.pairs, examples.labels, examples.lines)
    some = ([column[row] for row in rows] if column is not None else None for column in columns)
    return Examples(*some, examples.source)
