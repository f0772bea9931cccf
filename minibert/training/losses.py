"""What fine-tuning minimises, by its task: cross-entropy, binary cross-entropy of each label, or squared error.

All as in transformers, by whose word for the task (`problem_type`) it is saved. Letters: B rows, L labels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from minibert.inference.answers import present

RIGHT = {"classification": "accuracy", "multi-label": "exact_match"}  # what a share of right rows is called


class Criterion(NamedTuple):
    """The loss of some rows.

    smoothing: of a label's 1, how much is given to all labels alike (Szegedy et al. 2016, section 7).
    weights: [L] of the classes; for several labels at once, how many times a label that is there counts.
    """

    task: str
    smoothing: float = 0.0
    weights: Tensor | None = None

    def __call__(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over the rows: of their losses, and of those that are right (of numbers none is).

        logits: [B, L]. labels: int64 [B], -100 where a row is none; float32 [B, L] or [B], NaN where a row is none.
        """
        logits = logits.float()
        if self.task == "classification":
            how = {"weight": self.weights, "label_smoothing": self.smoothing}
            loss = F.cross_entropy(logits, labels, reduction="sum", **how)
            return loss, (logits.argmax(dim=1) == labels).sum()
        real, labels = ~labels.isnan(), labels.nan_to_num()
        if self.task == "regression":
            return ((logits[:, 0] - labels).square() * real).sum(), real.new_zeros((), dtype=torch.int64)
        smoothed = labels * (1 - self.smoothing) + self.smoothing / 2
        how = {"pos_weight": self.weights, "reduction": "none"}
        losses = F.binary_cross_entropy_with_logits(logits, smoothed, **how)  # [B, L]
        right = (present(logits) == labels.bool()) & real
        return (losses * real).sum() / logits.shape[1], right.all(dim=1).sum()


def balanced_weights(labels: NDArray, count: int, task: str) -> Tensor:
    """[L], so that what is rare counts as much as what is frequent; `count` is L.

    Classes: N / (L · rows of the class), scikit-learn's "balanced", whose mean over the rows is 1. Several labels at
    once: rows without the label / rows with it.
    """
    if task == "classification":
        rows = np.bincount(labels, minlength=count)
        weights = len(labels) / (count * np.maximum(1, rows))
    else:
        rows = labels.sum(axis=0)
        weights = np.maximum(1, len(labels) - rows) / np.maximum(1, rows)
    return torch.from_numpy(weights.astype(np.float32))
