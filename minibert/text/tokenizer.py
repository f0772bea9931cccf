"""The tokenizer that `minibert.Tokenizer` is: core's, with the fast twin of WordPiece, what it has met, and more files.

Ids, offsets and errors are those of core/tokenizer.py. Many texts go through wordpiece_batch.py; of a few the words
met before are remembered; of a long text to be truncated only the beginning is read. No torch in here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from minibert.core import tokenizer, wordpiece
from minibert.core.encoding import Encoding, Flat
from minibert.core.tokenizer import as_list, check_text, check_texts
from minibert.io.diagnosis import reading
from minibert.text import cuts
from minibert.text.tokenizer_files import read_settings
from minibert.text.wordpiece_batch import BatchEncoder, assembled

if TYPE_CHECKING:
    from minibert.text.token_file import TokenFile

__all__ = ["Encoding", "Tokenizer"]

CACHED_UNITS, CACHED_CHARS = 1 << 17, 64  # bounds of the cache for single texts: tens of megabytes
CHARS_PER_TOKEN = 5  # a little more than English has: of a text to be truncated so much is read first
FEW_CHARS = 1500  # below, the specification with what it knows: it needs none of the fast twin's tables

Span = tuple[int, int]


class _Unit(NamedTuple):
    """An encoded stretch of text: ids, and for each its span counted from the stretch's first character."""

    ids: Sequence[int]
    spans: Sequence[Span]


class Tokenizer(tokenizer.Tokenizer):
    """BERT's tokenizer: the arguments, attributes, ids, offsets and errors of core's Tokenizer (core/tokenizer.py).

    What it adds: speed; whole corpora (`encode_flat`, `encode_file`); `from_pretrained` reads tokenizer.json and the
    older special_tokens_map.json too, and refuses an added_tokens.json that BERT has no use for. Threads may share it.
    """

    def encode(self, text: str, split_special_tokens: bool = False) -> list[int]:
        """The ids of one text, [CLS] and [SEP] included, whatever its length."""
        check_text(text, "text")
        if len(text) > FEW_CHARS or (not split_special_tokens and self._special.search(text)):
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

        Raises ValueError for files that are missing or not UTF-8, and an `out` that holds something else.
        """
        from minibert.text import token_file  # with what it needs for processes and a progress bar

        return token_file.write(self, paths, out, processes)

    def border(self, text: str, position: int) -> int:
        """The first place from `position` on where a text may be cut without changing its tokens; else its length."""
        return cuts.border(text, position, self.tokenize_chinese_chars, self._inside_special)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "Tokenizer":
        """Reads a model directory, a hub name, or one file: vocab.txt or tokenizer.json (see `read_settings`).

        Raises ValueError for a missing, broken or foreign file, with its name.
        """
        with reading(name) as path:
            return cls(**read_settings(path))

    # --- The fast twin of core's `_flat` ------------------------------------------------------------------------------

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
        try:
            if len(texts) >= FEW_CHARS or sum(map(len, texts)) >= FEW_CHARS:
                return self._batch_encoder.encode(texts, spans, split_special_tokens)
        except (TypeError, UnicodeEncodeError):  # a text is not str, or has lone surrogates: say which
            check_texts(texts, names)
            raise
        check_texts(texts, names)
        flat = self._remembered(texts, split_special_tokens)
        return flat if spans else flat._replace(spans=None)

    def _heads(
        self, texts: list[str], names: tuple[str, ...], split_special_tokens: bool, spans: bool, tokens: int
    ) -> Flat:
        """So many tokens of each text, or more, or all it has; of long texts the end is read only if it is needed."""
        chars = CHARS_PER_TOKEN * tokens
        heads = [
            text[: self.border(text, chars)] if isinstance(text, str) and len(text) > chars else text for text in texts
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
            for begin, chars, special in self.stretches(text, split_special_tokens):
                unit = _Unit((self._ids[chars],), ((0, len(chars)),)) if special else self._known[chars]
                ids += unit.ids
                spans += [(begin + start, begin + end) for start, end in unit.spans]
            ends.append(len(ids))
        return Flat(np.array(ids, np.int32), np.diff(ends), np.array(spans, np.int32).reshape(-1, 2))

    def stretches(self, text: str, split_special_tokens: bool = False) -> Iterator[tuple[int, str, bool]]:
        """As core's, but cut further, into units (cuts.py): words, punctuation marks, Chinese characters."""
        for begin, chars, special in super().stretches(text, split_special_tokens):
            if special:
                yield begin, chars, True
            else:
                yield from self._cut(chars, begin)

    def _cut(self, text: str, begin: int) -> Iterator[tuple[int, str, bool]]:
        for match in cuts.units(text, self.tokenize_chinese_chars):
            yield begin + match.start(), match.group(), False

    def _encode_unit(self, chars: str) -> _Unit:
        switches = self.lowercase, self.strip_accents, self.tokenize_chinese_chars
        pieces = wordpiece.tokenize(chars, self._ids, *switches, unknown=self.special_tokens["unk_token"])
        return _Unit([self._ids[piece.token] for piece in pieces], [(piece.start, piece.end) for piece in pieces])

    @cached_property
    def _known(self) -> "_Known[_Unit]":
        return _Known(self._encode_unit)

    @cached_property
    def _known_chunks(self) -> "_Known[list[int]]":
        """The ids of what stands between two spaces: "don't." """
        known, cut = self._known, self._cut
        return _Known(lambda chunk: [number for _, chars, _ in cut(chunk, 0) for number in known[chars].ids])

    @cached_property
    def _batch_encoder(self) -> BatchEncoder:
        strip_accents = self.lowercase if self.strip_accents is None else self.strip_accents
        switches = self.lowercase, strip_accents, self.tokenize_chinese_chars
        return BatchEncoder(self._ids, self._special_ids, self.unk_id, *switches, self._remembered)

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
