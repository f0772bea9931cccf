"""From the ids of texts to the arrays that a model takes: truncation, special tokens, pairs, padding.

N texts or pairs, S positions, T positions in all, every row unpadded. No torch in here.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TRUNCATIONS = ("longest_first", "only_first", "only_second", "none")
PADDINGS = ("longest", "max_length", "none", "packed")

Ints = NDArray[np.int64]
Rows = Ints | list[Ints]  # one array, or one for each text


class Flat(NamedTuple):
    """N encoded texts one after the other, T tokens in all, without [CLS] and [SEP].

    ids: int32 [T]. lengths: tokens of each text, int64 [N]. spans: int32 [T, 2], where the token starts and ends in its
    text, in code points; None if not asked for.
    """

    ids: NDArray[np.int32]
    lengths: Ints
    spans: NDArray[np.int32] | None = None


@dataclass(frozen=True, eq=False)
class Encoding:
    """What a model needs. Arrays int64 [N, S]; packed [T], row after row; with padding="none" lists of N arrays.

    `special_tokens_mask` is 1 at the [CLS], [SEP] and [PAD] that the tokenizer has put there, not at those in a text.
    `length` [N] counts [CLS] and [SEP], not [PAD]. `offsets` [N, S, 2] or [T, 2], if asked for: start and end in code
    points of the text (of the pair's second text where token_type_ids is 1), (0, 0) where the tokenizer has put a
    special token.
    """

    input_ids: Rows
    token_type_ids: Rows
    special_tokens_mask: Rows
    length: Ints
    attention_mask: Rows
    offsets: Rows | None = None


class Options(NamedTuple):
    """How `arrange` makes rows of texts: the arguments of Tokenizer.__call__."""

    max_length: int
    truncation: str
    padding: str
    multiple: int | None

    def check(self, texts: int, pairs: int | None) -> None:
        """texts, pairs: how many there are, pairs None for none. Raises ValueError for what cannot be done."""
        for name, known in (("truncation", TRUNCATIONS), ("padding", PADDINGS)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} {value!r}: choose one of {', '.join(known)}")
        if pairs not in (None, texts):
            raise ValueError(f"{texts} texts but {pairs} pairs; give one pair for each text")
        if pairs is None and self.truncation == "only_second":
            raise ValueError("truncation only_second without pairs: use longest_first or only_first")
        least = 2 if pairs is None else 3
        if self.truncation != "none" and self.max_length < least:
            raise ValueError(f"max_length {self.max_length} is too small for the special tokens; use {least} or more")
        if self.multiple is not None and self.multiple < 1:
            raise ValueError(f"pad_to_multiple_of {self.multiple} must be 1 or more")


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
    """flat: N texts, or 2 N with each text's pair behind it. ValueError: truncation cannot make a row short enough."""
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
