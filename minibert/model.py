"""The four models as `minibert.X` offers them: core's own classes, with all that they can be given here.

Importing this module adds every attention backend to the two that core/attention.py has, the older `.bin` files to the
safetensors that core/weights.py reads, and the name of the bundled model. The classes are in core/model.py.
"""

import minibert.checkpoint
import minibert.fast.attention
import minibert.hub  # noqa: F401 (all three for what they add)
from minibert.core.model import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    BertOutput,
    PreTrainingOutput,
)

__all__ = [
    "BertForMaskedLM",
    "BertForPreTraining",
    "BertForSequenceClassification",
    "BertModel",
    "BertOutput",
    "PreTrainingOutput",
]
