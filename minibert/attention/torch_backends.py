"""PyTorch's own fused attention behind our signature."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minibert.layout import Padded


def sdpa(q: Tensor, k: Tensor, v: Tensor, layout: Padded, dropout_p: float = 0.0, scale: float | None = None) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`: never forms the [B, H, S, S] probabilities where it can.

    With no padding no mask is passed, because any mask closes the flash kernels.
    """
    if layout.keys is None:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, scale=scale)
    mask = layout.keys[:, None, None, :]  # [B, 1, 1, S]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p, scale=scale)
