"""Proves that a model asked to answer in bfloat16 does, that its answers are float32's but for rounding, and that what
cannot be has one line. benchmarks/encoder.py measures fine-tuned models. Run: pytest tests/inference/test_precision.py
"""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from test_inference import saved, texts

from minibert import cli
from minibert.fast import products
from minibert.fast.models import BertForSequenceClassification, BertModel
from minibert.inference.text_encoder import TextEncoder, sentence_vectors
from minibert.inference.text_models import TextClassifier, pick_dtype
from minibert.text.tokenizer import Tokenizer

pytestmark = pytest.mark.numeric

CPU = torch.device("cpu")
on_a_cpu_with_bf16 = pytest.mark.usefixtures("bf16")


@pytest.fixture
def bf16(monkeypatch):
    """Where a CPU has no bfloat16 PyTorch computes it all the same, slowly."""
    monkeypatch.setattr(products, "BF16", True)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("precision"), BertForSequenceClassification)


@on_a_cpu_with_bf16
@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_a_classifier_in_bfloat16_gives_nearly_the_same_probabilities(directory, precision, monkeypatch):
    monkeypatch.setattr(products, "BF16_IN_HARDWARE", True)
    found, exact = (
        TextClassifier.from_pretrained(directory, device="cpu", precision=name) for name in (precision, "fp32")
    )
    assert {p.dtype for p in found.model.parameters()} == {torch.bfloat16}
    rows = texts(23)
    logits, wanted = found.logits(rows), exact.logits(rows)
    assert logits.dtype is torch.float32
    assert not torch.equal(logits, wanted)
    assert (logits.softmax(1) - wanted.softmax(1)).abs().max() < 0.05


@on_a_cpu_with_bf16
def test_vectors_in_bfloat16_point_the_same_way(tmp_path):
    directory = saved(tmp_path / "encoder", BertModel)
    found, wanted = (
        TextEncoder.from_pretrained(directory, device="cpu", precision=name).embed(texts(23))
        for name in ("bf16", "fp32")
    )
    assert found.dtype is torch.float32
    assert F.cosine_similarity(found, wanted).min() > 0.999


@on_a_cpu_with_bf16
@pytest.mark.parametrize("pooling", ["mean", "mean-sqrt"])
def test_long_rows_are_summed_in_float32(pooling):
    """In bfloat16 a sum of some hundred numbers stops growing."""
    hidden = torch.full((512, 3), 0.7).bfloat16()
    model = SimpleNamespace(config=SimpleNamespace(hidden_size=3, intermediate_size=8))
    encoding = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])(["a " * 510], padding="none")
    answers = torch.nn.Module()
    answers.weight, answers.config = torch.nn.Parameter(torch.zeros(1)), model.config
    answers.forward = lambda *given: SimpleNamespace(last_hidden_state=hidden)
    (found,) = sentence_vectors(answers, encoding, pooling)
    true = hidden.double().sum(0) / (512 if pooling == "mean" else 512**0.5)
    torch.testing.assert_close(found.double(), true, rtol=1e-5, atol=0)


def test_what_auto_takes_depends_on_the_instructions_alone(monkeypatch):
    for native, wanted in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(products, "BF16_IN_HARDWARE", native)
        assert pick_dtype("auto", CPU) is wanted
        assert pick_dtype("fp32", CPU) is torch.float32


@pytest.mark.parametrize("command", ["predict", "embed", "evaluate"])
def test_bfloat16_where_there_is_none_and_other_words_are_refused_in_a_line(
    directory, tmp_path, command, monkeypatch, capsys
):
    monkeypatch.setattr(products, "BF16", False)
    (tmp_path / "rows.tsv").write_text("label\ttext\nnegative\ta b\n", encoding="utf-8")
    given = ["--data", str(tmp_path / "rows.tsv")] if command == "evaluate" else ["a b"]
    for precision, words in (
        ("bf16", "minibert: precision bf16: on this cpu PyTorch has no fast bfloat16; choose fp32\n"),
        ("fp16", "precision 'fp16' is unknown; choose fp32, bf16, auto\n"),
    ):
        assert cli.main([command, str(directory), *given, "--device", "cpu", "--precision", precision]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.endswith(words)
        assert err.count("\n") == 1


@on_a_cpu_with_bf16
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_command_answers_in_the_precision_that_is_asked(directory, tmp_path, command, capsys):
    (tmp_path / "rows.tsv").write_text("label\ttext\n" + "negative\ta b\npositive\tb c a\n" * 5, encoding="utf-8")
    given = ["--data", str(tmp_path / "rows.tsv")] if command == "evaluate" else ["a b", "b c a"]
    found = {}
    for precision in ("fp32", "bf16"):
        words = [command, str(directory), *given, "--device", "cpu", "--precision", precision, "--json"]
        assert cli.main(words) == 0
        found[precision] = json.loads(capsys.readouterr().out)
    assert found["fp32"] != found["bf16"]


@on_a_cpu_with_bf16
@pytest.mark.parametrize(("command", "name"), [("predict", "out.tsv"), ("embed", "out.npy")])
def test_a_job_begun_in_one_precision_does_not_go_on_in_another(directory, tmp_path, command, name, capsys):
    data, out = tmp_path / "rows.tsv", tmp_path / name
    data.write_text("id\ttext\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate(texts(60))), encoding="utf-8")
    whole = data.read_bytes()
    data.write_bytes(whole.replace(b"\n50\t", b"\n"))
    words = [command, str(directory), "--data", str(data), "--out", str(out), "--device", "cpu"]
    words += ["--tokens-per-batch", "20"]
    assert cli.main([*words, "--precision", "bf16"]) == 2
    data.write_bytes(whole)
    assert cli.main(words) == 2
    assert "begun with another precision; take the same, or delete" in capsys.readouterr().err
    assert cli.main([*words, "--precision", "bf16"]) == 0
