"""From the ids of texts to the arrays that a model takes: truncation, special tokens, pairs, padding.

N texts or pairs, S positions, T positions in all, every row unpadded. No torch in here.
"""

from dataclasses import dataclass
from itertools import chain
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


class Place(NamedTuple):
    """One position of a row. segment: 0 in the first text, 1 in the second. span: of the token in its text."""

    token_id: int
    segment: int
    special: bool  # whether the tokenizer has put it there
    span: tuple[int, int] = (0, 0)


Text = list[tuple[int, tuple[int, int]]]  # each token's id and its span


def join(first: Text, second: Text | None, cls_id: int, sep_id: int) -> list[Place]:
    """[CLS] first [SEP], or [CLS] first [SEP] second [SEP], of which the second text and its [SEP] have segment 1."""
    row = [Place(cls_id, 0, True)]
    row += [Place(token_id, 0, False, span) for token_id, span in first]
    row.append(Place(sep_id, 0, True))
    if second is not None:
        row += [Place(token_id, 1, False, span) for token_id, span in second]
        row.append(Place(sep_id, 1, True))
    return row


def fill_up(rows: list[list[Place]], width: int, pad_id: int) -> tuple[list[list[Place]], list[list[int]]]:
    """Rows of at least `width` places by [PAD] at their ends, and their masks: 1 where a token is real, 0 at [PAD]."""
    missing = [max(0, width - len(row)) for row in rows]
    masks = [[1] * len(row) + [0] * many for row, many in zip(rows, missing, strict=True)]
    return [row + [Place(pad_id, 0, True)] * many for row, many in zip(rows, missing, strict=True)], masks


def truncated(first: int, second: int, budget: int, truncation: str) -> tuple[int, int]:
    """How many tokens of each text stay when both together may have `budget`.

    longest_first shortens the longer text to the shorter one's length, then both alike; an odd token stays with the
    longer text, with the second where they are equal. (Google's tokenization.py leaves it to the first.)

    >>> truncated(400, 400, 509, "longest_first")
    (254, 255)
    """
    excess = first + second - budget
    if truncation == "none" or excess <= 0:
        return first, second
    if truncation == "longest_first" or budget == 0:
        shorter = min(first, second, budget // 2)
        return (budget - shorter, shorter) if first > second else (shorter, budget - shorter)
    if (first if truncation == "only_first" else second) <= excess:  # one token must stay
        many = f"{excess} tokens are more than {truncation} can take"
        raise ValueError(f"{many}; use longest_first or a larger max_length")
    return (first - excess, second) if truncation == "only_first" else (first, second - excess)


def arrange(flat: Flat, pairs: bool, options: Options, cls_id: int, sep_id: int, pad_id: int) -> Encoding:
    """flat: N texts, or 2 N with each text's pair behind it. ValueError: truncation cannot make a row short enough."""
    spans = [(0, 0)] * len(flat.ids) if flat.spans is None else map(tuple, flat.spans.tolist())
    tokens = zip(flat.ids.tolist(), spans, strict=True)
    texts = [[next(tokens) for _ in range(length)] for length in flat.lengths]
    budget = options.max_length - (3 if pairs else 2)  # what [CLS] and [SEP] leave
    rows = []
    for first, second in zip(texts[::2], texts[1::2], strict=True) if pairs else ((text, None) for text in texts):
        try:
            n, m = truncated(len(first), len(second or ()), budget, options.truncation)
        except ValueError as error:
            raise ValueError(f"text {len(rows)}: {error}") from None
        rows.append(join(first[:n], second and second[:m], cls_id, sep_id))
    length = np.array([len(row) for row in rows], np.int64)
    width = 0
    if options.padding in ("longest", "max_length"):
        width = max(length.max(initial=0), options.max_length if options.padding == "max_length" else 0)
        width += -width % (options.multiple or 1)
    rows, masks = fill_up(rows, width, pad_id)

    def gather(columns: list[list], *size: int) -> Rows:
        if options.padding == "none":
            return [np.array(column, np.int64) for column in columns]
        if options.padding == "packed":
            return np.array(list(chain.from_iterable(columns)), np.int64).reshape(-1, *size)
        return np.array(columns, np.int64).reshape(len(rows), width, *size)

    ids, segments, special = (gather([[place[i] for place in row] for row in rows]) for i in range(3))
    offsets = None if flat.spans is None else gather([[place.span for place in row] for row in rows], 2)
    return Encoding(ids, segments, special, length, gather(masks), offsets)
