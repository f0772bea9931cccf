"""Proves that added tokens are read, found and saved as `tokenizers` and transformers do it.

Run: pytest tests/text/test_added_tokens.py
"""

import json
import pickle
import random
from pathlib import Path

import pytest
import tokenizers
import transformers
from fuzz_tokenizer import random_string
from tokenizers import models
from transformers import AddedToken, AutoTokenizer

from minibert.look.wordpiece_trace import trace
from minibert.text.added_tokens import is_word
from minibert.text.token_file import description
from minibert.text.tokenizer import Tokenizer
from minibert.text.tokenizer_doubts import tokenizer_findings

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB = [
    *SPECIAL,
    "the",
    "hotel",
    "clean",
    "##ed",
    "un",
    "##clean",
    ",",
    "a",
    "b",
    "##a",
    "##b",
    "北",
    "京",
    "é",
    "new",
]
VOCAB += ["tok", "##tok", "foo", "##s", "<", ">", "x", "##x", "The", "Hotel"]
USUAL = ["NewTok", "hotels", "foo"]  # as add_tokens("NewTok") makes them
FLAGS = [
    AddedToken("Left", lstrip=True),
    AddedToken("right", rstrip=True),
    AddedToken("alone", single_word=True),
    AddedToken("raw", normalized=False),
    AddedToken("RawBoth", normalized=False, lstrip=True, rstrip=True),
    AddedToken("one", normalized=False, single_word=True),
]
ODD = [
    AddedToken("北京"),
    AddedToken("new york"),
    AddedToken("É"),
    AddedToken("##b"),
    AddedToken("a[SEP]b", normalized=False),
    AddedToken("<x>", special=True),
    AddedToken("<S>", special=True, normalized=True),
    AddedToken(" pad", rstrip=True, lstrip=True),
    AddedToken("ab", single_word=True, lstrip=True, rstrip=True),
    AddedToken("İx"),
    AddedToken("ⓐ1", single_word=True),
    AddedToken("〮\u0301\U0001e4ec", special=True, normalized=True),
]
MASK = [AddedToken("[MASK]", lstrip=True, special=True, normalized=False)]
CONFIGURATIONS = {"usual": USUAL, "flags": FLAGS, "odd": ODD, "mask": MASK, "all": [*USUAL, *FLAGS, *ODD, *MASK]}
WORDS = [
    "NewTok",
    "NEWTOK",
    "hotels",
    "Hotels",
    "foo",
    "FOO",
    "Left",
    "left",
    "right",
    "alone",
    "raw",
    "Raw",
    "RawBoth",
]
WORDS += [
    "one",
    "One",
    "北京",
    "北 京",
    "new york",
    "New  York",
    "é",
    "e\u0301",
    "É",
    "##b",
    "a[SEP]b",
    "[SEP]",
    "<x>",
    "<X>",
]
WORDS += [
    "<S>",
    "<s>",
    " pad",
    "ab",
    "aB",
    "İx",
    "i\u0307x",
    "ⓐ1",
    "[MASK]",
    "〮\u0301\U0001e4ec",
    "\u200b",
    "\u0301",
    "\u3000",
    "\x0b",
    "s",
    "_",
    "-",
]


def texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    gaps = ("", "", " ", "  ", "\t", "\u2003", ".", "s")
    own = ["".join(rng.choice(WORDS) + rng.choice(gaps) for _ in range(rng.randint(1, 9))) for _ in range(count)]
    return own + [random_string(rng, VOCAB) + rng.choice(WORDS) + random_string(rng, VOCAB) for _ in range(count // 3)]


def base(directory: Path, lowercase: bool = True) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCAB), encoding="utf-8")
    (directory / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory


def entry(token: AddedToken) -> dict:
    names = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return {name: getattr(token, name) for name in names}


def of_transformers_5(directory: Path, tokens: list, lowercase: bool) -> Path:
    """tokenizer.json, and nothing in the configuration."""
    theirs = AutoTokenizer.from_pretrained(base(directory / "base", lowercase))
    theirs.add_tokens([token for token in tokens if not getattr(token, "special", False)])
    theirs.add_tokens([token for token in tokens if getattr(token, "special", False)], special_tokens=True)
    theirs.save_pretrained(directory)
    (directory / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    assert not (directory / "vocab.txt").exists()
    return directory


def of_transformers_4(directory: Path, tokens: list, lowercase: bool) -> Path:
    """vocab.txt, and all about added tokens in the configuration."""
    theirs = AutoTokenizer.from_pretrained(of_transformers_5(directory / "five", tokens, lowercase))
    path = base(directory, lowercase) / "tokenizer_config.json"
    numbered = {str(number): entry(token) for number, token in theirs.added_tokens_decoder.items()}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"added_tokens_decoder": numbered}), encoding="utf-8")
    return directory


LAYOUTS = {"4": of_transformers_4, "5": of_transformers_5}


def agree(own: Tokenizer, theirs: transformers.PreTrainedTokenizerBase, given: list[str]) -> None:
    for split in (False, True):
        wanted = theirs(given, return_offsets_mapping=True, split_special_tokens=split)
        options = {"truncation": "none", "padding": "none", "split_special_tokens": split}
        found = own(given, return_offsets=True, **options)
        for row, text in enumerate(given):
            assert found.input_ids[row].tolist() == wanted.input_ids[row], text
            assert [*map(tuple, found.offsets[row].tolist())] == wanted.offset_mapping[row], text
            if row < 100:
                assert own.encode(text, split) == wanted.input_ids[row], text


@pytest.mark.parametrize("lowercase", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tokens", CONFIGURATIONS)
def test_random_texts_agree_with_transformers(tmp_path, tokens, layout, lowercase):
    directory = LAYOUTS[layout](tmp_path, CONFIGURATIONS[tokens], lowercase)
    own, theirs = Tokenizer.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    assert {token: number for number, token in enumerate(own.vocab)} == theirs.get_vocab()
    agree(own, theirs, texts(60, seed=len(tokens)))


@pytest.mark.slow
@pytest.mark.parametrize("tokens", CONFIGURATIONS)
def test_many_random_texts_agree_with_transformers(tmp_path, tokens):
    directory = of_transformers_5(tmp_path, CONFIGURATIONS[tokens], True)
    agree(Tokenizer.from_pretrained(directory), AutoTokenizer.from_pretrained(directory), texts(20_000, seed=1))


def plain_vocabulary(directory: Path, **added: int) -> Path:
    """As transformers before 4.34 left it: vocab.txt and added_tokens.json."""
    (base(directory) / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    return directory


def test_the_oldest_layout_is_read_as_transformers_reads_it(tmp_path):
    directory = plain_vocabulary(tmp_path, NewTok=len(VOCAB), other=len(VOCAB) + 1)
    agree(Tokenizer.from_pretrained(directory), AutoTokenizer.from_pretrained(directory), texts(300, seed=1))


@pytest.mark.parametrize("tokens", CONFIGURATIONS)
def test_what_is_saved_is_read_by_transformers_and_by_itself(tmp_path, tokens):
    own = Tokenizer.from_pretrained(of_transformers_5(tmp_path / "theirs", CONFIGURATIONS[tokens], True))
    own.save_pretrained(base(tmp_path / "own"))
    theirs, given = AutoTokenizer.from_pretrained(tmp_path / "own"), texts(60, seed=3)
    agree(own, theirs, given)
    agree(Tokenizer.from_pretrained(tmp_path / "own"), theirs, given)


def test_saving_twice_gives_the_same_bytes(tmp_path):
    own = Tokenizer.from_pretrained(of_transformers_5(tmp_path / "theirs", CONFIGURATIONS["all"], True))
    own.save_pretrained(tmp_path / "a")
    Tokenizer.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    for name in ("vocab.txt", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_added_word_is_no_piece_for_wordpiece(tmp_path):
    """A special token "abc" is found as it is written alone: ABC is not its word."""
    directory = of_transformers_5(tmp_path, [AddedToken("abc", special=True, normalized=False)], True)
    own, theirs = Tokenizer.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    assert own.tokenize("abc ABC") == ["abc", "[UNK]"]
    agree(own, theirs, ["abc ABC xabcx", "ABC"])


def test_a_token_whose_white_space_another_has_taken_is_none(tmp_path):
    tokens = [AddedToken(" ", lstrip=True, normalized=False), AddedToken("raw", rstrip=True, normalized=False)]
    directory = of_transformers_5(tmp_path, tokens, True)
    agree(Tokenizer.from_pretrained(directory), AutoTokenizer.from_pretrained(directory), ["raw a", "a b", "raw"])


def test_a_long_text_is_truncated_as_in_transformers(tmp_path):
    directory = of_transformers_5(tmp_path, [*FLAGS, *USUAL], True)
    own, theirs = Tokenizer.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    given = ["".join(texts(40, seed)) for seed in range(20)]
    wanted = theirs(given, truncation=True, max_length=19, padding=True, return_offsets_mapping=True)
    found = own(given, max_length=19, return_offsets=True)
    assert found.input_ids.tolist() == wanted.input_ids
    assert [[*map(tuple, row)] for row in found.offsets.tolist()] == wanted.offset_mapping


def test_other_texts_go_the_fast_way(tmp_path, monkeypatch):
    own = Tokenizer.from_pretrained(of_transformers_5(tmp_path, CONFIGURATIONS["usual"], True))
    asked = []
    monkeypatch.setattr(own, "_remembered", lambda chosen, split: asked.append(chosen))
    own.encode_flat(["the hotel, clean 北京 é " * 100] * 20)
    assert asked == []


@pytest.mark.slow
def test_a_copy_is_the_same_tokenizer(tmp_path):
    own = Tokenizer.from_pretrained(of_transformers_5(tmp_path, CONFIGURATIONS["all"], True))
    given = texts(100, seed=2)
    assert own(given).input_ids.tolist() == pickle.loads(pickle.dumps(own))(given).input_ids.tolist()


def test_the_record_of_a_token_file_names_added_tokens(tmp_path):
    own = Tokenizer.from_pretrained(of_transformers_5(tmp_path, ["foo"], True))
    plain = Tokenizer(VOCAB)
    assert description(own).keys() - description(plain).keys() == {"added_tokens", "pieces"}
    (tmp_path / "text.txt").write_text("foos", encoding="utf-8")
    tokens = own.encode_file(tmp_path / "text.txt", tmp_path / "out")
    with pytest.raises(ValueError, match=r"made by another tokenizer \(added_tokens, pieces differ\)"):
        tokens.check(plain)


@pytest.mark.parametrize("text", ["a NEWTOK, foos <x>  raw", "Left foo right  a", "the 北京 [MASK]"])
def test_the_trace_of_a_text_gives_its_tokens(tmp_path, text):
    own = Tokenizer.from_pretrained(of_transformers_5(tmp_path, CONFIGURATIONS["all"], True))
    pieces = [piece for stretch in trace(own, text) for piece in stretch.pieces]
    found = own(text, return_offsets=True)
    assert [piece.id for piece in pieces] == found.input_ids[0, 1:-1].tolist()
    assert [[piece.start, piece.end] for piece in pieces] == found.offsets[0, 1:-1].tolist()


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("added_tokens.json", {"NewTok": 99}, "token 'NewTok' has id 99, but 30 in the vocabulary"),
        ("added_tokens.json", {"NewTok": "30"}, "token 'NewTok' has id '30', no whole number"),
        ("added_tokens.json", {"NewTok": [30]}, "token 'NewTok' has id .30., no whole number"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"30": {"content": "\u200b"}}},
            "nothing after normal",
        ),
        ("tokenizer_config.json", {"added_tokens_decoder": {"30": {"content": ""}}}, "is no token"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"30": {"content": "x y", "rstrip": 1}}}, "rstrip of token"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, file, content, reason):
    (base(tmp_path) / file).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=reason) as error:
        Tokenizer.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_frozen_table_of_word_characters_is_that_of_tokenizers():
    theirs = tokenizers.Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    theirs.add_tokens([AddedToken("!", single_word=True, normalized=False)])
    chars = [chr(code) for code in range(0, 0x110000, 7) if not 0xD800 <= code < 0xE000]
    found = theirs.encode_batch([f"{char}!" for char in chars])
    assert [is_word(char) for char in chars] == [1 not in row.ids for row in found]


# --- What others may read differently ---------------------------------------------------------------------------------


def doubted(directory: Path) -> list[str]:
    return [finding.name for finding in tokenizer_findings(directory)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sound_files_leave_no_doubt(tmp_path, layout, caplog):
    directory = LAYOUTS[layout](tmp_path, [*FLAGS, "NewTok"], True)
    Tokenizer.from_pretrained(directory)
    assert doubted(directory) == caplog.messages == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, "'ByteLevel'"),
        (None, "None"),
        ({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 1]}, "'BertProcessing'"),
    ],
)
def test_a_foreign_post_processor_is_a_line_and_a_finding(tmp_path, caplog, change, kind):
    path = of_transformers_5(tmp_path, [], True) / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": change}))
    assert doubted(tmp_path) == ["tokenizer-post-processor"]
    own = Tokenizer.from_pretrained(tmp_path)
    assert f"post_processor is {kind}, and not BERT's; minibert puts [CLS] A [SEP] B [SEP]" in caplog.text
    assert own("a", "b").input_ids.tolist() == [AutoTokenizer.from_pretrained(tmp_path)("a", "b").input_ids]


def test_the_older_post_processor_of_bert_is_berts(tmp_path):
    path = of_transformers_5(tmp_path, [], True) / "tokenizer.json"
    older = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": older}))
    assert doubted(tmp_path) == []


def test_an_added_token_that_is_a_word_is_a_line_and_a_finding(tmp_path, caplog):
    directory = plain_vocabulary(tmp_path, hotel=VOCAB.index("hotel"))
    assert doubted(directory) == ["tokenizer-added-words"]
    own = Tokenizer.from_pretrained(directory)
    assert "added_tokens.json: adds 'hotel', a token of the vocabulary: it is now found inside words" in caplog.text
    agree(own, AutoTokenizer.from_pretrained(directory), ["hotel hotels ahotel HOTEL"])


def test_what_a_file_names_is_shown_in_one_short_line_without_control_characters(tmp_path, caplog):
    base(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"mask_token": "[MASK]"}), encoding="utf-8")
    for token in ("[MASK]\x00\x1b[31m", "\ud800", "x" * 9000):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"mask_token": token}), encoding="utf-8")
        caplog.clear()
        Tokenizer.from_pretrained(tmp_path)
        (line,) = caplog.messages
        assert "mask_token is [MASK], tokenizer_config.json says " in line
        assert line.isprintable()
        assert len(line) <= 600


def test_white_space_in_a_vocabulary_is_a_line_and_a_finding(tmp_path, caplog):
    path = base(tmp_path) / "vocab.txt"
    path.write_text("".join(f"{token}\r\n" for token in [*VOCAB, "bar ", "\u2028", "##\u2028", "qux"]), newline="")
    assert doubted(tmp_path) == ["tokenizer-trailing-space"]
    own = Tokenizer.from_pretrained(tmp_path)
    assert "vocab.txt: white space at the end of 1 lines, first of line 31, is no part of the token" in caplog.text
    agree(own, AutoTokenizer.from_pretrained(tmp_path), ["bar qux bars"])
