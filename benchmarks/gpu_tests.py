"""Runs the tests for a GPU one after the other, and keeps what came of each: a step of benchmarks/gpu.py.

    python -m benchmarks.gpu_tests --out tests.json            # those that the file has already are left out
    python -m benchmarks.gpu_tests --out tests.json --quick    # without those that take long

A test that was killed with its run is tried again after all others. An error that leaves the GPU unusable ends the run
(exit status 3), as all later tests would fail of it: the next run goes on behind it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.timing import environment
from minibert.core.files import write_json

ROOT = Path(__file__).parents[1]
FILES = ("tests/fast/test_gpu.py",)
LONG = ("thousand", "foreign_memory", "learned_on_a_gpu", "is_the_run_without")  # parts of the names
BEGUN, UNUSABLE = "begun", "CUDA error"


class Keeper:
    """A plugin of pytest: rows by test id."""

    def __init__(self, out: Path, quick: bool) -> None:
        self.out, self.quick, self.unusable = out, quick, False
        known = json.loads(out.read_text(encoding="utf-8"))["rows"] if out.exists() else []
        self.rows = {row["test"]: row for row in known}
        self.env = environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def begun(self, test: str) -> bool:
        return self.rows.get(test, {}).get("outcome") == BEGUN

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        quick = [item for item in items if not (self.quick and any(part in item.name for part in LONG))]
        left = [item for item in quick if item.nodeid not in self.rows or self.begun(item.nodeid)]
        items[:] = sorted(left, key=lambda item: self.begun(item.nodeid))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.keep(nodeid, BEGUN)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of setup, call and teardown: the first that is not passed, or the call."""
        decided = self.rows[report.nodeid]["outcome"] not in (BEGUN, "passed")
        if decided or (report.passed and report.when != "call"):
            return
        why = report.longrepr[2] if report.skipped else report.longrepr  # of a skip: file, line, reason
        reason = str(why or "")[-1000:]
        self.keep(report.nodeid, report.outcome, round(report.duration, 2), reason)
        self.unusable = self.unusable or (report.failed and UNUSABLE in str(report.longrepr))

    def pytest_runtest_logfinish(self) -> None:
        if self.unusable:
            pytest.exit("the GPU is unusable in this process", returncode=3)

    def keep(self, test: str, outcome: str, seconds: float | None = None, reason: str = "") -> None:
        self.rows[test] = {"test": test, "outcome": outcome, "seconds": seconds, "reason": reason}
        write_json(self.out, {"env": self.env, "rows": list(self.rows.values())})


def main(argv: list[str] | None = None) -> int:
    """0 when all have been run, whatever came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="result file")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--files", nargs="+", default=[str(ROOT / name) for name in FILES], help="of tests")
    arguments = parser.parse_args(argv)
    keeper = Keeper(arguments.out, arguments.quick)
    options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "--tb", "short"]
    status = pytest.main([*options, *arguments.files], plugins=[keeper])
    ran = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED
    return 0 if status in ran else int(status)


if __name__ == "__main__":
    sys.exit(main())
