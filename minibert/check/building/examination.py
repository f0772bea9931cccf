"""Runs the exercises of a learner's directory in a process of their own, where they cannot harm: a body that loops or
takes all memory is stopped, what it prints is kept.

For each exercise the package is core with the learner's files, of which all other bodies to be written are the right
ones: so one that is wrong or missing does not spoil the others.

    python -m minibert.check.building.examination DIR each NUMBER…     # a JSON object a line, as `examine` reads them
"""

from __future__ import annotations

import ast
import faulthandler
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import logging
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack, redirect_stdout
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

from minibert.check.building import functions

if TYPE_CHECKING:
    from minibert.check.building.exercises import Exercise

CORE = Path(__file__).parents[2] / "core"
FOREIGN = ("minibert", "transformers", "tokenizers")  # what a learner's file may not import
MEMORY = 4 << 30  # bytes that a body may take beyond what is there before
SHOWN = 2000  # characters of what was printed that are kept
COUNT = count()  # of the packages that were imported so far


class Learner(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports `package` from a directory's core/, with the right body for every function of `right`, (file, name).

    own: the file that is asked about.
    """

    def __init__(self, package: str, directory: Path, right: Collection[tuple[str, str]], own: str) -> None:
        self.package, self.core, self.right, self.own = package, directory / "core", right, own

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        package, _, module = name.partition(".")
        if package != self.package:
            return None
        file = self.core / (f"{module}.py" if module else "__init__.py")
        found = importlib.util.spec_from_file_location(
            name, file, loader=self, submodule_search_locations=None if module else [str(self.core)]
        )
        return found if file.exists() else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        file = Path(module.__file__)
        names = [name for where, name in self.right if where == file.name]
        source = file.read_text(encoding="utf-8")
        right = CORE / file.name
        if file.name != self.own and file.name in {where for where, _ in self.right} and not is_python(source):
            tree = ast.parse(right.read_text(encoding="utf-8"))  # of the exercise in that file it is said there
        else:
            theirs = right.read_text(encoding="utf-8") if names else ""
            tree = functions.mixed(source, theirs, names, str(file))
        exec(compile(tree, str(file), "exec"), vars(module))


def is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


class Forbidden(Exception):
    """Called what the exercise is there to write."""


def refuse(name: str) -> object:
    def refused(*given: object, **more: object) -> None:
        raise Forbidden(name)

    return refused


# ---- in the process of its own ----


def run(directory: Path, numbers: Sequence[int], whole: bool, results: IO[str]) -> None:
    """Writes an object for each number. whole: with nothing of the right core in it."""
    import torch

    from minibert.check.building.exercises import exercises, optimizing

    torch.set_num_threads(1)
    bound_memory()
    logging.disable()
    known = (*exercises(), optimizing())
    for exercise in (known[number - 1] for number in numbers):
        others = () if whole else [one for one in known if one is not exercise]
        faulthandler.dump_traceback_later(exercise.limit, exit=True)  # ends the process, whatever it does
        print(json.dumps(answer_of(exercise, others, directory)), file=results, flush=True)
        faulthandler.cancel_dump_traceback_later()


def answer_of(exercise: Exercise, others: Iterable[Exercise], directory: Path) -> dict[str, object]:
    """What comes of one exercise, the right bodies standing in for those of the others; never an exception."""
    from minibert.check.building.exercises import Core, judged, wanted

    right = [(one.file, name) for one in others for name in one.names]
    finder = Learner(f"learner{next(COUNT)}", directory, right, exercise.file)
    answer: dict[str, object] = {"name": exercise.name}
    printed = io.StringIO()
    sys.meta_path.insert(0, finder)
    try:
        with ExitStack() as stack:
            stack.enter_context(redirect_stdout(printed))
            for name in exercise.forbidden:
                forbid(stack, name)
            answer = judged(exercise.name, exercise.stages(Core(finder.package)), wanted(exercise.stages))
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a learner's code raises
        answer |= told(error, directory)
    finally:
        sys.meta_path.remove(finder)
    return {**answer, "printed": printed.getvalue()[-SHOWN:]}


def forbid(stack: ExitStack, name: str) -> None:
    """Until the stack closes, a function of torch is refused under all of its usual names."""
    import torch

    from minibert.look.activations import exchanged

    for owner in (torch.nn.functional, torch._C._nn):
        if hasattr(owner, name):
            stack.enter_context(exchanged(owner, name, refuse(name)))


def told(error: BaseException, directory: Path) -> dict[str, object]:
    """What was raised, and the last line of the learner's that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(directory)]
    own = [frame for frame in own if frame.lineno < functions.ELSEWHERE]
    place = {"file": Path(own[-1].filename).name, "line": own[-1].lineno, "code": own[-1].line} if own else {}
    if isinstance(error, Forbidden):
        return {"forbidden": str(error), **place}
    if isinstance(error, SyntaxError):
        place = {"file": Path(error.filename or "").name, "line": error.lineno, "code": (error.text or "").rstrip()}
        return {"error": f"{type(error).__name__}: {error.msg}", "column": error.offset, **place}
    if isinstance(error, MemoryError):
        return {"error": f"MemoryError: more than {MEMORY >> 30} GB; does a loop not end?", **place}
    return {"error": f"{type(error).__name__}: {str(error)[:300]}".removesuffix(": "), **place}


def bound_memory() -> None:
    """Where the system can: a list that grows for ever must not take the machine with it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            there = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (there + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (OSError, ValueError):  # macOS has no /proc; a limit may be lower already
        return


def main(words: Sequence[str]) -> None:
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what else is written there stands beside the results, not among them
    run(Path(words[0]), list(map(int, words[2:])), words[1] == "whole", results)


# ---- outside of it ----


def examine(directory: Path, numbers: Sequence[int], whole: bool = False) -> dict[int, dict[str, object]]:
    """What came of each exercise: the answers of `run`, by number.

    An exercise that had to be stopped is left out of the next process, which goes on with those behind it.
    """
    found: dict[int, dict[str, object]] = {}
    while left := [number for number in numbers if number not in found]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(CORE.parents[1]), *elsewhere()])}
        how = "whole" if whole else "each"
        command = [sys.executable, "-P", "-X", "utf8", "-m", __name__, str(directory), how, *map(str, left)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=environment)
        answers = [json.loads(line) for line in done.stdout.splitlines() if line.endswith("}")]
        found |= dict(zip(left, answers, strict=False))
        if len(answers) < len(left):
            found[left[len(answers)]] = stopped(directory, done.stderr)
    return found


def elsewhere() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def stopped(directory: Path, said: str) -> dict[str, object]:
    """Of a process that has ended early: where it was, as faulthandler says."""
    if "Timeout" not in said:
        last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
        return {"error": f"the process ended: {last[:300]}".removesuffix(": ")}
    for file, line in re.findall(r'File "(.+?)", line (\d+)', said[said.index("Timeout") :]):
        if Path(file).is_relative_to(directory) and int(line) < functions.ELSEWHERE:
            code = Path(file).read_text(encoding="utf-8").splitlines()[int(line) - 1].strip()
            return {"loops": True, "file": Path(file).name, "line": int(line), "code": code}
    return {"loops": True}


def imports(directory: Path) -> dict[str, str]:
    """file -> what it imports and may not; files that are no Python are left to `run`."""
    found = {}
    for file in sorted((directory / "core").glob("*.py")):
        try:
            name = functions.forbidden(file.read_text(encoding="utf-8"), FOREIGN)
        except (SyntaxError, UnicodeDecodeError):
            continue
        if name:
            found[file.name] = name
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
