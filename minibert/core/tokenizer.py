"""From texts to ids and back: a vocabulary, its special tokens, one text or many, alone or in pairs.

How a text is cut is said in wordpiece.py, what an `Encoding` holds in encoding.py, what the files hold in
vocabulary.py. Ids, offsets and masks equal those of Hugging Face's `tokenizers` as its BertTokenizer sets it up; where
Google's tokenization.py differs, tests/core/test_wordpiece.py names it. No torch in here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .encoding import Encoding, Flat, Options, arrange
from .vocabulary import SPECIAL_TOKENS, SWITCHES, check_tokens, ids_to_list, read_settings, write_settings
from .wordpiece import CONTINUES, Piece, tokenize

MAX_LENGTH = 512  # positions of every BERT that Google published


class Tokenizer:
    """BERT's tokenizer: a vocabulary and the three switches of its normalisation.

    vocab: the tokens in the order of their ids, or {token: id}. strip_accents: None means as `lowercase` says.
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
        self.vocab_size = len(self.vocab)
        self.lowercase, self.strip_accents = lowercase, strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.model_max_length = model_max_length
        self.special_tokens = SPECIAL_TOKENS | dict(special_tokens or {})
        named = self.special_tokens.values()
        self.extra_special_tokens = list(dict.fromkeys(token for token in extra_special_tokens if token not in named))
        self._ids = {token: number for number, token in enumerate(self.vocab)}
        for token in (special := [*named, *self.extra_special_tokens]):
            if not token or token not in self._ids:
                lack = f"the vocabulary of {self.vocab_size} tokens lacks {token or 'an empty token'}"
                raise ValueError(f"{lack}; add a line for it, or say which special token stands for it")
        self._special_ids = {token: self._ids[token] for token in special}
        ids = (self._ids[self.special_tokens[name]] for name in SPECIAL_TOKENS)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = ids
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))))

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

        truncation: longest_first | only_first | only_second | none, to max_length with the special tokens counted.
        padding: longest | max_length | none | packed.
        split_special_tokens: reads "[SEP]" in a text as plain text, as Google's tokenizer does.

        Raises ValueError for texts that are not str or hold lone surrogates, a max_length without room, unequal counts.
        """
        texts = as_list(texts, "texts")
        pairs = None if pairs is None else as_list(pairs, "pairs")
        options = Options(max_length, truncation, padding, pad_to_multiple_of)
        options.check(len(texts), None if pairs is None else len(pairs))
        names = ("text {}",) if pairs is None else ("text {}", "pair {}")
        most = max_length - 2 if pairs is None and truncation != "none" else None
        both = texts if pairs is None else list(chain.from_iterable(zip(texts, pairs, strict=True)))
        flat = self._flat(both, names, split_special_tokens, return_offsets, most)
        return self._arrange(flat, pairs is not None, options, self.cls_id, self.sep_id, self.pad_id)

    def encode(self, text: str, split_special_tokens: bool = False) -> list[int]:
        """The ids of one text, [CLS] and [SEP] included, whatever its length."""
        return [self.cls_id, *self._flat([text], ("text",), split_special_tokens).ids.tolist(), self.sep_id]

    def tokenize(self, text: str, split_special_tokens: bool = False) -> list[str]:
        """The tokens of one text, without [CLS] and [SEP], whatever its length."""
        return self.ids_to_tokens(self.encode(text, split_special_tokens)[1:-1])

    _arrange = staticmethod(arrange)  # a faster tokenizer may have another, as of `_flat`

    def _flat(
        self,
        texts: list[str],
        names: tuple[str, ...],
        split: bool = False,
        spans: bool = False,
        most: int | None = None,
    ) -> Flat:
        """All texts, each by itself: the specification of what a faster tokenizer may do at once.

        names: what to call the texts in errors, in turn. split: as split_special_tokens. most: tokens of each text that
        the caller needs, None for all; a text may come with more of them.
        """
        check_texts(texts, names)
        rows = [list(self._pieces(text, split)) for text in texts]
        pieces = list(chain.from_iterable(rows))
        ids = np.array([self._ids[piece.token] for piece in pieces], np.int32)
        places = np.array([(piece.start, piece.end) for piece in pieces], np.int32).reshape(-1, 2) if spans else None
        return Flat(ids, np.array(list(map(len, rows)), np.int64), places)

    def _pieces(self, text: str, split: bool) -> Iterator[Piece]:
        switches = self.lowercase, self.strip_accents, self.tokenize_chinese_chars
        unknown = self.special_tokens["unk_token"]
        for begin, chars, special in self.stretches(text, split):
            pieces = [(chars, 0, len(chars))] if special else tokenize(chars, self._ids, *switches, unknown=unknown)
            for token, start, end in pieces:
                yield Piece(token, begin + start, begin + end)

    def stretches(self, text: str, split_special_tokens: bool = False) -> Iterator[tuple[int, str, bool]]:
        """The parts of the raw text that are encoded each by itself: (where it begins, part, is it a special token)."""
        begin = 0
        for match in () if split_special_tokens else self._special.finditer(text):
            yield begin, text[begin : match.start()], False
            yield match.start(), match.group(), True
            begin = match.end()
        yield begin, text[begin:], False

    def ids_to_tokens(self, ids: ArrayLike) -> list[str]:
        """Raises ValueError for ids that are not whole numbers within the vocabulary, and for more than one row."""
        array = np.asarray(ids)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(f"ids must be one row of integers, not shape {list(array.shape)} of {array.dtype}")
        for place in np.flatnonzero((array < 0) | (array >= self.vocab_size)):
            raise ValueError(
                f"id {array[place]} at position {place} is outside the vocabulary 0 … {self.vocab_size - 1}"
            )
        return [self.vocab[number] for number in array.tolist()]

    def decode(self, ids: ArrayLike, skip_special_tokens: bool = False) -> str:
        """The text that ids [S] stand for, as far as can be known: case, accents and spaces were lost on the way in."""
        tokens = self.ids_to_tokens(ids)
        if skip_special_tokens:
            tokens = [token for token in tokens if token not in self._special_ids]
        parts = tokens[:1] + [f" {token}".removeprefix(f" {CONTINUES}") for token in tokens[1:]]
        for spaced, close in _CLOSE.items():  # in each part by itself
            parts = [part.replace(spaced, close) for part in parts]
        return "".join(parts)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "Tokenizer":
        """Reads a model directory, a hub name, or one vocab.txt. ValueError: a missing, broken or foreign file."""
        return cls(**read_settings(name))

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes vocab.txt and tokenizer_config.json; beside a config.json `transformers`' AutoTokenizer reads them."""
        config = {key: getattr(self, name) for key, name in SWITCHES.items()}
        config |= {"model_max_length": self.model_max_length, **self.special_tokens}
        if self.extra_special_tokens:
            config["additional_special_tokens"] = self.extra_special_tokens
        write_settings(Path(directory), self.vocab, config)


def as_list(texts: str | Iterable[str], name: str) -> list[str]:
    """A batch of texts as a list, a str as a batch of one; ValueError for anything else, tables and sets too."""
    if isinstance(texts, str):
        return [texts]
    unordered = isinstance(texts, bytes | bytearray | Mapping | Set) or hasattr(texts, "columns")  # a DataFrame
    if unordered or not isinstance(texts, Iterable):
        kind = type(texts).__name__
        raise ValueError(f"{name} must be a str or an iterable of str, not {kind}; give a list, or one column")
    return list(texts)


def check_texts(texts: list[str], names: tuple[str, ...]) -> None:
    for number, text in enumerate(texts):
        check_text(text, names[number % len(names)].format(number // len(names)))


def check_text(text: str, name: str) -> None:
    """ValueError, with the text's name, where it is not str or holds half a character (a lone surrogate)."""
    if not isinstance(text, str):
        raise ValueError(f"{name} is of type {type(text).__name__}, not str; convert it, or leave the row out")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, which is no character"
        remedy = 'read the file as UTF-8, or clean the text with text.encode(errors="replace").decode()'
        raise ValueError(f"{name}: {half}; {remedy}") from None


# What the WordPiece decoder of `tokenizers` closes up
_CLOSE = {spaced: spaced.strip() for spaced in (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")}
_CLOSE[" do not"] = " don't"
