"""What does reading a data file by its content cost, beside a plain reader and an older tree?

    python -m benchmarks.reading                                # against core's reader; some minutes, writes no file
    git worktree add ../before 672db83
    python -m benchmarks.reading --before ../before             # against that tree's reader
    python -m benchmarks.reading --before ../before --predict 1000000 --model DIR   # whole jobs: hours

Expected: judging the encoding decodes the file once more, and layout looks at its beginning only; splitting the rows,
which both do, is most of it. So the ratio is a little below 1; asked is 0.9, and of `predict`, which computes, 0.97.

Each measurement is a process of its own, and the two take turns, so that what else the machine does meets both; its
time is user and system time, which waiting for others does not lengthen. Columns:
    rows/s      of the reader in this tree, the median
    ratio       the other's seconds ÷ ours, the median of the pairs: above 1 ours is faster
    interval    that holds the true median with 95 % or more: order statistics of the pairs
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from minibert.io.examples import read_examples
from minibert.training.options import REVIEWS

KINDS = ("tsv", "csv", "jsonl")
HERE = Path(__file__).parents[1]
READ = """
import sys, time, warnings
warnings.simplefilter("ignore")
from {module} import read_examples
begin = time.process_time()
rows = read_examples(sys.argv[1])
print(time.process_time() - begin, len(rows))
"""
PREDICT = """
import os, sys
from minibert import cli
status = cli.main(["predict", *sys.argv[1:]])
used = os.times()
assert status == 0
os.unlink(sys.argv[-1])
print(used.user + used.system, 0, file=sys.__stdout__)
"""
PLAIN, OWN, BEFORE = "minibert.core.data", "minibert.io.examples", "minibert.data"


def write_rows(path: Path, count: int) -> None:
    """The bundled reviews again and again, each with its number in front so that none is like another."""
    source = read_examples(REVIEWS / "train.tsv")
    size = len(source)
    rows = [(source.labels[i % size], f"{i} {source.texts[i % size]}") for i in range(count)]
    with open(path, "w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            for label, text in rows:
                file.write(json.dumps({"label": label, "text": text}, ensure_ascii=False) + "\n")
            return
        table = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t", lineterminator="\n")
        table.writerows([("label", "text"), *rows])


def seconds(tree: Path, code: str, *words: object) -> float:
    """The time that a process of this tree measures, and that it has read all rows."""
    command = [sys.executable, "-c", code, *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{tree}: {done.stderr.strip()[-500:]}")
    return float(done.stdout.split()[-2])


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """What holds the median of all such ratios with a probability of 95 % at least; all of them, where they are few."""
    n, below, outside = len(ratios), 0, 0.5 ** len(ratios)
    while 2 * (outside + math.comb(n, below + 1) * 0.5**n) <= 0.05:
        below += 1
        outside += math.comb(n, below) * 0.5**n
    ordered = sorted(ratios)
    return ordered[below], ordered[n - 1 - below]


def compared(name: str, rows: int, pairs: int, ours: Sequence[object], theirs: Sequence[object]) -> dict[str, object]:
    """A row of the table. ours, theirs: arguments of `seconds`."""
    times = []
    for turn in range(pairs):
        both = [ours, theirs][:: 1 if turn % 2 else -1]
        taken = {id(one): seconds(*one) for one in both}
        times.append((taken[id(ours)], taken[id(theirs)]))
    ratios = [other / own for own, other in times]
    low, high = interval(ratios)
    median = statistics.median(own for own, _ in times)
    found = {"what": name, "rows": rows, "rows_per_s": rows / median, "ratio": statistics.median(ratios)}
    return found | {"low": low, "high": high, "pairs": pairs}


def line(row: dict[str, object]) -> str:
    between = f"{row['low']:.3f} … {row['high']:.3f}"
    speed = f"{row['rows']:,} | {row['rows_per_s']:,.0f}"
    return f"| {row['what']} | {speed} | {row['ratio']:.3f} | {between} | {row['pairs']} |"


def measure(folder: Path, rows: int, pairs: int, before: Path | None, predict: int, model: str) -> list[dict]:
    other, tree, module = ("before", before, BEFORE) if before else ("core", HERE, PLAIN)
    found = []
    print("| what | rows | rows/s | ratio | interval | pairs |\n|---|---|---|---|---|---|", flush=True)
    for kind in () if predict else KINDS:
        path = folder / f"rows.{kind}"
        write_rows(path, rows)
        ours, theirs = (HERE, READ.format(module=OWN), path), (tree, READ.format(module=module), path)
        found.append(compared(f"{kind}, against {other}", rows, pairs, ours, theirs))
        print(line(found[-1]), flush=True)
    if predict:
        path = folder / "rows.tsv"
        write_rows(path, predict)
        jobs = [
            (one, PREDICT, model, "--data", path, "--device", "cpu", "--out", folder / "out.tsv")
            for one in (HERE, tree)
        ]
        found.append(compared(f"predict, against {other}", predict, pairs, *jobs))
        print(line(found[-1]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="of each file")
    parser.add_argument("--pairs", type=int, default=15, help="of measurements")
    parser.add_argument("--before", type=Path, help="a tree of minibert to compare with (default: core's reader)")
    parser.add_argument("--predict", type=int, default=0, help="rows of whole `predict` jobs, which --before needs")
    parser.add_argument("--model", default="", help="directory of the classifier")
    options = parser.parse_args()
    if options.predict and not (options.before and options.model):
        parser.error("--predict compares two trees; name the other one with --before, and a classifier with --model")
    before = options.before.resolve() if options.before else None
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options.rows, options.pairs, before, options.predict, options.model)
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
