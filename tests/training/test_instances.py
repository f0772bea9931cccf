"""Proves that pretraining sees what it should: whole sentences, pairs that are half random, 15 % of the tokens hidden,
80/10/10, nothing special among them, and the same whoever asks. Run: pytest tests/training/test_instances.py
"""

import math

import numpy as np
import pytest
import torch

from minibert.fast.layout import pad
from minibert.text.corpus import Corpus, open_corpus
from minibert.text.tokenizer import Tokenizer
from minibert.training.instances import HIDDEN, VocabTables, batch, hide, numbers, plan

WORDS = [f"w{number}" for number in range(90)]
VOCAB = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##a", "##b"]
TOKENIZER = Tokenizer(VOCAB)
KINDS = VocabTables(TOKENIZER)
CLS, SEP, MASK = TOKENIZER.cls_id, TOKENIZER.sep_id, TOKENIZER.mask_id


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """300 documents of 1 … 12 sentences of 1 … 19 tokens; each document has a word of its own in every sentence."""
    folder = tmp_path_factory.mktemp("corpus")
    dice = np.random.default_rng(0)
    documents = []
    for _ in range(300):
        sizes = dice.integers(1, 20, dice.integers(1, 13))
        documents.append("\n".join(" ".join(dice.choice(WORDS, size)) for size in sizes))
    (folder / "a.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return open_corpus([folder / "a.txt"], TOKENIZER, folder / "cache")


def bounds(corpus: Corpus) -> tuple[set[int], np.ndarray]:
    """(where sentences begin and end, where documents do), in tokens."""
    offsets = np.array(corpus.tokens.offsets)
    return set(offsets.tolist()), offsets[corpus.documents]


def document_of(corpus: Corpus, token: int) -> int:
    return int(np.searchsorted(bounds(corpus)[1][:, 1], token, "right"))


# ---- which text ----


@pytest.mark.parametrize("max_length", [7, 32, 129])
def test_without_pairs_every_token_is_seen_once_and_sentences_are_whole_where_they_fit(corpus, max_length):
    planned = plan(corpus, corpus.documents, max_length, pairs=False, seed=1, epoch=0)
    begin, end = planned.spans[:, 0], planned.spans[:, 1]
    assert begin[0] == 0
    assert (begin[1:] == end[:-1]).all()
    assert end[-1] == len(corpus.tokens.ids)
    assert (planned.lengths == end - begin + 2).all()
    assert planned.lengths.max() <= max_length
    ends, _ = bounds(corpus)
    cut = [b for b, e in zip(begin.tolist(), end.tolist(), strict=True) if e not in ends]
    assert all(not ends & set(range(b + 1, e)) for b, e in zip(begin, end, strict=True) if b in cut)
    assert bool(cut) == (max_length == 7)  # no sentence has more than 19 tokens


def test_examples_do_not_run_from_one_document_into_the_next(corpus):
    for a, a_end, b, b_end in plan(corpus, corpus.documents, 64, True, 1, 0).spans.tolist():
        assert a < a_end
        assert b < b_end
        assert document_of(corpus, a) == document_of(corpus, a_end - 1)
        assert document_of(corpus, b) == document_of(corpus, b_end - 1)


def test_half_of_the_pairs_are_random_and_those_are_of_two_documents(corpus):
    planned = plan(corpus, corpus.documents, 64, True, 1, 0)
    assert abs(planned.is_random.mean() - 0.5) < 0.005
    for (a, a_end, b, _), random in zip(planned.spans.tolist(), planned.is_random.tolist(), strict=True):
        assert (document_of(corpus, a) != document_of(corpus, b)) == bool(random)
        assert random or a_end == b


@pytest.mark.parametrize("max_length", [7, 40, 512])
def test_with_pairs_every_token_is_seen_once_too_beside_the_random_second_sentences(corpus, max_length):
    planned = plan(corpus, corpus.documents, max_length, True, 1, 0)
    seen = np.zeros(len(corpus.tokens.ids), int)
    for (a, a_end, b, b_end), random in zip(planned.spans.tolist(), planned.is_random.tolist(), strict=True):
        seen[a:a_end] += 1
        seen[b:b_end] += not random
    assert (seen == 1).all()


def test_pairs_fit_and_of_those_that_do_not_the_random_second_sentence_is_cut(corpus):
    planned = plan(corpus, corpus.documents, 48, True, 1, 0)
    assert planned.lengths.max() <= 48
    assert (planned.lengths >= 5).all()
    ends, _ = bounds(corpus)
    assert all(span in ends for span in planned.spans[:, :3].ravel().tolist())
    whole = np.array([end in ends for end in planned.spans[:, 3].tolist()])
    assert whole[planned.is_random == 0].all()
    assert (planned.lengths[~whole] == 48).all()


def test_a_sentence_that_leaves_no_room_for_another_is_halved_into_a_pair(tmp_path):
    text = "\n\n".join(" ".join([word] * 50) for word in WORDS[:20])
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    corpus = open_corpus([tmp_path / "a.txt"], TOKENIZER, tmp_path / "cache")
    planned = plan(corpus, corpus.documents, 64, True, 1, 0)
    sizes = np.diff(planned.spans)[:, [0, 2]]
    assert (sizes[planned.is_random == 0] > 0).all()
    assert planned.is_random.mean() < 0.7  # what a random half leaves has no second sentence
    assert sizes[:, 0].max() == 25


def test_a_tenth_of_the_examples_are_short(corpus):
    whole = Corpus(corpus.tokens, corpus.documents, [])
    lengths = [plan(whole, corpus.documents, 24, False, seed, 0).lengths for seed in range(20)]
    mean = np.concatenate(lengths).mean()
    assert mean < 20  # whole sentences of 10 tokens fill 22 by about 17; none would be much shorter


def test_an_epoch_depends_on_seed_and_epoch_alone_and_epochs_differ(corpus):
    one, same, other = (plan(corpus, corpus.documents, 64, True, 3, epoch) for epoch in (4, 4, 5))
    assert all((a == b).all() for a, b in zip(one, same, strict=True))
    assert one.spans.shape != other.spans.shape or (one.spans != other.spans).any()
    assert (one.key != other.key).all()


def test_pairs_of_documents_with_one_sentence_are_all_random(corpus):
    first = corpus.documents[:, :1]
    planned = plan(corpus, np.concatenate([first, first + 1], axis=1), 64, True, 1, 0)
    assert planned.is_random.all()


def test_a_document_that_has_nearly_all_text_finds_a_stranger(corpus):
    """All documents but the last as one, whose blank lines hold no token: 299 of 300 draws hit it itself."""
    documents = np.array([[0, corpus.documents[-2, 1]], corpus.documents[-1]])
    border = corpus.tokens.offsets[documents[1, 0]]
    for seed in range(5):
        planned = plan(corpus, documents, 64, True, seed, 0)
        assert ((planned.spans[:, 0] < border) != (planned.spans[:, 2] < border)).tolist() == (
            planned.is_random == 1
        ).tolist()
        assert abs(planned.is_random.mean() - 0.5) < 0.01


def test_one_document_has_no_random_next_sentence(corpus):
    with pytest.raises(ValueError, match=r"needs two documents.*--nsp off"):
        plan(corpus, corpus.documents[:1], 64, True, 0, 0)


@pytest.mark.parametrize("pairs", [True, False])
def test_a_length_without_room_is_refused(corpus, pairs):
    with pytest.raises(ValueError, match=f"max_length is 3; .* at least {5 if pairs else 4}"):
        plan(corpus, corpus.documents, 3, pairs, 0, 0)


# ---- which tokens ----


def hidden(rows: int, size: int, whole_words: bool = False, seed: int = 0):
    """Random examples of `size` tokens hidden: (ids, shown, positions)."""
    dice = np.random.default_rng(seed)
    lengths = np.full(rows, size)
    ids = dice.choice(np.flatnonzero(~KINDS.special), rows * size)
    ids[::size], ids[size - 1 :: size] = CLS, SEP
    random = numbers(np.array([1, 2], np.uint64), range(rows), lengths)
    return ids, *hide(ids, lengths, random, KINDS, whole_words)


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("size", [pytest.param(9, marks=pytest.mark.slow), 61])
def test_fifteen_percent_are_hidden_and_become_mask_random_or_stay(size, whole_words):
    """Over 10^6 tokens: 15 %, 80/10/10, each within 0.3 points; sd of the latter is 0.1 points."""
    ids, shown, positions = hidden(10**6 // (size - 2), size, whole_words)
    real = ~KINDS.special[ids]
    assert len(positions) / real.sum() == pytest.approx(0.15, abs=0.003)
    assert (np.diff(positions) > 0).all()
    assert real[positions].all(), "a special token is hidden"
    assert not KINDS.special[shown[positions][shown[positions] != MASK]].any(), "a special token is shown"
    outside = np.ones(len(ids), bool)
    outside[positions] = False
    assert (shown[outside] == ids[outside]).all()
    became, was = shown[positions], ids[positions]
    masked, stayed = (became == MASK).mean(), (became == was).mean()
    by_chance = 0.1 / len(KINDS.choices)  # random tokens that are the token itself
    assert masked == pytest.approx(0.8, abs=0.003)
    assert stayed - by_chance == pytest.approx(0.1, abs=0.003)
    assert 1 - masked - stayed + by_chance == pytest.approx(0.1, abs=0.003)


def test_random_tokens_are_drawn_equally_from_all_but_special_and_unused_ones():
    """Chi-square with N - 1 degrees of freedom: mean N - 1, sd sqrt(2 (N - 1)); five of them are allowed."""
    ids, shown, positions = hidden(17_000, 61)
    became, was = shown[positions], ids[positions]
    changed = became[(became != MASK) & (became != was)]
    counts = np.bincount(changed, minlength=len(VOCAB))
    assert set(np.flatnonzero(counts)) == {VOCAB.index(token) for token in [*WORDS, "##a", "##b"]}
    counts = counts[KINDS.choices]
    expected = len(changed) / len(counts)
    chi_square, freedom = ((counts - expected) ** 2 / expected).sum(), len(counts) - 1
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom)


def test_pieces_are_hidden_with_their_word():
    ids, _, positions = hidden(500, 61, whole_words=True)
    chosen = np.zeros(len(ids), bool)
    chosen[positions] = True
    inside = np.flatnonzero(KINDS.continues[ids] & ~KINDS.special[np.roll(ids, 1)])
    assert len(inside) > 100
    assert (chosen[inside] == chosen[inside - 1]).all()
    assert len(positions) > 1000


def test_every_place_is_hidden_as_often():
    size = 12
    _, _, positions = hidden(40_000, size)
    counts = np.bincount(positions % size, minlength=size)
    assert counts[0] == counts[-1] == 0
    assert counts[1:-1] == pytest.approx(40_000 * HIDDEN, rel=0.06)


def test_an_example_is_masked_the_same_in_any_company():
    key, lengths = np.array([5, 6], np.uint64), np.array([7, 11, 3])
    together = numbers(key, [2, 0, 9], lengths)
    assert (numbers(key, [0], lengths[1:2]) == together[:, 7:18]).all()
    assert (numbers(key + 1, [0], lengths[1:2]) != together[:, 7:18]).all()


# ---- batches ----


def test_a_batch_is_what_the_plan_says(corpus):
    planned = plan(corpus, corpus.documents, 64, True, 1, 0)
    rows = [7, 3, 11]
    made = batch(corpus, planned, rows, KINDS)
    rows.sort(key=planned.lengths.__getitem__)
    truth = made.input_ids.clone()
    truth[made.positions] = made.labels
    begin = 0
    for row in rows:
        a, a_end, b, b_end = planned.spans[row].tolist()
        ids = [CLS, *corpus.tokens.ids[a:a_end], SEP, *corpus.tokens.ids[b:b_end], SEP]
        assert truth[begin : begin + len(ids)].tolist() == ids
        segments = made.token_type_ids[begin : begin + len(ids)].tolist()
        assert segments == [0] * (a_end - a + 2) + [1] * (b_end - b + 1)
        begin += len(ids)
    assert begin == len(truth)
    assert made.is_random.tolist() == planned.is_random[rows].tolist()
    assert (made.input_ids[made.positions] == MASK).float().mean() > 0.5


def test_a_padded_batch_is_the_packed_one_in_a_rectangle(corpus):
    planned = plan(corpus, corpus.documents, 64, True, 1, 0)
    packed, padded = (batch(corpus, planned, [7, 3, 11], KINDS, padded=padded) for padded in (False, True))
    for name in ("input_ids", "token_type_ids"):  # [PAD] is 0
        assert torch.equal(pad(getattr(packed, name), packed.layout), getattr(padded, name))
    assert torch.equal(padded.attention_mask, packed.layout.padded.keys.long())
    assert torch.equal(packed.layout.indices[packed.positions], padded.positions)
    assert torch.equal(packed.labels, padded.labels)
    assert padded.layout is packed.attention_mask is None


def test_without_pairs_there_is_one_segment(corpus):
    made = batch(corpus, plan(corpus, corpus.documents, 64, False, 1, 0), range(5), KINDS)
    assert (made.token_type_ids == 0).all()
    assert (made.input_ids == SEP).sum() == 5
