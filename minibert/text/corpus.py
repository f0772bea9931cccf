"""Corpora for pretraining: text files of any size, tokenised once into memory-mapped files.

    poems.txt     白日依山尽，黄河入海流。        a sentence a line,
                  欲穷千里目，更上一层楼。
                                                  a blank line between documents (a file's end is one too)
                  床前明月光，疑是地上霜。

    news.jsonl    {"text": "First sentence.\\nSecond sentence."}     a document a line; its own lines are its sentences

Either may be gzip, and in any encoding; JSON and the <doc> tags of wikiextractor are told by content.

    CACHE/tokens/         the ids of all lines, as token_file.py writes them
    CACHE/documents.npy   int64 [D, 2], the first line of each document and the line behind its last
    CACHE/corpus.json     which files these were: kind, size, SHA-256

The hashes decide whether a cache is still good, never a time: clocks jump, and a copied file keeps its text but not its
date. Hashing costs a tenth of tokenising at most.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from minibert.core.files import atomic_write, read_json, write_json
from minibert.io.encodings import encoding_of
from minibert.io.file_layout import head_of, is_old_mac, kind_of
from minibert.io.opening import ending_of
from minibert.io.rows import checked_paths, open_lines, read_rows
from minibert.options import Reading
from minibert.text.token_file import TokenFile, lines_of, write
from minibert.text.tokenizer import Tokenizer

TOKENS, DOCUMENTS, RECORD = "tokens", "documents.npy", "corpus.json"
VERSION = 2  # of the cache
DOCUMENT, TAG = re.compile('<doc id="'), re.compile(r'<doc id="|</doc>\s*$')
FEW = 8  # documents that are held out at least, where there are enough
IDS = 1 << 20  # counted at once


# ---- text files ----


class Sentences:
    """The sentences of text files, one file after the other, as often as one likes; "" behind every document.

    encoding: as the user says, for all files; None: as each looks.

    Raises:
        ValueError: a file is missing, of an unknown kind or in no known encoding, or a line of a .jsonl is no document;
            at once for files, with the line's number when it is reached.
    """

    def __init__(self, paths: Sequence[str | Path], encoding: str | None = None) -> None:
        self.files = [TextFile(path, encoding) for path in checked_corpus(paths)]

    def __iter__(self) -> Iterator[str]:
        for file in self.files:
            yield from chain.from_iterable(file.sentences())


def checked_corpus(paths: Sequence[str | Path]) -> list[Path]:
    use = '.txt, a sentence a line and a blank line between documents, or .jsonl, a document {"text": …} a line'
    paths = checked_paths(paths, (".txt", ".jsonl", ".json", ""), use)
    for index, path in enumerate(paths):
        if any(path.samefile(other) for other in paths[:index]):
            raise ValueError(f"{path}: named twice; name it once, or its held-out documents are trained on as well")
    return paths


class TextFile:
    """A file of a corpus, and what was read of it when it was last read to its end.

    kind: txt, jsonl or json, as it holds; tagged, as wikiextractor writes: <doc id=…>, lines, </doc>; mac, where "\\r"
    alone ends lines.
    """

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        self.path, self.asked, self.kind = path, encoding, ""
        self.encoding, self.column = "", "text"
        self.documents = self.lines = 0

    def sentences(self, tell: Callable[[int], object] = lambda size: None) -> Iterator[list[str]]:
        """The lines of texts, and of the documents of JSON those that are not blank, some at a time; a blank one behind
        every document. tell: is told of the bytes that have been read."""
        self.judge()
        self.documents = self.lines = 0
        readers = {
            "txt": self.texts,
            "mac": self.old_mac,
            "tagged": self.tagged,
            "jsonl": self.objects,
            "json": self.objects,
        }
        inside = False
        for lines in readers[self.kind](tell):
            for line in lines:
                full = bool(line) and not line.isspace()
                self.lines += full
                self.documents += full and not inside
                inside = full
            yield lines
        yield [""]

    def judge(self) -> None:
        """Finds out encoding and kind."""
        self.encoding = encoding_of(self.path, self.asked)
        head = head_of(self.path, self.encoding)
        self.kind = kind_of(ending_of(self.path).removeprefix(".") or "txt", head)
        if self.kind == "txt" and DOCUMENT.match(head.lstrip()):
            self.kind = "tagged"
        elif self.kind == "txt" and is_old_mac(head):
            self.kind = "mac"

    def texts(self, tell: Callable[[int], object]) -> Iterator[list[str]]:
        return lines_of(self.path, tell, self.asked, "type --encoding {}")

    def tagged(self, tell: Callable[[int], object]) -> Iterator[list[str]]:
        for lines in self.texts(tell):
            yield ["" if TAG.match(line) else line for line in lines if line.strip()]

    def old_mac(self, tell: Callable[[int], object]) -> Iterator[list[str]]:
        return lines_of(self.path, tell, self.asked, "type --encoding {}", end="\r")

    def objects(self, tell: Callable[[int], object]) -> Iterator[list[str]]:
        with open_lines(self.path, Reading(encoding=self.asked, format=self.kind)) as lines:
            for row in read_rows(lines):
                if row.problem:
                    raise ValueError(row.problem)
                self.column = lines.names["text"]
                tell(len(row.text.encode()))
                yield [*filter(str.strip, row.text.split("\n")), ""]
        yield [""]

    def said(self) -> str:
        """What was read, but for the file's name."""
        counts = (self.documents, "document"), (self.lines, "line")
        words = ", ".join(f"{n:,} {what}{'s' * (n != 1)}" for n, what in counts)
        if self.column != "text":
            words += f" ({self.column})"
        if self.kind == "tagged":
            words += " between <doc> tags"
        if self.kind == "mac":
            words += " ended by carriage returns"
        if self.encoding != "utf-8-sig":
            words += f", read as {self.encoding}"
        return words


# ---- tokens ----


@dataclass(frozen=True, eq=False)
class Corpus:
    """All lines of a corpus as ids, and where its documents lie.

    documents: int64 [D, 2], the first line of each and the line behind its last; none of its lines is empty.
    sources: what was read: name, kind by its ending and as it was read, bytes, SHA-256 … of each file.
    """

    tokens: TokenFile
    documents: NDArray[np.int64]
    sources: list[dict[str, object]]

    def split(self, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(documents to train on, documents held out): a share of them at random, FEW at least, half at most.

        Documents of the same text count as one and stand on one side: none that is measured on was learned by heart.
        """
        _, first, text = np.unique(self.digests(), return_index=True, return_inverse=True)
        D = len(first)
        count = 0 if share == 0 else min(max(FEW, round(share * D)), D // 2)
        chosen = np.random.default_rng(seed).permutation(first.argsort())[:count]  # of the texts in their order
        held_out = np.isin(text, chosen)
        return self.documents[~held_out], self.documents[held_out]

    def digests(self) -> NDArray[np.uint64]:
        """A number for each document that those of other text do not have. [D]"""
        ids, lines = self.tokens.ids, self.tokens.offsets[self.documents]
        found = (hashlib.blake2b(ids[begin:end].tobytes(), digest_size=8).digest() for begin, end in lines)
        return np.frombuffer(b"".join(found), np.uint64)

    def token_counts(self, without: NDArray[np.int64], vocab_size: int) -> NDArray[np.int64]:
        """How often each id occurs, [V]; what stands in the documents `without` [N, 2] is not counted."""
        ids, offsets = self.tokens.ids, self.tokens.offsets
        counts = np.zeros(vocab_size, np.int64)
        for start in range(0, len(ids), IDS):
            counts += np.bincount(ids[start : start + IDS], minlength=vocab_size)
        for begin, end in offsets[without]:
            counts -= np.bincount(ids[begin:end], minlength=vocab_size)
        return counts


def open_corpus(
    paths: Sequence[str | Path],
    tokenizer: Tokenizer,
    cache: Path,
    say: Callable[[str], None] = lambda line: None,
    guard: Callable[[Path], AbstractContextManager] = nullcontext,
    encoding: str | None = None,
) -> Corpus:
    """The tokenised corpus of these files: the one in `cache` if it is theirs, else made anew there.

    say: is told, in a line, what is done and why, and what was read. guard: a lock, held while something is written
    into `cache`. encoding: see Sentences.

    Raises:
        ValueError: as `Sentences`; or the files hold no text, or `cache` holds something else.
        OSError: the disk is full.
    """
    paths = checked_corpus(paths)
    sources = [source(path, encoding) for path in paths]
    names = ", ".join(map(str, paths))
    try:
        found = open_cache(cache, sources, tokenizer)
    except (ValueError, OSError) as error:
        reason = f"{error}: " if (cache / RECORD).exists() else ""
        say(f"{reason}tokenising {names} ({sum(s['bytes'] for s in sources) / 1e6:.1f} MB) into {cache}")
        with guard(cache):
            write_cache([TextFile(path, encoding) for path in paths], tokenizer, cache, sources)
        found = open_cache(cache, sources, tokenizer)
    for path, file in zip(paths, found.sources, strict=True):
        say(f"{path.name}: {file['said']}")
    if not len(found.documents):
        raise ValueError(f"{names}: no text; a corpus needs at least one sentence")
    return found


def source(path: Path, encoding: str | None) -> dict[str, object]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    kind = ending_of(path).removeprefix(".")
    return {"name": str(path), "kind": kind, "bytes": path.stat().st_size, "sha256": digest, "encoding": encoding}


def changed(before: Sequence[dict], now: Sequence[dict]) -> str:
    """Which files differ, for a message; "" if all are what they were. Names do not matter: a file may have moved."""
    if len(before) != len(now):
        return f"{len(before)} files then, {len(now)} now"
    pairs = zip(before, now, strict=True)
    return ", ".join(b["name"] for a, b in pairs if any(a[key] != b[key] for key in ("kind", "sha256", "encoding")))


def open_cache(cache: Path, sources: list[dict], tokenizer: Tokenizer) -> Corpus:
    """What the cache holds. ValueError or OSError: it is not good for these files and this tokenizer, or not there."""
    record = read_json(cache / RECORD, f"delete {cache}")
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise ValueError(f"{cache} is of another version")
    if names := changed(record["sources"], sources):
        raise ValueError(f"the corpus has changed ({names})")
    tokens = TokenFile.open(cache / TOKENS)
    tokens.check(tokenizer)
    read = [{"read": source["read"], "said": source["said"]} for source in record["sources"]]
    return Corpus(tokens, np.load(cache / DOCUMENTS), [now | was for now, was in zip(sources, read, strict=True)])


def write_cache(files: list[TextFile], tokenizer: Tokenizer, cache: Path, sources: list[dict]) -> None:
    """The record is the last to be written: a cache without one is no cache."""
    cache.mkdir(parents=True, exist_ok=True)
    (cache / RECORD).unlink(missing_ok=True)
    readers = {file.path: file for file in files}
    tokens = write(tokenizer, [*readers], cache / TOKENS, read=lambda path, tell: readers[path].sentences(tell))
    documents = find_documents(tokens.offsets)
    atomic_write(cache / DOCUMENTS, lambda file: npy.write_array(file, documents, allow_pickle=False))
    said = [source | {"read": file.kind, "said": file.said()} for source, file in zip(sources, files, strict=True)]
    write_json(cache / RECORD, {"version": VERSION, "sources": said})


def find_documents(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Runs of lines that hold tokens, as (first, behind the last) [D, 2]. offsets: int64 [N + 1]."""
    full = offsets[1:] > offsets[:-1]
    return np.flatnonzero(np.diff(full, prepend=False, append=False)).reshape(-1, 2)
