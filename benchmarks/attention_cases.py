"""What benchmarks/attention.py measures: batches of lengths, and the least that each costs on a device."""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from minibert.io.examples import read_examples
from minibert.text.tokenizer import Tokenizer
from minibert.text.tokenizer_files import read_vocabulary

SHARED = Path(__file__).parents[2] / "shared" / "data"
HISTOGRAMS = Path(__file__).parent / "results" / "lengths.json"
LONGEST = 512  # of BERT's positions; the histograms are cut there
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

# ---- cases ----


class Suite(NamedTuple):
    """shapes: (distribution of the lengths, width S). batches: None = as many rows as make 32k positions."""

    shapes: tuple[tuple[str, int], ...]
    batches: tuple[int, ...] | None = None
    heads: int = 12


SUITES = {
    "smoke": Suite((("full", 64), ("uniform", 128)), batches=(4,), heads=2),
    "bert": Suite(tuple(("full", width) for width in (64, 128, 256, 384, 512))),
    "ragged": Suite(
        (
            *((dist, 512) for dist in ("uniform", "normal", "lognormal", "bimodal", "chnsenticorp")),
            *((dist, 128) for dist in ("uniform", "sst")),
        )
    ),
    "long": Suite(tuple((dist, width) for width in (1024, 2048, 4096, 8192) for dist in ("full", "lognormal"))),
    "latency": Suite((("full", 128), ("full", 512), ("uniform", 512)), batches=(1, 8, 32)),
}
FIRST = (  # where time is short
    *(("full", 64), ("full", 128), ("full", 512), ("uniform", 512), ("chnsenticorp", 512)),
    *(("full", 256), ("lognormal", 512)),
)


@dataclass(frozen=True)
class Case:
    """One batch. lengths: of its rows; the first is always `width`, so that all backends see the same longest row."""

    suite: str
    dist: str
    width: int
    heads: int
    head_size: int
    dtype: str
    lengths: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @property
    def name(self) -> str:
        return f"{self.dist} {len(self.lengths)}×{self.width}, {self.heads} heads of {self.head_size}, {self.dtype}"


def lengths_of(dist: str, rows: int, width: int, seed: int) -> tuple[int, ...]:
    """Seeded lengths in 1 … width, the first of them `width`."""
    rng = np.random.default_rng([seed, zlib.crc32(dist.encode()), rows, width])
    draw: dict[str, Callable[[], np.ndarray]] = {
        "full": lambda: np.full(rows, width),
        "uniform": lambda: rng.integers(1, width + 1, rows),
        "normal": lambda: rng.normal(0.75 * width, 0.15 * width, rows),
        "lognormal": lambda: rng.lognormal(math.log(0.25 * width) - 0.7**2 / 2, 0.7, rows),  # mean 0.25 S, long tail
        "bimodal": lambda: rng.normal(np.where(rng.random(rows) < 0.7, 0.12, 0.85) * width, 0.04 * width),
    }
    found = draw[dist]() if dist in draw else rng.choice(known_lengths(dist), rows)
    found = np.clip(np.rint(found), 1, width).astype(int)
    found[0] = width
    return tuple(found.tolist())


def known_lengths(dist: str) -> np.ndarray:
    """Every length of a histogram as often as it was counted: of HISTOGRAMS by name, or `file:` a JSON list of lengths
    or {length: count}.
    """
    if dist.startswith("file:"):
        counts = json.loads(Path(dist.removeprefix("file:")).read_text(encoding="utf-8"))
        counts = Counter(counts) if isinstance(counts, list) else counts
    else:
        counts = json.loads(HISTOGRAMS.read_text(encoding="utf-8"))[dist]["counts"]
    return np.repeat([int(length) for length in counts], list(counts.values()))


def cases_of(arguments: argparse.Namespace) -> list[Case]:
    """Of the suites that are asked for, the most telling first."""
    found = sorted(
        all_cases(arguments), key=lambda case: (*FIRST, (case.dist, case.width)).index((case.dist, case.width))
    )
    return found[: arguments.first]


def all_cases(arguments: argparse.Namespace) -> Iterator[Case]:
    for name in arguments.suite:
        suite = SUITES[name]
        widths = dict.fromkeys(width for _, width in suite.shapes)
        shapes = [(dist, width) for width in widths for dist in arguments.dist] if arguments.dist else suite.shapes
        for heads in arguments.heads or [suite.heads]:
            for dist, width in shapes:
                for rows in suite.batches or (min(256, max(8, 32768 // width)),):
                    lengths = lengths_of(dist, rows, width, arguments.seed)
                    yield Case(name, dist, width, heads, arguments.head_size, arguments.dtype, lengths)


# ---- what a case costs at least ----

FLOPS = {"fwd": 4, "bwd": 10, "both": 14}  # 2 products of n·n·D forward, 5 backward with the recomputed scores
TENSORS = {"fwd": 4, "bwd": 8, "both": 12}  # q k v out; q k v out dout dq dk dv
SUMS = {"fwd": 1, "bwd": 1, "both": 2}  # softmax denominators: one float32 for each token and head; one exp per score


def flops(case: Case, direction: str) -> int:
    """Useful ones: of real tokens with real tokens."""
    return FLOPS[direction] * case.heads * case.head_size * sum(n * n for n in case.lengths)


def least_bytes(case: Case, direction: str) -> int:
    """Each tensor once."""
    elements = case.tokens * case.heads * case.head_size
    return TENSORS[direction] * elements * DTYPES[case.dtype].itemsize + SUMS[direction] * 4 * case.tokens * case.heads


def roofline_us(case: Case, direction: str, peaks: dict) -> float | None:
    """The least time that the measured rates allow; a backward cannot overlap with its forward."""
    if not (peaks.get("tflops") and peaks.get("gb_s")):
        return None
    if direction == "both":
        return roofline_us(case, "fwd", peaks) + roofline_us(case, "bwd", peaks)
    return max(flops(case, direction) / peaks["tflops"] / 1e6, least_bytes(case, direction) / peaks["gb_s"] / 1e3)


def exp_us(case: Case, direction: str, peaks: dict) -> float | None:
    """What the exponentials need: 16 a clock on each multiprocessor."""
    if not peaks.get("exp_per_us"):
        return None
    return SUMS[direction] * case.heads * sum(n * n for n in case.lengths) / peaks["exp_per_us"]


# ---- histograms ----


def histograms() -> dict[str, dict]:
    """How many training texts have how many tokens, [CLS] and [SEP] included, cut at 512. Counts only."""
    sst = (SHARED / "sst5_cfimdb" / "sst-train.txt").read_text(encoding="utf-8").splitlines()
    reviews = read_examples(SHARED / "chnsenticorp" / "train.tsv", quoting="none").texts
    sources = {
        "chnsenticorp": ("ChnSentiCorp, train", "bert-base-chinese", reviews),
        "sst": (
            "Stanford Sentiment Treebank, train",
            "bert-base-uncased",
            [line.partition(" ||| ")[2] for line in sst],
        ),
    }
    found = {}
    for name, (source, vocab, texts) in sources.items():
        tok = Tokenizer(read_vocabulary(SHARED / "vocab" / f"{vocab}.vocab.txt"))
        lengths = np.minimum(tok.encode_flat(texts).lengths + 2, LONGEST)
        counts = {str(length): count for length, count in sorted(Counter(lengths.tolist()).items())}
        found[name] = {"texts": len(texts), "source": source, "vocabulary": vocab, "counts": counts}
    return found
