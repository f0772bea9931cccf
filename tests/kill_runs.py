"""Kills commands with SIGKILL at random moments, repeats them, and compares what they end with, byte for byte.

    python tests/kill_runs.py --kills 200                      # all commands in turn, about 10 minutes of one core
    python tests/kill_runs.py --kills 50 --command pretrain    # one of them

A command is done once undisturbed. Then it is begun again and again; a kill comes at a random moment between the lock
and the end, and so often that it is killed, repeated (a run: resumed) and killed until it gets through. "train, two
ranks" are two processes of one run, killed together. Prints one JSON object: kills; where they struck (files found
half-written); runs that ended; lost: could not be resumed; corrupt: a checkpoint was found damaged; different: ended
with other bytes. Exit status 1 where one of the last three is not 0.

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
import socket
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # started as a script

import processes

ROOT = Path(__file__).parents[1]
ROWS = 101  # of the bundled reviews, with the header
RANKS = {"train, two ranks": 2}
COMMANDS = ("train", "pretrain", "predict", "embed", "encode_file", *RANKS)
LOADED = ("minibert.training.fine_tuning", "minibert.training.pretraining", "minibert.inference.jobs", "torch._dynamo")


def words_of(name: str, directory: Path) -> list[str]:
    """The command, without the directory or file that it writes: half of its time is writing."""
    lines = (ROOT / "minibert" / "assets" / "reviews" / "train.tsv").read_text(encoding="utf-8").splitlines(True)
    data, texts = directory / "reviews.tsv", directory / "reviews.txt"
    data.write_text("".join(lines[:ROWS]), encoding="utf-8")
    reviews = [line.split("\t")[1] for line in lines[1:ROWS]]
    texts.write_text("\n".join(reviews * (20 if name == "encode_file" else 1)), encoding="utf-8")  # each is a document
    sizes = shlex.split("--batch-size 8 --max-length 32 --vocab-size 300 --device cpu --log-every 1 --save-every 1")
    small = ["--layers", "1", "--width", "64"]
    if name.startswith("train"):
        return ["train", "--data", str(data), "--epochs", "2", *sizes]
    if name == "pretrain":
        return [
            "pretrain",
            "--corpus",
            str(texts),
            "--nsp",
            "off",
            "--steps",
            "26",
            "--eval-every",
            "9",
            *sizes,
            *small,
        ]
    if name == "encode_file":
        return ["encode_file", str(texts)]
    import races

    model = races.Course(directory).directory / "model"
    return [name, str(model), "--data", str(data), "--tokens-per-batch", "64", "--device", "cpu"]


def with_out(name: str, words: list[str]) -> list[str]:
    out = {"predict": ["--out", "out.tsv"], "embed": ["--out", "out.npy"], "encode_file": ["out"]}
    return [*words, *out.get(name, ["--out", "run"])]


def load_early() -> None:
    """Has what the commands need loaded once, and not by each process."""
    processes.SERVER.set_forkserver_preload(["pytest", "torch", "torch.distributed", *LOADED])


def launch(name: str, words: list[str], place: Path) -> list[processes.Process]:
    """The processes of the command: once more, or of a run that has begun --resume."""
    import races

    words = [words[0], "--resume", "run"] if (place / "run" / "run.json").is_file() else with_out(name, words)
    if name not in RANKS:
        return [processes.start(races.command, words, str(place))]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(RANKS[name])}
    ranks = [{**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(RANKS[name])]
    return [processes.start(races.command, words, str(place), environment=rank) for rank in ranks]


def locked_or_over(process: processes.Process, place: Path) -> None:
    while process.poll() is None and not any(place.rglob(".*lock")):
        time.sleep(0.001)


def said_by(started: list[processes.Process]) -> str:
    return "".join(process.communicate(timeout=600)[1] for process in started)


def undisturbed(name: str, words: list[str], place: Path) -> float:
    """Runs the command to its end. Returns the seconds between lock and end."""
    started = launch(name, words, place)
    locked_or_over(started[0], place)
    begin = time.monotonic()
    err = said_by(started)
    if started[0].returncode != 0:
        raise SystemExit(f"the command fails undisturbed:\n{err}")
    return time.monotonic() - begin


def contents(directory: Path) -> dict[str, object]:
    """What two runs that ended alike have in common; of files their hash, as pytest compares long ones for minutes."""
    files = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
    files.pop("corpus/.lock", None)  # held by nobody; whoever tokenises into that cache next removes it
    found: dict[str, object] = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    found |= {name: "full of paths" for name in found if name.startswith("corpus") and name.endswith(".json")}
    if "run.json" not in files:
        return found
    record = json.loads((directory / "run.json").read_bytes())
    for name in ("seconds", "directory"):
        record.pop(name, None)
    return found | {"run.json": record, "report.html": "report.html" in found}


def written(place: Path) -> Path:
    """The directory that a command has filled."""
    return place / "run" if (place / "run").is_dir() else place


def killed_until_done(name: str, words: list[str], place: Path, dice: random.Random, span: float, kills: int) -> dict:
    """One run, killed at most `kills` times."""
    log = collections.Counter(kills=0)
    struck = collections.Counter()
    while True:
        for lock in [*place.rglob(".*lock")]:  # a killed run's, which would look like this one's
            lock.unlink()
        started = launch(name, words, place)
        if log["kills"] < kills:
            locked_or_over(started[0], place)
            time.sleep(dice.uniform(0, span))
            log["kills"] += started[0].poll() is None
            for process in started:
                process.kill()
        err = said_by(started)
        log["corrupt"] += "damaged" in err
        if started[0].returncode == 0 or "the run is complete" in err:
            return {**log, "struck": struck}
        if started[0].returncode != -signal.SIGKILL:
            print(err, file=sys.stderr)
            return {**log, "struck": struck, "lost": 1}
        struck.update(path.name.split(".")[1].split("-")[0] for path in place.rglob(".*.*"))


def kill(name: str, words: list[str], directory: Path, dice: random.Random, kills: int) -> collections.Counter:
    """So many kills of a command."""
    total = collections.Counter()
    (directory / "whole").mkdir()
    span = undisturbed(name, words, directory / "whole")
    expected = contents(written(directory / "whole"))
    while total["kills"] < kills and total["lost"] == 0:
        place = directory / f"killed-{total['runs']}"
        place.mkdir()
        result = killed_until_done(name, words, place, dice, span, min(8, kills - total["kills"]))
        if not result["kills"]:  # it ended before its kill: the machine has become quicker than it was
            span *= 0.8
        total.update(result.pop("struck"))
        total.update({"runs": 1, **result})
        total["different"] += not total["lost"] and contents(written(place)) != expected
        print(f"{name}: {total['kills']} kills, {total['runs']} runs", file=sys.stderr, flush=True)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", help=f"one of {'; '.join(COMMANDS)}; or train or pretrain with its options")
    options = parser.parse_args()
    load_early()
    dice, total = random.Random(options.seed), collections.Counter(kills=0, runs=0, lost=0, corrupt=0, different=0)
    names = [options.command] if options.command else COMMANDS
    for number, name in enumerate(names):
        kills = options.kills * (number + 1) // len(names) - options.kills * number // len(names)
        with tempfile.TemporaryDirectory() as folder:
            words = words_of(name, Path(folder)) if name in COMMANDS else shlex.split(name)
            total.update(kill(name, words, Path(folder), dice, kills))
    counts = {name: total.pop(name) for name in ("kills", "runs", "lost", "corrupt", "different")}
    print(json.dumps({**counts, "found_half_written": dict(total)}))
    return 1 if counts["lost"] or counts["corrupt"] or counts["different"] else 0


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
