"""Proves that the page of `minibert explain` shows what capture sees, and that no text breaks or scripts it.

Run: pytest tests/look/test_explain.py; the page in a browser: tests/look/test_explain_page.py
"""

import base64
import json
import math
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import MODELS, small_config, stir
from numpy.typing import NDArray

from minibert import cli
from minibert.io.bundled import BUNDLED
from minibert.io.locks import held
from minibert.look import page
from minibert.look.activations import capture, intervene
from minibert.look.analysis import gradient_times_heads
from minibert.look.explanation import (
    ExplainOptions,
    Explanation,
    Guess,
    Prediction,
    explain,
    explained,
    in_words,
    next_page,
    write_page,
)
from minibert.look.wordpiece_trace import Attempt, trace
from minibert.text.tokenizer import Tokenizer

WORDS = [
    "the",
    "cat",
    "un",
    "##aff",
    "##able",
    "##a",
    "##b",
    "a",
    "e",
    "nee",
    ",",
    "<",
    ">",
    "script",
    "白",
    "日",
    "=",
    "'",
]
TOKENIZER = Tokenizer(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *(f"[unused{i}]" for i in range(101 - 5 - len(WORDS)))]
)
NASTY = [
    "</script><script>alert(1)</script></script x='",
    "<!-- <img src=x onerror=alert(1)> \"'&amp; -->",
    "{{SCRIPT}} {{DATA}} \\u003c \u2028 \u2029",
    "\u202eשלום العربية 👩‍👩‍👧 e\u0301\u0301 \ufeff \x00\x07 \uffff",
]


def explanation(kind: str = "BertForSequenceClassification", text: str = "the unaffable cat", **call) -> Explanation:
    torch.manual_seed(0)
    return explain(stir(MODELS[kind](small_config(), "sdpa")), TOKENIZER, text, **call)


def read_back(html: str) -> tuple[dict, dict[str, NDArray]]:
    """What the page's script will see: the facts, and the arrays as the script decodes them."""
    facts = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])
    arrays = {}
    for name, entry in facts["arrays"].items():
        data, shape = zlib.decompress(base64.b64decode(entry["data"])), entry["shape"]
        coding = entry["coding"]
        if coding == "i1":
            rows = int(np.prod(shape[:-1]))
            largest = np.frombuffer(data, "<f4", rows).reshape(*shape[:-1], 1)
            arrays[name] = np.frombuffer(data, "i1", offset=4 * rows).reshape(shape) / 127 * largest
        else:
            x = np.frombuffer(data, f"<{coding}").reshape(shape)
            arrays[name] = x if coding == "f4" else (x / np.iinfo(coding).max) ** 2
    return facts, arrays


# ---- why these pieces ----


def test_a_word_is_explained_by_its_steps_and_by_what_was_tried():
    (stretch,) = trace(TOKENIZER, "UNaffáb")
    assert stretch.steps == [
        ("clean", "UNaffáb"),
        ("isolate_chinese", "UNaffáb"),
        ("decompose", "UNaffa\u0301b"),
        ("drop_accents", "UNaffab"),
        ("lower", "unaffab"),
    ]
    first, second, third, fourth = stretch.pieces
    assert first.attempts == [*(Attempt("unaffab"[:end], False) for end in (7, 6, 5, 4, 3)), Attempt("un", True)]
    assert [a.token for a in second.attempts] == ["##affab", "##affa", "##aff"]
    assert (third.token, third.start, third.end) == ("##a", 5, 6)
    assert fourth.attempts == [Attempt("##b", True)]


def test_an_unknown_word_shows_all_that_was_tried():
    (stretch,) = trace(TOKENIZER, "unx")
    (piece,) = stretch.pieces
    assert piece.token == "[UNK]"
    assert piece.attempts == [Attempt("unx", False), Attempt("un", True), Attempt("##x", False)]


def test_of_many_attempts_the_first_and_the_last_are_kept():
    (stretch,) = trace(TOKENIZER, "a" + "c" * 60)
    (piece,) = stretch.pieces
    assert len(piece.attempts) == 24
    assert piece.attempts[0].token == "a" + "c" * 60
    assert (piece.attempts[-1].token, piece.left_out) == ("##c", 61 + 60 - 24)


def test_a_word_too_long_is_not_tried_and_what_is_removed_leaves_no_piece():
    (word,) = trace(TOKENIZER, "a" * 101)
    assert [(piece.token, piece.attempts) for piece in word.pieces] == [("[UNK]", [])]
    (gone,) = trace(TOKENIZER, "\x00")
    assert (gone.pieces, gone.steps[0]) == ([], ("clean", ""))


@pytest.mark.parametrize("text", ["the [MASK], 白日 cat", *NASTY, "각한 \u1fef ΑΣ", ""])
def test_the_traced_pieces_are_those_of_the_tokenizer(text):
    pieces = [piece for stretch in trace(TOKENIZER, text) for piece in stretch.pieces]
    row = TOKENIZER([text], return_offsets=True)
    assert [piece.id for piece in pieces] == row.input_ids[0, 1:-1].tolist()
    assert [[piece.start, piece.end] for piece in pieces] == row.offsets[0, 1:-1].tolist()


def test_every_token_knows_its_piece_in_pairs_and_where_the_text_is_cut():
    found = explanation(text="the cat the cat", pair="un unaff unaffa", max_length=9)
    assert found.tokens == ["[CLS]", "the", "cat", "the", "[SEP]", "un", "un", "##aff", "[SEP]"]
    assert found.sources == [None, (0, 0, 0), (0, 1, 0), (0, 2, 0), None, (1, 0, 0), (1, 1, 0), (1, 1, 1), None]
    assert found.left_out == 1 + 3


def test_of_a_text_far_too_long_only_what_is_read_is_on_the_page():
    found = explanation(text="the cat, " * 10_000, max_length=7)
    assert found.tokens == ["[CLS]", "the", "cat", ",", "the", "cat", "[SEP]"]
    assert found.left_out == 30_000 - 5
    assert read_back(found.to_html())[0]["texts"] == ["the cat, the cat"]


# ---- the numbers ----


@pytest.mark.numeric
@pytest.mark.parametrize("name", list(MODELS))
def test_the_numbers_are_those_of_capture(name):
    found = explanation(name, "the [MASK] cat", pair="白日")
    model, row = stir(MODELS[name](small_config(), "eager")), TOKENIZER(["the [MASK] cat"], ["白日"])
    with torch.no_grad(), capture(model, "*") as seen:
        model(*(torch.from_numpy(x) for x in (row.input_ids, row.attention_mask, row.token_type_ids)))
    assert {"embeddings.sum", "layers.1.attention.scores", "layers.0.ffn.act"} <= found.tensors.keys()
    for key, x in found.tensors.items():
        np.testing.assert_allclose(x, seen[key] if key == "embeddings.position" else seen[key][0], rtol=0, atol=1e-5)
    assert found.names == seen.names()


@pytest.mark.numeric
def test_the_stream_begins_at_itself_and_its_lengths_are_those_of_the_vectors():
    found = explanation()
    first, last = found.tensors["embeddings.output"], found.tensors["layers.1.output"]
    assert found.norm.shape == found.cosine.shape == (3, 7)
    np.testing.assert_allclose(found.cosine[0], np.ones(7), rtol=1e-5)
    np.testing.assert_allclose(found.norm[2], np.linalg.norm(last, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(found.cosine[2], (last * first).sum(axis=-1) / found.norm[2] / found.norm[0], rtol=1e-4)


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForPreTraining"])
def test_the_answer_of_a_masked_lm_is_at_its_first_mask_and_the_lens_ends_there(name):
    found = explanation(name, "the [MASK] cat [MASK]")
    assert (found.answer.kind, found.answer.position) == ("token", 2)
    last = [found.lens.names[k] for k in found.lens.best[-1, 2]]
    assert last == [guess.name for guess in found.answer.guesses]
    np.testing.assert_allclose(
        found.lens.probabilities[-1, 2], [g.probability for g in found.answer.guesses], rtol=1e-4
    )
    assert abs(found.contributions.tokens_ablated[2]) < 1e-5  # [MASK] stands there already


def test_the_answer_of_a_classifier_is_its_best_label():
    found = explanation()
    model = stir(MODELS["BertForSequenceClassification"](small_config()))
    with torch.no_grad():
        logits = model(torch.from_numpy(TOKENIZER(["the unaffable cat"]).input_ids))[0]
    assert found.answer.guesses[0].name == f"c{logits.argmax()}"
    assert sum(guess.probability for guess in found.answer.guesses) == pytest.approx(1, abs=1e-5)
    assert found.lens.probabilities.shape == (3, 7)


@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM"])
def test_without_an_answer_heads_and_tokens_are_measured_by_the_texts_vector(name):
    found = explanation(name)
    assert found.answer[:3] == ("vector", [], None)
    assert found.contributions.heads_gradient is None
    assert (found.contributions.heads_ablated > 0).all()
    assert (found.contributions.tokens_ablated > 0).all()


@pytest.mark.numeric
def test_contributions_are_of_the_answers_logit_above_the_mean():
    found = explanation()
    model = stir(MODELS["BertForSequenceClassification"](small_config()))
    ids, best = torch.from_numpy(TOKENIZER(["the unaffable cat"]).input_ids), int(found.answer.guesses[0].name[1:])

    def score() -> float:
        with torch.no_grad():
            logits = model(ids)[0]
        return (logits[best] - logits.mean()).item()

    whole = score()
    with intervene(model, {"layers.1.heads.2": 0}):
        assert found.contributions.heads_ablated[1, 2] == pytest.approx(whole - score(), abs=1e-5)
    ids[0, 3] = TOKENIZER.mask_id
    assert found.contributions.tokens_ablated[3] == pytest.approx(whole - score(), abs=1e-5)


def test_a_heads_gradient_is_the_slope_when_it_fades():
    model = stir(MODELS["BertForSequenceClassification"](small_config())).double()
    inputs = {"input_ids": torch.tensor([[2, 7, 8, 9, 3]])}
    found = gradient_times_heads(model, inputs, lambda logits: logits[:, 3])

    def faded(by: float) -> float:
        with torch.no_grad(), intervene(model, {"layers.0.heads.1": lambda x: x * (1 - by)}):
            return model(**inputs)[0, 3].item()

    assert found.shape == (2, 3, 1)
    assert found[0, 1, 0].item() == pytest.approx((faded(-1e-6) - faded(1e-6)) / 2e-6, rel=1e-5)


def test_what_would_take_minutes_is_left_out(monkeypatch):
    monkeypatch.setattr("minibert.look.explanation.MOST_MULTIPLICATIONS", 10_000)
    found = explanation().contributions
    assert found.heads_ablated is None
    assert found.tokens_ablated is None
    assert found.heads_gradient is not None


def test_the_model_is_left_as_it_was():
    model = stir(MODELS["BertModel"](small_config())).train()
    explain(model, TOKENIZER, "the cat")
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_numbers_that_are_not_finite_are_refused():
    model = stir(MODELS["BertModel"](small_config()))
    model.layers[1].ffn.output.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"layers\.1\.ffn\.output is not finite; minibert doctor"):
        explain(model, TOKENIZER, "the cat")


# ---- heads of several labels, or of one score ----


def head(labels: int, problem_type: str | None = None, target: str | None = None) -> Explanation:
    config = small_config(id2label={i: f"c{i}" for i in range(labels)}, problem_type=problem_type)
    model = stir(MODELS["BertForSequenceClassification"](config))
    return explain(model, TOKENIZER, "the unaffable cat", target=target)


def logits_of(labels: int) -> list[float]:
    model = stir(MODELS["BertForSequenceClassification"](small_config(id2label={i: f"c{i}" for i in range(labels)})))
    with torch.no_grad():
        return model(torch.from_numpy(TOKENIZER(["the unaffable cat"]).input_ids))[0].tolist()


def test_several_labels_have_a_probability_each_and_are_not_shares():
    found = head(7, "multi_label_classification")
    wanted = {f"c{i}": 1 / (1 + np.exp(-x)) for i, x in enumerate(logits_of(7))}
    assert {guess.name: guess.probability for guess in found.answer.guesses} == pytest.approx(wanted, abs=1e-5)
    assert (found.answer.activation, found.answer.target) == ("sigmoid", found.answer.guesses[0].name)
    last = dict(zip((found.lens.names[k] for k in found.lens.best[-1]), found.lens.probabilities[-1], strict=True))
    assert last == pytest.approx(wanted, abs=1e-5)


def test_one_score_is_not_a_softmax_of_itself():
    (guess,) = head(1).answer.guesses
    assert guess.probability == pytest.approx(1 / (1 + np.exp(-logits_of(1)[0])), abs=1e-5)


def test_a_regression_has_its_score_and_no_probability():
    found = head(1, "regression")
    (guess,) = found.answer.guesses
    assert (guess.logit, guess.probability) == (pytest.approx(logits_of(1)[0], abs=1e-5), None)
    assert found.lens.probabilities[-1, 0] == pytest.approx(guess.logit, abs=1e-5)
    assert in_words(found.answer) == f"c0 {guess.logit:.4f}  "


@pytest.mark.numeric
@pytest.mark.parametrize(("labels", "problem"), [(1, None), (1, "regression"), (7, "multi_label_classification")])
def test_contributions_to_a_label_by_itself_are_of_its_logit(labels, problem):
    found = head(labels, problem, target="c0")
    model = stir(MODELS["BertForSequenceClassification"](small_config(id2label={i: f"c{i}" for i in range(labels)})))
    ids = torch.from_numpy(TOKENIZER(["the unaffable cat"]).input_ids)
    with torch.no_grad(), intervene(model, {"layers.1.heads.2": 0}):
        lost = logits_of(labels)[0] - model(ids)[0, 0].item()
    assert found.contributions.heads_ablated[1, 2] == pytest.approx(lost, abs=1e-5)


def test_a_target_is_measured_and_said_in_the_place_of_the_best_label():
    best, other = head(7), head(7, target="c5")
    assert best.answer.target != other.answer.target == "c5"
    assert best.answer.guesses == other.answer.guesses
    assert not np.allclose(best.contributions.heads_ablated, other.contributions.heads_ablated, atol=1e-3)
    assert in_words(other.answer).startswith("c5 0.")


def test_all_labels_of_probability_one_half_and_more_are_said_or_the_best():
    def said(*probabilities: float) -> str:
        guesses = [Guess(f"c{i}", math.log(p / (1 - p)), p) for i, p in enumerate(probabilities)]
        return in_words(Prediction("label", guesses, None, "sigmoid", "c0"))

    assert said(0.9, 0.5, 0.4) == "c0 0.9000  c1 0.5000  "
    assert said(0.3, 0.2) == "c0 0.3000  "


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (
            "BertForSequenceClassification",
            r"target is 'nonsense', which is no label of the model; choose one of c0, c1",
        ),
        ("BertForMaskedLM", "target is 'nonsense', but the model has no labels; leave it out"),
    ],
)
def test_a_target_that_is_no_label_is_refused(kind, reason):
    with pytest.raises(ValueError, match=reason):
        explanation(kind, target="nonsense")


# ---- what nobody has trained ----


def theirs(name: str, directory: Path, **changes: object) -> str:
    """A checkpoint of another of transformers' classes, with its tokenizer."""
    config = transformers.BertConfig(**small_config(**changes).to_dict())
    getattr(transformers, name)(config).save_pretrained(directory)
    TOKENIZER.save_pretrained(directory)
    return str(directory)


NO_MLM = ["BertForTokenClassification", "BertForMultipleChoice", "BertForNextSentencePrediction", "BertModel"]


@pytest.mark.parametrize("name", NO_MLM)
def test_nothing_is_filled_in_by_a_head_that_nobody_has_trained(name, tmp_path, capsys):
    assert cli.main(["fill-mask", "the [MASK]", "--model", theirs(name, tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "lacks a masked-LM head" in err


def test_no_label_is_explained_of_a_head_that_is_not_for_texts(tmp_path, capsys):
    page = tmp_path / "page.html"
    model = theirs("BertForMultipleChoice", tmp_path / "model")
    words = ["explain", "the cat", "--model", model, "--out", str(page)]
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), page.exists()) == ("", 1, False)
    assert "lacks a" in err


@pytest.mark.parametrize(
    "name", ["BertForTokenClassification", "BertForQuestionAnswering", "BertForNextSentencePrediction"]
)
def test_of_a_head_that_is_not_known_the_encoder_is_explained(name, tmp_path):
    found = explained(ExplainOptions("the cat", model=theirs(name, tmp_path)))
    assert (found.answer.kind, found.architecture) == ("vector", "BertModel")


def test_a_cross_encoders_own_activation_is_explained(tmp_path):
    directory = theirs("BertForSequenceClassification", tmp_path, id2label={0: "score"})
    raw = {"activation_fn": "torch.nn.modules.linear.Identity"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(raw), encoding="utf-8")
    assert explained(ExplainOptions("the cat", model=directory)).answer.activation == "none"


# ---- the page ----


def test_the_page_holds_the_numbers():
    found = explanation()
    facts, arrays = read_back(found.to_html())
    assert facts["tokens"] == found.tokens
    assert {entry["coding"] for entry in facts["arrays"].values()} == {"f4"}  # so short a text has room
    assert set(found.tensors) < set(arrays)
    for name, x in found.tensors.items():
        np.testing.assert_array_equal(arrays[name], x)
    np.testing.assert_array_equal(arrays["layers.1.rollout"], found.rollout[1])


def test_where_room_is_short_numbers_are_rounded_and_then_left_out(monkeypatch):
    found, sizes, seen = explanation(), [], []
    for limit in (10**6, 50_000, 20_000, 5_000, 0):
        monkeypatch.setattr(page, "LIMIT", limit)
        facts, arrays = read_back(found.to_html())
        sizes.append(sum(len(entry["data"]) for entry in facts["arrays"].values()))
        seen.append({entry["coding"] for entry in facts["arrays"].values()})
        for i in range(2):
            name = f"layers.{i}.attention.probs"
            np.testing.assert_allclose(arrays[name], found.tensors[name], rtol=0, atol=0.004)
        x = found.tensors["embeddings.sum"]
        assert (np.abs(arrays["embeddings.sum"] - x) <= np.abs(x).max(axis=-1, keepdims=True) * 0.004).all()
    assert sizes == sorted(sizes, reverse=True)
    assert (seen[0], seen[1], seen[-1]) == ({"f4"}, {"f4"}, {"i1", "u1"})


def test_a_byte_is_a_share_of_the_largest_number_in_its_row():
    rows = np.array([[1e30, -2e30], [1e-3, 0], [0, 0]], np.float32)
    data = page.encoded(rows, "i1")
    assert np.frombuffer(data, "<f4", 3).tolist() == [rows[0, 1] * -1, rows[1, 0], 0]
    assert np.frombuffer(data, "i1", offset=12).tolist() == [64, -127, 127, 0, 0, 0]


@pytest.mark.parametrize("text", NASTY)
def test_no_text_breaks_or_scripts_the_page(text):
    html = explanation("BertForMaskedLM", text, pair=text, name=text).to_html()
    facts, _ = read_back(html)
    assert facts["texts"] == [text, text]
    inside = re.search(r'id="data">(.*)</script>\n<script>', html, re.DOTALL)[1]
    assert not re.search("[<>&\u2028\u2029]", inside)
    tags, policies = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list) -> None:
            tags.append(tag)
            policies.extend(value for key, value in attributes if key == "content" and "default-src" in value)
            assert not {key for key, _ in attributes} & {"src", "onload", "onerror", "href"}

    Reader().feed(html)
    assert (tags.count("script"), tags.count("img")) == (3, 0)
    script = html[html.rindex("<script>") + len("<script>") : html.rindex("</script>")]
    assert policies == [policies[0]]
    assert policies[0].startswith(f"default-src 'none'; script-src '{page.fingerprint(script)}';")


def test_lone_surrogates_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^pair: lone surrogate U\+D83D at character 4, which is no character;"):
        explanation(text="the cat", pair="the \ud83d cat")


def test_the_page_asks_for_nothing_from_elsewhere():
    outside = re.findall(r"https?://[^\s\"']+", "".join(page.asset(f"page.{kind}") for kind in ("html", "js", "css")))
    assert set(outside) <= {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "innerHTML" not in page.asset("page.js")


def test_both_languages_say_everything_and_nothing_else():
    words, script = json.loads(page.asset("words.json")), page.asset("page.js")
    for key, texts in words.items():
        assert texts.keys() == {"en", "zh"}, key
        assert re.findall(r"\{\w+\}", texts["en"]) == re.findall(r"\{\w+\}", texts["zh"]), key
        assert key in ("language", "attention.roll", "answer.logit") or re.search("[\u4e00-\u9fff]", texts["zh"]), key
    families = [f"{name}." for name in re.findall(r"t\(`(?:\$\{id\}|(\w+))\.\$?", script) if name]
    families += [".title", ".lead"]
    unused = [
        key
        for key in words
        if f'"{key}"' not in script and not key.startswith(tuple(families)) and not key.endswith((".title", ".lead"))
    ]
    assert unused == []
    asked = set(re.findall(r'\bt\(\s*"([\w.]+)"', script)) | set(re.findall(r'[?:] "([a-z]+\.[a-z.]+)"', script))
    assert asked <= words.keys()


def test_every_step_of_the_specification_has_its_words():
    (stretch,) = trace(TOKENIZER, "cat")
    assert {f"step.{name}" for name, _ in stretch.steps} <= json.loads(page.asset("words.json")).keys()


def test_jupyter_shows_the_page_in_a_frame_that_cannot_reach_out():
    shown = explanation()._repr_html_()
    frames = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list) -> None:
            frames.append((tag, dict(attributes)))

    Reader().feed(shown)
    ((tag, attributes),) = frames
    assert (tag, attributes["sandbox"]) == ("iframe", "allow-scripts allow-downloads")
    assert read_back(attributes["srcdoc"])[0]["texts"] == ["the unaffable cat"]


# ---- the command ----


@pytest.fixture
def saved(tmp_path):
    """A model directory: a masked LM with its tokenizer."""
    stir(MODELS["BertForMaskedLM"](small_config())).save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", list(MODELS))
def test_a_directory_is_loaded_with_the_heads_that_it_has(name, tmp_path):
    stir(MODELS[name](small_config())).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    assert explained(ExplainOptions("the cat", model=str(tmp_path))).architecture == name


def test_a_directory_is_named_on_the_page_without_the_way_to_it(saved, monkeypatch):
    assert explained(ExplainOptions("the cat", model=str(saved))).model == "model"
    monkeypatch.chdir(saved)
    assert explained(ExplainOptions("the cat", model=".")).model == "model"
    assert explained(ExplainOptions("the cat", model=BUNDLED)).model == BUNDLED


def test_the_command_writes_the_next_free_page_and_says_where(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        assert cli.main(["explain", "the [MASK]", "--model", str(saved)]) == 0
        assert capsys.readouterr().out.endswith(f"4 tokens  2 layers × 3 heads  runs/explain-{number}.html\n")
    assert read_back((tmp_path / "runs/explain-1.html").read_text(encoding="utf-8"))[0]["texts"] == ["the [MASK]"]
    assert next_page().name == "explain-3.html"


def test_json_is_one_object_and_a_page_only_where_it_is_asked_for(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", "the [MASK]", "--pair", "cat", "--model", str(saved), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    keys = "model architecture config texts tokens encoding left_out stretches sources norm cosine lens answer"
    assert [*found] == [*keys.split(), "contributions", "names", "rollout", "tensors"]
    assert np.shape(found["tensors"]["layers.1.attention.probs"]) == (3, 6, 6)
    assert np.sum(found["rollout"], axis=-1) == pytest.approx(np.ones((2, 6)), abs=1e-5)
    assert not (tmp_path / "runs").exists()


def test_a_directory_is_no_page_but_one_is_made_for_it(tmp_path):
    assert ExplainOptions("a", model="x", out=str(tmp_path / "page.html"))
    with pytest.raises(ValueError, match=r"is a directory; give the page's file name, such as .*/page\.html"):
        ExplainOptions("a", model="x", out=str(tmp_path))
    assert write_page(explanation(), str(tmp_path / "new" / "page.html")).is_file()


def test_a_page_that_another_process_writes_is_refused(tmp_path):
    with held(tmp_path / "page.html"), pytest.raises(ValueError, match=r"page\.html: another process is writing there"):
        write_page(explanation(), str(tmp_path / "page.html"))


def test_without_a_model_the_bundled_one_is_explained():
    assert ExplainOptions("a").model == BUNDLED


@pytest.mark.slow
def test_a_page_of_64_tokens_stays_below_two_megabytes(minilm):
    found = explained(ExplainOptions("the cat sat on a mat and " * 9, model=str(minilm), max_length=64))
    html = found.to_html()
    facts, arrays = read_back(html)
    assert len(facts["tokens"]) == 64
    assert len(html.encode()) <= 2_000_000
    for i in range(6):
        name = f"layers.{i}.attention.probs"
        np.testing.assert_allclose(arrays[name], found.tensors[name], rtol=0, atol=5e-4)
