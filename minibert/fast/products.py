"""A Linear on a CPU by oneDNN, which PyTorch brings along: on AMD CPUs with AVX-512 at twice the rate of `F.linear`,
which is MKL's there. The activation and the residual sum are done while the product is still in the cache.

The operator is the one that torch.compile's freezing puts in the place of a Linear (torch/_inductor, mkldnn_fusion). It
takes weights as they are: oneDNN arranges them for its kernels on the way, which at 128 tokens costs a twentieth of the
product; so there is no copy that could be out of date. Which library computes is a matter of rule, never of timing:
`usable`. `torch.backends.mkldnn.flags(enabled=False)` turns all this off.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from minibert.core.model import activation

ACTIVATIONS = {"relu": ("relu", ""), "gelu": ("gelu", "none")}  # by oneDNN's names; the other two are both "tanh"
TANH = "gelu", "tanh"
OPERATOR = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
FAST_ENOUGH = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")  # below, MKL is the faster one


def usable(*tensors: Tensor) -> bool:
    """Whether oneDNN may multiply these: plain float32 on a CPU, with nothing around them that looks at `F.linear`."""
    return (
        OPERATOR is not None
        and FAST_ENOUGH
        and all(x.dtype is torch.float32 and x.device.type == "cpu" and x.layout is torch.strided for x in tensors)
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and forward_ad._current_level < 0
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor, act: str | None = None) -> Tensor:
    """`F.linear(x, weight, bias)`, then the activation of that name. […, E], [F, E], [F] -> […, F]."""
    if not x.numel() or not usable(x, weight, bias):
        y = F.linear(x, weight, bias)
    elif torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        y = Product.apply(x, weight, bias)
    else:
        name, algorithm = ("none", "") if act is None else ACTIVATIONS.get(act, TANH)
        return OPERATOR(x, weight, bias, name, [], algorithm)
    return y if act is None else activation(act, y)


def linear_plus(x: Tensor, weight: Tensor, bias: Tensor, other: Tensor) -> Tensor:
    """`other + F.linear(x, weight, bias)`. […, E], [F, E], [F], […, F] -> […, F]."""
    if x.numel() and not torch.is_grad_enabled() and usable(x, weight, bias, other):
        return OPERATOR.binary(x, other, weight, bias, "add")
    return other + linear(x, weight, bias)


class Product(torch.autograd.Function):
    """`F.linear` whose three products, the answer and the gradients of x and of the weight, are oneDNN's."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return OPERATOR(x, weight, bias, "none", [], "")

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
