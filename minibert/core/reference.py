"""BERT's forward pass in numpy float64: the oracle, and the shortest way to read BERT.

Nothing here is shared with model.py: weights come in as plain arrays under the names that published checkpoints use,
and every formula is written out. In double precision its own rounding (about 1e-14) is far below the float32 noise
(3e-6) of what it judges. It is slow, and meant to be.

    stages = forward(weights, config, input_ids, attention_mask, token_type_ids)
    stages["layers.0.attention.probs"]      # [B, H, S, S]

Letters: B batch, S sequence, E hidden size, H heads, D = E / H, F feed-forward, V vocabulary.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]

erf = np.vectorize(math.erf, otypes=[np.float64])  # numpy has none, the standard library one for single numbers
ACTIVATIONS = {
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
    "gelu_new": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: np.maximum(x, 0),
}
ACTIVATIONS["gelu_pytorch_tanh"] = ACTIVATIONS["gelu_new"]


def linear(w: Weights, name: str, x: Array) -> Array:
    """x Wᵀ + b; checkpoints store W as [out, in]."""
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(w: Weights, name: str, x: Array, eps: float) -> Array:
    """Mean 0 and variance 1 over the E numbers of each token, then a learned stretch and shift."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def softmax(x: Array) -> Array:
    """e^x / Σ e^x over the last axis; the maximum is taken out first, so nothing overflows."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def self_attention(w: Weights, layer: str, x: Array, real: NDArray[np.bool_], heads: int, seen: dict) -> Array:
    """One layer's masked multi-head attention before its output projection: [B, S, E] -> [B, S, E]."""
    B, S, E = x.shape
    D = E // heads

    def split(name: str) -> Array:  # [B, S, E] -> [B, H, S, D]
        seen[name] = linear(w, f"{layer}.attention.self.{name}", x)
        return seen[name].reshape(B, S, heads, D).transpose(0, 2, 1, 3)

    q, k, v = split("query"), split("key"), split("value")
    seen["scores"] = q @ k.transpose(0, 1, 3, 2) / np.sqrt(D)  # [B, H, S, S]
    hidden = ~real[:, None, None, :]  # [B, 1, 1, S]: padding is hidden as a key, from every query
    seen["probs"] = np.where(hidden, 0, softmax(np.where(hidden, -1e300, seen["scores"])))
    seen["context"] = (seen["probs"] @ v).transpose(0, 2, 1, 3).reshape(B, S, E)
    return seen["context"]


def forward(
    weights: Mapping[str, NDArray],
    config: object,
    input_ids: NDArray[np.integer],
    attention_mask: NDArray | None = None,
    token_type_ids: NDArray[np.integer] | None = None,
) -> dict[str, Array]:
    """Every stage of one forward pass, by name, in the order in which it is computed.

    weights: arrays under Hugging Face's key names, with or without the "bert." prefix; heads that are there are
        computed, the others are left out.
    config: anything with BERT's config fields as attributes (BertConfig, or transformers' own).
    input_ids, attention_mask, token_type_ids: [B, S], as for BertModel.
    """
    w = {name.removeprefix("bert."): np.asarray(array, np.float64) for name, array in weights.items()}
    act, eps = ACTIVATIONS[config.hidden_act], config.layer_norm_eps
    _, S = input_ids.shape
    real = np.ones_like(input_ids, bool) if attention_mask is None else np.asarray(attention_mask, bool)
    segments = np.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    stages: dict[str, Array] = {}

    stages["embeddings.token"] = w["embeddings.word_embeddings.weight"][input_ids]
    stages["embeddings.position"] = w["embeddings.position_embeddings.weight"][np.arange(S)]
    stages["embeddings.segment"] = w["embeddings.token_type_embeddings.weight"][segments]
    x = stages["embeddings.token"] + stages["embeddings.position"] + stages["embeddings.segment"]  # [B, S, E]
    stages["embeddings.sum"] = x
    x = stages["embeddings.norm"] = layer_norm(w, "embeddings.LayerNorm", x, eps)

    for i in range(config.num_hidden_layers):
        at, theirs, seen = f"layers.{i}", f"encoder.layer.{i}", {}
        context = self_attention(w, theirs, x, real, config.num_attention_heads, seen)
        stages.update({f"{at}.attention.{name}": value for name, value in seen.items()})
        added = stages[f"{at}.attention.output"] = linear(w, f"{theirs}.attention.output.dense", context)
        x = stages[f"{at}.attention.sum"] = x + added
        x = stages[f"{at}.attention.norm"] = layer_norm(w, f"{theirs}.attention.output.LayerNorm", x, eps)
        inner = stages[f"{at}.ffn.inner"] = linear(w, f"{theirs}.intermediate.dense", x)  # [B, S, F]
        inner = stages[f"{at}.ffn.act"] = act(inner)
        added = stages[f"{at}.ffn.output"] = linear(w, f"{theirs}.output.dense", inner)
        x = stages[f"{at}.ffn.sum"] = x + added
        x = stages[f"{at}.ffn.norm"] = layer_norm(w, f"{theirs}.output.LayerNorm", x, eps)

    stages["last_hidden_state"] = x
    if "pooler.dense.weight" in w:
        pooled = stages["pooler"] = np.tanh(linear(w, "pooler.dense", x[:, 0]))  # [B, E]
        for name, theirs in (("classifier", "classifier"), ("nsp", "cls.seq_relationship")):
            if f"{theirs}.weight" in w:
                stages[name] = linear(w, theirs, pooled)
    if "cls.predictions.bias" in w:
        hidden = act(linear(w, "cls.predictions.transform.dense", x))
        hidden = layer_norm(w, "cls.predictions.transform.LayerNorm", hidden, eps)
        stages["mlm"] = hidden @ w["embeddings.word_embeddings.weight"].T + w["cls.predictions.bias"]  # [B, S, V]
    return stages
