"""Proves that transformers' pipelines load what we save and answer as we do: pytest tests/inference/test_pipelines.py

Those of classifiers are in test_answers.py.
"""

import pytest
import torch
import transformers
from conftest import assert_near, small_config, stir

from minibert.core.tokenizer import Tokenizer
from minibert.fast.models import BertForMaskedLM, BertModel
from minibert.inference.fill_mask import FillMaskOptions, fill
from minibert.inference.text_encoder import TextEncoder

WORDS = ["the", "room", "was", "clean", "and", "quiet", "staff"]
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
TEXTS = ["the room was clean", "staff", "the quiet room and the staff was clean and clean"]


@pytest.fixture(scope="module", autouse=True)
def quiet():
    transformers.logging.set_verbosity_error()


def saved(directory, kind):
    model = stir(kind(small_config(vocab_size=len(VOCAB))))
    model.save_pretrained(directory)
    Tokenizer(VOCAB).save_pretrained(directory)
    return model


def test_feature_extraction_gives_the_vectors_of_every_token(tmp_path):
    model = saved(tmp_path, BertModel)
    extract = transformers.pipeline("feature-extraction", model=str(tmp_path), device="cpu")
    tokenizer = Tokenizer(VOCAB)
    for text in TEXTS:
        with torch.no_grad():
            wanted = model(torch.tensor([tokenizer.encode(text)])).last_hidden_state
        assert_near(torch.tensor(extract(text)), wanted)
    encoder = TextEncoder.from_pretrained(tmp_path, device="cpu")
    means = torch.stack([torch.tensor(extract(text))[0].mean(dim=0) for text in TEXTS])
    assert_near(encoder.embed(TEXTS), means)


def test_fill_mask_gives_the_same_tokens_with_the_same_probabilities(tmp_path):
    saved(tmp_path, BertForMaskedLM)
    text = "the [MASK] was clean"
    theirs = transformers.pipeline("fill-mask", model=str(tmp_path), device="cpu")(text, top_k=5)
    ((ours,),) = fill(FillMaskOptions(text=[text], model=str(tmp_path), top_k=5), [text])
    assert [guess["token_str"] for guess in theirs] == [guess["token"] for guess in ours]
    assert [guess["score"] for guess in theirs] == pytest.approx([guess["probability"] for guess in ours], abs=1e-5)
