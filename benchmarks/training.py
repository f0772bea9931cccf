"""How much faster does minibert fine-tune than the loop that people write with transformers?

    python -m benchmarks.training                               # all cases, some ten minutes on two free cores
    python -m benchmarks.training --device cuda                 # the same on a GPU, under bf16 autocast
    python -m benchmarks.training --only step --corpus sst      # these rows alone
    python -m benchmarks.training --small                       # a minute, to see that all runs; writes no file
    python -m benchmarks.training --show                        # the table of the newest result

Expected: a step is a forward pass and a backward pass of twice its work, so what padding and unread rows cost there
they cost here three times; dropout adds a random number for every number it touches, padding included.

Cases:
    step       forward, loss, backward, AdamW over all batches: samples/s relative to each loop of transformers
    waterfall  what each step brought, relative to the plain loop
    memory     by how much the process (on a GPU: its memory) grows: weights, gradients, AdamW's state, activations;
               each loop in a process of its own
The plain loop: sdpa, random order, padded batches of 32, AdamW as it comes. minibert trains on the very same batches,
as `minibert train` does, on a GPU with --graphs and without. The other loop sorts by length, which changes what is in a
batch, and uses fused AdamW; on a GPU a third pads to multiples of 64, for cuDNN's sake, which the others go without.
Dropout is as the model's config says, 0.1. Compared before timing, without dropout: the loss of a batch and its whole
gradient, as one vector. Labels are random; whether it learns as well is benchmarks/accuracy.py's question.
See benchmarks/race.py for the method, and benchmarks/encoder.py for sizes and corpora.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.encoder import every_row, onednn_step
from benchmarks.race import (
    BATCH,
    MAX_LENGTH,
    SEED,
    Contestant,
    Plan,
    Work,
    by_onednn,
    config_of,
    cudnn_attention,
    flops,
    judged,
    own_model,
    peak_growth,
    race,
    run,
    take_times,
    their_model,
    twins,
    works,
)
from benchmarks.tokenizer import CORES, Bound, Row, in_child
from minibert.core.checkpoint import back_name
from minibert.core.config import PRESETS, BertConfig
from minibert.core.optimizer import optimizer_groups
from minibert.fast.batches import collate, collate_packed
from minibert.fast.models import BertForSequenceClassification
from minibert.fast.replay import DTYPES, Replays, obstacle
from minibert.fast.twins import prepare
from minibert.training.engine import forward_backward
from minibert.training.fine_tuning import FineTuning, TrainOptions
from minibert.training.losses import Criterion
from minibert.training.ranks import Ranks

TEXTS = {  # size and corpus: how many texts on a CPU
    ("minilm", "sst"): 320,
    ("minilm", "chnsenticorp"): 64,
    ("minilm", "cfimdb"): 40,
    ("minilm", "reviews"): 320,
    ("bert-tiny", "sst"): 320,
}
GPU_TEXTS = {("bert-base", "chnsenticorp"): 96, ("bert-base", "full"): 16, ("bert-base", "reviews"): 96}
# What was asked for, by device, size and corpus: of the plain loop, of the length-sorted one; and of its memory.
FLOORS = {
    ("cpu", "minilm", "sst"): (2.5, 1.35),
    ("cpu", "minilm", "chnsenticorp"): (3, None),
    ("cpu", "minilm", "cfimdb"): (4.5, None),
    ("cuda", "bert-base", "chnsenticorp"): (3, 1.5),
}
MEMORY_FLOOR = {"cpu": 0.7, "cuda": 0.6}
TOLERANCE = {"fp32": 1e-5, "bf16": 0.05}  # of the loss, and relative of the gradient
LR, DECAY = 1e-5, 0.01  # so small that the model stays what it is however many rounds are run

CUDNN_MULTIPLE = 64  # of the padded length, so that there are few to plan for

Step = Callable[[Sequence[int]], Tensor]  # rows -> loss; leaves the gradient in the model


# ---- loops ----


def labels_of(work: Work) -> np.ndarray:
    return np.random.default_rng(SEED).integers(2, size=len(work.texts))


def their_forward(
    model: nn.Module, work: Work, rows: Sequence[int], plan: Plan, multiple: int
) -> tuple[Tensor, Tensor]:
    ids, mask, segments, _, labels = collate(work.encoding, labels_of(work), rows, 0, plan.device)
    more = -ids.shape[1] % multiple
    ids, mask, segments = (F.pad(x, (0, more)) for x in (ids, mask, segments))  # [PAD] is 0
    return model(input_ids=ids, attention_mask=mask, token_type_ids=segments).logits, labels


def their_step(model: nn.Module, work: Work, plan: Plan, rows: Sequence[int], multiple: int = 1) -> Tensor:
    """multiple: of the padded length."""
    with torch.autocast(plan.device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
        logits, labels = their_forward(model, work, rows, plan, multiple)
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    return loss.detach()


def loop(
    step: Step, model: nn.Module, optimizer: torch.optim.Optimizer, work: Work, by_length: bool = False
) -> Callable[[], Tensor]:
    """A pass over all batches, which gives the losses; length-sorted batches come in random order."""
    batches = work.sorted_batches() if by_length else work.random_batches()
    random.Random(SEED).shuffle(batches)

    def passed() -> Tensor:
        model.train()
        losses = []
        for rows in batches:
            losses.append(step(rows).item())
            optimizer.step()
            optimizer.zero_grad(set_to_none=not isinstance(step, OwnStep) or step.replays is None)
        return torch.tensor(losses)

    return passed


class OwnStep:
    """As minibert/training/engine.py has it, on a GPU by replaying, unless graphs is False."""

    criterion, loss, autocast = Criterion("classification"), FineTuning.loss, FineTuning.autocast

    def __init__(self, model: BertForSequenceClassification, work: Work, plan: Plan, graphs: bool = True) -> None:
        self.wrapped, self.work, self.device = prepare(model), work, plan.device
        self.options = TrainOptions(precision=plan.precision)
        self.replays = None
        if graphs and obstacle(plan.device, model.config.head_size, Ranks(), self.options) is None:
            compute, dtype = partial(forward_backward, self), DTYPES[plan.precision]
            self.replays = Replays(compute, model, BATCH, MAX_LENGTH, dtype)

    def __call__(self, rows: Sequence[int]) -> Tensor:
        rows = sorted(rows, key=self.work.encoding.length.__getitem__)
        multiple = 1 if self.replays is None else self.replays.multiple
        batch = collate_packed(self.work.encoding, labels_of(self.work), rows, self.device, multiple, first_only=True)
        weights = torch.tensor([1 / len(rows)], device=self.device)
        return (self.replays or partial(forward_backward, self))(batch, weights)[0, 0] / len(rows)


def own_loop(
    model: nn.Module, work: Work, plan: Plan, fused: bool | None = True, graphs: bool = True
) -> Callable[[], Tensor]:
    optimizer = torch.optim.AdamW(optimizer_groups(model, DECAY), lr=LR, fused=fused)
    return loop(OwnStep(model, work, plan, graphs), model, optimizer, work)


def their_loop(
    model: nn.Module, work: Work, plan: Plan, fused: bool | None = None, by_length: bool = False, multiple: int = 1
) -> Callable[[], Tensor]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY, fused=fused)
    return loop(partial(their_step, model, work, plan, multiple=multiple), model, optimizer, work, by_length)


def differences(own: nn.Module, theirs: nn.Module, work: Work, plan: Plan) -> tuple[float, float]:
    """Of the loss, and of the whole gradient relative to its length; one batch, dropout off."""
    rows, models = work.random_batches()[0], (own.eval(), theirs.eval())
    ours = float(OwnStep(own, work, plan)(rows))
    wanted = float(their_step(theirs, work, plan, rows))
    found = {back_name(name): p.grad.flatten() for name, p in own.named_parameters()}
    right = {name: p.grad.flatten() for name, p in theirs.named_parameters()}
    assert found.keys() == right.keys(), found.keys() ^ right.keys()
    a, b = (torch.cat([grads[name] for name in right]) for grads in (found, right))
    for model in models:
        model.zero_grad()
    return abs(ours - wanted), float((a - b).norm() / b.norm())


# ---- cases ----


def chosen_works(plan: Plan) -> Iterator[Work]:
    return works(plan, GPU_TEXTS if plan.device.type == "cuda" else TEXTS)


def step_case(plan: Plan) -> Iterator[Row]:
    """Both loops of transformers against minibert's."""
    for work in chosen_works(plan):
        case = f"step, {work.size}"
        if not plan.left(case, work.corpus):
            continue
        own, theirs = twins(work, plan.device)
        difference = differences(own, theirs, work, plan)
        loops = contestants(own, theirs, work, plan)
        cost = 3 * flops(own.config, work.encoding.length.tolist())
        for threads in plan.each_threads(False, case, work.corpus):
            found = take_times(loops, plan, lambda losses, d=difference: judge(losses, d, plan))
            yield from race(f"step, {work.size}, {threads}", work, found, loops, {"asked": cost})


def contestants(own: nn.Module, theirs: nn.Module, work: Work, plan: Plan) -> list[Contestant]:
    """On a GPU also minibert without graphs, and transformers with cuDNN at lengths that it meets more than once."""
    floors = FLOORS.get((plan.device.type, work.size, work.corpus), (None, None))
    plain_floor, sorted_floor = (floor and Bound(floor) for floor in floors)
    by_length = their_loop(copy.deepcopy(theirs), work, plan, fused=True, by_length=True)
    found = [
        Contestant("minibert", own_loop(own, work, plan)),
        Contestant("transformers, plain loop", their_loop(theirs, work, plan), plain_floor),
        Contestant("transformers, sorted, fused AdamW", by_length, sorted_floor),
    ]
    if plan.device.type == "cuda":
        wide = their_loop(copy.deepcopy(theirs), work, plan, fused=True, multiple=CUDNN_MULTIPLE)
        name = f"transformers, padded to multiples of {CUDNN_MULTIPLE}, cuDNN, fused AdamW"
        found.append(Contestant("minibert, no graphs", own_loop(copy.deepcopy(own), work, plan, graphs=False)))
        found.append(Contestant(name, cudnn_attention(True)(wide)))
    return found


def judge(losses: Tensor, difference: tuple[float, float], plan: Plan) -> float:
    """In units of the tolerance, what the models differ by; of a loop, whether it has stayed with numbers."""
    return max(difference) / TOLERANCE[plan.precision] if bool(losses.isfinite().all()) else float("inf")


def waterfall_case(plan: Plan) -> Iterator[Row]:
    """Each step over the plain loop, on the first corpus alone; the rows are in the order of the steps."""
    for work in islice(chosen_works(plan), 1):
        own, theirs = twins(work, plan.device)
        difference = differences(own, theirs, work, plan)
        plain = Contestant("plain", their_loop(copy.deepcopy(theirs), work, plan))
        steps = {
            "transformers, fused AdamW": their_loop(theirs, work, plan, fused=True),
            "minibert, packed, AdamW": by_onednn(False, own_loop(every_row(own, fused=False), work, plan, fused=None)),
            "+ fused AdamW": by_onednn(False, own_loop(every_row(own, fused=False), work, plan)),
            "+ fused q, k, v": by_onednn(False, own_loop(every_row(own), work, plan)),
            **{name: by_onednn(True, own_loop(every_row(own), work, plan)) for name in onednn_step(plan)},
            "+ last layer for [CLS] alone": own_loop(own, work, plan),
        }
        contestants = [Contestant(name, run) for name, run in steps.items()]
        for threads in plan.each_threads():
            found = take_times([plain, *contestants], plan, lambda losses, d=difference: judge(losses, d, plan))
            for step in contestants:
                (row,) = race(f"waterfall, {work.size}, {threads}", work, found, [step, plain], {})
                yield replace(row, against=step.name)


def memory_case(plan: Plan) -> Iterator[Row]:
    """All batches once, in a new process for each loop."""
    for work in chosen_works(plan):
        ours, theirs = (in_child(grown_by_loop, work, plan, own) for own in (True, False))
        facts = {"mb": ours / 1e6, "other_mb": theirs / 1e6}
        row = Row(f"memory, {work.size}", work.corpus, "transformers, plain loop", None, "x MB", facts=facts)
        yield judged(row, ours / theirs, Bound(MEMORY_FLOOR[plan.device.type], at_least=False))


def grown_by_loop(work: Work, plan: Plan, own: bool) -> int:
    """Bytes; runs in a process of its own."""
    torch.set_num_threads(plan.threads[-1])
    their_model(BertConfig(vocab_size=10, **PRESETS["tiny"]))  # imports what is imported late
    with peak_growth(plan.device) as grown:
        model = (own_model(work) if own else their_model(config_of(work.size, len(work.vocab)))).to(plan.device)
        (own_loop if own else their_loop)(model, work, plan)()
    return grown[0]


CASES = {"step": step_case, "waterfall": waterfall_case, "memory": memory_case}

if __name__ == "__main__":
    run("training", __doc__, CASES, default_threads=(CORES,))
