"""Proves that a learned vocabulary is the same in every process, and fits its size.

Run: pytest tests/text/test_vocab.py
"""

import json
import os
import subprocess
import sys

import pytest

from minibert import cli
from minibert.text.tokenizer import Tokenizer
from minibert.text.vocab import count_words, coverage, learn_vocabulary

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
        "import json, sys; from minibert.text.vocab import learn_vocabulary; "
        "print(json.dumps(learn_vocabulary(json.load(sys.stdin), 150)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(TEXTS), capture_output=True, text=True, env=environment
    )
    assert json.loads(found.stdout) == learn_vocabulary(TEXTS, 150)


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


def test_the_rarest_characters_are_left_out_where_less_than_all_is_to_be_covered():
    """Of 10 characters 6 are a, 2 are b, and c and d one each; "##" comes where a character continues a word."""
    texts = ["aab", "aab", "aacd"]
    for share, chars in (
        (0.6, {"a"}),
        (0.61, {"a", "b"}),
        (0.8, {"a", "b"}),
        (0.81, {"a", "b", "c"}),
        (1, set("abcd")),
    ):
        learned = learn_vocabulary(texts, 50, character_coverage=share)[5:]
        assert {token for token in learned if len(token) == 1} == chars


# ---- from files ----


def text_file(path, texts=TEXTS) -> str:
    path.write_text("\n".join(texts), encoding="utf-8")
    return str(path)


def test_a_vocabulary_of_files_is_that_of_their_lines(tmp_path, capsys):
    jsonl = tmp_path / "b.jsonl"
    jsonl.write_text(json.dumps({"text": "\n".join(TEXTS[2:])}), encoding="utf-8")
    files = [text_file(tmp_path / "a.txt", TEXTS[:2]), str(jsonl)]
    assert cli.main(["vocab", *files, "--size", "100", "--out", str(tmp_path / "v"), "--character-coverage", "1"]) == 0
    assert Tokenizer.from_pretrained(tmp_path / "v").vocab == learn_vocabulary(TEXTS, 100)
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == f"100 tokens  {tmp_path / 'v'}"
    assert captured.err.splitlines() == ["a.txt: 1 document, 2 lines", f"b.jsonl: 1 document, {len(TEXTS) - 2} lines"]


def test_a_cased_vocabulary_says_so_in_its_files(tmp_path):
    file = text_file(tmp_path / "a.txt")
    assert cli.main(["vocab", file, "--size", "200", "--out", str(tmp_path / "v"), "--cased"]) == 0
    assert Tokenizer.from_pretrained(tmp_path / "v").tokenize("The hôtel")[0] == "The"


def test_a_size_larger_than_the_text_supports_is_said(tmp_path, capsys):
    file = text_file(tmp_path / "a.txt")
    assert cli.main(["vocab", file, "--size", "5000", "--out", str(tmp_path / "v")]) == 0
    learned = len(learn_vocabulary(TEXTS, 5000, character_coverage=0.9995))
    assert f"the text supports {learned} tokens, not 5000" in capsys.readouterr().err


def test_coverage_counts_by_hand():
    """aab twice, b once, c three times: 10 characters, of which c is unknown; b and [UNK] alone are one piece."""
    tokenizer = Tokenizer([*SPECIAL, "a", "b", "##a", "##b"])
    found = coverage(count_words(["aab b", "AAB c c c"]), tokenizer)
    assert found.characters == pytest.approx(1 - 3 / 10)
    assert found.missing == [("c", 3)]
    assert found.whole == pytest.approx(1 / 6)
    assert found.pieces == pytest.approx((2 * 3 + 1 + 3) / 6)


def test_a_file_that_cannot_be_read_leaves_nothing_behind(tmp_path, capsys):
    (tmp_path / "a.txt").write_bytes(b"good\n\xff\n")
    assert cli.main(["vocab", str(tmp_path / "a.txt"), "--size", "100", "--out", str(tmp_path / "v")]) == 2
    assert "a.txt:2: byte 0xff is not UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "v").exists()
