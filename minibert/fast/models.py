"""The four models as `minibert.X` offers them: core's own classes, with all that they can be given here.

Importing this module adds every attention backend to the two that core/attention.py has, shards and the older `.bin`
files to the one that core/checkpoint.py reads, the name of the bundled model, and what is said of a directory that does
not fit. The classes are in core/model.py.
"""

import minibert.fast.attention
import minibert.io.bundled
import minibert.io.diagnosis  # noqa: F401 (all three for what they add)
from minibert.core.model import (  # noqa: F401 (for others to import from here)
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    BertOutput,
    PreTrainingOutput,
)
from minibert.core.weights import Pretrained
from minibert.fast.old_arguments import taking
from minibert.io.weight_files import read_weights

Pretrained.read_weights = staticmethod(read_weights)

for kind in (BertModel, BertForSequenceClassification, BertForMaskedLM, BertForPreTraining):
    kind.forward = taking(kind.forward, default=kind is BertForSequenceClassification)
