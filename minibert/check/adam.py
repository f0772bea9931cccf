"""Adam's step, written out: PyTorch's optimizer does it for the loop, a bug of the course is put in here."""

from __future__ import annotations

from torch import Tensor


def adam_step(p: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int) -> None:
    """Kingma & Ba 2015, algorithm 1, in place, learning rate 0.01; t counts from 1. p, g, m, v: of one shape, any."""
    m.lerp_(g, 0.1)
    v.lerp_(g * g, 0.001)
    p -= 0.01 * (m / bias_correction(0.9, t)) / ((v / bias_correction(0.999, t)).sqrt() + 1e-8)


def bias_correction(beta: float, t: int) -> float:
    """m and v start at zero, so after t steps they are too small by this factor."""
    return 1 - beta**t
