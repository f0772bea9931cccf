"""Proves that tests/everything.py runs the parts that are asked for, and fails where one does. Run:
pytest tests/test_everything.py"""

import everything
import pytest


@pytest.fixture
def ran(monkeypatch):
    """What Python was to run, instead of running it; the first part fails."""
    words = []

    def run(part: str, arguments: list[str]) -> everything.Outcome:
        words.append(arguments)
        return everything.Outcome(part, 1.0, len(words) == 1, "its last line")

    monkeypatch.setattr(everything, "run", run)
    return words


@pytest.mark.parametrize("part", everything.PARTS)
def test_each_part_can_be_asked_for_by_its_name(monkeypatch, ran, part):
    monkeypatch.setattr("sys.argv", ["everything.py", "--only", f"{part},{part}"])
    everything.main()
    assert ran == [everything.PARTS[part]] * 2


def test_parts_after_a_failed_one_still_run_and_the_table_says_which(monkeypatch, ran, capsys):
    monkeypatch.setattr("sys.argv", ["everything.py"])
    assert everything.main() == 1
    assert len(ran) == len(everything.PARTS)
    said = capsys.readouterr().out.splitlines()[-len(ran) :]
    assert ["FAILED" in line for line in said] == [True] + [False] * (len(ran) - 1)
