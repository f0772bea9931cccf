"""The same model by faster modules: on a CPU with AVX-512 oneDNN's products, elsewhere one product for queries, keys
and values of packed rows, on every CPU cheap dropout.

`prepare` exchanges whole modules of core/model.py for twins with the same state. At each forward a twin looks whether
all that it would pass over is still plain; a Linear that has a hook, an adapter, a quantised or pruned weight is called
as core/model.py calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as every_module

from minibert.core.attention import Batch
from minibert.core.model import Embeddings, FeedForward, MaskedLMHead, SelfAttention, activation
from minibert.fast import products
from minibert.fast.dropout import dropout

Model = TypeVar("Model", bound=nn.Module)


def prepare(model: Model) -> Model:
    """A copy of the model that shares its parameters and computes the same, faster where rows are packed.

    A twin and what it stands for have one state: weights, hooks, exchanged Linears, train() and eval() of either count
    for both. What holds the twins (model, list, layer) is the copy's own: whoever puts another module there prepares
    again. Other modules than core/model.py's are left; a model without any of these comes back itself.
    """
    if (twin := TWINS.get(type(model))) is not None:
        return _object(twin, vars(model))
    children = {name: child if child is None else prepare(child) for name, child in model._modules.items()}
    if all(child is model._modules[name] for name, child in children.items()):
        return model
    return _object(type(model), {**vars(model), "_modules": children})


def _object(kind: type[Model], state: dict[str, Any]) -> Model:
    """An object of this class whose attributes are `state` itself, not a copy of it."""
    made = kind.__new__(kind)
    made.__dict__ = state
    return made


def untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is a plain one of its kind without any hook, so that its work may be done without calling it."""
    state = vars(module)
    return (
        type(module) is kind
        and not (state["_forward_hooks"] or state["_forward_pre_hooks"])
        and not (state["_backward_hooks"] or state["_backward_pre_hooks"])
        and "forward" not in state
        and not every_module._has_any_global_hook()
    )


def joinable(linear: nn.Module) -> bool:
    """Whether a Linear is no more than its weight and bias: untouched, and both are there and plain."""
    if not untouched(linear, nn.Linear):
        return False
    own = linear._parameters
    return type(own.get("weight")) is type(own.get("bias")) is nn.Parameter


def applied(linear: nn.Module, x: Tensor, act: str | None = None) -> Tensor:
    """`linear(x)`, then the activation of that name. […, E] -> […, F]."""
    if joinable(linear):
        own = linear._parameters
        return products.linear(x, own["weight"], own["bias"], act)
    return linear(x) if act is None else activation(act, linear(x))


def project(linears: Sequence[nn.Module], x: Tensor) -> tuple[Tensor, ...]:
    """What each of several Linears makes of x. […, E] -> […, E] for each. Of packed tokens by one larger product, but
    not where they are so few that joining the weights takes more than it gains, nor by oneDNN, which gains nothing."""
    apart = x.dim() != 2 or (x.is_cpu and len(x) <= products.FEW)
    if apart or not all(map(joinable, linears)) or products.usable(x, linears[0].weight, linears[0].bias):
        return tuple(applied(linear, x) for linear in linears)
    weight = torch.cat([linear.weight for linear in linears])
    bias = torch.cat([linear.bias for linear in linears])
    return F.linear(x, weight, bias).split([len(linear.weight) for linear in linears], dim=-1)


def dropped(part: nn.Module, x: Tensor) -> Tensor:
    """`part.dropout(x)`; of packed tokens [T, E] on a CPU by cheaper random numbers, unless a compiler has its own."""
    cheap = x.dim() == 2 and x.device.type == "cpu" and not torch.compiler.is_compiling()
    if cheap and part.dropout.training and untouched(part.dropout, nn.Dropout):
        return dropout(x, part.dropout.p)
    return part.dropout(x)


def added(part: nn.Module, x: Tensor, inner: Tensor) -> Tensor:
    """`part.norm(x + part.dropout(part.output(inner)))`. […, E], […, F] -> […, E]."""
    still = untouched(part.dropout, nn.Dropout) and not (part.dropout.training and part.dropout.p)
    if still and joinable(part.output):
        own = part.output._parameters
        return part.norm(products.linear_plus(inner, own["weight"], own["bias"], x))
    return part.norm(x + dropped(part, applied(part.output, inner)))


class FastEmbeddings(Embeddings):
    """Embeddings with cheap dropout."""

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, positions: Tensor) -> Tensor:
        """See Embeddings.forward."""
        x = self.token(input_ids) + self.segment(token_type_ids) + self.position(positions)
        return dropped(self, self.norm(x))


class FastSelfAttention(SelfAttention):
    """Self-attention by the products of `project`; where the first tokens alone ask, of keys and values."""

    def forward(self, x: Tensor, batch: Batch, last: bool = False) -> Tensor:
        """See SelfAttention.forward."""
        asking = batch.asking(x, last)
        if asking is x:
            q, k, v = project((self.query, self.key, self.value), x)  # [T, E]
        else:
            q, (k, v) = applied(self.query, asking), project((self.key, self.value), x)
            asking = batch.asking(x, last)  # once more, so that gradients add up in the order of release 0.1.0
        q, k, v = map(self.split_heads, (q, k, v))  # [T, H, D]
        context = self.attend(q, k, v, batch).flatten(-2)  # [T, E]
        if "residual" in vars(self):  # compiled, or watched
            return self.residual(asking, applied(self.output, context))
        return added(self, asking, context)

    def residual(self, x: Tensor, answer: Tensor) -> Tensor:
        """See SelfAttention.residual."""
        return self.norm(x + dropped(self, answer))


class FastFeedForward(FeedForward):
    """The feed-forward network by oneDNN's products, GELU in the first of them, with cheap dropout."""

    def forward(self, x: Tensor) -> Tensor:
        """See FeedForward.forward."""
        return added(self, x, applied(self.inner, x, self.act))


class FastMaskedLMHead(MaskedLMHead):
    """The head of the masked LM by oneDNN's products."""

    def forward(self, x: Tensor, token_embedding: Tensor) -> Tensor:
        """See MaskedLMHead.forward."""
        return products.linear(self.norm(applied(self.dense, x, self.act)), token_embedding, self.bias)


TWINS: dict[type[nn.Module], type[nn.Module]] = {
    Embeddings: FastEmbeddings,
    SelfAttention: FastSelfAttention,
    FeedForward: FastFeedForward,
    MaskedLMHead: FastMaskedLMHead,
}


def compile_tokenwise(model: nn.Module) -> None:
    """Lets torch.compile join what is done to each token by itself: embeddings, feed-forward, `residual`, each compiled
    once for any T (and once more for evaluation). Attention's backends look at the lengths: for it, that would mean
    compiling for every batch.
    """
    for module in model.modules():
        if isinstance(module, Embeddings | FeedForward):
            module.compile(dynamic=True, fullgraph=True)
        if isinstance(module, SelfAttention):
            module.residual = torch.compile(module.residual, dynamic=True, fullgraph=True)
