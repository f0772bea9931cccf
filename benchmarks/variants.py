"""Which tiles, warps and stages serve our attention kernels best at which length? On a GPU, bf16, heads of 64.

    python -m benchmarks.variants                         # half a minute for compiling, some seconds for measuring
    python -m benchmarks.variants --dropout 0.1 0         # with dropout, then without
    python -m benchmarks.variants --small                 # one row each, called once: fills Triton's cache, no file
    TRITON_INTERPRET=1 python -m benchmarks.variants --small    # on a CPU: the first of each kernel

For each length, 32k tokens in rows of that length (or of lengths up to it: `uniform`) and 12 heads; each candidate does
all of them alone, timed as a CUDA graph by Triton's do_bench_cudagraph. The inputs are larger than the L2 cache.
TFLOP/s count 4, 10, 6 and 8 operations a score and dimension, of fwd, bwd and of its parts dq and dkv, which compute
the scores twice. What is fastest goes by hand into the tables of minibert/fast/attention/triton_launch.py, if it spills
no registers with dropout (tests/aot.py --dropout).
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import environment, first_line
from minibert.core.files import write_json
from minibert.fast.attention import triton_launch
from minibert.fast.attention.triton_kernel import (
    backward_fused,
    backward_keys,
    backward_queries,
    forward_long,
    forward_short,
)
from minibert.fast.attention.triton_launch import INTERPRETED, Options, Variant
from minibert.fast.layout import Packed

H, D = 12, 64
FLOPS = {"fwd": 4, "bwd": 10, "dq": 6, "dkv": 8}
LONG = [(64, 128, 4, 2), (64, 64, 4, 2), (64, 64, 4, 3), (128, 64, 8, 2), (128, 128, 8, 2), (128, 64, 4, 2)]
PARTS = [(128, 64, 8, 2), (64, 64, 4, 2), (64, 64, 4, 3), (128, 64, 8, 3), (64, 128, 4, 2), (128, 128, 8, 2)]
CANDIDATES: dict[tuple[str, int], list[tuple[Any, list[tuple[int, int, int, int]]]]] = {  # tile, step, warps, stages
    ("fwd", 64): [(forward_short, [(64, 64, 4, 1), (64, 64, 8, 1), (64, 64, 2, 1), (32, 64, 2, 1)])],
    ("fwd", 128): [
        (forward_short, [(128, 128, 8, 1), (64, 128, 4, 1), (128, 128, 4, 1), (64, 128, 8, 1)]),
        (forward_long, [(64, 64, 4, 2)]),
    ],
    ("fwd", 256): [(forward_long, LONG), (forward_short, [(64, 256, 4, 1), (128, 256, 8, 1)])],
    ("fwd", 512): [(forward_long, [*LONG, (128, 128, 8, 3), (64, 128, 4, 3)])],
    ("bwd", 64): [(backward_fused, [(64, 64, 4, 1), (64, 64, 8, 1)])],
    ("bwd", 128): [(backward_fused, [(128, 64, 8, 2), (128, 64, 8, 1), (128, 128, 8, 1), (128, 64, 4, 1)])],
    ("bwd", 256): [(backward_fused, [(256, 64, 8, 2), (256, 64, 8, 1)])],
    ("dq", 256): [(backward_queries, PARTS)],
    ("dkv", 256): [(backward_keys, PARTS)],
    ("dq", 512): [(backward_queries, PARTS)],
    ("dkv", 512): [(backward_keys, PARTS)],
}


def lengths_of(dist: str, length: int) -> list[int]:
    rows, dice = 32768 // length, random.Random(0)
    return [length] * rows if dist == "full" else [dice.randint(1, length) for _ in range(rows)]


def call_of(what: str, lengths: list[int], variant: Variant, dropout_p: float, device: str) -> Callable[[], None]:
    """The variant's kernel over all rows, whatever it is meant for."""
    heads, dtype = (H, torch.bfloat16) if device == "cuda" else (1, torch.float16)  # the interpreter's bf16 is wrong
    qkv = torch.randn(sum(lengths), 3, heads, D, device=device, dtype=dtype)
    q, k, v = qkv.unbind(1)
    out, lse = torch.empty_like(q), q.new_empty(heads, len(q), dtype=torch.float32)
    do, delta = torch.randn_like(out), torch.zeros_like(lse)
    dq, dk, dv = q.new_empty(3, *q.shape).unbind()
    seed = torch.zeros(1, dtype=torch.int32, device=device)
    options = Options(1 / D**0.5, dropout_p, seed, q.stride(0))
    forward = dict.fromkeys(("forward_short", "forward_long"), (q, k, v, out, lse))
    triton_launch._run(False, forward, options, q, Packed.from_lengths(lengths, device=device))
    layout = Packed.from_lengths(lengths, device=device)
    tiles, backward = layout.tiles(variant.tile), what != "fwd"
    layout.kept[(backward, D, q.element_size())] = [(variant, tiles)]
    triton_launch.COMPILED.clear()  # its keys do not tell candidates apart
    kernels = {
        "backward_fused": (q, k, v, out, do, lse, dq, dk, dv),
        "backward_queries": (q, k, v, out, do, lse, delta, dq),
        "backward_keys": (q, k, v, do, lse, delta, dk, dv),
    }
    return lambda: triton_launch._run(backward, kernels if backward else forward, options, q, layout)


def candidates(arguments: argparse.Namespace) -> Iterator[tuple[dict[str, Any], Any, list[int]]]:
    """What a row says of each, its kernel, and the lengths."""
    for dropout in arguments.dropout:
        for (what, length), kernels in CANDIDATES.items():
            for dist in ("full",) if arguments.small else ("full", "uniform"):
                lengths = lengths_of(dist, min(length, 96) if INTERPRETED else length)[: 1 if arguments.small else None]
                for kernel, shapes in kernels:
                    for shape in shapes[: 1 if INTERPRETED else None]:
                        told = {"what": what, "lengths": f"{dist} {length}", "dropout": dropout}
                        yield told | {"kernel": kernel.__name__, "shape": list(shape)}, kernel, lengths


def measured(row: dict[str, Any], kernel: Any, lengths: list[int], arguments: argparse.Namespace) -> dict[str, Any]:
    """The row with its time, or with why it has none."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        call = call_of(
            row["what"], lengths, Variant(D, 2, kernel, None, *row["shape"], shared=0), row["dropout"], device
        )
        if arguments.small:
            call()
            return row | {"us": None}
        from triton.testing import do_bench_cudagraph

        us = round(do_bench_cudagraph(call, rep=20) * 1e3, 1)
    except RuntimeError as error:  # such as out of shared memory
        return row | {"us": None, "error": first_line(error)}
    operations = FLOPS[row["what"]] * D * H * sum(n * n for n in lengths)
    return row | {"us": us, "tflops": round(operations / us / 1e6)}


def key(row: dict[str, Any]) -> tuple:
    return row["what"], row["lengths"], row["dropout"], row["kernel"], tuple(row["shape"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.0])
    parser.add_argument("--small", action="store_true", help="call each once, for one row; no file unless --out")
    parser.add_argument("--out", type=Path, help="result file (default: results/variants-DATE.json)")
    parser.add_argument("--resume", action="store_true", help="leave out what the file has already")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and not (arguments.small and INTERPRETED):
        sys.exit("PyTorch sees no GPU here; to see that all runs: TRITON_INTERPRET=1 and --small")
    default = None if arguments.small else Path(__file__).parent / "results" / f"variants-{datetime.date.today()}.json"
    out = arguments.out or default
    kept = json.loads(out.read_text(encoding="utf-8"))["rows"] if arguments.resume and out and out.exists() else []
    found = {key(row): row for row in kept}
    env = environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    for row, kernel, lengths in candidates(arguments):
        if key(row) in found:
            continue
        found[key(row)] = measured(row, kernel, lengths, arguments)
        print(json.dumps(found[key(row)]), flush=True)
        if out:  # after every row, so that nothing measured is lost
            write_json(out, {"date": str(datetime.date.today()), "env": env, "rows": list(found.values())})


if __name__ == "__main__":
    main()
