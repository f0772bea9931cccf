"""Proves that wordpiece_batch.py encodes as wordpiece.py does: ids and spans.
Run: pytest tests/text/test_wordpiece_batch.py

With -m slow every code point is compared with Hugging Face's `tokenizers`.
"""

import itertools
import random
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import tokenizers
from conftest import SHARED, needs_shared
from fuzz_tokenizer import MARKS, SPECIAL, SWITCHES, Both, Spans, both, flat_rows, random_string, reference
from hypothesis import given, settings
from hypothesis import strategies as st

from minibert.core import unicode_tables, wordpiece
from minibert.text import symbols, wordpiece_batch
from minibert.text.tokenizer_files import read_vocabulary

REORDERING = "\u302e\U00011235\U0001d165\u302f"  # marks that stay where accents go, so that sorting moves them
EXTRA = ("[S]", "aa", "[unused1]")
DISTINCT_SWITCHES = list(itertools.product((True, False), repeat=3))  # None for strip_accents is one of the others


@pytest.fixture(autouse=True)
def few_characters_are_many(monkeypatch) -> None:
    """Otherwise texts as short as these were all read the way of those that are not ASCII."""
    monkeypatch.setattr(wordpiece_batch, "MIXED", 0)


def same(texts: Sequence[str], found: list[Spans], expected: list[Spans]) -> None:
    """Shows three rows that differ: pytest would compare millions of numbers for a message."""
    triples = zip(texts, found, expected, strict=True)
    assert [triple for triple in triples if triple[1] != triple[2]][:3] == []


def agree(made: Both, texts: Sequence[str], split_special_tokens: bool = False) -> None:
    flat = made.fast.encode(texts, True, split_special_tokens)
    same(texts, flat_rows(flat), [made.slow(text, split_special_tokens) for text in texts])
    assert (flat.ids.dtype, flat.lengths.dtype, flat.spans.dtype) == (np.int32, np.int64, np.int32)
    bare = made.fast.encode(texts, False, split_special_tokens)
    assert bare.spans is None
    assert np.array_equal(bare.ids, flat.ids) and np.array_equal(bare.lengths, flat.lengths)  # noqa: PT018


def stirred(seed: int) -> list[str]:
    """A random vocabulary over several scripts, so small that most words have several pieces or none."""
    rng = random.Random(seed)
    scripts = (
        "abcdeABC1",
        "éßσΣİı\u0307",
        "абв",
        "各中国ア",
        "\u1100\u1161\u11a8각",
        "कखि\u094d",
        "\u0301\u302e\u0898",
    )
    words = {"".join(rng.choices(rng.choice(scripts), k=rng.randint(1, 4))) for _ in range(160)}
    pieces = ["##" * (rng.random() < 0.6) + word for word in sorted(words)]
    alone = [*"[],.!='S中国", "。", "don't", "a b", "##", "###", "##'", "a" * 101, "##" + "a" * 99]
    return list(dict.fromkeys([*SPECIAL, *EXTRA, *pieces, *alone, *"abcdeS", *("##" + char for char in "abcdeS各")]))


@cache
def stirred_twins(switches: tuple, seed: int = 1) -> Both:
    return both(stirred(seed), *switches, extra=EXTRA)


@cache
def strings(count: int, seed: str) -> list[str]:
    rng = random.Random(seed)
    return [random_string(rng, stirred(1)) for _ in range(count)]


# --- By hand ----------------------------------------------------------------------------------------------------------


def test_the_example_of_the_module_holds():
    """naïve is n a i v e once the diaeresis has gone: na, then ##ive, at the places 0-2 and 2-5 of its text."""
    vocab = [*SPECIAL, "nee", "ok", "na", "##ive", ",", "北", "京", "!"]
    flat = both(vocab).fast.encode(["Née ok", "naïve, 北京!"], spans=True)
    assert flat.ids.tolist() == [5, 6, 7, 8, 9, 10, 11, 12]
    assert flat.lengths.tolist() == [2, 6]
    assert flat.spans.tolist() == [[0, 3], [4, 6], [0, 2], [2, 5], [5, 6], [7, 8], [8, 9], [9, 10]]


def test_removed_characters_join_and_lie_inside_the_span():
    flat = both([*SPECIAL, "ab", "##c"]).fast.encode(["\x00a\u200bb\u0301c\x00 a\x0bb"], spans=True)
    assert flat.ids.tolist() == [5, 6, 5]
    assert flat.spans.tolist() == [[1, 4], [5, 6], [8, 11]]


def test_a_special_token_is_one_token_of_its_whole_length():
    flat = both([*SPECIAL, "a", "b", "[", "]", "sep"]).fast.encode(["a[SEP]b é[MASK]"], spans=True)
    assert flat.ids.tolist() == [5, 3, 6, 1, 4]
    assert flat.spans.tolist() == [[0, 1], [1, 6], [6, 7], [8, 9], [9, 15]]


def test_a_special_token_is_split_on_request():
    flat = both([*SPECIAL, "a", "[", "]", "sep"]).fast.encode(["a[SEP]"], True, split_special_tokens=True)
    assert flat.ids.tolist() == [5, 6, 8, 7]
    assert flat.spans.tolist() == [[0, 1], [1, 2], [2, 5], [5, 6]]


def test_a_word_with_an_unknown_rest_is_unknown_as_a_whole():
    flat = both([*SPECIAL, "ab", "##c"]).fast.encode(["abcd abc ab"], spans=True)
    assert flat.ids.tolist() == [1, 5, 6, 5]
    assert flat.spans.tolist() == [[0, 4], [5, 7], [7, 8], [9, 11]]


def test_later_pieces_carry_two_hashes():
    flat = both([*SPECIAL, "want", "un", "##want", "##un"]).fast.encode(["want unwant wantun un"], spans=True)
    assert flat.ids.tolist() == [5, 6, 7, 5, 8, 6]
    assert flat.spans.tolist() == [[0, 4], [5, 7], [7, 11], [12, 16], [16, 18], [19, 21]]


def test_no_text_and_empty_texts_have_no_tokens():
    made = both([*SPECIAL, "a"])
    for texts in ([], [""], ["", " \n\u3000", "\x00"], ["", "a", ""]):
        agree(made, texts)


def test_a_million_empty_texts_have_no_tokens():
    flat = both([*SPECIAL, "a"]).fast.encode([""] * 10**6, spans=True)
    assert (len(flat.ids), len(flat.lengths), flat.lengths.any()) == (0, 10**6, False)
    assert flat.spans.shape == (0, 2)


def test_a_lone_surrogate_is_refused():
    with pytest.raises(UnicodeEncodeError):
        both([*SPECIAL, "a"]).fast.encode(["a", "\ud800"])


# --- Every character --------------------------------------------------------------------------------------------------


def table_chars() -> Iterator[str]:
    """The characters that a table names, but of long spans the borders; and the neighbours of every border."""
    tables = ("REMOVED", "PUNCTUATION", "NONSPACING_MARKS", "DECOMPOSABLE")
    spans = [span for name in tables for span in wordpiece.spans(getattr(unicode_tables, name))]
    for first, last in [*spans, *wordpiece.CHINESE]:
        yield from map(chr, {*range(first, min(last, first + 300) + 1), first - 1, last - 1, last, last + 1} & CODES)
    yield from itertools.chain(wordpiece.WHITESPACE, wordpiece.LOWERCASE, wordpiece.LOWERCASE.values())
    yield from map(chr, {ord(mark) + step for mark in wordpiece.COMBINING_CLASSES for step in (-1, 0, 1)})


CODES = {*range(0xD800), *range(0xE000, 0x110000)}


@cache
def interesting() -> list[str]:
    chars = {*map(chr, range(0x250)), *"".join(table_chars())}
    return sorted(chars | set("".join(wordpiece.decomposition(char)[0][0] for char in chars)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "switches",  # each on and off; all eight with the slow ones
    [
        pytest.param(s, marks=() if s in ((True, True, True), (False, False, False)) else pytest.mark.slow)
        for s in DISTINCT_SWITCHES
    ],
)
def test_every_character_that_a_table_names_agrees_alone_and_between_letters(switches):
    chars = interesting()
    vocab = [*SPECIAL, "ab", "##b", *(prefix + char for char in chars for prefix in ("", "##"))]
    made = both(list(dict.fromkeys(vocab)), *switches)
    texts = [f"{char} a{char}b" for char in chars]
    agree(made, texts)
    assert len(made.calls) < len(texts) / 20


@pytest.mark.slow
@pytest.mark.parametrize("lowercase", [True, False])
def test_every_code_point_agrees_with_tokenizers(lowercase):
    """Alone and between letters, as texts and as one long text; ids tell apart the 60,000 characters up to U+FFFF."""
    chars = [chr(code) for code in sorted(CODES)]
    known = [char for char in chars if char < "\ue000" or "\uf8ff" < char <= "\uffff"]
    vocab = list(dict.fromkeys([*SPECIAL, "ab", "##b", *(prefix + char for char in known for prefix in ("", "##"))]))
    made, expected = both(vocab, lowercase), reference(vocab, lowercase)
    for begin in range(0, len(chars), 40_000):
        texts = [text for char in chars[begin : begin + 40_000] for text in (char, f"a{char}b")]
        flat = made.fast.encode(texts, spans=True)
        same(texts, flat_rows(flat), their_rows(expected, texts))
        long = " ".join(texts)
        same([long], flat_rows(made.fast.encode([long], spans=True)), their_rows(expected, [long]))


def their_rows(made: tokenizers.Tokenizer, texts: Sequence[str]) -> list[Spans]:
    encodings = made.encode_batch(list(texts), add_special_tokens=False)
    return [[(number, *span) for number, span in zip(e.ids, e.offsets, strict=True)] for e in encodings]


@pytest.mark.parametrize("char", REORDERING)
def test_only_texts_with_marks_that_change_places_go_through_the_specification(char):
    vocab = [*SPECIAL, "a", "b", "##" + char, "##b", "é"]
    made = both(vocab)
    texts = ["a", f"a{char}\u094d b", "é\u0301\u0323 b", f"{char}", "각\u3099", "\u0898", ""]
    agree(made, texts)
    assert made.calls == [texts[1], texts[3]] * 2  # agree encodes twice
    agree(made, [char])
    kept = both(vocab, lowercase=True, strip_accents=False)
    agree(kept, texts)
    assert kept.calls == []


def test_every_mark_sorts_with_its_neighbours():
    marks = [*wordpiece.COMBINING_CLASSES, *map(chr, MARKS)]
    vocab = [*SPECIAL, "a", "##b", *("##" + mark for mark in marks if mark not in "\u0301")]
    made = both(list(dict.fromkeys(vocab)))
    agree(made, [f"a{first}{second}b" for mark in marks for first, second in (mark + "\u094d", "\u0345" + mark)])


# --- Any texts --------------------------------------------------------------------------------------------------------

pieces = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.text("aZé\u0301\u0323\u302e\u094d\u0f73\u0344İΣ각\ua7cb \u3000\x0b\u200b中国.,'=≠", max_size=12),
    st.text("abcde ", max_size=30),
    st.integers(95, 105).map("ab\u200b".__mul__) | st.integers(98, 103).map("a".__mul__),
    st.sampled_from(stirred(1)).map(lambda token: token.removeprefix("##")),
    st.sampled_from([*SPECIAL, *EXTRA, "[SEP", "[[SEP]]", "[sep]", "[S[SEP]", "aaa", "[S\u200b]"]),
)
texts = st.lists(st.lists(pieces, max_size=6).map("".join), max_size=8)
fixed = settings(deadline=None, derandomize=True, max_examples=100)


@settings(fixed, max_examples=50)
@given(texts, st.sampled_from(SWITCHES), st.booleans())
def test_any_texts_agree_with_the_specification(texts, switches, split_special_tokens):
    agree(stirred_twins(switches), texts, split_special_tokens)


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("split_special_tokens", [True, False])
def test_random_unicode_agrees_with_the_specification(switches, split_special_tokens):
    agree(stirred_twins(switches), strings(100, f"{switches}"), split_special_tokens)


@pytest.mark.parametrize("seed", range(2, 6))
def test_other_vocabularies_agree_with_the_specification(seed):
    agree(both(stirred(seed), extra=EXTRA), strings(200, f"{seed}"))


@pytest.mark.parametrize("lowercase", [True, False])
def test_random_unicode_agrees_with_tokenizers(lowercase):
    vocab = stirred(7)
    made, expected = both(vocab, lowercase, extra=EXTRA), reference(vocab, lowercase)
    expected.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in EXTRA])
    drawn = [*strings(1000, "theirs"), "aaa", "[S[SEP][S]aaaa[SEP", "a[S]a aa", "[[S]]"]
    same(drawn, flat_rows(made.fast.encode(drawn, spans=True)), their_rows(expected, drawn))


@needs_shared
@pytest.mark.parametrize(
    "name", ["cased", *(pytest.param(name, marks=pytest.mark.slow) for name in ("uncased", "chinese"))]
)
def test_a_sample_of_the_corpora_agrees_with_the_specification(name):
    vocab = read_vocabulary(SHARED / f"vocab/bert-base-{name}.vocab.txt")
    files = ("chnsenticorp/test.tsv", "sst5_cfimdb/sst-test.txt", "mrpc/dev.tsv")
    lines = [line for file in files for line in (SHARED / file).read_text(encoding="utf-8").split("\n")[:150]]
    agree(both(vocab, name != "cased"), lines)


# --- Independent of neighbours and history ----------------------------------------------------------------------------


def mixed() -> list[str]:
    """ASCII and other texts in turn, some with marks that change places, one long."""
    drawn = strings(40, "mixed")
    plain = ["abcde abcdeabcde edcba 1", "", "cab dab abba cababbadabaedcba", "a b [SEP] \x00c", "don't"]
    long = " ".join(drawn[:40]) + "abcdefghij" * 11 + "\n".join(plain)
    return [text for pair in zip(drawn, plain * 8, strict=True) for text in pair] + [long, plain[0], long]


def test_batches_order_and_history_change_nothing():
    made = both(stirred(1), extra=EXTRA)
    drawn = mixed()
    expected = [made.slow(text) for text in drawn]
    same(drawn, flat_rows(made.fast.encode(drawn, spans=True)), expected)
    same(drawn[::-1], flat_rows(made.fast.encode(drawn[::-1], spans=True)), expected[::-1])
    same(drawn, [row for text in drawn for row in flat_rows(made.fast.encode([text], spans=True))], expected)
    made.fast.encode(strings(500, "others"))
    same(drawn, flat_rows(made.fast.encode(drawn, spans=True)), expected)


@pytest.mark.parametrize("block", [10, 13, 50, 1000])
def test_long_texts_are_cut_where_nothing_joins(monkeypatch, block):
    monkeypatch.setattr(wordpiece_batch, "BLOCK", block)
    for switches in ((True, None, True), (False, None, False)):
        agree(stirred_twins(switches), mixed(), split_special_tokens=not switches[0])


@pytest.mark.parametrize("part", [1, 7, 100])
def test_characters_become_others_part_by_part_as_if_all_at_once(monkeypatch, part):
    monkeypatch.setattr(wordpiece_batch, "PART", part)
    agree(stirred_twins((True, None, True)), mixed())


@pytest.mark.parametrize("char", ["\u0301", "≠", "각"])
def test_a_word_without_end_takes_fewer_than_40_bytes_a_character(monkeypatch, char):
    monkeypatch.setattr(wordpiece_batch, "PART", 1 << 14)
    made, many = stirred_twins((True, None, True)), 10**6
    made.fast.encode([char * 1000])  # tables are made at the first text
    tracemalloc.start()
    try:
        made.fast.encode([char * many])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / many < 40


@pytest.mark.parametrize("bound", ["MAX_NODES", "MAX_PIECES"])
def test_a_forgotten_table_changes_nothing(monkeypatch, bound):
    made = both(stirred(1), extra=EXTRA)
    agree(made, mixed())
    monkeypatch.setattr(wordpiece_batch, bound, 3)
    made.fast.encode(mixed())
    assert made.fast._idle == {1: [], 2: []}
    agree(made, mixed())


@pytest.mark.parametrize("few", [5, 300, 10**9])
def test_few_characters_of_both_kinds_are_encoded_together(monkeypatch, few):
    monkeypatch.setattr(wordpiece_batch, "MIXED", few)
    made = both(stirred(1), extra=EXTRA)
    for batch in (mixed(), ["abc de", "é[SEP]a"], [""] * 6, ["é", ""], []):
        agree(made, batch)
        agree(made, batch, split_special_tokens=True)
    with pytest.raises(UnicodeEncodeError):
        made.fast.encode(["é", "\ud800"])


@pytest.mark.slow
@pytest.mark.parametrize("block", [10, 150])
@pytest.mark.parametrize(
    "word",
    [
        "a" * 500,
        "\u0301" * 500,
        "각" * 500,
        "\0" * 700 + "ab\u200bc" + "é" * 30 + "\0" * 700,
        "a" * 300 + "\u302e\u0301" * 200,
        "≠" * 300,
        "]" * 300,
        "a" * 100 + "\0" * 400,
        "a" * 101 + "\0" * 400,
        "\0" * 90 + "q\0q" * 9,
        "qq" * 99 + "q",
    ],
)
def test_a_word_longer_than_a_block_is_read_as_if_there_were_no_blocks(monkeypatch, word, block):
    monkeypatch.setattr(wordpiece_batch, "BLOCK", block)
    drawn = [pattern.replace("_", word) for pattern in ("_", "ab, _ é", ",_[SEP]_", "中_≠_a", "[SEP]_\0")]
    for switches in ((True, None, True), (False, None, False)):
        made = both([*SPECIAL, *"abcde=", "##a", "##b", "##c", "##e", "##q", "q", "qq"], *switches, extra=["qq"])
        agree(made, drawn)
        agree(made, drawn, split_special_tokens=True)


@pytest.mark.slow
def test_threads_share_an_encoder(monkeypatch):
    made, batches = both(stirred(1), extra=EXTRA), [strings(30, f"thread {n}") for n in range(16)]
    expected = [[made.slow(text) for text in batch] for batch in batches]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda batch: made.fast.encode(batch, spans=True), batches * 3))
    finally:
        sys.setswitchinterval(interval)
    for batch, flat, wanted in zip(batches * 3, found, expected * 3, strict=True):
        same(batch, flat_rows(flat), wanted)


def test_an_interrupted_table_is_not_used_again(monkeypatch):
    made = both(stirred(1), extra=EXTRA)
    agree(made, ["abc", "中国 各"])

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(wordpiece_batch._Vocabulary, "cut", interrupted)
        for text in ("abcde edcba bad", "ббаав各 各各"):
            with pytest.raises(KeyboardInterrupt):
                made.fast.encode([text])
    agree(made, ["abcde edcba bad", "ббаав各 各各"])
    agree(made, mixed())


@pytest.mark.parametrize(("label", "node"), [(0, 0), (1, 1), (1, 0), (0, 1), (3 << 61, 5)])
def test_collisions_change_nothing(monkeypatch, label, node):
    monkeypatch.setattr(wordpiece_batch, "_MIX_LABEL", np.uint64(label))
    monkeypatch.setattr(wordpiece_batch, "_MIX_NODE", np.uint64(node))
    made = both(stirred(1)[:60], extra=EXTRA)
    agree(made, [*mixed()[:40], "abcdeabcdeabcde" * 5, "abcdeabcdeabcdf" * 5])


@pytest.mark.slow
def test_a_table_grows_with_its_words():
    """Words that share their first, second and third 8 or 4 symbols and differ in one of the others."""
    made, letters = both(stirred(1)), ("".join(word) for word in itertools.product("abcde", repeat=5))
    words = [f"{head}{word}{tail}" for word in letters for head, tail in (("", "abcde"), ("abcdeabc", ""), ("", ""))]
    agree(made, [" ".join(words[begin : begin + 50]) for begin in range(0, len(words), 50)] + ["é ".join(words[:600])])
    assert made.fast._idle[1][0].edges.count > 4096  # so many slots it began with


def test_a_word_is_known_again_whatever_follows_it():
    made = both(stirred(1), extra=EXTRA)
    for word in ("abc", "abcdeabc", "abcdeabcdea", "各abc"):
        made.fast.encode([word])
        tables = [table for tables in made.fast._idle.values() for table in tables]
        before = [(table.edges.count, table.used) for table in tables]
        made.fast.encode([f"{word} b" if word.isascii() else word, f"{word}, {word}.", f"{word}\n\n{word}"])
        learned = [table.edges.count - count for table, (count, _) in zip(tables, before, strict=True)]
        assert max(learned) <= 1  # the word b


# --- Long words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint", ["", "\u200b", "\u0301", "\x00"])
@pytest.mark.parametrize("letter", ["a", "é", "b"])
def test_a_word_of_100_characters_is_cut_and_one_of_101_is_unknown(letter, joint):
    """Marks and removed characters do not count; the numbers around 8 and 4 are those of one label."""
    made = both([*SPECIAL, "a", "##a", "e", "##e", "b", "##b", "##é", "é"])
    counts = (*range(1, 18), 63, 64, 65, 99, 100, 101, 102, 200, 201)
    for mark in (joint, joint * 3):
        agree(made, [f"b {(letter + mark) * count} b" for count in counts])
    assert made.fast.encode([letter * 100, letter * 101]).lengths.tolist() == [100, 1]


def test_hangul_counts_in_its_parts():
    made = both([*SPECIAL, "\u1100", "##\u1100", "##\u1161", "##\u11a8"])
    agree(made, ["각" * 33, "각" * 33 + "\u1100", "각" * 34])
    assert made.fast.encode(["각" * 33, "각" * 34]).lengths.tolist() == [99, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "ids"),
    [("a" * 10**6, [1]), (" " * 10**6, []), ("\u0301" * 10**6, []), ("\x00" * 10**6, []), ("≠" * 10**5, [6] * 10**5)],
    ids=["letters", "spaces", "marks", "removed", "unequal"],
)
def test_a_text_of_one_kind_of_character_may_be_very_long(text, ids):
    flat = both([*SPECIAL, "a", "="]).fast.encode(["a", text, "="], spans=True)
    assert flat.ids.tolist() == [5, *ids, 6]
    spans = [[0, len(text)]] if ids == [1] else [[n, n + 1] for n in range(len(ids))]
    assert flat.spans.tolist() == [[0, 1], *spans, [0, 1]]


def test_a_million_words_of_one_letter_are_a_million_tokens():
    flat = both([*SPECIAL, "a", "##a", "é"], lowercase=False).fast.encode(["é a " * 500_000], spans=True)
    assert flat.ids.tolist() == [7, 5] * 500_000
    assert flat.spans[:, 0].tolist() == list(range(0, 2_000_000, 2))
    assert flat.spans[:, 1].tolist() == list(range(1, 2_000_000, 2))


# --- Unusual vocabularies ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_more_characters_than_16_bits_hold():
    """The tokens of 60,000 characters; ids are those of the right one."""
    chars = [chr(code) for code in sorted(CODES) if 0x3400 <= code < 0x9FFF or 0x20000 <= code < 0x28000]
    vocab = [*SPECIAL, "a", "##b", *chars, *("##" + char for char in chars[::7])]
    for chinese in (True, False):
        made = both(vocab, chinese=chinese)
        agree(made, [f"{char}a{chars[-1 - n]}b a" for n, char in enumerate(chars[::53])] + ["a" * 101, chars[0] * 101])
        assert 4 in made.fast._idle


@pytest.mark.parametrize("more", ["a", "é", "##a", "##", "[", "##[", "don't", "a b", "a\u0301", "a" * 101, "中国", "A"])
def test_a_vocabulary_of_one_token_beside_the_special_ones(more):
    drawn = [more, more * 2, more.removeprefix("##"), f"x {more}", f"{more}x", f"[SEP]{more}", "A", "Á é", ""]
    for switches in SWITCHES:
        agree(both([*SPECIAL, more], *switches), drawn)


def test_a_token_of_100_characters_is_found_and_a_longer_one_is_not():
    made = both([*SPECIAL, "a", *("a" * n for n in (99, 100, 101)), "##a"])
    agree(made, ["a" * n for n in range(97, 104)])
    assert made.fast.encode(["a" * 100, "a" * 101]).ids.tolist() == [7, 1]


@pytest.mark.parametrize(
    "extra", [("[S]", "[SEP]]"), ("aa", "aaa"), ("a b", "b c"), ("é", "e"), ("中国", ".a."), ("\u302e",)]
)
def test_special_tokens_may_overlap_and_hold_any_character(monkeypatch, extra):
    monkeypatch.setattr(wordpiece_batch, "BLOCK", 20)
    made = both([*SPECIAL, *"abc[]", "s", "##a", "##b", "sep", "中", *extra], extra=extra)
    parts = [*extra, "[SEP]", "]", "a", " ", "b", "c", "É", ".", "国", "\u0301"]
    rng = random.Random(5)
    agree(made, ["".join(rng.choices(parts, k=rng.randint(1, 20))) for _ in range(400)])


def test_symbols_of_ascii_are_the_same_in_both_widths():
    for switches in DISTINCT_SWITCHES:
        ids = {token: number for number, token in enumerate(stirred(1))}
        made = symbols.alphabet(ids, {"[SEP]": 3}, 1, *switches)
        narrow = np.frombuffer(made.narrow, np.int8)[:128]
        plain = narrow < symbols.NARROW_RARE
        assert np.array_equal(narrow[plain], made.wide[:128][plain])
        assert (made.wide[:128][~plain] >= made.first_rare).all()
