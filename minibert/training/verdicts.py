"""What the numbers of a finished run say against it, a line each. Letters: L labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from minibert.inference.scores import AnyScores, told
from minibert.training.losses import RIGHT, Criterion
from minibert.training.start import some

MOVED = 0.99  # of a loss that needs no text, or of the first: what is above it has not moved


def least_loss(criterion: Criterion, labels: NDArray, count: int) -> float:
    """The mean loss of the best answer that is the same for all rows. labels: as `label_values` has them; count: L.

    Of loss(p) = -Σ s_j log p_j with Σ p_j = 1 the least is that of p = s / Σ s, where s_j is what the rows' targets,
    smoothed and weighted, give the class on the average; each of several labels is two classes, yes and no.
    """
    task, smoothing, weights = criterion
    truth, weight = torch.from_numpy(labels), 1.0 if weights is None else weights.cpu()
    if task == "regression":
        return truth.var(correction=0).item()
    if task == "classification":
        share = torch.bincount(truth, minlength=count) / len(truth)
        targets = (weight * (share * (1 - smoothing) + smoothing / count))[None]  # [1, L]
    else:
        share = truth.mean(dim=0) * (1 - smoothing) + smoothing / 2
        targets = torch.stack([weight * share, 1 - share], dim=1)  # [L, 2]
    best = targets / targets.sum(dim=1, keepdim=True)
    return -torch.xlogy(targets, best).sum(dim=1).mean().item()


def loss_that_stayed(epoch: dict, criterion: Criterion, train: NDArray, dev: NDArray, count: int) -> Iterator[str]:
    """epoch: the last one's line of metrics.jsonl. train, dev: the labels of both. count: L."""
    loss, least = epoch["train_loss"], least_loss(criterion, train, count)
    if loss >= MOVED * least and epoch["dev_loss"] >= MOVED * least_loss(Criterion(criterion.task), dev, count):
        yield (
            f"the loss is not below what the labels' shares alone reach: {loss:.4f} in the last epoch, {least:.4f};"
            " try another --lr, more --epochs, or look whether texts and labels belong together"
        )


def nothing_learned(steps: Sequence[dict], result: dict[str, float]) -> Iterator[str]:
    """Of pretraining. steps: its logged steps. result: the last scores on held-out documents; empty without any. The
    loss of a model that goes on may rightly stay where it knows more than what is frequent."""
    remedy = "try another --lr, or more --steps"
    knows = bool(result) and result["accuracy"] > result["unigram_accuracy"]
    if not knows and len(steps) > 1 and steps[-1]["loss"] >= MOVED * steps[0]["loss"]:
        first, last = ("{loss:.4f} in step {step:,}".format(**row) for row in (steps[0], steps[-1]))
        yield f"the loss did not move: {first}, {last}; {remedy}"
    if result and result["accuracy"] <= result["unigram_accuracy"]:
        yield (
            f"accuracy {result['accuracy']:.4f} of the hidden tokens is not above always answering the most frequent"
            f" one, {result['unigram_accuracy']:.4f}; {remedy}"
        )


def never_predicted(scores: AnyScores, labels: Sequence[str], split: str, balanced: bool = False) -> Iterator[str]:
    """Classes, or labels, that rows have and no answer has. balanced: whether rare ones counted more already."""
    counts = getattr(scores, "counts", [])
    if confusion := getattr(scores, "confusion", []):  # none where there are too many
        matrix = np.array(confusion)
        counts = np.stack([matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)], axis=1)
    lost = [
        f"{label} ({true} rows)"
        for label, (_, true, predicted) in zip(labels, counts, strict=False)
        if true and not predicted
    ]
    if lost:
        more = "" if balanced else "--class-weights balanced, "
        remedy = f"try more --epochs, {more}or collect more such rows"
        yield f"never predicted on {split}: {some(lost)}; {remedy}"


def not_above(result: dict[str, float | None], baselines: dict[str, float], task: str, split: str) -> Iterator[str]:
    """Baselines that are as good as the model."""
    score = RIGHT.get(task, "loss")
    ours, side = result[score], "below" if score == "loss" else "above"
    equal = [
        f"{name} {value:.3f}"
        for name, value in baselines.items()
        if (value <= ours if side == "below" else value >= ours)
    ]
    if equal:
        yield (
            f"{told({score: ours})} on {split} is not {side} what needs no BERT: {', '.join(equal)}; try more --epochs,"
            " another --lr or --model, or more rows"
        )
