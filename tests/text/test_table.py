"""Proves that the table of an encoding shows every row, aligned on a terminal. Run: pytest tests/text/test_table.py"""

import json
from itertools import chain

import pytest
from conftest import SHARED, needs_shared

from minibert.text.encode_table import ROWS, columns_of, encoding_dict, encoding_table
from minibert.text.tokenizer import Tokenizer

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "白", "日", ",", "a", "cafe\u0301", "##b"]


@pytest.fixture(scope="module")
def tok():
    return Tokenizer(VOCAB, strip_accents=False)


def test_the_picture_is_as_drawn(tok):
    assert encoding_table(tok, ["白日,", "a"]).splitlines() == [
        "tokens               [CLS] 白 日 , [SEP]",
        "input_ids                2  5  6 7     3",
        "token_type_ids           0  0  0 0     0",
        "special_tokens_mask      1  0  0 0     1",
        "length               5",
        "attention_mask           1  1  1 1     1",
        "decoded              [CLS] 白 日, [SEP]",
        "",
        "tokens               [CLS] a [SEP] [PAD] [PAD]",
        "input_ids                2 8     3     0     0",
        "token_type_ids           0 0     0     0     0",
        "special_tokens_mask      1 0     1     1     1",
        "length               3",
        "attention_mask           1 1     1     0     0",
        "decoded              [CLS] a [SEP] [PAD] [PAD]",
    ]


def test_all_rows_of_tokens_are_equally_wide_on_a_terminal(tok):
    lines = encoding_table(tok, "白日, cafe\u0301 ab 白").splitlines()
    per_token = [line for line in lines if not line.startswith(("length", "decoded"))]
    assert len({columns_of(line) for line in per_token}) == 1


@pytest.mark.parametrize(
    ("text", "columns"), [("", 0), ("abc", 3), ("白日", 4), ("ａ", 2), ("e\u0301", 1), ("😀", 2), ("ア", 2), ("é", 1)]
)
def test_columns_are_counted_as_a_terminal_does(text, columns):
    assert columns_of(text) == columns


def test_a_narrow_terminal_breaks_the_rows_between_tokens(tok):
    whole, broken = (encoding_table(tok, "a " * 30, width=width) for width in (None, 60))
    assert max(map(columns_of, broken.splitlines()[:-1])) <= 60
    tokens = [line.split()[1:] for line in broken.splitlines() if line.startswith("tokens")]
    assert len(tokens) > 1
    assert list(chain(*tokens)) == whole.splitlines()[0].split()[1:]
    assert broken.count("length") == 1


def test_the_dictionary_is_json_and_holds_every_row(tok):
    found = encoding_dict(tok, ["白日,", "a"], ["a", "a"])
    assert json.loads(json.dumps(found)) == found
    assert list(found) == ["tokens", *ROWS, "decoded"]
    assert found["tokens"][1] == ["[CLS]", "a", "[SEP]", "a", "[SEP]", "[PAD]", "[PAD]"]
    assert found["token_type_ids"][1] == [0, 0, 0, 1, 1, 0, 0]
    assert found["length"] == [7, 5]


def test_the_options_are_the_tokenizers(tok):
    assert encoding_dict(tok, "a a a", max_length=4)["length"] == [4]
    assert "[PAD]" in encoding_table(tok, "a", max_length=6, padding="max_length")
    assert encoding_dict(tok, ["a a", "a"], padding="none")["tokens"][1] == ["[CLS]", "a", "[SEP]"]


def test_no_texts_give_an_empty_table(tok):
    assert encoding_table(tok, []) == ""


@needs_shared
def test_the_tutorials_poem_is_drawn():
    chinese = Tokenizer.from_pretrained(SHARED / "vocab/bert-base-chinese.vocab.txt")
    lines = encoding_table(chinese, ["白日依山尽,", "床前明月光,疑是地上霜。"]).splitlines()
    assert lines[1].split()[1:9] == ["101", "4635", "3189", "898", "2255", "2226", "117", "102"]
    assert lines[6].split(maxsplit=1)[1] == "[CLS] 白 日 依 山 尽, [SEP]" + " [PAD]" * 6
