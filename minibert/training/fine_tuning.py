"""Fine-tuning a classifier, or a regression: its data, its model, its batches, and the best epoch that is kept.

The loop is engine.py's; here stands what is fine-tuning's own (`FineTuning`). Before it, what is made from the options
(`prepare`); last what a run leaves behind (`finish`). Letters: B rows of a batch, L labels.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from minibert.fast.batches import Batch, by_length, collate, collate_packed, encode_examples
from minibert.fast.models import BertForSequenceClassification
from minibert.inference.scores import SCORING, AnyScores, numbers_of, told
from minibert.inference.text_models import classify
from minibert.io.examples import check_shapes, hold_out
from minibert.io.labels import label_values
from minibert.io.stderr import say
from minibert.text.data_doubts import tell
from minibert.training.baselines import reached
from minibert.training.engine import Step, Task, check_loss, device_for, epoch_order, run
from minibert.training.losses import RIGHT, Criterion, balanced_weights
from minibert.training.mistakes import WORST
from minibert.training.options import BEST_BY, TrainOptions
from minibert.training.ranks import Ranks
from minibert.training.report import Report
from minibert.training.splits import Split, doubts, read_split
from minibert.training.start import build, label_order
from minibert.training.state import Command, Means, Progress, hashes, model_hashes, read_metrics
from minibert.training.verdicts import loss_that_stayed, never_predicted, not_above

CHANGEABLE = ("attention", "device", "keep", "log_every", "parallel", "save_every")  # when resuming
CHANGEABLE += ("tensorboard", "threads")


# ---- before the loop ----


def train(options: TrainOptions) -> tuple[AnyScores, Path] | None:
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
        options = with_task(options)
        device = device_for(options, ranks)
        read = {name: read_split(options, getattr(options, name)) for name in ("data", "dev", "test")}
        check_shapes([*read.values()])
        files = {name: rows for name, rows in read.items() if rows is not None}
        names, kept = label_order(options, read["data"], record)
        if read["dev"] is None:
            read["data"], read["dev"] = hold_out(read["data"], 0.1, options.seed)
        labels = {name: rows and label_values(rows, names, options.task) for name, rows in read.items()}
        tokenizer, model = build(options, read["data"], names, kept)  # slow, so behind all mistakes in the labels
        splits = {
            name: rows and Split(rows, encode_examples(tokenizer, rows, options.max_length), labels[name])
            for name, rows in read.items()
        }
        tell(doubts(tokenizer, files, splits, options.max_length))
        sources = read_files(options)
    fine_tuning = FineTuning(options, out, ranks, device, model, tokenizer, sources)
    fine_tuning.use(splits["data"], splits["dev"], splits["test"])
    return fine_tuning


def with_task(options: TrainOptions) -> TrainOptions:
    """The options of a run, of which those that release 0.1 began do not say their task."""
    task = options.task or "classification"
    best_by = options.best_by or BEST_BY[task][0]
    return dataclasses.replace(options, task=task, best_by=best_by)


def read_files(options: TrainOptions) -> dict[str, str]:
    """Hashes of the data files and, under the model's own name, of its files."""
    return hashes(filter(None, (options.data, options.dev, options.test))) | model_hashes(options.model)


COMMAND = Command("train", TrainOptions, CHANGEABLE, read_files)


# ---- what the loop asks for ----


@dataclass
class TrainProgress(Progress):
    """`step` counts batches, of all epochs."""

    best_epoch: int = -1
    best_accuracy: float = -1.0  # its score by --best-by, the larger the better; named as release 0.1 did
    best_loss: float | None = None  # on the same rows; None where release 0.1 has saved the state
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
        task, weights = self.options.task, None
        if self.options.class_weights is not None:
            weights = balanced_weights(train.labels, self.model.config.num_labels, task).to(self.device)
        self.criterion = Criterion(task, self.options.label_smoothing, weights)
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

    @property
    def done(self) -> int:
        """See Task.done."""
        return sum(self.updates[: self.progress.epoch])

    @property
    def impatient(self) -> bool:
        """Whether --patience ends the run."""
        progress, patience = self.progress, self.options.patience
        if patience is None or progress.epoch == 0:
            return False
        return progress.epoch - 1 - progress.best_epoch >= patience

    def batches(self) -> Iterator[Step]:
        """See Task.batches."""
        progress, size = self.progress, self.options.accumulation
        while progress.epoch < self.options.epochs and not self.impatient:
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

        A rank that has no row computes one with the label -100 (NaN), which the criterion leaves out: the others wait
        for its part of their sums, which is 0.
        """
        mine = self.ranks.own_rows(rows, self.train.encoding.length)
        batch = self.collated(mine or rows[:1])
        if not mine:
            none = math.nan if batch.labels.is_floating_point() else -100
            batch = batch._replace(labels=torch.full_like(batch.labels, none))
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

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """See Task.loss."""
        loss, hits = self.criterion(model(*batch[:-1]), batch.labels)
        return loss[None], hits[None]

    def means(self, mean: Means) -> dict[str, float]:
        """What is logged of training rows: their loss, and the share of those that are right where it is told so."""
        found = {"loss": mean.loss}
        if self.options.task in RIGHT:
            found[RIGHT[self.options.task]] = mean.accuracy
        return found

    def tell(self, rate: float) -> None:
        """See Task.tell."""
        progress, means = self.progress, self.means(self.progress.window)
        self.log({"step": progress.step, **means, "lr": rate})
        say(
            f"epoch {progress.epoch + 1}/{self.options.epochs}  batch {progress.batch:>3}/{self.counts[progress.epoch]}"
            f"  {told(means)}"
        )
        progress.window = Means()

    def evaluate(self) -> None:
        """Ends an epoch: scores the validation rows, keeps the model if it is the best so far."""
        progress, means, scores = self.progress, self.means(self.progress.whole), self.scores(self.dev)
        check_loss(self, scores.loss)
        dev = numbers_of(scores)
        if self.options.task == "classification":  # as release 0.1 logged it
            dev = {name: dev[name] for name in dict.fromkeys(("loss", "accuracy", self.options.best_by))}
        row: dict[str, object] = {"epoch": progress.epoch + 1}
        row |= {f"train_{name}": value for name, value in means.items()}
        row |= {f"dev_{name}": value for name, value in dev.items()}
        self.log(row)
        best = self.is_best(dev)
        say(
            f"epoch {progress.epoch + 1}/{self.options.epochs}  train {told(means)}  │  dev {told(dev)}"
            f"{'  best so far' if best else ''}"
        )
        if best and self.ranks.main:
            self.model.save_pretrained(self.out)
            self.tokenizer.save_pretrained(self.out)
        progress.epoch, progress.batch, progress.whole = progress.epoch + 1, 0, Means()
        if self.impatient and progress.epoch < self.options.epochs:
            say(f"no epoch was better since epoch {progress.best_epoch + 1}: stopped, as --patience says")
        now = time.perf_counter()
        self.seconds.append(now - self.begun)
        self.begun = now

    def is_best(self, dev: dict[str, float | None]) -> bool:
        """Whether an epoch with these scores is better than all before it; if so, it is remembered.

        Of equals the one with the lower loss is the better, of those the first.
        """
        progress, loss = self.progress, dev["loss"]
        value = -loss if self.options.best_by == "loss" else dev[self.options.best_by]
        if value is None:  # a correlation that is undefined
            value = -math.inf
        if progress.best_epoch >= 0:
            if progress.best_loss is None:
                epochs = [row for row in read_metrics(self.out) if "epoch" in row]
                progress.best_loss = epochs[progress.best_epoch]["dev_loss"]
            if (value, -loss) <= (progress.best_accuracy, -progress.best_loss):
                return False
        progress.best_epoch = progress.epoch
        progress.best_accuracy = value
        progress.best_loss = loss
        return True

    def scores(self, split: Split) -> AnyScores:
        """Of one split, without dropout and without gradients."""
        return SCORING[self.options.task](self.predict(self.model.eval(), split, self.ranks), split.labels)

    def predict(self, model: BertForSequenceClassification, split: Split, ranks: Ranks) -> Tensor:
        """Logits of one split, [N, L], of which each rank computes its share; the model is expected in eval mode."""
        lengths = split.encoding.length
        with self.autocast():
            logits = classify(model, split.encoding, order=ranks.own_rows(by_length(lengths), lengths))
        return ranks.summed(logits)

    # ---- after the loop ----

    def finish(self, seconds: float) -> AnyScores:
        """Scores the best epoch's model on the test file (else the validation rows); see Task.finish."""
        name, split = ("test", self.test) if self.test is not None else ("dev", self.dev)
        model = BertForSequenceClassification.from_pretrained(self.out, self.options.attention).to(self.device)
        logits = self.predict(model.eval(), split, Ranks())  # the others have left
        task = self.options.task
        scores = SCORING[task](logits, split.labels)
        result = numbers_of(scores)
        epochs = self.epochs()
        baselines = reached(task, self.train, split, self.tokenizer.vocab_size)
        labels = list(self.model.config.id2label.values())
        balanced = self.criterion.weights is not None
        warnings = [
            *loss_that_stayed(epochs[-1], self.criterion, self.train.labels, self.dev.labels, len(labels)),
            *never_predicted(scores, labels, name, balanced),
            *not_above(result, baselines, task, name),
        ]
        self.conclude({"split": name, **result}, seconds, baselines=baselines, warnings=warnings)
        model, preset = self.options.model, self.options.preset
        sizes = {
            **({"model": model} if model else {"model, from scratch": preset}),
            "parameters": f"{self.parameters:,}",
            "rows": self.facts()["rows"],
        }
        self.report(
            Report,
            seconds,
            sizes,
            title=f"minibert: {Path(self.options.data).parent.name}/{Path(self.options.data).name}",
            task=task,
            labels=labels,
            best_by=self.options.best_by,
            epochs=epochs,
            steps_per_epoch=round(sum(self.counts) / len(self.counts)),
            rows=len(split.labels),
            confusion=getattr(scores, "confusion", []),
            counts=getattr(scores, "counts", []),
            split=name,
            result=result,
            baselines=baselines,
            warnings=warnings,
            mistakes=WORST[task](logits, split.examples, split.labels, labels),
        )
        for baseline, value in baselines.items():
            say(f"{baseline:>28}  {told({RIGHT.get(task, 'loss'): value})} on {name}")
        say(f"{'report':>28}  {self.out / 'report.html'}")
        for warning in warnings:
            say(warning)
        return scores

    def facts(self) -> dict[str, object]:
        """See Task.facts."""
        rows = {"train": len(self.train.labels), "dev": len(self.dev.labels)}
        if self.test is not None:
            rows["test"] = len(self.test.labels)
        cut = int((self.train.encoding.length == self.options.max_length).sum())  # or just fitting
        labels = list(self.model.config.id2label.values())
        return super().facts() | {"labels": labels, "rows": rows, "rows_at_max_length": cut}

    def epochs(self) -> list[dict]:
        """The lines of metrics.jsonl about epochs, with the seconds of those since the run was begun or resumed."""
        epochs = [row for row in read_metrics(self.out) if "epoch" in row]
        unknown = [None] * (len(epochs) - len(self.seconds))
        return [row | {"seconds": seconds} for row, seconds in zip(epochs, unknown + self.seconds, strict=True)]
