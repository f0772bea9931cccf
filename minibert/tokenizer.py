"""From texts to ids and back: the vocabulary, special tokens, a single text or many.

The splitting itself is wordpiece.py's, or for many texts its fast twin's; what an `Encoding` holds is encoding.py's.
Ids, offsets and masks equal those of Hugging Face's `tokenizers` as its BertTokenizer sets it up. No torch in here.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from minibert import wordpiece
from minibert.encoding import PADDINGS, TRUNCATIONS, Encoding, arrange
from minibert.files import atomic_write
from minibert.tokenizer_files import SPECIAL_TOKENS, check_tokens, ids_to_list, read_settings
from minibert.wordpiece_batch import BatchEncoder, Flat, concatenated, continued

if TYPE_CHECKING:
    from minibert.token_file import TokenFile

MAX_LENGTH = 512  # positions of every BERT that Google published
CACHED_UNITS, CACHED_CHARS = 1 << 17, 64  # bounds of the cache for single texts: tens of megabytes
CHARS_PER_TOKEN = 5  # a little more than English has: of a text to be truncated so much is read first
FEW_CHARS = 1500  # below, the specification with what it knows: it needs none of the fast twin's tables

Span = tuple[int, int]


class _Unit(NamedTuple):
    """An encoded stretch of text: ids, and for each its span counted from the stretch's first character."""

    ids: Sequence[int]
    spans: Sequence[Span]


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
        self._inside_special = "".join(token[1:] for token in longest_first)
        self._longest = max(map(len, self.vocab))

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
        truncation: longest_first | only_first | only_second | none. padding: longest | max_length | none | packed.
        split_special_tokens: reads "[SEP]" in a text as plain text, as Google's tokenizer does.

        Raises ValueError for texts that are not str or hold lone surrogates, a max_length without room, unequal counts.
        """
        texts = _as_list(texts, "texts")
        pairs = None if pairs is None else _as_list(pairs, "pairs")
        _check_call(texts, pairs, max_length, truncation, padding, pad_to_multiple_of)
        if pairs is not None:
            both = list(chain.from_iterable(zip(texts, pairs, strict=True)))
            flat = self._flat(both, split_special_tokens, return_offsets, "text {}", "pair {}")
        elif truncation == "none":
            flat = self._flat(texts, split_special_tokens, return_offsets, "text {}")
        else:
            flat = self._heads(texts, max_length - 2, split_special_tokens, return_offsets)
        ids = self.cls_id, self.sep_id, self.pad_id
        return arrange(flat, pairs is not None, max_length, truncation, padding, pad_to_multiple_of, *ids)

    def encode(self, text: str, split_special_tokens: bool = False) -> list[int]:
        """The ids of one text, [CLS] and [SEP] included, whatever its length."""
        check_text(text, "text")
        if len(text) > FEW_CHARS or (not split_special_tokens and self._special.search(text)):
            return [self.cls_id, *self._flat([text], split_special_tokens, False, "text").ids.tolist(), self.sep_id]
        if text.isascii():  # few words are written in many ways, and str.split is the fastest way to cut
            parts = map(self._known_chunks.__getitem__, text.split(" "))
        else:
            units = wordpiece.UNIT[self.tokenize_chinese_chars].findall(text)
            parts = (unit.ids for unit in map(self._known.__getitem__, units))
        return [self.cls_id, *chain.from_iterable(parts), self.sep_id]

    def encode_flat(
        self, texts: str | Iterable[str], split_special_tokens: bool = False, return_offsets: bool = False
    ) -> Flat:
        """The ids of all texts one after the other, without [CLS] and [SEP]: the fastest way through a corpus."""
        return self._flat(_as_list(texts, "texts"), split_special_tokens, return_offsets, "text {}")

    def encode_file(self, paths: str | Path | Sequence[str | Path], out: str | Path, processes: int = 1) -> "TokenFile":
        """Encodes text files of any size, a text a line, into a directory of memory-mapped arrays; see token_file.py.

        processes: more than 1 needs `if __name__ == "__main__":` around the call in a script.

        Raises ValueError for files that are missing or not UTF-8, and an `out` that holds something else.
        """
        from minibert import token_file  # with what it needs for processes and a progress bar

        return token_file.write(self, paths, out, processes)

    def border(self, text: str, position: int) -> int:
        """The first place from `position` on where a text may be cut without changing its tokens; else its length."""
        return wordpiece.border(text, position, self.tokenize_chinese_chars, self._inside_special)

    def tokenize(self, text: str, split_special_tokens: bool = False) -> list[str]:
        """The text's tokens, without [CLS] and [SEP]."""
        check_text(text, "text")
        return [self.vocab[number] for _, unit in self._units(text, split_special_tokens) for number in unit.ids]

    def _heads(self, texts: list[str], tokens: int, split_special_tokens: bool, spans: bool) -> Flat:
        """So many tokens of each text, or more, or all it has; of long texts the end is read only if it is needed."""
        chars = CHARS_PER_TOKEN * tokens
        heads = [
            text[: self.border(text, chars)] if isinstance(text, str) and len(text) > chars else text for text in texts
        ]
        flat = self._flat(heads, split_special_tokens, spans, "text {}")
        cut = [row for row, (head, text) in enumerate(zip(heads, texts, strict=True)) if head is not text]
        for row in cut:
            check_text(texts[row], f"text {row}")
        rows = [row for row in cut if flat.lengths[row] < tokens]
        if not rows:
            return flat
        rest = self._flat([texts[row][len(heads[row]) :] for row in rows], split_special_tokens, spans, "text {}")
        return continued(flat, np.array(rows), rest, np.array([len(heads[row]) for row in rows]))

    def _flat(self, texts: list[str], split_special_tokens: bool, spans: bool, *names: str) -> Flat:
        """names: what to call the texts in errors, in turn."""
        try:
            if len(texts) >= FEW_CHARS or sum(map(len, texts)) >= FEW_CHARS:
                return self._batch_encoder.encode(texts, spans, split_special_tokens)
        except (TypeError, UnicodeEncodeError):  # a text is not str, or has lone surrogates: say which
            _check_texts(texts, names)
            raise
        _check_texts(texts, names)
        return concatenated([self._specified(text, split_special_tokens) for text in texts], spans)

    def _specified(self, text: str, split_special_tokens: bool) -> Flat:
        """One text through the specification."""
        ids: list[int] = []
        spans: list[Span] = []
        for begin, unit in self._units(text, split_special_tokens):
            ids += unit.ids
            spans += [(begin + start, begin + end) for start, end in unit.spans]
        return Flat(np.array(ids, np.int32), np.array([len(ids)]), np.array(spans, np.int32).reshape(-1, 2))

    def _units(self, text: str, split_special_tokens: bool) -> Iterator[tuple[int, _Unit]]:
        """The text's units with the index of their first character."""
        for begin, chars, special in self.stretches(text, split_special_tokens):
            yield begin, _Unit((self._ids[chars],), ((0, len(chars)),)) if special else self._known[chars]

    def stretches(self, text: str, split_special_tokens: bool = False) -> Iterator[tuple[int, str, bool]]:
        """The parts of a text that are encoded each by itself: the index of their first character, the part, whether it
        is a special token. Those are looked for in the raw text."""
        begin = 0
        for match in () if split_special_tokens else self._special.finditer(text):
            yield from self._plain_stretches(text[begin : match.start()], begin)
            begin = match.end()
            yield match.start(), match.group(), True
        yield from self._plain_stretches(text[begin:], begin)

    def _plain_stretches(self, text: str, begin: int) -> Iterator[tuple[int, str, bool]]:
        for match in wordpiece.units(text, self.tokenize_chinese_chars):
            yield begin + match.start(), match.group(), False

    def _encode_unit(self, chars: str) -> _Unit:
        switches = self.lowercase, self.strip_accents, self.tokenize_chinese_chars
        pieces = wordpiece.tokenize(chars, self._ids, *switches, self.special_tokens["unk_token"], self._longest)
        return _Unit([self._ids[piece.token] for piece in pieces], [(piece.start, piece.end) for piece in pieces])

    @cached_property
    def _known(self) -> "_Known[_Unit]":
        return _Known(self._encode_unit)

    @cached_property
    def _known_chunks(self) -> "_Known[list[int]]":
        """The ids of what stands between two spaces: "don't." """
        known, stretches = self._known, self._plain_stretches
        return _Known(lambda chunk: [number for _, chars, _ in stretches(chunk, 0) for number in known[chars].ids])

    @cached_property
    def _batch_encoder(self) -> BatchEncoder:
        strip_accents = self.lowercase if self.strip_accents is None else self.strip_accents
        switches = self.lowercase, strip_accents, self.tokenize_chinese_chars
        return BatchEncoder(self._ids, self._special_ids, self.unk_id, *switches, self._specified)

    def __getstate__(self) -> dict:
        """What has been learned stays here: a copy, or a worker process, begins anew."""
        return {name: value for name, value in vars(self).items() if name not in _LEARNED}

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


# --- What has been met ------------------------------------------------------------------------------------------------


_LEARNED = ("_known", "_known_chunks", "_batch_encoder")
T = TypeVar("T")


class _Known(dict[str, T]):
    """What has been encoded by `encode` so far. Threads may share it: every step is one operation on a dict."""

    def __init__(self, encode: Callable[[str], T]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, chars: str) -> T:
        encoded = self._encode(chars)
        if len(chars) <= CACHED_CHARS:
            if len(self) >= CACHED_UNITS:
                self.clear()
            self[chars] = encoded
        return encoded


# --- Checks of what a caller gives ------------------------------------------------------------------------------------


def _as_list(texts: str | Iterable[str], name: str) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes | bytearray) or not isinstance(texts, Iterable):
        raise ValueError(f"{name} must be a str or an iterable of str, not {type(texts).__name__}")
    return list(texts)


def _check_texts(texts: list[str], names: tuple[str, ...]) -> None:
    for number, text in enumerate(texts):
        check_text(text, names[number % len(names)].format(number // len(names)))


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
