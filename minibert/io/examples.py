"""Whole data files: every row read and checked (rows.py), its label too; and rows held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from minibert.core import data as core
from minibert.core.data import Examples
from minibert.core.encoding import Ints
from minibert.io.rows import Row, open_lines, read_rows


def read_examples(
    path: str | Path,
    columns: Sequence[str] | None = None,
    quoting: str = "minimal",
    labelled: bool | str | None = True,
) -> Examples:
    """Reads and checks a whole data file.

    columns, quoting, labelled: see `read_rows`.

    Raises ValueError, with file, line and reason: the file is missing, empty, not UTF-8, of an unknown kind, lacks a
    column or has a bad row.
    """
    path = Path(path)
    if path.suffix.lower() not in (".tsv", ".csv", ".jsonl"):
        raise ValueError(f"{path}: unknown kind of file {path.suffix!r}; use .tsv, .csv or .jsonl")
    if quoting not in ("minimal", "none"):
        raise ValueError(f"quoting {quoting!r} is unknown; choose minimal or none")
    rows: list[Row] = []
    try:
        with open_lines(path) as lines:
            for row in read_rows(lines, columns, quoting, labelled):
                if row.problem:
                    raise ValueError(row.problem)
                rows.append(row)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; give a data file") from None
    if not rows:
        raise ValueError(f"{path}: is empty or holds no rows; give at least one")
    pairs = None if rows[0].pair is None else [row.pair for row in rows]
    labels = None if rows[0].label is None else [row.label for row in rows]
    return Examples([row.text for row in rows], pairs, labels, [row.line for row in rows], str(path))


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
