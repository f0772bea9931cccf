"""How fast is BERT's attention on this device, for padded and for ragged batches, and how fast could it be?

    python -m benchmarks.attention --suite bert,ragged --minutes 9      # on a GPU; says first how long it will take
    python -m benchmarks.attention --suite long --minutes 9             # then latency; --l2 cold,hot for both states
    TRITON_INTERPRET=1 python -m benchmarks.attention                   # on a CPU: smoke, to see that all runs
    python -m benchmarks.attention --show                               # summary of the newest result file
    python -m benchmarks.attention --show NEW.json --compare OLD.json   # exit code 1 where something became slower
    python -m benchmarks.attention --histograms                         # makes results/lengths.json again

The physics. Attention over n tokens of head size D is 4·D·n² operations forward and 10·D·n² backward, over 4·n·D
elements that must be moved forward and 8·n·D backward. So there are n/2 operations for a byte forward (16 bits): below
n = 200 or so no kernel can be faster than the memory, beyond the matrix units are the limit, and with D = 64 the
exponentials (one for 256 operations) cost as much time as the products. Work on padding counts as no work: T tokens are
the real ones, and the operations are the sum over the rows' own n².

Method. Nothing is timed before it is proven right: the output and the three gradients against float64, on fresh random
input, within twice the error that `eager` makes in the same type; edge lengths; all scores -120; padding untouched; NaN
of one row in no other. Then the contestants of a case take turns (a CUDA graph of several calls each, over more input
sets than the L2 cache holds), and the whole run is made twice. Compiling and warming up are not in the times.

Two boundaries. kernel: the inputs lie as the backend likes them, separate and contiguous, [B, H, S, D] or [T, H, D].
module: from one padded [B, S, 3·H·D] to a padded [B, S, H·D], with all packing, transposing and their gradients.
Passes: fwd; bwd, `autograd.grad` of an output that is there; both, one after the other. A backward in a graph is
captured alone, on the stream that its forward ran on.

Columns: µs, median of one call (p20 … p80); TFLOP/s, useful ones; % peak, of a large matrix product's rate measured in
this process, in a burst (what stays of it under power and heat stands beside it in the file); % roof, of the least time
that this rate and the measured bandwidth of a triad, three reads and a write, allow; % exp, the share of the time that
the exponentials alone need; GB/s, of the bytes that must be moved; Mtok/s; MB, memory beyond the inputs;
wall, µs of the host for a call without a graph; plan, µs to make what a batch needs once (mask, block mask, list of
tiles), shared by all layers, as the difference of a first call and a second (so noise can make it negative); error, the
largest of the four relative to its bound. * by events, for want of a graph.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import nested, timing
from benchmarks.attention_cases import (
    DTYPES,
    FLOPS,
    HISTOGRAMS,
    LONGEST,
    SUITES,
    Case,
    cases_of,
    exp_us,
    flops,
    histograms,
    least_bytes,
    roofline_us,
)
from benchmarks.attention_gate import (
    EDGES,
    Batch,
    Contestant,
    Incorrect,
    Truth,
    contestants,
    gate,
    gate_edges,
    random_tensors,
    truth_of,
)
from benchmarks.attention_report import Row, compare, picture, rows_of, summary, table, title
from minibert.core.attention import Padded
from minibert.core.files import atomic_write
from minibert.fast.attention import BACKENDS, resolve_backend
from minibert.fast.attention.backend import Case as Possible
from minibert.fast.layout import Packed

try:
    from triton.runtime.errors import TritonError
except ImportError:

    class TritonError(Exception):
        """Stands for triton's, which cannot be raised here."""


SCHEMA = 1
RESULTS = Path(__file__).parent / "results"
DEFAULT_PAIRS = (("kernel", "fwd"), ("kernel", "bwd"), ("module", "both"))
BYTES_BEYOND_L2, MOST_SETS = 4, 256  # cold: the input sets are four times the cache
NOT_KEPT = ("out", "compare", "show", "histograms", "resume")  # options that change no number
FAILURES = (RuntimeError, ValueError, TypeError, AssertionError, TritonError)  # end a row, not the run


# ---- measuring ----


class Bench:
    """One run: rows by key, in the order in which they will stand in the file, and what the clock said of each."""

    def __init__(self, arguments: argparse.Namespace, device: torch.device) -> None:
        self.arguments, self.device, self.started = arguments, device, time.perf_counter()
        self.dtype, self.cuda = DTYPES[arguments.dtype], device.type == "cuda"
        self.cases = cases_of(arguments)
        self.env = timing.environment(device)
        self.peaks = timing.measured_peaks(self.dtype, device, self.env)
        self.rows: dict[tuple, Row] = {}
        self.others: dict[tuple, Row] = {}  # of the file that is gone on with, not asked for now
        self.samples: dict[tuple, list[float]] = {}
        self.compiled_for: tuple[object, ...] | None = None
        self.edges: dict[tuple, str] = {}  # what is wrong with a contestant at awkward lengths, "" if nothing is
        self.lengths = {case.name: list(case.lengths) for case in self.cases}
        for case in self.cases:
            for boundary, direction in arguments.pairs:
                for l2 in arguments.l2:
                    for who in contestants(arguments.backends, case, boundary):
                        row = self.row_of(case, who, direction, l2)
                        self.rows[row.key] = row

    def restore(self, old: dict) -> None:
        """Takes over what an earlier run has measured: nothing of it is measured again.

        Raises:
            ValueError: it was made elsewhere, or of other lengths.
        """
        if old["env"]["device"] != self.env["device"]:
            raise ValueError(
                f"the file was made on {old['env']['device']}, and here is {self.env['device']}; give another --out"
            )
        apart = [name for name, lengths in old["lengths"].items() if self.lengths.get(name, lengths) != lengths]
        if apart:
            raise ValueError(f"the file has other lengths for {apart[0]}; give its --seed, or another --out")
        before = {row.key: row for row in rows_of(old)}
        self.others = {key: row for key, row in before.items() if key not in self.rows}
        self.rows = {key: before.get(key, row) for key, row in self.rows.items()}
        self.lengths = old["lengths"] | self.lengths

    @staticmethod
    def row_of(case: Case, who: Contestant, direction: str, l2: str) -> Row:
        shape = case.suite, case.dist, len(case.lengths), case.width, case.heads, case.head_size, case.dtype
        return Row(*shape, who.boundary, direction, who.backend, who.layout, l2)

    @staticmethod
    def of_case(row: Row, case: Case) -> bool:
        shape = case.suite, case.dist, len(case.lengths), case.width, case.heads
        return shape == (row.suite, row.dist, row.batch, row.width, row.heads)

    def rows_for(self, case: Case, who: Contestant, direction: str) -> list[Row]:
        """One for each state of the cache."""
        return [self.rows[self.row_of(case, who, direction, l2).key] for l2 in self.arguments.l2]

    def estimate(self) -> float:
        """Seconds, roughly: a row's gate, building it twice, timing it twice; FlexAttention's compiler, for any number
        of tokens once more.
        """
        groups = len(self.rows) / len(self.arguments.l2)
        if not self.cuda:
            return 1.0 * groups
        flex = [row for row in self.rows.values() if row.backend == "flex" and row.boundary == "kernel"]
        compiled = {(r.suite, r.batch, r.width, r.heads, r.layout, r.direction, r.dist == "full") for r in flex}
        return 30 + groups * (0.2 + 2 * 0.15) + 2 * 0.1 * len(self.rows) + 7 * len(compiled) * 1.5

    def over(self) -> bool:
        return time.perf_counter() - self.started > 60 * self.arguments.minutes

    def run(self, write: Callable[[dict], None]) -> dict:
        """Everything twice; what has been measured is written after every group."""
        for turn in (0, 1):
            for number, case in enumerate(self.cases):
                if self.over():
                    break
                if not any(self.left(row, turn) for row in self.rows.values() if self.of_case(row, case)):
                    continue
                batch = Batch(case.lengths, case.width, case.heads, case.head_size, self.device)
                self.forget_compiled((case.suite, len(case.lengths), case.width, case.heads))
                if turn == 0:
                    try:
                        self.check(case, batch, number)
                    except FAILURES as reason:  # the reference itself, as where it finds no room
                        mine = [row for row in self.rows.values() if self.of_case(row, case)]
                        self.fail([row for row in mine if row.status == "not reached"], reason)
                    write(self.result())
                for boundary, direction in () if self.over() else self.arguments.pairs:
                    self.measure(case, batch, boundary, direction, turn, number)
                    write(self.result())
        for row in self.rows.values():
            if row.status == "not reached" or (row.status == "correct" and not row.reason):
                row.reason = f"--minutes {self.arguments.minutes:g} were over"
        return self.result()

    def left(self, row: Row, turn: int) -> bool:
        """Whether a row has still to be checked or timed, in the first or second round."""
        timed = row.status in ("correct", "ok") and (self.cuda or row.backend != "triton")
        return (row.status == "not reached" and turn == 0) or (timed and len(row.rounds) <= turn)

    def forget_compiled(self, sizes: tuple[object, ...] | None = None) -> None:
        """Before other sizes, so that FlexAttention is compiled for the very sizes of a case and not for any; only the
        number of packed tokens may vary.
        """
        if self.cuda and "flex" in self.arguments.backends and (sizes is None or sizes != self.compiled_for):
            torch.compiler.reset()
            self.compiled_for = sizes

    # -- first: is it available, and right?

    def check(self, case: Case, batch: Batch, number: int) -> None:
        generator = torch.Generator(self.device).manual_seed(self.arguments.seed + number)
        truth = None
        for boundary in dict.fromkeys(boundary for boundary, _ in self.arguments.pairs):
            for who in contestants(self.arguments.backends, case, boundary):
                directions = []
                for direction in (direction for b, direction in self.arguments.pairs if b == boundary):
                    if all(row.status != "not reached" for row in self.rows_for(case, who, direction)):
                        continue
                    why = self.why_not(case, batch, who, direction)
                    for row in self.rows_for(case, who, direction):
                        row.status, row.reason = ("skipped" if why else "not reached"), why
                    directions += [] if why else [direction]
                if directions:
                    truth = truth or truth_of(batch, random_tensors(batch, 4, self.dtype, generator))
                    status, reason, shares = self.judge(case, batch, who, truth, generator, directions != ["fwd"])
                    for direction in directions:
                        for row in self.rows_for(case, who, direction):
                            row.status, row.reason, row.shares = status, reason, shares

    def why_not(self, case: Case, batch: Batch, who: Contestant, direction: str) -> str:
        """Why a contestant does not run in a case, "" if it does."""
        scores = 6 * 4 * len(case.lengths) * case.heads * case.width**2
        if self.cuda and who.backend in ("eager", "sdpa-math") and scores > self.env["memory_bytes"] / 4:
            return f"its scores would take about {scores / 1e9:.0f} GB"
        if self.cuda and who.backend == "flex" and who.boundary == "module" and len(self.arguments.backends) > 1:
            return "it would be compiled once more for these strides; ask for it alone: --backends flex"
        plan, grads = batch.plan(who.layout), direction != "fwd"
        try:
            resolve_backend(who.backend, Possible(self.device, self.dtype, case.head_size, plan, needs_grad=grads))
        except ValueError as reason:
            return str(reason).partition("cannot run here: ")[2].partition("; the nearest")[0] or str(reason)
        return ""

    def judge(
        self, case: Case, batch: Batch, who: Contestant, truth: Truth, generator: torch.Generator, grads: bool
    ) -> tuple[str, str, dict[str, float]]:
        """Status, reason, shares. Edge lengths are tried once for each width, which is what a padded kernel sees; for
        FlexAttention once, as each width is compiled.
        """
        width = case.width if who.layout == "padded" else min(case.width, LONGEST)
        key = who, case.heads, grads, 0 if who.backend == "flex" else width
        try:
            if key not in self.edges:
                lengths = (*(n for n in EDGES if n < width), width)
                edges = Batch(lengths, width, case.heads, case.head_size, self.device)
                self.edges[key] = reason_of(gate_edges, who, edges, self.dtype, generator, grads)
                if who.backend == "flex":
                    self.forget_compiled()
            shares = gate(who, batch, truth, grads)
        except Incorrect as reason:
            return "incorrect", str(reason), {}
        except FAILURES as reason:
            return "error", f"{type(reason).__name__}: {timing.first_line(reason)}", {}
        return ("incorrect", self.edges[key], {}) if self.edges[key] else ("correct", "", shares)

    # -- then: how fast?

    def measure(self, case: Case, batch: Batch, boundary: str, direction: str, turn: int, number: int) -> None:
        """The contestants of one group, taking turns."""
        runners: dict[tuple, timing.Runner] = {}
        generator = torch.Generator(self.device).manual_seed(self.arguments.seed + 1000 * (turn + 1) + number)
        for who in contestants(self.arguments.backends, case, boundary):
            rows = self.rows_for(case, who, direction)
            if rows[0].status == "correct" and who.backend == "triton" and not self.cuda:
                rows[0].reason = "checked only: on a CPU its kernels are interpreted"
            rows = [row for row in rows if row.status != "not reached" and self.left(row, turn)]
            if not rows:
                continue
            try:
                plan = batch.plan(who.layout)
                calls = self.calls(case, batch, who, plan, direction, generator)
                for row in rows:
                    turns = calls if row.l2 == "cold" else calls[:1]
                    runners[row.key] = timing.make_runner(turns, self.arguments.timer, self.device)
                if turn == 0:
                    self.describe(rows, calls[0], batch, who, direction, generator)
            except FAILURES as reason:
                self.fail(rows, reason)
        for l2 in self.arguments.l2:
            found = {key: runner for key, runner in runners.items() if self.rows[key].l2 == l2}
            found = {key: runner for key, runner in found.items() if self.rows[key].status != "error"}
            try:
                times = timing.sample(list(found.values()), self.device, self.arguments.seconds) if found else []
            except FAILURES as reason:
                self.fail([self.rows[key] for key in found], reason)
                continue
            for (key, runner), new in zip(found.items(), times, strict=True):
                self.record(case, self.rows[key], runner, new)

    def calls(
        self, case: Case, batch: Batch, who: Contestant, plan: Padded | Packed, direction: str, gen: torch.Generator
    ) -> list[timing.Call]:
        """The same work on as many input sets as are needed to push each other out of the cache."""
        sets, found = 1, []
        while len(found) < sets:
            given, dout = self.inputs(batch, who, gen, direction)
            found.append(call_of(who, batch, plan, given, dout, direction))
            if "cold" in self.arguments.l2:
                size = sum(x.nbytes for x in (*given, dout))
                sets = min(MOST_SETS, 1 + math.ceil(BYTES_BEYOND_L2 * self.env.get("l2_bytes", 0) / size))
        return found

    def inputs(
        self, batch: Batch, who: Contestant, generator: torch.Generator, direction: str
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        q, k, v, dout = random_tensors(batch, 4, self.dtype, generator)
        given = tuple(x.requires_grad_(direction != "fwd") for x in who.given(batch, q, k, v))
        return given, who.gradient(batch, dout)

    def describe(
        self, rows: list[Row], call: timing.Call, batch: Batch, who: Contestant, direction: str, gen: torch.Generator
    ) -> None:
        """What is measured once: memory, kernels, the host's share, and the plan's cost: the first call with a new plan
        against the second with the same.
        """
        given, dout = self.inputs(batch, who, gen, direction)
        costs = []
        for _ in range(3):
            timing.synchronize(self.device)
            begin = time.perf_counter()
            plan = batch.plan(who.layout)
            first = call_of(who, batch, plan, given, dout, "fwd" if direction == "fwd" else "both")
            first()
            timing.synchronize(self.device)
            costs.append((time.perf_counter() - begin) * 1e6 - timing.wall_us(first, self.device, 1))
        wall = timing.wall_us(call, self.device, 20) if self.cuda else None
        extra, kernels = timing.extra_mb(call, self.device), timing.kernel_names(call, self.device)
        for row in rows:
            row.plan_us, row.wall_us, row.extra_mb, row.kernels = statistics.median(costs), wall, extra, kernels

    @staticmethod
    def fail(rows: list[Row], reason: Exception) -> None:
        for row in rows:
            row.status, row.reason, row.us = "error", f"{type(reason).__name__}: {timing.first_line(reason)}", None

    def record(self, case: Case, row: Row, runner: timing.Runner, new: list[float]) -> None:
        """Times of this round beside those of the one before, and what follows from all of them."""
        before = (row.p20, row.us, row.p80) if row.rounds and row.key not in self.samples else None
        times = self.samples.setdefault(row.key, [])
        times += new
        row.rounds = [*row.rounds, statistics.median(new)]
        row.p20, row.us, row.p80 = (float(np.percentile(times, percent)) for percent in (20, 50, 80))
        if before:  # of an earlier run, whose samples are not kept
            row.p20, row.us, row.p80 = ((a + b) / 2 for a, b in zip(before, (row.p20, row.us, row.p80), strict=True))
        row.status, row.timer, row.reason = "ok", runner.timer, runner.note
        row.mtokens_s = case.tokens / row.us
        row.tflops = flops(case, row.direction) / row.us / 1e6
        row.gb_s = least_bytes(case, row.direction) / row.us / 1e3
        row.peak_percent = self.peaks["tflops"] and 100 * row.tflops / self.peaks["tflops"]
        if row.boundary == "kernel":
            bounds = roofline_us(case, row.direction, self.peaks), exp_us(case, row.direction, self.peaks)
            row.roof_percent, row.exp_percent = (bound and 100 * bound / row.us for bound in bounds)
        print(f"{title(row)}, {row.who}: {row.us:.4g} µs ({row.p20:.4g} … {row.p80:.4g})", flush=True)

    def by_group(self) -> list[Row]:
        """All rows, those of a group side by side."""
        rows = [*self.others.values(), *self.rows.values()]
        places = {group: place for place, group in enumerate(dict.fromkeys(row.group for row in rows))}
        return sorted(rows, key=lambda row: places[row.group])

    def result(self) -> dict:
        return {
            "schema": SCHEMA,
            "date": str(datetime.date.today()),
            "comparable": self.cuda,
            "env": self.env,
            "at_end": timing.nvidia_smi() if self.cuda else {},
            "peaks": self.peaks,
            "options": rounded({key: value for key, value in vars(self.arguments).items() if key not in NOT_KEPT}),
            "seconds": round(time.perf_counter() - self.started),
            "lengths": self.lengths,
            "rows": [rounded(asdict(row)) for row in self.by_group()],
        }


def reason_of(function: Callable[..., None], *arguments: object) -> str:
    """Why an answer is wrong, "" if it is not."""
    try:
        function(*arguments)
    except Incorrect as reason:
        return str(reason)
    return ""


def call_of(
    who: Contestant, batch: Batch, plan: Padded | Packed, given: tuple[Tensor, ...], dout: Tensor, direction: str
) -> timing.Call:
    """What is timed: returns what it computed."""

    def forward() -> Tensor:
        with torch.set_grad_enabled(direction != "fwd"):
            return who.forward(batch, given, plan)

    def both() -> tuple[Tensor, ...]:
        out = forward()
        return out.detach(), *torch.autograd.grad(out, given, dout)

    if direction != "bwd":
        return forward if direction == "fwd" else both
    out = forward()
    return lambda: torch.autograd.grad(out, given, dout, retain_graph=True)


def rounded(value: object) -> object:
    """Five digits are more than such a measurement has. What is not finite is null in JSON."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


# ---- command line ----


def commas(known: Sequence[str] = ()) -> Callable[[str], list[str]]:
    """An argument that is a list, each of them known (if that is limited)."""

    def split(words: str) -> list[str]:
        found = words.split(",")
        if known and (unknown := [word for word in found if word not in known]):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is unknown; choose from {', '.join(known)}")
        return found

    return split


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--import", dest="modules", action="append", default=[])
    for module in first.parse_known_args(argv)[0].modules:  # before the backends are known
        importlib.import_module(module)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--suite", type=commas(list(SUITES)), help="default: bert,ragged on a GPU, smoke on a CPU")
    add("--backends", type=commas(list(BACKENDS)), default=list(BACKENDS), help="default: all")
    add("--pass", dest="directions", type=commas(list(FLOPS)), help="default: fwd,bwd for kernel, both for module")
    add("--boundary", type=commas(("kernel", "module")), default=["kernel", "module"])
    add(
        "--dist", type=commas(), help="lengths in place of the suite's, at its widths: full, uniform, …, file:lens.json"
    )
    add("--dtype", choices=list(DTYPES), help="default: bf16 on a GPU, fp32 on a CPU")
    add("--heads", type=lambda words: [int(word) for word in words.split(",")], help="default: 12 (smoke: 2)")
    add("--head-size", type=int, default=64)
    add("--l2", type=commas(("cold", "hot")), default=["cold"], help="are the inputs in the cache? default: cold")
    add("--timer", choices=("graph", "events"), default="graph")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--seconds", type=float, default=0.06, help="of timing for each row and round")
    add("--minutes", type=float, default=math.inf, help="begin nothing new after so many; the rest is `not reached`")
    add("--seed", type=int, default=0)
    add("--first", type=int, help="only so many of the suites' cases, the most telling ones")
    add("--out", type=Path, help="directory of the result files (default: benchmarks/results; smoke: none); or a .json")
    add("--resume", action="store_true", help="measure only what the --out FILE.json does not have, and add it there")
    add("--import", dest="modules", action="append", default=[], help="a module that adds its backend to BACKENDS")
    add("--show", nargs="?", const="", help="print the summary of a result file, by default the newest, and stop")
    add("--compare", type=Path, help="an older result file; exit code 1 where something became slower or wrong")
    add("--histograms", action="store_true", help=f"write {HISTOGRAMS.name} again, from ../shared/data, and stop")
    found = parser.parse_args(argv)
    if found.resume and (found.out is None or found.out.suffix != ".json"):
        parser.error("--resume goes on with a file; name it: --out FILE.json")
    gpu = found.device == "cuda" or (found.device == "auto" and torch.cuda.is_available())
    found.device = "cuda" if gpu else "cpu"
    found.suite = found.suite or (["bert", "ragged"] if gpu else ["smoke"])
    found.dtype = found.dtype or ("bf16" if gpu else "fp32")
    found.l2 = found.l2 if gpu else ["hot"]
    given = [(boundary, d) for boundary in found.boundary for d in found.directions or ()]
    found.pairs = given or [pair for pair in DEFAULT_PAIRS if pair[0] in found.boundary]
    return found


def write(result: dict, path: Path | None, alone: bool) -> None:
    """The result, and unless it shall be alone what is made of it: .json, .md, .svg."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, (json.dumps(result, indent=None, ensure_ascii=False) + "\n").encode())
    if not alone:
        atomic_write(path.with_suffix(".md"), "\n".join([*summary(result), *table(result), ""]).encode())
        atomic_write(path.with_suffix(".svg"), picture(result).encode())


def path_for(bench: Bench) -> Path | None:
    out = bench.arguments.out or (None if bench.arguments.suite == ["smoke"] else RESULTS)
    if out and out.suffix == ".json":
        return out
    name = f"{bench.env['device']} {' '.join(bench.arguments.suite)} {bench.env['commit'] or ''}".lower()
    slug = re.sub("[^a-z0-9]+", "-", name).strip("-")
    return out and out / f"attention-{datetime.date.today()}-{slug}.json"


def newest() -> Path:
    found = sorted(RESULTS.glob("attention-*.json"))
    if not found:
        sys.exit(f"no result file in {RESULTS}; measure first: python -m benchmarks.attention")
    return found[-1]


def read(path: Path) -> dict:
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["schema"] != SCHEMA:
        raise ValueError(f"{path.name} has schema {found['schema']}, this program reads {SCHEMA}; take that commit's")
    return found


def measured(arguments: argparse.Namespace) -> dict:
    torch.manual_seed(arguments.seed)
    bench = Bench(arguments, torch.device(arguments.device))
    path, given = path_for(bench), arguments.out
    if arguments.resume and path.exists():
        try:
            bench.restore(read(path))
        except ValueError as error:
            sys.exit(f"{path}: {error}")
    print(
        f"{len(bench.rows)} rows, about {bench.estimate() / 60:.1f} minutes; result: {path or 'not kept'}", flush=True
    )
    alone = path is not None and path == given
    result = bench.run(lambda found: write(found, path, alone))
    write(result, path, alone)
    return result


def main(argv: list[str] | None = None) -> int:
    arguments = parsed(argv)
    if arguments.histograms:
        HISTOGRAMS.write_text(json.dumps(histograms(), indent=1) + "\n", encoding="utf-8")
        return 0
    if arguments.show is not None:
        result = read(Path(arguments.show) if arguments.show else newest())
    elif arguments.device == "cuda":
        with torch.cuda.stream(torch.cuda.Stream()):  # graphs cannot be captured on the default one
            result = measured(arguments)
    else:
        torch.set_num_threads(1)  # more are slower for tensors this small, and much slower beside other work
        result = measured(arguments)
    print("\n".join(summary(result)))
    if arguments.compare is None:
        return 0
    lines, worse = compare(read(arguments.compare), result)
    print("\n".join(["", f"Against {arguments.compare.name}:", *lines]))
    return int(worse)


if __name__ == "__main__":
    nested.add()
    sys.exit(main())
