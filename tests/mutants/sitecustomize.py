"""Breaks one module while it is imported: no file changes, and child processes import the same broken module.

tests/mutations.py puts this folder on PYTHONPATH, so that every Python below it imports this file when it starts, and
names the mutation in the environment: MINIBERT_MUTATION, a JSON list of a file's path, the text in it, and the other.
"""

import json
import linecache
import os
import sys
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType

VARIABLE = "MINIBERT_MUTATION"


class BrokenLoader(SourceFileLoader):
    """Compiles `source` in place of what the file says; writes and reads no cached bytecode."""

    source: str

    def get_code(self, fullname: str) -> CodeType:
        # Triton reads its kernels' source through this cache; without a time of change it is taken as it is
        linecache.cache[self.path] = len(self.source), None, self.source.splitlines(True), self.path
        return compile(self.source, self.path, "exec", dont_inherit=True)


class BreakingFinder:
    """Goes before all other finders, and answers for one file alone."""

    def __init__(self, path: str, source: str) -> None:
        self.path, self.source = path, source

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if not name.startswith("minibert"):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None or os.path.realpath(spec.origin) != self.path:
            return None
        spec.loader = BrokenLoader(name, spec.origin)
        spec.loader.source = self.source
        return spec


def break_data(path: str, old: str, new: str) -> None:
    """The same for a table that a module reads while it is imported."""
    read = Path.read_text

    def read_text(self: Path, *arguments: str, **options: str) -> str:
        text = read(self, *arguments, **options)
        return text.replace(old, new) if os.path.realpath(self) == path else text

    Path.read_text = read_text


def install() -> None:
    path, old, new = json.loads(os.environ[VARIABLE])
    if not path.endswith(".py"):
        return break_data(os.path.realpath(path), old, new)
    with open(path, encoding="utf-8") as file:
        source = file.read()
    sys.meta_path.insert(0, BreakingFinder(os.path.realpath(path), source.replace(old, new)))


if VARIABLE in os.environ:
    install()
