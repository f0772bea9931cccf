"""The language in which the command line speaks to its reader: English, or Chinese where the locale or --lang asks.

A message is written in English where it arises. assets/messages.zh.json maps its template, which has `{}` in the place
of each value, to a Chinese one with `{0}`, `{1}` …; it is read when the first message is to be translated.
"""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path

LANGUAGES = ("zh", "en")
VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")  # of the environment: the first that is set counts
BORDER = re.compile("[一-鿿][A-Za-z0-9]|[A-Za-z0-9][一-鿿]")
QUOTED = re.compile("'[^']*'|\"[^\"]*\"")  # a value that is shown by repr
DEPTH = 7  # messages inside messages that are translated

_current: str | None = None


def chosen(lang: str | None = None) -> str:
    """ "zh" or "en": what is asked for, else the environment's."""
    asked = lang or next(filter(None, map(os.environ.get, VARIABLES)), "")
    return "zh" if asked.startswith("zh") else "en"


def use(lang: str) -> None:
    """From now on messages are in this language."""
    global _current
    _current = lang


def is_chinese() -> bool:
    return _current == "zh"


def of_pages() -> str:
    """ "zh" or "en", for a page that is written: what is in use, else the environment's."""
    return _current or chosen()


def translated(message: str, depth: int = DEPTH) -> str:
    """A message in the language in use, by the template that leaves least in English. One that no template fits stays
    as it is, and so do values in quotes."""
    if not is_chinese() or not depth or QUOTED.fullmatch(message):
        return message
    found = []
    for literals, chinese in catalog():
        if (values := values_of(message, literals)) is None:
            continue
        said = [translated(value, depth - 1) for value in values]
        if said != values or not is_joint(literals):  # else it only joins what is unknown
            found.append(filled(chinese, said))
    return min(found, key=letters, default=message)


def letters(text: str) -> int:
    """How much of a text is still English."""
    return sum(char.isascii() and char.isalpha() for char in text)


def is_joint(literals: list[str]) -> bool:
    """Whether a template has hardly a letter of its own, as `{}: {}`."""
    return sum(map(str.isalpha, "".join(literals))) <= 3


def filled(template: str, values: list[str]) -> str:
    """The template with its values, a space between Chinese and Latin letters."""
    text = ""
    for number, piece in enumerate(re.split(r"\{(\d)\}", template)):  # literal and place by turns
        said = values[int(piece)] if number % 2 else piece
        text += " " * bool(BORDER.fullmatch(text[-1:] + said[:1])) + said
    return text


def values_of(message: str, literals: list[str]) -> list[str] | None:
    """What stands between a template's literals, each as short as it can be; None where it does not fit."""
    first, *rest = literals
    if not rest:
        return [] if message == first else None
    *middle, last = rest
    if not message.startswith(first) or not message[len(first) :].endswith(last):
        return None
    values, remaining = [], message[len(first) : len(message) - len(last)]
    for literal in middle:
        value, found, remaining = remaining.partition(literal)
        if not found:
            return None
        values.append(value)
    return [*values, remaining]


@cache
def catalog() -> list[tuple[list[str], str]]:
    """(the literals around a template's values, the Chinese template)."""
    text = (Path(__file__).parents[1] / "assets" / "messages.zh.json").read_text(encoding="utf-8")
    return [(template.split("{}"), chinese) for template, chinese in json.loads(text).items()]
