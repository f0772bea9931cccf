"""Text files of any size as ids on the disk, to be mapped into memory: one text a line, without [CLS] and [SEP].

    corpus.txt        out/ids.npy                       out/offsets.npy   out/tokens.json
    Née ok\\n          7663 7929                         0                 {"version": 1, "lines": 3, "ids": 7,
    \\n                                                  2                  "tokenizer": {"vocab_sha256": ...},
    naïvely, 北京\\n   15743 2135 1010 1781 1755         2                  "sources": [{"name": "corpus.txt", ...}]}
                                                        7

Text i is ids[offsets[i]:offsets[i + 1]]. An empty line is an empty text, so that documents which blank lines separate
can still be told apart. Only "\\n" ends a line; the "\\r" of "\\r\\n" is white space to the tokenizer, as is U+2028.

The text goes through in pieces of about CHUNK characters, cut behind a line's end, or inside a line where the tokenizer
may be cut: its row then goes on in the next piece. So memory is bounded whatever the length of the file and its lines;
one word without end alone is held whole. The files do not depend on CHUNK or on the number of processes.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from tqdm import tqdm

from minibert.core.encoding import Flat
from minibert.core.files import atomic_write, read_json
from minibert.io.rows import checked_paths, not_utf8

IDS, OFFSETS, INFO = "ids.npy", "offsets.npy", "tokens.json"
VERSION = 1  # of the three files together
CHUNK = 1 << 20  # bytes read at once, and characters encoded at once


Reader = Callable[[Path, Callable[[int], object]], Iterator[str]]


class FlatEncoder(Protocol):
    """What is asked of a tokenizer; for several processes it must be picklable too."""

    vocab: list[str]
    lowercase: bool
    strip_accents: bool | None
    tokenize_chinese_chars: bool
    special_tokens: Mapping[str, str]
    extra_special_tokens: Sequence[str]

    def encode_flat(self, texts: list[str]) -> Flat: ...

    def border(self, text: str, position: int) -> int: ...


@dataclass(frozen=True, eq=False)
class TokenFile:
    """N texts of T ids in all, mapped from a directory that `write` has made.

    ids: uint16 or int32 [T]. offsets: int64 [N + 1]. info: what tokens.json says.
    """

    directory: Path
    ids: NDArray[np.integer]
    offsets: NDArray[np.int64]
    info: dict

    @classmethod
    def open(cls, directory: str | Path) -> TokenFile:
        """Raises ValueError if a file is missing or broken, is of another version, or does not fit the others."""
        directory = Path(directory)
        remedy = "encode the text again"
        info = read_json(directory / INFO, remedy)
        if not isinstance(info, dict) or info.get("version") != VERSION:
            raise ValueError(f"{directory / INFO}: not of version {VERSION} of this format; {remedy}")
        try:
            ids, offsets = (npy.open_memmap(directory / name, mode="r") for name in (IDS, OFFSETS))
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{directory}: {IDS} or {OFFSETS} cannot be mapped ({error}); {remedy}") from None
        if not _fit(info, ids, offsets):
            raise ValueError(f"{directory}: {IDS}, {OFFSETS} and {INFO} are not of one writing; {remedy}")
        return cls(directory, ids, offsets, info)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.integer]:
        """The ids of one text [S], a view; counted from the end if index < 0."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        begin, end = self.offsets[index % len(self) :][:2]
        return self.ids[begin:end]

    def __reduce__(self) -> tuple:
        """Another process maps the files itself."""
        return TokenFile.open, (self.directory,)

    def check(self, tokenizer: FlatEncoder) -> None:
        """Raises ValueError if another tokenizer made these ids."""
        made, asked = self.info["tokenizer"], description(tokenizer)
        if different := sorted(key for key in asked if made.get(key) != asked[key]):
            raise ValueError(
                f"{self.directory}: made by another tokenizer ({', '.join(different)} differ); "
                f"use that one, or encode the text again"
            )


def _fit(info: dict, ids: NDArray, offsets: NDArray) -> bool:
    tokenizer, counts = info.get("tokenizer"), (info.get("ids"), info.get("lines"))
    return (
        isinstance(tokenizer, dict)
        and isinstance(size := tokenizer.get("vocab_size"), int)
        and (ids.dtype, offsets.dtype) == (_id_type(size), np.int64)
        and (ids.ndim, offsets.ndim) == (1, 1)
        and (len(ids), len(offsets) - 1) == counts
        and (offsets[0], offsets[-1]) == (0, len(ids))
    )


def _id_type(vocab_size: int) -> np.dtype:
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<i4")


def description(tokenizer: FlatEncoder) -> dict[str, object]:
    """All that the ids depend on. The hash is that of vocab.txt with "\\n" behind every token."""
    vocab = "".join(f"{token}\n" for token in tokenizer.vocab).encode(errors="surrogatepass")
    return {
        "vocab_size": len(tokenizer.vocab),
        "vocab_sha256": hashlib.sha256(vocab).hexdigest(),
        "lowercase": tokenizer.lowercase,
        "strip_accents": tokenizer.lowercase if tokenizer.strip_accents is None else tokenizer.strip_accents,
        "tokenize_chinese_chars": tokenizer.tokenize_chinese_chars,
        "special_tokens": dict(tokenizer.special_tokens),
        "extra_special_tokens": list(tokenizer.extra_special_tokens),
    }


# --- Writing ----------------------------------------------------------------------------------------------------------


def write(
    tokenizer: FlatEncoder,
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    processes: int = 1,
    read: Reader | None = None,
    between: str = "",
) -> TokenFile:
    """Encodes the lines of UTF-8 files, one file after the other, into the directory `out`, whole or not at all.

    An `out` that holds a former result is replaced when the new one is complete. With several processes, call this
    under `if __name__ == "__main__":` (each begins by importing the program anew).

    read: gives the text of a file in stretches (default: as it stands there), and tells of the bytes it has read.
    between: what follows the last line of every file.

    Raises ValueError for a file that is missing, no file or not UTF-8, for an `out` that holds anything else, and for
    processes < 1, or more where semaphores cannot be made; OSError if the disk is full.
    """
    if processes < 1:
        raise ValueError(f"processes {processes}: at least 1 must do the work")
    paths, out = checked_paths(paths), _checked_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir()
        _write_files(tokenizer, paths, temporary, processes, read or decoded, between)
        _move_into_place(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # after an error; otherwise it has moved
    return TokenFile.open(out)


def _checked_out(out: str | Path) -> Path:
    path = Path(out).resolve()  # through a link, and "." gets its name
    if path.exists() and not path.is_dir():
        raise ValueError(f"{out}: a file, but a directory is to be written; choose another name")
    names = set(os.listdir(path)) if path.exists() else set()
    if names and not {INFO} <= names <= {IDS, OFFSETS, INFO}:
        raise ValueError(f"{out}: holds other files than an encoded text's; choose a new directory")
    return path


def _write_files(
    tokenizer: FlatEncoder, paths: list[Path], directory: Path, processes: int, read: Reader, between: str
) -> None:
    total = sum(path.stat().st_size for path in paths)
    with (
        _Column(directory / IDS, _id_type(len(tokenizer.vocab))) as ids,
        _Column(directory / OFFSETS, np.dtype("<i8")) as offsets,
        tqdm(total=total, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar,
        contextlib.closing(_pieces(tokenizer, (read(path, bar.update) for path in paths), between)) as pieces,
        contextlib.closing(_encoded(tokenizer, pieces, processes)) as flats,
    ):
        offsets.append(np.zeros(1))
        for flat in flats:
            ends = ids.length + np.cumsum(flat.lengths)
            offsets.append(ends[:-1])  # the last line goes on in the next piece
            ids.append(flat.ids)
    info = {
        "version": VERSION,
        "lines": offsets.length - 1,
        "ids": ids.length,
        "tokenizer": description(tokenizer),
        "sources": [{"name": str(path), "bytes": path.stat().st_size} for path in paths],
    }
    atomic_write(directory / INFO, (json.dumps(info, indent=2) + "\n").encode())


def _move_into_place(temporary: Path, out: Path) -> None:
    """A former result steps aside, and back if the new one cannot take its place."""
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        if out.exists():
            out.rename(old)
        temporary.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(old, ignore_errors=True)


class _Column:
    """A one-dimensional .npy file that grows. Its header has room for any length, which is written in at the end."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self.length = 0
        self._dtype = dtype
        self._file = open(path, "xb")  # noqa: SIM115 (closed by __exit__)
        self._begin = self._write_header()

    def __enter__(self) -> _Column:
        return self

    def append(self, values: NDArray) -> None:
        self._file.write(np.ascontiguousarray(values, self._dtype))
        self.length += len(values)

    def _write_header(self) -> int:
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self.length,)}
        self._file.seek(0)
        npy.write_array_header_1_0(self._file, header)
        return self._file.tell()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if kind is None:
                end = self._write_header()
                assert end == self._begin, f"the header has grown from {self._begin} to {end} bytes"
                self._file.flush()
                os.fsync(self._file.fileno())


# --- Pieces of text ---------------------------------------------------------------------------------------------------


def _pieces(tokenizer: FlatEncoder, texts: Iterable[Iterator[str]], between: str) -> Iterator[str]:
    """The files' texts, cut where the tokenizer may be. Every file's last line ends with "\\n"."""
    for stretches in texts:
        held, length, wanted = [], 0, CHUNK
        for text in stretches:
            held.append(text)
            length += len(text)
            if length < wanted:
                continue
            text = "".join(held)
            end = _last_border(text, tokenizer)
            if end:
                yield text[:end]
            held, length = [text[end:]], len(text) - end
            wanted = max(CHUNK, 2 * length)  # doubled, so that a word without end is not copied at every read
        if length:
            text = "".join(held)
            yield text if text.endswith("\n") else text + "\n"
        if between:
            yield between


def _last_border(text: str, tokenizer: FlatEncoder) -> int:
    """Behind the last line's end, else between two units in the second half, else 0."""
    if end := text.rfind("\n") + 1:
        return end
    end = tokenizer.border(text, max(1, len(text) // 2))
    return end if end < len(text) else 0


def decoded(path: Path, tell: Callable[[int], object]) -> Iterator[str]:
    """The file's characters, a stretch for every CHUNK bytes.

    Raises ValueError, with the line, where they are not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line, data = 1, b" "
    with open(path, "rb") as file:
        while data:
            data = file.read(CHUNK)
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                line += error.object.count(b"\n", 0, error.start)
                raise ValueError(f"{path}:{line}: {not_utf8(error.object[error.start])}") from None
            line += text.count("\n")
            tell(len(data))
            yield text


# --- Encoding, here or in other processes -----------------------------------------------------------------------------


def _encoded(tokenizer: FlatEncoder, pieces: Iterator[str], processes: int) -> Iterator[Flat]:
    """Each piece's lines, in order; what stands behind the last "\\n" is a line too."""
    if processes == 1:
        yield from (_encode(tokenizer, piece) for piece in pieces)
        return
    try:
        pool = ProcessPoolExecutor(processes, get_context("spawn"), _start_worker, (tokenizer,))
    except OSError as error:
        raise ValueError(
            f"processes {processes}: they share semaphores, which cannot be made here ({error.strerror}); make /dev/shm"
            " writable, or use processes=1"
        ) from None
    window: deque[Future[Flat]] = deque()  # bounded: reading does not run away from encoding
    try:
        for piece in pieces:
            window.append(pool.submit(_encode_in_worker, piece))
            if len(window) == 2 * processes:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    except BrokenProcessPool:
        raise ValueError(
            'a worker process has died: call this under `if __name__ == "__main__":`, or use processes=1 '
            "if memory is short"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _encode(tokenizer: FlatEncoder, piece: str) -> Flat:
    flat = tokenizer.encode_flat(piece.split("\n"))
    return flat._replace(ids=flat.ids.astype(_id_type(len(tokenizer.vocab))))


_worker: list[FlatEncoder] = []  # in a worker process: its tokenizer


def _start_worker(tokenizer: FlatEncoder) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer: it ends the workers
    _worker.append(tokenizer)


def _encode_in_worker(piece: str) -> Flat:
    return _encode(_worker[0], piece)
