"""Proves that the walk "BERT in ten stops" is true: its commands run and print what is shown, the functions that it
names exist, and both languages say the same line by line. Run: pytest tests/test_docs.py; with the training: -m slow
"""

import ast
import itertools
import re
import shlex
from pathlib import Path

import pytest

from minibert import cli, wordpiece

DOCS = Path(__file__).parents[1] / "docs"
ENGLISH, CHINESE = ((DOCS / name).read_text(encoding="utf-8") for name in ("ten-stops.md", "ten-stops.zh-CN.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.M | re.S)
NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]\d+)?")
both = pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["english", "chinese"])


def shown_after(language: str) -> list[tuple[str, str]]:
    """Every block of a language, and what it prints: the block without a language that comes next, if one does."""
    pairs = itertools.pairwise([*BLOCK.findall(ENGLISH), ("end", "")])
    return [(body, *([] if then else [shown])) for (kind, body), (then, shown) in pairs if kind == language]


COMMANDS = [(shlex.split(body)[1:], *shown) for body, *shown in shown_after("bash")]
RUN = [
    pytest.param(words, shown[0], id=words[0], marks=pytest.mark.slow if words[0] == "train" else ())
    for words, *shown in COMMANDS
    if shown
]


def form(command: str, line: str) -> str:
    """A line without its numbers, and without what another bundled model would say: pieces and answers."""
    if command == "encode":
        return line.split(" ")[0]
    line = re.sub(r"^(  )?\S+( +0\.\d+)", r"\1answer 0", line) if command in ("fill-mask", "explain") else line
    line = line.replace("  best so far", "") if command == "train" else line
    return " ".join(NUMBER.sub("#", line).split())


@pytest.mark.parametrize(("words", "shown"), RUN)
def test_every_command_prints_what_is_shown(words, shown, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 0
    said = capsys.readouterr()
    printed = iter([form(words[0], line) for line in f"{said.err}{said.out}".splitlines()])
    for line in shown.splitlines():
        assert line == "…" or form(words[0], line) in printed, line  # in this order; the iterator goes on


@pytest.mark.parametrize("words", [words for words, *_ in COMMANDS], ids=lambda words: words[0])
def test_every_command_parses(words):
    command, values = cli.parse(words)
    cli.COMMANDS[command][0](**values)  # its options are checked when they are made


@pytest.mark.parametrize(("example", "shown"), [(body, shown[0]) for body, *shown in shown_after("python")])
def test_every_example_prints_what_is_shown(example, shown, capsys):
    exec(compile(example, "ten-stops.md", "exec"), {})
    assert capsys.readouterr().out == shown


def test_both_languages_have_the_same_lines():
    """Code and pictures word for word; headings, lists of what to read and questions at the same places."""
    assert BLOCK.findall(ENGLISH) == BLOCK.findall(CHINESE)
    kinds = [[kind_of(line) for line in text.splitlines()] for text in (ENGLISH, CHINESE)]
    assert kinds[0] == kinds[1]


def kind_of(line: str) -> str:
    """What translation leaves as it is: the marks of a heading, files, names, pictures, tags."""
    start = re.match(r"## \d+\. |# |</?\w+>(<\w+>)?|!\[|\*\*|", line)[0]
    return (
        start + " ".join(re.findall(r"\]\((?!ten-stops)[^)]*\)", line)) + " ".join(sorted(re.findall(r"`[^`]+`", line)))
    )


def test_every_line_of_the_chinese_walk_is_chinese():
    prose = BLOCK.sub("", CHINESE).splitlines()
    kept = {"", "</details>", "[English](ten-stops.md)"}
    assert [line for line in prose if line not in kept and not any(map(wordpiece.is_chinese, line))] == []


def test_there_are_ten_stops_each_with_code_a_command_and_a_question():
    stops = re.split(r"^## ", ENGLISH, flags=re.M)[1:]
    assert [stop.split(".")[0] for stop in stops] == [str(number) for number in range(1, 11)]
    for stop in stops:
        assert ("**Read** " in stop, "```bash" in stop, "<details>" in stop) == (True,) * 3, stop[:40]


@both
def test_every_function_that_is_named_stands_in_its_file(text):
    named = re.findall(r"\[`([\w/.]+\.py)`\]\(\.\./\1\)[:：]((?:[,、 ]*`[\w.]+`)+)", text)
    assert len(named) >= 20
    for path, names in named:
        tree = ast.parse((DOCS.parent / path).read_text(encoding="utf-8"))
        for name in re.findall(r"`([\w.]+)`", names):
            scope = tree.body
            for part in name.split("."):
                found = [node for node in scope if getattr(node, "name", None) == part]
                assert found, f"{path} has no {name}"
                scope = found[0].body


@both
def test_every_link_leads_to_a_file(text):
    for path in re.findall(r"\]\(([^)]*)\)", text):
        assert (DOCS / path).is_file(), path


def test_every_picture_is_small_and_shown():
    pictures = [path for path in (DOCS / "pictures").iterdir() if path.suffix != ".py"]
    assert [path.name for path in pictures if path.name not in ENGLISH] == []
    assert [path.name for path in pictures if path.stat().st_size > 150_000] == []
