"""The rows of a data file, one after the other, in memory that does not grow with it; and what may be a data file.

    label   text                     the columns are named by a header, by options, or by the keys of JSON (columns.py);
    好      房间很干净，下次还住     others are ignored; for pairs there is text_b as well. file_layout.py tells kind
                                     and delimiter. In a .txt without columns every line is a text.

A broken row costs itself alone: it comes with what is wrong, and reading goes on behind it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import NamedTuple, TextIO

from minibert.io.columns import find_columns, is_header
from minibert.io.encodings import remedy_for
from minibert.io.file_layout import Layout, advice, is_row, layout_of
from minibert.io.opening import ending_of, opened, opened_text
from minibert.options import Reading

BLOCK = 1 << 14  # characters of the lines that are read at once: few objects, as many wake the garbage collector
LARGEST = 1 << 29  # characters of a JSON array, which is read at once
NO_SPACE = re.compile(r"[^ \t\r\n]|\Z")
GLUED = "a quoted field runs over several rows; if quotes are plain text here, use --quoting none"
LONGEST = 1 << 24  # characters of a line or a quoted field: a row is held whole, and BERT reads its beginning only
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what errors="surrogateescape" makes of such bytes

Fields = dict[str, object]  # of a row, by column


class Row(NamedTuple):
    """`place` is FILE:LINE; `problem` says, with the place, why the row cannot be used."""

    line: int
    place: str
    text: str = ""
    pair: str | None = None
    label: str | None = None
    problem: str | None = None
    kept: Sequence[object] = ()  # the fields of the columns that are carried along


# ---- files ----


def checked_paths(paths: str | Path | Sequence[str | Path], kinds: Sequence[str] = (), use: str = "") -> list[Path]:
    """The paths of text files that are there and may be read.

    kinds: the endings that they may have; then they are regular files too, and no pipes. use: what to say of these.

    Raises ValueError for a path that is not so, and where there is none.
    """
    paths = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if not paths:
        raise ValueError(f"no text files given; name at least one{', ' * bool(kinds)}{' or '.join(kinds)}")
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: no such file; check the name")
        if path.is_dir() or (kinds and not path.is_file()):
            raise ValueError(f"{path}: {'a directory' if path.is_dir() else 'is no regular file'}; name a file")
        if not os.access(path, os.R_OK):
            raise ValueError(f"{path}: may not be read; change its permissions")
        if kinds and ending_of(path) not in kinds:
            opened(path).close()  # what it is says more, if it is no text
            raise ValueError(f"{path}: unknown kind of file {path.suffix!r}; use {use or ', '.join(kinds)}")
    return paths


class Lines:
    """The lines of a file, counted and hashed. After a broken row all but its first line are un-read: one quote that is
    never closed shall cost one row, not all the rest. Lines are read ahead, but hashed when their rows are used."""

    def __init__(self, path: Path, file: TextIO, layout: Layout, how: Reading, labelled: bool | str | None) -> None:
        self.path, self.file, self.layout, self.how, self.labelled = path, file, layout, how, labelled
        self.names: dict[str, str] = {}  # the columns that are used
        self.columns: tuple[str, ...] = ()  # all there are
        self.keep: Sequence[str] = ()  # those that are carried along
        self.keeps_all = False  # whether a row must not have others
        self.header: list[str] | None = None  # of a table, if it has one
        self.number = 0
        self.hash = hashlib.blake2b(digest_size=16)
        self.ahead: deque[str] = deque()  # not hashed yet
        self.used = 0  # of them, by rows that are yielded
        self.row: list[str] = []  # the lines of the row that is being read
        self.returned: deque[str] = deque()

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = self.returned.popleft() if self.returned else self.read()
        if not line:
            raise StopIteration
        self.number += 1
        self.row.append(line)
        if len(line) == LONGEST:
            raise ValueError(f"the line is longer than {LONGEST - 1} characters; cut it")
        if not line.isascii() and (stray := NOT_UTF8.search(line)):
            raise ValueError(f"byte 0x{ord(stray[0]) - 0xDC00:02x} is not UTF-8; {self.remedy}")
        return line

    @cached_property
    def remedy(self) -> str:
        """Of a byte that is not UTF-8: told once for all rows, as the whole file is judged for it."""
        return remedy_for(self.path)

    @property
    def digest(self) -> hashlib.blake2b:
        """Of the lines up to here, also those that were un-read."""
        used = "".join([self.ahead.popleft() for _ in range(self.used)])
        self.hash.update(used.encode())  # ordinary rows are UTF-8
        self.used = 0
        return self.hash

    def read(self) -> str:
        """The next line, or the beginning of one that is too long."""
        line = piece = self.ahead.popleft() if self.ahead else self.file.readline(LONGEST)
        self.hash.update(piece.encode(errors="surrogateescape"))
        while len(piece) >= LONGEST and piece[-1] not in "\r\n":
            piece = self.file.readline(LONGEST)
            self.hash.update(piece.encode(errors="surrogateescape"))
        return line[:LONGEST]

    def read_ahead(self) -> bool:
        """Reads some whole lines, at the end none. Whether none of them is too long or not UTF-8."""
        block = self.file.read(BLOCK) + self.file.readline(LONGEST)
        self.ahead.extend(io.StringIO(block, newline=self.layout.newline))
        if not block.isascii() and NOT_UTF8.search(block):
            return False
        return max(map(len, self.ahead), default=LONGEST) < LONGEST

    def give_back(self) -> None:
        self.returned.extendleft(reversed(self.row[1:]))
        self.number -= len(self.row) - 1


@contextmanager
def open_lines(path: Path, how: Reading | None = None, labelled: bool | str | None = False) -> Iterator[Lines]:
    """A file whose layout is known. In tables a lone "\\r" ends a line too, as csv.reader has it; elsewhere "\\n" alone
    does, unless a .txt has none. labelled: see `read_rows`."""
    how = how or Reading()
    layout = layout_of(path, how, labelled)
    with opened_text(path, layout.encoding, layout.newline) as file:
        yield Lines(path, io.StringIO(json_lines(path, file)) if layout.kind == "json" else file, layout, how, labelled)


# ---- rows ----


def read_rows(lines: Lines) -> Iterator[Row]:
    """All rows, the broken ones too; blank lines are passed over.

    lines.labelled: whether there must be a label; None takes one that is there, False leaves it out. "many" wants a
        column of them, in which a row may have several, a|b or a list in JSON, or none; "number" may be any that JSON
        has.

    Raises:
        ValueError: the header, or the first row's keys, do not fit.
    """
    layout, labelled = lines.layout, lines.labelled
    found: dict[str, str] = {}
    reader = {"txt": text_fields, "jsonl": json_fields, "json": json_fields}.get(layout.kind)
    rows = map(reader, lines) if reader else table_fields(lines)
    names: dict[str, str] = {}
    shape: tuple[str, ...] | None = None
    while True:
        if names and found == names and not lines.ahead and not lines.returned:
            for row in ordinary_rows(lines, shape):
                lines.number += 1
                lines.used += 1
                yield row
            lines.digest.digest()  # takes them out of those ahead
        lines.row, fields, line = [], None, lines.number + 1
        place = f"{lines.path}:{line}"
        try:
            if (fields := next(rows)) is None:
                continue
            if tuple(fields) != shape:
                found = columns_found(lines, tuple(fields))
                shape = tuple(fields)
                names = lines.names = lines.names or found
                lines.columns = lines.columns or shape
            if found != names:
                raise ValueError(f"its columns are {shape}, not as in the first row; make all rows alike")
            values = {kind: checked(kind, name, fields.get(name), labelled) for kind, name in names.items()}
            if len(lines.row) > 1 and layout.kind == "table":
                check_glue(layout, len(fields), values)
            row = Row(line, place, **values, kept=kept_fields(lines, fields) if lines.keep else ())
        except StopIteration:
            return
        except (csv.Error, ValueError) as error:
            if fields is not None and not lines.names:  # the file's fault, not the row's
                raise ValueError(f"{lines.path}: {error}") from None
            lines.give_back()
            quotes = "a quoted field is not closed properly ({}); if quotes are plain text here, use --quoting none"
            row = Row(
                line, place, problem=f"{place}: {quotes.format(error) if isinstance(error, csv.Error) else error}"
            )
        yield row


def ordinary_rows(lines: Lines, shape: tuple[str, ...]) -> list[Row]:
    """The rows of the next lines, faster than one by one.

    Each line must be a row with these columns, and nothing wrong with any; else there are none, and these lines are
    still to be read.
    """
    if not lines.read_ahead():
        return []
    try:
        columns = by_column(lines, shape)
        values = {kind: usable(kind, name, columns[name], lines.labelled) for kind, name in lines.names.items()}
        kept = [usable("kept", name, columns[name], lines.labelled) for name in lines.keep]
    except (csv.Error, ValueError, LookupError, RecursionError):
        return []
    count, path = len(values["text"]), str(lines.path)
    numbers = range(lines.number + 1, lines.number + 1 + count)
    places = [f"{path}:{number}" for number in numbers]
    parts = (values.get(kind, repeat(None, count)) for kind in ("pair", "label"))
    carried = zip(*kept, strict=True) if kept else repeat((), count)
    return list(map(Row, numbers, places, values["text"], *parts, repeat(None), carried))


def by_column(lines: Lines, shape: tuple[str, ...]) -> dict[str, Sequence[object]]:
    """The lines that are read ahead, by column.

    Raises ValueError, csv.Error, RecursionError: they are no ordinary rows.
    """
    kind, header = lines.layout.kind, lines.header
    if kind == "txt":
        return {"text": [text_fields(line)["text"] for line in lines.ahead]}
    if kind == "table":
        rows = list(table_reader(lines.ahead, lines.layout))
        if len(rows) != len(lines.ahead):
            raise ValueError("a row has several lines")
        if header in rows:
            raise ValueError("the header stands there again")
    else:
        found = list(map(json.loads, lines.ahead))
        if {*map(type, found)} != {dict} or {*map(tuple, found)} != {shape}:
            raise ValueError("a line is no object, or has other keys")
        rows = list(map(dict.values, found))
    if {*map(len, rows)} != {len(shape)}:
        raise ValueError("a row is cut off, or blank")
    return dict(zip(shape, zip(*rows, strict=True), strict=True))


def usable(kind: str, name: str, values: Sequence[object], labelled: bool | str | None) -> Sequence[str]:
    """A column, as `checked` has each of its fields.

    Raises ValueError: one of them may not be so.
    """
    if {*map(type, values)} != {str}:
        return [checked(kind, name, value, labelled) for value in values]
    "".join(values).encode()
    if kind != "label":
        return values
    labels = [value.strip() for value in values]
    if "" in labels and labelled != "many":
        raise ValueError("a label is empty")
    return labels


def columns_found(lines: Lines, shape: tuple[str, ...]) -> dict[str, str]:
    """See find_columns; of a table without known names with what may be meant."""
    if lines.layout.kind == "txt":
        return {"text": "text"}
    try:
        return find_columns(shape, lines.labelled, lines.how)
    except ValueError as error:
        head = lines.layout.head
        if " column; its columns are" not in str(error) or lines.how.columns or len(head) < 2:
            raise
        what = str(error).partition(". A header")[0]
        raise ValueError(f"{what}; {advice(head, lines.labelled)}") from None


def check_glue(layout: Layout, width: int, values: dict[str, str]) -> None:
    """Rows that a quote at the beginning of a text has joined: such a text holds ends of lines and tabs. One of a .csv
    may hold lines and commas; see check_joined in examples.py."""
    for text in values.values():
        if "\n" in text and layout.delimiter == "\t" and (width == 1 or "\t" in text):
            raise ValueError(GLUED)


def json_lines(path: Path, file: TextIO) -> str:
    """A JSON array as lines of one object each, so that each stands on its own line as far as may be; or an object: of
    columns (lists, or what pandas writes), or around the one array that it holds."""
    text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ValueError(f"{path}: JSON of more than {LARGEST} characters is not read at once; write one object a line")
    try:
        if text.lstrip().startswith("["):
            return "".join(elements(text))
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error}); mend it, or write one object a line") from None
    arrays = [value for value in whole.values() if isinstance(value, list)] if isinstance(whole, dict) else []
    if len(arrays) == 1 and all(isinstance(row, dict) for row in arrays[0]) and not is_row(whole):
        rows = arrays[0]
    elif isinstance(whole, dict) and whole and all(isinstance(value, list | dict) for value in whole.values()):
        columns = [list(column.values()) if isinstance(column, dict) else column for column in whole.values()]
        keys = {tuple(column) if isinstance(column, dict) else None for column in whole.values()}
        if len({*map(len, columns)}) > 1 or len(keys) > 1:
            raise ValueError(f"{path}: its columns {', '.join(whole)} do not hold the same rows; mend them")
        rows = [dict(zip(whole, row, strict=True)) for row in zip(*columns, strict=True)]
    else:
        rows = [whole]
    return "".join(json.dumps(row) + "\n" for row in rows)


def elements(text: str) -> Iterator[str]:
    """Each element of an array as a line, with blank ones before it where it stands further below."""
    decoder, place, line = json.JSONDecoder(), text.index("[") + 1, 1
    here, at = 1, 0  # the line of a place, and the place
    while True:
        place = NO_SPACE.search(text, place).start()
        if text[place : place + 1] == "]":
            break
        _, end = decoder.raw_decode(text, place)
        here, at = here + text.count("\n", at, place), place
        yield "\n" * max(0, here - line)
        yield text[place:end].replace("\n", " ").replace("\r", " ") + "\n"
        line = max(line, here) + 1
        place = NO_SPACE.search(text, end).start()
        if text[place : place + 1] not in (",", "]"):
            raise ValueError(f"a comma or the closing bracket is missing behind character {end}")
        place += text[place] == ","
    if rest := text[place + 1 :].strip():
        raise ValueError(f"the array is followed by {rest[:20]!r}")


def text_fields(line: str) -> Fields:
    """A line of a .txt."""
    return {"text": line.removesuffix("\n").removesuffix("\r")}


def json_fields(line: str) -> Fields | None:
    """A line of a .jsonl; None: it is blank.

    Raises ValueError: it is no object.
    """
    if not line.strip():
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error}); write one object a line") from None
    if not isinstance(row, dict):
        raise ValueError(f'holds a {type(row).__name__}, not an object such as {{"text": …}}')
    return row


def table_reader(lines: Iterable[str], layout: Layout) -> Iterator[list[str]]:
    """Fields as they stand there; a row may have several lines."""
    quoting = csv.QUOTE_NONE if layout.quoting == "none" else csv.QUOTE_MINIMAL
    return csv.reader(lines, delimiter=layout.delimiter, quoting=quoting, strict=True)


def table_fields(lines: Lines) -> Iterator[Fields | None]:
    """An iterator that goes on behind a broken row, as a generator would not."""
    csv.field_size_limit(LONGEST)
    layout, columns = lines.layout, lines.layout.columns
    reader = table_reader(lines, layout)
    try:
        first = columns if columns is not None else next(filter("".join, map(stripped, reader)), None)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{lines.path}:1: the header cannot be read ({error})") from None
    if first is None:
        return reader  # which has nothing left
    header = stripped(first)
    if repeated := [name for name in header if name and header.count(name) > 1]:
        raise ValueError(f"{lines.path}:1: two columns are named {repeated[0]!r}; rename one")
    header = [name or " " * header[:place].count("") for place, name in enumerate(header)]  # each is one of its own
    lines.header = first if columns is None else None

    def fields_of(fields: list[str]) -> Fields | None:
        if columns is not None and lines.number == 1 and is_header(fields, "label", "text"):
            raise ValueError(f"is a header ({', '.join(fields)[:100]}); leave --columns out")
        if len(fields) != len(header):
            if not any(map(str.strip, fields)):
                return None
            if not (len(fields) > len(header) and not any(fields[len(header) :])):  # Excel's commas at the end
                names = ", ".join(stripped(header))[:200]
                raise ValueError(
                    f"has {len(fields)} columns, not the {len(header)} of {names}; is the row cut off, or a delimiter"
                    " inside a text? (quotes that are plain text: --quoting none)"
                )
        elif fields == first and columns is None:
            raise ValueError("repeats the header; delete this line")
        return dict(zip(header, fields, strict=False))

    return map(fields_of, reader)


def stripped(fields: Sequence[str]) -> list[str]:
    return [field.strip() for field in fields]


# ---- fields ----


def checked(kind: str, name: str, value: object, labelled: bool | str | None = True) -> str:
    """A field as text, a label without the spaces around it: a string that is UTF-8. Only a label may not be empty.
    labelled: see `read_rows`."""
    if kind == "label" and not isinstance(value, str):
        value = label_text(name, value, labelled)
    if not isinstance(value, str):
        raise ValueError(f"{name} is {'missing' if value is None else repr(value)[:80]}; give a string")
    if kind == "label" and not value.strip() and labelled != "many":
        raise ValueError("the label is empty; give every row one")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds half of a surrogate pair, which is no character; repair the row") from None
    return value.strip() if kind == "label" else value


def kept_fields(lines: Lines, fields: Fields) -> list[object]:
    """What is carried along, as it is. ValueError: it would be lost, or cannot be written."""
    other = next((name for name in fields if name.strip() and name not in lines.keep), None)
    if lines.keeps_all and other is not None:
        raise ValueError(f"has a column {other!r} that the first row has not; name those to keep, --keep id,title")
    kept = [fields.get(name) for name in lines.keep]
    for name, value in zip(lines.keep, kept, strict=True):
        checked("kept", name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return kept


def label_text(name: str, value: object, labelled: bool | str | None) -> object:
    """Numbers and lists, which only JSON has, as text; all else as it is."""
    shown = f"{name} is {repr(value)[:80]}"
    if isinstance(value, int) or (isinstance(value, float) and labelled == "number"):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, float):
        raise ValueError(f"{shown}; give a string, or train with --task regression if labels are numbers")
    if not isinstance(value, list):
        return value
    if labelled != "many":
        raise ValueError(f"{shown}; give a string, or train with --task multi-label if a row has several labels")
    labels = [str(label) if isinstance(label, int) else label for label in value]
    if not all(isinstance(label, str) and label.strip() and "|" not in label for label in labels):
        raise ValueError(f"{shown}; give a list of names, without | in them")
    return "|".join(labels)
