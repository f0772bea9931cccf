"""How much faster than `tokenizers` and `transformers` does minibert's tokenizer give the same ids?

    python -m benchmarks.tokenizer                            # all cases, under ten minutes on two cores
    python -m benchmarks.tokenizer --only flat lists          # these rows again; the result file keeps its others
    python -m benchmarks.tokenizer --small                    # a minute, to see that all runs; writes no file
    python -m benchmarks.tokenizer --show                     # the tables of the newest committed result

Expected: tens of times faster over a whole corpus, since every step is one numpy call for all characters (see
minibert/text/wordpiece_batch.py) and results are arrays, not one object a text; less in small batches and for a single
text, where the cost of the calls is what counts; slower than Rust only for text in which no word comes twice.

Method: the two runners of a row take turns in one process, A B A B …, without garbage collection. A ratio is the median
over the rounds of (the other's seconds / minibert's seconds), with the 20th and 80th percentile. Before anything is
timed both must give the same ids, and the same offsets and masks where they are the result: else the row says
`incorrect` and has no times. "1 thread" and "N threads" are Rust's; minibert uses one. Where other programs hold the
cores, N threads are no faster than one, and the ratio would flatter minibert: such a row says how many cores were free.

Columns: ratio, above 1 where minibert is faster; texts/s, MB/s (10^6 bytes of UTF-8), ids/s are minibert's; bound: what
was asked for before measuring.

Corpora (in ../shared/data, which is not part of this repository): sst short and cfimdb long English, chnsenticorp
Chinese; `nasty` is generated Unicode of many scripts. Without that directory the bundled reviews take their place.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gc
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import random
import resource
import statistics
import string
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tokenizers
import transformers
from numpy.typing import NDArray
from tokenizers import models, normalizers, pre_tokenizers, processors

from minibert.core import wordpiece
from minibert.core.vocabulary import SPECIAL_TOKENS
from minibert.io.bundled import ASSETS
from minibert.io.examples import read_examples
from minibert.text.tokenizer import Encoding, Tokenizer
from minibert.text.tokenizer_files import read_vocabulary
from minibert.text.vocab import learn_vocabulary

SHARED = Path(__file__).parents[2] / "shared" / "data"
REVIEWS = ASSETS / "reviews"
RESULTS = Path(__file__).parent / "results"

MB = 10**6
MAX_LENGTH = 128
BATCHES = (32, 256)
SINGLE_TEXTS = 2000
NASTY_TEXTS, REVIEW_TEXTS = 6000, 8000
PADDED_BYTES, SPECIFICATION_BYTES = MB, 100_000  # slow rivals run over the first texts of a corpus only
FRESH_WORDS, WORDS_A_TEXT = 200_000, 50
GROWTH_MB, GROWTH_ROUNDS = (1, 10, 100), 3
VOCABULARY_SIZES = (8_000, 15_000, 30_000, 60_000, 120_000)
ADVERSARIAL_CHARS = (10**6, 10**7)
ADVERSARIAL = {"one word": "a", "spaces": " ", "combining marks": "\u0301", "≠": "≠", "Hangul": "각"}
HUGE_BYTES = 10**9
PROBE_BYTES, PROBES, ENOUGH_FREE = 5 * 10**7, 3, 0.8
SEED = 0
PREPARING = "One short text: Ä 京. " * 1000  # few different words, but long enough that no shortcut is taken

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = {"1 thread": False, f"{CORES} threads": True}


# ---- rows ----


@dataclass(frozen=True)
class Bound:
    """What a row's value is asked to be."""

    number: float
    at_least: bool = True

    def met_by(self, value: float) -> bool:
        return value >= self.number if self.at_least else value <= self.number

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.number:g}"


@dataclass(frozen=True)
class Row:
    """One measurement.

    status: ok, or why there is no value: incorrect, or too few free cores. facts: absolute numbers behind the value.
    """

    case: str
    corpus: str
    against: str
    value: float | None
    unit: str
    p20: float | None = None
    p80: float | None = None
    bound: str | None = None
    met: bool | None = None
    status: str = "ok"
    facts: dict[str, float] = field(default_factory=dict)


def incorrect(case: str, corpus: str, against: str, unit: str = "x") -> Row:
    return Row(case, corpus, against, None, unit, status="incorrect")


def plain_row(
    case: str,
    corpus: str,
    against: str,
    value: float,
    unit: str,
    bound: Bound | None,
    facts: dict[str, float] | None = None,
) -> Row:
    met = None if bound is None else bound.met_by(value)
    return Row(case, corpus, against, value, unit, None, None, bound and str(bound), met, "ok", facts or {})


# ---- races ----


@dataclass(frozen=True)
class Corpus:
    name: str
    texts: list[str]
    vocab: list[str]

    def bytes(self) -> int:
        return sum(len(text.encode()) for text in self.texts)

    def chars(self) -> int:
        return sum(map(len, self.texts))

    def first(self, size: int) -> Corpus:
        """The first texts, about `size` bytes of them."""
        ends = itertools.accumulate(len(text.encode()) for text in self.texts)
        count = sum(end <= size for end in ends)
        return Corpus(self.name, self.texts[: max(count, 1)], self.vocab)


@dataclass(frozen=True)
class Runner:
    """run(prepare()) is what is raced; only run is timed. threads: whether Rust may use all cores."""

    run: Callable[[object], object]
    prepare: Callable[[], object] = lambda: None
    threads: bool = False

    def seconds(self) -> float:
        with rust_threads(self.threads):
            given = self.prepare()
            return timed(lambda: self.run(given))


@contextlib.contextmanager
def rust_threads(every: bool) -> Iterator[None]:
    """`tokenizers` reads the variable at every call."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if every else "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def timed(run: Callable[[], object]) -> float:
    """Seconds; what comes back is thrown away after the clock has stopped, as a caller keeps it."""
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - started
    finally:
        gc.enable()
    del result
    return seconds


def race(case: str, corpus: Corpus, own: Runner, against: str, other: Runner, rounds: int, **more: object) -> Row:
    """more: bound; ids, how many come out; texts, bytes where they are not the corpus's."""
    if other.threads and (free := free_cores()) < ENOUGH_FREE * CORES:
        return Row(case, corpus.name, against, None, "x", status=f"{free:.1f} of {CORES} cores free")
    own.seconds(), other.seconds()  # to warm up
    pairs = [(own.seconds(), other.seconds()) for _ in range(rounds)]
    ratios = [theirs / ours for ours, theirs in pairs]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    facts = {
        "seconds": ours,
        "other_seconds": theirs,
        "texts": more.get("texts", len(corpus.texts)),
        "texts_per_s": more.get("texts", len(corpus.texts)) / ours,
        "mb_per_s": more.get("bytes", corpus.bytes()) / MB / ours,
        "ids_per_s": more["ids"] / ours,
    }
    value, bound = statistics.median(ratios), more.get("bound")
    met = None if bound is None else bound.met_by(value)
    p20, p80 = (float(p) for p in np.percentile(ratios, (20, 80)))
    return Row(case, corpus.name, against, value, "x", p20, p80, bound and str(bound), met, "ok", facts)


def free_cores() -> float:
    """How many cores a program gets that asks for all: hashing, which needs no lock of Python's, in 1 and N threads."""
    block = bytes(PROBE_BYTES)

    def probe(threads: int) -> float:
        with ThreadPoolExecutor(threads) as pool:
            return timed(lambda: list(pool.map(lambda _: hashlib.sha256(block).digest(), range(threads))))

    return max(CORES * probe(1) / probe(CORES) for _ in range(PROBES))


# ---- the rivals ----


def made_reference(vocab: list[str]) -> tokenizers.Tokenizer:
    """`tokenizers` as BertTokenizer of transformers sets it up."""
    ids = {token: number for number, token in enumerate(vocab)}
    made = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=wordpiece.MAX_WORD))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    made.add_special_tokens([tokenizers.AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS.values()])
    return made


def made_padding(vocab: list[str]) -> tokenizers.Tokenizer:
    made = made_reference(vocab)
    made.enable_truncation(MAX_LENGTH)
    made.enable_padding(pad_id=vocab.index("[PAD]"))
    return made


def made_transformers(vocab: list[str]) -> transformers.BertTokenizer:
    return transformers.BertTokenizer(vocab={token: number for number, token in enumerate(vocab)})


def padded_by_hand(encode: Callable[[list[str]], list[tokenizers.Encoding]], texts: list[str]) -> list[NDArray]:
    """From a tokenizer that truncates and pads to the four arrays a model takes."""
    rows = encode(texts)
    return [
        np.array(column, np.int64)
        for column in (
            [row.ids for row in rows],
            [row.type_ids for row in rows],
            [row.attention_mask for row in rows],
            [row.special_tokens_mask for row in rows],
        )
    ]


def padded_arrays(encoding: Encoding) -> list[NDArray]:
    """An Encoding's arrays in the order of `padded_by_hand`."""
    return [encoding.input_ids, encoding.token_type_ids, encoding.attention_mask, encoding.special_tokens_mask]


def same_arrays(first: Sequence[NDArray], second: Sequence[NDArray]) -> bool:
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def same_flat(tok: Tokenizer, made: tokenizers.Tokenizer, texts: list[str], offsets: bool = False) -> bool:
    """Whether a corpus gives the same ids, lengths and, if asked for, offsets."""
    encode = made.encode_batch if offsets else made.encode_batch_fast
    with rust_threads(True):
        rows = encode(texts, add_special_tokens=False)
    flat = tok.encode_flat(texts, return_offsets=offsets)
    same = same_arrays((flat.ids, flat.lengths), (flat_ids(rows), [len(row.ids) for row in rows]))
    return same and (not offsets or np.array_equal(flat.spans, flat_offsets(rows)))


def flat_ids(rows: list[tokenizers.Encoding]) -> NDArray[np.int32]:
    return np.fromiter(itertools.chain.from_iterable(row.ids for row in rows), np.int32)


def flat_offsets(rows: list[tokenizers.Encoding]) -> NDArray[np.int32]:
    bounds = itertools.chain.from_iterable(span for row in rows for span in row.offsets)
    return np.fromiter(bounds, np.int32).reshape(-1, 2)


def prepared(vocab: list[str]) -> Tokenizer:
    """A new tokenizer with its tables made, which has met no word of a corpus."""
    tok = Tokenizer(vocab)
    tok.encode_flat([PREPARING])
    return tok


# ---- cases: whole corpora ----


def flat_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """Whole corpus, one flat array of ids; the words have been met."""
    case, tok, made, texts = "flat", Tokenizer(corpus.vocab), made_reference(corpus.vocab), corpus.texts
    if not same_flat(tok, made, texts):
        yield incorrect(case, corpus.name, "encode_batch_fast")
        return
    own, ids = Runner(lambda _: tok.encode_flat(texts)), len(tok.encode_flat(texts).ids)
    bounds = {"1 thread": Bound(20), f"{CORES} threads": Bound(10)}
    for name, threads in THREADS.items():
        bound = bounds[name] if CORES == 2 or not threads else None  # the second is meant for two cores
        fast = Runner(lambda _: made.encode_batch_fast(texts, add_special_tokens=False), threads=threads)
        full = Runner(lambda _: made.encode_batch(texts, add_special_tokens=False), threads=threads)
        yield race(case, corpus, own, f"encode_batch_fast, {name}", fast, rounds, ids=ids, bound=bound)
        yield race(case, corpus, own, f"encode_batch, {name}", full, rounds, ids=ids)
    special = Runner(lambda _: made.encode_batch_fast(texts))
    yield race(case, corpus, own, "encode_batch_fast with [CLS] [SEP], 1 thread", special, rounds, ids=ids)


def cold_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """Whole corpus, the first pass of a new tokenizer; with and without the time to make its tables."""
    case, made, texts = "cold", made_reference(corpus.vocab), corpus.texts
    if not same_flat(prepared(corpus.vocab), made, texts):
        yield incorrect(case, corpus.name, "encode_batch_fast, 1 thread")
        return
    ids = len(prepared(corpus.vocab).encode_flat(texts).ids)
    fast = Runner(lambda _: made.encode_batch_fast(texts, add_special_tokens=False))
    own = Runner(lambda tok: tok.encode_flat(texts), prepare=lambda: prepared(corpus.vocab))
    bound = {"chnsenticorp": Bound(20), "nasty": None}.get(corpus.name, Bound(5))
    yield race(case, corpus, own, "encode_batch_fast, 1 thread", fast, rounds, ids=ids, bound=bound)
    whole = Runner(lambda _: prepared(corpus.vocab).encode_flat(texts))
    yield race(case, corpus, whole, "encode_batch_fast, 1 thread; tables made too", fast, rounds, ids=ids)
    times = [timed(lambda: prepared(corpus.vocab)) for _ in range(rounds)]
    facts = {"milliseconds_first_in_process": in_child(seconds_to_prepare, corpus.vocab) * 1e3}
    milliseconds = statistics.median(times) * 1e3
    yield plain_row("cold-tables", corpus.name, "once for a tokenizer", milliseconds, "ms", None, facts)


def offsets_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """Whole corpus, ids and offsets as arrays."""
    case, tok, made, texts = "offsets", Tokenizer(corpus.vocab), made_reference(corpus.vocab), corpus.texts
    if not same_flat(tok, made, texts, offsets=True):
        yield incorrect(case, corpus.name, "encode_batch")
        return
    own = Runner(lambda _: tok.encode_flat(texts, return_offsets=True))
    ids = len(tok.encode_flat(texts).ids)
    plain = Runner(lambda _: made.encode_batch(texts, add_special_tokens=False))
    yield race(case, corpus, own, "encode_batch, 1 thread", plain, rounds, ids=ids, bound=Bound(10))

    def arrays(_: object) -> tuple[NDArray, NDArray]:
        rows = made.encode_batch(texts, add_special_tokens=False)
        return flat_ids(rows), flat_offsets(rows)

    yield race(case, corpus, own, "encode_batch and arrays, 1 thread", Runner(arrays), rounds, ids=ids)


def lists_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """Whole corpus, a list of ids for each text."""
    case, texts = "lists", corpus.texts
    tok, made, users = Tokenizer(corpus.vocab), made_reference(corpus.vocab), made_transformers(corpus.vocab)

    def own_lists(_: object = None) -> list[list[int]]:
        return [row.tolist() for row in tok(texts, truncation="none", padding="none").input_ids]

    def rust_lists(_: object = None) -> list[list[int]]:
        return [row.ids for row in made.encode_batch_fast(texts)]

    def users_lists(_: object = None) -> list[list[int]]:
        return users(texts)["input_ids"]

    own, lists = Runner(own_lists), own_lists()
    ids = sum(map(len, lists))
    for name, other in (("encode_batch_fast, ids", rust_lists), ("transformers, input_ids", users_lists)):
        if other() != lists:
            yield incorrect(case, corpus.name, name)
            continue
        for threads, every in THREADS.items():
            yield race(case, corpus, own, f"{name}, {threads}", Runner(other, threads=every), rounds, ids=ids)


# ---- cases: batches and single texts ----


def padded_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """Padded and truncated batches, all four arrays."""
    corpus = corpus.first(PADDED_BYTES)
    for size, by_hand, by_users in ((BATCHES[0], Bound(5), Bound(10)), (BATCHES[1], Bound(12), Bound(25))):
        yield from padded_rows(corpus, size, by_hand, by_users, rounds)


def padded_rows(corpus: Corpus, size: int, by_hand: Bound, by_users: Bound, rounds: int) -> Iterator[Row]:
    case = f"padded-{size}"
    tok, made, users = Tokenizer(corpus.vocab), made_padding(corpus.vocab), made_transformers(corpus.vocab)
    batches = [list(corpus.texts[i : i + size]) for i in range(0, len(corpus.texts), size)]
    options = {"padding": True, "truncation": True, "max_length": MAX_LENGTH, "return_tensors": "np"}

    def own_batch(batch: list[str]) -> Encoding:
        return tok(batch, max_length=MAX_LENGTH)

    def users_batch(batch: list[str]) -> dict[str, NDArray]:
        return users(batch, **options)

    def looped(encode: Callable[[list[str]], object]) -> Callable[[object], None]:
        def loop(_: object) -> None:
            for batch in batches:
                encode(batch)

        return loop

    encoders = {"encode_batch_fast": made.encode_batch_fast, "encode_batch": made.encode_batch}
    hands = {name: looped(lambda batch, e=encode: padded_by_hand(e, batch)) for name, encode in encoders.items()}
    expected = [padded_arrays(own_batch(batch)) for batch in batches]
    ids = sum(int(arrays[2].sum()) for arrays in expected)
    own = Runner(looped(own_batch))
    keys = ("input_ids", "token_type_ids", "attention_mask")
    hand_is_same = all(
        same_arrays(arrays, padded_by_hand(encode, batch))
        for encode in encoders.values()
        for arrays, batch in zip(expected, batches, strict=True)
    )
    users_are_same = all(
        same_arrays(arrays[:3], [users_batch(batch)[key] for key in keys])
        for arrays, batch in zip(expected, batches, strict=True)
    )
    for threads, every in THREADS.items():
        faster = min(hands, key=lambda name, every=every: Runner(hands[name], threads=every).seconds())
        runs = (
            ("tokenizers padded by hand", hand_is_same, hands[faster], by_hand),
            ("transformers, numpy", users_are_same, looped(users_batch), by_users),
        )
        for name, same, run, bound in runs:
            if not same:
                yield incorrect(case, corpus.name, f"{name}, {threads}")
                continue
            other = Runner(run, threads=every)
            yield race(case, corpus, own, f"{name}, {threads}", other, rounds, ids=ids, bound=bound)


def single_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """One text at a time: as a list of ids, and as arrays for a model."""
    corpus = Corpus(corpus.name, corpus.texts[:SINGLE_TEXTS], corpus.vocab)
    tok, made, users = Tokenizer(corpus.vocab), made_reference(corpus.vocab), made_transformers(corpus.vocab)
    options = {"truncation": True, "max_length": MAX_LENGTH, "return_tensors": "np"}

    def own_lists(_: object = None) -> list[list[int]]:
        return [tok.encode(text) for text in corpus.texts]

    def rust_lists(_: object = None) -> list[list[int]]:
        return [made.encode(text).ids for text in corpus.texts]

    def own_arrays(_: object = None) -> list[NDArray]:
        return [tok(text, max_length=MAX_LENGTH).input_ids for text in corpus.texts]

    def users_arrays(_: object = None) -> list[NDArray]:
        return [users(text, **options)["input_ids"].reshape(1, -1) for text in corpus.texts]

    lists, arrays = own_lists(), own_arrays()
    against = "Tokenizer.encode(text).ids"
    if lists == rust_lists():
        ids, own = sum(map(len, lists)), Runner(own_lists)
        yield race("single", corpus, own, against, Runner(rust_lists), rounds, ids=ids, bound=Bound(4))
    else:
        yield incorrect("single", corpus.name, against)
    against = "transformers, one text, numpy"
    if same_arrays(arrays, users_arrays()):
        ids = sum(array.size for array in arrays)
        yield race("single-arrays", corpus, Runner(own_arrays), against, Runner(users_arrays), rounds, ids=ids)
    else:
        yield incorrect("single-arrays", corpus.name, against)


def specification_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """The fast twin against the specification, over the first texts."""
    corpus = corpus.first(SPECIFICATION_BYTES)
    tok, known = Tokenizer(corpus.vocab), {token: number for number, token in enumerate(corpus.vocab)}

    def specified(_: object = None) -> list[int]:
        pieces = (wordpiece.tokenize(text, known) for text in corpus.texts)
        return [known[piece.token] for found in pieces for piece in found]

    ids = specified()
    if tok.encode_flat(corpus.texts).ids.tolist() != ids:
        yield incorrect("specification", corpus.name, "wordpiece.tokenize")
        return
    own = Runner(lambda _: tok.encode_flat(corpus.texts))
    yield race("specification", corpus, own, "wordpiece.tokenize", Runner(specified), rounds, ids=len(ids))


# ---- cases: what is hard ----


def fresh_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """Text in which no word comes twice, new tokenizer; of the corpus only the vocabulary is used."""
    made, against = made_reference(corpus.vocab), "encode_batch_fast, 1 thread"
    for name, texts in fresh_texts(random.Random(SEED)).items():
        words = Corpus(name, texts, corpus.vocab)
        tok = prepared(corpus.vocab)
        if not same_flat(tok, made, texts):
            yield incorrect("fresh", name, against)
            continue
        own = Runner(lambda tok, t=texts: tok.encode_flat(t), prepare=lambda: prepared(corpus.vocab))
        other = Runner(lambda _, t=texts: made.encode_batch_fast(t, add_special_tokens=False))
        ids = len(tok.encode_flat(texts).ids)
        yield race("fresh", words, own, against, other, min(rounds, 3), ids=ids, bound=Bound(0.4))


def fresh_texts(rng: random.Random) -> dict[str, list[str]]:
    cyrillic = [chr(code) for code in range(ord("а"), ord("я") + 1)]
    hangul = [chr(code) for code in range(ord("가"), ord("힣") + 1)]
    kinds = {
        "hex32": lambda: f"{rng.getrandbits(128):032x}",
        "letters5": lambda: "".join(rng.choices(string.ascii_lowercase, k=5)),
        "Cyrillic": lambda: "".join(rng.choices(cyrillic, k=rng.randint(5, 10))),
        "Hangul": lambda: "".join(rng.choices(hangul, k=rng.randint(2, 4))),
    }
    return {name: texts_of(distinct(draw, FRESH_WORDS)) for name, draw in kinds.items()}


def distinct(draw: Callable[[], str], count: int) -> list[str]:
    """The first `count` different strings drawn."""
    words: dict[str, None] = {}
    while len(words) < count:
        words[draw()] = None
    return list(words)


def texts_of(words: list[str]) -> list[str]:
    return [" ".join(words[i : i + WORDS_A_TEXT]) for i in range(0, len(words), WORDS_A_TEXT)]


def growth_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """Milliseconds per MB as the text grows: the corpus again and again, every time in another order."""
    tok, rng = Tokenizer(corpus.vocab), random.Random(SEED)
    if not same_flat(tok, made_reference(corpus.vocab), corpus.texts):
        yield incorrect("growth", corpus.name, f"{GROWTH_MB[0]} MB")
        return
    sizes = {mb: repeated(corpus, mb * MB, rng) for mb in GROWTH_MB}
    for mb, grown in sizes.items():
        if not repeats_ids(tok, grown):
            yield incorrect("growth", corpus.name, f"{mb} MB")
            return
    measured: dict[int, list[float]] = {mb: [] for mb in sizes}
    for _ in range(min(rounds, GROWTH_ROUNDS)):
        for mb, grown in sizes.items():
            seconds = statistics.median(
                timed(lambda t=grown.texts: tok.encode_flat(t)) for _ in range(3 if mb < 9 else 1)
            )
            measured[mb].append(seconds * 1e3 / (grown.bytes() / MB))
    per_mb = {mb: statistics.median(values) for mb, values in measured.items()}
    for mb in GROWTH_MB[1:]:
        facts = {"ms_per_mb": per_mb[mb], "ms_per_mb_smallest": per_mb[GROWTH_MB[0]]}
        value = per_mb[mb] / per_mb[GROWTH_MB[0]]
        against = f"{mb} MB / {GROWTH_MB[0]} MB"
        yield plain_row("growth", corpus.name, against, value, "x ms/MB", Bound(1.2, at_least=False), facts)


def repeated(corpus: Corpus, size: int, rng: random.Random) -> Corpus:
    texts = rng.sample(corpus.texts, len(corpus.texts))
    while Corpus(corpus.name, texts, corpus.vocab).bytes() < size:
        more = max(1, min(size // corpus.bytes(), 100))
        texts += itertools.chain.from_iterable(rng.sample(corpus.texts, len(corpus.texts)) for _ in range(more))
    return Corpus(corpus.name, texts, corpus.vocab).first(size)


def repeats_ids(tok: Tokenizer, corpus: Corpus) -> bool:
    """Whether texts in other company keep the ids they have in `tok`'s encoding of each different text once."""
    once = list(dict.fromkeys(corpus.texts))
    flat = tok.encode_flat(once)
    rows = dict(zip(once, np.split(flat.ids, np.cumsum(flat.lengths)[:-1]), strict=True))
    return np.array_equal(tok.encode_flat(corpus.texts).ids, np.concatenate([rows[text] for text in corpus.texts]))


def vocabularies_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """Milliseconds per MB as the vocabulary grows: its first tokens, or with made-up ones behind it."""
    sizes = [size for size in VOCABULARY_SIZES if size > len(SPECIAL_TOKENS)]
    found = {}
    for size in sizes:
        vocab = resized(corpus.vocab, size)
        found[size] = Tokenizer(vocab)
        if not same_flat(found[size], made_reference(vocab), corpus.texts):
            yield incorrect("vocabularies", corpus.name, f"{size:,} tokens", "x ms/MB")
            return
    measured: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size, tok in found.items():
            measured[size].append(timed(lambda tok=tok: tok.encode_flat(corpus.texts)) * 1e3 / (corpus.bytes() / MB))
    per_mb = {size: statistics.median(values) for size, values in measured.items()}
    for size in sizes[1:]:
        facts = {"ms_per_mb": per_mb[size], "ms_per_mb_smallest": per_mb[sizes[0]]}
        against = f"{size:,} / {sizes[0]:,} tokens"
        value = per_mb[size] / per_mb[sizes[0]]
        yield plain_row("vocabularies", corpus.name, against, value, "x ms/MB", Bound(1.2, at_least=False), facts)


def resized(vocab: list[str], size: int) -> list[str]:
    """Its special tokens and its first others; then random words, every second one a continuing piece."""
    special = list(SPECIAL_TOKENS.values())
    tokens = dict.fromkeys([*special, *(token for token in vocab if token not in special)][:size])
    rng = random.Random(SEED)
    while len(tokens) < size:
        word = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 10)))
        tokens[rng.choice(("", wordpiece.CONTINUES)) + word] = None
    return list(tokens)


def adversarial_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """One text of one character repeated, at two lengths: how the seconds grow; 10 is linear."""
    tok, made = prepared(corpus.vocab), made_reference(corpus.vocab)
    few, many = ADVERSARIAL_CHARS
    for name, char in ADVERSARIAL.items():
        if not all(same_flat(tok, made, [char * count], offsets=count == few) for count in (few, many)):
            yield incorrect("adversarial", name, f"{many:,} / {few:,} characters", "x seconds")
            continue
        both = {
            n: statistics.median(timed(lambda t=char * n: tok.encode_flat([t])) for _ in range(3)) for n in (few, many)
        }
        facts = {f"seconds_{count}": seconds for count, seconds in both.items()}
        against, value = f"{many:,} / {few:,} characters", both[many] / both[few]
        yield plain_row("adversarial", name, against, value, "x seconds", None, facts)
        allocated, _, table = in_child(peak_allocated, corpus.vocab, [char * many])
        bound = Bound(40, at_least=False)
        yield plain_row("adversarial", name, f"{many:,} characters", (allocated - table) / many, "bytes/char", bound)


# ---- cases: memory, and files ----


def memory_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """Peak of memory over what was there before, the result included, the table of words apart, per character."""
    made = made_reference(corpus.vocab)
    if not same_flat(Tokenizer(corpus.vocab), made, corpus.texts):
        yield incorrect("memory", corpus.name, "flat ids", "bytes/char")
        return
    allocated, result, table = in_child(peak_allocated, corpus.vocab, corpus.texts)
    facts = {
        "result": result / corpus.chars(),
        "table_mb": table / MB,
        "resident": in_child(peak_resident, corpus.vocab, corpus.texts, True) / corpus.chars(),
        "resident_encode_batch_fast": in_child(peak_resident, corpus.vocab, corpus.texts, False) / corpus.chars(),
    }
    bound = Bound(40, at_least=False)
    value = (allocated - table) / corpus.chars()
    yield plain_row("memory", corpus.name, "flat ids, without the table", value, "bytes/char", bound, facts)


def in_child(function: Callable, *arguments: object) -> object:
    """The function's result from a new process, where nothing has been allocated yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def seconds_to_prepare(vocab: list[str]) -> float:
    return timed(lambda: prepared(vocab))


def peak_allocated(vocab: list[str], texts: list[str]) -> tuple[int, int, int]:
    """Bytes at the peak, of the result, and of the words learned, as numpy and Python report them."""
    tok = prepared(vocab)
    tracemalloc.start()
    flat = tok.encode_flat(texts)
    stays, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    result = flat.ids.nbytes + flat.lengths.nbytes
    return peak, result, stays - result


def peak_resident(vocab: list[str], texts: list[str], own: bool) -> int:
    """Bytes by which the process's largest resident set has grown."""
    encode = prepared(vocab).encode_flat if own else made_reference(vocab).encode_batch_fast
    before = resident()
    with rust_threads(False):
        result = encode(texts)
    grown = resident() - before
    del result
    return grown


def resident() -> int:
    """Bytes of this process's largest resident set so far. Linux's ru_maxrss would begin with the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def huge_case(corpus: Corpus, rounds: int) -> Iterator[Row]:
    """A file of 1 GB through encode_file with one process, in a process of its own; and one of a hundredth."""
    lines = [" ".join(text.splitlines()) for text in corpus.texts]
    tok = Tokenizer(corpus.vocab)
    if not same_flat(tok, made_reference(corpus.vocab), lines):
        yield incorrect("huge", corpus.name, "encode_file", "MB/s")
        return
    block = "".join(f"{line}\n" for line in lines)
    ids, found = len(tok.encode_flat(lines).ids), []
    for size in (HUGE_BYTES // 100, HUGE_BYTES):
        times = size // len(block.encode()) + 1
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "corpus.txt"
            with path.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(itertools.repeat(block, times))
            seconds, resident, written = in_child(encode_file_seconds, corpus.vocab, path, Path(folder) / "out")
            found.append({"seconds": seconds, "mb": path.stat().st_size / MB, "resident_mb": resident / MB})
        if written != times * ids:
            yield incorrect("huge", corpus.name, "encode_file", "MB/s")
            return
    few, many = found
    of = f"encode_file, {many['mb']:,.0f} MB, 1 process"
    yield plain_row("huge", corpus.name, of, many["mb"] / many["seconds"], "MB/s", None, many)
    yield plain_row("huge", corpus.name, of, many["resident_mb"], "MB of memory", Bound(500, at_least=False), many)
    value = many["seconds"] / many["mb"] / (few["seconds"] / few["mb"])
    of = f"encode_file, {many['mb']:,.0f} MB / {few['mb']:,.0f} MB"
    yield plain_row("huge", corpus.name, of, value, "x ms/MB", Bound(1.2, at_least=False), {"few": few, "many": many})


def encode_file_seconds(vocab: list[str], path: Path, out: Path) -> tuple[float, int, int]:
    """Seconds, largest resident set in bytes, ids written."""
    tok = prepared(vocab)
    started = time.perf_counter()
    found = tok.encode_file(path, out)
    seconds = time.perf_counter() - started
    return seconds, resident(), len(found.ids)


Case = Callable[[Corpus, int], Iterator[Row]]
EVERY: dict[str, Case] = {  # run for each corpus
    "flat": flat_case,
    "cold": cold_case,
    "offsets": offsets_case,
    "lists": lists_case,
    "padded": padded_case,
    "single": single_case,
    "specification": specification_case,
    "memory": memory_case,
}
ONCE: dict[str, Case] = {  # run with the first corpus alone
    "fresh": fresh_case,
    "growth": growth_case,
    "vocabularies": vocabularies_case,
    "adversarial": adversarial_case,
    "huge": huge_case,
}


# ---- corpora ----


def corpora() -> dict[str, Corpus]:
    if not SHARED.is_dir():
        return bundled_corpora()
    english, chinese = (
        read_vocabulary(SHARED / "vocab" / f"{n}.vocab.txt") for n in ("bert-base-uncased", "bert-base-chinese")
    )
    sources = {
        "sst": ("sst5_cfimdb/sst-train.txt", "|||", english),
        "cfimdb": ("sst5_cfimdb/cfimdb-train.txt", "|||", english),
        "chnsenticorp": ("chnsenticorp/train.tsv", "\t", chinese),
    }
    found = {name: Corpus(name, texts_behind(*source[:2]), source[2]) for name, source in sources.items()}
    return found | {"nasty": Corpus("nasty", nasty_texts(random.Random(SEED)), english)}


def texts_behind(file: str, separator: str) -> list[str]:
    lines = (SHARED / file).read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    return [line.partition(separator)[2] for line in lines]


def bundled_corpora() -> dict[str, Corpus]:
    """The bundled reviews, and as many texts as a corpus has made of their words."""
    reviews = [text for path in sorted(REVIEWS.glob("*.tsv")) for text in read_examples(path).texts]
    vocab = learn_vocabulary(reviews, max(VOCABULARY_SIZES))
    words, rng = [word for text in reviews for word in text.split()], random.Random(SEED)
    texts = reviews + [" ".join(rng.choices(words, k=rng.randint(5, 40))) for _ in range(REVIEW_TEXTS)]
    nasty = Corpus("nasty", nasty_texts(random.Random(SEED)), vocab)
    return {"reviews": Corpus("reviews", texts, vocab), "nasty": nasty}


ALPHABETS = {  # first and last code point
    "Latin": (0x41, 0x7A),
    "accents": (0xC0, 0x24F),
    "Greek": (0x386, 0x3CE),
    "Cyrillic": (0x400, 0x481),
    "Hebrew": (0x5D0, 0x5EA),
    "Arabic": (0x621, 0x652),
    "Devanagari": (0x900, 0x94D),
    "kana": (0x3041, 0x30FA),
    "Chinese": (0x4E00, 0x9FA5),
    "Hangul": (0xAC00, 0xD7A3),
    "emoji": (0x1F300, 0x1F64F),
    "marks": (0x300, 0x36F),
    "controls": (0x0, 0x1F),
    "separators": (0x2000, 0x206F),
    "full width": (0xFF01, 0xFF5E),
}


def nasty_texts(rng: random.Random) -> list[str]:
    """Words of one script each, in no order, some with marks heaped on their letters."""
    return [" ".join(nasty_word(rng) for _ in range(rng.randint(1, 40))) for _ in range(NASTY_TEXTS)]


def nasty_word(rng: random.Random) -> str:
    first, last = ALPHABETS[rng.choice(list(ALPHABETS))]
    word = "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 8)))
    marks = ALPHABETS["marks"]
    return word + "".join(chr(rng.randint(*marks)) for _ in range(rng.randint(1, 3))) if rng.random() < 0.1 else word


def smaller(corpus: Corpus) -> Corpus:
    return corpus.first(SMALL["corpus_bytes"])


# Sizes for --small: of the corpora, and of the constants above.
SMALL = {"corpus_bytes": 60_000, "FRESH_WORDS": 5_000, "GROWTH_MB": (1, 2), "ADVERSARIAL_CHARS": (10**4, 10**5)}
SMALL |= {"VOCABULARY_SIZES": (8_000, 120_000), "SPECIFICATION_BYTES": 20_000, "HUGE_BYTES": 10**7, "SINGLE_TEXTS": 200}


# ---- running and showing ----


def measure(cases: list[str], chosen: list[Corpus], rounds: int) -> Iterator[Row]:
    for name in cases:
        for corpus in chosen if name in EVERY else chosen[:1]:
            yield from (EVERY | ONCE)[name](corpus, rounds)


def facts(arguments: argparse.Namespace, chosen: list[Corpus], seconds: float, rows: list[Row]) -> dict[str, object]:
    return {
        "date": str(datetime.date.today()),
        "commit": commit(),
        "machine": {"cpu": cpu_model(), "cores": CORES, "system": platform.system()},
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("numpy", "tokenizers", "transformers")},
        },
        "flags": {key: value for key, value in vars(arguments).items() if key not in ("out", "show")},
        "corpora": {c.name: {"texts": len(c.texts), "bytes": c.bytes(), "chars": c.chars()} for c in chosen},
        "seconds": round(seconds),
        "rows": [rounded(asdict(row)) for row in rows],
    }


def rounded(value: object) -> object:
    """Four digits are more than such a measurement has."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def commit() -> str | None:
    """Of the repository, with a + where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def line(row: Row) -> str:
    value = row.status if row.value is None else f"{row.value:.3g} {row.unit}"
    spread = "" if row.p20 is None else f"({row.p20:.3g} … {row.p80:.3g})"
    bound = "" if row.bound is None else f"{row.bound} {'met' if row.met else 'MISSED'}"
    speeds = ""
    if "mb_per_s" in row.facts:
        f = row.facts
        speeds = f"{f['texts_per_s']:12,.0f} texts/s {f['mb_per_s']:7.1f} MB/s {f['ids_per_s'] / MB:6.2f} M ids/s"
    return f"{row.case:14} {row.corpus:16} {row.against:46} {value:>14} {spread:18} {bound:14} {speeds}".rstrip()


MAIN_ROWS = {  # case: its title in the main table
    "flat": "whole corpus, flat ids",
    "cold": "the same, new tokenizer",
    "offsets": "the same, with offsets",
    "lists": "a list for each text",
    "padded-32": "padded batches of 32",
    "padded-256": "padded batches of 256",
    "single": "one text at a time, list",
    "single-arrays": "one text at a time, arrays",
    "specification": "whole corpus, flat ids",
}


def show(path: Path | None = None) -> str:
    """Two markdown tables of a result file, the newest if none is given. Cells: ratio, ✗ where it misses its bound."""
    newest = sorted(RESULTS.glob("tokenizer-*.json"))
    if path is None and not newest:
        return "not measured"
    found = json.loads((path or newest[-1]).read_text(encoding="utf-8"))
    rows = [Row(**row) for row in found["rows"]]
    return "\n".join([*main_table(rows, list(found["corpora"])), "", *rest_table(rows)])


def main_table(rows: list[Row], names: list[str]) -> list[str]:
    cells = {(row.case, row.against, row.corpus): row for row in rows if row.case in MAIN_ROWS}
    lines = [f"| what | against | {' | '.join(names)} | asked |", "|---|---|" + "---|" * (len(names) + 1)]
    for case, against in dict.fromkeys(key[:2] for key in cells):
        found = [cells.get((case, against, name)) for name in names]
        bounds = dict.fromkeys(row.bound for row in found if row is not None and row.bound)
        values = " | ".join("" if row is None else cell(row) for row in found)
        lines.append(f"| {MAIN_ROWS[case]} | {against} | {values} | {', '.join(bounds)} |")
    return lines


def rest_table(rows: list[Row]) -> list[str]:
    lines = ["| what | of | value | asked |", "|---|---|---|---|"]
    for row in rows:
        if row.case not in MAIN_ROWS:
            unit = "" if row.unit == "x" else f" {row.unit.removeprefix('x ')}"
            lines.append(f"| {row.case}, {row.corpus} | {row.against} | {cell(row)}{unit} | {row.bound or ''} |")
    return lines


def cell(row: Row) -> str:
    if row.value is None:
        return row.status
    digits = f"{row.value:.0f}" if row.value >= 20 else f"{row.value:.1f}" if row.value >= 2 else f"{row.value:.2f}"
    return f"{digits}{'×' if row.unit.startswith('x') else ''}{' ✗' if row.met is False else ''}"


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[*EVERY, *ONCE], help="cases (default: all but huge)")
    parser.add_argument("--corpus", nargs="+", help="of sst, cfimdb, chnsenticorp, nasty (without the data: reviews)")
    parser.add_argument(
        "--small", action="store_true", help="small corpora, one round, nothing judged, no file unless --out"
    )
    parser.add_argument("--huge", action="store_true", help="the case huge too: a file of 1 GB")
    parser.add_argument("--out", type=Path, help="result file (default: results/tokenizer-DATE.json)")
    parser.add_argument("--show", action="store_true", help="print the tables of the newest result, or of --out")
    found = parser.parse_args(arguments)
    if found.rounds < 1:
        parser.error(f"--rounds {found.rounds} must be 1 or more")
    return found


def main() -> None:
    arguments = parsed()
    if arguments.show:
        print(show(arguments.out))
        return
    transformers.logging.set_verbosity_error()
    available = corpora()
    wanted = arguments.corpus or list(available)
    if missing := [name for name in wanted if name not in available]:
        sys.exit(f"no corpus {', '.join(missing)}; there are {', '.join(available)}")
    chosen = [available[name] for name in wanted]
    if arguments.small:
        globals().update({name: size for name, size in SMALL.items() if name.isupper()})
        chosen, arguments.rounds = [smaller(corpus) for corpus in chosen], 1
    cases = arguments.only or [name for name in (*EVERY, *ONCE) if name != "huge" or arguments.huge]
    started = time.perf_counter()
    out = arguments.out or (None if arguments.small else RESULTS / f"tokenizer-{datetime.date.today()}.json")
    before = json.loads(out.read_text(encoding="utf-8")) if arguments.only and out and out.exists() else {"rows": []}
    kept = (Row(**row) for row in before.pop("rows"))  # of other cases
    rows = [row for row in kept if row.case.partition("-")[0] not in cases]
    for row in measure(cases, chosen, arguments.rounds):
        if arguments.small:
            row = replace(row, bound=None, met=None)
        rows.append(row)
        print(line(row), flush=True)
        if out:  # after every row, so that nothing measured is lost
            found = facts(arguments, chosen, time.perf_counter() - started, rows)
            found["corpora"] = before.get("corpora", {}) | found["corpora"]
            found["before"] = before  # the run that the other cases are from
            out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
