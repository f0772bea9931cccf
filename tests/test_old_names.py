"""Proves that what README and docs of 0.1.0 import, and the two old arguments, work until 0.3 with a warning.

Run: pytest tests/test_old_names.py
"""

import subprocess
import sys
import warnings
from importlib import import_module

import pytest
import torch
from conftest import MODELS, assert_near, padded_batch, small_config, stir

import minibert
from minibert import old_names
from minibert.fast.layout import Packed, pack

SHOWN = {  # modules that README and docs of 0.1.0 name -> what one would import from them after reading
    "activations": "capture intervene",
    "analysis": "logit_lens",
    "attention": "attend attention_backends",
    "attention.eager": "",
    "checkpoint": "",
    "config": "BertConfig",
    "corpus": "",
    "course": "",
    "data": "",
    "data_checks": "",
    "doctor": "diagnose",
    "encoding": "",
    "explain": "explain",
    "fill_mask": "",
    "findings": "",
    "hub": "",
    "instances": "",
    "jobs": "",
    "layout": "Padded Packed pack pad",
    "loop": "learning_rate optimizer_groups",
    "model": "BertModel BertForSequenceClassification BertForMaskedLM BertForPreTraining",
    "page": "",
    "parity": "ladder",
    "pretrain": "pretrain PretrainOptions",
    "ranks": "",
    "reference": "forward",
    "replay": "",
    "state": "",
    "symbols": "",
    "token_file": "",
    "tokenizer": "Tokenizer Encoding",
    "tokenizer_files": "",
    "trace": "",
    "train": "TrainOptions train",
    "wordpiece": "wordpiece",
    "wordpiece_batch": "",
}


def test_the_old_names_end_with_0_3():
    assert tuple(map(int, minibert.__version__.split(".")[:2])) < (0, 3), "take old_names.py and old_arguments.py out"


@pytest.mark.parametrize("old", SHOWN)
def test_a_module_is_found_by_its_old_name_with_its_names_and_a_warning_that_tells_the_new(old, monkeypatch):
    first, dot, below = old.partition(".")
    new = f"minibert.{old_names.PLACES[first]}{dot}{below}"
    monkeypatch.delitem(sys.modules, f"minibert.{old}", raising=False)
    with pytest.warns(DeprecationWarning, match=rf"minibert\.{old} is {new} now; the old name ends with 0\.3"):
        module = import_module(f"minibert.{old}")
    assert module is sys.modules[new]
    assert module.__spec__.name == module.__name__ == new
    for name in SHOWN[old].split():
        assert getattr(module, name) is not None


def test_names_of_inference_are_where_they_were():
    """The folder has the old file's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inference = import_module("minibert.inference")
        assert inference.TextClassifier is minibert.TextClassifier
        assert inference.TextEncoder is minibert.TextEncoder


FORMS = [
    "import minibert.config; found = minibert.config.BertConfig",
    "from minibert.config import BertConfig; found = BertConfig",
    "from minibert import config; found = config.BertConfig",
    "import minibert.config as config; found = config.BertConfig",
    "import minibert; found = minibert.config.BertConfig",
]
CHECK = """
import warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    exec(compile({form!r}, "theirs.py", "exec"))
import minibert.core.config
assert found is minibert.core.config.BertConfig
assert [(w.category, w.filename) for w in said] == [(DeprecationWarning, "theirs.py")], said
"""


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_import_gives_the_same_class_and_warns_where_it_stands(form):
    done = subprocess.run([sys.executable, "-c", CHECK.format(form=form)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_name_that_never_was_is_refused_as_python_does():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'minibert\.nonsense'"):
        import_module("minibert.nonsense")


# ---- layout= and first= ----


def packed(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, Packed]:
    layout = Packed.from_mask(batch["attention_mask"])
    return *(pack(batch[name], layout) for name in ("input_ids", "token_type_ids")), layout


@pytest.mark.parametrize("name", MODELS)
def test_layout_is_batch_under_its_old_name(name):
    model = stir(MODELS[name](small_config()))
    ids, segments, layout = packed(padded_batch(3, 7))
    with torch.no_grad():
        wanted = model(ids, None, segments, batch=layout)
        with pytest.warns(DeprecationWarning, match="write batch=LAYOUT instead"):
            found = model(ids, None, segments, layout=layout)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_first_asks_the_encoder_for_the_first_tokens_alone():
    model = stir(MODELS["BertModel"](small_config()))
    ids, segments, layout = packed(padded_batch(3, 7))
    with torch.no_grad():
        whole = model(ids, None, segments, batch=layout)
        with pytest.warns(DeprecationWarning, match="first_only=True"):
            found = model(ids, None, segments, layout=layout, first=True)
    assert found.last_hidden_state.shape == (3, model.config.hidden_size)
    assert_near(found.pooler_output, whole.pooler_output)


def test_the_encoder_inside_a_classifier_takes_them_too():
    model = stir(MODELS["BertForSequenceClassification"](small_config()))
    ids, segments, layout = packed(padded_batch(3, 7))
    with torch.no_grad(), pytest.warns(DeprecationWarning, match="batch="):
        assert model.bert(ids, None, segments, layout=layout).last_hidden_state.shape[0] == len(ids)


def test_first_without_a_layout_is_refused_in_one_line():
    model = stir(MODELS["BertModel"](small_config()))
    with pytest.raises(ValueError, match="first= goes with layout="):
        model(padded_batch(2, 5)["input_ids"], first=True)
