"""Fine-tuning and pretraining with all that a long run wants: the best epoch, packed batches, checkpoints, several
processes, a report.

Not here: the loop in its shortest form (core/train.py), which a test holds this one to.
Read engine.py first, whose `fit` is the loop.
"""

from minibert.lazy import face

FILES = {
    "fine_tuning": "train",
    "options": "PretrainOptions TrainOptions",
    "pretraining": "pretrain",
}

__getattr__, __dir__ = face(__name__, FILES)
