"""Our Triton kernels as PyTorch sees them: which of them for which length, and one autograd function.

T tokens of a packed batch, H heads, D head size.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from minibert.fast.attention.triton_kernel import (
    backward_fused,
    backward_keys,
    backward_queries,
    forward_long,
    forward_short,
)
from minibert.fast.layout import Packed

INTERPRETED = bool(triton.knobs.runtime.interpret)  # TRITON_INTERPRET=1: kernels run in numpy, on the CPU, slowly


class Variant(NamedTuple):
    """How the rows longer than those of the variant before it, and of at most `up_to` tokens, are done."""

    head_size: int
    element_size: int  # bytes
    kernel: Any
    up_to: int | None  # None: any length
    tile: int  # tokens that a program keeps: queries, but keys in backward_keys
    step: int  # tokens of the other kind that it takes in at a time
    warps: int
    stages: int  # steps whose loads are under way at once
    shared: int  # KiB of shared memory at most; tests/fast/test_triton.py holds Triton 3.6, 3.9 to it on sm_80, sm_90,
    spilled: int = 0  # and to these bytes a thread that do not fit into its registers; in 16 bits on sm_90 always 0


# Those of head size 64 in 2 bytes were chosen by benchmarks/variants.py among candidates that fit into the registers
# with dropout, too. A GPU with less shared memory leaves a variant out, and the next one does its lengths as well; what
# serves any length fits into the 99 KiB of the smallest GPUs meant here (sm_86, sm_89).
_FORWARD = (  # the fields of Variant
    (32, 2, forward_short, 64, 64, 64, 4, 1, 12),
    (32, 2, forward_short, 128, 128, 128, 8, 1, 24),
    (32, 2, forward_long, None, 64, 128, 4, 2, 36),
    (64, 2, forward_short, 64, 64, 64, 4, 1, 24),
    (64, 2, forward_short, 128, 128, 128, 8, 1, 48),
    (64, 2, forward_long, None, 64, 64, 4, 3, 56),
    (128, 2, forward_short, 64, 64, 64, 4, 1, 48),
    (128, 2, forward_short, 128, 128, 128, 8, 1, 96, 240),
    (128, 2, forward_long, None, 128, 64, 8, 2, 96, 32),
    (32, 4, forward_short, 64, 64, 64, 8, 1, 24),
    (32, 4, forward_long, None, 64, 32, 8, 1, 24),
    (64, 4, forward_short, 64, 64, 64, 8, 1, 48),
    (64, 4, forward_long, None, 64, 32, 8, 1, 33),
    (128, 4, forward_long, None, 32, 32, 8, 1, 36),
)
_BACKWARD = (
    (32, 2, backward_fused, 64, 64, 64, 4, 1, 24),
    (32, 2, backward_fused, 128, 128, 64, 8, 2, 48),
    (32, 2, backward_fused, 256, 256, 64, 8, 2, 80),
    (32, 2, backward_queries, None, 128, 64, 8, 2, 32),
    (32, 2, backward_keys, None, 128, 64, 8, 2, 33),
    (64, 2, backward_fused, 64, 64, 64, 4, 1, 40),
    (64, 2, backward_fused, 128, 128, 128, 8, 1, 96, 240),
    (64, 2, backward_fused, 256, 256, 64, 8, 2, 128, 472),
    (64, 2, backward_queries, None, 64, 64, 4, 2, 48),
    (64, 2, backward_keys, None, 64, 64, 4, 2, 49, 8),
    (128, 2, backward_fused, 64, 64, 64, 8, 1, 80),
    (128, 2, backward_fused, 128, 128, 64, 8, 1, 112, 728),
    (128, 2, backward_queries, None, 64, 64, 8, 2, 96),
    (128, 2, backward_keys, None, 64, 64, 8, 2, 97),
    (32, 4, backward_fused, 64, 64, 64, 8, 1, 48),
    (32, 4, backward_queries, None, 64, 32, 8, 1, 28),
    (32, 4, backward_keys, None, 64, 32, 8, 1, 32),
    (64, 4, backward_fused, 64, 64, 64, 8, 1, 80, 1120),
    (64, 4, backward_queries, None, 32, 32, 8, 1, 32),
    (64, 4, backward_keys, None, 32, 32, 8, 1, 36),
    (128, 4, backward_queries, None, 32, 32, 8, 1, 64, 200),
    (128, 4, backward_keys, None, 32, 32, 8, 1, 68, 8),
)
FORWARD, BACKWARD = ([Variant(*row) for row in rows] for rows in (_FORWARD, _BACKWARD))


def shared_memory(device: torch.device) -> int:
    """KiB of shared memory that one program may have; the interpreter knows no limit."""
    if device.type != "cuda":
        return 1 << 20
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin // 1024


def variants(backward: bool, head_size: int, element_size: int, device: torch.device) -> list[tuple[Variant, int]]:
    """The variants that fit into the device's shared memory, each with the length that its rows have to exceed."""
    found, longer_than, limit = [], 0, shared_memory(device)
    for variant in BACKWARD if backward else FORWARD:
        if variant[:2] == (head_size, element_size) and variant.shared <= limit:
            found.append((variant, longer_than))
            longer_than = variant.up_to or longer_than
    return found


def work(backward: bool, head_size: int, element_size: int, layout: Packed) -> list[tuple[Variant, Tensor]]:
    """Which variants have something to do in a batch, with their tiles; found once for all layers."""

    def find() -> list[tuple[Variant, Tensor]]:
        chosen = variants(backward, head_size, element_size, layout.device)
        tiles = ((variant, layout.tiles(variant.tile, over, variant.up_to)) for variant, over in chosen)
        return [(variant, some) for variant, some in tiles if len(some)]

    return layout.keep((backward, head_size, element_size), find)


class Options(NamedTuple):
    """What the kernels are told after their tensors, in this order."""

    scale: float
    dropout_p: float
    seed: Tensor  # int32 [1]; without dropout any, which is not read
    stride: int  # elements from one token's q to the next token's; likewise for k and v


# Compiled kernels by all that Triton compiles anew for: finding that out itself takes it longer than a kernel runs.
# Alignment counts too, but here every pointer is a multiple of 16 bytes (`_is_readable`).
COMPILED: dict[tuple, Any] = {}


def _run(backward: bool, tensors: dict[str, tuple[Tensor, ...]], options: Options, q: Tensor, layout: Packed) -> None:
    """Launches each variant over the tiles that are its work. tensors: each kernel's first arguments; q: [T, H, D]."""
    (T, H, D), dropout = q.shape, options.dropout_p > 0
    with torch.cuda.device_of(layout.cu_seqlens):
        for variant, tiles in work(backward, D, q.element_size(), layout):
            kernel, up_to, tile, step, warps, stages = variant[2:8]
            name, programs = kernel.__name__, len(tiles) * H
            arguments = *tensors[name], tiles, layout.cu_seqlens, T, *options, H, D, tile, step, dropout
            key = name, up_to, q.dtype, layout.device, H, D, options.stride, dropout
            if key in COMPILED:
                COMPILED[key][programs, 1, 1](*arguments)
            elif (compiled := kernel[(programs,)](*arguments, num_warps=warps, num_stages=stages)) is not None:
                COMPILED[key] = compiled  # the interpreter gives None


class _Attention(torch.autograd.Function):
    """q, k, v [T, H, D] -> [T, H, D]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Packed, options: Options) -> Tensor:
        T, H, D = q.shape
        out, lse = q.new_empty(T, H, D), q.new_empty(H, T, dtype=torch.float32)
        _run(False, dict.fromkeys(("forward_short", "forward_long"), (q, k, v, out, lse)), options, q, layout)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.layout, ctx.options = layout, options
        return out

    @staticmethod
    def backward(ctx: Any, do: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise ValueError(
                'create_graph=True asks for a second derivative, which has no kernel; choose backend="eager"'
            )
        q, k, v, out, lse = ctx.saved_tensors
        do = do if do.is_contiguous() and do.data_ptr() % 16 == 0 else do.clone(memory_format=torch.contiguous_format)
        delta = torch.empty_like(lse)
        dq, dk, dv = q.new_empty(3, *q.shape).unbind()
        kernels = {
            "backward_fused": (q, k, v, out, do, lse, dq, dk, dv),
            "backward_queries": (q, k, v, out, do, lse, delta, dq),
            "backward_keys": (q, k, v, do, lse, delta, dk, dv),
        }
        _run(True, kernels, ctx.options, q, ctx.layout)
        return dq, dk, dv, None, None


def attention(
    q: Tensor, k: Tensor, v: Tensor, layout: Packed, dropout_p: float = 0.0, scale: float | None = None
) -> Tensor:
    """`attend`, which has checked all but the scale, for q, k, v [T, H, D] of one type, float16, bfloat16 or float32, D
    one of 32, 64, 128. -> [T, H, D].

    Kernels read 16 bytes at a time, so all three have to begin at a multiple of 16 bytes with the heads of a token side
    by side, one stride for all three and a multiple of 16 elements; where they do not, they are copied first. What
    dropout drops is drawn by torch's generator of the device, and so anew whenever a CUDA graph is replayed.

    Raises:
        ValueError: the scale is not positive.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    if not 0 < scale < math.inf:
        raise ValueError(f"scale is {scale}; give a positive number, as its sign can go into q")
    if not all(_is_readable(x) and x.stride() == q.stride() for x in (q, k, v)):
        q, k, v = (x.clone(memory_format=torch.contiguous_format) for x in (q, k, v))
    seed = layout.cu_seqlens
    if dropout_p:
        seed = torch.randint(2**31 - 1, (1,), dtype=torch.int32, device=q.device)
    return _Attention.apply(q, k, v, layout, Options(scale, float(dropout_p), seed, q.stride(0)))


def _is_readable(x: Tensor) -> bool:
    """Whether kernels can read x [T, H, D] as it lies; unaligned they would, but several times slower."""
    return x.stride()[1:] == (x.shape[2], 1) and x.stride(0) % 16 == 0 and x.data_ptr() % 16 == 0
