"""What a classification head's numbers mean: classes, several labels at once, or a score, as the model's files say."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from reprlib import repr as short
from typing import NamedTuple

import torch
from torch import Tensor

from minibert.core.checkpoint import printable
from minibert.core.config import BertConfig
from minibert.core.files import read_object
from minibert.text.tokenizer import Tokenizer

TASKS = {  # transformers' word for it in config.json -> ours
    "single_label_classification": "classification",
    "multi_label_classification": "multi-label",
    "regression": "regression",
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {  # logits [N, L] -> [N, L]
    "softmax": lambda logits: logits.softmax(dim=-1),
    "sigmoid": torch.sigmoid,
    "none": lambda logits: logits,
}
CROSS_ENCODERS = {  # ours -> what sentence-transformers calls it
    "none": "torch.nn.modules.linear.Identity",
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
}


# ---- what the files say ----


def read_config(directory: Path, tokenizer: Tokenizer) -> BertConfig:
    """config.json, and what a CrossEncoder of sentence-transformers 6 keeps in files of its own: the activation, and
    how many tokens of a text the tokenizer is to give.

    Raises:
        ValueError: a file cannot be used, or asks for what minibert does not do, or they contradict each other.
    """
    config = read_files(directory, tokenizer)
    try:
        activation_of(config)
    except ValueError as error:
        raise ValueError(str(error).replace("config:", f"{directory}:", 1)) from None
    return config


def read_files(directory: Path, tokenizer: Tokenizer) -> BertConfig:
    """As `read_config`, before the config is looked at as a whole."""
    config, path = BertConfig.from_file(directory / "config.json"), directory / "config_sentence_transformers.json"
    values = read_object(path, needed=False)
    if "activation_fn" not in values:
        return config  # of a SentenceTransformer, or of nobody
    if prompt := values.get("default_prompt_name"):
        remedy = "set it to null, and write the prompt before each text yourself"
        raise ValueError(f"{path}: default_prompt_name is {short(prompt)}, which minibert does not put there; {remedy}")
    if (directory / "modules.json").is_file():
        path = directory / "sentence_bert_config.json"
        found = read_object(path, needed=False)
        length = found.get("max_seq_length") or tokenizer.model_max_length
        if type(length) is not int or length < 2:
            raise ValueError(f"{path}: max_seq_length is {short(length)}; it must be a whole number from 2, or null")
        if found.get("do_lower_case") and not tokenizer.lowercase:
            remedy = 'write "do_lower_case": true there too'
            raise ValueError(f"{path}: do_lower_case is true, but not in tokenizer_config.json; {remedy}")
        tokenizer.model_max_length = length
    return with_activation(config, values["activation_fn"])


def task_of(config: BertConfig) -> str:
    """ "classification", "multi-label" or "regression": what a model learns. Where no problem_type says it, one label
    is a regression's, as for transformers.

    Raises:
        ValueError: problem_type and the number of labels contradict each other.
    """
    if config.problem_type is None:
        return "regression" if config.num_labels == 1 else "classification"
    task = TASKS[config.problem_type]
    if task == "classification" and config.num_labels == 1:
        said = "problem_type is 'single_label_classification', but there is one label alone"
        raise ValueError(f"config: {said}; write 'regression' for a score without bounds, or leave problem_type out")
    return task


def activation_of(config: BertConfig) -> str:
    """ "softmax", "sigmoid" or "none": what makes answers of the logits.

    As in transformers' text-classification pipeline, except that a CrossEncoder of sentence-transformers says it
    itself.

    Raises:
        ValueError: it says something else, or as `task_of`.
    """
    task, own = task_of(config), cross_encoders_own(config)
    if own is None:
        if config.problem_type == "regression":
            return "none"
        return "sigmoid" if task == "multi-label" or config.num_labels == 1 else "softmax"
    for activation, name in CROSS_ENCODERS.items():
        if isinstance(own, str) and own.split(".")[-1] == name.split(".")[-1]:
            return activation
    said, known = printable(own) if isinstance(own, str) else short(own), " or ".join(CROSS_ENCODERS.values())
    raise ValueError(f"config: activation_fn of this CrossEncoder is {said}, where minibert knows {known}; write one")


def cross_encoders_own(config: BertConfig) -> object:
    """What sentence-transformers wrote, from release 4 on or before; None: nothing."""
    newer = config.others.get("sentence_transformers")
    if isinstance(newer, dict) and "activation_fn" in newer:
        return newer["activation_fn"]
    return config.others.get("sbert_ce_default_activation_function")


def with_activation(config: BertConfig, name: object) -> BertConfig:
    """The config, saying so where releases 4 and 5 of sentence-transformers do, which later ones read."""
    newer = config.others.get("sentence_transformers")
    newer = {**(newer if isinstance(newer, dict) else {}), "activation_fn": name}
    return config.replace(others={**config.others, "sentence_transformers": newer})


def without_activation(config: BertConfig) -> BertConfig:
    """The config of a model whose head is to learn something else than what a CrossEncoder was told of it."""
    others = {name: value for name, value in config.others.items() if name != "sbert_ce_default_activation_function"}
    if isinstance(newer := others.get("sentence_transformers"), dict):
        others["sentence_transformers"] = {name: value for name, value in newer.items() if name != "activation_fn"}
    return config.replace(others=others)


def for_cross_encoders(config: BertConfig) -> BertConfig:
    """The config to save: it says the activation where a CrossEncoder would take another than transformers and we."""
    if cross_encoders_own(config) is not None:
        return config
    activation = activation_of(config)
    differs = activation != ("sigmoid" if config.num_labels == 1 else "none") and activation in CROSS_ENCODERS
    return with_activation(config, CROSS_ENCODERS[activation]) if differs else config


# ---- answers ----


class Answer(NamedTuple):
    """Of one text.

    labels: the best one; of several labels at once those that are `present`, in the order of their ids.
    value: the best one's probability or score; of several the probability of the least certain decision.
    each: probability or score of every label, by logit column.
    best: the logit columns of as many as were asked for, the best first; None: all are shown.
    """

    labels: list[str]
    value: float
    each: list[float]
    best: list[int] | None = None

    @property
    def label(self) -> str:
        return "|".join(self.labels)


def present(logits: Tensor, threshold: float = 0.5) -> Tensor:
    """Which of several labels a text has: those of probability `threshold` and more. [...] -> bool [...]"""
    return logits >= math.log(threshold / (1 - threshold))


def activated(config: BertConfig, logits: Tensor) -> Tensor:
    """Probabilities or scores, [..., L] of [..., L]. Raises ValueError as `activation_of` does."""
    return ACTIVATIONS[activation_of(config)](logits)


def answers(config: BertConfig, logits: Tensor, top: int | None = None, threshold: float = 0.5) -> list[Answer]:
    """Of logits [N, L]. top: how many of the best are asked for, None: all. threshold: see `present`."""
    names, rows = config.id2label, activated(config, logits).tolist()
    if task_of(config) == "multi-label":
        shares, found = logits.sigmoid(), present(logits, threshold)
        values = torch.where(found, shares, 1 - shares).amin(dim=1).tolist()
        chosen = [[names[i] for i, yes in enumerate(row) if yes] for row in found.tolist()]
    else:
        first = logits.argmax(dim=1).tolist()
        chosen, values = [[names[i]] for i in first], [row[i] for i, row in zip(first, rows, strict=True)]
    best = [None] * len(rows)
    if top is not None:
        best = logits.argsort(dim=1, descending=True, stable=True)[:, :top].tolist()
    return [Answer(*answer) for answer in zip(chosen, values, rows, best, strict=True)]


def check_asked(config: BertConfig, top: int | None, threshold: float) -> None:
    """Raises ValueError: the model's answers have no best ones, or no threshold."""
    if threshold != 0.5 and task_of(config) != "multi-label":
        raise ValueError(
            f"--threshold {threshold:g} is for a model of several labels at once, and this one is for"
            f" {task_of(config)}; leave it out"
        )
    if top is not None and config.num_labels == 1:
        raise ValueError(f"--top {top} is for a model of several labels, and this one has one; leave it out")


def value_name(config: BertConfig) -> str:
    """What an answer's value is: a "probability", or a "score" of a single label or without bounds."""
    if task_of(config) == "multi-label":
        return "probability"
    return "score" if config.num_labels == 1 or activation_of(config) == "none" else "probability"


def to_dict(config: BertConfig, answer: Answer, digits: int | None = None) -> dict[str, object]:
    """For JSON. One label: label and score. Several: label and probabilities (or scores), of the best the best first.
    Several at once: labels, the probability of the least certain decision, and probabilities."""
    rounded = [x if digits is None else round(x, digits) for x in (answer.value, *answer.each)]
    shown = range(len(answer.each)) if answer.best is None else answer.best
    each = {
        "scores" if activation_of(config) == "none" else "probabilities": {
            config.id2label[i]: rounded[1 + i] for i in shown
        }
    }
    if task_of(config) == "multi-label":
        return {"labels": answer.labels, "probability": rounded[0], **each}
    return {"label": answer.label, **({"score": rounded[0]} if config.num_labels == 1 else each)}


def has_all(config: BertConfig) -> bool:
    """Whether a table shows every label's number, as one alone would not be the answer."""
    return task_of(config) == "multi-label" or (task_of(config) == "regression" and config.num_labels > 1)


def head_of_table(config: BertConfig, top: int | None = None, every: bool = False) -> list[str]:
    """The columns of `to_cells`."""
    kind, several, each = "score" if activation_of(config) == "none" else "probability", is_several(config), []
    if top is not None:  # the best of classes is the label already
        each = [f"{name}_{k}" for k in range(2 - several, top + 1) for name in ("label", kind)]
    elif every or has_all(config):
        each = [f"{kind}_{name}" for name in config.id2label.values()]
    return ["labels" if several else "label", value_name(config), *each]


def to_cells(config: BertConfig, answer: Answer, every: bool = False, digits: int = 6) -> list[str]:
    """An answer's row of a table. every: with every label's number, where they are not asked to be the best ones."""
    cells = [answer.label, f"{answer.value:.{digits}f}"]
    if answer.best is not None:
        for i in answer.best[1 - is_several(config) :]:
            cells += [config.id2label[i], f"{answer.each[i]:.{digits}f}"]
    elif every or has_all(config):
        cells += [f"{number:.{digits}f}" for number in answer.each]
    return cells


def is_several(config: BertConfig) -> bool:
    return task_of(config) == "multi-label"
