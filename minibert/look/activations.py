"""Every activation of a forward pass, by name: read it, take its gradient, or change it.

    with minibert.capture(model, "layers.*.attention.probs", "pooler", grad=True) as seen:
        model(ids, mask).last_hidden_state.sum().backward()
    seen["layers.0.attention.probs"]        # [B, H, S, S]
    seen.grad["pooler"]                     # [B, E]

    with minibert.intervene(model, {"layers.1.heads.3": 0, "layers.2.attention.probs": lambda probs: probs.flip(1)}):
        model(ids, mask)

Letters: B batch, S sequence, E hidden size, H heads, D = E / H, F feed-forward, V vocabulary, L labels. In a packed
batch [B, S, …] is [T, …], T real tokens (`minibert.fast.layout.pad` makes the rectangle of it). The names are those of
reference.py, in the order of computation; {i} counts layers from 0, {h} heads from 0:

    embeddings.token              [B, S, E]      what the token is
    embeddings.position           [S, E]         where it stands; packed [T, E]
    embeddings.segment            [B, S, E]      which text it belongs to
    embeddings.sum                [B, S, E]      the three added
    embeddings.norm               [B, S, E]      after LayerNorm
    embeddings.output             [B, S, E]      after dropout: what layer 0 reads
    layers.{i}.attention.query    [B, S, E]      head h owns the columns h·D … (h+1)·D
    layers.{i}.attention.key      [B, S, E]
    layers.{i}.attention.value    [B, S, E]
    layers.{i}.attention.scores   [B, H, S, S]   q kᵀ / √D, before masking; packed batches too: 0 at padding
    layers.{i}.attention.probs    [B, H, S, S]   softmax of them, before dropout; packed batches too: 0 at padding
    layers.{i}.attention.context  [B, S, E]      what the heads answer, side by side
    layers.{i}.heads.{h}          [B, S, D]      one head's columns of it
    layers.{i}.attention.output   [B, S, E]      through the output projection, before dropout
    layers.{i}.attention.sum      [B, S, E]      added to the residual stream, before LayerNorm
    layers.{i}.attention.norm     [B, S, E]      the stream after it
    layers.{i}.ffn.inner          [B, S, F]      before GELU
    layers.{i}.ffn.act            [B, S, F]      after GELU
    layers.{i}.ffn.output         [B, S, E]      narrowed again, before dropout
    layers.{i}.ffn.sum            [B, S, E]      added to the residual stream, before LayerNorm
    layers.{i}.ffn.norm           [B, S, E]      the stream after it
    layers.{i}.output             [B, S, E]      the same: what the next layer reads
    pooler                        [B, E]         where the model has one
    classifier                    [B, L]         logits of BertForSequenceClassification
    mlm                           [B, S, V]      logits of BertForMaskedLM and BertForPreTraining; of positions [M, V]
    nsp                           [B, 2]         logits of BertForPreTraining

Fast backends form neither scores nor probs. Layers that are asked for them compute both from their queries and keys by
the formula (core/attention.py), and its context must equal the backend's; with attention dropout, which is random,
nothing is compared. What stands in a row of padding depends on the backend. A classifier's packed batch computes its
last layer for [CLS] alone, unless something of that layer is asked for.

Blocks may be nested in any order: changes are made from the outer block to the inner, and a capture sees what the model
goes on with. Of several forward passes the last is kept. Inside a block the model has hooks, and layers asked for
scores or probs another `attend`; afterwards nothing is left. The model itself changes, so all threads that run it are
seen.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import partial
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from minibert.core import attention as spec
from minibert.core.attention import Batch, Padded
from minibert.core.model import BertBase, Layer, SelfAttention
from minibert.fast.layout import Packed, pack, pad
from minibert.fast.models import BertModel

Change = float | Tensor | Callable[[Tensor], Tensor]
Tap = Callable[[str, Tensor], Tensor]  # name, what the model computed -> what it goes on with

ATTENTION_MAPS = ("scores", "probs")  # what fast backends never form
INPUT_OF = {"sum": "norm", "context": "output", "act": "output"}  # what is no module's output, but a module's input
# How far the formula may be from a backend, as a share of the largest number: some units of rounding.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def capture(model: BertBase, *patterns: str, grad: bool = False, check: bool = True) -> Capture:
    """A context manager that keeps what forward passes inside it compute.

    Args:
        model: a BertModel or one with a head.
        patterns: names of the table above, with * and ? between two dots, or what names begin with: "layers.3.ffn" is
            all of that feed-forward, "*" is everything; none keeps nothing.
        grad: keep gradients as well: `seen.grad[name]` after a backward pass. The tensors are then part of the graph,
            and layers whose scores or probs are asked for go on with the formula's context; else they are detached.
        check: whether the formula has to equal the backend (AssertionError); False for a broken backend.

    Raises:
        ValueError: the model is none of ours, or a pattern fits nothing.
    """
    return Capture(model, patterns, grad, check)


def intervene(model: BertBase, changes: Mapping[str, Change]) -> Intervention:
    """A context manager inside which activations are replaced; where scores or probs are, attention is the formula's.

    Args:
        model: a BertModel or one with a head.
        changes: name, or pattern with * and ?, -> a number (0 ablates), a tensor of the same shape (patches) or a
            function of the tensor (replaces). Several that fit a name are made in this order.

    Raises:
        ValueError: the model is none of ours, a pattern fits nothing, or (in the forward pass) a shape differs.
    """
    return Intervention(model, changes)


# ---- where everything is ----


class Place(NamedTuple):
    """Where a name's tensor passes: the input or the output of a module, a head's columns of its input, or in the midst
    of a SelfAttention."""

    module: nn.Module
    side: str  # "input", "output", "head", "attend"
    head: int = 0


def places(model: BertBase) -> dict[str, Place]:
    """All names of this model, in the order of computation."""
    encoder = encoder_of(model)
    found = places_in("embeddings", encoder.embeddings, "token position segment sum norm")
    found["embeddings.output"] = Place(encoder.embeddings, "output")
    for i, layer in enumerate(encoder.layers):
        attention, at = layer.attention, f"layers.{i}"
        found |= places_in(f"{at}.attention", attention, "query key value scores probs context")
        found |= {f"{at}.heads.{h}": Place(attention.output, "head", h) for h in range(attention.heads)}
        found |= places_in(f"{at}.attention", attention, "output sum norm")
        found |= places_in(f"{at}.ffn", layer.ffn, "inner act output sum norm")
        found[f"{at}.output"] = Place(layer.ffn, "output")
    heads = {"pooler": encoder.pooler, **{name: getattr(model, name, None) for name in ("classifier", "mlm", "nsp")}}
    return found | {name: Place(head, "output") for name, head in heads.items() if head is not None}


def places_in(at: str, module: nn.Module, names: str) -> dict[str, Place]:
    """The places of names, with spaces between them, in a module of that name."""
    found = {}
    for name in names.split():
        attending, given = name in ATTENTION_MAPS, INPUT_OF.get(name)
        part = module if attending else getattr(module, given or name)
        found[f"{at}.{name}"] = Place(part, "attend" if attending else "input" if given else "output")
    return found


def encoder_of(model: BertBase) -> BertModel:
    if not isinstance(model, BertBase):
        raise ValueError(
            f"{type(model).__name__} is no model to look into; give a BertModel or one with a head (of a TextClassifier"
            " or TextEncoder: its .model, of what torch.compile returned: its _orig_mod)"
        )
    return model if isinstance(model, BertModel) else model.bert


def matching(pattern: str, names: Iterable[str], groups: bool) -> list[str]:
    """The names that a pattern stands for, part by part between the dots. groups: also those that go on after it."""
    names, parts = list(names), pattern.split(".")

    def fits(name: str) -> bool:
        found = name.split(".")
        longer = len(found) > len(parts) and groups
        return (longer or len(found) == len(parts)) and all(map(fnmatchcase, found, parts))

    found = [name for name in names if fits(name)]
    if not found:
        near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
        begin = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"its names begin with {begin}"
        raise ValueError(f"nothing in this model is called {pattern!r}; {hint}")
    return found


# ---- the blocks ----


class Block:
    """An open block of `capture` or `intervene`.

    replaces: whether the model goes on with what `tap` returns, so that attention has to form what is asked for.
    check: whether the formula has to equal the backend.
    wanted: what `tap(name, x)` is called for: what the model computed -> what it goes on with, of the same shape.
    """

    replaces: bool
    check: bool
    wanted: dict[str, Place]
    tap: Tap

    def __init__(self, model: BertBase) -> None:
        self.encoder, self.places = encoder_of(model), places(model)

    def names(self) -> list[str]:
        """All that can be asked for in this model, in the order of computation."""
        return list(self.places)

    def __enter__(self) -> Self:
        session = ACTIVE.setdefault(self.encoder, Session(self.encoder))
        session.install([*session.blocks, self])
        return self

    def __exit__(self, *error: object) -> None:
        session = ACTIVE[self.encoder]
        session.install([other for other in session.blocks if other is not self])
        if not session.blocks:
            del ACTIVE[self.encoder]


class Capture(Block, Mapping[str, Tensor]):
    """What was captured, by name: a read-only dict in the order of computation, readable after the block too."""

    def __init__(self, model: BertBase, patterns: tuple[str, ...], grad: bool, check: bool) -> None:
        super().__init__(model)
        asked = {name for pattern in patterns for name in matching(pattern, self.places, groups=True)}
        self.wanted = {name: place for name, place in self.places.items() if name in asked}
        self.replaces, self.check = grad, check
        self.captured: dict[str, Tensor] = {}

    def tap(self, name: str, x: Tensor) -> Tensor:
        """Keeps it. Where nothing before it has a gradient (frozen weights) the graph begins here."""
        if self.replaces and torch.is_grad_enabled():
            x = x if x.requires_grad else x.detach().requires_grad_()
            x.retain_grad()
        self.captured[name] = x if self.replaces else x.detach()
        return x

    @property
    def grad(self) -> dict[str, Tensor]:
        """Gradients of backward passes, by name, accumulated as parameters' are; none where no loss depends on it."""
        if not self.replaces:
            raise ValueError("no gradients were asked for; give grad=True to capture")
        return {name: x.grad for name, x in self.items() if x.grad is not None}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.captured:
            reason = "no forward pass has computed it yet" if name in self.wanted else "it was not asked for"
            raise KeyError(f"{name}: {reason}")
        return self.captured[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.wanted if name in self.captured)

    def __len__(self) -> int:
        return len(self.captured)


class Intervention(Block):
    """What is to be changed."""

    replaces, check = True, False

    def __init__(self, model: BertBase, changes: Mapping[str, Change]) -> None:
        super().__init__(model)
        self.wanted, self.changes = {}, []
        for pattern, change in changes.items():
            if isinstance(change, bool) or not (isinstance(change, int | float | Tensor) or callable(change)):
                raise ValueError(f"{pattern!r} is to become {change!r}; give a number, a tensor or a function")
            for name in matching(pattern, self.places, groups=False):
                self.wanted[name] = self.places[name]
                self.changes.append((name, change))

    def tap(self, name: str, x: Tensor) -> Tensor:
        for change in (change for changing, change in self.changes if changing == name):
            number = isinstance(change, int | float)
            new = torch.full_like(x, change) if number else change(x) if callable(change) else change
            if not isinstance(new, Tensor) or new.shape != x.shape:
                given = f"of shape {list(new.shape)}" if isinstance(new, Tensor) else f"a {type(new).__name__}"
                raise ValueError(f"{name} is to become something {given}; give a tensor of shape {list(x.shape)}")
            x = new.to(x)
        return x


# ---- what is put into the model ----


class Session:
    """All blocks that are open on one encoder, and what was put into it for them."""

    def __init__(self, encoder: BertModel) -> None:
        self.encoder, self.installed = encoder, ExitStack()
        self.blocks: list[Block] = []

    def tap(self, name: str, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block.tap(name, x) if name in block.wanted else x
        return x

    def install(self, blocks: list[Block]) -> None:
        """Takes out what is there and puts in what these blocks want; interventions come before captures."""
        self.blocks = sorted(blocks, key=lambda block: isinstance(block, Capture))
        self.installed.close()
        wanted = {name: place for block in blocks for name, place in block.wanted.items()}
        if not wanted:
            return
        with ExitStack() as stack:
            for module in self.encoder.modules():
                stack.enter_context(uncompiled(module))
            for name, place in wanted.items():
                if place.side == "attend":
                    attend = partial(attend_and_show, place.module, name.rpartition(".")[0], self)
                    stack.enter_context(exchanged(place.module, "attend", attend))
                else:
                    stack.callback(hooked(name, place, self.tap, self.encoder.config.head_size).remove)
            last = len(self.encoder.layers) - 1
            if any(name.startswith(f"layers.{last}.") for name in wanted):
                forward = partial(forward_all_tokens, self.encoder.layers[last])
                stack.enter_context(exchanged(self.encoder.layers[last], "forward", forward))
            self.installed = stack.pop_all()


ACTIVE: dict[BertModel, Session] = {}  # empty whenever no block is open


def hooked(name: str, place: Place, tap: Tap, head_size: int) -> RemovableHandle:
    """A hook that shows and replaces what passes."""

    def output(module: nn.Module, inputs: tuple, x: Tensor) -> Tensor:
        return tap(name, x)

    def whole_input(module: nn.Module, inputs: tuple) -> Tensor:
        return tap(name, *inputs)

    def head(module: nn.Module, inputs: tuple) -> Tensor | None:
        heads = list(inputs[0].split(head_size, dim=-1))
        before, heads[place.head] = heads[place.head], tap(name, heads[place.head])
        unchanged = heads[place.head] is before and not before.requires_grad
        return None if unchanged else torch.cat(heads, dim=-1)  # of parts, so that a part has a gradient

    if place.side == "output":
        return place.module.register_forward_hook(output)
    return place.module.register_forward_pre_hook(head if place.side == "head" else whole_input)


@contextmanager
def exchanged(owner: object, name: str, value: object) -> Iterator[None]:
    """owner.name is `value` inside, and what it was afterwards, whatever happens; also where it was inherited."""
    inherited, before = name not in vars(owner), getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name) if inherited else setattr(owner, name, before)


def uncompiled(module: nn.Module) -> AbstractContextManager[None]:
    """Compiled code was made without hooks and would run without them: `compile_tokenwise` is undone for a while."""
    if isinstance(module, SelfAttention) and "residual" in module.__dict__:
        return exchanged(module, "residual", partial(type(module).residual, module))
    if module._compiled_call_impl is not None:
        return exchanged(module, "_compiled_call_impl", None)
    return nullcontext()


def forward_all_tokens(layer: Layer, x: Tensor, batch: Batch, last: bool = False) -> Tensor:
    """Layer.forward for all tokens, [B, S, E] or [T, E], also where only the first ones' answers are wanted, [B, E]."""
    return batch.asking(Layer.forward(layer, x, batch), last)


# ---- attention ----


def attend_and_show(
    attention: SelfAttention, at: str, session: Session, q: Tensor, k: Tensor, v: Tensor, batch: Padded | Packed
) -> Tensor:
    """SelfAttention.attend with scores and probabilities shown.

    Padded: [B, S, H, D] three times -> [B, S, H, D]; packed [T, H, D] -> [T, H, D].
    """
    blocks = [block for block in session.blocks if any(f"{at}.{name}" in block.wanted for name in ATTENTION_MAPS)]
    replaces = any(block.replaces for block in blocks)
    fused = attention.backend != "eager"  # which is the formula itself
    random = attention.training and attention.dropout_p > 0
    check = fused and not random and all(block.check for block in blocks)
    wanted = [name for name in ATTENTION_MAPS if any(f"{at}.{name}" in block.wanted for block in blocks)]

    def tap(name: str, x: Tensor) -> Tensor:
        return session.tap(f"{at}.{name}", x)

    with torch.set_grad_enabled(replaces and torch.is_grad_enabled()):
        ours = attend_by_formula(attention, (q, k, v), batch, tap, None if replaces else wanted)
    if replaces and not check:
        return ours
    with torch.set_grad_enabled(not replaces and torch.is_grad_enabled()):
        theirs = SelfAttention.attend(attention, q, k, v, batch)
    if check:
        assert_equal(f"{at}.context", attention.backend, ours, theirs, batch)
    return ours if replaces else theirs


def attend_by_formula(
    attention: SelfAttention, qkv: tuple[Tensor, ...], batch: Padded | Packed, tap: Tap, wanted: list[str] | None
) -> Tensor:
    """The same by the formula. qkv: [B, S, H, D] or [T, H, D] each -> the same shape.

    wanted: which of ATTENTION_MAPS `tap` is shown, without dropout; None: the model goes on with what `tap` returns.
    Fused kernels keep scores in fp32 whatever the type of q; so does this, except for eager, which does not.
    """
    packed, fused = isinstance(batch, Packed), attention.backend != "eager"
    mask = batch.padded if packed else batch
    q, k, v = ((pad(x, batch) if packed else x).transpose(1, 2) for x in qkv)  # [B, H, S, D]
    if fused and q.dtype != torch.float64:
        q, k, v = q.float(), k.float(), v.float()
    with torch.autocast(q.device.type, enabled=False) if fused else nullcontext():
        if wanted is None:
            context = formula(q, k, v, mask, packed, tap, attention.dropout_p if attention.training else 0.0)
        else:
            context = formula_by_rows(q, k, v, mask, packed, tap, wanted)
    context = context.to(qkv[0].dtype).transpose(1, 2)  # [B, S, H, D]
    return pack(context, batch) if packed else context


def formula(q: Tensor, k: Tensor, v: Tensor, mask: Padded, packed: bool, tap: Tap, dropout_p: float = 0.0) -> Tensor:
    """[B, H, S, D] three times -> [B, H, S, D]. packed: queries that are padding get probabilities of 0."""
    probs = spec.probabilities(tap("scores", spec.scores(q, k)), mask)  # [B, H, S, S]
    if packed and mask.keys is not None:
        probs = probs.masked_fill(~mask.keys[:, None, :, None], 0)
    return F.dropout(tap("probs", probs), dropout_p) @ v


def formula_by_rows(q: Tensor, k: Tensor, v: Tensor, mask: Padded, packed: bool, tap: Tap, wanted: list[str]) -> Tensor:
    """`formula` where nothing is changed, [B, H, S, D]; shows scores and probs, [B, H, S, S], where wanted. On a CPU a
    row at a time, which fits the cache, and where its real keys are the first ones only those: they need no mask."""
    B, H, S, _ = q.shape
    context, seen = torch.empty_like(q), {name: q.new_zeros(B, H, S, S) for name in wanted}
    on_cpu, cuttable = q.device.type == "cpu", packed or "scores" not in wanted  # scores are shown before masking
    step = 1 if on_cpu else B
    for rows in (slice(first, first + step) for first in range(0, B, step)):
        part, n = Padded.from_mask(None if mask.keys is None else mask.keys[rows]), S
        if on_cpu and cuttable and part.keys is not None and part.keys[0, : part.keys.sum()].all():
            part, n = Padded(None), int(part.keys.sum())
        asking = slice(n if packed else S)

        def keep(name: str, x: Tensor, rows: slice = rows, asking: slice = asking, n: int = n) -> Tensor:
            if name in wanted:
                seen[name][rows, :, asking, :n] = x
            return x

        context[rows, :, asking] = formula(q[rows, :, asking], k[rows, :, :n], v[rows, :, :n], part, packed, keep)
    for name, x in seen.items():
        tap(name, x)
    return context


def assert_equal(name: str, backend: str, ours: Tensor, theirs: Tensor, batch: Padded | Packed) -> None:
    """Real tokens get from the backend what the formula says. ours, theirs: [B, S, H, D] or [T, H, D]."""
    if isinstance(batch, Padded) and batch.keys is not None:
        ours, theirs = (x[batch.keys] for x in (ours, theirs))  # [T, H, D]
    size = theirs.abs().nan_to_num_(0, 0, 0).max().item() if theirs.numel() else 0.0
    same = torch.allclose(ours, theirs, rtol=0, atol=TOLERANCE[theirs.dtype] * size, equal_nan=True)
    assert same, f"{name}: attention backend {backend!r} differs from the formula by {(ours - theirs).abs().max():.1e}"
