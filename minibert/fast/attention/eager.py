"""The formula for packed rows, one at a time: no token ever meets one of another row.

B rows, H heads, D head size, T tokens of a packed batch, n tokens of a row. Of a rectangle it is core.attention.eager.
"""

from __future__ import annotations

import torch
from torch import Tensor

from minibert.core.attention import Padded, eager
from minibert.fast.attention.backend import Backend, no_obstacle
from minibert.fast.layout import Packed


def packed_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: Packed, dropout_p: float = 0.0, scale: float | None = None
) -> Tensor:
    """[T, H, D] three times -> [T, H, D]; where the first tokens alone ask, q and the answer are [B, H, D]."""
    asking = layout.lengths if len(q) == len(k) else (1,) * len(q)
    answers = []
    for row in zip(q.split(asking), k.split(layout.lengths), v.split(layout.lengths), strict=True):
        q_row, k_row, v_row = (tensor.transpose(0, 1)[None] for tensor in row)  # [n, H, D] -> [1, H, n, D]
        answers.append(eager(q_row, k_row, v_row, Padded(None), dropout_p, scale)[0].transpose(0, 1))
    return torch.cat(answers)


NOTE = "The formula, any device and type; packed rows one at a time."
BACKEND = Backend((Padded, Packed), NOTE, no_obstacle, packed_attention, eager)
