"""Proves that core/masking.py, the specification, and instances.py, its fast twin, hide the same tokens of the same
random numbers, and that its own are those of the paper. Run: pytest tests/core/test_core_masking.py
"""

import math

import numpy as np
import pytest
import torch

from minibert.core.masking import IGNORED, hide_tokens
from minibert.text.tokenizer import Tokenizer
from minibert.training.instances import VocabTables, hide

WORDS = [f"w{i}" for i in range(40)]
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[unused1]", "[SEP]", "[MASK]", *WORDS, "##a", "##b"])
KINDS = VocabTables(TOKENIZER)
SPECIAL, CHOICES = torch.from_numpy(np.flatnonzero(KINDS.special)), torch.from_numpy(KINDS.choices)


def rows_of(count: int, shortest: int, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random rows as rectangles: (ids [B, S], lengths [B]), with special tokens inside, too."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(shortest, longest + 1, (count,), generator=generator)
    ids = CHOICES[torch.randint(len(CHOICES), (count, longest), generator=generator)]
    ids[torch.rand(ids.shape, generator=generator) < 0.02] = TOKENIZER.unk_id
    ids[:, 0] = TOKENIZER.cls_id
    ids[torch.arange(count), lengths - 1] = TOKENIZER.sep_id
    return ids.masked_fill(torch.arange(longest) >= lengths[:, None], TOKENIZER.pad_id), lengths


def test_with_the_same_random_numbers_the_twin_hides_the_same_tokens(monkeypatch):
    ids, lengths = rows_of(500, 2, 60)
    real = ids != TOKENIZER.pad_id
    numbers = torch.rand(3, *ids.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    given = iter((numbers, numbers[0, :, :1]))  # the twin takes the number of [CLS], which is never hidden, to round
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: next(given))
    shown, labels = hide_tokens(ids, SPECIAL, CHOICES, TOKENIZER.mask_id)
    wanted, places = hide(ids[real].numpy(), lengths.numpy(), numbers[:, real].numpy(), KINDS, whole_words=False)
    assert (shown[real].numpy() == wanted).all()
    assert np.flatnonzero(labels[real] != IGNORED).tolist() == places.tolist()
    assert (labels[real].numpy()[places] == ids[real].numpy()[places]).all()
    assert (labels[~real] == IGNORED).all()
    assert len(places) > 1000


@pytest.fixture(scope="module")
def hidden() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, shown, labels) of 10^6 tokens."""
    ids, _ = rows_of(20_000, 40, 60)
    return ids, *hide_tokens(ids, SPECIAL, CHOICES, TOKENIZER.mask_id, torch.Generator().manual_seed(2))


def test_fifteen_percent_are_hidden_and_become_mask_random_or_stay(hidden):
    """Within 0.3 points, the limits of the twin's test."""
    ids, shown, labels = hidden
    chosen = labels != IGNORED
    ordinary = ~torch.isin(ids, SPECIAL)
    assert chosen.sum() / ordinary.sum() == pytest.approx(0.15, abs=0.003)
    became, was, by_chance = shown[chosen], ids[chosen], 0.1 / len(CHOICES)
    masked, stayed = ((became == x).float().mean().item() for x in (TOKENIZER.mask_id, was))
    assert masked == pytest.approx(0.8, abs=0.003)
    assert stayed - by_chance == pytest.approx(0.1, abs=0.003)
    assert torch.equal(labels[chosen], was)
    assert torch.equal(shown[~chosen], ids[~chosen])


def test_special_tokens_are_never_hidden(hidden):
    ids, _, labels = hidden
    assert (labels[torch.isin(ids, SPECIAL)] == IGNORED).all()


def test_random_tokens_are_drawn_equally_from_all_but_special_and_unused_ones(hidden):
    """Chi-square with N - 1 degrees of freedom, mean N - 1, sd sqrt(2 (N - 1)); five of them are allowed."""
    ids, shown, labels = hidden
    changed = shown[(labels != IGNORED) & (shown != TOKENIZER.mask_id) & (shown != ids)]
    counts = torch.bincount(changed, minlength=len(TOKENIZER.vocab))
    assert set(counts.nonzero().flatten().tolist()) == set(CHOICES.tolist())
    expected, freedom = len(changed) / len(CHOICES), len(CHOICES) - 1
    assert ((counts[CHOICES] - expected) ** 2 / expected).sum() < freedom + 5 * math.sqrt(2 * freedom)


def test_a_generator_decides_everything(hidden):
    ids = rows_of(3, 9, 20)[0]
    one, two, other = (
        hide_tokens(ids, SPECIAL, CHOICES, TOKENIZER.mask_id, torch.Generator().manual_seed(seed)) for seed in (4, 4, 5)
    )
    assert all(map(torch.equal, one, two))
    assert not torch.equal(one[1], other[1])
