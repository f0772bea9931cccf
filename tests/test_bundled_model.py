"""Proves the bundled model: small, whole, made by the recorded command, read alike by transformers, and that it has
learned. Run: pytest tests/test_bundled_model.py
"""

import json
import re

import numpy as np
import pytest
import torch
import transformers

from benchmarks.bundled import COMMANDS, FILES, LINES
from minibert import cli
from minibert.corpus import open_corpus
from minibert.data import read_examples
from minibert.hub import ASSETS, BUNDLED, resolve
from minibert.instances import HELD_OUT, Kinds, batch, plan
from minibert.model import BertForPreTraining
from minibert.parity import ParityOptions, failures, ladder
from minibert.pretrain import answers
from minibert.tokenizer import Tokenizer
from minibert.train import REVIEWS

PLACE = ASSETS / BUNDLED
RECORD = json.loads((PLACE / "run.json").read_text(encoding="utf-8"))
CARD = (PLACE / "README.md").read_text(encoding="utf-8")


def test_it_has_two_to_four_million_weights_in_eight_megabytes():
    weights = sum(p.numel() for p in BertForPreTraining.from_pretrained(BUNDLED).parameters())
    assert 2e6 <= weights <= 4e6
    assert sum((PLACE / name).stat().st_size for name in ("model.safetensors", "vocab.txt")) <= 8e6


def test_its_name_is_the_packages_and_a_directory_of_that_name_needs_a_path(tmp_path, monkeypatch):
    (tmp_path / BUNDLED).mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve(BUNDLED) == PLACE
    assert resolve(f"./{BUNDLED}").resolve() == tmp_path / BUNDLED


def test_transformers_gives_the_same_answers():
    ours = BertForPreTraining.from_pretrained(BUNDLED)
    theirs = transformers.AutoModelForPreTraining.from_pretrained(PLACE, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_pretrained(BUNDLED)
    encoding = tokenizer(["白日依山[MASK]，", "The room was [MASK]."], pairs=["黄河入海流。", "We stayed."])
    ids, mask, segments = map(torch.from_numpy, (encoding.input_ids, encoding.attention_mask, encoding.token_type_ids))
    with torch.no_grad():
        found = theirs(input_ids=ids, attention_mask=mask, token_type_ids=segments)
        tokens, follows = ours(ids, mask, segments)
    real = mask.flatten().bool()
    torch.testing.assert_close(
        tokens.view(-1, tokens.shape[-1])[real], found.prediction_logits.flatten(0, 1)[real], rtol=0, atol=1e-4
    )
    torch.testing.assert_close(follows, found.seq_relationship_logits, rtol=0, atol=1e-4)
    assert transformers.AutoTokenizer.from_pretrained(PLACE)("床前明月光，wonderful!")["input_ids"] == tokenizer.encode(
        "床前明月光，wonderful!"
    )


def test_the_record_is_of_the_recorded_command():
    written, pretraining = COMMANDS[1].split(), RECORD["command"].split()
    assert sorted(pretraining) == sorted(written)
    assert [name for name in RECORD["sources"] if name.startswith("corpus/")] == FILES.split()
    for command in COMMANDS:
        assert command in re.sub(r"\s*\\\n\s*", " ", CARD)
        cli.parse(command.split()[1:])


def test_the_card_says_what_the_record_says():
    for figure in (
        f"{RECORD['parameters']:,} weights",
        f"{RECORD['steps']:,} steps",
        f"{RECORD['tokens']:,} tokens",
        f"{RECORD['result']['word_accuracy']:.1%}",
        f"{RECORD['result']['unigram_word_accuracy']:.1%}",
        f"{RECORD['seconds'] / 60:.0f} minutes",
    ):
        assert figure in CARD


def test_on_held_out_text_it_is_five_times_as_good_as_the_unigram_guess():
    lines = (PLACE / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = [row for row in map(json.loads, lines) if "measured" in row][-1]
    assert {name: value for name, value in last.items() if name != "measured"} == RECORD["result"]
    assert last["word_accuracy"] >= 5 * last["unigram_word_accuracy"] > 0


def test_the_shipped_weights_know_more_than_which_word_is_frequent(tmp_path):
    """On reviews that it has not seen: the dev split."""
    tokenizer = Tokenizer.from_pretrained(BUNDLED)
    texts = read_examples(REVIEWS / "dev.tsv").texts
    (tmp_path / "dev.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    corpus = open_corpus([tmp_path / "dev.txt"], tokenizer, tmp_path / "cache")
    planned, kinds = plan(corpus, corpus.documents, 128, True, 0, HELD_OUT), Kinds(tokenizer)
    part = batch(corpus, planned, range(len(planned.lengths)), kinds)
    with torch.no_grad():
        tokens, _ = answers(BertForPreTraining.from_pretrained(BUNDLED), part)
    right = (tokens.argmax(dim=1) == part.labels).double().mean().item()
    guess = np.bincount(part.labels.numpy()).max() / len(part.labels)  # of the best single token, with hindsight
    assert right > 2 * guess


@pytest.mark.parametrize("words", [["fill-mask", "白日依山[MASK]，黄河入海流。"], ["encode", "白日依山尽，"]])
def test_commands_take_it_by_default(words, capsys):
    assert cli.main(words) == 0
    assert "黄" in capsys.readouterr().out or words[0] == "encode"


def test_it_is_packaged_with_what_says_where_it_comes_from():
    names = {path.name for path in PLACE.iterdir()}
    papers = {"README.md", "run.json", "metrics.jsonl", "report.html"}
    assert names == {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", *papers}


def test_it_equals_the_reference_and_transformers_at_every_stage():
    rungs = ladder(ParityOptions(BUNDLED, lengths="1,7,128"))
    assert failures(rungs) == []
    assert all(rung.differences.get("transformers", 0) <= rung.limit for rung in rungs), "half precision?"


def test_the_famous_lines_hide_one_place_each():
    assert len(LINES) == len(set(LINES)) == 20
    assert all(len(re.findall(r"\[.+?\]", line)) == 1 for line in LINES)
