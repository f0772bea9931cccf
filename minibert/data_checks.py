"""The doctor's checks of data: what in a file of rows makes training slow, scores wrong, or a model blind.

Each check takes all splits and yields findings; those that need a vocabulary are left out where there is none.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minibert.batches import by_length
from minibert.core import wordpiece
from minibert.core.data import Examples, chunks, shuffled
from minibert.data import read_examples
from minibert.findings import Finding, error, note, refusal, text_encoding, warning
from minibert.tokenizer import Tokenizer
from minibert.tokenizer_files import is_misread

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
class Split:
    """The rows of one file, and what the vocabulary makes of them."""

    name: str  # its file's
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
    splits: list[Split]  # the first is what is trained on
    tokenizer: Tokenizer | None
    max_length: int
    model_labels: list[str] | None  # of a model that has a classifier


def check_data(
    files: Sequence[str | Path],
    columns: Sequence[str] | None,
    quoting: str,
    tokenizer: Tokenizer | None,
    max_length: int,
    model_labels: list[str] | None = None,
) -> Iterator[Finding]:
    """All findings about data files; a file that cannot be read is one, and leaves the others to be checked."""
    splits = []
    for file in map(Path, files):
        if file.is_file() and (found := list(text_encoding("data-not-utf8", file, file.read_bytes()))):
            yield from found
            continue
        try:
            rows = read_examples(file, columns, quoting, labelled=None)
        except ValueError as reason:
            yield refusal("data-refused", reason)
            continue
        splits.append(Split(file.name, rows, *encoded(rows, tokenizer)))
    data = Data(splits, tokenizer, max_length, model_labels)
    for check in CHECKS:
        yield from check(data)


def encoded(rows: Examples, tokenizer: Tokenizer | None) -> tuple[NDArray[np.int64] | None, Counter[str]]:
    """Each row's length in tokens, and the words that the vocabulary does not hold."""
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
    return lengths + (2 if rows.pairs is None else 3), unknown


# ---- the text ----


def mojibake(data: Data) -> Iterator[Finding]:
    for split in data.splits:
        if broken := damaged(split):
            what = f"{split.name}: {share(len(broken), len(split.all_texts))} of the texts are like {broken[0][:40]!r}"
            yield warning("data-mojibake", what, "UTF-8 was read in another encoding; get the original file again")


def damaged(split: Split) -> list[str]:
    """The texts that a wrong encoding has spoiled; none where they are so few that they may mean it."""
    texts = split.all_texts
    broken = [text for text in texts if "\ufffd" in text or (not text.isascii() and is_misread(text))]
    return broken if len(broken) > DAMAGED * len(texts) else []


def quotes(data: Data) -> Iterator[Finding]:
    """A .tsv whose quotes are plain text can be read in the wrong way without a complaint: rows are glued together."""
    for split in data.splits:
        glued = [i for i, (a, b) in enumerate(split.keys) if split.name.endswith(".tsv") and set("\t\n") & {*a, *b}]
        if glued:
            what = f"{split.name}:{split.rows.lines[glued[0]]}: a quoted field runs over tabs or lines, as in"
            yield warning("data-quotes", f"{what} {len(glued)} rows", "if quotes are plain text here: --quoting none")


def empty(data: Data) -> Iterator[Finding]:
    for split in data.splits:
        if rows := [i for i, (text, _) in enumerate(split.keys) if not text]:
            what = f"{split.name}: {len(rows)} texts are empty, the first on line {split.rows.lines[rows[0]]}"
            yield warning("data-empty", what, "remove these rows, or look for what emptied them")


def unknown_words(data: Data) -> Iterator[Finding]:
    for split in data.splits:
        if split.lengths is None or not (count := split.unknown.total()):
            continue
        ends = 2 if split.rows.pairs is None else 3
        tokens = int(split.lengths.sum()) - ends * len(split.rows)
        most = ", ".join(f"{word[:20]!r} {n}×" for word, n in split.unknown.most_common(6))
        what = f"{split.name}: {share(count, tokens)} of the tokens are [UNK], most often {most}"
        if count > UNKNOWN * tokens:
            yield warning("data-unknown", what, "take the vocabulary of the data's language, in its case")
        else:
            yield note("data-unknown", what)


def scripts(data: Data) -> Iterator[Finding]:
    """Writing that the vocabulary does not hold: Chinese text with an English vocabulary. Spoiled text is skipped."""
    if (tokenizer := data.tokenizer) is None:
        return
    switches = tokenizer.lowercase, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars
    alphabet = {" ", *chain.from_iterable(tokenizer.vocab)}
    for split in data.splits:
        if damaged(split):
            continue
        letters = Counter(char for char in chain.from_iterable(split.all_texts) if char.isalpha())
        seen, lost = Counter[str](), Counter[str]()
        for char, count in letters.items():
            seen[script(char)] += count
            normal = {char for char, _ in wordpiece.normalize(char, *switches)}
            lost[script(char)] += count * bool(normal - alphabet)
        for name, count in seen.items():
            if count > SCRIPT * letters.total() and lost[name] > FOREIGN * count:
                what = f"{split.name}: {share(lost[name], count)} of its {name} characters are not in the vocabulary"
                remedy = f"take a model for {name} text; {share(count, letters.total())} of the letters are {name}"
                yield error("data-script", what, remedy)


def script(char: str) -> str:
    """ "Latin", "Chinese", "Hiragana" …: the first word of the character's name."""
    name = unicodedata.name(char, "unknown").split()[0].title()
    return "Chinese" if name == "Cjk" else name


# ---- lengths ----


def truncation(data: Data) -> Iterator[Finding]:
    for split in data.splits:
        if split.lengths is None:
            continue
        lengths, limit = split.lengths, data.max_length
        p50, p90, p99 = (int(p) for p in np.percentile(lengths, (50, 90, 99), method="higher"))
        cut, lost = int((lengths > limit).sum()), int((lengths - limit).clip(min=0).sum())
        cuts = (
            f"{share(cut, len(lengths))} of the rows, {share(lost, int(lengths.sum()))} of the tokens"
            if cut
            else "none"
        )
        what = f"{split.name}: tokens of a row p50 {p50}, p90 {p90}, p99 {p99}, longest {lengths.max()}; "
        what += f"max_length {limit} cuts {cuts}"
        if lost > LOST * lengths.sum():
            yield warning("data-truncation", what, "raise --max-length, if the model goes further, or split the texts")
        else:
            yield note("data-truncation", what)


def padding(data: Data) -> Iterator[Finding]:
    for split in data.splits[:1]:
        if split.lengths is None:
            continue
        lengths = split.lengths.clip(max=data.max_length)
        orders = shuffled(len(lengths), 0, 0), by_length(lengths)
        random, ordered = (percent(waste(lengths, order)) for order in orders)
        budget = max(data.max_length, round(BATCH * float(lengths.mean())))
        what = f"{split.name}: in padded batches of {BATCH}, {random} is padding in random order, {ordered} sorted"
        remedy = f"--tokens-per-batch {budget} gives about {budget / lengths.mean():.0f} rows a batch"
        yield note("data-padding", what, f"{remedy}; minibert computes no padding")


def waste(lengths: NDArray[np.int64], order: Sequence[int]) -> float:
    """The share of [PAD] in batches of BATCH rows."""
    size = sum(len(rows) * int(lengths[list(rows)].max()) for rows in chunks(order, BATCH))
    return 1 - int(lengths.sum()) / size


# ---- rows ----


def duplicates(data: Data) -> Iterator[Finding]:
    for split in data.splits:
        first: dict[Key, int] = {}
        for line, key in zip(split.rows.lines, split.keys, strict=True):
            if key in first:
                example = f"line {line} repeats line {first[key]}"
                break
            first[key] = line
        if not (count := len(split.rows) - len(set(split.keys))):
            continue
        what = f"{split.name}: {count} rows ({share(count, len(split.rows))}) repeat another one; {example}"
        if count > REPEATED * len(split.rows):
            yield warning("data-duplicates", what, "keep one of each: repeated rows weigh more")
        else:
            yield note("data-duplicates", what)


def leaks(data: Data) -> Iterator[Finding]:
    """Rows of one split that stand in an earlier one too: what is measured on them is memory."""
    for later, split in enumerate(data.splits):
        for other in data.splits[:later]:
            known = dict(zip(reversed(other.keys), reversed(other.rows.lines), strict=True))
            rows = [i for i, key in enumerate(split.keys) if key in known]
            if not rows:
                continue
            example = f"line {split.rows.lines[rows[0]]} is line {known[split.keys[rows[0]]]} there"
            what = f"{split.name}: {share(len(rows), len(split.rows))} of its rows ({len(rows)}) stand in {other.name}"
            kind = error if len(rows) > REPEATED * len(split.rows) else warning
            remedy = f"take them out of {other.name}, or report scores without them too"
            yield kind("data-leak", f"{what}; {example}", remedy)


# ---- labels ----


def labelled(data: Data) -> list[Split]:
    return [split for split in data.splits if split.rows.labels is not None]


def contradictions(data: Data) -> Iterator[Finding]:
    labels: dict[Key, set[str]] = {}
    for split in labelled(data):
        for key, label in zip(split.keys, split.rows.labels, strict=True):
            labels.setdefault(key, set()).add(label)
    torn = {key: sorted(names) for key, names in labels.items() if len(names) > 1}
    if torn:
        key, names = next(iter(torn.items()))
        what = f"texts with several labels: {len(torn)}, such as {key[0][:40]!r}: {', '.join(names)[:80]}"
        yield warning("data-contradictions", what, "decide for one label each, or leave these rows out")


def balance(data: Data) -> Iterator[Finding]:
    """The baseline that a classifier has to beat, and labels that it cannot learn."""
    for split in labelled(data):
        counts, rows = Counter(split.rows.labels), len(split.rows)
        shares = ", ".join(f"{label} {share(n, rows)}" for label, n in counts.most_common(6))
        what = f"{split.name}: {len(counts)} labels: {shares}{', …' * (len(counts) > 6)}"
        if len(counts) < 2:
            kind = error if split is data.splits[0] else warning
            yield kind("data-one-label", what, "a classifier needs two labels or more")
        elif counts.most_common(1)[0][1] > MAJORITY * rows or min(counts.values()) < FEW:
            yield warning("data-balance", what, "collect more of the rare ones, and compare macro F1, not accuracy")
        else:
            yield note("data-balance", what)


def unseen_labels(data: Data) -> Iterator[Finding]:
    """Labels that the model, or the rows it is trained on, do not have."""
    splits = labelled(data)
    if data.model_labels is not None:
        known, owner = set(data.model_labels), "the model"
    elif splits:
        known, owner = set(splits[0].rows.labels), splits[0].name
    for split in splits:
        if strange := sorted(set(split.rows.labels) - known):
            what = (
                f"{split.name}: {owner} has no label {', '.join(strange)[:80]}; it has {', '.join(sorted(known))[:80]}"
            )
            yield error("data-labels", what, "give both the same labels, spelled alike")


def share(part: int, whole: int) -> str:
    return percent(part / max(whole, 1))


def percent(ratio: float) -> str:
    """ "28.2 %" """
    return f"{100 * ratio:.1f} %"


CHECKS: tuple[Callable[[Data], Iterator[Finding]], ...] = (
    *(mojibake, quotes, empty, unknown_words, scripts, truncation, padding),
    *(duplicates, leaks, contradictions, balance, unseen_labels),
)
