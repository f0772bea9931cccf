"""Functions in a source text: found by name, their bodies taken out, exchanged, or spoilt in one place.

A name is that of a function in the module or of a method, "scores" or "Layer.forward". Lines stand where they stood:
what a learner has written keeps its place, and a traceback names it.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

EMPTY = "raise NotImplementedError"

ELSEWHERE = 1_000_000  # is added to the lines of what stands in for a learner's body

parsed = lru_cache(64)(ast.parse)  # a tree to be read, not to be changed: a class has most of its files alike


def find(tree: ast.Module, name: str) -> ast.FunctionDef:
    """Raises ValueError: there is none."""
    body: list[ast.stmt] = tree.body
    found: ast.AST | None = None
    for part in name.split("."):
        kinds = ast.FunctionDef | ast.ClassDef
        found = next((node for node in reversed(body) if isinstance(node, kinds) and node.name == part), None)
        body = found.body if found else []
    if not isinstance(found, ast.FunctionDef):
        raise ValueError(name)
    return found


def body_of(function: ast.FunctionDef) -> list[ast.stmt]:
    """Its statements behind the docstring."""
    return function.body[ast.get_docstring(function, clean=False) is not None :]


def lines_of(function: ast.FunctionDef) -> slice:
    """Of the source's lines those of its body, behind the docstring."""
    first = body_of(function)[0]
    return slice(first.lineno - 1, function.end_lineno)


def emptied(source: str, names: Collection[str], remark: str) -> str:
    """The source with the bodies of these functions taken out: `remark`, a comment, and an error in their place."""
    lines = source.splitlines()
    functions = sorted((find(ast.parse(source), name) for name in names), key=lambda function: -function.lineno)
    for function in functions:
        indent = " " * (function.col_offset + 4)
        lines[lines_of(function)] = [f"{indent}# {remark}", f"{indent}{EMPTY}"]
    return "\n".join(lines) + "\n"


def is_empty(source: str, name: str) -> bool:
    """Whether a body is still as `emptied` leaves it. Raises ValueError: there is no such function; SyntaxError."""
    body = body_of(find(parsed(source), name))
    return [ast.unparse(statement) for statement in body] in ([EMPTY], [])


def gives_nothing(source: str, name: str) -> bool:
    """Whether a function has neither a `return` with a value nor a `yield`."""
    for node in ast.walk(find(parsed(source), name)):
        if isinstance(node, ast.Yield | ast.YieldFrom) or (isinstance(node, ast.Return) and node.value is not None):
            return False
    return True


def text_of(source: str, name: str) -> str:
    """The lines of a function, its docstring left out."""
    function = find(parsed(source), name)
    lines = source.splitlines()
    head = lines[function.lineno - 1 : function.body[0].lineno - 1]
    return "\n".join([*head, *lines[lines_of(function)]])


def mixed(source: str, other: str, names: Collection[str], file: str) -> ast.Module:
    """The source with these functions as `other` has them, in lines beyond ELSEWHERE. file: its name, for errors.

    Raises ValueError where the source lacks one, SyntaxError where it is none.
    """
    tree, others = ast.parse(source, file), ast.parse(other)
    for name in names:
        old, new = find(tree, name), find(others, name)
        for node in ast.walk(new):
            for field in ("lineno", "end_lineno"):
                if hasattr(node, field):
                    setattr(node, field, getattr(node, field) + ELSEWHERE)
        for field in new._fields:
            setattr(old, field, getattr(new, field))
    return tree


@lru_cache(64)
def forbidden(source: str, modules: tuple[str, ...]) -> str | None:
    """The first of these modules that the source imports, also in parts."""
    for node in ast.walk(parsed(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] in modules:
                return name
    return None


# ---- one slip ----


class Slip(NamedTuple):
    """A way to spoil a function in one place: the whole source with it, and the line (from 1) that was changed."""

    source: str
    line: int


def slips(source: str, name: str) -> Iterator[Slip]:
    """What one may easily write instead: a factor, a summand or a call left out, two arguments exchanged, another
    axis or constant, a condition reversed, a statement forgotten. Each keeps the length of the source's other lines."""
    function = find(ast.parse(source), name)
    for statement in body_of(function):
        for node in ast.walk(statement):
            for other in others(node):
                yield Slip(replaced(source, node, ast.unparse(other)), node.lineno)
    for node in ast.walk(function):
        for statements in (getattr(node, "body", []), getattr(node, "orelse", [])):
            for statement in statements if isinstance(statements, list) else []:
                called = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
                if called or isinstance(statement, ast.AugAssign):
                    yield Slip(replaced(source, statement, "pass"), statement.lineno)


def others(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of an expression."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div | ast.Add | ast.Sub):
        yield node.left
        if isinstance(node.op, ast.Add | ast.Mult):
            yield node.right
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert | ast.Not):
        yield node.operand
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for pair in ((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.In, ast.NotIn)):
            if isinstance(node.ops[0], pair):
                yield changed(node, ops=[pair[isinstance(node.ops[0], pair[0])]()])
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield ast.Constant({0: 1, 1: 0}.get(node.value, node.value + 1))
    elif isinstance(node, ast.Call):
        if len(node.args) == 1 and isinstance(node.func, ast.Attribute | ast.Name):
            yield node.args[0]
        elif len(node.args) > 1:
            first, second, *rest = node.args
            if not any(isinstance(one, ast.Starred) for one in (first, second)):
                yield changed(node, args=[second, first, *rest])
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
        parts = node.slice.elts
        for i in range(len(parts) - 1):
            swapped = [*parts[:i], parts[i + 1], parts[i], *parts[i + 2 :]]
            yield changed(node, slice=ast.Tuple(swapped, ast.Load()))


def changed(node: ast.AST, **fields: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return ast.fix_missing_locations(other)


def replaced(source: str, node: ast.AST, text: str) -> str:
    """The source with other text in a node's place, in brackets where it needs them to stay one expression."""
    data, starts = source.encode(), [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    begin, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def put(words: str) -> str:
        return (data[:begin] + words.encode() + data[end:]).decode()

    if isinstance(node, ast.stmt) or tree_of(put(text)) == tree_of(put(f"({text})")):
        return put(text)
    return put(f"({text})")


def tree_of(source: str) -> str | None:
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return None
