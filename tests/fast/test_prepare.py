"""Proves that a prepared model is the model: its values and gradients, with all that people attach to one, before and
after. What is attached must show in packed and padded batches alike. Run: pytest tests/fast/test_prepare.py
"""

import copy
import io
import pickle
from collections.abc import Callable
from types import SimpleNamespace

import peft
import pytest
import torch
import torch.nn.functional as F
from conftest import MODELS, assert_near, outputs, small_config, stir
from test_model import first_only, loss_of, packed_batch, rectangle
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from minibert import capture, intervene
from minibert.core.model import Embeddings, FeedForward, MaskedLMHead, SelfAttention
from minibert.fast import products
from minibert.fast.models import BertForMaskedLM, BertForSequenceClassification, BertModel
from minibert.fast.twins import FastEmbeddings, FastFeedForward, FastMaskedLMHead, FastSelfAttention, prepare
from minibert.inference.text_models import TextClassifier
from minibert.text.tokenizer import Tokenizer

pytestmark = pytest.mark.numeric

LENGTHS = [5, 1, 13, 5]
NO_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0)
TWINS = {
    SelfAttention: FastSelfAttention,
    FeedForward: FastFeedForward,
    Embeddings: FastEmbeddings,
    MaskedLMHead: FastMaskedLMHead,
}


def classifier(**changes: object) -> BertForSequenceClassification:
    return stir(BertForSequenceClassification(small_config(**changes)))


def answers(model: nn.Module, batch: dict) -> list[Tensor]:
    with torch.no_grad():
        return outputs(model(**batch))


def gradients(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    """Name -> gradient of every parameter that has one; nothing is left in the model."""
    model.zero_grad()
    loss_of(outputs(model(**batch))).backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_same_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Relative to the largest of each, or to 0.01: some are 0 but for rounding, as those of key.bias."""
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        size = max(wanted[name].abs().max().item(), 1e-2)
        torch.testing.assert_close(gradient, wanted[name], rtol=0, atol=1e-5 * size, msg=name)


# ---- the same answers ----


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", [dict, first_only])
def test_a_prepared_model_gives_the_same_values_of_packed_rows(name, form):
    model = stir(MODELS[name](small_config()))
    batch = form(packed_batch(LENGTHS))
    assert_near(answers(prepare(model), batch), answers(model, batch), limit=3e-6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", [dict, first_only])
def test_a_prepared_model_has_the_same_gradients_of_packed_rows(name, form):
    model = stir(MODELS[name](small_config()))
    batch = form(packed_batch(LENGTHS))
    found = gradients(prepare(model), batch)
    assert len(found) == len(list(model.parameters()))
    assert_same_gradients(found, gradients(model, batch))


@pytest.mark.parametrize("name", MODELS)
def test_padded_batches_stay_the_same_bit_for_bit(name, plain_products):
    model = stir(MODELS[name](small_config()))
    padded, _ = rectangle(packed_batch(LENGTHS))
    assert all(map(torch.equal, answers(prepare(model), padded), answers(model, padded)))


def test_padded_dropout_stays_the_same_bit_for_bit(plain_products):
    model = classifier().train()
    padded, _ = rectangle(packed_batch(LENGTHS))
    found = []
    for each in (prepare(model), model):
        torch.manual_seed(0)
        found += answers(each, padded)
    assert torch.equal(*found)


def test_without_onednn_queries_keys_and_values_of_packed_rows_come_from_one_product(monkeypatch, plain_products):
    sizes = []
    linear = F.linear

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        sizes.append(len(weight))
        return linear(x, weight, bias)

    monkeypatch.setattr(F, "linear", counted)
    model = prepare(stir(BertModel(small_config())))
    answers(model, packed_batch([*LENGTHS, products.FEW]))
    assert sizes == [3 * 15, 15, 37, 15] * 2 + [15]
    sizes.clear()
    answers(model, packed_batch([products.FEW]))  # weights are not joined for so few
    assert sizes == [15, 15, 15, 15, 37, 15] * 2 + [15]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_cheap_dropout_of_packed_rows_keeps_its_share_and_the_mean(number):
    """Of the embeddings, of attention and of the feed-forward, each by itself; LayerNorm is taken out."""
    model = stir(BertModel(small_config(**NO_DROPOUT, num_hidden_layers=1)))
    part = (model.embeddings, model.layers[0].attention, model.layers[0].ffn)[number]
    part.norm, part.dropout.p = nn.Identity(), 0.3
    seen = []
    part.dropout.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model(**packed_batch([40, 30]))  # in eval mode: what goes into the dropout
    part.dropout._forward_hooks.clear()
    torch.manual_seed(0)
    before, after = [], []
    part.register_forward_hook(lambda module, inputs, output: after.append(output))
    if number:
        part.register_forward_pre_hook(lambda module, inputs: before.append(inputs[0]))
    answers(prepare(model).train(), packed_batch([40, 30]))
    added = after[0] - before[0] if number else after[0]
    dropped = added.abs() < 1e-6
    assert dropped.double().mean().item() == pytest.approx(0.3, abs=0.06)
    torch.testing.assert_close(added[~dropped], seen[0][~dropped] / 0.7, rtol=2e-3, atol=1e-5)


def test_dropout_that_is_switched_on_by_itself_drops_in_packed_rows():
    """As for the Monte Carlo kind: the model in eval mode, its dropouts in training."""
    model = classifier()
    fast, batch = prepare(model), packed_batch(LENGTHS)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    assert not torch.equal(*(answers(fast, batch)[0] for _ in range(2)))


# ---- one state ----


def test_the_model_itself_stays_plain():
    model = classifier()
    before = {name: (module, type(module), set(vars(module))) for name, module in model.named_modules()}
    fast = prepare(model)
    fast.train()
    answers(fast, packed_batch(LENGTHS))
    after = {name: (module, type(module), set(vars(module))) for name, module in model.named_modules()}
    assert after == before


def test_every_part_of_the_copy_is_a_twin():
    model = classifier()
    kinds = {name: type(module) for name, module in prepare(model).named_modules()}
    assert kinds == {name: TWINS.get(type(module), type(module)) for name, module in model.named_modules()}


def test_parameters_are_shared_under_the_same_names():
    model = classifier()
    found, wanted = (dict(each.named_parameters()) for each in (prepare(model), model))
    assert list(found) == list(wanted)
    assert all(found[name] is wanted[name] for name in wanted)
    assert list(prepare(model).state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("trained", ["the copy", "the model"])
def test_a_step_of_either_is_seen_by_the_other(trained):
    model = classifier()
    fast, batch = prepare(model), packed_batch(LENGTHS)
    before = answers(model, batch)[0]
    stepping = fast if trained == "the copy" else model
    optimizer = torch.optim.AdamW(stepping.parameters(), lr=1e-2)
    loss_of(outputs(stepping(**batch))).backward()
    optimizer.step()
    assert_near(answers(fast, batch), answers(model, batch), limit=3e-6)
    assert (answers(fast, batch)[0] - before).abs().max() > 1e-2


def test_a_prepared_model_is_saved_as_the_model_is(tmp_path):
    model = classifier()
    model.save_pretrained(tmp_path / "plain")
    prepare(model).save_pretrained(tmp_path / "fast")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "fast" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


def test_preparing_twice_gives_the_same_object():
    fast = prepare(classifier())
    assert prepare(fast) is fast


def test_eval_of_either_ends_dropout_in_both():
    model = classifier()
    fast, batch = prepare(model), packed_batch(LENGTHS)
    wanted = answers(model, batch)[0]
    for training, other in ((fast, model), (model, fast)):
        training.train()
        other.eval()
        for each in (fast, model):
            assert_near(answers(each, batch), [wanted], limit=3e-6)


@pytest.mark.parametrize("part", NO_DROPOUT)
@pytest.mark.parametrize("trained", ["the copy", "the model"])
def test_train_of_either_begins_every_dropout_in_both(part, trained):
    model = classifier(**{**NO_DROPOUT, part: 0.5})
    fast, batch = prepare(model), packed_batch(LENGTHS)
    (fast if trained == "the copy" else model).train()
    for each in (fast, model):
        assert not torch.equal(*(answers(each, batch)[0] for _ in range(2)))


def test_a_module_of_ones_own_is_left_alone():
    class Mine(SelfAttention):
        def forward(self, x: Tensor, batch: object, last: bool = False) -> Tensor:
            return x + 1

    model = classifier()
    mine = model.bert.layers[0].attention = Mine(model.config, "sdpa")
    fast, batch = prepare(model), packed_batch(LENGTHS)
    assert fast.bert.layers[0].attention is mine
    assert type(fast.bert.layers[0].ffn) is FastFeedForward
    assert_near(answers(fast, batch), answers(model, batch), limit=3e-6)


def test_what_holds_nothing_of_ours_comes_back_itself():
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout())
    assert prepare(module) is module


# ---- what is attached ----


def zeros(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    return torch.zeros_like(output)


def doubled(module: nn.Module, inputs: tuple) -> tuple:
    return (2 * inputs[0], *inputs[1:])


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class HalfWeight(Tensor):
    """A weight that is not what it shows, as those of quantising libraries: its product is half of it."""

    @classmethod
    def __torch_function__(cls, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        if func is not F.linear:
            return super().__torch_function__(func, types, args, kwargs or {})
        x, weight, bias = args
        with torch._C.DisableTorchFunctionSubclass():
            return F.linear(x, weight / 2, bias)


def exchange_forward(layer: nn.Module) -> None:
    linear = layer.attention.key
    linear.forward = lambda x: F.linear(x, 2 * linear.weight)


def prune_and_update(layer: nn.Module) -> None:
    """What the mask hides must stay hidden, what is trained afterwards must count."""
    prune.l1_unstructured(layer.attention.value, "weight", 0.5)
    with torch.no_grad():
        layer.attention.value.weight_orig += 0.3


def longer_weights(layer: nn.Module) -> None:
    with torch.no_grad():
        nn.utils.parametrizations.weight_norm(layer.attention.query).parametrizations.weight.original0.mul_(3)


def longer_weights_as_before(layer: nn.Module) -> None:
    with torch.no_grad():
        nn.utils.weight_norm(layer.attention.query).weight_g.mul_(3)


def add_lora(layer: nn.Module) -> None:
    config = peft.LoraConfig(target_modules=["query", "value", "inner"], init_lora_weights=False, lora_dropout=0.0)
    torch.manual_seed(0)
    peft.inject_adapter_in_model(config, layer)


def put(layer: nn.Module, name: str, module: nn.Module) -> None:
    torch.manual_seed(0)
    setattr(layer.attention, name, module)


ATTACH = {
    "a forward hook": lambda layer: layer.attention.value.register_forward_hook(zeros),
    "a forward pre-hook": lambda layer: layer.attention.query.register_forward_pre_hook(doubled),
    "a hook on the output projection": lambda layer: layer.attention.output.register_forward_hook(zeros),
    "a hook on SelfAttention": lambda layer: layer.attention.register_forward_hook(zeros),
    "a hook on FeedForward": lambda layer: layer.ffn.register_forward_pre_hook(doubled),
    "a hook on a dropout": lambda layer: layer.attention.dropout.register_forward_hook(zeros),
    "a forward of its own": exchange_forward,
    "LoRA": add_lora,
    "a pruned weight": prune_and_update,
    "weight_norm": longer_weights,
    "weight_norm by hooks": longer_weights_as_before,
    "a parametrization": lambda layer: parametrize.register_parametrization(layer.attention.key, "weight", Doubled()),
    "a weight of its own kind": lambda layer: setattr(
        layer.attention.value, "weight", nn.Parameter(layer.attention.value.weight.detach().as_subclass(HalfWeight))
    ),
    "a Linear without bias": lambda layer: put(layer, "query", nn.Linear(15, 15, bias=False)),
    "another Linear": lambda layer: put(layer, "value", nn.Linear(15, 15)),
    "a module that is no Linear": lambda layer: put(layer, "key", nn.Sequential(nn.Linear(15, 4), nn.Linear(4, 15))),
}
each_attachment = pytest.mark.parametrize("what", ATTACH)
each_moment = pytest.mark.parametrize("when", ["before", "to the model", "to the copy"])
old_weight_norm = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")


def attached(model: nn.Module, when: str, attach: Callable[[nn.Module], object]) -> nn.Module:
    """The prepared model, with something attached to its first layer before that, or afterwards to either."""
    if when == "before":
        attach(model.bert.layers[0])
        return prepare(model)
    fast = prepare(model)
    attach((model if when == "to the model" else fast).bert.layers[0])
    return fast


@old_weight_norm
@each_attachment
@each_moment
def test_what_is_attached_shows_in_packed_rows_as_in_padded_ones(what, when, monkeypatch):
    model = classifier()
    if "on a dropout" in what:
        model.bert.layers[0].attention.dropout.p = 0.0
    without = answers(model, packed_batch(LENGTHS))[0]
    fast = attached(model, when, ATTACH[what])
    wanted = answers(model, rectangle(packed_batch(LENGTHS))[0])
    assert (wanted[0] - without).abs().max() > 1e-3, "nothing is attached"
    for form in (dict, first_only):
        assert_near(answers(fast, form(packed_batch(LENGTHS))), wanted, limit=3e-6)
    monkeypatch.setattr("minibert.fast.products.usable", lambda *parts: False)  # as without oneDNN: products are joined
    monkeypatch.setattr("minibert.fast.products.FEW", 0)
    assert_near(answers(fast, packed_batch(LENGTHS)), wanted, limit=3e-6)


@old_weight_norm
@each_attachment
def test_what_is_attached_has_its_gradients(what):
    model = classifier()
    fast = attached(model, "before", ATTACH[what])
    found = gradients(fast, packed_batch(LENGTHS))
    assert_same_gradients(found, gradients(model, rectangle(packed_batch(LENGTHS))[0]))


@pytest.mark.parametrize("kind", ["register_full_backward_hook", "register_full_backward_pre_hook"])
@pytest.mark.parametrize("part", ["attention.key", "attention.query", "attention", "ffn.inner", "ffn"])
@each_moment
def test_a_backward_hook_changes_packed_gradients_as_padded_ones(kind, part, when):
    def none(module: nn.Module, *gradients: tuple) -> tuple:
        return tuple(None if gradient is None else torch.zeros_like(gradient) for gradient in gradients[0])

    model = classifier()
    without = gradients(model, packed_batch(LENGTHS))
    fast = attached(model, when, lambda layer: getattr(layer.get_submodule(part), kind)(none))
    found = gradients(fast, packed_batch(LENGTHS))
    assert_same_gradients(found, gradients(model, rectangle(packed_batch(LENGTHS))[0]))
    assert any((found[name] - without[name]).abs().max() > 1e-3 for name in found), "nothing is attached"


def test_lora_trained_by_peft_on_packed_rows_has_every_gradient_and_none_else():
    model = peft.get_peft_model(classifier(), peft.LoraConfig(target_modules=["query", "value"], lora_dropout=0.0))
    with torch.no_grad():
        for number, (name, p) in enumerate(model.named_parameters()):
            if "lora_B" in name:  # 0 in the beginning, which would leave lora_A without a gradient
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(number)))
    found = gradients(prepare(model), packed_batch(LENGTHS))
    assert len(found) == 2 * 2 * 2
    assert all("lora_" in name and gradient.any() for name, gradient in found.items())
    assert_same_gradients(found, gradients(model, rectangle(packed_batch(LENGTHS))[0]))


def test_a_global_hook_sees_every_linear_of_packed_rows():
    fast, seen = prepare(classifier()).train(), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: seen.append(module))
    try:
        answers(fast, packed_batch(LENGTHS))
    finally:
        handle.remove()
    assert {module for module in fast.modules() if isinstance(module, nn.Linear | nn.Dropout)} <= set(seen)


@pytest.mark.parametrize("part", ["embeddings", "layers.0.attention", "layers.1.ffn"])
def test_a_dropout_that_is_hooked_or_another_is_called_in_training(part):
    class Mine(nn.Dropout):
        pass

    model, seen = stir(BertModel(small_config())), []
    module = model.get_submodule(part)
    fast = prepare(model).train()
    module.dropout.register_forward_hook(lambda *arguments: seen.append("hook"))
    answers(fast, packed_batch(LENGTHS))
    module.dropout = Mine()
    module.dropout.forward = lambda x: seen.append("its own") or x
    answers(fast, packed_batch(LENGTHS))
    assert seen == ["hook", "its own"]


def test_a_hook_that_is_removed_from_the_model_is_removed_from_the_copy():
    model = classifier()
    handle = model.bert.layers[0].attention.value.register_forward_hook(zeros)
    fast = prepare(model)
    handle.remove()
    batch = packed_batch(LENGTHS)
    assert_near(answers(fast, batch), answers(classifier(), batch), limit=3e-6)


def quantize(model: nn.Module, inplace: bool = False) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, inplace=inplace)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions.*are deprecated:UserWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda model: prepare(quantize(model)),
        lambda model: quantize(prepare(model)),
        lambda model: quantize(prepare(model), inplace=True),
    ],
    ids=["before", "after", "in place"],
)
def test_quantised_linears_answer_packed_rows_as_padded_ones(make):
    """Rows of one length: padding would have a part in the scale that is chosen for a batch."""
    model, batch = classifier(), packed_batch([7, 7, 7])
    without = answers(model, batch)[0]
    fast = make(model)
    kinds = {type(module) for name, module in fast.named_modules() if name.endswith((".query", ".inner"))}
    assert kinds == {torch.ao.nn.quantized.dynamic.Linear}
    found = answers(fast, batch)
    assert (found[0] - without).abs().max() > 1e-3
    assert_near(found, answers(fast, rectangle(batch)[0]), limit=1e-3)


# ---- looking inside ----


@each_moment
@pytest.mark.parametrize("name", ["attention.query", "attention.probs", "attention.context", "ffn.act"])
def test_capture_sees_in_packed_rows_what_it_sees_without_preparing(name, when):
    model, batch = classifier(), packed_batch(LENGTHS)
    with capture(model, f"layers.*.{name}") as wanted:
        model(**batch)
    fast = None if when == "before" else prepare(model)
    with capture(fast if when == "to the copy" else model, f"layers.*.{name}") as seen:
        (fast or prepare(model))(**batch)
    assert list(seen) == list(wanted)
    assert_near(list(seen.values()), list(wanted.values()), limit=3e-6)


@each_moment
@pytest.mark.parametrize("name", ["heads.1", "attention.value", "attention.probs", "attention.norm"])
def test_an_intervention_counts_in_packed_rows(name, when):
    model, batch = classifier(), packed_batch(LENGTHS)
    changes = {f"layers.0.{name}": lambda x: 0.5 * x}
    without = answers(model, batch)[0]
    with intervene(model, changes):
        wanted = answers(model, batch)
    fast = None if when == "before" else prepare(model)
    with intervene(fast if when == "to the copy" else model, changes):
        found = answers(fast or prepare(model), batch)
    assert_near(found, wanted, limit=3e-6)
    assert (found[0] - without).abs().max() > 1e-3
    assert_near(answers(fast or prepare(model), batch), [without], limit=3e-6)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]


def test_a_text_classifier_can_be_looked_into_and_changed():
    model = TextClassifier(classifier(vocab_size=len(WORDS)), Tokenizer(WORDS), device="cpu")
    without = model.logits(["a b c", "d"])
    with capture(model.model, "layers.1.attention.probs", "layers.1.ffn.inner") as seen:
        assert_near(model.logits(["a b c", "d"]), without, limit=3e-6)
    assert seen["layers.1.attention.probs"].shape == (2, 3, 5, 5)
    assert len(seen["layers.1.ffn.inner"]) == 5 + 3
    with intervene(model.model, {"layers.1.heads.0": 0}):
        assert (model.logits(["a b c", "d"]) - without).abs().max() > 1e-3


def test_a_text_classifier_answers_by_its_adapters():
    """Those of peft were passed over once, where rows are packed."""
    model = TextClassifier(classifier(vocab_size=len(WORDS)), Tokenizer(WORDS), device="cpu")
    without = model.logits(["a b c", "d"])
    add_lora(model.model.bert.layers[0])
    encoding = model.tokenizer(["a b c", "d"], padding="longest")
    wanted = answers(
        model.model,
        {name: torch.as_tensor(getattr(encoding, name)) for name in ("input_ids", "attention_mask", "token_type_ids")},
    )
    assert_near(model.logits(["a b c", "d"]), wanted, limit=3e-6)
    assert (wanted[0] - without).abs().max() > 1e-3


# ---- what else is done to models ----


def unpickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def reloaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, unpickled, reloaded])
def test_a_copy_of_a_prepared_model_is_prepared_and_shares_nothing(copied):
    model, batch = classifier(), packed_batch(LENGTHS)
    fast = prepare(model)
    wanted = answers(fast, batch)[0]
    other = copied(fast)
    assert [type(module) for module in other.modules()] == [type(module) for module in fast.modules()]
    stir(model, seed=1)
    other.train().eval()
    assert torch.equal(answers(other, batch)[0], wanted)


def test_a_copy_of_a_prepared_model_has_a_training_mode_of_its_own():
    fast = prepare(classifier())
    copy.deepcopy(fast).train()
    assert not any(module.training for module in fast.modules())


@pytest.mark.parametrize("moved", ["the copy", "the model"])
def test_moving_either_to_another_type_moves_both(moved):
    model, batch = classifier(), packed_batch(LENGTHS)
    fast = prepare(model)
    (fast if moved == "the copy" else model).to(torch.float64)
    found, wanted = answers(fast, batch), answers(model, batch)
    assert found[0].dtype == torch.float64
    assert_near(found, wanted, limit=1e-12)


@pytest.mark.parametrize("moved", ["the copy", "the model"])
def test_moving_either_to_another_device_moves_both(moved):
    model = classifier()
    fast = prepare(model)
    (fast if moved == "the copy" else model).to("meta")
    padded, _ = rectangle(packed_batch(LENGTHS))
    for each in (fast, model):
        assert answers(each, {name: tensor.to("meta") for name, tensor in padded.items()})[0].is_meta


@pytest.mark.parametrize("prepared", [prepare, lambda model: model], ids=["prepared", "plain"])
@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_exported_model_gives_the_same_for_every_mask(prepared, strict):
    model = prepared(classifier())
    inputs = [rectangle(packed_batch(lengths))[0] for lengths in ([5, 1, 13], [13, 13, 13], [2, 13, 1])]
    exported = torch.export.export(model, (), inputs[0], strict=strict).module()
    for batch in inputs:
        assert_near(answers(exported, batch), answers(model, batch), limit=3e-6)


def test_another_model_around_it_is_prepared_inside():
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = stir(BertModel(small_config()))
            self.top = nn.Linear(15, 2)

        def forward(self, **batch: object) -> Tensor:
            return self.top(self.inner(**batch).pooler_output)

    model, batch = Around(), packed_batch(LENGTHS)
    fast = prepare(model)
    assert type(fast.inner.layers[1].attention) is FastSelfAttention
    assert_near(answers(fast, batch), answers(model, batch), limit=3e-6)


# ---- the batch ----


class Backwards:
    """Somebody's own batch, one row [S], whose answers are asked for from the last token to the first."""

    def __init__(self, length: int) -> None:
        self.layout = packed_batch([length])["batch"]

    def positions(self, input_ids: Tensor, limit: int) -> Tensor:
        return torch.arange(len(input_ids))

    def asking(self, x: Tensor, last: bool) -> Tensor:
        return x.flip(0) if last else x

    def attend(self, *arguments: object) -> Tensor:
        return self.layout.attend(*arguments)

    def first(self, x: Tensor) -> Tensor:
        return x[-1:]


def test_a_batch_of_ones_own_may_ask_in_any_order():
    model, batch = stir(BertModel(small_config())), packed_batch([7])
    own = {**batch, "batch": Backwards(7)}
    assert_near(answers(prepare(model), own), answers(model, own), limit=3e-6)
    wanted, pooled = answers(model, batch)
    assert_near(answers(prepare(model), own), [wanted.flip(0), pooled], limit=3e-6)


@pytest.mark.parametrize(
    ("batch", "missing"),
    [
        (torch.ones(7), "positions, asking, attend, first"),
        ({"attention_mask": torch.ones(7)}, "positions, asking, attend, first"),
        (SimpleNamespace(positions=len, first=len), "asking, attend"),
    ],
)
@pytest.mark.parametrize("prepared", [prepare, lambda model: model], ids=["prepared", "plain"])
def test_a_batch_that_does_not_answer_the_model_is_named_in_a_line(batch, missing, prepared):
    message = f"a {type(batch).__name__} does not answer {missing}; give an attention_mask, or a Batch"
    with pytest.raises(ValueError, match=message) as caught:
        prepared(BertForMaskedLM(small_config()))(torch.zeros(7, dtype=torch.long), batch=batch)
    assert str(caught.value).isprintable()
