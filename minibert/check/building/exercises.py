"""The ten bodies that a learner writes, and what each of them is asked.

An exercise's experiment runs on a package that holds core's modules, the right ones or the learner's, and gives stages
in the order of computation, each a table of cases. The first stage that differs from the right one's (of a forward
pass: from the float64 reference's) is where to look.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from minibert.core import masking as right_masking
from minibert.core.model import BertForSequenceClassification
from minibert.core.tokenizer import Tokenizer
from minibert.io.bundled import ASSETS, BUNDLED, resolve
from minibert.look.activations import exchanged
from minibert.look.parity import Batch, largest, recording, reference_stages

RIGHT = "minibert.core"
INPUTS = (".sum", ".act", ".context")


@dataclass(frozen=True)
class Core:
    """The modules of a package by their names: core.model is module `model` of it."""

    package: str

    def __getattr__(self, name: str) -> ModuleType:
        if name == "adam" and self.package == RIGHT:
            return importlib.import_module("minibert.check.adam")
        return importlib.import_module(f"{self.package}.{name}")


class Found(NamedTuple):
    """One case of a stage: a value that is compared as it is, or a number that may lie so far off. is_distance: whether
    it is one already, from the reference."""

    value: object
    allowed: float = 0.0
    is_distance: bool = False


Stages = dict[str, dict[str, Found]]  # stage -> case -> what was found


@dataclass(frozen=True)
class Exercise:
    """One of the ten. `names`: the functions of `file` to be written. The words are of assets/exercises.json."""

    number: int
    name: str
    file: str
    names: tuple[str, ...]
    words: Mapping[str, object]  # title, task, hints and the same with _zh
    stages: Callable[[Core], Stages]
    limit: float  # seconds that it may take
    forbidden: tuple[str, ...] = ()  # of torch.nn.functional

    def said(self, part: str, chinese: bool) -> str:
        return self.words[f"{part}_zh" if chinese else part]

    def hints(self, chinese: bool) -> Sequence[str]:
        return self.words["hints_zh" if chinese else "hints"]


# ---- from texts to ids ----

TEXTS = ("The room's clean, isn't it?", "房间很干净，下次还住！", "Née à 北京,1999 unaffable")
PAIRS = ("Yes.", "价格也不贵", "the staff were friendly, and the breakfast was good")
DIRTY = (
    "a\x0bb\x1cc",
    "a\tb\nc\rd",
    "a\x00b\ufffdc",
    "a\u200bb\u00adc",
    "a\u3000b\u2009c\xa0d",
    "\ue000é\u0301",
    "",
    "a b  c",
    "床\u2028前",
)
WORDS = ("unaffable", "unaffablex", "unaffabley", "un", "affable", "aaaa", "u", "ununun", "x" * 100, "x" * 101, "é")
PIECES = ("un", "##aff", "##a", "##able", "##affa", "##ble", "a", "##aa", "u", "##n", "##un", "aff", "x", "##x")
LETTERS = "aflobenmru"
CASED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "Room", "un", "##aff", "##able", *LETTERS)
CASED += tuple(f"##{letter}" for letter in LETTERS)


def cases(made: Callable[[str], object], texts: Sequence[str]) -> dict[str, Found]:
    return {shown(text): Found(made(text)) for text in texts}


def shown(text: str) -> str:
    text = ascii(text) if not text.isprintable() else repr(text)
    return text if len(text) <= 60 else f"{text[:50]}… ({len(text)})"


def cleaning(core: Core) -> Stages:
    """`clean` alone, then the way from a text to its tokens that begins with it."""

    def clean(text: str) -> list[tuple[str, int]]:
        return list(core.wordpiece.clean(zip(text, range(len(text)), strict=True)))

    return {
        "clean: characters": cases(lambda text: "".join(char for char, _ in clean(text)), DIRTY),
        "clean: sources": cases(lambda text: [source for _, source in clean(text)], DIRTY),
        "tokens": cases(tokenizer(core).tokenize, DIRTY + TEXTS),
    }


def matching(core: Core) -> Stages:
    """`wordpiece` with a small vocabulary, then all of the bundled one."""

    def cut(word: str) -> list[tuple[str, int, int]]:
        return [tuple(piece) for piece in core.wordpiece.wordpiece(word, set(PIECES), "[UNK]")]

    return {
        "wordpiece: pieces": cases(lambda word: [token for token, _, _ in cut(word)], WORDS),
        "wordpiece: spans": cases(lambda word: [span for _, *span in cut(word)], WORDS),
        "tokens": cases(tokenizer(core).tokenize, TEXTS),
        "tokens, cased": cases(core.tokenizer.Tokenizer(CASED, lowercase=False).tokenize, ("The unaffable Room",)),
    }


def joining(core: Core) -> Stages:
    """Single texts and pairs, padded, with the places of their tokens."""
    found: Stages = {}
    made = tokenizer(core)
    batches = {
        "single": made(TEXTS, return_offsets=True),
        "pairs": made(TEXTS, PAIRS, return_offsets=True),
        "cut": made(TEXTS, PAIRS, max_length=9, return_offsets=True),
        "unpadded": made(TEXTS, ["", *PAIRS[1:]], padding="none", return_offsets=True),
    }
    for stage in ("length", "input_ids", "token_type_ids", "special_tokens_mask", "attention_mask", "offsets"):
        found[stage] = {
            f"{name}, row {row}": Found(np.asarray(values).tolist())
            for name, batch in batches.items()
            for row, values in enumerate(getattr(batch, stage))
        }
    return found


def tokenizer(core: Core) -> Tokenizer:
    return core.tokenizer.Tokenizer.from_pretrained(resolve(BUNDLED))


# ---- the model ----


@cache
def right_model() -> BertForSequenceClassification:
    """The bundled weights, and a classifier's head that is always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForSequenceClassification.from_pretrained(resolve(BUNDLED), attention="eager")
        model.classifier.weight.data = torch.randn(model.classifier.weight.shape) * 0.2
    return model


@cache
def real_batch() -> Batch:
    """TEXTS with PAIRS, padded."""
    encoding = Tokenizer.from_pretrained(resolve(BUNDLED))(TEXTS, PAIRS)
    return tuple(map(torch.from_numpy, (encoding.input_ids, encoding.attention_mask, encoding.token_type_ids)))


def forward(core: Core) -> Stages:
    """Every stage of a forward pass of the bundled model on a padded batch of pairs; then what training has besides."""
    model, batch = model_of(core), real_batch()
    real = batch[1].bool().numpy()
    with torch.no_grad(), recording(model, own_stage) as seen, formula(core, seen, model.config.num_hidden_layers):
        seen["classifier"] = model(*batch)
    seen["last_hidden_state"] = seen[f"layers.{model.config.num_hidden_layers - 1}.ffn.norm"]
    found = {}
    for stage, wanted in reference_of_right().items():
        if stage in seen:
            off = distance(seen[stage].numpy(), wanted, real)
            found[stage] = {"": Found(off, 1e-5 * max(1.0, largest(wanted, real)), True)}
    for stage, tensor in dropped(core).items():
        off = distance(tensor.numpy(), dropped_right()[stage].numpy(), real)
        found[f"dropout, {stage}"] = {"": Found(off, 1e-5, True)}
    return found


def attending(core: Core) -> Stages:
    """The forward pass, and what no batch of it asks: another scale, a row in which nothing is real."""
    q = torch.linspace(-1, 1, 24).view(1, 2, 3, 4)
    batch = core.attention.Padded(torch.zeros(1, 3, dtype=torch.bool))
    probabilities = core.attention.probabilities(torch.ones(1, 2, 3, 3), batch)
    return {
        **forward(core),
        "scores, scale 0.3": {"the sum of all": close([float(core.attention.scores(q, q, 0.3).sum())])},
        "probabilities, a row without tokens": {"the sum of all": Found(float(probabilities.sum()))},
    }


class FirstOnly:
    """A batch whose last layer is asked for [CLS] alone."""

    def __init__(self, core: Core) -> None:
        self.formula, self.whole = core.attention.eager, core.attention.Padded(None)

    def asking(self, x: Tensor, last: bool) -> Tensor:
        return x[:, :1] if last else x

    def attend(self, q: Tensor, k: Tensor, v: Tensor, backend: str, dropout_p: float) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return self.formula(q, k, v, self.whole, dropout_p).transpose(1, 2)


def heading(core: Core) -> Stages:
    """The forward pass, and a last layer of which not all tokens are asked for."""
    layer = model_of(core).bert.layers[0].attention
    x = torch.linspace(-1, 1, 5 * layer.norm.weight.numel()).sin().view(1, 5, -1)
    with torch.no_grad():
        shapes = [list(layer(x, FirstOnly(core), last).shape) for last in (False, True)]
    return {**forward(core), "batch.asking": {"shapes, of all tokens and of [CLS] alone": Found(shapes)}}


def distance(ours: np.ndarray, wanted: np.ndarray, real: np.ndarray) -> float:
    return largest(ours - wanted, real) if ours.shape == wanted.shape else float("inf")


@cache
def reference_of_right() -> dict[str, np.ndarray]:
    return reference_stages(right_model(), real_batch())


def model_of(core: Core) -> nn.Module:
    """The package's model with the weights of `right_model`, as it is loaded."""
    model = core.model.BertForSequenceClassification.from_pretrained(resolve(BUNDLED), attention="eager")
    model.load_state_dict(right_model().state_dict())
    return model


def own_stage(module: str) -> str | None:
    return module.removeprefix("bert.")


@contextmanager
def formula(core: Core, seen: dict[str, Tensor], layers: int) -> Iterator[None]:
    """Keeps scores and probabilities too, which no module gives; the calls go through the layers in turn."""
    names = {"scores": "scores", "probabilities": "probs"}
    calls = dict.fromkeys(names, 0)
    with ExitStack() as stack:
        for name, stage in names.items():
            computed = getattr(core.attention, name)

            def kept(*given: object, _name: str = name, _stage: str = stage, _of: Callable = computed, **more: object):
                answer = _of(*given, **more)
                seen[f"layers.{calls[_name] % layers}.attention.{_stage}"] = answer
                calls[_name] += 1
                return answer

            stack.enter_context(exchanged(core.attention, name, kept))
        yield


@cache
def dropped_right() -> dict[str, Tensor]:
    return dropped(Core(RIGHT))


def dropped(core: Core) -> dict[str, Tensor]:
    """In training mode, with a dropout of everything: what is left says where it was applied."""
    model = model_of(core).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 1.0
        elif hasattr(module, "dropout_p"):
            module.dropout_p = 0.0  # of probabilities, whose dropout is no exercise
    seen: dict[str, Tensor] = {}
    with torch.no_grad(), recording(model, own_stage) as stages:
        seen["logits"] = model(*real_batch())
    names = ("embeddings", "layers.0.attention", "layers.0.ffn")
    return {**{name: stages[name] for name in names if name in stages}, **seen}


# ---- masking ----


def hiding(core: Core) -> Stages:
    """What `hide_tokens` does to 400 rows of 60 tokens, 50 of them ordinary. Random numbers may be drawn in any order,
    so shares are compared, each within five standard deviations."""
    rows, length, first = 400, 60, 5
    ids = torch.arange(rows * length).reshape(rows, length) % 300 + first
    ids[:, 0], ids[:, -9:] = 2, 0
    given, choices = ids.clone(), torch.arange(first, 305)
    generator = torch.Generator().manual_seed(1)
    shown_ids, labels = core.masking.hide_tokens(ids, torch.arange(first), choices, 4, generator)
    again = core.masking.hide_tokens(given.clone(), torch.arange(first), choices, 4, torch.Generator().manual_seed(1))
    shapes: Stages = {"shapes": {"ids": Found(list(shown_ids.shape)), "labels": Found(list(labels.shape))}}
    if shown_ids.shape != given.shape or labels.shape != given.shape:
        return shapes
    asked, special = labels != right_masking.IGNORED, given < first
    count, tokens = int(asked.sum()), int((~special).sum())
    as_mask, kept = asked & (shown_ids == 4), asked & (shown_ids == given)
    replaced = asked & ~as_mask & ~kept
    by_place = asked.double().mean(0)[1:-9]  # 50 places, each 0.15

    def share(part: Tensor, wanted: float) -> Found:
        return Found(round(float(part.sum()) / max(1, count), 4), 5 * (wanted * (1 - wanted) / max(1, count)) ** 0.5)

    return {
        **shapes,
        "the ids given": {"are left as they are": Found(bool((ids == given).all()))},
        "special tokens": {"how many are hidden": Found(int((asked & special).sum()))},
        "hidden": {
            "share of the ordinary tokens": Found(round(count / tokens, 4), 0.005),
            "fewest of a row of 50": Found(int(asked.sum(1).min())),
            "most of a row of 50": Found(int(asked.sum(1).max())),
            "share of the place that is hidden least": Found(round(float(by_place.min()), 4), 0.09),
            "share of the place that is hidden most": Found(round(float(by_place.max()), 4), 0.09),
        },
        "labels": {"are the hidden ids": Found(bool((labels[asked] == given[asked]).all()))},
        "shown": {
            "tokens that are not hidden are as they were": Found(bool((shown_ids[~asked] == given[~asked]).all())),
            "share of [MASK]": share(as_mask, 0.8),
            "share of tokens as they were": share(kept, 0.1),
            "share of other tokens": share(replaced, 0.1),
            "other tokens are of `choices`": Found(bool(torch.isin(shown_ids[replaced], choices).all())),
            "other tokens are many": Found(bool(len(shown_ids[replaced].unique()) > len(shown_ids[replaced]) // 4)),
        },
        "generator": {
            "the same seed gives the same": Found(bool((again[0] == shown_ids).all() and (again[1] == labels).all()))
        },
    }


# ---- the loop ----


def looping(core: Core) -> Stages:
    """Two epochs over 24 reviews, four at a time, with a small model: loss, gradient and learning rate of each step."""
    with open(ASSETS / "reviews" / "train.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[:32]
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    examples = [
        core.data.Examples(texts[part], None, labels[part], list(range(2, 34))[part], "reviews")
        for part in (slice(24), slice(24, 32))
    ]
    names = core.data.label_names(examples[0])
    loaders = [
        core.data.Loader(part, names, tokenizer(core), 4, 40, seed)
        for part, seed in zip(examples, (0, None), strict=True)
    ]
    sizes = dict(hidden_size=24, num_attention_heads=2, num_hidden_layers=1, intermediate_size=31)
    config = core.config.BertConfig(vocab_size=8000, max_position_embeddings=40, **sizes).replace(
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    model = core.model.BertForSequenceClassification(config, attention="eager")
    draw = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw) * 0.3 + name.endswith("norm.weight")
    modes, gradients, rates = [], [], []
    model.register_forward_hook(lambda module, _, answer: modes.append((module.training, len(answer))))
    step = torch.optim.AdamW.step

    def watched(optimizer: torch.optim.AdamW, *more: object) -> object:
        gradient = model.classifier.weight.grad
        gradients.append(torch.zeros(0) if gradient is None else gradient.clone())
        rates.append([group["lr"] for group in optimizer.param_groups])
        return step(optimizer, *more)

    with exchanged(torch.optim.AdamW, "step", watched):
        losses = core.train.fit(model, *loaders, epochs=2, lr=5e-3)
    found = {"batches": {"rows of each, in training mode": Found([rows for training, rows in modes if training])}}
    found["batches"]["rows of each, in eval mode"] = Found([rows for training, rows in modes if not training])
    found["optimizer"] = {"steps of AdamW": Found(len(rates))}
    for i in range(12):
        found[f"step {i + 1}: loss"] = {"": close(losses[i : i + 1] if isinstance(losses, list) else [])}
        found[f"step {i + 1}: gradient"] = {"": close([float(part.norm()) for part in gradients[i : i + 1]])}
        found[f"step {i + 1}: learning rate"] = {"": close(rates[i][:1] if i < len(rates) else [])}
    kinds = [type(loss).__name__ for loss in losses] if isinstance(losses, list) else type(losses).__name__
    found["losses returned"] = {"their types": Found(kinds)}
    for name, p in model.named_parameters():
        if not name.endswith(
            "key.bias"
        ):  # softmax does not see it: its gradient is rounding alone, which Adam enlarges
            found.setdefault("weights at the end", {})[name] = close([float(p.detach().norm())], 2e-3)
    found["a loss that is no number"] = {"raises ValueError": Found(refuses_nan(core, model, loaders))}
    return found


def refuses_nan(core: Core, model: nn.Module, loaders: Sequence[object]) -> bool:
    nn.init.constant_(model.classifier.bias, float("nan"))
    try:
        core.train.fit(model, *loaders, epochs=1)
    except ValueError:
        return True
    return False


def close(numbers: Sequence[float], share: float = 2e-4) -> Found:
    """A number that may differ by what another order of sums explains; None: there is none."""
    return Found(float(numbers[0]), share * max(1e-4, abs(float(numbers[0])))) if numbers else Found(None)


def adam(core: Core) -> Stages:
    """Three steps from the same weights, minimising the sum of squares, beside PyTorch's."""
    p, m, v = torch.linspace(-1, 1, 7), torch.zeros(7), torch.zeros(7)
    theirs = p.clone().requires_grad_()
    right = torch.optim.Adam([theirs], lr=0.01)
    found = {}
    for t in range(1, 4):
        core.adam.adam_step(p, 2 * p, m, v, t)
        right.zero_grad()
        (theirs**2).sum().backward()
        right.step()
        found[f"weights after step {t}"] = {"": Found(float((p - theirs.detach()).abs().max()), 1e-6)}
    return found


# ---- the list ----

FUSED = ("scaled_dot_product_attention", "multi_head_attention_forward")
PARTS: dict[str, tuple[str, tuple[str, ...], Callable[[Core], Stages], float, tuple[str, ...]]] = {
    "clean": ("wordpiece.py", ("clean",), cleaning, 30, ()),
    "wordpiece": ("wordpiece.py", ("wordpiece",), matching, 30, ()),
    "pairs": ("encoding.py", ("join", "fill_up"), joining, 30, ()),
    "embeddings": ("model.py", ("Embeddings.forward",), forward, 60, ("embedding_bag",)),
    "attention": ("attention.py", ("scores", "probabilities"), attending, 60, FUSED),
    "heads": ("model.py", ("SelfAttention.split_heads", "SelfAttention.forward"), heading, 60, FUSED),
    "block": ("model.py", ("SelfAttention.residual", "FeedForward.forward"), forward, 60, FUSED),
    "classifier": ("model.py", ("Pooler.forward", "BertForSequenceClassification.forward"), forward, 60, FUSED),
    "masking": ("masking.py", ("hide_tokens",), hiding, 30, ()),
    "loop": ("train.py", ("fit",), looping, 120, ()),
}


@cache
def exercises() -> tuple[Exercise, ...]:
    """The ten, in order."""
    rows = json.loads((ASSETS / "exercises" / "exercises.json").read_text(encoding="utf-8"))["exercises"]
    found = []
    for number, row in enumerate(rows, 1):
        file, names, stages, limit, forbidden = PARTS[row["name"]]
        found.append(Exercise(number, row["name"], file, names, row, stages, limit, forbidden))
    return tuple(found)


def optimizing() -> Exercise:
    """Adam's step as check/adam.py writes it out, where a shipped bug may lie; PyTorch does it for the loop."""
    return Exercise(11, "adam", "adam.py", ("adam_step", "bias_correction"), {"title": "Adam"}, adam, 30)


@cache
def wanted(stages: Callable[[Core], Stages]) -> Stages:
    """What an experiment finds with the right bodies."""
    with redirect_stdout(io.StringIO()):  # the loop prints
        return stages(Core(RIGHT))


def judged(name: str, found: Stages, right: Stages) -> dict[str, object]:
    """What an exercise's experiment tells: its stages, those that differ, and of the first a case as an example.

    A stage that was not seen, as other calls have computed it, is right where the next that was seen is. What goes into
    a module, INPUTS, is seen only where the module is called.
    """
    ladder, first, example, unseen = [], None, None, []
    for stage, there in right.items():
        if stage not in found:
            unseen += [] if stage.endswith(INPUTS) else [stage]
            ladder.append({"stage": stage, "off": False, "distance": None})
            continue
        here = found[stage]
        off = [case for case in there if not agree(here.get(case), there[case])]
        case = here.get("", Found(None))
        ladder.append({"stage": stage, "off": bool(off), "distance": case.value if case.is_distance else None})
        if off and first is None:
            first = unseen[0] if unseen else stage
            example = (off[0], here.get(off[0], Found(None)).value, there[off[0]].value)
        unseen = unseen if off else []
    if first is None and unseen:
        first, example = unseen[0], ("", None, None)
    return {"name": name, "first": first, "example": example, "stages": ladder}


def agree(ours: Found | None, right: Found) -> bool:
    if ours is None:
        return False
    if not right.allowed:
        return bool(ours.value == right.value)
    return isinstance(ours.value, float) and abs(ours.value - right.value) <= max(right.allowed, ours.allowed)
