"""What a backend is: functions for the layouts it knows, and what keeps it from running."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from minibert.core.attention import Padded
from minibert.fast.layout import Packed

Layout = Padded | Packed
Attention = Callable[[Tensor, Tensor, Tensor, Layout, float, float | None], Tensor]  # q, k, v, layout, dropout_p, scale

HALF = (torch.float16, torch.bfloat16)
AMPERE = (8, 0)  # compute capability; the first one with bf16 and with the copies that fused kernels are built on


class Case(NamedTuple):
    """All that decides whether a backend can run."""

    device: torch.device
    dtype: torch.dtype
    head_size: int
    layout: Layout
    dropout_p: float = 0.0
    needs_grad: bool = False
    elements: int = 0  # how far q, k or v reach in memory

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def keys(self) -> Tensor | None:
        """The mask of the rectangle, bool [B, S], None where it needs none."""
        return (self.layout.padded if isinstance(self.layout, Packed) else self.layout).keys

    def needs_gpu(self, capability: tuple[int, int] = AMPERE) -> str | None:
        """Why the device will not do for a kernel that needs this compute capability."""
        if not self.on_gpu:
            return f"it needs a CUDA device, not {self.device.type}"
        found = torch.cuda.get_device_capability(self.device)
        if found < capability:
            return "it needs compute capability {}.{}, not {}.{}".format(*capability, *found)
        return None

    def needs_dtype(self, *dtypes: torch.dtype) -> str | None:
        names = [str(dtype).removeprefix("torch.") for dtype in (*dtypes, self.dtype)]
        return f"it takes {' or '.join(names[:-1])}, not {names[-1]}" if self.dtype not in dtypes else None

    def needs_head_size(self, multiple: int, limit: int) -> str | None:
        fits = self.head_size % multiple == 0 and self.head_size <= limit
        return None if fits else f"it takes head sizes in steps of {multiple} up to {limit}, not {self.head_size}"

    def needs_no_dropout(self) -> str | None:
        return f"it cannot drop probabilities out; dropout_p is {self.dropout_p}" if self.dropout_p else None

    def needs_int32(self) -> str | None:
        return f"q spans {self.elements} elements, too many for its int32 index" if self.elements >= 2**31 else None


class Backend(NamedTuple):
    """One way to compute attention.

    native: the layouts it takes without converting on a GPU, the better one first.
    note: what is to be known about it, a sentence.
    obstacle: why it cannot run in a case, None if it can.
    packed: [T, H, D] three times, Packed -> [T, H, D].
    padded: [B, H, S, D] three times, Padded -> [B, H, S, D]; None: it is given the packed tokens.
    """

    native: tuple[type[Layout], ...]
    note: str
    obstacle: Callable[[Case], str | None]
    packed: Attention
    padded: Attention | None = None


def no_obstacle(case: Case) -> str | None:
    """Of a backend that always runs."""
    return None


def needs_grad(*tensors: Tensor) -> bool:
    """Whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


@functools.cache
def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def triton_obstacle(case: Case) -> str | None:
    if not installed("triton"):
        return "it needs Triton, which is not installed; pip install triton"
    if not case.on_gpu and os.environ.get("TRITON_INTERPRET") != "1":
        return f"it needs a CUDA device, not {case.device.type} (or, to check it, TRITON_INTERPRET=1 set before Python)"
    return (
        (case.needs_gpu() if case.on_gpu else None)
        or case.needs_dtype(*HALF, torch.float32)
        or (None if case.head_size in (32, 64, 128) else f"it takes head sizes 32, 64 and 128, not {case.head_size}")
    )


def check_inputs(q: Tensor, k: Tensor, v: Tensor, layout: Layout, dropout_p: float) -> None:
    """Names what does not fit before a kernel reads beyond the end. q, k, v: [B, H, S, D] or [T, H, D]."""
    names = f"q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}"
    if not q.shape == k.shape == v.shape:
        raise ValueError(f"the shapes differ: {names}; give three equal ones")
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise ValueError(f"q, k, v are {q.dtype}, {k.dtype}, {v.dtype}; give one floating-point type")
    if not 0 <= dropout_p < 1:
        raise ValueError(f"dropout_p {dropout_p} is outside [0, 1); give the share of probabilities to drop")
    if isinstance(layout, Packed):
        T = len(layout.indices)
        if q.dim() != 3 or len(q) != T:
            raise ValueError(f"{names}, but the lengths add up to {T} tokens; give [{T}, heads, head size]")
    elif q.dim() != 4:
        raise ValueError(f"{names}, but the layout is padded; give [batch, heads, sequence, head size]")
    elif layout.keys is not None and layout.keys.shape != (q.shape[0], q.shape[2]):
        B, S = layout.keys.shape
        raise ValueError(f"{names}, but the mask is [{B}, {S}]; give [{B}, heads, {S}, head size]")
    where = layout.device if isinstance(layout, Packed) else q.device if layout.keys is None else layout.keys.device
    if not q.device == k.device == v.device == where:
        places = f"{q.device}, {k.device}, {v.device} and {where}"
        raise ValueError(f"q, k, v and the layout are on {places}; use one device")
