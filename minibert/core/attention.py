"""Masked multi-head attention: the formula, PyTorch's fused form of it, and the batch that both are asked of.

Letters: B batch, S sequence, H heads, D head size, E = H · D hidden size. Queries are indexed by s, keys by t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Batch(Protocol):
    """All that the model asks a batch, so its layers need not know how it lies in memory.

    `Padded` below answers for a rectangle [B, S]; packed rows [T], without padding, answer the same (minibert.fast).
    """

    def positions(self, input_ids: Tensor, limit: int) -> Tensor:
        """Each token's position in its row, int64. ValueError: a row has more than `limit` tokens."""

    def asking(self, x: Tensor, last: bool) -> Tensor:
        """The vectors of the tokens that a layer has to answer; `last`: whether it is the one before the heads."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, backend: str, dropout_p: float) -> Tensor:
        """The heads' weighted means. q: of the tokens that ask, k and v: of all; each […, H, D]. -> q's shape."""

    def first(self, x: Tensor) -> Tensor:
        """The vectors of [CLS]. […, E] -> [B, E]"""


class Keeper:
    """Remembers what was derived from a batch, so that twelve layers derive it once."""

    kept: dict[Hashable, Any]

    def keep(self, what: Hashable, make: Callable[[], Any]) -> Any:
        if what not in self.kept:
            with torch.inference_mode(False):  # what inference mode makes could not be used in training
                self.kept[what] = make()
        return self.kept[what]


@dataclass(frozen=True, eq=False)
class Padded(Keeper):
    """A batch as a rectangle: B rows of S positions, the shorter ones filled up with [PAD].

        ids   101 4635 3189  102    0    0        keys   1 1 1 1 0 0
              101 2414 1184 3299 1045  102               1 1 1 1 1 1

    keys: bool [B, S], True where a token is real and may be attended to; None: all are, and nothing has to be masked.
    none_empty: whether it is known without looking that every row has a real token.
    """

    keys: Tensor | None
    none_empty: bool = False
    kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_mask(cls, attention_mask: Tensor | None) -> Padded:
        """attention_mask: [B, S], 1 = real, 0 = padding (int, bool or float), or None for all real.

        A mask on the CPU that hides nothing becomes None; one on a GPU, or of a graph in the making, is left alone.
        Raises ValueError where a mask on the CPU holds anything else than 0 and 1.
        """
        keys = None if attention_mask is None else attention_mask.to(torch.bool)
        if keys is not None and can_look(keys) and (wrong := attention_mask[attention_mask != keys]).numel():
            remedy = "1 stands for a real token, 0 for padding (of a mask to be added to scores: mask == 0)"
            raise ValueError(f"attention_mask holds {wrong[0].item():g}; {remedy}")
        if keys is None or (can_look(keys) and bool(keys.all())):
            return cls(None)
        return cls(keys)

    @property
    def may_be_empty(self) -> bool:
        """Whether a row may have no real token, so that its answers have to be set to 0. A GPU is not asked."""
        if self.keys is None or self.none_empty:
            return False
        return not can_look(self.keys) or self.keep("empty", lambda: not bool(self.keys.any(dim=1).all()))

    def positions(self, input_ids: Tensor, limit: int) -> Tensor:
        """[B, S] -> [S], the same for every row."""
        if input_ids.dim() != 2 or input_ids.shape[1] == 0:
            raise ValueError(f"input_ids has shape {list(input_ids.shape)}; give [batch, sequence], at least a token")
        if (S := input_ids.shape[1]) > limit:
            raise ValueError(
                f"the sequence is {S} tokens long, more than max_position_embeddings {limit}; truncate with"
                f" max_length={limit}"
            )
        if self.keys is not None and self.keys.shape != input_ids.shape:
            raise ValueError(
                f"attention_mask has shape {list(self.keys.shape)}, input_ids {list(input_ids.shape)}; make them equal"
            )
        return torch.arange(S, device=input_ids.device)

    def asking(self, x: Tensor, last: bool) -> Tensor:
        """All of them, always. [B, S, E] -> [B, S, E]"""
        return x

    def attend(self, q: Tensor, k: Tensor, v: Tensor, backend: str, dropout_p: float) -> Tensor:
        """[B, S, H, D] three times -> [B, S, H, D]."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [B, H, S, D]
        return BACKENDS[backend](q, k, v, self, dropout_p).transpose(1, 2)

    def first(self, x: Tensor) -> Tensor:
        """[B, S, E] -> [B, E]. ValueError: a row on the CPU begins with padding, so its [CLS] is not the first."""
        if self.keys is not None and can_look(self.keys) and not self.keys[:, 0].all():
            row = int(self.keys[:, 0].int().argmin())
            raise ValueError(f"row {row} of the attention_mask begins with 0, where [CLS] has to be; pad on the right")
        return x[:, 0]


def can_look(x: Tensor) -> bool:
    """Whether Python may decide by the numbers: a GPU would have to be waited for, a graph in the making (compile,
    export, trace) has to serve other numbers too."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


# ---- the formula ----


def scores(q: Tensor, k: Tensor, scale: float | None = None) -> Tensor:
    """q kᵀ / √D, before masking. [B, H, S, D] twice -> [B, H, S, S].

    Without the 1/√D the softmax saturates and its gradient vanishes (Vaswani et al. 2017, section 3.2.1).
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return q @ k.transpose(-2, -1) * scale  # [B, H, S, S]


def probabilities(scores: Tensor, batch: Padded) -> Tensor:
    """Softmax over the real keys. [B, H, S, S] -> [B, H, S, S]: rows sum to 1, padding keys get exactly 0.

    The lowest number stands for -∞, as its exp is 0 too; a row in which nothing is real is set to 0 afterwards.
    """
    if batch.keys is None:
        return torch.softmax(scores, dim=-1)
    hidden = ~batch.keys[:, None, None, :]  # [B, 1, 1, S]: the same keys are hidden for all heads and all queries
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1).masked_fill(hidden, 0.0)


def eager(q: Tensor, k: Tensor, v: Tensor, batch: Padded, dropout_p: float = 0.0, scale: float | None = None) -> Tensor:
    """The specification: scores -> probabilities -> dropout -> weighted mean of the values.

    q, k, v: [B, H, S, D] -> [B, H, S, D]. dropout_p: share of the probabilities to drop. scale: default 1 / √D.
    """
    probs = probabilities(scores(q, k, scale), batch)
    return F.dropout(probs, dropout_p) @ v  # [B, H, S, D]


def sdpa(q: Tensor, k: Tensor, v: Tensor, batch: Padded, dropout_p: float = 0.0, scale: float | None = None) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`: never forms the [B, H, S, S] probabilities where it can.

    Arguments and result as in `eager`. Without padding no mask is passed, because any mask closes the flash kernels.
    """
    mask = None if batch.keys is None else batch.keep(("bias", q.dtype), lambda: bias(batch, q.dtype))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p, scale=scale)
    return out.masked_fill(~batch.keys.any(dim=1)[:, None, None, None], 0) if batch.may_be_empty else out


def bias(batch: Padded, dtype: torch.dtype) -> Tensor:
    """What is added to the scores: 0 for a real key, half of the lowest number for a hidden one. [B, 1, 1, S].

    The kernels on a GPU can add but not hide, and given a bool mask PyTorch makes this of it once more in every layer.
    Half, because some kernels multiply by log2(e), and -∞ less -∞ would be NaN. For the same reason nothing is hidden
    in a row without any real key; `sdpa` sets its answers to 0.
    """
    hidden = ~batch.keys
    if batch.may_be_empty:
        hidden = hidden & batch.keys.any(dim=1, keepdim=True)
    zeros = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return zeros.masked_fill(hidden, torch.finfo(dtype).min / 2)[:, None, None, :]


# What a name stands for: a function with the arguments of `eager`. minibert.fast adds others when it is imported.
BACKENDS: dict[str, Callable[..., Tensor]] = {"auto": sdpa, "eager": eager, "sdpa": sdpa}


def check_name(name: str) -> str:
    """The name itself, if there is such a backend; else ValueError."""
    if name not in BACKENDS:
        raise ValueError(f"attention backend {name!r} is unknown; choose {', '.join(BACKENDS)}")
    return name
