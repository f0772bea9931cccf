"""Proves that the README is short, and that what it says is so: code out of core/, commands, example, tables.

Run: pytest tests/test_readme.py. What holds for docs/ as well is in tests/test_docs.py.
"""

import json
import re
import unicodedata

import pytest
from conftest import SHARED, needs_shared
from pages import BENCHMARKS, PAGES, README, ROOT, cells

from benchmarks import race, tokenizer
from minibert.text.encode_table import encoding_table
from minibert.text.tokenizer import Tokenizer

LANGUAGES = {"english": README.english, "chinese": README.chinese}
both = pytest.mark.parametrize("text", LANGUAGES.values(), ids=LANGUAGES)
H200 = json.loads((ROOT / "benchmarks/results/first-h200-2026-11-27.json").read_text(encoding="utf-8"))


def columns(line: str) -> int:
    """As a terminal shows it: a Chinese character is two columns wide."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


@both
def test_it_has_at_most_170_lines(text):
    assert len(text.splitlines()) <= 170


@both
def test_no_line_outside_tables_is_wider_than_120_columns(text):
    assert [line for line in text.splitlines() if not line.startswith("|") and columns(line) > 120] == []


def test_it_has_at_most_1700_words():
    assert len(README.english.split()) <= 1700


def excerpts() -> list[tuple[str, list[str]]]:
    """(file, lines): the code that the README takes out of core/; the first line of a part names its file."""
    parts = re.findall(r"^# (minibert/core/\w+\.py)\n(.*?)(?=^# minibert|\Z)", "\n".join(CODE), flags=re.M | re.S)
    return [(file, [line for line in body.splitlines() if line.strip() not in ("", "...")]) for file, body in parts]


CODE = [block for block in README.blocks("python") if block.startswith("# minibert/core/")]


@pytest.mark.parametrize(("file", "shown"), excerpts(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_code_that_is_shown_stands_in_core_in_that_order(file, shown):
    lines = iter((ROOT / file).read_text(encoding="utf-8").splitlines())
    for line in shown:
        assert line in lines, f"{file} has no such line, or has it earlier: {line}"  # the iterator goes on


def test_the_model_takes_about_40_lines_and_the_loop_about_25():
    model, loop = (block.splitlines() for block in CODE)
    assert len(model) <= 45
    assert len(loop) <= 25
    assert {file for file, _ in excerpts()} == {f"minibert/core/{name}.py" for name in ("attention", "model", "train")}


@pytest.mark.parametrize(
    "step", ["output = model(", "F.cross_entropy(", ".zero_grad()", "loss.backward()", "optimizer.step()"]
)
def test_the_loop_shows_every_step_of_training(step):
    assert step in CODE[1]


def test_ci_runs_the_readmes_test_command_word_for_word():
    (command,) = [block.strip() for block in README.blocks("bash") if "pytest" in block]
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_two_commands_install_and_do_all_the_rest():
    installing = [line for block in README.blocks("bash") for line in block.splitlines() if "pip" in line]
    assert installing == ["pip install -e . && minibert train", 'pip install -e ".[test]" && pytest']


def test_the_training_that_is_shown_is_that_of_the_walk():
    """Which tests/test_docs.py runs."""
    for page in (README, PAGES["fine-tuning"]):
        ((_, shown),) = [pair for pair in page.shown("bash") if pair[0].endswith("minibert train\n")]
        walk = iter(WALK.replace("first-run", "runs/train-1").splitlines())
        assert [line for line in shown.splitlines() if line not in walk] == [], page.name


((_, WALK),) = [pair for pair in PAGES["ten-stops"].shown("bash") if pair[0].startswith("minibert train")]


def test_the_table_of_encode_is_what_the_command_prints():
    (shown,) = [block for block in README.blocks("") if block.startswith("tokens ")]
    (command,) = [words for words in README.commands() if words[1] == "encode"]
    assert shown.rstrip("\n") == encoding_table(Tokenizer.from_pretrained("bundled"), command[2:]).rstrip("\n")


@needs_shared
def test_the_table_of_encode_in_docs_is_bert_base_chineses():
    (shown,) = PAGES["tokenizer"].blocks("")
    chinese = Tokenizer.from_pretrained(SHARED / "vocab/bert-base-chinese.vocab.txt")
    assert shown.rstrip("\n") == encoding_table(chinese, "白日依山尽,").rstrip("\n")


def as_dicts(table: str) -> list[dict[str, str]]:
    """The rows of markdown tables, each by its columns' names."""
    rows, heads = [], []
    for before, line in zip(["", *table.splitlines()], [*table.splitlines(), ""], strict=True):
        if line.startswith("|---"):
            heads = cells(before)
        elif line.startswith("|") and heads:
            rows.append(dict(zip(heads, cells(line), strict=False)))
    return rows


@both
def test_the_five_rows_of_speed_are_those_of_the_committed_results(text):
    section = text[text.index("| what | against |") :].split("\n\n")[0]
    rows = as_dicts(section)
    measured = [row for name in ("encoder", "training") for row in as_dicts(race.show(name))]
    measured += as_dicts(tokenizer.show())
    assert len(rows) == 5
    for row in rows:
        assert [found for found in measured if row.items() <= found.items()], row


@both
def test_the_step_on_a_gpu_is_that_of_the_committed_result(text):
    case = "pretraining, 256 examples of up to 128 tokens"
    ours, theirs = (
        next(row["ms"] for row in H200["rows"] if row["case"] == case and row["who"] == who)
        for who in ("minibert", "transformers")
    )
    (line,) = [line for line in text.splitlines() if "H200" in line]
    assert re.findall(r"\b\d+\b", line) == [str(int(ours)), str(round(theirs))]


def test_all_rows_of_the_tokenizers_race_are_those_of_the_committed_results():
    assert tokenizer.show() in BENCHMARKS, "paste the output of python -m benchmarks.tokenizer --show"


def test_there_are_five_rows_of_what_is_right():
    section = README.english[README.english.index("## Is it right?") :].split("\n\n")[0]
    assert len([line for line in section.splitlines() if line.startswith("|")]) == 2 + 5
