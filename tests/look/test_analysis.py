"""Proves what is said of the numbers inside: lens, rollout, contributions. Run: pytest tests/look/test_analysis.py"""

import pytest
import torch
from conftest import MODELS, padded_batch, small_config, stir

from minibert.fast.models import BertModel, BertOutput
from minibert.look.activations import capture, intervene
from minibert.look.analysis import (
    STREAM,
    gradient_times_input,
    head_contributions,
    logit_lens,
    rollout,
    token_contributions,
)

pytestmark = pytest.mark.numeric


def build(name: str = "BertForSequenceClassification") -> torch.nn.Module:
    return stir(MODELS[name](small_config(), "sdpa"))


def score(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, 3]


BATCH = padded_batch(rows=3, length=7)
REAL = BATCH["attention_mask"].bool()


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForPreTraining", "BertForSequenceClassification"])
def test_after_the_last_layer_the_lens_says_what_the_model_says(name):
    model = build(name)
    with torch.no_grad(), capture(model, *STREAM) as seen:
        answer = model(**BATCH)
    lens = logit_lens(model, seen)
    wanted = answer[0] if name == "BertForPreTraining" else answer
    assert len(lens) == 3
    torch.testing.assert_close(lens[-1], wanted, rtol=0, atol=1e-5)
    assert (lens[1] - wanted).abs().max() > 1e-2


def test_the_lens_of_a_layer_is_the_model_without_the_layers_after_it():
    model, short = build("BertForMaskedLM"), build("BertForMaskedLM")
    short.bert.layers = short.bert.layers[:1]
    with torch.no_grad(), capture(model, *STREAM) as seen:
        model(**BATCH)
        torch.testing.assert_close(logit_lens(model, seen)[1], short(**BATCH), rtol=0, atol=1e-5)


def test_a_model_without_a_head_has_no_lens():
    model = build("BertModel")
    with torch.no_grad(), capture(model, *STREAM) as seen:
        model(**BATCH)
    with pytest.raises(ValueError, match="BertModel has no head that could say something"):
        logit_lens(model, seen)


def test_rollout_by_hand():
    """One head: (0 1; 1 0), then (1 0; 1 0). Half of oneself: (½ ½; ½ ½), then (1 0; ½ ½); their product is (½ ½; ½ ½).
    A second head that looks only at itself takes half of the first's place: (¾ ¼; ¼ ¾)."""
    swap, first, eye = torch.tensor([[[0.0, 1], [1, 0]], [[1, 0], [1, 0]], [[1, 0], [0, 1]]])
    assert rollout(torch.stack([swap, first])[:, None, None])[:, 0].tolist() == [[[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2]
    assert rollout(torch.stack([swap, eye])[None, None])[0, 0].tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert rollout(torch.stack([first, first])[:, None, None])[1, 0].tolist() == [[1, 0], [0.75, 0.25]]


def test_rollout_gives_padding_nothing():
    model = build()
    with torch.no_grad(), capture(model, "layers.*.attention.probs") as seen:
        model(**BATCH)
    flow = rollout(torch.stack(list(seen.values())))
    torch.testing.assert_close(flow.sum(dim=-1), torch.ones(2, 3, 7))
    assert (flow[:, 1].transpose(1, 2)[:, ~REAL[1]][..., REAL[1]] == 0).all()


def test_a_heads_contribution_is_what_is_lost_without_it():
    model = build()
    found = head_contributions(model, BATCH, score)
    assert found.shape == (2, 3, 3)
    for i in range(2):
        for h in range(3):
            with torch.no_grad():
                whole = score(model(**BATCH))
                with intervene(model, {f"layers.{i}.heads.{h}": 0}):
                    lost = whole - score(model(**BATCH))
            torch.testing.assert_close(found[i, h], lost, rtol=0, atol=1e-5)
            assert lost.abs().max() > 1e-3


def test_a_tokens_contribution_is_what_is_lost_when_another_stands_there(monkeypatch):
    monkeypatch.setattr("minibert.look.analysis.VARIANTS", 5)  # so that several batches are needed
    model = build()
    found = token_contributions(model, BATCH, score, instead=100)
    assert (found[~REAL] == 0).all()
    with torch.no_grad():
        for row, column in ((0, 0), (0, 6), (1, 2)):
            ids = BATCH["input_ids"].clone()
            ids[row, column] = 100
            lost = score(model(**BATCH))[row] - score(model(**{**BATCH, "input_ids": ids}))[row]
            torch.testing.assert_close(found[row, column], lost, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        token_contributions(model, {"input_ids": BATCH["input_ids"][:1]}, score, 100),
        token_contributions(model, {"input_ids": BATCH["input_ids"][:1], "attention_mask": REAL[:1]}, score, 100),
    )


def test_gradient_times_input_is_the_slope_when_a_token_fades_and_leaves_the_parameters_alone():
    model = build().double()
    found = gradient_times_input(model, BATCH, score)
    assert all(p.grad is None for p in model.parameters())

    def faded(column: int, by: float) -> torch.Tensor:
        factor = torch.ones(7, dtype=torch.float64)
        factor[column] -= by
        with torch.no_grad(), intervene(model, {"embeddings.token": lambda x: x * factor[:, None]}):
            return score(model(**BATCH))

    for column in range(7):
        slope = (faded(column, -1e-6) - faded(column, 1e-6)) / 2e-6
        torch.testing.assert_close(found[:, column], slope, rtol=1e-5, atol=1e-8)


def test_in_real_weights_the_noun_makes_the_sentence(minilm):
    """The score: how near the text's vector is to what it was."""
    model, ids = BertModel.from_pretrained(minilm), torch.tensor([[101, 1996, 4937, 2938, 102]])  # the cat sat
    with torch.no_grad():
        goal = model(ids).last_hidden_state.mean(dim=1)

    def near(answer: BertOutput) -> torch.Tensor:
        return torch.cosine_similarity(answer.last_hidden_state.mean(dim=1), goal)

    assert token_contributions(model, {"input_ids": ids}, near, instead=103)[0].argmax() == 2
    assert (head_contributions(model, {"input_ids": ids}, near) > 0).all()
