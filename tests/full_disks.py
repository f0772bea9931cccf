"""Runs commands on a disk that is full after so many bytes, makes room, and looks whether they go on to the same end.

    python tests/full_disks.py --sizes 200      # about 15 minutes of one core

No file may grow beyond a size drawn anew for each run (RLIMIT_FSIZE: a real error from the system, in the middle of
whatever is written). The command has to end with status 2 and say why in one line; the same command, or for a run that
had begun --resume, then ends with the bytes of an undisturbed one. Prints one JSON object; exit status 1 where
anything is otherwise.
"""

import argparse
import json
import math
import random
import sys
import tempfile
from pathlib import Path

import kill_runs
import races

COMMANDS = ("train --out", "pretrain --out", "predict", "embed", "encode_file", "vocab")


def attempt(course: races.Course, name: str, number: int, size: int) -> tuple[bool, list[str]]:
    """Whether the disk was full for the command, and what was wrong."""
    expected, place = course.expected(name, 0), course.directory / f"full {name} {number}"
    place.mkdir()
    process = course.start(name, 0, place, file_size=size)
    said = process.communicate(timeout=120)[1]
    full, wrong = process.returncode != 0, []
    if full:
        last = said.splitlines()[-1:] or [""]
        if process.returncode != 2 or "Traceback" in said or not last[0].startswith("minibert: ") or len(last[0]) > 600:
            wrong.append(f"{name}, {size} bytes: status {process.returncode}: {said}")
        began = (place / "out" / "run.json").is_file()
        process = course.start(name, 0, place, words=[name.split()[0], "--resume", "out"] if began else None)
        said = process.communicate(timeout=120)[1]
    found = races.outputs(place)
    if process.returncode != 0 or list(found.values()) != [expected]:
        wrong.append(f"{name}, {size} bytes: then status {process.returncode}, {list(found)}: {said}")
    return full, wrong


def drawn_size(course: races.Course, name: str, dice: random.Random) -> int:
    """Bytes, fewer than the largest file that the command writes undisturbed."""
    course.expected(name, 0)
    files = [path for path in (course.directory / f"alone {name} 0").rglob("*") if path.is_file()]
    return int(10 ** dice.uniform(0, math.log10(max(path.stat().st_size for path in files))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kill_runs.load_early()
    dice, wrong, full = random.Random(options.seed), [], 0
    with tempfile.TemporaryDirectory() as folder:
        course = races.Course(Path(folder))
        for number in range(options.sizes):
            name = COMMANDS[number % len(COMMANDS)]
            was_full, problems = attempt(course, name, number, drawn_size(course, name, dice))
            full, wrong = full + was_full, wrong + problems
            print(f"{number + 1} sizes, {full} full, {len(wrong)} wrong", file=sys.stderr, flush=True)
    print(*wrong, sep="\n", file=sys.stderr)
    print(json.dumps({"sizes": options.sizes, "full": full, "wrong": len(wrong)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
