"""Which tiles, warps and stages serve our attention kernels best at which length? On a GPU, bf16, heads of 64.

    python -m benchmarks.variants                # half a minute for compiling, some seconds for measuring
    python -m benchmarks.variants --dropout 0.1

For each length, 32k tokens in rows of that length (or of lengths up to it: `uniform`) and 12 heads; each candidate does
all of them alone, timed as a CUDA graph by Triton's do_bench_cudagraph. The inputs are larger than the L2 cache.
TFLOP/s count 4, 10, 6 and 8 operations a score and dimension, of fwd, bwd and of its parts dq and dkv, which compute
the scores twice. What is fastest goes by hand into the tables of minibert/attention/triton_kernel.py, if it spills no
registers with dropout (tests/aot.py --dropout).
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import environment, first_line
from minibert.attention import triton_kernel
from minibert.attention.triton_backward import backward_fused, backward_keys, backward_queries
from minibert.attention.triton_kernel import Options, Variant, forward_long, forward_short
from minibert.layout import Packed

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


def call_of(what: str, lengths: list[int], variant: Variant, dropout_p: float) -> Callable[[], None]:
    """The variant's kernel over all rows, whatever it is meant for."""
    qkv = torch.randn(sum(lengths), 3, H, D, device="cuda", dtype=torch.bfloat16)
    q, k, v = qkv.unbind(1)
    out, lse = torch.empty_like(q), q.new_empty(H, len(q), dtype=torch.float32)
    do, gradient, delta = torch.randn_like(out), torch.empty_like(qkv), torch.zeros_like(lse)
    dq, dk, dv = gradient.unbind(1)
    seed = torch.zeros(1, dtype=torch.int32, device="cuda")
    options = Options(1 / D**0.5, dropout_p, seed, q.stride(0))
    forward = dict.fromkeys(("forward_short", "forward_long"), (q, k, v, out, lse))
    triton_kernel._run(False, forward, options, q, Packed.from_lengths(lengths, device="cuda"))
    layout = Packed.from_lengths(lengths, device="cuda")
    tiles, backward = layout.tiles(variant.tile), what != "fwd"
    layout.kept[(backward, D, q.element_size())] = [(variant, tiles, len(tiles))]
    triton_kernel.COMPILED.clear()  # its keys do not tell candidates apart
    kernels = {
        "backward_fused": (q, k, v, out, do, lse, dq, dk, dv),
        "backward_queries": (q, k, v, out, do, lse, delta, dq),
        "backward_keys": (q, k, v, do, lse, delta, dk, dv),
    }
    numbers = (*options, dq.stride(0)) if backward else options
    return lambda: triton_kernel._run(backward, kernels if backward else forward, numbers, q, layout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--out", type=Path, help="result file (default: results/variants-DATE.json)")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here, and on a CPU these kernels are interpreted")
    from triton.testing import do_bench_cudagraph

    found = []
    for (what, length), kernels in CANDIDATES.items():
        for dist in ("full", "uniform"):
            lengths = lengths_of(dist, length)
            for kernel, shapes in kernels:
                for shape in shapes:
                    row = {"what": what, "lengths": f"{dist} {length}", "kernel": kernel.__name__, "shape": shape}
                    try:
                        call = call_of(what, lengths, Variant(kernel, None, *shape, shared=0), arguments.dropout)
                        row["us"] = round(do_bench_cudagraph(call, rep=20) * 1e3, 1)
                        row["tflops"] = round(FLOPS[what] * D * H * sum(n * n for n in lengths) / row["us"] / 1e6)
                    except RuntimeError as error:  # such as out of shared memory
                        row["error"] = first_line(error)
                    found.append(row)
                    print(json.dumps(row), flush=True)
    result = {"date": str(datetime.date.today()), "dropout": arguments.dropout, "rows": found}
    result["env"] = environment(torch.device("cuda"))
    out = Path(__file__).parent / "results" / f"variants-{datetime.date.today()}.json"
    (arguments.out or out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
