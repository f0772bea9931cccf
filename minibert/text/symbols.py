"""What becomes of every character: the tables of the fast tokenizer (wordpiece_batch.py).

A text is read as an array of symbols, small signed integers whose sign says how a character behaves:

    character      N   é   e       北    ,    U+0301    각           U+302E
    symbol        +40 +31 +31  0   -7   -12    rare     rare          rare
                   └── word ──┘    stands alone          ᄀ ᅡ ᆨ       its neighbours may change places with it
                               space         nothing stays of it

Equal symbols are equal for WordPiece: "é" is "e" where accents go. All is made from the rules of wordpiece.py.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minibert.core import unicode_tables, wordpiece

CODE_POINTS = 0x110000
SPACE, REORDERS, NOTHING = -1, -2, -3  # in `folding`, where no single character is left; below: several
UNKNOWN_WORD, UNKNOWN_ALONE = 1, -1  # symbols of all characters that no token of the vocabulary has
NARROW_RARE = 127  # in an ASCII text: look again in the wide table


@cache
def folding(
    lowercase: bool, strip_accents: bool, tokenize_chinese_chars: bool
) -> tuple[NDArray[np.int32], NDArray[np.bool_], list[str]]:
    """Unicode after normalisation, whatever the vocabulary.

    Returns what each code point becomes, int32 [0x110000]: a code point, SPACE, REORDERS, or NOTHING - k for the k-th
    string of the list, of which the first is empty; and which code points then stand alone, bool [0x110000].
    """
    becomes = np.arange(CODE_POINTS, dtype=np.int32)
    parts = _parts(lowercase, strip_accents)
    several = ["", *sorted({part for part in parts.values() if len(part) > 1})]
    numbers = {part: NOTHING - k for k, part in enumerate(several)}
    becomes[_codes(parts)] = [ord(part) if len(part) == 1 else numbers[part] for part in parts.values()]
    if strip_accents:  # only then are marks sorted
        marks = {mark for mark in wordpiece.COMBINING_CLASSES if not wordpiece.is_nonspacing_mark(mark)}
        becomes[_codes(marks | {char for char, part in parts.items() if not marks.isdisjoint(part)})] = REORDERS
    becomes[_codes(_chars(unicode_tables.REMOVED))] = NOTHING
    becomes[_codes(wordpiece.WHITESPACE)] = SPACE
    alone = np.zeros(CODE_POINTS, bool)
    alone[_codes(_chars(unicode_tables.PUNCTUATION))] = True
    for first, last in wordpiece.CHINESE if tokenize_chinese_chars else ():
        alone[first : last + 1] = True
    return becomes, alone, several


def _parts(lowercase: bool, strip_accents: bool) -> dict[str, str]:
    """The characters that decomposition, removal of accents and lowercasing change, and into what."""
    parts = dict(wordpiece.LOWERCASE) if lowercase else {}
    if strip_accents:
        marks = dict.fromkeys(_chars(unicode_tables.NONSPACING_MARKS), "")
        decomposed = list(_chars(unicode_tables.DECOMPOSABLE))
        change = str.maketrans(parts | marks)
        in_one = unicodedata.normalize("NFD", "\n".join(decomposed)).translate(change)  # a line break joins nothing
        parts |= marks | dict(zip(decomposed, in_one.split("\n"), strict=True))
    return parts


def _chars(table: str) -> Iterable[str]:
    return (chr(code) for first, last in wordpiece.spans(table) for code in range(first, last + 1))


def _codes(chars: Iterable[str]) -> NDArray[np.uint32]:
    return np.frombuffer("".join(chars).encode("utf-32-le", "surrogatepass"), np.uint32)


class Alphabet(NamedTuple):
    """The symbols of one vocabulary.

    A character that begins or continues a token has a symbol of its own, or shares it with those that become the same;
    all others are UNKNOWN_WORD or UNKNOWN_ALONE.
    """

    wide: NDArray[np.signedinteger]  # [0x110000] code point -> symbol; int16, or int32 for a huge vocabulary
    narrow: bytes  # 256 ASCII code -> symbol as int8, NARROW_RARE where the wide table has to be asked
    of_tokens: NDArray[np.signedinteger]  # [0x110000] code point of a token's character -> symbol, without folding
    first_rare: int  # symbols from here on: 0 reorders, 1 + k leaves the k-th of `several`
    several: NDArray[np.signedinteger]  # the symbols of all the strings that a character may become, end to end
    several_starts: NDArray[np.int64]
    several_lengths: NDArray[np.int64]
    alone_ids: NDArray[np.int32]  # the token of symbol -1, -2, … at index 0, 1, …
    alone_lengths: NDArray[np.int64]  # source characters: 1, but for special tokens
    special: dict[str, int]  # special token -> symbol


def alphabet(
    vocab: Mapping[str, int],
    special: Mapping[str, int],
    unknown_id: int,
    lowercase: bool,
    strip_accents: bool,
    tokenize_chinese_chars: bool,
) -> Alphabet:
    """vocab, special: {token: id}; a special token stands alone, whatever its characters."""
    becomes, stands_alone, several = folding(lowercase, strip_accents, tokenize_chinese_chars)
    occurs = np.zeros(len(stands_alone), bool)
    occurs[_codes(vocab)] = True
    codes = np.flatnonzero(occurs)  # ASCII comes first, so that its symbols fit int8
    alone = stands_alone[codes]
    in_words, singles = codes[~alone], codes[alone]
    first_rare = UNKNOWN_WORD + 1 + len(in_words)
    first_special = UNKNOWN_ALONE - 1 - len(singles)
    largest = max(first_rare + len(several), len(special) - first_special)
    of_tokens = np.where(stands_alone, UNKNOWN_ALONE, UNKNOWN_WORD).astype(np.int16 if largest < 2**15 else np.int32)
    of_tokens[in_words] = np.arange(UNKNOWN_WORD + 1, first_rare)
    of_tokens[singles] = np.arange(UNKNOWN_ALONE - 1, first_special, -1)
    wide = of_tokens.take(becomes, mode="clip")
    changed = np.flatnonzero(becomes < 0)
    wide[changed] = np.where(becomes[changed] == SPACE, 0, first_rare + REORDERS - becomes[changed])
    narrow = np.where(wide[:128] < first_rare, wide[:128], NARROW_RARE).astype(np.int8)
    lengths = np.array([len(part) for part in several])
    return Alphabet(
        wide=wide,
        narrow=narrow.tobytes() + bytes(128),
        of_tokens=of_tokens,
        first_rare=first_rare,
        several=of_tokens[_codes(several)],
        several_starts=np.cumsum(lengths) - lengths,
        several_lengths=lengths,
        alone_ids=np.array(
            [unknown_id, *(vocab.get(chr(code), unknown_id) for code in singles), *special.values()], np.int32
        ),
        alone_lengths=np.array([1] * (1 + len(singles)) + [len(token) for token in special]),
        special={token: first_special - k for k, token in enumerate(special)},
    )
