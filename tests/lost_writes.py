"""Loses what a power cut may lose, repeats the command, and compares what it ends with, byte for byte.

    python tests/lost_writes.py --states 100                     # all commands, about 5 minutes of one core
    python tests/lost_writes.py --states 20 --command predict

POSIX promises a file's content since its last fsync, and names since the last fsync of their directory; of all that
came later any part may be there. While a command runs, such a state of its directory is drawn before each of its
fsyncs, renames and removals. Out of a sample of these states the same command (a run: --resume) has to end with the
bytes of an undisturbed one; and after its end nothing may be lost at all. Prints one JSON object; exit status 1 where
anything is otherwise.
"""

import argparse
import json
import os
import random
import shutil
import stat
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # started as a script

import kill_runs
import processes

COMMANDS = ("train", "pretrain", "predict", "embed", "encode_file")
END = "end"  # the worst state after the end of the command


class Disk:
    """What is surely on the disk of a directory and those in it. Files are told apart by their inodes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.contents: dict[int, bytes] = {}  # at the last fsync
        self.names: dict[int, dict[str, int | bytes]] = {}  # the same of a directory; bytes: of a file that is gone

    def synced(self, number: int) -> None:
        """After the fsync of an open file or directory."""
        path, found = Path(os.readlink(f"/proc/self/fd/{number}")), os.fstat(number)
        if stat.S_ISDIR(found.st_mode):
            self.names[found.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self.contents[found.st_ino] = Path(f"/proc/self/fd/{number}").read_bytes()

    def goes(self, path: Path | str) -> None:
        """Before a file loses its name: its inode may be another's soon."""
        if os.path.isfile(path):
            inode = os.stat(path).st_ino
            content = self.contents.pop(inode, b"")
            for names in self.names.values():
                names.update({name: content for name, known in names.items() if known == inode})

    def crash(self, dice: random.Random | None, target: Path, here: Path | None = None) -> None:
        """Writes a state that a power cut may leave now. dice: None for the worst."""
        here = here or self.root
        target.mkdir()
        live, sure = {entry.name: entry.inode() for entry in os.scandir(here)}, self.names.get(here.stat().st_ino, {})
        for name in sorted({*live, *sure}):
            chosen = dice.choice((live.get(name), sure.get(name))) if dice else sure.get(name)
            if chosen is None:
                continue
            if (here / name).is_dir():
                self.crash(dice, target / name, here / name)
            else:
                (target / name).write_bytes(chosen if isinstance(chosen, bytes) else self.content(dice, chosen))

    def content(self, dice: random.Random | None, inode: int) -> bytes:
        """What may be there of a file: all, what was there at its last fsync, a part of what came since, or that and
        zeros. What has been synced and not been written over stays."""
        sure = self.contents.get(inode, b"")
        now = next((path.read_bytes() for path in self.root.rglob("*") if path.stat().st_ino == inode), sure)
        if sure == now or dice is None:
            return sure
        end = dice.randrange(len(now) + 1)
        part = now[:end] + sure[end:]
        return dice.choice((now, sure, part, part + bytes(max(0, len(now) - len(part)))))


def recorded(words: list[str], place: str, folder: str, seed: int) -> int:
    """Runs a command in a directory, and leaves states of it in `folder`."""
    import races

    disk, dice, number = Disk(Path(place)), random.Random(seed), 0
    fsync = os.fsync

    def keep() -> None:
        nonlocal number
        disk.crash(dice, Path(folder, str(number)))
        number += 1

    def synced(file: int) -> None:
        keep()
        fsync(file)
        disk.synced(file)

    def moves(move: object) -> object:
        def moved(*names: object, **how: object) -> None:
            keep()
            disk.goes(names[-1])
            move(*names, **how)

        return moved

    os.fsync = synced
    for name in ("replace", "rename", "unlink", "remove"):
        setattr(os, name, moves(getattr(os, name)))
    status = races.command(words, place)
    disk.crash(None, Path(folder, END))
    return status


def attempt(name: str, directory: Path, dice: random.Random, states: int) -> list[str]:
    """What is wrong with so many states of a command."""
    words, whole, folder = kill_runs.words_of(name, directory), directory / "whole", directory / "states"
    whole.mkdir()
    folder.mkdir()
    process = processes.start(recorded, kill_runs.with_out(name, words), str(whole), str(folder), dice.randrange(10**6))
    err = process.communicate(timeout=600)[1]
    if process.returncode != 0:
        return [f"{name}: status {process.returncode}: {err}"]
    expected = kill_runs.contents(kill_runs.written(whole))
    end = kill_runs.contents(kill_runs.written(folder / END))  # a journal may still be there
    wrong = [f"{name}: {file} is lost after the end" for file, value in expected.items() if end.get(file) != value]
    kept = sorted(path for path in folder.iterdir() if path.name != END)
    for state in dice.sample(kept, min(states, len(kept))):
        place = Path(shutil.copytree(state, directory / f"again {state.name}"))
        (process,) = kill_runs.launch(name, words, place)
        err = process.communicate(timeout=600)[1]
        if process.returncode != 0 and "the run is complete" not in err:
            wrong.append(f"{name}, state {state.name}: status {process.returncode}: {err}")
        elif kill_runs.contents(kill_runs.written(place)) != expected:
            wrong.append(f"{name}, state {state.name}: ends with other bytes")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", choices=COMMANDS)
    options = parser.parse_args()
    kill_runs.load_early()
    names, wrong = [options.command] if options.command else COMMANDS, []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            wrong += attempt(name, Path(folder), random.Random(f"{options.seed} {name}"), options.states // len(names))
        print(f"{name}: {len(wrong)} wrong", *wrong, sep="\n", file=sys.stderr, flush=True)
    print(json.dumps({"states": options.states, "wrong": len(wrong)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
