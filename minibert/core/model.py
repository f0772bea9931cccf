"""BERT, from token ids to logits, in the order the data flows; each class is built of those above it.

    Embeddings → Layer × N (SelfAttention → FeedForward) → Pooler → BertModel → heads, and the models that end in them

Devlin et al. 2018 ("BERT", arXiv 1810.04805) and Google's modeling.py fix the arithmetic; the Transformer it is made of
is Vaswani et al. 2017. Letters used in shapes:

    B batch   S sequence   E hidden size   H heads   D = E / H head size   F feed-forward   V vocabulary   L labels

Shapes are those of a padded batch, [B, S, …]. What depends on them is asked of the batch (attention.py), so the same
layers compute rows packed one after the other, [T, …]. BERT is *post-LN*: `x = norm(x + block(x))` for every block.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Batch, Padded, can_look, check_name
from .config import BertConfig
from .weights import Pretrained

Maybe = Tensor | None
logger = logging.getLogger("minibert")


class BertOutput(NamedTuple):
    """What BertModel returns."""

    last_hidden_state: Tensor  # [B, S, E]
    pooler_output: Tensor | None  # [B, E]; None where the model was built without a pooler


class PreTrainingOutput(NamedTuple):
    """What BertForPreTraining returns: the scores of BERT's two pretraining tasks."""

    prediction_logits: Tensor  # [B, S, V]; where positions are given [M, V]
    seq_relationship_logits: Tensor  # [B, 2]: 0 = B follows A, 1 = B is a random sentence


class BertBase(Pretrained, nn.Module):
    """What all four models share: files (from `Pretrained`) and fresh weights."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config

    def init_weights(self, module: nn.Module) -> None:
        """Fresh weights, as a table. Google's modeling.py cuts its normal off at 2 std; Hugging Face and we do not.

        Linear     weight normal(0, std), bias 0          LayerNorm        weight 1, bias 0
        Embedding  normal(0, std), the row of [PAD] 0     masked LM head   bias 0
        """
        std = self.config.initializer_range
        for part in module.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=std)
            if isinstance(part, nn.LayerNorm):
                nn.init.ones_(part.weight)
            if isinstance(part, nn.Linear | nn.LayerNorm | MaskedLMHead):
                nn.init.zeros_(part.bias)
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                nn.init.zeros_(part.weight[part.padding_idx])


# ---- the encoder ----


def activation(name: str, x: Tensor) -> Tensor:
    """Elementwise. "gelu" is x·Φ(x) by erf (Hendrycks & Gimpel 2016); the tanh forms differ by up to 5e-4."""
    if name == "relu":
        return F.relu(x)
    return F.gelu(x, approximate="none" if name == "gelu" else "tanh")


class Embeddings(nn.Module):
    """What a token is + where it stands + which sentence it belongs to, summed (paper, figure 2)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        E = config.hidden_size
        self.token = nn.Embedding(config.vocab_size, E, padding_idx=config.pad_token_id)
        self.position = nn.Embedding(config.max_position_embeddings, E)  # learned, not sines
        self.segment = nn.Embedding(config.type_vocab_size, E)
        self.norm = nn.LayerNorm(E, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, positions: Tensor) -> Tensor:
        """ids and segments [B, S], positions [S] -> [B, S, E]."""
        x = self.token(input_ids) + self.segment(token_type_ids) + self.position(positions)  # [B, S, E]
        return self.dropout(self.norm(x))


class SelfAttention(nn.Module):
    """Every token looks at every real token of its row, H times in parallel (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, config: BertConfig, backend: str) -> None:
        super().__init__()
        E = config.hidden_size
        self.heads, self.head_size = config.num_attention_heads, config.head_size
        self.backend = backend
        self.dropout_p = config.attention_probs_dropout_prob
        self.query, self.key, self.value, self.output = (nn.Linear(E, E) for _ in range(4))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.norm = nn.LayerNorm(E, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, batch: Batch, last: bool = False) -> Tensor:
        """[B, S, E] -> [B, S, E]. last: whether the heads come next, which may want the vectors of [CLS] alone."""
        asking = batch.asking(x, last)
        q = self.split_heads(self.query(asking))  # [B, S, H, D]
        k, v = self.split_heads(self.key(x)), self.split_heads(self.value(x))
        context = self.attend(q, k, v, batch).flatten(-2)  # [B, S, E]: the heads' answers side by side again
        return self.residual(asking, self.output(context))

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, S, E] -> [B, S, H, D]: head h owns the columns h·D … (h+1)·D."""
        return x.unflatten(-1, (self.heads, self.head_size))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, batch: Batch) -> Tensor:
        """From queries, keys and values to what the heads answer. [B, S, H, D] three times -> [B, S, H, D]."""
        return batch.attend(q, k, v, self.backend, self.dropout_p if self.training else 0.0)

    def residual(self, x: Tensor, answer: Tensor) -> Tensor:
        """norm(x + dropout(answer)). [B, S, E] twice -> [B, S, E]."""
        return self.norm(x + self.dropout(answer))


class FeedForward(nn.Module):
    """Linear E→F, activation, Linear F→E, residual, LayerNorm: for each token by itself."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.act = config.hidden_act
        self.inner = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, E] -> [B, S, E]."""
        inner = activation(self.act, self.inner(x))  # [B, S, F]
        return self.norm(x + self.dropout(self.output(inner)))


class Layer(nn.Module):
    """One Transformer encoder layer: self-attention, then feed-forward; each followed by add and LayerNorm."""

    def __init__(self, config: BertConfig, backend: str) -> None:
        super().__init__()
        self.attention = SelfAttention(config, backend)
        self.ffn = FeedForward(config)

    def forward(self, x: Tensor, batch: Batch, last: bool = False) -> Tensor:
        """[B, S, E] -> [B, S, E]."""
        return self.ffn(self.attention(x, batch, last))


class Pooler(nn.Module):
    """The vector of [CLS], once more through a dense layer and tanh: "the sentence" for sentence-level heads."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        """[B, E], the vectors of [CLS] -> [B, E]."""
        return torch.tanh(self.dense(first))


class BertModel(BertBase):
    """The encoder: ids in, one vector per token out.

    attention: a backend of attention.py; "auto" chooses. Whether a named one can run is decided when it is called.
    pooler: whether to build the pooler (the masked LM alone has no use for it).
    """

    def __init__(self, config: BertConfig, attention: str = "auto", pooler: bool = True) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config, check_name(attention)) for _ in range(config.num_hidden_layers))
        self.pooler = Pooler(config) if pooler else None
        self.init_weights(self)

    def forward(
        self, input_ids: Tensor, attention_mask: Maybe = None, token_type_ids: Maybe = None, batch: Batch | None = None
    ) -> BertOutput:
        """input_ids: [B, S]. attention_mask: [B, S], 1 = real, 0 = padding; None: all real.
        token_type_ids: [B, S], 0 = first text, 1 = second; None: all first.
        batch: in the place of attention_mask where the batch is no rectangle: says what is real, and where it is.

        Raises ValueError where shapes differ, a row is too long, or (on the CPU) an id lies outside its table, a mask
        holds other numbers than 0 and 1, or a row begins with padding and the model has a pooler.
        """
        check_ids(self.config, input_ids, attention_mask, token_type_ids)
        padding = self.config.pad_token_id
        if attention_mask is None and batch is None and can_look(input_ids) and bool((input_ids == padding).any()):
            warn_of_padding()
        batch = as_batch(attention_mask, batch)
        positions = batch.positions(input_ids, self.config.max_position_embeddings)  # [S]
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        x = self.embeddings(input_ids, token_type_ids, positions)  # [B, S, E]
        for number, layer in enumerate(self.layers, 1):
            x = layer(x, batch, last=number == len(self.layers))
        return BertOutput(x, None if self.pooler is None else self.pooler(batch.first(x)))


# ---- the heads ----


class MaskedLMHead(nn.Module):
    """Which token stands at each position: dense, activation, LayerNorm, then compared with every token's embedding."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.act = config.hidden_act
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.empty(config.vocab_size))

    def forward(self, x: Tensor, token_embedding: Tensor) -> Tensor:
        """[…, E] and the tied embedding [V, E] -> […, V]."""
        x = self.norm(activation(self.act, self.dense(x)))
        return F.linear(x, token_embedding, self.bias)


class BertForSequenceClassification(BertBase):
    """One label for a text or a pair of texts: pooler, dropout, one linear layer (paper, section 4.1)."""

    def __init__(self, config: BertConfig, attention: str = "auto") -> None:
        super().__init__(config)
        self.bert = BertModel(config, attention)
        dropout = config.classifier_dropout
        self.dropout = nn.Dropout(config.hidden_dropout_prob if dropout is None else dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.init_weights(self.classifier)

    def forward(
        self, input_ids: Tensor, attention_mask: Maybe = None, token_type_ids: Maybe = None, batch: Batch | None = None
    ) -> Tensor:
        """A batch (see BertModel.forward) -> logits [B, L]."""
        pooled = self.bert(input_ids, attention_mask, token_type_ids, batch).pooler_output  # [B, E]
        return self.classifier(self.dropout(pooled))


class BertForMaskedLM(BertBase):
    """Fills in [MASK] (paper, section 3.1, task 1)."""

    def __init__(self, config: BertConfig, attention: str = "auto") -> None:
        super().__init__(config)
        self.bert = BertModel(config, attention, pooler=False)
        self.mlm = MaskedLMHead(config)
        self.init_weights(self.mlm)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Maybe = None,
        token_type_ids: Maybe = None,
        batch: Batch | None = None,
        positions: Maybe = None,
    ) -> Tensor:
        """A batch (see BertModel.forward) -> logits [B, S, V]; of the M places `positions` of B · S alone: [M, V]."""
        x = self.bert(input_ids, attention_mask, token_type_ids, batch).last_hidden_state
        return self.mlm(chosen(x, positions), self.bert.embeddings.token.weight)


class BertForPreTraining(BertBase):
    """Both pretraining tasks: masked LM and next-sentence prediction (paper, section 3.1)."""

    def __init__(self, config: BertConfig, attention: str = "auto") -> None:
        super().__init__(config)
        self.bert = BertModel(config, attention)
        self.mlm = MaskedLMHead(config)
        self.nsp = nn.Linear(config.hidden_size, 2)
        self.init_weights(self.mlm)
        self.init_weights(self.nsp)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Maybe = None,
        token_type_ids: Maybe = None,
        batch: Batch | None = None,
        positions: Maybe = None,
    ) -> PreTrainingOutput:
        """A batch and positions (see BertForMaskedLM.forward) -> logits [B, S, V] or [M, V], and [B, 2]."""
        x, pooled = self.bert(input_ids, attention_mask, token_type_ids, batch)
        return PreTrainingOutput(self.mlm(chosen(x, positions), self.bert.embeddings.token.weight), self.nsp(pooled))


def chosen(x: Tensor, positions: Tensor | None) -> Tensor:
    """The tokens at these places of the flattened batch, int64 [M]. [B, S, E] -> [M, E]; None: x as it is."""
    return x if positions is None else x.reshape(-1, x.shape[-1]).index_select(0, positions)


def as_batch(attention_mask: Maybe, batch: Batch | None) -> Batch:
    """The batch that was given, or the rectangle of the mask [B, S]. ValueError: both are given, or it is no batch."""
    if batch is None:
        return Padded.from_mask(attention_mask)
    if attention_mask is not None:
        raise ValueError("attention_mask and batch are both given; leave attention_mask out: batch says what is real")
    if missing := [name for name in ("positions", "asking", "attend", "first") if not hasattr(batch, name)]:
        kind = type(batch).__name__
        raise ValueError(f"batch: a {kind} does not answer {', '.join(missing)}; give an attention_mask, or a Batch")
    return batch


def check_ids(config: BertConfig, input_ids: Tensor, attention_mask: Maybe, token_type_ids: Maybe) -> None:
    """Names what is wrong before an index error or, on a GPU, a device-side assertion would.

    Values are looked at on the CPU only: looking on a GPU would make every step wait for it.
    """
    given = {"input_ids": input_ids, "token_type_ids": token_type_ids, "attention_mask": attention_mask}
    for name, x in given.items():
        if x is None and name != "input_ids":
            continue
        if not isinstance(x, Tensor) or (name != "attention_mask" and x.dtype not in (torch.int64, torch.int32)):
            kind = f"tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{name} is a {kind}; give a tensor of int64, torch.tensor(…)")
        if x.shape != input_ids.shape:
            shapes = f"{list(x.shape)}, input_ids {list(input_ids.shape)}"
            raise ValueError(f"{name} has shape {shapes}; make them equal")
    tables = ("token_type_ids", token_type_ids, "type_vocab_size"), ("input_ids", input_ids, "vocab_size")
    for name, ids, size in tables:
        if ids is None or ids.numel() == 0 or not can_look(ids):
            continue
        (low, high), limit = map(int, torch.aminmax(ids)), getattr(config, size)
        if low < 0 or high >= limit:
            wrong = low if low < 0 else high
            remedy = "do tokenizer and model belong together?"
            raise ValueError(f"{name} holds {wrong}, outside 0 … {limit - 1} ({size} {limit}); {remedy}")


@cache
def warn_of_padding() -> None:
    """Once a process: who pads without a mask lets every token look at [PAD]."""
    logger.warning("input_ids hold [PAD], but no attention_mask says so; give the attention_mask of the tokenizer")
