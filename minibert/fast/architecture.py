"""Which of the four classes a file's weights are for, told by their names."""

from collections.abc import Iterable
from pathlib import Path

from minibert.core.checkpoint import TABLE, parts, read_weights, their_name, translate
from minibert.core.model import BertBase
from minibert.fast.models import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel
from minibert.io.diagnosis import explained


def class_of(directory: Path) -> type[BertBase]:
    """The class that a directory's weights are for. Raises ValueError where they cannot be read."""
    with explained(directory):
        return model_class(read_weights(directory)[1])


def model_class(keys: Iterable[str]) -> type[BertBase]:
    """The class that has the heads which these weights are for; next sentences are told by the pooler's vector, so
    without a pooler that head does not count."""
    found = parts(filter(None, (translate(their_name(key), TABLE) for key in keys)))
    if "classifier" in found:
        return BertForSequenceClassification
    if "mlm" in found:
        return BertForPreTraining if {"nsp", "bert.pooler"} <= found else BertForMaskedLM
    return BertModel
