"""BERT, from token ids to answers, in the order the data flows.

    Embeddings → Layer × N (SelfAttention → FeedForward) → Pooler → BertModel → heads, and the models that end in them

Each class is built only of those above it. Devlin et al. 2018 ("BERT", arXiv 1810.04805) and Google's modeling.py fix
the arithmetic; Vaswani et al. 2017 is the Transformer it is made of. Letters used in shapes:

    B batch   S sequence   E hidden size   H heads   D = E / H head size   F feed-forward   V vocabulary   L labels

BERT is *post-LN*: every block adds its output to its input and then normalises the sum, `x = norm(x + block(x))`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minibert.attention import attend, check_name
from minibert.checkpoint import Pretrained
from minibert.config import BertConfig
from minibert.layout import Padded


class BertOutput(NamedTuple):
    """What BertModel returns."""

    last_hidden_state: Tensor  # [B, S, E]
    pooler_output: Tensor | None  # [B, E]; None where the model was built without a pooler


class PreTrainingOutput(NamedTuple):
    """What BertForPreTraining returns: the scores of BERT's two pretraining tasks."""

    prediction_logits: Tensor  # [B, S, V]: which token stands here (masked LM)
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
    """The feed-forward's nonlinearity, elementwise. "gelu" is x·Φ(x) with erf (Hendrycks & Gimpel 2016); the tanh
    form of Google's later code differs from it by up to 5e-4."""
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

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """[B, S] ids and [B, S] segments -> [B, S, E]."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)  # [S], the same for every row
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
        self.query = nn.Linear(E, E)
        self.key = nn.Linear(E, E)
        self.value = nn.Linear(E, E)
        self.output = nn.Linear(E, E)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.norm = nn.LayerNorm(E, eps=config.layer_norm_eps)

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, S, E] -> [B, H, S, D]: head h owns the columns h·D … (h+1)·D."""
        B, S, _ = x.shape
        return x.view(B, S, self.heads, self.head_size).transpose(1, 2)

    def forward(self, x: Tensor, layout: Padded) -> Tensor:
        """[B, S, E] -> [B, S, E]."""
        B, S, E = x.shape
        q, k, v = (self.split_heads(project(x)) for project in (self.query, self.key, self.value))  # [B, H, S, D]
        context = attend(q, k, v, layout, self.backend, self.dropout_p if self.training else 0.0)
        context = context.transpose(1, 2).reshape(B, S, E)  # the heads' answers side by side again
        return self.norm(x + self.dropout(self.output(context)))


class FeedForward(nn.Module):
    """Each token by itself: widen to F, bend, narrow back to E."""

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
    """One Transformer encoder layer: first look around, then think."""

    def __init__(self, config: BertConfig, backend: str) -> None:
        super().__init__()
        self.attention = SelfAttention(config, backend)
        self.ffn = FeedForward(config)

    def forward(self, x: Tensor, layout: Padded) -> Tensor:
        """[B, S, E] -> [B, S, E]."""
        return self.ffn(self.attention(x, layout))


class Pooler(nn.Module):
    """The vector of [CLS], once more through a dense layer and tanh: "the sentence" for sentence-level heads."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, E] -> [B, E]."""
        return torch.tanh(self.dense(x[:, 0]))


class BertModel(BertBase):
    """The encoder: ids in, one vector per token out.

    Args:
        config: the sizes.
        attention: a backend of `minibert.attention`; "auto" chooses by device, type and batch. Whether a named one can
            run is decided when it is called.
        pooler: whether to build the pooler (the masked LM alone has no use for it).
    """

    def __init__(self, config: BertConfig, attention: str = "auto", pooler: bool = True) -> None:
        super().__init__(config)
        backend = check_name(attention)
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config, backend) for _ in range(config.num_hidden_layers))
        self.pooler = Pooler(config) if pooler else None
        self.init_weights(self)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> BertOutput:
        """input_ids [B, S]; attention_mask [B, S], 1 = real, 0 = padding (None: all real); token_type_ids [B, S],
        0 = first text, 1 = second (None: all first).

        Raises:
            ValueError: shapes differ, the sequence is too long, or (on the CPU) an id lies outside its table.
        """
        check_inputs(self.config, input_ids, attention_mask, token_type_ids)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        layout = Padded.from_mask(attention_mask)
        x = self.embeddings(input_ids, token_type_ids)  # [B, S, E]
        for layer in self.layers:
            x = layer(x, layout)
        return BertOutput(x, self.pooler(x) if self.pooler is not None else None)


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
        """[B, S, E] and the tied embedding [V, E] -> [B, S, V]."""
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
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """[B, S] three times (see BertModel.forward) -> logits [B, L]."""
        pooled = self.bert(input_ids, attention_mask, token_type_ids).pooler_output  # [B, E]
        return self.classifier(self.dropout(pooled))


class BertForMaskedLM(BertBase):
    """Fills in [MASK] (paper, section 3.1, task 1)."""

    def __init__(self, config: BertConfig, attention: str = "auto") -> None:
        super().__init__(config)
        self.bert = BertModel(config, attention, pooler=False)
        self.mlm = MaskedLMHead(config)
        self.init_weights(self.mlm)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """[B, S] three times (see BertModel.forward) -> logits [B, S, V]."""
        x = self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state
        return self.mlm(x, self.bert.embeddings.token.weight)


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
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> PreTrainingOutput:
        """[B, S] three times (see BertModel.forward) -> logits [B, S, V] and [B, 2]."""
        x, pooled = self.bert(input_ids, attention_mask, token_type_ids)
        return PreTrainingOutput(self.mlm(x, self.bert.embeddings.token.weight), self.nsp(pooled))


# ---- checks ----


def check_inputs(config: BertConfig, input_ids: Tensor, mask: Tensor | None, token_type_ids: Tensor | None) -> None:
    """Names what is wrong before an index error or, on a GPU, a device-side assertion would.

    The ids' values are looked at on the CPU only: looking on a GPU would make every step wait for it.
    """
    if input_ids.dim() != 2:
        raise ValueError(f"input_ids has shape {list(input_ids.shape)}; give [batch, sequence]")
    length, limit = input_ids.shape[1], config.max_position_embeddings
    if length > limit:
        raise ValueError(
            f"the sequence is {length} tokens long, more than max_position_embeddings {limit}; "
            f"truncate with max_length={limit}"
        )
    for name, tensor in (("attention_mask", mask), ("token_type_ids", token_type_ids)):
        if tensor is not None and tensor.shape != input_ids.shape:
            raise ValueError(
                f"{name} has shape {list(tensor.shape)}, input_ids {list(input_ids.shape)}; make them equal"
            )
    check_range("input_ids", input_ids, config.vocab_size, "vocab_size", "does the vocabulary belong to this model?")
    if token_type_ids is not None:
        check_range("token_type_ids", token_type_ids, config.type_vocab_size, "type_vocab_size", "use 0 and 1")


def check_range(name: str, ids: Tensor, size: int, size_name: str, remedy: str) -> None:
    """0 <= ids < size, on the CPU."""
    if ids.device.type != "cpu" or ids.numel() == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(ids))
    if low < 0 or high >= size:
        raise ValueError(
            f"{name} holds {low if low < 0 else high}, outside 0 … {size - 1} ({size_name} {size}); {remedy}"
        )
