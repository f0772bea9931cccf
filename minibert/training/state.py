"""What lets a run be killed at any moment and go on: checkpoints, the record of its beginning, a lock.

    run.json             written first and whole: options, versions, a hash of every file that was read
    metrics.jsonl        grows line by line; resuming cuts it to the length it had at the checkpoint
    state-000000120.pt   weights, optimizer and progress after 120 batches (pretraining: optimizer steps), whole or not
                         there; the last few are kept
    .lock                held by the process that writes here

Nothing is decided by a file's time: clocks jump. Nothing random is stored: `engine.seed_step` says why.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import platform
import re
import shlex
import shutil
import struct
import typing
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import tokenizers
import torch
from torch import nn

from minibert.core.files import atomic_write, write_json
from minibert.io.bundled import resolve
from minibert.io.locks import LOCK, held_directory
from minibert.io.stderr import say
from minibert.training.ranks import Ranks

VERSION = 1
RECORD, METRICS = "run.json", "metrics.jsonl"
MODEL_FILES = (".bin", ".json", ".safetensors", ".txt")
LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}(\.old)?")  # temporary names, of atomic_write and of token_file.py
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, pickle.UnpicklingError, EOFError, OSError)
DAMAGE += (RuntimeError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError)
CIRCUMSTANCES = {  # that may be others when a run is resumed, but show in its numbers
    "versions": "the last bits may differ",
    "processes": "the batches are the same, the last bits and what dropout draws are not",
}

Options = TypeVar("Options")


# ---- how far a run has come ----


@dataclass
class Means:
    """Running mean of loss and accuracy over rows."""

    loss_sum: float = 0.0
    hits: int = 0
    rows: int = 0

    def add(self, loss: float, hits: float, rows: float) -> None:
        """Some more rows: the sum of their losses, and how many of them are right."""
        self.loss_sum += loss / max(1, rows) * int(rows)  # the mean times the rows: the last bits of release 0.1.0
        self.hits, self.rows = self.hits + int(hits), self.rows + int(rows)

    @property
    def loss(self) -> float:
        return self.loss_sum / max(1, self.rows)

    @property
    def accuracy(self) -> float:
        return self.hits / max(1, self.rows)


@dataclass
class Progress:
    """How far a run has come. With weights and optimizer it is all that resuming needs."""

    epoch: int = 0  # of the next batch, from 0
    batch: int = 0  # the next batch of that epoch
    step: int = 0  # log entries made; metrics.jsonl counts by it
    metrics_bytes: int = 0  # length of metrics.jsonl
    window: Means = field(default_factory=Means)  # of the first loss, since the last log line

    def add(self, losses: Sequence[float], hits: Sequence[float], counts: Sequence[float]) -> None:
        """One log entry: sums of its K losses and hits, and over how many answers each."""
        self.step += 1
        self.window.add(losses[0], hits[0], counts[0])


def append_metrics(directory: Path, row: dict[str, object]) -> int:
    """Adds a JSON line to metrics.jsonl; returns the file's new length."""
    with (directory / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        return file.tell()


def read_metrics(directory: Path) -> list[dict]:
    """Its lines; none where a run is shorter than the steps between two and measures nothing."""
    if not (directory / METRICS).exists():
        return []
    with (directory / METRICS).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


# ---- checkpoints ----


def states(directory: Path) -> dict[int, Path]:
    """The checkpoints of a run, by the number of batches behind them, oldest first."""
    numbers = ((path.stem.removeprefix("state-"), path) for path in directory.glob("state-[0-9]*.pt"))
    return dict(sorted((int(number), path) for number, path in numbers if number.isdecimal()))


def save_state(
    directory: Path, ranks: Ranks, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, keep: int
) -> None:
    """Rank 0 writes a checkpoint, named by `progress.step`, then removes all but the last `keep`.

    Raises:
        OSError: it cannot be written, as on a full disk; the checkpoint before it stays.
    """
    if not ranks.main:
        return
    state = {
        "version": VERSION,
        "model": dict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "progress": dataclasses.asdict(progress),
    }
    if (directory / METRICS).is_file():
        with (directory / METRICS).open("rb+") as file:
            os.fsync(file.fileno())  # or a power cut could leave a checkpoint of lines that are not there
    try:
        atomic_write(directory / f"state-{progress.step:09d}.pt", partial(write_state, state))
    except OSError as error:
        reason = f"{error.strerror}; the checkpoint of step {progress.step} is not written, the one before it stays"
        raise OSError(error.errno, f"{reason}; make room, then --resume {directory}") from None
    known = states(directory)
    older = [path for step, path in known.items() if step < progress.step]
    beyond = [path for step, path in known.items() if step > progress.step]  # damaged: the run has gone on without them
    for path in older[: max(0, len(older) - keep + 1)] + beyond:
        path.unlink()


def write_state(state: dict, file: BinaryIO) -> None:
    """torch.save, which after a write that fails complains of its own position in the file. OSError: as the write."""
    try:
        torch.save(state, file)
    except RuntimeError as error:
        cause = error.__context__
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        raise cause or error from None


def load_state(directory: Path, ranks: Ranks, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict | None:
    """Puts the newest whole checkpoint back, cuts metrics.jsonl to where it was then, and returns the progress.

    None: there is no checkpoint yet, the run begins at its beginning.

    Raises:
        ValueError: all of them are damaged, or the newest whole one is not for this program or this model.
    """
    with ranks.agreed():
        path = newest(directory) if ranks.main else None
    path = ranks.broadcast(path)
    if path is None:
        cut_metrics(directory, 0, ranks)
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["version"] != VERSION:
        raise ValueError(
            f"{path}: a checkpoint of version {state['version']}, and this minibert reads version {VERSION}; resume"
            " with the minibert that wrote it, or start a new run"
        )
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: not a state of this model ({reason[:200]}); start a new run") from None
    cut_metrics(directory, state["progress"]["metrics_bytes"], ranks)
    return state["progress"]


def newest(directory: Path) -> Path | None:
    """The newest whole checkpoint; says which ones are passed over."""
    known = list(states(directory).values())
    for path in reversed(known):
        if (reason := damage(path)) is None:
            return path
        say(f"{path}: damaged ({reason}); trying the checkpoint before it")
    if known:
        raise ValueError(
            f"{directory}: no checkpoint is whole, so there is nothing to resume from; remove the files state-*.pt to"
            " begin again, or start a new run"
        )
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, None if nothing. Its zip archive has a checksum for every tensor."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (name := archive.testzip()) is not None:
                return f"the checksum of {name} is wrong"
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(state, dict) or "version" not in state:
            return "not a training state"
    except DAMAGE as error:
        return (str(error).splitlines() or [type(error).__name__])[0][:200]
    return None


def restored(fresh: Progress, values: dict | None) -> Progress:
    """A progress as it came back from a checkpoint; the fresh one where there is no checkpoint."""
    if values is None:
        return fresh
    return type(fresh)(**{name: Means(**value) if isinstance(value, dict) else value for name, value in values.items()})


def cut_metrics(directory: Path, length: int, ranks: Ranks) -> None:
    """Takes back the lines behind a checkpoint.

    Raises:
        ValueError: lines before it are missing.
    """
    path = directory / METRICS
    with ranks.agreed():
        if not ranks.main:
            return
        if length == 0:
            path.unlink(missing_ok=True)
            return
        if not path.is_file() or path.stat().st_size < length:
            raise ValueError(f"{path}: shorter than when the state was saved; put the whole file back")
        os.truncate(path, length)


def fingerprint(directory: Path) -> str:
    """A hash of the last checkpoint's weights and moments: equal for runs that ended alike to the last bit."""
    state = torch.load(list(states(directory).values())[-1], map_location="cpu", weights_only=True)
    digest = hashlib.sha256()
    moments = state["optimizer"]["state"]
    for tensors in (state["model"], *(moments[number] for number in sorted(moments))):
        for name in sorted(tensors):
            digest.update(name.encode())
            digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def remove_states(directory: Path) -> None:
    """What a finished run needs no more. The newest goes last: killed in between, the run still knows it was done."""
    for path in states(directory).values():
        path.unlink()


# ---- how a run begins, and begins again ----


@dataclass(frozen=True)
class Command:
    """What beginning and resuming have to know of a command."""

    name: str  # train, pretrain
    options: type
    changeable: Collection[str]  # options that may be others when resuming
    read_files: Callable[[Any], dict[str, str]]  # options -> hashes of all files that the run depends on
    spare: Collection[str] = ()  # what may stand in its directory before a run begins


def begun(command: Command, options: Options, ranks: Ranks) -> tuple[Options, Path, dict | None]:
    """The options to run with, where, and the record of the run that is resumed, None for a new one.

    A run is resumed by --resume; under torchrun also by the very command that began it, if its --out holds a run:
    after a rank has died torchrun starts the same command again.
    """
    if options.resume is None:
        options = options.filled()
        if options.out is None and (ranks.launched or ranks.world > 1):
            raise ValueError("give --out: several processes have to agree on it, and find it again when restarted")
        restarted = ranks.launched and (Path(options.out) / RECORD).is_file()
        if not restarted or read_record(Path(options.out), command.options)[1] != options:
            return options, free_directory(options.out, command.name, command.spare), None
        options = command.options(resume=options.out)
    record, stored = read_record(Path(options.resume), command.options)
    if record["options"].get("parallel") == "fsdp" and options.parallel is None:
        again = f"minibert {command.name} --resume {options.resume} --parallel ddp"
        raise ValueError(f"{options.resume}: was begun with --parallel fsdp, which is no more; type {again}")
    if ranks.main:
        try:
            check_same(record, command.read_files(stored))
        except ValueError:
            check_directory(record, f"minibert {command.name} --resume {shlex.quote(os.path.abspath(options.resume))}")
            raise
    continuing = continued(stored, options, command.changeable)
    if ranks.world == 1:
        continuing = dataclasses.replace(continuing, parallel=None)
    return continuing, Path(options.resume), record


def write_record(command: Command, directory: Path, ranks: Ranks, facts: dict, record: dict | None) -> None:
    """Writes the record of a new run before anything else, or of a resumed one anew; says what is different now.

    facts: what the record is to hold. record: what it has held.
    """
    with ranks.agreed():
        if ranks.main:  # look once more, now that nobody else can begin or end a run here
            if record is None:
                free_directory(str(directory), command.name, command.spare)
            else:
                read_record(directory, command.options)
                for name, effect in CIRCUMSTANCES.items():
                    if record.get(name) != facts[name]:
                        say(f"resuming with {name} {facts[name]}, before {record.get(name)}: {effect}")
            meant = os.getcwd() if record is None else record.get("directory", os.getcwd())  # by relative names
            write_json(directory / RECORD, {"directory": meant, **facts})


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "tokenizers": tokenizers.__version__,
    }


def read_record(directory: Path, kind: type[Options]) -> tuple[dict, Options]:
    """run.json of a run to be resumed, and the options in it.

    Raises:
        ValueError: there is none, it is none, or the run is complete.
    """
    path = directory / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        complete = "result" in record and not states(directory)
        stored = dict(record["options"])
        if stored.get("parallel") == "fsdp":  # of release 0.1.0, whose checkpoints any number of processes loads
            stored["parallel"] = None
        options = kind(**stored)
        if not isinstance(record["sources"], dict):
            raise TypeError(f"sources is {record['sources']!r}")
        check_types(options)
    except FileNotFoundError:
        again = "; if it was killed before it began, type its command again, without --resume" * directory.is_dir()
        raise ValueError(f"{directory}: holds no {RECORD}, so there is no run to resume{again}") from None
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: not the record of a run ({error}); start a new run") from None
    if complete:
        raise ValueError(f"{directory}: nothing to resume; the run is complete")
    return record, options


def check_types(options: object) -> None:
    """Raises TypeError where a field holds what its dataclass does not say."""
    hints = typing.get_type_hints(type(options))
    for f in dataclasses.fields(options):
        value, kinds = getattr(options, f.name), typing.get_args(hints[f.name]) or (hints[f.name],)
        if typing.get_origin(hints[f.name]) is Sequence:
            good = isinstance(value, tuple) and all(isinstance(part, str) for part in value)
        else:
            good = type(value) in kinds or (type(value) is int and float in kinds)
        if not good:
            raise TypeError(f"{f.name} is {value!r}")


def continued(stored: Options, given: Options, changeable: Collection[str]) -> Options:
    """A run's own options, with those changed that may change and are given beside `resume`; own ones may be repeated.

    Raises:
        ValueError: one is given that would make it another run.
    """
    blank = type(given)(resume=given.resume)
    changes = {f.name: getattr(given, f.name) for f in dataclasses.fields(given)}
    changes = {n: value for n, value in changes.items() if value not in (getattr(blank, n), getattr(stored, n))}
    if fixed := sorted(changes.keys() - set(changeable)):
        raise ValueError(
            f"--resume continues a run with its own options; leave {flags(fixed)} out. What may change:"
            f" {flags(changeable)}"
        )
    for name, value in changes.items():
        say(f"resuming with {flags([name])} {value}, before it was {getattr(stored, name)}")
    return dataclasses.replace(stored, **changes)


def flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def hashes(files: Iterable[Path | str]) -> dict[str, str]:
    """SHA-256 of files, by their names."""
    found = {}
    for path in files:
        if not Path(path).exists():
            raise ValueError(f"{path}: no such file, and the run reads it; put it back where it was")
        with open(path, "rb") as file:
            found[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def model_hashes(name: str | None) -> dict[str, str]:
    """Those of the files of a model or vocabulary, under the name by which it is called. None: there is none."""
    if name is None:
        return {}
    files = [path for path in resolve(name).iterdir() if path.suffix in MODEL_FILES and path.is_file()]
    return {f"{name}/{Path(path).name}": value for path, value in hashes(files).items()}


def check_directory(record: dict, again: str) -> None:
    """Raises ValueError where a file of the run is named from the directory where it was begun, and not from here.

    again: what resumes it.
    """
    directory = Path(str(record.get("directory", ".")))  # releases before 0.2 have not kept it
    for name in record["sources"]:
        meant, here = directory / name, Path(name)
        if meant.exists() and not (here.exists() and here.samefile(meant)):
            remedy = f"type: cd {shlex.quote(str(directory))} && {again}"
            raise ValueError(f"{name}: the run was begun in another directory and means {meant}; {remedy}") from None


def check_same(record: dict, sources: dict[str, str]) -> None:
    """Raises ValueError where a file that the run reads is not what it was when the run began."""
    before = record["sources"]
    if changed := sorted(name for name in before | sources if before.get(name) != sources.get(name)):
        raise ValueError(
            f"{', '.join(changed)}: changed since the run began; put the old files back, or start a new run"
        )


# ---- the directory ----


def free_directory(out: str | None, kind: str, spare: Collection[str] = ()) -> Path:
    """Where a new run goes: `out` if nothing is there yet, by default the next runs/KIND-N, which is made at once, as
    others may look for one. spare: names of nothing.

    Raises:
        ValueError: something is there. What a run leaves that was killed before its record was written is nothing.
    """
    if out is None:
        return next(path for number in count(1) if reserve(path := Path(f"runs/{kind}-{number}")))
    path, spare = Path(out), {*spare, LOCK}
    if path.exists() and not (
        path.is_dir() and all(entry.name in spare or LEFTOVER.fullmatch(entry.name) for entry in path.iterdir())
    ):
        raise ValueError(f"{path} exists already; choose another --out, or --resume {path} if it was interrupted")
    return path


def reserve(path: Path) -> bool:
    """Makes a directory; False: another run had the same thought, or there was one before."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


@contextmanager
def locked(directory: Path, ranks: Ranks, reserved: bool = False) -> Iterator[None]:
    """Rank 0 holds the directory's lock, and removes what a killed run has left half-written; in the end the
    directories that it made if nothing came into them. reserved: `free_directory` has made it.

    Raises:
        ValueError: another process holds it.
    """
    with ExitStack() as stack:
        with ranks.agreed():
            if ranks.main:
                stack.enter_context(held_directory(directory, reserved))
                for path in directory.iterdir():
                    if LEFTOVER.fullmatch(path.name):
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield
