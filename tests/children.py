"""What processes run that tests start (tests/processes.py): here, since a test file would load transformers with it."""

import sys

import torch

from minibert.fast.attention import attend
from minibert.fast.layout import Packed, pack
from minibert.io.signals import Interrupt


def fill_stderr() -> None:
    with Interrupt() as interrupt:
        sys.stderr.write("x" * 1_000_000)
    print(interrupt.requested)


def try_own_kernel() -> None:
    layout = Packed.from_lengths([3, 0, 5])
    q, k, v = torch.randn(3, 8, 1, 32)
    packed = attend(q, k, v, layout, "triton", scale=0.5)
    rows = [torch.randn(3, 1, 5, 32) for _ in range(3)]
    padded = pack(attend(*rows, layout.padded, "triton").transpose(1, 2), layout)
    torch.testing.assert_close(packed, attend(q, k, v, layout, "eager", scale=0.5), rtol=0, atol=1e-5)
    wanted = pack(attend(*rows, layout.padded, "eager").transpose(1, 2), layout)
    torch.testing.assert_close(padded, wanted, rtol=0, atol=1e-5)
