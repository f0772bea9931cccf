"""The four models as `minibert.X` offers them: core's own classes, with all that they can be given here.

Importing this module adds every attention backend to the two that core/attention.py has, shards and the older `.bin`
files to the one that core/checkpoint.py reads, the name of the bundled model, and what is said of a directory that does
not fit. The classes are in core/model.py.
"""

from functools import wraps
from pathlib import Path

import minibert.fast.attention
import minibert.io.bundled  # noqa: F401 (both for what they add)
from minibert.core.config import BertConfig
from minibert.core.hub import resolve
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
from minibert.io.diagnosis import explained
from minibert.io.other_heads import audit
from minibert.io.weight_files import read_weights

read_model, read_config = Pretrained.from_pretrained.__func__, BertConfig.from_file.__func__


@wraps(read_model)
def from_pretrained(cls: type[Pretrained], name: str | Path, *arguments: object, **options: object) -> Pretrained:
    directory = resolve(name)
    with explained(directory):
        return read_model(cls, directory, *arguments, **options)


@wraps(read_config)
def from_file(cls: type[BertConfig], path: str | Path) -> BertConfig:
    with explained(Path(path)):
        return read_config(cls, path)


Pretrained.from_pretrained, BertConfig.from_file = classmethod(from_pretrained), classmethod(from_file)
Pretrained.read_weights, Pretrained.audit = staticmethod(read_weights), staticmethod(audit)
for kind in (BertModel, BertForSequenceClassification, BertForMaskedLM, BertForPreTraining):
    kind.forward = taking(kind.forward, default=kind is BertForSequenceClassification)
