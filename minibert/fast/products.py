"""A Linear on a CPU by oneDNN, which PyTorch brings along: on AMD CPUs with AVX-512 at twice the rate of `F.linear`,
which is MKL's there. The activation and the residual sum are done while the product is still in the cache.

The operator is the one that torch.compile's freezing puts in the place of a Linear (torch/_inductor, mkldnn_fusion). It
takes weights as they are and arranges them for its kernels on the way, at a cost that few tokens feel; so a weight that
is used again without gradients gets a copy that is arranged already, and loses it when it changes. Which library
computes is a matter of rule (`usable`), never of timing; `torch.backends.mkldnn.flags(enabled=False)` turns it off.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from minibert.core.model import activation

ACTIVATIONS = {  # by oneDNN's names
    "relu": ("relu", ""),
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
}
HAS_ONEDNN = torch.backends.mkldnn.is_available()
OPERATOR = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if HAS_ONEDNN else None
ARRANGE = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None) if HAS_ONEDNN else None
BF16 = HAS_ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported()
BF16_IN_HARDWARE = BF16 and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
FAST_ENOUGH = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")  # below, MKL is the faster one
SPOTS = 4  # numbers of a weight that are compared
COPIES: dict[int, Copy] = {}  # by the weight's id


def usable(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether oneDNN is to multiply these: several rows of plain float32 (bfloat16 where the CPU has it) on a CPU, and
    nothing around them that changes or watches what `F.linear` does. For one row MKL is the faster one.
    """
    return (
        type(x) is Tensor
        and x.dtype is weight.dtype is bias.dtype
        and (x.dtype is torch.float32 or (x.dtype is torch.bfloat16 and BF16))
        and x.is_cpu
        and weight.is_cpu
        and bias.is_cpu
        and x.numel() > x.shape[-1]
        and OPERATOR is not None
        and FAST_ENOUGH
        and x.layout is weight.layout is torch.strided
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and forward_ad._current_level < 0
        and not torch._C._len_torch_dispatch_stack()  # counters of operations, tensors without numbers
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor, act: str | None = None) -> Tensor:
    """`F.linear(x, weight, bias)`, then the activation of that name. […, E], [F, E], [F] -> […, F]."""
    if not usable(x, weight, bias):
        y = F.linear(x, weight, bias)
    elif torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        if weight.requires_grad:
            COPIES.pop(id(weight), None)  # it is about to change
        y = Product.apply(x, weight, bias)
    else:
        name, algorithm = ("none", "") if act is None else ACTIVATIONS[act]
        return OPERATOR(x.contiguous(), arranged(weight), bias, name, [], algorithm)
    return y if act is None else activation(act, y)


def linear_plus(x: Tensor, weight: Tensor, bias: Tensor, other: Tensor) -> Tensor:
    """`other + F.linear(x, weight, bias)`. […, E], [F, E], [F], […, F] -> […, F]."""
    if not torch.is_grad_enabled() and usable(x, weight, bias) and other.dtype is x.dtype and other.is_cpu:
        return OPERATOR.binary(x.contiguous(), other.contiguous(), arranged(weight), bias, "add")
    return other + linear(x, weight, bias)


class Copy:
    """Of a weight, made when it is used for the second time, and what tells that the weight is as it was then."""

    def __init__(self, weight: Tensor) -> None:
        plain = weight.detach().view({2: torch.int16, 4: torch.int32}[weight.itemsize])  # NumPy has no bfloat16
        numbers, number = plain.numpy().reshape(-1), id(weight)
        self.weight = weakref.ref(weight, lambda _: COPIES.pop(number, None))
        self.state = weight._version, weight.data_ptr()
        self.spots = numbers[:: max(1, len(numbers) // SPOTS)]  # a view: `weight.data` changes without a new version
        self.seen = self.spots.tobytes()
        self.form: Tensor | None = None

    def holds(self, weight: Tensor) -> bool:
        state = weight._version, weight.data_ptr()
        return self.weight() is weight and self.state == state and self.seen == self.spots.tobytes()


def arranged(weight: Tensor) -> Tensor:
    """The weight, or its copy. [F, E] -> [F, E]."""
    if ARRANGE is None or weight.is_inference() or not weight.is_contiguous():
        return weight
    copy = COPIES.get(id(weight))
    if copy is None or not copy.holds(weight):
        COPIES[id(weight)] = Copy(weight)
        return weight
    if copy.form is None:
        copy.form = ARRANGE(weight.detach())
    return copy.form


class Product(torch.autograd.Function):
    """`F.linear` whose three products, the answer and the gradients of x and of the weight, are oneDNN's."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return OPERATOR(x.contiguous(), weight, bias, "none", [], "")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted, g = ctx.needs_input_grad, gradient.reshape(-1, len(weight)).contiguous()
        dx = OPERATOR(g, weight.t(), None, "none", [], "").view_as(x) if wanted[0] else None
        dw = OPERATOR(g.t(), x.reshape(-1, x.shape[-1]).t(), None, "none", [], "") if wanted[1] else None
        return dx, dw, g.sum(0) if wanted[2] else None
