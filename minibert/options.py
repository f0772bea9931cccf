"""Options as dataclass fields with their help texts, and the command line derived from them."""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING


def option(default: object, text: str) -> object:
    """A field of an options dataclass, with its help text. Without a default (MISSING) it has to be given."""
    return dataclasses.field(default=default, metadata={"help": text})


def argument(text: str) -> object:
    """A field that is given by position: one string, or for a `Sequence[str]` field any number of them."""
    return dataclasses.field(metadata={"help": text, "positional": True})


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """A field by position, a bool as a switch, all else as `--name VALUE`."""
    kinds = typing.get_type_hints(options)
    for f in dataclasses.fields(options):
        flag, kind, text = f"--{f.name.replace('_', '-')}", kinds[f.name], f.metadata["help"].replace("%", "%%")
        if f.metadata.get("positional"):
            many = {"nargs": "*"} if typing.get_origin(kind) is Sequence else {}
            parser.add_argument(f.name, metavar=f.name.upper(), help=text, **many)
        elif kind is bool:
            parser.add_argument(flag, action="store_true", help=text)
        else:
            required = f.default is MISSING
            shown = text if required or f.default is None else f"{text} (default: {f.default})"
            parser.add_argument(
                flag,
                type=plain_type(kind),
                required=required,
                default=None if required else f.default,
                metavar=f.name.upper(),
                help=shown,
            )


def plain_type(kind: object) -> type:
    """`int | None` -> int."""
    if isinstance(kind, types.UnionType):
        return next(part for part in typing.get_args(kind) if part is not type(None))
    return kind
