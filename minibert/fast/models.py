"""The four models as `minibert.X` offers them: core's own classes, with all that they can be given here.

Importing this module adds every attention backend to the two that core/attention.py has, the older `.bin` files to the
safetensors that core/checkpoint.py reads, and the name of the bundled model. The classes are in core/model.py.
"""

from collections.abc import Iterable

import minibert.fast.attention
import minibert.io.bin_weights
import minibert.io.bundled  # noqa: F401 (all three for what they add)
from minibert.core.checkpoint import TABLE, part_of, their_name, translate
from minibert.core.model import (
    BertBase,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    BertOutput,
    PreTrainingOutput,
)
from minibert.fast import old_arguments

__all__ = [
    "BertForMaskedLM",
    "BertForPreTraining",
    "BertForSequenceClassification",
    "BertModel",
    "BertOutput",
    "PreTrainingOutput",
    "model_class",
]


def model_class(keys: Iterable[str]) -> type[BertBase]:
    """The class that has the heads which a file's keys are for; next sentences are told by the pooler's vector, so
    without a pooler that head does not count."""
    names = filter(None, (translate(their_name(key), TABLE) for key in keys))
    parts = {part_of(name) for name in names}
    if "classifier" in parts:
        return BertForSequenceClassification
    if "mlm" in parts:
        return BertForPreTraining if {"nsp", "bert.pooler"} <= parts else BertForMaskedLM
    return BertModel


old_arguments.accept(BertModel, BertForSequenceClassification, BertForMaskedLM, BertForPreTraining)
