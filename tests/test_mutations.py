"""Proves that the snippets and tests of tests/mutants/ exist, and that no file of the package is without any;
tests/mutations.py runs them. Run: pytest tests/test_mutations.py"""

import ast
from collections import Counter
from functools import cache

import pytest
from mutations import ROOT, Mutation, listed

from minibert.check.course import BUGS

MUTATIONS = listed()
SMALL = 60  # lines; a longer file has two mutations, one of them in its longest function
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "minibert").rglob("*.py"))


@cache
def source(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


@cache
def functions(file: str) -> list[ast.FunctionDef]:
    """Every function of a file, methods too."""
    return [node for node in ast.walk(ast.parse(source(file))) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_mutation_finds_its_place_and_its_test(mutation: Mutation):
    assert source(mutation.file).count(mutation.old) == 1
    assert mutation.old != mutation.new
    file, _, name = mutation.test.partition("::")
    assert name.partition("[")[0] in {function.name for function in functions(file)}


def test_every_mutation_has_a_name_of_its_own():
    assert [name for name, count in Counter(mutation.name for mutation in MUTATIONS).items() if count > 1] == []


@pytest.mark.parametrize("file", [file for file in FILES if source(file).count("\n") > SMALL])
def test_a_file_has_two_mutations_one_of_them_in_its_longest_function(file):
    places = [
        source(file)[: source(file).index(mutation.old)].count("\n") + 1
        for mutation in MUTATIONS
        if mutation.file == file
    ]
    assert len(places) >= 2, f"{file} has {len(places)} mutations; add some to tests/mutants/"
    longest = max(functions(file), key=lambda f: f.end_lineno - f.lineno, default=None)
    if longest:
        spots = range(longest.lineno, longest.end_lineno + 1)
        assert any(place in spots for place in places), f"none of {file} is in its longest function, {longest.name}()"


@pytest.mark.parametrize(
    ("file", "words"), [("docs/correctness.md", "in {} ways"), ("docs/correctness.zh-CN.md", "用 {} 种方式")]
)
def test_the_docs_say_how_many_there_are(file, words):
    assert words.format(len(MUTATIONS) + len(BUGS)) in source(file)
