"""Opening text files: as they are, or unpacked where they are gzip; what holds no text is refused by its name."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path
from typing import BinaryIO, TextIO

GZIP = b"\x1f\x8b"
FREE, MOST = 1 << 27, 100  # bytes that any gzip may hold, and how many times its own size beyond that
BLOCK = 1 << 17  # bytes
SAVED = "save it as .csv or .jsonl by the program that wrote it"
OTHERS = {  # how they begin -> what they are, what to do
    b"PK\x03\x04": ("a zip archive or an Excel workbook", "unpack it, or save it as CSV UTF-8"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "save it as CSV UTF-8"),
    b"PAR1\x15": ("a Parquet file", SAVED),
    b"ARROW1\0": ("an Arrow file", SAVED),
    b"SQLite format 3\0": ("a database", SAVED),
    b"\xfd7zXZ\0": ("packed by xz", "unpack it"),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", "unpack it"),
    b"BZh91AY&SY": ("packed by bzip2", "unpack it"),
}


def ending_of(path: Path) -> str:
    """ ".csv" of train.csv, and of train.csv.gz."""
    name = Path(path.stem) if path.suffix.lower() == ".gz" else path
    return name.suffix.lower()


def opened(path: Path) -> BinaryIO:
    """The bytes of a file; of a gzip those that it holds, told by how it begins.

    Raises ValueError: it is none of text; OSError, also while it is read: a gzip is damaged, or a bomb.
    """
    file = open(path, "rb")  # noqa: SIM115 (the caller closes it)
    head = file.peek(16)
    if head.startswith(GZIP):
        return io.BufferedReader(Unpacked(path, file), BLOCK)
    if found := next((found for begin, found in OTHERS.items() if head.startswith(begin)), None):
        file.close()
        raise ValueError(f"{path}: is {found[0]}, no text; {found[1]}")
    return file


def opened_text(path: Path, encoding: str, newline: str | None = "") -> TextIO:
    """A broken byte of UTF-8 costs its row; in the others there is none, `encoding_of` has seen to it."""
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    return io.TextIOWrapper(opened(path), encoding, errors, newline)


class Unpacked(io.RawIOBase):
    """What a gzip file holds, as it is read. Raises OSError: it is damaged, or holds far more than text would."""

    def __init__(self, path: Path, packed: BinaryIO) -> None:
        self.path, self.packed, self.file, self.size = path, packed, gzip.GzipFile(fileobj=packed), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        try:
            count = self.file.readinto(buffer)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise gzip.BadGzipFile(f"{self.path}: its gzip data is cut off or damaged; copy the file again") from None
        self.size += count
        if self.size > max(FREE, MOST * os.fstat(self.packed.fileno()).st_size):
            times = f"holds more than {FREE} bytes and {MOST} times its size"
            raise gzip.BadGzipFile(f"{self.path}: {times}; if it is to be read, unpack it: gunzip {self.path}")
        return count

    def close(self) -> None:
        self.file.close()
        self.packed.close()
        super().close()
