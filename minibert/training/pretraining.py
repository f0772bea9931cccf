"""Pretraining: from text files to a model that fills in masks and knows which sentence follows.

The loop is engine.py's; here stands what is pretraining's own (`Pretraining`). Before it, what is made from the options
(`prepare`); last what a run leaves behind (`finish`). The text is corpus.py's, examples and masks are instances.py's.
Letters: B examples, M hidden tokens, V vocabulary.
"""

from __future__ import annotations

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

from minibert.core.wordpiece import is_punctuation
from minibert.fast.batches import by_length, token_chunks
from minibert.fast.models import BertForMaskedLM, BertForPreTraining
from minibert.inference.text_models import token_budget
from minibert.io.bundled import resolve
from minibert.io.stderr import say
from minibert.text.corpus import Corpus, Sentences, checked_corpus, open_corpus
from minibert.text.data_doubts import tell, unknown
from minibert.text.token_file import description
from minibert.text.tokenizer import Tokenizer
from minibert.text.vocab import learn_vocabulary
from minibert.training.engine import Step, Task, check_loss, config_for, device_for, epoch_order, model_for, run
from minibert.training.instances import HELD_OUT, HIDDEN, MaskedBatch, Plan, VocabTables, batch, plan
from minibert.training.options import PretrainOptions
from minibert.training.ranks import Ranks
from minibert.training.report import PretrainingReport
from minibert.training.state import Command, Means, Progress, hashes, locked, model_hashes, read_metrics
from minibert.training.verdicts import nothing_learned

CHANGEABLE = ("attention", "cache", "device", "eval_every", "keep", "log_every", "parallel", "save_every")
CHANGEABLE += ("tensorboard", "threads")
EXAMPLES = 2000  # held-out ones that are scored at most
CACHE = "corpus"
SCHEME = 2  # of examples; that of release 0.1.0 left a fifth of the text out of an epoch with pairs


# ---- before the loop ----


def pretrain(options: PretrainOptions) -> tuple[dict[str, float], Path] | None:
    """A whole pretraining run. Returns the scores on the held-out documents (empty without any) and the directory; of
    several ranks the first alone does, the others return None.

    Raises:
        ValueError: anything in options, corpus or model that cannot be used; before any training.
        OSError: the output cannot be written.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM; the state is saved and `resume` continues.
    """
    return run(COMMAND, prepare, options)


def read_files(options: PretrainOptions) -> dict[str, str]:
    """Hashes of the corpus, and of the files of the model or the vocabulary that is given."""
    return hashes(checked_corpus(options.corpus)) | model_hashes(options.model or options.vocab)


COMMAND = Command("pretrain", PretrainOptions, CHANGEABLE, read_files, spare=(CACHE,))


def prepare(options: PretrainOptions, out: Path, ranks: Ranks | None = None, record: dict | None = None) -> Pretraining:
    """Reads and checks everything: corpus, vocabulary, model. Writes nothing but the tokenised corpus.

    What takes long, learning the vocabulary and tokenising, rank 0 does, and the others wait. record: of a run that is
    resumed.

    Raises:
        ValueError: corpus, vocabulary, model and options do not go together.
    """
    ranks = ranks or Ranks()
    older = record is not None and record.get("scheme") != SCHEME
    check_older(out, older and options.nsp == "on")
    with ranks.agreed():
        device = device_for(options, ranks)
        tokenizer = find_vocabulary(options, out, record) if ranks.main else None
    with ranks.agreed():
        tokenizer = ranks.broadcast(tokenizer)
        config = config_for(options, tokenizer, changes(options))
        cache, alone = Path(options.cache or out / CACHE), partial(locked, ranks=Ranks())  # several runs may share it
        corpus = open_corpus(options.corpus, tokenizer, cache, say, alone, options.encoding) if ranks.main else None
    with ranks.agreed():
        corpus = ranks.broadcast(corpus)  # the others map the same files
        check_older(out, older and any(source["read"] != source["kind"] for source in corpus.sources))
        model = model_for(BertForPreTraining if options.nsp == "on" else BertForMaskedLM, options, config)
        sources = {source["name"]: source["sha256"] for source in corpus.sources}
        sources |= model_hashes(options.model or options.vocab)
    task = Pretraining(options, out, ranks, device, model, tokenizer, sources)
    task.use(corpus)
    return task


def check_older(out: Path, differs: bool) -> None:
    """Refuses to resume a run whose examples are made otherwise now: it would neither end as it would have, nor begin
    anew. Release 0.1.0 left text out of pairs, and read .txt by its ending alone."""
    if differs:
        raise ValueError(
            f"{out}: was begun by an older minibert, which makes other examples of the text; go on with that one, or"
            " begin a new run, without --resume"
        )


def find_vocabulary(options: PretrainOptions, out: Path, record: dict | None) -> Tokenizer:
    """The model's, the one that is given, or one learned from the corpus. A resumed run has that in its directory."""
    texts = Sentences(options.corpus, options.encoding)  # checks the files before anything slow
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


def changes(options: PretrainOptions) -> dict[str, object]:
    """What differs from the model's config, or from the preset's."""
    found: dict[str, object] = {"num_hidden_layers": options.layers} if options.layers else {}
    if width := options.width:
        found |= {"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width}
    return found


# ---- what the loop asks for ----


@dataclass
class PretrainProgress(Progress):
    """`step` counts optimizer steps."""

    tokens: int = 0  # seen in all, [CLS] and [SEP] included
    pairs: Means = field(default_factory=Means)  # of next-sentence prediction, since the last log line

    def add(self, losses: Sequence[float], hits: Sequence[float], counts: Sequence[float]) -> None:
        """An optimizer step."""
        super().add(losses, hits, counts)
        self.pairs.add(losses[1], hits[1], counts[1])


class Pretraining(Task):
    """Text with hidden tokens, in pairs; measured every `eval_every` steps on the documents that are held out.

    documents, held_out: those of the corpus to train on and to measure on, [D, 2].
    epoch: the number of one, its examples, its batches.
    logged: the time of the last log line, and how many tokens had been seen by then.
    """

    command = COMMAND
    model: BertForPreTraining | BertForMaskedLM
    progress: PretrainProgress
    epoch: tuple[int, Plan, list[Sequence[int]]] | None = None

    def use(self, corpus: Corpus) -> None:
        """The text.

        Raises:
            ValueError: it has no examples, or --graphs does not go here.
        """
        options = self.options
        self.corpus = corpus
        self.documents, self.held_out = corpus.split(options.held_out, options.seed)
        if options.held_out and min(len(self.documents), len(self.held_out)) < 1 + (options.nsp == "on"):
            say("there are too few documents of different text to hold some out: nothing is measured")
            self.documents, self.held_out = corpus.split(0, options.seed)
        self.progress = PretrainProgress()
        self.schedule = options.schedule
        _, order = self.epoch_batches(0)
        self.steps = options.steps
        if self.steps is None:  # epochs are of nearly one size, and the first stands for all
            self.steps = -(-options.epochs * len(order) // options.accumulation)
        if len(self.held_out):
            _ = self.examples
        if options.graphs:
            rows = 5 * max(map(len, order)) // 4  # by tokens other epochs have other batches
            self.use_graphs(rows, lambda tokens: int(HIDDEN * tokens))

    @cached_property
    def tables(self) -> VocabTables:
        return VocabTables(self.tokenizer)

    @cached_property
    def words(self) -> NDArray[np.bool_]:
        """Which ids are neither special nor punctuation. [V]"""
        pieces = (token.removeprefix("##") for token in self.tokenizer.vocab)
        marks = [all(map(is_punctuation, piece)) for piece in pieces]
        return ~np.array(marks) & ~self.tables.special

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How often each token stands in the training text. [V]"""
        return self.corpus.token_counts(self.held_out, self.tokenizer.vocab_size)

    @cached_property
    def guesses(self) -> tuple[int, int]:
        """The training text's most frequent token, and the most frequent that is no punctuation."""
        any_token = np.where(self.tables.special, 0, self.counts).argmax()
        any_word = np.where(self.words, self.counts, 0).argmax()
        return int(any_token), int(any_word)

    @property
    def done(self) -> int:
        """See Task.done."""
        return self.progress.step

    def plan(self, documents: NDArray[np.int64], epoch: int) -> Plan:
        """The examples of some documents in an epoch."""
        options = self.options
        return plan(self.corpus, documents, options.max_length, options.nsp == "on", options.seed, epoch)

    def epoch_batches(self, epoch: int) -> tuple[Plan, list[Sequence[int]]]:
        """The examples of an epoch, and those of each batch."""
        if self.epoch is None or self.epoch[0] != epoch:
            planned = self.plan(self.documents, epoch)
            self.epoch = epoch, planned, epoch_order(self.options, planned.lengths, epoch)
        return self.epoch[1:]

    @cached_property
    def examples(self) -> Plan:
        """Those of the held-out documents, always the same."""
        return self.plan(self.held_out, HELD_OUT)

    def make(self, planned: Plan, rows: Sequence[int]) -> MaskedBatch:
        """This rank's part of a batch."""
        padded, whole_words = self.options.layout == "padded", self.options.whole_word_mask
        mine = self.ranks.own_rows(rows, planned.lengths)
        some = mine if len(mine) else rows[:1]
        how = whole_words, self.device, padded, self.multiple
        made = batch(self.corpus, planned, some, self.tables, *how)
        return made if len(mine) else made.without_answers()

    def batches(self) -> Iterator[Step]:
        """See Task.batches. Epoch follows epoch without a break between them."""
        self.announce()
        progress, options = self.progress, self.options
        while progress.step < self.steps:
            parts: list[MaskedBatch] = []
            while len(parts) < options.accumulation:
                planned, order = self.epoch_batches(progress.epoch)
                if progress.batch == len(order):
                    progress.epoch, progress.batch = progress.epoch + 1, 0
                    continue
                parts.append(self.make(planned, order[progress.batch]))
                progress.batch += 1
            counts = self.count(parts)
            number, last = progress.step, progress.step + 1 == self.steps
            evaluates = last or (number + 1) % options.eval_every == 0
            yield Step(number, parts, len(parts), [counts], evaluates, saves=last)

    def count(self, parts: list[MaskedBatch]) -> list[float]:
        """How many tokens are hidden and how many pairs asked in a step, over all ranks; counts tokens."""
        hidden = sum(len(part.labels) for part in parts)
        pairs = sum(len(part.is_random) for part in parts)
        tokens = sum(int(part.lengths.sum()) for part in parts)
        *counts, tokens = self.ranks.total(hidden, pairs, tokens)
        self.progress.tokens += int(tokens)
        return counts

    def announce(self) -> None:
        """Says what is about to happen, and keeps the vocabulary for when the run is resumed."""
        planned, order = self.epoch_batches(0)
        if self.ranks.main:
            self.tokenizer.save_pretrained(self.out)
        say(
            f"{self.parameters:,} parameters  {len(self.documents):,} documents, {len(self.held_out):,} held out"
            f"  {len(planned.lengths):,} examples of {planned.lengths.mean():.0f} tokens  {self.steps:,} steps,"
            f" {self.steps * self.options.accumulation / len(order):.1f} epochs"
        )
        if self.options.nsp == "on" and (random := planned.is_random.mean()) > 0.55:
            say(
                f"{random:.0%} of the pairs are random, as most documents have one sentence; --nsp off may serve better"
            )
        if self.options.model or self.options.vocab:  # and not learned from this text
            names, unknown_id = ", ".join(self.options.corpus), self.tokenizer.unk_id
            tell([unknown(names, int(self.counts[unknown_id]), int(self.counts.sum()))])
        self.logged = time.perf_counter(), self.progress.tokens

    @staticmethod
    def loss(model: nn.Module, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
        """See Task.loss."""
        return losses_and_hits(*answers(model, batch), batch)

    def tell(self, rate: float) -> None:
        """See Task.tell."""
        progress = self.progress
        tokens, pairs = progress.window, progress.pairs
        row = {"step": progress.step, "loss": tokens.loss, "accuracy": tokens.accuracy}
        line = f"step {progress.step:>5}/{self.steps}  loss {tokens.loss:.4f}  accuracy {tokens.accuracy:.3f}"
        if self.options.nsp == "on":
            row |= {"nsp_loss": pairs.loss, "nsp_accuracy": pairs.accuracy}
            line += f"  nsp {pairs.accuracy:.3f}"
        self.log(row | {"lr": rate, "tokens": progress.tokens})
        before, now = self.logged, (time.perf_counter(), progress.tokens)
        say(f"{line}  {(now[1] - before[1]) / (now[0] - before[0]):,.0f} tokens/s")
        progress.window, progress.pairs, self.logged = Means(), Means(), now

    def evaluate(self) -> None:
        """Scores the held-out documents, if there are any; writes and prints it."""
        if not len(self.held_out):
            return
        before = time.perf_counter()
        scores = self.scores()
        check_loss(self, scores["loss"])
        self.log({"measured": self.progress.step, **scores})
        line = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items())
        say(f"held out, step {self.progress.step}  {line}")
        self.logged = self.logged[0] + time.perf_counter() - before, self.logged[1]

    @torch.no_grad()
    def scores(self) -> dict[str, float]:
        """Loss and accuracies on the held-out documents, with the accuracies of always answering the most frequent
        token. "words" are hidden tokens that are no punctuation, which is too easy: in verse it stands at fixed places.
        """
        planned, (any_token, any_word) = self.examples, self.guesses
        count = len(planned.lengths)
        chosen = np.linspace(0, count - 1, min(EXAMPLES, count)).astype(np.int64)
        order = chosen[by_length(planned.lengths[chosen])].tolist()
        budget = self.ranks.world * token_budget(None, self.model)
        sums = np.zeros(8)
        self.model.eval()
        for rows in token_chunks(order, planned.lengths, budget):
            part = self.make(planned, rows)
            with self.autocast():
                tokens, follows = answers(self.model, part)
            losses, hits = losses_and_hits(tokens, follows, part)
            true = part.labels.cpu().numpy()  # [M]
            right = tokens.argmax(dim=1).cpu().numpy() == true
            word = self.words[true]
            sums[:3] += [losses[0].item(), *hits.tolist()]
            sums[3:6] += right[word].sum(), (true == any_token).sum(), (true[word] == any_word).sum()
            sums[6:] += len(true), word.sum()
        loss, hits, nsp_hits, word_hits, any_hits, any_word_hits, tokens, words = self.ranks.total(*sums.tolist())
        scores = {
            "loss": loss / max(1, tokens),
            "accuracy": hits / max(1, tokens),
            "word_accuracy": word_hits / max(1, words),
            "unigram_accuracy": any_hits / max(1, tokens),
            "unigram_word_accuracy": any_word_hits / max(1, words),
        }
        if self.options.nsp == "on":
            scores["nsp_accuracy"] = nsp_hits / len(chosen)
        return scores

    # ---- after the loop ----

    def finish(self, seconds: float) -> dict[str, float]:
        """Saves the model; see Task.finish. Returns the last scores on the held-out documents."""
        self.model.save_pretrained(self.out)
        rows = read_metrics(self.out)
        measured = [row for row in rows if "measured" in row]
        scores = {name: value for name, value in measured[-1].items() if name != "measured"} if measured else {}
        warnings = list(nothing_learned([row for row in rows if "step" in row], scores))
        self.conclude(scores, seconds, tokens=self.progress.tokens, warnings=warnings)
        model, preset = self.options.model, self.options.preset
        sizes = {
            **({"model": model} if model else {"model, from scratch": preset}),
            "parameters": f"{self.parameters:,}",
            "documents": self.facts()["documents"],
            "tokens seen": f"{self.progress.tokens:,}",
        }
        title = f"minibert pretrain: {', '.join(Path(name).name for name in self.options.corpus)}"
        own = {"title": title, "measured": measured, "result": scores, "warnings": warnings}
        self.report(PretrainingReport, seconds, sizes, **own)
        for line in (f"report  {self.out / 'report.html'}", *warnings):
            say(line)
        return scores

    def facts(self) -> dict[str, object]:
        """See Task.facts."""
        documents = {"train": len(self.documents), "held out": len(self.held_out)}
        own = {"tokenizer": description(self.tokenizer), "documents": documents, "steps": self.steps, "scheme": SCHEME}
        return super().facts() | own


# ---- answers ----


def answers(model: BertForPreTraining | BertForMaskedLM, batch: MaskedBatch) -> tuple[Tensor, Tensor | None]:
    """Logits of the hidden tokens [M, V] and of the pairs [B, 2]; None without next-sentence prediction."""
    answer = model(*batch[:5])
    if isinstance(answer, Tensor):
        return answer, None
    return answer


def losses_and_hits(tokens: Tensor, follows: Tensor | None, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
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
