"""Proves that the cheap dropout is dropout: its rate, its independence, its mean, its gradient, its seed; and that
attention of packed rows uses it where the formula says. Run: pytest tests/fast/test_dropout.py
"""

import math

import pytest
import torch

from minibert.core.attention import BACKENDS
from minibert.fast.attention import attend
from minibert.fast.dropout import dropout, keep_mask
from minibert.fast.layout import Packed

SIDE = 1000
SIGMAS = 4.5  # of a mean over SIDE² draws; with the fixed seeds here nothing is left to chance


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def sigma(p: float, count: int = SIDE**2) -> float:
    return (p * (1 - p) / count) ** 0.5


@pytest.mark.parametrize("p", [1e-5, 0.1, 0.25, 0.5, 0.9, 0.99])
def test_the_share_that_stays_is_the_one_told_and_near_the_one_asked(p):
    stays, share = keep_mask((SIDE, SIDE), p)
    assert stays.dtype == torch.uint8
    assert set(stays.unique().tolist()) <= {0, 1}
    assert abs(share - (1 - p)) <= 2**-17
    assert stays.double().mean().item() == pytest.approx(share, abs=SIGMAS * sigma(p))


def test_neighbours_know_nothing_of_each_other():
    """Four elements share a draw: their correlation at all small distances, and from row to row, is that of chance."""
    stays, share = keep_mask((SIDE * SIDE,), 0.25)
    centred = stays.double() - share
    for distance in (*range(1, 17), SIDE):
        together = (centred[:-distance] * centred[distance:]).mean().item()
        assert abs(together) <= SIGMAS * 0.25 * 0.75 / SIDE, distance


def test_each_of_the_four_in_a_draw_drops_its_share():
    stays, share = keep_mask((SIDE, SIDE), 0.1)
    for lane in range(4):
        assert stays.flatten()[lane::4].double().mean().item() == pytest.approx(share, abs=SIGMAS * 2 * sigma(0.1))


def test_the_seed_decides_and_the_next_draw_is_another():
    first, second = keep_mask((99,), 0.5)[0], keep_mask((99,), 0.5)[0]
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, keep_mask((99,), 0.5)[0])


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (2, 3), (5, 1, 3)])
def test_any_shape_is_drawn(shape):
    assert keep_mask(shape, 0.5)[0].shape == shape


def test_what_stays_grows_so_that_the_mean_is_kept_and_gradients_go_the_same_way():
    x = torch.randn(SIDE, 10, requires_grad=True)
    out = dropout(x, 0.25)
    out.sum().backward()
    dropped = out == 0
    assert 0.2 < dropped.double().mean() < 0.3
    torch.testing.assert_close(out[~dropped], x[~dropped] / 0.75)
    torch.testing.assert_close(x.grad, (~dropped) / 0.75)


def test_nothing_is_dropped_at_probability_zero():
    x = torch.randn(7, 5)
    assert torch.equal(dropout(x, 0.0), x)


def test_bfloat16_stays_bfloat16():
    assert dropout(torch.ones(8, 8, dtype=torch.bfloat16), 0.5).dtype == torch.bfloat16


# ---- in attention ----

H, D, P = 2, 5, 0.3


def qkv(tokens: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(tokens, H, D, generator=generator, requires_grad=True) for _ in range(3)]


def by_formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: list[int], first: bool) -> torch.Tensor:
    """Row by row, with masks from one draw, length by length, shortest first. The queries of `first` alone."""
    parts = [tensor.split(lengths) for tensor in (q, k, v)]
    answers = [None] * len(lengths)
    drawn, share = keep_mask((sum(H * n * (1 if first else n) for n in lengths),), P)
    for length in sorted(set(lengths)):
        rows = [row for row, n in enumerate(lengths) if n == length]
        shape = (len(rows), H, 1 if first else length, length)
        stays, drawn = drawn[: math.prod(shape)].view(shape), drawn[math.prod(shape) :]
        for row, mask in zip(rows, stays, strict=True):
            query, key, value = (part[row].transpose(0, 1) for part in parts)  # [H, n, D]
            query = query[:, :1] if first else query
            probs = torch.softmax(query @ key.transpose(1, 2) / D**0.5, dim=-1)
            answers[row] = (probs * mask / share @ value).transpose(0, 1)
    return torch.cat(answers)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("lengths", [[3, 7, 3, 1, 12], [6, 6, 6]], ids=["unequal", "equal"])
def test_packed_attention_drops_probabilities_as_the_formula_says_forward_and_backward(lengths, first):
    """Also where all rows are of one length, and the batch is a rectangle anyway."""
    q, k, v = qkv(sum(lengths))
    layout = Packed.from_lengths(lengths)
    out = BACKENDS["sdpa"](q[layout.firsts] if first else q, k, v, layout, P)
    upstream = torch.randn(out.shape)
    found = torch.autograd.grad(out, (q, k, v), upstream)
    torch.manual_seed(0)
    wanted = by_formula(q, k, v, lengths, first)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(found, torch.autograd.grad(wanted, (q, k, v), upstream), rtol=0, atol=2e-6)


@pytest.mark.slow
def test_the_mean_over_many_draws_is_attention_without_dropout():
    layout = Packed.from_lengths([6, 2, 9])
    q, k, v = (tensor.detach() for tensor in qkv(17))
    draws = torch.stack([attend(q, k, v, layout, "sdpa", P) for _ in range(4000)])
    apart = draws.mean(dim=0) - attend(q, k, v, layout, "sdpa")
    assert draws.std(dim=0).min() > 1e-3, "nothing is dropped"
    assert (apart.abs() <= 5 * draws.std(dim=0) / 4000**0.5).all()
