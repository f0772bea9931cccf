"""One output, one writer: a lock that the system releases when its process ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from minibert.core.files import sync_directory
from minibert.io.stderr import say

LOCK = ".lock"  # in a directory that is written


@contextmanager
def held(out: Path, lock: Path | None = None) -> Iterator[None]:
    """Holds the lock of an output, by default a file beside it, and removes it in the end. On NFS other machines see
    it too.

    Raises:
        ValueError: another process holds it.
    """
    path = lock or out.with_name(f".{out.name}{LOCK}")
    taken = FileLock(path)
    take(taken, out)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            os.unlink(path)
        taken.release()


@contextmanager
def held_directory(directory: Path, reserved: bool = False) -> Iterator[None]:
    """Makes a directory and holds its lock; in the end removes the directories that it made if nothing came into them.
    reserved: the directory and the one around it count as made here. ValueError: as held."""
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    made = [directory, directory.parent] if reserved else made
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in made:
            sync_directory(path.parent)
        with held(directory, directory / LOCK):
            yield
    finally:
        with suppress(OSError):  # one holds something
            for path in made:
                path.rmdir()


def take(lock: FileLock, out: Path) -> None:
    """Takes the lock at once; where the file system has none, says so and goes on."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reason = "another process is writing there; wait for it, or choose another --out"
        raise ValueError(f"{out}: {reason}") from None
    except (OSError, NotImplementedError) as error:
        say(f"{out}: cannot be locked ({error}); see that no second run writes there")
