"""From texts to arrays of ids and back: special tokens, pairs, truncation, padding, offsets.

The splitting itself is wordpiece.py's. N texts, S positions: every array of an `Encoding` is [N, S].
Ids, offsets and masks equal those of Hugging Face's `tokenizers` as its BertTokenizer sets it up. No torch in here.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minibert import wordpiece
from minibert.files import atomic_write
from minibert.tokenizer_files import SPECIAL_TOKENS, check_tokens, ids_to_list, read_settings

MAX_LENGTH = 512  # positions of every BERT that Google published
TRUNCATIONS = ("longest_first", "only_first", "only_second", "none")
PADDINGS = ("longest", "max_length", "none")
CACHED_UNITS, CACHED_CHARS = 1 << 17, 64  # bounds of the cache: tens of megabytes

Span = tuple[int, int]


class _Unit(NamedTuple):
    """An encoded stretch of text: ids, and for each its span counted from the stretch's first character."""

    ids: Sequence[int]
    spans: Sequence[Span]


class _Row(NamedTuple):
    """One text, or pair, before padding."""

    ids: list[int]
    types: list[int]
    special: list[int]
    spans: list[Span]


@dataclass(frozen=True, eq=False)
class Encoding:
    """What a model needs. Arrays int64 [N, S]; with padding="none" lists of N one-dimensional arrays instead.

    `special_tokens_mask` is 1 at the [CLS], [SEP] and [PAD] that the tokenizer has put there, not at those in a text.
    `length` [N] counts [CLS] and [SEP], not [PAD]. `offsets` [N, S, 2], if asked for: start and end in code points of
    the text (of the pair's second text where token_type_ids is 1), (0, 0) where the tokenizer has put a special token.
    """

    input_ids: NDArray | list[NDArray]
    token_type_ids: NDArray | list[NDArray]
    special_tokens_mask: NDArray | list[NDArray]
    length: NDArray
    attention_mask: NDArray | list[NDArray]
    offsets: NDArray | list[NDArray] | None = None


class Tokenizer:
    """BERT's tokenizer: a vocabulary and the three switches of its normalisation.

    vocab: the tokens in the order of their ids, or {token: id}.
    strip_accents: None means as `lowercase` says.
    special_tokens: other spellings, by the names in SPECIAL_TOKENS.
    extra_special_tokens: more tokens of the vocabulary that are never split.
    model_max_length: what the model's files say; callers choose `max_length` themselves.

    Raises ValueError for a vocabulary that is empty, has duplicates or gaps, or lacks a special token.
    """

    def __init__(
        self,
        vocab: Sequence[str] | Mapping[str, int],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        special_tokens: Mapping[str, str] | None = None,
        extra_special_tokens: Iterable[str] = (),
        model_max_length: int = MAX_LENGTH,
    ) -> None:
        self.vocab = ids_to_list(vocab) if isinstance(vocab, Mapping) else list(vocab)
        check_tokens(self.vocab)
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.model_max_length = model_max_length
        self.special_tokens = SPECIAL_TOKENS | dict(special_tokens or {})
        named = self.special_tokens.values()
        self.extra_special_tokens = [token for token in extra_special_tokens if token not in named]
        self._ids = {token: number for number, token in enumerate(self.vocab)}
        self._special_ids = {token: self._special_id(token) for token in (*named, *self.extra_special_tokens)}
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self._special_ids[self.special_tokens[name]] for name in SPECIAL_TOKENS
        )
        longest_first = sorted(self._special_ids, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)))
        self._longest = max(map(len, self.vocab))
        self._cache: dict[str, _Unit] = {}

    @property
    def vocab_size(self) -> int:
        return len(self.vocab)

    def _special_id(self, token: str) -> int:
        if not token or token not in self._ids:
            raise ValueError(
                f"the vocabulary of {self.vocab_size} tokens lacks {token or 'an empty token'}; "
                f"BERT needs its special tokens: add a line for it, or say which one it has instead"
            )
        return self._ids[token]

    # --- Encoding -----------------------------------------------------------------------------------------------------

    def __call__(
        self,
        texts: str | Iterable[str],
        pairs: str | Iterable[str] | None = None,
        max_length: int = MAX_LENGTH,
        truncation: str = "longest_first",
        padding: str = "longest",
        return_offsets: bool = False,
        pad_to_multiple_of: int | None = None,
        split_special_tokens: bool = False,
    ) -> Encoding:
        """[CLS] text [SEP], or [CLS] text [SEP] pair [SEP]; a str counts as a batch of one.

        max_length: counts the special tokens.
        truncation: longest_first | only_first | only_second | none. padding: longest | max_length | none.
        split_special_tokens: reads "[SEP]" in a text as plain text, as Google's tokenizer does.

        Raises ValueError for texts that are not str or hold lone surrogates, a max_length without room, unequal counts.
        """
        texts = _as_list(texts, "texts")
        pairs = None if pairs is None else _as_list(pairs, "pairs")
        _check_call(texts, pairs, max_length, truncation, padding, pad_to_multiple_of)
        spans = 0 if not return_offsets else sys.maxsize if truncation == "none" else max_length
        rows = []
        for index, text in enumerate(texts):
            first = self._encode(text, f"text {index}", split_special_tokens, spans)
            second = None
            if pairs is not None:
                second = self._encode(pairs[index], f"pair {index}", split_special_tokens, spans)
            rows.append(self._row(index, first, second, max_length, truncation))
        if padding == "none":
            return _ragged(rows, return_offsets)
        width = max((len(row.ids) for row in rows), default=0)
        if padding == "max_length":
            width = max(width, max_length)
        if pad_to_multiple_of:
            width += -width % pad_to_multiple_of
        return _padded(rows, width, self.pad_id, return_offsets)

    def tokenize(self, text: str, split_special_tokens: bool = False) -> list[str]:
        """The text's tokens, without [CLS] and [SEP]."""
        check_text(text, "text")
        return [self.vocab[number] for _, unit in self._units(text, split_special_tokens) for number in unit.ids]

    def _encode(self, text: str, name: str, split_special_tokens: bool, spans_wanted: int) -> _Unit:
        """The whole text as one unit, without [CLS] and [SEP]; spans for its first `spans_wanted` tokens at least."""
        check_text(text, name)
        ids: list[int] = []
        spans: list[Span] = []
        for begin, unit in self._units(text, split_special_tokens):
            ids += unit.ids
            if len(spans) < spans_wanted:
                spans += [(begin + start, begin + end) for start, end in unit.spans]
        return _Unit(ids, spans)

    def _units(self, text: str, split_special_tokens: bool) -> Iterator[tuple[int, _Unit]]:
        """The text's units with the index of their first character. Special tokens are looked for in the raw text."""
        begin = 0
        for match in () if split_special_tokens else self._special.finditer(text):
            yield from self._plain_units(text[begin : match.start()], begin)
            begin = match.end()
            yield match.start(), _Unit((self._ids[match.group()],), ((0, len(match.group())),))
        yield from self._plain_units(text[begin:], begin)

    def _plain_units(self, text: str, begin: int) -> Iterator[tuple[int, _Unit]]:
        for match in wordpiece.units(text, self.tokenize_chinese_chars):
            chars = match.group()
            unit = self._cache.get(chars)
            yield begin + match.start(), self._encode_unit(chars) if unit is None else unit

    def _encode_unit(self, chars: str) -> _Unit:
        switches = self.lowercase, self.strip_accents, self.tokenize_chinese_chars
        pieces = wordpiece.tokenize(chars, self._ids, *switches, self.special_tokens["unk_token"], self._longest)
        unit = _Unit([self._ids[piece.token] for piece in pieces], [(piece.start, piece.end) for piece in pieces])
        if len(chars) <= CACHED_CHARS:
            if len(self._cache) >= CACHED_UNITS:
                self._cache.clear()
            self._cache[chars] = unit
        return unit

    def _row(self, index: int, first: _Unit, second: _Unit | None, max_length: int, truncation: str) -> _Row:
        lengths = len(first.ids), 0 if second is None else len(second.ids)
        budget = max_length - (2 if second is None else 3)
        n, m = truncated_lengths(*lengths, budget, truncation, f"text {index}")
        ids, spans = [self.cls_id, *first.ids[:n], self.sep_id], [(0, 0), *first.spans[:n], (0, 0)]
        types, special = [0] * len(ids), [1, *[0] * n, 1]
        if second is not None:
            ids += [*second.ids[:m], self.sep_id]
            spans += [*second.spans[:m], (0, 0)]
            types += [1] * (m + 1)
            special += [*[0] * m, 1]
        return _Row(ids, types, special, spans)

    # --- Back to text -------------------------------------------------------------------------------------------------

    def ids_to_tokens(self, ids: ArrayLike) -> list[str]:
        """Raises ValueError for ids that are not whole numbers within the vocabulary, and for more than one row."""
        array = np.asarray(ids)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(f"ids must be one row of integers, not shape {list(array.shape)} of {array.dtype}")
        if len(outside := np.flatnonzero((array < 0) | (array >= self.vocab_size))):
            raise ValueError(
                f"id {array[outside[0]]} at position {outside[0]} is outside the vocabulary 0 … {self.vocab_size - 1}"
            )
        return [self.vocab[number] for number in array.tolist()]

    def decode(self, ids: ArrayLike, skip_special_tokens: bool = False) -> str:
        """The text that ids [S] stand for, as far as can be known: case, accents and spaces were lost on the way in."""
        tokens = self.ids_to_tokens(ids)
        if skip_special_tokens:
            tokens = [token for token in tokens if token not in self._special_ids]
        return "".join(_glued(token, first=position == 0) for position, token in enumerate(tokens))

    # --- Files --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "Tokenizer":
        """Reads a model directory, a hub name, or one file: vocab.txt or tokenizer.json (see `read_settings`).

        Raises ValueError for a missing, broken or foreign file, with its name.
        """
        return cls(**read_settings(name))

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes vocab.txt and tokenizer_config.json; beside a config.json `transformers`' AutoTokenizer reads them.

        Removes another tokenizer's tokenizer.json, special_tokens_map.json and added_tokens.json, which would go first.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        config: dict[str, object] = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "model_max_length": self.model_max_length,
            **self.special_tokens,
        }
        if self.extra_special_tokens:
            config["additional_special_tokens"] = self.extra_special_tokens
        atomic_write(directory / "vocab.txt", "".join(f"{token}\n" for token in self.vocab).encode())
        atomic_write(
            directory / "tokenizer_config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
        )
        for stale in ("tokenizer.json", "special_tokens_map.json", "added_tokens.json"):
            (directory / stale).unlink(missing_ok=True)


# --- Truncation -------------------------------------------------------------------------------------------------------


def truncated_lengths(first: int, second: int, budget: int, truncation: str, name: str = "text") -> Span:
    """How many tokens of each text stay when both together may have `budget`.

    longest_first shortens the longer text to the shorter one's length, then both alike; an odd token stays with the
    longer text, with the second where they are equal. (Google's tokenization.py leaves it to the first.)

    >>> truncated_lengths(400, 400, 509, "longest_first")
    (254, 255)
    """
    excess = first + second - budget
    if excess <= 0 or truncation == "none":
        return first, second
    if budget == 0:
        return 0, 0
    if truncation == "longest_first":
        shorter = min(first, second, budget // 2)
        return (budget - shorter, shorter) if first > second else (shorter, budget - shorter)
    longest = first if truncation == "only_first" else second
    if longest <= excess:  # one token must stay
        raise ValueError(
            f"{name}: {excess} tokens too many for max_length, but {truncation} can take at most "
            f"{max(longest - 1, 0)}; use longest_first or a larger max_length"
        )
    return (first - excess, second) if truncation == "only_first" else (first, second - excess)


# --- Rows to arrays ---------------------------------------------------------------------------------------------------


def _ragged(rows: list[_Row], with_offsets: bool) -> Encoding:
    def arrays(values: Iterable[list]) -> list[NDArray]:
        return [np.array(value, dtype=np.int64) for value in values]

    return Encoding(
        input_ids=arrays(row.ids for row in rows),
        token_type_ids=arrays(row.types for row in rows),
        special_tokens_mask=arrays(row.special for row in rows),
        length=np.array([len(row.ids) for row in rows], dtype=np.int64),
        attention_mask=arrays([1] * len(row.ids) for row in rows),
        offsets=arrays(row.spans for row in rows) if with_offsets else None,
    )


def _padded(rows: list[_Row], width: int, pad_id: int, with_offsets: bool) -> Encoding:
    def filled(values: Iterable[list], padding: int) -> NDArray:
        array = np.full((len(rows), width), padding, dtype=np.int64)  # [N, S]
        for line, value in zip(array, values, strict=True):
            line[: len(value)] = value
        return array

    offsets = np.zeros((len(rows), width, 2), dtype=np.int64)  # [N, S, 2]
    for line, row in zip(offsets, rows if with_offsets else (), strict=with_offsets):
        line[: len(row.spans)] = row.spans
    return Encoding(
        input_ids=filled((row.ids for row in rows), pad_id),
        token_type_ids=filled((row.types for row in rows), 0),
        special_tokens_mask=filled((row.special for row in rows), 1),
        length=np.array([len(row.ids) for row in rows], dtype=np.int64),
        attention_mask=filled(([1] * len(row.ids) for row in rows), 0),
        offsets=offsets if with_offsets else None,
    )


# --- Checks of what a caller gives ------------------------------------------------------------------------------------


def _as_list(texts: str | Iterable[str], name: str) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes | bytearray) or not isinstance(texts, Iterable):
        raise ValueError(f"{name} must be a str or an iterable of str, not {type(texts).__name__}")
    return list(texts)


def check_text(text: str, name: str) -> None:
    if not isinstance(text, str):
        raise ValueError(f"{name} is of type {type(text).__name__}, not str; convert it, or leave the row out")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name}: lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, which is no character; "
            f'read the file as UTF-8, or clean the text with text.encode(errors="replace").decode()'
        ) from None


def _check_call(
    texts: list[str],
    pairs: list[str] | None,
    max_length: int,
    truncation: str,
    padding: str,
    multiple: int | None,
) -> None:
    if truncation not in TRUNCATIONS:
        raise ValueError(f"truncation {truncation!r}: choose one of {', '.join(TRUNCATIONS)}")
    if padding not in PADDINGS:
        raise ValueError(f"padding {padding!r}: choose one of {', '.join(PADDINGS)}")
    if pairs is not None and len(pairs) != len(texts):
        raise ValueError(f"{len(texts)} texts but {len(pairs)} pairs; give one pair for each text")
    if pairs is None and truncation == "only_second":
        raise ValueError(
            "truncation only_second without pairs: there is no second text; use longest_first or only_first"
        )
    specials = 2 if pairs is None else 3
    if truncation != "none" and max_length < specials:
        kind = "a text" if pairs is None else "a pair"
        raise ValueError(
            f"max_length {max_length} is too small: {kind} has {specials} special tokens; use {specials} or more"
        )
    if multiple is not None and multiple < 1:
        raise ValueError(f"pad_to_multiple_of {multiple} must be 1 or more")


# --- Decoding ---------------------------------------------------------------------------------------------------------


def _glued(token: str, first: bool) -> str:
    """A token as it joins the text before it; the replacements are those of `tokenizers`' WordPiece decoder."""
    text = token if first else token.removeprefix("##") if token.startswith("##") else f" {token}"
    for spaced, close in _CLOSE:
        text = text.replace(spaced, close)
    return text


_CLOSE = (
    *((f" {mark}", mark) for mark in (".", "?", "!", ",")),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)
