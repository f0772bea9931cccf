"""Proves that the snippets and tests of tests/mutants/ exist; tests/mutations.py runs them.

Run: pytest tests/test_mutations.py"""

import ast
from collections import Counter
from functools import cache

import pytest
from mutations import ROOT, Mutation, listed

MUTATIONS = listed()


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
    ast.parse(source(mutation.file).replace(mutation.old, mutation.new))
    file, _, name = mutation.test.partition("::")
    assert name.partition("[")[0] in {function.name for function in functions(file)}


def test_every_mutation_has_a_name_of_its_own():
    assert [name for name, count in Counter(mutation.name for mutation in MUTATIONS).items() if count > 1] == []
