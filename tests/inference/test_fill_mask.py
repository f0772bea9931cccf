"""Proves that masks are filled with what transformers fills them with. Run: pytest tests/inference/test_fill_mask.py"""

import json
from pathlib import Path

import pytest
import torch
import transformers
from conftest import MODELS, small_config, stir

from minibert import cli
from minibert.inference.fill_mask import FillMaskOptions, fill, fills_table
from minibert.text.tokenizer import Tokenizer

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"白日依山尽黄河入海流。，", *(f"w{n}" for n in range(84))]
TEXTS = ["白日依山[MASK]，[MASK]河入海流。", "w3 w4 [MASK]", "[MASK]"]


@pytest.fixture(scope="module", params=["BertForMaskedLM", "BertForPreTraining"])
def directory(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    stir(MODELS[request.param](small_config())).save_pretrained(folder)
    Tokenizer(VOCAB).save_pretrained(folder)
    return folder


def test_answers_are_those_of_transformers(directory):
    model = transformers.AutoModelForMaskedLM.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    for text, masks in zip(TEXTS, fill(FillMaskOptions(TEXTS, str(directory), top_k=7), TEXTS), strict=True):
        enc = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model(**enc).logits[0][enc.input_ids[0] == tokenizer.mask_token_id]
        best = logits.softmax(dim=1).topk(7)
        assert len(masks) == text.count("[MASK]")
        for answers, ids, shares in zip(masks, best.indices.tolist(), best.values.tolist(), strict=True):
            assert [answer["id"] for answer in answers] == ids
            assert [answer["token"] for answer in answers] == tokenizer.convert_ids_to_tokens(ids)
            assert [answer["probability"] for answer in answers] == pytest.approx(shares, abs=1e-6)


def test_there_are_no_more_answers_than_tokens(directory):
    ((answers,),) = fill(FillMaskOptions(top_k=len(VOCAB) + 1, model=str(directory), text=["[MASK]"]), ["[MASK]"])
    assert sorted(answer["token"] for answer in answers) == sorted(VOCAB)


def test_rows_without_a_token_are_never_an_answer(tmp_path):
    """An embedding filled up to a multiple of 8 has them; the probabilities stay those of transformers."""
    model = stir(MODELS["BertForMaskedLM"](small_config(vocab_size=104))).eval()
    with torch.no_grad():
        model.state_dict()["mlm.bias"][len(VOCAB) :] = 5.0
    model.save_pretrained(tmp_path)
    Tokenizer(VOCAB).save_pretrained(tmp_path)
    ((answers,),) = fill(FillMaskOptions(top_k=104, model=str(tmp_path), text=["[MASK]"]), ["[MASK]"])
    assert sorted(answer["token"] for answer in answers) == sorted(VOCAB)
    assert sum(answer["probability"] for answer in answers) < 0.9


def test_the_command_prints_a_column_for_each_mask_or_one_json_object(directory, capsys, caplog):
    assert cli.main(["fill-mask", *TEXTS, "--model", str(directory), "--top-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith("  ")] == [TEXTS[0], "", TEXTS[1], "", TEXTS[2]]
    assert len(lines) == 5 + 3 * 3
    assert len(lines[1].split()) == 4  # two masks, token and probability each
    assert cli.main(["fill-mask", TEXTS[0], "--model", str(directory), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["fills"]
    assert found["text"] == TEXTS[0]
    assert [len(answers) for answers in found["masks"]] == [5, 5]
    assert not caplog.records, "heads that a question does not need are nothing to warn of"


def test_columns_are_aligned_under_wide_characters():
    masks = [[{"token": t, "id": 0, "probability": 0.5} for t in ("尽", "a", "##ing")]] * 2
    assert fills_table("x", masks).splitlines()[1:] == [
        "  尽     0.5000    尽     0.5000",
        "  a      0.5000    a      0.5000",
        "  ##ing  0.5000    ##ing  0.5000",
    ]


def test_mistakes_cost_one_line(directory, tmp_path, capsys):
    stir(MODELS["BertModel"](small_config())).save_pretrained(tmp_path)
    Tokenizer(VOCAB).save_pretrained(tmp_path)
    for arguments, message in (
        (["白日", "--model", str(directory)], "'白日' holds no [MASK]; write it where"),
        (["[MASK]" + "白" * 600, "--model", str(directory)], "has 603 tokens, more than the model's 521; shorten it"),
        (["[MASK]", "--model", str(directory), "--top-k", "0"], "top_k is 0; it must be at least 1"),
        (["[MASK]", "--model", str(tmp_path)], "masked-LM head"),
    ):
        assert cli.main(["fill-mask", *arguments]) == 2
        assert message in capsys.readouterr().err
