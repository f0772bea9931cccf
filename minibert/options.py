"""Options as dataclass fields with their help texts, and the command line derived from them."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass

DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
FORMATS = ("tsv", "csv", "jsonl", "json", "txt")


def option(default: object, text: str, alone: object = None) -> object:
    """A field of an options dataclass, with its help text. Without a default (MISSING) it has to be given. alone: what
    it is when its name is given alone; None: then a value has to follow."""
    return dataclasses.field(default=default, metadata={"help": text, "alone": alone})


def argument(text: str) -> object:
    """A field that is given by position: one string, or for a `Sequence[str]` field any number of them."""
    return dataclasses.field(metadata={"help": text, "positional": True})


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """A field by position, a bool as a switch, a `Sequence[str]` as `--name VALUE…`, all else as `--name VALUE`."""
    kinds = typing.get_type_hints(options)
    for f in dataclasses.fields(options):
        name, kind, text = f.name.upper(), kinds[f.name], f.metadata["help"].replace("%", "%%")
        flag, many = f"--{f.name.replace('_', '-')}", typing.get_origin(kind) is Sequence
        if f.metadata.get("positional"):
            parser.add_argument(f.name, metavar=name, help=text, nargs="*" if many else None)
        elif kind is bool:
            parser.add_argument(flag, action="store_true", help=text)
        else:
            value = (*typing.get_args(kind), kind)[0]  # `int | None` and `int` -> int, `Sequence[str]` -> str
            how = {
                "type": value,
                "required": f.default is MISSING,
                "default": f.default,
                "nargs": "+" if many else None,
            }
            if (alone := f.metadata.get("alone")) is not None:
                how |= {"nargs": "?", "const": alone}
            shown = text if f.default in (MISSING, None, ()) else f"{text} (default: {f.default})"
            parser.add_argument(flag, metavar=name, help=shown, **how)


def command_line(name: str, options: object) -> str:
    """The command `name` with every option that is not its default: what repeats a run."""
    words = ["minibert", name]
    for f in dataclasses.fields(options):
        value, flag = getattr(options, f.name), [f"--{f.name.replace('_', '-')}"]
        if value != f.default:
            words += [] if f.metadata.get("positional") else flag
            words += [] if value is True else map(str, value if isinstance(value, tuple) else [value])
    return shlex.join(words)


def check_options(
    options: object, counts: Sequence[str], limits: Mapping[str, float], choices: Mapping[str, Collection[str]]
) -> None:
    """Refuses values that no run can have; None is always fine.

    counts: fields that are at least 1. limits: fields that lie between 0 and a number. choices: what is known.

    Raises:
        ValueError: which field, its value and what it may be.
    """
    for name in counts:
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise ValueError(f"{name} is {getattr(options, name)}; it must be at least 1")
    for name, high in limits.items():
        if getattr(options, name) is not None and not 0 <= getattr(options, name) <= high:
            raise ValueError(f"{name} is {getattr(options, name)}; it must lie between 0 and {high:g}")
    for name, known in choices.items():
        if getattr(options, name) is not None and getattr(options, name) not in known:
            raise ValueError(f"{name} {getattr(options, name)!r} is unknown; choose {', '.join(known)}")


# ---- what every command asks of data files ----


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How data files are to be read, where their beginning does not tell it (io/file_layout.py)."""

    columns: str | None = option(None, "column names of files without a header, such as label,text")
    quoting: str = option("minimal", "minimal: fields may stand in double quotes; none: quotes are text (GLUE)")
    text_column: str | None = option(None, "the column of the text, by name or, from 1, by number")
    pair_column: str | None = option(None, "the column of the second text, likewise")
    label_column: str | None = option(None, "the column of the label, likewise")
    delimiter: str | None = option(None, "between columns: tab, comma, semicolon, pipe (default: as it looks)")
    format: str | None = option(None, "tsv, csv, jsonl, json or txt (default: as it looks)")
    encoding: str | None = option(None, "utf-8, utf-16, gb18030, big5, cp1252 … (default: as it looks)")

    def check_reading(self) -> None:
        """Raises ValueError: quoting, delimiter or format is unknown."""
        delimiters = (*DELIMITERS, *DELIMITERS.values())
        check_options(self, (), {}, {"quoting": ("minimal", "none"), "delimiter": delimiters, "format": FORMATS})

    def stated(self) -> dict[str, str]:
        """What is not as it looks, for records that older releases have begun."""
        return {name: getattr(self, name) for name in READING if getattr(self, name) is not None}

    @property
    def column_names(self) -> list[str] | None:
        return self.columns.split(",") if self.columns else None


# Those that records of release 0.1.0 do not have
READING = ("text_column", "pair_column", "label_column", "delimiter", "format", "encoding")
