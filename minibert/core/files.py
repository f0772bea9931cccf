"""Whole files: written completely or not at all, and JSON read with an error that names the file."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

JSON_LIMIT = 100_000_000  # bytes; the settings and indices of a model directory are a few kilobytes


def atomic_write(path: Path | str, data: bytes | Callable[[BinaryIO], object]) -> None:
    """Writes to a temporary name beside `path`, forces it to the disk, then renames it into place.

    data: the bytes, or a function that writes them to the open file it is given.

    Whoever reads `path` sees the old file or the new one, never a part; a full disk leaves the old one standing. As
    with an ordinary open(), a new file's permissions follow the umask and an old one's stay. A symbolic link is
    replaced, not written through: what it points to may be shared, as in the hub's cache.

    Raises:
        OSError: the directory cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                data(file)
            file.flush()
            os.fsync(file.fileno())
        if path.is_file() and not path.is_symlink():
            os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too: no temporary file stays behind
        with contextlib.suppress(OSError):  # the first error is the one to tell
            os.unlink(temporary)
        raise


def json_bytes(value: object) -> bytes:
    """Indented, for people to read."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")


def write_json(path: Path, value: object) -> None:
    atomic_write(path, json_bytes(value))


def read_json(path: Path, remedy: str) -> object:
    """What a JSON file holds; `remedy` tells what to do when there is none.

    Raises:
        ValueError: the file is missing, cannot be read, is far too large, or is not UTF-8 JSON.
    """
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise ValueError(f"{path}: {path.stat().st_size} bytes, more than the limit of {JSON_LIMIT}; {remedy}")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); is the file damaged? {remedy}") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}; {remedy}") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise ValueError(f"{path}: not JSON ({error}); is the file damaged? {remedy}") from None
