"""How a batch lies in memory: made once per batch, shared by all layers.

`Padded` is the rectangle [B, S] with a mask: 1 where a token is real, 0 where it is padding.

    ids   101 4635 3189  102    0    0        keys   1 1 1 1 0 0
          101 2414 1184 3299 1045  102               1 1 1 1 1 1
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Padded:
    """A batch of B rows of S positions.

    keys: bool [B, S], True where a token is real and may be attended to; None when every position is real, which
        lets a backend skip masking altogether.
    """

    keys: Tensor | None

    @classmethod
    def from_mask(cls, attention_mask: Tensor | None) -> Padded:
        """attention_mask: [B, S], 1 = real, 0 = padding (int, bool or float), or None for all real.

        A mask on the CPU that hides nothing becomes None; one on a GPU is left alone, as looking would wait for it.
        """
        if attention_mask is None:
            return cls(None)
        keys = attention_mask.to(torch.bool)
        if keys.device.type == "cpu" and bool(keys.all()):
            return cls(None)
        return cls(keys)
