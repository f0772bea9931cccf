"""Proves that a model whose weights are prepacked answers as it did, keeps them nowhere else, and refuses all that
needs them in one line. Run: pytest tests/fast/test_prepacked.py
"""

import copy
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import MODELS, assert_near, outputs, small_config, stir
from test_model import first_only, packed_batch, rectangle
from test_products import ACTS, needs_onednn

from minibert.core.model import FeedForward, SelfAttention
from minibert.fast import prepacked, products
from minibert.fast.models import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification
from minibert.fast.prepacked import Prepacked, prepack
from minibert.fast.twins import prepare
from minibert.look.activations import capture

pytestmark = [pytest.mark.numeric, pytest.mark.usefixtures("onednn")]

LENGTHS = [5, 1, 13, 5]


def model_of(name: str = "BertForPreTraining", seed: int = 0, **changes: object) -> torch.nn.Module:
    return stir(MODELS[name](small_config(**changes)), seed)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("act", ACTS[1:])
@torch.no_grad()
def test_a_prepacked_model_answers_as_it_did(name, act):
    model, batch = model_of(name, hidden_act=act), packed_batch(LENGTHS)
    wanted = outputs(model(**batch))
    for form in (prepack(model), prepare(model)):
        assert_near(outputs(form(**batch)), wanted, limit=3e-6)


@pytest.mark.parametrize("lengths", [[1], [2], [7, 1], [8], [9], [47], [48], [49], [50, 61]])
@torch.no_grad()
def test_texts_of_any_length_have_their_answers_whatever_is_filled_up(lengths):
    model, batch = model_of("BertModel"), packed_batch(lengths)
    for form in (batch, first_only(batch)):
        wanted = outputs(model(**form))
        assert_near(outputs(prepack(copy.deepcopy(model))(**form)), wanted, limit=3e-6)


@torch.no_grad()
def test_real_tokens_of_a_padded_batch_have_their_answers():
    model, (batch, _) = model_of("BertModel"), rectangle(packed_batch(LENGTHS))
    wanted = outputs(model(**batch), batch["attention_mask"])
    assert_near(outputs(prepack(model)(**batch), batch["attention_mask"]), wanted, limit=3e-6)


@pytest.mark.skipif(not products.BF16, reason="PyTorch has no oneDNN here, or the CPU no bfloat16")
@torch.no_grad()
def test_a_model_in_bfloat16_is_as_near_to_float32_as_it_was():
    plain, batch = model_of("BertModel"), packed_batch(LENGTHS)
    half = copy.deepcopy(plain).bfloat16()
    (right, *_), (near, *_) = outputs(plain(**batch)), outputs(prepare(half)(**batch))
    (found, *_) = outputs(prepack(half)(**batch))
    assert found.dtype is torch.bfloat16
    assert (found - right).norm() <= 1.2 * (near - right).norm()


@needs_onednn
def test_of_a_layer_the_vectors_of_norms_and_biases_alone_stay():
    model = model_of()
    held = [weakref.ref(part.weight) for part in model.bert.layers.modules() if isinstance(part, torch.nn.Linear)]
    prepack(model)
    assert len(held) == 12
    assert {weight() for weight in held} == {None}
    assert {part.dim() for part in model.bert.layers.parameters()} == {1}


@needs_onednn
@torch.no_grad()
def test_queries_keys_and_values_are_one_product_and_where_the_first_tokens_may_ask_two(monkeypatch):
    asked = []
    monkeypatch.setattr(Prepacked, "forward", watched(Prepacked.forward, asked))
    prepack(model_of("BertModel", num_hidden_layers=3))(**packed_batch(LENGTHS))
    E, F = 15, 37
    assert asked == [3 * E, E, F, E] * 2 + [E, 2 * E, E, F, E]


def watched(forward: object, asked: list[int]) -> object:
    def counting(self: Prepacked, *given: object, **more: object) -> torch.Tensor:
        asked.append(len(self.bias))
        return forward(self, *given, **more)

    return counting


@torch.no_grad()
def test_layers_that_are_cut_off_afterwards_leave_the_answers_of_those_that_stay():
    model, batch = model_of("BertModel", num_hidden_layers=3), first_only(packed_batch([1, 2, 1, 1, 1]))
    wanted, found = copy.deepcopy(model), prepack(model)
    for part in (wanted, found):
        part.layers = part.layers[:2]
    assert_near(outputs(found(**batch)), outputs(wanted(**batch)), limit=3e-6)


# ---- what cannot be ----

REFUSED = {
    "a state_dict": lambda model: model.state_dict(),
    "a model on disk": lambda model: model.save_pretrained("nowhere"),
    "other weights": lambda model: model.load_state_dict(model_of(hidden_act="relu", seed=1).state_dict()),
    "other weights of the encoder": lambda model: model.bert.load_state_dict({}, strict=False),
    "training": lambda model: model.train(),
    "a pickle": lambda model: pickle.dumps(model),
    "float64": lambda model: model.double()(**packed_batch(LENGTHS)),
    "another device": lambda model: model.to("meta")(**packed_batch([1])),
    "gradients": lambda model: model.bert.layers[0].ffn(torch.ones(5, 15, requires_grad=True)),
    "a look inside": lambda model: capture(model, "layers.0.ffn.output").__enter__(),
}


@needs_onednn
@pytest.mark.parametrize("what", REFUSED)
def test_what_needs_the_weights_is_refused_in_a_line_with_the_remedy(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = prepack(model_of(hidden_dropout_prob=0.5))
    with torch.no_grad():
        before = outputs(model(**packed_batch(LENGTHS)))
    with pytest.raises(ValueError, match=r"keep_weights=False has no .+; load it with keep_weights=True$"):
        REFUSED[what](model)
    assert not list(tmp_path.iterdir())
    if what not in ("float64", "another device"):  # which the user has made of it
        with torch.no_grad():
            assert_near(outputs(model(**packed_batch(LENGTHS))), before, limit=1e-7)


@torch.no_grad()
def test_a_copy_and_several_threads_have_the_same_answers():
    model, batch = prepack(model_of()), packed_batch(LENGTHS)
    wanted = outputs(model(**batch))
    assert_near(outputs(copy.deepcopy(model)(**batch)), wanted, limit=3e-6)

    def answer(_: int) -> list[torch.Tensor]:
        with torch.no_grad():
            return outputs(model(**packed_batch(LENGTHS)))

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(answer, range(8)):
            assert_near(found, wanted, limit=3e-6)


@needs_onednn
def test_without_no_grad_it_answers_too():
    model = model_of()
    wanted = [tensor.detach() for tensor in outputs(model(**packed_batch(LENGTHS)))]
    found = outputs(prepack(model)(**packed_batch(LENGTHS)))
    assert_near(found, wanted, limit=3e-6)
    assert not any(tensor.requires_grad for tensor in found)


@needs_onednn
def test_a_hook_on_what_is_prepacked_is_called():
    model, seen = prepack(model_of()), []
    model.bert.layers[0].ffn.output.register_forward_hook(lambda *given: seen.append(given[2].shape))
    model(**packed_batch(LENGTHS))
    assert len(seen) == 1


# ---- where it stays as it was ----

PLAIN = {
    "another CPU": lambda model, patch: patch.setattr(products, "FAST_ENOUGH", False),
    "a PyTorch without oneDNN": lambda model, patch: patch.setattr(prepacked, "ARRANGE", None),
    "float64": lambda model, patch: model.double(),
    "a hook": lambda model, patch: [
        part.register_forward_hook(lambda *given: None) for part in model.modules() if isinstance(part, torch.nn.Linear)
    ],
    "a hook of a whole part": lambda model, patch: [
        layer.attention.register_forward_hook(lambda *given: None) for layer in model.bert.layers
    ],
    "layers of another class": lambda model, patch: [
        setattr(layer.attention, "__class__", type("Other", (SelfAttention,), {})) for layer in model.bert.layers
    ],
}


@pytest.mark.parametrize("why", PLAIN)
@torch.no_grad()
def test_elsewhere_a_layer_stays_as_it_is(why, monkeypatch):
    model = model_of()
    PLAIN[why](model, monkeypatch)
    prepack(model)
    assert not any(isinstance(part, Prepacked) for part in model.modules())
    assert {type(layer.ffn) for layer in model.bert.layers} == {FeedForward}
    model.state_dict()


@needs_onednn
@pytest.mark.parametrize("kind", [BertForSequenceClassification, BertForMaskedLM, BertForPreTraining])
@torch.no_grad()
def test_heads_keep_their_weights(kind):
    model = prepack(stir(kind(small_config())))
    heads = [child for name, child in model.named_children() if name != "bert"]
    assert all(isinstance(part.state_dict(), dict) for part in heads)
