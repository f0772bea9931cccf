"""In which encoding a text file is: by its mark, as UTF-8, or judged by the characters that it then would hold.

UTF-8 is told by itself. Of the others, almost any bytes are valid in each, so one is taken only where the text then
reads like Chinese (a good part of it are the most frequent characters) or like a Western language, and no other does;
else the user decides. The same for every command.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from minibert.io.opening import opened

MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16's, with which it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
CHINESE = ("gb18030", "big5", "utf-16-le", "utf-16-be")
# In any Chinese text about 4 in 10 characters; in another encoding's bytes read as Chinese hardly one.
FREQUENT = frozenset(
    "，。！？、：；“”（）的一是不了在人有我他这大来上个国到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么"
    "心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些"
    "与高意进把法此实回二理美点月明其种声全工己话儿者向情部正名定女问力机给等几很业最间新什打便位因重被走電這個們來國說為時"
    "學對過會後麼沒發當看開經頭動兩長見樣現將與進實點聲話問機給幾業間無還就店书好房吃買服務"
)
WESTERN = frozenset("àâäáãåæçèéêëìíîïñòóôöõøœùúûüßÀÂÄÁÃÅÆÇÈÉÊËÍÎÏÑÓÔÖØÙÚÛÜ‘’“”–—…€£§°«»·¡¿ºª®©™½\xa0")
KANA = re.compile("[\u3041-\u30fa]")
# What cp1252 shows as õ and û is in Hungarian's cp1250 ő and ű; languages with õ or û have one of à â ã ç è ê î ñ too.
HUNGARIAN, NOT_HUNGARIAN = re.compile(b"[\xd5\xdb\xf5\xfb]"), re.compile(b"[\xe0\xe2\xe3\xe7\xe8\xea\xee\xf1]")
TO_UTF8 = "iconv -f {} -t UTF-8"  # where there is no --encoding: of a vocabulary, a corpus
BLOCK = 1 << 20  # bytes
SURE = 0.12  # of the characters beyond ASCII that are frequent ones
FEW = 20  # bytes beyond ASCII, by which nothing is sure


def encoding_of(path: Path, asked: str | None = None) -> str:
    """The encoding of a file. asked: what the user says, which holds.

    A file of UTF-8 with single broken lines is UTF-8: they are refused where they stand.

    Raises ValueError: it cannot be told, or is not what was asked for; with the line.
    """
    with opened(path) as file:
        head = file.read(4)
    if asked is not None:
        try:
            encoding = codecs.lookup(asked).name
            b"".decode(encoding)
        except LookupError:
            raise ValueError(f"encoding {asked!r} is unknown; use utf-8, utf-16, gb18030, big5, cp1252 …") from None
        if encoding in ("utf-8", "utf-8-sig"):
            return "utf-8-sig"
    else:
        encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8-sig")
    if (stray := first_stray(path, encoding)) is None:
        return (asked is None and spread_zeros(path)) or encoding
    if encoding != "utf-8-sig":
        remedy = "take another --encoding" if asked else "copy the original file again"
        raise ValueError(f"{path}:{stray[0]}: is not in {encoding}; {remedy}")
    found, sure = likely(path)
    return found if sure else "utf-8-sig"


def likely(path: Path) -> tuple[str | None, bool]:
    """The encoding that a file may be in that is not all UTF-8, and whether that is sure."""
    with opened(path) as file:
        found, sure = judged(iter(lambda: file.readline(BLOCK), b""))
    return (found, sure) if found and first_stray(path, found) is None else (None, False)


def not_utf8(path: Path, byte: int, way: str = "type --encoding {}") -> str:
    """What to say of a byte that is not UTF-8, where nothing is sure. way: of the remedy, if an encoding is likely."""
    return f"byte 0x{byte:02x} is not UTF-8; {remedy_for(path, way)}"


def remedy_for(path: Path, way: str = "type --encoding {}") -> str:
    """As in `not_utf8`: the whole file is judged for it."""
    found, _ = likely(path)
    return f"if the file is {found}, {way.format(found)}" if found else "mend that line, or copy the file again"


def first_stray(path: Path, encoding: str) -> tuple[int, int] | None:
    """The first line that the encoding does not allow, and the byte; None: the whole file is in it."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    with opened(path) as file:
        while block := file.read(BLOCK):
            try:
                line += decoder.decode(block).count("\n")
            except UnicodeError as error:
                if not isinstance(error, UnicodeDecodeError):
                    return line, block[0]  # utf-16 without its mark
                return line + error.object.count(b"\n", 0, error.start), error.object[error.start]
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return line, error.object[error.start]
    return None


def spread_zeros(path: Path) -> str | None:
    """UTF-16 without its mark, of a text that is mostly ASCII: every other byte is 0, and none beside."""
    with opened(path) as file:
        head = file.read(BLOCK)
    even, odd = head[::2].count(0), head[1::2].count(0)
    found = "utf-16-le" if odd else "utf-16-be"
    most = max(even, odd)  # of few bytes all
    spread = (3 * most > len(head) >= FEW or 2 * most == len(head) > 0) and not min(even, odd)
    return found if spread and first_stray(path, found) is None else None


def judged(lines: Iterator[bytes]) -> tuple[str | None, bool]:
    """What the lines of a file that is not all UTF-8 may be in, and whether that is sure; None: nothing known."""
    valid, others, size = 0, [], 0
    for line in lines:
        if line.isascii():
            continue
        try:
            line.decode()
            valid += 1
        except UnicodeDecodeError:
            others.append(line)
        size += len(line)
        if size > BLOCK:
            break
    if valid > len(others):
        return None, False
    sample, pure = b"".join(others), 20 * valid <= len(others)  # else some lines are UTF-8 and would be spoiled
    scores = {name: share(sample, name, FREQUENT) for name in CHINESE}
    best, second = sorted(scores, key=scores.__getitem__, reverse=True)[:2]
    beyond = sum(byte > 127 for byte in sample)
    if scores[best] >= SURE:
        if KANA.search(sample.decode(best)):  # EUC-JP stands where GB 2312 has the same signs
            return None, False
        return best, pure and beyond >= FEW and scores[best] >= 2 * scores[second]
    western = share(sample, "cp1252", WESTERN)
    if western > 0.5:
        hungarian = HUNGARIAN.search(sample) and not NOT_HUNGARIAN.search(sample)
        return "cp1252", bool(pure and western > 0.98 and 4 * beyond >= FEW and not crowded(sample) and not hungarian)
    return (best, False) if scores[best] > 0 else (None, False)


def share(sample: bytes, encoding: str, wanted: frozenset[str]) -> float:
    """Of the characters beyond ASCII, those that are wanted; 0 where the bytes are not in the encoding."""
    if encoding.startswith("utf-16"):
        sample = sample[: len(sample) // 2 * 2]
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError:
        return 0.0
    beyond = [char for char in text if not char.isascii()]
    return sum(char in wanted for char in beyond) / max(1, len(beyond))


def crowded(sample: bytes) -> bool:
    """Whether the bytes beyond ASCII stand mostly side by side, as no Western language has them."""
    beyond = sum(byte > 127 for byte in sample)
    beside = sum(one > 127 and other > 127 for one, other in pairwise(sample))
    return 3 * beside > beyond
