"""Heads of other classes in a file of weights, such as BertForQuestionAnswering's: named, and left where they are.

A model that takes no head from the file goes without them. Beside a head of ours they stay unexpected keys: who knows
what they do to the vector that it reads?
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from minibert.core import checkpoint
from minibert.core.checkpoint import ENCODER, TABLE, Audit, part_of, parts

BY_NAME = {"qa_outputs": "a question-answering head"}  # by the first part of its weights' names
TOKENS = "a token-classification head"
BY_CLASS = {  # of heads that are called "classifier", as ours is
    "BertForTokenClassification": TOKENS,
    "BertForMultipleChoice": "a multiple-choice head",
}
# So begin the names of a BERT's weights; what else is called a classifier is another head.
OURS = {name.split(".")[0] for name in (*TABLE, *ENCODER, *ENCODER.values())} - {"classifier"}


def audit(model: nn.Module, found: Mapping[str, Tensor], source: str) -> Audit:
    """As core's; `left` holds what heads of other classes are called, too. Raises ValueError as core's does."""
    ours = {key: our_name(key) for key in found}
    classifier = their_classifier(parts(ours.values()), architecture(model))
    if classifier:
        found = {key: tensor for key, tensor in found.items() if part_of(ours[key]) != "classifier"}
    checked = checkpoint.audit(model, found, source)
    problems = checked.problems
    others = [key for key in problems["unexpected"] if is_of_another_head(key)]
    left = checked.left | classifier.union(map(called, others))
    taken = parts(checked.offered) & parts(checkpoint.model_tensors(model))
    if taken <= {"bert.pooler"} and not problems["missing"]:
        problems["unexpected"] = [key for key in problems["unexpected"] if key not in others]
    return checked._replace(left=left)


def our_name(key: str) -> str:
    """Of a file's key; "" where no BERT has it."""
    return checkpoint.translate(checkpoint.their_name(key), TABLE) or ""


def their_classifier(brought: set[str], architecture: str) -> set[str]:
    """What a file's classifier is called if it is not one of texts, else nothing.

    brought: the file's parts. architecture: the class that config.json names. A classifier without a pooler is one of
    tokens, whatever that is.
    """
    if "classifier" not in brought:
        return set()
    if "bert.pooler" not in brought:
        return {TOKENS}
    return {BY_CLASS[architecture]} if architecture in BY_CLASS else set()


def architecture(model: nn.Module) -> str:
    """The class that config.json names."""
    names = model.config.others.get("architectures")
    return str(names[0] if isinstance(names, list) and names else names)


def is_of_another_head(key: str) -> bool:
    """Whether no part of a weight's name is one of BERT's."""
    return key[:1].isalpha() and OURS.isdisjoint(key.split("."))


def called(key: str) -> str:
    """What a message calls the head that a weight is of."""
    name = key.partition(".")[0]
    return BY_NAME.get(name, f"a part called {name}")
