"""What pretraining sees: which stretches of text make an example, and which of its tokens are hidden.

    corpus ──plan──▶ spans [M, 4], for an epoch ──batch──▶ [CLS] A [SEP] B [SEP] ──hide──▶ masked ids, positions, labels

Example i of an epoch depends on (seed, epoch, i) alone: a resumed run, or one of many processes, asks for any of them.
The scheme is that of the paper (section 3.1, appendix A.1) and of Google's create_pretraining_data.py:

    whole sentences of one document fill an example; a tenth of the examples are shorter, of random length
    they are parted into A and B; for half of the examples B is replaced by a stretch of another document, and the next
    example begins with what it replaces: an epoch has every token of the corpus once
    15 % of the tokens are to be predicted: 80 % of them become [MASK], 10 % a random token, 10 % stay

In three things we differ. Sentences that do not fit begin the next example and are not cut off, but for those of a
random B; only a line that alone is too long is parted. B comes from a document drawn by its length, not each document
as often. And masks are drawn anew in every epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minibert.core.masking import AS_MASK, AS_RANDOM, HIDDEN
from minibert.core.wordpiece import CONTINUES
from minibert.fast.layout import Packed, upload
from minibert.text.corpus import Corpus
from minibert.text.tokenizer import Tokenizer

SHORT = 0.1  # of the examples
HELD_OUT = 2**31  # stands for the epoch of held-out examples, whose masks never change

# ---- which text ----


class Plan(NamedTuple):
    """The M examples of an epoch.

    spans: int64 [M, 4], in tokens of the corpus: A's begin and end, B's begin and end (equal where there is no B).
    is_random: int64 [M], 1 where B does not follow A.
    lengths: int64 [M], tokens with [CLS] and [SEP].
    key: uint64 [2], of the random numbers that hide tokens.
    """

    spans: NDArray[np.int64]
    is_random: NDArray[np.int64]
    lengths: NDArray[np.int64]
    key: NDArray[np.uint64]


class Pieces(NamedTuple):
    """Stretches of whole sentences, of C examples: tokens [begin, end) of a document that ends at `stop`; in pairs A
    ends at `middle`, and where `is_random` the next piece of the document begins there."""

    begin: NDArray[np.int64]
    middle: NDArray[np.int64]
    end: NDArray[np.int64]
    stop: NDArray[np.int64]
    document: NDArray[np.int64]
    target: NDArray[np.int64]  # tokens that were asked for
    is_random: NDArray[np.bool_]


def plan(corpus: Corpus, documents: NDArray[np.int64], max_length: int, pairs: bool, seed: int, epoch: int) -> Plan:
    """The examples of an epoch, in the order of the text.

    documents: int64 [D, 2], those of the corpus that are used. pairs: whether there is a B.

    Raises:
        ValueError: max_length leaves no room, or there is one document only and pairs are asked for.
    """
    room = max_length - (3 if pairs else 2)
    if room < 2:
        raise ValueError(
            f"max_length is {max_length}; with [CLS] and [SEP] it must be at least {max_length - room + 2}"
        )
    if pairs and len(documents) < 2:
        raise ValueError(
            "next-sentence prediction needs two documents, and there is one to draw from; put a blank line between"
            " documents, or give --nsp off"
        )
    offsets = corpus.tokens.offsets
    rng = np.random.default_rng((seed, epoch))
    pieces = cut(offsets, documents, room, pairs, rng)
    spans = np.stack([pieces.begin, pieces.middle, pieces.middle, pieces.end], axis=1)
    if pairs:
        spans[pieces.is_random, 2:] = random_second_sentences(offsets, pieces, room, rng)
    lengths = spans[:, 1] - spans[:, 0] + spans[:, 3] - spans[:, 2] + (3 if pairs else 2)
    key = np.random.SeedSequence((seed, epoch, 1)).generate_state(2, np.uint64)
    return Plan(spans, pieces.is_random.astype(np.int64), lengths, key)


def cut(
    offsets: NDArray[np.int64], documents: NDArray[np.int64], room: int, pairs: bool, rng: np.random.Generator
) -> Pieces:
    """Cuts documents into pieces of at most `room` tokens, all documents at once: a piece of each, a round."""
    rounds = []
    document, balance = np.arange(len(documents)), 0.0
    begin, stop = offsets[documents].T
    while len(document):
        short = rng.random(len(document)) < SHORT
        target = np.where(short, rng.integers(2, room + 1, len(document)), room)
        end = filled(offsets, begin, stop, target, room)
        middle, is_random = end, np.zeros(len(end), bool)
        if pairs:
            middle, is_random = parted(offsets, begin, end, room, balance, rng)
            balance += len(end) / 2 - is_random.sum()
        rounds.append((begin, middle, end, stop, document, target, is_random))
        begin = np.where(is_random, middle, end)
        more = begin < stop
        begin, stop, document = begin[more], stop[more], document[more]
    pieces = Pieces(*(np.concatenate(column) for column in zip(*rounds, strict=True)))
    order = np.argsort(pieces.begin, kind="stable")
    return Pieces(*(column[order] for column in pieces))


def filled(
    offsets: NDArray[np.int64],
    begin: NDArray[np.int64],
    stop: NDArray[np.int64],
    target: NDArray[np.int64],
    room: int,
) -> NDArray[np.int64]:
    """Where whole sentences from `begin` on end that hold `target` tokens at most, but one sentence at least; one that
    has more than `room` tokens is cut there."""
    line = np.searchsorted(offsets, np.minimum(begin + target, stop), "right")
    before, behind = offsets[line - 1], offsets[np.minimum(line, len(offsets) - 1)]
    return np.minimum(np.where(before > begin, before, behind), begin + room)


def parted(
    offsets: NDArray[np.int64],
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    room: int,
    balance: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Each piece's end of A, and whether its B is random: half of them, where enough pieces can be parted.

    A ends with a sentence drawn at random. A piece of one sentence has no B of its own, unless it is too long to leave
    room for one: then it is halved. balance: how many of the pieces before should have been random, and are not.
    """
    first = np.searchsorted(offsets, begin, "right")  # the first line end inside
    count = np.searchsorted(offsets, end, "left") - first
    middle = np.where(count > 0, offsets[first + (rng.random(len(first)) * np.maximum(count, 1)).astype(np.int64)], end)
    middle = np.where((count == 0) & (end - begin > room // 2), (begin + end) // 2, middle)
    is_random = middle == end
    wanted = int(balance + len(begin) / 2 + rng.random()) - is_random.sum()
    is_random[rng.permutation(np.flatnonzero(~is_random))[: max(0, wanted)]] = True
    return middle, is_random


def random_second_sentences(
    offsets: NDArray[np.int64], pieces: Pieces, room: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """For each piece whose B is random, a stretch of another document: whole sentences that fill what A leaves of the
    example, or the beginning of one that is longer. [R, 2]"""
    own, size = pieces.document[pieces.is_random], (pieces.middle - pieces.begin)[pieces.is_random]
    partner = rng.integers(len(pieces.begin), size=len(own))
    for _ in range(20):
        same = np.flatnonzero(pieces.document[partner] == own)
        partner[same] = rng.integers(len(pieces.begin), size=len(same))
    for document in np.unique(own[pieces.document[partner] == own]):  # one that has nearly all the text
        same = np.flatnonzero((own == document) & (pieces.document[partner] == own))
        partner[same] = rng.choice(np.flatnonzero(pieces.document != document), len(same))
    theirs = Pieces(*(column[partner] for column in pieces))
    first = np.searchsorted(offsets, theirs.begin, "right")
    count = np.searchsorted(offsets, theirs.end, "left") - first
    line = (rng.random(len(own)) * (count + 1)).astype(np.int64)  # 0: where the piece begins
    begin = np.where(line == 0, theirs.begin, offsets[first + line - 1])
    wanted = np.maximum(pieces.target[pieces.is_random] - size, 1)
    return np.stack([begin, filled(offsets, begin, theirs.stop, wanted, room - size)], axis=1)


# ---- which tokens ----


class VocabTables:
    """What hiding has to know of a vocabulary, as tables by id.

    special: bool [V], never hidden. continues: bool [V], pieces that begin with "##". choices: [N], the ids that random
    tokens are drawn from: all but special tokens and the [unused…] of Google's vocabularies.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        vocab = tokenizer.vocab
        named = {*tokenizer.special_tokens.values(), *tokenizer.extra_special_tokens}
        self.special = np.array([token in named for token in vocab])
        self.continues = np.array([token.startswith(CONTINUES) for token in vocab])
        unused = np.array([token.startswith("[unused") for token in vocab])
        self.choices = np.flatnonzero(~self.special & ~unused)
        self.cls_id, self.sep_id = tokenizer.cls_id, tokenizer.sep_id
        self.pad_id, self.mask_id = tokenizer.pad_id, tokenizer.mask_id


def numbers(key: NDArray[np.uint64], rows: Sequence[int], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Three random numbers in [0, 1) for each token of these examples, [3, T]; they depend on key and example alone."""
    drawn = []
    for row, length in zip(rows, lengths.tolist(), strict=True):
        generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, row]))
        drawn.append(generator.random((3, length)))
    return np.concatenate(drawn, axis=1)


def hide(
    ids: NDArray[np.int64],
    lengths: NDArray[np.int64],
    random: NDArray[np.float64],
    tables: VocabTables,
    whole_words: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(ids with some hidden [T], the places of the hidden ones [M], rising).

    ids: the examples one after the other. lengths: [B]. random: [3, T], from `numbers`.

    Units (tokens, or whole words) are taken in random order as long as they fit into 15 % of the example's tokens,
    special ones not counted. The unit that crosses the border is taken with the probability with which it lies before
    it: so 15 % is the exact mean, in short examples too, and whole words are not cut.
    """
    row = np.repeat(np.arange(len(lengths)), lengths)  # [T]
    first_token = np.cumsum(lengths) - lengths  # [B], always [CLS], whose number is free: it decides at the border
    real = ~tables.special[ids]
    joined = np.zeros(len(ids), bool)
    if whole_words:
        joined[1:] = tables.continues[ids[1:]] & real[1:] & real[:-1]
    places = np.flatnonzero(real)
    unit = np.cumsum(~joined[places]) - 1
    begins = places[~joined[places]]  # [U]
    sizes = np.bincount(unit, minlength=len(begins))
    order = np.lexsort((random[0, begins], row[begins]))
    ordered, owner = sizes[order], row[begins][order]
    units_of = np.bincount(owner, minlength=len(lengths))
    before = np.cumsum(ordered) - ordered
    before -= np.repeat(before[(np.cumsum(units_of) - units_of)[units_of > 0]], units_of[units_of > 0])
    wanted = HIDDEN * np.bincount(row[places], minlength=len(lengths))  # [B]
    taken = np.zeros(len(begins), bool)
    taken[order] = wanted[owner] - before > random[0, first_token[owner]] * ordered
    positions = places[taken[unit]]
    return replaced(ids, positions, random[1:, positions], tables), positions


def replaced(
    ids: NDArray[np.int64], positions: NDArray[np.int64], random: NDArray[np.float64], tables: VocabTables
) -> NDArray[np.int64]:
    """What stands at the hidden places: 80 % [MASK], 10 % a random token, 10 % the token itself. random: [2, M]."""
    as_mask = random[0] < AS_MASK
    as_random = ~as_mask & (random[0] < AS_MASK + AS_RANDOM)
    ids = ids.copy()
    ids[positions[as_mask]] = tables.mask_id
    ids[positions[as_random]] = tables.choices[(random[1, as_random] * len(tables.choices)).astype(np.int64)]
    return ids


# ---- batches ----


class MaskedBatch(NamedTuple):
    """What a model takes, in its order, then the answers; all int64, on one device, but lengths, which is numpy.

    Padded it has a mask and no layout, packed a layout and no mask.
    """

    input_ids: Tensor  # [B, S]; packed [T]
    attention_mask: Tensor | None  # [B, S]
    token_type_ids: Tensor  # [B, S]; packed [T]
    layout: Packed | None
    positions: Tensor  # [M], the hidden places in the flattened batch
    labels: Tensor  # [M], what stood there
    is_random: Tensor  # [B], the answer to next-sentence prediction
    lengths: NDArray[np.int64]  # [B], tokens of the examples

    def without_answers(self) -> MaskedBatch:
        """What a rank computes that has no example of a batch: the others wait for its part of their sums, which is
        0."""
        nothing = {name: getattr(self, name)[:0] for name in ("positions", "labels", "is_random", "lengths")}
        return self._replace(**nothing)


def batch(
    corpus: Corpus,
    plan: Plan,
    rows: Sequence[int],
    tables: VocabTables,
    whole_words: bool = False,
    device: torch.device | str = "cpu",
    padded: bool = False,
    multiple: int = 1,
) -> MaskedBatch:
    """Some examples of an epoch, the shortest first; rows: which. multiple: see data.collate_packed."""
    rows = sorted(rows, key=plan.lengths.__getitem__)
    lengths = plan.lengths[rows]
    ids, segments = sequences(corpus.tokens.ids, plan, rows, tables)
    shown, positions = hide(ids, lengths, numbers(plan.key, rows, lengths), tables, whole_words)
    labels, rest, mask = ids[positions], -int(lengths.sum()) % multiple, None
    shown, segments = (np.append(a, np.full(rest, value)) for a, value in ((shown, tables.pad_id), (segments, 0)))
    layout = Packed.from_lengths(np.append(lengths, [rest] * (rest > 0)).astype(np.int64), device=device)
    if padded:
        places, shape = layout.indices.cpu().numpy(), (len(rows), layout.width)
        positions, mask = places[positions], rectangle(np.ones_like(ids), places, shape, 0)
        shown, segments = rectangle(shown, places, shape, tables.pad_id), rectangle(segments, places, shape, 0)
    arrays = shown, mask, segments, positions, labels, plan.is_random[rows]
    shown, mask, segments, *answers = (None if array is None else upload(array, device) for array in arrays)
    return MaskedBatch(shown, mask, segments, None if padded else layout, *answers, lengths)


def sequences(
    tokens: NDArray[np.integer], plan: Plan, rows: Sequence[int], tables: VocabTables
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[CLS] A [SEP] B [SEP], or [CLS] A [SEP], one after the other: (ids, segments), each [T]."""
    cls, sep = [tables.cls_id], [tables.sep_id]
    parts, sizes = [], []
    for (a, a_end, b, b_end), length in zip(plan.spans[rows].tolist(), plan.lengths[rows].tolist(), strict=True):
        parts += [cls, tokens[a:a_end], sep]
        if length > a_end - a + 2:
            parts += [tokens[b:b_end], sep]
        sizes += [a_end - a + 2, length - (a_end - a + 2)]
    return np.concatenate(parts).astype(np.int64), np.repeat(np.tile([0, 1], len(rows)), sizes)


def rectangle(
    values: NDArray[np.int64], places: NDArray[np.int64], shape: tuple[int, int], empty: int
) -> NDArray[np.int64]:
    """[T] -> [B, S], `empty` where there is no token."""
    whole = np.full(shape[0] * shape[1], empty, np.int64)
    whole[places] = values
    return whole.reshape(shape)
