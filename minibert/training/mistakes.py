"""The worst mistakes of a model, for its report: the rows to look at first.

Letters: N rows, L labels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from minibert.core.data import Examples
from minibert.inference.answers import present
from minibert.inference.scores import SHOWN

MOST = 20  # that are shown


def worst_mistakes(logits: Tensor, rows: Examples, truth: NDArray, labels: list[str], most: int = MOST) -> list[dict]:
    """The wrong predictions of which the model was surest. logits: [N, L]. truth: [N]."""
    best = logits.softmax(dim=1).max(dim=1)
    sure, guess = best.values.tolist(), best.indices.tolist()
    wrong = [row for row, label in enumerate(truth) if guess[row] != label]
    wrong.sort(key=lambda row: -sure[row])
    found = []
    for row in wrong[:most]:
        shown = mistake(rows, row, labels[truth[row]], labels[guess[row]])
        found.append({**shown, "probability": sure[row]})
    return found


def worst_sets(
    logits: Tensor, rows: Examples, truth: NDArray, labels: list[str], most: int = MOST, threshold: float = 0.5
) -> list[dict]:
    """The rows of which a label is wrong, those of the largest loss first. logits, truth: [N, L]."""
    wanted, predicted = torch.from_numpy(truth), present(logits, threshold)
    losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")  # [N, L]
    loss = losses.mean(dim=1).tolist()
    wrong = (predicted != wanted.bool()).any(dim=1).tolist()
    order = sorted((row for row in range(len(loss)) if wrong[row]), key=lambda row: -loss[row])
    found = []
    for row in order[:most]:
        names = (listed(labels, chosen[row].tolist()) for chosen in (wanted, predicted))
        found.append(mistake(rows, row, *names))
    return found


def worst_numbers(logits: Tensor, rows: Examples, truth: NDArray, labels: list[str], most: int = MOST) -> list[dict]:
    """The rows whose number is furthest from the label. logits: [N, 1]. truth: [N]."""
    answers, wanted = logits[:, 0].tolist(), truth.tolist()
    order = sorted(range(len(wanted)), key=lambda row: -abs(answers[row] - wanted[row]))
    return [mistake(rows, row, f"{wanted[row]:g}", f"{answers[row]:.4g}") for row in order[:most]]


def listed(labels: list[str], chosen: list[float]) -> str:
    """The names of the labels that a row has, of many the first."""
    names = [name for name, there in zip(labels, chosen, strict=True) if there]
    return ", ".join(names[:SHOWN]) + f", … ({len(names)})" * (len(names) > SHOWN) or "none"


def mistake(rows: Examples, row: int, label: str, predicted: str) -> dict:
    """An entry of the report's list."""
    pair = None if rows.pairs is None else rows.pairs[row]
    return {"text": rows.texts[row], "pair": pair, "label": label, "predicted": predicted}


WORST: dict[str, Callable[..., list[dict]]] = {
    "classification": worst_mistakes,
    "multi-label": worst_sets,
    "regression": worst_numbers,
}
