"""The labels of a data file as numbers: of one class, of several labels at once, or numbers that are meant as such.

Several labels of a row are joined by `|`, or are a list in a .jsonl; none is an empty field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from minibert.core import data as core
from minibert.core.data import Examples
from minibert.io.examples import label_ids
from minibert.io.stderr import say

FEW = 20  # rows that may have a label each
WHOLE = re.compile("[+-]?[0-9]+")
LARGEST = float(np.finfo(np.float32).max)
LABELLED = {"classification": True, "multi-label": "many", "regression": "number"}  # task -> as read_rows has it


def names_of(examples: Examples, task: str) -> list[str]:
    """The classes or labels of a training file, in core's order; of a regression the one name that is used for it.

    Raises ValueError: there are no two classes, no label, or the labels are those of another task.
    """
    if task == "regression":
        return ["LABEL_0"]
    if task == "multi-label":
        flat = replace(examples, labels=sorted({name for names in label_sets(examples) for name in names}))
        if not flat.labels:
            raise ValueError(f"{examples.source}: no row has a label; give some rows one or more, such as a|b")
        return flat.labels if len(flat.labels) == 1 else core.label_names(flat)
    numbers = [as_number(label) for label in examples.labels]
    for label, line in zip(examples.labels, examples.lines, strict=True):
        if None not in numbers and not WHOLE.fullmatch(label):
            raise ValueError(
                f"{examples.source}:{line}: label {label!r} is a number and no class; type --task regression, or call"
                " classes 0, 1, 2 … or by words"
            )
    if len({*examples.labels}) == len(examples) > FEW:
        raise ValueError(
            f"{examples.source}: has {len(examples)} labels in {len(examples)} rows, such as"
            f" {examples.labels[0][:40]!r}; name the --label-column, or type --task regression if labels are numbers"
        )
    if joined := next((label for label in examples.labels if "|" in label), None):
        say(f"{examples.source}: {joined!r} is read as the name of one class; --task multi-label reads several")
    return core.label_names(examples)


def label_values(examples: Examples, names: Sequence[str], task: str) -> NDArray:
    """Labels as numbers: classes int64 [N], several at once float32 [N, L] of 0 and 1, numbers float32 [N].

    Raises ValueError, with file and line: a label is not among the names, or is no number.
    """
    if task == "classification":
        return label_ids(examples, names)
    if task == "multi-label":
        sets = label_sets(examples)
        rows = [row for row, labels in enumerate(sets) for _ in labels]
        lines = [examples.lines[row] for row in rows]
        flat = replace(examples, labels=[label for labels in sets for label in labels], lines=lines)
        values = np.zeros((len(sets), len(names)), np.float32)
        values[rows, label_ids(flat, names)] = 1
        return values
    numbers = [as_number(label) for label in examples.labels]
    for number, label, line in zip(numbers, examples.labels, examples.lines, strict=True):
        if number is None:
            raise ValueError(
                f"{examples.source}:{line}: label {label!r} is no number, as a regression needs; write one there, or"
                " train with --task classification"
            )
    return np.array(numbers, np.float32)


def as_number(label: str) -> float | None:
    """None: it is none, or none that float32 holds."""
    try:
        number = math.nan if "_" in label else float(label)  # Python reads 1_000, which others mean as a name
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) <= LARGEST else None


def label_sets(examples: Examples) -> list[list[str]]:
    """The labels of each row. ValueError: one has an empty name."""
    sets = []
    for label, line in zip(examples.labels, examples.lines, strict=True):
        sets.append([name.strip() for name in label.split("|")] if label else [])
        if "" in sets[-1]:
            raise ValueError(f"{examples.source}:{line}: label {label!r} has an empty name; write a|b for two labels")
    return sets
