"""Proves that the benchmark of variants loses nothing it has measured.

Run: pytest tests/bench/test_benchmark_variants.py
"""

import json
import sys

import pytest

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

from benchmarks import variants

ROWS = {("fwd", 64): [(None, [(64, 64, 4, 1)])], ("bwd", 64): [(None, [(64, 64, 4, 1)])]}


class Kernel:
    __name__ = "forward_short"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Two variants of which `seen` tells that they were called; `fail_at` is killed at that one."""
    kernel = Kernel()
    monkeypatch.setattr(variants, "CANDIDATES", {at: [(kernel, shapes)] for at, ((_, shapes),) in ROWS.items()})
    monkeypatch.setattr(variants, "INTERPRETED", True)
    out, seen = tmp_path / "variants.json", []

    def call(*more: str, fail_at: str = "") -> list[str]:
        def called(what, lengths, variant, dropout_p, device):
            if what == fail_at:
                raise KeyboardInterrupt
            seen.append((what, dropout_p))
            return lambda: None

        seen.clear()
        monkeypatch.setattr(variants, "call_of", called)
        monkeypatch.setattr(sys, "argv", ["variants", "--small", "--dropout", "0.1", "0", "--out", str(out), *more])
        variants.main()
        return list(seen)

    call.out, call.seen = out, seen
    return call


def test_every_row_is_in_the_file_as_soon_as_it_is_measured(run):
    with pytest.raises(KeyboardInterrupt):
        run(fail_at="bwd")
    (row,) = json.loads(run.out.read_text(encoding="utf-8"))["rows"]
    assert (row["what"], row["dropout"], row["shape"]) == ("fwd", 0.1, [64, 64, 4, 1])


def test_a_run_that_goes_on_measures_only_what_is_missing(run):
    with pytest.raises(KeyboardInterrupt):
        run(fail_at="bwd")
    assert run("--resume") == [("bwd", 0.1), ("fwd", 0.0), ("bwd", 0.0)]
    assert run("--resume") == []
    assert len(json.loads(run.out.read_text(encoding="utf-8"))["rows"]) == 4


def test_a_kernel_that_does_not_fit_is_a_row_with_its_reason(run, monkeypatch):
    def failing(*given):
        raise RuntimeError("out of shared memory")

    run()
    monkeypatch.setattr(variants, "call_of", failing)
    monkeypatch.setattr(sys, "argv", ["variants", "--small", "--out", str(run.out)])
    variants.main()
    rows = json.loads(run.out.read_text(encoding="utf-8"))["rows"]
    assert {(row["us"], row["error"]) for row in rows} == {(None, "out of shared memory")}
