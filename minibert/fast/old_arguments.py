"""`layout=` and `first=`, which the models of 0.1.0 took and which `batch=` says now: they work until 0.3."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from minibert.fast.layout import Packed


def taking(forward: Callable[..., Any], default: bool) -> Callable[..., Any]:
    """A model's forward pass that gives `layout` on as its `batch`, and `first` as the batch's `first_only`, with a
    DeprecationWarning; default: of `first`."""

    @functools.wraps(forward)
    def with_old(self: nn.Module, *args: Any, layout: Packed | None = None, first: bool = default, **more: Any) -> Any:
        if layout is None and first == default:
            return forward(self, *args, **more)
        if layout is None or "batch" in more:
            raise ValueError("first= goes with layout=, and neither with batch=; give batch=Packed… alone")
        instead = "batch=LAYOUT" if first == default else "batch=Packed.from_lengths(…, first_only=True)"
        told = f"layout= and first= end with 0.3; write {instead} instead"
        warnings.warn(told, DeprecationWarning, stacklevel=4)  # 4: past nn.Module's __call__
        return forward(self, *args, batch=dataclasses.replace(layout, first_only=first or layout.first_only), **more)

    return with_old
