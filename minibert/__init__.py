"""minibert: BERT from scratch in PyTorch, minimal, checked against the original, open to look inside.

The names below are imported when they are first used (PEP 562), so that the tokenizer works without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from minibert import old_names

if TYPE_CHECKING:
    from minibert.core.config import BertConfig
    from minibert.fast.attention import attend, attention_backends
    from minibert.fast.models import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel
    from minibert.inference.text_models import TextClassifier, TextEncoder
    from minibert.look.activations import capture, intervene
    from minibert.text.tokenizer import Encoding, Tokenizer

__version__ = "0.2.0.dev0"

_HOME = {
    "BertConfig": "core.config",
    "BertForMaskedLM": "fast.models",
    "BertForPreTraining": "fast.models",
    "BertForSequenceClassification": "fast.models",
    "BertModel": "fast.models",
    "Encoding": "text.tokenizer",
    "TextClassifier": "inference.text_models",
    "TextEncoder": "inference.text_models",
    "Tokenizer": "text.tokenizer",
    "attend": "fast.attention",
    "attention_backends": "fast.attention",
    "capture": "look.activations",
    "intervene": "look.activations",
}
__all__ = [
    "BertConfig",
    "BertForMaskedLM",
    "BertForPreTraining",
    "BertForSequenceClassification",
    "BertModel",
    "Encoding",
    "TextClassifier",
    "TextEncoder",
    "Tokenizer",
    "attend",
    "attention_backends",
    "capture",
    "intervene",
]

old_names.install()


def __getattr__(name: str) -> object:
    if name in old_names.PLACES:
        return old_names.found(name)
    if name not in _HOME:
        raise AttributeError(f"module 'minibert' has no attribute {name!r}")
    return getattr(import_module(f"minibert.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
