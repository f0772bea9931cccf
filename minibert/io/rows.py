"""The rows of a data file, one after the other, in memory that does not grow with it; and what may be a data file.

    label   text                     the columns are named by a header, by `columns`, or by the keys of a .jsonl; others
    好      房间很干净，下次还住     are ignored; for pairs there is text_b as well. In a .txt every line is a text.

A broken row costs itself alone: it comes with what is wrong, and reading goes on behind it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

# Column names in use: GLUE's, CLUE's and those of the common Chinese sentiment sets; compared in lower case.
COLUMNS = {
    "label": ("label", "quality"),
    "text": ("text", "text_a", "sentence", "sentence1", "review", "#1 string"),
    "pair": ("text_b", "sentence2", "#2 string"),
}
LONGEST = 1 << 26  # characters of a line or a quoted field: a row is held whole, and BERT reads its beginning only
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
        if kinds and path.suffix.lower() not in kinds:
            raise ValueError(f"{path}: unknown kind of file {path.suffix!r}; use {use or ', '.join(kinds)}")
    return paths


def not_utf8(byte: int) -> str:
    """What to say of the first byte that is not UTF-8."""
    remedy = "convert the file (GBK is common for Chinese: iconv -f GBK -t UTF-8), or mend that line"
    return f"byte 0x{byte:02x} is not UTF-8; {remedy}"


class Lines:
    """The lines of a file, counted and hashed. After a broken row all but its first line are un-read: one quote that is
    never closed shall cost one row, not all the rest."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path, self.file = path, file
        self.number = 0
        self.digest = hashlib.blake2b(digest_size=16)
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
            raise ValueError(not_utf8(ord(stray[0]) - 0xDC00))
        return line

    def read(self) -> str:
        """The next line, or the beginning of one that is too long."""
        line = piece = self.file.readline(LONGEST)
        self.digest.update(piece.encode(errors="surrogateescape"))
        while len(piece) == LONGEST and piece[-1] not in "\r\n":
            piece = self.file.readline(LONGEST)
            self.digest.update(piece.encode(errors="surrogateescape"))
        return line

    def give_back(self) -> None:
        self.returned.extendleft(reversed(self.row[1:]))
        self.number -= len(self.row) - 1


@contextmanager
def open_lines(path: Path) -> Iterator[Lines]:
    """In tables a lone "\\r" ends a line too, as csv.reader has it; elsewhere "\\n" alone does."""
    newline = "" if path.suffix.lower() in (".tsv", ".csv") else "\n"
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
        yield Lines(path, file)


# ---- rows ----


def read_rows(
    lines: Lines, columns: Sequence[str] | None = None, quoting: str = "minimal", labelled: bool | str | None = False
) -> Iterator[Row]:
    """All rows, the broken ones too; blank lines are passed over.

    columns: the column names of a file without a header.
    quoting: "minimal", a field may stand in double quotes; "none", a quote is a character like any other (GLUE).
    labelled: whether there must be a label; None takes one that is there, False leaves it out. "many" wants a column of
        them, in which a row may have several, a|b or a list in a .jsonl, or none; "number" may be any that JSON has.

    Raises:
        ValueError: the header, or the first row's keys, do not fit.
    """
    reader = {".txt": text_fields, ".jsonl": json_fields}.get(lines.path.suffix.lower())
    rows = map(reader, lines) if reader else table_fields(lines, columns, quoting)
    names: dict[str, str] = {}  # the first row's columns
    shape: tuple[str, ...] | None = None
    while True:
        lines.row, fields, line = [], None, lines.number + 1
        place = f"{lines.path}:{line}"
        try:
            if (fields := next(rows)) is None:
                continue
            if tuple(fields) != shape:
                shape = tuple(fields)
                found = find_columns(shape, labelled)
            names = names or found
            if found != names:
                raise ValueError(f"its columns are {shape}, not as in the first row; make all rows alike")
            values = {kind: checked(kind, name, fields.get(name), labelled) for kind, name in names.items()}
            row = Row(line, place, **values)
        except StopIteration:
            return
        except (csv.Error, ValueError) as error:
            if fields is not None and not names:  # the file's fault, not the row's
                raise ValueError(f"{lines.path}: {error}") from None
            lines.give_back()
            quotes = "a quoted field is not closed properly ({}); if quotes are plain text here, use --quoting none"
            row = Row(
                line, place, problem=f"{place}: {quotes.format(error) if isinstance(error, csv.Error) else error}"
            )
        yield row


def text_fields(line: str) -> Fields:
    return {"text": line.removesuffix("\n").removesuffix("\r")}


def json_fields(line: str) -> Fields | None:
    if not line.strip():
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error}); write one object a line") from None
    if not isinstance(row, dict):
        raise ValueError(f'holds a {type(row).__name__}, not an object such as {{"text": …}}')
    return row


def table_fields(lines: Lines, columns: Sequence[str] | None, quoting: str) -> Iterator[Fields | None]:
    """An iterator that goes on behind a broken row, as a generator would not. See `parse`."""
    csv.field_size_limit(LONGEST)
    reader = csv.reader(
        lines,
        delimiter="," if lines.path.suffix.lower() == ".csv" else "\t",
        quoting=csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    try:
        first = columns if columns is not None else next(filter("".join, map(stripped, reader)), None)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{lines.path}:1: the header cannot be read ({error})") from None
    if first is None:
        return reader  # which has nothing left
    header = stripped(first)
    if repeated := [name for name in header if name and header.count(name) > 1]:
        raise ValueError(f"{lines.path}:1: two columns are named {repeated[0]!r}; rename one")

    def fields_of(fields: list[str]) -> Fields | None:
        if columns is not None and lines.number == 1 and is_header(fields):
            raise ValueError(f"is a header ({', '.join(fields)[:100]}); leave --columns out")
        if fields and len(fields) != len(header):
            raise ValueError(
                f"has {len(fields)} columns, not the {len(header)} of {', '.join(header)}; is the row cut off, or a"
                " delimiter inside a text? (quotes that are plain text: --quoting none)"
            )
        return dict(zip(header, fields, strict=True)) if fields else None

    return map(fields_of, reader)


def stripped(fields: Sequence[str]) -> list[str]:
    return [field.strip() for field in fields]


def is_header(fields: Sequence[str]) -> bool:
    """Whether a row names both a label and a text column."""
    names = {name.strip().lower() for name in fields}
    return all(names & set(COLUMNS[kind]) for kind in ("label", "text"))


# ---- columns ----


def find_columns(columns: Sequence[str], labelled: bool | str | None) -> dict[str, str]:
    """Which column is the text, the pair and the label. labelled: see `read_rows`. ValueError: one is missing."""
    present = {name.strip().lower(): name for name in columns}
    found = {}
    for kind, known in COLUMNS.items():
        name = next((present[alias] for alias in known if alias in present), None)
        if name is not None and (kind != "label" or labelled is not False):
            found[kind] = name
        elif kind == "text" or (kind == "label" and labelled):
            raise ValueError(
                f"has no {kind} column; its columns are {', '.join(map(repr, columns))[:300]}. A header must"
                f" name one of {', '.join(known)}; for a file without a header use --columns"
            )
    return found


def checked(kind: str, name: str, value: object, labelled: bool | str | None = True) -> str:
    """A field as text, a label without the spaces around it: a string that is UTF-8. Only a label may not be empty.
    labelled: see `read_rows`."""
    if kind == "label":
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


def label_text(name: str, value: object, labelled: bool | str | None) -> object:
    """Numbers and lists, which only JSON has, as text; what else is no text as it is."""
    shown = f"{name} is {repr(value)[:80]}"
    if isinstance(value, int) or (isinstance(value, float) and labelled == "number"):
        return str(value)
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
