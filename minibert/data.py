"""From a data file to batches: read and check every row, encode once, deal out batches.

A file is `.tsv`, `.csv` or `.jsonl`, UTF-8, with a header (or `columns`) that names its columns:

    label   text                 any other columns are ignored; for pairs there is text_b as well
    好      房间很干净，下次还住
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minibert.core import data as core
from minibert.core.config import BertConfig
from minibert.core.data import Examples, chunks, shuffled
from minibert.core.files import read_text
from minibert.fast.layout import Packed, upload
from minibert.tokenizer import Encoding, Tokenizer

# Column names in use: GLUE's, CLUE's and those of the common Chinese sentiment sets; compared in lower case.
COLUMNS = {
    "label": (*core.COLUMNS["label"], "quality"),
    "text": (*core.COLUMNS["text"], "#1 string"),
    "pair": (*core.COLUMNS["pair"], "#2 string"),
}

WINDOW = 50  # batches that share out their rows by length: enough to find equals, few enough to stay random


# ---- reading ----


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
    kind = path.suffix.lower()
    if kind not in (".tsv", ".csv", ".jsonl"):
        raise ValueError(f"{path}: unknown kind of file {kind!r}; use .tsv, .csv or .jsonl")
    if quoting not in ("minimal", "none"):
        raise ValueError(f"quoting {quoting!r} is unknown; choose minimal or none")
    text = read_text(path, "give a data file")
    rows = list(read_jsonl(text, path) if kind == ".jsonl" else read_table(text, path, columns, quoting))
    if not rows:
        raise ValueError(f"{path}: {'holds no rows' if text.strip() else 'is empty'}; give at least one")
    names = find_columns(list(dict.fromkeys(name for _, row in rows for name in row)), path, labelled)
    for line, row in rows:
        check_row(f"{path}:{line}", row, names)
    picked = {kind: [row[name] for _, row in rows] for kind, name in names.items()}
    if "label" in picked:
        picked["label"] = [str(label).strip() for label in picked["label"]]
    return Examples(
        picked["text"], picked.get("pair"), picked.get("label"), [line for line, _ in rows], source=str(path)
    )


Row = tuple[int, dict[str, object]]  # the line it begins on, and its fields by column


def read_table(text: str, path: Path, columns: Sequence[str] | None, quoting: str) -> Iterator[Row]:
    """The rows of a .tsv or .csv, with the line each begins on."""
    csv.field_size_limit(2**31 - 1)  # a text may be long; the default stops at 131,072
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter="," if path.suffix.lower() == ".csv" else "\t",
        quoting=csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    header = None if columns is None else [name.strip() for name in columns]
    line = 1
    try:
        for fields in reader:
            if header is None:
                header = [name.strip() for name in fields]
                if repeated := [name for name in header if name and header.count(name) > 1]:
                    raise ValueError(f"{path}:{line}: two columns are named {repeated[0]!r}; rename one")
            elif line == 1 and is_header(fields):
                raise ValueError(f"{path}:1: is a header ({', '.join(fields)[:100]}); leave --columns out")
            elif fields:
                if len(fields) != len(header):
                    raise ValueError(
                        f"{path}:{line}: has {len(fields)} columns, not the {len(header)} of {', '.join(header)}; is"
                        " the row cut off, or a delimiter inside a text? (quotes that are plain text: --quoting none)"
                    )
                yield line, dict(zip(header, fields, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}:{line}: a quoted field is not closed properly ({error}); if quotes are plain text here, use"
            " --quoting none"
        ) from None


def is_header(fields: Sequence[str]) -> bool:
    """Whether a row names both a label and a text column."""
    names = {name.strip().lower() for name in fields}
    return all(names & set(COLUMNS[kind]) for kind in ("label", "text"))


def read_jsonl(text: str, path: Path) -> Iterator[Row]:
    """The objects of a .jsonl, one a line."""
    for line, raw in enumerate(text.split("\n"), 1):
        if not raw.strip():
            continue
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}:{line}: not JSON ({error}); write one object a line") from None
        if not isinstance(row, dict):
            raise ValueError(f'{path}:{line}: holds a {type(row).__name__}, not an object such as {{"text": …}}')
        yield line, row


def find_columns(columns: Sequence[str], path: Path, labelled: bool | None) -> dict[str, str]:
    """Which column of the file is the label, the text and the pair."""
    present = {name.strip().lower(): name for name in columns}
    found = {}
    for kind, known in COLUMNS.items():
        name = next((present[alias] for alias in known if alias in present), None)
        if name is not None:
            found[kind] = name
        elif kind == "text" or (kind == "label" and labelled):
            raise ValueError(
                f"{path}: has no {kind} column; its columns are {', '.join(map(repr, columns))[:300]}. A header must"
                f" name one of {', '.join(known)}; for a file without a header use --columns"
            )
    if labelled is False:
        found.pop("label", None)
    return found


def check_row(place: str, row: dict[str, object], names: dict[str, str]) -> None:
    """One row's fields: strings that are UTF-8, and a label that is not empty. An empty text is fine."""
    for kind, name in names.items():
        value = row.get(name)
        if kind == "label" and isinstance(value, int):
            continue  # a class number; only JSON has them
        if not isinstance(value, str):
            raise ValueError(f"{place}: {name} is {'missing' if value is None else repr(value)[:80]}; give a string")
        if kind == "label" and not value.strip():
            raise ValueError(f"{place}: the label is empty; give every row one")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{place}: {name} holds half of a surrogate pair, which is no character; repair the row"
            ) from None


# ---- labels ----


def label_ids(examples: Examples, names: Sequence[str]) -> NDArray[np.int64]:
    """As core's; where classes have no names but transformers' LABEL_0, LABEL_1 …, 0, 1 … mean them too."""
    if list(names) == (unnamed := [f"LABEL_{i}" for i in range(len(names))]):
        meant = {str(i): name for i, name in enumerate(unnamed)}
        examples = replace(examples, labels=[meant.get(label, label) for label in examples.labels])
    return core.label_ids(examples, names)


# ---- rows held out ----


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Splits rows at random, reproducibly: (what remains, the share held out)."""
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    count = max(1, round(share * len(examples)))
    return take(examples, sorted(order[count:])), take(examples, sorted(order[:count]))


def take(examples: Examples, rows: Sequence[int]) -> Examples:
    """Some of the rows."""
    columns = (examples.texts, examples.pairs, examples.labels, examples.lines)
    return Examples(*(None if column is None else [column[row] for row in rows] for column in columns), examples.source)


# ---- batches ----


class Batch(NamedTuple):
    """What a model takes, in its order, then the labels (zeros where there are none); all int64, on one device.

    Padded it has a mask and no layout, packed a layout and no mask.
    """

    input_ids: Tensor  # [B, S]; packed [T]
    attention_mask: Tensor | None  # [B, S]
    token_type_ids: Tensor  # [B, S]; packed [T]
    layout: Packed | None
    labels: Tensor  # [B]


def check_vocabulary(tokenizer: Tokenizer, config: BertConfig, source: str) -> None:
    """A vocabulary and a model that do not belong together give nonsense without any error; so compare their sizes.

    Raises:
        ValueError: they differ.
    """
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"{source}: the vocabulary has {tokenizer.vocab_size} tokens, the config says vocab_size"
            f" {config.vocab_size}; use the vocab.txt that belongs to the weights"
        )


def encode_examples(tokenizer: Tokenizer, examples: Examples, max_length: int) -> Encoding:
    """Token ids of all rows, unpadded; a text that is too long is cut (pairs: the longer one first)."""
    return tokenizer(examples.texts, examples.pairs, max_length=max_length, padding="none")


def collate(
    encoding: Encoding,
    labels: NDArray | None,
    rows: Sequence[int],
    pad_id: int,
    device: torch.device | str = "cpu",
) -> Batch:
    """The rows padded to the longest of them, as core's `collate` does it, on a device."""
    labels = np.zeros(len(encoding.length), np.int64) if labels is None else labels
    input_ids, mask, segments, chosen = (
        upload(t.numpy(), device) for t in core.collate(encoding, labels, rows, pad_id)
    )
    return Batch(input_ids, mask, segments, None, chosen)


def collate_packed(
    encoding: Encoding,
    labels: NDArray | None,
    rows: Sequence[int],
    device: torch.device | str = "cpu",
    multiple: int = 1,
    pad_id: int = 0,
    first_only: bool = False,
) -> Batch:
    """The rows one after the other, without padding. Neighbours of equal length spare some backends a sorting.

    multiple: what the number of tokens has to be a multiple of; a last row of [PAD] alone makes it one. Its label is
        -100, which cross_entropy leaves out.
    first_only: whether only the vectors of [CLS] are wanted of the model (see Packed).
    """
    lengths = [int(encoding.length[row]) for row in rows]
    columns = [[column[row] for row in rows] for column in (encoding.input_ids, encoding.token_type_ids)]
    answers = labels_of(rows, labels)
    if rest := -sum(lengths) % multiple:
        lengths.append(rest)
        for column, value in zip(columns, (pad_id, 0), strict=True):
            column.append(np.full(rest, value))
        answers = np.append(answers, -100)
    input_ids, segments = (upload(np.concatenate(column), device) for column in columns)
    layout = Packed.from_lengths(lengths, device=device, first_only=first_only)
    return Batch(input_ids, None, segments, layout, upload(answers, device))


def labels_of(rows: Sequence[int], labels: NDArray | None) -> NDArray[np.int64]:
    return np.zeros(len(rows), np.int64) if labels is None else labels[np.asarray(rows)]


def by_length(lengths: NDArray) -> list[int]:
    """Longest first: neighbours of equal length pad little, and the largest batch fails first if memory is short."""
    return np.argsort(-np.asarray(lengths), kind="stable").tolist()


def token_chunks(order: Sequence[int], lengths: NDArray, tokens: int) -> list[list[int]]:
    """Consecutive runs of at most `tokens` tokens; a row that alone is longer has a run of its own.

    Raises:
        ValueError: a budget below 1.
    """
    if tokens < 1:
        raise ValueError(f"tokens_per_batch is {tokens}; it must be at least 1")
    runs: list[list[int]] = []
    room = 0
    for row in order:
        length = int(lengths[row])
        if length > room or not runs:
            runs.append([])
            room = tokens
        runs[-1].append(row)
        room -= length
    return runs


def shuffled_by_tokens(lengths: NDArray, tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch, of about `tokens` tokens each; they depend on lengths, seed and epoch alone.

    Rows of like length share a batch, but it is chance who meets whom: the shuffled rows are sorted within windows of
    some WINDOW batches only, cut, and the batches shuffled again.
    """
    order = shuffled(len(lengths), seed, epoch)
    rows = max(1, round(WINDOW * tokens / max(1, float(np.mean(lengths)))))
    batches = []
    for window in chunks(order, rows):
        batches += token_chunks([window[i] for i in by_length(lengths[window])], lengths, tokens)
    return [batches[i] for i in np.random.default_rng((seed, epoch, 1)).permutation(len(batches)).tolist()]
