"""A quarter of an hour with a GPU, and nobody beside it: every benchmark that needs one, the most telling first.

    python -m benchmarks.gpu --out DIR                     # 560 seconds
    python -m benchmarks.gpu --resume DIR                  # as many more; nothing that is finished is done again
    python -m benchmarks.gpu --out DIR --steps attention,flex --seconds 200
    python -m benchmarks.gpu --dry [--out DIR]             # the same order and files on a CPU, under five minutes

Each step is a process group of its own. It has its share of the seconds that are left, by its weight among the steps
that are left, and is killed when they are over: so a step that hangs costs its own time and no other's, and time that
a step leaves over goes to the later ones. Every step writes its file anew after each row, whole or not at all; a step
that was killed goes on in the next run with the rows it lacks. Killing this program kills the running step.

Files in DIR, at most eight:
    gpu.jsonl       a line at the begin and another at the end of each step: step, argv, begin, end (seconds since
                    1970), rc, killed, clocks (MHz), power (W), temperature (°C); at the end `tail`, its last words
    probe.json      versions and peaks                            tests.json     each GPU test: passed, failed, skipped
    attention.json  all rows of benchmarks/attention.py           races.json     pretraining, fine-tuning, inference
    profile.json    the kernels of one training step              variants.json  each candidate of our kernels
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.smi import readings
from minibert.core.files import atomic_write

ROOT = Path(__file__).parents[1]
LOG = "gpu.jsonl"
SMI = {"clocks.sm": "clocks", "power.draw": "power", "temperature.gpu": "temperature"}
GRACE = 5.0  # seconds for a killed group to be gone; a process that waits for a broken driver never is
TAIL = 2000  # characters
QUARTER = 560.0  # seconds: what is left of ten minutes, the limit of a command, after starting and fetching


class Step(NamedTuple):
    """weight: seconds out of QUARTER. commands: what Python is to run, the first and those beside it."""

    name: str
    weight: float
    commands: tuple[tuple[str, ...], ...]


def module(name: str, *arguments: object) -> tuple[str, ...]:
    return ("-m", f"benchmarks.{name}", *map(str, arguments))


# ---- what is done ----


def steps_on_gpu(out: Path) -> list[Step]:
    def attention(*arguments: str) -> tuple[str, ...]:
        return module("attention", "--out", out / "attention.json", "--resume", *arguments)

    def race(name: str, *arguments: str) -> tuple[str, ...]:
        return module(name, "--device", "cuda", "--out", out / "races.json", "--resume", *arguments)

    tests, cases = ("--out", out / "tests.json"), ("--suite", "bert,ragged")
    kernel, rivals = ("--boundary", "kernel"), ("--backends", "triton,varlen,sdpa-cudnn,sdpa-efficient")
    texts = ("--corpus", "chnsenticorp", "full")
    caches = (
        module("variants", "--small", "--dropout", "0.1"),
        module("variants", "--small"),
        module("pretraining", "--device", "cuda", "--small", "--corpus", "chnsenticorp"),
    )
    return [
        Step("probe", 15, (module("timing", "--out", out / "probe.json"),)),
        Step("tests", 75, (module("gpu_tests", *tests, "--quick"), *caches)),
        Step("attention", 125, (attention(*cases, *kernel, *rivals),)),
        Step("pretraining", 75, (race("pretraining", *texts),)),
        Step("training", 50, (race("training", "--only", "step", "--scale", "6.7", *texts),)),
        Step("inference", 45, (race("encoder", "--only", "classification", "--size", "bert-base", *texts),)),
        Step("profile", 20, (module("step_profile", "--out", out / "profile.json"),)),
        Step(
            "variants", 60, (module("variants", "--dropout", "0.1", "0", "--out", out / "variants.json", "--resume"),)
        ),
        Step("flex", 60, (attention(*cases, *kernel, "--backends", "flex", "--first", "4"),)),
        Step("module", 12, (attention(*cases, "--boundary", "module", *rivals),)),
        Step("long", 10, (attention("--suite", "long", *kernel, *rivals),)),
        Step("hot", 8, (attention(*cases, *kernel, *rivals, "--l2", "hot"),)),
        Step("more-tests", 5, (module("gpu_tests", *tests),)),
    ]


def steps_on_cpu(out: Path) -> list[Step]:
    """The same, as small as it goes, with equal shares; our own kernels are interpreted."""

    def attention(*arguments: str) -> tuple[str, ...]:
        smoke = ("--suite", "smoke", "--head-size", 32, "--heads", 1, "--seconds", 0.01)
        return module("attention", "--device", "cpu", *smoke, "--out", out / "attention.json", "--resume", *arguments)

    def race(name: str, *arguments: str) -> tuple[str, ...]:
        tiny = ("--small", "--size", "bert-tiny", "--corpus", "sst", "--out", out / "races.json", "--resume")
        return module(name, *tiny, *arguments)

    tests, kernel, rivals = ("--out", out / "tests.json"), ("--boundary", "kernel"), ("--backends", "triton,sdpa,eager")
    variants = ("--small", "--dropout", "0.1", "0", "--out", out / "variants.json", "--resume")
    commands = {
        "probe": module("timing", "--device", "cpu", "--out", out / "probe.json"),
        "tests": module("gpu_tests", *tests, "--quick"),
        "attention": attention(*kernel, *rivals, "--first", "1"),
        "pretraining": race("pretraining"),
        "training": race("training", "--only", "step"),
        "inference": race("encoder", "--only", "classification"),
        "profile": module("step_profile", "--small", "--out", out / "profile.json"),
        "variants": module("variants", *variants),
        "flex": attention(*kernel, "--backends", "flex", "--pass", "fwd", "--first", "1"),
        "module": attention("--boundary", "module", "--backends", "sdpa", "--first", "1"),
        "long": attention(*kernel, "--backends", "sdpa"),
        "hot": attention(*kernel, "--backends", "sdpa", "--l2", "hot"),
        "more-tests": module("gpu_tests", *tests),
    }
    return [Step(step.name, 1, (commands[step.name],)) for step in steps_on_gpu(out)]


# ---- doing it ----


class Journal:
    """gpu.jsonl: one line for each begin and each end."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG
        self.rows = [json.loads(line) for line in self.path.read_text("utf-8").splitlines()] if self.begun else []

    @property
    def begun(self) -> bool:
        return self.path.exists()

    @property
    def finished(self) -> set[str]:
        """Steps that came to their end without a fault."""
        return {row["step"] for row in self.rows if row["rc"] == 0}

    def write(self, row: dict[str, object]) -> None:
        self.rows.append(row)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        atomic_write(self.path, lines.encode())


def state_of_gpu() -> dict[str, float | None]:
    """Of the first, as nvidia-smi tells it; null where it does not."""
    found = next(iter(readings(list(SMI))), {})
    return {name: number(found.get(field, "")) for field, name in SMI.items()}


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # such as [N/A]
        return None


def run_step(step: Step, seconds: float, journal: Journal, dry: bool) -> dict[str, object]:
    """Runs it for so long at most; returns its last line in the journal."""
    commands = [[sys.executable, *command] for command in step.commands]
    argv = [[word.replace(str(journal.path.parent), "DIR") for word in ("python", *words)] for words in step.commands]
    row = {"step": step.name, "argv": argv, "dry": dry, "begin": time.time(), "end": None, "rc": None}
    journal.write(row | {"killed": False, "seconds": round(seconds, 1)} | state_of_gpu())
    with tempfile.TemporaryFile() as output:
        beside = str(max(0.0, seconds - GRACE))
        guard = [sys.executable, "-I", str(Path(__file__).with_name("guard.py")), beside, json.dumps(commands)]
        process = subprocess.Popen(
            guard,
            cwd=ROOT,
            env=environment(dry),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        killed = ended_within(process, seconds)
        output.seek(max(0, output.seek(0, os.SEEK_END) - 4 * TAIL))
        tail = output.read().decode("utf-8", "replace")[-TAIL:]
    row |= {"end": time.time(), "rc": process.returncode, "killed": killed, "seconds": round(seconds, 1)}
    journal.write(row | state_of_gpu() | {"tail": tail})
    return journal.rows[-1]


def environment(dry: bool) -> dict[str, str]:
    """What is offline asks no network. dry: no GPU even where there is one, and our kernels interpreted."""
    found = os.environ | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return found | ({"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1"} if dry else {})


def ended_within(process: subprocess.Popen, seconds: float) -> bool:
    """Waits; kills the whole group then, whatever of it is left. Returns whether the time was over."""
    try:
        process.wait(timeout=seconds)
        killed = False
    except subprocess.TimeoutExpired:
        killed = True
    finally:  # Ctrl-C too
        with contextlib.suppress(ProcessLookupError):  # all ended by themselves
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for the GPU's driver, and we do not wait for it
        process.wait(timeout=GRACE)
    process.stdin.close()
    return killed


def run_all(steps: Sequence[Step], out: Path, seconds: float, dry: bool) -> None:
    """Those that are not finished, one after the other, in their shares of the seconds."""
    journal, ends = Journal(out), time.monotonic() + seconds
    left = [step for step in steps if step.name not in journal.finished]
    while left:
        step, weights = left[0], sum(step.weight for step in left)
        share = (ends - time.monotonic()) * step.weight / weights
        if share <= 0:
            print(f"not begun: {', '.join(step.name for step in left)}", flush=True)
            break
        print(f"{step.name}: {share:.0f} s at most", flush=True)
        row = run_step(step, share, journal, dry)
        remove_halves(out)
        how = "killed, its time was over" if row["killed"] else f"exit status {row['rc']}"
        print(f"{step.name}: {how} after {row['end'] - row['begin']:.0f} s", flush=True)
        if row["rc"] not in (0, None) and not row["killed"]:
            print(row["tail"], flush=True)
        left = left[1:]


def remove_halves(out: Path) -> None:
    """What a killed process had not yet renamed (minibert.core.files.atomic_write)."""
    for path in out.glob(".*.json*.*"):
        path.unlink()


# ---- command line ----


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, help="a new directory; with --dry it may be left out")
    where.add_argument("--resume", type=Path, help="the directory of an earlier run, to go on with")
    parser.add_argument("--seconds", type=float, default=QUARTER)
    parser.add_argument("--steps", help="only these, separated by commas")
    parser.add_argument("--dry", action="store_true", help="on a CPU, as small as it goes")
    arguments = parser.parse_args(argv)
    if not (arguments.out or arguments.resume):
        if not arguments.dry:
            parser.error("name a new directory by --out, or that of an earlier run by --resume")
        arguments.out = Path(tempfile.mkdtemp(prefix="minibert-gpu-"))
    return arguments


def obstacle(arguments: argparse.Namespace, names: Sequence[str]) -> str:
    """Why nothing can be done, in a line; "" if it can."""
    unknown = [name for name in (arguments.steps or "").split(",") if name and name not in names]
    if unknown or arguments.steps == "":
        return f"no step {', '.join(unknown) or 'is named'}; there are {', '.join(names)}"
    if not arguments.seconds > 0:
        return f"--seconds {arguments.seconds:g} must be above 0"
    journal = Journal(arguments.resume or arguments.out)
    if arguments.out and journal.begun:
        return f"{arguments.out} holds a run already; go on with it by --resume, or name a new directory"
    if arguments.resume and not journal.begun:
        return f"{arguments.resume} holds no run ({LOG}); begin one by --out"
    if any(row["dry"] != arguments.dry for row in journal.rows):
        return f"{arguments.resume} holds a run {'without' if arguments.dry else 'with'} --dry; go on with it likewise"
    if not arguments.dry and not has_cuda():
        return "PyTorch sees no CUDA device here; to see on a CPU that all runs, add --dry"
    return ""


def has_cuda() -> bool:
    import torch  # slow, and needed for nothing else

    return torch.cuda.is_available()


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parsed(argv)
    out = (arguments.resume or arguments.out).absolute()
    steps = (steps_on_cpu if arguments.dry else steps_on_gpu)(out)
    if why := obstacle(arguments, [step.name for step in steps]):
        print(f"benchmarks.gpu: {why}", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    remove_halves(out)
    print(f"results: {out}", flush=True)
    chosen = arguments.steps.split(",") if arguments.steps else [step.name for step in steps]
    run_all([step for step in steps if step.name in chosen], out, arguments.seconds, arguments.dry)
    return 0


if __name__ == "__main__":
    sys.exit(main())
