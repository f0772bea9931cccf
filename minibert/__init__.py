"""minibert: BERT from scratch in PyTorch, minimal, checked against the original, open to look inside.

The names below are imported when they are first used (PEP 562), so that the tokenizer works without loading torch.
"""

import sys
from typing import TYPE_CHECKING

from minibert import old_names
from minibert.lazy import face

if TYPE_CHECKING:
    from minibert.core.config import BertConfig
    from minibert.fast.attention import attend, attention_backends
    from minibert.fast.models import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel
    from minibert.inference.text_encoder import TextEncoder
    from minibert.inference.text_models import TextClassifier
    from minibert.look.activations import capture, intervene
    from minibert.text.tokenizer import Encoding, Tokenizer

__version__ = "0.2.0"

__all__ = ["BertConfig", "BertForMaskedLM", "BertForPreTraining", "BertForSequenceClassification", "BertModel"]
__all__ += ["Encoding", "TextClassifier", "TextEncoder", "Tokenizer"]
__all__ += ["attend", "attention_backends", "capture", "intervene"]

FILES = {
    "core.config": "BertConfig",
    "fast.attention": "attend attention_backends",
    "fast.models": "BertForMaskedLM BertForPreTraining BertForSequenceClassification BertModel",
    "inference.text_encoder": "TextEncoder",
    "inference.text_models": "TextClassifier",
    "look.activations": "capture intervene",
    "text.tokenizer": "Encoding Tokenizer",
}
_public_name, __dir__ = face(__name__, FILES)
sys.meta_path.insert(0, old_names.OldNames())


def __getattr__(name: str) -> object:
    if name in old_names.PLACES:
        return old_names.renamed(name)
    return _public_name(name)
