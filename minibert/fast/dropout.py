"""Dropout on the CPU at a sixth of the price: there the random numbers cost more than anything done with them.

PyTorch draws a number for every element. Here 16 bits decide, so that one draw of 64 bits is enough for four.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STEPS = 2**16


def keep_mask(shape: Sequence[int], p: float) -> tuple[Tensor, float]:
    """Which elements stay, uint8 of `shape`, 1 = stays; and the probability of that, 1 - p to the nearest 65536th.

    They come from PyTorch's generator, so its seed decides them.
    """
    size = torch.Size(shape).numel()
    dropped = min(round(p * STEPS), STEPS - 1)
    bits = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:size]
    return (bits >= dropped - STEPS // 2).view(torch.uint8).view(shape), 1 - dropped / STEPS


def dropout(x: Tensor, p: float) -> Tensor:
    """x, of any shape, with each element 0 at probability p, the others larger by 1 / (1 - p)."""
    stays, share = keep_mask(x.shape, p)
    return (x * stays).mul_(1 / share)
