"""Proves that what the README says is so: its commands, its example, its tables. Run: pytest tests/test_readme.py"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import accuracy, bundled, corpus, race, tokenizer
from minibert import cli, command_options

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    """On the beginning of each file of reviews."""
    for file in command_options.REVIEWS.glob("*.tsv"):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / file.name).write_text("".join(lines[:121]), encoding="utf-8")
    monkeypatch.setattr(command_options, "REVIEWS", tmp_path)
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


LINES = [line.removeprefix("pip install -e . && ") for block in blocks("bash") for line in block.splitlines()]
COMMANDS = [shlex.split(line, comments=True) for line in LINES if re.match("minibert|torchrun", line)]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_in_the_readme_parses(words):
    cli.parse(words[words.index("minibert") + 1 :])


@pytest.mark.slow
def test_every_command_in_the_readme_runs_one_after_the_other(minilm, tmp_path):
    """With MiniLM in the place of bert-base-chinese, bundled reviews in those of the corpus and the data files."""
    (tmp_path / "bert-base-chinese").symlink_to(minilm)
    (tmp_path / "sentence-transformers").mkdir()
    (tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2").symlink_to(minilm)
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        rows = (ROOT / "minibert" / "assets" / "reviews" / name).read_text(encoding="utf-8").splitlines()
        (tmp_path / name).write_text("\n".join(rows[:81]) + "\n", encoding="utf-8")
    texts = [row.split("\t")[1] for row in rows[1:]]
    (tmp_path / "reviews.tsv").write_text("\n".join(["text", *texts]), encoding="utf-8")
    (tmp_path / "reviews.txt").write_text("\n".join(texts), encoding="utf-8")
    (tmp_path / "poems.txt").write_text(
        "\n\n".join(re.sub("(?<=[。.])", "\n", text) for text in texts), encoding="utf-8"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for words in COMMANDS:
        words = [word.replace("node=8", "node=2") for word in words]  # as many processes as CI has cores
        program = ["-m", "torch.distributed.run", *words[1:]] if words[0] == "torchrun" else ["-m", *words]
        command = [sys.executable, *program]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        expected = 0
        if words[1] == "doctor" and "something is wrong" in run.stdout:
            expected = 1
        elif "--resume" in words:  # the command before has not been interrupted; tests/test_state.py does that
            expected = 2
            assert "nothing to resume; the run is complete" in run.stderr
        assert run.returncode == expected, f"{shlex.join(words)}\n{run.stdout[-2000:]}{run.stderr[-8000:]}"


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
    shown = tokenizer.show()
    remedy = "paste the output of python -m benchmarks.tokenizer --show"
    assert shown in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8"), remedy
    section = README[README.index("## How fast is text?") :].split("\n## ")[0]
    part = [line for line in section.splitlines() if line.startswith("|")]
    assert len(part) >= 10
    assert [line for line in part if line not in shown.splitlines()] == [], remedy


@pytest.mark.parametrize("name", ["encoder", "training"])
def test_the_tables_of_speed_are_those_of_the_committed_results(name):
    assert race.show(name, asked=True) in README, f"paste the output of python -m benchmarks.{name} --show --asked"


def test_every_picture_is_there():
    for path in re.findall(r"!\[[^]]*\]\(([^)]*)\)", README):
        assert (ROOT / path).is_file(), path


def test_the_tables_of_pretraining_are_those_of_the_committed_results():
    assert bundled.show().split("\n\n")[0] in README
    assert corpus.show() in README
