"""Whole data files: every row read and checked (rows.py), its label too; and rows held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minibert.core.data import Examples
from minibert.rows import check_row, find_columns, open_lines, parse


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


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Splits rows at random, reproducibly: (what remains, the share held out)."""
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    count = max(1, round(share * len(examples)))
    return examples.take(sorted(order[count:])), examples.take(sorted(order[:count]))
