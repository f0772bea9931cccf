"""What a long job shares with whoever has started it: CPU threads, lines on stderr, signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType

import torch
from tqdm import tqdm

ONE_THREAD_BELOW = 5_000_000  # weights: with fewer, threads wait for each other longer than they compute


# ---- threads ----


def threads_for(parameters: int) -> int:
    """How many CPU threads serve a model of so many weights, where nobody says."""
    return 1 if parameters < ONE_THREAD_BELOW else torch.get_num_threads()


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Lets PyTorch use `count` CPU threads for a while. Results depend on the number in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---- lines on stderr ----


def is_main_process() -> bool:
    """Whether this is the only process, or of several that torchrun has started the first."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def on_terminal() -> bool:
    return sys.stderr.isatty() and is_main_process()


def say(line: str) -> None:
    """A line for the reader, on stderr, above a progress bar if one is up."""
    if is_main_process():
        tqdm.write(line, file=sys.stderr)


# ---- signals ----


class Interrupt:
    """The first Ctrl-C or SIGTERM sets `requested`; the loop saves and stops after the current step. The second raises
    KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        with suppress(RuntimeError):  # "reentrant call": the signal came while stderr was waiting for its reader
            say("stopping after this step; once more to stop at once, without saving")
