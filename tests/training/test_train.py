"""Proves that the loop does what it says: the arithmetic of a plain loop, the same run twice, resumed runs that end as
uninterrupted ones, the best epoch kept, nothing half-written. Run: pytest tests/training/test_train.py
"""

import dataclasses
import errno
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import processes
import pytest
import torch
import transformers
from conftest import assert_near, small_config, stir
from test_report import view

import minibert.core.weights
import minibert.fast.batches
import minibert.io.examples
import minibert.training.engine
import minibert.training.fine_tuning
import minibert.training.state
from minibert import cli
from minibert.core.config import BertConfig
from minibert.core.data import chunks, label_ids, shuffled
from minibert.fast import products
from minibert.fast.batches import collate, encode_examples, shuffled_by_tokens
from minibert.fast.models import BertForPreTraining, BertForSequenceClassification, BertModel
from minibert.inference.scores import Scores, score
from minibert.inference.text_models import TextClassifier
from minibert.io.examples import hold_out, read_examples
from minibert.text.tokenizer import Tokenizer
from minibert.training.engine import cpu_threads, settled
from minibert.training.fine_tuning import FineTuning, TrainOptions, train
from minibert.training.mistakes import worst_mistakes
from minibert.training.options import REVIEWS

GOOD, BAD = ["good", "great", "干净", "喜欢", "好"], ["bad", "awful", "肮脏", "讨厌", "差"]
FILLERS = ["the", "room", "was", "very", "film", "book", "房间", "酒店", "电影", "，", "again"]
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"干净喜欢好肮脏讨厌差房间酒店电影，"]
VOCAB += [word for word in GOOD + BAD + FILLERS if word.isascii()]
NO_DROPOUT = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"), 0.0)
BY_TOKENS = {"tokens_per_batch": 60, "batch_size": None}  # `small` asks for 8
MODEL, METRICS, REPORT = "model.safetensors", "metrics.jsonl", "report.html"


def write_rows(path: Path, rows: int, seed: int = 0, pairs: bool = False) -> Path:
    """A data file whose labels can be learned: half the rows hold a good word, half a bad one, among others."""
    dice = random.Random(seed)
    lines = ["label\ttext" + "\ttext_b" * pairs]
    for row in range(rows):
        words = [*dice.choices(FILLERS, k=dice.randint(1, 9)), dice.choice((BAD, GOOD)[row % 2])]
        dice.shuffle(words)
        second = "\t" + " ".join(dice.choices(FILLERS, k=dice.randint(0, 9))) if pairs else ""
        lines.append(f"{('neg', 'pos')[row % 2]}\t{' '.join(words)}{second}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Small files for the options data, dev and test."""
    folder = tmp_path_factory.mktemp("data")
    sizes = {"data": 40, "dev": 12, "test": 14}
    return {name: str(write_rows(folder / f"{name}.tsv", n, seed)) for seed, (name, n) in enumerate(sizes.items())}


def small(files: dict[str, str], out: Path, **changes) -> TrainOptions:
    """A run of five batches an epoch that takes a second at most."""
    sizes = dict(epochs=1, batch_size=8, max_length=16, device="cpu", log_every=2)
    sizes |= {"lr": 5e-5, "token_dropout": 0.0} if "model" in changes else {"vocab_size": 200}
    return TrainOptions(**{**files, "out": str(out), **sizes, **changes})


@pytest.fixture(scope="module")
def done(files, tmp_path_factory) -> tuple[Scores, Path]:
    """A finished run of two epochs, for tests that only look."""
    return train(small(files, tmp_path_factory.mktemp("runs") / "done", epochs=2, log_every=1))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """A stirred bare encoder of 64 positions, as if pretrained."""
    folder = tmp_path_factory.mktemp("encoder")
    stir(BertModel(small_config(vocab_size=len(VOCAB), max_position_embeddings=64))).save_pretrained(folder)
    Tokenizer(VOCAB).save_pretrained(folder)
    return folder


def rows_of(out: Path, key: str) -> list[dict]:
    """The lines of metrics.jsonl that are about a step or an epoch."""
    return [row for row in map(json.loads, (out / METRICS).read_text().splitlines()) if key in row]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return BertForSequenceClassification.from_pretrained(out).state_dict()


def same_files(first: Path, second: Path) -> bool:
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in (MODEL, METRICS))


def words(options: TrainOptions) -> list[str]:
    """The command line of some options."""
    return shlex.split(options.command())[1:]


def refusal(capsys, options: TrainOptions) -> str:
    """What a run says last that ends with exit status 2 and without a result."""
    capsys.readouterr()
    assert cli.main(words(options)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert last.startswith("minibert: ")
    return last


def disk_full(path: Path, data: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


# ---- the arithmetic ----


@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("batches", [{}, {"accumulation": 2}, {"accumulation": 2, **BY_TOKENS}], ids=str)
def test_a_run_equals_a_plain_loop_over_transformers(files, tmp_path, batches, layout):
    """Order, schedule, decay, clipping and zero_grad, with a decay that shows, and without dropout.

    40 rows are 5 batches of 8; two to a step make 3 steps, the last of them of 8 rows only. Cut by tokens, the two
    batches of a step differ in their rows, and every row has to weigh the same. Not compared: the keys' biases, whose
    gradient is 0 (softmax does not see what all scores share), so AdamW blows its rounding errors up.
    """
    start = tmp_path / "start"
    sizes = dict(vocab_size=len(VOCAB), max_position_embeddings=16, id2label={0: "neg", 1: "pos"})
    stir(BertForSequenceClassification(small_config(**sizes, **NO_DROPOUT))).save_pretrained(start)
    Tokenizer(VOCAB).save_pretrained(start)
    recipe = dict(lr=1e-3, warmup=0.4, weight_decay=5.0, clip=0.5, dropout=0.0)
    out = train(small(files, tmp_path / "run", model=str(start), layout=layout, seed=3, **batches, **recipe))[1]

    model = transformers.AutoModelForSequenceClassification.from_pretrained(start).train()
    plain = [p for name, p in model.named_parameters() if name.endswith(("bias", "LayerNorm.weight"))]
    decayed = [p for name, p in model.named_parameters() if not name.endswith(("bias", "LayerNorm.weight"))]
    groups = [{"params": decayed, "weight_decay": 5.0}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    rows = read_examples(files["data"])
    encoding, labels = encode_examples(Tokenizer(VOCAB), rows, 16), label_ids(rows, ["neg", "pos"])
    accumulation = batches.get("accumulation", 1)
    if "tokens_per_batch" in batches:
        parts = shuffled_by_tokens(encoding.length, 60, seed=3, epoch=0)
        steps = [list(chain(*group)) for group in chunks(parts, accumulation)]
        assert len({len(part) for part in parts}) > 1, "batches of equal size prove no weights"
    else:
        steps = chunks(shuffled(40, seed=3, epoch=0), 8 * accumulation)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, int(0.4 * len(steps)), len(steps))
    for part in steps:
        *inputs, truth = collate(encoding, labels, part, 0)
        loss = model(*inputs, labels=truth).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()

    trained = transformers.AutoModelForSequenceClassification.from_pretrained(out).state_dict()
    for name, tensor in model.state_dict().items():
        if not name.endswith("key.bias"):
            torch.testing.assert_close(trained[name], tensor, rtol=0, atol=2e-5, msg=lambda m, name=name: f"{name} {m}")


@pytest.mark.numeric
def test_accumulating_small_batches_equals_one_large_batch(files, tmp_path):
    """Also at the end of an epoch, where 44 rows leave 12: a batch of 8 and one of 4. Only float noise is between."""
    data = {**files, "data": str(write_rows(tmp_path / "odd.tsv", 44))}
    options = {f"{n}": dict(batch_size=16 // n, accumulation=n) for n in (1, 2)}
    one, two = (train(small(data, tmp_path / n, epochs=2, dropout=0.0, lr=1e-4, **options[n]))[1] for n in ("1", "2"))
    for a, b in zip(rows_of(one, "epoch"), rows_of(two, "epoch"), strict=True):
        assert b == pytest.approx(a, abs=2e-6)


@pytest.mark.numeric
def test_packed_and_padded_runs_are_the_same_run(files, tmp_path):
    """Without dropout, whose draws differ. Not compared: the keys' biases, see above."""
    options = dict(epochs=3, dropout=0.0, log_every=1)
    packed, padded = (train(small(files, tmp_path / n, layout=n, **options))[1] for n in ("packed", "padded"))
    for a, b in zip(rows_of(packed, "loss"), rows_of(padded, "loss"), strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    start = weights(train(small(files, tmp_path / "start", lr=0.0))[1])
    wanted, moved = weights(padded), 0.0
    for name, tensor in weights(packed).items():
        if not name.endswith("key.bias"):
            torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=1e-4, msg=lambda m, name=name: f"{name} {m}")
            moved = max(moved, (tensor - start[name]).abs().max().item())
    assert moved > 2e-3, "the weights have not moved, so comparing them proves nothing"


@pytest.mark.parametrize("accumulation", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_schedule_of_batches_by_tokens_ends_with_the_last_step_of_the_last_epoch(
    files, tmp_path, monkeypatch, accumulation
):
    """Epochs differ in their number of steps; the rate falls evenly over the sum of them, to one step above 0."""
    monkeypatch.setattr(minibert.fast.batches, "SORTED_BATCHES", 2)  # several windows to these few rows
    options = small(files, tmp_path / "run", epochs=6, log_every=1, warmup=0.0, accumulation=accumulation, **BY_TOKENS)
    out = train(options)[1]
    lengths = encode_examples(Tokenizer.from_pretrained(out), read_examples(files["data"]), 16).length
    batches = [len(shuffled_by_tokens(lengths, 60, 0, epoch)) for epoch in range(6)]
    updates = [-(-count // accumulation) for count in batches]
    assert len(set(updates[:-1])) > 1, "epochs of equal length prove nothing"
    rates = [row["lr"] for row in rows_of(out, "step")]
    assert len(rates) == sum(batches)
    total = sum(updates)
    assert list(dict.fromkeys(rates)) == pytest.approx([1e-3 * k / total for k in range(total, 0, -1)])


def test_gradients_are_clipped_before_every_step(files, tmp_path, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def spy(self, *rest):
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        norms.append(torch.cat(gradients).norm().item())
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    train(small(files, tmp_path / "clipped", clip=0.01))
    assert norms == pytest.approx([0.01] * 5, rel=1e-3)
    norms.clear()
    train(small(files, tmp_path / "free", clip=0))
    assert min(norms) > 0.02


def test_a_batch_that_ends_no_step_is_logged_with_the_rate_of_the_step_before(files, tmp_path):
    """Five batches, two to a step: rates of 3 steps, 3/3 to 1/3 of the peak; at first AdamW has the peak itself."""
    out = train(small(files, tmp_path / "run", accumulation=2, log_every=1, lr=3e-3, warmup=0))[1]
    assert [row["lr"] for row in rows_of(out, "step")] == pytest.approx([3e-3, 3e-3, 3e-3, 2e-3, 1e-3])


def test_bf16_runs_near_fp32(files, tmp_path):
    """bfloat16 has 8 bits: losses agree to about a hundredth, but not to the last digit."""
    runs = [train(small(files, tmp_path / name, precision=name, dropout=0.0))[1] for name in ("fp32", "bf16")]
    exact, rough = ([row["loss"] for row in rows_of(run, "step")] for run in runs)
    assert rough != exact
    assert rough == pytest.approx(exact, abs=2e-2)
    assert {tensor.dtype for tensor in weights(runs[1]).values()} == {torch.float32}


@pytest.mark.parametrize(("native", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_a_run_records_the_precision_that_auto_stands_for_here(native, wanted, files, tmp_path, monkeypatch):
    monkeypatch.setattr(products, "BF16_IN_HARDWARE", native)
    out = train(small(files, tmp_path / "run", precision="auto", device="cpu"))[1]
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["options"]["precision"] == wanted


@pytest.mark.parametrize("native", [True, False])
def test_auto_in_a_run_that_is_resumed_is_the_runs_own_precision(native, monkeypatch):
    monkeypatch.setattr(products, "BF16_IN_HARDWARE", native)
    assert settled(TrainOptions(resume="run", precision="auto"), None) == TrainOptions(resume="run")


@pytest.mark.parametrize("batches", [{}, BY_TOKENS], ids=str)
def test_every_epoch_trains_on_every_row_once_in_another_order_and_with_dropout(files, tmp_path, monkeypatch, batches):
    dealt, modes = [], []
    record, collated = minibert.training.engine.record, FineTuning.collated

    def spy_collated(task, rows):
        dealt.append(list(rows))
        return collated(task, rows)

    def spy_record(task, *rest):
        modes.append(task.model.training)
        record(task, *rest)

    monkeypatch.setattr(FineTuning, "collated", spy_collated)
    monkeypatch.setattr(minibert.training.engine, "record", spy_record)
    train(small(files, tmp_path / "run", epochs=2, **batches))
    rows = list(chain(*dealt))
    first, second = rows[:40], rows[40:]
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    assert first != sorted(first)
    assert modes == [True] * len(dealt)


def test_the_dropout_option_goes_everywhere(files, tmp_path):
    out = train(small(files, tmp_path / "run", dropout=0.25))[1]
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert {config[name] for name in NO_DROPOUT} == {0.25}


@pytest.mark.slow
def test_a_small_model_learns_what_can_be_learned(tmp_path):
    """The words that decide are plain, so a working loop gets nearly all of them right."""
    files = {name: str(write_rows(tmp_path / f"{name}.tsv", 120, seed)) for seed, name in enumerate(("data", "test"))}
    assert train(small(files, tmp_path / "run", epochs=6, lr=2e-3))[0].accuracy > 0.9


# ---- what is measured and kept ----


def test_what_an_epoch_logs_of_dev_equals_the_kept_model_without_dropout(files, tmp_path):
    out = train(small(files, tmp_path / "run", dropout=0.5))[1]
    dev = read_examples(files["dev"])
    classifier = TextClassifier.from_pretrained(out, device="cpu")
    scores = score(classifier.logits(dev.texts), label_ids(dev, classifier.labels))
    (row,) = rows_of(out, "epoch")
    assert row["dev_accuracy"] == scores.accuracy
    assert row["dev_loss"] == pytest.approx(scores.loss, abs=1e-5)


def test_the_scores_of_a_run_are_those_of_its_directory_on_the_test_file(files, done):
    scores, out = done
    test = read_examples(files["test"])
    classifier = TextClassifier.from_pretrained(out, device="cpu")
    again = score(classifier.logits(test.texts), label_ids(test, classifier.labels))
    assert scores._replace(loss=0) == again._replace(loss=0)
    assert scores.loss == pytest.approx(again.loss, abs=1e-5)


@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_best_epoch_is_kept_also_when_a_later_one_is_worse_or_as_good(files, tmp_path, monkeypatch, best):
    seen = []

    def scores(task, split):
        seen.append({name: tensor.clone() for name, tensor in task.model.state_dict().items()})
        accuracies = [0.5, 0.5, 0.5]
        accuracies[best:] = [0.9] * (3 - best) if best == 1 else [0.9, 0.7, 0.6][: 3 - best]
        return Scores(accuracies[len(seen) - 1], 0.5, 0.5, [[1, 0], [0, 1]])

    monkeypatch.setattr(FineTuning, "scores", scores)
    found, out = train(small(files, tmp_path / "run", epochs=3))
    kept = weights(out)
    assert [all(torch.equal(kept[name], tensor) for name, tensor in epoch.items()) for epoch in seen] == [
        epoch == best for epoch in range(3)
    ]
    test, classifier = read_examples(files["test"]), TextClassifier.from_pretrained(out, device="cpu")
    again = score(classifier.logits(test.texts), label_ids(test, classifier.labels))
    assert found.loss == pytest.approx(again.loss, abs=1e-6)


def test_metrics_hold_a_line_for_every_log_line_and_every_epoch(done):
    _, out = done
    steps, epochs = rows_of(out, "step"), rows_of(out, "epoch")
    assert [row["step"] for row in steps] == list(range(1, 11))
    assert all(row.keys() == {"step", "loss", "accuracy", "lr"} for row in steps)
    assert [row["epoch"] for row in epochs] == [1, 2]
    names = {"epoch", "train_loss", "train_accuracy", "dev_loss", "dev_accuracy"}
    assert all(row.keys() == names for row in epochs)
    assert [row["lr"] for row in steps] == pytest.approx([0, *(1e-3 * k / 9 for k in range(9, 0, -1))])
    for epoch, part in zip(epochs, (steps[:5], steps[5:]), strict=True):  # batches of the same size
        assert epoch["train_loss"] == pytest.approx(sum(row["loss"] for row in part) / 5)
        assert epoch["train_accuracy"] == pytest.approx(sum(row["accuracy"] for row in part) / 5)


def test_a_log_line_is_the_mean_since_the_last_one(files, done, tmp_path):
    """Every other step and the epochs' ends: the windows run on into the next epoch."""
    out = train(small(files, tmp_path / "run", epochs=2, log_every=2))[1]
    single, double = rows_of(done[1], "step"), rows_of(out, "step")
    assert [row["step"] for row in double] == [2, 4, 6, 8, 10]
    means = [(a["loss"] + b["loss"]) / 2 for a, b in zip(single[::2], single[1::2], strict=True)]
    assert [row["loss"] for row in double] == pytest.approx(means)


def test_the_record_of_a_run_says_how_to_repeat_it_and_what_came_out(files, done):
    scores, out = done
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert TrainOptions(**record["options"]) == small(files, out, epochs=2, log_every=1).filled()
    assert cli.parse(shlex.split(record["command"])[1:])[1] == record["options"]
    assert record["rows"] == {"train": 40, "dev": 12, "test": 14}
    assert record["versions"]["torch"] == torch.__version__
    assert record["result"] == {
        "split": "test",
        "accuracy": scores.accuracy,
        "loss": scores.loss,
        "macro_f1": scores.macro_f1,
    }
    assert record["baselines"]["majority class"] == 0.5
    assert 0.5 < record["baselines"]["bag of tokens (naive Bayes)"] <= 1


def test_the_report_says_the_peak_that_was_asked_for_and_where_the_rate_ended(done):
    """Of ten updates the first two rise; steps are logged that show neither."""
    page = view((done[1] / REPORT).read_text(encoding="utf-8"))
    assert "The learning rate peaked at 0.001 in update 2 and ended at 0.000111 in update 10." in page


def test_what_speaks_against_a_run_is_in_its_last_lines_its_record_and_its_report(files, tmp_path, capsys):
    out = train(small(files, tmp_path / "run", lr=0.0))[1]
    warnings = json.loads((out / "run.json").read_text(encoding="utf-8"))["warnings"]
    assert warnings
    assert capsys.readouterr().err.splitlines()[-len(warnings) :] == warnings
    assert (out / REPORT).read_text(encoding="utf-8").count("<p><b>!</b>") == len(warnings)


def test_whether_it_was_trained_on_pairs_is_in_the_config_and_transformers_keeps_it(done, tmp_path):
    config = transformers.AutoConfig.from_pretrained(done[1])
    config.save_pretrained(tmp_path)
    for folder in (done[1], tmp_path):
        assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["minibert"] == {"pairs": False}


def test_the_report_shows_the_run(files, done):
    scores, out = done
    page = (out / REPORT).read_text(encoding="utf-8")
    assert "Confusion" in page or "confusion" in page
    assert all(name.startswith('<span lang="en">') for name in re.findall("<dt>(.*?)</dt>", page))  # ours: translated
    assert "majority class" in page
    assert ">neg<" in page
    assert "--log-every 1" in page
    test = read_examples(files["test"])
    classifier = TextClassifier.from_pretrained(out, device="cpu")
    answers = [label for label, _ in classifier.predict(test.texts)]
    wrong = [text for text, label, answer in zip(test.texts, test.labels, answers, strict=True) if label != answer]
    assert len(wrong) == round((1 - scores.accuracy) * 14)
    assert all(text in page for text in wrong)


def test_the_worst_mistakes_are_the_surest_first(files):
    rows = read_examples(files["test"])
    truth = label_ids(rows, ["neg", "pos"])  # neg pos neg pos …
    logits = torch.zeros(14, 2)
    logits[:, 0] = 1.0  # the odd rows are wrong
    logits[5, 0], logits[9, 0] = 3.0, 2.0
    mistakes = worst_mistakes(logits, rows, truth, ["neg", "pos"], most=3)
    assert [mistake["text"] for mistake in mistakes] == [rows.texts[row] for row in (5, 9, 1)]
    assert [(mistake["label"], mistake["predicted"]) for mistake in mistakes] == [("pos", "neg")] * 3
    assert mistakes[0]["probability"] == pytest.approx(torch.sigmoid(torch.tensor(3.0)).item())


def test_a_finished_run_leaves_a_model_and_its_papers_and_nothing_else(done):
    names = {"config.json", MODEL, "vocab.txt", "tokenizer_config.json", METRICS, REPORT, "run.json"}
    assert {path.name for path in done[1].iterdir()} == names


def test_class_names_are_in_the_config(done):
    config = json.loads((done[1] / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "neg", "1": "pos"}
    assert config["label2id"] == {"neg": 0, "pos": 1}


# ---- others read it ----


def their_logits(out: Path, *texts: list[str]) -> torch.Tensor:
    """transformers' tokenizer and model, with nothing told that the directory does not say."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(out).eval()
    assert model.config.id2label == {0: "neg", 1: "pos"}
    with torch.no_grad():
        return model(**tokenizer(*texts, padding=True, truncation=True, return_tensors="pt")).logits


@pytest.mark.numeric
def test_transformers_gives_the_same_logits_for_a_trained_directory(files, done):
    """Chinese and English; also a text that only the tokenizer's own model_max_length can cut to the model's 16."""
    texts = [*read_examples(files["test"]).texts, "", "the room was 干净 " * 20]
    ours = TextClassifier.from_pretrained(done[1], device="cpu").logits(texts)
    assert_near(their_logits(done[1], texts), ours)


@pytest.mark.numeric
def test_fine_tuning_pairs_from_a_pretrained_directory_is_read_by_transformers(encoder, tmp_path, capsys):
    paths = {name: write_rows(tmp_path / f"{name}.tsv", 20, len(name), pairs=True) for name in ("data", "test")}
    files = {name: str(path) for name, path in paths.items()}
    out = train(small(files, tmp_path / "run", model=str(encoder), max_length=24))[1]
    assert f"{encoder}: a new head is drawn, for neg, pos (classification)\n" in capsys.readouterr().err
    test = read_examples(files["test"])
    ours = TextClassifier.from_pretrained(out, device="cpu").logits(test.texts, test.pairs)
    assert_near(their_logits(out, test.texts, test.pairs), ours)
    moved = (
        weights(out)["bert.layers.0.ffn.inner.weight"] - BertModel.from_pretrained(encoder).layers[0].ffn.inner.weight
    )
    assert moved.abs().max() > 1e-5, "the pretrained weights have not been trained"
    assert moved.abs().max() < 1e-3, "the pretrained weights are not where the run started"


# ---- the same again ----


def test_the_same_seed_gives_the_same_bytes(files, done, tmp_path):
    again = train(small(files, tmp_path / "again", epochs=2, log_every=1))[1]
    assert same_files(done[1], again)


def test_another_seed_gives_another_run(files, done, tmp_path):
    other = train(small(files, tmp_path / "other", epochs=2, log_every=1, seed=1))[1]
    assert (done[1] / METRICS).read_bytes() != (other / METRICS).read_bytes()
    assert (done[1] / MODEL).read_bytes() != (other / MODEL).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "accumulation"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_a_run_stopped_by_a_signal_and_resumed_ends_as_if_uninterrupted(tmp_path, number, accumulation):
    """A real process and signal, sent at the third log line (two say what was read); then the rest in this one."""
    files = {name: str(write_rows(tmp_path / f"{name}.tsv", n, n)) for name, n in {"data": 160, "dev": 20}.items()}
    sizes = dict(epochs=2, batch_size=4, log_every=1, accumulation=accumulation, token_dropout=0.2)
    options = small(files, tmp_path / "stopped", **sizes)
    process = processes.minibert(*words(options))
    lines = [process.stderr.readline() for _ in range(5)]
    process.send_signal(number)
    stdout, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "loss" in lines[2]
    assert stdout == ""
    assert f"minibert train --resume {tmp_path / 'stopped'}" in rest
    assert rest.splitlines()[-1] == "minibert: interrupted"
    assert "\r" not in "".join(lines) + rest, "a progress bar where there is no terminal"
    logged = len(rows_of(tmp_path / "stopped", "step"))
    assert 3 <= logged < 40, "the run was not in the middle of its first epoch"

    resumed = train(TrainOptions(resume=str(tmp_path / "stopped")))
    whole = train(dataclasses.replace(options, out=str(tmp_path / "whole")))
    assert resumed[0] == whole[0]
    assert same_files(resumed[1], whole[1])
    assert not list(resumed[1].glob("state*"))


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_signal_during_validation_loses_nothing(files, done, tmp_path, monkeypatch, epoch):
    """It is heard after the next step; after the last epoch there is none, and the run simply ends."""
    scores = FineTuning.scores

    def signalled(task, split):
        if task.progress.epoch == epoch:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return scores(task, split)

    options = small(files, tmp_path / "run", epochs=2, log_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "scores", signalled)
        if epoch == 0:
            with pytest.raises(KeyboardInterrupt):
                train(options)
        else:
            train(options)
    if epoch == 0:
        assert len(rows_of(tmp_path / "run", "step")) == 6
        train(TrainOptions(resume=options.out))
    assert same_files(done[1], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 13])
def test_a_run_by_tokens_that_is_stopped_and_resumed_ends_as_if_uninterrupted(files, tmp_path, monkeypatch, step):
    """In its first epoch and in a later one: the batches are the same, and the schedule goes on where it was. A signal
    that comes after the ranks have agreed on a step is heard at the next one."""
    record = minibert.training.engine.record

    def signalled(task, *rest):
        record(task, *rest)
        if task.progress.step == step:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    options = small(files, tmp_path / "run", epochs=3, log_every=1, **BY_TOKENS)
    with monkeypatch.context() as patch:
        patch.setattr(minibert.training.engine, "record", signalled)
        with pytest.raises(KeyboardInterrupt):
            train(options)
    assert len(rows_of(tmp_path / "run", "step")) == step + 1
    assert len(rows_of(tmp_path / "run", "epoch")) == (step > 10)
    train(TrainOptions(resume=options.out))
    assert same_files(tmp_path / "run", train(dataclasses.replace(options, out=str(tmp_path / "whole")))[1])


def test_a_signal_in_the_last_step_of_an_epoch_waits_for_the_validation(files, done, tmp_path, monkeypatch):
    record = minibert.training.engine.record

    def signalled(task, *rest):
        record(task, *rest)
        if task.progress.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    options = small(files, tmp_path / "run", epochs=2, log_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(minibert.training.engine, "record", signalled)
        with pytest.raises(KeyboardInterrupt):
            train(options)
    assert len(rows_of(tmp_path / "run", "step")) == 5
    assert len(rows_of(tmp_path / "run", "epoch")) == 1
    train(TrainOptions(resume=options.out))
    assert same_files(done[1], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_that_release_0_1_left_without_validation_has_it_first(files, done, tmp_path, monkeypatch, epoch):
    """There a run that was stopped in an epoch's last step saved its state before the validation."""

    def stopped(task):
        if task.progress.epoch < epoch:
            return evaluate(task)
        minibert.training.engine.save_state(task.out, task.ranks, task.model, task.optimizer, task.progress, 2)
        raise KeyboardInterrupt

    evaluate, options = FineTuning.evaluate, small(files, tmp_path / "run", epochs=2, log_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(options)
    assert len(rows_of(tmp_path / "run", "epoch")) == epoch
    train(TrainOptions(resume=options.out))
    assert same_files(done[1], tmp_path / "run")


def test_a_signal_within_an_optimizer_step_waits_for_its_end(files, tmp_path, monkeypatch):
    """Two batches to a step, the signal at the third: gradients are no part of the state, so the fourth comes first."""
    collated, seen = FineTuning.collated, []

    def signalled(task, rows):
        seen.append(rows)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return collated(task, rows)

    options = small(files, tmp_path / "run", log_every=1, accumulation=2)
    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "collated", signalled)
        with pytest.raises(KeyboardInterrupt):
            train(options)
    assert len(rows_of(tmp_path / "run", "step")) == 4
    train(TrainOptions(resume=options.out))
    assert same_files(tmp_path / "run", train(dataclasses.replace(options, out=str(tmp_path / "whole")))[1])


def test_a_run_that_crashed_is_resumed_from_its_last_epoch(files, done, tmp_path, monkeypatch):
    """Power cut, second Ctrl-C: what stands in metrics.jsonl behind the saved state is taken back."""
    record = minibert.training.engine.record

    def crash(task, *rest):
        record(task, *rest)
        if task.progress.step == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(minibert.training.engine, "record", crash)
        with pytest.raises(KeyboardInterrupt):
            train(small(files, tmp_path / "run", epochs=2, log_every=1))
    assert len(rows_of(tmp_path / "run", "step")) == 8
    assert same_files(done[1], train(TrainOptions(resume=str(tmp_path / "run")))[1])


def test_a_run_whose_report_found_no_room_is_finished_by_resuming(files, done, tmp_path, monkeypatch, capsys):
    options = small(files, tmp_path / "run", epochs=2, log_every=1)
    write = minibert.training.engine.atomic_write
    with monkeypatch.context() as patch:
        patch.setattr(
            minibert.training.engine,
            "atomic_write",
            lambda path, data: disk_full(path, data) if path.name == REPORT else write(path, data),
        )
        assert "No space left on device" in refusal(capsys, options)
    scores, out = train(TrainOptions(resume=options.out))
    assert scores == done[0]
    assert same_files(done[1], out)
    assert (out / REPORT).is_file()


def test_a_finished_run_is_not_resumed(capsys, done):
    message = refusal(capsys, TrainOptions(resume=str(done[1])))
    assert "nothing to resume; the run is complete" in message


def test_an_unknown_directory_is_not_resumed(capsys, tmp_path):
    assert "holds no run.json, so there is no run to resume" in refusal(capsys, TrainOptions(resume=str(tmp_path)))
    assert "no run to resume" in refusal(capsys, TrainOptions(resume=str(tmp_path / "nowhere")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", ["", "[1]", "{}", '{"options": {"colour": "red"}}', '{"options": {"epochs": 0}}', "\xff"]
)
def test_a_damaged_record_is_not_resumed(capsys, tmp_path, content):
    (tmp_path / "run.json").write_text(content, encoding="latin-1")
    assert f"{tmp_path / 'run.json'}: not the record of a run" in refusal(capsys, TrainOptions(resume=str(tmp_path)))


def test_resuming_takes_no_other_options(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(minibert.training.engine, "fit", lambda *rest: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(small(files, tmp_path / "run"))
    message = refusal(capsys, TrainOptions(resume=str(tmp_path / "run"), epochs=20))
    assert message.startswith("minibert: --resume continues a run with its own options; leave --epochs out.")


# ---- what goes wrong on the way ----


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_model(files, tmp_path, monkeypatch, capsys):
    """The seventh step throws the weights to 1e38, so the loss of the eighth is the first that is none."""
    options = small(files, tmp_path / "run", epochs=3)
    monkeypatch.setattr(minibert.training.engine, "learning_rate", lambda update, *rest: 1e38 if update == 6 else 1e-3)
    message = refusal(capsys, options)
    assert "the loss is nan at step 8 (epoch 2, batch 3)" in message
    assert "smaller --lr" in message
    assert f"the best model so far stays in {options.out}" in message
    kept = weights(tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setattr(minibert.training.engine, "learning_rate", lambda *rest: 1e-3)
    first = weights(train(small(files, tmp_path / "first", epochs=1))[1])
    assert all(torch.equal(first[name], tensor) for name, tensor in kept.items())


def test_a_model_ruined_by_the_last_step_of_an_epoch_is_not_kept(files, tmp_path, monkeypatch, capsys):
    """No training batch sees it: validation does."""
    monkeypatch.setattr(minibert.training.engine, "learning_rate", lambda update, *rest: 1e38 if update == 4 else 1e-3)
    message = refusal(capsys, small(files, tmp_path / "run", epochs=1))
    assert "the loss is nan at step 5 (epoch 1, batch 5)" in message
    assert "no model was kept so far" in message
    assert not (tmp_path / "run" / MODEL).exists()
    assert rows_of(tmp_path / "run", "epoch") == []


@pytest.mark.parametrize("module", [minibert.core.weights, minibert.training.state], ids=["model", "state"])
def test_a_full_disk_leaves_the_model_from_before(files, tmp_path, monkeypatch, capsys, module):
    """From the second epoch on nothing can be written, though it is the better one."""
    written = []
    write = module.atomic_write

    def fills(path, data):
        name = Path(path).name.rstrip("0123456789.pt")  # checkpoints are numbered
        if name in written:
            disk_full(path, data)
        written.append(name)
        write(path, data)

    monkeypatch.setattr(module, "atomic_write", fills)
    accuracies = iter([0.6, 0.7])
    monkeypatch.setattr(FineTuning, "scores", lambda *rest: Scores(next(accuracies), 0.5, 0.5, [[1, 0], [0, 1]]))
    message = refusal(capsys, small(files, tmp_path / "run", epochs=2))
    assert message.startswith("minibert: [Errno 28] No space left on device")
    classifier = TextClassifier.from_pretrained(tmp_path / "run", device="cpu")
    assert classifier.logits(["good room"]).isfinite().all()
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


def test_a_mistake_leaves_no_directory(tmp_path, capsys):
    assert "nowhere.tsv" in refusal(capsys, TrainOptions(data="nowhere.tsv", out=str(tmp_path / "runs" / "first")))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_empty_is_refused_before_anything_else(files, tmp_path, monkeypatch, capsys):
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    monkeypatch.setattr(minibert.training.fine_tuning, "prepare", None)  # calling it would be an error of another kind
    message = refusal(capsys, small(files, tmp_path))
    assert f"{tmp_path} exists already; choose another --out, or --resume" in message
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("model.safetensors", b"precious")]


def test_an_empty_directory_is_taken(files, tmp_path):
    assert train(small(files, tmp_path))[1] == tmp_path


def test_a_file_in_the_way_of_the_directory_is_told_in_one_line(files, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    assert "exists already" in refusal(capsys, small(files, tmp_path / "file"))
    assert "Not a directory" in refusal(capsys, small(files, tmp_path / "file" / "run"))
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(("option", "used"), [(None, 1), (2, 2)])
def test_a_small_model_trains_on_one_thread_unless_told_and_the_number_is_put_back(
    files, tmp_path, monkeypatch, option, used
):
    seen = []

    def fit(run, interrupt):
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(minibert.training.engine, "fit", fit)
    with cpu_threads(3):
        with pytest.raises(KeyboardInterrupt):
            train(small(files, tmp_path / "run", threads=option))
        seen.append(torch.get_num_threads())
    assert seen == [used, 3]
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["threads"] == used


def test_without_out_runs_are_numbered(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = dataclasses.replace(small(files, tmp_path), out=None)
    assert [str(train(options)[1]) for _ in range(2)] == ["runs/train-1", "runs/train-2"]


def bad(directory: Path, content: str) -> str:
    path = directory / "bad.tsv"
    path.write_text(content, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("part", "content", "reason"),
    [
        ("data", "label\ttext\npos\ta\npos\tb\n", "bad.tsv: every row has the label 'pos'"),
        ("data", "label\ttext\npos\ta\n", "bad.tsv: every row has the label 'pos'"),
        ("data", "label\ttext\npos\ta\n\tb\n", "bad.tsv:3: the label is empty"),
        ("dev", "label\ttext\npos\ta\nother\tb\n", "bad.tsv:3: label 'other' is none of the training data's neg, pos"),
        ("test", "label\ttext\nother\ta\n", "bad.tsv:2: label 'other' is none of the training data's neg, pos"),
        ("test", "", "bad.tsv: is empty"),
    ],
)
def test_bad_data_is_told_before_anything_is_written(files, tmp_path, capsys, part, content, reason):
    options = small({**files, part: bad(tmp_path, content)}, tmp_path / "run")
    assert reason in refusal(capsys, options)
    assert not (tmp_path / "run").exists()


def test_a_single_row_without_dev_is_one_class_and_no_crash(tmp_path, capsys):
    options = small({"data": bad(tmp_path, "label\ttext\npos\ta\n")}, tmp_path / "run")
    assert "every row has the label 'pos'" in refusal(capsys, options)


def test_without_dev_a_tenth_is_held_out_and_its_classes_are_known(tmp_path):
    """One of the four rows held out of these 40 is the only one of its class."""
    lines = write_rows(tmp_path / "data.tsv", 40).read_text(encoding="utf-8").splitlines()
    _, held = hold_out(read_examples(tmp_path / "data.tsv"), 0.1, seed=0)
    rare = held.lines[0] - 1
    lines[rare] = "rare\t" + lines[rare].split("\t")[1]
    (tmp_path / "data.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _, out = train(small({"data": str(tmp_path / "data.tsv")}, tmp_path / "run"))
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["rows"] == {"train": 36, "dev": 4}
    assert record["result"]["split"] == "dev"
    assert TextClassifier.from_pretrained(out).labels == ["neg", "pos", "rare"]


def test_texts_longer_than_the_pretrained_model_goes_are_refused(files, encoder, tmp_path, capsys):
    message = refusal(capsys, small(files, tmp_path / "run", model=str(encoder), max_length=65))
    assert "max_length is 65, more than the model's max_position_embeddings 64" in message
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_larger_than_the_embedding_is_refused(files, tmp_path, capsys):
    BertModel(small_config(vocab_size=len(VOCAB) - 1)).save_pretrained(tmp_path / "model")
    Tokenizer(VOCAB).save_pretrained(tmp_path / "model")
    message = refusal(capsys, small(files, tmp_path / "run", model=str(tmp_path / "model")))
    assert f"the vocabulary has {len(VOCAB)} tokens, the config says vocab_size {len(VOCAB) - 1}" in message


# ---- options ----


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"tokens_per_batch": 0},
        {"layout": "ragged"},
        {"accumulation": -1},
        {"log_every": 0},
        {"lr": float("nan")},
        {"lr": -1e-3},
        {"warmup": 1.5},
        {"dropout": 1.0},
        {"seed": -1},
        {"clip": float("inf")},
        {"weight_decay": -0.1},
        {"preset": "huge"},
        {"precision": "fp8"},
    ],
    ids=str,
)
def test_an_option_out_of_range_is_told_with_its_range(wrong):
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))} .*(at least|between|choose)"):
        TrainOptions(**wrong)


def test_batches_are_cut_by_rows_or_by_tokens():
    with pytest.raises(ValueError, match="batch_size is 8 and tokens_per_batch 60; give one of them"):
        TrainOptions(batch_size=8, tokens_per_batch=60)


def test_compiling_without_a_compiler_is_told_before_anything_is_written(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    message = refusal(capsys, small(files, tmp_path / "run", compile=True))
    assert "compile needs a C++ compiler, and no-such-compiler is not found" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_compiled_run_is_the_same_run(files, tmp_path):
    """In a process of its own: warnings of the compiler about itself are no errors there."""
    for name, changes in (("plain", {}), ("compiled", {"compile": True})):
        options = small(files, tmp_path / name, dropout=0.0, log_every=1, epochs=2, **changes)
        subprocess.run([sys.executable, "-m", "minibert", *words(options)], check=True, capture_output=True)
    plain, compiled = (rows_of(tmp_path / name, "loss") for name in ("plain", "compiled"))
    for a, b in zip(compiled, plain, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_without_options_the_bundled_model_is_fine_tuned_on_the_bundled_reviews():
    filled = TrainOptions().filled()
    assert (filled.data, filled.dev, filled.test) == tuple(str(REVIEWS / f"{n}.tsv") for n in ("train", "dev", "test"))
    assert (filled.model, filled.preset, filled.vocab_size) == ("bundled", None, None)
    assert (filled.epochs, filled.lr, filled.batch_size) == (8, 5e-4, 8)
    assert (filled.dropout, filled.token_dropout, filled.pooler) == (0.2, 0.3, "fresh")


def test_token_dropout_hides_its_share_of_real_tokens_anew_in_every_step(files, tmp_path, monkeypatch):
    seen = []
    real = FineTuning.with_masks
    monkeypatch.setattr(
        FineTuning, "with_masks", lambda task, batch: seen.append((batch, real(task, batch))) or seen[-1][1]
    )
    train(small(files, tmp_path / "run", token_dropout=0.4, epochs=3, layout="padded"))
    hidden, tokens = [], []
    for before, after in seen:
        special = before.input_ids < 4  # [PAD] [UNK] [CLS] [SEP]
        changed = before.input_ids != after.input_ids
        assert not (changed & special).any()
        assert after.input_ids[changed].unique().tolist() == [4]
        hidden.append(int(changed.sum()))
        tokens.append(int((~special).sum()))
    assert sum(hidden) / sum(tokens) == pytest.approx(0.4, abs=0.05)
    assert len({tuple(after.input_ids.flatten().tolist()) for _, after in seen}) == len(seen)


@pytest.mark.parametrize("given", [{"preset": "tiny"}, {"vocab_size": 4000}])
def test_a_preset_or_a_size_of_the_vocabulary_asks_for_a_model_from_scratch(given):
    filled = TrainOptions(**given).filled()
    assert (filled.model, filled.preset, filled.vocab_size) == (None, "tiny", 4000)
    assert (filled.epochs, filled.lr, filled.batch_size, filled.token_dropout) == (10, 1e-3, 32, 0.0)


@pytest.mark.parametrize(
    ("width", "kind", "pooler"),
    [(64, BertForPreTraining, "fresh"), (64, BertForSequenceClassification, "kept"), (320, BertForPreTraining, "kept")],
)
def test_the_pooler_of_a_small_model_is_drawn_anew_unless_it_has_served_a_classifier(
    files, tmp_path, width, kind, pooler
):
    config = small_config(
        vocab_size=len(VOCAB),
        hidden_size=width,
        num_attention_heads=1,
        max_position_embeddings=16,
        id2label={0: "neg", 1: "pos"},
    )
    start = stir(kind(config))
    start.save_pretrained(tmp_path / "start")
    Tokenizer(VOCAB).save_pretrained(tmp_path / "start")
    options = small(files, tmp_path / "run", model=str(tmp_path / "start"), lr=0.0)
    trained, before = weights(train(options)[1]), start.state_dict()
    changed = {name for name in trained.keys() & before.keys() if not torch.equal(trained[name], before[name])}
    assert options.filled().pooler == pooler
    assert changed == ({"bert.pooler.dense.weight", "bert.pooler.dense.bias"} if pooler == "fresh" else set())
    if pooler == "fresh":
        assert trained["bert.pooler.dense.weight"].std() == pytest.approx(config.initializer_range, rel=0.1)


@pytest.mark.parametrize(("width", "epochs", "lr"), [(255, 8, 5e-4), (257, 3, 5e-5)])
def test_small_pretrained_models_are_trained_longer_and_faster_by_default(tmp_path, width, epochs, lr):
    config = BertConfig(vocab_size=11, hidden_size=width, num_attention_heads=1)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    filled = TrainOptions(model=str(tmp_path)).filled()
    assert (filled.epochs, filled.lr) == (epochs, lr)
    assert TrainOptions(model=str(tmp_path), epochs=7).filled().epochs == 7


def test_own_data_does_not_borrow_the_bundled_dev_and_test():
    filled = TrainOptions(data="mine.tsv").filled()
    assert (filled.data, filled.dev, filled.test) == ("mine.tsv", None, None)


def test_the_recorded_command_is_read_back_as_the_same_options():
    options = TrainOptions(
        data="a b.tsv", out="it's", lr=3e-5, seed=7, columns="label,text", precision="bf16", compile=True
    )
    command, values = cli.parse(words(options))
    assert (command, TrainOptions(**values)) == ("train", options)


@pytest.mark.numeric
def test_texts_are_cut_where_training_cut_them(files, encoder, tmp_path):
    """The trained directory records --max-length, so that evaluate and predict see what training saw."""
    _, out = train(small(files, tmp_path / "run", model=str(encoder), max_length=8))
    classifier = TextClassifier.from_pretrained(out)
    assert classifier.max_length == 8
    short, cut = classifier.logits(["a b c d e f", "a b c d e f g h i j"])
    torch.testing.assert_close(cut, short, rtol=0, atol=1e-6)  # not equal: processors add in tiles of rows
