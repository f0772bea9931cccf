"""A model that only answers, on a CPU: its weights stand in the order of oneDNN's kernels, and nowhere else.

products.py arranges weights anew for every product, since whoever has them may change them. Here nobody has them: there
is no state_dict, no training, no change, and so no copy that could be out of date. Few tokens gain most by it. Queries,
keys and values come of one product.
"""

from __future__ import annotations

from typing import Any, NoReturn, Self, TypeVar

import torch
from torch import Tensor, nn

from minibert.core.attention import Batch
from minibert.core.model import BertModel, FeedForward, SelfAttention
from minibert.fast import products
from minibert.fast.twins import joinable, untouched

Model = TypeVar("Model", bound=nn.Module)

ARRANGE = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None) if products.HAS_ONEDNN else None


def prepack(model: Model) -> Model:
    """The model itself, with the weights of its attention and feed-forward layers taken out and prepacked.

    It answers as before, within rounding, and can no longer be trained, saved, converted, moved or looked into
    (ValueError). A layer whose products would not be oneDNN's (`products.usable`) stays as it is, in eval mode and
    without gradients.
    """
    model.eval().requires_grad_(False)
    before = list(model.modules())
    for encoder in [part for part in model.modules() if isinstance(part, BertModel)]:
        for layer in encoder.layers:
            attention, ffn = layer.attention, layer.ffn
            if packable(attention, ffn):
                layer.attention = PrepackedSelfAttention(attention, last=layer is encoder.layers[-1])
                layer.ffn = PrepackedFeedForward(ffn)
    if any(isinstance(part, Prepacked) for part in model.modules()):
        for part in before:  # what is refused is refused before a part of it is done
            part.register_load_state_dict_pre_hook(refuse_to_load)
            if isinstance(part, nn.Dropout):
                part.p = 0.0
    return model


def refuse_to_load(*arguments: Any) -> NoReturn:
    refuse("load_state_dict")


def packable(*parts: nn.Module) -> bool:
    """Whether a layer's parts are core's own without hooks, and oneDNN would multiply by all their Linears."""
    if ARRANGE is None or not all(map(untouched, parts, (SelfAttention, FeedForward))):
        return False
    linears = [child for part in parts for name, child in part.named_children() if name not in ("norm", "dropout")]
    if not all(map(joinable, linears)):
        return False
    return all(products.usable(own.weight.new_zeros(2, 1), own.weight, own.bias) for own in linears)


class Prepacked(nn.Module):
    """What Linears with one input compute, side by side. […, E] -> […, the sum of their F].

    Raises ValueError for all but plain answers on the CPU: see `refuse`.
    """

    def __init__(self, *linears: nn.Linear) -> None:
        super().__init__()
        self.training = False
        self.form = ARRANGE(torch.cat([linear.weight for linear in linears]))
        self.bias = torch.cat([linear.bias for linear in linears])

    def forward(self, x: Tensor, act: str | None = None, plus: Tensor | None = None) -> Tensor:
        """act: the activation that follows, by its name. plus: what is added; with one of the two."""
        if not x.is_cpu or x.dtype is not self.bias.dtype:
            refuse(f"{x.dtype} on {x.device}")
        if x.requires_grad and torch.is_grad_enabled():
            refuse("backward()")
        if plus is not None:
            return products.OPERATOR.binary(x, plus, self.form, self.bias, "add")
        return products.fused(x, self.form, self.bias, act)

    def train(self, mode: bool = True) -> Self:
        if mode:
            refuse("train()")
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # its weights cannot change; hooks are then the copy's too

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        refuse("pickle")

    def _save_to_state_dict(self, *arguments: Any) -> NoReturn:
        refuse("state_dict")


def refuse(what: str) -> NoReturn:
    raise ValueError(f"a model loaded with keep_weights=False has no {what}; load it with keep_weights=True")


class PrepackedSelfAttention(SelfAttention):
    """Queries, keys and values by one product; in the last layer, where the first tokens alone may ask, by two."""

    def __init__(self, plain: SelfAttention, last: bool) -> None:
        nn.Module.__init__(self)
        self.heads, self.head_size, self.backend, self.dropout_p = plain.heads, plain.head_size, plain.backend, 0.0
        q, k, v = plain.query, plain.key, plain.value
        self.inputs = nn.ModuleList([Prepacked(q), Prepacked(k, v)] if last else [Prepacked(q, k, v)])
        self.output, self.norm, self.training = Prepacked(plain.output), plain.norm, False

    def __getattr__(self, name: str) -> Any:
        if name in ("query", "key", "value"):
            refuse(f"{name} by itself")
        return super().__getattr__(name)

    def forward(self, x: Tensor, batch: Batch, last: bool = False) -> Tensor:
        """See SelfAttention.forward."""
        asking = batch.asking(x, last)
        rows = products.filled(asking)
        every = rows if asking is x else products.filled(x)
        if len(self.inputs) == 1:
            q, k, v = products.cut(self.inputs[0](every), x).chunk(3, -1)
            q = batch.asking(q, last)
        else:
            q = products.cut(self.inputs[0](rows), asking)
            k, v = products.cut(self.inputs[1](every), x).chunk(2, -1)
        context = self.attend(*map(self.split_heads, (q, k, v)), batch).flatten(-2)
        return products.cut(self.norm(self.output(products.filled(context), plus=rows)), asking)


class PrepackedFeedForward(FeedForward):
    """The activation comes with the first product, the residual sum with the second."""

    def __init__(self, plain: FeedForward) -> None:
        nn.Module.__init__(self)
        self.act, self.norm, self.training = plain.act, plain.norm, False
        self.inner, self.output = Prepacked(plain.inner), Prepacked(plain.output)

    def forward(self, x: Tensor) -> Tensor:
        """See FeedForward.forward."""
        rows = products.filled(x)
        return products.cut(self.norm(self.output(self.inner(rows, self.act), plus=rows)), x)
