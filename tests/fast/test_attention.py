"""Proves that every attention backend computes the formula, with its gradients.
Run: pytest tests/fast/test_attention.py

Against numpy in float64, rows of all awkward lengths, padded and packed. What needs a GPU is in test_gpu.py.
"""

from collections.abc import Callable
from types import SimpleNamespace

import children
import numpy as np
import processes
import pytest
import torch
from conftest import PACKED_ONLY, usable_backends
from torch.nn.attention import SDPBackend

from minibert import attention_backends, cli
from minibert.core import attention as formula
from minibert.core.attention import Padded
from minibert.fast.attention import (
    BACKENDS,
    attend,
    check_name,
    flex,
    resolve_backend,
    torch_backends,
)
from minibert.fast.attention.backend import Case
from minibert.fast.attention.torch_backends import kernels
from minibert.fast.layout import Packed, pack, pad

B, H, S, D = 3, 2, 7, 5
LENGTHS = (1, 200, 2, 63, 0, 257, 64, 65, 127, 128, 129)
MASK = torch.tensor([[1] * 7, [1, 0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1], [0] * 7])  # full, holes, left padding, none
FORWARD = [*usable_backends(head_size=D, needs_grad=False), PACKED_ONLY]
TRAINING = [*usable_backends(head_size=D), PACKED_ONLY]
DROPPING = [*usable_backends(head_size=D, dropout_p=0.25), PACKED_ONLY]


def runs_here(names: list[str]) -> Callable:
    """Once for each of them."""
    return lambda test: pytest.mark.usefixtures("packed_only")(pytest.mark.parametrize("backend", names)(test))


def forward(test: Callable) -> Callable:
    """Once for each backend that runs here."""
    return runs_here(FORWARD)(pytest.mark.numeric(test))


def training(test: Callable) -> Callable:
    """Once for each backend that runs here and has gradients."""
    return runs_here(TRAINING)(pytest.mark.numeric(test))


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """q, k, v and an upstream gradient."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator).to(dtype) for _ in range(4)]


def ragged() -> Padded:
    """Rows of 7, 4 and 1 real keys."""
    return Padded.from_mask((torch.arange(S) < torch.tensor([[7], [4], [1]])).long())


def oracle(q, k, v, upstream, keys, scale=None) -> np.ndarray:
    """One row by the formula, in float64: [H, n, D] four times, keys bool [n] -> out, dq, dk, dv as [4, H, n, D]."""
    if not keys.any():
        return np.zeros((4, *q.shape))
    q, k, v, upstream = (tensor.detach().double().numpy() for tensor in (q, k, v, upstream))
    scale = 1 / np.sqrt(q.shape[-1]) if scale is None else scale
    scores = np.where(keys, q @ k.swapaxes(1, 2) * scale, -np.inf)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    dp = upstream @ v.swapaxes(1, 2)
    ds = p * (dp - (p * dp).sum(axis=-1, keepdims=True)) * scale
    return np.stack([p @ v, ds @ k, ds.swapaxes(1, 2) @ q, p.swapaxes(1, 2) @ upstream])


def padded_oracle(tensors: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """[B, H, S, D] four times -> [4, B, H, S, D]."""
    rows = [oracle(*(t[i] for t in tensors), mask[i].bool().numpy()) for i in range(len(mask))]
    return torch.from_numpy(np.stack(rows, axis=1))


def packed_oracle(tensors: list[torch.Tensor], lengths: tuple[int, ...], scale: float | None = None) -> torch.Tensor:
    """[T, H, D] four times -> [4, T, H, D]."""
    rows = zip(*(tensor.split(lengths) for tensor in tensors), strict=True)
    found = [oracle(*(t.transpose(0, 1) for t in row), np.ones(len(row[0]), bool), scale) for row in rows]
    return torch.from_numpy(np.concatenate([row.swapaxes(1, 2) for row in found], axis=1))


def run(tensors: list[torch.Tensor], layout: Padded | Packed, backend: str, scale: float | None = None) -> torch.Tensor:
    """out, dq, dk, dv, stacked."""
    inputs = [tensor.detach().requires_grad_() for tensor in tensors[:3]]
    out = attend(*inputs, layout, backend, scale=scale)
    return torch.stack([out.detach(), *torch.autograd.grad(out, inputs, tensors[3])])


# ---- the formula ----


def test_eager_gives_the_numbers_worked_out_by_hand():
    """One head of size 1, so 1/√D = 1. q = ln 3; keys 0, 1, 5 of which the last is padding.

    scores 0, ln 3, 5 ln 3 → e^score 1, 3, (hidden) → probabilities 1/4, 3/4, 0 → 1/4 · 8 + 3/4 · 16 = 14.
    """
    q = torch.full((1, 1, 3, 1), np.log(3.0))
    k = torch.tensor([0.0, 1.0, 5.0]).view(1, 1, 3, 1)
    v = torch.tensor([8.0, 16.0, 1000.0]).view(1, 1, 3, 1)
    layout = Padded.from_mask(torch.tensor([[1, 1, 0]]))
    assert formula.probabilities(formula.scores(q, k), layout)[0, 0, 0].tolist() == pytest.approx([0.25, 0.75, 0.0])
    assert attend(q, k, v, layout, "eager").flatten().tolist() == pytest.approx([14.0, 14.0, 14.0])


def test_scores_are_divided_by_the_root_of_the_head_size():
    """q = k = (1, …, 1) of size D: q·k = D, and D / √D = √D."""
    ones = torch.ones(1, 1, 1, 9)
    assert formula.scores(ones, ones).item() == pytest.approx(3.0)


@forward
@pytest.mark.parametrize("masked", [True, False])
def test_padded_values_equal_numpy_in_float64(backend, masked):
    """Padding queries are answered by eager and SDPA alone."""
    mask = MASK if masked else torch.ones_like(MASK)
    tensors = draw(4, H, S, D)
    wanted, found = padded_oracle(tensors, mask)[0], attend(*tensors[:3], Padded.from_mask(mask), backend).double()
    if masked and not backend.startswith(("eager", "sdpa")):
        wanted = wanted * mask[:, None, :, None]
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)


@training
@pytest.mark.parametrize("masked", [True, False])
def test_padded_gradients_equal_numpy_in_float64(backend, masked):
    mask = MASK if masked else torch.ones_like(MASK)
    *inputs, upstream = draw(4, H, S, D)
    tensors = [*inputs, upstream * mask[:, None, :, None]]  # nobody asks what padding queries see
    wanted, found = padded_oracle(tensors, mask), run(tensors, Padded.from_mask(mask), backend)
    torch.testing.assert_close(found[1:].double(), wanted[1:], rtol=0, atol=4e-6)


@forward
def test_packed_values_equal_numpy_in_float64(backend):
    tensors = draw(sum(LENGTHS), H, D)
    found = attend(*tensors[:3], Packed.from_lengths(LENGTHS), backend).double()
    torch.testing.assert_close(found, packed_oracle(tensors, LENGTHS)[0], rtol=0, atol=4e-6)


@training
@pytest.mark.parametrize("lengths", [LENGTHS, (9, 9, 9), (0, 5, 0)])
def test_packed_gradients_equal_numpy_in_float64(backend, lengths):
    tensors = draw(sum(lengths), H, D)
    found = run(tensors, Packed.from_lengths(lengths, max(lengths) + 3), backend).double()
    torch.testing.assert_close(found, packed_oracle(tensors, lengths), rtol=0, atol=8e-6)


@training
def test_the_derivative_is_exact_in_float64(backend):
    padded, packed = Padded.from_mask(MASK[:3, :3]), Packed.from_lengths([2, 0, 3])
    for layout, shape in ((padded, (3, 2, 3, 2)), (packed, (5, 2, 2))):
        inputs = [t.requires_grad_() for t in draw(*shape, dtype=torch.float64)[:3]]
        assert torch.autograd.gradcheck(lambda q, k, v, layout=layout: attend(q, k, v, layout, backend), inputs)


@forward
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_no_worse_than_twice_eagers_error(backend, dtype):
    tensors = draw(sum(LENGTHS), H, 8, dtype=dtype)
    layout, wanted = Packed.from_lengths(LENGTHS), packed_oracle(tensors, LENGTHS)[0]
    error, limit = ((attend(*tensors[:3], layout, name).double() - wanted).norm() for name in (backend, "eager"))
    assert error <= 2 * limit


# ---- views, extremes, what must not leak ----


@training
def test_views_of_a_fused_projection_need_no_copy_by_the_caller(backend):
    qkv, upstream = torch.randn(10, 3, H, D, requires_grad=True), torch.randn(10, H, D)
    layout = Packed.from_lengths([4, 6])
    out = attend(*qkv.unbind(1), layout, backend)
    (gradient,) = torch.autograd.grad(out, qkv, upstream)
    found = torch.stack([out, *gradient.unbind(1)]).double()
    torch.testing.assert_close(found, packed_oracle([*qkv.unbind(1), upstream], (4, 6)), rtol=0, atol=4e-6)


@training
def test_heads_side_by_side_need_no_copy_by_the_caller(backend):
    tensors = [t.transpose(1, 2) for t in draw(4, S, H, D)]  # [B, H, S, D] as the model has them
    whole = [t.contiguous() for t in tensors]
    layout = Padded.from_mask(MASK)
    torch.testing.assert_close(run(tensors, layout, backend), run(whole, layout, backend), rtol=0, atol=4e-6)


@training
def test_a_strided_last_dimension_is_handled(backend):
    whole = draw(10, H, D)
    tensors = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in whole[:3]]
    assert tensors[0].stride(-1) == H
    layout = Packed.from_lengths([4, 6])
    found, wanted = run([*tensors, whole[3]], layout, backend), run(whole, layout, backend)
    torch.testing.assert_close(found, wanted, rtol=0, atol=4e-6)  # a kernel may read strides another way
    single = draw(1, 1, 2, D)[0].expand(3, H, 2, D)  # stride 0 elsewhere
    assert attend(single, single, single, Padded(None), backend).isfinite().all()


@training
@pytest.mark.parametrize("logit", [-120.0, 0.0, 1e4])
def test_logits_all_alike_give_the_mean(backend, logit):
    """At -120 every e^score underflows unless the row's maximum is taken off first, in the backward pass too.

    Flash kernels keep the logarithm of each row's sum for the backward pass; it has the rounding of a logit.
    """
    lengths = (64, 3, 65)
    q, k, v, upstream = draw(sum(lengths), H, D)
    tensors = [torch.full_like(q, logit), torch.full_like(k, 1 / D), v, upstream]
    found, wanted = run(tensors, Packed.from_lengths(lengths), backend, 1.0), packed_oracle(tensors, lengths, 1.0)
    sizes = wanted.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1)  # dk has the size of q
    limit = 2e-6 + abs(logit) * 2**-23
    torch.testing.assert_close(found / sizes, wanted / sizes, rtol=0, atol=limit, check_dtype=False)


@training
def test_a_row_of_padding_alone_gives_zeros_and_finite_gradients(backend):
    inputs = [tensor.requires_grad_() for tensor in draw(B, H, S, D)[:3]]
    mask = torch.ones(B, S, dtype=torch.long)
    mask[1] = 0
    out = attend(*inputs, Padded.from_mask(mask), backend)
    assert torch.equal(out[1], torch.zeros(H, S, D))
    out.sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in inputs)
    assert all(not tensor.grad[1].any() for tensor in inputs)


@training
def test_nan_in_one_row_stays_in_that_row(backend):
    clean = draw(B, H, S, D)
    dirty = [tensor.clone() for tensor in clean]
    for tensor in dirty:
        tensor[1] = float("nan")
    found, wanted = (run(tensors, ragged(), backend)[:, [0, 2]] for tensors in (dirty, clean))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@forward
def test_nan_in_one_packed_row_stays_in_that_row(backend):
    layout, others = Packed.from_lengths([3, 60, 5]), [*range(3), *range(63, 68)]
    clean = draw(68, H, D)[:3]
    dirty = [tensor.clone() for tensor in clean]
    for tensor in dirty:
        tensor[3:63] = float("nan")
    torch.testing.assert_close(
        attend(*dirty, layout, backend)[others], attend(*clean, layout, backend)[others], rtol=0, atol=0
    )


@training
def test_nan_in_one_packed_row_stays_out_of_the_others_gradients(backend):
    layout, others = Packed.from_lengths([3, 60, 5]), [*range(3), *range(63, 68)]
    clean = draw(68, H, D)
    dirty = [tensor.clone() for tensor in clean]
    for tensor in dirty:
        tensor[3:63] = float("nan")
    found, wanted = (run(tensors, layout, backend)[:, others] for tensors in (dirty, clean))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@forward
def test_packing_leaves_poisoned_padding_behind(backend):
    mask = MASK.bool()[:, None, :, None]
    clean = [tensor.masked_fill(~mask, 0.0) for tensor in draw(4, H, S, D)[:3]]
    dirty = [tensor.masked_fill(~mask, float("nan")) for tensor in clean]
    layout = Packed.from_mask(MASK)
    rows = (pack(tensor.transpose(1, 2), layout) for tensor in dirty)
    out = pad(attend(*rows, layout, backend), layout).transpose(1, 2)
    wanted = attend(*clean, Padded.from_mask(MASK), "eager") * mask
    torch.testing.assert_close(out, wanted, rtol=0, atol=2e-6)
    if BACKENDS[backend].padded is None:  # it packs by itself
        torch.testing.assert_close(attend(*dirty, Padded.from_mask(MASK), backend), wanted, rtol=0, atol=2e-6)


@forward
def test_hidden_keys_have_no_influence(backend):
    q, k, v, _ = draw(B, H, S, D)
    before = attend(q, k, v, ragged(), backend)
    k[1, :, 4:], v[1, :, 4:] = 50.0, -50.0
    torch.testing.assert_close(attend(q, k, v, ragged(), backend), before, rtol=0, atol=0)


@forward
def test_hidden_keys_stay_hidden_where_real_ones_fit_far_worse(backend):
    q, k, v, _ = draw(B, H, S, D)
    keys = ragged().keys[:, None, :, None]  # [B, 1, S, 1]
    q, k = torch.ones_like(q), torch.where(keys, -200.0, 200.0).expand_as(k)  # logits -200 · 5 and 200 · 5
    out = attend(q, k, v, ragged(), backend, scale=1.0)
    mean = (v * keys).sum(dim=2, keepdim=True) / keys.sum(dim=2, keepdim=True)  # [B, H, 1, D]
    torch.testing.assert_close(out * keys, mean * keys, rtol=0, atol=2e-6)


@forward
def test_the_scale_can_be_given(backend):
    q, k, v, _ = draw(B, H, S, D)
    wanted = attend(q * 3, k, v, ragged(), backend, scale=1.0)
    torch.testing.assert_close(attend(q, k, v, ragged(), backend, scale=3.0), wanted, rtol=1e-5, atol=1e-5)
    flat, layout = draw(10, H, D), Packed.from_lengths([4, 6])
    found = attend(*flat[:3], layout, backend, scale=2.0).double()
    torch.testing.assert_close(found, packed_oracle(flat, (4, 6), scale=2.0)[0], rtol=0, atol=4e-6)


@runs_here(DROPPING)
@pytest.mark.parametrize("packed", [False, True])
def test_dropout_leaves_the_mean_and_drops_about_its_share(backend, packed):
    """Values 1 and uniform probabilities 1/S: every output is (kept keys) / S / (1 - p)."""
    torch.manual_seed(0)
    layout = Packed.from_lengths([32] * 64) if packed else Padded(None)
    shape = (64 * 32, 4, D) if packed else (64, 4, 32, D)
    out = attend(torch.zeros(shape), torch.zeros(shape), torch.ones(shape), layout, backend, dropout_p=0.25)[..., 0]
    assert out.mean().item() == pytest.approx(1.0, abs=0.01)
    kept = out * 0.75  # share of kept keys: mean 0.75, variance p(1-p)/S
    assert kept.var().item() == pytest.approx(0.25 * 0.75 / 32, rel=0.1)


@forward
@pytest.mark.parametrize("lengths", [(0,), (0, 0)])
def test_a_batch_without_tokens_gives_nothing(backend, lengths):
    empty = torch.zeros(0, H, D, requires_grad=backend in TRAINING)
    out = attend(empty, empty, empty, Packed.from_lengths(lengths, width=4), backend)
    assert out.shape == (0, H, D)
    rows = torch.zeros(len(lengths), H, 4, D)
    assert not attend(rows, rows, rows, Packed.from_lengths(lengths, width=4).padded, backend).any()
    if backend in TRAINING:
        out.sum().backward()
        assert empty.grad.shape == (0, H, D)


def test_padding_in_half_precision_underflows_to_exactly_zero():
    q, k, *_ = draw(B, H, S, D, dtype=torch.float16)
    probs = formula.probabilities(formula.scores(q, k), ragged())
    assert (probs[1, :, :, 4:] == 0).all()
    assert probs.isfinite().all()


# ---- what a layout keeps ----


def test_sdpas_mask_is_made_once_and_added():
    layout = Padded.from_mask(MASK)
    q, k, v, _ = draw(4, H, S, D, dtype=torch.bfloat16)
    attend(q, k, v, layout, "sdpa")
    mask = layout.kept["bias", torch.bfloat16]
    attend(q, k, v, layout, "sdpa-math")
    assert list(layout.kept) == ["empty", ("bias", torch.bfloat16)]
    assert layout.kept["bias", torch.bfloat16] is mask
    assert (mask.dtype, mask.shape) == (torch.bfloat16, (4, 1, 1, S))
    assert (mask[:3, 0, 0] == 0).equal(MASK[:3].bool())
    assert not mask[3].any(), "all hidden would make -inf - -inf"
    assert (mask.double() * np.log2(np.e) > torch.finfo(torch.float32).min).all(), "too low for a kernel that uses 2^x"


@pytest.mark.parametrize("lengths", [LENGTHS, (128, 256), (1, 1, 1), (0, 300)])
def test_flex_sees_each_document_alone(lengths):
    """Its compiled kernel reads the tables of blocks, which the plain form used on the CPU never does."""
    layout = Packed.from_lengths(lengths)
    blocks, mask = flex.document_mask(layout)
    places, N = blocks.indices, len(blocks.lengths)
    rows = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    seen = torch.zeros(N * flex.BLOCK, N * flex.BLOCK, dtype=torch.bool)
    at = torch.arange(flex.BLOCK)
    for block in range(N):
        s = block * flex.BLOCK + at[:, None]
        for t_block in mask.full_kv_indices[0, 0, block, : mask.full_kv_num_blocks[0, 0, block]].tolist():
            seen[s, t_block * flex.BLOCK + at] = True
        for t_block in mask.kv_indices[0, 0, block, : mask.kv_num_blocks[0, 0, block]].tolist():
            seen[s, t_block * flex.BLOCK + at] |= mask.mask_mod(0, 0, s, t_block * flex.BLOCK + at)
    assert torch.equal(seen[places][:, places], rows[:, None] == rows)
    gaps = torch.ones(N * flex.BLOCK, dtype=torch.bool).index_fill(0, places, False)
    assert not seen[places][:, gaps].any()
    assert len(set(zip((places // flex.BLOCK).tolist(), rows.tolist(), strict=True))) == N, "a block is shared"


def test_flex_documents_equal_the_formula():
    tensors = draw(sum(LENGTHS), H, D)
    found = flex.documents(*tensors[:3], Packed.from_lengths(LENGTHS)).double()
    torch.testing.assert_close(found, packed_oracle(tensors, LENGTHS)[0], rtol=0, atol=4e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler about its own parts
def test_flex_compiled_reads_its_tables_of_blocks_right(monkeypatch):
    """On the CPU by C++; half a minute of compiling."""
    monkeypatch.setattr(
        flex, "flex", lambda q, k, v, mask, scale: flex.compiled()(q, k, v, block_mask=mask, scale=scale)
    )
    tensors = draw(sum(LENGTHS), H, 16)
    found = flex.documents(*tensors[:3], Packed.from_lengths(LENGTHS)).double()
    torch.testing.assert_close(found, packed_oracle(tensors, LENGTHS)[0], rtol=0, atol=4e-6)


# ---- which backend, and why not ----


def case_on(device: str, dtype: torch.dtype, layout: Padded | Packed, head_size: int = 64, **more: object) -> Case:
    return Case(torch.device(device), dtype, head_size, layout, **more)


def test_an_unknown_backend_is_named_with_the_known_ones():
    for call in (check_name, lambda name: resolve_backend(name, case_on("cpu", torch.float32, Padded(None)))):
        with pytest.raises(ValueError, match=r"'flash9' is unknown; choose auto, eager, sdpa, sdpa-math, .*, triton"):
            call("flash9")


def test_nested_which_the_package_had_is_refused_in_one_line_with_what_to_type(capsys):
    assert cli.main(["predict", "bundled", "good", "--attention", "nested"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'nested' is unknown; choose auto, " in line


def test_the_backends_are_listed_in_order_with_reasons():
    rows = attention_backends("cpu")
    sdpa = ["sdpa", "sdpa-math", "sdpa-efficient", "sdpa-flash", "sdpa-cudnn"]
    assert [row.name for row in rows] == list(BACKENDS) == ["eager", *sdpa, "flex", "varlen", "triton"]
    assert all(row.reason.endswith(".") for row in rows)
    found = {row.name: row for row in rows}
    assert found["flex"].available
    assert "forward only on the CPU" in found["flex"].reason
    assert not found["varlen"].available
    assert found["varlen"].reason == "cannot run on cpu with float32: it needs a CUDA device, not cpu."


@pytest.fixture
def gpu(monkeypatch):
    """As if there were an H200 with Triton, or what the test makes of it."""

    def pretend(capability: tuple[int, int] = (9, 0), triton: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr("minibert.fast.attention.backend.installed", lambda package: triton)
        monkeypatch.setattr(flex, "installed", lambda package: triton)

    pretend()
    return pretend


PADDED, PACKED, HALF = Packed.from_lengths([192, 3]).padded, Packed.from_lengths([192, 3]), torch.bfloat16


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("varlen", dict(device="cpu"), "needs a CUDA device, not cpu; the nearest that can is 'sdpa'"),
        ("varlen", dict(dtype=torch.float32), "takes float16 or bfloat16, not float32; the nearest .* 'triton'"),
        ("varlen", dict(dropout_p=0.1), "cannot drop probabilities out; dropout_p is 0.1"),
        ("varlen", dict(head_size=260), "head sizes in steps of 8 up to 256, not 260; the nearest that can is 'sdpa'"),
        ("flex", dict(dropout_p=0.1), "cannot drop probabilities out; dropout_p is 0.1"),
        ("flex", dict(device="cpu", dropout_p=0.1), "cannot drop probabilities out"),
        ("flex", dict(head_size=8), "takes head sizes from 16 on, not 8"),
        ("flex", dict(device="cpu", needs_grad=True), "forward only on the CPU; call it under torch.no_grad"),
        ("triton", dict(head_size=96), "takes head sizes 32, 64 and 128, not 96; the nearest that can is 'varlen'"),
        ("triton", dict(dtype=torch.float64), "takes float16 or bfloat16 or float32, not float64"),
        ("sdpa-flash", dict(layout=PADDED), "takes no mask, and the batch is padded; pack it"),
        ("sdpa-flash", dict(dtype=torch.float32), "takes float16 or bfloat16, not float32"),
        ("sdpa-flash", dict(device="cpu", dropout_p=0.1), "cannot drop probabilities out"),
        ("sdpa-efficient", dict(head_size=4), "head sizes in steps of 8"),
        ("sdpa-efficient", dict(device="cpu"), "needs a CUDA device, not cpu"),
        ("sdpa-cudnn", dict(head_size=256), "head sizes in steps of 8 up to 128, not 256"),
        ("sdpa-cudnn", dict(needs_grad=True), "may be NaN at width 192 .*; pad to a multiple of 128"),
    ],
)  # fmt: skip
def test_a_backend_that_cannot_run_says_why_and_which_can(gpu, name, change, said):
    case = dict(device="cuda", dtype=HALF, layout=PACKED) | change
    with pytest.raises(ValueError, match=f"attention backend '{name}' cannot run here: .*{said}"):
        resolve_backend(name, case_on(**case))


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "sdpa-flash"])
@pytest.mark.parametrize("layout", [PACKED, PADDED])
def test_every_backend_runs_on_a_gpu_that_has_all(gpu, name, layout):
    assert resolve_backend(name, case_on("cuda", HALF, layout)) == name


@pytest.mark.parametrize("name", ["sdpa-flash", "varlen", "triton", "sdpa-efficient", "sdpa-cudnn"])
def test_a_gpu_without_bf16_is_named(gpu, name):
    gpu(capability=(7, 5))
    with pytest.raises(ValueError, match=r"needs compute capability 8\.0, not 7\.5; the nearest that can is 'sdpa'"):
        resolve_backend(name, case_on("cuda", HALF, PACKED))


@pytest.mark.parametrize("name", ["triton", "flex"])
def test_a_missing_triton_is_named(gpu, name):
    gpu(triton=False)
    with pytest.raises(ValueError, match=r"needs Triton, .*; pip install triton; the nearest that can is 'varlen'"):
        resolve_backend(name, case_on("cuda", HALF, PACKED))


def test_triton_on_the_cpu_needs_its_interpreter(gpu, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=r"TRITON_INTERPRET=1 set before Python"):
        resolve_backend("triton", case_on("cpu", torch.float32, PACKED))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert resolve_backend("triton", case_on("cpu", torch.float32, PACKED)) == "triton"


@pytest.mark.slow
def test_our_own_kernel_is_reached_from_both_layouts():
    """By Triton's interpreter, which has to be asked for before Triton is loaded."""
    pytest.importorskip("triton")
    process = processes.start(children.try_own_kernel, environment={"TRITON_INTERPRET": "1"})
    said = process.communicate(timeout=120)
    assert process.returncode == 0, said


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (dict(), "triton"),
        (dict(dtype=torch.float32), "triton"),
        (dict(dropout_p=0.1), "triton"),
        (dict(head_size=80), "varlen"),
        (dict(head_size=80, dropout_p=0.1), "sdpa"),
        (dict(layout=PADDED), "sdpa"),
        (dict(device="cpu"), "sdpa"),
        (dict(device="cpu", layout=PADDED), "sdpa"),
    ],
)
def test_auto_takes_what_suits_the_batch(gpu, change, wanted):
    assert resolve_backend("auto", case_on(**(dict(device="cuda", dtype=HALF, layout=PACKED) | change))) == wanted


def test_arrays_too_large_for_int32_are_refused_where_it_is_used(gpu):
    case = Case(torch.device("cuda"), HALF, 64, PACKED, elements=2**31)
    refusing = [name for name, backend in BACKENDS.items() if backend.obstacle(case)]
    assert refusing == ["sdpa-efficient", "flex"]
    assert "spans 2147483648 elements" in BACKENDS["flex"].obstacle(case)


def test_sdpa_leaves_cudnn_out_where_its_gradient_may_be_nan():
    mask = SimpleNamespace(device=torch.device("cuda"), shape=(2, 192))
    wide = SimpleNamespace(device=torch.device("cuda"), shape=(2, 256))
    for given, backward, kept in ((mask, True, False), (mask, False, True), (wide, True, True), (None, True, True)):
        with kernels(None, given, backward):
            assert torch.backends.cuda.cudnn_sdp_enabled() == kept
    with kernels(SDPBackend.MATH, mask, True):
        assert not torch.backends.cuda.flash_sdp_enabled()


# ---- what does not fit ----


def tensors_like(*shape: int) -> dict:
    return {name: torch.zeros(*shape) for name in "qkv"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(k=torch.zeros(5, 2, 8)), r"shapes differ: q \[5, 2, 4\], k \[5, 2, 8\]"),
        (dict(v=torch.zeros(5, 2, 4).half()), r"torch.float32, torch.float32, torch.float16; give one floating-point"),
        (dict.fromkeys("qkv", torch.zeros(5, 2, 4, dtype=torch.long)), "give one floating-point type"),
        (dict(k=torch.zeros(5, 2, 4, device="meta")), "on cpu, meta, cpu and cpu; use one device"),
        (dict(layout=Packed.from_lengths([2, 3], device="meta")), "cpu and meta; use one device"),
        (dict(layout=Packed.from_lengths([2, 4])), r"the lengths add up to 6 tokens; give \[6, heads, head size\]"),
        (dict(layout=Padded(None)), r"layout is padded; give \[batch, heads, sequence, head size\]"),
        (dict(**tensors_like(1, 2, 5, 4)), "the lengths add up to 5 tokens"),
        (dict(**tensors_like(2, 2, 5, 4), layout=ragged()), r"the mask is \[3, 7\]; give \[3, heads, 7, head size\]"),
        (dict(dropout_p=1.0), r"dropout_p 1.0 is outside \[0, 1\)"),
        (dict(dropout_p=-0.1), r"dropout_p -0.1 is outside"),
    ],
)
@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_inputs_that_do_not_fit_are_named(backend, change, said):
    call = tensors_like(5, 2, 4) | dict(layout=Packed.from_lengths([2, 3])) | change
    with pytest.raises(ValueError, match=said):
        attend(**call, backend=backend)


def test_flex_on_the_cpu_refuses_what_wants_a_gradient_and_runs_without():
    q, k, v, _ = (tensor.requires_grad_() for tensor in draw(B, H, S, D))
    with pytest.raises(ValueError, match="forward only on the CPU"):
        attend(q, k, v, ragged(), "flex")
    with torch.no_grad():
        assert attend(q, k, v, ragged(), "flex").isfinite().all()


# ---- short rows on several threads of a CPU ----


@pytest.fixture
def by_formula(monkeypatch) -> list[torch.Size]:
    """The shapes of the queries that the formula was asked for, on two threads."""
    asked, formula_itself, threads = [], torch_backends.by_formula, torch.get_num_threads()

    def watched(q: torch.Tensor, *given: object) -> torch.Tensor:
        asked.append(q.shape)
        return formula_itself(q, *given)

    monkeypatch.setattr(torch_backends, "by_formula", watched)
    torch.set_num_threads(2)
    yield asked
    torch.set_num_threads(threads)


@pytest.mark.parametrize("at_once", [1, torch_backends.AT_ONCE])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("lengths", [(7, 2, 5), (3,) * 5 + (4,) * 2, (4, 3, 4, 3, 4, 3, 4), (1, 1, 2)])
@torch.no_grad()
def test_on_several_threads_short_rows_are_computed_by_the_formula_and_equal_it(
    lengths, scale, at_once, by_formula, monkeypatch
):
    monkeypatch.setattr(torch_backends, "AT_ONCE", at_once)
    tensors = draw(sum(lengths), H, D)
    found = attend(*tensors[:3], Packed.from_lengths(lengths), "auto", scale=scale)
    torch.testing.assert_close(found.double(), packed_oracle(tensors, lengths, scale)[0], rtol=0, atol=4e-6)
    assert len(by_formula) == len(set(lengths) - {1})


def with_gradients(tensors: list[torch.Tensor]) -> None:
    with torch.enable_grad():
        attend(*tensors, Packed.from_lengths(LENGTHS), "auto")


def on_one_thread(tensors: list[torch.Tensor]) -> None:
    torch.set_num_threads(1)
    attend(*tensors, Packed.from_lengths(LENGTHS), "auto")


SDPA_ITSELF = {
    "with gradients": with_gradients,
    "on one thread": on_one_thread,
    "in bfloat16": lambda tensors: attend(
        *(tensor.bfloat16() for tensor in tensors), Packed.from_lengths(LENGTHS), "auto"
    ),
    "by a kernel that was named": lambda tensors: attend(*tensors, Packed.from_lengths(LENGTHS), "sdpa-math"),
    "of rows of 257 tokens and more": lambda tensors: attend(
        *draw(515, H, D)[:3], Packed.from_lengths([257, 258]), "auto"
    ),
    "where the first tokens alone ask": lambda tensors: torch_backends.packed_sdpa(
        draw(2, H, D)[0], *draw(10, H, D)[:2], Packed.from_lengths([4, 6], first_only=True)
    ),
}


@pytest.mark.parametrize("how", SDPA_ITSELF)
@torch.no_grad()
def test_elsewhere_pytorch_chooses_the_kernel(how, by_formula):
    SDPA_ITSELF[how](draw(sum(LENGTHS), H, D)[:3])
    assert by_formula == []
