"""The parts that every training loop here needs: schedule, parameter groups, running means, metrics, state, signals."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import pickle
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import torch
from torch import nn
from tqdm import tqdm

from minibert.files import atomic_write

METRICS, STATE = "metrics.jsonl", "state.pt"


# ---- learning ----


def learning_rate(step: int, total: int, peak: float, warmup: float) -> float:
    """The rate of step `step` (from 0) of `total`: rises linearly from 0 over the share `warmup` of all steps, then
    falls linearly to 0 (Devlin et al. 2018, appendix A.2; Google's optimization.py begins at 0 as well)."""
    rising = int(warmup * total)
    if step < rising:
        return peak * step / rising
    return peak * (total - step) / max(1, total - rising)


def optimizer_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay for matrices (Linear and Embedding weights), none for vectors (biases, LayerNorms): Google's BERT."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


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


def on_terminal() -> bool:
    return sys.stderr.isatty()


def say(line: str) -> None:
    """A line for the reader, on stderr, above a progress bar if one is up."""
    tqdm.write(line, file=sys.stderr)


def append_metrics(directory: Path, row: dict[str, object]) -> int:
    """Adds a JSON line to metrics.jsonl; returns the file's new length."""
    with (directory / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        return file.tell()


def read_metrics(directory: Path) -> list[dict]:
    with (directory / METRICS).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


# ---- state ----


def save_state(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: object) -> None:
    """Everything that resuming needs, whole or not at all."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": dataclasses.asdict(progress),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    atomic_write(directory / STATE, lambda file: torch.save(state, file))


def load_state(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """Puts a saved state back, cuts metrics.jsonl to where it was then, and returns the progress.

    Raises:
        ValueError: there is none (the run is complete, or never began), or it is damaged.
    """
    path = directory / STATE
    if not path.is_file():
        raise ValueError(f"{directory}: nothing to resume; the run is complete, or no state was saved")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_cuda"])
        progress = state["progress"]
        for name in ("window", "whole"):
            progress[name] = Means(**progress[name])
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: not a whole training state ({reason[:200]}); start a new run") from None
    with (directory / METRICS).open("ab") as file:
        if file.tell() < progress["metrics_bytes"]:
            raise ValueError(f"{directory / METRICS}: shorter than when the state was saved; put the whole file back")
        file.truncate(progress["metrics_bytes"])
    return progress


def remove_state(directory: Path) -> None:
    (directory / STATE).unlink(missing_ok=True)


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
