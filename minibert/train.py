"""Fine-tuning a classifier, by an explicit loop.

Read `fit` first: it is the loop, top to bottom. Before it stands what is made from the options (`prepare`), after
it what a run leaves behind (`finish`). Parts that pretraining's loop needs as well are in loop.py.
"""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from minibert.baselines import bag_of_tokens_accuracy, majority_accuracy
from minibert.batches import (
    Batch,
    by_length,
    check_vocabulary,
    collate,
    collate_packed,
    encode_examples,
    shuffled_by_tokens,
    token_chunks,
)
from minibert.command_options import TrainOptions
from minibert.core.config import PRESETS, BertConfig
from minibert.core.data import Examples, chunks, label_names, shuffled
from minibert.core.files import atomic_write, write_json
from minibert.core.optimizer import learning_rate, optimizer_groups
from minibert.data import hold_out, label_ids, read_examples
from minibert.fast import prepare as fast
from minibert.hub import resolve
from minibert.inference import Scores, classify, pick_device, score, token_budget
from minibert.loop import (
    Interrupt,
    Means,
    check_compiler,
    cpu_threads,
    on_terminal,
    read_metrics,
    say,
    seed_step,
    threads_for,
)
from minibert.model import BertForSequenceClassification
from minibert.ranks import Ranks, joined, plain
from minibert.replay import DTYPES, Replays, check_replayable
from minibert.report import Report, render
from minibert.state import (
    RECORD,
    Command,
    begun,
    fingerprint,
    hashes,
    load_state,
    locked,
    log,
    model_hashes,
    remove_states,
    restored,
    save_state,
    versions,
    write_record,
)
from minibert.tokenizer import Encoding, Tokenizer
from minibert.vocab import learn_vocabulary

CHANGEABLE = ("attention", "device", "keep", "log_every", "parallel", "save_every", "threads")  # when resuming


# ---- before the loop ----


@dataclass
class Progress:
    """How far a run has come. With weights and optimizer it is all that resuming needs."""

    epoch: int = 0  # the one being trained, from 0
    batch: int = 0  # batches of it already done
    step: int = 0  # batches done in all epochs; metrics.jsonl counts by it
    best_epoch: int = -1
    best_accuracy: float = -1.0
    metrics_bytes: int = 0  # length of metrics.jsonl
    window: Means = field(default_factory=Means)  # since the last log line
    whole: Means = field(default_factory=Means)  # since the epoch began


@dataclass
class Split:
    """One data file: its rows, their encodings, their labels as numbers [N]."""

    examples: Examples
    encoding: Encoding
    labels: NDArray[np.int64]


@dataclass
class Run:
    """Everything the loop touches."""

    options: TrainOptions
    out: Path
    ranks: Ranks
    device: torch.device
    model: BertForSequenceClassification
    engine: nn.Module  # what to call for training: the model, or DDP around it
    tokenizer: Tokenizer
    optimizer: torch.optim.AdamW
    train: Split
    dev: Split
    test: Split | None
    parameters: int
    sources: dict[str, str]  # hashes of the files that were read
    progress: Progress = field(default_factory=Progress)
    clock: list[float] = field(default_factory=lambda: [time.perf_counter()])  # start of each epoch, end of the last
    replays: Replays | None = None  # on a GPU: `forward_backward`, recorded

    def deal(self, epoch: int) -> list[Sequence[int]]:
        """The rows of each batch of an epoch."""
        options, lengths = self.options, self.train.encoding.length
        if options.tokens_per_batch is not None:
            return shuffled_by_tokens(lengths, options.tokens_per_batch, options.seed, epoch)
        return chunks(shuffled(len(lengths), options.seed, epoch), options.batch_size)

    @cached_property
    def batches(self) -> list[int]:
        """Their number in each epoch, which differs where they are cut by tokens."""
        if self.options.tokens_per_batch is None:
            return [len(self.deal(0))] * self.options.epochs
        return [len(self.deal(epoch)) for epoch in range(self.options.epochs)]

    @cached_property
    def updates(self) -> list[int]:
        """Optimizer steps of each epoch."""
        return [-(-count // self.options.accumulation) for count in self.batches]


def train(options: TrainOptions) -> tuple[Scores, Path] | None:
    """A whole fine-tuning run. Returns the scores on the test file (else the validation rows) and the directory; of
    several ranks the first alone does, the others return None.

    Raises:
        ValueError: anything in options, data or model that cannot be used; before anything is written.
        OSError: the output cannot be written.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM; the state is saved and `resume` continues.
    """
    started = time.perf_counter()
    with joined() as ranks:
        with ranks.agreed():
            options, out, record = begun(COMMAND, options, ranks)
            run = prepare(options, out, ranks)
        with locked(out, ranks), cpu_threads(options.threads or threads_for(run.parameters)):
            write_record(COMMAND, out, ranks, facts(run), record)
            if record is not None:
                run.progress = restored(run.progress, load_state(out, ranks, run.model, run.optimizer))
                done = run.progress
                say(f"resuming at step {done.step}, epoch {done.epoch + 1}, batch {done.batch}")
            with Interrupt() as interrupt:
                fit(run, interrupt)
            ranks.leave()
            if not ranks.main:
                return None
            scores = finish(run, time.perf_counter() - started)
            remove_states(out)
    return scores, out


def prepare(options: TrainOptions, out: Path, ranks: Ranks) -> Run:
    """Reads and checks everything: data, labels, vocabulary, model. Writes nothing."""
    ranks.check(options.parallel)
    device = pick_device(ranks.device(options.device))
    if options.compile:
        check_compiler(device)
    torch.manual_seed(options.seed)
    read = {name: read_split(options, getattr(options, name)) for name in ("data", "dev", "test")}
    names = label_names(read["data"])
    if read["dev"] is None:
        read["data"], read["dev"] = hold_out(read["data"], 0.1, options.seed)
    labels = {name: rows and label_ids(rows, names) for name, rows in read.items()}  # checked before anything slow
    tokenizer, model = build(options, read["data"], names)
    if options.max_length > model.config.max_position_embeddings:
        raise ValueError(
            f"max_length is {options.max_length}, more than the model's max_position_embeddings"
            f" {model.config.max_position_embeddings}"
        )
    splits = {
        name: rows and Split(rows, encode_examples(tokenizer, rows, options.max_length), labels[name])
        for name, rows in read.items()
    }
    model = fast.prepare(model.to(device))
    if options.compile:
        fast.compile_tokenwise(model)
    parameters = sum(p.numel() for p in model.parameters())
    engine = ranks.wrap(model, options.parallel)
    optimizer = torch.optim.AdamW(optimizer_groups(model, options.weight_decay), lr=options.lr, fused=True)
    run = Run(
        *(options, out, ranks, device, model, engine, tokenizer, optimizer),
        *(splits["data"], splits["dev"], splits["test"], parameters, read_files(options)),
    )
    if options.graphs:
        check_replayable(device, model.config.head_size, ranks, options)
        rows = max(max(map(len, run.deal(epoch))) for epoch in range(options.epochs))
        run.replays = Replays(
            partial(forward_backward, run), model, rows, options.max_length, DTYPES[options.precision]
        )
    return run


def read_files(options: TrainOptions) -> dict[str, str]:
    """Hashes of the data files and, under the model's own name, of its files."""
    found = hashes(path for path in (options.data, options.dev, options.test) if path is not None)
    if options.model is not None:
        found |= model_hashes(options.model)
    return found


COMMAND = Command("train", TrainOptions, CHANGEABLE, read_files)


def read_split(options: TrainOptions, path: str | None) -> Examples | None:
    columns = options.columns.split(",") if options.columns else None
    return None if path is None else read_examples(path, columns, options.quoting)


def build(options: TrainOptions, rows: Examples, names: list[str]) -> tuple[Tokenizer, BertForSequenceClassification]:
    """Tokenizer and model: from a checkpoint, or from scratch with a vocabulary learned from the training rows."""
    changes: dict[str, object] = {"id2label": dict(enumerate(names))}
    if options.dropout is not None:
        rates = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
        changes |= dict.fromkeys(rates, options.dropout)
    if options.model is not None:
        directory = resolve(options.model)
        config = BertConfig.from_file(directory / "config.json").replace(**changes)
        tokenizer = Tokenizer.from_pretrained(directory)
        tokenizer.model_max_length = options.max_length  # goes into the trained directory, where texts are cut alike
        check_vocabulary(tokenizer, config, options.model)
        model = BertForSequenceClassification.from_pretrained(directory, options.attention, config=config)
        if options.pooler == "fresh":
            model.init_weights(model.bert.pooler)
        return tokenizer, model
    vocabulary = learn_vocabulary(rows.texts + (rows.pairs or []), options.vocab_size)
    tokenizer = Tokenizer(vocabulary, model_max_length=options.max_length)
    config = BertConfig(
        vocab_size=tokenizer.vocab_size,
        max_position_embeddings=options.max_length,  # a position that no training text reaches would stay random
        pad_token_id=tokenizer.pad_id,
        **PRESETS[options.preset],
        **changes,
    )
    return tokenizer, BertForSequenceClassification(config, options.attention)


# ---- the loop ----


def fit(run: Run, interrupt: Interrupt) -> None:
    """Trains `run.model`; after every epoch validates, and keeps the best epoch's model in `run.out`.

    Raises:
        ValueError: the loss is no number.
        KeyboardInterrupt: asked to stop; the state has been saved.
    """
    options, model, progress, ranks = run.options, run.model, run.progress, run.ranks
    while progress.epoch < options.epochs:
        model.train()
        for batch, mine, rows, last in epoch_batches(run):
            update = sum(run.updates[: progress.epoch]) + progress.batch // options.accumulation
            if progress.batch % options.accumulation == 0:
                seed_step(options.seed, update, ranks.rank)
            batch = with_masks(batch, run)
            ranks.sync(run.engine, last)
            weight = torch.tensor(ranks.world / rows, device=run.device)  # the mean over ranks is that over rows
            loss, hits = (run.replays or partial(forward_backward, run))(batch, weight).tolist()
            if last:  # of the batches that make one optimizer step
                for group in run.optimizer.param_groups:
                    group["lr"] = learning_rate(update, sum(run.updates), options.lr, options.warmup)
                if options.clip:
                    nn.utils.clip_grad_norm_(model.parameters(), options.clip)
                run.optimizer.step()
                run.optimizer.zero_grad(set_to_none=run.replays is None)
            *sums, stop = ranks.total(loss, hits, mine, interrupt.requested)
            record(run, *sums)
            if last and (stop or (update + 1) % options.save_every == 0):
                save_state(run.out, ranks, model, run.optimizer, progress, options.keep)
            if last and stop:
                say(f"state saved; continue with: minibert train --resume {shlex.quote(str(run.out))}")
                raise KeyboardInterrupt
        validate(run)


def forward_backward(run: Run, batch: Batch, weight: Tensor) -> Tensor:
    """Adds the gradient of weight · loss to the parameters'. Returns the sums of the batch's losses and hits, [2]."""
    bf16 = run.options.precision == "bf16"
    with torch.autocast(run.device.type, torch.bfloat16, enabled=bf16, cache_enabled=run.replays is None):
        logits = run.engine(*batch[:-1])  # [B, L]
    loss = F.cross_entropy(logits.float(), batch.labels, reduction="sum")
    (loss * weight).backward()
    return torch.stack([loss.detach(), (logits.argmax(dim=1) == batch.labels).sum()])


def epoch_batches(run: Run) -> Iterator[tuple[Batch, int, int, bool]]:
    """What is left of the epoch: (this rank's part of a batch, its rows, the rows of the whole optimizer step, whether
    the batch ends that step)."""
    options, done, order = run.options, run.progress.batch, run.deal(run.progress.epoch)
    title = f"epoch {run.progress.epoch + 1}/{options.epochs}"
    with tqdm(total=len(order), initial=done, desc=title, unit="batch", leave=False, disable=not on_terminal()) as bar:
        for i in range(done, len(order)):
            first = i - i % options.accumulation
            group = order[first : first + options.accumulation]
            mine = run.ranks.deal(order[i], run.train.encoding.length)
            batch = dealt(run, mine) if mine else without_labels(dealt(run, order[i][:1]))
            yield batch, len(mine), sum(map(len, group)), i == first + len(group) - 1
            bar.update()


def dealt(run: Run, rows: Sequence[int]) -> Batch:
    """The training rows of one batch."""
    encoding, labels = run.train.encoding, run.train.labels
    if run.options.layout == "padded":
        return collate(encoding, labels, rows, run.tokenizer.pad_id, run.device)
    multiple = 1 if run.replays is None else run.replays.multiple
    rows = sorted(rows, key=encoding.length.__getitem__)
    return collate_packed(encoding, labels, rows, run.device, multiple, run.tokenizer.pad_id, first_only=True)


def with_masks(batch: Batch, run: Run) -> Batch:
    """Some tokens drawn anew become [MASK], never special ones: word dropout (Iyyer et al. 2015), with the
    sign that pretraining has taught the model to read as "some word"."""
    if not run.options.token_dropout:
        return batch
    tokenizer, ids = run.tokenizer, batch.input_ids
    special = torch.tensor([tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id], device=ids.device)
    dropped = torch.rand(ids.shape, device=ids.device) < run.options.token_dropout
    return batch._replace(input_ids=ids.masked_fill(dropped & ~torch.isin(ids, special), tokenizer.mask_id))


def without_labels(batch: Batch) -> Batch:
    """What a rank computes that has no row of a batch: the others wait for its part of their sums, which is 0."""
    return batch._replace(labels=torch.full_like(batch.labels, -100))  # cross_entropy's ignore_index


def record(run: Run, loss: float, hits: float, rows: float) -> None:
    """Adds a batch to the running means; every `log_every` batches writes and prints them.

    loss, hits, rows: sums over the batch, of all ranks.
    """
    options, progress = run.options, run.progress
    progress.batch += 1
    progress.step += 1
    check_loss(run, loss)
    for mean in (progress.window, progress.whole):
        mean.add(loss / rows, int(hits), int(rows))
    if progress.step % options.log_every == 0:
        mean, lr = progress.window, run.optimizer.param_groups[0]["lr"]
        row = {"step": progress.step, "loss": mean.loss, "accuracy": mean.accuracy, "lr": lr}
        log(run.out, run.ranks, progress, row)
        say(
            f"epoch {progress.epoch + 1}/{options.epochs}  batch {progress.batch:>3}/{run.batches[progress.epoch]}"
            f"  loss {mean.loss:.4f}  accuracy {mean.accuracy:.3f}"
        )
        progress.window = Means()


def check_loss(run: Run, loss: float) -> None:
    """Raises ValueError where training has run away, before any file holds what is left of the model."""
    if np.isfinite(loss):
        return
    progress = run.progress
    kept = f"the best model so far stays in {run.out}" if progress.best_epoch >= 0 else "no epoch was finished"
    raise ValueError(
        f"the loss is {loss} at step {progress.step} (epoch {progress.epoch + 1}, batch {progress.batch}); try a"
        f" smaller --lr than {run.options.lr:g}; {kept}"
    )


def validate(run: Run) -> None:
    """Ends an epoch: scores the validation rows, keeps the model if it is the best so far, saves the state."""
    progress, mean = run.progress, run.progress.whole
    scores = evaluate(run, run.model, run.dev)
    check_loss(run, scores.loss)
    row = {"epoch": progress.epoch + 1, "train_loss": mean.loss, "train_accuracy": mean.accuracy}
    row |= {"dev_loss": scores.loss, "dev_accuracy": scores.accuracy}
    log(run.out, run.ranks, progress, row)
    best = scores.accuracy > progress.best_accuracy
    say(
        f"epoch {progress.epoch + 1}/{run.options.epochs}  train loss {mean.loss:.4f}  accuracy {mean.accuracy:.3f}"
        f"  │  dev loss {scores.loss:.4f}  accuracy {scores.accuracy:.3f}{'  best so far' if best else ''}"
    )
    if best:
        progress.best_epoch, progress.best_accuracy = progress.epoch, scores.accuracy
        model = plain(run.model, run.ranks.main)
        if run.ranks.main:
            model.save_pretrained(run.out)
            run.tokenizer.save_pretrained(run.out)
    progress.epoch, progress.batch, progress.whole = progress.epoch + 1, 0, Means()
    run.clock.append(time.perf_counter())
    save_state(run.out, run.ranks, run.model, run.optimizer, progress, run.options.keep)


def evaluate(run: Run, model: BertForSequenceClassification, split: Split) -> Scores:
    """Scores of one split, without dropout and without gradients."""
    model.eval()
    if run.ranks.world == 1:
        return score(predict(run, model, split), split.labels)
    return score(predict_together(run, model, split), split.labels)


def predict(run: Run, model: BertForSequenceClassification, split: Split) -> torch.Tensor:
    """Logits of one split, [N, L]; the model is expected in eval mode."""
    with torch.autocast(run.device.type, torch.bfloat16, enabled=run.options.precision == "bf16"):
        return classify(model, split.encoding)


@torch.no_grad()
def predict_together(run: Run, model: BertForSequenceClassification, split: Split) -> torch.Tensor:
    """The same by all ranks, each its share of every batch; the sliced model of FSDP needs all of them each time."""
    lengths, logits = split.encoding.length, torch.zeros(len(split.labels), model.config.num_labels)
    for rows in token_chunks(by_length(lengths), lengths, run.ranks.world * token_budget(None, model)):
        mine = run.ranks.deal(rows, lengths)
        batch = collate_packed(split.encoding, None, mine or rows[:1], run.device, first_only=True)
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.options.precision == "bf16"):
            answer = model(*batch[:-1]).float().cpu()
        logits[mine] = answer[: len(mine)]
    return run.ranks.summed(logits)


# ---- after the loop ----


def finish(run: Run, seconds: float) -> Scores:
    """Scores the best epoch's model on the test file (else the validation rows); writes run.json and report.html."""
    name, split = ("test", run.test) if run.test is not None else ("dev", run.dev)
    model = BertForSequenceClassification.from_pretrained(run.out, run.options.attention).to(run.device)
    logits = predict(run, model.eval(), split)
    scores = score(logits, split.labels)
    known, asked = (part.encoding.input_ids for part in (run.train, split))
    baselines = {
        "majority class": majority_accuracy(run.train.labels, split.labels),
        "bag of tokens (naive Bayes)": bag_of_tokens_accuracy(
            known, run.train.labels, asked, split.labels, run.tokenizer.vocab_size
        ),
    }
    result = {"split": name, "accuracy": scores.accuracy, "loss": scores.loss, "macro_f1": scores.macro_f1}
    write_json(
        run.out / RECORD,
        facts(run)
        | {
            "result": result,
            "baselines": baselines,
            "state": fingerprint(run.out),
            "seconds": seconds,
        },
    )
    write_report(run, scores, logits, name, split, baselines, seconds)
    for baseline, accuracy in baselines.items():
        say(f"{baseline:>28}  accuracy {accuracy:.3f} on {name}")
    say(f"{'report':>28}  {run.out / 'report.html'}")
    return scores


def facts(run: Run) -> dict[str, object]:
    """What someone needs to repeat the run."""
    return {
        "command": run.options.command(),
        "options": dataclasses.asdict(run.options),
        "sources": run.sources,
        "versions": versions(),
        "device": str(run.device),
        "threads": torch.get_num_threads(),
        "processes": run.ranks.world,
        "parameters": run.parameters,
        "rows": {"train": len(run.train.labels), "dev": len(run.dev.labels)}
        | ({"test": len(run.test.labels)} if run.test is not None else {}),
        "rows_at_max_length": int((run.train.encoding.length == run.options.max_length).sum()),  # cut, or just fitting
    }


def write_report(
    run: Run,
    scores: Scores,
    logits: torch.Tensor,
    name: str,
    split: Split,
    baselines: dict[str, float],
    seconds: float,
) -> None:
    """report.html, from the metrics and the predictions on `split`."""
    options, known, metrics = run.options, facts(run), read_metrics(run.out)
    labels = list(run.model.config.id2label.values())
    epochs = [row | {"seconds": None} for row in metrics if "epoch" in row]
    for row, start, end in zip(reversed(epochs), run.clock[-2::-1], run.clock[:0:-1], strict=False):
        row["seconds"] = end - start  # epochs before an interruption have none: times are no part of the saved state
    report = Report(
        title=f"minibert: {Path(options.data).parent.name}/{Path(options.data).name}",
        summary={
            "model": options.model or f"{options.preset}, from scratch",
            "parameters": f"{known['parameters']:,}",
            "rows": ", ".join(f"{count:,} {part}" for part, count in known["rows"].items()),
            "seconds": f"{seconds:.0f} on {known['device']}, threads: {known['threads']}",
            "versions": ", ".join(f"{package} {version}" for package, version in known["versions"].items()),
        },
        labels=labels,
        steps=[row for row in metrics if "step" in row],
        epochs=epochs,
        steps_per_epoch=round(sum(run.batches) / len(run.batches)),
        confusion=scores.confusion,
        split=name,
        result={"accuracy": scores.accuracy, "loss": scores.loss, "macro_f1": scores.macro_f1},
        baselines=baselines,
        mistakes=worst_mistakes(logits, split, labels),
        options=known["options"],
        command=known["command"],
    )
    atomic_write(run.out / "report.html", render(report).encode("utf-8"))


def worst_mistakes(logits: torch.Tensor, split: Split, labels: list[str], most: int = 20) -> list[dict]:
    """The wrong predictions of which the model was surest."""
    sure, guess = logits.softmax(dim=1).max(dim=1)
    wrong = (guess != torch.from_numpy(split.labels)).nonzero().flatten().tolist()
    wrong.sort(key=lambda row: -sure[row].item())
    rows = split.examples
    return [
        {
            "text": rows.texts[row],
            "pair": rows.pairs[row] if rows.pairs is not None else None,
            "label": labels[split.labels[row]],
            "predicted": labels[guess[row]],
            "probability": sure[row].item(),
        }
        for row in wrong[:most]
    ]
