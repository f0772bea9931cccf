"""Proves that a setting of machines.py in which a test fails is red and named. Run: pytest tests/test_machines.py"""

import subprocess
import sys

import machines
import pytest

TESTS = """
import os
import pytest

def test_not_numeric():
    assert False

@pytest.mark.numeric
def test_numeric():
    assert os.environ["ATEN_CPU_CAPABILITY"] == "default"
    assert os.environ["MINIBERT_TEST_THREADS"] == "1", "two"
"""


@pytest.mark.slow
def test_a_red_setting_is_named_with_its_test_and_ends_in_status_1(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, machines.__file__, "--only", "sse4", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert [line.split()[:5] for line in lines[1:3]] == [["sse4", "1", "1", "0", "0"], ["sse4", "2", "0", "1", "0"]]
    assert lines[4:7] == ["sse4, 2 threads:", "test_it::test_numeric", "  AssertionError: two"]


@pytest.mark.slow
def test_a_setting_in_which_no_test_runs_is_red(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_not_numeric(): pass", encoding="utf-8")
    result = machines.run("native", 1, [str(tmp_path)])
    assert result.red
    assert "status 5" in result.failures[0]


def test_all_six_settings_run_and_end_in_status_0_if_they_pass(monkeypatch, capsys):
    monkeypatch.setattr(machines, "run", lambda *asked: machines.Result(*asked[:2], False, 7, 0, 1, 2.0, []))
    monkeypatch.setattr(sys, "argv", ["machines.py"])
    assert machines.main() == 0
    rows = [tuple(line.split()[:2]) for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [(setting, threads) for threads in "12" for setting in ("native", "avx2", "sse4")]
