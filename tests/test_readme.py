"""Proves that what the README says is so: its commands, its example, its tables. Run: pytest tests/test_readme.py"""

import re
import shlex
from pathlib import Path

import pytest

from benchmarks import accuracy, bundled, corpus, race, tokenizer
from minibert import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\[\('(positive|negative)', 0\.\d+\), \('(positive|negative)', 0\.\d+\)\]", printed[0])
    assert printed[1].startswith("torch.Size([1, ")


def test_the_python_example_is_about_ten_lines():
    (example,) = blocks("python")
    assert len(example.strip().splitlines()) <= 12


def test_the_example_that_looks_inside_prints_what_is_said(minilm, capsys):
    text = README[README.index("## Look inside") :]
    example, printed = re.search(r"```py\n(.*?)```\n\n```\n(.*?)```", text, flags=re.S).groups()
    exec(compile(example.replace("sentence-transformers/all-MiniLM-L6-v2", str(minilm)), "README.md", "exec"), {})
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    "line", [line for block in blocks("bash") for line in block.splitlines() if "minibert" in line]
)
def test_every_command_in_the_readme_parses(line):
    command = re.split(r"&& |^", line)[-1]
    words = shlex.split(re.sub(r"^torchrun .*-m (?=minibert )", "", command), comments=True)
    assert words[0] == "minibert"
    cli.parse(words[1:])


def test_ci_runs_the_readmes_test_command_word_for_word():
    (command,) = [block.strip() for block in blocks("bash") if "pytest" in block]
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_every_file_of_the_map_exists():
    for path in re.findall(r"`((?:minibert|tests|benchmarks)/[\w/.]*)`", README):
        assert (ROOT / path).exists(), path


def test_every_module_is_on_the_map():
    modules = {path.name for path in (ROOT / "minibert").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert [name for name in sorted(modules) if name not in README] == []


def test_the_accuracy_table_is_that_of_the_committed_results():
    assert accuracy.show() in README, "paste the output of python -m benchmarks.accuracy --show"


def test_the_tokenizers_tables_are_those_of_the_committed_results():
    assert tokenizer.show() in README, "paste the output of python -m benchmarks.tokenizer --show"


@pytest.mark.parametrize("name", ["encoder", "training"])
def test_the_tables_of_speed_are_those_of_the_committed_results(name):
    assert race.show(name, asked=True) in README, f"paste the output of python -m benchmarks.{name} --show --asked"


def test_every_picture_is_there():
    for path in re.findall(r"!\[[^]]*\]\(([^)]*)\)", README):
        assert (ROOT / path).is_file(), path


def test_the_tables_of_pretraining_are_those_of_the_committed_results():
    assert bundled.show().split("\n\n")[0] in README
    assert corpus.show() in README
