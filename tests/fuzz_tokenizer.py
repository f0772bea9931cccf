"""Compares minibert's ids, offsets and masks with Hugging Face's `tokenizers`, on real corpora and on random Unicode.

    python tests/fuzz_tokenizer.py                              # corpora, and 200,000 strings with each vocabulary
    python tests/fuzz_tokenizer.py --strings 2000 --seed 7      # less, and others

Needs ../shared/data beside the repository. Prints a table and exits 1 where anything differs.
"""

import argparse
import csv
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from minibert.tokenizer import Encoding, Tokenizer
from minibert.tokenizer_files import read_vocabulary
from minibert.wordpiece import CHINESE, WHITESPACE

DATA = Path(__file__).parents[2] / "shared" / "data"
VOCABULARIES = {"bert-base-uncased": True, "bert-base-cased": False, "bert-base-chinese": True}  # name: lowercase
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LENGTHS = (16, 17, 32, 63, 64, 128, 511, 512)
STRATEGIES = ("longest_first", "only_first", "only_second")
SWITCHES = list(itertools.product((True, False), (None, True, False), (True, False)))  # lowercase, accents, Chinese
Rows = list[tuple[list, ...]]


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


# --- Corpora ----------------------------------------------------------------------------------------------------------


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


class Report:
    """Counts, printed as they come; the first differences in full on stderr."""

    def __init__(self) -> None:
        self.different = 0
        print(f"{'vocabulary':20}{'what':44}{'compared':>10}{'different':>11}{'seconds':>9}", flush=True)

    def add(self, vocabulary: str, what: str, outcomes: Iterable[tuple[object, object, object]]) -> None:
        """outcomes: (input, own, reference)"""
        begin, total, different = time.perf_counter(), 0, 0
        for given, own, expected in outcomes:
            total += 1
            if own != expected:
                different += 1
                if different <= 3:
                    print(f"{given!r}\n  own       {own}\n  reference {expected}", file=sys.stderr)
        self.different += different
        seconds = time.perf_counter() - begin
        print(f"{vocabulary:20}{what:44}{total:10,}{different:11,}{seconds:9.1f}", flush=True)


def batches(items: Iterable, size: int = 1000) -> Iterator[list]:
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def compared(own: Tokenizer, made: tokenizers.Tokenizer, texts: Iterable[str], length: int | None = None) -> Iterator:
    """Texts in batches, whole or truncated and padded to the longest."""
    made.no_truncation() if length is None else made.enable_truncation(length)
    made.no_padding() if length is None else made.enable_padding(pad_id=own.pad_id)
    options = {"truncation": "none", "padding": "none"} if length is None else {"max_length": length}
    for batch in batches(texts):
        yield from zip(
            batch, own_rows(own(batch, return_offsets=True, **options)), reference_rows(made, batch), strict=True
        )


def compared_pairs(
    own: Tokenizer, made: tokenizers.Tokenizer, texts: list[tuple[str, str]], length: int, strategy: str
) -> Iterator:
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


def run(strings: int, seed: int, report: Report) -> None:
    texts, sentence_pairs = corpora(), pairs()
    for name, lowercase in VOCABULARIES.items():
        vocab = read_vocabulary(DATA / "vocab" / f"{name}.vocab.txt")
        own, made = Tokenizer(vocab, lowercase=lowercase), reference(vocab, lowercase)
        for corpus, lines in texts.items():
            report.add(name, f"{corpus}, whole", compared(own, made, lines))
            outcomes = (compared(own, made, lines, length) for length in LENGTHS)
            report.add(name, f"{corpus}, max_length {LENGTHS[0]} … {LENGTHS[-1]}", itertools.chain(*outcomes))
        for strategy in STRATEGIES:
            outcomes = (compared_pairs(own, made, sentence_pairs, length, strategy) for length in LENGTHS)
            report.add(name, f"MRPC pairs, {strategy}", itertools.chain(*outcomes))
        rng = random.Random(seed)
        report.add(name, "random strings", compared(own, made, (random_string(rng, vocab) for _ in range(strings))))
        drawn = [(random_string(rng, vocab), random_string(rng, vocab)) for _ in range(strings // 20)]
        for strategy in STRATEGIES:
            outcomes = (
                compared_pairs(own, made, part, 5 + 3 * k, strategy) for k, part in enumerate(batches(drawn, 500))
            )
            report.add(name, f"random pairs, {strategy}", itertools.chain(*outcomes))
        outcomes = []
        for switches in SWITCHES:
            drawn = [random_string(rng, vocab) for _ in range(strings // 20)]
            outcomes.append(compared(Tokenizer(vocab, *switches), reference(vocab, *switches), drawn))
        report.add(name, f"random strings, {len(SWITCHES)} settings of the switches", itertools.chain(*outcomes))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=int, default=200_000, help="random strings for each vocabulary")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    if not DATA.is_dir():
        parser.error(f"no data at {DATA}")
    print(f"tokenizers {tokenizers.__version__}, python {sys.version.split()[0]}, seed {options.seed}")
    report = Report()
    run(options.strings, options.seed, report)
    print(f"{report.different} differences")
    return 1 if report.different else 0


if __name__ == "__main__":
    sys.exit(main())
