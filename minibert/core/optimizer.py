"""The rules of BERT's optimizer, AdamW: the learning rate of each step, and which weights decay.

Both are Google's (optimization.py), and Devlin et al. 2018, appendix A.2.
"""

from __future__ import annotations

import math

from torch import nn


def learning_rate(step: int, total: int, peak: float, warmup: float, schedule: str = "linear") -> float:
    """The rate of step `step`, from 0, of `total`.

    It rises linearly from 0 to `peak` over the share `warmup` of all steps, then falls linearly to 0; with another
    schedule than "linear" along half a cosine.
    """
    rising = int(warmup * total)
    if step < rising:
        return peak * step / rising
    left = (total - step) / max(1, total - rising)
    return peak * (left if schedule == "linear" else 0.5 - 0.5 * math.cos(math.pi * left))


def optimizer_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay for matrices (the weights of Linear and Embedding), none for vectors (biases, LayerNorms)."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
