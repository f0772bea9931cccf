"""Proves pretraining: the arithmetic of a plain transformers loop, accumulation that equals one large batch, resumed
runs that end as uninterrupted ones, a model that learns and that transformers loads.
Run: pytest tests/training/test_pretrain.py
"""

import dataclasses
import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import assert_near

import minibert
import minibert.training.engine
import minibert.training.pretraining
from minibert import cli
from minibert.core.weights import export_weights
from minibert.io.signals import Interrupt
from minibert.text.tokenizer import Tokenizer
from minibert.training.engine import fit
from minibert.training.instances import batch
from minibert.training.pretraining import Pretraining, PretrainOptions, answers, prepare, pretrain
from minibert.training.ranks import Ranks
from minibert.training.state import locked, read_metrics

NOUNS = ["cat", "dog", "bird", "fish", "mouse", "horse"]
VERBS = ["sees", "hears", "likes", "fears"]


def write_corpus(path: Path, documents: int, seed: int = 0) -> str:
    """Sentences that can be learned: a document has one noun and one verb, which every sentence repeats."""
    dice = np.random.default_rng(seed)
    lines = []
    for _ in range(documents):
        noun, verb = dice.choice(NOUNS), dice.choice(VERBS)
        for _ in range(dice.integers(2, 6)):
            lines.append(f"the {noun} {verb} " + " and ".join(["a " + noun] * dice.integers(1, 4)) + ".")
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    return write_corpus(tmp_path_factory.mktemp("text") / "corpus.txt", 120)


def small(text: str, out: Path, **changes) -> PretrainOptions:
    """A run of some steps that takes a second at most."""
    sizes = dict(vocab_size=60, layers=1, width=64, max_length=40, steps=6, batch_size=16, log_every=2, device="cpu")
    return PretrainOptions(**{"corpus": (text,), "out": str(out), "threads": 1, **sizes, **changes})


def weights(run: Pretraining) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def fitted(options: PretrainOptions, start: dict[str, torch.Tensor] | None = None) -> tuple[Pretraining, list[dict]]:
    """The run after its last step, and what it has logged."""
    run = prepare(options.filled(), Path(options.out))
    if start is not None:
        run.model.load_state_dict(start)
    fit(run, Interrupt())
    return run, read_metrics(run.out)


# ---- the arithmetic ----


def their_losses(run: Pretraining, steps: int) -> list[float]:
    """A plain transformers loop on the same examples: padded, its own labels and losses, AdamW and schedule."""
    options = run.options
    run.model.save_pretrained(run.out)
    theirs = transformers.BertForPreTraining.from_pretrained(run.out).train()
    plain = ("bias", "LayerNorm.weight")
    groups = [
        {"params": [p for n, p in theirs.named_parameters() if not n.endswith(plain)], "weight_decay": 0.01},
        {"params": [p for n, p in theirs.named_parameters() if n.endswith(plain)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.lr)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, int(options.warmup * steps), steps)
    planned, order = run.epoch_batches(0)
    losses = []
    for rows in order[:steps]:
        part = batch(run.corpus, planned, rows, run.tables, padded=True)
        labels = torch.full(part.input_ids.shape, -100).flatten().scatter(0, part.positions, part.labels)
        loss = theirs(
            input_ids=part.input_ids,
            attention_mask=part.attention_mask,
            token_type_ids=part.token_type_ids,
            labels=labels.view_as(part.input_ids),
            next_sentence_label=part.is_random,
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), options.clip)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@pytest.mark.numeric
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_twenty_steps_equal_a_plain_transformers_loop(text, tmp_path, layout):
    options = small(text, tmp_path, steps=20, batch_size=5, dropout=0.0, log_every=1, layout=layout, layers=2, lr=3e-3)
    run = prepare(options, tmp_path)
    run.epoch_batches(0)
    theirs = their_losses(run, 20)
    fit(run, Interrupt())
    ours = [row["loss"] + row["nsp_loss"] for row in read_metrics(tmp_path) if "step" in row]
    apart = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    print(f"{layout}: losses within {max(apart):.1e}, from {ours[0]:.2f} to {ours[-1]:.2f}")
    assert ours[-1] < ours[0] - 0.5, "nothing was learned, so comparing proves nothing"
    assert max(apart) <= 1e-5


@pytest.mark.numeric
@pytest.mark.parametrize("nsp", ["on", "off"])
def test_accumulated_batches_equal_one_large_batch(text, tmp_path, nsp):
    """Each batch counts by its hidden tokens and its pairs; a mean of the batches' means would be off by 1e-3."""
    options = small(text, tmp_path / "large", steps=3, batch_size=12, dropout=0.0, nsp=nsp, log_every=1)
    run = prepare(options, tmp_path / "large")
    start = weights(run)
    _, large = fitted(options, start)
    _, parts = fitted(dataclasses.replace(options, out=str(tmp_path / "parts"), batch_size=4, accumulation=3), start)
    assert len(parts) == len(large) == 4, "three steps and one measurement"
    for whole, divided in zip(large, parts, strict=True):
        assert divided == pytest.approx(whole, abs=1e-5)
    assert large[2]["loss"] != pytest.approx(large[1]["loss"], abs=1e-3)


def test_a_batch_without_a_hidden_token_has_no_loss(text, tmp_path):
    run = prepare(small(text, tmp_path, nsp="off").filled(), tmp_path)
    planned, _ = run.epoch_batches(0)
    part = batch(run.corpus, planned, [0], run.tables)
    part = part._replace(positions=part.positions[:0], labels=part.labels[:0])
    losses, hits = minibert.training.pretraining.losses_and_hits(*answers(run.model, part), part)
    assert losses.tolist() == hits.tolist() == [0, 0]
    losses.sum().backward()


def test_a_rank_without_examples_of_a_batch_has_nothing_to_answer(text, tmp_path):
    run = prepare(small(text, tmp_path).filled(), tmp_path)
    planned, _ = run.epoch_batches(0)
    run.ranks = Ranks(rank=1, world=2)
    assert len(run.make(planned, [0, 1]).labels) > 0
    assert len(run.make(planned, [0]).labels) == 0


def test_the_masked_lm_alone_is_trained_without_pairs(text, tmp_path):
    scores, out = pretrain(small(text, tmp_path / "run", nsp="off", whole_word_mask=True, schedule="cosine"))
    assert "nsp_accuracy" not in scores
    assert transformers.AutoModelForMaskedLM.from_pretrained(out).config.vocab_size == len(
        Tokenizer.from_pretrained(out).vocab
    )


def test_without_pairs_there_is_no_head_that_nothing_trains(text, tmp_path):
    run = prepare(small(text, tmp_path, nsp="off").filled(), tmp_path)
    assert not [name for name in export_weights(run.model) if "seq_relationship" in name]


def test_a_run_without_anything_to_measure_comes_to_its_end(text, tmp_path):
    scores, out = pretrain(small(text, tmp_path / "run", held_out=0, steps=2, log_every=5))
    assert (scores, (out / "model.safetensors").exists()) == ({}, True)


# ---- a whole run ----


@pytest.fixture(scope="module")
def run_directory(text, tmp_path_factory) -> tuple[dict[str, float], Path, PretrainOptions]:
    """A run with everything on, to its end."""
    options = small(
        text,
        tmp_path_factory.mktemp("runs") / "run",
        steps=60,
        eval_every=20,
        lr=1e-2,
        tokens_per_batch=500,
        batch_size=64,
        accumulation=2,
    )
    scores, out = pretrain(options)
    return scores, out, options


@pytest.mark.slow
def test_a_model_learns_more_than_what_is_frequent(run_directory):
    scores, _, _ = run_directory
    assert scores["word_accuracy"] > 1.5 * scores["unigram_word_accuracy"] > 0.05
    assert scores["accuracy"] > 1.5 * scores["unigram_accuracy"]


@pytest.mark.numeric
def test_transformers_loads_the_model_with_equal_outputs(run_directory):
    _, out, _ = run_directory
    model = minibert.BertForPreTraining.from_pretrained(out)
    theirs = transformers.AutoModelForPreTraining.from_pretrained(out).eval()
    tokenizer = Tokenizer.from_pretrained(out)
    enc = tokenizer(["the cat [MASK] a cat."], pairs=["the dog"])
    ids, mask, segments = (torch.from_numpy(a) for a in (enc.input_ids, enc.attention_mask, enc.token_type_ids))
    with torch.no_grad():
        ours, their = model(ids, mask, segments), theirs(ids, mask, segments)
    assert_near(ours.prediction_logits, their.prediction_logits)
    assert_near(ours.seq_relationship_logits, their.seq_relationship_logits)
    assert transformers.AutoTokenizer.from_pretrained(out)("the cat").input_ids == tokenizer.encode("the cat")


def test_what_a_run_leaves_behind(run_directory):
    scores, out, options = run_directory
    names = {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "metrics.jsonl", "run.json"}
    assert {path.name for path in out.iterdir()} == names | {"report.html", "corpus"}
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["result"] == scores
    assert len(record["sources"][options.corpus[0]]) == 64
    assert f"--corpus {options.corpus[0]}" in record["command"]
    assert PretrainOptions(**record["options"]) == options
    measured = [row["measured"] for row in read_metrics(out) if "measured" in row]
    assert measured == [20, 40, 60]
    page = (out / "report.html").read_text(encoding="utf-8")
    for title in ("Held-out documents", "masked-LM loss", "next sentence", "without punctuation", "Run it again"):
        assert title in page
    assert all(name.startswith('<span lang="en">') for name in re.findall("<dt>(.*?)</dt>", page))  # ours: translated


@pytest.mark.slow
def test_the_same_options_give_the_same_bytes_whatever_else_draws_random_numbers(run_directory, tmp_path, monkeypatch):
    _, out, options = run_directory
    plain = minibert.training.engine.record
    monkeypatch.setattr(minibert.training.engine, "record", lambda *rest: (plain(*rest), torch.rand(1)))
    _, again = pretrain(dataclasses.replace(options, out=str(tmp_path / "again"), cache=str(out / "corpus")))
    for name in ("model.safetensors", "metrics.jsonl", "vocab.txt"):
        assert (out / name).read_bytes() == (again / name).read_bytes()


def stop_at(monkeypatch, step: int) -> None:
    """Ctrl-C comes while this step is being recorded."""
    plain = minibert.training.engine.record

    def recorded(task, *rest):
        plain(task, *rest)
        if task.progress.step == step:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(minibert.training.engine, "record", recorded)


@pytest.mark.slow
@pytest.mark.parametrize("step", [13, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 20, 59))])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(run_directory, tmp_path, monkeypatch, step):
    _, whole, options = run_directory
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            pretrain(dataclasses.replace(options, out=str(tmp_path / "cut"), cache=str(whole / "corpus")))
    _, out = pretrain(PretrainOptions(resume=str(tmp_path / "cut")))
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert not [path.name for path in out.iterdir() if path.name.startswith((".", "state"))]


@pytest.mark.slow
def test_measuring_more_often_changes_nothing(run_directory, tmp_path):
    """A measurement switches dropout off, and on again, and draws no random number."""
    scores, whole, options = run_directory
    changes = {"out": str(tmp_path / "run"), "cache": str(whole / "corpus"), "eval_every": 7}
    again, out = pretrain(dataclasses.replace(options, **changes))
    assert again == scores
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_run_continues_from_a_model_with_its_vocabulary(run_directory, tmp_path, text):
    _, trained, _ = run_directory
    options = PretrainOptions(
        corpus=(text,), model=str(trained), out=str(tmp_path / "more"), max_length=40, steps=2, lr=0.0, threads=1
    )
    scores, out = pretrain(options)
    assert (out / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert scores == run_directory[0]


def test_held_out_scores_are_those_of_transformers(run_directory, tmp_path):
    """Of always the same examples: loss, top-1 of tokens and of words, next sentence; computed by hand."""
    scores, out, options = run_directory
    run = prepare(dataclasses.replace(options, out=str(tmp_path / "x"), cache=str(out / "corpus")), tmp_path / "x")
    run.model.load_state_dict(minibert.BertForPreTraining.from_pretrained(out).state_dict())
    assert run.scores() == pytest.approx(scores, abs=1e-6)
    theirs = transformers.AutoModelForPreTraining.from_pretrained(out).eval()
    part = batch(run.corpus, run.examples, range(len(run.examples.lengths)), run.tables, padded=True)
    with torch.no_grad():
        answer = theirs(part.input_ids, part.attention_mask, part.token_type_ids)
    hits = answer.prediction_logits.flatten(0, 1)[part.positions].argmax(dim=1) == part.labels
    word = torch.tensor([run.tokenizer.vocab[i] not in (".", "[UNK]") for i in part.labels])
    assert scores["accuracy"] == pytest.approx(hits.float().mean().item())
    assert scores["word_accuracy"] == pytest.approx(hits[word].float().mean().item())
    nsp = (answer.seq_relationship_logits.argmax(dim=1) == part.is_random).float().mean().item()
    assert scores["nsp_accuracy"] == pytest.approx(nsp)
    ids = run.corpus.tokens.ids
    held = {i for a, b in run.corpus.tokens.offsets[run.held_out].tolist() for i in range(a, b)}
    counts = np.bincount([i for k, i in enumerate(ids.tolist()) if k not in held])
    assert scores["unigram_accuracy"] == pytest.approx((part.labels == int(counts.argmax())).float().mean().item())


def test_no_position_and_no_epoch_is_left_out(text, tmp_path):
    """Two epochs and a half, three batches a step: every batch of both epochs is dealt once, in order."""
    run = prepare(small(text, tmp_path, accumulation=3, batch_size=7), tmp_path)
    counts = [len(run.epoch_batches(epoch)[1]) for epoch in range(3)]
    run.steps = (counts[0] + counts[1] + counts[2] // 2) // 3
    seen = []
    for step in run.batches():
        seen += [len(part.is_random) for part in step.batches]
        run.progress.step += 1
    assert len(seen) == 3 * run.steps
    assert seen[: counts[0] + counts[1]] == [len(rows) for epoch in range(2) for rows in run.epoch_batches(epoch)[1]]


# ---- small corpora ----


@pytest.mark.parametrize(
    ("documents", "nsp"), [(["a b c.\nd e f."], "off"), (["a b c.\nd e f."] * 9, "on"), (["a b.", "c d.\ne."], "on")]
)
def test_documents_too_few_to_hold_some_out_are_all_trained_on_and_that_is_said(tmp_path, capsys, documents, nsp):
    (tmp_path / "few.txt").write_text("\n\n".join(documents), encoding="utf-8")
    options = small(str(tmp_path / "few.txt"), tmp_path / "run", nsp=nsp, steps=2, log_every=9)
    assert pretrain(options) == ({}, tmp_path / "run")
    said = capsys.readouterr().err
    assert "too few documents of different text to hold some out: nothing is measured" in said
    assert f"{len(documents)} documents, 0 held out" in said


# ---- mistakes ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 5, "epochs": 2}, "steps is 5 and epochs 2"),
        ({"batch_size": 8, "tokens_per_batch": 100}, "batch_size is 8 and tokens_per_batch 100"),
        ({"nsp": "maybe"}, "nsp 'maybe' is unknown; choose on, off"),
        ({"schedule": "flat"}, "schedule 'flat' is unknown; choose linear, cosine"),
        ({"held_out": 0.7}, "held_out is 0.7; it must lie between 0 and 0.5"),
        ({"width": 100}, "width is 100; it must be a multiple of 64"),
        ({"eval_every": 0}, "eval_every is 0; it must be at least 1"),
        ({"model": "x", "vocab": "y"}, "x brings its own vocabulary"),
    ],
)
def test_options_that_no_run_can_have_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PretrainOptions(**{"corpus": ("a.txt",), **changes})


def refused(capsys, *arguments: str) -> str:
    """The one line that a mistake costs."""
    assert cli.main(["pretrain", *arguments]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("minibert: ")
    return line


def test_mistakes_cost_one_line(text, tmp_path, capsys, run_directory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = tmp_path / "one.txt"
    one.write_text("a b c.\nd e f.\na b c.\nd e f.\n", encoding="utf-8")
    assert "name at least one, .txt or .jsonl" in refused(capsys)
    assert "needs two documents" in refused(capsys, "--corpus", str(one), "--vocab-size", "30")
    vocab = tmp_path / "vocab"
    vocab.mkdir()
    (vocab / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", encoding="utf-8")
    assert "lacks [MASK]" in refused(capsys, "--corpus", text, "--vocab", str(vocab))
    trained = str(run_directory[1])
    line = refused(capsys, "--corpus", text, "--model", trained, "--max-length", "41")
    assert "max_length is 41, more than the model's max_position_embeddings 40" in line
    assert "exists already" in refused(capsys, "--corpus", text, "--out", trained)
    assert "nothing to resume" in refused(capsys, "--resume", trained)


def test_a_corpus_that_changes_before_a_run_is_resumed_is_refused_by_its_name(tmp_path, monkeypatch):
    path = Path(write_corpus(tmp_path / "text.txt", 30))
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            pretrain(small(str(path), tmp_path / "run"))
    cache = tmp_path / "run" / "corpus"
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    with path.open("a", encoding="utf-8") as file:
        file.write("\nthe dog.\n")
    with pytest.raises(ValueError, match=r"text.txt: changed since the run began; put the old files back"):
        pretrain(PretrainOptions(resume=str(tmp_path / "run")))
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before, "the old corpus is tokenised away"


def test_a_loss_that_is_no_number_ends_the_run(text, tmp_path):
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) at step \d+ .*; try a smaller --lr than 1000"):
        pretrain(small(text, tmp_path / "run", lr=1000.0, warmup=0.0, clip=0.0, steps=200))


def test_a_directory_that_holds_only_the_tokenised_corpus_is_free(text, tmp_path):
    """It is left by a run that was refused after tokenising."""
    with pytest.raises(ValueError, match="max_length is 4;"):
        pretrain(small(text, tmp_path / "run", max_length=4))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["corpus"]
    assert pretrain(small(text, tmp_path / "run", steps=1))[1] == tmp_path / "run"


def test_other_options_than_those_that_may_change_are_refused_when_resuming(text, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            pretrain(small(text, tmp_path / "run"))
    run = str(tmp_path / "run")
    assert "leave --corpus, --steps out" in refused(
        capsys, "--resume", run, "--steps", "9", "--corpus", f"{text}.other"
    )
    with (tmp_path / "run" / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("horses\n")
    assert "its vocabulary has changed since the run began" in refused(capsys, "--resume", run)


def test_a_mistake_leaves_no_directory(tmp_path, capsys):
    assert "no such file" in refused(capsys, "--corpus", str(tmp_path / "no.txt"), "--out", str(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_tokenise_into_one_cache_at_once(text, tmp_path):
    options = small(text, tmp_path / "run", cache=str(tmp_path / "cache"), steps=1)
    with (
        locked(tmp_path / "cache", Ranks()),
        pytest.raises(ValueError, match="cache: another process is writing there"),
    ):
        pretrain(options)
    assert not (tmp_path / "run").exists()
    pretrain(options)
    with locked(tmp_path / "cache", Ranks()):  # it is only read from
        pretrain(dataclasses.replace(options, out=str(tmp_path / "again")))
