"""Proves that every attention backend computes the formula, with its gradients. Run: pytest tests/test_attention.py"""

import numpy as np
import pytest
import torch

from minibert.attention import BACKENDS, attend, eager, resolve_backend
from minibert.layout import Padded

B, H, S, D = 3, 2, 7, 5


def qkv(seed: int = 0, grad: bool = False) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(B, H, S, D, generator=generator, requires_grad=grad) for _ in range(3)]


def ragged() -> Padded:
    """Rows of 7, 4 and 1 real keys."""
    return Padded.from_mask((torch.arange(S) < torch.tensor([[7], [4], [1]])).long())


def test_eager_gives_the_numbers_worked_out_by_hand():
    """One head of size 1, so 1/√D = 1. q = ln 3; keys 0, 1, 5 of which the last is padding.

    scores 0, ln 3, 5 ln 3 → e^score 1, 3, (hidden) → probabilities 1/4, 3/4, 0 → 1/4 · 8 + 3/4 · 16 = 14.
    """
    q = torch.full((1, 1, 3, 1), np.log(3.0))
    k = torch.tensor([0.0, 1.0, 5.0]).view(1, 1, 3, 1)
    v = torch.tensor([8.0, 16.0, 1000.0]).view(1, 1, 3, 1)
    layout = Padded.from_mask(torch.tensor([[1, 1, 0]]))
    assert eager.probabilities(eager.scores(q, k), layout)[0, 0, 0].tolist() == pytest.approx([0.25, 0.75, 0.0])
    assert attend(q, k, v, layout, "eager").flatten().tolist() == pytest.approx([14.0, 14.0, 14.0])


def test_scores_are_divided_by_the_root_of_the_head_size():
    """q = k = (1, …, 1) of size D: q·k = D, and D / √D = √D."""
    ones = torch.ones(1, 1, 1, 9)
    assert eager.scores(ones, ones).item() == pytest.approx(3.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("masked", [True, False])
def test_every_backend_equals_numpy_in_float64(backend, masked):
    q, k, v = qkv()
    layout = ragged() if masked else Padded(None)
    real = layout.keys.numpy()[:, None, None, :] if masked else np.ones((B, 1, 1, S), bool)
    q64, k64, v64 = (tensor.double().numpy() for tensor in (q, k, v))
    e = np.exp(q64 @ k64.transpose(0, 1, 3, 2) / np.sqrt(D)) * real
    wanted = e / e.sum(axis=-1, keepdims=True) @ v64
    torch.testing.assert_close(attend(q, k, v, layout, backend).double(), torch.from_numpy(wanted), rtol=0, atol=2e-6)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "eager"])
@pytest.mark.parametrize("masked", [True, False])
def test_gradients_of_every_backend_equal_the_specification(backend, masked):
    layout = ragged() if masked else Padded(None)
    upstream = torch.randn(B, H, S, D, generator=torch.Generator().manual_seed(1))
    gradients = {}
    for name in ("eager", backend):
        inputs = qkv(grad=True)
        attend(*inputs, layout, name).backward(upstream)
        gradients[name] = [tensor.grad for tensor in inputs]
    torch.testing.assert_close(gradients[backend], gradients["eager"], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_of_padding_alone_gives_zeros_and_finite_gradients(backend):
    inputs = qkv(grad=True)
    mask = torch.ones(B, S, dtype=torch.long)
    mask[1] = 0
    out = attend(*inputs, Padded.from_mask(mask), backend)
    assert torch.equal(out[1], torch.zeros(H, S, D))
    out.sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in inputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_in_one_row_stays_in_that_row(backend):
    q, k, v = qkv()
    clean = attend(q, k, v, ragged(), backend)
    for tensor in (q, k, v):
        tensor[1] = float("nan")
    dirty = attend(q, k, v, ragged(), backend)
    torch.testing.assert_close(dirty[[0, 2]], clean[[0, 2]], rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_hidden_keys_have_no_influence(backend):
    q, k, v = qkv()
    before = attend(q, k, v, ragged(), backend)
    k[1, :, 4:], v[1, :, 4:] = 50.0, -50.0
    torch.testing.assert_close(attend(q, k, v, ragged(), backend), before, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_scale_can_be_given(backend):
    q, k, v = qkv()
    wanted = attend(q * 3, k, v, ragged(), backend, scale=1.0)
    torch.testing.assert_close(attend(q, k, v, ragged(), backend, scale=3.0), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_leaves_the_mean_and_drops_about_its_share(backend):
    """Values 1 and uniform probabilities 1/S: every output is (kept keys) / S / (1 - p)."""
    torch.manual_seed(0)
    zeros, ones = torch.zeros(64, 4, 32, D), torch.ones(64, 4, 32, D)
    out = attend(zeros, zeros, ones, Padded(None), backend, dropout_p=0.25)[..., 0]
    assert out.mean().item() == pytest.approx(1.0, abs=0.01)
    kept = out * 0.75  # share of kept keys: mean 0.75, variance p(1-p)/S
    assert kept.var().item() == pytest.approx(0.25 * 0.75 / 32, rel=0.1)


def test_padding_in_half_precision_underflows_to_exactly_zero():
    q, k, _ = (tensor.half() for tensor in qkv())
    probs = eager.probabilities(eager.scores(q, k), ragged())
    assert (probs[1, :, :, 4:] == 0).all()
    assert probs.isfinite().all()


def test_a_mask_that_hides_nothing_is_dropped():
    assert Padded.from_mask(torch.ones(2, 3, dtype=torch.long)).keys is None
    assert Padded.from_mask(None).keys is None
    assert Padded.from_mask(torch.tensor([[1, 0]])).keys.tolist() == [[True, False]]


def test_an_unknown_backend_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'flash9' is unknown; choose auto, eager, sdpa"):
        resolve_backend("flash9")
