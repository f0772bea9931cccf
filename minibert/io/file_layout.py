"""How a data file is laid out: its encoding, kind, delimiter and header, judged from its beginning.

Nothing is guessed that would change rows: what is not clear is refused, with the option that settles it.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from minibert.io.columns import is_header, is_like_label
from minibert.io.encodings import encoding_of
from minibert.io.opening import ending_of, opened, opened_text
from minibert.options import DELIMITERS, FORMATS, Reading

HEAD = 1 << 18  # characters that are looked at
ROWS = 500  # of them
MANY = 16  # lines of an old Mac among the first HEAD characters
ENDINGS = tuple(f".{name}" for name in FORMATS)
LONGEST_LABEL = 30  # characters, where nobody says which column is the label


class Layout(NamedTuple):
    """kind: table, jsonl, json or txt. columns: the names of a table without a header. head: a table's first rows.
    newline: what ends a line, as `open` has it."""

    kind: str
    encoding: str
    delimiter: str = "\t"
    quoting: str = "minimal"
    columns: list[str] | None = None
    head: Sequence[Sequence[str]] = ()
    newline: str = "\n"


def layout_of(path: Path, how: Reading, labelled: bool | str | None = False) -> Layout:
    """Raises ValueError: it cannot be told; OSError: the file cannot be read."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path}: is no regular file; name a file")
    ending = how.format or ending_of(path).removeprefix(".")
    if ending not in FORMATS:
        opened(path).close()  # what it is says more, if it is no text
        use = ", ".join(ENDINGS)
        raise ValueError(f"{path}: unknown kind of file {path.suffix!r}; use {use}, or say --format tsv, csv, jsonl …")
    encoding = encoding_of(path, how.encoding)
    head = head_of(path, encoding)
    newline = "" if is_old_mac(head) and ending == "txt" else "\n"
    head = head if newline else head.replace("\r", "\n")
    kind = ending if how.format else kind_of(ending, head)
    lines = [line for line in head.split("\n")[:ROWS] if line.strip()]
    if kind in ("json", "jsonl"):
        found = [row for line in lines if (row := as_object(line))]
        keys = list(found[0]) if found else []
        rows = [[str(row.get(key, "")) for key in keys] for row in found]
        return Layout(kind, encoding, head=[keys, *rows], newline=newline)
    if how.format == "txt" and labelled:
        raise ValueError(f"{path}: --format txt is a text a line, without labels; leave it out, or say --format tsv")
    if kind == "txt" and (how.format or not is_table(path, lines, how, labelled)):
        return Layout("txt", encoding, newline=newline)
    quoting = "none" if kind == "txt" else how.quoting
    delimiter = delimiter_of(path, kind, head, quoting, how)
    rows = first_rows(head, delimiter, quoting)
    return Layout("table", encoding, delimiter, quoting, columns_of(path, kind, rows, how), rows, newline="")


def head_of(path: Path, encoding: str) -> str:
    """The first lines of a file, about HEAD characters."""
    with opened_text(path, encoding) as file:
        head = file.read(HEAD)
    return head[: head.rindex("\n") + 1] if len(head) == HEAD and "\n" in head else head


def is_old_mac(head: str) -> bool:
    """Whether lines end with a carriage return alone: many do, or the only ones that there are."""
    return "\n" not in head and head.count("\r") > (MANY if len(head) >= HEAD else 0)


# ---- kind ----


def kind_of(ending: str, head: str) -> str:
    """What the content says: JSON may stand in a file of any ending, tables in a .txt."""
    begin = head.lstrip()
    if re.match(r"\[\s*\{" if ending != "txt" else r'\[\s*\{\s*["}]', begin):  # a text may begin with [{
        return "json"
    if not begin.startswith("{"):
        return ending
    lines = [line for line in head.split("\n")[:ROWS] if line.strip()]
    rows = [as_object(line) for line in lines]
    if ending == "txt":  # where any line may be a text
        return "txt" if None in rows else "jsonl"
    if rows[0] is None:
        return ending
    values = list(rows[0].values())
    if len(rows) > 1 or ending == "jsonl":
        return "jsonl"
    around = [value for value in values if isinstance(value, list) and value and isinstance(value[0], dict)]
    whole = len(around) == 1 or all(isinstance(value, list | dict) for value in values)
    return "json" if whole and not is_row(rows[0]) else "jsonl"


def is_row(found: dict[str, object]) -> bool:
    """Whether an object has a text of its own, so that a list in it is a field and not the rows."""
    return is_header([*found], "text") and any(isinstance(value, str) for value in found.values())


def as_object(line: str) -> dict[str, object] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_table(path: Path, lines: Sequence[str], how: Reading, labelled: bool | str | None) -> bool:
    """Whether the lines of a .txt are rows with columns, and not each a text."""
    tabs = [line.count("\t") for line in lines]
    if how.columns or how.delimiter or how.text_column or how.label_column:
        return True
    if tabs and min(tabs) == max(tabs) > 0:
        return True
    if lines and any(is_header(lines[0].split(delimiter), "label", "text") for delimiter in DELIMITERS.values()):
        return True
    if 2 * sum(map(bool, tabs)) > len(tabs):
        raise ValueError(
            f"{path}: most of its lines have a tab, but not all the same number; if each line is a text type --format"
            " txt, if they are rows --format tsv --quoting none"
        )
    if labelled:
        raise ValueError(
            f"{path}: has one text a line and no label column; write text<TAB>label, or name the --delimiter"
        )
    return False


# ---- tables ----


def delimiter_of(path: Path, kind: str, head: str, quoting: str, how: Reading) -> str:
    """The ending's delimiter, unless it gives one column only and a header tells another.

    Raises ValueError: several may be meant; one that no header tells would cut texts where they have commas.
    """
    if how.delimiter:
        return DELIMITERS.get(how.delimiter, how.delimiter)
    own = "," if kind == "csv" else "\t"
    tables = {delimiter: first_rows(head, delimiter, quoting) for delimiter in (own, *DELIMITERS.values())}
    rows = tables[own]
    widths = {delimiter: {*map(len, found)} for delimiter, found in tables.items()}
    if how.columns:
        fitting = [delimiter for delimiter in tables if widths[delimiter] == {len(how.column_names)}]
        clear = own in fitting and (own == "\t" or len(fitting) == 1)
        return own if clear or not fitting else only(path, fitting)
    asked = [name for name in (how.text_column, how.pair_column, how.label_column) if name is not None]
    if not rows or len(rows[0]) > 1 or is_header(rows[0], "text") or asked == ["1"]:
        return own
    wide = [name for name in tables if widths[name] not in ({1}, set()) and len(tables[name][0]) > 1]
    named = [delimiter for delimiter in wide if tells_columns(tables[delimiter][0], asked)]
    if named:
        return only(path, named)
    if alike := [delimiter for delimiter in wide if len(widths[delimiter]) == 1]:
        only(path, [*alike, own])
    return own


def tells_columns(first: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether a first row names a text, or all columns that the user does."""
    names = {name.strip().lower() for name in first}
    return is_header(first, "text") or (bool(asked) and {name.strip().lower() for name in asked} <= names)


def only(path: Path, delimiters: Sequence[str]) -> str:
    """The one of them. Raises ValueError: there are several."""
    words = {delimiter: name for name, delimiter in DELIMITERS.items()}
    names = list(dict.fromkeys(words[delimiter] for delimiter in delimiters))
    if len(names) > 1:
        raise ValueError(f"{path}: its columns may be divided by {' or '.join(names)}; type --delimiter {names[0]}")
    return delimiters[0]


def first_rows(head: str, delimiter: str, quoting: str) -> list[list[str]]:
    """Of the beginning of a table, without blank rows; as far as it can be read."""
    rows: list[list[str]] = []
    style = csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL
    csv.field_size_limit(max(csv.field_size_limit(), HEAD))
    try:
        for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, quoting=style):
            if any(map(str.strip, row)):
                rows.append(row)
            if len(rows) == ROWS:
                break
    except csv.Error:
        pass
    return rows


def columns_of(path: Path, kind: str, rows: Sequence[Sequence[str]], how: Reading) -> list[str] | None:
    """The names of the columns where the first row is none of them."""
    if how.columns:
        return how.column_names
    asked = [name for name in (how.text_column, how.pair_column, how.label_column) if name is not None]
    if not rows:
        return None
    numbered = [str(number) for number in range(1, len(rows[0]) + 1)]
    if asked:
        by_name = any(not name.isdecimal() for name in asked)
        named = by_name or is_header(rows[0], "text") or is_header(rows[0], "label") or counts(rows[0])
        if not named:
            check_unnamed(path, rows, how)
        return None if named else numbered
    if kind == "txt" and not is_header(rows[0], "text"):
        text, label, clear = guessed(rows)
        if clear:
            return ["text" if i == text else "label" if i == label else "" for i in range(len(rows[0]))]
    return None


def check_unnamed(path: Path, rows: Sequence[Sequence[str]], how: Reading) -> None:
    """Raises ValueError: columns are numbered, as where there is no header, but the first row may be one."""
    text, label = (int(name) - 1 if name else None for name in (how.text_column, how.label_column))
    first, below = [field.strip() for field in rows[0]], rows[1:]
    if text is None or label is None or max(text, label) >= len(first) or len(below) < 4:
        return
    few = 2 * len({row[label].strip() for row in below if len(row) > label}) <= len(below)
    if few and looks_like_names(first, below, text, label):
        names = [shlex.quote(first[i]) for i in (text, label)]
        columns = ["text" if i == text else "label" if i == label else f"column{i + 1}" for i in range(len(first))]
        raise ValueError(
            f"{path}: its first row, {', '.join(first)[:100]}, may be a header; if it is, type --text-column {names[0]}"
            f" --label-column {names[1]}, if not, --columns {','.join(columns)} in the place of the numbers"
        )


def counts(fields: Sequence[str]) -> bool:
    """Whether a row is 0, 1, 2 …: pandas' header of a table without names, maybe behind that of its index."""
    numbers = [*fields] if fields[0].strip() else [*fields[1:]]
    return numbers == [str(number) for number in range(len(numbers))]


def guessed(rows: Sequence[Sequence[str]]) -> tuple[int, int | None, bool]:
    """Which column may be the text, the longest, and which the label, of fewest values; and whether that is clear."""
    rows = [row for row in rows if len(row) == len(rows[0])]
    columns = [[field.strip() for field in column] for column in zip(*rows, strict=True)]
    lengths = [sum(map(len, column)) for column in columns]
    text = max(range(len(columns)), key=lengths.__getitem__)
    values = [len({*column}) for column in columns]
    others = [i for i in range(len(columns)) if i != text and any(columns[i])]
    label = min(others, key=lambda i: (2 * values[i] > len(rows), values[i] == 1, values[i]), default=None)
    if label is None:
        return text, None, False
    short = max(map(len, columns[label])) <= LONGEST_LABEL
    repeated = len(rows) >= 4 and 2 * values[label] <= len(rows) and values[label] < values[text]
    return text, label, len(columns) == 2 and short and repeated


def advice(rows: Sequence[Sequence[str]], labelled: bool | str | None) -> str:
    """The options that name the columns which seem to be meant."""
    if not rows:
        return "write one"
    first, below = [field.strip() for field in rows[0]], rows[1:]
    text, label, _ = guessed(rows)
    if label is None and labelled:
        return "write rows of text and label, or name the --delimiter"
    named = looks_like_names(first, below, text, text if label is None else label)
    if named and labelled:
        like = [i for i, name in enumerate(first) if is_like_label(name)]
        text = next((i for i, name in enumerate(first) if is_header([name], "text")), text)
        alike = [row for row in below if len(row) == len(first)] or below
        again = guessed(alike)[1] if len(like) != 1 else like[0]
        label = label if again is None else again
        label = next(number for number in range(len(first)) if number != text) if label == text else label
    shown = [shlex.quote(name) if named else str(number) for number, name in enumerate(first, 1)]
    options = f"--text-column {shown[text]}"
    if labelled:
        options += f" --label-column {shown[label]}"
    return f"{'if these are the names,' if named else 'if that is no header,'} type {options}"


def looks_like_names(first: Sequence[str], below: Sequence[Sequence[str]], text: int, label: int) -> bool:
    """Whether a first row may name the columns: by words, of which that of the label is none of the labels."""
    for column in (text, label):
        if not first[column] or first[column].isdecimal():
            return False
    known = {row[label].strip() for row in below if len(row) > label}
    return len(first[text]) <= LONGEST_LABEL and (text == label or first[label] not in known)
