"""Proves that the ten stops read core/ alone, in few lines, that each asks before it answers, that what they run prints
what is shown, and that the notebook is the page.

Run: pytest -s tests/test_stops.py (-s: how many lines are to be read); with training and the notebook: -m slow
"""

import ast
import json
import re
import shlex
from functools import cache
from itertools import pairwise

import make_notebook
import pytest
from make_notebook import NOTEBOOK, PARTS, WALK
from pages import ROOT, parts_of

from minibert import cli

MOST = 600  # lines to read
ORDER = ["wordpiece", "encoding", "model", "attention", "reference", "masking", "train", "optimizer", "data"]
FILE = r"\[`minibert/([\w/]+)\.py`\]\(\.\./minibert/\1\.py\)[:：]((?:[,、 ]*`[\w.]+`)+)"
LANGUAGES = {"english": WALK.english, "chinese": WALK.chinese}
both = pytest.mark.parametrize("language", LANGUAGES)
SLOW = (8, 10)  # stops that train


def stops_of(text: str) -> list[str]:
    """The ten sections, each without its heading's mark."""
    return re.split(r"^## (?=\d)", text.split("\n## And now?")[0].split("\n## 接下来")[0], flags=re.M)[1:]


def reads(stop: str) -> list[tuple[str, str]]:
    """(file, name) of all that a stop names, in its order."""
    return [
        (file.removeprefix("core/"), name)
        for line in stop.splitlines()
        if line.startswith(("**Read** ", "**阅读** "))
        for file, names in re.findall(FILE, line)
        for name in re.findall(r"`([\w.]+)`", names)
    ]


STOPS = stops_of(WALK.english)
READ = [place for stop in STOPS for place in reads(stop)]
numbered = pytest.mark.parametrize("stop", STOPS, ids=range(1, 11))


@cache
def node_of(file: str, name: str) -> ast.FunctionDef | ast.ClassDef:
    """A function, a class or a Class.method of a file of core/."""
    node = ast.parse((ROOT / "minibert" / "core" / f"{file}.py").read_text(encoding="utf-8"))
    for part in name.split("."):
        found = [child for child in node.body if getattr(child, "name", None) == part]
        assert found, f"core/{file}.py has no {name}"
        node = found[0]
    return node


def lines_to_read() -> int:
    """Each line counts once, though a class and one of its methods be named."""
    return len(
        {
            (file, line)
            for file, name in READ
            for node in [node_of(file, name)]
            for line in range(min(one.lineno for one in [node, *node.decorator_list]), node.end_lineno + 1)
        }
    )


# ---- what is read ----


def test_there_are_ten_stops():
    assert [stop.split(".")[0] for stop in STOPS] == [str(number) for number in range(1, 11)]


@numbered
def test_a_stop_reads_core_alone(stop):
    (line,) = [line for line in stop.splitlines() if line.startswith("**Read** ")]
    files = re.findall(r"\]\(([^)]+)\)", line)
    assert files
    assert [path for path in files if not re.fullmatch(r"\.\./minibert/core/\w+\.py", path)] == []
    assert len(re.findall("`", line)) == 2 * (len(files) + len(reads(stop)))  # no name is overlooked


@pytest.mark.parametrize(("file", "name"), READ, ids=[f"{file}.{name}" for file, name in READ])
def test_what_is_to_be_read_exists(file, name):
    assert node_of(file, name).lineno


def test_there_are_few_lines_to_read_and_the_page_says_how_many():
    count = lines_to_read()
    print(f"the ten stops read {count} lines of core/; at most {MOST}")
    assert count <= MOST
    assert f"`minibert/core/`: {count} lines" in WALK.english
    assert f" {count} 行" in WALK.chinese


def test_files_are_read_in_the_order_in_which_a_text_goes_through_them():
    assert list(dict.fromkeys(file for file, _ in READ)) == ORDER


@numbered
def test_within_a_stop_a_file_is_read_from_top_to_bottom(stop):
    places = reads(stop)
    for file in {file for file, _ in places}:
        lines = [node_of(*place).lineno for place in places if place[0] == file]
        assert lines == sorted(lines), file


def test_the_whole_model_the_masking_and_the_loop_are_read():
    wanted = {7: "BertModel BertForSequenceClassification Pooler", 8: "hide_tokens", 9: "fit evaluate"}
    for number, names in wanted.items():
        assert set(names.split()) <= {name for _, name in reads(STOPS[number - 1])}, number


# ---- each stop asks before it answers ----


@both
@pytest.mark.parametrize("number", range(1, 11))
def test_a_stop_asks_before_its_first_block_and_answers_after_its_last(language, number):
    stop = stops_of(LANGUAGES[language])[number - 1]
    asks, answer = {"english": ("**Think first**", "Answer"), "chinese": ("**先想一想**", "答案")}[language]
    marks = [asks, "```", f"<details><summary>{answer}</summary>", "</details>"]
    assert [stop.count(mark) for mark in marks if mark != "```"] == [1, 1, 1]
    places = [stop.index(asks), stop.index("```"), stop.rindex("```"), stop.index(marks[2]), stop.index(marks[3])]
    assert places == sorted(places)
    (line,) = [line for line in stop.splitlines() if line.startswith(asks)]
    assert {"?", "？"} & set(line)


def test_both_languages_read_and_run_the_same():
    english, chinese = map(stops_of, (WALK.english, WALK.chinese))
    for stop, translated in zip(english, chinese, strict=True):
        assert reads(stop) == reads(translated)
        blocks = [[part[:2] for part in parts_of(text) if part.kind != "markdown"] for text in (stop, translated)]
        assert blocks[0] == blocks[1]


@numbered
def test_a_stop_has_a_command_and_needs_no_file_that_it_does_not_write(stop):
    parts = [part for part in parts_of(stop) if part.kind != "markdown"]
    assert any(part.kind == "bash" for part in parts)
    written = ""
    for part in parts:
        options = shlex.split(part.source) if part.command else []
        for option, value in pairwise(options):
            if option in ("--corpus", "--model", "--data") and value != "bundled":
                assert value in written, f"{part.source} needs {value}"
        written += part.source


# ---- what is shown is what is printed ----


@pytest.mark.parametrize("number", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in range(1, 11)])
def test_a_stop_prints_what_it_shows(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for part in parts_of(STOPS[number - 1]):
        if part.kind == "python":
            exec(compile(part.source, "ten-stops.md", "exec"), {})
        elif part.kind == "bash":
            (line,) = part.source.splitlines()
            assert cli.main(shlex.split(line)[1:]) == 0
        said = capsys.readouterr()
        assert part.missing(f"{said.err}{said.out}") == [], part.source


# ---- the notebook ----

REMEDY = "python tests/make_notebook.py makes it anew"


def committed() -> list[dict]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def printed(cell: dict) -> str:
    return "".join("".join(output.get("text", "")) for output in cell.get("outputs", []))


def knows_the_poem(cells: list[dict]) -> bool:
    """Whether the model of stop 8 gives the line's end first when it has read the poems, and has not before."""
    answers = [printed(cell).split()[1] for cell in cells if "minibert fill-mask" in "".join(cell["source"])]
    return [answer == "尽" for answer in answers] == [False, True]


def test_the_notebook_is_the_page():
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in committed()]
    assert found == make_notebook.sources(), REMEDY


def test_the_notebook_has_run_and_holds_what_the_page_shows():
    for part, cell in zip(PARTS, committed(), strict=True):
        assert part.missing(printed(cell)) == [], REMEDY
        assert [output for output in cell.get("outputs", []) if output["output_type"] == "error"] == []
    assert knows_the_poem(committed())
    counts = [cell["execution_count"] for cell in committed() if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1)), REMEDY


def test_the_notebook_names_no_place_on_the_machine_that_made_it():
    assert re.findall(r"(?<![\w.])/(?:tmp|home|work|root|usr|Users)/\S*", "".join(map(printed, committed()))) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of what runs it
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    for package in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[test]'")
    for attempt in ("first", "second"):  # on a busy machine what a cell prints may not reach nbclient
        (tmp_path / attempt).mkdir()
        book = make_notebook.run(tmp_path / attempt)
        if all(printed(cell) for part, cell in zip(PARTS, book.cells, strict=True) if part.missing("")):
            break
    for part, cell in zip(PARTS, book.cells, strict=True):
        assert part.missing(printed(cell)) == [], part.source
    assert knows_the_poem(book.cells)
