"""A batch without its padding: how it lies in memory, and what it answers the model.

core/attention.py has the rectangle, `Padded`. `Packed` is the same batch, all rows one after the other:

    ids   101 4635 3189 102 101 2414 1184 3299 1045 102      lengths 4, 6      cu_seqlens 0, 4, 10
    position_ids  0 1 2 3 0 1 2 3 4 5                        indices 0 1 2 3 6 7 8 9 10 11

Made once per batch, it is shared by all layers and by the backward pass. Letters: B rows, S width of the rectangle,
T = sum of the lengths, E hidden size, H heads, D head size.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minibert.core.attention import BACKENDS, Keeper, Padded

LIMIT = 2**31  # cu_seqlens are int32, as every kernel for packed batches wants them


class ByLength(NamedTuple):
    """The rows of a packed batch sorted by length, shortest first.

    groups: for each length that is not 0 (how many rows have it, length).
    rows: int64 [B], which row stands where after sorting. order, back: int64 [T], from the packed tokens to the sorted
        ones by index_select, and back. All three None where the rows are sorted already: then nothing has to move.
    """

    groups: list[tuple[int, int]]
    rows: Tensor | None
    order: Tensor | None
    back: Tensor | None


def made_once(make: Callable[[Packed], Any]) -> Any:
    """A property that is made once, and of use in training though it was first asked for in inference mode."""
    return property(lambda self: self.keep(make.__name__, lambda: make(self)), doc=make.__doc__)


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
        """Rows of these lengths, 0 or more and on the host, that begin at the left of the rectangle. The tensors are
        put on `device`; for the others see the class; default width: the longest row.

        Raises:
            ValueError: no row, a length that is no whole number >= 0, a width below the longest row, T >= 2^31.
        """
        counts = checked_lengths(lengths)
        longest = int(counts.max())
        if (width := longest if width is None else width) < longest:
            raise ValueError(f"width {width} is below the longest row, {longest}; give at least {longest}")
        rows, columns = each_of(counts)
        return cls(tuple(counts.tolist()), int(width), *on_device(counts, width, rows, columns, device), first_only)

    @classmethod
    def from_mask(cls, attention_mask: Tensor) -> Packed:
        """attention_mask: [B, S], 1 = real, 0 = padding; a row may begin with padding and have holes. The tensors are
        put on its device. From a GPU it is read back, which waits for the GPU; from_lengths does not.
        """
        if attention_mask.dim() != 2 or not len(attention_mask):
            raise ValueError(f"attention_mask has shape {list(attention_mask.shape)}; give [batch, sequence]")
        mask = attention_mask.to(torch.bool).cpu().numpy()
        rows, columns = np.nonzero(mask)
        counts = checked_lengths(mask.sum(axis=1))
        width, device = mask.shape[1], attention_mask.device
        return cls(tuple(counts.tolist()), width, *on_device(counts, width, rows, columns, device))

    # ---- what the model asks (core.attention.Batch) ----

    def positions(self, input_ids: Tensor, limit: int) -> Tensor:
        """[T] -> [T]. Raises ValueError where ids and layout do not fit, or the rectangle is wider than `limit`."""
        T = len(self.indices)
        if list(input_ids.shape) != [T]:
            raise ValueError(f"input_ids has shape {list(input_ids.shape)} and the layout {T} tokens; give [{T}]")
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

    @made_once
    def firsts(self) -> Tensor:
        """The place of each row's first token, int64 [B]; a row without tokens has none (ValueError)."""
        if min(self.lengths) == 0:
            raise ValueError(f"row {self.lengths.index(0)} has no tokens, so no [CLS]; leave it out")
        return self.cu_seqlens[:-1].long()

    @property
    def device(self) -> torch.device:
        return self.cu_seqlens.device

    @made_once
    def padded(self) -> Padded:
        """The rectangle's mask, made without looking at the device."""
        B, S, T = len(self.lengths), self.width, len(self.indices)
        if T == B * S:
            return Padded(None)
        keys = torch.zeros(B * S, dtype=torch.bool, device=self.device).index_fill(0, self.indices, True)
        return Padded(keys.view(B, S), none_empty=min(self.lengths) > 0)

    @made_once
    def by_length(self) -> ByLength:
        """The rows sorted by length, for what can do only rows of one length at once."""
        lengths = np.array(self.lengths)
        sizes, numbers = np.unique(lengths, return_counts=True)
        groups = [(number, n) for number, n in zip(numbers.tolist(), sizes.tolist(), strict=True) if n]
        rows = np.argsort(lengths, kind="stable")
        if (rows == np.arange(len(rows))).all():
            return ByLength(groups, None, None, None)
        order = np.argsort(np.repeat(lengths, lengths), kind="stable")
        return ByLength(groups, *(upload(array, self.device) for array in (rows, order, np.argsort(order))))

    def tiles(self, block: int, longer_than: int = 0, up_to: int | None = None) -> Tensor:
        """The rows whose length is in (longer_than, up_to], cut into tiles of `block` positions: a kernel's work list.

        int32 [N, 2]: (row, number of the tile in its row). The longest rows come first, so that no processor is left
        alone with a long one in the end.
        """
        if (what := ("tiles", block, longer_than, up_to)) not in self.kept:
            lengths = np.array(self.lengths)
            rows = np.argsort(-lengths, kind="stable")
            rows = rows[(lengths[rows] > longer_than) & (lengths[rows] <= (lengths.max() if up_to is None else up_to))]
            tiles = each_of(-(-lengths[rows] // block))
            tiles[0] = rows[tiles[0]]
            self.kept[what] = upload(tiles.T.astype(np.int32), self.device)
        return self.kept[what]


def packed_form(batch: Padded, rows: int, width: int, device: torch.device) -> Packed:
    """A rectangle without its padding. A mask on a GPU is read back for it, once; without one it fits any batch."""
    whole = Packed.from_lengths, [width] * rows, width, device
    make, *given = whole if batch.keys is None else (Packed.from_mask, batch.keys)
    return batch.keep(("packed", rows, width, device), lambda: make(*given))


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


def on_device(
    counts: NDArray, width: int, rows: NDArray, columns: NDArray, device: str | torch.device
) -> tuple[Tensor, ...]:
    """cu_seqlens, indices and position_ids, from each row's tokens [B] and each token's row and column [T]."""
    return tuple(upload(a, device) for a in (starts(counts).astype(np.int32), rows * width + columns, columns))


def each_of(counts: NDArray) -> NDArray[np.int64]:
    """Of N things of which row i has counts[i], one after the other: their rows, and their numbers there. [2, N]."""
    rows = np.repeat(np.arange(len(counts)), counts)
    return np.stack([rows, np.arange(len(rows)) - starts(counts)[rows]])


def upload(array: NDArray, device: str | torch.device) -> Tensor:
    """An array of any shape, to a GPU by way of pinned memory: so the host does not wait for what the GPU is doing."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if torch.device(device).type == "cuda" and array.size:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
