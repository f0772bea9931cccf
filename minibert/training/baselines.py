"""What a classifier without BERT reaches, so that a reader sees what BERT adds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from minibert.training.splits import Split


def reached(task: str, train: Split, split: Split, vocab_size: int) -> dict[str, float]:
    """What simpler answers, learned from the training rows, reach on a split: their accuracy (several labels at once:
    exact match; a regression: mean squared error)."""
    known, asked = train.labels, split.labels
    if task == "multi-label":
        return {"most frequent labels": most_frequent_match(known, asked)}
    if task == "regression":
        return {"mean of the training rows": float(np.square(asked - known.mean()).mean())}
    bayes = bag_of_tokens_accuracy(train.encoding.input_ids, known, split.encoding.input_ids, asked, vocab_size)
    return {"majority class": majority_accuracy(known, asked), "bag of tokens (naive Bayes)": bayes}


def majority_accuracy(train_labels: NDArray, test_labels: NDArray) -> float:
    """Always answering the training data's most frequent label."""
    return float((test_labels == np.bincount(train_labels).argmax()).mean())


def most_frequent_match(train_labels: NDArray, test_labels: NDArray) -> float:
    """Always answering the training data's most frequent set of labels, [L] of 0 and 1: the share of exact matches."""
    sets, counts = np.unique(train_labels, axis=0, return_counts=True)
    return float((test_labels == sets[counts.argmax()]).all(axis=1).mean())


def bag_of_tokens_accuracy(
    train: Sequence[NDArray], train_labels: NDArray, test: Sequence[NDArray], test_labels: NDArray, vocab_size: int
) -> float:
    """Naive Bayes on which token ids occur in a text, their order forgotten.

    Bernoulli counts with add-one smoothing and class priors, scored over the tokens present: the usual strong
    baseline for short texts (Wang & Manning 2012, "Baselines and Bigrams").

    Args:
        train, test: one array of token ids per text.
        train_labels, test_labels: [N], 0 … L-1.
    """
    classes = int(train_labels.max()) + 1
    counts = np.ones((classes, vocab_size))
    for ids, label in zip(train, train_labels, strict=True):
        counts[label, np.unique(ids)] += 1
    weights = np.log(counts / counts.sum(axis=1, keepdims=True))  # [L, V]
    priors = np.log(np.bincount(train_labels, minlength=classes) + 1)
    predicted = [int((priors + weights[:, np.unique(ids)].sum(axis=1)).argmax()) for ids in test]
    return float((np.array(predicted) == test_labels).mean())
