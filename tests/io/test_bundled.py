"""Proves that the bundled reviews are balanced, bilingual and free of near-duplicates, and are what `minibert train`
uses. Run: pytest tests/io/test_bundled.py; with the whole training, two runs of a minute or two: pytest -m slow
tests/io/test_bundled.py
"""

import collections
import itertools
import re

import numpy as np
import pytest

from minibert.io.examples import read_examples
from minibert.training.fine_tuning import TrainOptions, train
from minibert.training.options import REVIEWS

SPLITS = ("train", "dev", "test")
ROWS = {name: read_examples(REVIEWS / f"{name}.tsv") for name in SPLITS}
TEXTS = list(itertools.chain(*(rows.texts for rows in ROWS.values())))
SIMILAR = 0.35  # Jaccard similarity of trigrams


def is_chinese(text: str) -> bool:
    return re.search("[\u4e00-\u9fff]", text) is not None


def trigrams(text: str) -> set[tuple[str, ...]]:
    """Of characters in Chinese, of words in English; punctuation, spaces and case left out. A text of fewer than three
    is one short n-gram."""
    units = re.findall(r"\w", text) if is_chinese(text) else re.findall(r"[\w']+", text.lower())
    return {tuple(units[start : start + 3]) for start in range(max(1, len(units) - 2))}


def similarities(texts: list[str]) -> np.ndarray:
    """Jaccard similarity |A ∩ B| / |A ∪ B| of the trigrams of all texts with all, [N, N]; 0 with themselves."""
    sets = [trigrams(text) for text in texts]
    index = {gram: i for i, gram in enumerate(sorted(set().union(*sets)))}
    holds = np.zeros((len(sets), len(index)), np.float32)
    for row, grams in enumerate(sets):
        holds[row, [index[gram] for gram in grams]] = 1
    common, sizes = holds @ holds.T, holds.sum(axis=1)
    jaccard = common / (sizes[:, None] + sizes - common)
    np.fill_diagonal(jaccard, 0)
    return jaccard


def test_there_are_about_twelve_hundred_reviews_three_quarters_of_them_for_training():
    sizes = {name: len(rows) for name, rows in ROWS.items()}
    assert 1150 <= sum(sizes.values()) <= 1300
    assert 0.65 <= sizes["train"] / sum(sizes.values()) <= 0.8
    assert min(sizes.values()) >= 100


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_is_half_positive_half_negative_in_both_languages(split):
    rows = ROWS[split]
    counts = collections.Counter(zip(map(is_chinese, rows.texts), rows.labels, strict=True))
    assert {label for _, label in counts} == {"positive", "negative"}
    for count in counts.values():
        assert count / len(rows) == pytest.approx(0.25, abs=0.02)


def test_no_review_stands_twice():
    plain = collections.Counter(re.sub(r"\W", "", text).lower() for text in TEXTS)
    assert [text for text, count in plain.items() if count > 1] == []


@pytest.mark.slow
@pytest.mark.parametrize("chinese", [True, False], ids=["Chinese", "English"])
def test_no_two_reviews_are_nearly_the_same_within_and_between_splits(chinese):
    texts = [text for text in TEXTS if is_chinese(text) == chinese]
    jaccard = similarities(texts)
    a, b = np.unravel_index(jaccard.argmax(), jaccard.shape)
    assert jaccard.max() <= SIMILAR, f"{texts[a]!r} and {texts[b]!r}"


def test_the_similarity_sees_a_changed_word():
    """So that the test above can fail: 10 words have 8 trigrams, another first word leaves 7 of them, 7 / 9."""
    one, two = "the room was clean and the staff were very kind", "The rooms was clean and the staff were very kind!"
    assert similarities([one, two.replace("rooms", "room")])[0, 1] == 1
    assert similarities([one, two.replace("The", "This").replace("rooms", "room")])[0, 1] == pytest.approx(7 / 9)
    assert similarities(["房间很干净", "房间很干净！"])[0, 1] == 1
    assert similarities(["房间很干净", "房间很肮脏"])[0, 1] == pytest.approx(1 / 5)


def test_reviews_are_short_clean_lines():
    for text in TEXTS:
        assert text == text.strip()
        assert "  " not in text
        assert "\ufffd" not in text
        assert 10 <= len(text) <= 400, text


def test_without_options_these_are_the_reviews_that_training_uses():
    filled = TrainOptions().filled()
    assert [filled.data, filled.dev, filled.test] == [str(REVIEWS / f"{name}.tsv") for name in SPLITS]


@pytest.mark.slow
def test_training_on_the_bundled_reviews_is_good_and_the_same_twice(tmp_path):
    scores = [train(TrainOptions(out=str(tmp_path / name)))[0] for name in ("one", "two")]
    assert scores[0].accuracy >= 0.75
    assert scores[0] == scores[1]
