"""The data of a fine-tuning run: files as they are read, the splits of them, and what is doubtful there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from numpy.typing import NDArray

from minibert.core.data import Examples
from minibert.io.examples import read_as
from minibert.io.findings import Finding
from minibert.io.labels import LABELLED
from minibert.io.stderr import say
from minibert.text.data_doubts import Doubts, keys_of, leak
from minibert.text.tokenizer import Encoding, Tokenizer
from minibert.training.options import TrainOptions


@dataclass
class Split:
    """One data file: its rows, their encodings, their labels as numbers [N]."""

    examples: Examples
    encoding: Encoding
    labels: NDArray  # as label_values has them: int64 [N], float32 [N, L] or [N]


def read_split(options: TrainOptions, path: str | None) -> Examples | None:
    if path is None:
        return None
    rows, line = read_as(path, options, LABELLED[options.task])
    say(line)
    return rows


def doubts(tokenizer: Tokenizer, files: dict[str, Examples], splits: dict[str, Split], limit: int) -> Iterator[Finding]:
    """What is worth a line about the files as they were read and the splits of them."""
    for name, file in files.items():
        rows = splits[name].examples
        yield from Doubts(tokenizer, limit).about(file.source, rows.texts, rows.pairs, splits[name].encoding)
    for earlier, file in combinations(files.values(), 2):
        yield from leak(file.source, keys_of(file), earlier.source, keys_of(earlier))
    if "dev" not in files:
        rows, source = splits["dev"].examples, files["data"].source
        yield from leak(f"rows held out of {source}", keys_of(rows), source, keys_of(splits["data"].examples))
