"""What is doubtful in rows of text: how much of them is [UNK], how much is cut, which stand in another file too. One
judgement, of the doctor and of all that trains or answers. Letters: N rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from minibert.core.data import Examples
from minibert.io.findings import Finding, error, graded, share, warning
from minibert.io.stderr import say
from minibert.text.tokenizer import Encoding, Tokenizer

# The shares above which something is worth a warning.
UNKNOWN = 0.02  # tokens that are [UNK]
TRUNCATED = 0.1  # tokens that truncation takes
REPEATED = 0.01  # rows that stand in their split twice, or in another one

Key = tuple[str, str]  # a row's text and pair, without white space around them


def keys_of(rows: Examples) -> list[tuple[int, Key]]:
    """Of each row its line in the file, and what it says."""
    each = zip_longest(rows.lines, rows.texts, rows.pairs or [], fillvalue="")
    return [(line, (text.strip(), pair.strip())) for line, text, pair in each]


def empty(name: str, count: int, first: str = "") -> Finding:
    """A row without a text still has a label, and counts. first: where it is."""
    what = f"{name}: {count} text is empty{first}"
    if count > 1:
        what = f"{name}: {count} texts are empty{first}"
    return graded(count > 0, "data-empty", what, "remove these rows, or look for what emptied them")


def unknown(name: str, count: int, tokens: int, words: Counter[str] | None = None) -> Finding:
    """What is [UNK] looks the same to the model, whatever it was. words: those that are, where they were counted."""
    what = f"{name}: {share(count, tokens)} of the tokens are [UNK]"
    if words:
        what += f", most often {', '.join(f'{word[:20]!r} {n}×' for word, n in words.most_common(6))}"
    remedy = "take the vocabulary of the data's language, in its case"
    return graded(count > UNKNOWN * tokens, "data-unknown", what, remedy)


def cut(name: str, lengths: NDArray[np.int64], limit: int) -> Finding:
    """How long the rows are, [N] in tokens, and what a limit takes of them."""
    total = int(lengths.sum())
    p50, p90, p99 = (int(p) for p in np.percentile(lengths, (50, 90, 99), method="higher"))
    longer, lost = int((lengths > limit).sum()), int((lengths - limit).clip(min=0).sum())
    shares = f"{share(longer, len(lengths))} of the rows, {share(lost, total)} of the tokens" if longer else "none"
    what = f"{name}: tokens of a row p50 {p50}, p90 {p90}, p99 {p99}, longest {lengths.max()}; "
    what += f"max_length {limit} cuts {shares}"
    remedy = "raise --max-length, if the model goes further, or split the texts"
    return graded(lost > TRUNCATED * total, "data-truncation", what, remedy)


def leak(name: str, rows: Sequence[tuple[int, Key]], earlier: str, there: Sequence[tuple[int, Key]]) -> list[Finding]:
    """Rows that stand in an earlier file too, at most one finding: scores on them measure memory. See keys_of."""
    known = {key: line for line, key in reversed(there)}  # of equal rows the first
    again = [(line, known[key]) for line, key in rows if key in known]
    if not again:
        return []
    what = f"{name}: {share(len(again), len(rows))} of its rows ({len(again)}) stand in {earlier}"
    what += f"; line {again[0][0]} is line {again[0][1]} there"
    kind = error if len(again) > REPEATED * len(rows) else warning
    return [kind("data-leak", what, f"take them out of {earlier}, or report scores without them too")]


def whole_lengths(
    tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, encoding: Encoding, limit: int
) -> NDArray[np.int64]:
    """The rows' tokens before they were cut, [CLS] and [SEP] included, [N]; those that fill the limit are encoded once
    more."""
    lengths = encoding.length.copy()
    full = np.flatnonzero(lengths >= limit)
    parts = [column for column in (texts, pairs) if column is not None]
    flat = tokenizer.encode_flat([column[row] for column in parts for row in full])
    lengths[full] = flat.lengths.reshape(len(parts), -1).sum(axis=0) + len(parts) + 1
    return lengths


def tell(findings: Iterable[Finding]) -> None:
    """Says what is wrong, a line each; no notes."""
    for finding in findings:
        if finding.severity != "note":
            say(f"{finding.what}; {finding.remedy}")


class Doubts:
    """What a vocabulary and a limit make of rows that come in portions: findings that are worth a line, each once."""

    def __init__(self, tokenizer: Tokenizer, limit: int) -> None:
        self.tokenizer, self.limit = tokenizer, limit
        self.unknown = self.tokens = self.empty = 0
        self.names: set[str] = set()  # of the findings there were

    def about(self, name: str, texts: Sequence[str], pairs: Sequence[str] | None, encoding: Encoding) -> list[Finding]:
        """Some more rows, unpadded. How many tokens are [UNK] is judged over all there were; what is cut, by the first
        rows alone, as they are encoded anew."""
        if not texts:
            return []
        special = len(texts) * (2 if pairs is None else 3)  # [CLS], and [SEP] after each text
        self.unknown += int(np.count_nonzero(np.concatenate(encoding.input_ids) == self.tokenizer.unk_id))
        self.empty += sum(not text.strip() for text in texts)
        found = [empty(name, self.empty)]
        found.append(unknown(name, self.unknown, tokens := self.tokens + int(encoding.length.sum()) - special))
        if not self.tokens:
            found.append(cut(name, whole_lengths(self.tokenizer, texts, pairs, encoding, self.limit), self.limit))
        self.tokens = tokens
        found = [finding for finding in found if finding.severity != "note" and finding.name not in self.names]
        self.names |= {finding.name for finding in found}
        return found
