"""Proves that the words of `transformers` mean in a call of our tokenizer what they mean there.

Run: pytest tests/text/test_habits.py
"""

import pickle

import numpy as np
import pytest
import torch
import transformers
from conftest import small_config, stir

from minibert.fast.models import BertModel
from minibert.text.tokenizer import Tokenizer

VOCAB = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "hotel",
    "was",
    "clean",
    "##ed",
    "un",
    "##clean",
    ",",
    "a",
]
VOCAB += ["b", "床", "前", "明", "月", *(f"w{n}" for n in range(82))]
TEXTS = ["the hotel was clean", "a", "床前明月, [SEP] x", "un uncleaned a b a b a b a b"]
PAIRS = ["b b", "the uncleaned hotel, a b", "", "月 a"]
LENGTHS = [  # what is said of padding, truncation and length
    {},
    {"padding": True, "truncation": True},
    {"padding": True},
    {"truncation": True, "max_length": 7},
    {"max_length": 7},
    {"padding": "longest", "truncation": "longest_first", "max_length": 8},
    {"padding": "max_length", "max_length": 30},
    {"padding": "max_length", "truncation": "only_first", "max_length": 24, "pad_to_multiple_of": 8},
    {"padding": True, "pad_to_multiple_of": 16},
    {"padding": False, "truncation": False},
    {"padding": "do_not_pad", "truncation": "do_not_truncate"},
]
WORDS = [  # and of what is wanted
    {"add_special_tokens": True},
    {"add_special_tokens": False},
    {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_length": True},
    {"return_token_type_ids": False, "return_attention_mask": False, "split_special_tokens": True},
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    stir(BertModel(small_config())).save_pretrained(folder)
    Tokenizer(VOCAB, model_max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def own(directory):
    return Tokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def theirs(directory):
    return transformers.BertTokenizerFast.from_pretrained(directory)


@pytest.mark.filterwarnings("ignore:`max_length` is ignored")
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("words", WORDS, ids=str)
def test_a_call_gives_what_transformers_gives(own, theirs, lengths, words):
    words = words | lengths
    for texts in ((TEXTS,), (TEXTS, PAIRS), (TEXTS[0],), (TEXTS[3], PAIRS[1])):
        assert dict(own(*texts, **words)) == dict(theirs(*texts, **words))


@pytest.mark.parametrize("kind", ["pt", "np"])
@pytest.mark.parametrize("words", [{"padding": True}, {"padding": "max_length", "max_length": 40, "truncation": True}])
def test_tensors_are_those_of_transformers(own, theirs, words, kind):
    for texts in ({"text": TEXTS}, {"text": TEXTS, "text_pair": PAIRS}, {"text": TEXTS[0], "text_pair": PAIRS[0]}):
        found, wanted = (made(**texts, **words, return_tensors=kind) for made in (own, theirs))
        assert list(found) == list(wanted)
        for name, array in wanted.items():
            assert type(found[name]) is type(array)
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)


def test_what_comes_back_goes_into_a_model(own, directory):
    model = BertModel.from_pretrained(directory).eval()
    encoding = own(TEXTS, padding=True, truncation=True, return_tensors="pt").to("cpu")
    with torch.no_grad():
        out = model(**encoding)
    assert out.last_hidden_state.shape[:2] == encoding.input_ids.shape
    assert torch.equal(pickle.loads(pickle.dumps(encoding)).attention_mask, encoding["attention_mask"])


def test_a_call_without_their_words_is_ours(own):
    assert own(TEXTS).input_ids.shape == (4, 14)
    assert own("a", padding="longest").input_ids.shape == (1, 3)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"is_split_into_words": True}, "is_split_into_words is no argument of minibert's tokenizer: join the words"),
        ({"stride": 3}, r"stride is no argument .*: cut long texts yourself, at tokenizer\.border"),
        ({"padding_side": "left"}, "padding_side is no argument .*: BERT is padded on the right"),
        ({"nonsense": 3}, "has no argument nonsense; of transformers' it knows text, text_pair, add_special_tokens"),
        ({"return_tensors": "tf"}, "return_tensors 'tf': choose \"pt\""),
        ({"return_tensors": "pt"}, "rows have 3 to 14 tokens, which is no tensor; use padding=True"),
        ({"padding": True, "truncation": "longest"}, "truncation 'longest': choose one of longest_first"),
        ({"truncation": True, "padding": "all"}, "padding 'all': choose one of"),
    ],
)
def test_what_is_not_known_is_one_line_with_our_word(own, words, reason):
    with pytest.raises(ValueError, match=reason) as error:
        own(TEXTS, **words)
    assert "\n" not in str(error.value)


def test_an_attribute_that_was_not_asked_for_names_those_there_are(own):
    with pytest.raises(AttributeError, match="no 'offset_mapping' here; there are input_ids, token_type_ids"):
        _ = own("a", padding=True).offset_mapping


def test_what_transformers_does_without_being_asked_may_be_asked_for():
    given = dict(stride=0, return_overflowing_tokens=False, padding_side="right", is_split_into_words=False)
    tokenizer = Tokenizer(VOCAB)
    assert tokenizer(["a b"], padding=True, **given).data == tokenizer(["a b"], padding=True).data
