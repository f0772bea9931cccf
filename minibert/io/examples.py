"""Whole data files: every row read and checked (rows.py), its label too; and rows held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from minibert.core import data as core
from minibert.core.data import Examples
from minibert.core.encoding import Ints
from minibert.io.rows import check_row, find_columns, open_lines, parse


def read_examples(
    path: str | Path, columns: Sequence[str] | None = None, quoting: str = "minimal", labelled: bool | None = True
) -> Examples:
    """Reads and checks a whole data file.

    Args:
        columns: the column names of a file without a header.
        quoting: "minimal", a field may stand in double quotes; "none", a quote is a character like any other (GLUE).
        labelled: whether a label column must be there; None takes one that is. False leaves it unread.

    Raises:
        ValueError: the file is missing, empty, not UTF-8, of an unknown kind, lacks a column or has a bad row; with
            file, line and reason.
    """
    path = Path(path)
    if path.suffix.lower() not in (".tsv", ".csv", ".jsonl"):
        raise ValueError(f"{path}: unknown kind of file {path.suffix!r}; use .tsv, .csv or .jsonl")
    if quoting not in ("minimal", "none"):
        raise ValueError(f"quoting {quoting!r} is unknown; choose minimal or none")
    rows = []
    try:
        with open_lines(path) as lines:
            for line, fields, problem in parse(lines, columns, quoting):
                if problem is not None:
                    raise ValueError(problem)
                rows.append((line, fields))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; give a data file") from None
    if not rows:
        raise ValueError(f"{path}: is empty or holds no rows; give at least one")
    names = find_columns(list(dict.fromkeys(name for _, fields in rows for name in fields)), path, labelled)
    for line, fields in rows:
        check_row(f"{path}:{line}", fields, names)
    picked = {kind: [fields[name] for _, fields in rows] for kind, name in names.items()}
    labels = [str(label).strip() for label in picked["label"]] if "label" in picked else None
    return Examples(picked["text"], picked.get("pair"), labels, [line for line, _ in rows], source=str(path))


def label_ids(examples: Examples, names: Sequence[str]) -> Ints:
    """Labels as numbers, [N]; ValueError for one that is not among the names.

    As core's; where classes have no names but transformers' LABEL_0, LABEL_1 …, 0, 1 … mean them too.
    """
    if list(names) == (unnamed := [f"LABEL_{i}" for i in range(len(names))]):
        meant = {str(i): name for i, name in enumerate(unnamed)}
        examples = replace(examples, labels=[meant.get(label, label) for label in examples.labels])
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
