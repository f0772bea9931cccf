"""Masked multi-head attention: one signature, every backend behind it.

`eager` is the specification; each other backend is proven equal to it by tests/fast/test_attention.py. Which of them
can run depends on the device, the number type and the batch: `attention_backends()` lists them with the reasons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from minibert.core import attention as core
from minibert.core.attention import Padded, check_name
from minibert.fast.attention import eager, flex, torch_backends
from minibert.fast.attention.backend import Backend, Case, Layout, check_inputs, needs_grad, triton_obstacle
from minibert.fast.layout import Packed, pack, packed_form, pad


def triton_attention(*given: Tensor | Packed | float | None) -> Tensor:
    """Our own kernel, imported when it is first called, as it needs a package that PyTorch's CPU build lacks."""
    from minibert.fast.attention import triton_launch

    return triton_launch.attention(*given)


BACKENDS: dict[str, Backend] = {
    "eager": eager.BACKEND,
    **torch_backends.SDPA,
    "flex": flex.BACKEND,
    "varlen": torch_backends.VARLEN,
    "triton": Backend((Packed,), "Our own kernel for packed rows.", triton_obstacle, triton_attention),
}


def resolve_backend(name: str, case: Case) -> str:
    """The backend that `name` stands for: itself, or for "auto" the one to take in such a case.

    Raises:
        ValueError: no backend has that name, or it cannot run here: the reason, and the nearest that can.
    """
    if check_name(name) != "auto" and (reason := BACKENDS[name].obstacle(case)) is None:
        return name
    packed_on_gpu = case.on_gpu and isinstance(case.layout, Packed)
    order = ("triton", "varlen", "sdpa") if packed_on_gpu else ("sdpa",)
    nearest = next(other for other in order if BACKENDS[other].obstacle(case) is None)
    if name == "auto":
        return nearest
    raise ValueError(f"attention backend {name!r} cannot run here: {reason}; the nearest that can is {nearest!r}")


class BackendStatus(NamedTuple):
    """A row of `attention_backends()`."""

    name: str
    available: bool
    reason: str  # why it is not available; else what is to be known about it


def attention_backends(
    device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> list[BackendStatus]:
    """Every backend: whether it can compute attention with head size 64 on `device`, and why not.

    Args:
        device: default: the GPU if there is one, else the CPU.
        dtype: default: bfloat16 on a GPU that has it (float16 on an older one), float32 on the CPU.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if dtype is None:
        half = torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported(False) else torch.float16
        dtype = half if device.type == "cuda" else torch.float32
    rows = []
    for name, backend in BACKENDS.items():
        reason = backend.obstacle(Case(device, dtype, 64, Padded(None)))
        said = f"cannot run on {device.type} with {str(dtype).removeprefix('torch.')}: {reason}."
        rows.append(BackendStatus(name, reason is None, said if reason else backend.note))
    return rows


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: Layout,
    backend: str = "auto",
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale · q kᵀ) v per head, over the keys that the layout says are real (Vaswani et al. 2017, section 3.2).

    A row without any real key gives zeros. NaN in one row never reaches another. Within a padded row what stands at
    hidden keys has to be finite: their probability is 0, and 0 · NaN is NaN. Nothing may depend on what a padding query
    of `Padded` gets: eager and sdpa* answer it like any other, as the original BERT does; the others give 0.

    Args:
        q, k, v: [B, H, S, D] with a Padded layout, [T, H, D] with a Packed one; views are copied only where their last
            dimension is strided, which no fused kernel reads.
        layout: which tokens are real. Backends that want the other layout convert, and keep what that takes in it.
        backend: a name of BACKENDS or "auto": for Packed on a GPU the first of triton, varlen and sdpa that can run,
            else sdpa.
        dropout_p: probability of dropping one attention probability (0 outside training).
        scale: default 1 / √D.

    Returns:
        The shape of q.

    Raises:
        ValueError: the inputs do not fit each other or the layout, or the backend cannot run with them.
    """
    check_inputs(q, k, v, layout, dropout_p)
    q, k, v = (tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (q, k, v))
    elements = max(1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True)) for t in (q, k, v))
    case = Case(q.device, q.dtype, q.shape[-1], layout, dropout_p, needs_grad(q, k, v), elements)
    name = resolve_backend(backend, case)
    run = BACKENDS[name].packed if isinstance(layout, Packed) else BACKENDS[name].padded
    if run is not None:
        return run(q, k, v, layout, dropout_p, scale) if q.numel() else q + k + v  # empty, and known to autograd
    packed = packed_form(layout, q.shape[0], q.shape[2], q.device)
    rows = (pack(tensor.transpose(1, 2), packed) for tensor in (q, k, v))  # [T, H, D]
    return pad(attend(*rows, packed, name, dropout_p, scale), packed).transpose(1, 2)  # [B, H, S, D]


def of_a_batch(name: str) -> Callable[..., Tensor]:
    """What core's table holds for a backend: `attend`; or, where the last layer is read at [CLS] alone, its form for
    the first token of every row: q and the answer are [B, H, D], k and v [T, H, D]."""

    def run(
        q: Tensor, k: Tensor, v: Tensor, batch: Layout, dropout_p: float = 0.0, scale: float | None = None
    ) -> Tensor:
        if q.shape[0] == k.shape[0]:  # len() would make a graph of it that serves this number alone
            return attend(q, k, v, batch, name, dropout_p, scale)
        # Of the others all take PyTorch's SDPA, as one query a row is no work for a kernel.
        first = eager.packed_attention if name == "eager" else torch_backends.packed_sdpa
        return first(q, k, v, batch, dropout_p, scale)

    return run


def add_backend(name: str, backend: Backend) -> None:
    """Makes a backend known to `attend` and to every model, under a name of its own or in the place of another."""
    BACKENDS[name] = backend
    core.BACKENDS[name] = of_a_batch(name)


core.BACKENDS.update({name: of_a_batch(name) for name in ("auto", *BACKENDS)})
