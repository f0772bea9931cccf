"""WordPiece, the specification: a text in, its pieces out, each with the stretch of the text it came from.

Every step is a small generator over (character, index in the source text), so the way back is never lost:

    source            "Née à 北京,1999"
    clean             "Née à 北京,1999"          control characters go, every kind of white space becomes " "
    isolate_chinese   "Née à  北  京 ,1999"
    decompose         "Ne◌́e a◌̀  北  京 ,1999"    Unicode's NFD: letters and accents apart
    drop_accents      "Nee a  北  京 ,1999"
    lower             "nee a  北  京 ,1999"
    words             nee | a | 北 | 京 | , | 1999
    wordpiece         nee | a | 北 | 京 | , | 1999, or 19 ##99, or [UNK]: the vocabulary decides

Ids and offsets equal Hugging Face's `tokenizers` (BertNormalizer, BertPreTokenizer, WordPiece), on any Python.
Where Google's tokenization.py differs, tests/core/test_wordpiece.py names it. All is linear in the text's length.
"""

import re
import unicodedata
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from functools import cache
from itertools import chain
from typing import NamedTuple

from . import unicode_tables

MAX_WORD = 100  # characters after normalisation; a longer word is unknown as a whole. Google's limit is 200
UNKNOWN = "[UNK]"
CONTINUES = "##"  # stands before every piece that does not begin its word

WHITESPACE = "\t\n\r \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
WHITESPACE += "\u2028\u2029\u202f\u205f\u3000"

Chars = Iterable[tuple[str, int]]  # characters, each with its index in the source text


class Piece(NamedTuple):
    """A token and the half-open stretch [start, end) of the source text it stands for, in code points."""

    token: str
    start: int
    end: int


def tokenize(text: str, vocab: Container[str], *switches: bool | None, unknown: str = UNKNOWN) -> list[Piece]:
    """The pieces of a text that holds no special tokens. switches: those of `steps`.

    >>> tokenize("Unwantéd!", {"un", "##want", "##ed"})  # doctest: +NORMALIZE_WHITESPACE
    [Piece(token='un', start=0, end=2), Piece(token='##want', start=2, end=6), Piece(token='##ed', start=6, end=8),
     Piece(token='[UNK]', start=8, end=9)]
    """
    return [
        Piece(token, sources[start], sources[end - 1] + 1)
        for word, sources in words(normalize(text, *switches))
        for token, start, end in wordpiece(word, vocab, unknown)
    ]


def normalize(text: str, *switches: bool | None) -> Chars:
    """The text before splitting. switches: those of `steps`."""
    chars: Chars = zip(text, range(len(text)), strict=True)
    for step in steps(*switches):
        chars = step(chars)
    return chars


def steps(
    lowercase: bool = True, strip_accents: bool | None = None, tokenize_chinese_chars: bool = True
) -> list[Callable[[Chars], Chars]]:
    """What `normalize` does, in its order. strip_accents=None: as lowercase says, as in the original BERT."""
    chosen: list[Callable[[Chars], Chars]] = [clean]
    if tokenize_chinese_chars:
        chosen.append(isolate_chinese)
    if lowercase if strip_accents is None else strip_accents:
        chosen += [decompose, drop_accents]
    if lowercase:
        chosen.append(lower)
    return chosen


def clean(chars: Chars) -> Chars:
    """Removes control, format and private-use characters, U+0000 and U+FFFD; any white space becomes a plain space.

    What is removed does not separate: "a\\x0bb" is the word "ab".
    """
    for char, source in chars:
        if char in WHITESPACE:
            yield " ", source
        elif not is_removed(char):
            yield char, source


def isolate_chinese(chars: Chars) -> Chars:
    """Spaces around every Chinese character: each becomes a word of its own."""
    for char, source in chars:
        for part in f" {char} " if is_chinese(char) else char:
            yield part, source


def decompose(chars: Chars) -> Chars:
    """Unicode's NFD: "é" becomes "e" and U+0301, and neighbouring marks are put into their canonical order.

    The marks move, the sources do not: after sorting, the source positions are handed out in the old order, one to each
    character that opened a source character. So it is in the reference; it shows where two kept marks change places.
    """
    sources: deque[int] = deque()  # of the source characters read and not yet handed out

    def parts() -> Iterator[tuple[str, bool]]:
        for char, source in chars:
            sources.append(source)
            yield from decomposition(char)

    source = 0
    for part, opens in canonical_order(parts()):
        if opens:
            source = sources.popleft()
        yield part, source


def canonical_order(parts: Iterable[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    """Sorts every run of marks by combining class, equal ones as they stood; a character of class 0 begins a run."""
    run: list[tuple[str, bool]] = []
    for part in chain(parts, [("", False)]):  # the end counts as one more beginning
        if part[0] not in COMBINING_CLASSES:
            yield from sorted(run, key=lambda mark: COMBINING_CLASSES.get(mark[0], 0)) if len(run) > 1 else run
            run = []
        run.append(part)


def drop_accents(chars: Chars) -> Chars:
    """Removes the non-spacing marks that `decompose` has laid bare."""
    return ((char, source) for char, source in chars if not is_nonspacing_mark(char))


def lower(chars: Chars) -> Chars:
    """Character by character: a Greek capital sigma at a word's end gives σ, where Python's str.lower() gives ς."""
    for char, source in chars:
        for small in LOWERCASE.get(char, char):  # U+0130, and no other, gives two: "i" and U+0307
            yield small, source


def words(chars: Chars) -> Iterator[tuple[str, list[int]]]:
    """Cuts at spaces, and around every punctuation character; yields (word, source index of each of its characters).

    Of a word too long for `wordpiece` only the first MAX_WORD + 1 characters are kept, and the last one's source.

    >>> [word for word, _ in words(normalize("Don't  stop!"))]
    ['don', "'", 't', 'stop', '!']
    """
    word: list[str] = []
    sources: list[int] = []
    for char, source in chars:
        stands_alone = is_punctuation(char)
        if word and (stands_alone or char == " "):
            yield "".join(word), sources
            word, sources = [], []
        if stands_alone:
            yield char, [source]
        elif len(word) > MAX_WORD:
            sources[-1] = source
        elif char != " ":
            word.append(char)
            sources.append(source)
    if word:
        yield "".join(word), sources


def wordpiece(word: str, vocab: Container[str], unknown: str = UNKNOWN) -> list[Piece]:
    """Cuts a word into pieces, always taking the longest one the vocabulary has; spans count from the word's start.

    Pieces after the first carry "##". Where the rest begins with no piece the whole word is unknown: nothing is tried
    again with shorter ones.

    >>> wordpiece("unaffable", {"un", "##aff", "##able", "##a"})  # doctest: +NORMALIZE_WHITESPACE
    [Piece(token='un', start=0, end=2), Piece(token='##aff', start=2, end=5),
     Piece(token='##able', start=5, end=9)]
    """
    if len(word) > MAX_WORD:
        return [Piece(unknown, 0, len(word))]
    pieces = []
    start = 0
    while start < len(word):
        prefix = CONTINUES if start else ""
        for end in range(len(word), start, -1):
            if prefix + word[start:end] in vocab:
                pieces.append(Piece(prefix + word[start:end], start, end))
                start = end
                break
        else:
            return [Piece(unknown, 0, len(word))]
    return pieces


# --- Unicode, from frozen tables --------------------------------------------------------------------------------------


def spans(table: str) -> list[tuple[int, int]]:
    """ "41-43 50" -> [(0x41, 0x43), (0x50, 0x50)]"""
    spans = (span.partition("-") for span in table.split())
    return [(int(first, 16), int(last or first, 16)) for first, _, last in spans]


def members(ranges: Iterable[tuple[int, int]]) -> Callable[[str], bool]:
    """Whether a character lies in one of the ranges, both ends included. Every answer is remembered: there are at most
    1,114,112 characters, and a text uses few of them."""
    bounds = [bound for first, last in sorted(ranges) for bound in (first, last + 1)]

    @cache
    def inside(char: str) -> bool:
        return bisect_right(bounds, ord(char)) % 2 == 1  # an odd number of bounds at or below it

    return inside


# CJK ideographs; not kana, not Hangul, and nothing from U+30000 on. Unicode's block of 2B920 begins at 2B820: the
# reference's slip is part of its behaviour.
CHINESE = spans("4E00-9FFF 3400-4DBF 20000-2A6DF 2A700-2B73F 2B740-2B81F 2B920-2CEAF F900-FAFF 2F800-2FA1F")

is_chinese = members(CHINESE)
is_removed = members(spans(unicode_tables.REMOVED))
is_punctuation = members(spans(unicode_tables.PUNCTUATION))
is_nonspacing_mark = members(spans(unicode_tables.NONSPACING_MARKS))
is_decomposable = members(spans(unicode_tables.DECOMPOSABLE))


@cache
def decomposition(char: str) -> tuple[tuple[str, bool], ...]:
    """The parts of a character, the first one marked True: "é" -> (("e", True), (U+0301, False))."""
    parts = unicodedata.normalize("NFD", char) if is_decomposable(char) else char
    return tuple((part, position == 0) for position, part in enumerate(parts))


COMBINING_CLASSES = {  # "230: 300-301 307" -> {U+0300: 230, U+0301: 230, U+0307: 230}; those of all others are 0
    chr(code): int(number)
    for number, ranges in re.findall(r"(\d+):([^:]+)(?=\s\d+:|$)", unicode_tables.COMBINING_CLASSES)
    for first, last in spans(ranges)
    for code in range(first, last + 1)
}
LOWERCASE = {"\u0130": "i\u0307"} | {  # "41-42+20 100/102+1" -> {"A": "a", "B": "b", "Ā": "ā", "Ă": "ă"}
    chr(code): chr(code + int(delta, 16))
    for first, step, last, delta in re.findall(r"(\w+)([-/])(\w+)([+-]\w+)", unicode_tables.LOWERCASE)
    for code in range(int(first, 16), int(last, 16) + 1, 2 if step == "/" else 1)
}
