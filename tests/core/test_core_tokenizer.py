"""Proves that core's Tokenizer, the specification, and minibert.Tokenizer, its fast twin, give the same for any input.

Run: pytest tests/core/test_core_tokenizer.py
"""

import itertools
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import transformers
from conftest import SHARED, needs_shared
from fuzz_tokenizer import SWITCHES, own_rows, random_string, reference, reference_rows
from hypothesis import given, settings
from hypothesis import strategies as st

import minibert
from minibert.core.encoding import PADDINGS, TRUNCATIONS, Encoding
from minibert.core.tokenizer import Tokenizer
from minibert.text import tokenizer as text
from minibert.text.tokenizer_files import read_vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "hotel", "was", "clean", "un", "sep", "don", "n't", "The", *"abtix床前。éß,.'![]"]
WORDS += ["##ed", "##clean", "##a", "##b", "##ß", "##'"]
SMALL = [*SPECIAL, *WORDS, "[E1]", "[E1][E1]"]
EXTRA = ("[E1]", "[E1][E1]")
CORE = Path(minibert.__file__).parent / "core"
SAMPLE = ["The hôtel was [MASK], un-clean!", "床前明月光。", "[SEP] a\u200bb É[E1][E1]", "ß x", "", "a b " * 40]


def twins(vocab: list[str] = SMALL, *switches: bool | None, extra: tuple[str, ...] = EXTRA) -> tuple:
    return tuple(kind(vocab, *switches, extra_special_tokens=extra) for kind in (Tokenizer, minibert.Tokenizer))


def plain(encoding: Encoding) -> dict:
    """All arrays as lists, with their types."""

    def listed(value: object) -> object:
        return [listed(row) for row in value] if isinstance(value, list) else (str(value.dtype), value.tolist())

    return {name: value if value is None else listed(value) for name, value in vars(encoding).items()}


def outcome(tok: Tokenizer, *inputs: object, **options: object) -> object:
    """What a call gives, or the error that it raises."""
    try:
        return plain(tok(*inputs, **options))
    except ValueError as error:
        return str(error)


texts = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
        st.text("aZé\u0301\u0323\u302e\u094dİΣ각 \u3000\x0b\u200b中国床.,'=", max_size=12),
        st.sampled_from(SMALL),
    ),
    max_size=8,
).map("".join)
fixed = settings(deadline=None, derandomize=True, max_examples=30)


# --- One and the same -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("few", [0, text.FEW_CHARS], ids=["fast twin", "remembered words"])
@fixed
@given(batch=st.lists(texts, max_size=4), switches=st.sampled_from(SWITCHES), split=st.booleans())
def test_any_batch_is_encoded_alike(few, batch, switches, split):
    options = {"return_offsets": True, "max_length": 12, "split_special_tokens": split}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "FEW_CHARS", few)
        ours, theirs = twins(SMALL, *switches)
        assert outcome(ours, batch, **options) == outcome(theirs, batch, **options)
        assert outcome(ours, batch, batch[::-1], **options) == outcome(theirs, batch, batch[::-1], **options)


@fixed
@given(texts, st.sampled_from(SWITCHES), st.booleans())
def test_any_text_has_the_same_tokens_and_ids(text, switches, split):
    ours, theirs = twins(SMALL, *switches)
    assert ours.tokenize(text, split) == theirs.tokenize(text, split)
    assert ours.encode(text, split) == theirs.encode(text, split)


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("pairs", [None, SAMPLE[::-1]], ids=["texts", "pairs"])
def test_every_option_does_the_same_or_is_refused_with_the_same_words(truncation, padding, pairs):
    ours, theirs = twins()
    for length, offsets, multiple in itertools.product((1, 2, 3, 7, 20, 512), (False, True), (None, 8)):
        options = dict(truncation=truncation, padding=padding, return_offsets=offsets, pad_to_multiple_of=multiple)
        found = outcome(ours, SAMPLE, pairs, length, **options)
        assert found == outcome(theirs, SAMPLE, pairs, length, **options)


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        ((["a", None],), {}),
        ((b"bytes",), {}),
        ((3,), {}),
        ((["a", "b\ud83d"],), {}),
        ((["a"] * text.FEW_CHARS + ["b\ud83d"],), {}),
        ((["a"] * text.FEW_CHARS + [None],), {}),
        ((["a"], ["b\ud83d"]), {}),
        ((["a", "b"], ["c"]), {}),
        (("a",), {"truncation": "only_second"}),
        (("a",), {"padding": "max"}),
        (("a",), {"pad_to_multiple_of": 0}),
    ],
)
def test_bad_input_is_refused_with_the_same_words(inputs, options):
    ours, theirs = (outcome(tok, *inputs, **options) for tok in twins())
    assert isinstance(ours, str)
    assert ours == theirs


def test_random_ids_are_decoded_alike():
    ours, theirs = twins()
    rng = np.random.default_rng(1)
    for row in rng.integers(0, len(SMALL), (200, 12)):
        assert ours.ids_to_tokens(row) == theirs.ids_to_tokens(row)
        assert all(ours.decode(row, skip) == theirs.decode(row, skip) for skip in (False, True))


def test_both_have_the_same_public_attributes():
    """`encode_file` and what it needs are the twin's alone, and what it knows of added tokens."""
    ours, theirs = ({name: getattr(tok, name) for name in vars(tok) if name[0] != "_"} for tok in twins())
    assert ours | {"added_tokens": [], "pieces": {token: i for i, token in enumerate(ours["vocab"])}} == theirs
    added = {name for name in set(dir(minibert.Tokenizer)) - set(dir(Tokenizer)) if name[0] != "_"}
    assert added == {"border", "encode_file", "encode_flat", "parts"}


@pytest.mark.parametrize("lowercase", [True, False])
def test_random_texts_agree_with_tokenizers(lowercase):
    rng, made = random.Random(lowercase), reference(SMALL, lowercase)
    batch = [random_string(rng, SMALL) for _ in range(500)]
    (ours, _) = twins(SMALL, lowercase, extra=())
    found = own_rows(ours(batch, truncation="none", padding="none", return_offsets=True))
    assert found == reference_rows(made, batch)


@needs_shared
@pytest.mark.parametrize(
    "name", ["cased", *(pytest.param(name, marks=pytest.mark.slow) for name in ("uncased", "chinese"))]
)
def test_a_sample_of_the_corpora_is_encoded_alike(name):
    vocab = read_vocabulary(SHARED / f"vocab/bert-base-{name}.vocab.txt")
    files = ("chnsenticorp/test.tsv", "sst5_cfimdb/sst-test.txt", "mrpc/dev.tsv")
    lines = [line for file in files for line in (SHARED / file).read_text(encoding="utf-8").split("\n")[:60]]
    ours, theirs = twins(vocab, name != "cased", extra=())
    assert plain(ours(lines, return_offsets=True)) == plain(theirs(lines, return_offsets=True))


# --- Files ------------------------------------------------------------------------------------------------------------


def test_the_bundled_directory_is_read():
    ours = Tokenizer.from_pretrained(CORE.parent / "assets" / "bundled")
    theirs = minibert.Tokenizer.from_pretrained("bundled")
    assert (ours.vocab, ours.model_max_length, ours.lowercase) == (theirs.vocab, 128, True)
    assert plain(ours(SAMPLE)) == plain(theirs(SAMPLE))


def test_a_vocabulary_alone_is_read_as_the_original_bert(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(SMALL), encoding="utf-8")
    for path in (tmp_path, tmp_path / "vocab.txt"):
        found = Tokenizer.from_pretrained(path)
        assert (found.vocab, found.lowercase, found.strip_accents) == (SMALL, True, None)


@pytest.mark.parametrize("lowercase", [True, False])
def test_what_is_saved_is_read_by_transformers_and_by_itself(tmp_path, lowercase):
    saved, _ = twins(SMALL, lowercase)
    saved.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    expected = [row.tolist() for row in saved(SAMPLE, SAMPLE, padding="none").input_ids]
    assert transformers.AutoTokenizer.from_pretrained(tmp_path)(SAMPLE, SAMPLE).input_ids == expected
    again = Tokenizer.from_pretrained(tmp_path)
    assert vars(again) == vars(saved)


def test_both_save_the_same_bytes(tmp_path):
    for number, tok in enumerate(twins(SMALL, False)):
        tok.save_pretrained(tmp_path / str(number))
    for name in ("vocab.txt", "tokenizer_config.json"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


FLAGS = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}


def configured(directory: Path, **changes: object) -> Path:
    """A directory as save_pretrained writes it, its tokenizer_config.json changed."""
    twins(extra=())[0].save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return directory


def test_special_tokens_of_the_vocabulary_that_the_configuration_numbers_are_read(tmp_path):
    numbers = {SMALL.index(token): {"content": token, **FLAGS} for token in (*SPECIAL, "[E1]")}
    directory = configured(tmp_path, added_tokens_decoder=numbers, additional_special_tokens=["[E1]", "[E1][E1]"])
    for kind in (Tokenizer, minibert.Tokenizer):
        found = kind.from_pretrained(directory)
        assert found.extra_special_tokens == ["[E1]", "[E1][E1]"]
        assert found.tokenize("a[E1]b") == ["a", "[E1]", "b"]


@pytest.mark.parametrize(
    "changes",
    [
        {"added_tokens_decoder": {str(len(SMALL)): {"content": "[NEW]", **FLAGS}}},
        {"added_tokens_decoder": {"9": {"content": "[CLS]", **FLAGS}}},
        {"added_tokens_decoder": {"4": {"content": "[MASK]", **FLAGS, "lstrip": True}}},
        {"added_tokens_decoder": {"5": {"content": "the", **FLAGS, "special": False}}},
        {"added_tokens_decoder": ["[CLS]"]},
        {"cls_token": {"content": "[CLS]", "lstrip": True}},
        {"additional_special_tokens": [{"content": "[E1]"}]},
        {"extra_special_tokens": {"image_token": "[E1]"}},
    ],
)
def test_special_tokens_that_core_does_not_do_are_refused_with_a_remedy(tmp_path, changes):
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: .* read the directory with minibert\.Tokenizer"):
        Tokenizer.from_pretrained(configured(tmp_path, **changes))


def test_words_that_an_older_transformers_added_are_refused_with_a_remedy(tmp_path):
    (configured(tmp_path) / "added_tokens.json").write_text('{"NewWord": 99}')
    with pytest.raises(ValueError, match=r"added_tokens\.json: .* read the directory with minibert\.Tokenizer"):
        Tokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "said", [{"cls_token": "[E1]"}, {"sep_token": {"content": "[E1]"}}, {"additional_special_tokens": ["[E2]"]}]
)
def test_an_older_map_of_special_tokens_that_says_more_is_refused_with_a_remedy(tmp_path, said):
    (configured(tmp_path) / "special_tokens_map.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"special_tokens_map\.json: .* read the directory with minibert\.Tokenizer"):
        Tokenizer.from_pretrained(tmp_path)


def test_an_older_map_of_special_tokens_that_says_the_same_is_read_over(tmp_path):
    said = {"cls_token": "[CLS]", "sep_token": {"content": "[SEP]"}, "additional_special_tokens": ["[E1]"]}
    (configured(tmp_path, additional_special_tokens=["[E1]"]) / "special_tokens_map.json").write_text(json.dumps(said))
    assert Tokenizer.from_pretrained(tmp_path).extra_special_tokens == ["[E1]"]


@pytest.mark.parametrize("name", [".", "tokenizer.json"])
def test_a_tokenizer_json_alone_is_refused_with_a_remedy(tmp_path, name):
    (tmp_path / "tokenizer.json").write_text(reference(SMALL, True).to_str(), encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab\.txt.* read the directory with minibert\.Tokenizer"):
        Tokenizer.from_pretrained(tmp_path / name)


# --- On its own -------------------------------------------------------------------------------------------------------


def test_copied_elsewhere_under_another_name_it_encodes_without_torch_hub_or_minibert(tmp_path):
    shutil.copytree(CORE, tmp_path / "alone", ignore=shutil.ignore_patterns("__pycache__"))
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from alone.tokenizer import Tokenizer
print(*Tokenizer({SMALL!r})("The hotel").input_ids[0])
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    ids, modules = done.stdout.splitlines()
    assert ids == " ".join(map(str, minibert.Tokenizer(SMALL).encode("The hotel")))
    assert {"torch", "huggingface_hub", "minibert", "tokenizers"}.isdisjoint(modules.split())
