"""A course of bugs that people really make when they write BERT: each is put into the running package, and compared
with the right one stage by stage.

A bug is a context manager that exchanges a function or a method while it lasts; no source is edited. What the model
computes, or the tokenizer, a loss, an optimizer, is an experiment: named stages in the order of computation. The first
stage that differs is where to look. tests/mutations.py puts in the same bugs and expects a named test to fail.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from minibert.command_options import CourseOptions as CourseOptions  # to be found here as well
from minibert.core import attention as formula
from minibert.core import model as bert
from minibert.core import reference, wordpiece
from minibert.core.attention import Batch, Padded
from minibert.core.config import BertConfig
from minibert.core.vocabulary import SPECIAL_TOKENS
from minibert.core.weights import export_weights
from minibert.parity import Rung, padded_batch, record_stages
from minibert.tokenizer import Tokenizer

Stages = dict[str, NDArray]


@dataclass(frozen=True)
class Bug:
    """`stage` is where the first difference arises; `test` is one of ours that fails."""

    name: str
    title: str
    title_zh: str
    seen: str  # what a learner sees
    hint: str
    cause: str
    fix: str
    stage: str
    test: str
    put_in: Callable[[], AbstractContextManager]
    experiment: Callable[[], Stages]


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


def forward() -> Stages:
    """Every stage of a forward pass, on a padded batch with pairs."""
    model = small_model()
    return record_stages(model, padded_batch(11, model.config, seed=0))


def forward_reference() -> Stages:
    """The same in numpy float64, which shares no line with model.py."""
    model = small_model()
    weights = {name: tensor.detach().numpy() for name, tensor in export_weights(model).items()}
    batch = padded_batch(11, model.config, seed=0)
    return reference.forward(weights, model.config, *(tensor.numpy() for tensor in batch))


TEXT = "The unaffable Room"
CASED = [
    *SPECIAL_TOKENS.values(),
    "The",
    "Room",
    "un",
    "##aff",
    "##able",
    *"aflobenmru",
    *(f"##{c}" for c in "aflobenmru"),
]


def text() -> Stages:
    """From a text to ids, with a cased vocabulary."""
    tokenizer = Tokenizer(CASED, lowercase=False)
    tokens = tokenizer.tokenize(TEXT)
    return {
        "normalised text": codes("".join(char for char, _ in wordpiece.normalize(TEXT, tokenizer.lowercase))),
        "pieces": codes(" ".join(tokens)),
        "input_ids": np.array(tokenizer.encode(TEXT)),
    }


def codes(text: str) -> NDArray[np.int64]:
    """A text as numbers, to be compared like everything else."""
    return np.array([ord(char) for char in text])


def pretraining_losses(
    words: Tensor, word_labels: Tensor, follows: Tensor, follows_labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Masked LM, over the masked places alone (labels are -100 elsewhere), and next sentence, over all rows."""
    mlm = F.cross_entropy(words, word_labels, ignore_index=-100)
    return mlm, F.cross_entropy(follows, follows_labels)


def losses() -> Stages:
    """Both pretraining losses of random scores; half the rows have the next-sentence label 0."""
    random = torch.Generator().manual_seed(0)
    words, follows = torch.randn(24, 101, generator=random), torch.randn(6, 2, generator=random)
    word_labels = torch.where(torch.arange(24) % 7 == 0, torch.arange(24) + 5, -100)
    mlm, nsp = pretraining_losses(words, word_labels, follows, torch.arange(6) % 2)
    return {"mlm loss": mlm.numpy(), "nsp loss": nsp.numpy()}


def adam_step(p: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float = 0.01) -> None:
    """Kingma & Ba 2015, algorithm 1, in place; t counts from 1. m and v start at zero, so early on they are too small
    by 1 - βᵗ each, which the correction makes up for."""
    m.lerp_(g, 0.1)
    v.lerp_(g * g, 0.001)
    p -= lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)


def steps() -> Stages:
    """Three steps of Adam from the same weights, down a bowl."""
    p, m, v = torch.linspace(-1, 1, 7), torch.zeros(7), torch.zeros(7)
    seen = {}
    for t in range(1, 4):
        adam_step(p, 2 * p, m, v, t)
        seen[f"weights after step {t}"] = p.clone().numpy()
    return seen


# ---- putting a bug in ----


@contextmanager
def exchanged(owner: object, name: str, wrong: object) -> Iterator[None]:
    """owner.name is `wrong` inside, and what it was afterwards, whatever happens."""
    inherited, right = name not in vars(owner), getattr(owner, name)
    setattr(owner, name, wrong)
    try:
        yield
    finally:
        delattr(owner, name) if inherited else setattr(owner, name, right)


def no_scale(q: Tensor, k: Tensor, scale: float | None = None) -> Tensor:
    return q @ k.transpose(-2, -1)


def mask_on_queries(scores: Tensor, layout: Padded) -> Tensor:
    hidden = torch.zeros_like(scores, dtype=torch.bool)
    if layout.keys is not None:
        hidden = (~layout.keys[:, None, :, None]).expand_as(scores)
    return torch.softmax(scores.masked_fill(hidden, torch.finfo(scores.dtype).min), dim=-1)


def no_mask(scores: Tensor, layout: Padded) -> Tensor:
    return torch.softmax(scores, dim=-1)


RIGHT_PROBABILITIES = formula.probabilities


def softmax_over_heads(scores: Tensor, layout: Padded) -> Tensor:
    real = RIGHT_PROBABILITIES(torch.zeros_like(scores), layout) > 0
    return torch.softmax(scores, dim=1) * real


def normalise_first(self: bert.SelfAttention, x: Tensor, batch: Batch, last: bool = False) -> Tensor:
    """x + attention(norm(x)), as GPT-2 does."""
    normal = self.norm(x)
    q, k, v = (self.split_heads(project(normal)) for project in (self.query, self.key, self.value))
    return x + self.dropout(self.output(self.attend(q, k, v, batch).flatten(-2)))


def tanh_gelu(name: str, x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def large_eps(self: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, 1e-5)


def embed(self: bert.Embeddings, ids: Tensor, segments: Tensor, positions: Tensor) -> Tensor:
    return self.dropout(self.norm(self.token(ids) + self.segment(segments) + self.position(positions)))


def swapped_segments(self: bert.Embeddings, ids: Tensor, segments: Tensor, positions: Tensor) -> Tensor:
    return embed(self, ids, 1 - segments, positions)


def positions_from_1(self: bert.Embeddings, ids: Tensor, segments: Tensor, positions: Tensor) -> Tensor:
    return embed(self, ids, segments, positions + 1)


def one_ignore_index(words: Tensor, word_labels: Tensor, follows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    mlm = F.cross_entropy(words, word_labels.clamp(min=0), ignore_index=0)
    return mlm, F.cross_entropy(follows, labels, ignore_index=0)


def uncorrected_step(p: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float = 0.01) -> None:
    m.lerp_(g, 0.1)
    v.lerp_(g * g, 0.001)
    p -= lr * m / (v.sqrt() + 1e-8)


RIGHT_NORMALIZE = wordpiece.normalize


def always_lowercase(text: str, lowercase: bool = True, *switches: bool | None) -> wordpiece.Chars:
    return RIGHT_NORMALIZE(text, True, *switches)


def training_for_ever(self: nn.Module) -> nn.Module:
    return self.train()


# ---- the list ----

WHOLE_MODEL = "tests/test_model.py::test_every_head_and_backend_equals_the_reference"
BOTH_BY_HAND = "tests/test_course.py::test_the_losses_and_adam_equal_pytorchs"

BUGS = (
    Bug(
        "no-root-d",
        "scores without 1/√D",
        "注意力分数没有除以 √D",
        "the loss falls slowly; attention maps are nearly one-hot from the first step",
        "how large may a sum of D products become before softmax?",
        "q·k grows with √D, softmax saturates, and its gradient vanishes",
        "scores = q @ k.transpose(-2, -1) / math.sqrt(D)",
        "layers.0.attention.scores",
        WHOLE_MODEL,
        lambda: exchanged(formula, "scores", no_scale),
        forward,
    ),
    Bug(
        "mask-axis",
        "the mask hides queries, not keys",
        "掩码加在了 query 轴而不是 key 轴",
        "answers depend on how long the other texts of a batch are",
        "which axis does softmax sum over, and which tokens must not be in that sum?",
        "mask[:, None, :, None] hides whole rows of the map; real tokens still look at padding",
        "mask[:, None, None, :]: the same keys are hidden from every query",
        "layers.0.attention.probs",
        WHOLE_MODEL,
        lambda: exchanged(formula, "probabilities", mask_on_queries),
        forward,
    ),
    Bug(
        "pad-attended",
        "[PAD] is attended to",
        "[PAD] 也参与了注意力",
        "a text alone and the same text in a batch get different answers",
        "pad one text to two lengths: does its vector stay?",
        "the attention mask never reaches the scores",
        "scores.masked_fill(mask == 0, -inf) before softmax, in every layer",
        "layers.0.attention.probs",
        WHOLE_MODEL,
        lambda: exchanged(formula, "probabilities", no_mask),
        forward,
    ),
    Bug(
        "softmax-heads",
        "softmax over the heads",
        "softmax 做在了 head 维上",
        "rows of the attention map do not sum to 1",
        "print probs.sum(-1)",
        "softmax(dim=1) on [B, H, S, S] lets heads compete, instead of keys",
        "softmax(dim=-1)",
        "layers.0.attention.probs",
        WHOLE_MODEL,
        lambda: exchanged(formula, "probabilities", softmax_over_heads),
        forward,
    ),
    Bug(
        "pre-ln",
        "LayerNorm before the block, not after the sum",
        "LayerNorm 放在了子层之前（pre-LN）",
        "trained from scratch it learns well; published weights give nonsense",
        "where does the original figure have its norm?",
        "x + block(norm(x)) is GPT-2's order; BERT's is norm(x + block(x))",
        "x = norm(x + block(x))",
        "layers.0.attention.query",
        WHOLE_MODEL,
        lambda: exchanged(bert.SelfAttention, "forward", normalise_first),
        forward,
    ),
    Bug(
        "tanh-gelu",
        "the tanh form of GELU",
        "用了 tanh 近似的 GELU",
        "every answer is nearly right: off in the fourth digit",
        "which stage is the first whose difference is above float32's noise?",
        'F.gelu(x, approximate="tanh"), or gelu_new, is another function, apart by up to 5e-4',
        "x * Φ(x), with erf: F.gelu(x)",
        "layers.0.ffn.act",
        WHOLE_MODEL,
        lambda: exchanged(bert, "activation", tanh_gelu),
        forward,
    ),
    Bug(
        "eps",
        "PyTorch's LayerNorm eps",
        "LayerNorm 的 eps 用了 PyTorch 默认值",
        "answers are off in the fifth digit, from the first LayerNorm on",
        "what does nn.LayerNorm(E) take when it is told nothing?",
        "its default eps is 1e-5; BERT's is 1e-12",
        "nn.LayerNorm(E, eps=config.layer_norm_eps)",
        "embeddings.norm",
        WHOLE_MODEL,
        lambda: exchanged(nn.LayerNorm, "forward", large_eps),
        forward,
    ),
    Bug(
        "segments",
        "segments A and B swapped",
        "句子 A、B 的 segment 编号颠倒",
        "pairs are judged worse than in the paper, single texts a little",
        "what is token_type_ids of the first [CLS]?",
        "1 for the first text, 0 for the second",
        "0 for [CLS], the first text and its [SEP]; 1 for the second and its",
        "embeddings.segment",
        WHOLE_MODEL,
        lambda: exchanged(bert.Embeddings, "forward", swapped_segments),
        forward,
    ),
    Bug(
        "positions",
        "positions count from 1",
        "位置编号从 1 开始",
        "answers are a little worse; texts of full length crash",
        "which row of the position table does [CLS] get?",
        "the habit of other models (RoBERTa's start at 2)",
        "torch.arange(S)",
        "embeddings.position",
        WHOLE_MODEL,
        lambda: exchanged(bert.Embeddings, "forward", positions_from_1),
        forward,
    ),
    Bug(
        "eval",
        "model.eval() forgotten",
        "推理时忘了 model.eval()",
        "the same text gets another answer every time",
        "call the model twice and compare",
        "dropout is still on",
        "model.eval() before inference and validation, model.train() after",
        "layers.0.attention.query",
        "tests/test_model.py::test_dropout_is_on_in_training_and_off_in_eval",
        lambda: exchanged(bert.BertBase, "eval", training_for_ever),
        forward,
    ),
    Bug(
        "lowercased",
        "a cased vocabulary, texts lowercased",
        "区分大小写的词表，文本却被转成小写",
        "names become [UNK] or fall into letters",
        "look at the pieces of a name",
        "do_lower_case was left at true",
        "lowercase=False, and so in tokenizer_config.json (minibert doctor tells)",
        "normalised text",
        "tests/test_wordpiece.py::test_cased_text_keeps_accents",
        lambda: exchanged(wordpiece, "normalize", always_lowercase),
        text,
    ),
    Bug(
        "hashes",
        "pieces without their ##",
        "后续子词丢了 ## 前缀",
        "words fall into far more pieces than expected",
        "look a later piece up in vocab.txt, as it is written there",
        "the rest of a word is looked up as if it began a word",
        'look "##" + rest up, from the second piece on',
        "pieces",
        "tests/test_wordpiece.py::test_later_pieces_carry_two_hashes",
        lambda: exchanged(wordpiece, "CONTINUES", ""),
        text,
    ),
    Bug(
        "ignore-index",
        "ignore_index=0 for both pretraining losses",
        "MLM 与 NSP 共用 ignore_index=0",
        "the next-sentence loss goes to 0, and its accuracy stays at one half",
        "which next-sentence label is 0?",
        "0 is [PAD] for the masked LM, but IsNext for the next sentence: half of the rows are ignored",
        "ignore_index=-100 for the masked LM, none for the next sentence",
        "nsp loss",
        BOTH_BY_HAND,
        lambda: exchanged(sys.modules[__name__], "pretraining_losses", one_ignore_index),
        losses,
    ),
    Bug(
        "bias-correction",
        "Adam without bias correction",
        "Adam 没有偏差修正",
        "the first steps are three times too large; warmup hides it",
        "by hand: what is the first step, for a gradient of 1?",
        "m and v start at 0: m is a tenth of the gradient, √v a thirtieth of its size",
        "divide m by 1 - β1ᵗ and v by 1 - β2ᵗ",
        "weights after step 1",
        BOTH_BY_HAND,
        lambda: exchanged(sys.modules[__name__], "adam_step", uncorrected_step),
        steps,
    ),
)


# ---- showing ----

WHO = ("right", "broken")


def compare(bug: Bug) -> list[Rung]:
    """One rung per stage: how far the right and the broken way are from the reference."""
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as if nothing had been
        right = bug.experiment()
        wanted = forward_reference() if bug.experiment is forward else right
        with bug.put_in():
            torch.manual_seed(0)
            broken = bug.experiment()
    rungs = []
    for stage, value in wanted.items():
        both = {"right": right, "broken": broken}
        known = {who: apart(seen[stage], value) for who, seen in both.items() if stage in seen}
        rungs.append(Rung(stage, float(np.abs(value).max()), known))
    return rungs


def apart(a: NDArray, b: NDArray) -> float:
    """The largest difference; infinite where even the shapes differ."""
    return float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")


def first_difference(rungs: list[Rung]) -> str | None:
    return next((rung.stage for rung in rungs if not rung.differences.get("broken", 0) <= rung.limit), None)


def chosen(name: str) -> Bug:
    """The bug of this number or name.

    Raises:
        ValueError: there is none.
    """
    names = [bug.name for bug in BUGS]
    if name in names:
        return BUGS[names.index(name)]
    if name.isascii() and name.isdigit() and 1 <= int(name) <= len(BUGS):
        return BUGS[int(name) - 1]
    raise ValueError(f"bug {name!r} is unknown; give a number from 1 to {len(BUGS)}, or one of {', '.join(names)}")


def contents(chinese: bool) -> str:
    """The list of bugs, a line each."""
    return "\n".join(
        f"{number:2}  {bug.name:16}  {bug.title_zh if chinese else bug.title}" for number, bug in enumerate(BUGS, 1)
    )


def lesson(bug: Bug, chinese: bool, answer: bool) -> str:
    """What is seen, the ladder, where it begins; with `answer` also why, and what to do."""
    rungs = compare(bug)
    first, width = first_difference(rungs), max(len(rung.stage) for rung in rungs)
    lines = [bug.title_zh if chinese else bug.title, f"seen: {bug.seen}", ""]
    lines.append(f"{'stage':{width}}  {'right':>8}  {'broken':>8}  largest absolute difference to the reference")
    for rung in rungs:
        cells = "  ".join(f"{rung.differences[who]:8.1e}" if who in rung.differences else f"{'–':>8}" for who in WHO)
        lines.append(f"{rung.stage:{width}}  {cells}{'  ← it begins here' if rung.stage == first else ''}")
    lines += ["", f"hint: {bug.hint}"]
    if answer:
        lines += [f"cause: {bug.cause}", f"fix: {bug.fix}", f"caught by: {bug.test}"]
    return "\n".join(lines)


def to_dict(bug: Bug) -> Mapping[str, object]:
    """Ready for JSON, which has no infinity: null stands for values that cannot be compared."""
    rungs = compare(bug)
    words = ("name", "title", "title_zh", "seen", "hint", "cause", "fix", "test")
    stages = []
    for rung in rungs:
        differences = {who: d if math.isfinite(d) else None for who, d in rung.differences.items()}
        stages.append({"stage": rung.stage, "largest": rung.size, "differences": differences})
    return {**{word: getattr(bug, word) for word in words}, "first": first_difference(rungs), "stages": stages}
