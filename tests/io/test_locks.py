"""Proves that an output belongs to one process: of jobs that are started together one works, and the others say so.
Run: pytest tests/io/test_locks.py (`python tests/races.py` starts 200 pairs of real commands)
"""

import os
import random
from pathlib import Path

import processes
import pytest
import races

from minibert.io import locks
from minibert.io.locks import held, held_directory


def write_slowly(out: str, line: str) -> None:
    """A writer that is not whole before its end, and says when it has begun."""
    with held(Path(out)), open(out, "w", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        print("begun", flush=True)
        Path(f"{out}.go").read_text()  # a pipe: waits for the test
        file.write(line)


@pytest.mark.slow
def test_of_two_processes_one_writes_and_the_other_says_so(tmp_path):
    out = tmp_path / "out.tsv"
    os.mkfifo(tmp_path / "out.tsv.go")
    first = processes.start(write_slowly, str(out), "a")
    assert first.stdout.readline() == "begun\n"
    with pytest.raises(ValueError, match=r"out\.tsv: another process is writing there; wait for it, or"), held(out):
        pass
    (tmp_path / "out.tsv.go").write_text("")
    first.communicate(timeout=60)
    assert (first.returncode, out.read_text()) == (0, "aa")
    with held(out):
        pass
    assert sorted(os.listdir(tmp_path)) == ["out.tsv", "out.tsv.go"]


def test_the_lock_of_a_killed_process_does_not_hold(tmp_path):
    out = tmp_path / "out.tsv"
    os.mkfifo(tmp_path / "out.tsv.go")
    first = processes.start(write_slowly, str(out), "a")
    assert first.stdout.readline() == "begun\n"
    first.kill()
    first.communicate(timeout=60)
    assert (tmp_path / ".out.tsv.lock").exists()
    with held(out):
        pass


def test_a_lock_that_is_a_link_leaves_what_it_points_to_as_it_is(tmp_path):
    (tmp_path / "mine").write_text("kept")
    (tmp_path / ".out.tsv.lock").symlink_to("mine")
    with held(tmp_path / "out.tsv"):
        pass
    assert (tmp_path / "mine").read_text() == "kept"


def test_directories_into_which_nothing_came_go_and_others_stay(tmp_path):
    with held_directory(tmp_path / "a" / "b"):
        pass
    assert os.listdir(tmp_path) == []
    with held_directory(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "x").touch()
    with held_directory(tmp_path / "a"):
        pass
    assert os.listdir(tmp_path / "a" / "b") == ["x"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", *(pytest.param(c, marks=pytest.mark.slow) for c in races.COMMANDS[1:])])
def test_of_two_commands_with_one_output_every_one_that_ends_well_has_written_it(tmp_path, command):
    course = races.Course(tmp_path)
    for number in range(1 if command == "predict" else 3):
        assert course.pair(command, number, random.Random(number)) == []


def test_the_names_of_directories_that_are_made_are_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(locks, "sync_directory", synced.append)
    with locks.held_directory(tmp_path / "runs" / "a"):
        assert synced == [tmp_path / "runs", tmp_path]
