"""Proves that what is said about rows is what the doctor says of the whole file, once, however they come.
Run: pytest tests/text/test_data_doubts.py
"""

import pytest

from minibert.core.data import Examples
from minibert.text.data_doubts import Doubts, keys_of, leak, whole_lengths
from minibert.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "room"])


def about(doubts: Doubts, texts: list[str], pairs: list[str] | None = None) -> list[str]:
    encoding = TOKENIZER(texts, pairs, max_length=doubts.limit, padding="none")
    return [f"{finding.name} {finding.what}" for finding in doubts.about("f", texts, pairs, encoding)]


def test_the_share_of_unknown_tokens_leaves_special_ones_out():
    assert about(Doubts(TOKENIZER, 9), ["the film"], ["room"]) == ["data-unknown f: 33.3 % of the tokens are [UNK]"]
    assert about(Doubts(TOKENIZER, 9), ["the film"]) == ["data-unknown f: 50.0 % of the tokens are [UNK]"]


def test_the_share_is_of_all_rows_so_far_and_said_once():
    doubts = Doubts(TOKENIZER, 99)
    assert about(doubts, ["the " * 95]) == []
    assert about(doubts, ["film"]) == []  # 1 of 96
    assert about(doubts, ["film film film the"]) == ["data-unknown f: 4.0 % of the tokens are [UNK]"]
    assert about(doubts, ["film"]) == []


def test_of_rows_that_fill_the_limit_the_whole_length_is_counted():
    encoding = TOKENIZER(["the " * 20, "the room"], ["room " * 9, "the"], max_length=6, padding="none")
    texts, pairs = ["the " * 20, "the room"], ["room " * 9, "the"]
    assert whole_lengths(TOKENIZER, texts, pairs, encoding, 6).tolist() == [32, 6]
    (line,) = about(Doubts(TOKENIZER, 6), texts, pairs)
    assert "max_length 6 cuts 50.0 % of the rows, 68.4 % of the tokens" in line


def test_texts_that_just_fit_are_not_cut():
    assert about(Doubts(TOKENIZER, 4), ["the room", "room the"]) == []


def test_an_empty_text_is_counted_and_no_row_is_no_doubt():
    assert about(Doubts(TOKENIZER, 9), ["the", " ", ""]) == ["data-empty f: 2 texts are empty"]
    assert about(Doubts(TOKENIZER, 9), []) == []


@pytest.mark.parametrize(("text", "said"), [("the room", 1), ("  the room ", 1), ("the film", 0)])
def test_a_leak_is_the_same_text_and_pair_whatever_white_space_is_around_it(text, said):
    train = Examples(["a", "the room"], ["b", "film"], ["0", "1"], [2, 3], "train.tsv")
    dev = Examples(["other", text], ["b", "film"], ["0", "1"], [2, 3], "dev.tsv")
    found = leak("dev.tsv", keys_of(dev), "train.tsv", keys_of(train))
    assert [finding.what for finding in found] == [
        "dev.tsv: 50.0 % of its rows (1) stand in train.tsv; line 3 is line 3 there"
    ] * said


def test_the_same_text_with_another_pair_is_no_leak():
    one, other = (Examples(["the room"], [pair], ["0"], [2], "x.tsv") for pair in ("film", "book"))
    assert leak("a", keys_of(one), "b", keys_of(other)) == []
