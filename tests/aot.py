"""Compiles every variant of the Triton kernels for GPUs that are not here, and says what each takes of a processor.

    python tests/aot.py            all variants, for sm_80 (A100) and sm_90 (H100, H200); 2-4 seconds each
    python tests/aot.py --json     the same as JSON, one line each

Registers are per thread. Spilled: bytes of a thread's registers that went to memory. Shared memory is per program.
It needs Triton, but no GPU and no driver; TRITON_INTERPRET must not be set.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from minibert.fast.attention.triton_launch import BACKWARD, FORWARD, Variant

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
ELEMENT = {2: "bf16", 4: "fp32"}
TYPES = {
    **dict.fromkeys(("lse", "delta"), "*fp32"),
    **dict.fromkeys(("tiles", "cu_seqlens", "seed"), "*i32"),
    **dict.fromkeys(("T", "stride"), "i32"),
    **dict.fromkeys(("scale", "dropout_p"), "fp32"),
}
UNALIGNED = {"T", "scale", "dropout_p"}  # all others are multiples of 16, and a launch says so


class Case(NamedTuple):
    """One compilation."""

    variant: Variant
    capability: int
    dropout: bool = False

    def __str__(self) -> str:
        """Letters that a test's name may hold."""
        v, drop = self.variant, "-dropout" if self.dropout else ""
        name = f"{v.kernel.__name__}-{v.up_to or 'any'}-{v.tile}x{v.step}"
        return f"{name}-head{v.head_size}-{ELEMENT[v.element_size]}-sm{self.capability}{drop}"


class Usage(NamedTuple):
    registers: int
    spilled: int
    shared: int  # bytes


def cases(capabilities: tuple[int, ...] = (80, 90), dropout: bool = False) -> Iterator[Case]:
    for table in (FORWARD, BACKWARD):
        for variant in table:
            for capability in capabilities:
                yield Case(variant, capability, dropout)


def compile_ahead(case: Case) -> triton.compiler.CompiledKernel:
    """The kernel as a launch with 12 heads would compile it."""
    variant, names = case.variant, case.variant.kernel.arg_names
    values = {
        "H": 12,
        "D": variant.head_size,
        "TILE": variant.tile,
        "STEP": variant.step,
        "DROPOUT": case.dropout,
        "STRIDE": 36 * variant.head_size,
    }
    values = {name: value for name, value in values.items() if name in names}
    signature = {
        name: "constexpr" if name in values else TYPES.get(name, "*" + ELEMENT[variant.element_size]) for name in names
    }
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name not in UNALIGNED | set(values)}
    source = ASTSource(
        variant.kernel, signature, {(names.index(name),): value for name, value in values.items()}, aligned
    )
    options = {"num_warps": variant.warps, "num_stages": variant.stages}
    return triton.compile(source, target=GPUTarget("cuda", case.capability, 32), options=options)


def usage(case: Case) -> Usage:
    kernel = compile_ahead(case)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        report = subprocess.run([CUOBJDUMP, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    found = {name: int(number) for name, number in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", report)}
    return Usage(found["REG"], found["STACK"] + found["LOCAL"], kernel.metadata.shared)


def allowed(case: Case) -> dict[str, int]:
    """What the table grants: bytes spilled, and KiB shared."""
    strict = case.capability >= 90 and case.variant.element_size == 2
    return {"may_spill": 0 if strict else case.variant.spilled, "may_share": case.variant.shared}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name matches this regular expression")
    parser.add_argument("--dropout", action="store_true", help="compile with dropout")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    args = parser.parse_args()
    if not args.json:
        print("| variant | registers | spilled B | shared KiB |\n|---|---|---|---|")
    for case in cases(dropout=args.dropout):
        if re.search(args.only, str(case)):
            found = usage(case)
            print(
                json.dumps({"name": str(case), **found._asdict(), **allowed(case)})
                if args.json
                else f"| {case} | {found.registers} | {found.spilled} | {found.shared / 1024:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
