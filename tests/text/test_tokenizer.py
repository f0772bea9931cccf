"""Proves that Tokenizer equals `tokenizers` and names bad input in one line.

Run: pytest tests/text/test_tokenizer.py
"""

import json
import os
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import transformers
from conftest import SHARED, needs_shared
from fuzz_tokenizer import STRATEGIES, own_rows, random_string, reference, reference_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.models import WordPiece

from minibert.core.encoding import truncated
from minibert.text import tokenizer as module
from minibert.text.tokenizer import Tokenizer
from minibert.text.tokenizer_files import read_vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "the",
    "hotel",
    "was",
    "clean",
    "##ed",
    "un",
    "##clean",
    ",",
    ".",
    "'",
    "!",
    "?",
    "a",
    "b",
    "c",
    "##a",
    "##b",
    "##c",
]
WORDS += ["床", "前", "明", "月", "光", "。", "é", "The", "Hotel", "[", "]", "sep", "ß", "##ß", "x"]
SMALL = SPECIAL + WORDS
POEM = ["白日依山尽,", "床前明月光,疑是地上霜。"]


@pytest.fixture(scope="module")
def tok():
    return Tokenizer(SMALL)


@pytest.fixture(scope="module")
def uncased(minilm):
    return Tokenizer.from_pretrained(minilm)


def ids(tok: Tokenizer, tokens: str) -> list[int]:
    return [tok.vocab.index(token) for token in tokens.split()]


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- What an encoding holds -------------------------------------------------------------------------------------------


def test_a_text_stands_between_cls_and_sep(tok):
    assert tok("The hotel!").input_ids.tolist() == [ids(tok, "[CLS] the hotel ! [SEP]")]


def test_a_pair_has_a_second_segment(tok):
    found = tok("a b", "c")
    assert found.input_ids.tolist() == [ids(tok, "[CLS] a b [SEP] c [SEP]")]
    assert found.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1]]
    assert found.special_tokens_mask.tolist() == [[1, 0, 0, 1, 0, 1]]


def test_shorter_rows_are_padded(tok):
    found = tok(["a b c", "a"])
    assert found.input_ids[1].tolist() == ids(tok, "[CLS] a [SEP] [PAD] [PAD]")
    assert found.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert found.special_tokens_mask[1].tolist() == [1, 0, 1, 1, 1]
    assert found.token_type_ids[1].tolist() == [0] * 5


def test_length_counts_cls_and_sep_and_no_padding(tok):
    assert tok(["a b c", "a", ""]).length.tolist() == [5, 3, 2]


def test_all_arrays_are_int64_of_one_shape(tok):
    found = tok(["a b c", "a"], return_offsets=True)
    arrays = (found.input_ids, found.token_type_ids, found.special_tokens_mask, found.attention_mask)
    assert all(array.dtype == np.int64 and array.shape == (2, 5) for array in arrays)
    assert found.length.dtype == np.int64
    assert found.offsets.dtype == np.int64
    assert found.offsets.shape == (2, 5, 2)


def test_offsets_are_there_only_on_request(tok):
    assert tok("a").offsets is None


def test_offsets_point_into_the_text_they_come_from(tok):
    text, pair = "Unclean  hotel", "\u200bThé, [SEP] 床。"
    found = tok(text, pair, return_offsets=True)
    sources = [
        (pair if kind else text)[a:b] for (a, b), kind in zip(found.offsets[0], found.token_type_ids[0], strict=True)
    ]
    assert sources == ["", "Un", "clean", "hotel", "", "Thé", ",", "[SEP]", "床", "。", ""]


def test_a_string_is_a_batch_of_one(tok):
    assert tok("a b").input_ids.tolist() == tok(["a b"]).input_ids.tolist()


def test_any_iterable_of_strings_is_a_batch(tok):
    assert tok(text for text in ("a", "b")).input_ids.tolist() == tok(np.array(["a", "b"])).input_ids.tolist()


def test_an_empty_batch_has_no_rows(tok):
    assert tok([]).input_ids.shape == (0, 0)
    assert tok([], return_offsets=True).offsets.shape == (0, 0, 2)


@pytest.mark.parametrize("text", ["", "   ", "\x00", " \t\n\u3000\u200b"])
def test_a_text_without_words_is_cls_and_sep(tok, text):
    assert tok(text).input_ids.tolist() == [ids(tok, "[CLS] [SEP]")]


def test_nul_is_removed_like_any_control_character(tok):
    assert tok.tokenize("ho\x00tel") == ["hotel"]


# --- Padding and truncation -------------------------------------------------------------------------------------------


def test_padding_to_max_length(tok):
    assert tok("a", max_length=9, padding="max_length").input_ids.shape == (1, 9)


def test_padding_to_max_length_without_truncation_makes_room_for_the_longest(tok):
    assert tok(["a " * 20, "a"], max_length=9, padding="max_length", truncation="none").input_ids.shape == (2, 22)


def test_no_padding_gives_a_list_of_arrays(tok):
    found = tok(["a b", "a"], padding="none", return_offsets=True)
    assert [row.tolist() for row in found.input_ids] == [ids(tok, "[CLS] a b [SEP]"), ids(tok, "[CLS] a [SEP]")]
    assert [row.tolist() for row in found.attention_mask] == [[1] * 4, [1] * 3]
    assert found.length.tolist() == [4, 3]
    assert [row.shape for row in found.offsets] == [(4, 2), (3, 2)]


@pytest.mark.parametrize(("multiple", "width"), [(1, 7), (2, 8), (7, 7), (8, 8), (64, 64)])
def test_the_width_is_a_multiple_on_request(tok, multiple, width):
    assert tok(["a b c a b", "a"], pad_to_multiple_of=multiple).input_ids.shape == (2, width)


def test_a_multiple_may_exceed_max_length_as_in_tokenizers(tok):
    assert tok("a " * 30, max_length=10, pad_to_multiple_of=8).input_ids.shape == (1, 16)


def test_truncation_keeps_the_beginning_and_sep(tok):
    assert tok("a b c a b c", max_length=5).input_ids.tolist() == [ids(tok, "[CLS] a b c [SEP]")]


def test_max_length_of_the_special_tokens_alone_leaves_them_alone(tok):
    assert tok("a b", max_length=2).input_ids.tolist() == [ids(tok, "[CLS] [SEP]")]
    assert tok("a b", "c", max_length=3, truncation="only_first").input_ids.tolist() == [ids(tok, "[CLS] [SEP] [SEP]")]


def test_no_truncation_keeps_everything(tok):
    assert tok("a " * 600, truncation="none").length.tolist() == [602]


def test_no_truncation_reads_a_long_text_to_its_end(tok):
    """However small the max_length, which otherwise bounds how much of a long text is read."""
    assert tok("a " * 600, max_length=5, truncation="none").length.tolist() == [602]


@pytest.mark.parametrize(
    ("lengths", "budget", "kept"),
    [
        ((400, 400), 509, (254, 255)),
        ((300, 500), 509, (254, 255)),
        ((500, 300), 509, (255, 254)),
        ((10, 600), 9, (4, 5)),
    ],
)
def test_the_odd_token_stays_with_the_longer_text_where_google_gives_it_to_the_first(lengths, budget, kept):
    assert truncated(*lengths, budget, "longest_first") == kept


@pytest.mark.parametrize("chars_per_token", [1, 3])
@pytest.mark.parametrize("length", [2, 7, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 23))])
def test_only_the_beginning_of_a_long_text_is_read_and_nothing_shows_it(tok, monkeypatch, length, chars_per_token):
    rng = random.Random(length)
    texts = [random_string(rng, SMALL) for _ in range(300)] + ["a" * 50 + " b" * 40, "\0" * 90 + "[SEP]" * 30, "", "a"]
    whole = own_rows(tok(texts, truncation="none", padding="none", return_offsets=True))
    monkeypatch.setattr(module, "CHARS_PER_TOKEN", chars_per_token)
    cut = own_rows(tok(texts, max_length=length, padding="none", return_offsets=True))
    assert cut == [row if len(row[0]) <= length else shortened(row, length) for row in whole]


def shortened(row: tuple, length: int) -> tuple:
    return type(row)([*column[: length - 1], column[-1]] for column in row)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_small_pair_is_truncated_as_by_tokenizers(tok, strategy):
    made = reference(SMALL, lowercase=True)
    for first in range(8):
        for second in range(8):
            for length in range(3, 18):
                made.enable_truncation(length, strategy=strategy)
                texts = "a " * first, "b " * second
                try:
                    expected = made.encode(*texts).ids
                except Exception:  # noqa: BLE001  `tokenizers` raises nothing narrower
                    with pytest.raises(ValueError, match=strategy):
                        tok(*texts, max_length=length, truncation=strategy)
                else:
                    assert tok(*texts, max_length=length, truncation=strategy).input_ids[0].tolist() == expected


# --- Special tokens in the text ---------------------------------------------------------------------------------------


def test_special_tokens_in_a_text_are_special_where_google_splits_them(tok):
    assert tok.tokenize("a[SEP]b [MASK]c") == ["a", "[SEP]", "b", "[MASK]", "c"]


def test_special_tokens_in_a_text_are_plain_text_on_request(tok):
    assert tok.tokenize("a[SEP]b", split_special_tokens=True) == ["a", "[", "sep", "]", "b"]
    assert tok("[SEP]", split_special_tokens=True).input_ids.tolist() == [ids(tok, "[CLS] [ sep ] [SEP]")]


@pytest.mark.parametrize("text", ["[sep]", "[S\u200bEP]", "[S\x00EP]", "[ SEP]"])
def test_only_the_raw_spelling_is_special(tok, text):
    assert tok.tokenize(text) == ["[", "sep", "]"]


def test_special_tokens_in_a_text_are_not_masked_as_special(tok):
    assert tok("a [SEP] b").special_tokens_mask.tolist() == [[1, 0, 0, 0, 1]]


def test_the_longest_special_token_wins():
    longer = Tokenizer([*SMALL, "[SEP][SEP]"], extra_special_tokens=["[SEP][SEP]"])
    assert longer.tokenize("[SEP][SEP][SEP]") == ["[SEP][SEP]", "[SEP]"]


# --- Against tokenizers and transformers ------------------------------------------------------------------------------


def agree(tok: Tokenizer, made: object, texts: list[str]) -> None:
    found = own_rows(tok(texts, truncation="none", padding="none", return_offsets=True))
    assert found == reference_rows(made, texts)


@pytest.mark.parametrize("lowercase", [True, False])
def test_random_texts_agree_with_tokenizers(lowercase):
    rng, made = random.Random(lowercase), reference(SMALL, lowercase)
    agree(Tokenizer(SMALL, lowercase), made, [random_string(rng, SMALL) for _ in range(2000)])


def test_random_texts_agree_with_tokenizers_on_the_real_vocabulary(uncased):
    rng, made = random.Random(5), reference(uncased.vocab, lowercase=True)
    agree(uncased, made, [random_string(rng, uncased.vocab) for _ in range(2000)])


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4), st.sampled_from([None, "pair [SEP] 床"])
)
def test_any_padded_batch_agrees_with_tokenizers(texts, pair):
    made = reference(SMALL, lowercase=True)
    made.enable_truncation(16)
    made.enable_padding(pad_to_multiple_of=4)
    pairs = None if pair is None else [pair] * len(texts)
    found = Tokenizer(SMALL)(texts, pairs, max_length=16, pad_to_multiple_of=4, return_offsets=True)
    assert own_rows(found) == reference_rows(made, texts if pairs is None else list(zip(texts, pairs, strict=True)))


def test_the_cache_changes_nothing(monkeypatch):
    monkeypatch.setattr(module, "CACHED_UNITS", 2)
    small, texts = Tokenizer(SMALL), ["the hotel was clean", "Unclean hotel", "the hotel"] * 2
    assert small(texts).input_ids.tolist() == Tokenizer(SMALL)(texts).input_ids.tolist()
    assert len(small._known) <= 2


@needs_shared
def test_the_fast_twins_worked_example_has_its_ids(uncased):
    flat = uncased._batch_encoder.encode(["Née ok", "naïvely, 北京!"] * 500)
    assert flat.ids.tolist() == [7663, 7929, 15743, 2135, 1010, 1781, 1755, 999] * 500
    assert flat.lengths.tolist() == [2, 6] * 500


@needs_shared
def test_the_tutorials_poem_has_its_ids():
    chinese = Tokenizer.from_pretrained(SHARED / "vocab/bert-base-chinese.vocab.txt")
    assert chinese(POEM).input_ids[0].tolist()[:8] == [101, 4635, 3189, 898, 2255, 2226, 117, 102]
    assert chinese.tokenize(POEM[1])[-2:] == ["霜", "。"]


@needs_shared
@pytest.mark.parametrize("name", ["bert-base-uncased", "bert-base-cased"])
def test_the_published_offsets_hold(name):
    expected = json.loads((SHARED / "reference/tokenization_expectations.json").read_text())["offsets"]
    case = next(case for case in expected if case["vocab"] == name)
    tok = Tokenizer(read_vocabulary(SHARED / f"vocab/{name}.vocab.txt"), lowercase=case["lower"])
    found = tok(case["text"], return_offsets=True)
    tokens = tok.ids_to_tokens(found.input_ids[0])
    assert [[*span, token] for span, token in zip(found.offsets[0].tolist(), tokens, strict=True)] == case["expected"]


@needs_shared
def test_the_published_batch_holds():
    case = json.loads((SHARED / "reference/tokenization_expectations.json").read_text())["minbert_sanity"]
    found = Tokenizer.from_pretrained(SHARED / "vocab/bert-base-uncased.vocab.txt")(case["texts"])
    assert found.input_ids.tolist() == case["input_ids"]
    assert found.attention_mask.tolist() == case["attention_mask"]


@needs_shared
@pytest.mark.parametrize("name", ["uncased", "cased", "chinese"])
def test_a_sample_of_the_corpora_agrees_with_tokenizers(name):
    vocab = read_vocabulary(SHARED / f"vocab/bert-base-{name}.vocab.txt")
    files = ("chnsenticorp/test.tsv", "sst5_cfimdb/sst-test.txt", "mrpc/dev.tsv")
    lines = [line for file in files for line in (SHARED / file).read_text(encoding="utf-8").split("\n")[:300]]
    agree(Tokenizer(vocab, name != "cased"), reference(vocab, name != "cased"), lines)


@pytest.mark.slow
@needs_shared
def test_the_fuzz_script_finds_no_difference():
    script = os.path.join(os.path.dirname(os.path.dirname(__file__)), "fuzz_tokenizer.py")
    subprocess.run([sys.executable, script, "--strings", "2000"], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["a", " ", "\u0301", "\u0301\u0323", "床", ".", "hello ", "[SEP]", "각", "\x00"])
def test_ten_million_characters_take_bounded_time(uncased, unit):
    assert uncased(unit * (10_000_000 // len(unit))).input_ids.shape[1] <= 512


# --- Back to text -----------------------------------------------------------------------------------------------------


def test_decoding_joins_pieces_and_closes_up_punctuation(tok):
    text = tok.decode(tok("The hotel was unclean, was it?").input_ids[0])
    assert text == "[CLS] the hotel was unclean, was [UNK]? [SEP]"


def test_decoding_leaves_out_special_tokens_on_request(tok):
    assert tok.decode(ids(tok, "[CLS] a [MASK] b [SEP] [PAD]"), skip_special_tokens=True) == "a b"


def test_decoding_nothing_gives_an_empty_text(tok):
    assert tok.decode([]) == ""


def test_decoding_random_ids_agrees_with_transformers(uncased, minilm):
    theirs = transformers.AutoTokenizer.from_pretrained(minilm)
    rng = np.random.default_rng(3)
    for _ in range(200):
        row = rng.integers(0, uncased.vocab_size, 20)
        row[rng.integers(0, 20, 4)] = rng.choice([1012, 1010, 1029, 999, 1005, 102, 100, 1056, 1055])
        for skip in (True, False):
            assert uncased.decode(row, skip) == theirs.decode(row.tolist(), skip_special_tokens=skip)


def test_ids_and_tokens_are_each_others_inverse(tok):
    assert tok.ids_to_tokens(range(tok.vocab_size)) == tok.vocab
    assert tok.ids_to_tokens([tok.pad_id, tok.unk_id, tok.cls_id, tok.sep_id, tok.mask_id]) == SPECIAL


@pytest.mark.parametrize("bad", [[0, 99], [-1], [10**9]])
def test_ids_outside_the_vocabulary_are_named(tok, bad):
    with pytest.raises(ValueError, match=re.escape(f"id {bad[-1]} at position {len(bad) - 1}")) as error:
        tok.decode(bad)
    assert str(tok.vocab_size - 1) in one_line(error)


@pytest.mark.parametrize("bad", [[[1, 2]], [1.5], ["a"], 3])
def test_what_is_no_row_of_ids_is_refused(tok, bad):
    with pytest.raises(ValueError, match="one row of integers"):
        tok.decode(bad)


# --- Files ------------------------------------------------------------------------------------------------------------

TEXTS = ["The hôtel was [MASK], un-clean!", "床前明月光。", "[SEP] a\u200bb É", "ß x", ""]


def same_as_transformers(tok: Tokenizer, directory: os.PathLike) -> None:
    (directory / "config.json").write_text('{"model_type": "bert"}')
    for kind in (transformers.AutoTokenizer, transformers.BertTokenizer):
        theirs = kind.from_pretrained(directory)
        assert theirs(TEXTS, TEXTS).input_ids == [row.tolist() for row in tok(TEXTS, TEXTS, padding="none").input_ids]
        assert len(theirs) == tok.vocab_size
        assert theirs.model_max_length == tok.model_max_length
        assert theirs.mask_token_id == tok.mask_id


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False, None])
@pytest.mark.parametrize("chinese", [True, False])
def test_what_is_saved_is_read_by_transformers_and_by_itself(tmp_path, lowercase, strip_accents, chinese):
    saved = Tokenizer(SMALL, lowercase, strip_accents, chinese, model_max_length=77)
    saved.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    assert again(TEXTS).input_ids.tolist() == saved(TEXTS).input_ids.tolist()
    assert (again.vocab, again.model_max_length) == (SMALL, 77)
    same_as_transformers(again, tmp_path)


def test_saving_other_special_tokens_is_read_by_transformers(tmp_path):
    vocab = ["<pad>", "<unk>", "<s>", "</s>", "<mask>", "[E1]", *WORDS]
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), vocab, strict=False))
    saved = Tokenizer(vocab, special_tokens=names, extra_special_tokens=["[E1]"])
    saved.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    assert again.tokenize("a[E1]</s>[SEP]") == ["a", "[E1]", "</s>", "[", "sep", "]"]
    same_as_transformers(again, tmp_path)


def test_saving_twice_gives_the_same_bytes(tok, tmp_path):
    tok.save_pretrained(tmp_path / "a")
    Tokenizer.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    for name in ("vocab.txt", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_saving_removes_another_tokenizers_file(tok, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    tok.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer_config.json", "vocab.txt"]


def test_a_directory_saved_by_transformers_is_read(tok, tmp_path):
    tok.save_pretrained(tmp_path / "a")
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path / "a", do_lower_case=False)
    theirs.save_pretrained(tmp_path / "b")
    found = Tokenizer.from_pretrained(tmp_path / "b")
    assert not found.lowercase
    assert [row.tolist() for row in found(TEXTS, padding="none").input_ids] == theirs(TEXTS).input_ids


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_tokenizer_json_alone_is_read(tmp_path, lowercase):
    made = reference(SMALL, lowercase)
    made.enable_truncation(4)  # belongs to the caller, not to the file
    made.save(str(tmp_path / "tokenizer.json"))
    made.no_truncation()
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        agree(Tokenizer.from_pretrained(path), made, TEXTS)


def test_the_installed_minilm_is_read(uncased):
    assert (uncased.vocab_size, uncased.cls_id, uncased.lowercase, uncased.model_max_length) == (30522, 101, True, 512)


def test_special_tokens_may_be_objects(tmp_path, tok):
    tok.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["sep_token"] = {"__type": "AddedToken", "content": "[SEP]", "lstrip": False, "normalized": False}
    config["added_tokens_decoder"] = {"2": {"content": "[CLS]", "special": True}, str(len(SMALL)): {"content": "[NEW]"}}
    config["model_max_length"] = 10**30
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    found = Tokenizer.from_pretrained(tmp_path)
    assert found.tokenize("a[NEW][SEP]") == ["a", "[NEW]", "[SEP]"]
    assert (found.vocab_size, found.model_max_length) == (len(SMALL) + 1, 512)


@pytest.mark.parametrize("numbered", [True, False])
def test_the_map_of_special_tokens_goes_before_a_configuration_without_added_tokens(tmp_path, caplog, numbered):
    """As in transformers; and a line says it."""
    Tokenizer([*SMALL, "<s>"], special_tokens={"cls_token": "<s>"}).save_pretrained(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"cls_token": "[CLS]"}))
    if numbered:
        config = json.loads((tmp_path / "tokenizer_config.json").read_text())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "added_tokens_decoder": {}}))
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path).cls_id == theirs.cls_token_id == (len(SMALL) if numbered else 2)
    used = "tokenizer_config.json" if numbered else "special_tokens_map.json"
    assert f"cls_token is [CLS], tokenizer_config.json says <s>; {used} is followed" in caplog.text


def test_a_vocabulary_file_may_have_a_byte_order_mark_crlf_and_blank_lines_at_the_end(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\ufeff".encode() + "\r\n".join([*SMALL, "", ""]).encode())
    assert read_vocabulary(path) == SMALL


def test_white_space_behind_a_token_is_left_out_as_in_the_reference(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\n".join([*SMALL, "foo ", "bar\t\u2003\r", "baz\x0b\x85", "##qux\u2028", "qu\x1f", ""]).encode())
    theirs = WordPiece.read_file(str(path))
    assert {token: i for i, token in enumerate(read_vocabulary(path))} == theirs
    assert "foo" in theirs


def test_only_line_feeds_end_a_vocabularys_line(tmp_path):
    """bert-base-chinese has U+2028 as a token; str.splitlines() would shift every later id."""
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, "\u2028", "a", "##\u2028", "\x0b", "\x85"]), encoding="utf-8")
    assert read_vocabulary(path).index("a") == 6


@needs_shared
@pytest.mark.parametrize(("name", "size"), [("uncased", 30522), ("cased", 28996), ("chinese", 21128)])
def test_published_vocabularies_are_read_whole(name, size):
    assert len(read_vocabulary(SHARED / f"vocab/bert-base-{name}.vocab.txt")) == size


# --- Bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [None, 3, 2.5, b"bytes", ["nested"], float("nan")])
def test_a_text_that_is_no_string_is_named_with_its_type(tok, bad):
    with pytest.raises(ValueError, match=f"text 1 is of type {type(bad).__name__}") as error:
        tok(["a", bad])
    one_line(error)


class Table(list):
    """What a DataFrame is here: its iteration gives the names of its columns."""

    columns = ("text",)


@pytest.mark.parametrize("bad", [{"text": "a"}, {"a", "b"}, Table(["text"])], ids=["dict", "set", "table"])
def test_what_has_no_rows_in_order_is_no_batch_of_texts(tok, bad):
    with pytest.raises(ValueError, match=f"iterable of str, not {type(bad).__name__}; give a list, or one column"):
        tok(bad)


@pytest.mark.parametrize("bad", [None, 3, b"bytes"])
def test_texts_that_are_no_batch_are_refused(tok, bad):
    with pytest.raises(ValueError, match=type(bad).__name__):
        tok(bad)


def test_a_lone_surrogate_is_named_with_its_place(tok):
    with pytest.raises(ValueError, match=r"pair 1: lone surrogate U\+D83D at character 3") as error:
        tok(["a", "b"], ["a", "abc\ud83d"])
    one_line(error)


def test_a_lone_surrogate_is_found_behind_the_tokens_that_are_kept(tok):
    with pytest.raises(ValueError, match=r"text 1: lone surrogate U\+D83D at character 9000"):
        tok(["a", "a b " * 2250 + "\ud83d"], max_length=5)


@pytest.mark.parametrize(("length", "pair"), [(1, None), (0, None), (-5, None), (2, "b")])
def test_a_max_length_without_room_for_the_special_tokens_is_refused(tok, length, pair):
    with pytest.raises(ValueError, match=f"max_length {length} is too small"):
        tok("a", pair, max_length=length)


def test_only_second_needs_pairs(tok):
    with pytest.raises(ValueError, match="only_second without pairs"):
        tok("a", truncation="only_second")


@pytest.mark.parametrize("strategy", ["only_first", "only_second"])
def test_a_text_too_short_to_be_cut_is_named(tok, strategy):
    with pytest.raises(ValueError, match=f"text 1: .*{strategy}.*longest_first") as error:
        tok(["a", "a b c"], ["b", "c b a"], max_length=6, truncation=strategy)
    one_line(error)


def test_unequal_counts_of_texts_and_pairs_are_refused(tok):
    with pytest.raises(ValueError, match="2 texts but 1 pairs"):
        tok(["a", "b"], ["c"])


@pytest.mark.parametrize(
    "option", [{"truncation": "longest"}, {"truncation": 1}, {"padding": "max"}, {"pad_to_multiple_of": 0}]
)
def test_an_unknown_option_is_named_with_its_value(tok, option):
    (value,) = option.values()
    with pytest.raises(ValueError, match=str(value)):
        tok("a", **option)


@pytest.mark.parametrize("token", SPECIAL)
def test_a_vocabulary_without_a_special_token_is_refused(token):
    with pytest.raises(ValueError, match=re.escape(f"lacks {token}")) as error:
        Tokenizer([other for other in SMALL if other != token])
    one_line(error)


def test_a_vocabulary_with_a_token_twice_names_it_and_both_lines(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SMALL, "hotel"]), encoding="utf-8")
    with pytest.raises(ValueError, match=f"vocab.txt: token 'hotel' stands on lines 7 and {len(SMALL) + 1}") as error:
        Tokenizer.from_pretrained(path)
    one_line(error)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_vocabulary_is_refused(tmp_path, content):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"vocab.txt is empty"):
        Tokenizer.from_pretrained(path)


@pytest.mark.parametrize("encoding", ["utf-16", "gbk", "latin-1"])
def test_a_vocabulary_that_is_not_utf_8_is_refused(tmp_path, encoding):
    path = tmp_path / "vocab.txt"
    tokens = [*SPECIAL, "é"] if encoding == "latin-1" else [*SPECIAL, "床", "前"]
    path.write_bytes("\n".join(tokens).encode(encoding))
    with pytest.raises(ValueError, match="not UTF-8"):
        Tokenizer.from_pretrained(path)


@pytest.mark.parametrize(("encoding", "errors"), [("cp1252", "replace"), ("latin-1", "strict"), ("gbk", "replace")])
def test_a_vocabulary_read_in_a_wrong_encoding_is_refused(tmp_path, encoding, errors):
    lines = [token.encode().decode(encoding, errors) for token in SMALL]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(dict.fromkeys(line.replace("\x85", "") for line in lines)), encoding="utf-8")
    with pytest.raises(ValueError, match="read in another encoding") as error:
        Tokenizer.from_pretrained(path)
    one_line(error)


def test_a_vocabulary_with_gaps_is_refused():
    with pytest.raises(ValueError, match="without gaps"):
        Tokenizer({token: 2 * number for number, token in enumerate(SMALL)})


def test_a_directory_without_a_vocabulary_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config.json, no vocab.txt, no weights; give a model's directory"):
        Tokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("[]", "object"),
        ("{", "not JSON"),
        ('{"do_lower_case": "yes"}', "do_lower_case is 'yes'"),
        ('{"do_lower_case": null}', "do_lower_case is None"),
        ('{"sep_token": 3}', "3 is no token"),
        ('{"mask_token": {"content": "[MASK]", "lstrip": 1}}', r"lstrip of token '\[MASK\]' is 1, but must be true"),
        ('{"added_tokens_decoder": {"x": "[NEW]"}}', "must be an object of ids"),
        ('{"added_tokens_decoder": {"38": {"content": "\u200b"}}}', "nothing after normalisation"),
        ('{"unk_token": "<unk>"}', "lacks <unk>"),
        ('{"added_tokens_decoder": {"9": {"content": "[NEW]"}}}', "has id 9"),
    ],
)
def test_a_broken_configuration_is_named(tok, tmp_path, config, reason):
    tok.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(ValueError, match=reason) as error:
        Tokenizer.from_pretrained(tmp_path)
    one_line(error)


def test_tokens_of_an_older_transformers_with_wrong_ids_are_named(tok, tmp_path):
    tok.save_pretrained(tmp_path)
    added = tmp_path / "added_tokens.json"
    added.write_text('{"[PAD]": 0}')
    assert Tokenizer.from_pretrained(tmp_path).vocab == tok.vocab
    added.write_text('{"[PAD]": 0, "NewWord": 99}')
    with pytest.raises(ValueError, match=r"added_tokens\.json: token 'NewWord' has id 99, but 38 in the") as error:
        Tokenizer.from_pretrained(tmp_path)
    one_line(error)


@pytest.mark.parametrize(
    ("section", "change", "reason"),
    [
        ("model", {"type": "BPE"}, "model type is 'BPE'"),
        ("model", {"max_input_chars_per_word": 200}, "200"),
        ("model", {"vocab": ["a"]}, "model vocab"),
        ("normalizer", {"type": "Lowercase"}, "normalizer type"),
        ("normalizer", {"clean_text": False}, "clean_text"),
        ("pre_tokenizer", {"type": "Whitespace"}, "pre_tokenizer type"),
    ],
)
def test_a_tokenizer_json_that_is_no_berts_is_named(tmp_path, section, change, reason):
    data = json.loads(reference(SMALL, lowercase=True).to_str())
    data[section] |= change
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=reason) as error:
        Tokenizer.from_pretrained(tmp_path)
    one_line(error)
