"""What is said while something runs: lines on stderr, by one process of several."""

from __future__ import annotations

import logging
import os
import sys

from tqdm import tqdm

from minibert.io.language import translated


def is_main_process() -> bool:
    """Whether this is the only process, or of several that torchrun has started the first."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def on_terminal() -> bool:
    return sys.stderr.isatty() and is_main_process()


def harmless(text: str) -> str:
    """What may come from a file, a name or a label, without what a terminal would obey."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def one_line(text: str) -> str:
    """An error as one line that is not too long, in the language in use."""
    return shortened(harmless(translated(" ".join(text.split()))))


def shortened(text: str, limit: int = 580) -> str:
    """At most so many characters; of more the middle goes, the remedy stays."""
    return text if len(text) <= limit else f"{text[: limit - 203]} … {text[-200:]}"


class Translated(logging.Formatter):
    """What the package logs, as a line in the language in use."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


def say(line: str) -> None:
    """A line for the reader, in the language in use, on stderr, above a progress bar if one is up."""
    if is_main_process():
        tqdm.write(shortened(harmless(translated(line))), file=sys.stderr)
