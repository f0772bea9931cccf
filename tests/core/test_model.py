"""Proves that the model equals transformers and the float64 reference, forward and backward, padded and packed.

Stirred weights, batches of pairs, prime sizes (see conftest.py). Run: pytest tests/core/test_model.py
"""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from conftest import MODELS, assert_near, outputs, padded_batch, real_tokens, small_config, stir, twins, usable_backends
from test_reference import FINAL, run_reference

from minibert.core import model as core_model
from minibert.core.attention import Padded
from minibert.core.checkpoint import BACK, translate
from minibert.core.weights import export_weights
from minibert.fast.layout import Packed, pad
from minibert.fast.models import BertForMaskedLM, BertForSequenceClassification, BertModel
from minibert.fast.twins import compile_tokenwise, prepare
from minibert.look.parity import BACKENDS

pytestmark = pytest.mark.numeric

LENGTHS = [1, 2, 3, 17, 128, 257, 512]
MIXES = {
    "alone": [9],
    "equal": [7, 7, 7],
    "unequal": [5, 1, 13, 5, 2],
    "sorted": [1, 2, 5, 5, 13],
    "long": [3, 300, 41],
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_head_and_backend_equals_transformers(name, backend, length):
    ours, theirs = twins(name, backend)
    batch = padded_batch(rows=3, length=length, seed=length)
    with torch.no_grad():
        assert_near(*(outputs(model(**batch), batch["attention_mask"]) for model in (ours, theirs)), limit=3e-6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", [1, 7, 61])
def test_every_head_and_backend_equals_the_reference(name, backend, length):
    ours, _ = twins(name, backend)
    batch = padded_batch(rows=3, length=length, seed=length)
    with torch.no_grad():
        found = outputs(ours(**batch), batch["attention_mask"])
    assert_near(found, reference_outputs(name, ours, batch), limit=3e-6)  # 1e-5 would not see LayerNorm's eps


def reference_outputs(name: str, ours: torch.nn.Module, batch: dict) -> list[torch.Tensor]:
    """What the float64 reference says of real tokens, as `outputs` of the model `name`."""
    stages = run_reference(ours, batch)
    return [real_tokens(stages[stage], batch["attention_mask"]) for stage in FINAL[name]]


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "relu"])
def test_other_activations_equal_transformers(activation):
    ours, theirs = twins("BertForMaskedLM", hidden_act=activation)
    batch = padded_batch(rows=3, length=13)
    with torch.no_grad():
        assert_near(*(outputs(model(**batch), batch["attention_mask"]) for model in (ours, theirs)), limit=3e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["BertForSequenceClassification", "BertForPreTraining"])
def test_every_gradient_equals_transformers(name, backend):
    """Relative to the largest number of each gradient: a sum over a batch has that many digits."""
    ours, theirs = twins(name, backend)
    batch = padded_batch(rows=5, length=13)
    batch["input_ids"][0, 3] = 0  # a real [PAD], whose embedding gets no gradient
    for model in (ours, theirs):
        loss_of(outputs(model(**batch), batch["attention_mask"])).backward()
    compare_gradients(ours, theirs)


def loss_of(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Something that depends on every number of the tensors."""
    flat = [tensor.flatten(0, -2) for tensor in tensors]
    return sum(F.cross_entropy(tensor, torch.arange(len(tensor)) % tensor.shape[-1]) for tensor in flat)


def compare_gradients(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    """Every one, and there must be something to compare."""
    prefix = "" if hasattr(ours, "bert") else "bert."  # a bare encoder has none, on either side
    wanted = {prefix + name: p.grad for name, p in theirs.named_parameters()}
    for name, p in ours.named_parameters(prefix=prefix.removesuffix(".")):
        theirs_grad = wanted[translate(name, BACK)]
        size = theirs_grad.abs().max()
        if name.endswith("key.bias"):  # exactly 0 in exact arithmetic: it moves all scores of a query alike
            size = wanted[translate(name.replace("key", "query"), BACK)].abs().max()
        assert size > 1e-5, f"{name} has no gradient to compare"
        difference = (p.grad - theirs_grad).abs().max() / size
        assert difference <= 1e-5, f"{name}: {difference:.1e}"


@pytest.mark.parametrize("backend", usable_backends(head_size=5, needs_grad=False))
def test_every_backend_that_runs_here_gives_real_tokens_the_same(backend):
    batch = padded_batch(rows=4, length=61)
    with torch.no_grad():
        found, wanted = (stir(BertModel(small_config(), name))(**batch) for name in (backend, "eager"))
    assert_near(outputs(found, batch["attention_mask"]), outputs(wanted, batch["attention_mask"]))


def test_a_backend_that_cannot_run_says_so_when_it_is_called(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    model = BertModel(small_config(), "triton")
    with pytest.raises(ValueError, match=r"'triton' cannot run here: .*; the nearest that can is 'sdpa'"):
        model(padded_batch(rows=2, length=6)["input_ids"])


def test_an_unknown_backend_is_refused_by_the_constructor():
    with pytest.raises(ValueError, match="'flash9' is unknown; choose auto, eager, sdpa"):
        BertModel(small_config(), "flash9")


def test_real_weights_equal_transformers_and_the_reference(minilm):
    ours = BertModel.from_pretrained(minilm)
    theirs = transformers.BertModel.from_pretrained(minilm).eval()
    batch = padded_batch(rows=3, length=53, vocab_size=30522)
    with torch.no_grad():
        found, other = (outputs(model(**batch), batch["attention_mask"]) for model in (ours, theirs))
    assert_near(found, other)
    assert_near(found, reference_outputs("BertModel", ours, batch), theirs=other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_does_not_change_a_row(backend):
    model = stir(BertModel(small_config(), backend))
    batch = padded_batch(rows=1, length=9)
    longer = {name: F.pad(tensor, (0, 8)) for name, tensor in batch.items()}
    with torch.no_grad():
        short, long = model(**batch).last_hidden_state, model(**longer).last_hidden_state
    assert_near(long[:, :9], short, limit=1e-6)


def test_other_rows_do_not_change_a_row():
    model = stir(BertModel(small_config()))
    batch = padded_batch(rows=4, length=9)
    with torch.no_grad():
        together = model(**batch).pooler_output
        alone = torch.cat([model(*(t[i : i + 1] for t in batch.values())).pooler_output for i in range(4)])
    assert_near(together, alone, limit=2e-6)


def test_mask_and_segments_may_be_left_out():
    model = stir(BertModel(small_config()))
    ids = padded_batch(rows=2, length=6)["input_ids"]
    with torch.no_grad():
        full = model(ids, torch.ones_like(ids), torch.zeros_like(ids)).last_hidden_state
        assert torch.equal(model(ids).last_hidden_state, full)


def test_the_order_of_the_arguments_is_ids_mask_segments():
    model = stir(BertForSequenceClassification(small_config()))
    batch = padded_batch(rows=3, length=8)
    with torch.no_grad():
        wanted = model(**batch)
        assert torch.equal(model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]), wanted)


def test_masks_may_have_holes_and_any_number_type():
    model = stir(BertModel(small_config()))
    ids = padded_batch(rows=2, length=6)["input_ids"]
    mask = torch.tensor([[1, 0, 1, 1, 0, 1], [1, 1, 0, 0, 0, 0]])
    with torch.no_grad():
        wanted = model(ids, mask).last_hidden_state
        for kind in (torch.bool, torch.float32, torch.int8):
            assert torch.equal(model(ids, mask.to(kind)).last_hidden_state, wanted)


def test_dropout_is_on_in_training_and_off_in_eval():
    model = stir(BertForSequenceClassification(small_config()))
    batch = padded_batch(rows=3, length=8)
    with torch.no_grad():
        assert torch.equal(model(**batch), model(**batch))
        model.train()
        assert not torch.equal(model(**batch), model(**batch))


@pytest.mark.parametrize("part", ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"])
def test_each_dropout_of_the_config_is_used(part):
    off = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0)
    model = stir(BertForSequenceClassification(small_config(**{**off, part: 0.5}))).train()
    batch = padded_batch(rows=3, length=8)
    with torch.no_grad():
        assert not torch.equal(model(**batch), model(**batch))


def test_dropout_draws_the_same_numbers_as_transformers():
    """Same seed, same masks: dropout stands at the same places, in the same order."""
    ours, theirs = twins("BertForSequenceClassification", "eager")
    theirs.set_attn_implementation("eager")
    batch = padded_batch(rows=3, length=8)
    with torch.no_grad():
        torch.manual_seed(0)
        mine = ours.train()(**batch)
        torch.manual_seed(0)
        torch.testing.assert_close(mine, theirs.train()(**batch).logits, rtol=0, atol=1e-5)


def test_fresh_weights_draw_the_same_numbers_as_transformers():
    """Same seed, same weights: so whole runs of both can be compared (benchmarks/accuracy.py)."""
    config = small_config()
    torch.manual_seed(3)
    ours = export_weights(BertForSequenceClassification(config))
    torch.manual_seed(3)
    theirs = transformers.BertForSequenceClassification(transformers.BertConfig(**config.to_dict())).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_fresh_weights_follow_the_table():
    config = small_config(vocab_size=1009, hidden_size=120, num_attention_heads=4, pad_token_id=3)
    model = BertForMaskedLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            assert (parameter == 1).all(), name
        elif parameter.dim() == 1:
            assert (parameter == 0).all(), name
        elif parameter.numel() > 2000:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name
            assert abs(parameter.mean().item()) < 2e-3, name
    assert (model.bert.embeddings.token.weight[3] == 0).all()


def test_the_masked_lm_decoder_is_the_token_embedding():
    model = stir(BertForMaskedLM(small_config()))
    batch = padded_batch(rows=1, length=4)
    with torch.no_grad():
        before = model(**batch)[..., 100]
        model.bert.embeddings.token.weight[100] += 1  # an id that the batch must not contain
        assert 100 not in batch["input_ids"]
        assert not torch.allclose(model(**batch)[..., 100], before)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((torch.zeros(1, 522, dtype=torch.long),), "522 tokens long, more than max_position_embeddings 521; truncate"),
        ((torch.tensor([[5, 101]]),), "input_ids holds 101, outside 0 … 100 .vocab_size 101.; do tokenizer and model"),
        ((torch.tensor([[-1, 5]]),), "input_ids holds -1, outside 0 … 100"),
        ((torch.tensor([[5, 6]]), None, torch.tensor([[0, 2]])), "token_type_ids holds 2, outside 0 … 1"),
        ((torch.tensor([[5, 6]]), torch.tensor([[1]])), r"attention_mask has shape \[1, 1\], input_ids \[1, 2\]"),
        ((torch.tensor([5, 6]),), r"input_ids has shape \[2\]; give \[batch, sequence\]"),
        ((torch.zeros(2, 0, dtype=torch.long),), r"input_ids has shape \[2, 0\]; give \[batch, sequence\], at least a"),
        (([[5, 6]],), "input_ids is a list; give a tensor of int64"),
        ((np.array([[5, 6]]),), "input_ids is a ndarray; give a tensor of int64"),
        ((torch.tensor([[5.0, 6.0]]),), "input_ids is a tensor of torch.float32; give a tensor of int64"),
        (
            (torch.tensor([[5, 6]]), None, torch.tensor([[0, 1]], dtype=torch.int16)),
            "token_type_ids is a tensor of torch.int",
        ),
        ((torch.tensor([[5, 6]]), [[1, 1]]), "attention_mask is a list; give a tensor of int64"),
        (
            (torch.tensor([[5, 6]]), torch.tensor([[0.0, -10000.0]])),
            "attention_mask holds -10000; 1 stands for a real token",
        ),
        (
            (torch.tensor([[5, 6]]), torch.tensor([[1.0, torch.nan]])),
            "attention_mask holds nan; 1 stands for a real token",
        ),
        ((torch.tensor([[5, 6], [5, 6]]), torch.tensor([[1, 1], [0, 1]])), "row 1 of the attention_mask begins with 0"),
        ((torch.tensor([[5, 6]]), torch.tensor([[0, 0]])), "row 0 of the attention_mask begins with 0"),
    ],
)
def test_impossible_inputs_are_named_before_any_index_error(inputs, message):
    with pytest.raises(ValueError, match=message):
        BertModel(small_config())(*inputs)


def test_a_batch_without_rows_has_answers_without_rows():
    ids = torch.zeros(0, 5, dtype=torch.long)
    hidden, pooled = BertModel(small_config())(ids, torch.ones_like(ids), torch.zeros_like(ids))
    assert (list(hidden.shape), list(pooled.shape)) == (
        [0, 5, small_config().hidden_size],
        [0, small_config().hidden_size],
    )


def test_padding_without_a_mask_is_said_once(caplog):
    core_model.warn_of_padding.cache_clear()
    bert = BertModel(small_config())
    for _ in range(2):
        bert(torch.tensor([[5, small_config().pad_token_id]]))
    assert [record.getMessage() for record in caplog.records] == [
        "input_ids hold [PAD], but no attention_mask says so; give the attention_mask of the tokenizer"
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_a_layout_used_in_inference_mode_first_is_of_use_in_training(packed):
    bert = BertModel(small_config())
    batch = packed_batch([5, 2, 5]) if packed else padded_batch(rows=3, length=7)
    if not packed:
        batch["batch"] = Padded.from_mask(batch.pop("attention_mask"))
    with torch.inference_mode():
        bert(**batch)
    bert(**batch).pooler_output.sum().backward()
    assert all(parameter.grad is not None for parameter in bert.layers.parameters())


def test_a_single_real_token_sees_only_itself(minilm):
    model = BertModel.from_pretrained(minilm)
    ids = torch.tensor([[101, 0, 0]])
    with torch.no_grad():
        padded = model(ids, torch.tensor([[1, 0, 0]])).last_hidden_state[:, 0]
        alone = model(ids[:, :1]).last_hidden_state[:, 0]
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-5)


# ---- packed ----


def packed_batch(lengths: list[int], seed: int = 0) -> dict:
    """Random ids in pairs, without padding."""
    generator = torch.Generator().manual_seed(seed)
    layout = Packed.from_lengths(lengths)
    return {
        "input_ids": torch.randint(101, (sum(lengths),), generator=generator),
        "token_type_ids": torch.cat([(torch.arange(n) >= -(-n // 3)).long() for n in lengths]),
        "batch": layout,
    }


def first_only(batch: dict) -> dict:
    """The same batch, of which only the vectors of [CLS] are wanted."""
    return {**batch, "batch": dataclasses.replace(batch["batch"], first_only=True)}


def rectangle(batch: dict) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The same batch padded, and which of its places are real: bool [B, S]."""
    layout = batch["batch"]
    ids, segments = (pad(batch[name], layout) for name in ("input_ids", "token_type_ids"))
    real = torch.arange(layout.width) < torch.tensor(layout.lengths)[:, None]
    return {"input_ids": ids, "attention_mask": real.long(), "token_type_ids": segments}, real


def their_outputs(theirs: torch.nn.Module, batch: dict) -> list[torch.Tensor]:
    """What transformers makes of the padded batch, without the padding."""
    padded, real = rectangle(batch)
    return outputs(theirs(**padded), real)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mix", MIXES)
def test_a_packed_batch_equals_transformers_and_our_padded_one(name, backend, mix):
    ours, theirs = twins(name, backend)
    batch = packed_batch(MIXES[mix])
    with torch.no_grad():
        for model in (ours, prepare(ours)):
            found = outputs(model(**batch))
            assert_near(found, their_outputs(theirs, batch), limit=3e-6)
            assert_near(found, their_outputs(model, batch), limit=3e-6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mix", ["equal", "unequal", "sorted"])
def test_every_gradient_of_a_packed_batch_equals_transformers(name, backend, mix):
    """Of a classifier too, whose last layer computes [CLS] alone: nothing else has a gradient there."""
    ours, theirs = twins(name, backend)
    batch = packed_batch(MIXES[mix])
    loss_of(their_outputs(theirs, batch)).backward()
    for model in (ours, prepare(ours)):
        model.zero_grad()
        loss_of(outputs(model(**batch))).backward()
        compare_gradients(model, theirs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mix", MIXES)
def test_the_first_tokens_alone_are_those_of_the_whole_batch(backend, mix):
    plain = stir(BertModel(small_config(), backend))
    batch = packed_batch(MIXES[mix])
    for model in (plain, prepare(plain)):
        with torch.no_grad():
            first, whole = model(**first_only(batch)), model(**batch)
        rows = whole.last_hidden_state[batch["batch"].firsts]
        assert_near(outputs(first), [rows, whole.pooler_output], limit=2e-6)


def test_a_classifier_computes_no_query_but_those_of_cls_in_its_last_layer(monkeypatch):
    model = stir(BertForSequenceClassification(small_config()))
    sizes = []
    for layer in model.bert.layers:
        layer.ffn.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    for each in (model, prepare(model)):
        each(**first_only(packed_batch([5, 1, 13])))
    assert sizes == [19, 3, 19, 3]


@pytest.mark.parametrize("wanted", [first_only, dict], ids=["of [CLS] alone", "of all tokens"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_may_come_in_any_order(backend, wanted):
    model = prepare(stir(BertForSequenceClassification(small_config(), backend)))
    lengths, order = MIXES["unequal"], [3, 0, 4, 2, 1]
    batch = packed_batch(lengths)
    parts = {name: batch[name].split(lengths) for name in ("input_ids", "token_type_ids")}
    moved = {name: torch.cat([rows[i] for i in order]) for name, rows in parts.items()}
    with torch.no_grad():
        found = model(**wanted({**moved, "batch": Packed.from_lengths([lengths[i] for i in order])}))
        torch.testing.assert_close(found, model(**wanted(batch))[order], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForPreTraining"])
@pytest.mark.parametrize("packed", [True, False])
def test_scores_may_be_asked_for_at_some_positions_alone(name, packed):
    """The same numbers and the same gradients as when the others are computed and thrown away."""
    batch, positions = packed_batch(MIXES["unequal"]), torch.tensor([0, 24, 3, 3])
    inputs = batch if packed else rectangle(batch)[0]
    gradients = []
    for asked in (True, False):
        model = stir(MODELS[name](small_config()))
        scores, *others = outputs(model(**inputs, positions=positions) if asked else model(**inputs))
        scores = scores if asked else scores.reshape(-1, 101)[positions]
        assert scores.shape == (4, 101)
        loss_of([scores, *others]).backward()
        gradients.append([scores, *(p.grad for p in model.parameters())])
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_no_positions_at_all_give_no_scores():
    model = stir(BertForMaskedLM(small_config()))
    none = torch.zeros(0, dtype=torch.long)
    assert model(**packed_batch([5, 2]), positions=none).shape == (0, 101)


def test_segments_of_a_packed_batch_may_be_left_out():
    model = stir(BertModel(small_config()))
    batch = packed_batch([5, 2])
    batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    with torch.no_grad():
        wanted = model(**batch).last_hidden_state
        assert torch.equal(model(batch["input_ids"], batch=batch["batch"]).last_hidden_state, wanted)


def test_real_weights_packed_equal_transformers(minilm):
    ours = BertModel.from_pretrained(minilm)
    theirs = transformers.BertModel.from_pretrained(minilm).eval()
    batch = packed_batch([5, 53, 1, 17])
    with torch.no_grad():
        for model in (ours, prepare(ours)):
            assert_near(outputs(model(**batch)), their_outputs(theirs, batch))


@pytest.mark.parametrize("part", ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"])
@pytest.mark.parametrize("prepared", [False, True])
def test_each_dropout_of_the_config_is_used_in_packed_training_by_its_seed_and_in_training_alone(part, prepared):
    off = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0)
    model = stir(BertForSequenceClassification(small_config(**{**off, part: 0.5})))
    model = prepare(model) if prepared else model
    batch = packed_batch([8, 5, 3])
    with torch.no_grad():
        assert torch.equal(model(**batch), model(**batch))
        model.train()
        torch.manual_seed(0)
        first, second = model(**batch), model(**batch)
        assert not torch.equal(first, second)
        torch.manual_seed(0)
        assert torch.equal(first, model(**batch))


@pytest.mark.slow
def test_dropout_stands_where_transformers_has_it_and_keeps_the_mean():
    """The draws of packed rows are other ones, so their mean and their spread over many are compared, with dropout in
    one place at a time."""
    for part in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        off = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0)
        model = stir(BertModel(small_config(**{**off, part: 0.2}))).train()
        batch = packed_batch([3, 4])
        torch.manual_seed(0)
        with torch.no_grad():
            packed = torch.stack([prepare(model)(**batch).pooler_output for _ in range(600)])
            padded = torch.stack([model(**rectangle(batch)[0]).pooler_output for _ in range(600)])
        error = (packed.var(dim=0) + padded.var(dim=0)).sqrt() / 600**0.5
        assert ((packed.mean(dim=0) - padded.mean(dim=0)).abs() <= 4.5 * error).all(), part
        torch.testing.assert_close(packed.std(dim=0).mean(), padded.std(dim=0).mean(), rtol=0.1, atol=0, msg=part)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_mask": torch.ones(7, dtype=torch.long)}, "leave attention_mask out: batch says what is real"),
        (
            {"input_ids": torch.zeros(8, dtype=torch.long), "token_type_ids": None},
            r"input_ids has shape \[8\] and the layout 7 tokens; give",
        ),
        (
            {"input_ids": torch.zeros(1, 7, dtype=torch.long), "token_type_ids": None},
            r"shape \[1, 7\] and the layout 7 tokens; give \[7\]",
        ),
        ({"token_type_ids": torch.zeros(6, dtype=torch.long)}, r"token_type_ids has shape \[6\], input_ids \[7\]"),
        ({"input_ids": torch.full((7,), 101)}, "input_ids holds 101, outside 0 … 100"),
        ({"batch": Packed.from_lengths([5, 0, 2])}, r"row 1 has no tokens, so no \[CLS\]; leave it out"),
    ],
)
def test_impossible_packed_inputs_are_named(changes, message):
    model = BertModel(small_config())
    with pytest.raises(ValueError, match=message):
        model(**{**packed_batch([5, 2]), **changes})
    with pytest.raises(ValueError, match=message):
        model(**first_only({**packed_batch([5, 2]), **changes}))


def test_a_packed_row_that_is_too_long_is_named():
    with pytest.raises(ValueError, match="522 tokens long, more than max_position_embeddings 521; truncate"):
        BertModel(small_config())(**packed_batch([3, 522]))


# ---- compiled ----


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the compiler warns of its own code, and hides that where it is no error
def test_a_compiled_model_is_the_same_and_is_compiled_once_for_all_lengths():
    """fullgraph in `compile_tokenwise` refuses graph breaks; the stance refuses to compile again."""
    config = small_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    plain, compiled = (prepare(stir(BertForSequenceClassification(config))).train() for _ in range(2))
    compile_tokenwise(compiled)
    loss_of([compiled(**packed_batch([5, 2]))]).backward()
    with torch.compiler.set_stance("fail_on_recompile"):
        for lengths in ([3, 9, 3], [40, 2], [7, 7, 7, 7]):
            for model in (plain, compiled):
                model.zero_grad()
                loss_of([model(**packed_batch(lengths))]).backward()
            for (name, p), q in zip(plain.named_parameters(), compiled.parameters(), strict=True):
                torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-5, msg=name)
