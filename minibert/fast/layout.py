"""A batch without its padding: how it lies in memory, and what it answers the model.

core/attention.py has the rectangle, `Padded`. `Packed` is the same batch, all rows one after the other:

    ids   101 4635 3189 102 101 2414 1184 3299 1045 102      lengths 4, 6      cu_seqlens 0, 4, 10
    position_ids  0 1 2 3 0 1 2 3 4 5                        indices 0 1 2 3 6 7 8 9 10 11

Made once per batch, it is shared by all layers and by the backward pass. Letters: B rows, S width of the rectangle,
T = sum of the lengths, E hidden size, H heads, D head size.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minibert.core.attention import BACKENDS, Keeper, Padded

LIMIT = 2**31  # cu_seqlens are int32, as every kernel for packed batches wants them


class ByLength(NamedTuple):
    """The rows of a packed batch in the order of their lengths; shortest first, rows without tokens left out.

    groups: for each length (rows, tokens, length): slices of the sorted rows and of their tokens.
    rows: int64 [B], which row stands where after sorting. order, back: int64 [T], from the packed tokens to the sorted
        ones by index_select, and back. All three None where the rows are sorted already: then nothing has to move.
    """

    groups: list[tuple[slice, slice, int]]
    rows: Tensor | None
    order: Tensor | None
    back: Tensor | None


@dataclass(frozen=True, eq=False)
class Packed(Keeper):
    """A batch of B rows without padding, T tokens in all. Make it with from_lengths or from_mask.

    lengths: real tokens of each row, on the host: nothing here ever waits for a GPU to know them.
    width: S of the rectangle that it stands for, at least the longest row.
    cu_seqlens: int32 [B + 1], where each row begins, and T.
    indices: int64 [T], each token's place in the flattened rectangle [B · S].
    position_ids: int64 [T], its column in the rectangle.
    first_only: whether the rows' first tokens are all that is wanted of the model: then its last layer computes nothing
        else, and its answers are [B, E] instead of [T, E].
    """

    lengths: tuple[int, ...]
    width: int
    cu_seqlens: Tensor
    indices: Tensor
    position_ids: Tensor
    first_only: bool = False
    kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_lengths(
        cls,
        lengths: Sequence[int],
        width: int | None = None,
        device: str | torch.device = "cpu",
        first_only: bool = False,
    ) -> Packed:
        """Rows that begin at the left of the rectangle.

        Args:
            lengths: tokens of each row, 0 or more, on the host.
            width: of the rectangle; default: the longest row.
            device: where the tensors are to be.
            first_only: see the class.

        Raises:
            ValueError: no row, a length that is no whole number >= 0, a width below the longest row, T >= 2^31.
        """
        counts = checked_lengths(lengths)
        longest = int(counts.max())
        width = longest if width is None else width
        if width < longest:
            raise ValueError(f"width {width} is below the longest row, {longest}; give at least {longest}")
        columns = np.arange(counts.sum()) - np.repeat(starts(counts)[:-1], counts)
        rows = np.repeat(np.arange(len(counts)), counts)
        return cls.from_places(counts, width, rows, columns, device, first_only)

    @classmethod
    def from_mask(cls, attention_mask: Tensor) -> Packed:
        """attention_mask: [B, S], 1 = real, 0 = padding; a row may begin with padding and have holes.

        The tensors are put on the mask's device. A mask on a GPU is read back once, which waits for the GPU: lengths
        that the host knows spare that (from_lengths).
        """
        if attention_mask.dim() != 2 or not len(attention_mask):
            raise ValueError(f"attention_mask has shape {list(attention_mask.shape)}; give [batch, sequence]")
        mask = attention_mask.to(torch.bool).cpu().numpy()
        rows, columns = np.nonzero(mask)
        counts = checked_lengths(mask.sum(axis=1))
        return cls.from_places(counts, mask.shape[1], rows, columns, attention_mask.device)

    @classmethod
    def from_places(
        cls,
        counts: NDArray,
        width: int,
        rows: NDArray,
        columns: NDArray,
        device: str | torch.device,
        first_only: bool = False,
    ) -> Packed:
        """From the number of tokens of each row [B] and the row and the column of each token [T]."""
        tensors = starts(counts).astype(np.int32), rows * width + columns, columns
        return cls(tuple(counts.tolist()), int(width), *(upload(array, device) for array in tensors), first_only)

    # ---- what the model asks (core.attention.Batch) ----

    def positions(self, input_ids: Tensor, limit: int) -> Tensor:
        """[T] -> [T]. Raises ValueError where ids and layout do not fit each other, or a row has more than `limit`
        tokens."""
        if input_ids.shape != self.indices.shape:
            raise ValueError(
                f"input_ids has shape {list(input_ids.shape)} and the layout {len(self.indices)} tokens; give"
                f" [{len(self.indices)}]"
            )
        if self.width > limit:
            raise ValueError(
                f"the sequence is {self.width} tokens long, more than max_position_embeddings {limit}; "
                f"truncate with max_length={limit}"
            )
        return self.position_ids

    def asking(self, x: Tensor, last: bool) -> Tensor:
        """All tokens, [T, E]; of the last layer, where only the rows' first are wanted, [B, E]."""
        return x.index_select(0, self.firsts) if last and self.first_only else x

    def attend(self, q: Tensor, k: Tensor, v: Tensor, backend: str, dropout_p: float) -> Tensor:
        """[T, H, D] three times -> [T, H, D]; where only first tokens ask q and the answer are [B, H, D]."""
        return BACKENDS[backend](q, k, v, self, dropout_p)

    def first(self, x: Tensor) -> Tensor:
        """The vectors of [CLS]. [T, E] -> [B, E]"""
        return x if self.first_only else x.index_select(0, self.firsts)

    # ---- what else is known of it ----

    @property
    def max_length(self) -> int:
        """Of the longest row."""
        return max(self.lengths)

    @cached_property
    def firsts(self) -> Tensor:
        """The place of each row's first token, int64 [B]; a row without tokens has none (ValueError)."""
        if min(self.lengths) == 0:
            raise ValueError(f"row {self.lengths.index(0)} has no tokens, so no [CLS]; leave it out")
        return self.cu_seqlens[:-1].long()

    @property
    def device(self) -> torch.device:
        return self.cu_seqlens.device

    @cached_property
    def padded(self) -> Padded:
        """The rectangle's mask, made without looking at the device."""
        B, S, T = len(self.lengths), self.width, len(self.indices)
        if T == B * S:
            return Padded(None)
        keys = torch.zeros(B * S, dtype=torch.bool, device=self.device).index_fill(0, self.indices, True)
        return Padded(keys.view(B, S), none_empty=min(self.lengths) > 0)

    @cached_property
    def by_length(self) -> ByLength:
        """The rows sorted by length, for what can do only rows of one length at once."""
        lengths = np.array(self.lengths)
        rows = np.argsort(lengths, kind="stable")
        counts = lengths[rows]
        sizes, firsts, numbers = np.unique(counts, return_index=True, return_counts=True)
        begin = starts(counts)[firsts]
        groups = [
            (slice(first, first + number), slice(at, at + number * size), size)
            for size, first, number, at in zip(*(a.tolist() for a in (sizes, firsts, numbers, begin)), strict=True)
            if size
        ]
        if (rows == np.arange(len(rows))).all():
            return ByLength(groups, None, None, None)
        order = np.repeat(starts(lengths)[rows] - starts(counts)[:-1], counts) + np.arange(counts.sum())
        places = (upload(array, self.device) for array in (rows, order, np.argsort(order)))
        return ByLength(groups, *places)

    def tiles(self, block: int, longer_than: int = 0, up_to: int | None = None) -> Tensor:
        """The rows whose length is in (longer_than, up_to], cut into tiles of `block` positions: a kernel's work list.

        Returns:
            int32 [N, 2]: (row, number of the tile in its row). The longest rows come first, so that the last programs
            to start are short ones and no processor is left alone with a long one.
        """
        assert block > 0, block
        return self.keep(("tiles", block, longer_than, up_to), lambda: self._tiles(block, longer_than, up_to))

    def _tiles(self, block: int, longer_than: int, up_to: int | None) -> Tensor:
        lengths = np.array(self.lengths)
        rows = np.argsort(-lengths, kind="stable")
        rows = rows[(lengths[rows] > longer_than) & (lengths[rows] <= (lengths.max() if up_to is None else up_to))]
        counts = -(-lengths[rows] // block)
        numbers = np.arange(counts.sum()) - np.repeat(starts(counts)[:-1], counts)
        return upload(np.stack([np.repeat(rows, counts), numbers], axis=1).astype(np.int32), self.device)


def packed_form(batch: Padded, rows: int, width: int, device: torch.device) -> Packed:
    """A rectangle without its padding. A mask on a GPU is read back for it, once; without one it fits any batch."""
    if batch.keys is not None:
        return batch.keep("packed", lambda: Packed.from_mask(batch.keys))
    sizes = rows, width, device
    return batch.keep(("packed", sizes), lambda: Packed.from_lengths([width] * rows, width, device))


def pack(x: Tensor, layout: Packed) -> Tensor:
    """The real tokens alone. [B, S, …] -> [T, …]; the gradient at padding is 0."""
    B, S = len(layout.lengths), layout.width
    if x.dim() < 2 or x.shape[:2] != (B, S):
        raise ValueError(f"x has shape {list(x.shape)}, but the layout has {B} rows of {S}; give [{B}, {S}, …]")
    flat = x.flatten(0, 1)  # [B · S, …]
    return flat if len(layout.indices) == B * S else flat.index_select(0, layout.indices)


def pad(x: Tensor, layout: Packed) -> Tensor:
    """The rectangle again, 0 at padding. [T, …] -> [B, S, …]."""
    B, S, T = len(layout.lengths), layout.width, len(layout.indices)
    if x.dim() < 1 or len(x) != T:
        raise ValueError(f"x has shape {list(x.shape)}, but the layout has {T} tokens; give [{T}, …]")
    if T < B * S:
        x = x.new_zeros(B * S, *x.shape[1:]).index_copy(0, layout.indices, x)
    return x.reshape(B, S, *x.shape[1:])


# ---- small helpers ----


def checked_lengths(lengths: Sequence[int] | NDArray) -> NDArray[np.int64]:
    """As an array [B]."""
    counts = np.asarray(lengths)
    if counts.ndim != 1 or not counts.size:
        raise ValueError(f"lengths has shape {list(counts.shape)}; give one whole number for each row, at least one")
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ValueError(f"lengths holds {counts.min()} ({counts.dtype}); give whole numbers >= 0")
    total = int(counts.sum(dtype=np.int64))
    if total >= LIMIT:
        raise ValueError(f"the batch has {total} tokens, not below {LIMIT} as int32 needs; make it smaller")
    return counts.astype(np.int64)


def starts(counts: NDArray) -> NDArray[np.int64]:
    """Where each of them begins, and their sum. [B] -> [B + 1]."""
    return np.concatenate([[0], np.cumsum(counts)])


def upload(array: NDArray, device: str | torch.device) -> Tensor:
    """An array of any shape, to a GPU by way of pinned memory: so the host does not wait for what the GPU is doing."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if torch.device(device).type == "cuda" and array.size:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
