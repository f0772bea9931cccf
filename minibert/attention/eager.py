"""Attention as the formula says it: the specification that every other backend has to equal.

B batch, H heads, S sequence, D head size, T tokens of a packed batch. Queries are indexed by s, keys by t.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minibert.layout import Packed, Padded


def scores(q: Tensor, k: Tensor, scale: float | None = None) -> Tensor:
    """How well each query fits each key: q kᵀ / √D, before masking. [B, H, S, D] twice -> [B, H, S, S].

    Without the 1/√D the scores grow with D, the softmax saturates and its gradient vanishes (Vaswani et al. 2017,
    section 3.2.1).
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return q @ k.transpose(-2, -1) * scale  # [B, H, S, S]


def probabilities(scores: Tensor, layout: Padded) -> Tensor:
    """Softmax over the real keys. [B, H, S, S] -> [B, H, S, S], rows sum to 1, padding keys get exactly 0.

    The most negative number stands for -∞: exp underflows to exactly 0 all the same, and a row in which nothing is
    real stays free of NaN, to be zeroed by the second masking.
    """
    if layout.keys is None:
        return torch.softmax(scores, dim=-1)
    hidden = ~layout.keys[:, None, None, :]  # [B, 1, 1, S]: the same keys are hidden for all heads and all queries
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1).masked_fill(hidden, 0.0)


def attention(
    q: Tensor, k: Tensor, v: Tensor, layout: Padded, dropout_p: float = 0.0, scale: float | None = None
) -> Tensor:
    """scores -> probabilities -> dropout -> weighted mean of the values. See `attend` for the arguments."""
    probs = probabilities(scores(q, k, scale), layout)
    return F.dropout(probs, dropout_p) @ v  # [B, H, S, D]


def packed_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: Packed, dropout_p: float = 0.0, scale: float | None = None
) -> Tensor:
    """The same, a row at a time: no token ever meets one of another row. [T, H, D] three times -> [T, H, D]."""
    rows = zip(*(tensor.split(layout.lengths) for tensor in (q, k, v)), strict=True)
    answers = []
    for row in rows:
        q_row, k_row, v_row = (tensor.transpose(0, 1)[None] for tensor in row)  # [n, H, D] -> [1, H, n, D]
        answers.append(attention(q_row, k_row, v_row, Padded(None), dropout_p, scale)[0].transpose(0, 1))
    return torch.cat(answers)  # [T, H, D]


def first_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: Packed, dropout_p: float = 0.0, scale: float | None = None
) -> Tensor:
    """The first token of each row alone asks. q [B, H, D]; k, v [T, H, D] -> [B, H, D]."""
    answers = []
    for query, *row in zip(q, *(tensor.split(layout.lengths) for tensor in (k, v)), strict=True):
        k_row, v_row = (tensor.transpose(0, 1)[None] for tensor in row)  # [n, H, D] -> [1, H, n, D]
        answers.append(attention(query[None, :, None], k_row, v_row, Padded(None), dropout_p, scale)[0, :, 0])
    return torch.stack(answers)
