"""Proves that the ladder of parity names the stage where a model goes wrong. Run: pytest tests/look/test_parity.py"""

import pytest
import torch
from conftest import MODELS, small_config, stir, twins

from minibert.core import attention as formula
from minibert.core.weights import export_weights
from minibert.fast import attention
from minibert.fast.architecture import model_class
from minibert.fast.models import BertForMaskedLM, BertForPreTraining
from minibert.look.parity import ParityOptions, failures, ladder, merge_layers, recording, to_table

pytestmark = pytest.mark.numeric


@pytest.fixture
def model_dir(tmp_path):
    stir(MODELS["BertForSequenceClassification"](small_config())).save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_a_right_model_passes_at_every_stage(name, tmp_path):
    _, theirs = twins(name)
    theirs.save_pretrained(tmp_path)
    rungs = ladder(ParityOptions(str(tmp_path), lengths="1,7,61"))
    assert failures(rungs) == []
    assert max(rung.differences["transformers"] for rung in rungs if "transformers" in rung.differences) <= 1e-5


def test_the_ladder_has_every_stage_in_the_order_of_computation(model_dir):
    stages = [rung.stage for rung in merge_layers(ladder(ParityOptions(model_dir, lengths="3")))]
    layer = ["query", "key", "value", "scores", "probs", "context", "output", "sum", "norm"]
    assert stages == [
        *(f"embeddings.{name}" for name in ("token", "position", "segment", "sum", "norm")),
        *(f"layers.*.attention.{name}" for name in layer),
        *(f"layers.*.ffn.{name}" for name in ("inner", "act", "output", "sum", "norm")),
        *("last_hidden_state", "pooler", "classifier"),
    ]


def test_every_stage_is_measured_for_both_backends(model_dir):
    for rung in ladder(ParityOptions(model_dir, lengths="3")):
        assert {"eager", "sdpa"} <= rung.differences.keys(), rung.stage


def test_a_missing_root_d_is_first_seen_in_the_scores(model_dir, monkeypatch):
    right = formula.scores
    monkeypatch.setattr(formula, "scores", lambda q, k, scale=None: right(q, k, scale=1.0))
    assert failures(ladder(ParityOptions(model_dir, lengths="7")))[0] == ("layers.0.attention.scores", "eager")


def test_a_backend_that_drops_the_mask_is_first_seen_in_its_context(model_dir, monkeypatch):
    def maskless(q, k, v, layout, dropout_p=0.0, scale=None):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    monkeypatch.setitem(attention.BACKENDS, "sdpa", attention.BACKENDS["sdpa"]._replace(padded=maskless))
    assert failures(ladder(ParityOptions(model_dir, lengths="7")))[0] == ("layers.0.attention.context", "sdpa")


def test_what_a_backend_gives_at_padding_does_not_count(model_dir, monkeypatch):
    right = attention.BACKENDS["sdpa"].padded

    def other_at_padding(q, k, v, layout, dropout_p=0.0, scale=None):
        return right(q, k, v, layout, dropout_p, scale) + 7 * ~layout.keys[:, None, :, None]

    monkeypatch.setitem(attention.BACKENDS, "sdpa", attention.BACKENDS["sdpa"]._replace(padded=other_at_padding))
    assert failures(ladder(ParityOptions(model_dir, lengths="7"))) == []


@pytest.mark.parametrize("kind", MODELS.values())
def test_the_class_of_a_model_is_told_by_its_keys(kind):
    assert model_class(export_weights(kind(small_config(), "eager"))) is kind


def test_without_a_pooler_nobody_tells_next_sentences():
    keys = ["cls.predictions.bias", "cls.seq_relationship.weight", "bert.encoder.layer.0.output.dense.weight"]
    assert model_class(keys) is BertForMaskedLM
    assert model_class([*keys, "bert.pooler.dense.weight"]) is BertForPreTraining


def test_nan_is_a_failure(model_dir, monkeypatch):
    broken = attention.BACKENDS["sdpa"]._replace(padded=lambda q, *_: q * float("nan"))
    monkeypatch.setitem(attention.BACKENDS, "sdpa", broken)
    assert ("last_hidden_state", "sdpa") in failures(ladder(ParityOptions(model_dir, lengths="7")))


def test_the_worst_of_all_lengths_counts(model_dir, monkeypatch):
    right = attention.BACKENDS["sdpa"]
    broken = right._replace(padded=lambda q, *rest: right.padded(q, *rest) * (2 if q.shape[2] == 7 else 1))
    monkeypatch.setitem(attention.BACKENDS, "sdpa", broken)
    assert ("last_hidden_state", "sdpa") in failures(ladder(ParityOptions(model_dir, lengths="7,3")))


def test_of_transformers_all_is_compared_but_what_it_does_not_show(model_dir):
    rungs = ladder(ParityOptions(model_dir, lengths="3"))
    hidden = {rung.stage.rpartition(".")[2] for rung in rungs if "transformers" not in rung.differences}
    assert hidden == {"scores", "probs"}


def test_recording_leaves_no_hook_behind():
    _, theirs = twins("BertModel")
    with pytest.raises(ZeroDivisionError), recording(theirs):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in theirs.modules())


def test_the_table_has_a_row_per_stage_and_a_verdict(model_dir):
    rungs = ladder(ParityOptions(model_dir, lengths="3"))
    table = to_table(rungs, layers=False).splitlines()
    assert table[1].split() == ["stage", "largest", "allowed", "eager", "sdpa", "transformers"]
    assert len(table) == 2 + len(merge_layers(rungs)) + 1
    assert table[-1] == "equal, as far as float32 goes"


@pytest.mark.parametrize("lengths", ["0", "522", "seven", "3,,4", "-1"])
def test_impossible_lengths_are_named(model_dir, lengths):
    with pytest.raises(ValueError, match="from 1 to 521"):
        ladder(ParityOptions(model_dir, lengths=lengths))
