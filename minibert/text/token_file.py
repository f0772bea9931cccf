"""Text files of any size as ids on the disk, to be mapped into memory: one text a line, without [CLS] and [SEP].

    corpus.txt        out/ids.npy                       out/offsets.npy   out/tokens.json
    Née ok\n          7663 7929                         0                 {"version": 1, "lines": 3, "ids": 7,
    \n                                                  2                  "tokenizer": {"vocab_sha256": ...},
    naïvely, 北京\n   15743 2135 1010 1781 1755         2                  "sources": [{"name": "corpus.txt", ...}]}
                                                        7

Text i is ids[offsets[i]:offsets[i + 1]]. An empty line is an empty text, so that documents which blank lines separate
can still be told apart. Only "\n" ends a line; the "\r" of "\r\n" is white space to the tokenizer, as is U+2028.

About CHUNK characters are held at once, or one line if that is longer. The files do not depend on CHUNK or on the
number of processes. The encoding is judged as that of all files, and gzip is unpacked.
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
from functools import partial
from glob import escape
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from tqdm import tqdm

from minibert.core.encoding import Flat
from minibert.core.files import atomic_write, read_json, sync_directory
from minibert.io.encodings import TO_UTF8, encoding_of, not_utf8
from minibert.io.locks import held
from minibert.io.opening import opened
from minibert.io.rows import LONGEST, checked_paths
from minibert.io.stderr import say

IDS, OFFSETS, INFO = "ids.npy", "offsets.npy", "tokens.json"
VERSION = 1  # of the three files together
CHUNK = 1 << 20  # bytes read at once, and characters encoded at once

Reader = Callable[[Path, Callable[[int], object]], Iterator[list[str]]]


class FlatEncoder(Protocol):
    """What is asked of a tokenizer; for several processes it must be picklable too."""

    vocab: list[str]
    lowercase: bool
    strip_accents: bool | None
    tokenize_chinese_chars: bool
    special_tokens: Mapping[str, str]
    extra_special_tokens: Sequence[str]
    added_tokens: Sequence[tuple]
    pieces: Mapping[str, int]

    def encode_flat(self, texts: list[str]) -> Flat: ...


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
        if different := sorted(key for key in made | asked if made.get(key) != asked.get(key)):
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
    found = {
        "vocab_size": len(tokenizer.vocab),
        "vocab_sha256": hashlib.sha256(vocab).hexdigest(),
        "lowercase": tokenizer.lowercase,
        "strip_accents": tokenizer.lowercase if tokenizer.strip_accents is None else tokenizer.strip_accents,
        "tokenize_chinese_chars": tokenizer.tokenize_chinese_chars,
        "special_tokens": dict(tokenizer.special_tokens),
        "extra_special_tokens": list(tokenizer.extra_special_tokens),
    }
    if tokenizer.added_tokens or len(tokenizer.pieces) < len(tokenizer.vocab):  # seldom: older files have no such entry
        found |= {"added_tokens": [list(token) for token in tokenizer.added_tokens], "pieces": len(tokenizer.pieces)}
    return found


# --- Writing ----------------------------------------------------------------------------------------------------------


def lines_of(
    path: Path, tell: Callable[[int], object], asked: str | None = None, way: str = TO_UTF8, end: str = "\n"
) -> Iterator[list[str]]:
    """The file's lines, so many at once that they fill CHUNK bytes.

    tell: is told of the bytes that have been read. asked: see `encoding_of`; what is no regular file can be read once
    only, and is UTF-8. way: to what a file is to be brought that may be in another encoding. end: of a line.

    Raises ValueError, with the line, where it is not in its encoding, or has more than LONGEST characters.
    """
    encoding = encoding_of(path, asked) if path.is_file() else "utf-8-sig"
    decoder, number, rest = codecs.getincrementaldecoder(encoding)(), 1, ""
    with opened(path) as file:
        for data in chain(iter(partial(file.read, CHUNK), b""), [b""]):
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                number += error.object.count(end.encode(), 0, error.start)
                raise ValueError(f"{path}:{number}: {not_utf8(path, error.object[error.start], way)}") from None
            *lines, rest = (rest + text).split(end)
            if len(rest) > LONGEST:
                raise ValueError(f"{path}:{number + len(lines)}: the line is longer than {LONGEST} characters; cut it")
            tell(len(data))
            yield lines
            number += len(lines)
    if rest:  # the end of the last line is not one more
        yield [rest]


def write(
    tokenizer: FlatEncoder,
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    processes: int = 1,
    read: Reader = lines_of,
) -> TokenFile:
    """Encodes the lines of text files, one file after the other, into the directory `out`, whole or not at all. A file
    may be gzip; one that is not UTF-8 is read as what it looks like, which is said.

    An `out` that holds a former result is replaced when the new one is complete. With several processes, call this
    under `if __name__ == "__main__":` (each begins by importing the program anew).

    read: gives the lines of a file, some at a time, and tells of the bytes it has read.

    Raises ValueError for a file that is missing, no file or in no known encoding, for an `out` that holds anything else
    or that another process is writing, and for processes < 1, or more where semaphores cannot be made; OSError if the
    disk is full.
    """
    if processes < 1:
        raise ValueError(f"processes {processes}: at least 1 must do the work")
    paths, out = checked_paths(paths), _checked_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    with held(out):
        try:
            temporary.mkdir()
            for path in paths if read is lines_of else ():
                if path.is_file() and (encoding := encoding_of(path)) != "utf-8-sig":
                    say(f"{path}: read as {encoding}")
            _write_files(tokenizer, paths, temporary, processes, read)
            _move_into_place(temporary, out)
            for left in out.parent.glob(f".{escape(out.name)}.{'[0-9a-f]' * 8}*"):  # by processes that were killed
                shutil.rmtree(left, ignore_errors=True)
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


def _write_files(tokenizer: FlatEncoder, paths: list[Path], directory: Path, processes: int, read: Reader) -> None:
    sources = [{"name": str(path), "bytes": path.stat().st_size} for path in paths]
    id_type, offset_type, count, lines = _id_type(len(tokenizer.vocab)), np.dtype("<i8"), 0, 0
    with (
        open(directory / IDS, "xb") as ids,
        open(directory / OFFSETS, "xb") as offsets,
        tqdm(total=sum(s["bytes"] for s in sources), unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar,
        contextlib.closing(_encoded(tokenizer, _batches(read(p, bar.update) for p in paths), processes)) as flats,
    ):
        _write_header(ids, id_type, 0)
        _write_header(offsets, offset_type, 0)
        offsets.write(bytes(8))
        for flat in flats:
            offsets.write(count + np.cumsum(flat.lengths, dtype=offset_type))
            ids.write(flat.ids)
            count, lines = count + len(flat.ids), lines + len(flat.lengths)
        for file, dtype, length in ((ids, id_type, count), (offsets, offset_type, lines + 1)):
            _write_header(file, dtype, length)
            file.flush()
            os.fsync(file.fileno())
    info = {"version": VERSION, "lines": lines, "ids": count, "tokenizer": description(tokenizer), "sources": sources}
    atomic_write(directory / INFO, (json.dumps(info, indent=2) + "\n").encode())


def _write_header(file: BinaryIO, dtype: np.dtype, length: int) -> None:
    """That of a one-dimensional .npy file; numpy gives it the same size whatever the length."""
    file.seek(0)
    npy.write_array_header_1_0(file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)})


def _move_into_place(temporary: Path, out: Path) -> None:
    """A former result steps aside, and back if the new one cannot take its place."""
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        if out.exists():
            out.rename(old)
        temporary.rename(out)
        sync_directory(out.parent)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(old, ignore_errors=True)


# --- Encoding, here or in other processes -----------------------------------------------------------------------------


def _batches(files: Iterable[Iterator[list[str]]]) -> Iterator[list[str]]:
    """All files' lines, CHUNK characters or a little more at a time."""
    batch: list[str] = []
    size = 0
    for lines in chain.from_iterable(files):
        batch += lines
        size += sum(map(len, lines))
        if size >= CHUNK:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encoded(tokenizer: FlatEncoder, batches: Iterable[list[str]], processes: int) -> Iterator[Flat]:
    """The ids of each batch of lines, in order."""
    if processes == 1:
        yield from map(partial(_encode, tokenizer), batches)
        return
    try:
        pool = ProcessPoolExecutor(processes, get_context("spawn"), _start_worker, (tokenizer,))
    except OSError as error:  # no semaphores
        raise ValueError(
            f"processes {processes}: {error.strerror}; make /dev/shm writable, or use processes=1"
        ) from None
    window: deque[Future[Flat]] = deque()  # bounded: reading does not run away from encoding
    try:
        with pool:
            for batch in batches:
                window.append(pool.submit(_encode_in_worker, batch))
                if len(window) == 2 * processes:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
    except BrokenProcessPool:
        remedy = 'call this under `if __name__ == "__main__":`, or use processes=1 if memory is short'
        raise ValueError(f"processes {processes}: a worker process has died; {remedy}") from None


def _encode(tokenizer: FlatEncoder, lines: list[str]) -> Flat:
    flat = tokenizer.encode_flat(lines)
    return flat._replace(ids=flat.ids.astype(_id_type(len(tokenizer.vocab))))


_worker: list[FlatEncoder] = []  # in a worker process: its tokenizer


def _start_worker(tokenizer: FlatEncoder) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer: it ends the workers
    _worker.append(tokenizer)


def _encode_in_worker(lines: list[str]) -> Flat:
    return _encode(_worker[0], lines)
