"""Proves the bundled model: small, whole, made by the recorded command, read alike by transformers, and that it has
learned. Run: pytest tests/training/test_bundled_model.py
"""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import assert_near, outputs, small_config, stir

from benchmarks import bundled
from benchmarks.bundled import COMMANDS, FILES, LINES, PAPERS
from minibert import cli
from minibert.fast.models import BertForPreTraining
from minibert.io.bundled import ASSETS, BUNDLED, resolve
from minibert.io.examples import read_examples
from minibert.look.parity import ParityOptions, failures, ladder
from minibert.text.corpus import open_corpus
from minibert.text.tokenizer import Tokenizer
from minibert.training.instances import HELD_OUT, VocabTables, batch, plan
from minibert.training.options import REVIEWS
from minibert.training.pretraining import answers
from minibert.training.state import model_hashes

PLACE = ASSETS / BUNDLED
FIRST, LAST = (json.loads((PLACE / part / "run.json").read_text(encoding="utf-8")) for part in ("first", "."))
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


@pytest.mark.numeric
def test_transformers_gives_the_same_answers():
    ours = BertForPreTraining.from_pretrained(BUNDLED)
    theirs = transformers.AutoModelForPreTraining.from_pretrained(PLACE, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_pretrained(BUNDLED)
    encoding = tokenizer(["白日依山[MASK]，", "The room was [MASK]."], pairs=["黄河入海流。", "We stayed."])
    ids, mask, segments = map(torch.from_numpy, (encoding.input_ids, encoding.attention_mask, encoding.token_type_ids))
    with torch.no_grad():
        assert_near(*(outputs(model(ids, mask, segments), mask) for model in (ours, theirs)))
    assert transformers.AutoTokenizer.from_pretrained(PLACE)("床前明月光，wonderful!")["input_ids"] == tokenizer.encode(
        "床前明月光，wonderful!"
    )


def test_the_records_are_of_the_recorded_commands():
    for command, record, files in zip(COMMANDS[1:], (FIRST, LAST), (FILES, "corpus/reviews_once.txt"), strict=True):
        assert sorted(record["command"].split()) == sorted(command.split())
        assert [name for name in record["sources"] if name.startswith("corpus/")] == files.split()
    for command in COMMANDS:
        assert command in re.sub(r"\s*\\\n\s*", " ", CARD)
        cli.parse(command.split()[1:])


@pytest.mark.parametrize("record", [FIRST, LAST], ids=["first", "last"])
def test_the_card_says_what_the_records_say(record):
    figures = [
        f"{record['parameters']:,} weights",
        f"{record['steps']:,} steps",
        f"{record['tokens']:,} tokens",
        f"{record['seconds'] / 60:.0f} minutes",
    ]
    if record is FIRST:
        figures += [f"{record['result'][name]:.1%}" for name in ("word_accuracy", "unigram_word_accuracy")]
    assert [figure for figure in figures if figure not in CARD] == []


def test_the_second_run_went_on_from_the_first():
    assert LAST["sources"]["bundled/vocab.txt"] == FIRST["sources"]["vocab/vocab.txt"]
    assert (
        LAST["sources"]["bundled/run.json"] == hashlib.sha256((PLACE / "first" / "run.json").read_bytes()).hexdigest()
    )


def test_on_held_out_text_the_first_run_is_five_times_as_good_as_the_unigram_guess():
    lines = (PLACE / "first" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = [row for row in map(json.loads, lines) if "measured" in row][-1]
    assert {name: value for name, value in last.items() if name != "measured"} == FIRST["result"]
    assert last["word_accuracy"] >= 5 * last["unigram_word_accuracy"] > 0


def test_the_shipped_weights_know_more_than_which_word_is_frequent(tmp_path):
    """On reviews that it has not seen: the dev split."""
    tokenizer = Tokenizer.from_pretrained(BUNDLED)
    texts = read_examples(REVIEWS / "dev.tsv").texts
    (tmp_path / "dev.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    corpus = open_corpus([tmp_path / "dev.txt"], tokenizer, tmp_path / "cache")
    planned, tables = plan(corpus, corpus.documents, 128, True, 0, HELD_OUT), VocabTables(tokenizer)
    part = batch(corpus, planned, range(len(planned.lengths)), tables)
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
    assert names == {
        "config.json",
        "model.safetensors",
        "vocab.txt",
        "tokenizer_config.json",
        "README.md",
        "first",
        *PAPERS,
    }
    assert {path.name for path in (PLACE / "first").iterdir()} == set(PAPERS)


@pytest.mark.numeric
def test_it_equals_the_reference_and_transformers_at_every_stage():
    rungs = ladder(ParityOptions(BUNDLED, lengths="1,7,128"))
    assert failures(rungs) == []
    assert all(rung.differences.get("transformers", 0) <= rung.limit for rung in rungs), "half precision?"


def test_the_famous_lines_hide_one_place_each():
    assert len(LINES) == len(set(LINES)) == 20
    assert all(len(re.findall(r"\[.+?\]", line)) == 1 for line in LINES)


def test_of_a_run_that_went_on_from_it_the_mean_of_both_weights_is_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "ASSETS", tmp_path)
    weights = []
    for number, start in enumerate((None, BUNDLED)):
        run = tmp_path / str(number)
        model = stir(BertForPreTraining(small_config()), seed=number)
        model.save_pretrained(run)
        weights.append(model.state_dict())
        sources = model_hashes(str(tmp_path / BUNDLED)) if start else {}
        record = {"options": {"model": start}, "sources": {f"{BUNDLED}/{Path(k).name}": v for k, v in sources.items()}}
        (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
        for name in ("metrics.jsonl", "report.html", "vocab.txt", "tokenizer_config.json"):
            (run / name).write_text(str(number), encoding="utf-8")
        bundled.pack(run)
    shipped = BertForPreTraining.from_pretrained(tmp_path / BUNDLED).state_dict()
    for name, tensor in shipped.items():
        torch.testing.assert_close(tensor, (weights[0][name] + weights[1][name]) / 2, rtol=1e-3, atol=1e-3)
    assert [(tmp_path / BUNDLED / part / "metrics.jsonl").read_text() for part in ("first", ".")] == ["0", "1"]
    with pytest.raises(ValueError, match="did not begin with what is in"):
        bundled.pack(tmp_path / "1")
