"""Proves that a finished run says what its numbers hold against it, and nothing else.
Run: pytest tests/training/test_verdicts.py
"""

import math

import numpy as np
import pytest
import torch

from minibert.inference.scores import score, score_labels
from minibert.training.losses import Criterion, balanced_weights
from minibert.training.verdicts import least_loss, loss_that_stayed, never_predicted, not_above, nothing_learned

CLASSES = np.array([0, 0, 0, 1])
SETS = np.array([[1, 0], [1, 1], [1, 0], [1, 1]], np.float32)


def entropy(*shares: float) -> float:
    return -sum(share * math.log(share) for share in shares)


@pytest.mark.parametrize(
    ("criterion", "labels", "wanted"),
    [
        (Criterion("classification"), CLASSES, entropy(3 / 4, 1 / 4)),
        (Criterion("classification", 0.2), CLASSES, entropy(0.7, 0.3)),
        (Criterion("classification", 0.0, balanced_weights(CLASSES, 2, "classification")), CLASSES, math.log(2)),
        (Criterion("multi-label"), SETS, math.log(2) / 2),
        (Criterion("multi-label", 0.2), SETS, (entropy(0.9, 0.1) + math.log(2)) / 2),
        (Criterion("regression"), np.array([1, 3], np.float32), 1.0),
    ],
)
def test_the_least_loss_without_a_text_is_that_computed_by_hand(criterion, labels, wanted):
    assert least_loss(criterion, labels, 2) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("weights", [[1.0, 3.0], [0.2, 5.0]])
def test_no_answer_for_all_rows_has_less_than_the_least_loss(weights):
    criterion = Criterion("multi-label", 0.1, torch.tensor(weights))
    least = least_loss(criterion, SETS, 2)
    for logits in torch.cartesian_prod(*[torch.linspace(-3, 3, 9)] * 2):
        assert criterion(logits.expand(4, -1), torch.from_numpy(SETS))[0] / 4 >= least - 1e-6


def test_a_class_that_no_training_row_has_counts_among_smoothed_and_weighted_ones():
    criterion = Criterion("classification", 0.3, torch.tensor([0.5, 2.0, 3.0]))
    least = least_loss(criterion, CLASSES, 3)
    tried = torch.cartesian_prod(*[torch.linspace(-3, 3, 25)] * 3)
    found = min(criterion(logits.expand(4, -1), torch.from_numpy(CLASSES))[0].item() / 4 for logits in tried)
    assert least <= found <= least + 0.01


@pytest.mark.parametrize(("train", "dev", "said"), [(0.56, 0.56, 1), (0.5, 0.56, 0), (0.56, 0.5, 0), (0.8, 0.9, 1)])
def test_a_loss_stays_where_neither_rows_are_below_what_their_labels_reach(train, dev, said):
    epoch = {"train_loss": train, "dev_loss": dev}
    found = list(loss_that_stayed(epoch, Criterion("classification"), CLASSES, CLASSES, 2))
    assert len(found) == said
    assert all(f"{train:.4f} in the last epoch, 0.5623" in line for line in found)


def test_a_class_that_is_never_predicted_is_named_with_its_rows():
    logits = torch.tensor([[2.0, 1, 0], [2, 1, 0], [2, 1, 0], [0, 0, 1]])
    (line,) = never_predicted(score(logits, np.array([0, 1, 1, 2])), ["a", "b", "c"], "dev")
    assert line.startswith("never predicted on dev: b (2 rows); try")
    assert "--class-weights balanced" in line
    (line,) = never_predicted(score(logits, np.array([0, 1, 1, 2])), ["a", "b", "c"], "dev", balanced=True)
    assert "--class-weights" not in line
    assert list(never_predicted(score(logits, np.array([0, 0, 0, 2])), ["a", "b", "c"], "dev")) == []


def test_a_label_that_is_never_predicted_is_named_with_its_rows():
    (line,) = never_predicted(score_labels(torch.tensor([[1.0, -1]] * 4), SETS), ["x", "y"], "test")
    assert line.startswith("never predicted on test: y (2 rows); try")


def test_baselines_that_are_not_beaten_are_named_and_no_others():
    reached = {"majority class": 0.5, "bag of tokens": 0.75}
    (line,) = not_above({"accuracy": 0.5}, reached, "classification", "dev")
    assert line.startswith("accuracy 0.500 on dev is not above what needs no BERT: majority class 0.500, bag of tokens")
    (line,) = not_above({"accuracy": 0.75}, reached, "classification", "dev")
    assert "majority" not in line
    assert list(not_above({"accuracy": 0.76}, reached, "classification", "dev")) == []


def test_of_numbers_the_lower_loss_is_the_better():
    (line,) = not_above({"loss": 0.5}, {"mean": 0.5}, "regression", "dev")
    assert line.startswith("loss 0.5000 on dev is not below what needs no BERT: mean 0.500; try")
    assert list(not_above({"loss": 0.4}, {"mean": 0.5}, "regression", "dev")) == []


def test_pretraining_that_has_learned_nothing_says_so():
    stayed = [{"step": 1, "loss": 5.0}, {"step": 90, "loss": 4.96}]
    guessing = {"accuracy": 0.07, "unigram_accuracy": 0.07}
    found = list(nothing_learned(stayed, guessing))
    assert found[0].startswith("the loss did not move: 5.0000 in step 1, 4.9600 in step 90; try")
    assert found[1].startswith("accuracy 0.0700 of the hidden tokens is not above always answering the most frequent")
    assert list(nothing_learned(stayed, {**guessing, "accuracy": 0.6})) == [], "a model that goes on"
    assert list(nothing_learned([stayed[0], {"step": 90, "loss": 4.0}], {**guessing, "accuracy": 0.08})) == []
