"""Big batch jobs: a file of any number of rows through a model, in memory that does not grow with it.

    data file ──▶ rows ──▶ windows of rows, encoded ──▶ model, in packed batches ──▶ OUT.partial ──▶ OUT
                           (a worker thread, ahead)                                  OUT.journal

A window's answers go to OUT.partial in the order of the rows; then a line of OUT.journal says how far that is. Whatever
ends the job (Ctrl-C, SIGKILL, a full disk, a broken row), the same command goes on behind the last such line, with the
windows and so the batches that an uninterrupted job has: the output is the same byte for byte. The journal also knows
the model, the options that the answers depend on, and a hash of the rows done: what lies behind them may be mended
meanwhile. Token budget, device and attention backend may change: answers then differ in their last digits at most.

The worker is a thread: on a CPU encoding is a hundredth of the model's work, and to send its arrays from one process to
another takes longer than to make them.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib import format as npy
from torch import Tensor
from tqdm import tqdm

from minibert.command_options import JobOptions
from minibert.core.hub import OLD_PATTERNS, PATTERNS
from minibert.data import check_row, find_columns, is_header
from minibert.hub import resolve
from minibert.inference import TextClassifier, TextEncoder, classify, sentence_vectors, token_budget
from minibert.loop import on_terminal, say
from minibert.tokenizer import Encoding

LONGEST = 1 << 24  # characters of a line or a quoted field: a row is held whole, and BERT reads its beginning only
WINDOW = 8  # batches of a window: enough rows to sort by length, few enough to lose in an interruption
TOKEN_BYTES = 4  # about as many bytes of UTF-8 make a token, in English as in Chinese
AHEAD = 2  # windows that the worker may have ready
SECONDS = 10  # between two lines of progress where there is no terminal
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what errors="surrogateescape" makes of such bytes


# ---- rows, read one by one ----


class Row(NamedTuple):
    """`place` is FILE:LINE; `problem` says, with the place, why the row cannot be used."""

    place: str
    text: str
    pair: str | None
    problem: str | None = None


class Lines:
    """The lines of a file, counted and hashed. What a broken row has swallowed behind its first line can be given back:
    one quote that is never closed shall cost one row, not all the rest."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.number = 0
        self.digest = hashlib.blake2b(digest_size=16)
        self.row: list[str] = []
        self.returned: deque[str] = deque()

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = self.returned.popleft() if self.returned else self.read()
        if not line:
            raise StopIteration
        self.number += 1
        self.row.append(line)
        if len(line) == LONGEST:
            raise ValueError(f"the line is longer than {LONGEST - 1} characters; cut it")
        if not line.isascii() and (stray := NOT_UTF8.search(line)):
            raise ValueError(f"byte 0x{ord(stray[0]) - 0xDC00:02x} is not UTF-8; convert the file (iconv -t UTF-8)")
        return line

    def read(self) -> str:
        """The next line, or the beginning of one that is too long."""
        line = piece = self.file.readline(LONGEST)
        self.digest.update(piece.encode(errors="surrogateescape"))
        while len(piece) == LONGEST and piece[-1] not in "\r\n":
            piece = self.file.readline(LONGEST)
            self.digest.update(piece.encode(errors="surrogateescape"))
        return line

    def give_back(self) -> None:
        self.returned.extendleft(reversed(self.row[1:]))
        self.number -= len(self.row) - 1


Fields = dict[str, object]  # of a row, by column


def read_rows(lines: Lines, path: Path, columns: Sequence[str] | None, quoting: str) -> Iterator[Row]:
    """The rows that data.read_examples finds without labels, and the broken ones, which it would refuse.

    Raises:
        ValueError: the header does not fit.
    """
    kind = path.suffix.lower()
    if kind == ".txt":
        parsed: Iterator[Fields | None] = map(text_fields, lines)
    elif kind == ".jsonl":
        parsed = map(json_fields, lines)
    else:
        parsed = table_fields(lines, path, columns, quoting)
    names: dict[str, str] | None = None  # which columns the first row has
    shape: tuple[str, ...] | None = None
    for place, fields, problem in located(lines, parsed, path):
        if fields is None:
            yield Row(place, "", None, problem)
            continue
        try:
            if tuple(fields) != shape:
                shape = tuple(fields)
                found = find_columns(shape, path, labelled=False)
                names = names or found
            if found != names:
                raise ValueError(f"{place}: its columns are {shape}, not as in the first row; make all rows alike")
            check_row(place, fields, names)
        except ValueError as error:
            if names is None:  # the file's fault, not the row's
                raise
            yield Row(place, "", None, str(error))
            continue
        yield Row(place, fields[names["text"]], fields[names["pair"]] if "pair" in names else None)


def located(
    lines: Lines, parsed: Iterator[Fields | None], path: Path
) -> Iterator[tuple[str, Fields | None, str | None]]:
    """Each row's place, with its fields or with why there are none; blank lines are passed over."""
    while True:
        lines.row = []
        place = f"{path}:{lines.number + 1}"
        try:
            fields = next(parsed)
        except StopIteration:
            return
        except csv.Error as error:
            lines.give_back()
            reason = (
                f"a quoted field is not closed properly ({error}); if quotes are plain text here, use --quoting none"
            )
            yield place, None, f"{place}: {reason}"
        except ValueError as error:
            lines.give_back()
            yield place, None, f"{place}: {error}"
        else:
            if fields is not None:
                yield place, fields, None


def text_fields(line: str) -> Fields:
    return {"text": line.removesuffix("\n").removesuffix("\r")}


def json_fields(line: str) -> Fields | None:
    if not line.strip():
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error}); write one object a line") from None
    if not isinstance(row, dict):
        raise ValueError(f'holds a {type(row).__name__}, not an object such as {{"text": …}}')
    return row


def table_fields(lines: Lines, path: Path, columns: Sequence[str] | None, quoting: str) -> Iterator[Fields | None]:
    """An iterator that goes on behind a broken row, as a generator would not.

    Raises:
        ValueError: the header does not fit, or cannot be read.
    """
    csv.field_size_limit(LONGEST)
    reader = csv.reader(
        lines,
        delimiter="," if path.suffix.lower() == ".csv" else "\t",
        quoting=csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    try:
        header = [name.strip() for name in (next(reader, []) if columns is None else columns)]
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path}:1: the header cannot be read ({error})") from None
    if repeated := [name for name in header if name and header.count(name) > 1]:
        raise ValueError(f"{path}: two columns are named {repeated[0]!r}; rename one")

    def fields_of(fields: list[str]) -> Fields | None:
        if columns is not None and lines.number == 1 and is_header(fields):
            raise ValueError(f"is a header ({', '.join(fields)[:100]}); leave --columns out")
        if fields and len(fields) != len(header):
            raise ValueError(
                f"has {len(fields)} columns, not the {len(header)} of {', '.join(header)}; is the row cut off, or a"
                " delimiter inside a text? (quotes that are plain text: --quoting none)"
            )
        return dict(zip(header, fields, strict=True)) if fields else None

    find_columns(header, path, labelled=False)
    return map(fields_of, reader)


# ---- windows of rows ----


class Window(NamedTuple):
    """Consecutive rows, as far as they can be used: their numbers, counted from 1, their places and their tokens.

    problems: of the others, with their numbers. begin, end: rows before the first, and up to the last. digest: of the
    file up to there.
    """

    numbers: list[int]
    places: list[str]
    encoding: Encoding
    problems: list[tuple[int, str]]
    begin: int
    end: int
    digest: str


def windows(
    rows: Iterator[Row], lines: Lines, start: int, encode: Callable[..., Encoding], tokens: int, skip: bool
) -> Iterator[Window]:
    """The rows behind row `start`, in windows of about so many tokens; a window does not depend on those before it.

    Raises:
        ValueError: a row is broken, and not to be skipped.
    """
    while taken := take(rows, tokens):
        problems = [(n, row.problem) for n, row in enumerate(taken, start + 1) if row.problem]
        if problems and not skip:
            raise refusal(*problems[0])
        numbers = [n for n, row in enumerate(taken, start + 1) if not row.problem]
        good = [row for row in taken if not row.problem]
        pairs = [row.pair for row in good] if good and good[0].pair is not None else None
        encoding = encode([row.text for row in good], pairs)
        end, digest = start + len(taken), lines.digest.hexdigest()
        yield Window(numbers, [row.place for row in good], encoding, problems, start, end, digest)
        start = end


def refusal(number: int, problem: str) -> ValueError:
    return ValueError(f"row {number}, {problem}; or leave such rows out: --on-error skip")


def take(rows: Iterator[Row], tokens: int) -> list[Row]:
    """Rows of about so many tokens, one at least if there is one."""
    taken = []
    for row in rows:
        taken.append(row)
        tokens -= 2 + len(f"{row.text}{row.pair or ''}".encode()) // TOKEN_BYTES
        if tokens <= 0:
            break
    return taken


def within_memory(answer: Callable[[Encoding, int], Tensor], encoding: Encoding, tokens: int) -> Tensor:
    """The answers [N, …] in batches of `tokens`.

    Raises:
        ValueError: a batch does not fit into memory; says which would, found by trying.
    """
    if (answers := if_it_fits(answer, encoding, tokens)) is not None:
        return answers
    longest, less = int(encoding.length.max()), tokens
    while less > longest:
        less = max(longest, less // 2)
        if if_it_fits(answer, encoding, less) is not None:
            raise ValueError(f"a batch of {tokens} tokens does not fit into memory; --tokens-per-batch {less} does")
    raise ValueError(
        f"a row of {longest} tokens alone does not fit into memory; cut rows with --max-length {longest // 2}"
    )


def if_it_fits(answer: Callable[[Encoding, int], Tensor], encoding: Encoding, tokens: int) -> Tensor | None:
    try:
        return answer(encoding, tokens)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "t allocate memory" in str(error):  # CPU: can't
            return None
        raise


# ---- the output so far, and how far that is ----


@dataclass(frozen=True)
class Progress:
    """rows: of the input, broken ones too. size: bytes of OUT.partial. digest: of the input up to there."""

    rows: int = 0
    size: int = 0
    digest: str = ""
    left_out: int = 0
    first_left_out: str | None = None


class Output:
    """OUT.partial, and OUT.journal: JSON lines, the first says what the job is, the others how far it has come."""

    def __init__(self, out: Path, settings: dict[str, object], head: Callable[[int], bytes]) -> None:
        """Looks what is there.

        head: what stands before the answers to so many rows; its length does not depend on their number.

        Raises:
            ValueError: there is an `out`, or a part of one that another job has begun.
        """
        self.out, self.head = out, head
        self.partial, self.journal = (out.with_name(f"{out.name}.{name}") for name in ("partial", "journal"))
        begun = self.journal.exists() and out.exists() != self.partial.exists()
        steps = self.journal.read_bytes().split(b"\n")[:-1] if begun else []  # behind the last "\n" is no whole line
        self.complete = out.exists() and bool(steps)  # killed before the last step, the journal's removal
        if out.exists() and not self.complete:
            raise ValueError(f"{out}: is there already; delete it, or choose another name")
        self.done = self._checked(steps, settings) if steps else Progress(size=len(head(0)))
        self.ends = (self.done.size, sum(len(step) + 1 for step in steps)) if steps else None
        self.settings = settings
        self.files: list[BinaryIO] = []

    def open(self) -> None:
        """Goes on where the journal's last whole line says, or begins."""
        for path in (self.partial, self.journal):
            self.files.append(open(path, "r+b" if self.ends else "wb", buffering=0))  # noqa: SIM115 (see close)
        if self.ends is None:
            self._append(0, self.head(0))
            self._append(1, as_line(self.settings))
            return
        for file, end in zip(self.files, self.ends, strict=True):
            file.truncate(end)
            file.seek(end)

    def _checked(self, steps: list[bytes], settings: dict[str, object]) -> Progress:
        remedy = f"delete {self.journal} to begin anew"
        try:
            begun, *rest = (json.loads(step) for step in steps)
            done = Progress(**rest[-1]) if rest else Progress(size=len(self.head(0)))
            different = [name for name in settings if begun[name] != settings[name]]
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{self.journal}: damaged; {remedy}") from None
        if different:
            raise ValueError(f"{self.journal}: begun with another {', '.join(different)}; take the same, or {remedy}")
        if not self.complete and self.partial.stat().st_size < done.size:
            raise ValueError(f"{self.partial}: shorter than {self.journal} says; {remedy}")
        return done

    def add(self, body: bytes, window: Window, problems: list[tuple[int, str]]) -> None:
        """A window's answers."""
        first = f"row {problems[0][0]}, {problems[0][1]}" if problems else None
        done = Progress(
            window.end,
            self.done.size + len(body),
            window.digest,
            self.done.left_out + len(problems),
            self.done.first_left_out or first,
        )
        self._append(0, body)
        self._append(1, as_line(dataclasses.asdict(done)))
        self.done = done

    def _append(self, number: int, data: bytes) -> None:
        """Down to the disk: the journal must not know of what a power failure takes."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.files[number].write(rest) :]
            os.fsync(self.files[number].fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.files[number].name)) from None

    def finish(self) -> None:
        """The whole output under its name."""
        if not self.complete:
            self.files[0].seek(0)
            self._append(0, self.head(self.done.rows))
            self.close()
            os.replace(self.partial, self.out)
        self.journal.unlink()

    def close(self) -> None:
        for file in self.files:
            file.close()

    def give_up(self) -> None:
        """Keeps what is done, and says so; where that is nothing, leaves nothing behind."""
        self.close()
        if self.done.rows:
            say(f"{self.done.rows} rows are done and kept in {self.partial}, for the same command to go on from")
        else:
            self.partial.unlink(missing_ok=True)
            self.journal.unlink(missing_ok=True)


def as_line(value: dict[str, object]) -> bytes:
    return f"{json.dumps(value, ensure_ascii=False)}\n".encode()


# ---- the jobs ----


def predict_file(options: JobOptions) -> Progress:
    """Labels and probabilities into a .tsv, .csv or .jsonl. `row` counts the input's rows from 1, so that the two can
    be joined; what is left out has no line.

    Raises:
        ValueError, OSError: what is broken, and where; what was done is kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the same.
    """
    kind = checked_files(options, (".tsv", ".csv", ".jsonl"))
    classifier = TextClassifier.from_pretrained(options.directory, options.attention, options.device)
    labels = classifier.labels

    def answer(encoding: Encoding, tokens: int) -> Tensor:
        return classify(classifier.model, encoding, tokens)

    def table(rows: Sequence[Sequence[object]]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter="," if kind == ".csv" else "\t", lineterminator="\n").writerows(rows)
        return text.getvalue().encode()

    def body(window: Window, numbers: list[int], logits: Tensor) -> bytes:
        rows = logits.softmax(dim=1).tolist()
        best = [labels[i] for i in logits.argmax(dim=1).tolist()]
        if kind != ".jsonl":
            return table([(n, name, f"{max(row):.6f}") for n, name, row in zip(numbers, best, rows, strict=True)])
        answers = (
            {"row": n, "label": name, "probabilities": dict(zip(labels, (round(p, 6) for p in row), strict=True))}
            for n, name, row in zip(numbers, best, rows, strict=True)
        )
        return b"".join(map(as_line, answers))

    head = b"" if kind == ".jsonl" else table([("row", "label", "probability")])
    return run(options, {"command": "predict"}, classifier, answer, lambda rows: head, body)


def embed_file(options: JobOptions, pooling: str, normalize: bool) -> Progress:
    """Sentence vectors into a .npy, float32 [N, E], vector i of row i; where a row is left out it is NaN. See
    predict_file for what is raised."""
    checked_files(options, (".npy",))
    encoder = TextEncoder.from_pretrained(options.directory, options.attention, options.device)
    E = encoder.config.hidden_size

    def answer(encoding: Encoding, tokens: int) -> Tensor:
        vectors = sentence_vectors(encoder.model, encoding, pooling, tokens)
        return F.normalize(vectors) if normalize else vectors

    def body(window: Window, numbers: list[int], vectors: Tensor) -> bytes:
        rows = np.full((window.end - window.begin, E), np.nan, "<f4")
        rows[np.array(numbers, np.int64) - window.begin - 1] = vectors
        return rows.tobytes()

    def head(rows: int) -> bytes:
        file = io.BytesIO()
        npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, E)})
        return file.getvalue()

    settings = {"command": "embed", "pooling": pooling, "normalize": normalize}
    return run(options, settings, encoder, answer, head, body)


def checked_files(options: JobOptions, kinds: Sequence[str]) -> str:
    """What can be refused before a model is loaded. Returns the kind of output.

    Raises:
        ValueError: the input is no file or of an unknown kind, or the output is.
    """
    data, out = Path(options.data), Path(options.out)
    if not data.is_file():
        raise ValueError(f"{data}: {'is no regular file' if data.exists() else 'no such file'}; give a data file")
    if data.suffix.lower() not in (".tsv", ".csv", ".jsonl", ".txt"):
        raise ValueError(f"{data}: unknown kind of file {data.suffix!r}; use .tsv, .csv, .jsonl or .txt")
    if out.suffix.lower() not in kinds:
        raise ValueError(f"{out}: unknown kind of output {out.suffix!r}; use {' or '.join(kinds)}")
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent}: no such directory; make it first")
    return out.suffix.lower()


def run(
    options: JobOptions,
    settings: dict[str, object],
    trained: TextClassifier | TextEncoder,
    answer: Callable[[Encoding, int], Tensor],
    head: Callable[[int], bytes],
    body: Callable[[Window, list[int], Tensor], bytes],
) -> Progress:
    """Everything that the jobs share.

    Args:
        settings: what the answers depend on besides the model and the options of all jobs.
        answer: an encoding and a token budget -> numbers [N, …].
        head, body: bytes of the output, its head for so many rows, and a window's answers to these of its rows.
    """
    data, skip = Path(options.data), options.on_error == "skip"
    max_length = trained.max_length if options.max_length is None else options.max_length
    max_length = min(max_length, trained.config.max_position_embeddings)
    tokens = token_budget(options.tokens_per_batch, trained.model)
    settings = {
        **settings,
        "model": model_digest(resolve(options.directory)),
        "max_length": max_length,
        "columns": options.columns,
        "quoting": options.quoting,
    }

    def encode(texts: list[str], pairs: list[str] | None) -> Encoding:
        return trained.tokenizer(texts, pairs, max_length=max_length, padding="none")

    output = Output(Path(options.out), settings, head)
    if output.complete:
        output.finish()
        return output.done
    try:
        output.open()
        with terminable(), open_lines(data) as lines:
            columns = options.columns.split(",") if options.columns else None
            rows = read_rows(lines, data, columns, options.quoting)
            pass_over(rows, lines, output)
            made = windows(rows, lines, output.done.rows, encode, WINDOW * tokens, skip)
            with closing(ahead(made)) as ready, Meter(data, output.done.rows) as meter:
                for window in ready:
                    answers = within_memory(answer, window.encoding, tokens)
                    good = answers.isfinite().all(dim=1)  # [N]
                    lost = not_finite(window, good)
                    if lost and not skip:
                        raise refusal(*lost[0])
                    numbers = [number for number, ok in zip(window.numbers, good.tolist(), strict=True) if ok]
                    output.add(body(window, numbers, answers[good]), window, sorted(window.problems + lost))
                    meter.show(window.end)
        if not output.done.rows:
            raise ValueError(f"{data}: holds no rows; give at least one")
        output.finish()
    except MemoryError:
        output.give_up()
        raise ValueError(f"memory is short; try --tokens-per-batch {max(1, tokens // 2)}") from None
    except BaseException:  # Ctrl-C too
        output.give_up()
        raise
    return output.done


def not_finite(window: Window, good: Tensor) -> list[tuple[int, str]]:
    """The rows whose answers are no numbers, and what to say of them."""
    return [
        (window.numbers[i], f"{window.places[i]}: the model's answer is not finite; mend its weights")
        for i in torch.where(~good)[0].tolist()
    ]


def model_digest(directory: Path) -> str:
    """Of all files of a model that are read."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(directory.iterdir()):
        if any(path.match(pattern) for pattern in (*PATTERNS, *OLD_PATTERNS)):
            with open(path, "rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


@contextmanager
def open_lines(path: Path) -> Iterator[Lines]:
    """In tables a lone "\\r" ends a line too, as csv.reader has it; elsewhere "\\n" alone does."""
    newline = "" if path.suffix.lower() in (".tsv", ".csv") else "\n"
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
        yield Lines(file)


def pass_over(rows: Iterator[Row], lines: Lines, output: Output) -> None:
    """The rows that are done, which have to be those that were done.

    Raises:
        ValueError: they are not.
    """
    count = output.done.rows
    if count and (sum(1 for _ in islice(rows, count)) < count or lines.digest.hexdigest() != output.done.digest):
        raise ValueError(
            f"{lines.file.name}: its first {count} rows are not those that {output.partial} was made of; put them back,"
            f" or delete {output.journal} to begin anew"
        )


def ahead(items: Iterator[Window]) -> Iterator[Window]:
    """The same, made in a thread that is up to AHEAD of them in front."""
    pool = ThreadPoolExecutor(1)
    waiting = deque(pool.submit(next, items, None) for _ in range(AHEAD))
    try:
        while (item := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, items, None))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM, as a scheduler sends it, stops like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # others cannot set this
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Meter:
    """Rows done, rows a second, time left: a bar on a terminal, else a line every SECONDS. There are about as many rows
    as lines."""

    def __init__(self, data: Path, done: int) -> None:
        with open(data, "rb") as file:
            lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        self.first, self.total = done, max(lines, done)
        self.begin = self.said = time.monotonic()
        self.bar = tqdm(total=self.total, initial=done, unit=" rows", disable=not on_terminal())

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, rows: int) -> None:
        self.bar.update(rows - self.bar.n)
        now = time.monotonic()
        if not on_terminal() and now - self.said >= SECONDS:
            self.said = now
            form = "{n} of about {total} rows  {rate_fmt}  {remaining} left"
            numbers = dict(initial=self.first, unit=" rows", bar_format=form)
            say(tqdm.format_meter(rows, max(self.total, rows), now - self.begin, **numbers))
