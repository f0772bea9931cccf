"""Proves that the benchmark of reading says what it measured. Run: pytest tests/bench/test_benchmark_reading.py"""

import pytest

from benchmarks.reading import interval, line, measure


def test_the_interval_is_that_of_order_statistics():
    """Of 15 the 4th and the 12th: outside lie 2 (1 + 15 + 105 + 455) / 2^15 = 3.5 %; of 3 there is none of 95 %."""
    assert interval(range(15)) == (3, 11)
    assert interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


@pytest.mark.slow
def test_readers_are_compared_with_cores(tmp_path):
    rows = measure(tmp_path, rows=50, pairs=1, before=None, predict=0, model="")
    assert [row["what"].split(",")[0] for row in rows] == ["tsv", "csv", "jsonl"]
    assert all(0 < row["low"] <= row["ratio"] <= row["high"] for row in rows)
    assert line(rows[0]).startswith("| tsv, against core | 50 | ")
