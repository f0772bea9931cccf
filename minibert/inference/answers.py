"""What a classification head's numbers mean: classes, several labels at once, or a score, as its config says."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minibert.core.config import BertConfig

TASKS = {  # transformers' word for it in config.json -> ours
    "single_label_classification": "classification",
    "multi_label_classification": "multi-label",
    "regression": "regression",
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {  # logits [N, L] -> [N, L]
    "softmax": lambda logits: logits.softmax(dim=1),
    "sigmoid": torch.sigmoid,
    "none": lambda logits: logits,
}
CROSS_ENCODERS = {"Identity": "none", "Sigmoid": "sigmoid"}  # PyTorch's class, named by sentence-transformers -> ours


def task_of(config: BertConfig) -> str:
    """ "classification", "multi-label" or "regression": what a model learns. Where no problem_type says it, one label
    is a regression's, as for transformers."""
    if config.problem_type is None:
        return "regression" if config.num_labels == 1 else "classification"
    return TASKS[config.problem_type]


def activation_of(config: BertConfig) -> str:
    """ "softmax", "sigmoid" or "none": what makes answers of the logits.

    As in transformers' text-classification pipeline, except that a CrossEncoder of sentence-transformers says it
    itself.

    Raises:
        ValueError: it says something else.
    """
    own = cross_encoders_own(config)
    if own is not None:
        kind = own.rpartition(".")[2] if isinstance(own, str) else ""
        if kind not in CROSS_ENCODERS:
            known = " or ".join(
                f"torch.nn.modules.{'linear' if n == 'Identity' else 'activation'}.{n}" for n in CROSS_ENCODERS
            )
            raise ValueError(
                f"config: the activation of this CrossEncoder is {own!r:.60}; write {known} into config.json"
            )
        return CROSS_ENCODERS[kind]
    if config.problem_type == "regression":
        return "none"
    return "sigmoid" if config.problem_type == "multi_label_classification" or config.num_labels == 1 else "softmax"


def cross_encoders_own(config: BertConfig) -> object:
    """What sentence-transformers wrote, of release 4 or later or of an earlier one; None: nothing."""
    newer = config.others.get("sentence_transformers")
    if isinstance(newer, dict) and "activation_fn" in newer:
        return newer["activation_fn"]
    return config.others.get("sbert_ce_default_activation_function")
