"""Weights are read and written as transformers does, every key once, and no file harms: pytest
tests/core/test_checkpoint.py

The reference is transformers itself: its models save the files that are read here, and read the files saved here.
"""

import functools
import io
import json
import logging
import os
import pickle
import random
import struct
import time
import warnings
import zipfile

import pytest
import safetensors.torch
import torch
import transformers
from conftest import assert_near, outputs
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, AutoModelForSequenceClassification

from minibert.core import checkpoint, hub
from minibert.core.checkpoint import each_of_safetensors
from minibert.core.config import BertConfig
from minibert.core.weights import export_weights
from minibert.fast.models import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel
from minibert.io.bin_weights import expanded, read_bin

# Distinct primes, so that no two sizes can be exchanged unseen: 2 heads of 5, labels 7, positions 19.
SIZES = dict(
    vocab_size=101,
    hidden_size=10,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=37,
    max_position_embeddings=19,
    type_vocab_size=3,
    id2label={i: f"名{i}" for i in range(7)},
)
CONFIG = BertConfig(**SIZES)
AUTO = {
    BertModel: AutoModel,
    BertForSequenceClassification: AutoModelForSequenceClassification,
    BertForMaskedLM: AutoModelForMaskedLM,
    BertForPreTraining: AutoModelForPreTraining,
}
TIED = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
IDS = torch.tensor([[2, 5, 100, 7, 3, 1], [2, 9, 3, 0, 0, 0]])
BATCH = dict(attention_mask=(IDS != 0).long(), token_type_ids=torch.tensor([[0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 0, 0]]))

# Together these two have every key that there is.
fullest_models = pytest.mark.parametrize(
    "cls",
    [pytest.param(BertForSequenceClassification, marks=pytest.mark.slow), BertForPreTraining],
    ids=lambda cls: cls.__name__,
)
each_model = pytest.mark.parametrize("cls", AUTO, ids=lambda cls: cls.__name__)


def stir(model: torch.nn.Module, seed: int = 3) -> torch.nn.Module:
    """Random biases and LayerNorms too, so that no tensor can stand for another one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model.eval()


@functools.cache
def theirs(cls: type) -> transformers.PreTrainedModel:
    """transformers' model of the same name, stirred; shared by the tests, so none may change it."""
    return stir(getattr(transformers, cls.__name__)(transformers.BertConfig(**SIZES)))


def tensors_of(cls: type, prefix: bool = True) -> dict[str, torch.Tensor]:
    """What a checkpoint of transformers holds (a tied tensor once), with or without `bert.`."""
    state = {key: tensor.clone() for key, tensor in theirs(cls).state_dict().items() if key not in TIED}
    if cls is BertModel and prefix:
        return {f"bert.{key}": tensor for key, tensor in state.items()}
    return state if prefix else {key.removeprefix("bert."): tensor for key, tensor in state.items()}


def write(directory, tensors=None, config=SIZES, file="model.safetensors"):
    """A model directory: its config.json, and tensors (or raw bytes) as `file`. Returns the directory."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if isinstance(tensors, bytes):
        (directory / file).write_bytes(tensors)
    elif file.endswith(".bin"):
        torch.save(tensors, directory / file)
    elif tensors is not None:
        safetensors.torch.save_file(tensors, directory / file)
    return directory


def assert_same_answers(one, other):
    """On a padded batch of pairs."""
    with torch.no_grad():
        assert_near(*(outputs(model(IDS, **BATCH), BATCH["attention_mask"]) for model in (one, other)))


def assert_holds(model, tensors):
    """Every tensor, under transformers' name with prefix, stands in the model with exactly these numbers."""
    prefix = "" if hasattr(model, "bert") else "bert."
    held = {prefix + key: tensor for key, tensor in export_weights(model).items()}
    assert held.keys() == tensors.keys()
    for key, tensor in tensors.items():
        torch.testing.assert_close(held[key], tensor, rtol=0, atol=0, msg=key)


def one_line(error: pytest.ExceptionInfo, path) -> str:
    """The message, which names the file and fills one line of bearable length."""
    text = str(error.value)
    assert str(path) in text
    assert text.isprintable()
    assert len(text) - len(str(path)) < 1200
    return text


def refusal(cls, directory, path=None, **options) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the callers check the text)
        cls.from_pretrained(directory, **options)
    return one_line(caught, path or directory)


# ---- reading what transformers writes ----


@pytest.mark.numeric
@each_model
@pytest.mark.parametrize("shard", ["5GB", "10KB"])
def test_what_transformers_saves_is_loaded(tmp_path, cls, shard):
    reference = theirs(cls)
    reference.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors").is_file() == (shard == "5GB")
    ours = cls.from_pretrained(tmp_path)
    assert_holds(ours, tensors_of(cls))
    assert_same_answers(ours, reference)


@pytest.mark.numeric
@each_model
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "format before 2020"])
def test_a_state_dict_saved_by_torch_is_loaded(tmp_path, cls, zipped):
    reference = theirs(cls)
    write(tmp_path)
    torch.save(reference.state_dict(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    ours = cls.from_pretrained(tmp_path)
    assert_holds(ours, tensors_of(cls))
    assert_same_answers(ours, reference)


def write_shards(directory, shards, table=None):
    """Two or more .bin files and the index that lists them."""
    write(directory)
    names = [f"pytorch_model-{i:05}-of-{len(shards):05}.bin" for i in range(1, len(shards) + 1)]
    for name, tensors in zip(names, shards, strict=True):
        torch.save(tensors, directory / name)
    table = table or {key: name for name, tensors in zip(names, shards, strict=True) for key in tensors}
    index = {"metadata": {"total_size": 1}, "weight_map": table}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    return directory


def halves(tensors):
    keys = sorted(tensors)
    middle = len(keys) // 2
    return [{key: tensors[key] for key in part} for part in (keys[:middle], keys[middle:])]


@each_model
def test_a_state_dict_in_shards_is_loaded(tmp_path, cls):
    assert_holds(cls.from_pretrained(write_shards(tmp_path, halves(tensors_of(cls)))), tensors_of(cls))


def test_a_state_dict_of_parameters_is_loaded(tmp_path):
    tensors = {key: torch.nn.Parameter(tensor) for key, tensor in tensors_of(BertModel).items()}
    model = BertModel.from_pretrained(write(tmp_path, tensors, file="pytorch_model.bin"))
    assert_holds(model, tensors_of(BertModel))
    assert all(parameter.is_leaf for parameter in model.parameters())


def test_a_transposed_tensor_in_a_bin_file_is_loaded_in_the_usual_layout(tmp_path):
    tensors = {key: tensor.t().contiguous().t() for key, tensor in tensors_of(BertModel).items()}
    model = BertModel.from_pretrained(write(tmp_path, tensors, file="pytorch_model.bin"))
    assert_holds(model, tensors_of(BertModel))
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_safetensors_come_before_bin(tmp_path):
    write(tmp_path, b"nonsense", file="pytorch_model.bin")
    write(tmp_path, tensors_of(BertModel))
    assert_holds(BertModel.from_pretrained(tmp_path), tensors_of(BertModel))


def test_a_hub_name_is_resolved_first(tmp_path, monkeypatch):
    write(tmp_path, tensors_of(BertModel))
    monkeypatch.setattr(hub, "downloaded", {"tester/small": tmp_path}.__getitem__)
    assert_holds(BertModel.from_pretrained("tester/small"), tensors_of(BertModel))


@each_model
def test_a_loaded_model_is_ready_to_use_and_to_train(tmp_path, cls):
    model = cls.from_pretrained(write(tmp_path, tensors_of(cls)))
    assert not model.training
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.is_leaf, name
        assert parameter.dtype == torch.float32, name
        assert parameter.device.type == "cpu", name


def test_the_attention_backend_is_passed_on(tmp_path):
    model = BertModel.from_pretrained(write(tmp_path, tensors_of(BertModel)), attention="eager")
    assert {layer.attention.backend for layer in model.layers} == {"eager"}


def test_loading_does_not_touch_the_default_device_or_dtype(tmp_path):
    BertModel.from_pretrained(write(tmp_path, tensors_of(BertModel)))
    assert torch.empty(1).device.type == "cpu"


# ---- writing what transformers reads ----


@pytest.mark.numeric
@each_model
def test_transformers_loads_what_is_saved_here_with_equal_outputs(tmp_path, cls):
    ours = stir(cls(CONFIG))
    ours.save_pretrained(tmp_path)
    reference, info = AUTO[cls].from_pretrained(tmp_path, output_loading_info=True)
    assert type(reference).__name__ == cls.__name__
    assert not any(info.values()), info
    assert_same_answers(ours, reference.eval())


@each_model
def test_the_file_has_the_keys_and_shapes_of_transformers(tmp_path, cls):
    stir(cls(CONFIG)).save_pretrained(tmp_path / "ours")
    theirs(cls).save_pretrained(tmp_path / "theirs")
    shapes = [
        {
            key: tensor.shape
            for key, tensor in safetensors.torch.load_file(tmp_path / name / "model.safetensors").items()
        }
        for name in ("ours", "theirs")
    ]
    assert shapes[0] == shapes[1]


def test_the_file_says_that_it_is_pytorchs(tmp_path):
    """Releases of transformers before 5 refuse a file that does not."""
    BertModel(CONFIG).save_pretrained(tmp_path)
    with safetensors.safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


@each_model
def test_what_is_saved_here_is_loaded_here(tmp_path, cls):
    ours = stir(cls(CONFIG))
    ours.save_pretrained(tmp_path / "new" / "directory")
    again = cls.from_pretrained(tmp_path / "new" / "directory")
    assert again.config == CONFIG
    torch.testing.assert_close(again.state_dict(), ours.state_dict(), rtol=0, atol=0)


def test_names_of_labels_travel_in_both_directions(tmp_path):
    BertForSequenceClassification(CONFIG).save_pretrained(tmp_path)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.id2label == SIZES["id2label"]
    assert BertForSequenceClassification.from_pretrained(tmp_path).config.id2label == SIZES["id2label"]


def test_a_model_of_eleven_layers_is_saved_and_loaded(tmp_path):
    model = BertModel(CONFIG.replace(num_hidden_layers=11))
    model.save_pretrained(tmp_path)
    loaded = BertModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_saving_over_the_directory_that_was_loaded_works(tmp_path):
    BertModel(CONFIG).save_pretrained(tmp_path)
    model = stir(BertModel.from_pretrained(tmp_path))
    model.save_pretrained(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]
    torch.testing.assert_close(BertModel.from_pretrained(tmp_path).state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_loaded_weights_are_not_the_files(tmp_path, file):
    write(tmp_path, tensors_of(BertModel), file=file)
    before = (tmp_path / file).read_bytes()
    model = BertModel.from_pretrained(tmp_path)
    for parameter in model.parameters():
        parameter.data.fill_(7)
    assert (tmp_path / file).read_bytes() == before
    assert_holds(BertModel.from_pretrained(tmp_path), tensors_of(BertModel))


def test_mapped_weights_are_the_same_and_training_them_leaves_the_file_alone(tmp_path):
    write(tmp_path, tensors_of(BertModel))
    before = (tmp_path / "model.safetensors").read_bytes()
    model = BertModel.from_pretrained(tmp_path, mapped=True)
    assert_holds(model, tensors_of(BertModel))
    for parameter in model.parameters():
        parameter.data.fill_(7)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_overwriting_the_file_does_not_change_the_loaded_model(tmp_path):
    write(tmp_path, tensors_of(BertModel))
    model = BertModel.from_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    with open(tmp_path / "model.safetensors", "r+b") as file:  # in place: a mapped file would show it
        file.write(b"\xff" * size)
    assert_holds(model, tensors_of(BertModel))


def test_a_label_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    model = BertForSequenceClassification(CONFIG.replace(id2label={0: "good", 1: "\ud800"}))
    with pytest.raises(ValueError, match="surrogates not allowed"):
        model.save_pretrained(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    write(tmp_path, tensors_of(BertModel))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        BertModel(CONFIG).save_pretrained(tmp_path)
    assert_holds(BertModel.from_pretrained(tmp_path), tensors_of(BertModel))


# ---- spellings of a key ----


@each_model
def test_keys_without_prefix_are_understood(tmp_path, cls):
    tensors = tensors_of(cls, prefix=False)
    assert not any(key.startswith("bert.") for key in tensors)
    assert_holds(cls.from_pretrained(write(tmp_path, tensors)), tensors_of(cls))


@each_model
def test_gamma_and_beta_are_the_weight_and_bias_of_a_layer_norm(tmp_path, cls):
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for key, tensor in tensors_of(cls).items()
    }
    assert "bert.embeddings.LayerNorm.gamma" in old
    assert_holds(cls.from_pretrained(write(tmp_path, old)), tensors_of(cls))


def test_gamma_outside_of_a_layer_norm_is_unexpected(tmp_path):
    tensors = tensors_of(BertModel)
    tensors["bert.pooler.dense.gamma"] = tensors.pop("bert.pooler.dense.weight")
    text = refusal(BertModel, write(tmp_path, tensors))
    assert "1 missing: bert.pooler.dense.weight" in text
    assert "1 unexpected: bert.pooler.dense.gamma" in text


@pytest.mark.parametrize("prefix", ["bert.", ""])
@pytest.mark.parametrize("name", ["position_ids", "token_type_ids"])
def test_harmless_buffers_are_passed_over_by_name(tmp_path, prefix, name):
    tensors = {**tensors_of(BertModel), f"{prefix}embeddings.{name}": torch.arange(19)[None]}
    assert_holds(BertModel.from_pretrained(write(tmp_path, tensors)), tensors_of(BertModel))


@pytest.mark.parametrize(
    "name", ["embeddings.position_id", "encoder.position_ids", "bert.embeddings.position_ids.weight"]
)
def test_a_buffer_of_any_other_name_is_unexpected(tmp_path, name):
    tensors = {**tensors_of(BertModel), name: torch.arange(19)[None]}
    assert f"1 unexpected: {name};" in refusal(BertModel, write(tmp_path, tensors))


@pytest.mark.parametrize("cls", [BertForMaskedLM, BertForPreTraining], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("present", [[], TIED[:1], TIED[1:], TIED], ids=["neither", "weight", "bias", "both"])
def test_the_tied_decoder_may_be_there_or_not(tmp_path, cls, present):
    state = theirs(cls).state_dict()
    tensors = {**tensors_of(cls), **{key: state[key].clone() for key in present}}
    assert_holds(cls.from_pretrained(write(tmp_path, tensors)), tensors_of(cls))


def test_the_tied_tensors_may_be_there_as_the_decoder_alone(tmp_path):
    """Writers that keep one of two shared tensors do not all keep the same one."""
    tensors = tensors_of(BertForMaskedLM)
    tensors["cls.predictions.decoder.weight"] = tensors.pop("bert.embeddings.word_embeddings.weight")
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
    assert_holds(BertForMaskedLM.from_pretrained(write(tmp_path, tensors)), tensors_of(BertForMaskedLM))


@pytest.mark.parametrize(("copy", "original"), checkpoint.TIED.items())
def test_an_untied_decoder_is_refused(tmp_path, copy, original):
    tensors = tensors_of(BertForMaskedLM)
    tensors[copy] = tensors[original].clone()
    tensors[copy].view(-1)[-1] += 1e-3
    text = refusal(BertForMaskedLM, write(tmp_path, tensors))
    assert all(f"{name} {list(tensors[name].shape)}" in text for name in (copy, original))
    assert "differ, which BERT shares" in text


def test_a_decoder_of_another_shape_is_refused(tmp_path):
    tensors = {**tensors_of(BertForMaskedLM), TIED[0]: torch.zeros(103, 10)}
    text = refusal(BertForMaskedLM, write(tmp_path, tensors))
    assert f"{TIED[0]} [103, 10]" in text
    assert "bert.embeddings.word_embeddings.weight [101, 10]" in text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    tensors = {key: tensor.to(dtype) for key, tensor in tensors_of(BertForPreTraining).items()}
    model = BertForPreTraining.from_pretrained(write(tmp_path, tensors))
    assert_holds(model, {key: tensor.float() for key, tensor in tensors.items()})


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_tensors_that_are_no_real_numbers_are_refused(tmp_path, dtype):
    tensors = tensors_of(BertModel)
    tensors["bert.pooler.dense.bias"] = torch.zeros(10, dtype=dtype)
    text = refusal(BertModel, write(tmp_path, tensors, file="pytorch_model.bin"))
    assert f"bert.pooler.dense.bias holds {dtype}, wanted floating-point numbers" in text


# ---- the audit: every key exactly once ----


@fullest_models
def test_no_key_may_be_missing(tmp_path, cls):
    whole = tensors_of(cls)
    for key in whole:
        tensors = {name: tensor for name, tensor in whole.items() if name != key}
        assert f"1 missing: {key};" in refusal(cls, write(tmp_path, tensors))


@fullest_models
def test_no_key_may_have_another_shape(tmp_path, cls):
    whole = tensors_of(cls)
    for key, tensor in whole.items():
        tensors = {**whole, key: torch.zeros(tensor.shape[0] + 2, *tensor.shape[1:])}
        shapes = f"{key} is {list(tensors[key].shape)}, wanted {list(tensor.shape)}"
        assert f"1 mismatched: {shapes};" in refusal(cls, write(tmp_path, tensors))


def test_a_transposed_weight_is_a_mismatch(tmp_path):
    key = "bert.encoder.layer.1.intermediate.dense.weight"
    tensors = {**tensors_of(BertModel), key: torch.zeros(10, 37)}
    assert f"{key} is [10, 37], wanted [37, 10]" in refusal(BertModel, write(tmp_path, tensors))


@pytest.mark.parametrize(
    "key",
    [
        "bert.encoder.layer.01.output.dense.bias",
        "bert.encoder.layer.-1.output.dense.bias",
        "bert.encoder.layer.3.output.dense.bias",  # the model has 0, 1, 2
        "bert.encoder.layer.99999.output.dense.bias",
        "bert.encoder.layer.{}.output.dense.bias",
        "bert.encoder.layer.٢.output.dense.bias",  # an Arabic digit
        "bert.encoder.layer.1.0.output.dense.bias",
        "bert.encoder.layer..output.dense.bias",
        "bert.encoder.layer.1.output.dense.bias.bias",
        "bert.bert.embeddings.LayerNorm.bias",
        "module.bert.embeddings.LayerNorm.bias",
        "layers.1.ffn.output.bias",  # our own name is no name in a file
        "bert.embeddings",
        "",
        ".",
        "cls.predictions.weight",
    ],
)
def test_a_key_that_bert_does_not_have_is_unexpected(tmp_path, key):
    tensors = {**tensors_of(BertForPreTraining), key: torch.zeros(10)}
    assert f"1 unexpected: {key};" in refusal(BertForPreTraining, write(tmp_path, tensors))


@pytest.mark.parametrize("key", ["bert.two\nlines", "\x1b[31mred", "bert." + "x" * 5000, "bert.a\0b"])
def test_a_hostile_key_is_shown_harmlessly(tmp_path, key):
    tensors = {**tensors_of(BertModel), key: torch.zeros(10)}
    assert "1 unexpected: '" in refusal(BertModel, write(tmp_path, tensors, file="pytorch_model.bin"))


def test_missing_unexpected_and_mismatched_are_told_together(tmp_path):
    tensors = tensors_of(BertModel)
    del tensors["bert.encoder.layer.2.output.LayerNorm.bias"]
    tensors["bert.lm.weight"] = torch.zeros(2)
    tensors["bert.embeddings.position_embeddings.weight"] = torch.zeros(23, 10)
    text = refusal(BertModel, write(tmp_path, tensors))
    assert "1 missing: bert.encoder.layer.2.output.LayerNorm.bias; 1 unexpected: bert.lm.weight; 1 mismatched:" in text
    assert "bert.embeddings.position_embeddings.weight is [23, 10], wanted [19, 10]" in text
    assert "config.json and weights that belong together" in text


def test_a_long_list_of_problems_is_cut(tmp_path):
    text = refusal(BertModel, write(tmp_path, {"a": torch.zeros(1)}))
    assert "53 missing: " in text  # 5 of the embeddings, 3 layers of 16; the pooler may be absent as a whole
    assert "and 47 more" in text


def test_fewer_layers_in_the_config_leave_unexpected_keys(tmp_path):
    text = refusal(BertModel, write(tmp_path, tensors_of(BertModel), {**SIZES, "num_hidden_layers": 2}))
    assert "16 unexpected: bert.encoder.layer.2." in text


def test_more_layers_in_the_config_are_missing(tmp_path):
    text = refusal(BertModel, write(tmp_path, tensors_of(BertModel), {**SIZES, "num_hidden_layers": 5}))
    assert "32 missing: bert.encoder.layer.3." in text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bert.embeddings.LayerNorm.weight", "bert.embeddings.LayerNorm.gamma"),
        ("bert.embeddings.LayerNorm.weight", "embeddings.LayerNorm.weight"),
        ("bert.encoder.layer.0.output.LayerNorm.bias", "encoder.layer.0.output.LayerNorm.beta"),
    ],
)
def test_one_weight_under_two_names_is_refused(tmp_path, one, other):
    tensors = tensors_of(BertModel)
    tensors[other] = tensors[one].clone()
    text = refusal(BertModel, write(tmp_path, tensors))
    assert "holds one weight twice" in text
    assert one in text
    assert other in text


@pytest.mark.parametrize("kind", ["Roberta", "DistilBert", "Electra"])
def test_the_weights_of_another_architecture_are_refused(tmp_path, kind):
    """Its config.json is refused first (test_config.py), so a BERT's is put in its place."""
    sizes = {key: SIZES[key] for key in ("vocab_size", "max_position_embeddings")}
    small = (
        dict(dim=10, hidden_dim=37, n_layers=3, n_heads=2) if kind == "DistilBert" else {**SIZES, "embedding_size": 10}
    )
    name = f"{kind}ForMaskedLM"
    getattr(transformers, name)(getattr(transformers, f"{kind}Config")(**{**small, **sizes})).save_pretrained(tmp_path)
    write(tmp_path)
    text = refusal(BertModel, tmp_path)
    assert "missing: bert." in text
    assert f"{kind.lower()}." in text
    assert "of a BERT" in text


# ---- parts that the file or the model lacks ----


def loading_log(caplog, cls, directory, **options):
    """The loaded model and the lines that loading logged."""
    with caplog.at_level(logging.DEBUG, logger="minibert"):
        model = cls.from_pretrained(directory, **options)
    return model, [record.getMessage() for record in caplog.records if record.name == "minibert"]


@each_model
def test_nothing_is_logged_when_everything_fits(tmp_path, caplog, cls):
    assert loading_log(caplog, cls, write(tmp_path, tensors_of(cls)))[1] == []


def test_a_missing_head_is_initialised_and_said_in_one_line(tmp_path, caplog):
    """7·10 … too few to measure a deviation: 101 labels give 1010 weights, whose deviation is known to 2 %."""
    directory = write(tmp_path, tensors_of(BertModel))
    torch.manual_seed(5)
    model, lines = loading_log(caplog, BertForSequenceClassification, directory, num_labels=101)
    (line,) = lines
    assert line.isprintable()
    assert "model.safetensors lacks a classification head: freshly initialised" in line
    assert model.classifier.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.classifier.weight.mean().item() == pytest.approx(0, abs=0.003)
    assert not model.classifier.bias.any()
    assert model.classifier.weight.requires_grad


def test_initialising_a_head_leaves_the_loaded_weights_alone(tmp_path):
    model = BertForSequenceClassification.from_pretrained(write(tmp_path, tensors_of(BertModel)))
    held = {key: tensor for key, tensor in export_weights(model).items() if not key.startswith("classifier.")}
    torch.testing.assert_close(held, tensors_of(BertModel), rtol=0, atol=0)


def test_initialising_a_head_follows_the_seed(tmp_path):
    directory = write(tmp_path, tensors_of(BertModel))
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(BertForSequenceClassification.from_pretrained(directory).classifier.weight)
    assert models[0].equal(models[1])
    assert not models[0].equal(models[2])


def test_several_missing_parts_are_initialised_and_said_in_one_line(tmp_path, caplog):
    encoder = {key: tensor for key, tensor in tensors_of(BertModel).items() if ".pooler." not in key}
    model, lines = loading_log(caplog, BertForPreTraining, write(tmp_path, encoder))
    (line,) = lines
    assert "lacks a pooler and a masked-LM head and a next-sentence head" in line
    assert model.mlm.norm.weight.eq(1).all()
    assert not model.mlm.norm.bias.any()
    assert not model.mlm.bias.any()
    assert 0.01 < model.bert.pooler.dense.weight.std() < 0.03
    assert 0.01 < model.mlm.dense.weight.std() < 0.03
    assert not any(tensor.is_meta for tensor in model.state_dict().values())


def test_initializer_range_of_the_config_is_used(tmp_path):
    config = CONFIG.replace(initializer_range=0.5, id2label={i: str(i) for i in range(101)})
    directory = write(tmp_path, tensors_of(BertModel))
    model = BertForSequenceClassification.from_pretrained(directory, config=config)
    assert model.classifier.weight.std().item() == pytest.approx(0.5, rel=0.1)


def test_heads_that_the_model_does_not_have_are_left_and_said_in_one_line(tmp_path, caplog):
    model, lines = loading_log(caplog, BertModel, write(tmp_path, tensors_of(BertForPreTraining)))
    (line,) = lines
    assert "model.safetensors brings a masked-LM head and a next-sentence head: not used here" in line
    encoder = {key: tensor for key, tensor in tensors_of(BertForPreTraining).items() if key.startswith("bert.")}
    assert_holds(model, encoder)


def test_a_pretraining_checkpoint_becomes_a_masked_lm(tmp_path, caplog):
    _, lines = loading_log(caplog, BertForMaskedLM, write(tmp_path, tensors_of(BertForPreTraining)))
    (line,) = lines
    assert "brings a pooler and a next-sentence head" in line


def test_a_pretraining_checkpoint_becomes_a_classifier(tmp_path, caplog):
    """The way to every fine-tuned BERT: one line for the new head, one for the two old ones."""
    _, lines = loading_log(caplog, BertForSequenceClassification, write(tmp_path, tensors_of(BertForPreTraining)))
    assert ["lacks a classification head" in line for line in lines] == [True, False]
    assert ["brings a masked-LM head" in line for line in lines] == [False, True]


# ---- heads of other classes, wrappers, weights that are no numbers ----


def other_class(name, **sizes):
    """What transformers' class of this name saves: config.json with its name, and its tensors."""
    model = stir(getattr(transformers, name)(transformers.BertConfig(**{**SIZES, **sizes})))
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    return {**SIZES, **sizes, "model_type": "bert", "architectures": [name]}, state


FOREIGN = {
    "BertForTokenClassification": "a token-classification head",
    "BertForQuestionAnswering": "a question-answering head",
    "BertForMultipleChoice": "a multiple-choice head",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_head_of_another_class_is_named_and_never_answers_for_texts(tmp_path, name):
    config, tensors = other_class(name, id2label={0: "one"} if name == "BertForMultipleChoice" else SIZES["id2label"])
    text = refusal(BertForSequenceClassification, write(tmp_path, tensors, config), fresh_heads=False)
    assert "lacks a classification head" in text.replace("a pooler and ", "").replace(" and a pooler", "")
    assert f"(it brings {FOREIGN[name]})" in text


@pytest.mark.parametrize("name", FOREIGN)
def test_a_head_of_another_class_leaves_the_encoder_of_use(tmp_path, caplog, name):
    config, tensors = other_class(name, id2label={0: "one"} if name == "BertForMultipleChoice" else SIZES["id2label"])
    directory = write(tmp_path, tensors, config)
    encoder = BertModel.from_pretrained(directory, fresh_heads=False)
    theirs = AutoModel.from_pretrained(directory).eval()
    with torch.no_grad():
        ours, reference = (model(IDS, **BATCH)[0] for model in (encoder, theirs))
    assert_near([ours], [reference])
    model, lines = loading_log(caplog, BertForSequenceClassification, directory)
    assert f"brings {FOREIGN[name]}" in lines[-1]
    assert model.classifier.weight.std() < 0.05  # freshly drawn, not theirs


def test_a_classifier_without_a_pooler_is_one_of_tokens(tmp_path):
    _, tensors = other_class("BertForTokenClassification")
    text = refusal(BertForSequenceClassification, write(tmp_path, tensors), fresh_heads=False)
    assert "lacks a pooler and a classification head (it brings a token-classification head)" in text


def test_a_bare_encoder_answers_without_a_pooler_that_it_lacks(tmp_path):
    directory = write(tmp_path, {key: x for key, x in tensors_of(BertModel).items() if ".pooler." not in key})
    assert BertModel.from_pretrained(directory, fresh_heads=False)(IDS, **BATCH).pooler_output is None
    assert BertModel.from_pretrained(directory)(IDS, **BATCH).pooler_output is not None


@pytest.mark.parametrize("key", ["mlp.dense.weight", "fit_denses.0.weight", "crf.transitions", "classifier.0.weight"])
def test_what_another_program_has_put_on_top_is_named_and_left(tmp_path, caplog, key):
    tensors = {**tensors_of(BertModel), key: torch.zeros(3, 10)}
    _, lines = loading_log(caplog, BertModel, write(tmp_path, tensors))
    assert [line.partition(" brings ")[2] for line in lines] == [f"a part called {key.split('.')[0]}: not used here"]


def test_to_the_heart_alone_a_head_of_another_class_is_an_unexpected_key():
    tensors = {**tensors_of(BertModel), "qa_outputs.weight": torch.zeros(2, 10)}
    assert checkpoint.audit(BertModel(CONFIG), tensors, "x").problems["unexpected"] == ["qa_outputs.weight"]


def test_what_stands_beside_a_classifier_of_ours_is_not_forgiven(tmp_path):
    """Who knows what it does to the vector that the classifier reads?"""
    tensors = {**tensors_of(BertForSequenceClassification), "dense.weight": torch.zeros(3, 10)}
    assert "unexpected: dense.weight" in refusal(BertForSequenceClassification, write(tmp_path, tensors))


def test_an_unknown_part_is_warned_of_even_where_nothing_is_drawn(tmp_path, caplog):
    directory = write(tmp_path, {**tensors_of(BertModel), "mlp.dense.weight": torch.zeros(3, 10)})
    with caplog.at_level(logging.WARNING, "minibert"):
        BertModel.from_pretrained(directory, fresh_heads=False)
    assert "brings a part called mlp: not used here" in caplog.text


WRAPPERS = ["module.", "_orig_mod.", "model.", "module.model.", "0.auto_model.", "student.encoder.", "a.b.c."]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("prefix", [True, False])
def test_a_wrappers_name_before_all_others_is_looked_through(tmp_path, wrapper, prefix):
    tensors = tensors_of(BertForSequenceClassification, prefix)
    directory = write(tmp_path, {wrapper + key: tensor for key, tensor in tensors.items()})
    assert_holds(BertForSequenceClassification.from_pretrained(directory), tensors_of(BertForSequenceClassification))


def test_a_robertas_name_is_no_wrapper(tmp_path):
    """Its tensors have BERT's names and shapes, but its positions begin at 2."""
    directory = write(tmp_path, {f"roberta.{key}": tensor for key, tensor in tensors_of(BertModel, False).items()})
    assert "RoBERTa's, which counts positions from 2" in refusal(BertModel, directory)


@pytest.mark.parametrize("named", ["BertForTokenClassification", ["BertForTokenClassification"]])
def test_a_class_is_named_in_a_list_or_alone(tmp_path, named):
    directory = write(tmp_path, tensors_of(BertForSequenceClassification), {**SIZES, "architectures": named})
    assert "brings a token-classification head" in refusal(BertForSequenceClassification, directory, fresh_heads=False)


@pytest.mark.parametrize("named", [5, [], {}, None])
def test_a_class_that_is_no_name_counts_as_none(tmp_path, named):
    directory = write(tmp_path, tensors_of(BertForSequenceClassification), {**SIZES, "architectures": named})
    assert_holds(BertForSequenceClassification.from_pretrained(directory), tensors_of(BertForSequenceClassification))


def test_what_only_some_names_have_before_them_is_no_wrapper(tmp_path):
    tensors = tensors_of(BertForSequenceClassification)
    tensors = {f"model.{key}" if key.startswith("bert.") else f"the_{key}": tensor for key, tensor in tensors.items()}
    text = refusal(BertForSequenceClassification, write(tmp_path, tensors))
    assert "missing: bert.embeddings" in text
    assert "unexpected: model.bert.embeddings" in text


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_weight_that_is_no_number_is_refused(tmp_path, value, mapped):
    tensors = tensors_of(BertModel)
    tensors["bert.encoder.layer.1.attention.self.key.weight"][3, 4] = value
    text = refusal(BertModel, write(tmp_path, tensors), mapped=mapped)
    assert "bert.encoder.layer.1.attention.self.key.weight holds NaN or infinity" in text


def test_weights_whose_sum_alone_is_infinite_are_numbers(tmp_path):
    tensors = tensors_of(BertModel)
    tensors["bert.pooler.dense.weight"][:] = torch.finfo(torch.float32).max
    assert_holds(BertModel.from_pretrained(write(tmp_path, tensors)), tensors)


def test_fresh_heads_are_float32_whatever_the_default_is(tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        model = BertForSequenceClassification.from_pretrained(write(tmp_path, tensors_of(BertModel)))
    finally:
        torch.set_default_dtype(torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("cls", "key"),
    [
        (BertModel, "bert.pooler.dense.bias"),
        (BertForSequenceClassification, "classifier.weight"),
        (BertForMaskedLM, "cls.predictions.transform.LayerNorm.weight"),
        (BertForMaskedLM, "cls.predictions.bias"),
        (BertForPreTraining, "cls.seq_relationship.bias"),
    ],
)
def test_half_a_head_is_an_error(tmp_path, caplog, cls, key):
    tensors = tensors_of(cls)
    del tensors[key]
    assert f"1 missing: {key};" in refusal(cls, write(tmp_path, tensors))
    assert not caplog.records


def test_num_labels_sizes_a_new_head(tmp_path):
    model = BertForSequenceClassification.from_pretrained(write(tmp_path, tensors_of(BertModel)), num_labels=3)
    assert model.classifier.weight.shape == (3, 10)
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}


def test_num_labels_that_agrees_keeps_the_names(tmp_path):
    directory = write(tmp_path, tensors_of(BertForSequenceClassification))
    model = BertForSequenceClassification.from_pretrained(directory, num_labels=7)
    assert model.config.id2label == SIZES["id2label"]


def test_num_labels_that_contradicts_the_head_says_how_to_go_on(tmp_path):
    directory = write(tmp_path, tensors_of(BertForSequenceClassification))
    text = refusal(BertForSequenceClassification, directory, num_labels=2)
    assert "classifier.weight is [7, 10], wanted [2, 10]" in text
    assert "minibert train makes a new head for yours" in text


def test_that_way_to_other_labels_works(tmp_path):
    directory = write(tmp_path / "seven", tensors_of(BertForSequenceClassification))
    BertModel.from_pretrained(directory).save_pretrained(tmp_path / "encoder")
    model = BertForSequenceClassification.from_pretrained(tmp_path / "encoder", num_labels=2)
    assert model.classifier.weight.shape == (2, 10)


@pytest.mark.parametrize("count", [0, -1, 10**9, 2.0, "2", True])
def test_a_number_of_labels_that_is_none_is_refused(tmp_path, count):
    with pytest.raises(ValueError, match="num_labels is "):
        BertForSequenceClassification.from_pretrained(write(tmp_path, tensors_of(BertModel)), num_labels=count)


def test_a_config_replaces_the_files_own(tmp_path):
    directory = write(tmp_path, tensors_of(BertForSequenceClassification))
    config = CONFIG.replace(hidden_dropout_prob=0.5, id2label={i: f"new {i}" for i in range(7)})
    model = BertForSequenceClassification.from_pretrained(directory, config=config)
    assert model.config == config
    assert model.dropout.p == 0.5


# ---- directories with something missing ----


def test_a_directory_without_weights_is_named(tmp_path):
    assert "holds a config.json and no weights; copy model.safetensors" in refusal(BertModel, write(tmp_path))


def test_a_directory_without_config_is_named(tmp_path):
    (write(tmp_path, tensors_of(BertModel)) / "config.json").unlink()
    assert "holds weights and no config.json; copy it from" in refusal(BertModel, tmp_path)


def test_the_heart_alone_reads_one_file_and_names_who_reads_more(tmp_path):
    write_shards(tmp_path, halves(tensors_of(BertModel)))
    with pytest.raises(ValueError, match=r"holds no model.safetensors; .*minibert.BertModel reads shards"):
        checkpoint.read_weights(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    write_shards(tmp_path, halves(tensors_of(BertModel)))
    gone = tmp_path / "pytorch_model-00002-of-00002.bin"
    gone.unlink()
    assert "no such file, but pytorch_model.bin.index.json lists it" in refusal(BertModel, tmp_path, gone)


OUTSIDE = ["../secret.bin", "/etc/secret.bin", "a/b.bin", "..", "", "a\\b.bin", ".bin", "a\0.bin", "a.bin\n"]
OTHER_KIND = ["model.safetensors", "config.json", "x" * 5000 + ".bin", 3, None, ["a.bin"]]


@pytest.mark.parametrize("shard", OUTSIDE + OTHER_KIND, ids=lambda shard: repr(shard)[:20])
def test_a_shard_outside_of_the_directory_or_of_another_kind_is_refused(tmp_path, shard):
    directory = tmp_path / "model"
    directory.mkdir()
    torch.save(tensors_of(BertModel), tmp_path / "secret.bin")
    write_shards(directory, [], table={"bert.embeddings.LayerNorm.bias": shard})
    assert "a shard must be a .bin file of the same directory" in refusal(BertModel, directory)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"weight_map": []}', '{"weight_map": null}', "{}"])
def test_a_broken_index_is_named(tmp_path, text):
    write_shards(tmp_path, halves(tensors_of(BertModel)))
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(text, encoding="utf-8")
    assert "copy the index that belongs to the shards" in refusal(BertModel, tmp_path, index)


def test_a_key_in_two_shards_is_refused(tmp_path):
    one, other = halves(tensors_of(BertModel))
    other["bert.embeddings.LayerNorm.bias"] = one["bert.embeddings.LayerNorm.bias"] + 1
    text = refusal(BertModel, write_shards(tmp_path, [one, other]))
    assert "holds bert.embeddings.LayerNorm.bias, as another shard does" in text


def test_keys_that_the_index_lists_and_no_shard_holds_are_missing(tmp_path):
    write_shards(tmp_path, halves(tensors_of(BertModel)))
    torch.save({}, tmp_path / "pytorch_model-00002-of-00002.bin")
    assert "missing: bert." in refusal(BertModel, tmp_path)


# ---- damaged safetensors ----


def header_of(tensors) -> tuple[dict, bytes]:
    raw = safetensors.torch.save(tensors)
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def with_header(header, data) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def damaged_safetensors() -> dict[str, bytes]:
    """Whole families of damage, each in one file."""
    whole = safetensors.torch.save(tensors_of(BertModel))
    header, data = header_of(tensors_of(BertModel))
    first, second = list(header)[:2]
    cuts = {f"cut at {n}": whole[:n] for n in (1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1)}
    lengths = {f"length {n}": struct.pack("<Q", n) + whole[8:] for n in (0, 1, 10**9, 2**40, 2**63, 2**64 - 1)}
    headers = {
        "not JSON": with_header(b"{" * 100, data),
        "JSON list": with_header(b"[1, 2]", data),
        "not UTF-8": with_header(b'{"\xff\xfe": 1}', data),
        "overlap": with_header({**header, second: header[first]}, data),
        "beyond the end": with_header(
            {**header, first: {**header[first], "data_offsets": [len(data), 2 * len(data)]}}, data
        ),
        "backwards": with_header({**header, first: {**header[first], "data_offsets": [40, 0]}}, data),
        "negative": with_header({**header, first: {**header[first], "data_offsets": [-40, 0]}}, data),
        "absurd shape": with_header({**header, first: {**header[first], "shape": [2**62, 2**62]}}, data),
        "another shape": with_header({**header, first: {**header[first], "shape": [11]}}, data),
        "unknown type": with_header({**header, first: {**header[first], "dtype": "F33"}}, data),
        "no type": with_header({**header, first: {"shape": [1]}}, data),
    }
    return {"empty": b"", **cuts, **lengths, **headers, "longer": whole + b"\0" * 10, "pickle": pickle.dumps({"a": 1})}


@pytest.mark.parametrize(("name", "raw"), damaged_safetensors().items(), ids=damaged_safetensors())
def test_damaged_safetensors_are_refused(tmp_path, name, raw):
    text = refusal(BertModel, write(tmp_path, raw), tmp_path / "model.safetensors")
    assert "copy it again" in text


def flipped(raw: bytes, seed: int, end: int | None = None) -> bytes:
    """One to five bytes changed, among the first `end`."""
    dice = random.Random(seed)
    changed = bytearray(raw)
    for _ in range(dice.choice((1, 1, 2, 5))):
        changed[dice.randrange(end or len(raw))] = dice.randrange(256)
    return bytes(changed)


def message(path, read, raw) -> str:
    """What reading the bytes is answered with: one line that names the file, or "" where the damage passes unseen."""
    path.write_bytes(raw)
    try:
        read(path)
    except ValueError as error:
        return str(error)
    return ""


def assert_reads_or_refuses(path, read, raw):
    """A changed weight may pass, but no damage ends in anything but one line."""
    text = message(path, read, raw)
    assert not text or (text.startswith(f"{path}: ") and text.isprintable()), text


def test_flipped_bytes_in_safetensors_never_end_in_another_error(tmp_path):
    def read(path):
        return dict(each_of_safetensors(path))

    raw = safetensors.torch.save(tensors_of(BertModel))
    for seed in range(300):
        assert_reads_or_refuses(tmp_path / "a.safetensors", read, flipped(raw, seed, end=4000))


def test_a_directory_in_place_of_the_weights_is_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "model.safetensors").mkdir()
    assert "holds a config.json and no weights; copy model.safetensors" in refusal(BertModel, tmp_path)


# ---- damaged and hostile .bin files ----


def saved(state, zipped=True) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


both_formats = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "format before 2020"])


@both_formats
def test_a_truncated_bin_file_is_refused(tmp_path, zipped):
    raw = saved(tensors_of(BertModel), zipped)
    for cut in (0, 1, 3, 4, 50, 500, len(raw) // 3, len(raw) // 2, len(raw) - 100, len(raw) - 1):
        text = refusal(BertModel, write(tmp_path, raw[:cut], file="pytorch_model.bin"), tmp_path / "pytorch_model.bin")
        assert "copy it again" in text


@both_formats
def test_no_cut_and_no_flipped_byte_ends_in_another_error(tmp_path, zipped):
    raw = saved({"a": torch.randn(5, 7), "b": torch.arange(3)}, zipped)
    for cut in range(0, len(raw), 7):
        assert_reads_or_refuses(tmp_path / "a.bin", read_bin, raw[:cut])
    for seed in range(250):
        assert_reads_or_refuses(tmp_path / "a.bin", read_bin, flipped(raw, seed))


@pytest.mark.parametrize("start", [b"", b"PK\3\4", b"\x80\x02", b"\x80\x04"], ids=["", "zip", "pickle 2", "pickle 4"])
def test_random_bytes_are_refused(tmp_path, start):
    dice = random.Random(1)
    for size in range(200):
        text = message(tmp_path / "a.bin", read_bin, start + dice.randbytes(size))
        assert text.startswith(f"{tmp_path / 'a.bin'}: ")
        assert text.isprintable()


def repacked(raw: bytes, change=lambda name, data: data, method=zipfile.ZIP_DEFLATED) -> bytes:
    """The same archive packed by another program."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def bomb(size=50_000_000) -> bytes:
    """A .bin file a thousandth as large as what it unpacks to."""
    return repacked(saved({"a": torch.zeros(3)}), lambda name, data: b"\0" * size if name.endswith("data/0") else data)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    def unpack(*_, **__):
        raise AssertionError("torch.load was called")

    write(tmp_path, bomb(), file="pytorch_model.bin")
    monkeypatch.setattr(torch, "load", unpack)
    before = time.monotonic()
    text = refusal(BertModel, tmp_path, tmp_path / "pytorch_model.bin")
    assert time.monotonic() - before < 2
    assert "is compressed (50000" in text
    assert "ask for a safetensors file" in text


def test_a_zip_bomb_that_lies_about_its_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", None)
    size = 20_000_000
    raw = bomb(size).replace(struct.pack("<I", size), struct.pack("<I", 12))
    assert "is compressed" in refusal(BertModel, write(tmp_path, raw, file="pytorch_model.bin"))


def test_an_archive_whose_entries_share_their_bytes_is_refused(tmp_path, monkeypatch):
    """The other zip bomb: nothing is compressed, but thousands of names stand for the same stretch of the file."""
    monkeypatch.setattr(torch, "load", None)
    raw = saved({"a": torch.zeros(100_000)})
    end = raw.rindex(b"PK\5\6")
    count, size, start = struct.unpack("<HII", raw[end + 10 : end + 20])
    entries = raw[start : start + size] * 3
    tail = bytearray(raw[end:])
    tail[8:20] = struct.pack("<HHII", 3 * count, 3 * count, len(entries), start)
    write(tmp_path, raw[:start] + entries + bytes(tail), file="pytorch_model.bin")
    assert "is compressed" in refusal(BertModel, tmp_path)


def test_a_plain_archive_of_another_program_is_read(tmp_path):
    raw = repacked(saved(tensors_of(BertModel)), method=zipfile.ZIP_STORED)
    assert_holds(BertModel.from_pretrained(write(tmp_path, raw, file="pytorch_model.bin")), tensors_of(BertModel))


@both_formats
def test_a_small_tensor_that_poses_as_a_huge_one_is_refused(tmp_path, zipped):
    """Stride 0: one number in the file, 4 terabytes once it is copied."""
    tensors = {**tensors_of(BertModel), "bert.pooler.dense.weight": torch.zeros(1).expand(10**6, 10**6)}
    text = refusal(BertModel, write(tmp_path, saved(tensors, zipped), file="pytorch_model.bin"))
    assert "its tensors claim 4000000" in text


def test_a_huge_config_with_huge_tensors_of_one_number_is_refused(tmp_path):
    """Here all shapes would fit: 655 gigabytes from a file of 40 kilobytes."""
    huge = {**SIZES, "vocab_size": 5_000_000, "hidden_size": 32_768}
    with torch.device("meta"):
        shapes = {f"bert.{key}": tensor.shape for key, tensor in export_weights(BertModel(BertConfig(**huge))).items()}
    tensors = {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}
    write(tmp_path, tensors, huge, "pytorch_model.bin")
    assert "its tensors claim" in refusal(BertModel, tmp_path)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_an_absurd_config_fails_on_the_shapes_without_memory(tmp_path, file):
    """5 million words of 32,768 numbers and 100 layers would be more than two terabytes."""
    absurd = {**SIZES, "vocab_size": 5_000_000, "hidden_size": 32_768, "num_hidden_layers": 100}
    before = time.monotonic()
    text = refusal(BertModel, write(tmp_path, tensors_of(BertModel), absurd, file))
    assert time.monotonic() - before < 10
    assert "[101, 10], wanted [5000000, 32768]" in text


STRANGE = {
    "a list": lambda: [torch.zeros(2)],
    "a tensor": lambda: torch.zeros(2),
    "a training state": lambda: {"optimizer": {"a": torch.zeros(2)}, "epoch": 3},
    "numbers for keys": lambda: {0: torch.zeros(2)},
    "no data": lambda: {"a": torch.zeros(10**6, 10**6, device="meta")},
    "sparse": lambda: {"a": torch.sparse_coo_tensor(torch.zeros(2, 1).long(), torch.ones(1), (10**6, 10**6))},
    "quantized": lambda: {"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)},
}


@pytest.mark.parametrize("name", STRANGE)
@both_formats
def test_anything_but_a_dictionary_of_plain_tensors_is_refused(tmp_path, name, zipped):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch on sparse and quantized tensors
        raw = saved(STRANGE[name](), zipped)
    text = refusal(BertModel, write(tmp_path, raw, file="pytorch_model.bin"))
    assert "holds more than a dictionary of plain tensors" in text


class Calls:
    """Pickled, this asks whoever unpickles it to call `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def code_files(marker) -> dict[str, bytes]:
    """Files that create `marker` when they are unpickled without care."""
    state = {"bert.pooler.dense.bias": Calls(os.mkdir, str(marker))}
    evaluated = {"bert.pooler.dense.bias": Calls(eval, f"__import__('os').mkdir({str(marker)!r})")}
    return {
        "zip": saved(state),
        "format before 2020": saved(state, zipped=False),
        "bare pickle": pickle.dumps(state, protocol=2),
        "bare pickle of today": pickle.dumps(state),
        "zip, eval": saved(evaluated),
        "format before 2020, eval": saved(evaluated, zipped=False),
    }


@pytest.mark.parametrize("name", code_files("x"))
def test_code_in_a_bin_file_does_not_run(tmp_path, name):
    marker = tmp_path / "marker"
    directory = write(tmp_path / "model", code_files(marker)[name], file="pytorch_model.bin")
    text = refusal(BertModel, directory, directory / "pytorch_model.bin")
    assert "pytorch_model.bin: " in text
    assert "weights_only" not in text  # torch's own text also says how to run it
    assert not marker.exists()


@pytest.mark.parametrize("name", ["zip", "format before 2020"])
def test_that_code_would_run_if_it_were_unpickled_without_care(tmp_path, name):
    """The test above proves something only if its files are live."""
    marker = tmp_path / "marker"
    torch.load(io.BytesIO(code_files(marker)[name]), weights_only=False)
    assert marker.exists()


@both_formats
def test_the_call_that_a_bin_file_asks_for_is_named(tmp_path, zipped):
    raw = saved({"a": Calls(os.system, "true")}, zipped)
    text = refusal(BertModel, write(tmp_path, raw, file="pytorch_model.bin"))
    assert f"refused, as it calls {os.system.__module__}.system, which could run code" in text


# ---- a real checkpoint ----


def test_minilm_loads_with_every_key_used(minilm, caplog):
    model, lines = loading_log(caplog, BertModel, minilm)
    keys = set(safetensors.torch.load_file(minilm / "model.safetensors"))
    assert keys - {"embeddings.position_ids"} == set(export_weights(model))
    assert lines == []
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_713_216


def test_minilm_has_the_weights_of_transformers(minilm):
    assert_holds(
        BertModel.from_pretrained(minilm),
        {f"bert.{key}": tensor for key, tensor in AutoModel.from_pretrained(minilm).state_dict().items()},
    )


def doubled(depth: int) -> bytes:
    """A pickle of {key: 1}, the key a tuple of 2 ** depth parts in a few bytes: hashed for as long as it is large."""
    return b"\x80\x02})" + b"q\x00h\x00\x86" * depth + b"K\x01s."


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_be_hashed_for_ever_is_refused_before_it_is_unpacked(tmp_path, zipped):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=zipped)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, part in content.items():
                archive.writestr(name, doubled(60) if name.endswith("data.pkl") else part)
    else:
        path.write_bytes(path.read_bytes()[:15] + doubled(60) * 4)
    with pytest.raises(ValueError, match="refused, as its pickle holds tuples of more than 100000 parts"):
        read_bin(path)


def test_the_parts_of_a_tuple_count_as_often_as_they_stand_in_it():
    inner = (1, 2)  # 3 with itself
    assert expanded(pickle.dumps({(inner, inner, inner): [1] * 50}, 2)) == 1 + 3 * 3
