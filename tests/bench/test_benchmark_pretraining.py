"""Proves that the race of pretraining loops compares like with like.

Run: pytest tests/bench/test_benchmark_pretraining.py
"""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from conftest import small_config

from benchmarks import pretraining, race
from benchmarks.race import Plan
from benchmarks.tokenizer import Corpus
from minibert.text.vocab import learn_vocabulary

TEXTS = [f"The room {i} was clean. It was {'not ' * (i % 3)}kind! Would we stay {i % 7} nights?" for i in range(60)]
PLAN = Plan(
    torch.device("cpu"), "fp32", (1,), rounds=1, scale=1, compile=False, corpora=("reviews",), sizes=("minilm",)
)


@pytest.fixture
def examples(monkeypatch):
    corpus = Corpus("reviews", TEXTS, learn_vocabulary(TEXTS, 120))
    monkeypatch.setattr(pretraining, "corpora", lambda: {"reviews": corpus})
    sizes = {"vocab_size": len(corpus.vocab), "max_position_embeddings": 128, "type_vocab_size": 2}
    monkeypatch.setattr(pretraining, "config_of", lambda size, vocab_size: small_config(**sizes))
    monkeypatch.setitem(pretraining.BATCH[128], "cpu", 5)
    return pretraining.make_examples(PLAN, "reviews", "minilm", 128)


def test_both_loops_have_the_same_loss_and_gradient(examples):
    own, theirs = pretraining.twins(examples.config, PLAN.device)
    assert max(pretraining.differences(own, theirs, examples, PLAN)) < 1e-5


def test_on_a_gpu_minibert_runs_with_graphs_without_and_compiled(examples, monkeypatch):
    monkeypatch.setattr(pretraining, "obstacle", lambda *given: "there is none here")
    compiled = []
    monkeypatch.setattr(pretraining, "compile_tokenwise", compiled.append)
    own, theirs = pretraining.twins(examples.config, PLAN.device)
    on_gpu = dataclasses.replace(PLAN, device=SimpleNamespace(type="cuda"))
    names = [who.name for who in pretraining.contestants(own, theirs, examples, on_gpu)]
    assert names == ["minibert", "minibert, no graphs", "minibert, compiled", "transformers, sdpa"]
    assert len(compiled) == 1
    assert compiled[0] is not own


@pytest.mark.slow
def test_what_a_file_has_is_not_begun_again(examples, monkeypatch):
    monkeypatch.setattr(pretraining, "LENGTHS", (128,))
    monkeypatch.setitem(race.GEMM_SIZE, "cpu", 64)
    rows = list(pretraining.step_case(PLAN))
    assert [row.status for row in rows] == ["ok"]
    monkeypatch.setattr(pretraining, "make_examples", lambda *given: pytest.fail("begun again"))
    done = dataclasses.replace(PLAN, done=frozenset((row.case, row.corpus) for row in rows))
    assert list(pretraining.step_case(done)) == []


def test_full_examples_are_of_the_full_length(monkeypatch):
    corpus = Corpus("chnsenticorp", TEXTS, learn_vocabulary(TEXTS, 120))
    monkeypatch.setattr(pretraining, "corpora", lambda: {"chnsenticorp": corpus})
    monkeypatch.setattr(pretraining, "FULL_TEXTS", 30)
    monkeypatch.setitem(pretraining.BATCH[128], "cpu", 5)
    examples = pretraining.make_examples(PLAN, "full", "bert-tiny", 128)
    assert examples.tokens / len(examples.texts) > 0.8 * 128


def test_a_difference_is_seen(examples):
    own, theirs = pretraining.twins(examples.config, PLAN.device)
    with torch.no_grad():
        own.bert.layers[1].ffn.inner.weight.mul_(1.01)
    assert max(pretraining.differences(own, theirs, examples, PLAN)) > 1e-5


def test_padded_and_packed_batches_hold_the_same_examples(examples):
    assert len(examples.packed) == 3
    assert len(examples.texts) == 15
    for packed, padded in zip(examples.packed, examples.padded, strict=True):
        assert padded.input_ids[padded.attention_mask.bool()].tolist() == packed.input_ids.tolist()
        assert padded.labels.tolist() == packed.labels.tolist()
        assert examples.tokens > 100
