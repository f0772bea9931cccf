"""From the ids of texts to the arrays that a model takes: truncation, special tokens, pairs, padding.

N texts or pairs, S positions, T positions in all, every row unpadded. No torch in here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minibert.wordpiece_batch import Flat, ranges

TRUNCATIONS = ("longest_first", "only_first", "only_second", "none")
PADDINGS = ("longest", "max_length", "none", "packed")

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Encoding:
    """What a model needs. Arrays int64 [N, S]; packed [T], row after row; with padding="none" lists of N arrays.

    `special_tokens_mask` is 1 at the [CLS], [SEP] and [PAD] that the tokenizer has put there, not at those in a text.
    `length` [N] counts [CLS] and [SEP], not [PAD]. `offsets` [N, S, 2] or [T, 2], if asked for: start and end in code
    points of the text (of the pair's second text where token_type_ids is 1), (0, 0) where the tokenizer has put a
    special token.
    """

    input_ids: NDArray | list[NDArray]
    token_type_ids: NDArray | list[NDArray]
    special_tokens_mask: NDArray | list[NDArray]
    length: NDArray
    attention_mask: NDArray | list[NDArray]
    offsets: NDArray | list[NDArray] | None = None


def truncated_lengths(first: Ints, second: Ints, budget: int, truncation: str) -> tuple[Ints, Ints]:
    """How many tokens of each text stay when both together may have `budget`; first, second: [N].

    longest_first shortens the longer text to the shorter one's length, then both alike; an odd token stays with the
    longer text, with the second where they are equal. (Google's tokenization.py leaves it to the first.)

    >>> truncated_lengths(np.array([400]), np.array([400]), 509, "longest_first")
    (array([254]), array([255]))
    """
    excess = first + second - budget
    over = excess > 0
    if truncation == "none" or not over.any():
        return first, second
    if budget == 0:
        return np.where(over, 0, first), np.where(over, 0, second)
    if truncation == "longest_first":
        shorter = np.minimum(np.minimum(first, second), budget // 2)
        kept = np.where(first > second, budget - shorter, shorter)
        return np.where(over, kept, first), np.where(over, budget - kept, second)
    cut = first if truncation == "only_first" else second
    if len(lost := np.flatnonzero(over & (cut <= excess))):  # one token must stay
        row = lost[0]
        raise ValueError(
            f"text {row}: {excess[row]} tokens too many for max_length, but {truncation} can take at most "
            f"{max(cut[row] - 1, 0)}; use longest_first or a larger max_length"
        )
    removed = np.where(over, excess, 0)
    return (first - removed, second) if truncation == "only_first" else (first, second - removed)


def arrange(
    flat: Flat,
    pairs: bool,
    max_length: int,
    truncation: str,
    padding: str,
    multiple: int | None,
    cls_id: int,
    sep_id: int,
    pad_id: int,
) -> Encoding:
    """flat: N texts, or 2 N with each text's pair behind it.

    Raises ValueError where a truncation strategy cannot make a row short enough.
    """
    counts = flat.lengths.reshape(-1, 2 if pairs else 1)  # [N, 1 or 2] tokens of each text
    first, second = counts[:, 0], counts[:, 1] if pairs else np.zeros(len(counts), np.int64)
    n, m = truncated_lengths(first, second, max_length - (3 if pairs else 2), truncation)
    tokens, spans = flat.ids, flat.spans
    if n.sum() + m.sum() < len(tokens):
        kept = ranges(np.cumsum(flat.lengths) - flat.lengths, (np.column_stack((n, m)) if pairs else n).ravel())
        tokens, spans = tokens[kept], None if spans is None else spans[kept]
    length = n + m + (3 if pairs else 2)
    if padding in ("none", "packed"):
        shape: tuple[int, ...] = (int(length.sum()),)
        starts = np.cumsum(length) - length  # where each row begins, counted through all rows
        real = np.ones(shape, np.bool_)
    else:
        shape = (len(length), _width(length, max_length, padding, multiple))
        starts = np.arange(shape[0]) * shape[1]
        real = np.arange(shape[1]) < length[:, None]
    is_text = real.copy()
    borders = [starts, starts + n + 1, *([starts + length - 1] if pairs else [])]  # of [CLS], [SEP], and [SEP]
    for border in borders:
        is_text.ravel()[border] = False
    places = np.flatnonzero(is_text)
    ids = np.where(real, sep_id, pad_id)
    ids.ravel()[starts] = cls_id
    ids.ravel()[places] = tokens
    types = np.zeros(shape, np.int64)
    if pairs:
        types.ravel()[ranges(starts + n + 2, m + 1)] = 1
    offsets = None
    if spans is not None:
        offsets = np.zeros((*shape, 2), np.int64)
        offsets.reshape(-1, 2)[places] = spans
    encoding = Encoding(ids, types, (~is_text).astype(np.int64), length, real.astype(np.int64), offsets)
    return _rows(encoding) if padding == "none" else encoding


def _width(length: Ints, max_length: int, padding: str, multiple: int | None) -> int:
    width = int(length.max(initial=0))
    if padding == "max_length":
        width = max(width, max_length)
    return width + (-width % multiple if multiple else 0)


def _rows(packed: Encoding) -> Encoding:
    ends = np.cumsum(packed.length).tolist()

    def split(array: NDArray) -> list[NDArray]:
        return [array[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]

    return Encoding(
        split(packed.input_ids),
        split(packed.token_type_ids),
        split(packed.special_tokens_mask),
        packed.length,
        split(packed.attention_mask),
        None if packed.offsets is None else split(packed.offsets),
    )
