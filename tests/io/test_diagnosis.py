"""Proves the one diagnosis: what a directory is that is no whole BERT, in the loader's line and in the doctor's.

Run: pytest tests/io/test_diagnosis.py
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from conftest import small_config, stir
from safetensors.torch import load_file, save_file

from minibert.check.doctor import diagnose
from minibert.check.options import DoctorOptions
from minibert.core.config import BertConfig
from minibert.fast.models import BertForMaskedLM, BertForSequenceClassification, BertModel
from minibert.inference.text_models import TextClassifier, TextEncoder
from minibert.io.diagnosis import SIGNS, better, entry, explained, newest_below
from minibert.look.parity import ParityOptions, ladder
from minibert.text.tokenizer import Tokenizer

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(96))]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:07eced\nsize 231508\n"
QUERY = "bert.encoder.layer.0.attention.self.query.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "model"
    stir(BertForSequenceClassification(small_config())).save_pretrained(directory)
    Tokenizer(VOCAB).save_pretrained(directory)
    return directory


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    """A copy to take apart."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def refusal(directory: Path, kind: type = TextClassifier) -> str:
    with pytest.raises(ValueError, match=r"; ") as caught:
        kind.from_pretrained(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def doctors(directory: Path) -> str:
    """All that the doctor finds wrong, or the line by which it refuses."""
    try:
        found = diagnose(DoctorOptions(str(directory)))
    except ValueError as reason:
        return str(reason)
    return " | ".join(f"{finding.what}; {finding.remedy}" for finding in found if finding.severity == "error")


def only(directory: Path, **files: str) -> Path:
    """The directory with these files alone; a name's __ is its dot."""
    shutil.rmtree(directory)
    directory.mkdir()
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return directory


def instead(name: str) -> Callable[[Path], object]:
    """Other weights in place of model.safetensors."""

    def change(directory: Path) -> None:
        (directory / "model.safetensors").unlink()
        (directory / name).write_bytes(b"some weights")

    return change


def below(directory: Path) -> None:
    shutil.copytree(directory, directory / "checkpoint-500")
    shutil.copytree(directory / "checkpoint-500", directory / "checkpoint-1000")
    for name in ("config.json", "model.safetensors"):
        (directory / name).unlink()


KINDS = {  # what was done to a directory -> (how, what is said of it)
    "tensorflow": (instead("tf_model.h5"), "holds TensorFlow weights (tf_model.h5); convert it with transformers 4"),
    "flax": (instead("flax_model.msgpack"), "holds Flax weights (flax_model.msgpack); convert it with"),
    "onnx": (instead("model.onnx"), "holds an ONNX graph (model.onnx); it is for running only; take"),
    "gguf": (instead("bert.gguf"), "holds GGUF weights for llama.cpp (bert.gguf); it is"),
    "rust": (instead("rust_model.ot"), "holds weights of rust-bert (rust_model.ot); take the model.safetensors"),
    "openvino": (instead("openvino_model.xml"), "holds an OpenVINO graph (openvino_model.xml); it is"),
    "google": (instead("bert_model.ckpt.index"), "holds a TensorFlow checkpoint as Google published them"),
    "other name": (instead("bert.safetensors"), "holds weights of another name (bert.safetensors); rename them to"),
    "pth": (instead("best.pth"), "holds a file of PyTorch (best.pth); rename it to pytorch_model.bin"),
    "training": (instead("optimizer.pt"), "holds the state of a training alone (optimizer.pt); give the directory"),
    "shards": (instead("model-00001-of-00002.safetensors"), "holds shards without their index"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "holds a config.json and no weights; copy model"),
    "no config": (lambda d: (d / "config.json").unlink(), "holds weights and no config.json; copy it from the same"),
    "google's config": (lambda d: (d / "config.json").rename(d / "bert_config.json"), "rename bert_config.json to"),
    "empty": (only, "holds no config.json, no vocab.txt, no weights; give a model's directory"),
    "a run": (lambda d: only(d, run__json='{"options": {}}'), "holds a run that has saved nothing yet (run.json); run"),
    "checkpoints": (below, "holds a model in a folder below it; give {}/checkpoint-1000"),
    "adapter": (
        lambda d: only(d, adapter_config__json='{"base_model_name_or_path": "x/y"}', adapter_model__safetensors=""),
        "holds an adapter, which only changes a model (adapter_config.json) of 'x/y'; merge it",
    ),
    "weights' pointer": (
        lambda d: (d / "model.safetensors").write_text(POINTER),
        "model.safetensors is a pointer of git-lfs",
    ),
    "config's pointer": (lambda d: (d / "config.json").write_text(POINTER), "config.json is a pointer of git-lfs"),
    "vocabulary's pointer": (lambda d: (d / "vocab.txt").write_text(POINTER), "vocab.txt is a pointer of git-lfs"),
    "twice": (
        lambda d: (d / "vocab.txt").write_text("\n".join([*VOCAB[:-1], "w0"]), encoding="utf-8"),
        "copy the original file again; do not delete lines, ids would move",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_loader_and_the_doctor_say_the_same_of_a_directory(model, kind):
    change, said = KINDS[kind]
    change(model)
    said = said.format(model)
    assert said in refusal(model)
    shown = doctors(model).replace(" of 'x/y'", "")
    assert said.replace(" of 'x/y'", "") in shown
    if kind not in ("twice", "vocabulary's pointer"):
        with pytest.raises(ValueError, match=r"; ") as caught:
            BertModel.from_pretrained(model)
        assert said in str(caught.value)


def test_what_the_advice_names_can_be_loaded(model):
    below(model)
    TextClassifier.from_pretrained(refusal(model).rpartition("give ")[2])


def test_the_newest_model_below_is_the_last_written_where_no_number_says_so(whole, tmp_path):
    for age, name in enumerate(("b", "a", "c")):
        shutil.copytree(whole, tmp_path / name)
        os.utime(tmp_path / name / "config.json", (1e9 - age, 1e9 - age))
    (tmp_path / "empty").mkdir()
    assert newest_below(tmp_path) == tmp_path / "b"


def test_a_state_without_a_model_names_the_command_that_goes_on_with_it(tmp_path):
    (tmp_path / "state-000000120.pt").write_bytes(b"state")
    for options, command in (({"corpus": ["x"]}, "pretrain"), ({"data": "x"}, "train")):
        (tmp_path / "run.json").write_text(json.dumps({"options": options}), encoding="utf-8")
        assert refusal(tmp_path).endswith(f"go on with it: minibert {command} --resume {tmp_path}")


def test_weights_of_tensorflow_are_to_be_converted_with_their_head(model):
    KINDS["tensorflow"][0](model)
    command = f"BertForSequenceClassification.from_pretrained('{model}', from_tf=True).save_pretrained('{model}')"
    assert command in refusal(model)
    (model / "config.json").write_text('{"architectures": ["x()"]}', encoding="utf-8")
    assert f"(BertModel.from_pretrained('{model}', from_tf" in better(model, f"{model}: holds no weights")


def test_a_tokenizer_of_another_kind_is_named(model):
    (model / "vocab.txt").rename(model / "merges.txt")
    assert "byte-pair tokens, as RoBERTa and GPT have them (merges.txt)" in refusal(model)
    assert "byte-pair tokens, as RoBERTa and GPT have them (merges.txt)" in doctors(model)


def test_a_model_without_its_vocabulary_is_told_apart(model):
    (model / "vocab.txt").unlink()
    assert "holds a model without its vocabulary; copy vocab.txt" in refusal(model)


def test_a_broken_config_is_told_before_weights_that_are_not_there(model):
    (model / "model.safetensors").unlink()
    (model / "config.json").write_text('{"model_type": "roberta"}', encoding="utf-8")
    assert "model_type is 'roberta'" in refusal(model)


def test_a_refusal_is_explained_once(tmp_path):
    with pytest.raises(ValueError, match=r"^first$"), explained(tmp_path), explained(tmp_path):
        raise ValueError("first")


def test_another_error_passes(tmp_path):
    with pytest.raises(KeyError), explained(tmp_path):
        raise KeyError("a mistake of ours")


def test_every_sign_is_seen_in_what_a_reader_says(tmp_path):
    said = [
        "vocab.txt: token 'a' stands on lines 3 and 9; remove one of them",
        "w does not fit this model: 2 unexpected: bert.encoder.layer.0.attention.self.query.lora_A.weight; take",
        "w does not fit this model: 2 unexpected: bert.pooler.dense.weight_scale; take config.json",
        f"w does not fit this model: 1 mismatched: {QUERY} is [10, 15], wanted [15, 15]; take config.json",
        "w does not fit this model: 1 missing: bert.a; 1 unexpected: roberta.encoder.a; take config.json",
        "w lacks a masked-LM head, so it has no answers yet; train it first (minibert train), or take",
    ]
    assert len(said) == len(SIGNS)
    for line, remedy in zip(said, SIGNS.values(), strict=True):
        assert better(tmp_path, line) == f"{line.rpartition('; ')[0]}; {remedy}"


def test_a_config_is_read_with_the_same_words(model):
    below(model)
    with pytest.raises(ValueError, match=r"give .*checkpoint-1000"):
        BertConfig.from_file(model / "config.json")


# ---- weights ----


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model", "module"])
def test_tensors_inside_a_training_state_are_taken(model, name):
    weights = load_file(model / "model.safetensors")
    wanted = TextClassifier.from_pretrained(model).logits(["w0 w1"])
    (model / "model.safetensors").unlink()
    torch.save({name: weights, "epoch": 3, "optimizer": {"state": {}}}, model / "pytorch_model.bin")
    torch.testing.assert_close(TextClassifier.from_pretrained(model).logits(["w0 w1"]), wanted, rtol=0, atol=0)
    assert doctors(model) == ""


def foreign(directory: Path) -> None:
    """As BertForTokenClassification saves it."""
    weights = load_file(directory / "model.safetensors")
    kept = {key: tensor for key, tensor in weights.items() if "pooler" not in key}
    save_file(kept, directory / "model.safetensors")


def test_a_foreign_head_is_a_warning_of_the_doctor_and_parity_compares_the_encoder(model, capsys, caplog):
    foreign(model)
    (finding,) = (f for f in diagnose(DoctorOptions(str(model))) if f.severity != "note")
    assert (finding.severity, finding.name) == ("warning", "weights-foreign-head")
    assert "they bring a token-classification head" in finding.what
    rungs = ladder(ParityOptions(str(model), lengths="3"))
    assert all(max(rung.differences.values()) < 1e-4 for rung in rungs)
    assert "brings a token-classification head: not used here" in caplog.text
    TextEncoder.from_pretrained(model)


def test_parity_compares_no_classifier_that_was_drawn_for_it(model):
    config = transformers.BertConfig.from_pretrained(model)
    transformers.BertForMultipleChoice(config).save_pretrained(model)
    with pytest.raises(ValueError, match="it brings a multiple-choice head"):
        ladder(ParityOptions(str(model), lengths="3"))


@pytest.mark.slow
def test_parity_says_where_transformers_would_draw_weights(model, capsys):
    weights = load_file(model / "model.safetensors")
    save_file({f"module.{key}": tensor for key, tensor in weights.items()}, model / "model.safetensors")
    rungs = ladder(ParityOptions(str(model), lengths="3"))
    assert all("transformers" not in rung.differences for rung in rungs)
    assert "transformers finds no" in capsys.readouterr().err


def test_parity_of_an_encoder_without_a_pooler_compares_the_rest(tmp_path):
    stir(BertForMaskedLM(small_config())).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({key: x for key, x in weights.items() if key.startswith("bert.")}, tmp_path / "model.safetensors")
    rungs = ladder(ParityOptions(str(tmp_path), lengths="3"))
    assert "pooler" not in [rung.stage for rung in rungs]
    assert max(rung.differences["transformers"] for rung in rungs if "transformers" in rung.differences) <= 1e-5


def test_an_untied_decoder_is_seen_through_a_wrapper(tmp_path):
    stir(BertForMaskedLM(small_config())).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["cls.predictions.decoder.weight"] = torch.randn(101, 15)
    save_file({f"module.{key}": tensor for key, tensor in weights.items()}, tmp_path / "model.safetensors")
    assert "which BERT shares" in doctors(tmp_path)


def test_the_architecture_of_a_config_with_thousands_of_labels_is_known(tmp_path):
    names = {number: f"a label of some length, {number}" for number in range(5000)}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"id2label": names, "architectures": ["BertModel"]}), encoding="utf-8")
    assert entry(path, "architectures") == ["BertModel"]


def test_a_config_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    assert entry(tmp_path / "config.json", "architectures") is None
