"""Proves that docs/ is true: its commands run and print what is shown, its numbers are those of committed files, what
it names exists; and that every page, and the README, says the same line by line in both languages.

Run: pytest tests/test_docs.py; with the training: -m slow
"""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import SHARED, needs_shared
from pages import ALL, BENCHMARKS, BLOCK, PAGES, README, ROOT, cells, form

import minibert
from benchmarks import accuracy, bundled, corpus, race, tasks, tokenizer
from minibert import cli
from minibert.check.course import BUGS
from minibert.core import attention as core_attention
from minibert.core import wordpiece
from minibert.fast import attention
from minibert.fast.layout import Packed
from minibert.training import options

DOCS = ROOT / "docs"
WALK = PAGES["ten-stops"]  # its blocks are run by tests/test_stops.py
pages = pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
SLOW = ("train", "parity bert-base-chinese")  # commands that take long
RUN = [
    pytest.param(
        shlex.split(body)[1:],
        shown,
        id=f"{page.name}-{' '.join(body.split()[1:3])}",
        marks=pytest.mark.slow if body.removeprefix("minibert ").startswith(SLOW) else (),
    )
    for page in ALL
    if page is not WALK
    for body, shown in page.shown("bash")
    if body.startswith("minibert") and body.count("\n") == 1
    if body != "minibert train\n"  # is the walk's; tests/test_readme.py compares
]


@pytest.fixture
def workspace(minilm, tmp_path, monkeypatch):
    """A folder with what the commands name: MiniLM in the place of two models, bundled reviews in that of the data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert-base-chinese").symlink_to(minilm)
    (tmp_path / "sentence-transformers").mkdir()
    (tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2").symlink_to(minilm)
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        rows = (options.REVIEWS / name).read_text(encoding="utf-8").splitlines()
        (tmp_path / name).write_text("\n".join(rows[:41]) + "\n", encoding="utf-8")
    texts = [row.split("\t")[1] for row in rows[1:]]
    for name, labels in (("topics.tsv", ("room", "room|staff")), ("similarity.tsv", ("0.25", "0.75"))):
        lines = [f"{labels[row % 2]}\t{text}" for row, text in enumerate(texts[:40])]
        (tmp_path / name).write_text("\n".join(["label\ttext", *lines]) + "\n", encoding="utf-8")
    (tmp_path / "reviews.tsv").write_text("\n".join(["text", *texts]), encoding="utf-8")
    (tmp_path / "reviews.txt").write_text("\n".join(texts), encoding="utf-8")
    (tmp_path / "poems.txt").write_text(
        "\n\n".join(re.sub("(?<=[。.])", "\n", text) for text in texts), encoding="utf-8"
    )
    return tmp_path


# ---- commands and examples ----


@pytest.mark.parametrize(("words", "shown"), RUN)
def test_every_command_prints_what_is_shown(words, shown, workspace, capsys):
    assert cli.main(words) == 0
    said = capsys.readouterr()
    printed = iter([form(words[0], line) for line in f"{said.err}{said.out}".splitlines()])
    for line in shown.splitlines():
        assert line == "…" or form(words[0], line) in printed, line  # in this order; the iterator goes on


@pytest.mark.parametrize("words", [words for page in ALL for words in page.commands()], ids=" ".join)
def test_every_command_parses(words):
    command, values = cli.parse(words[words.index("minibert") + 1 :])
    cli.COMMANDS[command][0](**values)  # its options are checked when they are made


@pages
def test_every_line_of_a_bash_block_is_a_command_that_is_tested(page):
    known = r"minibert |torchrun .* -m minibert |python -m benchmarks\.|pip install -e "
    assert [line for line in page.lines() if not re.match(known, line)] == []


IN_ORDER = [["README"], ["fine-tuning"], ["pretraining", "resume-and-ranks"], ["tokenizer", "look-inside"]]


@pytest.mark.slow
@pytest.mark.parametrize("names", IN_ORDER, ids="-".join)
def test_every_command_runs_one_after_the_other(names, workspace):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    commands = [words for page in ALL if page.name in names for words in page.commands()]
    for words in commands:
        if words == ["minibert", "train"]:  # the walk's
            continue
        words = [word.replace("node=8", "node=2") for word in words]  # as many processes as CI has cores
        program = ["-m", "torch.distributed.run", *words[1:]] if words[0] == "torchrun" else ["-m", *words]
        run = subprocess.run(
            [sys.executable, *program], cwd=workspace, env=environment, capture_output=True, text=True, check=False
        )
        expected = 0
        if "--resume" in words:  # the command before has not been interrupted; tests/training/test_state.py does that
            expected = 2
            assert "nothing to resume; the run is complete" in run.stderr
        assert run.returncode == expected, f"{shlex.join(words)}\n{run.stdout[-2000:]}{run.stderr[-8000:]}"


PROGRAMS = sorted(
    {
        words
        for text in [BENCHMARKS, *(page.english for page in ALL)]
        for words in re.findall(r"python (?:-m benchmarks\.\w+|tests/\w+\.py)[^`\n#|;]*", text)
    }
)


@pytest.mark.parametrize("line", PROGRAMS)
def test_every_program_that_is_named_exists_and_has_its_options(line):
    words = line.split()
    path = words[1] if words[1].startswith("tests/") else f"{words[2].replace('.', '/')}.py"
    shared = (ROOT / "benchmarks" / "race.py").read_text(encoding="utf-8")  # options of every race
    source = (ROOT / path).read_text(encoding="utf-8") + shared
    assert [word for word in words if word.startswith("--") and f'"{word}"' not in source] == []


@pytest.mark.parametrize(
    ("example", "shown"),
    [pytest.param(*pair, id=name) for name in ("migrating", "speed-cpu") for pair in PAGES[name].shown("python")],
)
def test_every_example_prints_what_is_shown(example, shown, capsys):
    exec(compile(example, "docs", "exec"), {})
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("page", [README, PAGES["look-inside"]], ids=lambda page: page.name)
def test_the_example_that_looks_inside_prints_what_is_said(page, minilm, capsys):
    ((example, shown),) = page.shown("py")
    exec(compile(example.replace("sentence-transformers/all-MiniLM-L6-v2", str(minilm)), page.name, "exec"), {})
    assert capsys.readouterr().out == shown


@pytest.mark.slow
def test_the_example_of_training_runs(tmp_path, monkeypatch, capsys):
    """On the beginning of each file of reviews."""
    for file in options.REVIEWS.glob("*.tsv"):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / file.name).write_text("".join(lines[:121]), encoding="utf-8")
    monkeypatch.setattr(options, "REVIEWS", tmp_path)
    monkeypatch.chdir(tmp_path)
    (example,) = PAGES["fine-tuning"].blocks("python")
    if importlib.util.find_spec("minibert.training") is None:  # until the folders are made
        example = example.replace("minibert.training", "minibert.training.fine_tuning")
    exec(compile(example, "fine-tuning.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\[\('(positive|negative)', 0\.\d+\), \('(positive|negative)', 0\.\d+\)\]", printed[0])
    assert printed[1].startswith("torch.Size([1, ")
    assert len(example.strip().splitlines()) <= 12


def test_the_example_of_the_tokenizer_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text("白日依山尽，\n黄河入海流。\n", encoding="utf-8")
    names = {"minibert": minibert, "texts": ["白日依山尽，", "黄河入海流。"], "pairs": ["床前", "明月光"]}
    for example in PAGES["tokenizer"].blocks("py"):
        exec(compile(example.replace("bert-base-chinese", "bundled"), "tokenizer.md", "exec"), names)
    assert names["enc"].input_ids.shape == names["enc"]["attention_mask"].shape
    assert (tmp_path / "ids.ids").exists() or any(path.name.startswith("ids") for path in tmp_path.iterdir())


def test_the_kernel_of_ones_own_answers_as_the_formula(monkeypatch):
    (example,) = re.findall(r"^```py\n(.*?)^```$", BENCHMARKS, flags=re.M | re.S)
    for backends in (attention.BACKENDS, core_attention.BACKENDS):
        monkeypatch.setitem(backends, "mine", None)  # and is taken out again
    exec(compile(example, "benchmarks/README.md", "exec"), {})
    q, k, v = torch.randn(3, 5, 2, 4, generator=torch.Generator().manual_seed(0))  # [T, H, D] each
    layout = Packed.from_lengths([2, 3])
    torch.testing.assert_close(*(minibert.attend(q, k, v, layout, backend=name) for name in ("mine", "eager")))


@needs_shared
def test_the_doctor_says_of_chnsenticorp_what_is_shown(tmp_path, capsys):
    (shown,) = PAGES["doctor"].blocks("")
    shutil.copy(SHARED / "vocab" / "bert-base-chinese.vocab.txt", tmp_path / "vocab.txt")
    splits = {f"--{'data' if name == 'train' else name}": f"{name}.tsv" for name in ("train", "dev", "test")}
    files = [word for option, name in splits.items() for word in (option, str(SHARED / "chnsenticorp" / name))]
    assert cli.main(["doctor", str(tmp_path), *files, "--quoting", "none"]) == 1
    printed = iter(capsys.readouterr().out.splitlines())
    assert [line for line in shown.splitlines() if line != "…" and line not in printed] == []


# ---- numbers ----


def result(name: str) -> dict:
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8"))


def test_the_table_of_accuracy_is_that_of_the_committed_results():
    remedy = "paste the output of python -m benchmarks.accuracy --show"
    assert accuracy.show() in PAGES["fine-tuning"].english, remedy


def test_the_table_of_the_tasks_is_that_of_the_committed_results():
    remedy = "paste the output of python -m benchmarks.tasks --show"
    assert tasks.show() in PAGES["fine-tuning"].english, remedy


def test_the_tables_of_pretraining_are_those_of_the_committed_results():
    assert bundled.show().split("\n\n")[0] in PAGES["pretraining"].english
    assert corpus.show() in PAGES["pretraining"].english


def test_what_is_said_of_the_bundled_model_follows_from_its_tables():
    text = PAGES["pretraining"].english
    rows = [cells(line) for line in bundled.show().split("\n\n")[0].splitlines()[2:]]
    gains = [100 * (float(row[1].split()[0]) - float(row[2].split()[0])) for row in rows]
    assert f"by {min(gains):.1f} to {max(gains):.1f} points" in text
    (hits,) = re.findall(r"among the first five in (\d+)", bundled.show())
    assert f"it has {hits} among its first five" in text
    found, guessed = (
        float(re.search(rf"{name} (0\.\d+)", text)[1]) for name in ("2  word accuracy", "unigram word accuracy")
    )
    assert f"the first run finds {100 * found:.1f} %" in text
    assert round(found / guessed) == 17  # "seventeen times"


def test_the_log_of_pretraining_is_that_of_the_bundled_models_first_run():
    (log,) = [block for block in PAGES["pretraining"].blocks("") if "held out, step" in block]
    place = ROOT / "minibert" / "assets" / "bundled" / "first"
    run = json.loads((place / "run.json").read_text(encoding="utf-8"))
    logged, measured = map(json.loads, (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-2:])
    documents = run["documents"]
    assert f"{documents['train']:,} documents, {documents['held out']} held out" in log
    assert f"{run['parameters']:,} parameters" in log
    assert f"{run['steps']:,} steps" in log
    said = (logged["loss"], logged["accuracy"], logged["nsp_accuracy"])
    assert "step {}/{}  loss {:.4f}  accuracy {:.3f}  nsp {:.3f}".format(logged["step"], run["steps"], *said) in log
    names = ("loss", "accuracy", "word_accuracy", "unigram_accuracy", "unigram_word_accuracy", "nsp_accuracy")
    figures = "  ".join(f"{name.replace('_', ' ')} {measured[name]:.4f}" for name in names)
    assert f"held out, step {measured['measured']}  {figures}\n" in log


def test_looking_at_one_layer_costs_what_is_said():
    (row,) = [cells(line) for line in race.show("encoder").splitlines() if "probs of one layer" in line]
    costs = [round(100 * float(cell.rstrip("× ✗")) - 100) for cell in row[2:-1] if cell]
    assert f"costs {min(costs)} to {max(costs)} % of a forward pass" in PAGES["look-inside"].english


def test_the_tokenizers_rows_are_among_the_committed_results():
    shown = tokenizer.show()
    part = [line for line in PAGES["tokenizer"].tables() if "---" not in line]
    assert len(part) >= 9
    assert [line for line in part if line not in shown.splitlines()] == [], "see python -m benchmarks.tokenizer --show"


@pytest.mark.parametrize("name", ["encoder", "training"])
def test_the_tables_of_speed_are_those_of_the_committed_results(name):
    remedy = f"paste the output of python -m benchmarks.{name} --show --asked"
    assert race.show(name, asked=True) in PAGES["speed-cpu"].english, remedy


def test_what_avx2_alone_makes_of_speed_is_that_of_the_committed_results():
    for name in ("encoder", "training"):
        file = f"{name}-2026-11-29-avx2.json"
        assert race.show(name, race.RESULTS / file, asked=True) in PAGES["speed-cpu"].english, f"--show --out {file}"
    steps = {row["against"]: row["value"] for row in result("encoder-2026-11-29-avx2.json")["rows"]}
    ratio = steps["oneDNN's products instead"] / steps["+ fused q, k, v"]
    assert f"passes over short texts ran at {ratio:.2f} of their speed with MKL" in PAGES["speed-cpu"].english


H200 = result("first-h200-2026-11-27.json")["rows"]


@pytest.mark.parametrize("row", [row for row in H200 if "by parts" not in row["who"]], ids=lambda row: row["who"])
def test_the_page_on_gpus_gives_the_committed_results(row):
    """Milliseconds and MFU in the table, microseconds and the share of the roofline in the text; cut or rounded."""
    text = PAGES["gpu"].english
    if "us" in row:
        assert f"{row['us']:.0f} µs" in text
        assert row["who"] != "triton" or f"{row['roof_percent']:.0f} % of the roofline" in text
        return
    replayed = "--graphs" in row["who"]
    assert (
        f"| {row['ms']:.1f} ms |" in text
        if replayed
        else re.search(rf"\| ({row['ms']:.0f}|{row['ms'] - 0.5:.0f}) ms", text)
    )
    if row["who"] == "minibert" and "pretraining" in row["case"]:
        assert f"MFU {100 * row['mfu']:.0f} %" in text


def test_the_rates_of_our_kernels_are_those_of_the_committed_results():
    rates = {}
    for row in result("variants-2026-11-27.json")["rows"]:
        if row["what"] == "fwd":
            rates[row["lengths"]] = max(rates.get(row["lengths"], 0), row["tflops"])
    full = [rates[f"full {length}"] for length in (64, 128, 256, 512)]
    assert "forward {}, {}, {} and {} useful TFLOP/s".format(*full) in PAGES["gpu"].english
    assert f"and {rates['uniform 512']} for lengths drawn evenly" in PAGES["gpu"].english


def test_the_reviews_are_as_many_as_is_said():
    rows = {path.stem: len(path.read_text(encoding="utf-8").splitlines()) - 1 for path in options.REVIEWS.glob("*.tsv")}
    assert f"{sum(rows.values()):,} short reviews" in PAGES["fine-tuning"].english
    assert f"{rows['train']} labels" in PAGES["fine-tuning"].english


def test_there_are_as_many_bugs_as_is_said():
    assert len(BUGS) == 14
    assert "lists fourteen bugs" in PAGES["correctness"].english


# ---- both languages ----


@pages
def test_both_languages_have_the_same_lines(page):
    """Code and pictures word for word; headings, tables, lists of what to read and questions at the same places."""
    assert BLOCK.findall(page.english) == BLOCK.findall(page.chinese)
    kinds = [[kind_of(line) for line in text.splitlines()] for text in (page.english, page.chinese)]
    assert kinds[0] == kinds[1]


def kind_of(line: str) -> str:
    """What translation leaves as it is: the marks of a heading, cells, files, names, numbers, pictures, tags."""
    start = re.match(r"## \d+\. |#+ |</?\w+>(<\w+>)?|!\[|- |\*\*|", line)[0] + "|" * line.count("|")
    links = [path.replace(".zh-CN", "") for path in re.findall(r"\]\(([^)]*)\)", line)]
    return " ".join([start, *links, *sorted(re.findall(r"`[^`]+`", line))])


@pages
def test_every_line_of_the_chinese_text_is_chinese(page):
    """Except code, and tables that a benchmark has printed."""
    prose = BLOCK.sub("", page.chinese).splitlines()
    kept = {"", "</details>", "# minibert", f"[English]({page.name}.md)", "| 0.1 | 0.2 |"}
    kept |= {
        line
        for line in page.english.splitlines()
        if line.startswith("|") and re.search(r"---|\d|asked|seeds|MB|against|`minibert\.|`model\(", line)
    }
    assert [line for line in prose if line not in kept and not any(map(wordpiece.is_chinese, line))] == []


@pages
def test_both_languages_give_the_same_figures(page):
    lines = [BLOCK.sub("", text).splitlines() for text in (page.english, page.chinese)]
    for line, translated in zip(*lines, strict=True):
        figures = [sorted(re.findall(r"\d[\d,.]*\d", text)) for text in (line, translated)]
        assert figures[0] == figures[1] or "万" in translated, line


# ---- what is named exists ----


@pages
def test_every_link_and_picture_leads_to_a_file(page):
    place = ROOT if page is README else DOCS
    for text in (page.english, page.chinese):
        for path in re.findall(r"\]\(([^)#]*)\)", text):
            assert path.startswith("http") or (place / path).is_file(), path


@pages
def test_a_chinese_page_leads_to_chinese_pages(page):
    place = ROOT if page is README else DOCS
    linked = re.findall(r"\]\(([\w/.-]+)\.md\)", page.chinese.split("\n", 3)[-1])  # after the link to the English page
    assert [path for path in linked if (place / f"{path}.zh-CN.md").exists()] == []


@pages
def test_every_file_that_is_named_exists(page):
    for path in re.findall(r"`((?:minibert|tests|benchmarks)/[\w/.]*)`", page.english):
        assert (ROOT / path).exists(), path
    files = {path.name for folder in ("minibert", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")}
    named = set(re.findall(r"`(?:[\w.]+/)*(\w+\.py)`", page.english)) - {"tokenization.py"}  # Google's
    assert sorted(named - files) == []


def test_every_page_of_docs_is_linked_from_the_readme():
    assert [name for name in PAGES if f"](docs/{name}.md)" not in README.english] == []


def test_the_map_and_the_folders_name_the_same_file_to_read_first():
    for page in ("map-of-the-code.md", "map-of-the-code.zh-CN.md"):
        rows = re.findall(r"^\| `(\w+)/` \|.*\| `(\w+\.py)`[^|]*\|$", (DOCS / page).read_text(encoding="utf-8"), re.M)
        assert len(rows) == 8
        for folder, first in rows:
            said = (DOCS.parent / "minibert" / folder / "__init__.py").read_text(encoding="utf-8")
            assert f"Read {first}" in said, f"{page}: {folder}/"


def test_every_module_is_on_the_map():
    named = re.findall(r"(\w+\.py)`", PAGES["map-of-the-code"].english)
    modules = {path.name for path in (ROOT / "minibert").rglob("*.py") if path.parent.name != "attention"}
    assert sorted(modules - {"__init__.py", "__main__.py", *named}) == []


@pytest.mark.parametrize("row", [cells(line) for line in PAGES["map-of-the-code"].tables()], ids=" ".join)
def test_the_map_says_in_which_folder_a_file_is(row):
    """A file stands in the folder of its row, or has not been moved there yet."""
    if folder := re.fullmatch(r"`(\w+)/`", row[0]):
        for name in re.findall(r"`(\w+\.py)`", " ".join(row[1:])):
            assert any((ROOT / "minibert" / place / name).is_file() for place in (folder[1], ".")), name


def folders() -> list[str]:
    return re.findall(r"^\| `(\w+)/` \|", PAGES["map-of-the-code"].english.split("\n## ")[0], flags=re.M)


def test_every_folder_is_on_the_map():
    found = {path.parent.name for path in (ROOT / "minibert").glob("*/*.py")}
    assert sorted(found - set(folders())) == []


def test_every_new_place_in_migrating_is_a_public_module():
    rows = [cells(line) for line in PAGES["migrating"].tables() if line.startswith("| `minibert.")]
    assert len(rows) >= 25
    for _, new in rows:
        for path in re.findall(r"`(minibert[\w.]*)`", new):
            folder = path.split(".")[1]
            assert folder in folders(), path
            assert not (ROOT / "minibert" / folder).is_dir() or importlib.util.find_spec(path), path


def test_version_changes_and_citation_agree():
    assert f"## {minibert.__version__} (" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {minibert.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_every_picture_is_small_and_shown():
    pictures = [path for path in (DOCS / "pictures").iterdir() if path.suffix != ".py"]
    assert [path.name for path in pictures if not any(path.name in page.english for page in ALL)] == []
    assert [path.name for path in pictures if path.stat().st_size > 150_000] == []


def test_every_promise_of_security_names_a_test_that_exists():
    rows = [row for row in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines() if row.startswith("| ")][1:]
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for row in rows:
        names = re.findall(r"`(test_\w+)`", row)
        assert names, row
        assert [name for name in names if f"def {name}(" not in tests] == [], row
