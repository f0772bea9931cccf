"""What is said while something runs: lines on stderr, by one process of several."""

from __future__ import annotations

import os
import sys

from tqdm import tqdm


def is_main_process() -> bool:
    """Whether this is the only process, or of several that torchrun has started the first."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def on_terminal() -> bool:
    return sys.stderr.isatty() and is_main_process()


def harmless(text: str) -> str:
    """What may come from a file, a name or a label, without what a terminal would obey."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def one_line(text: str) -> str:
    """An error as one line that is not too long."""
    return shortened(harmless(" ".join(text.split())))


def shortened(text: str, limit: int = 580) -> str:
    """At most so many characters; of more the middle goes, the remedy stays."""
    return text if len(text) <= limit else f"{text[: limit - 203]} … {text[-200:]}"


def say(line: str) -> None:
    """A line for the reader, on stderr, above a progress bar if one is up."""
    if is_main_process():
        tqdm.write(shortened(harmless(line)), file=sys.stderr)
