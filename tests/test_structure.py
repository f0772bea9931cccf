"""Proves the shape of the package: imports run one way, and what needs no torch loads none.

Run: pytest tests/test_structure.py
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import minibert
from minibert import attention, command_options, replay

PACKAGE = Path(minibert.__file__).parent

# Each module may import only from those before it (modules of one group do not import each other).
ORDER = [
    {"files", "unicode_tables", "layout", "dropout", "options", "report", "baselines", "findings", "ranks", "page"},
    {"config", "hub", "wordpiece", "reference", "loop", "attention.backend", "attention.triton_parts"},
    {
        "command_options",
        "state",
        "attention.eager",
        "attention.flex",
        "attention.torch_backends",
        "attention.triton_backward",
    },
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


HEAVY = {"torch", "numpy", "tokenizers", "transformers"}


def loaded_after(code: str) -> set[str]:
    """The names of all modules that a new process has loaded when it has run the code."""
    code += "\nimport sys; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("module", ["minibert", "minibert.tokenizer", "minibert.wordpiece", "minibert.table"])
def test_the_tokenizer_loads_without_torch(module):
    assert loaded_after(f"import {module}") & {*HEAVY, "huggingface_hub", "tqdm"} <= {"numpy"}


def test_help_loads_neither_torch_nor_numpy():
    code = """
from minibert import cli
for words in [["--help"], *([command, "--help"] for command in cli.COMMANDS), ["train", "--epochs", "0"]]:
    try:
        assert cli.main(words) == 2
    except SystemExit as done:  # argparse leaves this way
        assert done.code == 0
"""
    assert loaded_after(code) & HEAVY == set()


def test_encode_loads_neither_torch_nor_what_asks_the_hub():
    code = "from minibert.cli import main; assert main(['encode', 'The room was clean. 房间很干净']) == 0"
    assert loaded_after(code) & {*HEAVY, "huggingface_hub", "tqdm"} == {"numpy"}


def test_a_short_text_builds_none_of_the_fast_twins_tables():
    tokenizer = minibert.Tokenizer.from_pretrained("bundled")
    tokenizer(["The room was clean. 房间很干净"])
    assert "_batch_encoder" not in vars(tokenizer)


def test_the_names_that_help_texts_list_are_all_there_are():
    assert tuple(attention.BACKENDS) == command_options.ATTENTION
    assert tuple(replay.DTYPES) == command_options.PRECISIONS


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
