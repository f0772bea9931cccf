"""Proves that a quarter of an hour on a GPU loses nothing, whatever hangs or dies in it.

The steps here are one-line programs; a real run without a GPU is `python -m benchmarks.gpu --dry`. Run:
pytest tests/bench/test_benchmark_gpu.py
"""

import itertools
import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import attention, encoder, gpu, gpu_tests, race, training
from benchmarks.gpu import Journal, Step


def program(code: str) -> tuple[str, ...]:
    return "-S", "-c", code


def note(path: Path, word: str) -> str:
    return f"open({str(path)!r}, 'a').write({word!r} + ' ')"


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Runs these steps in tmp_path/out by the command line; gives the exit status and the journal's rows."""
    monkeypatch.setattr(gpu, "GRACE", 0.5)

    def run(steps: dict[str, str], *more: str, weights: dict[str, float] | None = None) -> tuple[int, list[dict]]:
        made = [Step(name, (weights or {}).get(name, 1), (program(code),)) for name, code in steps.items()]
        monkeypatch.setattr(gpu, "steps_on_cpu", lambda out: made)
        out = tmp_path / "out"
        where = "--resume" if (out / gpu.LOG).exists() else "--out"
        return gpu.main([where, str(out), "--dry", *more]), Journal(out).rows

    return run


def gone(pid: int) -> bool:
    """Within two seconds; what has died and not been waited for counts as gone."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


# ---- order and journal ----


def test_a_dry_run_needs_no_directory_and_any_other_does(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu.tempfile, "mkdtemp", lambda prefix: str(tmp_path / prefix))
    assert gpu.parsed(["--dry"]).out == tmp_path / "minibert-gpu-"
    with pytest.raises(SystemExit):
        gpu.parsed([])
    assert "name a new directory by --out" in capsys.readouterr().err


def test_steps_run_in_order_and_are_told_at_begin_and_end(begin):
    status, rows = begin({"one": "print('hello')", "two": "raise SystemExit(3)"})
    assert status == 0
    assert [(row["step"], row["end"] is None, row["rc"]) for row in rows] == [
        *(("one", True, None), ("one", False, 0)),
        *(("two", True, None), ("two", False, 3)),
    ]
    for row in rows:
        assert row.keys() >= {"step", "argv", "begin", "end", "rc", "killed", "clocks", "power", "temperature"}
        assert row["argv"][0][:3] == ["python", "-S", "-c"]
    assert rows[1]["tail"] == "hello\n"
    assert rows[1]["begin"] <= rows[1]["end"] <= rows[2]["begin"]


def test_only_the_named_steps_run(begin):
    _, rows = begin({"one": "", "two": "", "three": ""}, "--steps", "three,one")
    assert [row["step"] for row in rows[::2]] == ["one", "three"]


def test_both_tables_have_the_steps_and_the_files_of_each_other(tmp_path):
    """Files: what follows --out. With the journal and a half-written one there are eight at most."""
    names, files = zip(*(described(table(tmp_path)) for table in (gpu.steps_on_gpu, gpu.steps_on_cpu)), strict=True)
    assert names[0] == names[1]
    assert files[0] == files[1]
    assert len(files[0] | {tmp_path / gpu.LOG}) + 1 <= 8
    assert sum(step.weight for step in gpu.steps_on_gpu(tmp_path)) == gpu.QUARTER


def described(steps: list[Step]) -> tuple[list[str], set[Path]]:
    pairs = [pair for step in steps for command in step.commands for pair in itertools.pairwise(command)]
    return [step.name for step in steps], {Path(value) for option, value in pairs if option == "--out"}


@pytest.mark.parametrize("steps", [gpu.steps_on_gpu, gpu.steps_on_cpu])
def test_every_command_is_one_that_its_module_takes(tmp_path, steps):
    """Without --device cuda, which is refused here."""
    read = {"attention": attention.parsed}
    read |= {"pretraining": partial(race.parsed, "", {"step": None})}
    read |= {"training": partial(race.parsed, "", training.CASES), "encoder": partial(race.parsed, "", encoder.CASES)}
    for (_, module, *words), name in [
        (command, command[1].removeprefix("benchmarks.")) for step in steps(tmp_path) for command in step.commands
    ]:
        assert (gpu.ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
        if name in read:
            assert read[name]([word if word != "cuda" else "cpu" for word in words])


# ---- what hangs, what is killed ----

SLEEPS = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
HANGS = f"import subprocess, time; child = subprocess.Popen({SLEEPS!r})"


@pytest.mark.slow
def test_a_step_that_hangs_is_killed_with_its_children_and_later_ones_run(begin, tmp_path):
    pid = tmp_path / "pid"
    hangs = f"{HANGS}; open({str(pid)!r}, 'w').write(str(child.pid)); time.sleep(60)"
    begun = time.monotonic()
    status, rows = begin({"hangs": hangs, "after": ""}, "--seconds", "10", weights={"hangs": 0.1, "after": 1})
    assert time.monotonic() - begun < 5
    assert status == 0
    assert [(row["step"], row["killed"], row["rc"]) for row in rows[1::2]] == [("hangs", True, -9), ("after", False, 0)]
    assert gone(int(pid.read_text()))


def test_time_that_a_step_leaves_over_goes_to_the_later_ones(begin):
    _, rows = begin({"short": "", "long": ""}, "--seconds", "40", weights={"short": 3, "long": 1})
    assert rows[0]["seconds"] == pytest.approx(30, abs=1)
    assert rows[2]["seconds"] > 30


def test_without_time_nothing_is_begun(begin, capsys):
    _, rows = begin({"one": "", "two": ""}, "--seconds", "0.000001")
    assert "not begun: " in capsys.readouterr().out
    assert all(row["step"] == "one" for row in rows)


WRITES = """
import itertools
from pathlib import Path
from minibert.core.files import write_json
for n in itertools.count():
    write_json(Path({out!r}), list(range(n)))
"""
DRIVES = """
import sys
from pathlib import Path
from benchmarks import gpu
step = gpu.Step("writes", 1, (("-c", Path(sys.argv[1]).read_text()),))
gpu.steps_on_cpu = lambda out: [step]
gpu.main(["--out", sys.argv[2], "--dry"])
"""


def test_killing_the_driver_leaves_every_file_readable_and_no_step_running(tmp_path):
    out = tmp_path / "out"
    (tmp_path / "writes.py").write_text(WRITES.format(out=str(out / "rows.json")), encoding="utf-8")
    command = [sys.executable, "-c", DRIVES, str(tmp_path / "writes.py"), str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as driver:
        while not (out / "rows.json").exists():
            time.sleep(0.01)
        (guard,) = children(driver.pid)
        step = children(guard)
        time.sleep(0.1)
        driver.send_signal(signal.SIGKILL)
    assert all(gone(pid) for pid in (guard, *step))
    assert len(step) == 1
    for path in out.glob("[!.]*"):
        for line in (
            path.read_text(encoding="utf-8").splitlines() if path.name == gpu.LOG else [path.read_text("utf-8")]
        ):
            json.loads(line)
    assert len(list(out.iterdir())) <= 8
    assert Journal(out).finished == set()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_what_runs_beside_a_step_has_its_time_and_may_fail(begin, tmp_path, monkeypatch):
    """The step itself ends at once; beside it one ends later, and one never."""
    slow = program(f"import time; time.sleep(0.3); {note(tmp_path / 'notes', 'beside')}")
    never = program("import time; time.sleep(60)")
    step = Step("one", 1, (program(""), slow, never))
    monkeypatch.setattr(gpu, "steps_on_cpu", lambda out: [step])
    assert gpu.main(["--out", str(tmp_path / "other"), "--dry", "--seconds", "1.4"]) == 0
    (_, row) = Journal(tmp_path / "other").rows
    assert (row["rc"], row["killed"]) == (0, False)
    assert (tmp_path / "notes").read_text() == "beside "


# ---- going on ----


@pytest.mark.slow
def test_resuming_repeats_nothing_that_is_finished(begin, tmp_path):
    """The second step hangs the first time, the third fails."""
    notes, fine = tmp_path / "notes", f"import os, time; fine = os.path.exists({str(tmp_path / 'fine')!r})"
    steps = {
        "one": note(notes, "one"),
        "two": f"{fine}; {note(notes, 'two')}; time.sleep(0 if fine else 60)",
        "three": f"{fine}; {note(notes, 'three')}; raise SystemExit(not fine)",
    }
    begin(steps, "--seconds", "10", weights={"two": 0.1})
    assert notes.read_text() == "one two three "
    (tmp_path / "fine").touch()
    begin(steps)
    assert notes.read_text() == "one two three two three "
    _, rows = begin(steps)
    assert notes.read_text() == "one two three two three "
    assert [row["rc"] for row in rows[1::2]] == [0, -9, 1, 0, 0]


def test_halves_of_files_are_taken_away(begin, tmp_path):
    out = tmp_path / "out"
    begin({"one": f"open({str(out / '.rows.json.12ab34cd')!r}, 'w').write('[')"})
    assert [path.name for path in out.iterdir()] == [gpu.LOG]


# ---- what cannot be done ----


def refused(capsys, *arguments: str) -> str:
    assert gpu.main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_without_a_gpu_one_line_names_the_dry_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "has_cuda", lambda: False)
    assert "--dry" in refused(capsys, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("steps", "named"), [("probe,warp", "no step warp"), ("", "no step is named")])
def test_an_unknown_step_is_answered_with_the_known_ones(tmp_path, capsys, steps, named):
    line = refused(capsys, "--out", str(tmp_path / "out"), "--dry", "--steps", steps)
    assert named in line
    assert "probe, tests, attention, pretraining, training, inference, profile, variants, flex" in line


def test_a_directory_is_begun_once_and_gone_on_with_only_if_it_was_begun(begin, tmp_path, capsys):
    assert "holds no run" in refused(capsys, "--resume", str(tmp_path), "--dry")
    begin({"one": ""})
    capsys.readouterr()
    assert "--resume" in refused(capsys, "--out", str(tmp_path / "out"), "--dry")


def test_a_dry_run_and_a_real_one_do_not_share_a_directory(begin, tmp_path, capsys, monkeypatch):
    begin({"one": ""})
    capsys.readouterr()
    monkeypatch.setattr(gpu, "has_cuda", lambda: True)
    assert "with --dry" in refused(capsys, "--resume", str(tmp_path / "out"))


def test_seconds_must_be_above_0(tmp_path, capsys):
    assert "--seconds 0 must be above 0" in refused(capsys, "--out", str(tmp_path / "out"), "--dry", "--seconds", "0")


# ---- the tests as a step ----


def report(test: str, when: str, outcome: str, why: object = "") -> SimpleNamespace:
    flags = {name: outcome == name for name in ("passed", "failed", "skipped")}
    return SimpleNamespace(nodeid=test, when=when, outcome=outcome, longrepr=why, duration=0.5, **flags)


def item(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, nodeid=name)


def run_through(keeper: gpu_tests.Keeper, test: str, *reports: SimpleNamespace) -> None:
    keeper.pytest_runtest_logstart(test)
    for each in reports:
        keeper.pytest_runtest_logreport(each)
    keeper.pytest_runtest_logfinish()


def test_each_test_is_kept_with_what_came_of_it(tmp_path):
    keeper = gpu_tests.Keeper(tmp_path / "tests.json", quick=False)
    run_through(keeper, "fine", report("fine", "setup", "passed"), report("fine", "call", "passed"))
    run_through(keeper, "not here", report("not here", "setup", "skipped", ("file", 3, "no CUDA device here")))
    run_through(keeper, "wrong", report("wrong", "call", "failed", "1 != 2"), report("wrong", "teardown", "passed"))
    rows = json.loads((tmp_path / "tests.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["test"], row["outcome"], row["reason"]) for row in rows] == [
        ("fine", "passed", ""),
        ("not here", "skipped", "no CUDA device here"),
        ("wrong", "failed", "1 != 2"),
    ]


def test_finished_tests_are_left_out_and_the_one_that_was_killed_comes_last(tmp_path):
    keeper = gpu_tests.Keeper(tmp_path / "tests.json", quick=False)
    run_through(keeper, "fine", report("fine", "call", "passed"))
    keeper.pytest_runtest_logstart("hung")
    again, items = (
        gpu_tests.Keeper(tmp_path / "tests.json", quick=True),
        [*map(item, ("fine", "hung", "new", "a_thousand_batches"))],
    )
    again.pytest_collection_modifyitems(items)
    assert [each.name for each in items] == ["new", "hung"]


def test_an_error_of_the_gpu_ends_the_run_of_tests(tmp_path):
    keeper = gpu_tests.Keeper(tmp_path / "tests.json", quick=False)
    with pytest.raises(pytest.exit.Exception, match="unusable"):
        run_through(
            keeper, "bad", report("bad", "call", "failed", "RuntimeError: CUDA error: an illegal memory access")
        )
    assert keeper.rows["bad"]["outcome"] == "failed"


# ---- a real run ----


@pytest.mark.slow
def test_a_dry_run_comes_to_its_end_and_a_second_has_nothing_left_to_do(tmp_path, capfd):
    """A minute and a half on two free cores. A longer --seconds, as others may use them."""
    out = tmp_path / "out"
    assert gpu.main(["--out", str(out), "--dry", "--seconds", "1800"]) == 0
    rows = Journal(out).rows
    assert [row["step"] for row in rows[1::2]] == [step.name for step in gpu.steps_on_gpu(out)]
    assert {(row["step"], row["rc"]) for row in rows[1::2] if row["rc"] != 0} == set()
    names = {"attention", "probe", "profile", "races", "tests", "variants"}
    assert {path.name for path in out.iterdir()} == {gpu.LOG, *(f"{name}.json" for name in names)}
    attention_rows = json.loads((out / "attention.json").read_text(encoding="utf-8"))["rows"]
    assert {row["status"] for row in attention_rows} <= {"ok", "correct"}
    assert gpu.main(["--resume", str(out), "--dry"]) == 0
    assert Journal(out).rows == rows
