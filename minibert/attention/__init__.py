"""Masked multi-head attention: one signature, every backend behind it.

`eager` is the specification; each other backend is proven equal to it by tests/test_attention.py.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from minibert.attention import eager, torch_backends
from minibert.layout import Padded

BACKENDS: dict[str, Callable[..., Tensor]] = {
    "eager": eager.attention,
    "sdpa": torch_backends.sdpa,
}


def resolve_backend(name: str) -> str:
    """The backend that `name` stands for: itself, or for "auto" the fastest one that always applies.

    Raises:
        ValueError: no backend has that name.
    """
    if name == "auto":
        return "sdpa"
    if name not in BACKENDS:
        raise ValueError(f"attention backend {name!r} is unknown; choose auto, {', '.join(BACKENDS)}")
    return name


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: Padded,
    backend: str = "auto",
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale · q kᵀ) v per head, over the keys that the layout says are real (Vaswani et al. 2017, section 3.2).

    Args:
        q, k, v: [B, H, S, D].
        layout: which keys are real; a row without any real key gives zeros.
        backend: a name of BACKENDS or "auto".
        dropout_p: probability of dropping one attention probability (0 outside training).
        scale: default 1 / √D.

    Returns:
        [B, H, S, D].
    """
    return BACKENDS[resolve_backend(backend)](q, k, v, layout, dropout_p, scale)
