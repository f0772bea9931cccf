"""Proves that following a command from cli.py to what it is about opens few files, and lists them.

Run: pytest -s tests/test_reading_paths.py

A function leads to each function that it names: its own module's, those it imports, methods of its own class and of
the classes that the module knows. The way with the fewest files is the one that is counted.
"""

import ast
import heapq
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from test_structure import MODULES, PACKAGE

Place = tuple[str, str]  # module, function or Class.method
Function = ast.FunctionDef | ast.ClassDef


@cache
def definitions(module: str) -> dict[str, Function]:
    """Functions, classes and methods of a module, by name."""
    found = {}
    for node in ast.parse(MODULES[module].read_text(encoding="utf-8")).body:
        if isinstance(node, Function):
            found[node.name] = node
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{m.name}": m for m in node.body if isinstance(m, ast.FunctionDef)}
    return found


@cache
def known(module: str) -> dict[str, tuple[str, str]]:
    """name -> (module, name there; empty for the module itself) of all that a module imports, in functions too."""
    found, package = {}, ["minibert", *MODULES[module].relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            parent = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*parent, *filter(None, [node.module])]).removeprefix("minibert").removeprefix(".")
            for alias in node.names:
                child = f"{source}.{alias.name}".strip(".")
                found[alias.asname or alias.name] = (child, "") if child in MODULES else (source, alias.name)
    return {name: place for name, place in found.items() if place[0] in MODULES}


def resolved(module: str, name: str) -> Place | None:
    """Where a name of a module is defined; through modules that only pass it on."""
    if name in definitions(module):
        return module, name
    source, inner = known(module).get(name, ("", ""))
    return resolved(source, inner) if inner and source != module else None


def methods(module: str, name: str) -> dict[str, Place]:
    """Of a class, with those of its bases: name -> place."""
    found, node = {}, definitions(module)[name]
    for base in getattr(node, "bases", []):
        text = ast.unparse(base)
        place = resolved(module, text)
        if "." in text and known(module).get(text.split(".")[0], ("", "x"))[1] == "":
            source = known(module)[text.split(".")[0]][0]
            place = resolved(source, text.split(".")[1])
        if place:
            found |= methods(*place)
    own = [key.split(".")[1] for key in definitions(module) if key.startswith(f"{name}.")]
    return found | {key: (module, f"{name}.{key}") for key in own}


def classes(module: str) -> Iterator[Place]:
    names = [*definitions(module), *known(module)]
    for place in {resolved(module, name) for name in names if "." not in name}:
        if place and isinstance(definitions(place[0])[place[1]], ast.ClassDef):
            yield place


@cache
def leads_to(place: Place) -> frozenset[Place]:
    module, name = place
    found = set()
    for node in ast.walk(definitions(module)[name]):
        if isinstance(node, ast.Name) and (target := resolved(module, node.id)):
            found.add(target)
        elif isinstance(node, ast.Attribute):
            owner = known(module).get(getattr(node.value, "id", ""), ("", "x"))
            if owner[1] == "" and (target := resolved(owner[0], node.attr)):
                found.add(target)
            for known_class in classes(module):
                found |= {p for key, p in methods(*known_class).items() if key == node.attr}
    for one in list(found):
        if isinstance(definitions(one[0])[one[1]], ast.ClassDef):
            found |= {p for key, p in methods(*one).items() if key in ("__init__", "__call__", "__enter__")}
    return frozenset(found)


def way(start: Place, arrived: Callable[[Place], bool]) -> list[Place]:
    """The way that opens the fewest files, and of those the one with the fewest functions."""
    waiting, seen = [(1, 0, [start])], set()
    while waiting:
        _, steps, path = heapq.heappop(waiting)
        if arrived(path[-1]):
            return path
        if path[-1] in seen:
            continue
        seen.add(path[-1])
        for place in leads_to(path[-1]):
            count = len({module for module, _ in [*path, place]})
            heapq.heappush(waiting, (count, steps + 1, [*path, place]))
    raise AssertionError(f"nothing leads from {start} there")


def calls(place: Place, called: str) -> bool:
    """Whether a function calls something of that name: f, or x.f."""
    node = definitions(place[0])[place[1]]
    if isinstance(node, ast.ClassDef):
        return False
    functions = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
    return called in [getattr(f, "id", getattr(f, "attr", None)) for f in functions]


def opened(*ways: list[Place]) -> dict[str, list[str]]:
    """File -> the functions to read in it; prints them."""
    files: dict[str, list[str]] = {}
    for module, name in dict.fromkeys(place for path in ways for place in path):
        files.setdefault(str(MODULES[module].relative_to(PACKAGE)), []).append(name)
    print(*(f"{file}: {', '.join(names)}" for file, names in files.items()), sep="\n")
    return files


def folders(files: dict[str, list[str]]) -> set[str]:
    return {file.rpartition("/")[0].partition("/")[0] for file in files}


@pytest.mark.parametrize("command", ["train", "pretrain"])
def test_from_train_to_its_backward_pass_there_are_at_most_6_files_in_5_folders(command):
    files = opened(way(("cli", f"run_{command}"), lambda place: calls(place, "backward")))
    assert len(files) <= 6
    assert len(folders(files)) <= 5


def test_from_predict_to_pieces_and_model_there_are_at_most_6_files_in_4_folders():
    start = ("cli", "run_predict")
    pieces = way(start, lambda place: place == ("core.wordpiece", "wordpiece"))
    model = [*way(start, lambda place: calls(place, "model")), ("core.model", "BertForSequenceClassification.forward")]
    files = opened(pieces, model)
    assert len(files) <= 6
    assert len(folders(files)) <= 4
