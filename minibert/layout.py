"""How a batch lies in memory: made once per batch, shared by all layers and by the backward pass.

`Padded` is the rectangle [B, S] with a mask: 1 where a token is real, 0 where it is padding.

    ids   101 4635 3189  102    0    0        keys   1 1 1 1 0 0
          101 2414 1184 3299 1045  102               1 1 1 1 1 1

`Packed` is the same batch without its padding, all rows one after the other:

    ids   101 4635 3189 102 101 2414 1184 3299 1045 102      lengths 4, 6      cu_seqlens 0, 4, 10
    position_ids  0 1 2 3 0 1 2 3 4 5                        indices 0 1 2 3 6 7 8 9 10 11

Letters: B rows, S width of the rectangle, T = sum of the lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LIMIT = 2**31  # cu_seqlens are int32, as every kernel for packed batches wants them


class Keeper:
    """Remembers what was derived from a layout, so that twelve layers derive it once."""

    kept: dict[Hashable, Any]

    def keep(self, what: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives, made when it is first asked for."""
        if what not in self.kept:
            self.kept[what] = make()
        return self.kept[what]


@dataclass(frozen=True, eq=False)
class Padded(Keeper):
    """A batch of B rows of S positions.

    keys: bool [B, S], True where a token is real and may be attended to; None when every position is real, which
        lets a backend skip masking altogether.
    none_empty: whether it is known without looking that every row has a real token.
    """

    keys: Tensor | None
    none_empty: bool = False
    kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_mask(cls, attention_mask: Tensor | None) -> Padded:
        """attention_mask: [B, S], 1 = real, 0 = padding (int, bool or float), or None for all real.

        A mask on the CPU that hides nothing becomes None; one on a GPU is left alone, as looking would wait for it.
        """
        if attention_mask is None:
            return cls(None)
        keys = attention_mask.to(torch.bool)
        if keys.device.type == "cpu" and bool(keys.all()):
            return cls(None)
        return cls(keys)

    @classmethod
    def from_lengths(
        cls, lengths: Sequence[int], width: int | None = None, device: str | torch.device = "cpu"
    ) -> Padded:
        """Rows that begin at the left; see Packed.from_lengths for the arguments."""
        return Packed.from_lengths(lengths, width, device).padded

    @cached_property
    def may_be_empty(self) -> bool:
        """Whether a row may have no real token, so that its answers have to be set to 0. A GPU is not asked."""
        if self.keys is None or self.none_empty:
            return False
        return self.keys.device.type != "cpu" or not bool(self.keys.any(dim=1).all())

    def packed(self, rows: int, width: int, device: torch.device) -> Packed:
        """The same batch without its padding. A mask on a GPU is read back for it, once."""
        if self.keys is not None:
            return self.keep("packed", lambda: Packed.from_mask(self.keys))
        sizes = rows, width, device  # a layout without a mask fits any batch
        return self.keep(("packed", sizes), lambda: Packed.from_lengths([width] * rows, width, device))


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
    """

    lengths: tuple[int, ...]
    width: int
    cu_seqlens: Tensor
    indices: Tensor
    position_ids: Tensor
    kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_lengths(
        cls, lengths: Sequence[int], width: int | None = None, device: str | torch.device = "cpu"
    ) -> Packed:
        """Rows that begin at the left of the rectangle.

        Args:
            lengths: tokens of each row, 0 or more, on the host.
            width: of the rectangle; default: the longest row.
            device: where the tensors are to be.

        Raises:
            ValueError: no row, a length that is no whole number >= 0, a width below the longest row, T >= 2^31.
        """
        counts = checked_lengths(lengths)
        longest = int(counts.max())
        width = longest if width is None else width
        if width < longest:
            raise ValueError(f"width {width} is below the longest row, {longest}; give at least {longest}")
        columns = np.arange(counts.sum()) - np.repeat(starts(counts)[:-1], counts)
        return cls.from_places(counts, width, np.repeat(np.arange(len(counts)), counts), columns, device)

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
        cls, counts: NDArray, width: int, rows: NDArray, columns: NDArray, device: str | torch.device
    ) -> Packed:
        """From the number of tokens of each row [B] and the row and the column of each token [T]."""
        tensors = starts(counts).astype(np.int32), rows * width + columns, columns
        return cls(tuple(counts.tolist()), int(width), *(upload(array, device) for array in tensors))

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
    """To a GPU by way of pinned memory, so that the host does not wait for what the GPU is doing."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if torch.device(device).type == "cuda" and array.size:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
