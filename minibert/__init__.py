"""minibert: BERT from scratch in PyTorch, minimal, checked against the original, open to look inside.

The names below are imported when they are first used (PEP 562), so that the tokenizer works without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minibert.activations import capture, intervene
    from minibert.core.config import BertConfig
    from minibert.fast.attention import attend, attention_backends
    from minibert.inference import TextClassifier, TextEncoder
    from minibert.model import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel
    from minibert.tokenizer import Encoding, Tokenizer

__version__ = "0.2.0.dev0"

_HOME = {
    "BertConfig": "core.config",
    "BertForMaskedLM": "model",
    "BertForPreTraining": "model",
    "BertForSequenceClassification": "model",
    "BertModel": "model",
    "Encoding": "tokenizer",
    "TextClassifier": "inference",
    "TextEncoder": "inference",
    "Tokenizer": "tokenizer",
    "attend": "fast.attention",
    "attention_backends": "fast.attention",
    "capture": "activations",
    "intervene": "activations",
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


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'minibert' has no attribute {name!r}")
    return getattr(import_module(f"minibert.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
