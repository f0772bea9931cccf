"""The four models as `minibert.X` offers them: core's own classes, with all that they can be given here.

Importing this module adds every attention backend to the two that core/attention.py has, what loading.py knows of files
to what core/weights.py does, and the name of the bundled model. The classes are in core/model.py.
"""

import minibert.fast.attention
import minibert.fast.loading
import minibert.io.bundled  # noqa: F401 (all three for what they add)
from minibert.core.model import (  # noqa: F401 (for others to import from here)
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    BertOutput,
    PreTrainingOutput,
)
from minibert.fast.old_arguments import taking

for kind in (BertModel, BertForSequenceClassification, BertForMaskedLM, BertForPreTraining):
    kind.forward = taking(kind.forward, default=kind is BertForSequenceClassification)
