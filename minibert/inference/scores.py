"""How good a model's answers are: where one class is right, several labels at once, or a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from minibert.inference.answers import present

WORDS = {  # how a score is called, and how many digits it has
    "accuracy": ("accuracy", 3),
    "exact_match": ("exact match", 3),
    "pearson": ("Pearson", 3),
    "spearman": ("Spearman", 3),
    "loss": ("loss", 4),
    "micro_f1": ("micro F1", 3),
    "macro_f1": ("macro F1", 3),
    "mean_absolute_error": ("mean absolute error", 4),
}
MATRIX = 1000  # classes of which there is a confusion matrix: its square is held
SHOWN = 30  # classes or labels in a table
RATIOS = ("precision", "recall", "F1", "true", "predicted")


class Scores(NamedTuple):
    """Of a classification: accuracy, mean cross-entropy (nats), macro-averaged F1, and the confusion matrix, which is
    empty where there are more than MATRIX classes."""

    accuracy: float
    loss: float
    macro_f1: float
    confusion: list[list[int]]  # [L, L], rows true, columns predicted
    counts: Sequence[Sequence[int]] = ()  # [L, 3], see LabelScores


class LabelScores(NamedTuple):
    """Of several labels at once: the share of rows whose labels are all right, the mean binary cross-entropy (nats), F1
    of all answers together, and the mean of the labels' F1."""

    exact_match: float
    loss: float
    micro_f1: float
    macro_f1: float
    counts: list[list[int]]  # [L, 3]: of a label how often it was rightly predicted, is true, was predicted


class RegressionScores(NamedTuple):
    """Of numbers: Pearson's and Spearman's correlation, NaN where all answers or all labels are equal; mean squared
    error."""

    pearson: float
    spearman: float
    loss: float


AnyScores = Scores | LabelScores | RegressionScores


def score(logits: Tensor, labels: NDArray[np.int64]) -> Scores:
    """logits [N, L], labels [N]. A class that neither occurs nor is predicted counts as F1 0, as in scikit-learn."""
    truth, predicted = torch.from_numpy(labels), logits.argmax(dim=1)
    L = logits.shape[1]
    classes = truth[truth == predicted], truth, predicted
    counts = torch.stack([torch.bincount(some, minlength=L) for some in classes], dim=1)  # [L, 3]
    hits, true, positive = counts.unbind(dim=1)
    f1 = 2 * hits.double() / (positive + true).clamp(min=1)
    confusion = []
    if L <= MATRIX:
        confusion = torch.bincount(truth * L + predicted, minlength=L * L).view(L, L).tolist()
    accuracy = (truth == predicted).double().mean().item()
    return Scores(accuracy, F.cross_entropy(logits, truth).item(), f1.mean().item(), confusion, counts.tolist())


def score_labels(logits: Tensor, labels: NDArray[np.float32], threshold: float = 0.5) -> LabelScores:
    """logits and labels (0 or 1) [N, L]. A label is predicted where it is `present`. One that neither occurs nor is
    predicted counts as F1 0, as in scikit-learn."""
    truth, predicted = torch.from_numpy(labels), present(logits, threshold)
    right = predicted == truth.bool()
    answers = (predicted & right, truth.bool(), predicted)
    counts = torch.stack([answer.sum(dim=0) for answer in answers], dim=1)  # [L, 3]
    hits, true, positive = counts.double().unbind(dim=1)
    sums = true + positive
    loss = F.binary_cross_entropy_with_logits(logits, truth).item()
    return LabelScores(
        exact_match=right.all(dim=1).double().mean().item(),
        loss=loss,
        micro_f1=(2 * hits.sum() / sums.sum().clamp(min=1)).item(),
        macro_f1=(2 * hits / sums.clamp(min=1)).mean().item(),
        counts=counts.tolist(),
    )


def score_numbers(answers: Tensor, labels: NDArray[np.floating]) -> RegressionScores:
    """answers [N, 1], labels [N]. Raises ValueError where the model gives several numbers for a text."""
    if (L := answers.shape[1]) != 1:
        raise ValueError(f"a regression with {L} labels gives {L} numbers for a text; only one can be compared here")
    found, truth = answers[:, 0].double().numpy(), labels.astype(np.float64)
    loss = float(((found - truth) ** 2).mean())
    return RegressionScores(pearson(found, truth), pearson(ranks(found), ranks(truth)), loss)


def pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The correlation of two [N], between -1 and 1; NaN where one of them has one value only."""
    if (x == x[0]).all() or (y == y[0]).all():
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x / np.linalg.norm(x)) @ (y / np.linalg.norm(y)), -1, 1))


def ranks(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The places of [N] numbers in their order, from 1; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


class Ratios(NamedTuple):
    """Of a class or label; None where a denominator is zero."""

    precision: float | None
    recall: float | None
    f1: float | None
    true: int
    predicted: int


def ratios(hits: int, true: int, predicted: int) -> Ratios:
    """Of how often it was rightly predicted, is true, was predicted."""
    shares = ((hits, predicted), (hits, true), (2 * hits, true + predicted))
    return Ratios(*(a / b if b else None for a, b in shares), true, predicted)


def largest(counts: Sequence[Sequence[int]]) -> list[int]:
    """Which classes a table shows: at most SHOWN, those with the most rows, in their order. counts: [L, 3]."""
    return sorted(sorted(range(len(counts)), key=lambda k: -counts[k][1])[:SHOWN])


SCORING: dict[str, Callable[..., AnyScores]] = {  # by the task, see answers.task_of: (answers, labels) -> its scores
    "classification": score,
    "multi-label": score_labels,
    "regression": score_numbers,
}


def numbers_of(scores: AnyScores) -> dict[str, float | None]:
    """The single numbers, by name; None in the place of NaN, which JSON does not have."""
    values = {name: value for name, value in scores._asdict().items() if name in WORDS}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def told(scores: dict[str, float | None]) -> str:
    """Scores in a line: "accuracy 0.897  loss 0.3646"."""
    parts = []
    for name, value in scores.items():
        word, digits = WORDS[name]
        parts.append(f"{word} {'undefined' if value is None else f'{value:.{digits}f}'}")
    return "  ".join(parts)
