"""Runs the numeric tests as other machines do: with the kernels of older processors, on one thread and on two.

    python tests/machines.py                             # all six settings; exit 1 if one is red
    python tests/machines.py --only avx2                 # one kind of kernels
    python tests/machines.py tests/core/test_model.py         # of these files alone

Kernels add in different orders, so their last digits differ: a bound that holds on one processor alone is red here.
Where a processor lacks AVX2 or AVX-512, settings are alike, and run all the same.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SETTINGS = {  # name -> variables that PyTorch, oneDNN and MKL read as they are loaded
    "native": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "sse4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
THREADS = (1, 2)
CORES = 2  # as many threads run at a time
OUTPUT = 20  # lines of pytest's output, where it says nothing of a test


class Result(NamedTuple):
    setting: str
    threads: int
    red: bool
    passed: int
    failed: int
    skipped: int
    seconds: float
    failures: list[str]  # each a test and its error


def run(setting: str, threads: int, tests: Sequence[str]) -> Result:
    """One pytest process on the numeric tests among `tests` (files or folders)."""
    variables = {**SETTINGS[setting], "MINIBERT_TEST_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
        command += ["-m", "numeric and not slow and not gpu", f"--junitxml={report}", *tests]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
        passed, failures, skipped = read(report) if report.exists() else (0, [], 0)
    if done.returncode and not failures:
        failures = [
            f"pytest ended with status {done.returncode}\n"
            + "\n".join((done.stdout + done.stderr).splitlines()[-OUTPUT:])
        ]
    seconds = time.monotonic() - begin
    return Result(setting, threads, done.returncode != 0, passed, len(failures), skipped, seconds, failures)


def read(report: Path) -> tuple[int, list[str], int]:
    """How many tests passed, the names and errors of those that failed, how many were skipped."""
    passed, failures, skipped = 0, [], 0
    for case in ET.parse(report).iter("testcase"):
        problem = next((part for part in case if part.tag in ("failure", "error")), None)
        if problem is not None:
            lines = [x[1:].strip() for x in (problem.text or "").splitlines() if x.startswith("E ") and x[1:].strip()]
            name = f"{case.get('classname')}::{case.get('name')}"
            failures.append("\n  ".join([name, *lines[:1], *lines[1:][-2:]]))  # what is wrong, and by how much
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failures, skipped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", nargs="*", default=[str(ROOT / "tests")], help="files or folders (default: all)")
    parser.add_argument("--only", choices=SETTINGS, help="one kind of kernels")
    options = parser.parse_args()
    chosen, results = [options.only] if options.only else list(SETTINGS), []
    print(f"{'setting':8} {'threads':>7} {'passed':>7} {'failed':>7} {'skipped':>7} {'seconds':>7}", flush=True)
    for threads in THREADS:
        with ThreadPoolExecutor(CORES // threads) as pool:
            for one in pool.map(lambda setting, threads=threads: run(setting, threads, options.tests), chosen):
                results.append(one)
                cells = f"{one.threads:7} {one.passed:7} {one.failed:7} {one.skipped:7} {one.seconds:7.0f}"
                print(f"{one.setting:8} {cells}", flush=True)
    red = [one for one in results if one.red]
    for one in red:
        print(f"\n{one.setting}, {one.threads} threads:", *one.failures, sep="\n")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
