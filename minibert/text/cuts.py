"""Where a text may be cut without changing its tokens: what a cache or the fast twin of WordPiece encodes apart.

No step of core/wordpiece.py joins what stands on either side of white space, a punctuation character or a Chinese one:
all three end a word on either side, and none is a mark, so that no mark is sorted across the cut.
"""

import re
from collections.abc import Iterable, Iterator

from minibert.core import unicode_tables
from minibert.core.wordpiece import CHINESE, WHITESPACE, spans


def units(text: str, tokenize_chinese_chars: bool = True) -> Iterator[re.Match]:
    """The stretches of a text that no step joins, white space left out: tokenize(text) is the tokenize(unit) of its
    units one after the other, shifted by their starts.

    >>> [unit.group() for unit in units("Don't  stop!")]
    ['Don', "'", 't', 'stop', '!']
    """
    return UNIT[tokenize_chinese_chars].finditer(text)


def border(text: str, position: int, tokenize_chinese_chars: bool = True, but: str = "") -> int:
    """Where the first unit ends that is found from `position` on, so that the text may be cut there, in characters; the
    text's length if there is none. but: characters not to cut before.
    """
    ends = (unit.end() for unit in UNIT[tokenize_chinese_chars].finditer(text, position))
    return next((end for end in ends if text[end : end + 1] not in but), len(text))


def brackets(ranges: Iterable[tuple[int, int]]) -> str:
    """The inside of a regular expression's brackets."""
    return "".join(f"\\U{first:08X}-\\U{last:08X}" for first, last in ranges)


def _unit(alone: list[tuple[int, int]]) -> re.Pattern:
    """Python looks characters up to U+FFFF up in a table, those beyond span by span, slowly: so these have brackets of
    their own, which no other character gets to."""
    low = brackets(span for span in alone if span[0] < 0x10000)
    high = brackets(span for span in alone if span[0] > 0xFFFF)
    return re.compile(f"[{low}]|(?:[^{low}{WHITESPACE}\U00010000-\U0010ffff]+|[^\0-\uffff{high}])++|[{high}]")


_ALONE = spans(unicode_tables.PUNCTUATION)
UNIT = {True: _unit([*_ALONE, *CHINESE]), False: _unit(_ALONE)}  # by tokenize_chinese_chars
