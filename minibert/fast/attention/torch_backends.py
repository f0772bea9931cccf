"""PyTorch's own attention behind our signature: the four kernels of SDPA, and varlen_attn.

What each cannot do is said before the call and with a remedy. These limits are PyTorch's own, as far as they are known
here; one that is missing shows as PyTorch's error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from minibert.core.attention import Padded, sdpa
from minibert.fast.attention.backend import AMPERE, HALF, Backend, Case, needs_grad, no_obstacle
from minibert.fast.dropout import keep_mask
from minibert.fast.layout import Packed, pack, pad

LONGEST = 256  # tokens of a row whose probabilities, [H, n, n], still lie in a CPU's cache
AT_ONCE = 1 << 18  # probabilities: so many make 1 MiB
MATH, FLASH = SDPBackend.MATH, SDPBackend.FLASH_ATTENTION
EFFICIENT, CUDNN = SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION


def padded_sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    batch: Padded,
    dropout_p: float = 0.0,
    scale: float | None = None,
    kernel: SDPBackend | None = None,
) -> Tensor:
    """core's `sdpa` by one kernel, or (None) by the one that PyTorch chooses. [B, H, S, D] three times -> the same."""
    with kernels(kernel, batch.keys, needs_grad(q, k, v)):
        return sdpa(q, k, v, batch, dropout_p, scale)


def kernels(kernel: SDPBackend | None, keys: Tensor | None, backward: bool) -> AbstractContextManager:
    """Which kernels SDPA may take. keys: bool [B, S], where they become a mask."""
    if kernel is None and keys is not None and keys.device.type == "cuda" and backward and breaks_cudnn(keys.shape[-1]):
        return sdpa_kernel([FLASH, EFFICIENT, MATH])
    return nullcontext() if kernel is None else sdpa_kernel(kernel)


def breaks_cudnn(width: int) -> bool:
    """Whether cuDNN's gradient with a mask may be NaN (pytorch#196678, since 2.11): the upper half of its last block of
    128 keys counts with score 0, which is endlessly much where all real scores are below -88.7."""
    return width % 128 == 64


def packed_sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: Packed,
    dropout_p: float = 0.0,
    scale: float | None = None,
    kernel: SDPBackend | None = None,
) -> Tensor:
    """[T, H, D] three times -> [T, H, D]; where the first tokens alone ask, q and the answer are [B, H, D].

    On a GPU, where many small calls are slow, all rows go padded and with a mask, unless the kernel takes none.
    """
    on_gpu, full = q.device.type == "cuda", layout.padded.keys is None
    if not (on_gpu and (full or kernel is not FLASH)) and not (full and not dropout_p):
        return by_length(q, k, v, layout, dropout_p, scale, kernel)
    first = len(q) < len(k)
    k, v = (pad(tensor, layout).transpose(1, 2) for tensor in (k, v))  # [B, H, S, D]
    q = q[:, :, None] if first else pad(q, layout).transpose(1, 2)  # [B, H, 1 or S, D]
    out = padded_sdpa(q, k, v, layout.padded, dropout_p, scale, kernel)
    return out[:, :, 0] if first else pack(out.transpose(1, 2), layout)


def by_length(
    q: Tensor, k: Tensor, v: Tensor, layout: Packed, dropout_p: float, scale: float | None, kernel: SDPBackend | None
) -> Tensor:
    """Rows of one length are a rectangle without padding, and need no mask: one call for each length.

    [T, H, D] three times -> [T, H, D]; where the first tokens alone ask, q and the answer are [B, H, D]. R rows of one
    length n, of which m tokens ask. SDPA has no fused kernel for dropout on the CPU; the formula with cheap random
    numbers, drawn for all lengths at once, is faster than what it does then.
    """
    groups, rows, order, back = layout.by_length
    first, cheap = len(q) < len(k), dropout_p > 0 and kernel is None
    if order is not None:
        q, k, v = q.index_select(0, rows if first else order), k.index_select(0, order), v.index_select(0, order)
    shapes = [(R, q.shape[1], 1 if first else n, n) for R, n in groups]  # of the probabilities: [R, H, m, n]
    masks = [None] * len(shapes)
    if cheap:
        sizes = [math.prod(shape) for shape in shapes]
        stays, share = keep_mask((sum(sizes),), dropout_p)
        masks = stays.split(sizes)
        q, v = q * (1 / math.sqrt(q.shape[-1]) if scale is None else scale), v / share  # fewer than probabilities
    tokens = [[R * m for R, _, m, _ in shapes], *2 * [[R * n for R, _, _, n in shapes]]]
    # Split all at once: the gradient of a slice is a whole [T, H, D], and there would be many.
    parts = zip(*(tensor.split(sizes) for tensor, sizes in zip((q, k, v), tokens, strict=True)), strict=True)
    answers = []
    for shape, mask, part in zip(shapes, masks, parts, strict=True):
        a, b, c = (tensor.unflatten(0, (shape[0], -1)).transpose(1, 2) for tensor in part)  # [R, H, m or n, D]
        if cheap:
            answer = torch.softmax(a @ b.transpose(-2, -1), dim=-1) * mask.view(shape) @ c
        elif kernel is None and suits_formula(a, b):
            answer = by_formula(a, b, c, scale)
        else:
            answer = padded_sdpa(a, b, c, Padded(None), dropout_p, scale, kernel)
        answers.append(answer.transpose(1, 2).flatten(0, 1))  # [R · m, H, D]
    out = torch.cat(answers)
    if order is None:
        return out
    return torch.empty_like(out).index_copy(0, rows, out) if first else out.index_select(0, back)


def suits_formula(q: Tensor, k: Tensor) -> bool:
    """Whether `by_formula` is to answer: rows up to LONGEST, in a batch of several lengths, in float32 on several of a
    CPU's threads, without gradients. PyTorch's flash kernel gains little by further threads there; on one thread it is
    the faster one.
    """
    return (
        q.device.type == "cpu"
        and q.dtype is torch.float32
        and 1 < q.shape[2] == k.shape[2] <= LONGEST
        and not torch.is_grad_enabled()
        and torch.get_num_threads() > 1
    )


def by_formula(q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
    """`core.attention.eager` of rows without padding: all heads of as many rows at once as AT_ONCE allows, as threads
    have to wait for each other at every call. [R, H, n, D] three times -> [R, H, n, D].
    """
    R, H, n, D = q.shape
    scale, nothing = 1 / math.sqrt(D) if scale is None else scale, q.new_zeros(1, 1, 1)
    answers = []
    for parts in zip(*(x.split(max(1, AT_ONCE // (H * n * n))) for x in (q, k, v)), strict=True):
        a, b, c = (part.reshape(-1, n, D) for part in parts)
        scores = torch.baddbmm(nothing, a, b.transpose(1, 2), beta=0, alpha=scale)
        answers.append(torch.softmax(scores, dim=-1, out=scores) @ c)
    return torch.cat(answers).view(R, H, n, D)


def flash_obstacle(case: Case) -> str | None:
    if not case.on_gpu:
        return case.needs_no_dropout()
    if case.keys is not None and isinstance(case.layout, Padded):
        return "it takes no mask, and the batch is padded; pack it, or let all rows be of one length"
    return case.needs_gpu() or case.needs_dtype(*HALF) or case.needs_head_size(1, 256)


def efficient_obstacle(case: Case) -> str | None:
    return (
        case.needs_gpu(AMPERE if case.dtype is torch.bfloat16 else (5, 0))
        or case.needs_dtype(*HALF, torch.float32)
        or case.needs_head_size(4 if case.dtype is torch.float32 else 8, 2**16)
        or case.needs_int32()
    )


def cudnn_obstacle(case: Case) -> str | None:
    if case.on_gpu and case.needs_grad and case.keys is not None and breaks_cudnn(case.keys.shape[1]):
        width = case.keys.shape[1]
        return f"its gradient with a mask may be NaN at width {width} (pytorch#196678); pad to a multiple of 128"
    return case.needs_gpu() or case.needs_dtype(*HALF) or case.needs_head_size(8, 128)


def varlen(
    q: Tensor, k: Tensor, v: Tensor, layout: Packed, dropout_p: float = 0.0, scale: float | None = None
) -> Tensor:
    """FlashAttention-2 over packed rows, by `torch.nn.attention.varlen`. [T, H, D] three times -> [T, H, D]."""
    from torch.nn.attention.varlen import varlen_attn

    longest = layout.max_length
    return varlen_attn(q, k, v, layout.cu_seqlens, layout.cu_seqlens, longest, longest, scale=scale)


def varlen_obstacle(case: Case) -> str | None:
    return case.needs_gpu() or case.needs_dtype(*HALF) or case.needs_head_size(8, 256) or case.needs_no_dropout()


def sdpa_backend(kernel: SDPBackend | None, note: str, obstacle: Callable[[Case], str | None] = no_obstacle) -> Backend:
    return Backend((Padded,), note, obstacle, partial(packed_sdpa, kernel=kernel), partial(padded_sdpa, kernel=kernel))


SDPA = {
    "sdpa": sdpa_backend(None, "PyTorch chooses the kernel."),
    "sdpa-math": sdpa_backend(MATH, "The formula in C++, any device and type."),
    "sdpa-efficient": sdpa_backend(EFFICIENT, "CUTLASS kernels, which take a mask.", efficient_obstacle),
    "sdpa-flash": sdpa_backend(
        FLASH, "FlashAttention-2; no mask on a GPU, no attention dropout on the CPU.", flash_obstacle
    ),
    "sdpa-cudnn": sdpa_backend(CUDNN, "NVIDIA's cuDNN, which takes a mask.", cudnn_obstacle),
}
VARLEN = Backend((Packed,), "FlashAttention-2 for packed rows; no attention dropout.", varlen_obstacle, varlen)
