"""A training step on a GPU without its host: recorded once for each size of batch as a CUDA graph, then replayed.

A forward and a backward pass of BERT-base start a thousand kernels. To ask for them takes the host longer than a batch
of some thousand tokens takes the GPU, which mostly waits; a replay is asked for once. It does the same work, in the
same order, on the memory that the recording used. So what varies from batch to batch has to fit into it:

    tokens               a last row of [PAD] makes them a multiple of STEP; no loss asks for it
    rows                 rows without tokens
    tiles of attention   tiles of a row without tokens, in which a kernel finds nothing to do
    answers              label -100, which cross_entropy leaves out

Each number of tokens has a recording of its own; all share one pool of memory, as one runs at a time.
Letters: T tokens, R rows of a recording, of which the last is always empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minibert.core.model import BertBase
from minibert.fast.attention import resolve_backend
from minibert.fast.attention.backend import Case
from minibert.fast.layout import Packed

STEP = 256  # tokens between two sizes
EMPTY = {"labels": -100, "is_random": -100}  # what stands where a batch has less than the recording; else 0

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}  # of queries, keys and values

Batch = NamedTuple  # data.Batch or instances.MaskedBatch
Compute = Callable[[Batch, Tensor], Tensor]  # a batch and its weights -> sums; adds to the parameters' gradients


class Fixed(Packed):
    """A packed batch whose lengths only the GPU knows: any row may be empty."""

    @cached_property
    def firsts(self) -> Tensor:
        """Of a row without tokens any place: nobody reads what comes of it."""
        return self.cu_seqlens[:-1].long().clamp(max=len(self.indices) - 1)


class Recording(NamedTuple):
    """What a graph reads, and in `sums` what it leaves."""

    graph: torch.cuda.CUDAGraph
    batch: (
        Batch  # its layout knows neither lengths nor indices, and keeps which tiles a kernel does: triton_launch.work
    )
    weights: Tensor
    tiles: dict[tuple[int, int, int | None], Tensor]  # of attention, by what `Packed.tiles` is asked
    sums: Tensor


class Replays:
    """Calls `compute` by recording and replaying it, for a model whose attention is our own kernel.

    rows, width: the most rows of a batch, and the most tokens of a row. dtype: of queries, keys and values.
    answers: how many labels T tokens have at most; None: one a row.

    The parameters' gradients must stay the tensors that they are: zero_grad(set_to_none=False).
    """

    def __init__(
        self,
        compute: Compute,
        model: BertBase,
        rows: int,
        width: int,
        dtype: torch.dtype,
        answers: Callable[[int], int] | None = None,
    ) -> None:
        self.compute, self.model, self.width, self.dtype = compute, model, width, dtype
        self.rows = rows + 2  # the row that fills, and the empty one
        self.answers = answers or (lambda T: self.rows)
        self.recordings: dict[int, Recording] = {}
        self.pool = torch.cuda.graph_pool_handle()

    @property
    def multiple(self) -> int:
        """What a batch's tokens have to be a multiple of. The row that makes them one is no longer than others."""
        return min(STEP, self.width)

    def __call__(self, batch: Batch, weights: Tensor) -> Tensor:
        """The sums, which the next call overwrites. A batch larger than was said is computed without recording."""
        lengths, T = batch.layout.lengths, len(batch.input_ids)
        if len(lengths) >= self.rows or max(lengths) > self.width or len(batch.labels) > self.answers(T):
            return self.compute(batch, weights)
        if T not in self.recordings:
            self.recordings[T] = self.record(batch, weights)
        recording = self.recordings[T]
        self.fill(recording, batch, weights)
        recording.graph.replay()
        return recording.sums

    def record(self, batch: Batch, weights: Tensor) -> Recording:
        """Runs once, so that all is compiled and allocated, then records; gradients and random state stay the same."""
        device = weights.device
        state = torch.cuda.get_rng_state(device)
        before = [None if p.grad is None else p.grad.clone() for p in self.model.parameters()]
        recording = self.room(batch, weights)
        self.fill(recording, batch, weights)
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            self.compute(self.laid_out(recording), recording.weights)
        torch.cuda.current_stream(device).wait_stream(stream)
        with torch.cuda.graph(recording.graph, pool=self.pool):
            sums = self.compute(self.laid_out(recording), recording.weights)
        torch.cuda.set_rng_state(state, device)
        for parameter, grad in zip(self.model.parameters(), before, strict=True):
            if parameter.grad is not None:
                parameter.grad.zero_() if grad is None else parameter.grad.copy_(grad)
        return recording._replace(sums=sums)

    def room(self, batch: Batch, weights: Tensor) -> Recording:
        """For any batch of as many tokens."""
        from minibert.fast.attention.triton_launch import variants  # needs a package that PyTorch's CPU build lacks

        T, R, device = len(batch.input_ids), self.rows, weights.device
        sizes = dict.fromkeys(("input_ids", "token_type_ids"), T) | {"is_random": R}
        sizes |= dict.fromkeys(("positions", "labels"), self.answers(T))
        fields = {name: torch.zeros(sizes[name], dtype=torch.int64, device=device) for name in tensors(batch)}
        cu_seqlens = torch.zeros(R + 1, dtype=torch.int32, device=device)
        position_ids = torch.zeros(T, dtype=torch.int64, device=device)
        layout = Fixed((0,) * R, self.width, cu_seqlens, position_ids, position_ids, batch.layout.first_only)
        tiles, sizes = {}, (self.model.config.head_size, self.dtype.itemsize)
        for backward in (False, True):
            for variant, over in variants(backward, *sizes, device):
                asked = variant.tile, over, variant.up_to
                if most := most_tiles(*asked, R, T):
                    tiles.setdefault(asked, torch.zeros(most, 2, dtype=torch.int32, device=device))
                    layout.kept.setdefault((backward, *sizes), []).append((variant, tiles[asked]))
        room = batch._replace(layout=layout, **fields)
        return Recording(torch.cuda.CUDAGraph(), room, torch.zeros_like(weights), tiles, weights)

    def fill(self, recording: Recording, batch: Batch, weights: Tensor) -> None:
        """Puts a batch where the graph reads it."""
        layout, room = batch.layout, recording.batch.layout
        recording.weights.copy_(weights)
        put(room.cu_seqlens, layout.cu_seqlens, len(batch.input_ids))
        put(room.position_ids, layout.position_ids)
        for name, room in tensors(recording.batch).items():
            put(room, getattr(batch, name), EMPTY.get(name, 0))
        for asked, room in recording.tiles.items():
            put(room, layout.tiles(*asked), self.rows - 1)

    def laid_out(self, recording: Recording) -> Batch:
        """The batch with a layout from which nothing has been derived but the work of attention: the rest is computed,
        and so recorded, when it is asked for."""
        room = recording.batch.layout
        numbers = torch.arange(self.rows, device=room.device)
        row = torch.repeat_interleave(numbers, room.cu_seqlens.diff(), output_size=len(room.position_ids))
        layout = replace(room, indices=row * self.width + room.position_ids)
        layout.kept.update(room.kept)
        return recording.batch._replace(layout=layout)


def obstacle(device: torch.device, head_size: int, world: int, options: Any) -> str | None:
    """Why the steps of a run with such options cannot be recorded, None if they can."""
    if device.type != "cuda":
        return f"is for a GPU, and the device is {device.type}"
    if world > 1:
        return f"is for one process, and there are {world}"
    if options.layout != "packed":
        return f"is for packed batches, and the layout is {options.layout}"
    case = Case(device, DTYPES[options.precision], head_size, Packed.from_lengths([1]), 0.1, needs_grad=True)
    name = resolve_backend(options.attention, case)
    return None if name == "triton" else f"needs the attention backend triton, and here it is {name}"


def check_replayable(device: torch.device, head_size: int, world: int, options: Any) -> None:
    """Raises ValueError where --graphs does not go."""
    if (reason := obstacle(device, head_size, world, options)) is not None:
        raise ValueError(f"graphs {reason}; leave --graphs out")


def tensors(batch: Batch) -> dict[str, Tensor]:
    """The fields that hold a tensor, by name."""
    return {name: value for name, value in batch._asdict().items() if isinstance(value, Tensor)}


def put(room: Tensor, new: Tensor, empty: float = 0) -> None:
    """Fills the first places with what is new, and the rest with `empty`."""
    if len(new) < len(room):
        room[len(new) :].fill_(empty)
    room[: len(new)].copy_(new)


def most_tiles(tile: int, over: int, up_to: int | None, rows: int, tokens: int) -> int:
    """How many tiles the rows that are longer than `over`, and of at most `up_to` tokens, can have together."""
    longer = min(rows, tokens // (over + 1))
    return longer if up_to is not None and up_to <= tile else tokens // tile + longer
