"""Proves the shape of the package: imports run one way, no torch for text. Run: pytest tests/test_structure.py"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import minibert

PACKAGE = Path(minibert.__file__).parent

# Each module may import only from those before it (modules of one group do not import each other).
ORDER = [
    {"files", "unicode_tables", "layout", "dropout", "options", "report", "baselines", "findings", "ranks", "page"},
    {"config", "hub", "wordpiece", "reference", "loop", "attention.backend", "attention.triton_parts"},
    {"state", "attention.eager", "attention.flex", "attention.torch_backends", "attention.triton_backward"},
    {"attention.triton_kernel"},
    {"checkpoint", "tokenizer_files", "attention", "symbols"},
    {"wordpiece_batch", "model"},
    {"encoding", "token_file", "activations", "replay"},
    {"tokenizer"},
    {"table", "corpus", "data"},
    {"vocab", "instances"},
    {"inference", "parity", "data_checks", "analysis", "trace"},
    {"train", "pretrain", "fill_mask", "jobs", "doctor", "course", "explain"},
    {"cli"},
    {"__main__"},
]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "minibert":
            parent = node.module.removeprefix("minibert").removeprefix(".")
            for alias in node.names:
                child = f"{parent}.{alias.name}".strip(".")
                found.add(child if (PACKAGE / f"{child.replace('.', '/')}.py").is_file() else parent)
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("minibert.") for a in node.names if a.name.startswith("minibert.")}
    return found


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"}


def test_every_module_has_its_place_in_the_order():
    assert set().union(*ORDER) == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name):
    rank = next(i for i, group in enumerate(ORDER) if name in group)
    allowed = set().union(*ORDER[:rank])
    assert imported(MODULES[name]) <= allowed, f"{name} imports what comes after it"


@pytest.mark.parametrize("module", ["minibert", "minibert.tokenizer", "minibert.wordpiece", "minibert.table"])
def test_the_tokenizer_loads_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", minibert.__all__)
def test_every_public_name_exists_and_is_documented(name):
    assert getattr(minibert, name).__doc__


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = minibert.nonsense


def test_tests_and_benchmarks_are_not_imported_by_the_package():
    for path in MODULES.values():
        source = path.read_text(encoding="utf-8")
        assert "import benchmarks" not in source
        assert "from tests" not in source
