"""The doctor's checks of data: what in a file of rows makes training slow, scores wrong, or a model blind.

A check yields the findings of one file, or of all of them; those that need a vocabulary are left out without one.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minibert.core import wordpiece
from minibert.core.data import Examples, chunks, shuffled
from minibert.fast.batches import by_length
from minibert.io.examples import read_examples
from minibert.io.findings import Finding, error, note, refusal, text_encoding, warning
from minibert.text.tokenizer import Tokenizer
from minibert.text.tokenizer_files import is_misread

# From which share on something is worth a warning.
UNKNOWN = 0.02  # tokens that are [UNK]
FOREIGN = 0.3  # characters of a script that are [UNK]: bert-base-uncased knows a few of every script
SCRIPT = 0.01  # letters that belong to the script
LOST = 0.1  # tokens that truncation takes
REPEATED = 0.01  # rows that stand in their split twice, or in another one
MAJORITY = 0.9  # rows of one label
DAMAGED = 0.01  # rows that hold mojibake
FEW = 5  # rows of a label that nobody can learn from
BATCH = 32  # rows of a batch, as in the paper's fine-tuning

Key = tuple[str, str]  # a row's text and pair


@dataclass(frozen=True)
class RowFile:
    """The rows of one file, and what the vocabulary makes of them."""

    name: str
    rows: Examples
    lengths: NDArray[np.int64] | None  # tokens of a row, [CLS] and [SEP] included; None without a vocabulary. [N]
    unknown: Counter[str]  # the words that are [UNK]

    @property
    def keys(self) -> list[Key]:
        pairs = self.rows.pairs or [""] * len(self.rows)
        return [(text.strip(), pair.strip()) for text, pair in zip(self.rows.texts, pairs, strict=True)]

    @property
    def all_texts(self) -> list[str]:
        return [*self.rows.texts, *(self.rows.pairs or [])]


@dataclass(frozen=True)
class Data:
    files: list[RowFile]  # the first is what is trained on
    tokenizer: Tokenizer | None
    max_length: int
    model_labels: list[str] | None  # of a model that has a classifier


def check_data(
    paths: Sequence[str | Path],
    columns: Sequence[str] | None,
    quoting: str,
    tokenizer: Tokenizer | None,
    max_length: int,
    model_labels: list[str] | None = None,
) -> Iterator[Finding]:
    """All findings about data files; a file that cannot be read is one, and leaves the others to be checked."""
    files = []
    for path in map(Path, paths):
        if path.is_file() and (found := list(text_encoding("data-not-utf8", path, path.read_bytes()))):
            yield from found
            continue
        try:
            rows = read_examples(path, columns, quoting, labelled=None)
        except ValueError as reason:
            yield refusal("data-refused", reason)
            continue
        files.append(RowFile(path.name, rows, *encoded(rows, tokenizer)))
    data = Data(files, tokenizer, max_length, model_labels)
    for check in CHECKS_OF_A_FILE:
        for file in files:
            yield from check(file, data)
    for check in CHECKS_OF_ALL:
        yield from check(data)


def encoded(rows: Examples, tokenizer: Tokenizer | None) -> tuple[NDArray[np.int64] | None, Counter[str]]:
    """Each row's length in tokens, special ones included, [N], and the words that the vocabulary does not hold."""
    if tokenizer is None:
        return None, Counter()
    texts = [*rows.texts, *(rows.pairs or [])]
    flat = tokenizer.encode_flat(texts, return_offsets=True)
    owner = np.repeat(np.arange(len(texts)), flat.lengths)
    unknown: Counter[str] = Counter()
    for token in np.flatnonzero(flat.ids == tokenizer.unk_id).tolist():
        start, end = flat.spans[token].tolist()
        unknown[texts[owner[token]][start:end]] += 1
    lengths = flat.lengths.reshape(-1, len(rows)).sum(axis=0)
    return lengths + special_tokens(rows), unknown


def special_tokens(rows: Examples) -> int:
    """Of each row: [CLS], and [SEP] after each text."""
    return 2 if rows.pairs is None else 3


def graded(wrong: bool, name: str, what: str, remedy: str) -> Finding:
    """A warning with its remedy, or where nothing is wrong a note."""
    return warning(name, what, remedy) if wrong else note(name, what)


# ---- the text ----


def mojibake(file: RowFile, data: Data) -> Iterator[Finding]:
    """Texts whose bytes were once read in the wrong encoding: their words are in no vocabulary."""
    if broken := damaged(file):
        what = f"{file.name}: {share(len(broken), len(file.all_texts))} of the texts are like {broken[0][:40]!r}"
        yield warning("data-mojibake", what, "UTF-8 was read in another encoding; get the original file again")


def damaged(file: RowFile) -> list[str]:
    """The texts that a wrong encoding has spoiled; none where they are so few that they may mean it."""
    texts = file.all_texts
    broken = [text for text in texts if "\ufffd" in text or (not text.isascii() and is_misread(text))]
    return broken if len(broken) > DAMAGED * len(texts) else []


def quotes(file: RowFile, data: Data) -> Iterator[Finding]:
    """A .tsv whose quotes are plain text can be read in the wrong way without a complaint: rows are glued together."""
    glued = [i for i, (a, b) in enumerate(file.keys) if set("\t\n") & {*a, *b}]
    if glued and file.name.endswith(".tsv"):
        what = f"{file.name}:{file.rows.lines[glued[0]]}: a quoted field runs over tabs or lines, as in"
        yield warning("data-quotes", f"{what} {len(glued)} rows", "if quotes are plain text here: --quoting none")


def empty(file: RowFile, data: Data) -> Iterator[Finding]:
    """A row without a text still has a label, and counts."""
    if rows := [i for i, (text, _) in enumerate(file.keys) if not text]:
        what = f"{file.name}: {len(rows)} texts are empty, the first on line {file.rows.lines[rows[0]]}"
        yield warning("data-empty", what, "remove these rows, or look for what emptied them")


def unknown_words(file: RowFile, data: Data) -> Iterator[Finding]:
    """What is [UNK] looks the same to the model, whatever it was."""
    if count := file.unknown.total():
        tokens = int(file.lengths.sum()) - special_tokens(file.rows) * len(file.rows)
        most = ", ".join(f"{word[:20]!r} {n}×" for word, n in file.unknown.most_common(6))
        what = f"{file.name}: {share(count, tokens)} of the tokens are [UNK], most often {most}"
        remedy = "take the vocabulary of the data's language, in its case"
        yield graded(count > UNKNOWN * tokens, "data-unknown", what, remedy)


def scripts(file: RowFile, data: Data) -> Iterator[Finding]:
    """Writing that the vocabulary does not hold: Chinese text with an English vocabulary. Spoiled text is skipped."""
    if (tokenizer := data.tokenizer) is None or damaged(file):
        return
    switches = tokenizer.lowercase, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars
    alphabet = {" ", *chain.from_iterable(tokenizer.vocab)}
    letters = Counter(char for char in chain.from_iterable(file.all_texts) if char.isalpha())
    seen = Counter[str]()
    lost = Counter[str]()
    for char, count in letters.items():
        seen[script(char)] += count
        normal = {char for char, _ in wordpiece.normalize(char, *switches)}
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


def truncation(file: RowFile, data: Data) -> Iterator[Finding]:
    """How long the rows are, and what max_length takes of them."""
    if (lengths := file.lengths) is None:
        return
    limit = data.max_length
    total = int(lengths.sum())
    p50, p90, p99 = (int(p) for p in np.percentile(lengths, (50, 90, 99), method="higher"))
    longer = int((lengths > limit).sum())
    lost = int((lengths - limit).clip(min=0).sum())
    shares = f"{share(longer, len(lengths))} of the rows, {share(lost, total)} of the tokens" if longer else "none"
    what = f"{file.name}: tokens of a row p50 {p50}, p90 {p90}, p99 {p99}, longest {lengths.max()}; "
    what += f"max_length {limit} cuts {shares}"
    remedy = "raise --max-length, if the model goes further, or split the texts"
    yield graded(lost > LOST * total, "data-truncation", what, remedy)


def padding(file: RowFile, data: Data) -> Iterator[Finding]:
    """What a padded batch of the training rows would waste, and a budget of tokens in its place."""
    if file.lengths is None or file is not data.files[0]:
        return
    lengths = file.lengths.clip(max=data.max_length)
    orders = shuffled(len(lengths), 0, 0), by_length(lengths)
    random, ordered = (percent(waste(lengths, order)) for order in orders)
    budget = max(data.max_length, round(BATCH * float(lengths.mean())))
    what = f"{file.name}: in padded batches of {BATCH}, {random} is padding in random order, {ordered} sorted"
    remedy = f"--tokens-per-batch {budget} gives about {budget / lengths.mean():.0f} rows a batch"
    yield note("data-padding", what, f"{remedy}; minibert computes no padding")


def waste(lengths: NDArray[np.int64], order: Sequence[int]) -> float:
    """The share of [PAD] in batches of BATCH rows. lengths: [N], in tokens."""
    size = sum(len(rows) * int(lengths[list(rows)].max()) for rows in chunks(order, BATCH))
    return 1 - int(lengths.sum()) / size


# ---- rows ----


def duplicates(file: RowFile, data: Data) -> Iterator[Finding]:
    """Rows of one file that say the same, their labels aside."""
    first: dict[Key, int] = {}
    again = [
        (line, first[key])
        for line, key in zip(file.rows.lines, file.keys, strict=True)
        if first.setdefault(key, line) != line
    ]
    if again:
        what = f"{file.name}: {len(again)} rows ({share(len(again), len(file.rows))}) repeat another one"
        what += "; line {} repeats line {}".format(*again[0])
        remedy = "keep one of each: repeated rows weigh more"
        yield graded(len(again) > REPEATED * len(file.rows), "data-duplicates", what, remedy)


def leaks(data: Data) -> Iterator[Finding]:
    """Rows of one file that stand in an earlier one too: what is measured on them is memory."""
    for earlier, file in combinations(data.files, 2):
        known = dict(zip(reversed(earlier.keys), reversed(earlier.rows.lines), strict=True))
        if rows := [i for i, key in enumerate(file.keys) if key in known]:
            example = f"line {file.rows.lines[rows[0]]} is line {known[file.keys[rows[0]]]} there"
            what = f"{file.name}: {share(len(rows), len(file.rows))} of its rows ({len(rows)}) stand in {earlier.name}"
            kind = error if len(rows) > REPEATED * len(file.rows) else warning
            remedy = f"take them out of {earlier.name}, or report scores without them too"
            yield kind("data-leak", f"{what}; {example}", remedy)


# ---- labels ----


def labelled(data: Data) -> list[RowFile]:
    """The files whose rows have labels."""
    return [file for file in data.files if file.rows.labels is not None]


def contradictions(data: Data) -> Iterator[Finding]:
    """The same text under several labels, in one file or in two: nobody can learn both."""
    labels: dict[Key, set[str]] = {}
    for file in labelled(data):
        for key, label in zip(file.keys, file.rows.labels, strict=True):
            labels.setdefault(key, set()).add(label)
    torn = {key: sorted(names) for key, names in labels.items() if len(names) > 1}
    if torn:
        key, names = next(iter(torn.items()))
        what = f"texts with several labels: {len(torn)}, such as {key[0][:40]!r}: {', '.join(names)[:80]}"
        yield warning("data-contradictions", what, "decide for one label each, or leave these rows out")


def balance(data: Data) -> Iterator[Finding]:
    """The baseline that a classifier has to beat, and labels that it cannot learn."""
    for file in labelled(data):
        counts = Counter(file.rows.labels)
        rows = len(file.rows)
        shares = ", ".join(f"{label} {share(n, rows)}" for label, n in counts.most_common(6))
        what = f"{file.name}: {len(counts)} labels: {shares}{', …' * (len(counts) > 6)}"
        if len(counts) < 2:
            kind = error if file is data.files[0] else warning
            yield kind("data-one-label", what, "a classifier needs two labels or more")
        else:
            rare = counts.most_common(1)[0][1] > MAJORITY * rows or min(counts.values()) < FEW
            yield graded(
                rare, "data-balance", what, "collect more of the rare ones, and compare macro F1, not accuracy"
            )


def unseen_labels(data: Data) -> Iterator[Finding]:
    """Labels that the model, or the rows it is trained on, do not have."""
    files = labelled(data)
    if data.model_labels is not None:
        known, owner = set(data.model_labels), "the model"
    elif files:
        known, owner = set(files[0].rows.labels), files[0].name
    for file in files:
        if strange := sorted(set(file.rows.labels) - known):
            what = f"{file.name}: {owner} has no label {', '.join(strange)[:80]}"
            what += f"; it has {', '.join(sorted(known))[:80]}"
            yield error("data-labels", what, "give both the same labels, spelled alike")


def share(part: int, whole: int) -> str:
    """ "28.2 %" of a whole that may be 0."""
    return percent(part / max(whole, 1))


def percent(ratio: float) -> str:
    """ "28.2 %" """
    return f"{100 * ratio:.1f} %"


CHECKS_OF_A_FILE: tuple[Callable[[RowFile, Data], Iterator[Finding]], ...] = (
    *(mojibake, quotes, empty, unknown_words, scripts, truncation, padding, duplicates),
)
CHECKS_OF_ALL: tuple[Callable[[Data], Iterator[Finding]], ...] = (leaks, contradictions, balance, unseen_labels)
