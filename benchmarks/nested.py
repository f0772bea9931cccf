"""A backend of one's own, and how it is added: PyTorch's nested (jagged) tensors. They are readable rather than fast.

    python -m benchmarks.attention --backends nested,sdpa,triton    # races it; what it takes to be added is below

T tokens of a packed batch, B rows, n tokens of a row, H heads, D head size.
"""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minibert.fast.attention import add_backend
from minibert.fast.attention.backend import Backend, Case
from minibert.fast.layout import Packed, starts, upload


def nested(
    q: Tensor, k: Tensor, v: Tensor, layout: Packed, dropout_p: float = 0.0, scale: float | None = None
) -> Tensor:
    """The rows as one jagged tensor [B, n, H, D] whose n differs from row to row, for SDPA. [T, H, D] -> [T, H, D].

    Rows without tokens are left out: the fused kernels refuse them. The heads have to be contiguous (a copy of a view
    of fused q, k, v), or the kernel for the CPU refuses them.
    """
    offsets = layout.keep("offsets", partial(row_offsets, layout))
    shortest = min(length for length in layout.lengths if length)
    q, k, v = (
        torch.nested.nested_tensor_from_jagged(
            tensor.contiguous(), offsets, min_seqlen=shortest, max_seqlen=layout.max_length
        ).transpose(1, 2)
        for tensor in (q, k, v)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors is in prototype stage")
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, scale=scale).transpose(1, 2).values()


def row_offsets(layout: Packed) -> Tensor:
    """Where each row that has tokens begins, and T: int64, one more than there are such rows."""
    return upload(starts(np.array([length for length in layout.lengths if length])), layout.device)


def add() -> None:
    """Makes it known to `attend`, to every model and to the race."""
    add_backend("nested", Backend((Packed,), "PyTorch's jagged tensors.", Case.needs_int32, nested))
