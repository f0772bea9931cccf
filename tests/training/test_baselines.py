"""Proves that the baselines equal examples worked by hand. Run: pytest tests/training/test_baselines.py"""

import numpy as np
import pytest

from minibert.training.baselines import bag_of_tokens_accuracy, majority_accuracy


def bags(*rows: list[int]) -> list[np.ndarray]:
    return [np.array(row, np.int64) for row in rows]


def test_majority_answers_the_training_datas_most_frequent_label():
    train, test = np.array([1, 1, 0, 2, 1]), np.array([1, 0, 2, 2])
    assert majority_accuracy(train, test) == pytest.approx(1 / 4)


def test_majority_looks_at_training_labels_not_at_test_labels():
    assert majority_accuracy(np.array([0, 0, 1]), np.array([1, 1, 1])) == 0


TRAIN, LABELS = bags([0, 0, 0], [0, 1], [1, 2], [2]), np.array([0, 0, 1, 1])


@pytest.mark.parametrize(("ids", "answer"), [([0], 0), ([2], 1), ([1, 2], 1), ([0, 1, 1], 0), ([0, 2, 2, 2], 0)])
def test_naive_bayes_equals_an_example_by_hand(ids, answer):
    """Token counts by text + 1: class 0 (3, 2, 1) of 6, class 1 (1, 2, 3) of 6; the priors are equal.

    [0] 3 against 1; [2] 1 against 3; [1 2] 2·1 against 2·3; [0 1] 3·2 against 1·2. [0 2 2 2] counts 2 once: 3·1 against
    1·3, a tie, which the first class wins; counted three times class 1 would.
    """
    assert bag_of_tokens_accuracy(TRAIN, LABELS, bags(ids), np.array([answer]), vocab_size=3) == 1


def test_a_token_counts_once_in_a_training_text():
    """By text + 1: class 0 has (2, 2) of 4, class 1 (3, 1) of 4, so [0] is class 1. With all nine 0s counted class 0
    would have (10, 2) of 12, and win."""
    train, labels = bags([0] * 9, [1], [0], [0]), np.array([0, 0, 1, 1])
    assert bag_of_tokens_accuracy(train, labels, bags([0]), np.array([1]), vocab_size=2) == 1


def test_the_prior_decides_where_the_tokens_say_nothing():
    train, labels = bags([0], [0], [0], [1]), np.array([1, 1, 1, 0])
    assert bag_of_tokens_accuracy(train, labels, bags([]), np.array([1]), vocab_size=2) == 1


def test_a_token_never_seen_does_not_exclude_a_class():
    assert bag_of_tokens_accuracy(TRAIN, LABELS, bags([0, 3], [2, 3]), np.array([0, 1]), vocab_size=4) == 1


def test_accuracy_is_the_share_of_right_answers():
    test = bags([0], [0], [2], [2])
    assert bag_of_tokens_accuracy(TRAIN, LABELS, test, np.array([0, 1, 1, 1]), vocab_size=3) == pytest.approx(3 / 4)
