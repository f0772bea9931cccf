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


def say(line: str) -> None:
    """A line for the reader, on stderr, above a progress bar if one is up."""
    if is_main_process():
        tqdm.write(line, file=sys.stderr)
