"""All that proves this project right, one part after the other, and one table of what it took.

    python tests/everything.py                    # all of it
    python tests/everything.py --since HEAD^      # what .ci/run adds to the default suite: numeric tests on other
                                                  # kernels; mutations of what has changed since that commit, a quarter
                                                  # of the others, a quarter of the slow tests; some of the fuzzing
    python tests/everything.py --only "fuzz,kills"

Exit status 1 where a part fails; the parts after it still run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import sample

ROOT = Path(__file__).parents[1]
FEW = 300  # inputs of a fuzzer that a commit is tried with, others than the next
SLOW = ["-m", "pytest", "-m", "slow and not gpu", "-n", "2", "--durations=5", "--limit-skips"]
PARTS = {  # what Python is to run from the root
    "tests": ["-m", "pytest", "--limit-skips"],
    "slow tests": SLOW,
    "machines": ["tests/machines.py"],
    "mutations": ["tests/mutations.py"],
    "fuzz": ["tests/fuzz_tokenizer.py"],
    "fuzz files": ["tests/fuzz_files.py"],
    "fuzz data": ["tests/fuzz_data.py"],
    "kills": ["tests/kill_runs.py"],
    "lost writes": ["tests/lost_writes.py"],
    "races": ["tests/races.py"],
    "full disks": ["tests/full_disks.py"],
    "gpu dry": ["-m", "benchmarks.gpu", "--dry"],
}


class Outcome(NamedTuple):
    part: str
    seconds: float
    status: int
    last: str  # line that it printed


def parts_since(revision: str) -> dict[str, list[str]]:
    seed = sample.commit_hash(revision)
    return {
        "machines": PARTS["machines"],
        "mutations": [*PARTS["mutations"], "--since", revision],
        "slow tests": [*SLOW, f"--quarter={seed}"],
        **{
            part: [*PARTS[part], f"--from={FEW * (int(seed, 16) % 33)}", f"--cases={FEW}"]
            for part in ("fuzz files", "fuzz data")
        },
    }


def run(part: str, words: list[str]) -> Outcome:
    """Passes on what the part prints while it runs, and keeps the last line."""
    begin, last = time.monotonic(), [""]
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def pass_on() -> None:
        for line in process.stdout:
            print(line, end="", flush=True)
            last[0] = line.strip(" =\n") or last[0]

    reader = threading.Thread(target=pass_on)
    reader.start()
    status = process.wait()
    reader.join(10)  # not for ever: a process that outlives the part may hold the pipe
    return Outcome(part, time.monotonic() - begin, status, last[0])


def table(outcomes: list[Outcome]) -> str:
    rows = [
        f"{o.part:17}{o.seconds:8.0f}  {'passed' if o.status == 0 else f'FAILED ({o.status})':13} {o.last}"
        for o in outcomes
    ]
    return "\n".join([f"{'part':17}{'seconds':>8}  {'':13} last line", *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", metavar="COMMIT", help="only what has changed since then, and a quarter of the rest")
    parser.add_argument("--only", metavar="PART,PART", help=f"of {', '.join(PARTS)}")
    options = parser.parse_args()
    parts = parts_since(options.since) if options.since else PARTS
    names = options.only.split(",") if options.only else list(parts)
    if unknown := set(names) - set(parts):
        parser.error(f"no part {', '.join(sorted(unknown))}; choose from {', '.join(parts)}")
    outcomes = []
    for name in names:
        print(f"\n---- {name}: python {' '.join(parts[name])}", flush=True)
        outcomes.append(run(name, parts[name]))
    print(f"\n{table(outcomes)}")
    return 1 if any(outcome.status for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
