"""Pretraining: from text files to a model that fills in masks and knows which sentence follows, by an explicit loop.

Read `fit` first: it is the loop, top to bottom. Before it stands what is made from the options (`prepare`), after
it what a run leaves behind (`finish`). The text is corpus.py's, examples and masks are instances.py's.
Letters: B examples, M hidden tokens, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from minibert.batches import by_length, check_vocabulary, shuffled_by_tokens, token_chunks
from minibert.command_options import PretrainOptions
from minibert.core.config import PRESETS, BertConfig
from minibert.core.data import chunks, shuffled
from minibert.core.files import atomic_write, write_json
from minibert.core.optimizer import learning_rate, optimizer_groups
from minibert.core.wordpiece import is_punctuation
from minibert.corpus import Corpus, Sentences, checked_corpus, open_corpus
from minibert.fast import prepare as fast
from minibert.hub import resolve
from minibert.inference import pick_device, token_budget
from minibert.instances import HELD_OUT, HIDDEN, Kinds, MaskedBatch, Plan, batch, plan
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
from minibert.model import BertForMaskedLM, BertForPreTraining
from minibert.ranks import Ranks, joined, plain
from minibert.replay import DTYPES, Replays, check_replayable
from minibert.report import Pretraining, render_pretraining
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
from minibert.token_file import description
from minibert.tokenizer import Tokenizer
from minibert.vocab import learn_vocabulary

CHANGEABLE = ("attention", "cache", "device", "eval_every", "keep", "log_every", "parallel", "save_every", "threads")
EXAMPLES = 2000  # held-out ones that are scored at most
CACHE = "corpus"


# ---- before the loop ----


@dataclass
class Progress:
    """How far a run has come. With weights and optimizer it is all that resuming needs."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # of the next batch, from 0
    batch: int = 0  # the next batch of that epoch
    tokens: int = 0  # seen in all, [CLS] and [SEP] included
    metrics_bytes: int = 0  # length of metrics.jsonl
    window: Means = field(default_factory=Means)  # of hidden tokens, since the last log line
    pairs: Means = field(default_factory=Means)  # of sentence pairs, since then


@dataclass
class Run:
    """Everything the loop touches."""

    options: PretrainOptions
    out: Path
    ranks: Ranks
    device: torch.device
    model: BertForPreTraining | BertForMaskedLM
    engine: nn.Module  # what to call for training: the model, or DDP around it
    tokenizer: Tokenizer
    optimizer: torch.optim.AdamW
    corpus: Corpus
    documents: NDArray[np.int64]  # to train on
    held_out: NDArray[np.int64]
    parameters: int
    sources: dict[str, str]  # hashes of the files that were read
    progress: Progress = field(default_factory=Progress)
    dealt: tuple[int, Plan, list[Sequence[int]]] | None = None  # epoch, its examples, its batches
    clock: tuple[float, int, float] = (0.0, 0, 0.0)  # when the last log line was written; tokens and FLOPs since
    peak: float = 1.0  # FLOP/s of a matrix product, on all ranks together
    replays: Replays | None = None  # on a GPU: `forward_backward`, recorded

    @cached_property
    def kinds(self) -> Kinds:
        return Kinds(self.tokenizer)

    @cached_property
    def words(self) -> NDArray[np.bool_]:
        """Which ids are neither special nor punctuation. [V]"""
        marks = [all(map(is_punctuation, token.removeprefix("##"))) for token in self.tokenizer.vocab]
        return ~np.array(marks) & ~self.kinds.special

    @cached_property
    def guesses(self) -> tuple[int, int]:
        """The training text's most frequent token, and the most frequent that is no punctuation."""
        counts = self.corpus.token_counts(self.held_out, self.tokenizer.vocab_size)
        return int(np.where(self.kinds.special, 0, counts).argmax()), int(np.where(self.words, counts, 0).argmax())

    def deal(self, epoch: int) -> tuple[Plan, list[Sequence[int]]]:
        """The examples of an epoch, and those of each batch."""
        if self.dealt is None or self.dealt[0] != epoch:
            options = self.options
            planned = plan(self.corpus, self.documents, options.max_length, options.nsp == "on", options.seed, epoch)
            if options.tokens_per_batch is not None:
                order = shuffled_by_tokens(planned.lengths, options.tokens_per_batch, options.seed, epoch)
            else:
                order = chunks(shuffled(len(planned.lengths), options.seed, epoch), options.batch_size)
            self.dealt = epoch, planned, order
        return self.dealt[1:]

    @cached_property
    def examples(self) -> Plan:
        """Those of the held-out documents, always the same."""
        options = self.options
        return plan(self.corpus, self.held_out, options.max_length, options.nsp == "on", options.seed, HELD_OUT)

    @cached_property
    def steps(self) -> int:
        """Of the whole run. Epochs are of nearly one size, and the first stands for all."""
        options = self.options
        return options.steps or -(-options.epochs * len(self.deal(0)[1]) // options.accumulation)

    def make(self, planned: Plan, rows: Sequence[int]) -> MaskedBatch:
        """This rank's part of a batch."""
        padded, whole_words = self.options.layout == "padded", self.options.whole_word_mask
        mine = self.ranks.deal(rows, planned.lengths)
        some = mine if len(mine) else rows[:1]
        multiple = 1 if self.replays is None else self.replays.multiple
        made = batch(self.corpus, planned, some, self.kinds, whole_words, self.device, padded, multiple)
        return made if len(mine) else made.without_answers()


def pretrain(options: PretrainOptions) -> tuple[dict[str, float], Path] | None:
    """A whole pretraining run. Returns the scores on the held-out documents (empty without any) and the directory; of
    several ranks the first alone does, the others return None.

    Raises:
        ValueError: anything in options, corpus or model that cannot be used; before any training.
        OSError: the output cannot be written.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM; the state is saved and `resume` continues.
    """
    started = time.perf_counter()
    with joined() as ranks:
        with ranks.agreed():
            options, out, record = begun(COMMAND, options, ranks)
        with locked(out, ranks):  # before anything slow: tokenising writes there
            run = prepare(options, out, ranks, record)
            with cpu_threads(options.threads or threads_for(run.parameters)):
                write_record(COMMAND, out, ranks, facts(run), record)
                if ranks.main:
                    run.tokenizer.save_pretrained(out)
                if record is not None:
                    run.progress = restored(run.progress, load_state(out, ranks, run.model, run.optimizer))
                    say(f"resuming at step {run.progress.step}")
                announce(run)
                with Interrupt() as interrupt:
                    fit(run, interrupt)
                model = plain(run.model, ranks.main)
                ranks.leave()
                if not ranks.main:
                    return None
                scores = finish(run, model, time.perf_counter() - started)
                remove_states(out)
    return scores, out


def read_files(options: PretrainOptions) -> dict[str, str]:
    """Hashes of the corpus, and of the files of the model or the vocabulary that is given."""
    return hashes(checked_corpus(options.corpus)) | given_hashes(options)


def given_hashes(options: PretrainOptions) -> dict[str, str]:
    name = options.model or options.vocab
    return {} if name is None else model_hashes(name)


COMMAND = Command("pretrain", PretrainOptions, CHANGEABLE, read_files, spare=(CACHE,))


def prepare(options: PretrainOptions, out: Path, ranks: Ranks | None = None, record: dict | None = None) -> Run:
    """Reads and checks everything: corpus, vocabulary, model. Writes nothing but the tokenised corpus.

    What takes long, learning the vocabulary and tokenising, rank 0 does, and the others wait. record: of a run that is
    resumed.
    """
    ranks = ranks or Ranks()
    with ranks.agreed():
        ranks.check(options.parallel)
        device = pick_device(ranks.device(options.device))
        if options.compile:
            check_compiler(device)
        tokenizer = find_vocabulary(options, out, record) if ranks.main else None
    with ranks.agreed():
        tokenizer = ranks.told(tokenizer)
        config = sizes(options, tokenizer)
        cache = Path(options.cache or out / CACHE)
        corpus = open_corpus(options.corpus, tokenizer, cache, say, alone_in) if ranks.main else None
    with ranks.agreed():
        corpus = ranks.told(corpus)  # the others map the same files
        documents, held_out = corpus.split(options.held_out, options.seed)
        torch.manual_seed(options.seed)
        kind = BertForPreTraining if options.nsp == "on" else BertForMaskedLM
        if options.model is None:
            model = kind(config, options.attention)
        else:
            model = kind.from_pretrained(resolve(options.model), options.attention, config=config)
        model = fast.prepare(model.to(device))
        if options.compile:
            fast.compile_tokenwise(model)
        parameters = sum(p.numel() for p in model.parameters())
        sources = {source["name"]: source["sha256"] for source in corpus.sources} | given_hashes(options)
    engine = ranks.wrap(model, options.parallel)
    optimizer = torch.optim.AdamW(optimizer_groups(model, options.weight_decay), lr=options.lr, fused=True)
    run = Run(
        *(options, out, ranks, device, model, engine, tokenizer, optimizer),
        *(corpus, documents, held_out, parameters, sources),
    )
    if options.graphs:
        check_replayable(device, model.config.head_size, ranks, options)
        rows = 5 * max(map(len, run.deal(0)[1])) // 4  # by tokens other epochs have other batches
        compute, dtype = partial(forward_backward, run), DTYPES[options.precision]
        run.replays = Replays(compute, model, rows, options.max_length, dtype, lambda tokens: int(HIDDEN * tokens))
    run.deal(0)  # whether there are examples is known before the first file
    if options.held_out:
        _ = run.examples
    return run


def alone_in(cache: Path) -> AbstractContextManager[None]:
    """The lock of a cache, which several runs may share."""
    return locked(cache, Ranks())


def find_vocabulary(options: PretrainOptions, out: Path, record: dict | None) -> Tokenizer:
    """The model's, the one that is given, or one learned from the corpus. A resumed run has that in its directory."""
    texts = Sentences(options.corpus)  # checks the files before anything slow
    if (name := options.model or options.vocab) is not None:
        tokenizer = Tokenizer.from_pretrained(resolve(name))
    elif record is not None and (out / "tokenizer_config.json").is_file():  # the last file that it is written to
        tokenizer = Tokenizer.from_pretrained(out)
    else:
        say(f"learning a vocabulary of {options.vocab_size} tokens")
        lowercase, coverage = not options.cased, options.character_coverage
        tokenizer = Tokenizer(learn_vocabulary(texts, options.vocab_size, lowercase, coverage), lowercase)
        if tokenizer.vocab_size < options.vocab_size:
            say(f"the text supports {tokenizer.vocab_size} tokens")
    if record is not None and record["tokenizer"] != description(tokenizer):
        raise ValueError(f"{out}: its vocabulary has changed since the run began; put the old files back")
    if options.model is None:
        tokenizer.model_max_length = options.max_length
    return tokenizer


def sizes(options: PretrainOptions, tokenizer: Tokenizer) -> BertConfig:
    """The model's config.

    Raises:
        ValueError: model, vocabulary and max_length do not go together.
    """
    changes: dict[str, object] = {}
    if options.dropout is not None:
        changes = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), options.dropout)
    if options.model is not None:
        config = BertConfig.from_file(resolve(options.model) / "config.json").replace(**changes)
        check_vocabulary(tokenizer, config, options.model)
        if options.max_length > config.max_position_embeddings:
            raise ValueError(
                f"max_length is {options.max_length}, more than the model's max_position_embeddings"
                f" {config.max_position_embeddings}"
            )
        return config
    changes |= PRESETS[options.preset]
    if options.layers:
        changes["num_hidden_layers"] = options.layers
    if width := options.width:
        changes |= {"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width}
    return BertConfig(
        vocab_size=tokenizer.vocab_size,
        max_position_embeddings=options.max_length,  # a position that no example reaches would stay random
        pad_token_id=tokenizer.pad_id,
        **changes,
    )


def announce(run: Run) -> None:
    """Says what is about to happen."""
    planned, order = run.deal(0)
    if run.ranks.main:
        run.peak = run.ranks.world * product_rate(run.device, run.options.precision)
    say(
        f"{run.parameters:,} parameters  {len(run.documents):,} documents, {len(run.held_out):,} held out"
        f"  {len(planned.lengths):,} examples of {planned.lengths.mean():.0f} tokens  {run.steps:,} steps,"
        f" {run.steps * run.options.accumulation / len(order):.1f} epochs"
    )
    say(f"matrix products run at {run.peak / 1e9:,.0f} GFLOP/s here; MFU is the model's share of that")
    if run.options.nsp == "on" and (random := planned.is_random.mean()) > 0.51:
        say(f"{random:.0%} of the pairs are random, as most documents have one sentence; --nsp off may serve better")
    run.clock = time.perf_counter(), 0, 0.0


# ---- the loop ----


def fit(run: Run, interrupt: Interrupt) -> None:
    """Trains `run.model` to the last step, measuring and saving on the way.

    Raises:
        ValueError: the loss is no number.
        KeyboardInterrupt: asked to stop; the state has been saved.
    """
    options, model, progress, ranks = run.options, run.model, run.progress, run.ranks
    model.train()
    for batches in steps(run):
        seed_step(options.seed, progress.step, ranks.rank)
        counts = ranks.total(sum(len(b.labels) for b in batches), sum(len(b.is_random) for b in batches))
        # So all batches of all ranks, whose gradients are averaged, count as one large one.
        weights = torch.tensor([ranks.world / max(1, count) for count in counts], device=run.device)
        sums = torch.zeros(2, 2, device=run.device)  # losses and hits of both tasks
        for part in batches:
            ranks.sync(run.engine, part is batches[-1])
            sums += (run.replays or partial(forward_backward, run))(part, weights)
        rate = learning_rate(progress.step, run.steps, options.lr, options.warmup, options.schedule)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        if options.clip:
            nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=run.replays is None)
        work = sum(int(b.lengths.sum()) for b in batches), sum(flops(model.config, b) for b in batches)
        *totals, stop = ranks.total(*sums.flatten().tolist(), *work, interrupt.requested)
        record(run, counts, *totals)
        last = progress.step == run.steps
        if last or progress.step % options.eval_every == 0:
            measure(run)
        if last or stop or progress.step % options.save_every == 0:
            save_state(run.out, ranks, model, run.optimizer, progress, options.keep)
        if stop:
            say(f"state saved; continue with: minibert pretrain --resume {shlex.quote(str(run.out))}")
            raise KeyboardInterrupt


def forward_backward(run: Run, batch: MaskedBatch, weights: Tensor) -> Tensor:
    """Adds the gradient of the weighted losses of both tasks to the parameters'. Returns the sums of losses and hits,
    [2, 2]. weights: [2]."""
    bf16 = run.options.precision == "bf16"
    with torch.autocast(run.device.type, torch.bfloat16, enabled=bf16, cache_enabled=run.replays is None):
        tokens, follows = answers(run.engine, batch)  # [M, V], [B, 2]
    losses, hits = judged(tokens, follows, batch)  # [2], [2]
    (losses * weights).sum().backward()
    return torch.stack([losses.detach(), hits])


def answers(model: BertForPreTraining | BertForMaskedLM, batch: MaskedBatch) -> tuple[Tensor, Tensor | None]:
    """Logits of the hidden tokens [M, V] and of the pairs [B, 2]; None without next-sentence prediction."""
    answer = model(*batch[:5])
    return (answer, None) if isinstance(answer, Tensor) else answer


def judged(tokens: Tensor, follows: Tensor | None, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
    """Summed cross-entropies and hits of both tasks, [2] and [2]; 0 for a task that is not asked."""
    losses, hits = [], []
    for logits, truth in ((tokens, batch.labels), (follows, batch.is_random)):
        if logits is None:
            losses.append(losses[0].new_zeros(()))
            hits.append(hits[0].new_zeros(()))
        else:
            logits = logits[: len(truth)]  # of a rank without examples none is asked
            losses.append(F.cross_entropy(logits.float(), truth, reduction="sum"))
            hits.append((logits.argmax(dim=1) == truth).sum())
    return torch.stack(losses), torch.stack(hits)


def steps(run: Run) -> Iterator[list[MaskedBatch]]:
    """The batches of each step that is left; epoch after epoch, without a break between them."""
    progress = run.progress
    with tqdm(total=run.steps, initial=progress.step, unit="step", leave=False, disable=not on_terminal()) as bar:
        while progress.step < run.steps:
            batches = []
            while len(batches) < run.options.accumulation:
                planned, order = run.deal(progress.epoch)
                if progress.batch == len(order):
                    progress.epoch, progress.batch = progress.epoch + 1, 0
                    continue
                batches.append(run.make(planned, order[progress.batch]))
                progress.batch += 1
            yield batches
            bar.update()


def record(
    run: Run,
    counts: Sequence[float],
    loss: float,
    nsp_loss: float,
    hits: float,
    nsp_hits: float,
    tokens: float,
    work: float,
) -> None:
    """Adds a step to the running means; every `log_every` steps writes and prints them.

    All are sums over the step and over all ranks; counts: hidden tokens and pairs. work: FLOPs.
    """
    options, progress = run.options, run.progress
    progress.step += 1
    if not np.isfinite(loss + nsp_loss):
        raise ValueError(
            f"the loss is {loss + nsp_loss} at step {progress.step}; try a smaller --lr than {options.lr:g}, or a"
            " longer --warmup"
        )
    for means, total, hit, count in (
        (progress.window, loss, hits, counts[0]),
        (progress.pairs, nsp_loss, nsp_hits, counts[1]),
    ):
        means.add(total / max(1, count), int(hit), int(count))
    progress.tokens += int(tokens)
    since, seen, done = run.clock
    run.clock = since, seen + tokens, done + work
    if progress.step % options.log_every == 0:
        tell(run)


def tell(run: Run) -> None:
    """Writes and prints the running means, and begins them anew."""
    progress, rate = run.progress, run.optimizer.param_groups[0]["lr"]
    tokens, pairs = progress.window, progress.pairs
    row = {"step": progress.step, "loss": tokens.loss, "accuracy": tokens.accuracy}
    line = f"step {progress.step:>5}/{run.steps}  loss {tokens.loss:.4f}  accuracy {tokens.accuracy:.3f}"
    if run.options.nsp == "on":
        row |= {"nsp_loss": pairs.loss, "nsp_accuracy": pairs.accuracy}
        line += f"  nsp {pairs.accuracy:.3f}"
    log(run.out, run.ranks, progress, row | {"lr": rate, "tokens": progress.tokens})
    since, seen, work = run.clock
    seconds = time.perf_counter() - since
    say(f"{line}  {seen / seconds:,.0f} tokens/s  MFU {work / seconds / run.peak:.0%}")
    progress.window, progress.pairs = Means(), Means()
    run.clock = time.perf_counter(), 0, 0.0


def measure(run: Run) -> None:
    """Scores the held-out documents, if there are any; writes and prints it."""
    if not run.options.held_out:
        return
    before = time.perf_counter()
    scores = evaluate(run)
    log(run.out, run.ranks, run.progress, {"measured": run.progress.step, **scores})
    line = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items())
    say(f"held out, step {run.progress.step}  {line}")
    since, seen, work = run.clock
    run.clock = since + time.perf_counter() - before, seen, work


@torch.no_grad()
def evaluate(run: Run) -> dict[str, float]:
    """Loss and accuracies on the held-out documents, with the accuracies of always answering the most frequent token.

    "words" are hidden tokens that are no punctuation, which is too easy: in verse it stands at fixed places.
    """
    planned, (any_token, any_word) = run.examples, run.guesses
    chosen = np.linspace(0, len(planned.lengths) - 1, min(EXAMPLES, len(planned.lengths))).astype(np.int64)
    order = chosen[by_length(planned.lengths[chosen])].tolist()
    sums = np.zeros(8)
    run.model.eval()
    for rows in token_chunks(order, planned.lengths, run.ranks.world * token_budget(None, run.model)):
        part = run.make(planned, rows)
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.options.precision == "bf16"):
            tokens, follows = answers(run.model, part)
        losses, hits = judged(tokens, follows, part)
        true, guessed = part.labels.cpu().numpy(), tokens.argmax(dim=1).cpu().numpy()
        word = run.words[true]
        right = [np.sum(found) for found in ((guessed == true)[word], true == any_token, true[word] == any_word)]
        sums += [losses[0].item(), *hits.tolist(), *right, len(true), word.sum()]
    run.model.train()
    loss, hits, nsp_hits, word_hits, any_hits, any_word_hits, tokens, words = run.ranks.total(*sums.tolist())
    scores = {
        "loss": loss / max(1, tokens),
        "accuracy": hits / max(1, tokens),
        "word_accuracy": word_hits / max(1, words),
        "unigram_accuracy": any_hits / max(1, tokens),
        "unigram_word_accuracy": any_word_hits / max(1, words),
    }
    if run.options.nsp == "on":
        scores["nsp_accuracy"] = nsp_hits / len(chosen)
    return scores


# ---- speed ----


def flops(config: BertConfig, batch: MaskedBatch) -> float:
    """Of a training step: three times the forward pass through layers and masked-LM head, of real tokens alone."""
    E, F, N, V = config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.vocab_size
    lengths = batch.lengths
    layers = 2 * lengths.sum() * (4 * E * E + 2 * E * F) + 4 * (lengths**2).sum() * E
    return 3.0 * (N * layers + 2 * len(batch.labels) * (E * E + E * V))


def product_rate(device: torch.device, precision: str) -> float:
    """FLOP/s of a large matrix product here and now, the best of five. Of random numbers, as a GPU multiplies ones with
    less power and so faster; they are drawn apart from the run's own.
    """
    n, dtype = (8192 if device.type == "cuda" else 1024), torch.bfloat16 if precision == "bf16" else torch.float32
    generator = torch.Generator(device).manual_seed(0)
    a = torch.randn(n, n, device=device, generator=generator).to(dtype)
    seconds = []
    for _ in range(6):
        begun = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - begun)
    return 2 * n**3 / min(seconds[1:])


# ---- after the loop ----


def finish(run: Run, model: BertForPreTraining | BertForMaskedLM, seconds: float) -> dict[str, float]:
    """Saves the model, writes run.json and report.html; returns the last scores on the held-out documents."""
    model.save_pretrained(run.out)
    measured = [row for row in read_metrics(run.out) if "measured" in row]
    scores = {name: value for name, value in measured[-1].items() if name != "measured"} if measured else {}
    ends = {"result": scores, "tokens": run.progress.tokens, "state": fingerprint(run.out), "seconds": seconds}
    write_json(run.out / RECORD, facts(run) | ends)
    write_report(run, scores, seconds)
    say(f"report  {run.out / 'report.html'}")
    return scores


def facts(run: Run) -> dict[str, object]:
    """What someone needs to repeat the run."""
    return {
        "command": run.options.command(),
        "options": dataclasses.asdict(run.options),
        "sources": run.sources,
        "tokenizer": description(run.tokenizer),
        "versions": versions(),
        "device": str(run.device),
        "threads": torch.get_num_threads(),
        "processes": run.ranks.world,
        "parameters": run.parameters,
        "documents": {"train": len(run.documents), "held out": len(run.held_out)},
        "steps": run.steps,
    }


def write_report(run: Run, scores: dict[str, float], seconds: float) -> None:
    """report.html, from the metrics."""
    known, metrics = facts(run), read_metrics(run.out)
    page = Pretraining(
        title=f"minibert: pretraining on {', '.join(Path(name).name for name in run.options.corpus)}",
        summary={
            "model": run.options.model or "from scratch",
            "parameters": f"{known['parameters']:,}",
            "documents": ", ".join(f"{count:,} {part}" for part, count in known["documents"].items()),
            "tokens seen": f"{run.progress.tokens:,}",
            "seconds": f"{seconds:.0f} on {known['device']}, threads: {known['threads']}",
            "versions": ", ".join(f"{package} {version}" for package, version in known["versions"].items()),
        },
        steps=[row for row in metrics if "step" in row],
        measured=[row for row in metrics if "measured" in row],
        result=scores,
        options=known["options"],
        command=known["command"],
    )
    atomic_write(run.out / "report.html", render_pretraining(page).encode("utf-8"))
