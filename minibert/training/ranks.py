"""Several processes training one model: `torchrun --nproc-per-node=N -m minibert train|pretrain …`.

Each process is a rank, holds the whole model and does its share of every batch; PyTorch's DDP averages the gradients.
With one process nothing here does anything, so a loop needs no second path.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

TIMEOUT = timedelta(minutes=30)  # for a rank that is late: rank 0 may be writing a large checkpoint
# Seconds before the interpreter ends in which gloo's threads let go of the last tensors: for that they need the
# interpreter, and one that asks for it too late aborts the process (pytorch#179291, #190489).
GLOO_SHUTDOWN_SECONDS = 0.3


@dataclass(frozen=True)
class Ranks:
    """Which of the processes this is."""

    rank: int = 0
    world: int = 1  # how many there are
    local: int = 0  # this one's number on its machine
    launched: bool = False  # by torchrun, which starts the same command again after a rank has died
    joined: bool = False  # this program has joined them, so it has to leave them

    @property
    def main(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device a rank takes where nothing more is said: the GPU of its own number."""
        own = name == "cuda" or (name == "auto" and torch.cuda.is_available())
        return f"cuda:{self.local}" if own and self.world > 1 else name

    # ---- who does what ----

    def own_rows(self, rows: Sequence[int], lengths: np.ndarray) -> Sequence[int]:
        """This rank's rows of a batch: all of them once, over all ranks. Maybe none.

        Longest first, to ranks 0 1 2 2 1 0 0 1 …, so that all have about as many tokens.
        """
        if self.world == 1:
            return rows
        order = sorted(rows, key=lambda row: -lengths[row])
        places = (i % (2 * self.world) for i in range(len(order)))
        return [
            row for row, place in zip(order, places, strict=True) if min(place, 2 * self.world - 1 - place) == self.rank
        ]

    def wrap(self, model: nn.Module) -> nn.Module:
        """What to call instead of the model, so that backward() averages gradients over the ranks."""
        return model if self.world == 1 else nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)

    def sync(self, wrapped: nn.Module, last: bool) -> None:
        """Of the batches that make one optimizer step only the last one's backward() has to talk to the other ranks."""
        if self.world > 1:
            wrapped.require_backward_grad_sync = last  # what DDP's context manager no_sync() sets

    # ---- communication ----

    def total(self, *values: float) -> Sequence[float]:
        """Sums over all ranks, the same on each of them to the last bit."""
        return values if self.world == 1 else self.summed(torch.tensor(values, dtype=torch.float64)).tolist()

    def summed(self, tensor: Tensor) -> Tensor:
        """A tensor on the CPU, added up over all ranks."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def broadcast(self, value: Any) -> Any:
        """What rank 0 has here, on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def leave(self) -> None:
        """Leaves the process group, on all ranks; rank 0 may go on alone, and nobody waits for it."""
        if self.joined and dist.is_initialized():
            dist.destroy_process_group()

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """What fails in here on any rank fails on all, so that none waits for the others; rank 0 tells the reason."""
        failure = None
        try:
            yield
        except (ValueError, OSError) as error:
            if self.world == 1:
                raise
            failure = error
        if self.world == 1:
            return
        failures: list[Exception | None] = [None] * self.world
        dist.all_gather_object(failures, failure and (str(failure) or type(failure).__name__))
        if self.main and failure is not None:
            raise failure
        if (first := next((reason for reason in failures if reason), None)) is not None:
            raise ValueError(first)


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that torchrun has started; without it, this process alone.

    On every rank but the first a user's mistake and Ctrl-C end the process without a word: rank 0 says them.
    """
    launched = "TORCHELASTIC_RUN_ID" in os.environ
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Ranks(launched=launched)
        return
    local = int(os.environ.get("LOCAL_RANK", 0))
    if torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())
    if first := not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store, rank, world = next(dist.rendezvous("env://", timeout=TIMEOUT))
        if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
            # torchrun keeps its store over restarts, with the addresses of ranks that have died. Several machines
            # count restarts each for itself: there TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 makes torchrun open a new one.
            store = dist.PrefixStore(f"restart-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT)
        atexit.register(time.sleep, GLOO_SHUTDOWN_SECONDS)
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), local, launched, first)
    if not ranks.main:
        logging.disable(logging.WARNING)
    try:
        yield ranks
    except (ValueError, KeyboardInterrupt) as error:
        if ranks.main:
            raise
        raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2) from None
    ranks.leave()
