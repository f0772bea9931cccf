"""Proves that the snippets and tests of tests/mutations.py exist; it runs them. Run: pytest tests/test_mutations.py"""

import ast
from pathlib import Path

import pytest
from mutations import MUTATIONS, ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_mutation_finds_its_place_and_its_test(mutation):
    assert (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1
    assert mutation.old != mutation.new
    file, _, name = mutation.test.partition("::")
    functions = {
        node.name
        for node in ast.walk(ast.parse(Path(ROOT / file).read_text(encoding="utf-8")))
        if hasattr(node, "name")
    }
    assert name.partition("[")[0] in functions


def test_every_mutation_has_a_name_of_its_own():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
