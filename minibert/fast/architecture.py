"""Which of the four classes a file's weights are for, told by their names."""

from collections.abc import Iterable

from minibert.core.checkpoint import TABLE, parts, their_name, translate
from minibert.core.model import BertBase
from minibert.fast.models import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel


def model_class(keys: Iterable[str]) -> type[BertBase]:
    """The class that has the heads which these weights are for. Labels of texts and next sentences are told by the
    pooler's vector: without a pooler such a head does not count, or is one of tokens."""
    found = parts(filter(None, (translate(their_name(key), TABLE) for key in keys)))
    if {"classifier", "bert.pooler"} <= found:
        return BertForSequenceClassification
    if "mlm" in found:
        return BertForPreTraining if {"nsp", "bert.pooler"} <= found else BertForMaskedLM
    return BertModel
