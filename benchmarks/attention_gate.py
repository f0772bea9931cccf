"""Right before fast: the contestants of benchmarks/attention.py, each judged by float64 before it is timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.attention_cases import Case
from minibert.core.attention import Padded
from minibert.fast.attention import BACKENDS, attend
from minibert.fast.layout import Packed, pack, pad

LAYOUTS = {"flex": ("padded", "packed")}  # all others: the first that they take without converting


# ---- contestants ----


class Batch:
    """Rows of tokens, and their rectangle. It knows nothing of minibert.fast.layout, so that it can judge it."""

    def __init__(self, lengths: Sequence[int], width: int, heads: int, head_size: int, device: torch.device) -> None:
        self.lengths, self.width, self.heads, self.head_size, self.device = lengths, width, heads, head_size, device
        columns = torch.arange(width)
        real = (columns < torch.tensor(lengths)[:, None]).flatten()
        self.index, self.padding = (at.nonzero()[:, 0].to(device) for at in (real, ~real))  # [T], [B · S - T]
        self.begins = np.concatenate([[0], np.cumsum(lengths)]).tolist()

    def rectangle(self, x: Tensor, noise: bool) -> Tensor:
        """[T, …] -> [B, S, …]; padding is 0, or random as in a real model, where it must not matter."""
        shape = len(self.lengths) * self.width, *x.shape[1:]
        whole = torch.randn(shape, device=x.device).to(x.dtype) if noise else x.new_zeros(shape)
        return whole.index_copy_(0, self.index, x).view(len(self.lengths), self.width, *x.shape[1:])

    def plan(self, layout: str) -> Padded | Packed:
        """Made anew each time."""
        packed = Packed.from_lengths(self.lengths, self.width, device=self.device)
        return packed.padded if layout == "padded" else packed

    def rows(self, x: Tensor) -> list[Tensor]:
        """[T, …] -> one [n, …] for each row."""
        return [x[begin:end] for begin, end in zip(self.begins, self.begins[1:], strict=False)]


class Contestant(NamedTuple):
    """A backend, the layout it gets, and the boundary it is measured at. Below, q, k, v are [T, H, D]."""

    backend: str
    layout: str
    boundary: str

    def given(self, batch: Batch, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """What is handed over: three tensors as the backend likes them, or one padded [B, S, 3·H·D]."""
        if self.boundary == "module":
            return (batch.rectangle(torch.cat([q, k, v], dim=1).flatten(1), noise=True),)
        return tuple(self.gradient(batch, x, noise=True) for x in (q, k, v))

    def gradient(self, batch: Batch, x: Tensor, noise: bool = False) -> Tensor:
        """The output's gradient [T, H, D] as the output lies."""
        if self.boundary == "module":
            return batch.rectangle(x.flatten(1), noise)
        return x if self.layout == "packed" else batch.rectangle(x, noise).transpose(1, 2).contiguous()

    def forward(self, batch: Batch, given: tuple[Tensor, ...], plan: Padded | Packed) -> Tensor:
        if self.boundary == "kernel":
            return attend(*given, plan, self.backend)
        B, S, H, D = len(batch.lengths), batch.width, batch.heads, batch.head_size
        if self.layout == "padded":
            q, k, v = given[0].view(B, S, 3, H, D).permute(2, 0, 3, 1, 4)  # [B, H, S, D] each
            return attend(q, k, v, plan, self.backend).transpose(1, 2).reshape(B, S, H * D)
        qkv = pack(given[0], plan).view(len(batch.index), 3, H, D)
        out = attend(*qkv.unbind(1), plan, self.backend)  # [T, H, D]
        return pad(out.reshape(len(batch.index), H * D), plan)

    def by_position(self, x: Tensor) -> Tensor:
        """An output or a gradient as [B · S, …], or as [T, …] if it is packed."""
        if (self.layout, self.boundary) == ("packed", "kernel"):
            return x
        return (x.transpose(1, 2) if self.boundary == "kernel" else x).flatten(0, 1)

    def tokens(self, batch: Batch, x: Tensor) -> tuple[Tensor, ...]:
        """Of an output or a gradient, what stands at real tokens: [T, H, D], three of them for a fused gradient."""
        flat = self.by_position(x)
        flat = flat if len(flat) == len(batch.index) else flat[batch.index]
        if self.boundary == "kernel":
            return (flat,)
        size = batch.heads * batch.head_size
        return flat.view(len(flat), flat.shape[1] // size, batch.heads, batch.head_size).unbind(1)


def contestants(names: Sequence[str], case: Case, boundary: str) -> list[Contestant]:
    """Each backend in the layouts that it is made for; packed is of interest only where there is padding."""
    ragged = case.tokens < len(case.lengths) * case.width
    found = []
    for name in names:
        native = "padded" if BACKENDS[name].native[0] is Padded else "packed"
        layouts = LAYOUTS.get(name, (native,))
        found += [Contestant(name, layout, boundary) for layout in layouts if ragged or layout == layouts[0]]
    return found


# ---- the gate: right before fast ----

EDGES = (1, 2, 63, 64, 65, 127, 128, 129)
SLACK = 1e-6  # beside twice eager's error: in float32 that error is rounding of the last digit
EDGE_ERROR = 0.05  # of a single row, beside twice eager's: one or two tokens round worse than a whole tensor


class Incorrect(Exception):
    """A contestant's answer is wrong; it is not timed."""


class Truth(NamedTuple):
    """given: q, k, v, dout [T, H, D]. wanted: float64 by name. bounds: the relative error that is allowed."""

    given: tuple[Tensor, ...]
    wanted: dict[str, Tensor]
    bounds: dict[str, float]


def reference(q: Tensor, k: Tensor, v: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    """One row [H, n, D], written out: out, dq, dk, dv."""
    scale = 1 / math.sqrt(q.shape[-1])
    probs = torch.softmax(q @ k.mT * scale, dim=-1)  # [H, n, n]
    out, dprobs = probs @ v, dout @ v.mT
    dscores = probs * (dprobs - (dprobs * probs).sum(dim=-1, keepdim=True)) * scale
    return out, dscores @ k, dscores.mT @ q, probs.mT @ dout


def eager_row(q: Tensor, k: Tensor, v: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    """The same by minibert's eager attention, in the type of the inputs."""
    q, k, v = (x.detach()[None].requires_grad_() for x in (q, k, v))
    with torch.enable_grad():
        out = attend(q, k, v, Padded(None), "eager")
    return tuple(x.detach()[0] for x in (out, *torch.autograd.grad(out, (q, k, v), dout[None])))


def by_rows(function: Callable, batch: Batch, given: Sequence[Tensor], most: int = 2**28) -> dict[str, Tensor]:
    """The function's results for each row and, so that the scores fit, for some heads at a time. [T, H, D] each."""
    rows = []
    for row in zip(*map(batch.rows, given), strict=True):
        heads = max(1, most // len(row[0]) ** 2)
        parts = zip(*(x.transpose(0, 1).split(heads) for x in row), strict=True)
        rows.append([torch.cat(x).transpose(0, 1) for x in zip(*(function(*part) for part in parts), strict=True)])
    return {name: torch.cat(x) for name, x in zip(("out", "dq", "dk", "dv"), zip(*rows, strict=True), strict=True)}


def random_tensors(batch: Batch, count: int, dtype: torch.dtype, generator: torch.Generator) -> list[Tensor]:
    shape = len(batch.index), batch.heads, batch.head_size
    return [torch.randn(shape, generator=generator, device=batch.device).to(dtype) for _ in range(count)]


def truth_of(batch: Batch, given: Sequence[Tensor]) -> Truth:
    wanted = by_rows(reference, batch, [x.double() for x in given])
    eager = by_rows(eager_row, batch, given)
    return Truth(tuple(given), wanted, {name: 2 * error(eager[name], wanted[name]) + SLACK for name in wanted})


def error(found: Tensor, wanted: Tensor, least: float = 0.0) -> float:
    """‖found - wanted‖ / ‖wanted‖, in float64. NaN passes no test.

    least: the root mean square that wanted is taken to have at least; equal keys have no gradient but rounding errors.
    """
    size = max(float(wanted.norm()), least * math.sqrt(wanted.numel()))
    return float((found.double() - wanted).norm()) / (size or 1.0)


def answers(who: Contestant, batch: Batch, given: Sequence[Tensor], grads: bool, poisoned: bool = False) -> dict:
    """What the contestant makes of q, k, v, dout, by name, [T, H, D] each. Padding is checked on the way.

    Memory that a kernel does not write shows: what is allocated next was full of NaN just before.
    """
    inputs = tuple(x.detach().requires_grad_(grads) for x in who.given(batch, *given[:3]))
    plan, dout = batch.plan(who.layout), who.gradient(batch, given[3])
    waste = [torch.full_like(dout, math.nan) for _ in range(4)]
    del waste
    with torch.set_grad_enabled(grads):
        out = who.forward(batch, inputs, plan)
    found = [out.detach(), *(torch.autograd.grad(out, inputs, dout) if grads else ())]
    if not poisoned and (who.layout, who.boundary) != ("packed", "kernel"):
        check_padding(who, batch, found)
    tokens = [x for tensor in found for x in who.tokens(batch, tensor)]
    return dict(zip(("out", "dq", "dk", "dv"), tokens, strict=False))


def check_padding(who: Contestant, batch: Batch, found: Sequence[Tensor]) -> None:
    out, *gradients = (who.by_position(x)[batch.padding] for x in found)
    if not out.isfinite().all() or (who.layout == "packed" and out.any()):
        raise Incorrect("the output at padding is not " + ("0" if who.layout == "packed" else "finite"))
    if any(x.any() for x in gradients):  # NaN counts as well
        raise Incorrect("a gradient at padding is not 0")


def gate(who: Contestant, batch: Batch, truth: Truth, grads: bool) -> dict[str, float]:
    """Each result's error relative to its bound. The output comes twice, as without gradients other code may run.

    Raises:
        Incorrect: one is larger than 1.
    """
    found = {"out without gradients": answers(who, batch, truth.given, False)["out"]}
    found |= answers(who, batch, truth.given, True) if grads else {}
    wanted = truth.wanted | {"out without gradients": truth.wanted["out"]}
    bounds = truth.bounds | {"out without gradients": truth.bounds["out"]}
    shares = {name: error(x, wanted[name]) / bounds[name] for name, x in found.items()}
    if wrong := [name for name, share in shares.items() if not share <= 1]:
        raise Incorrect("; ".join(f"{name} is {shares[name]:.3g} times as far off as it may be" for name in wrong))
    return shares


def gate_edges(who: Contestant, batch: Batch, dtype: torch.dtype, generator: torch.Generator, grads: bool) -> None:
    """Rows of awkward lengths, each judged by itself; all scores -120; NaN in one row.

    Raises:
        Incorrect: any of them goes wrong.
    """
    given = random_tensors(batch, 4, dtype, generator)
    level = math.sqrt(120 / math.sqrt(batch.head_size))
    low = [torch.full_like(given[0], level), torch.full_like(given[1], -level), *given[2:]]
    for what, tensors, least in (("edge lengths", given, 0.05), ("all scores -120", low, 1.0)):
        wanted, eager = by_rows(reference, batch, [x.double() for x in tensors]), by_rows(eager_row, batch, tensors)
        for name, x in answers(who, batch, tensors, grads).items():
            rows = zip(batch.lengths, *map(batch.rows, (x, eager[name], wanted[name])), strict=True)
            wrong = [n for n, a, e, w in rows if not error(a, w, least) <= EDGE_ERROR + 2 * error(e, w, least)]
            if wrong:
                raise Incorrect(f"{what}: {name} is wrong in the rows of {wrong} tokens")
    ill = len(batch.lengths) // 2
    poisoned = [x.clone() for x in given]
    for x in poisoned[:3]:
        batch.rows(x)[ill].fill_(math.nan)
    for name, x in answers(who, batch, poisoned, grads, poisoned=True).items():
        if any(not row.isfinite().all() for k, row in enumerate(batch.rows(x)) if k != ill):
            raise Incorrect(f"NaN in one row reaches another's {name}")
