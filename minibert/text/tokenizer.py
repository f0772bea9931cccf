"""The tokenizer that `minibert.Tokenizer` is: core's, with the fast twin of WordPiece, what it has met, and more files.

Ids, offsets and errors are those of core/tokenizer.py. Many texts go through wordpiece_batch.py; of a few the words
met before are remembered; of a long text to be truncated only the beginning is read. No torch in here.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, compress, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from minibert.core import tokenizer, wordpiece
from minibert.core.encoding import Encoding, Flat, Options
from minibert.core.tokenizer import MAX_LENGTH, as_list, check_text, check_texts
from minibert.io.diagnosis import explained_name
from minibert.text import cuts, habits
from minibert.text.added_tokens import AddedToken, AddedTokens
from minibert.text.arranging import arrange
from minibert.text.tokenizer_doubts import doubts
from minibert.text.tokenizer_files import read_files, settings_of, write_added
from minibert.text.wordpiece_batch import BatchEncoder, assembled

if TYPE_CHECKING:
    from minibert.text.token_file import TokenFile

logger = logging.getLogger("minibert")

__all__ = ["Encoding", "Tokenizer"]

CACHED_UNITS, CACHED_CHARS = 1 << 17, 64  # bounds of the cache for single texts: tens of megabytes
CHARS_PER_TOKEN = 5  # a little more than English has: of a text to be truncated so much is read first
FEW_CHARS = 1500  # below, the specification with what it knows: it needs none of the fast twin's tables

Span = tuple[int, int]
Chars = list[tuple[str, int]]  # characters, each with its index in the source text


class _Unit(NamedTuple):
    """An encoded stretch of text: ids, and for each its span counted from the stretch's first character."""

    ids: Sequence[int]
    spans: Sequence[Span]


class Tokenizer(tokenizer.Tokenizer):
    """BERT's tokenizer: the arguments, attributes, ids, offsets and errors of core's Tokenizer (core/tokenizer.py).

    What it adds: speed; whole corpora (`encode_flat`, `encode_file`); `from_pretrained` reads tokenizer.json and the
    older files too, with the tokens that somebody has added. Threads may share it.

    added_tokens: those of the vocabulary that are found before words are cut and are no plain special tokens.
    pieces: how many tokens of the vocabulary WordPiece may use, from the first on; None for all.
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
        added_tokens: Iterable[AddedToken] = (),
        pieces: int | None = None,
    ) -> None:
        switches = lowercase, strip_accents, tokenize_chinese_chars
        super().__init__(vocab, *switches, special_tokens, extra_special_tokens, model_max_length)
        self.added_tokens = sorted(added_tokens, key=lambda token: not token.special)
        for token in self.added_tokens:
            if token.content not in self._ids or token.special != (token.content in self._special_ids):
                raise ValueError(
                    f"added token {token.content!r} must be in the vocabulary, and special in both or none"
                )
        self.pieces = self._ids if pieces is None else dict(islice(self._ids.items(), pieces))
        flagged = {token.content for token in self.added_tokens}
        plain = [AddedToken(token) for token in self._special_ids if token not in flagged]
        self._added = AddedTokens([*plain, *self.added_tokens], *switches) if flagged else None

    def __call__(
        self,
        texts: str | Iterable[str] | None = None,
        pairs: str | Iterable[str] | None = None,
        max_length: int | None = None,
        truncation: str | bool | None = None,
        padding: str | bool | None = None,
        return_offsets: bool = False,
        pad_to_multiple_of: int | None = None,
        split_special_tokens: bool = False,
        **theirs: object,
    ) -> Encoding | habits.Words:
        """As core's: max_length None is 512, truncation None "longest_first", padding None "longest".

        theirs: words of transformers (`text_pair`, `return_tensors` …), as are True and False. They mean what they mean
        there, as does all that such a call leaves open; it returns a mapping for model(**mapping). See habits.py.
        """
        options = Options(max_length, truncation, padding, pad_to_multiple_of)
        if habits.are_theirs(options, theirs):
            words = {"return_offsets_mapping": return_offsets, **theirs}
            return habits.call(self, texts, pairs, options, split_special_tokens, words)
        defaults = {"max_length": MAX_LENGTH, "truncation": "longest_first", "padding": "longest"}
        given = {name: getattr(options, name) for name in defaults if getattr(options, name) is not None}
        more = return_offsets, pad_to_multiple_of, split_special_tokens
        return super().__call__(texts, pairs, *(defaults | given).values(), *more)

    def encode(self, text: str, split_special_tokens: bool = False) -> list[int]:
        """The ids of one text, [CLS] and [SEP] included, whatever its length."""
        check_text(text, "text")
        if len(text) > FEW_CHARS or (not split_special_tokens and self._special.search(text)) or self._may_add(text):
            return super().encode(text, split_special_tokens)
        if text.isascii():  # few words are written in many ways, and str.split is the fastest way to cut
            parts = map(self._known_chunks.__getitem__, text.split(" "))
        else:
            units = cuts.UNIT[self.tokenize_chinese_chars].findall(text)
            parts = (unit.ids for unit in map(self._known.__getitem__, units))
        return [self.cls_id, *chain.from_iterable(parts), self.sep_id]

    def encode_flat(
        self, texts: str | Iterable[str], split_special_tokens: bool = False, return_offsets: bool = False
    ) -> Flat:
        """The ids of all texts one after the other, without [CLS] and [SEP]: the fastest way through a corpus."""
        return self._flat(as_list(texts, "texts"), ("text {}",), split_special_tokens, return_offsets)

    def encode_file(self, paths: str | Path | Sequence[str | Path], out: str | Path, processes: int = 1) -> "TokenFile":
        """Encodes text files of any size, a text a line, into a directory of memory-mapped arrays; see token_file.py.

        processes: more than 1 needs `if __name__ == "__main__":` around the call in a script.

        Raises ValueError for files that are missing or in no known encoding, and an `out` that holds something else.
        """
        from minibert.text import token_file  # with what it needs for processes and a progress bar

        return token_file.write(self, paths, out, processes)

    def border(self, text: str, position: int) -> int:
        """The first place from `position` on where a text may be cut without changing its tokens; else its length."""
        return cuts.border(text, position, self.tokenize_chinese_chars, self._inside_special)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "Tokenizer":
        """Reads a model directory, a hub name, or one file: vocab.txt or tokenizer.json; see tokenizer_files.py. What
        others may read differently is a line of the logger `minibert`.

        Raises ValueError for a missing, broken or foreign file, with its name.
        """
        with explained_name(name) as path:
            files = read_files(path)
            tokenizer = cls(**settings_of(files))
        for finding in doubts(files) if path.suffix not in (".txt", ".json") else ():
            from minibert.io.stderr import one_line  # rarely, and it loads a progress bar

            logger.warning("%s", one_line(f"{finding.what}; {finding.remedy}"))
        return tokenizer

    def save_pretrained(self, directory: str | Path) -> None:
        """As core's; added tokens, and others that WordPiece may not use, go into tokenizer_config.json alone, where
        `transformers` looks for them."""
        super().save_pretrained(directory)
        flagged = {token.content: token for token in self.added_tokens}
        tokens = [AddedToken(token) for token in self._special_ids if token not in flagged]
        write_added(Path(directory), self.vocab, len(self.pieces), [*tokens, *self.added_tokens])

    # --- The fast twins of core's `_arrange` and `_flat` --------------------------------------------------------------

    _arrange = staticmethod(arrange)

    def _flat(
        self,
        texts: list[str],
        names: tuple[str, ...],
        split_special_tokens: bool = False,
        spans: bool = False,
        most: int | None = None,
    ) -> Flat:
        if most is not None:
            return self._heads(texts, names, split_special_tokens, spans, most)
        if self._added is not None:
            check_texts(texts, names)
            held = np.fromiter(map(self._added.may_be_in, texts), np.bool_, len(texts))
            if held.any():
                parts = [(np.flatnonzero(held), self._remembered(list(compress(texts, held)), split_special_tokens))]
                if not held.all():
                    others = self._flat_without_added(list(compress(texts, ~held)), names, split_special_tokens, True)
                    parts.append((np.flatnonzero(~held), others))
                return assembled(parts, spans)
        return self._flat_without_added(texts, names, split_special_tokens, spans)

    def _flat_without_added(
        self, texts: list[str], names: tuple[str, ...], split_special_tokens: bool, spans: bool
    ) -> Flat:
        try:
            if len(texts) >= FEW_CHARS or sum(map(len, texts)) >= FEW_CHARS:
                return self._batch_encoder.encode(texts, spans, split_special_tokens)
        except (TypeError, UnicodeEncodeError):  # a text is not str, or has lone surrogates: say which
            check_texts(texts, names)
            raise
        check_texts(texts, names)
        flat = self._remembered(texts, split_special_tokens)
        return flat if spans else flat._replace(spans=None)

    def _may_add(self, text: str) -> bool:
        return self._added is not None and self._added.may_be_in(text)

    def _heads(
        self, texts: list[str], names: tuple[str, ...], split_special_tokens: bool, spans: bool, tokens: int
    ) -> Flat:
        """So many tokens of each text, or more, or all it has; of long texts the end is read only if it is needed."""
        chars = CHARS_PER_TOKEN * tokens
        heads = [
            text[: self.border(text, chars)]
            if isinstance(text, str) and len(text) > chars and not self._may_add(text)
            else text
            for text in texts
        ]
        flat = self._flat(heads, names, split_special_tokens, spans)
        cut = [row for row, (head, text) in enumerate(zip(heads, texts, strict=True)) if head is not text]
        for row in cut:
            check_text(texts[row], f"text {row}")
        rows = [row for row in cut if flat.lengths[row] < tokens]
        if not rows:
            return flat
        rest = self._flat([texts[row][len(heads[row]) :] for row in rows], names, split_special_tokens, spans)
        if spans:
            shifts = np.repeat([len(heads[row]) for row in rows], rest.lengths)
            rest = rest._replace(spans=rest.spans + shifts[:, None].astype(np.int32))
        return assembled([(np.arange(len(texts)), flat), (np.array(rows), rest)], spans)

    def _remembered(self, texts: list[str], split_special_tokens: bool) -> Flat:
        """The texts through the specification, the units met before from memory."""
        ids: list[int] = []
        spans: list[Span] = []
        ends = [0]
        for text in texts:
            for begin, chars, token in self.stretches(text, split_special_tokens):
                if token is not None:
                    unit = _Unit((self._ids[token],), ((0, len(chars)),))
                elif self._may_add(chars):
                    unit = self._encode_unit(chars, split_special_tokens)
                else:
                    unit = self._known[chars]
                ids += unit.ids
                spans += [(begin + start, begin + end) for start, end in unit.spans]
            ends.append(len(ids))
        return Flat(np.array(ids, np.int32), np.diff(ends), np.array(spans, np.int32).reshape(-1, 2))

    def stretches(self, text: str, split_special_tokens: bool = False) -> Iterator[tuple[int, str, str | None]]:
        """As core's, with the token that a part is (None for text), and cut further, into units (cuts.py): words,
        punctuation marks, Chinese characters. A part that may hold a normalised added token stays whole.
        """
        if self._may_add(text):
            found = self._added.written.split(text, split_special_tokens)
            parts = ((begin, text[begin:end], token and token.content) for begin, end, token in found)
        else:
            found = super().stretches(text, split_special_tokens)
            parts = ((begin, chars, chars if special else None) for begin, chars, special in found)
        for begin, chars, token in parts:
            if token is not None or self._may_add(chars):
                yield begin, chars, token
            else:
                for match in cuts.units(chars, self.tokenize_chinese_chars):
                    yield begin + match.start(), match.group(), None

    def parts(self, chars: Chars, split_special_tokens: bool = False) -> Iterator[tuple[Chars, str | None]]:
        """Of a normalised stretch the normalised added tokens in it, and what stands between: (characters, the token
        that they are)."""
        return iter([(chars, None)]) if self._added is None else self._added.parts(chars, split_special_tokens)

    def _encode_unit(self, text: str, split_special_tokens: bool = False) -> _Unit:
        switches = self.lowercase, self.strip_accents, self.tokenize_chinese_chars
        ids, spans, unknown = [], [], self.special_tokens["unk_token"]
        for chars, token in self.parts(list(wordpiece.normalize(text, *switches)), split_special_tokens):
            if token is not None:
                ids.append(self._ids[token])
                spans.append((chars[0][1], chars[-1][1] + 1))
                continue
            for word, sources in wordpiece.words(chars):
                for piece, start, end in wordpiece.wordpiece(word, self.pieces, unknown):
                    ids.append(self._ids[piece])
                    spans.append((sources[start], sources[end - 1] + 1))
        return _Unit(ids, spans)

    @cached_property
    def _known(self) -> "_Known[_Unit]":
        return _Known(self._encode_unit)

    @cached_property
    def _known_chunks(self) -> "_Known[list[int]]":
        """The ids of what stands between two spaces: "don't." """
        known, cut = self._known, cuts.UNIT[self.tokenize_chinese_chars].findall
        return _Known(lambda chunk: [number for chars in cut(chunk) for number in known[chars].ids])

    @cached_property
    def _batch_encoder(self) -> BatchEncoder:
        strip_accents = self.lowercase if self.strip_accents is None else self.strip_accents
        switches = self.lowercase, strip_accents, self.tokenize_chinese_chars
        return BatchEncoder(self.pieces, self._special_ids, self.unk_id, *switches, self._remembered)

    @cached_property
    def _inside_special(self) -> str:
        return "".join(token[1:] for token in self._special_ids)

    def __getstate__(self) -> dict:
        """What has been learned stays here: a copy, or a worker process, begins anew."""
        return {name: value for name, value in vars(self).items() if name not in _LEARNED}


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
