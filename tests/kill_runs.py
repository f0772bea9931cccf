"""Kills runs with SIGKILL at random moments, resumes them, and compares what they end with, byte for byte.

    python tests/kill_runs.py --kills 100                                  # fine-tuning, about 12 minutes of one core
    python tests/kill_runs.py --kills 50 --command pretrain                # pretraining on the same reviews
    python tests/kill_runs.py --kills 50 --command "pretrain --corpus /data/tang.txt --steps 30 --save-every 1"

The command's run is done once undisturbed. Then the same run is begun again and again; a kill comes at a random moment
between the lock and the end, and so often that the run is killed, resumed and killed until it gets through. Prints one
JSON object: kills; where they struck (files found half-written); runs that ended; lost: could not be resumed; corrupt:
a checkpoint was found damaged; different: ended with other bytes. Exit status 1 where one of the last three is not 0.

Compared are all files, of run.json all but `seconds` (its `state` is a hash of weights and optimizer), and report.html
only for being there, as it is full of times.
"""

import argparse
import collections
import hashlib
import importlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = 101  # of the bundled reviews, with the header


def default_command(name: str, directory: Path) -> list[str]:
    """A run of 26 steps that writes a checkpoint after each, so that about half of its time is writing."""
    lines = (ROOT / "minibert" / "assets" / "reviews" / "train.tsv").read_text(encoding="utf-8").splitlines(True)
    data = directory / "reviews.tsv"
    data.write_text("".join(lines[:ROWS]), encoding="utf-8")
    sizes = shlex.split("--batch-size 8 --max-length 32 --vocab-size 300 --device cpu --log-every 1 --save-every 1")
    if name == "train":
        return ["train", "--data", str(data), "--epochs", "2", *sizes]
    texts = directory / "reviews.txt"  # a review is a document
    texts.write_text("\n".join(line.split("\t")[1] for line in lines[1:ROWS]), encoding="utf-8")
    return ["pretrain", "--corpus", str(texts), "--nsp", "off", "--steps", "26", "--eval-every", "9", *sizes]


def launch(arguments: list[str], directory: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "minibert", *arguments]
    return subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def next_arguments(command: list[str], directory: Path) -> list[str]:
    """The same command again as long as there is no record of the run, then --resume."""
    if (directory / "run" / "run.json").is_file():
        return [command[0], "--resume", "run"]
    return [*command, "--out", "run"]


def locked_or_over(process: subprocess.Popen, directory: Path) -> None:
    while process.poll() is None and not (directory / "run" / ".lock").exists():
        time.sleep(0.001)


def undisturbed(command: list[str], directory: Path) -> float:
    """Runs the command to its end. Returns the seconds between lock and end."""
    process = launch(next_arguments(command, directory), directory)
    locked_or_over(process, directory)
    started = time.monotonic()
    _, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the command fails undisturbed:\n{err}")
    return time.monotonic() - started


def contents(directory: Path) -> dict[str, object]:
    """What two runs that ended alike have in common; of files their hash, as pytest compares long ones for minutes."""
    files = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
    files.pop("corpus/.lock", None)  # held by nobody; whoever tokenises into that cache next removes it
    found: dict[str, object] = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    found |= {name: "full of paths" for name in found if name.startswith("corpus") and name.endswith(".json")}
    record = json.loads((directory / "run.json").read_bytes())
    record.pop("seconds", None)
    return found | {"run.json": record, "report.html": "report.html" in found}


def killed_until_done(command: list[str], directory: Path, dice: random.Random, span: float, kills: int) -> dict:
    """One run, killed at most `kills` times."""
    log = collections.Counter(kills=0)
    struck = collections.Counter()
    while True:
        (directory / "run" / ".lock").unlink(missing_ok=True)  # a killed run's, which would look like this one's
        process = launch(next_arguments(command, directory), directory)
        if log["kills"] < kills:
            locked_or_over(process, directory)
            time.sleep(dice.uniform(0, span))
            log["kills"] += process.poll() is None
            process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        log["corrupt"] += "damaged" in err
        if process.returncode == 0 or "the run is complete" in err:
            return {**log, "struck": struck}
        if process.returncode != -signal.SIGKILL:
            print(err, file=sys.stderr)
            return {**log, "struck": struck, "lost": 1}
        struck.update(path.name.split(".")[1].split("-")[0] for path in (directory / "run").glob(".*.*"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", default="train", help="train, pretrain, or one with its options, without --out")
    options = parser.parse_args()
    dice, total, struck = random.Random(options.seed), collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        words = shlex.split(options.command)
        command = words if len(words) > 1 else default_command(words[0], directory)
        (directory / "whole").mkdir()
        span = undisturbed(command, directory / "whole")
        expected = contents(directory / "whole" / "run")
        while total["kills"] < options.kills and total["lost"] == 0:
            place = directory / f"killed-{total['runs']}"
            place.mkdir()
            result = killed_until_done(command, place, dice, span, min(8, options.kills - total["kills"]))
            struck.update(result.pop("struck"))
            total.update({"runs": 1, **result})
            if not result["kills"]:  # it ended before its kill: the machine has become quicker than it was
                span *= 0.8
            total["different"] += not total["lost"] and contents(place / "run") != expected
            print(f"{total['kills']} kills, {total['runs']} runs", file=sys.stderr, flush=True)
    bad = {name: total[name] for name in ("lost", "corrupt", "different")}
    print(json.dumps({"kills": total["kills"], "runs": total["runs"], "found_half_written": dict(struck), **bad}))
    return 1 if any(bad.values()) else 0


# ---- kills at chosen places, for the test suite ----


def killed_in_turn(command: str, places: list[tuple[str, int, str]], options: dict) -> None:
    """One run: begun, killed at the first place, resumed, killed at the second, and so on. Prints how each has ended.

    Call it in a fresh process: each attempt is a fork of this one, which has loaded PyTorch but not yet used it.
    """
    import torch

    importlib.import_module(f"minibert.training.{'fine_tuning' if command == 'train' else 'pretraining'}")
    torch.optim.AdamW([torch.ones(1, requires_grad=True)]).step()  # loads more of PyTorch, for a second
    ends = []
    for place in places:
        begun = Path(options["out"], "run.json").exists()
        if (child := os.fork()) == 0:
            killed_at(command, tuple(place), {"resume": options["out"]} if begun else options)
            os._exit(0)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(ends))


def killed_at(command: str, place: tuple[str, int, str], options: dict) -> None:
    """Runs the command, and kills itself before or after the file `name` gets its name for the nth time (from 0).

    metrics.jsonl is never renamed: half a line is written instead. "remove": before the nth checkpoint is removed.
    """
    from minibert.training import engine  # only in the process that is to die

    module = importlib.import_module(f"minibert.training.{'fine_tuning' if command == 'train' else 'pretraining'}")
    name, number, when = place
    seen = [0]

    def strike(path: object, now: str) -> None:
        hit = Path(path).name.startswith(name) and now == when
        seen[0] += hit
        if hit and seen[0] == number + 1:
            os.kill(os.getpid(), signal.SIGKILL)

    replace, unlink, append = os.replace, Path.unlink, engine.append_metrics

    def replaced(source: object, target: object) -> None:
        strike(target, "before")
        replace(source, target)
        strike(target, "after")

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        strike(path, "remove")
        unlink(path, missing_ok)

    def appended(directory: Path, row: dict) -> int:
        if name == "metrics.jsonl" and seen[0] == number:
            with (directory / name).open("a", encoding="utf-8") as file:
                file.write('{"step": 1, "lo')
            os.kill(os.getpid(), signal.SIGKILL)
        seen[0] += name == "metrics.jsonl"
        return append(directory, row)

    os.replace, Path.unlink, engine.append_metrics = replaced, unlinked, appended
    getattr(module, command)(getattr(module, f"{command.capitalize()}Options")(**options))


if __name__ == "__main__":
    sys.exit(main())
