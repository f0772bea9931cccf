"""FlexAttention: PyTorch compiles a kernel for a mask that is given as a function, and skips the blocks it hides."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from minibert.core.attention import Padded
from minibert.fast.attention.backend import HALF, Backend, Case, installed, needs_grad
from minibert.fast.layout import Packed, each_of, pack, pad, starts, upload

BLOCK = 128  # positions; what the mask hides is skipped in blocks of this size
FORMS = 64  # kernels that may be compiled: one for each head size, number type and kind of layout, or two (`compiled`)


def padded(
    q: Tensor, k: Tensor, v: Tensor, layout: Padded, dropout_p: float = 0.0, scale: float | None = None
) -> Tensor:
    """The rectangle, [B, H, S, D]: blocks without real queries or real keys are skipped. Padding queries get 0."""
    keys, (B, _, S, _) = layout.keys, q.shape
    if keys is None:
        return flex(q, k, v, None, scale)

    def real(b: Tensor, h: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return keys[b, s] & keys[b, t]

    mask = layout.keep("flex", lambda: create_block_mask(real, B, None, S, S, device=q.device, BLOCK_SIZE=BLOCK))
    return flex(q, k, v, mask, scale)


def packed(
    q: Tensor, k: Tensor, v: Tensor, layout: Packed, dropout_p: float = 0.0, scale: float | None = None
) -> Tensor:
    """[T, H, D] -> the same. On the CPU, without a compiler, the rectangle takes less room and keeps NaN in its row."""
    if q.device.type == "cuda":
        return documents(q, k, v, layout, scale)
    rows = (pad(tensor, layout).transpose(1, 2) for tensor in (q, k, v))  # [B, H, S, D]
    return pack(padded(*rows, layout.padded, 0.0, scale).transpose(1, 2), layout)


def documents(q: Tensor, k: Tensor, v: Tensor, layout: Packed, scale: float | None = None) -> Tensor:
    """[T, H, D] -> one long row [1, H, N · BLOCK, D], in which every token sees its own document alone -> [T, H, D].

    Each document begins at a block, so that no block is shared: a document touches fewer of them, and what is NaN in
    one is never multiplied by the probability 0 of another, which would be NaN again.
    """
    blocks, mask = layout.keep("flex", functools.partial(document_mask, layout))
    row = (pad(tensor, blocks).flatten(0, 1).transpose(0, 1)[None] for tensor in (q, k, v))  # [1, H, N · BLOCK, D]
    return pack(flex(*row, mask, scale)[0].transpose(0, 1).unflatten(0, (-1, BLOCK)), blocks)


def document_mask(layout: Packed) -> tuple[Packed, object]:
    """The long row's N blocks, as a batch of N rows of BLOCK positions; and which of them see each other.

    The block mask follows from the lengths: every block of a document of n tokens sees the n // 128 full ones and, if
    something is left over, the last one position by position.
    """
    lengths = np.array(layout.lengths)
    counts = -(-lengths // BLOCK)  # blocks of each document
    first, (owner, number) = starts(counts)[:-1], each_of(counts)  # of each block [N]: its document, its place there
    sizes, N = np.minimum(lengths[owner] - number * BLOCK, BLOCK), len(owner)
    positions = np.where(np.arange(BLOCK) < sizes[:, None], owner[:, None], -1)  # [N, BLOCK]; -1 behind a document
    document = upload(positions.flatten(), layout.device)

    def same(b: Tensor, h: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return document[s] == document[t]

    def table(counts: np.ndarray, begin: np.ndarray) -> tuple[Tensor, Tensor]:
        """How many blocks each block sees [1, 1, N], and which, one after the other from `begin` on [1, 1, N, N]."""
        counts, begin = (upload(a[owner].astype(np.int32), layout.device) for a in (counts, begin))
        which = begin[:, None] + torch.arange(N, dtype=torch.int32, device=layout.device)
        return counts[None, None], which.clamp(max=N - 1)[None, None]

    full = lengths // BLOCK
    partly, whole = table(lengths % BLOCK > 0, first + full), table(full, first)
    mask = BlockMask.from_kv_blocks(*partly, *whole, BLOCK_SIZE=BLOCK, mask_mod=same)
    return Packed.from_lengths(sizes, BLOCK, layout.device), mask


def flex(q: Tensor, k: Tensor, v: Tensor, mask: object, scale: float | None) -> Tensor:
    """[B, H, S, D] three times -> the same. Compiled on a GPU; on the CPU, where compiling takes half a minute, by
    PyTorch's plain form of it, which has no backward pass and refuses tensors that want one."""
    if q.device.type == "cuda":
        with torch.compiler.config.patch(recompile_limit=FORMS):
            return compiled()(q, k, v, block_mask=mask, scale=scale)
    assert not needs_grad(q, k, v)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        return flex_attention(q.detach(), k.detach(), v.detach(), block_mask=mask, scale=scale)


@functools.cache
def compiled() -> Callable[..., Tensor]:
    """Compiled for the first sizes it meets, then once more for any size. fullgraph: it must not fall back in silence
    to the plain form, which forms all probabilities."""
    return torch.compile(flex_attention, fullgraph=True)


def obstacle(case: Case) -> str | None:
    if not case.on_gpu:
        forward_only = "it is forward only on the CPU; call it under torch.no_grad()"
        return case.needs_no_dropout() or (forward_only if case.needs_grad else None)
    return (
        case.needs_gpu((7, 0))
        or (None if installed("triton") else "it needs Triton, which is not installed; pip install triton")
        or case.needs_dtype(*HALF, torch.float32)
        or (f"it takes head sizes from 16 on, not {case.head_size}" if case.head_size < 16 else None)
        or case.needs_no_dropout()
        or case.needs_int32()
    )


NOTE = "Compiled from a mask in Python; no attention dropout; forward only on the CPU."
BACKEND = Backend((Packed, Padded), NOTE, obstacle, packed, padded)
