"""Proves that wordpiece.py cuts and aligns as Hugging Face's `tokenizers` does.
Run: pytest tests/core/test_wordpiece.py

Where Google's tokenization.py does something else, a row of GOOGLE_DIFFERS says so.
"""

import doctest
import json
import random
import subprocess
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import SHARED, needs_shared
from fuzz_tokenizer import SWITCHES, random_string, reference
from hypothesis import given, settings
from hypothesis import strategies as st

from minibert.core import encoding, tokenizer, unicode_tables, wordpiece
from minibert.core.wordpiece import Piece, normalize, tokenize, words
from minibert.text import cuts, vocab
from minibert.text.cuts import units
from minibert.text.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL = [
    *SPECIAL,
    *"abcdefghijklmnopqrstuvwxyzAS.,!?'-=",
    "un",
    "##want",
    "##ed",
    "want",
    "run",
    "##ning",
    "中",
    "国",
    "床",
    "ß",
]
SMALL += ["##" + char for char in "abcdefghijklmnopqrstuvwxyz国ß\u0301\u0307\u302e"] + [
    "é",
    "ss",
    "##ee",
    "σ",
    "##α",
    "##σ",
    "##ς",
]
EXPECTED = json.loads((SHARED / "reference/tokenization_expectations.json").read_text()) if SHARED.is_dir() else None


def strings(
    text: str, lowercase: bool = True, strip_accents: bool | None = None, tokenize_chinese_chars: bool = True
) -> list[str]:
    """The words before wordpiece."""
    return [word for word, _ in words(normalize(text, lowercase, strip_accents, tokenize_chinese_chars))]


def spans(text: str, vocab: object, *switches: bool | None) -> list[tuple[str, int, int]]:
    return [tuple(piece) for piece in tokenize(text, vocab, *switches)]


def agree(text: str, made: object, tokens: object, switches: tuple = ()) -> None:
    """Tokens and offsets of a text without special tokens equal those of `tokenizers`."""
    made.encode_special_tokens = True
    encoding = made.encode(text, add_special_tokens=False)
    expected = [(token, *span) for token, span in zip(encoding.tokens, encoding.offsets, strict=True)]
    assert [tuple(piece) for piece in tokenize(text, tokens, *switches)] == expected


# --- The steps, one by one --------------------------------------------------------------------------------------------


def test_the_examples_in_the_docstrings_hold():
    modules = (wordpiece, encoding, tokenizer, cuts, vocab)
    assert all(doctest.testmod(module).failed == 0 for module in modules)


def test_the_example_of_the_module_holds():
    assert strings("Née à 北京,1999") == ["nee", "a", "北", "京", ",", "1999"]


@pytest.mark.parametrize("space", wordpiece.WHITESPACE)
def test_every_white_space_separates(space):
    assert strings(f"a{space}b") == ["a", "b"]


@pytest.mark.parametrize("char", "\x00\x05\x0b\x0c\x1c\x1f\x7f\x85\xad\u200b\u200d\u202a\ufeff\ufffd\ue000\U000f0000")
def test_control_format_and_private_characters_vanish_without_separating(char):
    assert spans(f"a{char}b", {"ab"}) == [("ab", 0, 3)]


def test_unassigned_characters_stay():
    assert strings("a\u0378b") == ["a\u0378b"]


def test_chinese_characters_stand_alone():
    assert strings("ah博推zz") == ["ah", "博", "推", "zz"]


def test_chinese_characters_are_ordinary_letters_on_request():
    assert strings("ah博推zz", tokenize_chinese_chars=False) == ["ah博推zz"]


@pytest.mark.parametrize(("first", "last"), wordpiece.CHINESE)
def test_the_borders_of_every_chinese_block_are_inside(first, last):
    assert strings(f"a{chr(first)}b{chr(last)}c") == [
        "a",
        unicodedata.normalize("NFD", chr(first)),
        "b",
        unicodedata.normalize("NFD", chr(last)),
        "c",
    ]


@pytest.mark.parametrize(
    "char", ["\u33ff", "\u4dc0", "\ua000", "ぁ", "ア", "한", "\u3007", "\U0002a6e0", "\U0002b820", "\U00030000"]
)
def test_what_is_not_a_chinese_character_stays_in_its_word(char):
    assert len(strings(f"a{char}b")) == 1


def test_accents_go_and_case_goes():
    assert strings(" \tHäLLo!how  \n Are yoU?  ") == ["hallo", "!", "how", "are", "you", "?"]


def test_cased_text_keeps_accents():
    assert strings("Häns", lowercase=False) == ["Häns"]


def test_accents_and_case_are_independent_switches():
    assert strings("HÉ", lowercase=True, strip_accents=False) == ["hé"]
    assert strings("HÉ", lowercase=False, strip_accents=True) == ["HE"]


def test_lowercase_gives_the_dotted_capital_i_two_characters_at_one_place():
    assert spans("İ", {"i", "##\u0307"}, True, False) == [("i", 0, 1), ("##\u0307", 0, 1)]


def test_hangul_is_taken_apart_and_every_part_points_at_its_syllable():
    assert spans("각", {"\u1100", "##\u1161", "##\u11a8"}) == [("\u1100", 0, 1), ("##\u1161", 0, 1), ("##\u11a8", 0, 1)]


def test_marks_that_change_places_leave_their_sources_behind():
    """U+302E (class 224) stays and U+094D (class 9) is dropped; sorted they change places, the sources do not."""
    assert spans("a\u302e\u094d", {"a", "##\u302e"}) == [("a", 0, 1), ("##\u302e", 2, 3)]


def test_two_marks_at_the_very_beginning_are_sorted_too():
    assert spans("\u302e\u094d a", {"\u302e", "a"}) == [("\u302e", 1, 2), ("a", 3, 4)]


@pytest.mark.parametrize("char", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~、。“”—…！？")
def test_punctuation_stands_alone(char):
    assert strings(f"a{char}b") == ["a", char, "b"]


def test_dropped_marks_lie_outside_the_offsets():
    assert spans("cafe\u0301 é", {"cafe", "e"}) == [("cafe", 0, 4), ("e", 6, 7)]


# --- Greedy longest match first ---------------------------------------------------------------------------------------


def test_the_longest_piece_wins():
    assert [
        token for token, *_ in tokenize("unwanted running", {"un", "unw", "##want", "##anted", "run", "runn", "##ing"})
    ] == [
        "unw",
        "##anted",
        "runn",
        "##ing",
    ]


def test_later_pieces_carry_two_hashes():
    assert spans("unwanted", {"un", "want", "ed", "##want", "##ed"}) == [("un", 0, 2), ("##want", 2, 6), ("##ed", 6, 8)]


def test_there_is_no_way_back_from_a_greedy_choice():
    assert spans("abc", {"ab", "a", "##bc"}) == [("[UNK]", 0, 3)]


def test_one_unknown_rest_makes_the_word_unknown():
    assert spans("unwantedX running", {"un", "##want", "##ed", "run", "##ning"}) == [
        ("[UNK]", 0, 9),
        ("run", 10, 13),
        ("##ning", 13, 17),
    ]


def test_a_word_of_100_characters_is_cut_and_one_of_101_is_unknown():
    assert len(tokenize("a" * 100, {"a", "##a"})) == 100
    assert spans("a" * 101, {"a", "##a"}) == [("[UNK]", 0, 101)]


def test_the_limit_counts_characters_after_normalisation():
    assert len(tokenize("e\u0301" * 60, {"e", "##e"})) == 60


def test_an_overlong_word_points_at_all_of_itself():
    assert spans("b " + "a\u200b" * 300 + " b", {"a", "b"}) == [("b", 0, 1), ("[UNK]", 2, 601), ("b", 603, 604)]


def test_empty_text_and_spaces_have_no_pieces():
    assert tokenize("", {"a"}) == tokenize(" \t\u3000\u2028", {"a"}) == tokenize("\x00", {"a"}) == []


# --- Against the references -------------------------------------------------------------------------------------------

GOOGLE_DIFFERS = {  # what: (text, words or pieces here, what Google's tokenization.py gives on Python 3.11)
    "lowercase knows no final sigma": ("ΣΑΣ", ["σασ"], ["σας"]),
    "control characters of the private use area go": ("a\ue000b", ["ab"], ["a\ue000b"]),
    "U+2B820 … U+2B91F are not Chinese characters": (
        "\U0002b8ff\U0002b900",
        ["\U0002b8ff\U0002b900"],
        ["\U0002b8ff", "\U0002b900"],
    ),
    "punctuation younger than Unicode 8 does not split": ("a\u2e52b", ["a\u2e52b"], ["a", "\u2e52", "b"]),
    "U+166D is punctuation": ("a\u166db", ["a", "\u166d", "b"], ["a\u166db"]),
    "accents younger than Unicode 8 stay": ("\u0898a", ["\u0898a"], ["a"]),
    "U+1734 is an accent": ("a\u1734b", ["ab"], ["a\u1734b"]),
    "decompositions younger than Unicode 9 are not made": ("\U00011938", ["\U00011938"], ["\U00011935\U00011930"]),
    "letters younger than Python have a lower case": ("\ua7cb", ["\u0264"], ["\ua7cb"]),
}


@pytest.mark.parametrize("what", GOOGLE_DIFFERS)
def test_where_google_differs_the_words_are_those_of_tokenizers(what):
    text, here, google = GOOGLE_DIFFERS[what]
    assert strings(text) == here != google


def test_where_google_differs_the_limit_is_100_and_not_200():
    assert [token for token, *_ in tokenize("a" * 101, {"a", "##a"})] == ["[UNK]"] != ["a", *["##a"] * 100]


@pytest.fixture(scope="module")
def small_reference():
    return reference(SMALL, lowercase=True)


def test_every_border_of_the_unicode_tables_agrees_with_tokenizers(small_reference):
    """All code points up to U+33FF, and everywhere the neighbours of a table's borders, alone and between letters."""
    tables = (
        unicode_tables.REMOVED,
        unicode_tables.PUNCTUATION,
        unicode_tables.NONSPACING_MARKS,
        unicode_tables.DECOMPOSABLE,
    )
    borders = {code for table in tables for span in wordpiece.spans(table) for code in span}
    borders |= {code for span in wordpiece.CHINESE for code in span} | {ord(char) for char in wordpiece.LOWERCASE}
    codes = set(range(0x3400)) | {code + step for code in borders for step in (-1, 0, 1)}
    for code in sorted(codes - set(range(0xD800, 0xE000)) - {-1, 0x110000}):
        agree(f"{chr(code)} a{chr(code)}b", small_reference, SMALL)


@pytest.mark.slow
def test_every_code_point_agrees_with_tokenizers(small_reference):
    tokens = set(SMALL)
    for code in (*range(0xD800), *range(0xE000, 0x110000)):
        agree(f"{chr(code)} a{chr(code)}b", small_reference, tokens)


@pytest.mark.slow
def test_the_frozen_tables_are_what_tokenizers_answers():
    script = Path(__file__).parents[1] / "golden" / "make_unicode_tables.py"
    subprocess.run([sys.executable, script, "--check"], check=True)


@pytest.mark.parametrize("switches", SWITCHES)
def test_random_unicode_agrees_with_tokenizers(switches):
    rng, made, tokens = random.Random(f"{switches}"), reference(SMALL, *switches), set(SMALL)
    for _ in range(400):
        agree(random_string(rng, SMALL), made, tokens, switches)


texts = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
        st.text("aZé\u0301\u0323\u302e\u094d\u0f73\u0344İΣ각 \u3000\x0b\u200b中国.,'=", max_size=12),
        st.sampled_from(SMALL),
    ),
    max_size=6,
).map("".join)
fixed = settings(deadline=None, derandomize=True, max_examples=150)


@fixed
@given(texts, st.sampled_from(SWITCHES))
def test_any_text_agrees_with_tokenizers(text, switches):
    agree(text, reference(SMALL, *switches), set(SMALL), switches)


@fixed
@given(texts, st.sampled_from(SWITCHES))
def test_a_text_is_the_sum_of_its_units(text, switches):
    parts = [
        Piece(token, match.start() + start, match.start() + end)
        for match in units(text, switches[2])
        for token, start, end in tokenize(match.group(), set(SMALL), *switches)
    ]
    assert parts == tokenize(text, set(SMALL), *switches)


@fixed
@given(texts)
def test_offsets_lie_in_the_text_and_never_go_back(text):
    found = spans(text, set(SMALL))
    assert all(0 <= start < end <= len(text) for _, start, end in found)
    assert all(a[1] <= b[1] and a[2] <= b[2] for a, b in pairwise(found))


def test_no_punctuation_character_ends_in_a_mark():
    """Else a unit could end between two marks that NFD sorts; cuts.py relies on it."""
    for first, last in wordpiece.spans(unicode_tables.PUNCTUATION):
        for code in range(first, last + 1):
            assert all(part not in wordpiece.COMBINING_CLASSES for part, _ in wordpiece.decomposition(chr(code)))


LONG = 50_000  # a quadratic step would take minutes


@pytest.mark.parametrize(
    "text", ["a" * LONG, " " * LONG, "\u0301" * LONG, "a" + "\u0301\u0323" * (LONG // 2), "." * LONG, "床" * LONG]
)
def test_time_is_linear_in_the_length(text):
    assert len(tokenize(text, {"a", "."})) in (0, 1, LONG)


# --- The published expectations ---------------------------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize("case", EXPECTED["cases"] if EXPECTED else [], ids=lambda case: repr(case["text"])[:40])
def test_the_published_case_holds(case):
    """Kind "basic" is about words: with a vocabulary of the expected words they come out whole."""
    basic = case["kind"] == "basic"
    vocab = list(dict.fromkeys(SPECIAL + (case["expected"] if basic else case["vocab"])))
    lower = case.get("lower", False)  # Google's WordPiece alone does not lowercase
    tokens = Tokenizer(vocab, lower, case.get("strip_accents")).tokenize(case["text"])
    assert tokens == case["expected"]
    if "ids" in case:
        assert [case["vocab"].index(token) for token in tokens] == case["ids"]


@needs_shared
def test_the_published_character_classes_hold():
    kinds = {
        "is_whitespace": lambda char: char in wordpiece.WHITESPACE,
        "is_control": wordpiece.is_removed,
        "is_punctuation": wordpiece.is_punctuation,
    }
    for name, holds in kinds.items():
        assert all(map(holds, EXPECTED[name]["true"]))
        assert not any(map(holds, EXPECTED[name]["false"]))
