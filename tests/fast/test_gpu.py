"""Proves that attention, models and training are right on a GPU. Run on a machine with one: pytest -m gpu"""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import MODELS, outputs, padded_batch, small_config, stir
from test_attention import LENGTHS, case_on, draw, packed_oracle, padded_oracle, run
from test_replay import SIZES as SIZES_FOR_TRITON
from test_replay import WEIGHTS, batch_of, computing, filled

from minibert import attention_backends
from minibert.core.attention import Padded
from minibert.fast.attention import BACKENDS, attend, resolve_backend
from minibert.fast.layout import Packed
from minibert.fast.models import BertForPreTraining, BertForSequenceClassification
from minibert.fast.replay import Replays
from minibert.training.fine_tuning import TrainOptions, train
from minibert.training.state import read_metrics

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's compiler about its own parts …
    pytest.mark.filterwarnings(r"ignore:::torch\._inductor"),  # … and its advice, as to use TF32
]
H, D = 3, 64
SIZES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}  # error, relative to the whole tensor's norm
backends = pytest.mark.parametrize("backend", BACKENDS)
dtypes = pytest.mark.parametrize("dtype", SIZES)


def skip_unless_possible(backend: str, dtype: torch.dtype, layout: Padded | Packed, **case: object) -> None:
    try:
        resolve_backend(backend, case_on("cuda", dtype, layout, **case))
    except ValueError as reason:
        pytest.skip(str(reason))


def check(found: torch.Tensor, wanted: torch.Tensor, eager: torch.Tensor, dtype: torch.dtype) -> None:
    """out, dq, dk, dv: each finite and within twice eager's error, or what the number type allows."""
    assert found.isfinite().all()
    for name, ours, theirs, right in zip(("out", "dq", "dk", "dv"), found, eager, wanted.to("cuda"), strict=True):
        error, limit = ((tensor.double() - right).norm() / right.norm().clamp(min=1e-6) for tensor in (ours, theirs))
        assert error <= max(2 * limit, SIZES[dtype] / 10), f"{name}: {error:.1e}, eager {limit:.1e}"
        assert limit <= SIZES[dtype], f"eager's {name}: {limit:.1e}"


# ---- attention ----


@backends
@dtypes
@pytest.mark.parametrize("head_size", [32, 64, 128])
def test_packed_attention_equals_numpy(backend, dtype, head_size):
    layout = Packed.from_lengths(LENGTHS, 300, "cuda")
    skip_unless_possible(backend, dtype, layout, head_size=head_size, needs_grad=True)
    tensors = [tensor.cuda() for tensor in draw(sum(LENGTHS), H, head_size, dtype=dtype)]
    wanted = packed_oracle([tensor.cpu() for tensor in tensors], LENGTHS)
    check(run(tensors, layout, backend), wanted, run(tensors, layout, "eager"), dtype)


@backends
@dtypes
@pytest.mark.parametrize("masked", [True, False])
def test_padded_attention_equals_numpy(backend, dtype, masked):
    lengths = [257, 1, 64, 130, 0] if masked else [257] * 3
    layout = Packed.from_lengths(lengths, device="cuda").padded
    skip_unless_possible(backend, dtype, layout, needs_grad=True)
    mask = torch.arange(257) < torch.tensor(lengths)[:, None]
    tensors = [tensor * mask[:, None, :, None] for tensor in draw(len(lengths), H, 257, D, dtype=dtype)]
    wanted = padded_oracle(tensors, mask) * mask[:, None, :, None]
    tensors = [tensor.cuda() for tensor in tensors]
    found, eager = (run(tensors, layout, name) * mask.cuda()[:, None, :, None] for name in (backend, "eager"))
    check(found, wanted, eager, dtype)


@backends
@dtypes
@pytest.mark.parametrize("width", [192, 256])
def test_logits_of_minus_120_give_finite_gradients(backend, dtype, width):
    """cuDNN with a mask fails this at width 192 and is refused there."""
    lengths = [width, 70, 5]
    layout = Packed.from_lengths(lengths, width, "cuda").padded
    skip_unless_possible(backend, dtype, layout, needs_grad=True)
    q, k, v, upstream = (tensor.cuda() for tensor in draw(3, H, width, D, dtype=dtype))
    tensors = [torch.full_like(q, -15.0), torch.full_like(k, 1 / 8), v, upstream * layout.keys[:, None, :, None]]
    found = run(tensors, layout, backend, scale=1.0)  # -15 / 8 · 64 = -120
    assert found.isfinite().all()
    mean = v[0].float().mean(dim=1)  # [H, D]
    torch.testing.assert_close(found[0, 0, :, 0].float(), mean, rtol=0, atol=SIZES[dtype])


@backends
@dtypes
def test_nan_in_one_packed_row_stays_in_that_row(backend, dtype):
    layout, others = Packed.from_lengths([3, 190, 61], device="cuda"), [*range(3), *range(193, 254)]
    skip_unless_possible(backend, dtype, layout, needs_grad=True)
    clean = [tensor.cuda() for tensor in draw(254, H, D, dtype=dtype)]
    dirty = [tensor.index_fill(0, torch.arange(3, 193, device="cuda"), float("nan")) for tensor in clean]
    found, wanted = (run(tensors, layout, backend)[:, others] for tensors in (dirty, clean))
    torch.testing.assert_close(found, wanted, rtol=0, atol=SIZES[dtype])  # some add their gradients in any order


@backends
@dtypes
def test_views_of_a_fused_projection_are_read_right(backend, dtype):
    layout = Packed.from_lengths([100, 3, 64], device="cuda")
    skip_unless_possible(backend, dtype, layout, needs_grad=True)
    qkv = torch.randn(167, 3, H, D, device="cuda", dtype=dtype)
    upstream = torch.randn(167, H, D, device="cuda", dtype=dtype)
    views, copies = [*qkv.unbind(1), upstream], [*(t.contiguous() for t in qkv.unbind(1)), upstream]
    torch.testing.assert_close(run(views, layout, backend), run(copies, layout, backend), rtol=0, atol=SIZES[dtype])


@backends
def test_dropout_drops_about_its_share(backend):
    layout = Packed.from_lengths([32] * 64, device="cuda")
    skip_unless_possible(backend, torch.float16, layout, dropout_p=0.25)
    torch.manual_seed(0)
    zeros = torch.zeros(64 * 32, 4, D, device="cuda", dtype=torch.float16)
    out = attend(zeros, zeros, zeros + 1, layout, backend, dropout_p=0.25)[..., 0].float()
    assert out.mean().item() == pytest.approx(1.0, abs=0.01)
    assert (out * 0.75).var().item() == pytest.approx(0.25 * 0.75 / 32, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_thousand_random_batches_equal_eager(dtype):
    """Triton's kernels, on lengths as they come."""
    random = torch.Generator().manual_seed(0)
    for seed in range(1000):
        rows, longest = (int(torch.randint(1, high, (), generator=random)) for high in (9, 700))
        lengths = torch.randint(0, longest + 1, (rows,), generator=random).tolist()
        layout = Packed.from_lengths(lengths, device="cuda")
        tensors = [tensor.cuda() for tensor in draw(sum(lengths), 2, D, seed=seed, dtype=dtype)]
        right = run([tensor.float() for tensor in tensors], layout, "sdpa-math")
        found = run(tensors, layout, "triton").float()
        assert ((found - right).norm() <= SIZES[dtype] * right.norm()).all(), (seed, lengths)


@pytest.mark.parametrize("backend", ["eager", "sdpa", "sdpa-math"])
def test_the_derivative_is_exact_in_float64(backend):
    layout = Packed.from_lengths([3, 0, 5], device="cuda")
    inputs = [tensor.cuda().requires_grad_() for tensor in draw(8, 2, 8, dtype=torch.float64)[:3]]
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, layout, backend), inputs)


def test_triton_agrees_with_finite_differences():
    """In float32, so with wide steps and few digits."""
    layout = Packed.from_lengths([3, 0, 5], device="cuda")
    skip_unless_possible("triton", torch.float32, layout, head_size=32)
    inputs = [tensor.cuda().requires_grad_() for tensor in draw(8, 1, 32)[:3]]
    assert torch.autograd.gradcheck(
        lambda q, k, v: attend(q, k, v, layout, "triton"), inputs, eps=1e-2, atol=1e-2, rtol=1e-2, fast_mode=True
    )


def test_auto_and_the_list_agree_with_what_runs():
    layout = Packed.from_lengths([5, 60], device="cuda")
    for status in attention_backends("cuda"):
        if status.available:
            q = torch.randn(65, H, D, device="cuda", dtype=torch.bfloat16)
            assert attend(q, q, q, layout, status.name).isfinite().all(), status
    assert resolve_backend("auto", case_on("cuda", torch.bfloat16, layout)) == "triton"


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
def test_a_packed_batch_never_waits_for_the_gpu():
    layout = Packed.from_lengths([5, 60, 300], device="cuda")
    q = torch.randn(365, H, D, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    attend(q, q, q, layout).sum().backward()  # compiles
    try:
        torch.cuda.set_sync_debug_mode("error")
        layout = Packed.from_lengths([7, 58, 300], device="cuda")
        attend(q, q, q, layout).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


SANITIZED = """
import torch
from minibert.fast.attention import attend
from minibert.fast.layout import Packed
layout = Packed.from_lengths([1, 63, 65, 128, 129, 257, 300], device="cuda")
for dropout_p in (0.0, 0.1):
    qkv = torch.randn(len(layout.indices), 3, 2, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    attend(*qkv.unbind(1), layout, "triton", dropout_p).sum().backward()
torch.cuda.synchronize()
"""


@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="compute-sanitizer is not installed")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_our_kernels_leave_foreign_memory_alone(tool):
    """Without torch's cache every tensor ends where its memory does, so that a step too far is seen."""
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "1", sys.executable, "-c", SANITIZED]
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


# ---- models and training ----


@pytest.mark.parametrize("name", MODELS)
@backends
def test_outputs_equal_those_of_the_cpu(name, backend):
    """1e-4: a GPU adds in another order than a CPU. At padding backends may differ."""
    batch = padded_batch(rows=3, length=61)
    layout = Padded.from_mask(batch["attention_mask"])
    skip_unless_possible(backend, torch.float32, layout, head_size=5)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        wanted = outputs(stir(MODELS[name](small_config(), "eager"))(**batch))
        model = stir(MODELS[name](small_config(), backend)).cuda()
        found = outputs(model(**{key: tensor.cuda() for key, tensor in batch.items()}))
    for ours, right in zip(found, wanted, strict=True):
        rows = real if right.dim() == 3 else slice(None)
        torch.testing.assert_close(ours.cpu()[rows], right[rows], rtol=0, atol=1e-4)


@backends
def test_a_row_of_padding_alone_stays_free_of_nan(backend):
    batch = padded_batch(rows=3, length=61)
    batch["attention_mask"][1] = 0
    skip_unless_possible(backend, torch.float32, Padded.from_mask(batch["attention_mask"]), head_size=5)
    model = stir(MODELS["BertModel"](small_config(), backend)).cuda()
    with torch.no_grad():
        hidden = model(**{key: tensor.cuda() for key, tensor in batch.items()}).last_hidden_state
    assert hidden.isfinite().all()


def recorded(kind, dropout_p: float = 0.0) -> tuple[Replays, torch.nn.Module]:
    """A model's steps by replaying, and the same model with the formula's attention, both on the GPU."""
    rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), dropout_p)
    config = small_config(**SIZES_FOR_TRITON, **rates)
    ours, plain = (stir(kind(config, backend)).cuda().train() for backend in ("triton", "eager"))
    answers = None if kind is BertForSequenceClassification else lambda T: T // 8
    return Replays(computing(ours), ours, 4, 80, torch.float32, answers), plain


def on_gpu(batch):
    moved = {name: value.cuda() for name, value in batch._asdict().items() if isinstance(value, torch.Tensor)}
    return batch._replace(layout=Packed.from_lengths(batch.layout.lengths, device="cuda"), **moved)


@pytest.mark.parametrize("kind", [BertForSequenceClassification, BertForPreTraining])
def test_steps_that_are_replayed_are_the_steps(kind):
    """Of two sizes, and each twice; gradients add up over all of them."""
    replays, plain = recorded(kind)
    weights = WEIGHTS[kind.__name__].cuda()
    for seed, lengths in enumerate(([70, 3, 66], [5, 80, 9, 60], [33, 40], [80, 80], [7] * 4)):
        batch = batch_of(kind.__name__, lengths, seed)
        found = replays(on_gpu(filled(batch, replays.multiple)), weights).clone()
        torch.testing.assert_close(found, computing(plain)(on_gpu(batch), weights), rtol=1e-4, atol=1e-4)
        for (name, p), q in zip(replays.model.named_parameters(), plain.parameters(), strict=True):
            assert (p.grad - q.grad).norm() <= 1e-4 * (1 + q.grad.norm()), name
    assert sorted(replays.recordings) == [80, 160]


def test_a_replay_draws_its_dropout_anew_and_from_the_seed():
    replays, _ = recorded(BertForPreTraining, 0.1)
    batch = on_gpu(filled(batch_of("BertForPreTraining", [70, 3, 66], 0), replays.multiple))
    weights = torch.tensor([0.7, 0.3], device="cuda")

    def sums(seed, compute):
        torch.manual_seed(seed)
        return compute(batch, weights).clone()

    first, again, other = (sums(seed, replays) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3
    torch.testing.assert_close(sums(1, replays.compute), first, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_by_replays_is_the_run_without(tmp_path, precision):
    """Without dropout, as more tokens in a batch draw other random numbers."""
    losses = []
    for graphs in (True, False):
        out = tmp_path / str(graphs)
        options = TrainOptions(device="cuda", precision=precision, graphs=graphs, dropout=0.0, token_dropout=0.0)
        train(replace(options, epochs=2, out=str(out), log_every=1, batch_size=16))
        losses.append([row["loss"] for row in read_metrics(out) if "loss" in row][:40])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3 if precision == "fp32" else 3e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_bundled_reviews_are_learned_on_a_gpu(tmp_path, precision):
    scores, _ = train(TrainOptions(device="cuda", precision=precision, out=str(tmp_path / "run")))
    assert scores.accuracy >= 0.75
