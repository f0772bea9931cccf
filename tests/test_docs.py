"""Proves that the walk "BERT in ten stops" is true: its commands run and print what is shown, the functions that it
names exist; and that walk and README say the same line by line in both languages.

Run: pytest tests/test_docs.py; with the training: -m slow
"""

import ast
import itertools
import re
import shlex
from pathlib import Path

import pytest

from minibert import cli
from minibert.core import wordpiece

DOCS = Path(__file__).parents[1] / "docs"
ENGLISH, CHINESE = ((DOCS / name).read_text(encoding="utf-8") for name in ("ten-stops.md", "ten-stops.zh-CN.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.M | re.S)
NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]\d+)?")
both = pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["english", "chinese"])
README, README_CHINESE = ((DOCS.parent / f"README{end}").read_text(encoding="utf-8") for end in (".md", ".zh-CN.md"))
pairs = pytest.mark.parametrize(
    ("english", "chinese"), [(ENGLISH, CHINESE), (README, README_CHINESE)], ids=["walk", "README"]
)


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


@pairs
def test_both_languages_have_the_same_lines(english, chinese):
    """Code and pictures word for word; headings, tables, lists of what to read and questions at the same places."""
    assert BLOCK.findall(english) == BLOCK.findall(chinese)
    kinds = [[kind_of(line) for line in text.splitlines()] for text in (english, chinese)]
    assert kinds[0] == kinds[1]


def kind_of(line: str) -> str:
    """What translation leaves as it is: the marks of a heading, cells, files, names, numbers, pictures, tags."""
    start = re.match(r"## \d+\. |#+ |</?\w+>(<\w+>)?|!\[|\*\*|", line)[0] + "|" * line.count("|")
    links = [path.replace(".zh-CN", "") for path in re.findall(r"\]\(([^)]*)\)", line)]
    return " ".join([start, *links, *sorted(re.findall(r"`[^`]+`", line))])


@pairs
def test_every_line_of_the_chinese_text_is_chinese(english, chinese):
    """Except code, and tables that a benchmark has printed."""
    prose = BLOCK.sub("", chinese).splitlines()
    kept = {"", "</details>", "# minibert", "[English](ten-stops.md)", "[English](README.md)"}
    kept |= {
        line for line in english.splitlines() if line.startswith("|") and re.search(r"---|\d|asked|seeds|MB", line)
    }
    assert [line for line in prose if line not in kept and not any(map(wordpiece.is_chinese, line))] == []


@pairs
def test_both_languages_give_the_same_figures(english, chinese):
    for line, translated in zip(BLOCK.sub("", english).splitlines(), BLOCK.sub("", chinese).splitlines(), strict=True):
        figures = [sorted(re.findall(r"\d[\d,.]*\d", text)) for text in (line, translated)]
        assert figures[0] == figures[1] or "万" in translated, line


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
