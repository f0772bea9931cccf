"""Proves that the scores are those that people compare: by hand, and as scikit-learn and scipy have them.

Run: pytest tests/inference/test_scores.py
"""

import math
import warnings

import numpy as np
import pytest
import torch

from minibert.inference.scores import numbers_of, score, score_labels, score_numbers, told

# ---- by hand ----


def test_scores_equal_an_example_by_hand():
    """Five rows, three classes; true 0 0 1 1 2, predicted 0 1 1 1 0.

    accuracy 3/5. F1 = 2·hits / (true + predicted): class 0 2·1/(2+2) = 1/2, class 1 2·2/(2+3) = 4/5, class 2
    0/(1+0) = 0; their mean 13/30. Logits are (log 8, 0, 0) in some order, so softmax gives 0.8 and 0.1: the loss is
    -(3·log 0.8 + 2·log 0.1) / 5.
    """
    predicted = torch.tensor([0, 1, 1, 1, 0])
    logits = torch.nn.functional.one_hot(predicted, 3) * math.log(8)
    scores = score(logits, np.array([0, 0, 1, 1, 2]))
    assert scores.accuracy == pytest.approx(3 / 5)
    assert scores.macro_f1 == pytest.approx(13 / 30)
    assert scores.loss == pytest.approx(-(3 * math.log(0.8) + 2 * math.log(0.1)) / 5, abs=1e-6)
    assert scores.confusion == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_a_class_that_never_occurs_counts_as_zero_in_macro_f1():
    scores = score(torch.tensor([[9.0, 0, 0], [0, 9.0, 0]]), np.array([0, 1]))
    assert scores.accuracy == 1
    assert scores.macro_f1 == pytest.approx(2 / 3)
    assert scores.confusion == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_thousands_of_classes_are_scored_without_the_square_of_their_number():
    logits = torch.eye(1001)[[3, 5, 1000]]
    scores = score(logits, np.array([3, 5, 0]))
    assert (scores.accuracy, scores.confusion) == (pytest.approx(2 / 3), [])
    assert scores.macro_f1 == pytest.approx(2 / 1001)
    assert len(score(logits[:, :1000], np.array([3, 5, 0])).confusion) == 1000


def test_scores_of_several_labels_equal_an_example_by_hand():
    """Three rows, two labels; true 10 01 11, predicted 10 11 10.

    All right in row 1 alone. Label 0: 2 hits, 2 true, 3 predicted, F1 4/5. Label 1: 1 hit, 2 true, 1 predicted, F1 2/3.
    Together 6/8. Logits are ±log 4, so a right answer has the probability 0.8: the loss is -(4·log 0.8 + 2·log 0.2)/6.
    """
    predicted = torch.tensor([[1, 0], [1, 1], [1, 0]])
    scores = score_labels((2 * predicted - 1) * math.log(4), np.float32([[1, 0], [0, 1], [1, 1]]))
    assert scores.exact_match == pytest.approx(1 / 3)
    assert scores.micro_f1 == pytest.approx(6 / 8)
    assert scores.macro_f1 == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores.loss == pytest.approx(-(4 * math.log(0.8) + 2 * math.log(0.2)) / 6, abs=1e-6)
    assert scores.counts == [[2, 2, 3], [1, 2, 1]]


def test_scores_of_numbers_equal_an_example_by_hand():
    """Answers 1 2 4, labels 1 3 2. Deviations (-4, -1, 5)/3 and -1 1 0: Pearson 1 / (√42/3 · √2) = 3/√84. Ranks 1 2 3
    and 1 3 2: Spearman 1/2. Squared errors 0, 1, 4."""
    scores = score_numbers(torch.tensor([[1.0], [2.0], [4.0]]), np.float32([1, 3, 2]))
    assert scores.pearson == pytest.approx(3 / math.sqrt(84))
    assert scores.spearman == pytest.approx(1 / 2)
    assert scores.loss == pytest.approx(5 / 3)


def test_equal_numbers_share_their_rank():
    """Answers 1 1 2 4 have the ranks 1.5 1.5 3 4, labels 1 2 3 4: Spearman 4.5 / √(4.5 · 5)."""
    scores = score_numbers(torch.tensor([[1.0], [1.0], [2.0], [4.0]]), np.float32([1, 2, 3, 4]))
    assert scores.spearman == pytest.approx(math.sqrt(4.5 / 5))


def test_a_regression_of_several_numbers_is_refused():
    with pytest.raises(ValueError, match="a regression with 2 labels gives 2 numbers for a text; only one can be"):
        score_numbers(torch.zeros(3, 2), np.float32([1, 3, 2]))


@pytest.mark.parametrize(("answers", "labels"), [([2.0, 2.0], [1, 3]), ([1.0, 3.0], [2, 2])])
def test_a_correlation_with_numbers_that_are_all_equal_is_undefined_and_null_in_json(answers, labels):
    scores = score_numbers(torch.tensor(answers)[:, None], np.float32(labels))
    assert numbers_of(scores) == {"pearson": None, "spearman": None, "loss": 1.0}
    assert told(numbers_of(scores)) == "Pearson undefined  Spearman undefined  loss 1.0000"


# ---- 1,000 random cases ----

metrics, stats = (
    pytest.importorskip(name, reason="install the extra: pip install -e '.[test]'")
    for name in ("sklearn.metrics", "scipy.stats")
)
random_cases = pytest.mark.parametrize("cases", [50, pytest.param(1000, marks=pytest.mark.slow)])


def random_sizes(seed: int) -> tuple[np.random.Generator, int, int]:
    """A generator, 1 to 40 rows, 2 to 6 labels."""
    rng = np.random.default_rng(seed)
    return rng, int(rng.integers(1, 41)), int(rng.integers(2, 7))


@random_cases
def test_scores_of_classes_equal_scikit_learns(cases):
    for seed in range(cases):
        rng, N, L = random_sizes(seed)
        logits, truth = rng.normal(size=(N, L)).astype(np.float32) * 3, rng.integers(0, L, N)
        found, names = score(torch.from_numpy(logits), truth), list(range(L))
        predicted = logits.argmax(axis=1)
        softmax = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
        assert found.confusion == metrics.confusion_matrix(truth, predicted, labels=names).tolist()
        assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
        f1 = metrics.f1_score(truth, predicted, labels=names, average="macro", zero_division=0)
        assert found.macro_f1 == pytest.approx(f1)
        assert found.loss == pytest.approx(
            metrics.log_loss(truth, softmax, labels=names), rel=1e-5, abs=1e-6
        )  # float32


@random_cases
def test_scores_of_several_labels_equal_scikit_learns(cases):
    for seed in range(cases):
        rng, N, L = random_sizes(seed)
        logits, share = rng.normal(size=(N, L)).astype(np.float32) * 2, rng.random()
        truth = (rng.random((N, L)) < share).astype(np.float32)
        found, predicted = score_labels(torch.from_numpy(logits), truth), (logits > 0).astype(int)
        probabilities = 1 / (1 + np.exp(-logits.astype(float)))
        assert found.exact_match == pytest.approx(metrics.accuracy_score(truth, predicted))
        for average in ("micro", "macro"):
            f1 = metrics.f1_score(truth, predicted, average=average, zero_division=0)
            assert getattr(found, f"{average}_f1") == pytest.approx(f1)
        wanted = metrics.log_loss(truth.ravel(), probabilities.ravel(), labels=[0, 1])
        assert found.loss == pytest.approx(wanted, rel=1e-5, abs=1e-6)  # float32


@random_cases
def test_scores_of_numbers_equal_scipys(cases):
    for seed in range(cases):
        rng = np.random.default_rng(seed)
        N, levels = int(rng.integers(2, 41)), int(rng.integers(1, 9))  # few levels: ties, and all equal
        answers, truth = rng.normal(size=(N, 1)).astype(np.float32), rng.integers(0, levels, N).astype(np.float32)
        if seed % 3 == 0:
            answers = answers.round()
        found = score_numbers(torch.from_numpy(answers), truth)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.ConstantInputWarning)
            wanted = stats.pearsonr(answers[:, 0].astype(float), truth).statistic
            spearman = stats.spearmanr(answers[:, 0], truth).statistic
        assert found.pearson == pytest.approx(wanted, abs=1e-12, nan_ok=True)
        assert found.spearman == pytest.approx(spearman, abs=1e-12, nan_ok=True)
        assert found.loss == pytest.approx(((answers[:, 0].astype(float) - truth) ** 2).mean())
