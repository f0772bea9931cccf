"""From the ids of texts to the arrays that a model takes: truncation, special tokens, pairs, padding.

N texts or pairs, S positions, T positions in all, every row unpadded. No torch in here.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TRUNCATIONS = ("longest_first", "only_first", "only_second", "none")
PADDINGS = ("longest", "max_length", "none", "packed")

Ints = NDArray[np.int64]


class Flat(NamedTuple):
    """N encoded texts one after the other, T tokens in all, without [CLS] and [SEP].

    ids: int32 [T]. lengths: tokens of each text, int64 [N]. spans: int32 [T, 2], where the token starts and ends in its
    text, in code points; None if not asked for.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    spans: NDArray[np.int32] | None = None


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


def check_options(
    texts: int, pairs: int | None, max_length: int, truncation: str, padding: str, multiple: int | None
) -> None:
    """texts, pairs: how many there are, pairs None for none. Raises ValueError for what `arrange` cannot do."""
    if truncation not in TRUNCATIONS:
        raise ValueError(f"truncation {truncation!r}: choose one of {', '.join(TRUNCATIONS)}")
    if padding not in PADDINGS:
        raise ValueError(f"padding {padding!r}: choose one of {', '.join(PADDINGS)}")
    if pairs not in (None, texts):
        raise ValueError(f"{texts} texts but {pairs} pairs; give one pair for each text")
    if pairs is None and truncation == "only_second":
        raise ValueError(
            "truncation only_second without pairs: there is no second text; use longest_first or only_first"
        )
    kind, specials = ("a text", 2) if pairs is None else ("a pair", 3)
    if truncation != "none" and max_length < specials:
        raise ValueError(
            f"max_length {max_length} is too small: {kind} has {specials} special tokens; use {specials} or more"
        )
    if multiple is not None and multiple < 1:
        raise ValueError(f"pad_to_multiple_of {multiple} must be 1 or more")


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

    whole = {"length": packed.length, "offsets": None}
    parts = {name: split(array) for name, array in vars(packed).items() if name != "length" and array is not None}
    return Encoding(**whole | parts)


def ranges(starts: NDArray[np.integer], counts: NDArray[np.integer]) -> Ints:
    """ranges([5, 20], [3, 2]) -> [5, 6, 7, 20, 21]"""
    ends = counts.cumsum()
    return (starts - ends + counts).repeat(counts) + np.arange(ends[-1] if len(ends) else 0)
