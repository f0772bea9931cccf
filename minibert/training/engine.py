"""The training engine: one loop, for fine-tuning and for pretraining.

Read `fit` first. It is the loop of core/train.py with what a long run needs: accumulation, several processes, CUDA
graphs, signals, checkpoints. What is trained, on which batches, by which loss, and how it is measured, is a Task's own:
fine_tuning.py has one, pretraining.py the other. Letters: K losses (fine-tuning 1; masked LM and next sentence 2).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from minibert.core.config import PRESETS, BertConfig
from minibert.core.data import chunks, shuffled
from minibert.core.files import atomic_write, read_object, write_json
from minibert.core.optimizer import learning_rate, optimizer_groups
from minibert.core.weights import Pretrained
from minibert.fast import twins as fast
from minibert.fast.batches import check_vocabulary, shuffled_by_tokens
from minibert.fast.replay import DTYPES, Replays, check_replayable
from minibert.inference.text_models import pick_device, pick_dtype
from minibert.io.bundled import resolve
from minibert.io.signals import Interrupt
from minibert.io.stderr import on_terminal, say
from minibert.text.tokenizer import Tokenizer
from minibert.training.board import Board, check_board
from minibert.training.ranks import Ranks, joined
from minibert.training.report import render
from minibert.training.state import (
    RECORD,
    Command,
    Progress,
    append_metrics,
    begun,
    fingerprint,
    load_state,
    locked,
    read_metrics,
    remove_states,
    restored,
    save_state,
    versions,
    write_record,
)

ONE_THREAD_BELOW = 5_000_000  # weights: with fewer, threads wait for each other longer than they compute


class Step(NamedTuple):
    """The batches of one optimizer step, of each this process's part."""

    number: int  # from 0, of the whole run
    batches: Iterable[Any]  # each is made when it is its turn, after the step's random numbers have been seeded
    size: int  # how many batches
    entries: list[Sequence[float]]  # a log entry for each batch, or one for all: what its K losses are sums over
    evaluates: bool = False  # whether the model is measured after it
    saves: bool = False  # whether a checkpoint follows in any case


class Task:
    """A run: what is trained, with which optimizer, and how far it has come.

    A subclass says what `fit` asks for: `batches`, `loss`, `evaluate`; what is logged, `tell`; and what a run leaves
    behind, `finish`.
    """

    command: Command
    progress: Progress
    steps: int  # optimizer steps of the whole run
    schedule = "linear"
    replays: Replays | None = None  # on a GPU: `forward_backward`, recorded
    board: Board | None = None  # for TensorBoard

    def __init__(
        self,
        options: Any,
        out: Path,
        ranks: Ranks,
        device: torch.device,
        model: nn.Module,
        tokenizer: Tokenizer,
        sources: dict[str, str],
    ) -> None:
        """options: TrainOptions or PretrainOptions. sources: hashes of the files that were read."""
        self.options, self.out, self.ranks, self.device = options, out, ranks, device
        self.tokenizer, self.sources = tokenizer, sources
        self.model = fast.prepare(model.to(device))
        if options.compile:
            fast.compile_tokenwise(self.model)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.wrapped = ranks.wrap(self.model)  # what to call for training: the model, or DDP around it
        groups = optimizer_groups(self.model, options.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=options.lr, fused=True)

    @property
    def done(self) -> int:
        """Optimizer steps so far."""
        raise NotImplementedError

    def rate(self, number: int) -> float:
        """The learning rate of optimizer step `number`, from 0."""
        return learning_rate(number, self.steps, self.options.lr, self.options.warmup, self.schedule)

    def batches(self) -> Iterator[Step]:
        """The steps that are left of the run. Moves `progress` on to the batch after each."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """(sums of the batch's losses, how many of its answers are right), each [K]."""
        raise NotImplementedError

    def evaluate(self) -> None:
        """Measures the model on data that it is not trained on; logs it, and keeps what is worth keeping."""
        raise NotImplementedError

    def tell(self, rate: float) -> None:
        """Logs and prints the running means, and begins them anew. rate: the last learning rate."""
        raise NotImplementedError

    def finish(self, seconds: float) -> Any:
        """Leaves the model, run.json and report.html in `out`. Returns the scores."""
        raise NotImplementedError

    def facts(self) -> dict[str, object]:
        """What someone needs to repeat the run: the content of run.json."""
        return {
            "command": self.options.command(),
            "options": dataclasses.asdict(self.options),
            "sources": self.sources,
            "versions": versions(),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "processes": self.ranks.world,
            "parameters": self.parameters,
        }

    def log(self, row: dict[str, object]) -> None:
        """Adds a line to metrics.jsonl, of which rank 0 writes it; `progress` remembers how long the file is."""
        if self.ranks.main:
            self.progress.metrics_bytes = append_metrics(self.out, row)
            if self.board is not None:
                self.board.draw(row, self.progress.step)

    def autocast(self, cached: bool = True) -> torch.autocast:
        """The precision of the run. cached: whether weights in bfloat16 are kept from one product to the next."""
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.options.precision == "bf16", cache_enabled=cached
        )

    def use_graphs(self, rows: int, answers: Callable[[int], int] | None = None) -> None:
        """Has the steps of a GPU recorded as CUDA graphs. rows, answers: see Replays. ValueError: here they cannot."""
        options = self.options
        check_replayable(self.device, self.model.config.head_size, self.ranks.world, options)
        compute, dtype = partial(forward_backward, self), DTYPES[options.precision]
        self.replays = Replays(compute, self.model, rows, options.max_length, dtype, answers)

    @property
    def multiple(self) -> int:
        """What the number of a packed batch's tokens has to be a multiple of."""
        return 1 if self.replays is None else self.replays.multiple

    def conclude(self, result: dict, seconds: float, **more: object) -> None:
        """Writes run.json with the result, which says that the run is complete."""
        ends = {"result": result, **more, "state": fingerprint(self.out), "seconds": seconds}
        write_json(self.out / RECORD, read_object(self.out / RECORD, needed=False) | self.facts() | ends)

    def report(self, kind: type, seconds: float, sizes: dict[str, str | dict[str, int]], **own: Any) -> None:
        """Writes report.html. sizes: of model and data. own: what this kind of report has besides."""
        known, rows = self.facts(), [row for row in read_metrics(self.out) if "step" in row]
        summary = {
            **sizes,
            "seconds": f"{seconds:.0f}",
            "device": known["device"],
            "threads": str(known["threads"]),
            "versions": ", ".join(f"{package} {version}" for package, version in known["versions"].items()),
        }
        last = self.done - 1
        peak = min(last, int(self.options.warmup * self.steps))  # the first that is not below those before it
        rates = [(number + 1, self.rate(number)) for number in (peak, last)]
        own |= {"rates": rates, "options": known["options"], "command": known["command"]}
        page = kind(summary=summary, steps=rows, **own)
        atomic_write(self.out / "report.html", render(page).encode("utf-8"))


# ---- a whole run ----


def run(command: Command, prepare: Callable[..., Task], options: Any) -> tuple[Any, Path] | None:
    """Begins or resumes a run, trains, and leaves its results: (the scores, the directory). Of several processes the
    first alone returns them, the others None.

    prepare: (options, out, ranks, record of the run that is resumed) -> Task; reads and checks everything.
    """
    started = time.perf_counter()
    with joined() as ranks:
        with ranks.agreed():
            options, out, record = begun(command, settled(options, ranks), ranks)
            board = check_board(options.tensorboard, record is not None)
            options = dataclasses.replace(options, tensorboard=board)
        with locked(out, ranks, reserved=options.out is None and record is None):
            task = prepare(options, out, ranks, record)
            with cpu_threads(options.threads or (1 if task.parameters < ONE_THREAD_BELOW else torch.get_num_threads())):
                write_record(command, out, ranks, task.facts(), record)
                if record is not None:
                    task.progress = restored(task.progress, load_state(out, ranks, task.model, task.optimizer))
                    done = task.progress
                    say(f"resuming at step {done.step}, epoch {done.epoch + 1}, batch {done.batch}")
                if options.tensorboard is not None and ranks.main:
                    task.board = Board(Path(options.tensorboard, out.resolve().name), task.progress.step)
                with Interrupt() as interrupt:
                    fit(task, interrupt)
                ranks.leave()
                if not ranks.main:
                    return None
                scores = task.finish(time.perf_counter() - started)
                remove_states(out)
    return scores, out


def settled(options: Any, ranks: Ranks) -> Any:
    """The options with the precision that "auto" stands for here, so that a record holds what was computed; of a run
    that is resumed it is the run's own, as where none is named."""
    if options.precision != "auto":
        return options
    if options.resume is not None:
        return dataclasses.replace(options, precision="fp32")
    dtype = pick_dtype("auto", pick_device(ranks.device(options.device)))
    return dataclasses.replace(options, precision=next(name for name, kind in DTYPES.items() if kind is dtype))


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Lets PyTorch use `count` CPU threads for a while. Results depend on the number in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_for(options: Any, ranks: Ranks) -> torch.device:
    """Where to train. Raises ValueError where processes, device or compiler are not there."""
    if options.parallel is not None and ranks.world == 1:
        raise ValueError(f"parallel {options.parallel} is for several processes; start them with torchrun")
    device = pick_device(ranks.device(options.device))
    if options.compile:
        check_compiler(device)
    return device


def check_compiler(device: torch.device) -> None:
    """What torch.compile needs, looked for before the first step and not in it.

    Raises:
        ValueError: it is not there.
    """
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise ValueError("compile needs Triton, which is not installed; pip install triton, or leave --compile out")
    elif shutil.which(name := os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")) is None:
        raise ValueError(
            f"compile needs a C++ compiler, and {name} is not found; install one, name it by the variable CXX, or leave"
            " --compile out"
        )


def config_for(options: Any, tokenizer: Tokenizer, changes: dict[str, object]) -> BertConfig:
    """The pretrained model's config, or that of a preset, with the dropout that is asked for and some changes.

    Raises:
        ValueError: model, vocabulary and max_length do not go together.
    """
    if options.dropout is not None:
        changes |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), options.dropout)
    if options.model is None:
        sizes = {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id}
        sizes["max_position_embeddings"] = options.max_length  # a position that no text reaches would stay random
        return BertConfig(**{**sizes, **PRESETS[options.preset], **changes})
    config = BertConfig.from_file(resolve(options.model) / "config.json").replace(**changes)
    check_vocabulary(tokenizer, config, options.model)
    if options.max_length > config.max_position_embeddings:
        raise ValueError(
            f"max_length is {options.max_length}, more than the model's max_position_embeddings"
            f" {config.max_position_embeddings}"
        )
    return config


def model_for(kind: type[Pretrained], options: Any, config: BertConfig) -> Pretrained:
    """A model from scratch, or the pretrained one. What is not loaded is drawn from the run's seed."""
    torch.manual_seed(options.seed)
    if options.model is None:
        return kind(config, options.attention)
    return kind.from_pretrained(resolve(options.model), options.attention, config=config)


def epoch_order(options: Any, lengths: NDArray[np.int64], epoch: int) -> list[Sequence[int]]:
    """The rows of each batch of an epoch. lengths: of all rows, in tokens."""
    if options.tokens_per_batch is not None:
        return shuffled_by_tokens(lengths, options.tokens_per_batch, options.seed, epoch)
    return chunks(shuffled(len(lengths), options.seed, epoch), options.batch_size)


# ---- the loop ----


def fit(task: Task, interrupt: Interrupt) -> None:
    """Trains `task.model` to the end of the run, measuring and saving on the way.

    Raises:
        ValueError: the loss is no number.
        KeyboardInterrupt: asked to stop; the state has been saved.
    """
    options, model, optimizer, ranks = task.options, task.model, task.optimizer, task.ranks
    compute = task.replays or partial(forward_backward, task)
    for step in shown(task):
        model.train()
        seed_step(options.seed, step.number, ranks.rank)
        counts = np.sum(step.entries, axis=0).tolist()  # [K]; all batches of all ranks count as one large batch
        weights = torch.tensor([ranks.world / max(1, n) for n in counts], device=task.device)
        sums = torch.zeros(len(step.entries), 2, len(weights), device=task.device)  # losses and hits
        for i, batch in enumerate(step.batches):
            ranks.sync(task.wrapped, i == step.size - 1)
            sums[i % len(sums)] += compute(batch, weights)
        rates = [optimizer.param_groups[0]["lr"]] * (len(sums) - 1)  # while the gradient is still being added up
        rates.append(task.rate(step.number))
        for group in optimizer.param_groups:
            group["lr"] = rates[-1]
        if options.clip:
            nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=task.replays is None)
        *totals, stop = ranks.total(*sums.flatten().tolist(), interrupt.requested)
        record(task, step, np.reshape(totals, sums.shape), rates)
        if step.evaluates:
            task.evaluate()
        if stop or step.saves or (step.number + 1) % options.save_every == 0:
            save_state(task.out, ranks, model, optimizer, task.progress, options.keep)
        if stop:
            say(f"state saved; continue with: minibert {task.command.name} --resume {shlex.quote(str(task.out))}")
            raise KeyboardInterrupt


def forward_backward(task: Task, batch: Any, weights: Tensor) -> Tensor:
    """Adds the gradient of the weighted losses to the parameters'. Returns the batch's sums of losses and of hits,
    [2, K]. weights: [K]."""
    with task.autocast(cached=task.replays is None):
        losses, hits = task.loss(task.wrapped, batch)
    (losses * weights).sum().backward()
    return torch.stack([losses.detach(), hits])


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seeds PyTorch, GPUs included, for one optimizer step of one process.

    What the step draws (dropout) depends on these three numbers alone. So a checkpoint needs no state of a generator,
    of which every process and every GPU would have its own, and a run may be resumed on any number of them.
    """
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]))


def shown(task: Task) -> Iterator[Step]:
    """The steps that are left, with a progress bar on a terminal."""
    with tqdm(total=task.steps, unit="step", leave=False, disable=not on_terminal()) as bar:
        for step in task.batches():
            bar.update(step.number - bar.n)
            yield step


def record(task: Task, step: Step, sums: NDArray[np.float64], rates: Sequence[float]) -> None:
    """Adds the entries of a step to the running means; logs these every `log_every` entries.

    sums: losses and hits of each entry, over all ranks, [entries, 2, K]. rates: the learning rates to log with them.
    """
    for (losses, hits), counts, rate in zip(sums.tolist(), step.entries, rates, strict=True):
        task.progress.add(losses, hits, counts)
        check_loss(task, sum(losses))
        if task.progress.step % task.options.log_every == 0:
            task.tell(rate)


def check_loss(task: Task, loss: float) -> None:
    """Raises ValueError where training has run away, before any file holds what is left of the model."""
    if np.isfinite(loss):
        return
    done = task.progress
    kept = (task.out / "config.json").is_file()  # train writes it with the best epoch's model
    kept = f"the best model so far stays in {task.out}" if kept else "no model was kept so far"
    raise ValueError(
        f"the loss is {loss} at step {done.step} (epoch {done.epoch + 1}, batch {done.batch}); try a smaller --lr than"
        f" {task.options.lr:g}, or a longer --warmup; {kept}"
    )
