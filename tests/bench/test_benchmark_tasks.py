"""Proves that the benchmark of the tasks compares what it says: pytest tests/bench/test_benchmark_tasks.py"""

import pytest

from benchmarks.tasks import told
from minibert.inference.scores import RegressionScores, Scores


def test_f1_is_that_of_the_second_class():
    """4 of 6 paraphrases found, and one pair taken for one: 2·4 / (2·4 + 2 + 1)."""
    scores = Scores(0.7, 0.5, 0.6, [[3, 1], [2, 4]])
    assert told(scores) == pytest.approx({"accuracy": 0.7, "loss": 0.5, "macro_f1": 0.6, "f1": 8 / 11})


def test_numbers_have_no_f1():
    assert told(RegressionScores(0.5, 0.4, 0.3)) == {"pearson": 0.5, "spearman": 0.4, "loss": 0.3}
