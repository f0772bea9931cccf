"""Proves that what is captured is what BERT computes, and that a change made is the change asked for, by any backend.

Stirred weights, batches of pairs, prime sizes (see conftest.py). Run: pytest tests/look/test_activations.py
"""

import re
from functools import cache

import numpy as np
import pytest
import torch
from conftest import MODELS, PACKED_ONLY, outputs, padded_batch, small_config, stir, usable_backends
from test_model import first_only, loss_of, packed_batch, rectangle
from test_reference import run_reference

import minibert
from minibert.core import attention as formula
from minibert.core.config import BertConfig
from minibert.fast import attention
from minibert.fast.layout import Packed, pad
from minibert.fast.models import BertForSequenceClassification, BertModel
from minibert.fast.twins import compile_tokenwise
from minibert.look import activations
from minibert.look.activations import capture, intervene

BACKENDS = [*usable_backends(head_size=5, needs_grad=False), PACKED_ONLY]
pytestmark = [pytest.mark.numeric, pytest.mark.usefixtures("packed_only")]
LENGTHS = [5, 1, 13, 5, 2]
ROWS = re.findall(r"^ {4}(\S+) +\[(.+?)\](?: {2}|$)", activations.__doc__, flags=re.M)  # of the table: name, shape
LAST = "layers.1"  # of the small model
OUTPUTS = {
    "BertModel": {"pooler"},
    "BertForSequenceClassification": {"pooler", "classifier"},
    "BertForMaskedLM": {"mlm"},
    "BertForPreTraining": {"pooler", "mlm", "nsp"},
}


@pytest.fixture(autouse=True)
def nobody_is_left_looking():
    yield
    assert not activations.ACTIVE


@cache
def build(name: str, backend: str = "eager", **changes: object) -> torch.nn.Module:
    return stir(MODELS[name](small_config(**changes), backend))


@cache
def classifier(backend: str = "sdpa") -> torch.nn.Module:
    return build("BertForSequenceClassification", backend)


def batch_of(packed: bool) -> dict:
    return packed_batch(LENGTHS) if packed else padded_batch(rows=4, length=11)


def state_of(model: torch.nn.Module) -> list:
    """All that a block could leave behind."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        (name, {key: id(value) for key, value in module.__dict__.items()}, [dict(getattr(module, h)) for h in hooks])
        for name, module in model.named_modules()
    ]


def expand(row: str, config: BertConfig) -> list[str]:
    """The names that a row of the table stands for."""
    layers, heads = range(config.num_hidden_layers if "{i}" in row else 1), range(config.num_attention_heads)
    return [row.format(i=i, h=h) for i in layers for h in (heads if "{h}" in row else [0])]


# ---- names ----


@pytest.mark.parametrize("model_name", MODELS)
def test_the_table_in_the_docstring_lists_all_names_and_their_shapes(model_name):
    model = build(model_name)
    c, (B, S) = model.config, (4, 11)
    sizes = {"B": B, "S": S, "2": 2, "L": c.num_labels, "E": c.hidden_size, "H": c.num_attention_heads}
    sizes |= {"D": c.head_size, "F": c.intermediate_size, "V": c.vocab_size}
    with torch.no_grad(), capture(model, "*") as seen:
        model(**padded_batch(rows=B, length=S))
    table = {name: tuple(sizes[x] for x in shape.split(", ")) for row, shape in ROWS for name in expand(row, c)}
    shapes = {name: tuple(x.shape) for name, x in seen.items()}
    assert shapes == {name: shape for name, shape in table.items() if "." in name or name in OUTPUTS[model_name]}
    assert list(seen) == seen.names()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("pooler", ["pooler"]),
        ("layers.*.attention.probs", ["layers.0.attention.probs", "layers.1.attention.probs"]),
        ("layers.1.ffn", [f"layers.1.ffn.{name}" for name in ("inner", "act", "output", "sum", "norm")]),
        ("layers.0.heads.?", [f"layers.0.heads.{h}" for h in range(3)]),
        ("layers.*.output", ["layers.0.output", "layers.1.output"]),
        ("embeddings.[ps]*", [f"embeddings.{name}" for name in ("position", "segment", "sum")]),
    ],
)
def test_patterns_are_those_of_file_names_and_a_group_is_all_of_it(pattern, names):
    model = classifier()
    with torch.no_grad(), capture(model, pattern) as seen:
        model(**batch_of(packed=False))
    assert list(seen) == names


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("layers.1.atention.probs", "called 'layers.1.atention.probs'; did you mean 'layers.1.attention.probs' or"),
        ("layers.2.output", "called 'layers.2.output'; did you mean 'layers.1.output'"),
        ("layers.*.probs", "called 'layers.*.probs'; did you mean"),
        ("mlm", "called 'mlm'; its names begin with embeddings, layers, pooler, classifier"),
    ],
)
def test_a_pattern_that_fits_nothing_is_refused_with_near_names(pattern, message):
    for look in (lambda: capture(classifier(), "pooler", pattern), lambda: intervene(classifier(), {pattern: 0})):
        with pytest.raises(ValueError, match=message):
            look()


def test_a_change_fits_whole_names_alone():
    """The numbers of a whole feed-forward have several shapes and meanings."""
    with pytest.raises(ValueError, match=r"nothing in this model is called 'layers\.1\.ffn'"):
        intervene(classifier(), {"layers.1.ffn": 0})


def test_what_is_no_model_of_ours_is_refused():
    with pytest.raises(ValueError, match="Linear is no model to look into; give a BertModel or one with a head"):
        capture(torch.nn.Linear(2, 2), "*")


def test_what_is_not_there_says_why():
    seen = minibert.capture(classifier(), "pooler")
    with pytest.raises(KeyError, match="no forward pass has computed it yet"):
        seen["pooler"]
    with pytest.raises(KeyError, match="it was not asked for"):
        seen["classifier"]
    with pytest.raises(ValueError, match="no gradients were asked for; give grad=True"):
        _ = seen.grad


# ---- the numbers ----


def expected(stages: dict[str, np.ndarray], name: str, config: BertConfig) -> torch.Tensor:
    """The reference's stage. Two of our names are views of another, and without dropout two are the same."""
    if found := re.fullmatch(r"(layers\.\d+)\.heads\.(\d+)", name):
        D, h = config.head_size, int(found[2])
        return torch.from_numpy(stages[f"{found[1]}.attention.context"][..., h * D : (h + 1) * D])
    name = re.sub(r"^(layers\.\d+)\.output$", r"\1.ffn.norm", name).replace("embeddings.output", "embeddings.norm")
    return torch.from_numpy(stages[name])


def close(found: torch.Tensor, wanted: torch.Tensor, name: str) -> None:
    """1e-5 of what is of the size of 1; larger numbers have as many digits."""
    size = max(1.0, wanted.abs().max().item())
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5 * size, msg=lambda text: f"{name}: {text}")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_number_of_a_padded_batch_of_pairs_equals_the_reference(name, backend):
    model, batch = build(name, backend), batch_of(packed=False)
    stages, real = run_reference(model, batch), batch["attention_mask"].bool()
    with torch.no_grad(), capture(model, "*") as seen:
        model(**batch)
    for stage, found in seen.items():
        close(*(real_part(x, stage, real) for x in (found, expected(stages, stage, model.config))), stage)


def real_part(x: torch.Tensor, stage: str, real: torch.Tensor) -> torch.Tensor:
    """Of a stage of a padded batch, what belongs to real tokens [B, S]; what stands at padding is nobody's."""
    if stage.endswith((".scores", ".probs")):  # [B, H, S, S]
        return x.permute(0, 2, 3, 1)[real[:, :, None] & real[:, None, :]]
    return x[real] if x.shape[:2] == real.shape else x


def compare_packed(seen: dict, stages: dict, batch: dict, real: torch.Tensor, config: BertConfig) -> None:
    """Token for token with the reference's rectangle. Scores and probs: the same rectangle, 0 at padding."""
    pairs = (real[:, None, :, None] & real[:, None, None, :]).expand(-1, config.num_attention_heads, -1, -1)
    for stage, found in seen.items():
        wanted = expected(stages, stage, config)
        if stage.endswith((".scores", ".probs")):
            assert found.shape == pairs.shape
            assert (found[~pairs] == 0).all(), stage
            found, wanted = found[pairs], wanted[pairs]
        elif stage == "embeddings.position":
            wanted = wanted[batch["batch"].position_ids]
        elif len(found) == len(batch["input_ids"]):
            wanted = wanted[real]
        close(found, wanted, stage)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_number_of_a_packed_batch_of_pairs_equals_the_reference(name, backend):
    """Of a classifier too, whose last layer would compute [CLS] alone if nobody looked."""
    model, batch = build(name, backend), batch_of(packed=True)
    padded, real = rectangle(batch)
    with torch.no_grad(), capture(model, "*") as seen:
        model(**batch)
    assert list(seen) == seen.names()
    compare_packed(seen, run_reference(model, padded), batch, real, model.config)


@pytest.mark.parametrize("grad", [False, True])
def test_nobody_asks_for_the_padding_of_a_packed_batch(grad):
    """As what is not there has no probabilities, [B, H, S, S] holds 0 in its rows."""
    model, batch = build("BertModel", "sdpa"), batch_of(packed=True)
    real = rectangle(batch)[1]
    assert not real.all()
    with capture(model, "layers.*.attention.probs", grad=grad) as seen:
        model(**batch)
    for probs in seen.values():
        asking = probs.transpose(1, 2)  # [B, S, H, S]
        assert (asking[~real] == 0).all()
        assert (asking[real].sum(dim=-1) > 0.99).all()


@pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")
def test_the_triton_kernel_is_looked_into_too():
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    model = build("BertModel", "triton", hidden_size=64, num_attention_heads=2)
    batch = packed_batch([3, 7])
    padded, real = rectangle(batch)
    with torch.no_grad(), capture(model, "*") as seen:
        model(**batch)
    compare_packed(seen, run_reference(model, padded), batch, real, model.config)


@pytest.mark.parametrize("packed", [False, True])
def test_real_weights_give_the_numbers_of_the_reference(minilm, packed):
    model = BertModel.from_pretrained(minilm)
    batch = packed_batch([9, 4, 23])
    padded, real = rectangle(batch)
    with torch.no_grad(), capture(model, "*") as seen:
        model(**(batch if packed else padded))
    stages = run_reference(model, padded)
    if packed:
        return compare_packed(seen, stages, batch, real, model.config)
    for stage, found in seen.items():
        close(*(real_part(x, stage, real) for x in (found, expected(stages, stage, model.config))), stage)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_probs_sum_to_1_over_real_keys(backend, packed):
    model, batch = build("BertModel", backend), batch_of(packed)
    real = rectangle(batch)[1] if packed else batch["attention_mask"].bool()
    with torch.no_grad(), capture(model, "layers.*.attention.probs") as seen:
        model(**batch)
    for probs in seen.values():
        assert (probs >= 0).all()
        torch.testing.assert_close(probs.sum(dim=-1).transpose(1, 2)[real], torch.ones(int(real.sum()), 3))
        assert (probs.masked_select(~real[:, None, None, :]) == 0).all()


def test_masks_with_holes_and_rows_without_a_token_are_looked_into():
    ids, name = padded_batch(rows=5, length=6)["input_ids"], "layers.1.attention.probs"
    rows = [[1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]
    mask, found = torch.tensor(rows), []
    with torch.no_grad():
        for backend, patterns in (("sdpa", [name]), ("sdpa", [name, "layers.1.attention.scores"]), ("eager", ["*"])):
            with capture(model := build("BertForMaskedLM", backend), *patterns) as seen:
                model(ids, mask)
            found.append(seen[name])
    torch.testing.assert_close(found[0].sum(dim=-1), mask.any(dim=1).float()[:, None, None].expand(5, 3, 6))
    for probs in found[:2]:
        torch.testing.assert_close(probs, found[2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_looking_changes_no_digit_of_the_answer(backend, packed):
    model, batch = build("BertModel", backend), batch_of(packed)
    with torch.no_grad():
        plain = model(**batch)
        with capture(model, "*"):
            looked = model(**batch)
    assert all(torch.equal(*pair) for pair in zip(outputs(plain), outputs(looked), strict=True))


@pytest.mark.parametrize("packed", [False, True])
def test_looking_changes_no_digit_and_no_random_number_in_training(packed):
    model = stir(BertForSequenceClassification(small_config())).train()
    batch, found = batch_of(packed), []
    for patterns in ((), ("layers.0.attention", "embeddings.*")):
        torch.manual_seed(0)
        with capture(model, *patterns):
            logits = model(**batch)
        loss_of([logits]).backward()
        found.append([logits.detach(), *(p.grad.clone() for p in model.parameters()), torch.rand(3)])
        model.zero_grad()
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_only_the_asked_layer_forms_probabilities(monkeypatch):
    calls, right = [], formula.scores
    monkeypatch.setattr(formula, "scores", lambda *given: (calls.append(len(given[0])), right(*given))[1])
    model = classifier("sdpa")
    for patterns, count in (((), 0), (("layers.*.attention.context",), 0), (("layers.1.attention.probs",), 4)):
        calls.clear()
        with torch.no_grad(), capture(model, *patterns):
            model(**batch_of(packed=False))
        assert sum(calls) == count, patterns  # rows


def break_sdpa(monkeypatch) -> None:
    """Without its mask."""
    maskless = attention.BACKENDS["sdpa"]._replace(
        padded=lambda q, k, v, *rest: torch.nn.functional.scaled_dot_product_attention(q, k, v)
    )
    monkeypatch.setitem(attention.BACKENDS, "sdpa", maskless)


@pytest.mark.parametrize("grad", [False, True])
def test_a_backend_that_differs_from_the_formula_is_noticed(monkeypatch, grad):
    break_sdpa(monkeypatch)
    message = "layers.0.attention.context: attention backend 'sdpa' differs from the formula by"
    with (
        pytest.raises(AssertionError, match=message),
        capture(classifier("sdpa"), "layers.0.attention.probs", grad=grad),
    ):
        classifier("sdpa")(**batch_of(packed=False))


def test_a_broken_backend_can_be_looked_into_without_the_check(monkeypatch):
    break_sdpa(monkeypatch)
    with capture(classifier("sdpa"), "layers.0.attention.probs", check=False) as seen:
        classifier("sdpa")(**batch_of(packed=False))
    assert len(seen) == 1


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_passes_the_check_and_fused_kernels_probabilities_are_exact(backend, packed, dtype):
    """Scores of 100 have a step of 0.5 in bfloat16: recomputed in it, as eager has them, they would be other ones."""
    model = stir(BertModel(small_config(), backend))
    model.layers[0].attention.query.weight.data *= 50
    model, batch = model.to(dtype), batch_of(packed)
    with torch.no_grad(), capture(model, "layers.0.attention") as seen:
        model(**batch)
    n = LENGTHS[0] if packed else 11  # of the first row
    q, k = (seen[f"layers.0.attention.{name}"].double() for name in ("query", "key"))
    q, k = (x.view(-1, 15)[:n].view(n, 3, 5).transpose(0, 1) for x in (q, k))  # [H, n, D]
    scores = q @ k.transpose(1, 2) / 5**0.5
    assert scores.abs().max() > 60
    if backend != "eager":
        found = seen["layers.0.attention.probs"][0, :, :n, :n].double()
        torch.testing.assert_close(found, scores.softmax(dim=-1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_autocast_passes_the_check(backend):
    model = build("BertModel", backend)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), capture(model, "*") as seen:
        model(**batch_of(packed=False))
    assert seen["layers.0.attention.query"].dtype == torch.bfloat16


def test_of_several_forward_passes_the_last_is_kept_and_stays_readable():
    model, (first, last) = classifier(), (padded_batch(rows=2, length=n, seed=n) for n in (5, 7))
    with torch.no_grad():
        with capture(model, "classifier") as seen:
            model(**first)
            model(**last)
        assert torch.equal(seen["classifier"], model(**last))


def test_where_first_tokens_alone_are_wanted_the_answer_keeps_its_shape():
    model, batch = build("BertModel", "sdpa"), batch_of(packed=True)
    with torch.no_grad():
        plain = model(**first_only(batch))
        with capture(model, f"{LAST}.attention.probs", f"{LAST}.output") as seen:
            looked = model(**first_only(batch))
    torch.testing.assert_close(looked, plain, rtol=0, atol=2e-6)
    assert len(seen[f"{LAST}.output"]) == sum(LENGTHS)
    assert seen[f"{LAST}.attention.probs"].shape == (5, 3, 13, 13)


# ---- gradients ----


def loss_of_real_tokens(model: torch.nn.Module, batch: dict) -> torch.Tensor:
    """What stands at padding is the backend's affair."""
    return loss_of(outputs(model(**batch), batch.get("attention_mask")))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["BertForSequenceClassification", "BertForPreTraining"])
@pytest.mark.parametrize("backend", ["eager", "sdpa", PACKED_ONLY])
def test_gradients_are_those_of_autograd_and_the_parameters_keep_theirs(backend, name, packed):
    model, batch = build(name, backend), batch_of(packed)
    loss_of_real_tokens(model, batch).backward()
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    with capture(model, "*", grad=True) as seen:
        loss = loss_of_real_tokens(model, batch)
    loss.backward(retain_graph=True)
    found = {stage: gradient.clone() for stage, gradient in seen.grad.items()}
    assert found.keys() == seen.keys()
    for stage, gradient in zip(seen, torch.autograd.grad(loss, list(seen.values())), strict=True):
        torch.testing.assert_close(found[stage], gradient, msg=stage)
        assert gradient.abs().max() > 0, stage
    for p, gradient in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-4, atol=1e-6)
    model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("packed", [False, True])
def test_a_gradient_says_what_a_small_change_does(packed):
    """In float64, a step of 1e-5 along a random direction and one against it."""
    model, batch = stir(BertForSequenceClassification(small_config(), "sdpa")).double(), batch_of(packed)
    with capture(model, "*", grad=True) as seen:
        loss_of([model(**batch)]).backward()
    for name, gradient in seen.grad.items():
        step = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-5
        losses = []
        for sign in (1, -1):
            with torch.no_grad(), intervene(model, {name: seen[name].detach() + sign * step}):
                losses.append(loss_of([model(**batch)]).item())
        assert losses[0] - losses[1] == pytest.approx(2 * (gradient * step).sum().item(), rel=1e-4, abs=1e-12), name


def test_frozen_weights_have_gradients_from_where_one_looks():
    model, batch = stir(BertForSequenceClassification(small_config())).requires_grad_(False), batch_of(packed=False)
    with capture(model, "embeddings.sum", "pooler", grad=True) as seen:
        loss_of([model(**batch)]).backward()
    assert seen.grad.keys() == {"embeddings.sum", "pooler"}
    assert all(p.grad is None for p in model.parameters())


def test_without_grad_what_was_seen_holds_no_graph():
    model, batch = classifier(), batch_of(packed=False)
    with capture(model, "*") as seen:
        model(**batch)
    assert not any(x.requires_grad for x in seen.values())


def test_asking_for_gradients_where_there_are_none_gives_the_numbers_alone():
    with torch.no_grad(), capture(classifier(), "pooler", grad=True) as seen:
        classifier()(**batch_of(packed=False))
    assert seen["pooler"].shape == (4, 15)
    assert seen.grad == {}


# ---- changes ----


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_ablating_a_head_is_zeroing_its_columns_of_the_output_projection(backend, packed):
    model, zeroed, batch = classifier(backend), stir(MODELS["BertForSequenceClassification"](small_config())), {}
    zeroed.bert.layers[1].attention.output.weight.data[:, 5:10] = 0  # head 1 of head size 5
    batch = batch_of(packed)
    with torch.no_grad():
        with intervene(model, {"layers.1.heads.1": 0}):
            ablated = model(**batch)
        torch.testing.assert_close(ablated, zeroed(**batch), rtol=0, atol=5e-6)
        assert (ablated - model(**batch)).abs().max() > 1e-2


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "cut", ["*", "embeddings.*", "embeddings.sum", "layers.0.output", f"{LAST}.ffn.norm", "pooler"]
)
def test_patching_all_that_passes_a_cut_from_another_run_gives_that_runs_logits(cut, packed):
    model, one = classifier(), batch_of(packed)
    other = {**one, "input_ids": (one["input_ids"] + 50) % 101}
    with torch.no_grad():
        with capture(model, cut) as seen:
            wanted = model(**other)
        assert (model(**one) - wanted).abs().max() > 1e-2
        with intervene(model, seen):
            torch.testing.assert_close(model(**one), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("what", ["query", "key", "value", "scores", "probs", "context"])
def test_a_changed_number_counts_with_every_backend(backend, packed, what):
    """As it does with eager attention; and going on with the same number changes nothing."""
    answers, batch = [], batch_of(packed)
    for name in (backend, "eager"):
        model = classifier(name)
        with torch.no_grad():
            plain = model(**batch)
            with intervene(model, {f"layers.*.attention.{what}": lambda x: x}):
                torch.testing.assert_close(model(**batch), plain, rtol=0, atol=5e-6)
            with intervene(model, {f"layers.0.attention.{what}": lambda x: 1 - x * 2}):
                answers.append(model(**batch))
        assert (answers[-1] - plain).abs().max() > 1e-2
    torch.testing.assert_close(*answers, rtol=0, atol=5e-6)


def test_looking_only_at_oneself_is_written_in_the_probabilities():
    model, batch = build("BertModel", "sdpa"), batch_of(packed=False)
    eye = torch.eye(11).expand(4, 3, 11, 11)
    with torch.no_grad(), intervene(model, {"layers.0.attention.probs": eye}), capture(model, "layers.0") as seen:
        model(**batch)
    torch.testing.assert_close(seen["layers.0.attention.context"], seen["layers.0.attention.value"], rtol=0, atol=1e-6)


def test_changed_scores_change_the_probabilities():
    model, name = build("BertModel", "sdpa"), "layers.1.attention.{}".format
    with torch.no_grad(), intervene(model, {name("scores"): 0}), capture(model, name("probs")) as seen:
        model(padded_batch(rows=1, length=4)["input_ids"])
    assert torch.equal(seen[name("probs")], torch.full((1, 3, 4, 4), 0.25))


@pytest.mark.parametrize("outside", ["capture", "intervene"])
def test_a_capture_sees_what_the_model_goes_on_with_whichever_block_stands_outside(outside):
    model, name = classifier(), "layers.0.attention.probs"
    blocks = [seen := capture(model, name), intervene(model.bert, {name: 0.5})]
    first, second = blocks if outside == "capture" else reversed(blocks)
    with torch.no_grad(), first, second:
        model(**batch_of(packed=False))
    assert (seen[name] == 0.5).all()


def test_changes_are_made_in_the_order_they_are_written_and_from_the_outer_block_to_the_inner():
    model = classifier()
    changes = {"pool*": lambda x: x * 0 + 2, "pooler": lambda x: x + 3}
    inner = intervene(model, {"pooler": lambda x: x * 7})
    with torch.no_grad(), intervene(model, changes), inner, capture(model, "pooler") as seen:
        model(**batch_of(packed=False))
    assert (seen["pooler"] == 35).all()


def test_the_end_of_an_inner_block_leaves_the_outer_one_at_work():
    model, batch = classifier(), batch_of(packed=False)
    with torch.no_grad(), capture(model, "layers.0.attention.probs", "pooler") as seen:
        with capture(model, "layers.0.attention.probs"):
            pass
        model(**batch)
    assert len(seen) == 2


def test_gradients_flow_through_a_change():
    model, batch = stir(BertForSequenceClassification(small_config())), batch_of(packed=False)
    with intervene(model, {"layers.0.attention.probs": lambda x: x * 2}):
        loss_of([model(**batch)]).backward()
    assert model.bert.layers[0].attention.query.weight.grad.abs().max() > 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.zeros(4, 3), r"pooler is to become something of shape \[4, 3\]; give a tensor of shape \[4, 15\]"),
        (lambda x: None, r"pooler is to become something a NoneType; give a tensor"),
        ("zero", "'pooler' is to become 'zero'; give a number, a tensor or a function"),
        (True, "'pooler' is to become True; give a number"),
    ],
)
def test_impossible_changes_are_named(change, message):
    with pytest.raises(ValueError, match=message), intervene(classifier(), {"pooler": change}):
        classifier()(**batch_of(packed=False))


# ---- nothing is left ----


def test_a_block_leaves_nothing_on_the_model():
    model = classifier()
    before = state_of(model)
    same = dict.fromkeys(capture(model).names(), lambda x: x)
    with torch.no_grad(), capture(model, "*") as seen, intervene(model, same):
        assert state_of(model) != before
        model(**batch_of(packed=True))
    assert state_of(model) == before
    assert len(seen) == len(seen.names())


def fail(x: torch.Tensor) -> torch.Tensor:
    raise ZeroDivisionError


@pytest.mark.parametrize("where", ["block", "forward", "change"])
def test_an_exception_leaves_nothing_on_the_model(where):
    def run() -> None:
        with capture(model, "*"), intervene(model, {"layers.1.attention.probs": fail if where == "change" else 0}):
            model(torch.full((1, 4), 101 if where == "forward" else 7))
            raise ZeroDivisionError

    model = classifier()
    before = state_of(model)
    with pytest.raises((ZeroDivisionError, ValueError)):
        run()
    assert state_of(model) == before


def test_a_block_touches_only_what_it_asks_for():
    model = classifier()
    before = state_of(model)
    for layer, parts in ((0, [".attention"]), (1, ["", ".attention"])):
        with capture(model, f"layers.{layer}.attention.probs"):
            touched = [old[0] for old, new in zip(before, state_of(model), strict=True) if old != new]
            assert touched == [f"bert.layers.{layer}{part}" for part in parts]
    with capture(model):
        assert state_of(model) == before


def test_a_compiled_model_is_looked_into_uncompiled_and_is_compiled_again_afterwards():
    """Compiling is only promised here: nothing is compiled before it is first called."""
    model = stir(BertModel(small_config()))
    compile_tokenwise(model)
    before = state_of(model)
    with torch.no_grad(), capture(model, "*") as seen:
        assert not any(module._compiled_call_impl for module in model.modules())
        model(**batch_of(packed=False))
    assert list(seen) == seen.names()
    assert state_of(model) == before


def test_layouts_of_a_packed_batch_make_the_rectangle_of_what_was_seen():
    model, batch = classifier(), batch_of(packed=True)
    with torch.no_grad(), capture(model, "embeddings.norm") as seen:
        model(**batch)
    assert isinstance(batch["batch"], Packed)
    assert pad(seen["embeddings.norm"], batch["batch"]).shape == (5, 13, 15)
