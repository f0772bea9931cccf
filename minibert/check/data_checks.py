"""The doctor's checks of data: what in a file of rows makes training slow, scores wrong, or texts unreadable.

A check yields the findings of one file, or of all of them; those that need a vocabulary are left out without one.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minibert.core import wordpiece
from minibert.core.data import Examples, chunks, shuffled
from minibert.fast.batches import by_length
from minibert.io.examples import read_as
from minibert.io.findings import Finding, error, graded, note, refusal, share, warning
from minibert.io.stderr import say
from minibert.options import Reading
from minibert.text.data_doubts import REPEATED, Key, cut, empty, keys_of, leak, unknown
from minibert.text.tokenizer import Tokenizer
from minibert.text.tokenizer_files import is_misread

# The shares above which something is worth a warning.
FOREIGN = 0.3  # characters of a script that are [UNK]: bert-base-uncased knows a few of every script
SCRIPT = 0.01  # letters that belong to the script
MAJORITY = 0.9  # rows of one label
DAMAGED = 0.01  # texts that hold mojibake
FEW = 5  # rows of a label that are too few to learn from
BATCH = 32  # rows of a batch, as in the paper's fine-tuning

Findings = Iterator[Finding]


class RowFile(NamedTuple):
    """The N rows of one file, and what the vocabulary makes of them."""

    name: str
    rows: Examples
    keys: list[tuple[int, Key]]  # of each row its line in the file, and what it says
    texts: list[str]  # of all rows, then their pairs
    damaged: list[str]  # texts read in a wrong encoding; none where they are so few that it may be meant
    lengths: NDArray[np.int64] | None  # tokens of a row, [CLS] and [SEP] included, [N]; None without a vocabulary
    tokens: int  # of all rows, special ones left out
    unknown: Counter[str]  # the words that are [UNK]
    max_length: int  # tokens of a row that are read
    tokenizer: Tokenizer | None


def check_data(
    paths: Sequence[str | Path],
    how: Reading,
    tokenizer: Tokenizer | None,
    max_length: int,
    model_labels: list[str] | None = None,
) -> Findings:
    """All findings about data files; a file that cannot be read is one, and leaves the others to be checked."""
    files = []
    for path in map(Path, paths):
        try:
            rows, line = read_as(path, how, labelled=None)
        except ValueError as reason:
            yield refusal(name_of(str(reason)), reason)
            continue
        say(line)
        files.append(row_file(path.name, rows, max_length, tokenizer))
    for check in CHECKS_OF_A_FILE:
        for file in files[:1] if check is padding else files:  # only training pads its batches
            yield from check(file)
    yield from leaks(files)
    labelled = [file for file in files if file.rows.labels is not None]
    for check in (contradictions, balance):
        yield from check(labelled)
    yield from unseen_labels(labelled, model_labels)


def name_of(reason: str) -> str:
    """Of the finding that a file is refused for a reason."""
    names = {"is not UTF-8": "data-not-utf8", "runs over several rows": "data-quotes"}
    return next((name for sign, name in names.items() if sign in reason), "data-refused")


def row_file(name: str, rows: Examples, max_length: int, tokenizer: Tokenizer | None) -> RowFile:
    """The rows with all that the checks ask of them."""
    pairs = rows.pairs or []
    texts = rows.texts + pairs
    damaged = [text for text in texts if "\ufffd" in text or (not text.isascii() and is_misread(text))]
    if len(damaged) <= DAMAGED * len(texts):
        damaged = []
    lengths, tokens, unknown = None, 0, Counter()
    if tokenizer is not None:
        flat = tokenizer.encode_flat(texts, return_offsets=True)
        owner = np.repeat(np.arange(len(texts)), flat.lengths)  # of each token, the text that it comes from
        for token in np.flatnonzero(flat.ids == tokenizer.unk_id).tolist():
            start, end = flat.spans[token].tolist()
            unknown[texts[owner[token]][start:end]] += 1
        special = 3 if pairs else 2  # [CLS], and [SEP] after each text
        lengths = flat.lengths.reshape(-1, len(rows)).sum(axis=0) + special
        tokens = len(flat.ids)
    return RowFile(name, rows, keys_of(rows), texts, damaged, lengths, tokens, unknown, max_length, tokenizer)


# ---- the text ----


def mojibake(file: RowFile) -> Findings:
    """Texts whose bytes were once read in the wrong encoding: their words are in no vocabulary."""
    if broken := file.damaged:
        what = f"{file.name}: {share(len(broken), len(file.texts))} of the texts are like {broken[0][:40]!r}"
        yield warning("data-mojibake", what, "UTF-8 was read in another encoding; get the original file again")


def quotes(file: RowFile) -> Findings:
    """A .tsv whose quotes are plain text may be read without an error, with several rows joined into one."""
    joined = [line for line, (text, pair) in file.keys if set("\t\n") & {*text, *pair}]
    if joined and file.name.endswith(".tsv"):
        what = f"{file.name}:{joined[0]}: a quoted field runs over tabs or lines, as in {len(joined)} rows"
        yield warning("data-quotes", what, "if quotes are plain text here: --quoting none")


def empty_texts(file: RowFile) -> Findings:
    """Rows without a text."""
    if lines := [line for line, (text, _) in file.keys if not text]:
        yield empty(file.name, len(lines), f", the first on line {lines[0]}")


def unknown_words(file: RowFile) -> Findings:
    """What is [UNK], and which words are."""
    if count := file.unknown.total():
        yield unknown(file.name, count, file.tokens, file.unknown)


def scripts(file: RowFile) -> Findings:
    """Writing that the vocabulary does not hold: Chinese text with an English vocabulary. Damaged text is skipped."""
    tokenizer = file.tokenizer
    if tokenizer is None or file.damaged:
        return
    switches = tokenizer.lowercase, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars
    alphabet = {" ", *chain.from_iterable(tokenizer.vocab)}
    letters = Counter(char for char in chain.from_iterable(file.texts) if char.isalpha())
    seen, lost = Counter[str](), Counter[str]()  # script -> letters; those that are not in the vocabulary
    for char, count in letters.items():
        normal = {char for char, _ in wordpiece.normalize(char, *switches)}
        seen[script(char)] += count
        lost[script(char)] += count * bool(normal - alphabet)
    for name, count in seen.items():
        if count > SCRIPT * letters.total() and lost[name] > FOREIGN * count:
            what = f"{file.name}: {share(lost[name], count)} of its {name} characters are not in the vocabulary"
            remedy = f"take a model for {name} text; {share(count, letters.total())} of the letters are {name}"
            yield error("data-script", what, remedy)


def script(char: str) -> str:
    """ "Latin", "Chinese", "Hiragana" …: the first word of the character's name."""
    name = unicodedata.name(char, "unknown").split()[0].title()
    return "Chinese" if name == "Cjk" else name


# ---- lengths ----


def truncation(file: RowFile) -> Findings:
    """How long the rows are, and what max_length takes of them."""
    if file.lengths is not None:
        yield cut(file.name, file.lengths, file.max_length)


def padding(file: RowFile) -> Findings:
    """How much of a padded batch of the training rows would be padding, and a budget of tokens in its place."""
    if file.lengths is None:
        return
    lengths = file.lengths.clip(max=file.max_length)
    random, ordered = waste(lengths, shuffled(len(lengths), 0, 0)), waste(lengths, by_length(lengths))
    budget = max(file.max_length, round(BATCH * float(lengths.mean())))
    shares = share(random), share(ordered)
    what = f"{file.name}: in padded batches of {BATCH}, {shares[0]} is padding in random order, {shares[1]} sorted"
    remedy = f"--tokens-per-batch {budget} gives about {budget / lengths.mean():.0f} rows a batch"
    yield note("data-padding", what, f"{remedy}; minibert computes no padding")


def waste(lengths: NDArray[np.int64], order: Sequence[int]) -> float:
    """The share of [PAD] in batches of BATCH rows. lengths: [N], in tokens."""
    size = sum(len(rows) * int(lengths[list(rows)].max()) for rows in chunks(order, BATCH))
    return 1 - int(lengths.sum()) / size


# ---- rows ----


def duplicates(file: RowFile) -> Findings:
    """Rows of one file that say the same, their labels aside."""
    first: dict[Key, int] = {}
    if again := [(line, first[key]) for line, key in file.keys if first.setdefault(key, line) != line]:
        what = f"{file.name}: {len(again)} rows ({share(len(again), len(file.rows))}) repeat another one"
        what += f"; line {again[0][0]} repeats line {again[0][1]}"
        remedy = "keep one of each: repeated rows weigh more"
        yield graded(len(again) > REPEATED * len(file.rows), "data-duplicates", what, remedy)


def leaks(files: list[RowFile]) -> Findings:
    """Rows of one file that stand in an earlier one too."""
    for earlier, file in combinations(files, 2):
        yield from leak(file.name, file.keys, earlier.name, earlier.keys)


# ---- labels ----


def contradictions(files: list[RowFile]) -> Findings:
    """The same text under several labels, in one file or in two: nobody can learn both."""
    labels: dict[Key, set[str]] = {}
    for file in files:
        for (_, key), label in zip(file.keys, file.rows.labels, strict=True):
            labels.setdefault(key, set()).add(label)
    if several := [(text, sorted(names)) for (text, _), names in labels.items() if len(names) > 1]:
        text, names = several[0]
        what = f"texts with several labels: {len(several)}, such as {text[:40]!r}: {', '.join(names)[:80]}"
        yield warning("data-contradictions", what, "decide for one label each, or leave these rows out")


def balance(files: list[RowFile]) -> Findings:
    """The baseline that a classifier has to beat, and labels that it cannot learn."""
    for file in files:
        counts, rows = Counter(file.rows.labels), len(file.rows)
        shares = ", ".join(f"{label} {share(n, rows)}" for label, n in counts.most_common(6))
        what = f"{file.name}: {len(counts)} labels: {shares}{', …' * (len(counts) > 6)}"
        if len(counts) < 2:
            kind = error if file is files[0] else warning
            yield kind("data-one-label", what, "a classifier needs two labels or more")
            continue
        rare = max(counts.values()) > MAJORITY * rows or min(counts.values()) < FEW
        yield graded(rare, "data-balance", what, "collect more of the rare ones, and compare macro F1, not accuracy")


def unseen_labels(files: list[RowFile], model_labels: list[str] | None) -> Findings:
    """Labels that the model, or else the first file, does not have."""
    for file in files:
        known, owner = model_labels, "the model"
        if known is None:
            known, owner = files[0].rows.labels, files[0].name
        if unseen := sorted({*file.rows.labels} - {*known}):
            what = f"{file.name}: {owner} has no label {', '.join(unseen)[:80]}"
            what += f"; it has {', '.join(sorted({*known}))[:80]}"
            yield error("data-labels", what, "give both the same labels, spelled alike")


CHECKS_OF_A_FILE: tuple[Callable[[RowFile], Findings], ...] = (
    *(mojibake, quotes, empty_texts, unknown_words, scripts, truncation, padding, duplicates),
)
