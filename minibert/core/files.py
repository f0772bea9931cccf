"""Whole files: written completely or not at all; UTF-8 text and JSON, read with an error that names the file."""

import contextlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

LIMIT = 12_000_000  # bytes of a vocabulary, of settings: LaBSE's tokenizer.json, of 501,153 tokens, has 9.6 million


def atomic_write(path: Path | str, data: bytes | Callable[[BinaryIO], object]) -> None:
    """Writes bytes, or what a function writes to the open file it is given, under another name, then renames the file.

    Whoever reads `path` sees the old file or the new one, never a part. A new file's permissions follow the umask, an
    old one's stay. A symbolic link is replaced: what it points to may be shared, as in the hub's cache.

    Raises OSError where the directory cannot be written or the disk is full; the old file then still stands.
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
        sync_directory(path.parent)
    except BaseException:  # Ctrl-C too: no temporary file stays behind
        with contextlib.suppress(OSError):  # the first error is the one to tell
            os.unlink(temporary)
        raise


def sync_directory(directory: Path) -> None:
    """Puts the names in a directory on the disk: after a power failure a renamed file may else have its old name."""
    with contextlib.suppress(OSError):  # Windows opens no directories, and some file systems sync none
        number = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def json_bytes(value: object) -> bytes:
    """Indented, for people to read."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")


def write_json(path: Path, value: object) -> None:
    atomic_write(path, json_bytes(value))


def read_text(path: Path, remedy: str, limit: float = LIMIT) -> str:
    """A UTF-8 file without its byte order mark. Raises ValueError, ending in `remedy`: it is missing, no regular file
    (a pipe or a device would be read without end), of more bytes than the limit, or not UTF-8."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: is no regular file; {remedy}")
    if path.is_file() and (size := path.stat().st_size) > limit:
        raise ValueError(f"{path}: {size} bytes, more than the limit of {limit}; {remedy}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}; {remedy}") from None
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        convert = "convert the file (GBK is common for Chinese: iconv -f GBK -t UTF-8)"
        raise ValueError(f"{path}:{line}: byte 0x{byte:02x} is not UTF-8; {convert}, or {remedy}") from None


def read_object(path: Path, remedy: str = "copy it again", needed: bool = True) -> dict:
    """What a JSON file holds, or, where it need not be there, {}. Raises ValueError: as read_json does; no object."""
    found = read_json(path, remedy) if needed or path.exists() else {}
    if not isinstance(found, dict):
        raise ValueError(f"{path}: must hold a JSON object, not {type(found).__name__}; {remedy}")
    return found


def read_json(path: Path, remedy: str) -> object:
    """What a JSON file holds. Raises ValueError, ending in `remedy`: as read_text does; not JSON."""
    text = read_text(path, remedy)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a JSONDecodeError, or a number of thousands of digits
        raise ValueError(f"{path}: not JSON ({error}); is the file damaged? {remedy}") from None
