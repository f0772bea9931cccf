"""Proves that trained models answer in the order of the texts, alike in every batch, and that scores are what their
names say. Run: pytest tests/inference/test_inference.py
"""

import copy
import math
import random
from pathlib import Path

import pytest
import torch
import transformers
from conftest import assert_near, small_config, stir

from minibert.fast import products
from minibert.fast.batches import collate, collate_packed
from minibert.fast.models import BertForSequenceClassification, BertModel
from minibert.fast.prepacked import Prepacked
from minibert.inference.options import POOLINGS
from minibert.inference.text_encoder import TextEncoder
from minibert.inference.text_models import TextClassifier, classify, pick_device
from minibert.text.tokenizer import Tokenizer

pytestmark = pytest.mark.numeric

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*"abcdefghijklmnopqrstuvwxyz", *"房间很干净下次还住的一是在不了有和人这中大为上个国我以要他"]
VOCAB = SPECIAL + WORDS
LABELS = {0: "negative", 1: "neutral", 2: "positive"}
POSITIONS = 31


def saved(directory: Path, model_class: type, **changes) -> Path:
    """A stirred model and its tokenizer on the disk."""
    sizes = dict(vocab_size=len(VOCAB), max_position_embeddings=POSITIONS, id2label=LABELS)
    stir(model_class(small_config(**{**sizes, **changes}))).save_pretrained(directory)
    Tokenizer(VOCAB).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("classifier"), BertForSequenceClassification)


@pytest.fixture(scope="module")
def classifier(directory) -> TextClassifier:
    return TextClassifier.from_pretrained(directory, device="cpu")


def texts(count: int, seed: int = 0) -> list[str]:
    """Of 0 to 40 words, so that some are empty and some longer than the model goes."""
    dice = random.Random(seed)
    return [" ".join(dice.choices(WORDS, k=dice.randint(0, 40))) for _ in range(count)]


# ---- classifying ----


@pytest.mark.parametrize("tokens", [1, 20, 77, 10_000])
def test_logits_come_in_the_order_of_the_texts_whatever_the_batches(classifier, tokens):
    """Each text by itself has no padding; what is between is float32 noise."""
    rows = texts(20)
    alone = torch.cat([classifier.logits([text]) for text in rows])
    assert torch.unique(alone, dim=0).shape[0] > 15, "equal rows would prove no order"
    assert_near(classifier.logits(rows, tokens_per_batch=tokens), alone)


def test_logits_equal_those_of_transformers(classifier, directory):
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()
    rows = texts(12)
    batch = tokenizer(rows, padding=True, truncation=True, max_length=POSITIONS, return_tensors="pt")
    with torch.no_grad():
        assert_near(classifier.logits(rows), model(**batch).logits)


def test_pairs_are_read_as_second_texts_and_equal_transformers(classifier, directory):
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()
    first, second = texts(6, seed=1), texts(6, seed=2)
    batch = tokenizer(first, second, padding=True, truncation=True, max_length=POSITIONS, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**batch).logits
    assert_near(classifier.logits(first, second), theirs)
    assert (classifier.logits(first) - theirs).abs().max() > 1e-2


def test_logits_are_float32_on_the_cpu_without_gradients(classifier):
    logits = classifier.logits(["a b"])
    assert (logits.dtype, logits.device.type, logits.requires_grad) == (torch.float32, "cpu", False)
    assert logits.shape == (1, 3)


def test_logits_are_float32_also_from_a_bfloat16_model(directory):
    classifier = TextClassifier.from_pretrained(directory, device="cpu")
    exact = classifier.logits(["a b 房"])
    classifier.model.bfloat16()
    logits = classifier.logits(["a b 房"])
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, exact)
    torch.testing.assert_close(logits, exact, rtol=0.1, atol=0.1)  # 8 bits of mantissa, through a stirred model


@pytest.mark.parametrize("packed", [False, True])
def test_bfloat16_is_no_further_from_float64_than_transformers(minilm, packed):
    """Real weights; the distance is that of all vectors together. A tenth is left for the luck of rounding."""
    rows = [
        "The room was clean.",
        "Breakfast was cold, and nobody cared about it at all.",
        "Fine",
        "Never again, sorry!",
    ]
    own = BertModel.from_pretrained(minilm)
    theirs = transformers.BertModel.from_pretrained(minilm, dtype=torch.bfloat16).eval()
    encoding = Tokenizer.from_pretrained(minilm)(rows, padding="none")
    batch = collate(encoding, None, range(len(rows)), 0)
    real = batch.attention_mask.bool()
    with torch.no_grad():
        truth = copy.deepcopy(own).double()(*batch[:3]).last_hidden_state[real]
        one = theirs(batch.input_ids, batch.attention_mask, batch.token_type_ids).last_hidden_state[real]
        given = collate_packed(encoding, None, range(len(rows))) if packed else batch
        other = own.bfloat16()(*given[:-1]).last_hidden_state
    other = other if packed else other[real]
    assert (other - truth).norm() <= 1.1 * (one - truth).norm()


@pytest.mark.parametrize("mapped", [False, True])
def test_without_its_weights_a_classifier_answers_the_same(classifier, directory, mapped, onednn):
    found = TextClassifier.from_pretrained(directory, device="cpu", mapped=mapped, keep_weights=False)
    assert_near(found.logits(texts(23)), classifier.logits(texts(23)), limit=3e-6)
    if products.FAST_ENOUGH and products.HAS_ONEDNN:
        assert isinstance(found.model.bert.layers[0].ffn.inner, Prepacked)


def test_without_its_weights_an_encoder_gives_the_same_vectors(tmp_path):
    directory = saved(tmp_path, BertModel)
    kept, found = (TextEncoder.from_pretrained(directory, device="cpu", keep_weights=keep) for keep in (True, False))
    for pooling in ("mean", "cls"):
        assert_near(found.embed(texts(23), pooling), kept.embed(texts(23), pooling), limit=3e-6)


def test_an_encoder_without_its_weights_is_refused_before_a_file_is_written(tmp_path, onednn):
    encoder = TextEncoder.from_pretrained(saved(tmp_path / "a", BertModel), device="cpu", keep_weights=False)
    if isinstance(encoder.model.layers[0].ffn.inner, Prepacked):
        with pytest.raises(ValueError, match="has no state_dict; load it with keep_weights=True"):
            encoder.save_pretrained(tmp_path / "b")
        assert not (tmp_path / "b").exists()


def test_a_classifier_answers_without_dropout(directory):
    model = BertForSequenceClassification.from_pretrained(directory).train()
    classifier = TextClassifier(model, Tokenizer(VOCAB), device="cpu")
    assert torch.equal(classifier.logits(["a b c"]), classifier.logits(["a b c"]))


def test_no_texts_give_no_rows(classifier):
    assert classifier.logits([]).shape == (0, 3)
    assert classifier.predict([]) == []


def test_generators_and_single_strings_are_texts_too(classifier):
    rows = texts(5)
    expected = classifier.logits(rows, rows)
    assert torch.equal(classifier.logits((row for row in rows), (row for row in rows)), expected)
    assert torch.equal(classifier.logits("a b"), classifier.logits(["a b"]))


def test_texts_longer_than_the_model_are_cut_not_refused(classifier):
    long = "a b c " * 100
    assert torch.equal(classifier.logits([long]), classifier.logits([long], max_length=10_000))


def test_max_length_cuts_earlier(classifier):
    torch.testing.assert_close(classifier.logits(["a b c d e"], max_length=5), classifier.logits(["a b c"]))


def test_as_many_tokens_of_a_text_are_read_as_in_training(classifier):
    trained = TextClassifier(classifier.model, Tokenizer(VOCAB, model_max_length=5), device="cpu")
    torch.testing.assert_close(trained.logits(["a b c d e"]), classifier.logits(["a b c"]))


def test_a_max_length_without_room_is_refused(classifier):
    with pytest.raises(ValueError, match="max_length 0 is too small"):
        classifier.logits(["a"], max_length=0)


@pytest.mark.parametrize("tokens", [0, -3])
def test_a_token_budget_below_one_is_refused(classifier, tokens):
    with pytest.raises(ValueError, match=f"tokens_per_batch is {tokens}; it must be at least 1"):
        classifier.logits(["a"], tokens_per_batch=tokens)


def test_predict_gives_the_likeliest_label_and_its_probability(classifier):
    rows = texts(9)
    logits = classifier.logits(rows)
    answers = classifier.predict(rows)
    assert len({label for label, _ in answers}) > 1, "one label alone would prove nothing"
    for row, (label, probability) in zip(logits.tolist(), answers, strict=True):
        assert label == LABELS[row.index(max(row))]
        assert probability == pytest.approx(math.exp(max(row)) / sum(map(math.exp, row)), abs=1e-6)


def test_labels_are_named_in_the_order_of_the_logits(classifier):
    assert classifier.labels == ["negative", "neutral", "positive"]


def test_classify_leaves_the_rows_where_they_were(classifier):
    encoding = classifier.tokenizer(["a", "a b c", "房 间"], padding="none")
    logits = classify(classifier.model, encoding, tokens_per_batch=20)
    assert_near(logits[1:2], classifier.logits(["a b c"]))


def test_a_vocabulary_smaller_than_the_embedding_is_fine(tmp_path):
    saved(tmp_path, BertForSequenceClassification, vocab_size=len(VOCAB) + 5)
    assert TextClassifier.from_pretrained(tmp_path).tokenizer.vocab == VOCAB


def test_a_vocabulary_larger_than_the_embedding_is_refused_in_one_line(tmp_path):
    size = len(VOCAB) - 1
    saved(tmp_path, BertForSequenceClassification, vocab_size=size)
    with pytest.raises(ValueError, match=f"vocabulary has {len(VOCAB)} tokens, the config says vocab_size {size}") as e:
        TextClassifier.from_pretrained(tmp_path)
    assert str(e.value).startswith(str(tmp_path))
    assert "\n" not in str(e.value)


def test_a_device_that_is_not_here_is_refused_in_one_line():
    for name in ("cuda:99", "tpu9"):
        with pytest.raises(ValueError, match=r"cannot be used here .*; choose cpu") as caught:
            pick_device(name)
        assert "\n" not in str(caught.value)


# ---- embedding ----


def test_mean_pooling_is_that_of_sentence_transformers(minilm):
    """all-MiniLM-L6-v2: its mean over real tokens, taken by hand from transformers' model; without normalisation. More
    poolings: test_text_encoder.py."""
    rows = ["A man is eating food.", "白日依山尽", "", "The cat sat on the mat, " * 10]
    batch = transformers.AutoTokenizer.from_pretrained(minilm)(rows, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = transformers.BertModel.from_pretrained(minilm).eval()(**batch).last_hidden_state
    expected = torch.stack([h[m.bool()].mean(dim=0) for h, m in zip(hidden, batch["attention_mask"], strict=True)])
    embedded = TextEncoder.from_pretrained(minilm, device="cpu").embed(rows, None, 60, normalize=False)
    assert_near(embedded, expected)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> TextEncoder:
    return TextEncoder.from_pretrained(saved(tmp_path_factory.mktemp("encoder"), BertModel), device="cpu")


def test_cls_pooling_is_the_first_vector(encoder):
    ids = torch.from_numpy(encoder.tokenizer("a b 房").input_ids)
    with torch.no_grad():
        hidden = encoder.model(ids).last_hidden_state
    vectors = encoder.embed(["a b 房", "c"], pooling="cls")
    assert_near(vectors[0], hidden[0, 0])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_embeddings_come_in_the_order_of_the_texts_whatever_the_batches(encoder, pooling):
    rows = texts(15)
    alone = torch.cat([encoder.embed([text], pooling) for text in rows])
    for tokens in (1, 40, 5000):
        assert_near(encoder.embed(rows, pooling, tokens), alone)


def test_no_texts_give_no_embeddings(encoder):
    assert encoder.embed([]).shape == (0, encoder.config.hidden_size)


def test_embeddings_of_generators_are_float32_without_gradients(encoder):
    vectors = encoder.embed(text for text in ["a", "b c"])
    assert (vectors.shape[0], vectors.dtype, vectors.requires_grad) == (2, torch.float32, False)


def test_unknown_pooling_says_which_are_known(encoder):
    with pytest.raises(ValueError, match="choose cls, mean, max, mean-sqrt, weighted-mean, last"):
        encoder.embed(["a"], pooling="median")


def test_a_classifier_without_a_trained_head_gives_no_answers(minilm):
    with pytest.raises(ValueError, match=r"lacks a classification head, so it has no answers yet; train it first"):
        TextClassifier.from_pretrained(minilm)
