"""Starts pairs of commands with one output, 0 to 0.3 s apart, and looks who has written it.

    python tests/races.py --pairs 200      # about 10 minutes of one core

Of a pair that runs at once one command ends with status 0 and the output is its own, byte for byte; the other says in
one line why not, status 2. `train` and `pretrain` without --out each get a directory of their own. `vocab` and token
files replace what is there: after two in a row it is the second's. Prints one JSON object; exit status 1 where anything
is otherwise.
"""

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # started as a script

import kill_runs
import processes
import torch

from minibert import Tokenizer
from minibert.core.config import BertConfig
from minibert.fast.models import BertForSequenceClassification
from minibert.text.token_file import write

COMMANDS = ("predict", "embed", "vocab", "encode_file", "train", "pretrain", "train --out", "pretrain --out")
REPLACING = ("vocab", "encode_file")
SMALL = ("--device", "cpu", "--batch-size", 8, "--max-length", 16, "--vocab-size", 60)
WORDS = ("good room", "bad film", "clean house", "dull day")


def command(words: list[str], directory: str) -> int:
    """A command in a directory of its own; `encode_file` has none and is called."""
    os.chdir(directory)
    if words[0] != "encode_file":
        from minibert import cli

        return cli.main(words)
    try:
        write(Tokenizer.from_pretrained("bundled"), words[1], words[2])
    except (ValueError, OSError) as error:
        print(f"minibert: {error}", file=sys.stderr)
        return 2
    return 0


class Course:
    """Data, and what each command makes of it alone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.alone: dict[tuple[str, int], str] = {}
        torch.manual_seed(0)
        tokenizer = Tokenizer.from_pretrained("bundled")
        sizes = dict(hidden_size=16, num_attention_heads=2, intermediate_size=16, num_hidden_layers=1)
        config = BertConfig(vocab_size=tokenizer.vocab_size, id2label={0: "no", 1: "yes"}, **sizes)
        BertForSequenceClassification(config).save_pretrained(directory / "model")
        tokenizer.save_pretrained(directory / "model")
        for who in range(2):
            rows = [f"{WORDS[(row + who) % 4]} {who} {row}" for row in range(60)]
            table = [f"{('yes', 'no')[row % 2]}\t{text}\n" for row, text in enumerate(rows)]
            (directory / f"{who}.tsv").write_text("label\ttext\n" + "".join(table), encoding="utf-8")
            (directory / f"{who}.txt").write_text("\n\n".join(rows), encoding="utf-8")

    def words(self, name: str, who: int) -> list[str]:
        """The command of one of the two, with the output `out` where it is told one."""
        table, text = (str(self.directory / f"{who}.{ending}") for ending in ("tsv", "txt"))
        known = {
            "predict": ["predict", self.directory / "model", "--data", table, "--out", "out.tsv"],
            "embed": ["embed", self.directory / "model", "--data", table, "--out", "out.npy"],
            "vocab": ["vocab", text, "--size", 60, "--out", "out"],
            "encode_file": ["encode_file", text, "out"],
            "train": ["train", "--data", table, "--epochs", 1, "--seed", who, *SMALL],
            "pretrain": ["pretrain", "--corpus", text, "--nsp", "off", "--steps", 2, "--seed", who, *SMALL],
        }
        return [str(word) for word in known[name.split()[0]]] + ["--out", "out"] * name.endswith("--out")

    def start(
        self, name: str, who: int, place: Path, words: list[str] | None = None, file_size: int | None = None
    ) -> processes.Process:
        """words: of another command. file_size: as processes.start has it."""
        return processes.start(command, words or self.words(name, who), str(place), file_size=file_size)

    def expected(self, name: str, who: int) -> str:
        if (name, who) not in self.alone:
            place = self.directory / f"alone {name} {who}"
            place.mkdir()
            process = self.start(name, who, place)
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            self.alone[name, who] = next(iter(outputs(place).values()))
        return self.alone[name, who]

    def pair(self, name: str, number: int, dice: random.Random) -> list[str]:
        """Two at once. Returns what was wrong."""
        expected = [self.expected(name, who) for who in range(2)]
        place = self.directory / f"{name} {number}"
        place.mkdir()
        started = [self.start(name, 0, place)]
        time.sleep(dice.uniform(0, 0.3))
        started.append(self.start(name, 1, place))
        said = [process.communicate(timeout=120)[1] for process in started]
        status = [process.returncode for process in started]
        found, wrong = outputs(place), []
        for who in range(2):
            refused = said[who].splitlines()[-1:] if status[who] == 2 else []
            if status[who] not in (0, 2) or "Traceback" in said[who]:
                wrong.append(f"{name}: status {status[who]}: {said[who]}")
            elif refused and not any(w in refused[0] for w in ("another process", "already")):
                wrong.append(f"{name}: {refused[0]}")
        ended = [expected[who] for who in range(2) if status[who] == 0]
        shared = name not in ("train", "pretrain")
        several = shared and name not in REPLACING and len(ended) != 1
        lost = not shared and Counter(found.values()) != Counter(expected)
        if several or lost or not ended or not set(found.values()) <= set(ended):
            wrong.append(f"{name}: status {status}, and {len(found)} outputs: {said}")
        if stray := [path.name for path in place.rglob("*") if path.name.endswith((".lock", ".partial", ".journal"))]:
            wrong.append(f"{name}: left {stray}")
        return wrong


def outputs(place: Path) -> dict[str, str]:
    """Name -> hash of every output: a file, or a directory of those files that tell whose they are."""
    runs = place / "runs"
    found = {}
    for path in sorted((runs if runs.is_dir() else place).iterdir()):
        files = sorted(path.glob("*")) if path.is_dir() else [path]
        kept = [file for file in files if file.suffix in (".safetensors", ".txt", ".npy", ".tsv", ".jsonl")]
        found[path.name] = hashlib.sha256(b"".join(file.read_bytes() for file in kept)).hexdigest()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kill_runs.load_early()
    dice, wrong = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as folder:
        course = Course(Path(folder))
        for number in range(options.pairs):
            wrong += course.pair(COMMANDS[number % len(COMMANDS)], number, dice)
            print(f"{number + 1} pairs, {len(wrong)} wrong", file=sys.stderr, flush=True)
    print(*wrong, sep="\n", file=sys.stderr)
    print(json.dumps({"pairs": options.pairs, "wrong": len(wrong)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
