"""Several processes training one model: `torchrun --nproc-per-node=N -m minibert train|pretrain …`.

Each process is a rank and does its share of every batch. PyTorch adds the gradients up: DDP, where each rank holds the
whole model, or FSDP2 (`fully_shard`), where each holds a slice of every weight and of AdamW's moments. With one process
nothing here does anything, so a loop needs no second path.
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

PATIENCE = timedelta(minutes=30)  # for a rank that is late: rank 0 may be writing a large checkpoint
# Seconds before the interpreter ends in which gloo's threads let go of the last tensors: for that they need the
# interpreter, and one that asks for it too late aborts the process (pytorch#179291, #190489).
LAST_BREATH = 0.3


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

    def check(self, engine: str | None) -> None:
        """Raises ValueError where one process is asked to be several."""
        if engine is not None and self.world == 1:
            raise ValueError(f"parallel {engine} is for several processes; start them with torchrun")

    def device(self, name: str) -> str:
        """The device a rank takes where nothing more is said: the GPU of its own number."""
        own = name == "cuda" or (name == "auto" and torch.cuda.is_available())
        return f"cuda:{self.local}" if own and self.world > 1 else name

    # ---- who does what ----

    def deal(self, rows: Sequence[int], lengths: np.ndarray) -> Sequence[int]:
        """This rank's rows of a batch: all of them once, over all ranks. Maybe none.

        Longest first and as teams are picked, 0 1 2 2 1 0 0 1 …, so that the ranks have about as many tokens each.
        """
        if self.world == 1:
            return rows
        order = sorted(rows, key=lambda row: -lengths[row])
        places = (i % (2 * self.world) for i in range(len(order)))
        return [
            row for row, place in zip(order, places, strict=True) if min(place, 2 * self.world - 1 - place) == self.rank
        ]

    def wrap(self, model: nn.Module, engine: str | None) -> nn.Module:
        """What to call instead of the model, so that backward() averages gradients over the ranks.

        fsdp slices the model itself, each layer of its ModuleLists by itself: while one computes, only its weights are
        whole. Make the optimizer afterwards: the parameters are others.
        """
        if self.world == 1:
            return model
        if engine == "fsdp":
            from torch.distributed.device_mesh import init_device_mesh  # slow to import, so only where it is needed
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(next(model.parameters()).device.type, (self.world,))
            for layers in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
                for layer in layers:
                    fully_shard(layer, mesh=mesh)
            return fully_shard(model, mesh=mesh)
        return nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)

    def sync(self, engine: nn.Module, last: bool) -> None:
        """Of the batches that make one optimizer step only the last one's backward() has to talk to the other ranks."""
        if isinstance(engine, nn.parallel.DistributedDataParallel):
            engine.require_backward_grad_sync = last  # what its context manager no_sync() sets
        elif self.world > 1:
            engine.set_requires_gradient_sync(last)

    # ---- talking to each other ----

    def total(self, *values: float) -> Sequence[float]:
        """Sums over all ranks, the same on each of them to the last bit."""
        return values if self.world == 1 else self.summed(torch.tensor(values, dtype=torch.float64)).tolist()

    def summed(self, tensor: Tensor) -> Tensor:
        """A tensor on the CPU, added up over all ranks."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def told(self, value: Any) -> Any:
        """What rank 0 has here, on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def leave(self) -> None:
        """Ends the talking, on all ranks; rank 0 may go on alone, and nobody waits for it."""
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
        store, rank, world = next(dist.rendezvous("env://", timeout=PATIENCE))
        if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
            # torchrun keeps its store over restarts, with the addresses of ranks that have died. Several machines
            # count restarts each for itself: there TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 makes torchrun open a new one.
            store = dist.PrefixStore(f"restart-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
        atexit.register(time.sleep, LAST_BREATH)
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


# ---- slices and wholes ----


def whole(value: Any, keep: bool = True) -> Any:
    """A tensor, or dicts and lists of them, with FSDP's slices put together on the CPU. All ranks take part.

    keep: whether this rank wants the result; the others get None in the tensors' place, and spare the memory.
    """
    if isinstance(value, dict):
        return {name: whole(part, keep) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(part, keep) for part in value)
    if hasattr(value, "full_tensor"):  # a DTensor; its class is slow to import
        full = value.full_tensor()
        return full.cpu() if keep else None
    return value


def sliced(tensor: Tensor, like: Tensor) -> Tensor:
    """The way back: this rank's slice of a whole tensor, as a parameter is sliced; whole where that one is whole."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def plain(model: nn.Module, main: bool) -> nn.Module:
    """The model on rank 0 as it would be in one process; elsewhere something that nobody should use."""
    if not hasattr(model, "set_requires_gradient_sync"):
        return model
    weights = whole(model.state_dict(), main)
    from torch.distributed.fsdp import FSDPModule

    cls = next(c for c in type(model).__mro__ if not issubclass(c, FSDPModule))  # fully_shard derives a class from it
    with torch.device("meta"):
        twin = cls(model.config)
    if main:
        twin.load_state_dict(weights, assign=True)
    return twin
