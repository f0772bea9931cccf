"""How many CPU threads a run computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

ONE_THREAD_BELOW = 5_000_000  # weights: with fewer, threads wait for each other longer than they compute


def threads_for(parameters: int) -> int:
    """How many CPU threads serve a model of so many weights, where nobody says."""
    return 1 if parameters < ONE_THREAD_BELOW else torch.get_num_threads()


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Lets PyTorch use `count` CPU threads for a while. Results depend on the number in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
