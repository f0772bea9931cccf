"""A config is everybody's config.json, checked value by value, each mistake in one line: pytest
tests/core/test_config.py
"""

import dataclasses
import json

import pytest
import torch
import transformers

from minibert.core.config import ACTIVATIONS, LIMITS, PRESETS, REQUIRED, SIZES, BertConfig
from minibert.fast.models import BertModel

# bert_config.json of Google's chinese_L-12_H-768_A-12 (2018): no model_type, no eps, and pooler sizes nobody uses.
GOOGLE = """{
  "attention_probs_dropout_prob": 0.1, "directionality": "bidi", "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
  "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 512,
  "num_attention_heads": 12, "num_hidden_layers": 12, "pooler_fc_size": 768, "pooler_num_attention_heads": 12,
  "pooler_num_fc_layers": 3, "pooler_size_per_head": 128, "pooler_type": "first_token_transform",
  "type_vocab_size": 2, "vocab_size": 21128
}"""

# Nothing at its default, so that a field that is forgotten shows.
UNUSUAL = dict(
    vocab_size=101,
    hidden_size=35,
    num_hidden_layers=3,
    num_attention_heads=7,
    intermediate_size=37,
    hidden_act="gelu_new",
    hidden_dropout_prob=0.25,
    attention_probs_dropout_prob=0.125,
    max_position_embeddings=17,
    type_vocab_size=5,
    initializer_range=0.03,
    layer_norm_eps=1e-6,
    pad_token_id=11,
    classifier_dropout=0.5,
    id2label={0: "差评", 1: "ok", 2: "好评"},
    problem_type="multi_label_classification",
)
FIELDS = [field.name for field in dataclasses.fields(BertConfig) if field.name != "others"]
SMALL = {name: UNUSUAL[name] for name in REQUIRED}


def write(tmp_path, content) -> str:
    """A config.json with these values, text or bytes."""
    path = tmp_path / "config.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def refusal(tmp_path, content) -> str:
    """The line that reading such a file gives: one line, beginning with the file."""
    path = write(tmp_path, content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the callers check the text)
        BertConfig.from_file(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:")
    assert "\n" not in text
    assert len(text) < len(path) + 400
    return text.removeprefix(path)


# ---- reading and writing ----


def test_the_defaults_are_those_of_transformers():
    theirs = transformers.BertConfig()
    for name in FIELDS:
        assert getattr(BertConfig(), name) == getattr(theirs, name), name


def test_googles_file_is_read(tmp_path):
    config = BertConfig.from_file(write(tmp_path, GOOGLE))
    assert config == BertConfig(vocab_size=21128)


def test_a_config_saved_by_transformers_reads_back_equal(tmp_path):
    transformers.BertConfig(**UNUSUAL).save_pretrained(tmp_path)
    assert BertConfig.from_file(tmp_path / "config.json") == BertConfig(**UNUSUAL)


def test_a_config_with_defaults_saved_by_transformers_reads_back_equal(tmp_path):
    transformers.BertConfig().save_pretrained(tmp_path)
    assert BertConfig.from_file(tmp_path / "config.json") == BertConfig()


def test_transformers_reads_every_field_of_ours(tmp_path):
    write(tmp_path, BertConfig(**UNUSUAL).to_dict())
    theirs = transformers.BertConfig.from_pretrained(tmp_path)
    assert {name: getattr(theirs, name) for name in FIELDS} == UNUSUAL
    assert theirs.label2id == {"差评": 0, "ok": 1, "好评": 2}


def test_auto_config_knows_ours_as_bert(tmp_path):
    write(tmp_path, BertConfig(**UNUSUAL).to_dict())
    assert type(transformers.AutoConfig.from_pretrained(tmp_path)) is transformers.BertConfig


def test_our_own_file_reads_back_equal(tmp_path):
    config = BertConfig(**UNUSUAL)
    assert BertConfig.from_file(write(tmp_path, config.to_dict())) == config


def test_a_byte_order_mark_is_accepted(tmp_path):
    assert BertConfig.from_file(write(tmp_path, b"\xef\xbb\xbf" + GOOGLE.encode())).vocab_size == 21128


def test_only_the_sizes_are_required(tmp_path):
    assert BertConfig.from_file(write(tmp_path, SMALL)) == BertConfig(**SMALL)


def test_keys_of_other_software_are_ignored(tmp_path):
    values = {**SMALL, "transformers_version": "4.8.2", "use_cache": True, "_name_or_path": "x", "head_size": -1}
    assert BertConfig.from_file(write(tmp_path, values)) == BertConfig(**SMALL)


@pytest.mark.parametrize("key", ["model_type", "position_embedding_type", "is_decoder", "id2label", "pad_token_id"])
def test_null_means_the_usual_value(tmp_path, key):
    assert BertConfig.from_file(write(tmp_path, {**SMALL, key: None})) == BertConfig(**SMALL)


def test_num_labels_alone_gives_numbered_names(tmp_path):
    config = BertConfig.from_file(write(tmp_path, {**SMALL, "num_labels": 3}))
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}


def test_labels_come_in_the_order_of_their_numbers(tmp_path):
    labels = {"10": "k", **{str(i): "abcdefghij"[i] for i in (3, 1, 2, 0, 9, 8, 7, 6, 5, 4)}}
    config = BertConfig.from_file(write(tmp_path, {**SMALL, "id2label": labels}))
    assert "".join(config.id2label.values()) == "abcdefghijk"


def test_a_number_as_a_labels_name_becomes_text(tmp_path):
    config = BertConfig.from_file(write(tmp_path, {**SMALL, "id2label": {"0": 1, "1": 5}}))
    assert config.id2label == {0: "1", 1: "5"}


def test_a_config_does_not_share_its_labels_with_whoever_gave_them():
    labels = {0: "a", 1: "b"}
    config = BertConfig(id2label=labels)
    labels[0] = "changed"
    assert config.id2label == {0: "a", 1: "b"}


def test_replace_changes_and_checks():
    config = BertConfig(**UNUSUAL)
    assert config.replace(hidden_act="relu") == BertConfig(**{**UNUSUAL, "hidden_act": "relu"})
    with pytest.raises(ValueError, match="hidden_act is 'swish'; it must be one of gelu"):
        config.replace(hidden_act="swish")


def test_head_size_and_num_labels_follow_from_the_fields():
    assert (BertConfig(**UNUSUAL).head_size, BertConfig(**UNUSUAL).num_labels) == (5, 3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_of_ours_is_one_of_transformers(name):
    assert name in transformers.activations.ACT2FN


# ---- sizes ----


@pytest.mark.parametrize(
    ("preset", "millions"),  # Google's README of 2020-03-11; large: Devlin et al. 2018, section 3, which says 340
    [("tiny", 4.4), ("mini", 11.2), ("small", 28.8), ("medium", 41.4), ("base", 109.5), ("large", 335.1)],
)
def test_a_preset_has_the_parameters_that_google_published(preset, millions):
    """Google counts 0.1 to 0.6 million more, for it counts the weights of the pretraining heads too."""
    with torch.device("meta"):
        model = BertModel(BertConfig(**PRESETS[preset]))
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == millions


# ---- wrong values ----


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(
    "value",
    ["768", 768.0, True, None, [768], {"a": 1}, 0, -1],
    ids=["text", "float", "bool", "null", "list", "dict", "zero", "negative"],
)
def test_a_size_of_the_wrong_type_is_named(tmp_path, name, value):
    text = refusal(tmp_path, {**SMALL, name: value})
    assert f"{name} is {value!r}" in text
    assert "must be a whole number from 1 to" in text


@pytest.mark.parametrize("name", SIZES)
def test_an_absurd_size_is_named_with_its_limit(tmp_path, name):
    text = refusal(tmp_path, {**SMALL, name: LIMITS[name] + 1})
    assert f"{name} is {LIMITS[name] + 1}; it must be a whole number from 1 to {LIMITS[name]}" in text
    assert "copy the config.json" in text


def test_a_number_of_thousands_of_digits_is_told_in_one_short_line(tmp_path):
    assert "vocab_size is 9999" in refusal(tmp_path, json.dumps(SMALL).replace("101", "9" * 4000))
    assert "not JSON" in refusal(tmp_path, json.dumps(SMALL).replace("101", "9" * 5000))


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_size_is_named(tmp_path, name):
    text = refusal(tmp_path, {key: value for key, value in SMALL.items() if key != name})
    assert f"lacks {name};" in text
    assert "copy the config.json" in text


def test_all_missing_sizes_are_named_together(tmp_path):
    assert all(name in refusal(tmp_path, {}) for name in REQUIRED)


def test_heads_that_do_not_divide_the_hidden_size_are_named(tmp_path):
    text = refusal(tmp_path, {**SMALL, "num_attention_heads": 8})
    assert "hidden_size is 35; it must be divisible by num_attention_heads 8" in text


@pytest.mark.parametrize("value", ["swish", "GELU", "", None, 3, ["gelu"], {"gelu": 1}, "x\ny", "x" * 10_000])
def test_an_unknown_activation_is_named_with_the_known_ones(tmp_path, value):
    text = refusal(tmp_path, {**SMALL, "hidden_act": value})
    assert "hidden_act" in text
    assert all(name in text for name in ACTIVATIONS)


@pytest.mark.parametrize("name", ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"])
@pytest.mark.parametrize("value", ["0.1", True, [0.1], -0.1, 1.0, 7, float("nan"), float("inf")])
def test_a_dropout_that_is_no_probability_is_named(tmp_path, name, value):
    assert f"{name} is {value!r}; it must be a number from 0 to below 1" in refusal(tmp_path, {**SMALL, name: value})


@pytest.mark.parametrize("name", ["hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps"])
def test_null_for_a_number_is_named(tmp_path, name):
    assert f"{name} is None" in refusal(tmp_path, {**SMALL, name: None})


@pytest.mark.parametrize(
    ("name", "value"), [("layer_norm_eps", 1), ("layer_norm_eps", -1e-12), ("initializer_range", 10)]
)
def test_a_constant_out_of_range_is_named(tmp_path, name, value):
    assert f"{name} is {value!r}" in refusal(tmp_path, {**SMALL, name: value})


@pytest.mark.parametrize("value", [-1, 101, 1.0, "0", True, [0]])
def test_a_padding_id_out_of_the_vocabulary_is_named(tmp_path, value):
    text = refusal(tmp_path, {**SMALL, "pad_token_id": value})
    assert f"pad_token_id is {value!r}" in text
    assert "vocab_size 101" in text


# ---- other models ----


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "roberta"),
        ("model_type", "distilbert"),
        ("model_type", ["bert"]),
        ("position_embedding_type", "relative_key"),
        ("position_embedding_type", "relative_key_query"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("tie_word_embeddings", False),
    ],
)
def test_a_model_with_other_arithmetic_is_refused(tmp_path, key, value):
    text = refusal(tmp_path, {**SMALL, key: value})
    assert f"{key} is {value!r}; minibert implements" in text


@pytest.mark.parametrize("kind", ["RobertaConfig", "DistilBertConfig", "AlbertConfig", "ElectraConfig"])
def test_a_config_of_another_architecture_is_refused(tmp_path, kind):
    config = getattr(transformers, kind)()
    config.save_pretrained(tmp_path)
    text = refusal(tmp_path, (tmp_path / "config.json").read_bytes())
    assert f"model_type is {config.model_type!r}; minibert implements 'bert' only" in text


# ---- labels ----


@pytest.mark.parametrize(
    "labels",
    [["neg", "pos"], "neg", 2, {"a": "neg"}, {"1": "neg"}, {"0": "neg", "2": "pos"}, {}, {"0": None}, {"0": ["neg"]}],
    ids=repr,
)
def test_broken_labels_are_named(tmp_path, labels):
    assert "id2label is" in refusal(tmp_path, {**SMALL, "id2label": labels})


def test_two_labels_of_one_name_are_refused(tmp_path):
    text = refusal(tmp_path, {**SMALL, "id2label": {"0": "pos", "1": "pos"}})
    assert "not give one name to two labels" in text


def test_one_label_of_two_names_is_refused(tmp_path):
    assert "two names to one label" in refusal(tmp_path, {**SMALL, "id2label": {"0": "neg", "00": "pos"}})


@pytest.mark.parametrize("count", [0, -1, 2.0, "2", True, LIMITS["num_labels"] + 1])
def test_a_broken_number_of_labels_is_named(tmp_path, count):
    assert f"num_labels is {count!r}" in refusal(tmp_path, {**SMALL, "num_labels": count})


@pytest.mark.slow
def test_too_many_labels_are_refused_in_one_short_line(tmp_path):
    labels = {str(i): f"c{i}" for i in range(LIMITS["num_labels"] + 1)}
    assert "from 1 to 100000" in refusal(tmp_path, {**SMALL, "id2label": labels})


@pytest.mark.parametrize("labels", [{0: "a", "1": "b"}, {0: 1}, {}, None, ["a"], {1: "a"}], ids=repr)
def test_broken_labels_given_in_python_are_a_value_error(labels):
    with pytest.raises(ValueError, match="id2label is"):
        BertConfig(id2label=labels)


# ---- broken files ----


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config\.json.*; give a model's directory"):
        BertConfig.from_file(tmp_path / "config.json")


@pytest.mark.parametrize("content", ["", "{", "vocab_size: 3", '{"vocab_size": 3,}', "[" * 100_000])
def test_a_file_that_is_not_json_is_named(tmp_path, content):
    assert "not JSON" in refusal(tmp_path, content)


@pytest.mark.parametrize("encoding", ["utf-16", "gb18030"])
def test_a_file_that_is_not_utf_8_is_named(tmp_path, encoding):
    assert "not UTF-8" in refusal(tmp_path, json.dumps({"好": 1}, ensure_ascii=False).encode(encoding))


@pytest.mark.parametrize(("content", "kind"), [("[1]", "list"), ('"bert"', "str"), ("3", "int"), ("null", "NoneType")])
def test_json_that_is_no_object_is_named(tmp_path, content, kind):
    assert f"must hold a JSON object, not {kind}" in refusal(tmp_path, content)


# ---- what a config.json says beyond the arithmetic ----


def test_harmless_fields_survive_loading_and_saving(tmp_path):
    more = {"use_cache": True, "sentence_transformers": {"version": "6.2.0"}, "finetuning_task": "sst2"}
    values = {**SMALL, **more, "architectures": ["BertModel"], "torch_dtype": "float16", "dtype": "float16"}
    saved = BertConfig.from_file(write(tmp_path, values)).replace(hidden_act="relu").to_dict()
    assert {key: saved[key] for key in more} == more
    assert not {"architectures", "torch_dtype", "dtype"} & saved.keys()  # of the file that was read, not of ours


def test_the_problem_type_survives_and_null_is_left_out(tmp_path):
    assert "problem_type" not in BertConfig.from_file(write(tmp_path, {**SMALL, "problem_type": None})).to_dict()
    config = BertConfig.from_file(write(tmp_path, {**SMALL, "problem_type": "regression", "num_labels": 1}))
    assert config.to_dict()["problem_type"] == "regression"
    assert transformers.BertConfig(**config.to_dict()).num_labels == 1


def test_an_unknown_problem_type_is_refused(tmp_path):
    text = refusal(tmp_path, {**SMALL, "problem_type": "multi-label"})
    assert "problem_type is 'multi-label'; it must be one of single_label_classification, multi_label" in text


@pytest.mark.parametrize("change", [{"pruned_heads": {"0": [1]}}, {"quantization_config": {"bits": 4}}])
def test_pruned_and_quantised_weights_are_refused_by_name(tmp_path, change):
    (key,) = change
    assert f"{key} is {{" in refusal(tmp_path, {**SMALL, **change})
    BertConfig.from_file(write(tmp_path, {**SMALL, key: None}))
