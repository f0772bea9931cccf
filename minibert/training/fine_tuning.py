"""Fine-tuning a classifier: its data, its model, its batches, and the best epoch that is kept.

The loop is engine.py's; here stands what is fine-tuning's own (`FineTuning`). Before it, what is made from the options
(`prepare`); last what a run leaves behind (`finish`). Letters: B rows of a batch, L labels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from minibert.core.data import Examples, label_names
from minibert.fast.batches import Batch, by_length, collate, collate_packed, encode_examples
from minibert.fast.models import BertForSequenceClassification
from minibert.inference.scores import Scores, score
from minibert.inference.text_models import classify
from minibert.io.bundled import resolve
from minibert.io.examples import hold_out, label_ids, read_examples
from minibert.io.stderr import say
from minibert.text.tokenizer import Encoding, Tokenizer
from minibert.text.vocab import learn_vocabulary
from minibert.training.baselines import bag_of_tokens_accuracy, majority_accuracy
from minibert.training.engine import Step, Task, check_loss, config_for, device_for, epoch_order, model_for, run
from minibert.training.options import TrainOptions
from minibert.training.ranks import Ranks
from minibert.training.report import Report
from minibert.training.state import Command, Means, Progress, hashes, model_hashes, read_metrics

CHANGEABLE = ("attention", "device", "keep", "log_every", "parallel", "save_every", "threads")  # when resuming


# ---- before the loop ----


@dataclass
class Split:
    """One data file: its rows, their encodings, their labels as numbers [N]."""

    examples: Examples
    encoding: Encoding
    labels: NDArray[np.int64]


def train(options: TrainOptions) -> tuple[Scores, Path] | None:
    """A whole fine-tuning run. Returns the scores on the test file (else the validation rows) and the directory; of
    several ranks the first alone does, the others return None.

    Raises:
        ValueError: anything in options, data or model that cannot be used; before any training.
        OSError: the output cannot be written.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM; the state is saved and `resume` continues.
    """
    return run(COMMAND, prepare, options)


def prepare(options: TrainOptions, out: Path, ranks: Ranks, record: dict | None = None) -> FineTuning:
    """Reads and checks everything: data, labels, vocabulary, model. Writes nothing."""
    with ranks.agreed():
        device = device_for(options, ranks)
        read = {name: read_split(options, getattr(options, name)) for name in ("data", "dev", "test")}
        names = label_names(read["data"])
        if read["dev"] is None:
            read["data"], read["dev"] = hold_out(read["data"], 0.1, options.seed)
        labels = {name: rows and label_ids(rows, names) for name, rows in read.items()}  # before anything slow
        tokenizer, model = build(options, read["data"], names)
        splits = {
            name: rows and Split(rows, encode_examples(tokenizer, rows, options.max_length), labels[name])
            for name, rows in read.items()
        }
        sources = read_files(options)
    task = FineTuning(options, out, ranks, device, model, tokenizer, sources)
    task.use(splits["data"], splits["dev"], splits["test"])
    return task


def read_files(options: TrainOptions) -> dict[str, str]:
    """Hashes of the data files and, under the model's own name, of its files."""
    return hashes(filter(None, (options.data, options.dev, options.test))) | model_hashes(options.model)


COMMAND = Command("train", TrainOptions, CHANGEABLE, read_files)


def read_split(options: TrainOptions, path: str | None) -> Examples | None:
    if path is None:
        return None
    columns = options.columns.split(",") if options.columns else None
    return read_examples(path, columns, options.quoting)


def build(options: TrainOptions, rows: Examples, names: list[str]) -> tuple[Tokenizer, BertForSequenceClassification]:
    """Tokenizer and model: from a checkpoint, or from scratch with a vocabulary learned from the training rows."""
    if options.model is not None:
        tokenizer = Tokenizer.from_pretrained(resolve(options.model))
    else:
        tokenizer = Tokenizer(learn_vocabulary(rows.texts + (rows.pairs or []), options.vocab_size))
    tokenizer.model_max_length = options.max_length  # goes into the trained directory, where texts are cut alike
    changes: dict[str, object] = {"id2label": dict(enumerate(names))}
    if options.dropout is not None:
        changes["classifier_dropout"] = options.dropout
    model = model_for(BertForSequenceClassification, options, config_for(options, tokenizer, changes))
    if options.model is not None and options.pooler == "fresh":
        model.init_weights(model.bert.pooler)
    return tokenizer, model


# ---- what the loop asks for ----


@dataclass
class TrainProgress(Progress):
    """`step` counts batches, of all epochs."""

    best_epoch: int = -1
    best_accuracy: float = -1.0
    whole: Means = field(default_factory=Means)  # since the epoch began

    def add(self, losses: Sequence[float], hits: Sequence[float], counts: Sequence[float]) -> None:
        """A batch."""
        super().add(losses, hits, counts)
        self.batch += 1
        self.whole.add(losses[0], hits[0], counts[0])


class FineTuning(Task):
    """Rows of text with labels. The end of an epoch measures, keeps the model if it is the best so far, and saves.

    train, dev, test: the data files; without a test file the last scores are those of dev.
    begun: when the epoch began. seconds: of each epoch since the run was begun or resumed; no part of a saved state.
    """

    command = COMMAND
    model: BertForSequenceClassification
    progress: TrainProgress

    def use(self, train: Split, dev: Split, test: Split | None) -> None:
        """The data.

        Raises:
            ValueError: --graphs does not go here.
        """
        self.train, self.dev, self.test = train, dev, test
        self.progress = TrainProgress()
        self.begun, self.seconds = time.perf_counter(), []
        if self.options.graphs:
            sizes = [len(rows) for epoch in range(self.options.epochs) for rows in self.order(epoch)]
            self.use_graphs(max(sizes))

    def order(self, epoch: int) -> list[Sequence[int]]:
        """The rows of each batch of an epoch."""
        return epoch_order(self.options, self.train.encoding.length, epoch)

    @cached_property
    def counts(self) -> list[int]:
        """Batches of each epoch. Their number differs where they are cut by tokens."""
        return [len(self.order(epoch)) for epoch in range(self.options.epochs)]

    @cached_property
    def updates(self) -> list[int]:
        """Optimizer steps of each epoch."""
        return [-(-count // self.options.accumulation) for count in self.counts]

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return sum(self.updates)

    def batches(self) -> Iterator[Step]:
        """See Task.batches."""
        progress, size = self.progress, self.options.accumulation
        while progress.epoch < self.options.epochs:
            order = self.order(progress.epoch)
            done = sum(self.updates[: progress.epoch])
            if progress.batch == len(order):  # saved by release 0.1.0, stopped at the end of an epoch: not yet measured
                self.evaluate()
                continue
            for first in range(progress.batch, len(order), size):
                rows = order[first : first + size]
                entries = [(len(part),) for part in rows]
                number, last = done + first // size, first + size >= len(order)
                yield Step(number, map(self.batch, rows), len(rows), entries, evaluates=last, saves=last)

    def batch(self, rows: Sequence[int]) -> Batch:
        """This rank's part of a batch, some of its tokens dropped.

        A rank that has no row computes one with the label -100, which cross_entropy leaves out: the others wait for
        its part of their sums, which is 0.
        """
        mine = self.ranks.own_rows(rows, self.train.encoding.length)
        batch = self.collated(mine or rows[:1])
        if not mine:
            batch = batch._replace(labels=torch.full_like(batch.labels, -100))
        return self.with_masks(batch)

    def collated(self, rows: Sequence[int]) -> Batch:
        """Some training rows."""
        encoding, labels, pad_id = self.train.encoding, self.train.labels, self.tokenizer.pad_id
        if self.options.layout == "padded":
            return collate(encoding, labels, rows, pad_id, self.device)
        rows = sorted(rows, key=encoding.length.__getitem__)
        return collate_packed(encoding, labels, rows, self.device, self.multiple, pad_id, first_only=True)

    def with_masks(self, batch: Batch) -> Batch:
        """Some tokens drawn anew become [MASK], never special ones: word dropout (Iyyer et al. 2015), with the
        sign that pretraining has taught the model to read as "some word"."""
        if not self.options.token_dropout:
            return batch
        tokenizer = self.tokenizer
        ids = batch.input_ids
        special = torch.tensor([tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id], device=ids.device)
        dropped = torch.rand(ids.shape, device=ids.device) < self.options.token_dropout
        return batch._replace(input_ids=ids.masked_fill(dropped & ~torch.isin(ids, special), tokenizer.mask_id))

    @staticmethod
    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """See Task.loss."""
        logits = model(*batch[:-1])  # [B, L]
        loss = F.cross_entropy(logits.float(), batch.labels, reduction="sum")
        hits = (logits.argmax(dim=1) == batch.labels).sum()
        return loss[None], hits[None]

    def tell(self, rate: float) -> None:
        """See Task.tell."""
        progress, mean = self.progress, self.progress.window
        self.log({"step": progress.step, "loss": mean.loss, "accuracy": mean.accuracy, "lr": rate})
        say(
            f"epoch {progress.epoch + 1}/{self.options.epochs}  batch {progress.batch:>3}/{self.counts[progress.epoch]}"
            f"  loss {mean.loss:.4f}  accuracy {mean.accuracy:.3f}"
        )
        progress.window = Means()

    def evaluate(self) -> None:
        """Ends an epoch: scores the validation rows, keeps the model if it is the best so far."""
        progress, mean, scores = self.progress, self.progress.whole, self.scores(self.dev)
        check_loss(self, scores.loss)
        row = {"epoch": progress.epoch + 1, "train_loss": mean.loss, "train_accuracy": mean.accuracy}
        self.log(row | {"dev_loss": scores.loss, "dev_accuracy": scores.accuracy})
        best = scores.accuracy > progress.best_accuracy
        say(
            f"epoch {progress.epoch + 1}/{self.options.epochs}  train loss {mean.loss:.4f}  accuracy"
            f" {mean.accuracy:.3f}  │  dev loss {scores.loss:.4f}  accuracy {scores.accuracy:.3f}"
            f"{'  best so far' if best else ''}"
        )
        if best:
            progress.best_epoch, progress.best_accuracy = progress.epoch, scores.accuracy
            if self.ranks.main:
                self.model.save_pretrained(self.out)
                self.tokenizer.save_pretrained(self.out)
        progress.epoch, progress.batch, progress.whole = progress.epoch + 1, 0, Means()
        now = time.perf_counter()
        self.seconds.append(now - self.begun)
        self.begun = now

    def scores(self, split: Split) -> Scores:
        """Of one split, without dropout and without gradients."""
        return score(self.predict(self.model.eval(), split, self.ranks), split.labels)

    def predict(self, model: BertForSequenceClassification, split: Split, ranks: Ranks) -> Tensor:
        """Logits of one split, [N, L], of which each rank computes its share; the model is expected in eval mode."""
        lengths = split.encoding.length
        with self.autocast():
            logits = classify(model, split.encoding, order=ranks.own_rows(by_length(lengths), lengths))
        return ranks.summed(logits)

    # ---- after the loop ----

    def finish(self, seconds: float) -> Scores:
        """Scores the best epoch's model on the test file (else the validation rows); see Task.finish."""
        name, split = ("test", self.test) if self.test is not None else ("dev", self.dev)
        model = BertForSequenceClassification.from_pretrained(self.out, self.options.attention).to(self.device)
        logits = self.predict(model.eval(), split, Ranks())  # the others have left
        scores = score(logits, split.labels)
        baselines = self.baselines(split)
        result = {"accuracy": scores.accuracy, "loss": scores.loss, "macro_f1": scores.macro_f1}
        self.conclude({"split": name, **result}, seconds, baselines=baselines)
        labels = list(self.model.config.id2label.values())
        sizes = {
            "model": self.options.model or f"{self.options.preset}, from scratch",
            "parameters": f"{self.parameters:,}",
            "rows": ", ".join(f"{count:,} {part}" for part, count in self.facts()["rows"].items()),
        }
        self.report(
            Report,
            seconds,
            sizes,
            title=f"minibert: {Path(self.options.data).parent.name}/{Path(self.options.data).name}",
            labels=labels,
            epochs=self.epochs(),
            steps_per_epoch=round(sum(self.counts) / len(self.counts)),
            confusion=scores.confusion,
            split=name,
            result=result,
            baselines=baselines,
            mistakes=worst_mistakes(logits, split, labels),
        )
        for baseline, accuracy in baselines.items():
            say(f"{baseline:>28}  accuracy {accuracy:.3f} on {name}")
        say(f"{'report':>28}  {self.out / 'report.html'}")
        return scores

    def baselines(self, split: Split) -> dict[str, float]:
        """What simpler classifiers, which have learned from the same rows, reach on a split: their accuracies."""
        known, asked = self.train.encoding.input_ids, split.encoding.input_ids
        vocab_size = self.tokenizer.vocab_size
        bayes = bag_of_tokens_accuracy(known, self.train.labels, asked, split.labels, vocab_size)
        return {
            "majority class": majority_accuracy(self.train.labels, split.labels),
            "bag of tokens (naive Bayes)": bayes,
        }

    def facts(self) -> dict[str, object]:
        """See Task.facts."""
        rows = {"train": len(self.train.labels), "dev": len(self.dev.labels)}
        if self.test is not None:
            rows["test"] = len(self.test.labels)
        cut = int((self.train.encoding.length == self.options.max_length).sum())  # or just fitting
        return super().facts() | {"rows": rows, "rows_at_max_length": cut}

    def epochs(self) -> list[dict]:
        """The lines of metrics.jsonl about epochs, with the seconds of those since the run was begun or resumed."""
        epochs = [row for row in read_metrics(self.out) if "epoch" in row]
        unknown = [None] * (len(epochs) - len(self.seconds))
        return [row | {"seconds": seconds} for row, seconds in zip(epochs, unknown + self.seconds, strict=True)]


def worst_mistakes(logits: torch.Tensor, split: Split, labels: list[str], most: int = 20) -> list[dict]:
    """The wrong predictions of which the model was surest."""
    best = logits.softmax(dim=1).max(dim=1)
    texts, pairs = split.examples.texts, split.examples.pairs
    sure, guess = best.values.tolist(), best.indices.tolist()
    wrong = [row for row, label in enumerate(split.labels) if guess[row] != label]
    wrong.sort(key=lambda row: -sure[row])
    return [
        {
            "text": texts[row],
            "pair": pairs and pairs[row],
            "label": labels[split.labels[row]],
            "predicted": labels[guess[row]],
            "probability": sure[row],
        }
        for row in wrong[:most]
    ]
