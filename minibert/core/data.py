"""From a data file to batches: its rows, their labels as numbers, rectangles of token ids in the order of an epoch.

A file is a clean UTF-8 .tsv, .csv or .jsonl whose header (whose keys) names its columns; others are ignored:

    label   text                          text may be called text_a, sentence, sentence1 or review
    好      房间很干净，下次还住          for pairs there is text_b or sentence2 as well
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from . import files
from .encoding import Encoding, Ints

COLUMNS = {
    "label": ("label",),
    "text": ("text", "text_a", "sentence", "sentence1", "review"),
    "pair": ("text_b", "sentence2"),
}
DELIMITERS = {".tsv": "\t", ".csv": ",", ".jsonl": None}


@dataclass(frozen=True)
class Examples:
    """The rows of one file, in order: `lines[i]` is where row i stands, for messages."""

    texts: list[str]
    pairs: list[str] | None
    labels: list[str] | None
    lines: list[int]
    source: str

    def __len__(self) -> int:
        return len(self.texts)


def read_examples(path: str | Path) -> Examples:
    """The rows of a whole file. Raises ValueError, with file, line and remedy, for what cannot be used."""
    path = Path(path)
    rows = list(read_rows(path))
    keys = rows[0][1] if rows else {}
    columns = {kind: name for kind, known in COLUMNS.items() for name in reversed(known) if name in keys}
    if "label" not in columns or "text" not in columns:
        raise ValueError(
            f"{path}: the columns are {list(keys)}; name one label and one of {', '.join(COLUMNS['text'])}"
        )
    for line, row in rows:
        for name in columns.values():
            if None in row or not isinstance(row.get(name), str):  # None: DictReader's key of what is too much
                raise ValueError(f"{path}:{line}: {name} is {row.get(name)!r}; give one string for each column")
    picked = {kind: [row[name] for _, row in rows] for kind, name in columns.items()}
    labels = [label.strip() for label in picked["label"]]
    return Examples(picked["text"], picked.get("pair"), labels, [line for line, _ in rows], str(path))


def read_rows(path: Path) -> Iterator[tuple[int, dict[str | None, object]]]:
    """Each row's line and its fields by column; whole numbers as text. Raises ValueError, see read_examples."""
    if path.suffix not in DELIMITERS:
        raise ValueError(f"{path}: unknown kind of file {path.suffix!r}; use .tsv, .csv or .jsonl")
    text, line = files.read_text(path, "give a data file", float("inf")), 0
    try:
        if path.suffix == ".jsonl":
            for line, row in enumerate(text.split("\n"), 1):
                if row.strip():
                    yield line, dict(json.loads(row, parse_int=str))
        else:
            table = csv.DictReader(io.StringIO(text, newline=""), delimiter=DELIMITERS[path.suffix], strict=True)
            for row in table:
                yield (line := table.line_num), row
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        raise ValueError(f"{path}:{max(1, line)}: cannot be read ({error}); repair this row or the one below") from None


def label_names(examples: Examples) -> list[str]:
    """The classes of a training file: numbers in numeric order, then names in alphabetical order. ValueError: one."""
    numbers = {name for name in examples.labels if re.fullmatch("-?[0-9]+", name)}
    names = sorted(numbers, key=lambda name: (int(name), name)) + sorted(set(examples.labels) - numbers)
    if len(names) < 2:
        raise ValueError(f"{examples.source}: every row has the label {names[0]!r}; give two classes or more")
    return names


def label_ids(examples: Examples, names: Sequence[str]) -> Ints:
    """Labels as their places in `names`, [N]. Raises ValueError for a label that the model was not trained on."""
    index = {name: i for i, name in enumerate(names)}
    for label, line in zip(examples.labels, examples.lines, strict=True):
        if label not in index:
            known = ", ".join(names)[:200]
            raise ValueError(f"{examples.source}:{line}: label {label!r} is none of the training data's {known}")
    return np.array([index[label] for label in examples.labels], np.int64)


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch. It depends on seed and epoch alone, so a resumed run yields the same batches."""
    return np.random.default_rng((seed, epoch)).permutation(count).tolist()


def chunks(order: Sequence[int], size: int) -> list[Sequence[int]]:
    """Consecutive runs of `size`, the last may be shorter. Raises ValueError for a size below 1."""
    if size < 1:
        raise ValueError(f"batch_size is {size}; it must be at least 1")
    return [order[start : start + size] for start in range(0, len(order), size)]


def collate(encoding: Encoding, labels: Ints, rows: Sequence[int], pad_id: int) -> tuple[Tensor, ...]:
    """Some rows as input_ids, attention_mask and token_type_ids, each int64 [B, S], and their labels [B].

    encoding: of all texts, with padding="none". S is the longest row's length; the others get `pad_id`, 0 and 0.
    """
    columns = ((encoding.input_ids, pad_id), (encoding.attention_mask, 0), (encoding.token_type_ids, 0))
    padded = (pad_sequence([torch.from_numpy(column[row]) for row in rows], True, value) for column, value in columns)
    return *padded, torch.from_numpy(labels[np.asarray(rows)])


class Loader:
    """Batches as `collate` makes them. Each pass over it is the next epoch, in another order.

    names: of the classes, by their numbers. tokenizer: the Tokenizer of tokenizer.py. max_length: in tokens.
    seed: of the orders; None: always as the rows stand in the file.
    """

    def __init__(
        self,
        examples: Examples,
        names: Sequence[str],
        tokenizer: Callable[..., Encoding],
        batch_size: int = 32,
        max_length: int = 128,
        seed: int | None = None,
    ) -> None:
        self.labels = label_ids(examples, names)  # [N]
        self.encoding = tokenizer(examples.texts, examples.pairs, max_length=max_length, padding="none")
        self.pad_id, self.batch_size, self.seed, self.epoch = tokenizer.pad_id, batch_size, seed, 0

    def __len__(self) -> int:
        return len(chunks(range(len(self.labels)), self.batch_size))

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        order = range(len(self.labels)) if self.seed is None else shuffled(len(self.labels), self.seed, self.epoch)
        self.epoch += 1
        for rows in chunks(order, self.batch_size):
            yield collate(self.encoding, self.labels, rows, self.pad_id)
