"""BERT, from token ids to answers, in the order the data flows.

    Embeddings → Layer × N (SelfAttention → FeedForward) → Pooler → BertModel → heads, and the models that end in them

Each class is built only of those above it. Devlin et al. 2018 ("BERT", arXiv 1810.04805) and Google's modeling.py fix
the arithmetic; Vaswani et al. 2017 is the Transformer it is made of. Letters used in shapes:

    B batch   S sequence   E hidden size   H heads   D = E / H head size   F feed-forward   V vocabulary   L labels
    T tokens of a packed batch

A batch comes as a rectangle with padding, [B, S], or packed, [T]: all rows one after the other and nothing else
(layout.py). The rectangle is the specification; packed, the same arithmetic is done for real tokens alone.

BERT is *post-LN*: every block adds its output to its input and then normalises the sum, `x = norm(x + block(x))`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minibert.attention import attend, attend_first, check_name
from minibert.checkpoint import Pretrained
from minibert.config import BertConfig
from minibert.dropout import dropout
from minibert.layout import Packed, Padded


class BertOutput(NamedTuple):
    """What BertModel returns."""

    last_hidden_state: Tensor  # [B, S, E]; packed [T, E], or of the first tokens alone [B, E]
    pooler_output: Tensor | None  # [B, E]; None where the model was built without a pooler


class PreTrainingOutput(NamedTuple):
    """What BertForPreTraining returns: the scores of BERT's two pretraining tasks."""

    prediction_logits: Tensor  # [B, S, V]; packed [T, V]; where positions are given [M, V]
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


class Dropout(nn.Dropout):
    """PyTorch's own, which draws what transformers draws; packed tokens on the CPU get cheaper random numbers, unless
    a compiler has its own."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, E] -> [B, S, E]; packed [T, E] -> [T, E]."""
        cheap = self.training and x.dim() == 2 and x.device.type == "cpu" and not torch.compiler.is_compiling()
        return dropout(x, self.p) if cheap else super().forward(x)


class Embeddings(nn.Module):
    """What a token is + where it stands + which sentence it belongs to, summed (paper, figure 2)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        E = config.hidden_size
        self.token = nn.Embedding(config.vocab_size, E, padding_idx=config.pad_token_id)
        self.position = nn.Embedding(config.max_position_embeddings, E)  # learned, not sines
        self.segment = nn.Embedding(config.type_vocab_size, E)
        self.norm = nn.LayerNorm(E, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, layout: Padded | Packed) -> Tensor:
        """[B, S] ids and [B, S] segments -> [B, S, E]; packed [T] twice -> [T, E]."""
        if isinstance(layout, Packed):
            positions = layout.position_ids  # [T]
        else:
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
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.norm = nn.LayerNorm(E, eps=config.layer_norm_eps)

    @property
    def dropping(self) -> float:
        """The share of attention probabilities to drop now."""
        return self.dropout_p if self.training else 0.0

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, S, E] -> [B, H, S, D]: head h owns the columns h·D … (h+1)·D."""
        B, S, _ = x.shape
        return x.view(B, S, self.heads, self.head_size).transpose(1, 2)

    def forward(self, x: Tensor, layout: Padded | Packed, first: bool = False) -> Tensor:
        """[B, S, E] -> [B, S, E]; packed [T, E] -> [T, E], or the rows' first tokens alone -> [B, E]."""
        if isinstance(layout, Packed):
            context = self.packed_context(x, layout, first)  # [T, E]
            x = x.index_select(0, layout.firsts) if first else x
        else:
            B, S, E = x.shape
            q, k, v = (self.split_heads(project(x)) for project in (self.query, self.key, self.value))  # [B, H, S, D]
            context = self.attend(q, k, v, layout)
            context = context.transpose(1, 2).reshape(B, S, E)  # the heads' answers side by side again
        return self.add(x, self.output(context))

    def add(self, x: Tensor, answer: Tensor) -> Tensor:
        """What was found joins what was there. [B, S, E] twice -> [B, S, E]; packed [T, E] twice -> [T, E]."""
        return self.norm(x + self.dropout(answer))

    def packed_context(self, x: Tensor, layout: Packed, first: bool) -> Tensor:
        """What the heads answer, [T, E]: one product for q, k and v. Where only the first tokens are wanted only they
        ask, [B, E], and of the others come keys and values alone."""
        T, E = x.shape
        H, D = self.heads, self.head_size
        if not first:
            q, k, v = project([self.query, self.key, self.value], x).view(T, 3, H, D).unbind(dim=1)  # [T, H, D]
            return self.attend(q, k, v, layout).reshape(T, E)
        q = self.query(x.index_select(0, layout.firsts))  # [B, E]
        k, v = project([self.key, self.value], x).view(T, 2, H, D).unbind(dim=1)  # [T, H, D]
        return self.attend(q.view(len(q), H, D), k, v, layout, first=True).reshape(len(q), E)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, layout: Padded | Packed, first: bool = False) -> Tensor:
        """From queries, keys and values to what the heads answer, all of the shape of q: [B, H, S, D]; packed
        [T, H, D], or the first tokens alone, q [B, H, D]. Here activations.py looks in."""
        return (attend_first if first else attend)(q, k, v, layout, self.backend, self.dropping)


def project(linears: list[nn.Linear], x: Tensor) -> Tensor:
    """What several Linears make of x, side by side, by one larger matrix product."""
    weight = torch.cat([linear.weight for linear in linears])
    bias = torch.cat([linear.bias for linear in linears])
    return F.linear(x, weight, bias)


class FeedForward(nn.Module):
    """Each token by itself: widen to F, bend, narrow back to E."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.act = config.hidden_act
        self.inner = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)
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

    def forward(self, x: Tensor, layout: Padded | Packed, first: bool = False) -> Tensor:
        """[B, S, E] -> [B, S, E]; packed [T, E] -> [T, E], or the rows' first tokens alone -> [B, E]."""
        return self.ffn(self.attention(x, layout, first))


def compile_tokenwise(model: nn.Module) -> None:
    """Lets torch.compile join what is done to each token by itself: embeddings, feed-forward, `add`.

    Attention between them stays as it is, since its backends look at the lengths, which would mean compiling for every
    batch. So each part is compiled once for all layers and any T (and once more for evaluation, without dropout).
    """
    for module in model.modules():
        if isinstance(module, Embeddings | FeedForward):
            module.compile(dynamic=True, fullgraph=True)
        if isinstance(module, SelfAttention):
            module.add = torch.compile(module.add, dynamic=True, fullgraph=True)


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
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        layout: Packed | None = None,
        first: bool = False,
    ) -> BertOutput:
        """A padded batch, or with a layout a packed one.

        Args:
            input_ids: [B, S]; packed [T].
            attention_mask: [B, S], 1 = real, 0 = padding; None: all real. Packed: None.
            token_type_ids: as input_ids; 0 = first text, 1 = second; None: all first.
            layout: of a packed batch.
            first: whether the rows' first tokens are all that is wanted of a packed batch. The last layer then
                computes nothing else, and the answer is the same, its gradients too.

        Raises:
            ValueError: shapes differ, the sequence is too long, or (on the CPU) an id lies outside its table.
        """
        check_inputs(self.config, input_ids, attention_mask, token_type_ids, layout)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        batch = Padded.from_mask(attention_mask) if layout is None else layout
        x = self.embeddings(input_ids, token_type_ids, batch)  # [B, S, E], or [T, E]
        for number, layer in enumerate(self.layers, 1):
            x = layer(x, batch, first and number == len(self.layers))
        if self.pooler is None:
            return BertOutput(x, None)
        cls = x if first else x[:, 0] if layout is None else x.index_select(0, layout.firsts)  # [B, E]
        return BertOutput(x, self.pooler(cls))


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
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        layout: Packed | None = None,
    ) -> Tensor:
        """A batch (see BertModel.forward) -> logits [B, L]."""
        first = layout is not None  # the rectangle is computed whole: it is what one looks at to understand
        pooled = self.bert(input_ids, attention_mask, token_type_ids, layout, first).pooler_output  # [B, E]
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
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        layout: Packed | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """A batch (see BertModel.forward) -> logits [B, S, V], packed [T, V].

        positions: int64 [M], the places in the flattened batch that are asked for -> [M, V]; None: all.
        """
        x = self.bert(input_ids, attention_mask, token_type_ids, layout).last_hidden_state
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
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        layout: Packed | None = None,
        positions: Tensor | None = None,
    ) -> PreTrainingOutput:
        """A batch and positions (see BertForMaskedLM.forward) -> logits [B, S, V] or [M, V], and [B, 2]."""
        x, pooled = self.bert(input_ids, attention_mask, token_type_ids, layout)
        return PreTrainingOutput(self.mlm(chosen(x, positions), self.bert.embeddings.token.weight), self.nsp(pooled))


def chosen(x: Tensor, positions: Tensor | None) -> Tensor:
    """The tokens at these places of the flattened batch. [B, S, E] or [T, E] -> [M, E]; None: x as it is."""
    return x if positions is None else x.reshape(-1, x.shape[-1]).index_select(0, positions)


# ---- checks ----


def check_inputs(
    config: BertConfig, input_ids: Tensor, mask: Tensor | None, token_type_ids: Tensor | None, layout: Packed | None
) -> None:
    """Names what is wrong before an index error or, on a GPU, a device-side assertion would.

    The ids' values are looked at on the CPU only: looking on a GPU would make every step wait for it.
    """
    if layout is not None:
        if input_ids.shape != layout.indices.shape or mask is not None:
            raise ValueError(
                f"input_ids has shape {list(input_ids.shape)} and the layout {len(layout.indices)} tokens; give"
                f" [{len(layout.indices)}], and no attention_mask: the layout says what is real"
            )
    elif input_ids.dim() != 2:
        raise ValueError(f"input_ids has shape {list(input_ids.shape)}; give [batch, sequence]")
    length, limit = input_ids.shape[1] if layout is None else layout.width, config.max_position_embeddings
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
