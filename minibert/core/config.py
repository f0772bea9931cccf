"""The sizes and constants of a BERT: one frozen dataclass, whose fields are the names in everybody's `config.json`.

Google's `bert_config.json` and Hugging Face's `config.json` share these names. Keys that only other software uses are
kept as they are; keys that would change the arithmetic in a way that model.py does not implement are refused.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as short  # cuts what a damaged file may hold down to one short line

from .files import read_object

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

# A key whose value would make the model something else than the BERT of model.py, and the only value accepted.
ARITHMETIC_KEYS = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
    "pruned_heads": {},
    "quantization_config": None,
}
PROBLEM_TYPES = (None, "single_label_classification", "multi_label_classification", "regression")
STALE = ("architectures", "dtype", "torch_dtype", "num_labels", "label2id")  # said anew when a model is saved

# Limits far above any published BERT: a larger value is a damaged file, not a model.
REQUIRED = {"vocab_size": 5_000_000, "hidden_size": 32_768, "num_hidden_layers": 512, "num_attention_heads": 1_024}
REQUIRED |= {"intermediate_size": 262_144}  # in every config.json; the other sizes may be left out
SIZES = {**REQUIRED, "max_position_embeddings": 1_048_576, "type_vocab_size": 1_024}
LIMITS = {**SIZES, "num_labels": 100_000}
BELOW = {"hidden_dropout_prob": 1, "attention_probs_dropout_prob": 1, "classifier_dropout": 1}  # from 0
BELOW |= {"initializer_range": 10, "layer_norm_eps": 1}
REMEDY = "copy the config.json that belongs to the weights"


def refused(name: str, value: object, must: str) -> ValueError:
    """The one form of this file's refusals."""
    return ValueError(f"config: {name} is {short(value)}; it must {must}")


def check_size(name: str, value: object) -> None:
    """A whole number from 1 to its limit."""
    if type(value) is not int or not 1 <= value <= LIMITS[name]:
        raise refused(name, value, f"be a whole number from 1 to {LIMITS[name]}; {REMEDY}")


def numbered_labels(count: object) -> dict[int, str]:
    """Names for labels that have none: {0: "LABEL_0", 1: "LABEL_1", …}, as transformers calls them."""
    check_size("num_labels", count)
    return {i: f"LABEL_{i}" for i in range(count)}


@dataclass(frozen=True)
class BertConfig:
    """The defaults are bert-base-uncased's (Devlin et al. 2018, section 3).

    Raises ValueError for a value that has the wrong type, is out of range, or does not fit another one.
    """

    vocab_size: int = 30522  # V: rows of the token embedding
    hidden_size: int = 768  # E: width of the residual stream
    num_hidden_layers: int = 12
    num_attention_heads: int = 12  # H: must divide hidden_size; head size D = E / H
    intermediate_size: int = 3072  # F: inner width of the feed-forward network
    hidden_act: str = "gelu"  # "gelu" is the erf form; "gelu_new" and "gelu_pytorch_tanh" are Google's tanh form
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512  # the longest sequence, [CLS] and [SEP] included
    type_vocab_size: int = 2  # segments A and B
    initializer_range: float = 0.02  # standard deviation of fresh weights
    layer_norm_eps: float = 1e-12  # not PyTorch's 1e-5
    pad_token_id: int = 0
    classifier_dropout: float | None = None  # None: hidden_dropout_prob
    id2label: dict[int, str] = field(default_factory=lambda: numbered_labels(2))
    problem_type: str | None = None  # what the labels mean to transformers: None or one of PROBLEM_TYPES
    others: dict[str, object] = field(default_factory=dict, repr=False, compare=False)  # kept for saving

    @property
    def head_size(self) -> int:
        """D, the width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def num_labels(self) -> int:
        return len(self.id2label)

    def __post_init__(self) -> None:
        for name in SIZES:
            check_size(name, getattr(self, name))
        if self.hidden_size % self.num_attention_heads:
            heads = f"num_attention_heads {self.num_attention_heads}"
            raise refused("hidden_size", self.hidden_size, f"be divisible by {heads}, as all heads are of one size")
        if self.hidden_act not in ACTIVATIONS:
            raise refused("hidden_act", self.hidden_act, f"be one of {', '.join(ACTIVATIONS)}")
        if self.problem_type not in PROBLEM_TYPES:
            raise refused("problem_type", self.problem_type, f"be one of {', '.join(PROBLEM_TYPES[1:])}, or left out")
        for name, high in BELOW.items():
            value = getattr(self, name)
            if value is None and name == "classifier_dropout":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < high:
                raise refused(name, value, f"be a number from 0 to below {high}")
        if type(self.pad_token_id) is not int or not 0 <= self.pad_token_id < self.vocab_size:
            raise refused("pad_token_id", self.pad_token_id, f"be an id from 0 to below vocab_size {self.vocab_size}")
        labels = self.id2label
        if not isinstance(labels, dict) or set(labels) != set(range(len(labels))) or not labels:
            raise refused("id2label", labels, "name the labels 0, 1, 2 … without a gap")
        check_size("num_labels", len(labels))
        if not all(isinstance(label, str) for label in labels.values()):
            raise refused("id2label", labels, "give each label a string as its name")
        if len(set(labels.values())) < len(labels):
            raise refused("id2label", labels, "not give one name to two labels; name each differently")
        object.__setattr__(self, "id2label", {i: labels[i] for i in range(len(labels))})  # our own copy, in order

    def replace(self, **changes: object) -> BertConfig:
        """A copy with some fields changed, checked again."""
        return dataclasses.replace(self, **changes)

    # ---- config.json ----

    @classmethod
    def from_dict(cls, values: dict[str, object], source: str = "config") -> BertConfig:
        """Reads the dictionary of a `config.json`, of Hugging Face or of Google; `source` names it in errors.

        Raises ValueError where it is no BERT's, a required field is missing, or a value is out of range.
        """
        for key, wanted in ARITHMETIC_KEYS.items():
            if values.get(key, wanted) not in (wanted, None):
                raise ValueError(
                    f"{source}: {key} is {short(values[key])}; minibert implements {wanted!r} only, choose such a model"
                )
        missing = [name for name in REQUIRED if name not in values]
        if missing:
            raise ValueError(f"{source}: lacks {', '.join(missing)}; {REMEDY}")
        known = {f.name for f in dataclasses.fields(cls)} - {"id2label", "others"}
        own = {name: value for name, value in values.items() if name in known}
        own["others"] = {
            name: value for name, value in values.items() if name not in {*own, *ARITHMETIC_KEYS, "id2label"}
        }
        if own.get("pad_token_id", 0) is None:
            del own["pad_token_id"]
        try:
            if values.get("id2label") is not None:
                own["id2label"] = _int_keys(values["id2label"])
            elif values.get("num_labels") is not None:
                own["id2label"] = numbered_labels(values["num_labels"])
            return cls(**own)
        except ValueError as error:
            raise ValueError(str(error).replace("config:", f"{source}:", 1)) from None

    @classmethod
    def from_file(cls, path: Path | str) -> BertConfig:
        """Reads `config.json`. Raises ValueError where it is missing, is not UTF-8 JSON, or describes no BERT."""
        return cls.from_dict(read_object(Path(path), REMEDY), source=str(path))

    def to_dict(self) -> dict[str, object]:
        """The dictionary that `config.json` holds; `transformers` reads it as a BertConfig."""
        values = {name: value for name, value in self.others.items() if name not in STALE}
        values |= {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "others"}
        values["id2label"] = {str(i): label for i, label in self.id2label.items()}
        values["label2id"] = {label: i for i, label in self.id2label.items()}
        if self.problem_type is None:
            del values["problem_type"]
        return {"model_type": "bert", **values, "position_embedding_type": "absolute"}


def _int_keys(labels: object) -> dict[int, object]:
    """JSON has only string keys: {"0": "neg"} -> {0: "neg"}; a number as a name becomes text."""
    try:
        by_number = {int(i): str(label) if type(label) is int else label for i, label in labels.items()}
    except (AttributeError, ValueError):
        raise refused("id2label", labels, "map '0', '1', … to names") from None
    if len(by_number) < len(labels):
        raise refused("id2label", labels, "not give two names to one label; keep one")
    return by_number


# Layers and width of Google's published sizes (github.com/google-research/bert, README of 2020-03-11).
_PUBLISHED = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512)}
_PUBLISHED |= {"base": (12, 768), "large": (24, 1024)}
PRESETS = {
    name: dict(num_hidden_layers=layers, hidden_size=E, num_attention_heads=E // 64, intermediate_size=4 * E)
    for name, (layers, E) in _PUBLISHED.items()
}
