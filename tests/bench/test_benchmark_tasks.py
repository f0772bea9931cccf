"""Proves that the benchmark of the tasks compares what it says: pytest tests/bench/test_benchmark_tasks.py"""

import json

import pytest

from benchmarks.accuracy import write_runs
from benchmarks.tasks import difference, told
from minibert.inference.scores import RegressionScores, Scores


def test_f1_is_that_of_the_second_class():
    """4 of 6 paraphrases found, and one pair taken for one: 2·4 / (2·4 + 2 + 1)."""
    scores = Scores(0.7, 0.5, 0.6, [[3, 1], [2, 4]])
    assert told(scores) == pytest.approx({"accuracy": 0.7, "loss": 0.5, "macro_f1": 0.6, "f1": 8 / 11})


def test_numbers_have_no_f1():
    assert told(RegressionScores(0.5, 0.4, 0.3)) == {"pearson": 0.5, "spearman": 0.4, "loss": 0.3}


def test_runs_of_other_seeds_stay_in_the_file_and_those_of_the_same_are_replaced(tmp_path):
    path = tmp_path / "tasks.json"
    write_runs(path, {"task": "a"}, [{"seed": 0, "test": 1}, {"seed": 2, "test": 2}])
    write_runs(path, {"task": "a"}, [{"seed": 1, "test": 3}, {"seed": 0, "test": 4}])
    runs = [{"seed": 0, "test": 4}, {"seed": 1, "test": 3}, {"seed": 2, "test": 2}]
    assert json.loads(path.read_text(encoding="utf-8")) == {"task": "a", "runs": runs}


def test_the_standard_error_of_a_difference_is_that_of_both_means():
    """Means 2 and 5; variances 1 of three and 8/3 of four: √(1/3 + 2/3)."""
    assert difference([1, 2, 3], [3, 5, 7, 5]) == f"-3.0000 ± {(1 / 3 + 8 / 3 / 4) ** 0.5:.4f}"
    assert difference([1], [1, 2]) == "not measured"
