"""Compares minibert's ids, offsets and masks with Hugging Face's `tokenizers`, and the fast twin with wordpiece.py.

    python tests/fuzz_tokenizer.py                              # 200,000 random strings: minutes
    python tests/fuzz_tokenizer.py --strings 2000000            # ten times as many
    python tests/fuzz_tokenizer.py --strings 6000 --seed 7      # few, and others

On real corpora, on every code point and on random Unicode, with three vocabularies. Needs ../shared/data beside the
repository. Prints a table and exits 1 where anything differs. Strings depend on the seed, not on the processes.
"""

import argparse
import csv
import itertools
import multiprocessing
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from minibert.core import wordpiece
from minibert.core.encoding import Flat
from minibert.core.wordpiece import CHINESE, WHITESPACE
from minibert.text.tokenizer import Encoding, Tokenizer
from minibert.text.tokenizer_files import read_vocabulary
from minibert.text.wordpiece_batch import BatchEncoder

DATA = Path(__file__).parents[2] / "shared" / "data"
VOCABULARIES = {"bert-base-uncased": True, "bert-base-cased": False, "bert-base-chinese": True}  # name: lowercase
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LENGTHS = (16, 17, 32, 63, 64, 128, 511, 512)
STRATEGIES = ("longest_first", "only_first", "only_second")
SWITCHES = list(itertools.product((True, False), (None, True, False), (True, False)))  # lowercase, accents, Chinese
Rows = list[tuple[list, ...]]
Spans = list[tuple[int, int, int]]  # of one text: id, start and end of every token


def reference(
    vocab: list[str], lowercase: bool, strip_accents: bool | None = None, chinese: bool = True
) -> tokenizers.Tokenizer:
    """`tokenizers` as BertTokenizer of transformers sets it up."""
    ids = {token: number for number, token in enumerate(vocab)}
    made = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(True, chinese, strip_accents, lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    made.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return made


def reference_rows(made: tokenizers.Tokenizer, inputs: list) -> Rows:
    return [(e.ids, e.type_ids, e.special_tokens_mask, e.offsets, e.attention_mask) for e in made.encode_batch(inputs)]


def own_rows(encoding: Encoding) -> Rows:
    arrays = zip(
        encoding.input_ids,
        encoding.token_type_ids,
        encoding.special_tokens_mask,
        encoding.offsets,
        encoding.attention_mask,
        strict=True,
    )
    return [
        (ids.tolist(), types.tolist(), special.tolist(), [tuple(span) for span in offsets.tolist()], mask.tolist())
        for ids, types, special, offsets, mask in arrays
    ]


# --- The fast twin and its specification ------------------------------------------------------------------------------


class Both(NamedTuple):
    fast: BatchEncoder
    slow: Callable[..., Spans]  # (text, split_special_tokens=False)
    calls: list[str]  # texts for which the fast one has asked the specification


def both(
    vocab: Sequence[str],
    lowercase: bool = True,
    strip_accents: bool | None = None,
    chinese: bool = True,
    extra: Sequence[str] = (),
) -> Both:
    """wordpiece_batch.py and wordpiece.py. extra: special tokens besides the five."""
    ids = {token: number for number, token in enumerate(vocab)}
    special = {token: ids[token] for token in (*SPECIAL, *extra)}
    pattern = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))))
    calls: list[str] = []

    def plain(text: str, begin: int) -> Spans:
        pieces = wordpiece.tokenize(text, ids, lowercase, strip_accents, chinese)
        return [(ids[token], begin + start, begin + end) for token, start, end in pieces]

    def slow(text: str, split_special_tokens: bool = False) -> Spans:
        found, begin = [], 0
        for match in () if split_special_tokens else pattern.finditer(text):
            found += [*plain(text[begin : match.start()], begin), (special[match.group()], *match.span())]
            begin = match.end()
        return found + plain(text[begin:], begin)

    def specification(texts: list[str], split_special_tokens: bool) -> Flat:
        calls.extend(texts)
        rows = [slow(text, split_special_tokens) for text in texts]
        tokens = np.array(list(itertools.chain(*rows)), np.int32).reshape(-1, 3)
        return Flat(tokens[:, 0], np.array(list(map(len, rows))), tokens[:, 1:])

    strip_accents = lowercase if strip_accents is None else strip_accents
    encoder = BatchEncoder(ids, special, ids["[UNK]"], lowercase, strip_accents, chinese, specification)
    return Both(encoder, slow, calls)


def flat_rows(flat: Flat) -> list[Spans]:
    tokens = np.column_stack([flat.ids, flat.spans]).tolist()
    ends = np.cumsum(flat.lengths).tolist()
    return [[*map(tuple, tokens[begin:end])] for begin, end in itertools.pairwise([0, *ends])]


# --- Corpora ----------------------------------------------------------------------------------------------------------


@cache
def corpora() -> dict[str, list[str]]:
    lines = {
        "ChnSentiCorp": [
            line.partition("\t")[2] for name in ("train", "dev", "test") for line in _lines(f"chnsenticorp/{name}.tsv")
        ]
    }
    for corpus, stem in (("SST-5", "sst"), ("CFIMDB", "cfimdb")):
        lines[corpus] = [
            line.partition("|||")[2]
            for name in ("train", "dev", "test")
            for line in _lines(f"sst5_cfimdb/{stem}-{name}.txt")
        ]
    return lines


@cache
def pairs() -> list[tuple[str, str]]:
    files = ("train.tsv", "dev.tsv", "msr_paraphrase_test_labelled.txt")
    rows = (
        row for name in files for row in csv.reader(_lines(f"mrpc/{name}")[1:], delimiter="\t", quoting=csv.QUOTE_NONE)
    )
    return [(row[3], row[4]) for row in rows]


def _lines(name: str) -> list[str]:
    return (DATA / name).read_text(encoding="utf-8-sig").rstrip("\n").split("\n")


# --- Random Unicode ---------------------------------------------------------------------------------------------------

MARKS = [
    0x0300,
    0x0301,
    0x0323,
    0x0327,
    0x0344,
    0x0345,
    0x05B0,
    0x0651,
    0x0898,
    0x093C,
    0x094D,
    0x0F73,
    0x0F75,
    0x11235,
]
MARKS += [0x1DF6, 0x302A, 0x302E, 0x302F, 0x3099, 0x309A, 0x1D165, 0x1D16D, 0x1734, 0x1ABF, 0x1133B, 0x1E4EC]
RANGES = {
    "any": [(0, 0xD7FF), (0xE000, 0x10FFFF)],
    "basic plane": [(0, 0xD7FF), (0xE000, 0xFFFF)],
    "ascii": [(0, 0x7F)],
    "letters": [(0x61, 0x7A)],
    "latin": [(0xC0, 0x24F), (0x1E00, 0x1EFF)],
    "greek, cyrillic": [(0x370, 0x52F), (0x1F00, 0x1FFF), (0x1C80, 0x1C8F)],
    "hebrew, arabic": [(0x590, 0x6FF), (0x8A0, 0x8FF)],
    "indic": [(0x900, 0xDFF), (0xE00, 0xFFF), (0x1B00, 0x1B7F), (0x11000, 0x114FF)],
    "kana, hangul": [(0x3040, 0x30FF), (0xAC00, 0xD7A3), (0x1100, 0x11FF)],
    "chinese": [*CHINESE, (0x4E00, 0x9FFF)],
    "chinese borders": [(edge - 2, edge + 2) for span in [*CHINESE, (0x2B820, 0x2B91F)] for edge in span],
    "punctuation": [(0x20, 0x2F), (0x3A, 0x40), (0x2010, 0x205E), (0x3000, 0x303F), (0xFF00, 0xFF65), (0x2E00, 0x2E5D)],
    "marks": [(mark, mark) for mark in MARKS] + [(0x300, 0x36F)],
    "controls": [(0, 0x1F), (0x7F, 0x9F), (0x200B, 0x200F), (0x2028, 0x202F), (0xFFF9, 0xFFFD), (0xE000, 0xE010)],
    "spaces": [(ord(char), ord(char)) for char in WHITESPACE],
    "capitals": [
        (0x41, 0x5A),
        (0x130, 0x131),
        (0x3A3, 0x3A3),
        (0xA7C0, 0xA7DC),
        (0x10D40, 0x10D85),
        (0x16EA0, 0x16EB8),
    ],
    "emoji": [(0x1F300, 0x1FAFF), (0x2600, 0x27BF), (0xFE0E, 0xFE0F), (0x200D, 0x200D)],
}
BROKEN_SPECIAL = ("[sep]", "[SEP", "SEP]", "[S\u200bEP]", "[S\x00EP]", "[[SEP]]", "[CLS][MASK]", "[MASK]s", "[unused1]")


def random_string(rng: random.Random, vocab: list[str]) -> str:
    """One to eight fragments of different kinds, joined by nothing, spaces or anything."""
    fragments = [rng.choice(FRAGMENTS)(rng, vocab) for _ in range(rng.randint(1, 8))]
    return "".join(
        itertools.chain.from_iterable((part, rng.choice(("", "", " ", "\u3000", "'"))) for part in fragments)
    )


def _from_range(name: str) -> Callable[[random.Random, list[str]], str]:
    spans = RANGES[name]

    def fragment(rng: random.Random, _: list[str]) -> str:
        return "".join(chr(rng.randint(*rng.choice(spans))) for _ in range(rng.randint(1, 8)))

    return fragment


def _tokens(rng: random.Random, vocab: list[str]) -> str:
    return "".join(rng.choice(vocab).removeprefix("##") for _ in range(rng.randint(1, 4)))


def _special(rng: random.Random, _: list[str]) -> str:
    return rng.choice(SPECIAL + BROKEN_SPECIAL)


def _long_word(rng: random.Random, _: list[str]) -> str:
    return "".join(rng.choice("ae\u00e9\u0301\u200bß") for _ in range(rng.randint(90, 130)))


def _marked(rng: random.Random, _: list[str]) -> str:
    """A letter under a heap of marks."""
    return rng.choice("aé中ば각=") + "".join(chr(rng.choice(MARKS)) for _ in range(rng.randint(1, 6)))


FRAGMENTS = [*map(_from_range, RANGES), _tokens, _tokens, _special, _marked, _marked, _long_word]


# --- Comparing --------------------------------------------------------------------------------------------------------


def batches(items: Iterable, size: int = 1000) -> Iterator[list]:
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


Outcomes = Iterator[tuple[object, object, object]]  # input, own, reference


def compared(
    own: Tokenizer, made: tokenizers.Tokenizer, texts: Iterable[str], length: int | None = None, size: int = 1000
) -> Outcomes:
    """Texts in batches, whole or truncated and padded to the longest."""
    made.no_truncation() if length is None else made.enable_truncation(length)
    made.no_padding() if length is None else made.enable_padding(pad_id=own.pad_id)
    options = {"truncation": "none", "padding": "none"} if length is None else {"max_length": length}
    for batch in batches(texts, size):
        yield from zip(
            batch, own_rows(own(batch, return_offsets=True, **options)), reference_rows(made, batch), strict=True
        )


def compared_pairs(
    own: Tokenizer, made: tokenizers.Tokenizer, texts: list[tuple[str, str]], length: int, strategy: str
) -> Outcomes:
    """Pairs one by one: where the reference cannot truncate, minibert must say so too."""
    made.enable_truncation(length, strategy=strategy)
    made.no_padding()
    for first, second in texts:
        try:
            expected = reference_rows(made, [(first, second)])[0]
        except Exception as error:  # noqa: BLE001  `tokenizers` raises nothing narrower
            expected = "too short" if "too short" in str(error) else error
        try:
            found = own_rows(own(first, second, max_length=length, truncation=strategy, return_offsets=True))[0]
        except ValueError:
            found = "too short"
        yield (first, second, length, strategy), found, expected


def compared_twins(made: Both, texts: Iterable[str], split_special_tokens: bool = False) -> Outcomes:
    """The fast twin in batches, the specification text by text."""
    for batch in batches(texts):
        found = flat_rows(made.fast.encode(batch, True, split_special_tokens))
        yield from zip(batch, found, (made.slow(text, split_special_tokens) for text in batch), strict=True)


# --- What is compared: each is a task for a process -------------------------------------------------------------------


@cache
def vocabulary(name: str) -> list[str]:
    return read_vocabulary(DATA / "vocab" / f"{name}.vocab.txt")


@cache
def tools(name: str, *switches: bool | None) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    switches = switches or (VOCABULARIES[name],)
    return Tokenizer(vocabulary(name), *switches), reference(vocabulary(name), *switches)


def drawn(name: str, count: int, seed: str) -> Iterator[str]:
    rng = random.Random(f"{name} {seed}")
    return (random_string(rng, vocabulary(name)) for _ in range(count))


def corpus_whole(name: str, corpus: str) -> Outcomes:
    return compared(*tools(name), corpora()[corpus])


def corpus_truncated(name: str, corpus: str, length: int) -> Outcomes:
    return compared(*tools(name), corpora()[corpus], length)


def corpus_pairs(name: str, strategy: str, length: int) -> Outcomes:
    return compared_pairs(*tools(name), pairs(), length, strategy)


def corpus_twins(name: str, corpus: str, part: int, parts: int) -> Outcomes:
    return compared_twins(both(vocabulary(name), VOCABULARIES[name]), corpora()[corpus][part::parts])


def code_points(name: str, first: int, stop: int) -> Outcomes:
    chars = (chr(code) for code in range(first, stop) if not 0xD800 <= code < 0xE000)
    return compared(*tools(name), (text for char in chars for text in (char, f"a{char}b")), size=5000)


def random_strings(name: str, count: int, seed: str) -> Outcomes:
    return compared(*tools(name), drawn(name, count, seed))


def random_one_by_one(name: str, count: int, seed: str) -> Outcomes:
    return compared(*tools(name), drawn(name, count, seed), size=1)


def random_switches(name: str, count: int, seed: str, *switches: bool | None) -> Outcomes:
    return compared(*tools(name, *switches), drawn(name, count, seed))


def random_twins(name: str, count: int, seed: str, split_special_tokens: bool, *switches: bool | None) -> Outcomes:
    return compared_twins(both(vocabulary(name), *switches), drawn(name, count, seed), split_special_tokens)


def random_pairs(name: str, count: int, seed: str, strategy: str, length: int) -> Outcomes:
    texts = list(drawn(name, 2 * count, seed))
    return compared_pairs(*tools(name), list(zip(texts[::2], texts[1::2], strict=True)), length, strategy)


class Task(NamedTuple):
    vocabulary: str
    what: str
    outcomes: Callable[..., Outcomes]
    arguments: tuple


class Result(NamedTuple):
    compared: int
    different: int
    seconds: float
    examples: list[str]


def work(task: Task) -> Result:
    begin, total, different, examples = time.perf_counter(), 0, 0, []
    for given, own, expected in task.outcomes(task.vocabulary, *task.arguments):
        total += 1
        if own != expected:
            different += 1
            if different <= 3:
                examples.append(f"{given!r}\n  own       {own}\n  reference {expected}")
    return Result(total, different, time.perf_counter() - begin, examples)


RANDOM = "random strings"


def plan(strings: int, seed: int) -> Iterator[Task]:
    """strings: random ones in all; a tenth or so of as many more for the other random comparisons."""
    count = strings // len(VOCABULARIES)
    few = max(count // 20, 1)
    for name in VOCABULARIES:
        for corpus in ("ChnSentiCorp", "SST-5", "CFIMDB"):
            yield Task(name, f"{corpus}, whole", corpus_whole, (corpus,))
            for length in LENGTHS:
                what = f"{corpus}, max_length {LENGTHS[0]} … {LENGTHS[-1]}"
                yield Task(name, what, corpus_truncated, (corpus, length))
            for part in range(4):
                yield Task(name, f"{corpus}, twin and specification", corpus_twins, (corpus, part, 4))
        for strategy, length in itertools.product(STRATEGIES, LENGTHS):
            yield Task(name, f"MRPC pairs, {strategy}", corpus_pairs, (strategy, length))
        for first in range(0, 0x110000, 0x8000):
            yield Task(name, "every code point, alone and in a word", code_points, (first, first + 0x8000))
        for part, size in _parts(count, 5000):
            yield Task(name, RANDOM, random_strings, (size, f"{seed} {part}"))
        for part, size in _parts(few, 1000):
            yield Task(name, f"{RANDOM}, one by one", random_one_by_one, (size, f"{seed} single {part}"))
        for strategy in STRATEGIES:
            for part, size in _parts(few, 500):
                arguments = size, f"{seed} {strategy} {part}", strategy, 5 + 3 * part % 60
                yield Task(name, f"random pairs, {strategy}", random_pairs, arguments)
        for switches in SWITCHES:
            what = f"{RANDOM}, {len(SWITCHES)} settings of the switches"
            yield Task(name, what, random_switches, (few, f"{seed} {switches}", *switches))
        for switches, split in itertools.product(SWITCHES, (True, False)):
            arguments = max(few // 4, 1), f"{seed} {switches} {split}", split, *switches
            yield Task(name, f"{RANDOM}, twin and specification", random_twins, arguments)


def _parts(count: int, size: int) -> list[tuple[int, int]]:
    """_parts(12, 5) -> [(0, 5), (1, 5), (2, 2)]"""
    return [(part, min(size, count - begin)) for part, begin in enumerate(range(0, count, size))]


def report(tasks: list[Task], results: Iterable[Result]) -> int:
    """Prints counts as they come, the first differences of a task in full on stderr; returns all differences."""
    print(f"{'vocabulary':20}{'what':50}{'compared':>10}{'different':>11}{'seconds':>9}", flush=True)
    total, different, random_ones, seconds = 0, 0, 0, 0.0
    for (name, what), group in itertools.groupby(zip(tasks, results, strict=True), key=lambda pair: pair[0][:2]):
        rows = [result for _, result in group]
        for example in itertools.chain.from_iterable(row.examples for row in rows):
            print(example, file=sys.stderr)
        sums = sum(row.compared for row in rows), sum(row.different for row in rows), sum(row.seconds for row in rows)
        print(f"{name:20}{what:50}{sums[0]:10,}{sums[1]:11,}{sums[2]:9.1f}", flush=True)
        total, different = total + sums[0], different + sums[1]
        if what == RANDOM:
            random_ones, seconds = random_ones + sums[0], seconds + sums[2]
    speed = random_ones / max(seconds, 1e-9)
    print(f"{total:,} comparisons; {random_ones:,} random strings, {speed:,.0f} a second in each process")
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=int, default=200_000, help="random strings in all, a third a vocabulary")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if not DATA.is_dir():
        parser.error(f"no data at {DATA}")
    if options.strings < len(VOCABULARIES) or options.processes < 1:
        parser.error(f"--strings must be {len(VOCABULARIES)} or more, --processes 1 or more")
    print(f"tokenizers {tokenizers.__version__}, python {sys.version.split()[0]}, seed {options.seed}")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are enough
    begin, tasks = time.perf_counter(), list(plan(options.strings, options.seed))
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        different = report(tasks, pool.imap(work, tasks))
    print(f"{different} differences, {time.perf_counter() - begin:.0f} s with {options.processes} processes")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
