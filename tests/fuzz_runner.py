"""What fuzz_files.py and fuzz_data.py share: cases in worker processes, and what no input may do to a command.

A case is made from the seed and its number alone, so a run goes on by --from where it was stopped, and one case is seen
again by --from N --cases 1 --keep FOLDER. The worker calls the command line in its own process, for a process of its
own would take a hundred times as long. Found are: a traceback, a status other than 0 and 2 (1 for `doctor`), a hang, a
worker that died, more memory than LIMIT_MB, a line that is too long or holds control characters, no line or several
where there is an error, a file left half-written, and any program or Python code that was started.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import io
import os
import queue
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # started as a script

import processes

SECONDS = 20  # of one case
LIMIT_MB = 300  # more than before it
ADDRESS_SPACE = 6 << 30  # more than before any, so that a fault does not take the machine along
LONGEST = 600  # characters of a line
SHARED_MEMORY = "/dev/shm"  # no disk has to wait for it
STACK = "stack"  # where a process that hangs writes where
CANARY = "canary"  # a file that hostile input tries to make in the working directory
STARTS = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "ctypes.dlopen", "socket.connect")


class Call(NamedTuple):
    """A command to be run. outputs: files that it may make, whole; a second call of the same name sees them."""

    words: list[str]
    status: tuple[int, ...] = (0, 2)


class Case(NamedTuple):
    what: str  # was done to which input
    calls: list[Call]
    more: Callable[[], list[str]] | None = None  # other checks of the same input: what is wrong


class Outcome(NamedTuple):
    number: int
    what: str
    wrong: list[str]
    statuses: list[int]
    seconds: float
    megabytes: float
    processor: float = 0.0  # seconds


# ---- in the worker ----


def work(jobs: Connection, module: str, seed: int, folder: str) -> None:
    """Answers the numbers of cases with their outcomes, until there are no more."""
    import torch

    from minibert import cli  # loaded once

    torch.set_num_threads(1)
    source: ModuleType = importlib.import_module(module)
    with tempfile.TemporaryDirectory(dir=folder) as name, open(Path(folder, STACK), "w") as stack:
        home = Path(name)
        os.chdir(home)
        source.prepare(home)
        faulthandler.register(signal.SIGUSR1, stack)
        started: list[str] = []
        sys.addaudithook(lambda event, _: started.append(event) if event in STARTS else None)
        memory = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        jobs.send(None)  # ready
        while (number := jobs.recv()) is not None:
            place = home / "case"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            os.chdir(place)
            started.clear()
            case = source.make(random.Random(f"{module} {seed} {number}"))
            jobs.send(case.what)
            jobs.send(outcome(cli.main, case, number, started))
            os.chdir(home)


def outcome(main: Callable[[list[str]], int], case: Case, number: int, started: list[str]) -> Outcome:
    """Runs a case, whose input lies in the working directory."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, begin, busy = memory("VmRSS"), time.monotonic(), time.process_time()
    wrong, statuses = [], []
    for call in case.calls:
        status, said = called(main, call.words)
        statuses.append(status)
        wrong += [f"{' '.join(call.words)}: {problem}" for problem in problems(status, *said, call.status)]
    wrong += case.more() if case.more else []
    seconds, megabytes = time.monotonic() - begin, (memory("VmHWM") - before) / 1e6
    wrong += [f"{megabytes:.0f} MB more"] * (megabytes > LIMIT_MB)
    wrong += ["code was run"] * Path(CANARY).exists() + [f"{event} was called" for event in sorted({*started})]
    wrong += [f"{path.name} is left" for path in Path().iterdir() if path.name.startswith(".")]
    return Outcome(number, case.what, wrong, statuses, seconds, megabytes, time.process_time() - busy)


def called(main: Callable[[list[str]], int], words: list[str]) -> tuple[int, tuple[str, str]]:
    """The status of a command, and what it has said on stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(words)
        except SystemExit as done:
            status = done.code
        except BaseException:  # noqa: BLE001  what a command lets through is what is looked for
            status = 1
            traceback.print_exc()
    return status, (out.getvalue(), err.getvalue())


def problems(status: int, out: str, err: str, allowed: tuple[int, ...]) -> Iterator[str]:
    """What a command may not say, and how it may not end."""
    lines = err.splitlines()
    if "Traceback" in err:
        yield err[-1500:]
    elif status not in allowed:
        yield f"status {status}: {err[-300:]}"
    elif status == 2 and sum(line.startswith("minibert: ") for line in lines) != 1:
        yield f"not one line of error: {err[-300:]!r}"
    if longest := max((line for line in lines if len(line) > LONGEST), default=""):
        yield f"a line of {len(longest)} characters: {longest[:100]!r}"
    if char := stray(out, err):
        yield f"a control character: {char!r}"
    if "Warning: " in err:
        yield f"a warning: {err[-300:]}"


def stray(out: str, err: str) -> str | None:
    """A character that a terminal might obey."""
    out = "".join(char for char in out if unicodedata.category(char) == "Cc" and char not in "\n\t")
    return next((char for char in out + err.replace("\n", "") if not char.isprintable()), None)


def memory(name: str) -> int:
    """Bytes, of what /proc/self/status calls VmRSS or VmHWM."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


# ---- in the process that asks ----


class Worker:
    """A process that is there when it is asked, also after it has hung or died."""

    def __init__(self, module: str, seed: int, folder: str) -> None:
        self.arguments, self.folder = (module, seed, folder), Path(folder)
        self.process = None

    def ask(self, number: int) -> Outcome:
        if self.process is None:
            self.pipe, end = processes.SERVER.Pipe()
            self.process = processes.SERVER.Process(target=work, args=(end, *self.arguments))
            self.process.start()
            end.close()
            self.pipe.recv()
        what, wrong = "", ""
        try:
            self.pipe.send(number)
            if answers(self.pipe, self.process.pid):
                what = self.pipe.recv()
            if what and answers(self.pipe, self.process.pid):
                return self.pipe.recv()
            os.kill(self.process.pid, signal.SIGUSR1)  # it writes where it is
            time.sleep(0.5)
            wrong = f"a hang of more than {SECONDS} s\n{(self.folder / STACK).read_text()}"
        except (EOFError, ConnectionError):
            self.process.join()
            wrong = f"the process died ({self.process.exitcode})"
        self.process.kill()
        self.process.join()
        self.process = None
        return Outcome(number, what, [wrong], [], SECONDS, 0)

    def close(self) -> None:
        if self.process is not None:
            self.pipe.send(None)
            self.process.join()


def answers(pipe: Connection, process: int) -> bool:
    """Whether a worker answers in SECONDS. On a busy machine they do not count while it waits for its turn."""
    begin, busy = time.monotonic(), processor_time(process)[1]
    while not pipe.poll(0.5):
        state, now = processor_time(process)
        if now - busy > SECONDS or (time.monotonic() - begin > SECONDS and state != "R"):
            return False
    return True


def processor_time(process: int) -> tuple[str, float]:
    """The state of a process (R: it computes, or would) and the seconds that it has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def outcomes(module: str, seed: int, numbers: range, count: int, folder: str) -> Iterator[Outcome]:
    """Of all cases, as they are done, by so many workers."""
    free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    workers = [Worker(module, seed, folder) for _ in range(count)]
    for worker in workers:
        free.put(worker)

    def ask(number: int) -> Outcome:
        worker = free.get()
        try:
            return worker.ask(number)
        finally:
            free.put(worker)

    with ThreadPool(count) as pool:
        yield from pool.imap_unordered(ask, numbers)
    for worker in workers:
        worker.close()


def main(module: str, text: str) -> int:
    """The command line of a fuzzer, whose module is `module` and docstring `text`."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="N", help="the first case's number")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--keep", metavar="FOLDER", help="where the input of the last case stays")
    options = parser.parse_args()
    begin, wrong, busy, statuses, worst = time.monotonic(), 0, 0.0, Counter(), [0.0, 0.0]
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if os.path.isdir(SHARED_MEMORY) else None) as folder:
        numbers = range(options.first, options.first + options.cases)
        for found in outcomes(module, options.seed, numbers, options.processes, options.keep or folder):
            statuses.update(found.statuses)
            busy += found.processor
            worst = [max(pair) for pair in zip(worst, (found.seconds, found.megabytes), strict=True)]
            if found.wrong:
                wrong += 1
                print(f"case {found.number}: {found.what}", *found.wrong, sep="\n    ", flush=True)
            if (done := found.number - options.first + 1) % 500 == 0:
                print(f"{done} cases, {wrong} wrong; go on with --from {found.number}", file=sys.stderr, flush=True)
    seconds = time.monotonic() - begin
    ends = ", ".join(f"{count} with status {status}" for status, count in sorted(statuses.items()))
    most = f"at most {worst[0]:.1f} s and {worst[1]:.0f} MB more"
    print(
        f"{options.cases} cases, {wrong} wrong; commands that ended: {ends}; {most}; {seconds:.0f} s, busy {busy:.0f}"
    )
    return 1 if wrong else 0
