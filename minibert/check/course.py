"""A course of bugs that people really make when they write BERT: each is put into the running package, and compared
with the right one stage by stage.

A bug exchanges a function or a method while it lasts; no source is edited. What the model computes, or the tokenizer, a
loss, an optimizer, is an experiment: named stages in the order of computation. The first stage that differs is where to
look. What is said of the bugs, in two languages, is in assets/course.json; tests/mutations.py puts in the same bugs and
expects a named test to fail.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from minibert.check import adam
from minibert.core import attention as formula
from minibert.core import model as bert
from minibert.core import wordpiece
from minibert.core.attention import Batch, Padded
from minibert.core.config import BertConfig
from minibert.core.masking import IGNORED
from minibert.core.vocabulary import SPECIAL_TOKENS
from minibert.io.bundled import ASSETS
from minibert.look.activations import exchanged
from minibert.look.parity import Rung, padded_batch, record_stages, reference_stages
from minibert.text.encode_table import columns_of
from minibert.text.tokenizer import Tokenizer

Stages = dict[str, NDArray]


@dataclass(frozen=True)
class Bug:
    """One bug. `stage` is where the first difference arises; `test` is one of ours that fails."""

    name: str
    stage: str
    test: str
    texts: Mapping[str, str]  # title, seen (what a learner sees), hint, cause, fix; in Chinese title_zh …
    experiment: Callable[[], Stages]
    place: tuple[object, str]  # the module or class, and the name in it, of what is exchanged
    wrong: object  # what for
    repair: Mapping[str, str]  # the same in the source: file, old, new

    def put_in(self) -> AbstractContextManager[None]:
        """The bug is in the running package inside, and gone afterwards."""
        return exchanged(*self.place, self.wrong)

    def text_of(self, part: str, chinese: bool) -> str:
        """One of its texts, in one of the two languages."""
        return self.texts[f"{part}_zh" if chinese else part]


# ---- experiments: what is compared ----


def small_model() -> bert.BertForSequenceClassification:
    """Two layers of prime sizes. Weights are normal(0, 0.2), and biases too: with the small ones of a fresh BERT even a
    model without attention is hardly different."""
    sizes = dict(vocab_size=101, hidden_size=15, num_attention_heads=3, intermediate_size=37, num_hidden_layers=2)
    model = bert.BertForSequenceClassification(BertConfig(**sizes, max_position_embeddings=41), attention="eager")
    random = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=random) * 0.2 + name.endswith("norm.weight")
    return model.eval()


def forward(stages_of: Callable[..., Stages] = record_stages) -> Stages:
    """Every stage of a forward pass, on a padded batch with pairs."""
    model = small_model()
    return stages_of(model, padded_batch(11, model.config, seed=0))


TEXT = "The unaffable Room"
LETTERS = "aflobenmru"
WORDS = ("The", "Room", "un", "##aff", "##able")
CASED = [*SPECIAL_TOKENS.values(), *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]


def text() -> Stages:
    """From a text to ids, with a cased vocabulary."""
    tokenizer = Tokenizer(CASED, lowercase=False)
    return {
        "normalised text": codes(char for char, _ in wordpiece.normalize(TEXT, tokenizer.lowercase)),
        "pieces": codes(" ".join(tokenizer.tokenize(TEXT))),
        "input_ids": np.array(tokenizer.encode(TEXT)),
    }


def codes(text: Iterable[str]) -> NDArray[np.int64]:
    """The characters as numbers, to be compared like everything else."""
    return np.array([ord(char) for char in text])


def pretraining_losses(words: Tensor, word_labels: Tensor, pairs: Tensor, pair_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Masked LM, over the masked places alone (labels are IGNORED elsewhere), and next sentence, over all rows.

    words: [T, V], word_labels: [T]; pairs: [B, 2], pair_labels: [B] -> two scalars.
    """
    mlm = F.cross_entropy(words, word_labels, ignore_index=IGNORED)
    return mlm, F.cross_entropy(pairs, pair_labels, ignore_index=IGNORED)


def losses() -> Stages:
    """Both pretraining losses of random scores; half the rows have the next-sentence label 0."""
    random = torch.Generator().manual_seed(0)
    words, pairs = torch.randn(24, 101, generator=random), torch.randn(6, 2, generator=random)
    word_labels = torch.where(torch.arange(24) % 7 == 0, torch.arange(24) + 5, IGNORED)
    mlm, nsp = pretraining_losses(words, word_labels, pairs, torch.arange(6) % 2)
    return {"mlm loss": mlm.numpy(), "nsp loss": nsp.numpy()}


def steps() -> Stages:
    """Three steps of Adam from the same weights, minimising the sum of squares."""
    p, m, v = torch.linspace(-1, 1, 7), torch.zeros(7), torch.zeros(7)
    seen = {}
    for t in range(1, 4):
        adam.adam_step(p, 2 * p, m, v, t)
        seen[f"weights after step {t}"] = p.clone().numpy()
    return seen


# ---- the bugs ----

RIGHT_PROBABILITIES = formula.probabilities
RIGHT_NORMALIZE = wordpiece.normalize
RIGHT_EMBEDDINGS = bert.Embeddings.forward


def mask_on_queries(scores: Tensor, batch: Padded) -> Tensor:
    """[B, H, S, S] -> the same shape, as in the next."""
    if batch.keys is not None:
        scores = scores.masked_fill(~batch.keys[:, None, :, None], torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1)


def softmax_over_heads(scores: Tensor, batch: Padded) -> Tensor:
    """Over dim 1 instead of the last; padding keys stay hidden. [B, H, S, S] -> the same shape."""
    real = RIGHT_PROBABILITIES(torch.zeros_like(scores), batch) > 0
    return torch.softmax(scores, dim=1) * real


def normalise_first(self: bert.SelfAttention, x: Tensor, batch: Batch, last: bool = False) -> Tensor:
    """x + attention(norm(x)), as GPT-2 does. [B, S, E] -> [B, S, E]."""
    normal = self.norm(x)
    q, k, v = (self.split_heads(project(normal)) for project in (self.query, self.key, self.value))
    return x + self.dropout(self.output(self.attend(q, k, v, batch).flatten(-2)))


HERE = sys.modules[__name__]
CODE: dict[str, tuple[Callable[[], Stages], tuple[object, str], object]] = {  # name -> experiment, place, wrong
    "no-root-d": (forward, (formula, "scores"), lambda q, k, scale=None: q @ k.transpose(-2, -1)),
    "mask-axis": (forward, (formula, "probabilities"), mask_on_queries),
    "pad-attended": (forward, (formula, "probabilities"), lambda scores, batch: scores.softmax(dim=-1)),
    "softmax-heads": (forward, (formula, "probabilities"), softmax_over_heads),
    "pre-ln": (forward, (bert.SelfAttention, "forward"), normalise_first),
    "tanh-gelu": (forward, (bert, "activation"), lambda name, x: F.gelu(x, approximate="tanh")),
    "eps": (
        forward,
        (nn.LayerNorm, "forward"),
        lambda norm, x: F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias),  # with PyTorch's 1e-5
    ),
    "segments": (
        forward,
        (bert.Embeddings, "forward"),
        lambda self, ids, segments, positions: RIGHT_EMBEDDINGS(self, ids, 1 - segments, positions),
    ),
    "positions": (
        forward,
        (bert.Embeddings, "forward"),
        lambda self, ids, segments, positions: RIGHT_EMBEDDINGS(self, ids, segments, positions + 1),
    ),
    "eval": (forward, (bert.BertBase, "eval"), nn.Module.train),
    "lowercased": (
        text,
        (wordpiece, "normalize"),
        lambda text, lowercase=True, *switches: RIGHT_NORMALIZE(text, True, *switches),
    ),
    "hashes": (text, (wordpiece, "CONTINUES"), ""),
    "ignore-index": (losses, (HERE, "IGNORED"), 0),
    "bias-correction": (steps, (adam, "bias_correction"), lambda beta, t: 1.0),
}


def read_bugs() -> tuple[Bug, ...]:
    """The bugs in the order of assets/course.json."""
    rows = json.loads((ASSETS / "course.json").read_text(encoding="utf-8"))
    return tuple(
        Bug(row["name"], row["stage"], row["test"], row["texts"], *CODE[row["name"]], row["repair"]) for row in rows
    )


BUGS = read_bugs()

# ---- showing ----

LABELS = {"seen": "现象", "hint": "提示", "cause": "原因", "fix": "改法", "caught by": "由这个测试发现"}
HEADS = ("stage", "right", "broken", "largest absolute difference to the reference", "← it begins here")
HEADS_ZH = ("级", "正确", "有误", "与参考实现的最大绝对差", "← 从这里开始")


def ladder_of(bug: Bug) -> list[Rung]:
    """One rung per stage: how far the right and the broken way are from the reference."""
    with torch.random.fork_rng(devices=[]):  # the caller's random state is left as it was
        right = bug.experiment()
        wanted = forward(reference_stages) if bug.experiment is forward else right
        with bug.put_in():
            torch.manual_seed(0)
            broken = bug.experiment()
    seen = {"right": right, "broken": broken}
    return [
        Rung(
            stage,
            float(np.abs(value).max()),
            {who: distance(stages[stage], value) for who, stages in seen.items() if stage in stages},
        )
        for stage, value in wanted.items()
    ]


def distance(a: NDArray, b: NDArray) -> float:
    """The largest absolute difference; infinite where the shapes differ."""
    return float(np.abs(a - b).max()) if a.shape == b.shape else math.inf


def first_difference(rungs: list[Rung]) -> str | None:
    """The stage at which a learner has to look; None: all of them agree."""
    return next((rung.stage for rung in rungs if not rung.differences.get("broken", 0) <= rung.limit), None)


def chosen(name: str) -> Bug:
    """The bug of this number or name.

    Raises:
        ValueError: there is none.
    """
    known = {str(number): bug for number, bug in enumerate(BUGS, 1)} | {bug.name: bug for bug in BUGS}
    if name not in known:
        names = ", ".join(bug.name for bug in BUGS)
        raise ValueError(f"bug {name!r} is unknown; give a number from 1 to {len(BUGS)}, or one of {names}")
    return known[name]


def contents(chinese: bool) -> str:
    """The list of bugs, a line each."""
    return "\n".join(f"{i:2}  {bug.name:16}  {bug.text_of('title', chinese)}" for i, bug in enumerate(BUGS, 1))


def lesson(bug: Bug, chinese: bool, answer: bool) -> str:
    """What is seen, the ladder, where it begins; with `answer` also why, and what to do."""

    def said(label: str, text: str) -> str:
        return f"{LABELS[label]}：{text}" if chinese else f"{label}: {text}"

    def line(part: str) -> str:
        return said(part, bug.text_of(part, chinese))

    heads = HEADS_ZH if chinese else HEADS
    rungs = ladder_of(bug)
    first = first_difference(rungs)
    width = max(len(rung.stage) for rung in rungs)
    head = heads[0] + " " * (width - columns_of(heads[0]))
    for word in heads[1:3]:
        head += " " * (10 - columns_of(word)) + word
    lines = [bug.text_of("title", chinese), line("seen"), "", f"{head}  {heads[3]}"]
    for rung in rungs:
        cells = [f"{rung.differences[who]:.1e}" if who in rung.differences else "–" for who in ("right", "broken")]
        mark = f"  {heads[4]}" if rung.stage == first else ""
        lines.append(f"{rung.stage:{width}}  {cells[0]:>8}  {cells[1]:>8}{mark}")
    lines += ["", line("hint")]
    if answer:
        lines += [line("cause"), line("fix"), said("caught by", bug.test)]
    return "\n".join(lines)


def to_dict(bug: Bug) -> Mapping[str, object]:
    """Ready for JSON, which has no infinity: null stands for values that cannot be compared."""
    rungs, stages = ladder_of(bug), []
    for rung in rungs:
        differences = {who: d if math.isfinite(d) else None for who, d in rung.differences.items()}
        stages.append({"stage": rung.stage, "largest": rung.size, "differences": differences})
    return {"name": bug.name, **bug.texts, "test": bug.test, "first": first_difference(rungs), "stages": stages}
