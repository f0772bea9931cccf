"""How much faster does minibert pretrain than a loop over transformers' BertForPreTraining?

    python -m benchmarks.pretraining                      # MiniLM's size, some minutes on two free cores
    python -m benchmarks.pretraining --device cuda        # BERT-base under bf16 autocast
    python -m benchmarks.pretraining --device cuda --corpus full                # rows of the full length
    python -m benchmarks.pretraining --small              # a minute, to see that all runs; writes no file
    python -m benchmarks.pretraining --show               # the table of the newest result

Expected: what padding costs, as in fine-tuning, and the vocabulary: transformers computes V logits for every token,
minibert for the hidden 15 % alone. With V = 30,522 those logits are a fifth of BERT-base's work.

Text: each text of a corpus is a document, its sentences end at . ! ? and their Chinese forms; examples of up to 128 and
512 tokens (in the mean 137 of ChnSentiCorp's short documents; see tokens_per_text), pairs, masks as `minibert pretrain`
makes them. A step is forward, loss, backward, AdamW; both take the very same batches, made beforehand, in the same
order. transformers: sdpa, padded to the longest of the batch, fused AdamW; compiled with dynamic shapes where --compile
is given. minibert on a GPU: with --graphs, without, and with both --graphs and --compile.
Compared before timing, without dropout: the loss of a batch and its whole gradient, as one vector.
MFU: operations of real tokens alone (`flops` below) over what the data sheet of the GPU says
(PEAK). See benchmarks/race.py for the method; `share_of_gemm_asked` in the file is the same over a product measured
there.
"""

from __future__ import annotations

import copy
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

from benchmarks.race import SEED, Contestant, Plan, config_of, corpora, joined, judged, race, run, take_times
from benchmarks.tokenizer import CORES, Bound, Row
from benchmarks.training import DECAY, LR, TOLERANCE
from minibert.core.checkpoint import back_name
from minibert.core.config import BertConfig
from minibert.core.data import chunks, shuffled
from minibert.core.optimizer import optimizer_groups
from minibert.core.weights import export_weights
from minibert.fast.models import BertForPreTraining
from minibert.fast.replay import DTYPES, STEP, Replays, obstacle
from minibert.fast.twins import compile_tokenwise, prepare
from minibert.text.corpus import open_corpus
from minibert.text.tokenizer import Tokenizer
from minibert.training.engine import forward_backward
from minibert.training.instances import HIDDEN, MaskedBatch, VocabTables, batch, plan
from minibert.training.pretraining import Pretraining, PretrainOptions
from minibert.training.ranks import Ranks

LENGTHS = (128, 512)
BATCHES, BATCH = {"cpu": 3, "cuda": 20}, {128: {"cpu": 16, "cuda": 256}, 512: {"cpu": 8, "cuda": 64}}
FULL_TEXTS = 2000  # of the corpus `full`, whose examples are of the full length nearly always
SPEEDUP, MFU = {"cpu": None, "cuda": Bound(1.5)}, Bound(0.5)
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16 FLOP/s, NVIDIA's data sheets (SXM)


@dataclass(frozen=True)
class Examples:
    """Batches of a corpus, packed and padded, with the same examples and masks. What `race` asks of a Work."""

    corpus: str
    config: BertConfig
    texts: range
    length: int
    packed: list[MaskedBatch]
    padded: list[MaskedBatch]

    @property
    def tokens(self) -> int:
        return sum(int(part.lengths.sum()) for part in self.packed)


def make_examples(run_plan: Plan, name: str, size: str, length: int) -> Examples:
    """The first examples of an epoch in random order."""
    found, device = corpora()["chnsenticorp" if name == "full" else name], run_plan.device
    texts = joined(found.texts, FULL_TEXTS, random.Random(SEED)) if name == "full" else found.texts
    tokenizer = Tokenizer(found.vocab)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text("\n\n".join(map(sentences, texts)) + "\n", encoding="utf-8")
        corpus = open_corpus([path], tokenizer, Path(folder) / "cache")
        planned, tables = plan(corpus, corpus.documents, length, True, SEED, 0), VocabTables(tokenizer)
        count = max(1, round(BATCHES[device.type] * min(1, run_plan.scale)))
        order = chunks(shuffled(len(planned.lengths), SEED, 0), BATCH[length][device.type])[:count]
        packed, padded = (
            [batch(corpus, planned, rows, tables, device=device, padded=padded, multiple=multiple) for rows in order]
            for padded, multiple in ((False, STEP if device.type == "cuda" else 1), (True, 1))
        )
    return Examples(name, config_of(size, len(found.vocab)), range(sum(map(len, order))), length, packed, padded)


def flops(config: BertConfig, batch: MaskedBatch) -> float:
    """Of a training step: three times the forward pass through layers and masked-LM head, of real tokens alone.

    E hidden size, F feed-forward, N layers, V vocabulary.
    """
    E, F, N, V = config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.vocab_size
    lengths = batch.lengths
    layers = 2 * lengths.sum() * (4 * E * E + 2 * E * F) + 4 * (lengths**2).sum() * E
    return 3.0 * (N * layers + 2 * len(batch.labels) * (E * E + E * V))


def sentences(text: str) -> str:
    """A line each."""
    return "\n".join(part.strip() for part in re.split(r"(?<=[。！？])|(?<=[.!?])\s", text) if part.strip())


# ---- loops ----

Step = Callable[[MaskedBatch], Tensor]  # -> loss; leaves the gradient in the model


def their_loss(model: nn.Module, part: MaskedBatch) -> Tensor:
    labels = torch.full_like(part.input_ids, -100).flatten().scatter(0, part.positions, part.labels)
    return model(
        input_ids=part.input_ids,
        attention_mask=part.attention_mask,
        token_type_ids=part.token_type_ids,
        labels=labels.view_as(part.input_ids),
        next_sentence_label=part.is_random,
    ).loss


def loop(step: Step, model: nn.Module, batches: list[MaskedBatch]) -> Callable[[], Tensor]:
    """A pass over all batches, which gives the losses."""
    optimizer = torch.optim.AdamW(optimizer_groups(model, DECAY), lr=LR, fused=True)

    def passed() -> Tensor:
        model.train()
        losses = []
        for part in batches:
            losses.append(step(part))
            optimizer.step()
            optimizer.zero_grad(set_to_none=not isinstance(step, OwnStep) or step.replays is None)
        return torch.stack(losses).cpu()

    return passed


class OwnStep:
    """As minibert/training/engine.py has it, on a GPU by replaying, unless graphs is False."""

    loss, autocast = staticmethod(Pretraining.loss), Pretraining.autocast

    def __init__(
        self, model: BertForPreTraining, batches: list[MaskedBatch], length: int, plan: Plan, graphs: bool = True
    ) -> None:
        self.wrapped, self.device = prepare(model), plan.device
        self.options = PretrainOptions((), precision=plan.precision)
        self.replays = None
        if graphs and obstacle(plan.device, model.config.head_size, Ranks(), self.options) is None:
            compute, rows, dtype = (
                partial(forward_backward, self),
                max(len(b.lengths) for b in batches),
                DTYPES[plan.precision],
            )
            self.replays = Replays(compute, model, rows, length, dtype, lambda tokens: int(HIDDEN * tokens))

    def __call__(self, part: MaskedBatch) -> Tensor:
        counts = torch.tensor([len(part.labels), len(part.is_random)], device=self.device)
        sums = (self.replays or partial(forward_backward, self))(part, 1 / counts)
        return (sums[0] / counts).sum()


def their_step(model: nn.Module, plan: Plan, part: MaskedBatch) -> Tensor:
    with torch.autocast(plan.device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
        loss = their_loss(model, part)
    loss.backward()
    return loss.detach()


def twins(config: BertConfig, device: torch.device) -> tuple[BertForPreTraining, nn.Module]:
    """(minibert's, transformers') with the same weights."""
    torch.manual_seed(SEED)
    own = BertForPreTraining(config)
    theirs = transformers.BertForPreTraining(transformers.BertConfig(**config.to_dict(), attn_implementation="sdpa"))
    theirs.load_state_dict(export_weights(own), strict=False)  # tied tensors are stored once
    theirs.tie_weights()
    return own.to(device), theirs.to(device)


def differences(own: nn.Module, theirs: nn.Module, examples: Examples, plan: Plan) -> tuple[float, float]:
    """Of the loss, and of the whole gradient relative to its length; the first batch, dropout off."""
    ours = float(OwnStep(own.eval(), examples.packed, examples.length, plan)(examples.packed[0]))
    wanted = float(their_step(theirs.eval(), plan, examples.padded[0]))
    found = {back_name(name): p.grad.flatten() for name, p in own.named_parameters()}
    right = {name: p.grad.flatten() for name, p in theirs.named_parameters()}
    assert found.keys() == right.keys(), found.keys() ^ right.keys()
    a, b = (torch.cat([grads[name] for name in right]) for grads in (found, right))
    for model in (own, theirs):
        model.zero_grad()
    return abs(ours - wanted), float((a - b).norm() / b.norm())


# ---- the case ----


def step_case(plan: Plan) -> Iterator[Row]:
    """Both sizes of examples, both loops."""
    size = next((size for size in plan.sizes if (size == "minilm") == (plan.device.type == "cpu")), plan.sizes[0])
    for name in plan.corpora:
        for length in LENGTHS:
            case = f"pretraining, {size}, {length}"
            if not plan.left(case, name):
                continue
            examples = make_examples(plan, name, size, length)
            own, theirs = twins(examples.config, plan.device)
            difference = differences(own, theirs, examples, plan)
            worst = max(difference) / TOLERANCE[plan.precision]
            loops = contestants(own, theirs, examples, plan)
            cost = int(sum(flops(examples.config, part) for part in examples.packed))
            for threads in plan.each_threads(False, case, name):
                found = take_times(loops, plan, lambda losses, w=worst: w if losses.isfinite().all() else float("inf"))
                for row in race(f"{case}, {threads}", examples, found, loops, {"asked": cost}):
                    yield from with_mfu(row, cost, plan)


def contestants(own: nn.Module, theirs: nn.Module, examples: Examples, plan: Plan) -> list[Contestant]:
    """On a GPU also minibert without graphs, and compiled with them."""

    def ours(name: str, model: BertForPreTraining, graphs: bool = True) -> Contestant:
        step = OwnStep(model, examples.packed, examples.length, plan, graphs)
        return Contestant(name, loop(step, model, examples.packed))

    bound, found = SPEEDUP[plan.device.type], [ours("minibert", own)]
    if plan.device.type == "cuda":
        compiled = prepare(copy.deepcopy(own))
        compile_tokenwise(compiled)
        found += [ours("minibert, no graphs", copy.deepcopy(own), graphs=False), ours("minibert, compiled", compiled)]
    others = {"transformers, sdpa": theirs}
    if plan.compile:
        others["transformers, sdpa, compiled"] = torch.compile(copy.deepcopy(theirs), dynamic=True)
    for name, model in others.items():
        found.append(Contestant(name, loop(partial(their_step, model, plan), model, examples.padded), bound))
    return found


def with_mfu(row: Row, cost: int, plan: Plan) -> Iterator[Row]:
    """The row, and behind it the share of the data sheet's peak, once for each race."""
    yield row
    if plan.device.type == "cuda" and row.value is not None and row.against == "transformers, sdpa":
        card = torch.cuda.get_device_name(plan.device)
        peak = next((peak for name, peak in PEAK.items() if name in card), None)
        mfu = replace(row, against="peak of the data sheet", unit="MFU", p20=None, p80=None, facts={})
        if peak is not None:
            yield judged(mfu, cost / row.facts["seconds"] / peak, MFU)


if __name__ == "__main__":
    run("pretraining", __doc__, {"step": step_case}, default_threads=(CORES,))
