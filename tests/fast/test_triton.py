"""Proves that the Triton kernels compute attention over packed rows and its gradient.
Run: pytest tests/fast/test_triton.py

Without a CUDA device the kernels run in Triton's interpreter, which takes ~15 ms a program: few heads, short rows.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

HERE, ON_GPU = Path(__file__).parents[1], torch.cuda.is_available()
if not ON_GPU:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

import triton.language as tl  # noqa: E402
from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder  # noqa: E402

from minibert.fast.attention import attend, triton_launch  # noqa: E402
from minibert.fast.attention.triton_launch import BACKWARD, FORWARD, attention, variants  # noqa: E402
from minibert.fast.layout import Packed  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")  # Triton 3.6's interpreter
runs = pytest.mark.skipif(
    not (ON_GPU or (isinstance(tl.zeros, InterpretedFunction) and triton_launch.INTERPRETED)),
    reason="neither a CUDA device nor TRITON_INTERPRET=1 before the first import of Triton (tests/conftest.py)",
)
DEVICE = "cuda" if ON_GPU else "cpu"
LENGTHS = (1, 2, 63, 64, 65, 127, 128, 129, 200, 257)
LIMITS = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}  # relative L2 error: a few units of rounding
ALL_VARIANTS = (20, 100, 130, 257)  # one length for each row of the longest table
HALF = torch.float16


@pytest.fixture(autouse=True)
def bf16_in_the_interpreter(monkeypatch):
    """The interpreter multiplies the bit patterns of bfloat16 as if they were whole numbers; this converts them."""
    original = InterpreterBuilder.create_dot

    def create_dot(self, a, b, *rest):
        a, b = (self.cast_impl(x, tl.float32) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b))
        return original(self, a, b, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)


def draw(lengths, head_size=64, dtype=HALF, heads=1, seed=0):
    """layout, qkv [T, 3, H, D] and the gradient that comes in [T, H, D]."""
    generator, T = torch.Generator().manual_seed(seed), sum(lengths)
    qkv = torch.randn(T, 3, heads, head_size, generator=generator).to(DEVICE, dtype)
    do = torch.randn(T, heads, head_size, generator=generator).to(DEVICE, dtype)
    return Packed.from_lengths(lengths, device=DEVICE), qkv, do


def attention_qkv(qkv, layout, dropout_p=0.0, scale=None, seed=0):
    """Attention over views of one [T, 3, H, D], as of a fused projection; seed: of dropout."""
    torch.manual_seed(seed)
    return attention(*qkv.unbind(1), layout, dropout_p, scale)


def both(qkv, do, layout, **options):
    """The output and the gradient of attention_qkv."""
    qkv = qkv.detach().clone().requires_grad_()
    out = attention_qkv(qkv, layout, **options)
    out.backward(do)
    return out.detach(), qkv.grad


def in_float64(qkv, do, layout, z=None, scale=None):
    """The same from the formula, row by row. z: what dropout multiplies the probabilities of each row by, [H, n, n]."""
    qkv = qkv.detach().double().requires_grad_()
    scale = qkv.shape[3] ** -0.5 if scale is None else scale
    rows = []
    for i, part in enumerate(qkv.split(layout.lengths)):
        q, k, v = part.permute(1, 2, 0, 3)  # [H, n, D]
        p = torch.softmax(scale * q @ k.transpose(1, 2), dim=-1)
        rows.append(((p if z is None else p * z[i]) @ v).transpose(0, 1))
    out = torch.cat(rows)
    out.backward(do.double())
    return out.detach(), qkv.grad


def error(found, wanted):
    """Relative, in the L2 norm; NaN counts as infinite."""
    return np.nan_to_num(float((found.double() - wanted).norm() / wanted.norm()), nan=np.inf)


def assert_close(found, wanted, limit):
    (out, grad), (wanted_out, wanted_grad) = found, wanted
    errors = [error(out, wanted_out), *(error(grad[:, i], wanted_grad[:, i]) for i in range(3))]
    assert max(errors) <= limit, f"relative error of out, dq, dk, dv: {errors}"


# ---- values and gradients ----


@pytest.mark.slow
@runs
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_output_and_gradients_equal_float64(dtype):
    layout, qkv, do = draw(LENGTHS if dtype == HALF or ON_GPU else ALL_VARIANTS, dtype=dtype)
    assert_close(both(qkv, do, layout), in_float64(qkv, do, layout), LIMITS[dtype])


@pytest.mark.slow
@runs
@pytest.mark.parametrize(
    ("head_size", "dtype"),
    [
        (32, HALF),
        pytest.param(128, HALF, marks=pytest.mark.slow),
        pytest.param(128, torch.float32, marks=pytest.mark.slow),
        pytest.param(32, torch.float32, marks=pytest.mark.slow),
    ],
)
def test_other_head_sizes_and_several_heads_do_as_well(head_size, dtype):
    longest = {HALF: {32: 257, 128: 140}, torch.float32: {32: 40, 128: 40}}[dtype][head_size]
    layout, qkv, do = draw((3, 65, longest), head_size, dtype, heads=2)
    assert_close(both(qkv, do, layout), in_float64(qkv, do, layout), LIMITS[dtype])


@runs
def test_a_scale_of_ones_own_is_used_in_both_directions():
    layout, qkv, do = draw((70, 270))
    assert_close(both(qkv, do, layout, scale=0.3), in_float64(qkv, do, layout, scale=0.3), 1e-3)


@pytest.mark.slow
@runs
def test_three_tensors_give_the_same_bits_as_views_of_one():
    layout, qkv, do = draw((3, 140), heads=2)
    out, grad = both(qkv, do, layout)
    parts = [x.contiguous().requires_grad_() for x in qkv.unbind(1)]
    found = attention(*parts, layout)
    found.backward(do)
    assert torch.equal(found, out)
    assert torch.equal(torch.stack([x.grad for x in parts], dim=1), grad)


def spread_out(x):
    """Beside other numbers, as a view with a longer stride."""
    return torch.cat([x, torch.full_like(x, torch.nan)], dim=-2)[..., : x.shape[-2], :]


def shifted(x):
    """Beginning one element after a multiple of 16 bytes."""
    return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)


@runs
@pytest.mark.parametrize("view", [spread_out, shifted, lambda x: x.transpose(-2, 0).contiguous().transpose(-2, 0)])
def test_how_the_tensors_lie_in_memory_changes_nothing(view):
    layout, qkv, do = draw((70, 3), heads=2)
    out, grad = both(qkv, do, layout)
    x = view(qkv).detach().requires_grad_()
    found = attention_qkv(x, layout)
    found.backward(view(do))
    assert torch.equal(found, out)
    assert torch.equal(x.grad, grad)
    q, k, v = qkv.unbind(1)
    assert torch.equal(attention(view(q), k, v, layout), out)


@runs
def test_kernels_are_given_nothing_that_is_not_aligned(monkeypatch):
    """The interpreter would not mind; a GPU reads such tensors one element at a time."""
    seen, run = [], triton_launch._run

    def spy(table, tensors, *rest):
        seen.extend(x for arguments in tensors.values() for x in arguments)
        run(table, tensors, *rest)

    monkeypatch.setattr(triton_launch, "_run", spy)
    layout, qkv, do = draw((3,))
    attention_qkv(shifted(qkv).requires_grad_(), layout).backward(shifted(do))
    assert seen
    assert all(x.data_ptr() % 16 == 0 and x.stride(-1) == 1 for x in seen)


@pytest.mark.slow
@runs
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy on keys beyond the row, which are not stored
@pytest.mark.parametrize(
    ("logit", "dtype", "lengths"),
    [
        (-120.0, HALF, ALL_VARIANTS),
        pytest.param(-1e4, torch.float32, (20, 70), marks=pytest.mark.slow),
        (1e4, HALF, (20,)),
    ],
)
def test_equal_logits_of_any_size_give_the_mean_and_finite_gradients(logit, dtype, lengths):
    """e^120 is beyond float32: a key that is not masked becomes infinite. q · k / √64 = 64 · 8 · (logit / 64) / 8."""
    layout, qkv, do = draw(lengths, dtype=dtype)
    qkv[:, 0], qkv[:, 1] = 8.0, logit / 64
    (out, grad), (wanted_out, wanted_grad) = both(qkv, do, layout), in_float64(qkv, do, layout)
    assert grad.isfinite().all()
    assert error(out, wanted_out) <= 4e-3
    assert max(error(grad[:, i], wanted_grad[:, i]) for i in (1, 2)) <= 4e-3  # dq is 0: no relative error


# ---- what must not leak ----


def poisoned(make):
    """`make`, with NaN for whatever was in that memory."""

    def made(*args, **options):
        x = make(*args, **options)
        return x.fill_(torch.nan) if x.is_floating_point() else x

    return made


@pytest.mark.slow
@runs
def test_every_element_of_the_results_is_written(monkeypatch):
    layout, qkv, do = draw(ALL_VARIANTS)
    for place, name in ((torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(place, name, poisoned(getattr(place, name)))
    assert_close(both(qkv, do, layout), in_float64(qkv, do, layout), 1e-3)


@runs
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy on NaN
@pytest.mark.slow
@pytest.mark.parametrize("sick", [1, 3])
def test_nan_stays_in_its_row(sick):
    layout, qkv, do = draw(ALL_VARIANTS)
    out, grad = both(qkv, do, layout)
    begin = sum(ALL_VARIANTS[:sick])
    ill = slice(begin, begin + ALL_VARIANTS[sick])
    for x in (qkv, do):
        x[ill] = torch.nan
    found = both(qkv, do, layout)
    for x, healthy in zip(found, (out, grad), strict=True):
        assert x[ill].isnan().all()
        x[ill] = healthy[ill] = 0
        assert torch.equal(x, healthy)


@runs
def test_two_runs_give_the_same_bits():
    layout, qkv, do = draw((20, 140))
    first, second = (both(qkv, do, layout, dropout_p=0.1, seed=1) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# ---- dropout ----


def factors(lengths, seed, dropout_p=0.25, dtype=HALF, heads=1, head_size=64):
    """What dropout multiplies the probabilities of each row by, read off outputs whose values are unit vectors."""
    layout, qkv, _ = draw(lengths, head_size, dtype, heads)
    qkv[:, :2] = 0  # all probabilities are 1 / n
    column = layout.position_ids % head_size
    blocks = []
    for block in range(-(-max(lengths) // head_size)):
        mine = (layout.position_ids // head_size == block).to(dtype)
        qkv[:, 2] = (torch.nn.functional.one_hot(column, head_size).to(dtype) * mine[:, None])[:, None]
        blocks.append(attention_qkv(qkv, layout, dropout_p=dropout_p, seed=seed))
    rows = torch.cat(blocks, dim=-1).split(lengths)  # of [n, H, keys]
    return [(x[..., : len(x)] != 0).transpose(0, 1).double() / (1 - dropout_p) for x in rows]  # [H, n, n]


@runs
@pytest.mark.parametrize(
    ("dtype", "lengths"), [(torch.float32, (20, 70)), pytest.param(HALF, ALL_VARIANTS, marks=pytest.mark.slow)]
)
def test_backward_drops_what_forward_dropped(dtype, lengths):
    layout, qkv, do = draw(lengths, dtype=dtype)
    z = factors(lengths, seed=7, dtype=dtype)
    found = both(qkv, do, layout, dropout_p=0.25, seed=7)
    assert_close(found, in_float64(qkv, do, layout, z), LIMITS[dtype])


@runs
def test_dropout_keeps_its_share_and_is_another_for_each_row_head_and_seed():
    """128 · 128 draws: the share kept has a standard deviation of √(0.25 · 0.75) / 128 = 0.0034."""
    first, second = (factors((128, 128), seed, heads=2) for seed in (1, 2))
    kept = [z != 0 for z in (first[0][0], first[0][1], first[1][0], second[0][0])]
    for i, x in enumerate(kept):
        assert x.double().mean().item() == pytest.approx(0.75, abs=0.015)
        for other in kept[:i]:  # independent: both kept in 0.75² of the places
            assert (x & other).double().mean().item() == pytest.approx(0.5625, abs=0.015)


@runs
def test_decisions_of_dropout_do_not_know_of_their_neighbours():
    """Of 256 · 256 draws, the covariance of two places some way apart has a standard deviation of 0.25 · 0.75 / 256."""
    z = (factors((256,), seed=5)[0][0] != 0).double() - 0.75
    ways = [(0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (0, 16), (64, 0), (0, 128)]
    found = {way: (z * z.roll(way, (0, 1))).mean().item() for way in ways} | {"T": (z * z.T).mean().item()}
    assert {way: share for way, share in found.items() if abs(share) > 5 * 0.25 * 0.75 / 256} == {}
    for axis in (0, 1):  # and no row and no column keeps too many; 5.5 of their standard deviations
        assert z.mean(axis).abs().max() < 5.5 * (0.25 * 0.75 / 256) ** 0.5


@pytest.mark.slow
@runs
def test_a_decision_of_dropout_depends_on_nothing_but_its_place_and_the_seed():
    """Not on tiles (float32 has others), not on the other rows' lengths."""
    wanted = factors((130, 20), seed=3)
    assert torch.equal(factors((130, 20), seed=3, dtype=torch.float32)[0], wanted[0])
    longer = factors((130, 90), seed=3)
    assert torch.equal(longer[0], wanted[0])
    assert torch.equal(longer[1][:, :20, :20], wanted[1])


@runs
def test_dropout_is_drawn_from_torchs_generator():
    layout, qkv, _ = draw((40,))
    torch.manual_seed(0)
    first, second = (attention(*qkv.unbind(1), layout, dropout_p=0.5) for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(attention(*qkv.unbind(1), layout, dropout_p=0.5), first)


# ---- edges and refusals ----


@runs
def test_rows_without_tokens_are_nothing():
    layout, qkv, do = draw((0, 70, 0, 3, 0))
    assert_close(both(qkv, do, layout), in_float64(qkv, do, layout), 1e-3)


@runs
def test_a_batch_without_tokens_gives_nothing_and_a_gradient_of_nothing():
    layout, qkv, do = draw((0, 0))
    out, grad = both(qkv, do, layout)
    assert out.shape == (0, 1, 64)
    assert grad.shape == (0, 3, 1, 64)


@runs
def test_a_second_derivative_is_refused():
    layout, qkv, _ = draw((3,), dtype=torch.float32)
    qkv.requires_grad_()
    out = attention_qkv(qkv, layout)
    with pytest.raises(ValueError, match='has no kernel; choose backend="eager"'):
        torch.autograd.grad(out.sum(), qkv, create_graph=True)


@runs
def test_a_gpu_with_less_shared_memory_gets_the_same_numbers(monkeypatch):
    layout, qkv, do = draw((200,))
    wanted = in_float64(qkv, do, layout)
    monkeypatch.setattr(triton_launch, "shared_memory", lambda device: 99)
    assert_close(both(qkv, do, layout), wanted, 1e-3)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("head_size", [32, 64, 128])
@pytest.mark.parametrize("element_size", [2, 4])
@pytest.mark.parametrize("limit", [99, 163, 227])  # sm_86 and sm_89; A100; H100 and H200
def test_every_length_has_exactly_one_variant_of_a_direction(backward, head_size, element_size, limit, monkeypatch):
    monkeypatch.setattr(triton_launch, "shared_memory", lambda device: limit)
    chosen = variants(backward, head_size, element_size, torch.device("cuda"))
    assert all(variant.shared <= limit for variant, _ in chosen)
    for length in (1, 64, 65, 128, 129, 256, 257, 10**6):
        kernels = [v.kernel.__name__ for v, above in chosen if above < length <= (v.up_to or length)]
        assert kernels in (
            ["forward_short"],
            ["forward_long"],
            ["backward_fused"],
            ["backward_queries", "backward_keys"],
        )


def test_a_variant_that_takes_a_row_at_once_has_room_for_it():
    for variant in FORWARD + BACKWARD:
        room = {"forward_short": variant.step, "backward_fused": variant.tile}.get(variant.kernel.__name__)
        assert room is None if variant.up_to is None else room >= variant.up_to
        assert variant.step <= variant.tile or variant.kernel.__name__.startswith("forward")


@runs
def test_a_scale_that_is_not_positive_is_refused():
    layout, qkv, _ = draw((3, 2))
    with pytest.raises(ValueError, match=r"scale is -1\.0; give a positive number"):
        attend(*qkv.unbind(1), layout, "triton", scale=-1.0)


# ---- ahead of time, for GPUs that are not here ----


def compiled(only, *options):
    """What tests/aot.py says of the cases whose names match, compiled in a process without the interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(HERE / "aot.py"), "--json", "--only", only, *options]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return [json.loads(line) for line in answer.stdout.splitlines()]


@pytest.mark.slow
def test_every_variant_compiles_within_its_budget():
    found = compiled("sm80|sm90")
    assert len(found) >= 72
    over = [case for case in found if case["spilled"] > case["may_spill"] or case["shared"] > 1024 * case["may_share"]]
    assert not over


@pytest.mark.slow
def test_every_variant_compiles_with_dropout_and_in_its_shared_memory():
    over = [case for case in compiled("", "--dropout") if case["shared"] > 1024 * case["may_share"]]
    assert not over
