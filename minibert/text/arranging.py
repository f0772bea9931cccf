"""From the ids of many texts to the arrays that a model takes: the fast twin of core's `arrange`.

Places are counted through all rows, so that texts, special tokens and padding each are one operation of numpy.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from minibert.core.encoding import Encoding, Flat, Ints, Options


def truncated_lengths(first: Ints, second: Ints, budget: int, truncation: str) -> tuple[Ints, Ints]:
    """`truncated` for many rows at once; first, second: [N]."""
    excess = first + second - budget
    over = excess > 0
    if truncation == "none" or not over.any():
        return first, second
    if truncation == "longest_first" or budget == 0:
        shorter = np.minimum(np.minimum(first, second), budget // 2)
        kept = np.where(first > second, budget - shorter, shorter)
        return np.where(over, kept, first), np.where(over, budget - kept, second)
    cut = first if truncation == "only_first" else second
    for row in np.flatnonzero(over & (cut <= excess)):  # one token must stay
        many = f"{excess[row]} tokens are more than {truncation} can take"
        raise ValueError(f"text {row}: {many}; use longest_first or a larger max_length")
    removed = np.where(over, excess, 0)
    return (first - removed, second) if truncation == "only_first" else (first, second - removed)


def arrange(flat: Flat, pairs: bool, options: Options, cls_id: int, sep_id: int, pad_id: int) -> Encoding:
    """As core's: the same rows by a few operations on all of them."""
    specials = 3 if pairs else 2
    counts = flat.lengths.reshape(-1, specials - 1)  # [N, 1 or 2] tokens of each text
    first, second = counts[:, 0], counts[:, 1] if pairs else np.zeros(len(counts), np.int64)
    n, m = truncated_lengths(first, second, options.max_length - specials, options.truncation)
    tokens, spans = flat.ids, flat.spans
    if n.sum() + m.sum() < len(tokens):
        kept = ranges(np.cumsum(flat.lengths) - flat.lengths, np.column_stack((n, m) if pairs else (n,)).ravel())
        tokens, spans = tokens[kept], None if spans is None else spans[kept]
    # A row is [CLS], n tokens, [SEP]; of a pair m more and another [SEP]. All places are counted through all rows.
    length = n + m + specials
    if options.padding in ("none", "packed"):
        starts = np.cumsum(length) - length  # where each row begins
        real = np.ones(length.sum(), bool)  # [T]
    else:
        width = max(length.max(initial=0), options.max_length if options.padding == "max_length" else 0)
        width += -width % (options.multiple or 1)
        starts = np.arange(len(length)) * width
        real = np.arange(width) < length[:, None]  # [N, S]
    is_text = real.copy()
    for special in (starts, starts + n + 1, starts + length - 1):  # [CLS], [SEP], and a pair's other [SEP]
        is_text.ravel()[special] = False
    ids = np.where(real, sep_id, pad_id)
    ids.ravel()[starts] = cls_id
    ids[is_text] = tokens
    types = np.zeros(real.shape, np.int64)
    types.ravel()[ranges(starts + n + 2, length - n - 2)] = 1
    offsets = None
    if spans is not None:
        offsets = np.zeros((*real.shape, 2), np.int64)
        offsets[is_text] = spans
    encoding = Encoding(ids, types, (~is_text).astype(np.int64), length, real.astype(np.int64), offsets)
    return rows(encoding) if options.padding == "none" else encoding


def rows(packed: Encoding) -> Encoding:
    """The same, each array cut into the list of its rows."""
    cuts = [slice(*ends) for ends in pairwise([0, *np.cumsum(packed.length).tolist()])]
    arrays = {name: array for name, array in vars(packed).items() if name != "length" and array is not None}
    return replace(packed, **{name: [array[cut] for cut in cuts] for name, array in arrays.items()})


def ranges(starts: NDArray, counts: NDArray) -> Ints:
    """ranges([5, 20], [3, 2]) -> [5, 6, 7, 20, 21]"""
    ends = counts.cumsum()
    return (starts - ends + counts).repeat(counts) + np.arange(ends[-1] if len(ends) else 0)
