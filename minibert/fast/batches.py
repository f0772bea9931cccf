"""Batches of encoded rows, padded or packed, on a device; and how an epoch shares its rows out to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minibert.core import data as core
from minibert.core.config import BertConfig
from minibert.core.data import Examples, chunks, shuffled
from minibert.fast.layout import Packed, upload
from minibert.text.tokenizer import Encoding, Tokenizer

SORTED_BATCHES = 50  # that share out their rows by length: enough to find equals, few enough to stay random


class Batch(NamedTuple):
    """What a model takes, in its order, then the labels (zeros where there are none); int64 but for labels that are
    numbers (float32), on one device.

    Padded it has a mask and no layout, packed a layout and no mask.
    """

    input_ids: Tensor  # [B, S]; packed [T]
    attention_mask: Tensor | None  # [B, S]
    token_type_ids: Tensor  # [B, S]; packed [T]
    layout: Packed | None
    labels: Tensor  # [B]; several at once [B, L]


def check_vocabulary(tokenizer: Tokenizer, config: BertConfig, source: str) -> None:
    """Raises ValueError for more tokens than rows. More rows are fine: tables are filled up to a multiple of 8."""
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{source}: the vocabulary has {tokenizer.vocab_size} tokens, the config says vocab_size"
            f" {config.vocab_size}; use the vocab.txt that belongs to the weights"
        )


def encode_examples(tokenizer: Tokenizer, examples: Examples, max_length: int) -> Encoding:
    """Token ids of all rows, unpadded; a text that is too long is cut (pairs: the longer one first)."""
    return tokenizer(examples.texts, examples.pairs, max_length=max_length, padding="none")


def collate(
    encoding: Encoding, labels: NDArray | None, rows: Sequence[int], pad_id: int, device: torch.device | str = "cpu"
) -> Batch:
    """The rows padded to the longest of them, as core's `collate` does it, on a device. labels: [N], of all rows."""
    labels = np.zeros(len(encoding.length), np.int64) if labels is None else labels
    ids, mask, segments, chosen = (upload(x.numpy(), device) for x in core.collate(encoding, labels, rows, pad_id))
    return Batch(ids, mask, segments, None, chosen)


def collate_packed(
    encoding: Encoding,
    labels: NDArray | None,
    rows: Sequence[int],
    device: torch.device | str = "cpu",
    multiple: int = 1,
    pad_id: int = 0,
    first_only: bool = False,
) -> Batch:
    """The rows one after the other, without padding.

    multiple: what the number of tokens has to be a multiple of; a last row of [PAD] alone makes it one. Its label is
        -100, which cross_entropy leaves out; so `labels` are classes then.
    first_only: whether only the vectors of [CLS] are wanted of the model (see Packed).
    """
    rows = np.asarray(rows)
    lengths, answers = encoding.length[rows], np.zeros(len(rows), np.int64) if labels is None else labels[rows]
    if rest := int(-lengths.sum() % multiple):
        lengths, answers = np.append(lengths, rest), np.append(answers, -100)
    columns = (encoding.input_ids, pad_id), (encoding.token_type_ids, 0)
    ids, segments = (
        upload(np.concatenate([*(column[row] for row in rows), np.full(rest, value)]), device)
        for column, value in columns
    )
    layout = Packed.from_lengths(lengths, device=device, first_only=first_only)
    return Batch(ids, None, segments, layout, upload(answers, device))


def by_length(lengths: NDArray) -> list[int]:
    """Longest first: neighbours of equal length pad little, and the largest batch fails first if memory is short."""
    return np.argsort(-np.asarray(lengths), kind="stable").tolist()


def token_chunks(order: Sequence[int], lengths: NDArray, tokens: int) -> list[list[int]]:
    """Consecutive runs of at most `tokens` tokens; a row that alone is longer has a run of its own. ValueError: a
    budget below 1."""
    if tokens < 1:
        raise ValueError(f"tokens_per_batch is {tokens}; it must be at least 1")
    runs: list[list[int]] = []
    room = 0
    for row in order:
        if lengths[row] > room or not runs:
            runs.append([])
            room = tokens
        runs[-1].append(row)
        room -= int(lengths[row])
    return runs


def shuffled_by_tokens(lengths: NDArray, tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch, of about `tokens` tokens each; they depend on lengths, seed and epoch alone.

    Rows of like length share a batch, but it is chance who meets whom: the shuffled rows are sorted within windows of
    SORTED_BATCHES batches only, cut, and the batches shuffled again.
    """
    order = shuffled(len(lengths), seed, epoch)
    rows = max(1, round(SORTED_BATCHES * tokens / max(1, float(np.mean(lengths)))))
    batches = []
    for window in chunks(order, rows):
        batches += token_chunks([window[i] for i in by_length(lengths[window])], lengths, tokens)
    return [batches[i] for i in np.random.default_rng((seed, epoch, 1)).permutation(len(batches)).tolist()]
