"""The parts that every training loop here needs: seeds, threads, running means, metrics, signals."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import numpy as np
import torch
from tqdm import tqdm

METRICS = "metrics.jsonl"
SMALL = 5_000_000  # weights: below, threads wait for each other longer than they compute


# ---- learning ----


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seeds PyTorch, GPUs included, for one optimizer step of one process.

    What the step draws (dropout) depends on these three numbers alone. So a checkpoint needs no state of a generator,
    of which every process and every GPU would have its own, and a run may be resumed on any number of them.
    """
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]))


def check_compiler(device: torch.device) -> None:
    """What torch.compile needs, looked for before the first step and not in it.

    Raises:
        ValueError: it is not there.
    """
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise ValueError("compile needs Triton, which is not installed; pip install triton, or leave --compile out")
    elif shutil.which(name := os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")) is None:
        raise ValueError(
            f"compile needs a C++ compiler, and {name} is not found; install one, name it by the variable CXX, or leave"
            " --compile out"
        )


def threads_for(parameters: int) -> int:
    """How many CPU threads serve a model of so many weights, where nobody says."""
    return 1 if parameters < SMALL else torch.get_num_threads()


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Lets PyTorch use `count` CPU threads for a while. Results depend on the number in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Means:
    """Running mean of loss and accuracy over rows."""

    loss_sum: float = 0.0
    hits: int = 0
    rows: int = 0

    def add(self, loss: float, hits: int, rows: int) -> None:
        self.loss_sum, self.hits, self.rows = self.loss_sum + loss * rows, self.hits + hits, self.rows + rows

    @property
    def loss(self) -> float:
        return self.loss_sum / max(1, self.rows)

    @property
    def accuracy(self) -> float:
        return self.hits / max(1, self.rows)


# ---- telling ----


def speaks() -> bool:
    """Whether this process is the one that tells: of several that torchrun has started, the first."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def on_terminal() -> bool:
    return sys.stderr.isatty() and speaks()


def say(line: str) -> None:
    """A line for the reader, on stderr, above a progress bar if one is up."""
    if speaks():
        tqdm.write(line, file=sys.stderr)


def append_metrics(directory: Path, row: dict[str, object]) -> int:
    """Adds a JSON line to metrics.jsonl; returns the file's new length."""
    with (directory / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        return file.tell()


def read_metrics(directory: Path) -> list[dict]:
    with (directory / METRICS).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


# ---- signals ----


class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a wish that the loop grants between two steps; the second acts at once."""

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
