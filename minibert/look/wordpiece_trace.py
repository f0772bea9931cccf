"""Why a text becomes these pieces: the steps of wordpiece.py, written down as they happen. No torch in here."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import NamedTuple

from minibert.core import wordpiece
from minibert.text.tokenizer import Tokenizer

MAX_ATTEMPTS = 24  # attempts that are kept of a piece; a word of 100 characters may have 5,050


class Attempt(NamedTuple):
    """A piece that was looked for, and whether the vocabulary has it."""

    token: str
    found: bool


class TracedPiece(NamedTuple):
    """A token, where it stands in the text, and what was tried for it, the longest first."""

    token: str
    id: int
    start: int
    end: int
    attempts: list[Attempt]  # the first of them, and the last
    left_out: int  # between those


class Stretch(NamedTuple):
    """A part of the text that is encoded by itself: a word, a Chinese character, a punctuation mark."""

    start: int
    end: int
    special: bool  # a special token that the text itself holds: no step touches it
    steps: list[tuple[str, str]]  # the name of wordpiece.py's function, the text after it
    words: list[str]
    pieces: list[TracedPiece]


class RecordingVocabulary(Container[str]):
    """A vocabulary that records what it was asked for."""

    def __init__(self, vocab: Container[str]) -> None:
        self.vocab, self.asked = vocab, []

    def __contains__(self, token: str) -> bool:
        self.asked.append(Attempt(token, token in self.vocab))
        return self.asked[-1].found


def trace(tokenizer: Tokenizer, text: str) -> Iterator[Stretch]:
    """All stretches of a text, each with its steps, also those of which nothing remains; their pieces one after the
    other are the text's tokens, without [CLS] and [SEP]."""
    ids, unknown = (
        {token: number for number, token in enumerate(tokenizer.vocab)},
        tokenizer.special_tokens["unk_token"],
    )
    for begin, unit, special in tokenizer.stretches(text):
        end = begin + len(unit)
        if special is not None:
            yield Stretch(begin, end, True, [], [unit], [TracedPiece(special, ids[special], begin, end, [], 0)])
            continue
        chars, steps = list(zip(unit, range(begin, end), strict=True)), []
        for step in wordpiece.steps(tokenizer.lowercase, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars):
            chars = list(step(chars))
            steps.append((step.__name__, "".join(char for char, _ in chars)))
        words, pieces = [], []
        for part, added in tokenizer.parts(chars):
            if added is not None:
                words.append(added)
                pieces.append(TracedPiece(added, ids[added], part[0][1], part[-1][1] + 1, [], 0))
                continue
            for word, sources in wordpiece.words(part):
                words.append(word)
                for (token, start, stop), attempts, left_out in attempted(word, tokenizer.pieces, unknown):
                    place = sources[start], sources[stop - 1] + 1
                    pieces.append(TracedPiece(token, ids[token], *place, attempts, left_out))
        yield Stretch(begin, end, False, steps, words, pieces)


def attempted(word: str, vocab: Container[str], unknown: str) -> Iterator[tuple[wordpiece.Piece, list[Attempt], int]]:
    """The pieces of a word, each with what was asked for until it was found; an unknown word's with everything."""
    recording = RecordingVocabulary(vocab)
    pieces = wordpiece.wordpiece(word, recording, unknown)
    ends = [number for number, attempt in enumerate(recording.asked, 1) if attempt.found]
    if len(ends) != len(pieces) or (ends and ends[-1] != len(recording.asked)):  # the rest of the word was not found
        ends = [len(recording.asked)]
    for piece, start, end in zip(pieces, [0, *ends], ends, strict=False):
        asked = recording.asked[start:end]
        left_out = max(0, len(asked) - MAX_ATTEMPTS)
        kept = [*asked[: MAX_ATTEMPTS - 1], asked[-1]] if left_out else asked
        yield piece, kept, left_out
