"""Proves the float64 reference against transformers in float64. Run: pytest tests/core/test_reference.py"""

import math

import numpy as np
import pytest
import torch
from conftest import MODELS, outputs, padded_batch, real_tokens, twins

from minibert.core import reference
from minibert.core.weights import export_weights

pytestmark = pytest.mark.numeric

FINAL = {
    "BertModel": ("last_hidden_state", "pooler"),
    "BertForSequenceClassification": ("classifier",),
    "BertForMaskedLM": ("mlm",),
    "BertForPreTraining": ("mlm", "nsp"),
}


def run_reference(ours: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    weights = {name: tensor.detach().numpy() for name, tensor in export_weights(ours).items()}
    return reference.forward(weights, ours.config, *(tensor.numpy() for tensor in batch.values()))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_reference_equals_transformers_in_float64(name, activation):
    """1e-12: both compute in double precision, so only the order of additions differs."""
    ours, theirs = twins(name, hidden_act=activation)
    batch = padded_batch(rows=3, length=11)
    stages = run_reference(ours, batch)
    with torch.no_grad():
        wanted = outputs(theirs.double()(**batch), batch["attention_mask"])
    for stage, tensor in zip(FINAL[name], wanted, strict=True):
        found = real_tokens(stages[stage], batch["attention_mask"])
        torch.testing.assert_close(found, tensor, rtol=0, atol=1e-12, msg=lambda text, stage=stage: f"{stage}: {text}")


def test_layer_norm_by_hand():
    """(1, 3): mean 2, variance 1 → (-1, 1) · weight (2, 3) + bias (10, 20) = (8, 23)."""
    w = {"n.weight": np.array([2.0, 3.0]), "n.bias": np.array([10.0, 20.0])}
    assert reference.layer_norm(w, "n", np.array([1.0, 3.0]), eps=0.0).tolist() == [8.0, 23.0]


def test_gelu_is_the_erf_form():
    """x · Φ(x) at 1 is Φ(1) = 0.8413447460685429; the tanh form gives 0.8411919906."""
    assert reference.ACTIVATIONS["gelu"](np.array([1.0]))[0] == pytest.approx(0.8413447460685429, abs=1e-15)
    assert reference.ACTIVATIONS["gelu_new"](np.array([1.0]))[0] == pytest.approx(0.8411919906, abs=1e-10)


def test_softmax_survives_large_scores():
    assert reference.softmax(np.array([1000.0, 1000.0 + math.log(3)])).tolist() == pytest.approx([0.25, 0.75])


def test_mask_and_segments_may_be_left_out():
    ours, _ = twins("BertModel")
    ids = padded_batch(rows=2, length=5)["input_ids"]
    full = run_reference(ours, {"ids": ids, "mask": torch.ones_like(ids), "segments": torch.zeros_like(ids)})
    np.testing.assert_array_equal(run_reference(ours, {"ids": ids})["pooler"], full["pooler"])
