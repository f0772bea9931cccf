"""Analyses of a forward pass: logit lens, attention rollout, what heads and tokens contribute to a score.

All of it stands on `capture` and `intervene` (activations.py) and takes padded batches, with any attention backend. A
score is a function of what the model returns that gives one number a row, [B]: `lambda logits: logits[:, 1]`.

Letters: B batch, S sequence, E hidden size, H heads, N layers, V vocabulary, L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor

from minibert.core.model import BertBase
from minibert.fast.models import BertForSequenceClassification
from minibert.look.activations import capture, encoder_of, exchanged, intervene, matching

Inputs = Mapping[str, Tensor]  # input_ids, attention_mask, token_type_ids: [B, S]
Score = Callable[[object], Tensor]  # what the model returns -> [B]
STREAM = ("embeddings.output", "layers.*.output")
VARIANTS = 64  # rows of one forward pass where tokens are replaced


def logit_lens(model: BertBase, seen: Mapping[str, Tensor]) -> Tensor:
    """The model's head applied to the vectors of each layer (nostalgebraist 2020, "interpreting GPT: the logit lens").

    seen: a capture of STREAM.

    Returns logits, [N + 1, B, S, V]; of a classifier [N + 1, B, L], from [CLS].
    Raises ValueError where the model has no head.
    """
    with torch.no_grad():
        return head_logits(model, stacked(seen))


def head_logits(model: BertBase, x: Tensor) -> Tensor:
    """The head's logits for any vectors: […, S, E] -> […, S, V]; a classifier's, for the first of them: […, L]."""
    if isinstance(model, BertForSequenceClassification):
        return model.classifier(model.bert.pooler(x[..., 0, :]))
    if not hasattr(model, "mlm"):
        raise ValueError(f"{type(model).__name__} has no head that could say something; load one with a head")
    return model.mlm(x, model.bert.embeddings.token.weight)


def stacked(seen: Mapping[str, Tensor]) -> Tensor:
    """The residual stream after the embeddings (0) and each layer (1 … N), [N + 1, B, S, E]."""
    names = (name for pattern in STREAM for name in matching(pattern, seen, groups=False))
    return torch.stack([seen[name] for name in names])


def rollout(probs: Tensor) -> Tensor:
    """Attention rollout (Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3): how much of
    each input token reaches each position, if attention were all that mixes them.

    The heads' mean, half of it replaced by the token itself for the residual connection, layer upon layer.

    Args:
        probs: [N, B, H, S, S], a capture of "layers.*.attention.probs", stacked.

    Returns:
        [N, B, S, S]: after layer n, position s holds that much of token t. Rows sum to 1.
    """
    mixed = (probs.mean(dim=2) + torch.eye(probs.shape[-1]).to(probs)) / 2  # [N, B, S, S]
    mixed = mixed / mixed.sum(dim=-1, keepdim=True)  # a row of padding may sum to less than 1
    reached = [mixed[0]]
    for layer in mixed[1:]:
        reached.append(layer @ reached[-1])
    return torch.stack(reached)


def head_contributions(model: BertBase, inputs: Inputs, score: Score) -> Tensor:
    """What the score loses without each head: [N, H, B]; positive: the head speaks for it.

    For each layer the batch goes through it and those after it once for all its heads, in H copies of which each lacks
    another; the layers before it are passed over, as what they answer is known.
    """
    encoder = encoder_of(model)
    H, B = encoder.config.num_attention_heads, len(inputs["input_ids"])
    copies = {name: tensor.repeat(H, 1) for name, tensor in inputs.items()}  # [H · B, S]
    without = 1 - torch.eye(H).repeat_interleave(encoder.config.head_size, dim=1)  # [H, E]: copy h lacks head h
    mask = without.repeat_interleave(B, dim=0)[:, None]  # [H · B, 1, E]
    with torch.no_grad(), capture(model, *STREAM) as seen:
        whole = score(model(**inputs))
    lost = []
    for i, known in enumerate(stacked(seen)[:-1]):
        changes = {
            "embeddings.output": known.repeat(H, 1, 1),
            f"layers.{i}.attention.context": lambda x: x * mask.to(x),
        }
        with torch.no_grad(), ExitStack() as stack:
            for layer in encoder.layers[:i]:
                stack.enter_context(exchanged(layer, "forward", lambda x, batch, last: x))
            stack.enter_context(intervene(model, changes))
            lost.append(whole - score(model(**copies)).view(H, B))
    return torch.stack(lost)


def token_contributions(model: BertBase, inputs: Inputs, score: Score, instead: int) -> Tensor:
    """What the score loses when each token is replaced by `instead`, the id of [MASK] or [UNK]: [B, S], 0 at padding.

    A forward pass of VARIANTS rows for each VARIANTS real tokens.
    """
    ids = inputs["input_ids"]
    mask = inputs.get("attention_mask", torch.ones_like(ids))
    lost = torch.zeros(ids.shape, device=ids.device)
    with torch.no_grad():
        whole = score(model(**inputs))
        for rows, columns in (part.unbind(1) for part in mask.nonzero().split(VARIANTS)):
            variants = {name: tensor[rows] for name, tensor in inputs.items()}
            variants["input_ids"][torch.arange(len(rows)), columns] = instead
            lost[rows, columns] = (whole[rows] - score(model(**variants))).float()
    return lost


def gradient_times_input(model: BertBase, inputs: Inputs, score: Score) -> Tensor:
    """How the score would change, to first order, if a token's embedding were 0: its gradient · itself, [B, S]; the
    larger, the more the token speaks for the score (Shrikumar et al. 2016, arXiv 1605.01713).

    The parameters' gradients are left alone.
    """
    (product,) = gradients_times_themselves(model, inputs, score, "embeddings.token")
    return product.sum(dim=-1)


def gradient_times_heads(model: BertBase, inputs: Inputs, score: Score) -> Tensor:
    """The same for what each head answers, [N, H, B]: one backward pass instead of many forward ones."""
    H = encoder_of(model).config.num_attention_heads
    products = gradients_times_themselves(model, inputs, score, "layers.*.attention.context")  # N times [B, S, E]
    return torch.stack([x.unflatten(-1, (H, -1)).sum(dim=(1, 3)).T for x in products])


def gradients_times_themselves(model: BertBase, inputs: Inputs, score: Score, pattern: str) -> list[Tensor]:
    """Of all activations that the pattern names, elementwise: each of its own shape, [B, S, E]."""
    with torch.enable_grad(), capture(model, pattern, grad=True) as seen:
        total = score(model(**inputs)).sum()
    found = list(seen.values())
    return [(gradient * x).detach() for gradient, x in zip(torch.autograd.grad(total, found), found, strict=True)]
