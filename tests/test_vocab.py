"""Proves that a learned vocabulary is the same in every process, and fits its size. Run: pytest tests/test_vocab.py"""

import hashlib
import os
import subprocess
import sys

import pytest

from minibert.tokenizer import Tokenizer
from minibert.vocab import learn_vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "The hotel was clean, and the cleaner was kind.",
    "The unclean hotel: unkind, uncleaned, unwanted!",
    "酒店很干净,早餐也很好。",
    "酒店不干净,服务也不好。",
    "Crème brûlée à l'hôtel, rénovée; hotels, hotelier.",
] * 3


def test_special_tokens_come_first_then_characters_then_pieces():
    vocab = learn_vocabulary(TEXTS, 200)
    assert vocab[:5] == SPECIAL
    learned = next(k for k, token in enumerate(vocab[5:], 5) if len(token.removeprefix("##")) > 1)
    opening = [token for token in vocab[5:learned] if not token.startswith("##")]
    assert vocab[5:learned] == sorted(opening) + sorted(set(vocab[5:learned]) - set(opening))
    assert all(len(token.removeprefix("##")) > 1 for token in vocab[learned:])


def test_nothing_in_the_texts_is_unknown():
    tok = Tokenizer(learn_vocabulary(TEXTS, 200))
    assert tok.unk_id not in tok(TEXTS).input_ids


def test_words_that_come_back_are_whole():
    assert Tokenizer(learn_vocabulary(TEXTS, 400)).tokenize("the hotel 酒店") == ["the", "hotel", "酒", "店"]


def test_normalisation_is_the_tokenizers():
    assert not {"T", "##é"} & set(learn_vocabulary(TEXTS, 200))
    assert {"T", "##é"} <= set(learn_vocabulary(TEXTS, 200, lowercase=False))


def test_chinese_characters_never_continue_a_word():
    assert not [token for token in learn_vocabulary(TEXTS, 400) if token.startswith("##") and ord(token[-1]) > 0x3000]


@pytest.mark.parametrize("size", [7, 8, 20, 50, 51, 100, 1000])
def test_the_size_is_a_limit(size):
    vocab = learn_vocabulary(TEXTS, size)
    assert len(vocab) <= size
    assert len(set(vocab)) == len(vocab)


def test_the_most_frequent_characters_are_kept_where_room_is_short():
    assert learn_vocabulary(["aab", "aac", "a"], 9)[5:] == ["a", "b", "##a", "##b"]


def test_every_process_learns_the_same_list():
    """The trainer alone does not: its hash maps are seeded anew in every process."""
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]); from test_vocab import TEXTS; "
        "from minibert.vocab import learn_vocabulary; "
        "print(hashlib.sha256('\\n'.join(learn_vocabulary(TEXTS, 150)).encode()).hexdigest())"
    )
    here = hashlib.sha256("\n".join(learn_vocabulary(TEXTS, 150)).encode()).hexdigest()
    for seed in ("0", "1", "2"):
        command = [sys.executable, "-c", code, os.path.dirname(__file__)]
        found = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        assert found.stdout.strip() == here


def test_the_order_of_the_texts_does_not_matter():
    assert learn_vocabulary(TEXTS, 150) == learn_vocabulary(TEXTS[::-1], 150) == learn_vocabulary(iter(TEXTS), 150)


@pytest.mark.parametrize("size", [-1, 0, 5])
def test_a_size_without_room_is_refused(size):
    with pytest.raises(ValueError, match=f"size {size} is too small"):
        learn_vocabulary(TEXTS, size)


@pytest.mark.parametrize("texts", [[], [""], [" ", "\x00\u0301"]])
def test_texts_without_words_are_refused(texts):
    with pytest.raises(ValueError, match="no word"):
        learn_vocabulary(texts, 100)


def test_what_is_no_text_is_named():
    with pytest.raises(ValueError, match="text 1 is of type int"):
        learn_vocabulary(["a", 3], 100)
    with pytest.raises(ValueError, match="text 0: lone surrogate"):
        learn_vocabulary(["\ud800"], 100)
