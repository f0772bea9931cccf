"""Proves that the tests bite: breaks the package in one place at a time, and expects a named test to fail.

    python tests/mutations.py                   # all, two at a time; exit 1 if one survives
    python tests/mutations.py --only chinese    # those whose name, file or test holds the word
    python tests/mutations.py --since HEAD^     # those of what has changed since that commit, and a quarter of the rest

tests/mutants/ lists them: for each file of the package (name, what stands in it once, what takes its place, the test
that has to fail). No file is changed or copied: a process forked from this one, which has imported torch and
transformers already, and the processes that it starts, see the broken source when they import the module
(tests/mutants/sitecustomize.py). The bugs of `minibert course` are put in too, at run time.
"""

import argparse
import importlib
import json
import os
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import mutants
import pytest
import sample

ROOT = Path(__file__).parents[1]
COURSE = "minibert course"  # in place of a file: its bugs are put in at run time
LIMIT = 300  # seconds for one mutation's test
STATUS = 50  # pytest's exit status counts from here: 1 would be that of any Python error


class Mutation(NamedTuple):
    """`old` stands exactly once in `file`; with `new` in its place `test` must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


def listed() -> list[Mutation]:
    """Those of tests/mutants/, file by file."""
    found = []
    for module in pkgutil.iter_modules(mutants.__path__):
        if module.name != "sitecustomize":
            files = importlib.import_module(f"mutants.{module.name}").MUTATIONS
            found += [
                Mutation(name, file, old, new, test) for file, rows in files.items() for name, old, new, test in rows
            ]
    return found


def bugs() -> list[Mutation]:
    """Those of the course, in a process of its own: this one must not import what its forks are to see broken."""
    read, write = os.pipe()
    if os.fork() == 0:
        sys.path.insert(0, str(ROOT))
        from minibert.check.course import BUGS

        with open(write, "w", encoding="utf-8") as file:
            json.dump([[f"course: {bug.name}", COURSE, bug.name, bug.texts["title"], bug.test] for bug in BUGS], file)
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as file:
        rows = json.load(file)
    os.wait()
    return [Mutation(*row) for row in rows]


def run_tests(tests: Sequence[str], mutation: Mutation | None, folder: Path) -> int:
    """pytest's exit status on these tests, with the mutation in; all that it prints goes to `folder`/output."""
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(ROOT)
    paths = [str(ROOT), str(ROOT / "tests"), str(Path(mutants.__path__[0]))]
    sys.path[:0] = paths
    os.environ.update(PYTHONPATH=os.pathsep.join(paths), PYTHONDONTWRITEBYTECODE="1")
    os.environ.update(HYPOTHESIS_STORAGE_DIRECTORY=str(folder / "hypothesis"))
    # plain: pytest need not explain failures; with CI set it takes minutes for those of large files
    command = ["-x", "-q", "-m", "", "-p", "no:cacheprovider", "-p", "no:xdist", "--assert=plain", *tests]
    command += [f"--basetemp={folder / 'files'}"]
    if mutation is not None and mutation.file == COURSE:
        command += ["-p", "course_plugin"]
        os.environ["MINIBERT_BUG"] = mutation.old
    elif mutation is not None:
        os.environ["MINIBERT_MUTATION"] = json.dumps([str(ROOT / mutation.file), mutation.old, mutation.new])
        importlib.import_module("sitecustomize").install()
    return pytest.main(command)


def sampled(mutations: Sequence[Mutation], revision: str) -> list[Mutation]:
    """Those whose file or test has changed since a commit, or that are newly listed; of all others a quarter."""
    seed, changed = sample.commit_hash(revision), sample.changed_since(revision)
    known = sample.mutations_at(revision)
    return [
        mutation
        for mutation in mutations
        if {mutation.file, mutation.test.partition("::")[0]} & changed
        or (mutation.file != COURSE and mutation.name not in known)
        or sample.chosen(mutation.name, seed)
    ]


class Running(NamedTuple):
    mutation: Mutation | None
    process: int
    begin: float
    folder: tempfile.TemporaryDirectory


def start(tests: Sequence[str], mutation: Mutation | None) -> Running:
    folder = tempfile.TemporaryDirectory()
    process = os.fork()
    if process == 0:
        os.setsid()  # whatever the tests start ends with them
        status = 1
        try:
            status = STATUS + run_tests(tests, mutation, Path(folder.name))
        finally:
            traceback.print_exc()
            os._exit(status)
    return Running(mutation, process, time.monotonic(), folder)


def finished(running: list[Running], limit: float) -> tuple[Running, int | None]:
    """Takes the first that has ended out of the list, with its exit status; None where it passed the limit."""
    while True:
        for run in running:
            process, status = os.waitpid(run.process, os.WNOHANG)
            over = time.monotonic() - run.begin > limit
            if process or over:
                stop(run.process)
                if not process:
                    os.waitpid(run.process, 0)
                running.remove(run)
                return run, os.waitstatus_to_exitcode(status) if process else None
        time.sleep(0.02)


def stop(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def passed(run: Running, status: int | None) -> bool:
    """Whether all its tests passed.

    Raises RuntimeError where pytest could not run them at all or did not end, which must not count as caught.
    """
    file = Path(run.folder.name) / "output"
    said = file.read_text(errors="replace")[-4000:] if file.exists() else ""
    run.folder.cleanup()
    if status not in (STATUS, STATUS + 1):  # + 2 and above: interrupted, wrong usage, nothing collected
        name = run.mutation.name if run.mutation else "no mutation"
        raise RuntimeError(f"{name}: pytest ended with {status} (None: not in time)\n{said}")
    if status != STATUS and run.mutation is None:
        print(said)
    return status == STATUS


def in_turn(mutations: Sequence[Mutation], jobs: int) -> Iterator[tuple[Mutation, bool, float]]:
    """Each mutation, whether its test caught it, and the seconds that this took; `jobs` of them at a time."""
    waiting, running = list(reversed(mutations)), []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                mutation = waiting.pop()
                running.append(start([mutation.test], mutation))
            run, status = finished(running, LIMIT)
            yield run.mutation, not passed(run, status), time.monotonic() - run.begin
    finally:
        for run in running:
            stop(run.process)
            os.waitpid(run.process, 0)
            run.folder.cleanup()


def survivors(chosen: Sequence[Mutation], jobs: int) -> list[Mutation]:
    """Puts each mutation in, prints a line for it, and returns those that no test caught.

    Raises RuntimeError where a named test fails without any mutation.
    """
    named = sorted({mutation.test for mutation in chosen})
    if named and not passed(*finished([start(named, None)], float("inf"))):
        raise RuntimeError("a named test fails without any mutation: run pytest first")
    alive = []
    for mutation, caught, seconds in in_turn(chosen, jobs):
        print(
            f"{'caught' if caught else 'SURVIVED':10}{seconds:4.0f} s  {mutation.name}  ({mutation.test})", flush=True
        )
        alive += [] if caught else [mutation]
    print(f"{len(chosen) - len(alive)}/{len(chosen)} mutations caught", flush=True)
    return alive


def preload() -> None:
    """Imports once what all forks need, and nothing of the package."""
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports Triton, as transformers does
    for name in ("numpy", "hypothesis", "tokenizers", "torch", "transformers.models.bert.modeling_bert"):
        importlib.import_module(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="mutations whose name, file or test holds it")
    parser.add_argument("--since", metavar="COMMIT", help="those of changed files, and a quarter of all others")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="how many at a time (default: 2)")
    options = parser.parse_args()
    chosen = [mutation for mutation in listed() + bugs() if any(options.only in field for field in mutation)]
    if options.since:
        chosen = sampled(chosen, options.since)
    preload()
    return 1 if survivors(chosen, options.jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
