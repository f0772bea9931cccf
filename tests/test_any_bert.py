"""Proves that any BERT gets transformers' answer here, or a refusal in one line: never a wrong answer. Directories are
built by transformers with random weights, by kind, and put through the classes and commands.

Run: pytest tests/test_any_bert.py (a handful of kinds); pytest -m "slow or not slow" tests/test_any_bert.py (all)
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from conftest import assert_near, stir
from safetensors.torch import load_file, save_file

from minibert import cli
from minibert.fast.models import BertForMaskedLM, BertModel
from minibert.inference.text_models import TextClassifier, TextEncoder

pytestmark = pytest.mark.numeric

WORDS = ["the", "room", "was", "clean", "film", "bad", "good", "un", "##clean", "##s", ".", ","]
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *(f"w{i}" for i in range(87))]  # 104 = 8 × 13
TEXTS = ["The room was clean.", "bad film", "Good, unclean rooms " * 3, "w3"]
PAIRS = ["film", "the room was bad.", "w1 w2", "good"]
MASKED = ["the [MASK] was clean.", "w3 [MASK]"]
SIZES = dict(
    vocab_size=len(VOCAB), hidden_size=24, num_attention_heads=3, intermediate_size=40, num_hidden_layers=2,
    max_position_embeddings=64,
)  # fmt: skip
ENCODER, CLASSES, MASKS = "hidden states", "logits", "masked tokens"


@dataclass
class Case:
    """One directory."""

    kind: str
    name: str
    make: Callable[[Path], torch.nn.Module | None]  # fills it; the model of transformers that it is, if any
    answers: set[str]  # what minibert answers of it, and nothing else
    refusal: str  # what a line says of what it does not answer


CASES: list[Case] = []


def case(kind: str, name: str, *answers: str, refusal: str = "") -> Callable:
    def add(make: Callable[[Path], torch.nn.Module | None]) -> Callable:
        CASES.append(Case(kind, name, make, set(answers), refusal))
        return make

    return add


# ---- building ----


def saved(directory: Path, cls: str = "BertModel", seed: int = 0, config: dict | None = None, **changes: object):
    """A model of transformers with stirred weights and a vocabulary; `config` is written over what it saves."""
    kind = getattr(transformers, cls)
    settings = transformers.BertConfig(**{**SIZES, **changes})
    model = stir(kind(settings), seed)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.data += 1
    model.save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    edit(directory, **(config or {}))
    return model.eval()


def edit(directory: Path, **changes: object) -> None:
    """Writes values into config.json; None takes one out."""
    path = directory / "config.json"
    values = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}), encoding="utf-8")


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def rewrite(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """`change` may edit the tensors, or give others."""
    tensors = weights(directory)
    tensors = change(tensors) or tensors
    save_file({key: x.contiguous() for key, x in tensors.items()}, directory / "model.safetensors")


def as_bin(directory: Path, wrap: Callable[[dict], object] = dict, zipped: bool = True) -> None:
    content = wrap(weights(directory))
    torch.save(content, directory / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    (directory / "model.safetensors").unlink()


# ---- the kinds ----

for activation in ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu"):

    @case("encoder", activation, ENCODER)
    def _(directory, activation=activation):
        return saved(directory, hidden_act=activation)


@case("encoder", "of an unknown activation", refusal="hidden_act is 'silu'")
def _(directory):
    return saved(directory, hidden_act="silu")


@case("encoder", "of one layer, one head", ENCODER)
def _(directory):
    return saved(directory, num_hidden_layers=1, num_attention_heads=1)


@case("encoder", "with another eps", ENCODER)
def _(directory):
    return saved(directory, layer_norm_eps=1e-5)


@case("no pooler", "as saved", ENCODER)
def _(directory):
    saved(directory)
    rewrite(directory, lambda w: {key: x for key, x in w.items() if "pooler" not in key})
    return transformers.BertModel.from_pretrained(directory, add_pooling_layer=False).eval()


@case("no pooler", "with bert. before its names", ENCODER)
def _(directory):
    model = saved(directory)
    rewrite(directory, lambda w: {f"bert.{key}": x for key, x in w.items() if "pooler" not in key})
    return model


@case("no pooler", "of a masked LM without its head", ENCODER)
def _(directory):
    model = saved(directory, "BertForMaskedLM")
    rewrite(directory, lambda w: {key: x for key, x in w.items() if key.startswith("bert.")})
    return model.bert


@case("no pooler", "half of it", refusal="1 missing: bert.pooler.dense.bias")
def _(directory):
    saved(directory)
    rewrite(directory, lambda w: w.pop("pooler.dense.bias") is None)


for labels in (1, 2, 5):

    @case("classifier", f"of {labels} labels", ENCODER, CLASSES)
    def _(directory, labels=labels):
        return saved(directory, "BertForSequenceClassification", num_labels=labels)


for problem in ("single_label_classification", "multi_label_classification", "regression"):

    @case("classifier", problem, ENCODER, CLASSES)
    def _(directory, problem=problem):
        labels = 1 if problem == "regression" else 3
        return saved(directory, "BertForSequenceClassification", num_labels=labels, problem_type=problem)


@case("classifier", "whose config names a number as its class", ENCODER, CLASSES)
def _(directory):
    return saved(directory, "BertForSequenceClassification", config={"architectures": 5})


@case("classifier", "without its bias", ENCODER, refusal="1 missing: classifier.bias")
def _(directory):
    model = saved(directory, "BertForSequenceClassification")
    rewrite(directory, lambda w: w.pop("classifier.bias") is None)
    return model


@case("masked LM", "as saved", ENCODER, MASKS)
def _(directory):
    return saved(directory, "BertForMaskedLM")


@case("masked LM", "that stores the tied decoder", ENCODER, MASKS)
def _(directory):
    model = saved(directory, "BertForMaskedLM")
    decoder = {f"cls.predictions.decoder.{part}": x for part, x in model.cls.predictions.decoder.state_dict().items()}
    rewrite(directory, lambda w: w.update({key: x.clone() for key, x in decoder.items()}))
    return model


@case("masked LM", "with a decoder of its own", refusal="which BERT shares")
def _(directory):
    saved(directory, "BertForMaskedLM")
    rewrite(directory, lambda w: w.update({"cls.predictions.decoder.weight": torch.randn(len(VOCAB), 24)}))


@case("masked LM", "that says it is untied", refusal="tie_word_embeddings is False")
def _(directory):
    saved(directory, "BertForMaskedLM", tie_word_embeddings=False)


@case("masked LM", "with a pooler", ENCODER, MASKS)
def _(directory):
    model = saved(directory, "BertForPreTraining")
    rewrite(directory, lambda w: {key: x for key, x in w.items() if "seq_relationship" not in key})
    return model


@case("pretraining", "as saved", ENCODER, MASKS)
def _(directory):
    return saved(directory, "BertForPreTraining")


@case("pretraining", "next sentence alone", ENCODER)
def _(directory):
    return saved(directory, "BertForNextSentencePrediction")


@case("pretraining", "next sentence without a pooler", ENCODER, MASKS)
def _(directory):
    model = saved(directory, "BertForPreTraining")
    rewrite(directory, lambda w: {key: x for key, x in w.items() if "pooler" not in key})
    return model


for labels in (1, 2, 5):

    @case("token classifier", f"of {labels} labels", ENCODER)
    def _(directory, labels=labels):
        return saved(directory, "BertForTokenClassification", num_labels=labels)


@case("token classifier", "whose config names no class", ENCODER)
def _(directory):
    return saved(directory, "BertForTokenClassification", config={"architectures": None})


@case("token classifier", "with a pooler", ENCODER)
def _(directory):
    model = saved(directory, "BertForTokenClassification", num_labels=3)
    pooler = {"bert.pooler.dense.weight": torch.randn(24, 24), "bert.pooler.dense.bias": torch.randn(24)}
    rewrite(directory, lambda w: w.update(pooler))
    return model


@case("token classifier", "with a CRF", ENCODER)
def _(directory):
    model = saved(directory, "BertForTokenClassification")
    rewrite(directory, lambda w: w.update({"crf.transitions": torch.randn(2, 2)}))
    return model


@case("token classifier", "whose config names one class, in no list", ENCODER)
def _(directory):
    fields = {"architectures": "BertForTokenClassification"}
    model = saved(directory, "BertForTokenClassification", config=fields)
    pooler = {"bert.pooler.dense.weight": torch.randn(24, 24), "bert.pooler.dense.bias": torch.randn(24)}
    rewrite(directory, lambda w: w.update(pooler))
    return model


@case("question answering", "as saved", ENCODER)
def _(directory):
    return saved(directory, "BertForQuestionAnswering")


@case("question answering", "whose config names no class", ENCODER)
def _(directory):
    return saved(directory, "BertForQuestionAnswering", config={"architectures": None})


@case("question answering", "whose config names another class", ENCODER)
def _(directory):
    return saved(directory, "BertForQuestionAnswering", config={"architectures": ["BertForSequenceClassification"]})


@case("multiple choice", "as saved", ENCODER)
def _(directory):
    return saved(directory, "BertForMultipleChoice")


@case("multiple choice", "with one label", ENCODER)
def _(directory):
    return saved(directory, "BertForMultipleChoice", num_labels=1)


CROSS = {
    "of 3.x": {},
    "of 5.x": {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "5.0.0"}},
    "of raw scores": {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
}
for name, fields in CROSS.items():

    @case("cross-encoder", name, ENCODER, CLASSES)
    def _(directory, fields=fields):
        return saved(directory, "BertForSequenceClassification", num_labels=1, config=fields)


def sentence_transformer(directory: Path, below: str = "", modules: int = 3) -> torch.nn.Module:
    """Its files beside the model; below: the folder that older releases put the model in."""
    (directory / below).mkdir(exist_ok=True)
    model = saved(directory / below)
    kinds = ("Transformer", "Pooling", "Normalize")
    rows = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind}" if i else below,
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds[:modules])
    ]
    (directory / "modules.json").write_text(json.dumps(rows), encoding="utf-8")
    (directory / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 24, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    settings = {"max_seq_length": 64, "do_lower_case": False}
    (directory / below / "sentence_bert_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return model


@case("sentence-transformers", "with normalising", ENCODER)
def _(directory):
    return sentence_transformer(directory)


@case("sentence-transformers", "without", ENCODER)
def _(directory):
    return sentence_transformer(directory, modules=2)


@case("sentence-transformers", "with 0.auto_model. before its names", ENCODER)
def _(directory):
    model = sentence_transformer(directory)
    rewrite(directory, lambda w: {f"0.auto_model.{key}": x for key, x in w.items()})
    return model


NAMES = {"0": "bad", "1": "fair", "2": "good"}
LABELS = {  # fields of config.json over a classifier of three labels -> what is answered, and what is said
    "reordered": ({"id2label": {"2": "good", "0": "bad", "1": "fair"}}, [ENCODER, CLASSES], ""),
    "missing": ({"id2label": None, "label2id": None, "num_labels": 3}, [ENCODER, CLASSES], ""),
    "against label2id": ({"id2label": NAMES, "label2id": {"good": 0, "fair": 1, "bad": 2}}, [ENCODER, CLASSES], ""),
    "numbers": ({"id2label": {"0": 7, "1": 8, "2": 9}, "label2id": None}, [ENCODER, CLASSES], ""),
    "two for three rows": (
        {"id2label": {"0": "bad", "1": "good"}, "label2id": None},
        [ENCODER],
        "classifier.weight is",
    ),
    "missing for three rows": ({"id2label": None, "label2id": None}, [ENCODER], "classifier.weight is"),
    "one name twice": ({"id2label": {**NAMES, "2": "bad"}, "label2id": None}, [], "not give one name to two labels"),
    "with a gap": ({"id2label": {"0": "bad", "1": "fair", "5": "good"}}, [], "without a gap"),
}
for name, (fields, answered, said) in LABELS.items():

    @case("label names", name, *answered, refusal=said)
    def _(directory, fields=fields):
        return saved(directory, "BertForSequenceClassification", num_labels=3, config=fields)


for dtype in (torch.float16, torch.bfloat16, torch.float64):

    @case("dtype", str(dtype), ENCODER, CLASSES)
    def _(directory, dtype=dtype):
        model = saved(directory, "BertForSequenceClassification").to(dtype)
        model.save_pretrained(directory)
        return model.float()


@case("dtype", "two in one file", ENCODER, CLASSES)
def _(directory):
    model = saved(directory, "BertForSequenceClassification")
    model.bert.half()
    rewrite(directory, lambda w: {key: x.half() if key.startswith("bert.") else x for key, x in w.items()})
    return model.float()


@case("dtype", "int8", refusal="the weights are quantised")
def _(directory):
    saved(directory)
    rewrite(directory, lambda w: {key: (x * 9).to(torch.int8) if x.dim() == 2 else x for key, x in w.items()})


@case("dtype", "int8 with scales", refusal="the weights are quantised")
def _(directory):
    saved(directory)
    scales = {"encoder.layer.0.attention.self.query.SCB": torch.ones(24)}
    rewrite(directory, lambda w: w.update(scales))


@case("dtype", "fp8 with scales", refusal="the weights are quantised")
def _(directory):
    saved(directory)
    name = "encoder.layer.0.output.dense.weight"
    rewrite(directory, lambda w: w.update({name: w[name].to(torch.float8_e4m3fn), f"{name}_scale": torch.ones(())}))


@case("dtype", "quantised, as the config says", refusal="the weights are quantised")
def _(directory):
    saved(directory, config={"quantization_config": {"load_in_8bit": True, "quant_method": "bitsandbytes"}})


@case("vocabulary", "larger than the table", refusal="vocab")
def _(directory):
    saved(directory)
    (directory / "vocab.txt").write_text("\n".join([*VOCAB, "more"]), encoding="utf-8")


@case("vocabulary", "of another config", refusal="embeddings.word_embeddings.weight is")
def _(directory):
    saved(directory, config={"vocab_size": 99})
    (directory / "vocab.txt").write_text("\n".join(VOCAB[:99]), encoding="utf-8")


@case("vocabulary", "one segment", ENCODER)
def _(directory):
    return saved(directory, type_vocab_size=1)


@case("vocabulary", "three segments", ENCODER, CLASSES)
def _(directory):
    return saved(directory, "BertForSequenceClassification", type_vocab_size=3)


@case("vocabulary", "tokenizer.json alone", ENCODER)
def _(directory):
    model = saved(directory)
    (directory / "vocab.txt").unlink()
    reference().save(str(directory / "tokenizer.json"))
    return model


@case("vocabulary", "none", refusal="holds a model without its vocabulary")
def _(directory):
    saved(directory)
    (directory / "vocab.txt").unlink()


@case("vocabulary", "byte-pair files", refusal="byte-pair tokens")
def _(directory):
    saved(directory)
    (directory / "vocab.txt").rename(directory / "merges.txt")


@case("config", "with keys of others", ENCODER)
def _(directory):
    return saved(directory, config={"use_cache": True, "gradient_checkpointing": False, "_name_or_path": "x", "a": 1})


@case("config", "without model_type", ENCODER)
def _(directory):
    return saved(directory, config={"model_type": None, "architectures": None, "transformers_version": None})


@case("config", "Google's file name", refusal="rename bert_config.json to config.json")
def _(directory):
    saved(directory)
    (directory / "config.json").rename(directory / "bert_config.json")


FIELDS = {
    "decoder": ({"is_decoder": True}, "is_decoder is True"),
    "cross attention": ({"add_cross_attention": True}, "add_cross_attention is True"),
    "relative positions": ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
    "pruned heads": ({"pruned_heads": {"0": [1]}}, "take the model before it was pruned"),
    "other heads": ({"num_attention_heads": 5}, "num_attention_heads"),
}
for name, (fields, said) in FIELDS.items():

    @case("config", name, refusal=said)
    def _(directory, fields=fields):
        saved(directory, config=fields)


OTHERS = {
    "roberta": (transformers.RobertaModel, transformers.RobertaConfig),
    "electra": (transformers.ElectraModel, transformers.ElectraConfig),
    "albert": (transformers.AlbertModel, transformers.AlbertConfig),
    "xlm-roberta": (transformers.XLMRobertaModel, transformers.XLMRobertaConfig),
    "mobilebert": (transformers.MobileBertModel, transformers.MobileBertConfig),
}
for name, (kind, settings) in OTHERS.items():

    @case("other model", name, refusal=f"model_type is '{name}'")
    def _(directory, kind=kind, settings=settings):
        kind(settings(**SIZES)).save_pretrained(directory)
        (directory / "vocab.txt").write_text("\n".join(VOCAB), encoding="utf-8")


@case("other model", "roberta that says it is a BERT", refusal="a RoBERTa's, which counts positions from 2")
def _(directory):
    saved(directory)
    rewrite(directory, lambda w: {f"roberta.{key}": x for key, x in w.items()})


@case("other model", "distilbert", refusal="model_type is 'distilbert'")
def _(directory):
    sizes = dict(vocab_size=len(VOCAB), dim=24, n_heads=3, n_layers=2, hidden_dim=40)
    transformers.DistilBertModel(transformers.DistilBertConfig(**sizes)).save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(VOCAB), encoding="utf-8")


@case("other model", "distilbert that says it is a BERT", refusal="missing: bert.")
def _(directory):
    sizes = dict(vocab_size=len(VOCAB), dim=24, n_heads=3, n_layers=2, hidden_dim=40)
    transformers.DistilBertModel(transformers.DistilBertConfig(**sizes)).save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(VOCAB), encoding="utf-8")
    (directory / "config.json").write_text(json.dumps({**SIZES, "model_type": "bert"}), encoding="utf-8")


def sharded(directory: Path, suffix: str, count: int) -> torch.nn.Module:
    """A classifier in `count` files with an index."""
    model = saved(directory, "BertForSequenceClassification")
    tensors, stem = weights(directory), "model" if suffix == "safetensors" else "pytorch_model"
    names = [f"{stem}-{i + 1:05}-of-{count:05}.{suffix}" for i in range(count)]
    table = {key: names[i % count] for i, key in enumerate(tensors)}
    for name in names:
        part = {key: x for key, x in tensors.items() if table[key] == name}
        save_file(part, directory / name) if suffix == "safetensors" else torch.save(part, directory / name)
    index = {"metadata": {}, "weight_map": table}
    whole = "model.safetensors" if suffix == "safetensors" else "pytorch_model.bin"
    (directory / f"{whole}.index.json").write_text(json.dumps(index), encoding="utf-8")
    (directory / "model.safetensors").unlink()
    return model


for suffix in ("safetensors", "bin"):

    @case("shards", f"two of .{suffix}", ENCODER, CLASSES)
    def _(directory, suffix=suffix):
        return sharded(directory, suffix, 2)

    @case("shards", f"five of .{suffix}", ENCODER, CLASSES)
    def _(directory, suffix=suffix):
        return sharded(directory, suffix, 5)


@case("shards", "one is lost", refusal="lists it; copy every shard")
def _(directory):
    sharded(directory, "safetensors", 3)
    (directory / "model-00002-of-00003.safetensors").unlink()


@case("shards", "the index is lost", refusal="holds shards without their index")
def _(directory):
    sharded(directory, "bin", 2)
    (directory / "pytorch_model.bin.index.json").unlink()


@case("shards", "as transformers cuts them", ENCODER, CLASSES)
def _(directory):
    model = saved(directory, "BertForSequenceClassification")
    (directory / "model.safetensors").unlink()
    model.save_pretrained(directory, max_shard_size="30KB")
    assert (directory / "model.safetensors.index.json").is_file()
    return model


BINS: dict[str, Callable[[dict], object]] = {
    "plain": dict,
    "inside state_dict": lambda w: {"state_dict": w, "epoch": 3, "optimizer_states": [{"state": {}}]},
    "inside model": lambda w: {"model": w, "optimizer": {"state": {0: torch.ones(2)}}, "step": 7},
    "Lightning's": lambda w: {"state_dict": {f"model.{key}": x for key, x in w.items()}, "global_step": 5},
    "inside module, DeepSpeed's": lambda w: {"module": {f"module.{key}": x for key, x in w.items()}},
}
for name, wrap in BINS.items():

    @case("bin", name, ENCODER, CLASSES)
    def _(directory, wrap=wrap):
        model = saved(directory, "BertForSequenceClassification")
        as_bin(directory, wrap)
        return model


@case("bin", "of before zip", ENCODER, CLASSES)
def _(directory):
    model = saved(directory, "BertForSequenceClassification")
    as_bin(directory, zipped=False)
    return model


@case("bin", "of an optimizer", refusal="holds more than a dictionary of plain tensors")
def _(directory):
    saved(directory)
    as_bin(directory, lambda w: {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]})


@case("bin", "of a whole module", refusal="which could run code")
def _(directory):
    model = saved(directory)
    as_bin(directory, lambda w: model)


PREFIXES = ("module.", "_orig_mod.", "model.", "module.model.", "student.encoder.")
for prefix in PREFIXES:

    @case("names", f"{prefix} before all", ENCODER, CLASSES)
    def _(directory, prefix=prefix):
        model = saved(directory, "BertForSequenceClassification")
        rewrite(directory, lambda w: {prefix + key: x for key, x in w.items()})
        return model


@case("names", "gamma and beta", ENCODER, CLASSES)
def _(directory):
    model = saved(directory, "BertForSequenceClassification")
    old = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))

    def rename(key: str) -> str:
        for new, before in old:
            key = key.replace(new, before)
        return key

    rewrite(directory, lambda w: {rename(key): x for key, x in w.items()})
    return model


@case("names", "bert. before the encoder of a classifier lost", ENCODER, CLASSES)
def _(directory):
    model = saved(directory, "BertForSequenceClassification")
    rewrite(directory, lambda w: {key.removeprefix("bert."): x for key, x in w.items()})
    return model


@case("names", "with buffers of old", ENCODER, CLASSES)
def _(directory):
    model = saved(directory, "BertForSequenceClassification")
    rewrite(directory, lambda w: w.update({"bert.embeddings.position_ids": torch.arange(64)[None]}))
    return model


PARTS = {
    "a head of two layers": {"classifier.0.weight": (9, 24), "classifier.0.bias": (9,), "classifier.2.weight": (2, 9)},
    "TinyBERT's": {"fit_denses.0.weight": (9, 24), "fit_denses.0.bias": (9,)},
    "SimCSE's": {"mlp.dense.weight": (24, 24), "mlp.dense.bias": (24,)},
    "ColBERT's": {"linear.weight": (16, 24)},
}
for name, shapes in PARTS.items():

    @case("part on top", name, ENCODER)
    def _(directory, shapes=shapes):
        model = saved(directory)
        extra = {key: torch.randn(shape) for key, shape in shapes.items()}
        rewrite(directory, lambda w: {**{f"bert.{key}": x for key, x in w.items()}, **extra})
        return model


@case("part on top", "LoRA, not merged", refusal="merge it")
def _(directory):
    saved(directory)
    name = "encoder.layer.0.attention.self.query"

    def adapt(w: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        w[f"{name}.base_layer.weight"] = w.pop(f"{name}.weight")
        w[f"{name}.base_layer.bias"] = w.pop(f"{name}.bias")
        w[f"{name}.lora_A.default.weight"] = torch.randn(2, 24)
        w[f"{name}.lora_B.default.weight"] = torch.randn(24, 2)
        return {f"base_model.model.{key}": x for key, x in w.items()}

    rewrite(directory, adapt)


LOST = "encoder.layer.1.attention.self.key.weight"
DAMAGE: dict[str, tuple[Callable[[dict], object], str]] = {
    "NaN": (lambda w: w[LOST][0].fill_(torch.nan) is None, "holds NaN or infinity"),
    "infinity": (lambda w: w[LOST][0].fill_(torch.inf) is None, "holds NaN or infinity"),
    "a weight lost": (lambda w: w.pop(LOST) is None, f"1 missing: bert.{LOST}"),
    "a layer lost": (lambda w: {k: x for k, x in w.items() if ".layer.1." not in k}, "16 missing: bert.encoder"),
    "a layer too many": (
        lambda w: {**w, **{k.replace(".1.", ".2."): x.clone() for k, x in w.items() if ".layer.1." in k}},
        "16 unexpected",
    ),
    "transposed": (lambda w: w.update({k: x.T for k, x in w.items() if "dense.weight" in k}), "mismatched"),
    "a head pruned": (
        lambda w: w.update({k: x[:16] for k, x in w.items() if ".0.attention.self." in k}),
        "take the model before it was pruned",
    ),
}
for name, (change, said) in DAMAGE.items():

    @case("damage", name, refusal=said)
    def _(directory, change=change):
        saved(directory)
        rewrite(directory, change)


@case("damage", "cut off", refusal="copy it again")
def _(directory):
    saved(directory)
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:07eced\nsize 231508\n"
FORMATS = {
    "TensorFlow": ("tf_model.h5", b"\x89HDF", "holds TensorFlow weights (tf_model.h5)"),
    "Flax": ("flax_model.msgpack", b"\x80", "holds Flax weights (flax_model.msgpack)"),
    "ONNX": ("model.onnx", b"\x08\x07", "holds an ONNX graph (model.onnx)"),
    "GGUF": ("bert-f16.gguf", b"GGUF", "holds GGUF weights for llama.cpp (bert-f16.gguf)"),
    "adapter": ("adapter_model.safetensors", b"", "holds an adapter"),
    "git-lfs": ("model.safetensors", POINTER, "is a pointer of git-lfs"),
    "none": ("README.md", b"a model", "holds a config.json and no weights"),
}
for name, (file, content, said) in FORMATS.items():

    @case("other format", name, refusal=said)
    def _(directory, file=file, content=content):
        saved(directory)
        (directory / "model.safetensors").unlink()
        (directory / file).write_bytes(content)


@case("other format", "the folder below", refusal="checkpoint-500")
def _(directory):
    (directory / "checkpoint-500").mkdir()
    saved(directory / "checkpoint-500")


# ---- asking ----


def reference() -> tokenizers.BertWordPieceTokenizer:
    return tokenizers.BertWordPieceTokenizer({token: i for i, token in enumerate(VOCAB)}, lowercase=True)


def rows(texts: list[str], pairs: list[str] | None = None) -> list[dict[str, torch.Tensor]]:
    """What transformers' model takes of each text, one at a time: no padding can hide anything."""
    encoded = (reference().encode(text, pair) for text, pair in zip(texts, pairs or [None] * len(texts), strict=True))
    return [{"input_ids": torch.tensor([e.ids]), "token_type_ids": torch.tensor([e.type_ids])} for e in encoded]


def run(capsys: pytest.CaptureFixture, *words: object) -> tuple[int, str]:
    """Status and output of a command; of a refusal the line, which names what to do."""
    capsys.readouterr()
    status = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    if status != 2:
        return status, out
    assert out == ""
    assert err.count("\n") == 1, err
    assert re.match(r"minibert: .+(; |: )\S+", err), err
    return status, err


@torch.no_grad()
def hidden(case: Case, directory: Path, model: torch.nn.Module | None, capsys: pytest.CaptureFixture) -> str:
    """Hidden states of all tokens, and the vectors of embed; "" or the refusal."""
    status, text = run(capsys, "embed", directory, "--pooling", "cls", "--json", *TEXTS)
    if status == 2:
        with pytest.raises(ValueError, match=r"."):
            TextEncoder.from_pretrained(directory)
        return text
    assert model is not None, "answered, where there is no model"
    wanted = [model.base_model(**row).last_hidden_state for row in rows(TEXTS)]
    ours = BertModel.from_pretrained(directory, fresh_heads=False)
    for row, states in zip(rows(TEXTS), wanted, strict=True):
        assert_near(ours(row["input_ids"]).last_hidden_state, states)
    vectors = torch.nn.functional.normalize(torch.tensor(json.loads(text)["embeddings"]))
    first = torch.nn.functional.normalize(torch.cat([states[:, 0] for states in wanted]))
    assert_near(vectors, first)  # whatever the files say of normalising
    return ""


@torch.no_grad()
def classes(case: Case, directory: Path, model: torch.nn.Module | None, capsys: pytest.CaptureFixture) -> str:
    """Logits of texts and of pairs, and predict's labels where the head has classes; "" or the refusal."""
    status, text = run(capsys, "predict", directory, "--json", *TEXTS)
    if status == 2:
        with pytest.raises(ValueError, match=r"."):
            TextClassifier.from_pretrained(directory)
        return text
    classifier = TextClassifier.from_pretrained(directory)
    wanted = torch.cat([model(**row).logits for row in rows(TEXTS)])
    assert_near(classifier.logits(TEXTS), wanted)
    pairs = torch.cat([model(**row).logits for row in rows(TEXTS, PAIRS)])
    assert_near(classifier.logits(TEXTS, PAIRS), pairs)
    if wanted.shape[1] > 1 and model.config.problem_type != "multi_label_classification":
        names = transformers.BertConfig.from_pretrained(directory).id2label
        said = [row["label"] for row in json.loads(text)["predictions"]]
        assert said == [str(names[i]) for i in wanted.argmax(dim=1).tolist()]
    return ""


@torch.no_grad()
def masks(case: Case, directory: Path, model: torch.nn.Module | None, capsys: pytest.CaptureFixture) -> str:
    """Probabilities of the tokens that fill-mask names, and logits at every token; "" or the refusal."""
    status, text = run(capsys, "fill-mask", "--model", directory, "--json", *MASKED)
    if status == 2:
        return text
    ours = BertForMaskedLM.from_pretrained(directory, fresh_heads=False)
    for row, answer in zip(rows(MASKED), json.loads(text)["fills"], strict=True):
        found = model(**row)
        logits = found.prediction_logits if hasattr(found, "prediction_logits") else found.logits
        assert_near(ours(row["input_ids"]), logits)
        best = logits[row["input_ids"] == VOCAB.index("[MASK]")].softmax(dim=1).topk(5)
        assert [guess["id"] for guess in answer["masks"][0]] == best.indices[0].tolist()
        said = torch.tensor([guess["probability"] for guess in answer["masks"][0]])
        torch.testing.assert_close(said, best.values[0], rtol=0, atol=1e-5)
    return ""


ASKS = {ENCODER: hidden, CLASSES: classes, MASKS: masks}


def check(case: Case, directory: Path, capsys: pytest.CaptureFixture) -> None:
    directory.mkdir()
    model = case.make(directory)
    before = sorted(path.name for path in directory.rglob("*"))
    refused = {what: ask(case, directory, model, capsys) for what, ask in ASKS.items()}
    assert {what for what, line in refused.items() if not line} == case.answers
    if case.refusal:
        assert any(case.refusal in line for line in refused.values()), refused
    status, text = run(capsys, "doctor", directory)
    if not case.answers:
        assert status in (1, 2), text  # it does not call sound what nothing answers
    status, text = run(capsys, "parity", directory, "--lengths", 5)
    assert status in ((0, 2) if case.answers or case.kind == "vocabulary" else (2,)), text  # it reads no vocabulary
    assert sorted(path.name for path in directory.rglob("*")) == before


QUICK = ("other format", "token classifier")  # the rest takes half a minute


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=() if k in QUICK else pytest.mark.slow) for k in dict.fromkeys(case.kind for case in CASES)],
)
def test_a_directory_gives_the_answer_of_transformers_or_one_line(kind, tmp_path, capsys):
    wrong = {}
    for number, one in enumerate(case for case in CASES if case.kind == kind):
        try:
            check(one, tmp_path / str(number), capsys)
        except AssertionError as error:
            wrong[one.name] = str(error)[:600]
        shutil.rmtree(tmp_path / str(number))
    assert not wrong


def test_there_are_many_directories_of_many_kinds_and_most_are_answered():
    kinds = Counter(case.kind for case in CASES)
    print(f"{len(CASES)} directories of {len(kinds)} kinds, {sum(bool(case.answers) for case in CASES)} answered")
    assert len(CASES) >= 80
    assert len(kinds) >= 16
    assert max(kinds.values()) <= 8
    assert len({(case.kind, case.name) for case in CASES}) == len(CASES)
    assert sum(bool(case.answers) for case in CASES) * 2 >= len(CASES)
    assert all(case.answers or case.refusal for case in CASES)
