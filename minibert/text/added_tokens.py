"""Tokens that were added to a vocabulary, found before any word is cut, as `tokenizers` finds them.

    text            "A NewTok[MASK]  b"     newtok: normalized, the usual kind; [MASK]: rstrip, not normalized
    1. as written    A NewTok|[MASK]  |b    special tokens and others that are not `normalized`, in the text itself
    2. normalised    a |newtok|              |b     the others, in what normalisation makes of every stretch between
    3.               a                       b      the rest goes through WordPiece

Where several fit, the leftmost is taken, of those the longest.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minibert.core.vocabulary import BLANK
from minibert.core.wordpiece import COMBINING_CLASSES, members, normalize, spans
from minibert.text.cuts import brackets
from minibert.text.symbols import NOTHING, REORDERS, SPACE, folding

RARE = (0x10000, 0x1EFFF)  # below emoji and the rarer Chinese characters


class AddedToken(NamedTuple):
    """A token as tokenizer files describe it; these are the flags of a special one.

    single_word: not inside a word. lstrip, rstrip: with the white space before or behind it. normalized: looked for in
    the normalised text, itself normalised. special: left out by decode(skip_special_tokens=True), and plain text where
    split_special_tokens is asked for.
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether it is of the kind that core's Tokenizer knows."""
        return self == AddedToken(self.content)


class Matcher:
    """Finds tokens in a string.

    patterns: how each is spelled there; the first of those that are spelled alike is the one.
    """

    def __init__(self, patterns: Iterable[tuple[str, AddedToken]]) -> None:
        self.tokens: dict[str, AddedToken] = {}
        for pattern, token in patterns:
            self.tokens.setdefault(pattern, token)
        longest_first = sorted(self.tokens, key=len, reverse=True)
        self.regex = re.compile("|".join(map(re.escape, longest_first)) if longest_first else r"(?!)")

    def split(self, text: str, split_special_tokens: bool = False) -> Iterator[tuple[int, int, AddedToken | None]]:
        """The parts of the string: (begin, end, the token that it is, None for what stands between)."""
        done = 0
        for match in self.regex.finditer(text):
            begin, end = match.span()
            token = self.tokens[match.group()]
            if token.special and split_special_tokens:
                continue
            if token.single_word and any(map(is_word, text[max(0, begin - 1) : begin] + text[end : end + 1])):
                continue
            while token.lstrip and begin > done and text[begin - 1] in BLANK:
                begin -= 1
            if token.lstrip:  # a former token may have taken the space that this one begins with; without lstrip
                begin = max(begin, done)  # both have it, so it is in the reference
            while token.rstrip and end < len(text) and text[end] in BLANK:
                end += 1
            if done < begin:
                yield done, begin, None
            if begin < end:
                yield begin, end, token
            done = max(done, end)
        if done < len(text):
            yield done, len(text), None


class AddedTokens:
    """All tokens that are found before WordPiece, where some are not plain special ones.

    tokens: special ones first, in the order of the files. switches: those of wordpiece.steps.

    Raises ValueError for a token of which normalisation leaves nothing.
    """

    def __init__(self, tokens: Iterable[AddedToken], *switches: bool | None) -> None:
        tokens = list(tokens)
        self.switches = switches
        self.written = Matcher((token.content, token) for token in tokens if not token.normalized)
        spelled = [(self._normalized(token.content), token) for token in tokens if token.normalized]
        for pattern, token in spelled:
            if not pattern.strip():
                what = f"added token {token.content!r} is nothing after normalisation"
                raise ValueError(f"{what}; take it out of the tokenizer's files, or write normalized: false there")
        self.normalized = Matcher(spelled)
        flagged = [re.escape(content) for content, token in self.written.tokens.items() if not token.is_plain]
        self._flagged = re.compile("|".join(flagged) if flagged else r"(?!)")

    def _normalized(self, text: str) -> str:
        return "".join(char for char, _ in normalize(text, *self.switches))

    def may_be_in(self, text: str) -> bool:
        """Whether a token that is not a plain special one may be in the text: quick, and never wrong in saying no."""
        if self._flagged.search(text) is not None:
            return True
        return bool(self.normalized.tokens) and self._may_be_normalized(text) is not None

    @cached_property
    def _may_be_normalized(self) -> Callable[[str], object]:
        return sketch([*self.normalized.tokens], *self.switches).search

    def parts(self, chars: list[tuple[str, int]], split: bool) -> Iterator[tuple[list[tuple[str, int]], str | None]]:
        """Normalised characters with their sources, as wordpiece.py has them, cut around tokens: (those of a part, the
        token that it is). split: as split_special_tokens."""
        text = "".join(char for char, _ in chars)
        for begin, end, token in self.normalized.split(text, split):
            yield chars[begin:end], token and token.content


def sketch(
    patterns: Sequence[str], lowercase: bool, strip_accents: bool | None, tokenize_chinese_chars: bool
) -> re.Pattern:
    """Finds something in every text whose normalisation holds one of the patterns, and seldom in others.

    For "ab" one of "aAáâ…", then one of "bBḃ…", and between them whatever normalisation takes away; spaces and marks
    are left out on both sides. A character that becomes several, or changes its place, counts as a whole pattern.
    """
    strip_accents = lowercase if strip_accents is None else strip_accents
    becomes, _, several = folding(lowercase, strip_accents, tokenize_chinese_chars)
    marks = COMBINING_CLASSES if strip_accents else ()
    spelled = {"".join(char for char in pattern if char not in marks and char != " ") for pattern in patterns}
    if "" in spelled:
        return re.compile("")
    chars = set().union(*spelled)
    kinds = [NOTHING - k for k, part in enumerate(several) if not chars.isdisjoint(part)]
    wild = one_of(becomes, [REORDERS, *kinds])
    between = f"[{one_of(becomes, [NOTHING, SPACE, REORDERS], exact=True)}]*+"
    classes = {char: one_of(becomes, [ord(char)]) for char in chars}
    rests: dict[str, list[str]] = {}  # by the first character
    for pattern in spelled:
        rests.setdefault(pattern[0], []).append("".join(f"{between}[{wild}{classes[char]}]" for char in pattern[1:]))
    branches = [f"(?<=[{classes[first]}])(?:{'|'.join(rest)})" for first, rest in rests.items()]
    firsts = "".join(classes[first] for first in rests)
    return re.compile(f"[{wild}{firsts}](?:(?<=[{wild}])|{'|'.join(branches)})")


def one_of(becomes: NDArray[np.int32], kinds: Sequence[int], exact: bool = False) -> str:
    """The code points that become one of some, as the inside of a regular expression's brackets, which must hold one:
    so U+0000 is there too. Unless it must be exact, spans beyond U+FFFF, which are slow to look for, are made one."""
    codes = np.flatnonzero(np.isin(becomes, kinds))
    rare = (codes >= RARE[0]) & (codes <= RARE[1]) & (not exact)
    wide = [RARE] if rare.any() else []
    codes = codes[~rare]
    runs = np.split(codes, np.flatnonzero(np.diff(codes) > 1) + 1)
    return "\\0" + brackets([*((run[0], run[-1]) for run in runs if len(run)), *wide])


is_word = members(spans(Path(__file__).with_name("word_characters.txt").read_text("ascii").partition("\n\n")[2]))
