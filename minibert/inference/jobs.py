"""Big batch jobs: a file of any number of rows through a model, in memory that does not grow with it.

    data file ──▶ rows ──▶ windows of rows, encoded ──▶ model, in packed batches ──▶ OUT.partial ──▶ OUT
                           (a worker thread, ahead)                                  OUT.journal

A window's answers go to OUT.partial in the order of the rows; then OUT.journal says how far that is. Whatever ends the
job (Ctrl-C, SIGKILL, a full disk, a broken row), the same command goes on there, with the windows and so the batches
that an uninterrupted job has: the output is the same byte for byte. The journal also knows the model, the options that
the answers depend on, and a hash of the rows done: what lies behind them may be mended meanwhile. Token budget, device
and attention backend may change: answers then differ in their last digits at most.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from glob import escape
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor, nn
from tqdm import tqdm

from minibert.core import hub
from minibert.core.files import atomic_write, sync_directory
from minibert.core.hub import OLD_PATTERNS, PATTERNS
from minibert.inference.answers import activation_of, answers, check_asked, head_of_table, to_cells, to_dict
from minibert.inference.options import EVERY, JobOptions, PredictOptions
from minibert.inference.sentence_files import read_files
from minibert.inference.text_encoder import TextEncoder
from minibert.inference.text_models import TextClassifier, classify, token_budget
from minibert.io.bundled import resolve
from minibert.io.examples import aside, what_is_read
from minibert.io.file_layout import ENDINGS, layout_of
from minibert.io.findings import Finding
from minibert.io.locks import held
from minibert.io.opening import opened
from minibert.io.rows import Lines, Row, checked_paths, open_lines, read_rows
from minibert.io.signals import Interrupt
from minibert.io.stderr import on_terminal, say
from minibert.text.data_doubts import Doubts, tell
from minibert.text.tokenizer import Encoding

BATCHES = 8  # of a window: enough rows to sort by length, few enough to lose in an interruption
TOKEN_BYTES = 4  # about as many bytes of UTF-8 make a token, in English as in Chinese
AHEAD = 2  # windows that the worker may have ready
SECONDS = 10  # between two lines of progress where there is no terminal


# ---- windows of rows ----


class Window(NamedTuple):
    """Consecutive rows, those up to `begin` left out and `end` the last, counted from 1.

    places: of the rows that can be used, by their numbers. kept: their fields to carry along. encoding: their tokens.
    problems: of the others, with their numbers. digest: of the file up to there. doubts: what there is to say of its
    rows so far.
    """

    places: dict[int, str]
    kept: dict[int, Sequence[object]]
    encoding: Encoding
    problems: list[tuple[int, str]]
    begin: int
    end: int
    digest: str
    doubts: list[Finding]


def windows(
    rows: Iterator[Row], lines: Lines, start: int, trained: TextClassifier | TextEncoder, limit: int, tokens: int
) -> Iterator[Window]:
    """The rows behind row `start`, in windows of about so many tokens; a window does not depend on those before it."""
    begin, looked, doubts = start, False, Doubts(trained.tokenizer, limit)
    while taken := take(rows, tokens):
        numbered = dict(enumerate(taken, start + 1))
        used = {n: row for n, row in numbered.items() if not row.problem}
        problems = [(n, row.problem) for n, row in numbered.items() if row.problem]
        texts = [row.text for row in used.values()]
        pairs = [row.pair for row in used.values()] if texts and "pair" in lines.names else None
        if texts and not looked:
            looked = True
            trained.check_shape(pairs is not None, str(lines.path))
        end, encoding = start + len(taken), trained.encode(texts, pairs, limit)
        found = doubts.about(f"{lines.path}, rows {begin + 1} to {end}", texts, pairs, encoding)
        places = {n: row.place for n, row in used.items()}
        kept = {n: row.kept for n, row in used.items()}
        yield Window(places, kept, encoding, problems, start, end, lines.digest.hexdigest(), found)
        start = end


def take(rows: Iterator[Row], tokens: int) -> list[Row]:
    """Rows of about so many tokens, one at least if there is one."""
    taken = []
    for row in rows:
        taken.append(row)
        tokens -= 2 + len(f"{row.text}{row.pair or ''}".encode()) // TOKEN_BYTES
        if tokens <= 0:
            break
    return taken


def checked_answers(answers: Tensor, window: Window) -> tuple[list[int], Tensor, list[tuple[int, str]]]:
    """Of answers [N, …] those that are finite, after their rows' numbers; and the problems of all other rows."""
    good = answers.isfinite().all(dim=1)  # [N]
    rows = list(zip(window.places.items(), good.tolist(), strict=True))
    lost = [(n, f"{place}: the model's answer is not finite; mend its weights") for (n, place), ok in rows if not ok]
    return [n for (n, _), ok in rows if ok], answers[good], sorted(window.problems + lost)


# ---- the output so far, and how far that is ----


class Done(NamedTuple):
    """rows: of the input, broken ones too. size: bytes of OUT.partial. digest: of the input up to there."""

    rows: int = 0
    size: int = 0
    digest: str = ""
    left_out: int = 0
    first_left_out: str | None = None


class Output:
    """OUT.partial, and OUT.journal, whose first line of JSON says what the job is, the last how far it has come."""

    def __init__(self, out: Path, settings: dict[str, object], head: Callable[[int], bytes]) -> None:
        """Looks what is there.

        head: what stands before the answers to so many rows; its length does not depend on their number.

        Raises:
            ValueError: there is an `out`, or a part of one that another job has begun.
        """
        self.out, self.head, self.settings = out, head, settings
        self.partial, self.journal = (out.with_name(f"{out.name}.{name}") for name in ("partial", "journal"))
        self.file: BinaryIO | None = None
        for path in (self.partial, self.journal):
            if path.is_symlink() or (path.exists() and not path.is_file()):
                raise ValueError(f"{path}: is no regular file; delete it to begin anew, or choose another --out")
        begun = self.journal.exists() and out.exists() != self.partial.exists()
        self.complete = begun and out.exists()  # killed before the last step, the journal's removal
        if out.exists() and not begun:
            raise ValueError(f"{out}: is there already; delete it, or choose another name")
        self.done = self._read_journal() if begun else Done(size=len(head(0)))

    def _read_journal(self) -> Done:
        remedy = f"delete {self.journal} to begin anew"
        try:
            lines = self.journal.read_bytes().split(b"\n")[:-1]  # release 0.1.0 added one a window, maybe not whole
            begun, done = json.loads(lines[0]), Done(**json.loads(lines[-1]))
            if not isinstance(begun, dict):
                raise TypeError
            asked = dict.fromkeys((*self.settings, *begun))
            different = [name for name in asked if begun.get(name) != self.settings.get(name)]
            if [type(value) for value in done[:4]] != [int, int, str, int] or min(done[0], done[1], done[3]) < 0:
                raise ValueError
        except (ValueError, TypeError, LookupError):
            raise ValueError(f"{self.journal}: damaged; {remedy}") from None
        if different:
            raise ValueError(f"{self.journal}: begun with another {', '.join(different)}; take the same, or {remedy}")
        if not self.complete and self.partial.stat().st_size < done.size:
            raise ValueError(f"{self.partial}: shorter than {self.journal} says; {remedy}")
        return done

    def open(self) -> None:
        """Goes on where the journal says, or begins."""
        if self.partial.exists() and not self.journal.exists():  # nobody's, and it may have a second name
            self.partial.unlink()
        kind = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self.file = open(os.open(self.partial, kind, 0o666), "r+b", buffering=0)  # noqa: SIM115 (see give_up)
        self._write(self.head(0))
        self.file.truncate(self.done.size)
        self.file.seek(self.done.size)
        self._record(self.done)

    def add(self, body: bytes, window: Window, problems: list[tuple[int, str]]) -> None:
        """A window's answers."""
        self._write(body)
        first = self.done.first_left_out or (f"row {problems[0][0]}, {problems[0][1]}" if problems else None)
        size, left_out = self.done.size + len(body), self.done.left_out + len(problems)
        self._record(Done(window.end, size, window.digest, left_out, first))

    def _record(self, done: Done) -> None:
        atomic_write(self.journal, as_line(self.settings) + as_line(done._asdict()))
        self.done = done

    def _write(self, data: bytes) -> None:
        """Down to the disk: the journal must not know of what a power failure takes."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
            os.fsync(self.file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.partial)) from None

    def finish(self) -> None:
        """The whole output under its name."""
        if not self.complete:
            self.file.seek(0)
            self._write(self.head(self.done.rows))
            self.file.close()
            os.replace(self.partial, self.out)
            self.complete = True
            sync_directory(self.out.parent)
        for path in self.out.parent.glob(f".{escape(self.journal.name)}.{'[0-9a-f]' * 8}"):  # half-written journals
            path.unlink()
        self.journal.unlink()

    def give_up(self) -> None:
        """Keeps what is done, and says so; where that is nothing, leaves nothing behind. What counts is the journal: a
        signal may come between its last step and `done`."""
        if self.file is not None:
            self.file.close()
        rows = self.done.rows
        with suppress(ValueError, OSError):  # what stopped the job is told, and not what that has left
            rows = self._read_journal().rows if self.journal.exists() else 0
        if self.complete:
            say(f"all rows are in {self.out}; the same command only tidies up")
        elif rows:
            say(f"{rows} rows are done and kept in {self.partial}, for the same command to go on from")
        else:
            self.partial.unlink(missing_ok=True)
            self.journal.unlink(missing_ok=True)


def as_line(value: dict[str, object]) -> bytes:
    return f"{json.dumps(value, ensure_ascii=False)}\n".encode()


# ---- the jobs ----


def predict_file(options: PredictOptions) -> Done:
    """Labels and probabilities or scores into a .tsv, .csv or .jsonl, as answers.py names them, then the columns that
    are kept. `row` counts the input's rows from 1, so that the two can be joined; what is left out has no line.

    Raises:
        ValueError, OSError: what is broken, and where; what was done is kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the same.
    """
    kind = checked_kind(options, (".tsv", ".csv", ".jsonl"))
    loaded = options.directory, options.attention, options.device
    classifier = TextClassifier.from_pretrained(*loaded, precision=options.precision, keep_weights=False)
    config, settings = classifier.config, {"command": "predict", **unlike_float32(classifier.model)}
    if (activation := activation_of(config)) != "softmax":
        settings["activation"] = activation  # releases that knew none have begun such jobs with another
    check_asked(config, options.top, options.threshold)
    top = options.top and min(options.top, config.num_labels)
    every = options.probabilities
    table = partial(as_table, delimiter="," if kind == ".csv" else "\t")
    own = ["row", *head_of_table(config, top, every)]
    if kind == ".jsonl":
        own = ["row", *to_dict(config, answers(config, torch.zeros(1, config.num_labels))[0])]
    keep = [] if options.keep is None else kept_columns(options, own)
    asked = {
        "top": top,
        "threshold": options.threshold,
        "probabilities": every,
        "keep": keep,
        "keep_all": options.keep == EVERY,
    }
    unsaid = None, 0.5, False, []  # by journals of releases that did not know them
    settings |= {name: value for name, value in asked.items() if value not in unsaid}

    def body(window: Window, numbers: list[int], logits: Tensor) -> bytes:
        found = zip(numbers, answers(config, logits, top, options.threshold), strict=True)
        rows: list = []
        for n, answer in found:
            if kind != ".jsonl":
                rows.append((n, *to_cells(config, answer, every), *map(as_cell, window.kept[n])))
                continue
            kept = dict(zip(keep, window.kept[n], strict=True))
            rows.append(as_line({"row": n, **to_dict(config, answer, 6), **kept}))
        return table(rows) if kind != ".jsonl" else b"".join(rows)

    head = b"" if kind == ".jsonl" else table([(*own, *keep)])
    return run(options, settings, classifier, partial(classify, classifier.model), lambda rows: head, body)


def as_table(rows: Sequence[Sequence[object]], delimiter: str) -> bytes:
    """Rows of a .tsv or .csv. A lone carriage return is quoted too, as others take it for the end of a row."""
    lines: list[str] = []
    writer = csv.writer(SimpleNamespace(write=lines.append), delimiter=delimiter, lineterminator="\r\n")
    writer.writerows(rows)
    return "".join(f"{line[:-2]}\n" for line in lines).encode()


def as_cell(value: object) -> str:
    """A field that is carried along; numbers and lists, which only JSON has, as they stand there."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def kept_columns(options: PredictOptions, own: Sequence[str]) -> list[str]:
    """The columns of the data that --keep names, or numbers from 1. own: those of the answers.

    Raises:
        ValueError: there is none of that name, or it is the name of one of the answers.
    """
    with open_lines(Path(options.data), options) as lines:
        next((None for _ in read_rows(lines) if lines.columns), None)
    columns, known = [name for name in lines.columns if name.strip()], list(lines.columns)
    if not columns:
        return []  # it has no rows, which is told when they are read
    kept = columns
    if options.keep != EVERY:
        asked = next(csv.reader([",".join(options.keep.splitlines())])) or [""]
        kept = list(dict.fromkeys(meant(name.strip(), known) for name in asked))
        if absent := [name for name in kept if name not in columns]:
            raise ValueError(f"{options.data}: has no column {absent[0]!r} to keep; type {keeping(columns, known)}")
    elif len(columns) < len(known):
        say(f"{options.data}: a column without a name is not kept")
    taken = {name.lower() for name in own}
    if clash := next((name for name in kept if name.strip().lower() in taken), None):
        others = [name for name in kept if name.strip().lower() not in taken]
        instead = f"type {keeping(others, known)}, or rename it there" if others else "rename it there"
        raise ValueError(f"{options.data}: its column {clash!r} has the name of one of the answers; {instead}")
    return kept


def meant(asked: str, columns: Sequence[str]) -> str:
    """The column of that number or name, as of --text-column; where there is none, what was asked for."""
    if asked.isdecimal():
        return columns[int(asked) - 1] if 0 < int(asked) <= len(columns) else asked
    return {name.strip().lower(): name for name in columns}.get(asked.lower(), asked)


def keeping(columns: Sequence[str], known: Sequence[str]) -> str:
    """--keep with some of the columns, as it can be typed; one that is called as a number, by its own."""
    names = [str(known.index(name) + 1) if name.strip().isdecimal() else name for name in columns]
    return f"--keep {shlex.quote(as_table([names], ',').decode().removesuffix(chr(10)))}"


def embed_file(options: JobOptions, pooling: str | None = None, normalize: bool | None = None) -> Done:
    """Sentence vectors into a .npy, float32 [N, E], vector i of row i; where a row is left out it is NaN. pooling and
    normalize: None, as the model's files say. See predict_file for what is raised."""
    checked_kind(options, (".npy",))
    loaded = options.directory, options.attention, options.device
    more = {"pooling": pooling, "normalize": normalize, "precision": options.precision, "keep_weights": False}
    encoder = TextEncoder.from_pretrained(*loaded, **more)
    E = encoder.config.hidden_size

    def answer(encoding: Encoding, tokens: int) -> Tensor:
        return encoder.vectors(encoding, tokens_per_batch=tokens)

    def body(window: Window, numbers: list[int], vectors: Tensor) -> bytes:
        rows = np.full((window.end - window.begin, E), np.nan, "<f4")
        rows[np.array(numbers, np.int64) - window.begin - 1] = vectors
        return rows.tobytes()

    def head(rows: int) -> bytes:
        file = io.BytesIO()
        npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, E)})
        return file.getvalue()

    settings = {"command": "embed", "pooling": encoder.pooling, "normalize": encoder.normalize}
    settings |= unlike_float32(encoder.model)
    directory = hub.resolve(options.directory)
    if (folder := read_files(directory, encoder.pooling).folder) != directory:
        settings["folders"] = model_digest(directory) + model_digest(folder)
    return run(options, settings, encoder, answer, head, body)


def unlike_float32(model: nn.Module) -> dict[str, str]:
    """What a journal says of the precision; nothing of float32's, as releases that had no other."""
    return {"precision": "bf16"} if next(model.parameters()).dtype is torch.bfloat16 else {}


def checked_kind(options: JobOptions, kinds: Sequence[str]) -> str:
    """What can be refused before a model is loaded. Returns the kind of output.

    Raises:
        ValueError: the input is no file or of an unknown kind, or the output is.
    """
    checked_paths(options.data, () if options.format else ENDINGS)
    layout_of(Path(options.data), options)
    out = Path(options.out)
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
) -> Done:
    """Everything that the jobs share.

    Args:
        settings: what the answers depend on besides the model and the options of all jobs.
        answer: an encoding and a token budget -> numbers [N, …].
        head, body: bytes of the output, its head for so many rows, and a window's answers to these of its rows.
    """
    max_length = trained.tokens_read(options.max_length)
    tokens = token_budget(options.tokens_per_batch, trained.model)
    settings = settings | {"model": model_digest(resolve(options.directory)), "max_length": max_length}
    settings |= {"columns": options.columns, "quoting": options.quoting, **options.stated()}

    with held(Path(options.out)):
        output = Output(Path(options.out), settings, head)
        if output.complete:
            output.finish()
            return output.done
        try:
            output.open()
            fill(output, options, trained, tokens, answer, body)
            if not output.done.rows:
                raise ValueError(f"{options.data}: holds no rows; give at least one")
            output.finish()
        except BaseException as error:  # Ctrl-C too
            output.give_up()
            if not is_short_of_memory(error):
                raise
            less = f"--tokens-per-batch {max(1, tokens // 2)}, or cut long rows with --max-length {max_length // 2}"
            raise ValueError(f"a batch of {tokens} tokens does not fit into memory; try {less}") from None
    return output.done


def fill(
    output: Output,
    options: JobOptions,
    trained: TextClassifier | TextEncoder,
    tokens: int,
    answer: Callable[[Encoding, int], Tensor],
    body: Callable[[Window, list[int], Tensor], bytes],
) -> None:
    """Answers the rows that the output has not. tokens: of a batch; the rest as in `run`.

    Raises:
        ValueError: a row is broken, or the data was not the same all the time.
    """
    data = Path(options.data)
    before = identity(os.stat(data))
    with Interrupt() as interrupt, open_lines(data, options) as lines:
        interrupt.requested = True  # nothing has to be finished first: a signal stops at once
        lines.keep, lines.keeps_all = (output.settings.get(name, ()) for name in ("keep", "keep_all"))
        rows = read_rows(lines)
        skip_done(rows, lines, output)
        limit = trained.tokens_read(options.max_length)
        made = windows(rows, lines, output.done.rows, trained, limit, BATCHES * tokens)
        with closing(prefetched(made)) as ready, closing(with_progress(ready, data, output.done.rows)) as shown:
            for place, window in enumerate(shown):
                if not place:
                    say(f"{data}: {what_is_read(lines)}{aside(lines)}")
                tell(window.doubts)
                numbers, good, problems = checked_answers(answer(window.encoding, tokens), window)
                if problems and options.on_error == "stop":
                    check_unchanged(data, before)
                    number, problem = problems[0]
                    raise ValueError(f"row {number}, {problem}; or leave such rows out: --on-error skip")
                output.add(body(window, numbers, good), window, problems)
        check_unchanged(data, before)


def check_unchanged(data: Path, before: tuple[int, ...]) -> None:
    """Raises ValueError where a file is not as it was when it was opened."""
    if identity(os.stat(data)) != before:
        raise ValueError(f"{data}: was changed while it was read; see that it is whole, then type the command again")


def identity(status: os.stat_result) -> tuple[int, ...]:
    """What is another when a file is replaced, cut, or written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def is_short_of_memory(error: BaseException) -> bool:
    """On a CPU PyTorch says "can't allocate memory"."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "t allocate memory" in str(error)


def model_digest(directory: Path) -> str:
    """Of all files of a model that are read."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(directory.iterdir()):
        if path.is_file() and any(path.match(pattern) for pattern in (*PATTERNS, *OLD_PATTERNS)):
            with open(path, "rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def skip_done(rows: Iterator[Row], lines: Lines, output: Output) -> None:
    """Reads the rows that are done, which have to be those that were done.

    Raises:
        ValueError: they are not.
    """
    count = output.done.rows
    if count and (sum(1 for _ in islice(rows, count)) < count or lines.digest.hexdigest() != output.done.digest):
        raise ValueError(
            f"{lines.path}: its first {count} rows are not those that {output.partial} was made of; put them back,"
            f" or delete {output.journal} to begin anew"
        )


def prefetched(items: Iterator[Window]) -> Iterator[Window]:
    """The same, made in a thread that is up to AHEAD of them in front: on a CPU encoding is a hundredth of the model's
    work, and to send its arrays from one process to another takes longer than to make them."""
    pool = ThreadPoolExecutor(1)
    waiting = deque(pool.submit(next, items, None) for _ in range(AHEAD))
    try:
        while (item := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, items, None))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


def with_progress(windows: Iterator[Window], data: Path, done: int) -> Iterator[Window]:
    """The windows; each counts as done when the next is asked for. Rows done, rows a second, time left: a bar on a
    terminal, else a line every SECONDS. There are about as many rows as lines."""
    with opened(data) as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    begin = said = time.monotonic()
    with tqdm(total=max(lines, done), initial=done, unit=" rows", disable=not on_terminal()) as bar:
        for window in windows:
            yield window
            bar.update(window.end - window.begin)
            now = time.monotonic()
            if not on_terminal() and now - said >= SECONDS:
                said = now
                form = "{n} of about {total} rows  {rate_fmt}  {remaining} left"
                numbers = window.end, max(lines, window.end), now - begin
                say(tqdm.format_meter(*numbers, initial=done, unit=" rows", bar_format=form))
