"""A Linear on a CPU with AVX-512 by oneDNN, which PyTorch brings along: on AMD's at twice the rate of `F.linear`, which
is MKL's. The activation and the residual sum are done in the cache. With AVX2 alone it is `F.linear`: MKL is ahead.
There both are written over the product, without gradients, and the product of a sentence alone is dealt out to the
threads (`by_parts`); what a layer frees is everywhere kept for the next one.

The operator is the one that torch.compile's freezing puts in the place of a Linear (torch/_inductor, mkldnn_fusion). It
takes weights as they are and arranges them for its kernels on the way, at a cost that only few tokens feel: so there is
no copy that could be out of date. Which library computes is a matter of rule (`usable`), never of timing;
`torch.backends.mkldnn.set_flags(False)` turns it off.

PyTorch keeps a kernel for every number of rows it has seen, up to 1,024 of them, and with each up to as much memory as
the weights have. Batches without padding have ever new numbers: so here it keeps CACHES (see `bound_caches`).
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from minibert.core.model import activation

ACTIVATIONS = {  # by oneDNN's names; its relu makes 0 of NaN, so that one is PyTorch's
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
}
PLAIN = Tensor, nn.Parameter
HAS_ONEDNN = torch.backends.mkldnn.is_available()
OPERATOR = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if HAS_ONEDNN else None
BF16 = HAS_ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported()
BF16_IN_HARDWARE = BF16 and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
FAST_ENOUGH = torch.backends.cpu.get_cpu_capability() == "AVX512"  # below, MKL is the faster one

FEW, ROUND = 48, 8  # rows: of a sentence alone so many are computed that all lengths share six numbers of rows
LARGE, PARTS = 1 << 18, 2  # numbers of a weight, 1 MiB: more than the cache of one core; parts for each thread

# oneDNN's own cache of kernels and ideep's above it. Forward, a model asks for four, and its layers share them.
CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "24", "LRU_CACHE_CAPACITY": "24"}


def bound_caches() -> None:
    """Has both read their sizes now, at their first product, where the user has not set them. The variables are taken
    back after it: other libraries in this process and its children, which may bring their own oneDNN, have theirs.
    """
    ours = [name for name in CACHES if name not in os.environ]
    os.environ.update({name: CACHES[name] for name in ours})
    x, weight, bias = (torch.zeros(*shape, dtype=torch.float32, device="cpu") for shape in ((2, 16), (16, 16), (16,)))
    try:
        OPERATOR(x, weight, bias, "none", [], "")
    finally:
        for name in ours:
            del os.environ[name]


if OPERATOR is not None and FAST_ENOUGH:
    bound_caches()


def raise_threshold() -> None:
    """Has glibc keep what a layer frees for the next one: it gives back to the system what lies free beyond twice the
    largest block that was ever given back, but counts blocks up to 32 MiB alone (mallopt(3), M_MMAP_THRESHOLD). This
    one is never written to, so it costs nothing; in other C libraries it does nothing.
    """
    torch.empty((32 << 20) - (1 << 13), dtype=torch.uint8, device="cpu")


raise_threshold()


def usable(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether oneDNN is to multiply these: several rows on a CPU, and `plain`. For one row MKL is the faster one."""
    return FAST_ENOUGH and OPERATOR is not None and plain(x, weight, bias) and x.numel() > x.shape[-1]


def divisible(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether MKL's product of these is to be done `by_parts`: few rows and a large weight, `plain` and no gradient."""
    return (
        not FAST_ENOUGH
        and plain(x, weight, bias)
        and torch.backends.mkl.is_available()
        and x.dim() == 2
        and len(x) <= FEW
        and weight.numel() >= LARGE
        and torch.get_num_threads() > 1
        and not len(weight) % (PARTS * torch.get_num_threads())
        and not torch.is_grad_enabled()
    )


def plain(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether these are plain numbers on a CPU, in float32 (bfloat16 where the CPU has it), and nothing around them
    changes or counts what `F.linear` does.
    """
    return (
        type(x) is Tensor
        and type(weight) in PLAIN
        and type(bias) in PLAIN
        and x.dtype is weight.dtype is bias.dtype
        and (x.dtype is torch.float32 or (x.dtype is torch.bfloat16 and BF16))
        and x.is_cpu
        and weight.is_cpu
        and bias.is_cpu
        and x.layout is weight.layout is torch.strided
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and forward_ad._current_level < 0
        and torch._C._functorch.maybe_current_level() is None
        and not torch._C._len_torch_dispatch_stack()  # counters of operations, tensors without numbers
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor, act: str | None = None) -> Tensor:
    """`F.linear(x, weight, bias)`, then the activation of that name. […, E], [F, E], [F] -> […, F]."""
    if not usable(x, weight, bias):
        y = by_parts(x, weight, bias) if divisible(x, weight, bias) else F.linear(x, weight, bias)
    elif torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        y = Product.apply(x, weight, bias)
    else:
        return cut(fused(filled(x), weight, bias, act), x)
    if act in ACTIVATIONS and replaceable(y):
        return torch.ops.aten.gelu_(y, approximate=ACTIVATIONS[act][1])
    return y if act is None else activation(act, y)


def by_parts(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`F.linear(x, weight, bias)`, each part of the outputs a product of its own. [T, E], [F, E], [F] -> [T, F].

    Threads share the parts, and each reads its own rows of the weight; MKL's one product of few rows gains little by a
    second thread.
    """
    weights = weight.unflatten(0, (PARTS * torch.get_num_threads(), -1))  # [P, F / P, E]
    y = torch.baddbmm(bias.view(len(weights), 1, -1), x.expand(len(weights), -1, -1), weights.mT)
    return y.transpose(0, 1).flatten(1)


def replaceable(y: Tensor) -> bool:
    """Whether what follows a product may be written over it: on a CPU memory that is new, and large, has to be asked of
    the system page by page, time and again.
    """
    return y.is_cpu and not torch.is_grad_enabled()


def fused(x: Tensor, weight: Tensor, bias: Tensor, act: str | None) -> Tensor:
    """oneDNN's product, the activation in it where oneDNN has that one, else behind it. See `linear`."""
    name, algorithm = ACTIVATIONS.get(act, ("none", ""))
    y = OPERATOR(x, weight, bias, name, [], algorithm)
    return y if act is None or act in ACTIVATIONS else activation(act, y)


def linear_plus(x: Tensor, weight: Tensor, bias: Tensor, other: Tensor) -> Tensor:
    """`other + F.linear(x, weight, bias)`. […, E], [F, E], [F], […, F] -> […, F]."""
    if not torch.is_grad_enabled() and usable(x, weight, bias) and other.dtype is x.dtype and other.is_cpu:
        return cut(OPERATOR.binary(filled(x), filled(other), weight, bias, "add"), x)
    y = linear(x, weight, bias)
    return y.add_(other) if replaceable(y) and y.dtype is other.dtype else other + y


def filled(x: Tensor) -> Tensor:
    """FEW rows and less with zeros up to a multiple of ROUND. [T, E] -> [more, E]; others stay as they are."""
    if x.dim() == 2 and len(x) <= FEW and len(x) % ROUND:
        return F.pad(x, (0, 0, 0, -len(x) % ROUND))
    return x.contiguous()


def cut(y: Tensor, x: Tensor) -> Tensor:
    """Of a product of `filled(x)` the rows that are of x."""
    return y if len(y) == len(x) else y[: len(x)]


class Product(torch.autograd.Function):
    """`F.linear` whose three products, the answer and the gradients of x and of the weight, are oneDNN's."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return OPERATOR(x.contiguous(), weight, bias, "none", [], "")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.shape, ctx.width = x.shape, len(weight)
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted, g = ctx.needs_input_grad, gradient.reshape(-1, ctx.width).contiguous()
        dx = OPERATOR(g, weight.t(), None, "none", [], "").view(ctx.shape) if wanted[0] else None
        dw = OPERATOR(g.t(), x.reshape(-1, x.shape[-1]).t(), None, "none", [], "") if wanted[1] else None
        return dx, dw, g.sum(0) if wanted[2] else None
