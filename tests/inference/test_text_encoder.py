"""Proves that a sentence-transformers directory gives the vectors that sentence-transformers gives, or one line that
says why not, and that it loads what we save. Run: pytest tests/inference/test_text_encoder.py
"""

import importlib
import json
import random
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from conftest import assert_near
from test_inference import WORDS, saved

from minibert import cli
from minibert.core import hub
from minibert.fast.models import BertModel
from minibert.inference import jobs
from minibert.inference.options import POOLINGS
from minibert.inference.sentence_files import FLAGS, MODES, read_files
from minibert.inference.text_encoder import TextEncoder
from minibert.inference.text_models import TextClassifier
from minibert.io.bundled import resolve
from minibert.text.tokenizer import Tokenizer

pytestmark = pytest.mark.numeric

POSITIONS = 521
SETTINGS = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ],
    "1_Pooling/config.json": {"word_embedding_dimension": 15, "pooling_mode_cls_token": True},
    "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False},
    "config_sentence_transformers.json": {"__version__": {"sentence_transformers": "2.2.2"}},
}
MODULES, TRANSFORMER = SETTINGS["modules.json"], "sentence_bert_config.json"
MODEL, POOLING = "config_sentence_transformers.json", "1_Pooling/config.json"


@pytest.fixture(scope="session")
def peer():
    """sentence-transformers."""
    return pytest.importorskip("sentence_transformers", reason="install the extra: pip install -e '.[test]'")


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """A stirred BERT that knows nothing of sentences; its tokenizer tells no length."""
    directory = saved(tmp_path_factory.mktemp("bert"), BertModel, max_position_embeddings=POSITIONS)
    change(directory / "tokenizer_config.json", model_max_length=None)
    return directory


@pytest.fixture
def model(bert, tmp_path) -> Path:
    """The same with the files of SETTINGS: the first vector, normalised, of 256 tokens."""
    directory = tmp_path / "model"
    shutil.copytree(bert, directory)
    for name, value in SETTINGS.items():
        write(directory / name, value)
    return directory


@pytest.fixture
def refusal(capsys):
    """The line that `minibert embed` prints for a directory it does not take."""

    def call(directory: Path, *words: object) -> str:
        capsys.readouterr()
        assert cli.main(["embed", str(directory), "a", "--device", "cpu", *map(str, words)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err

    return call


def write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def change(path: Path, **changes: object) -> None:
    """Changes keys of a JSON object; None takes one out."""
    found = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    write(path, {key: value for key, value in found.items() if value is not None})


def into_folder(model: Path) -> Path:
    """Moves the transformer into 0_Transformer/."""
    inner = model / "0_Transformer"
    inner.mkdir()
    for path in [path for path in model.iterdir() if path.is_file() and path.name not in ("modules.json", MODEL)]:
        path.rename(inner / path.name)
    write(model / "modules.json", [MODULES[0] | {"path": inner.name}, *MODULES[1:]])
    return inner


def texts() -> list[str]:
    """Of 0 to 700 words, so that some are longer than the model goes."""
    dice = random.Random(0)
    return [" ".join(dice.choices(WORDS, k=count)) for count in (3, 700, 0, 1, 254, 255, 2, 30, 519, 520)]


def assert_equal(directory: Path, peer, rows: list[str]) -> None:
    theirs = peer.SentenceTransformer(str(directory), device="cpu").encode(rows, show_progress_bar=False)
    ours = TextEncoder.from_pretrained(directory, device="cpu").embed(rows, tokens_per_batch=600)
    assert_near(ours.numpy(), theirs)


# ---- what sentence-transformers writes ----


@pytest.mark.parametrize("normalize", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_vectors_are_those_of_sentence_transformers_for_every_pooling(peer, bert, tmp_path, pooling, normalize):
    """As the installed release of it writes its directory."""
    modules = importlib.import_module("sentence_transformers.sentence_transformer.modules")
    steps = [modules.Transformer(str(bert), max_seq_length=256), modules.Pooling(15, MODES[pooling])]
    theirs = peer.SentenceTransformer(modules=steps + [modules.Normalize()] * normalize, device="cpu")
    theirs.save(str(tmp_path / "model"), create_model_card=False)
    assert_equal(tmp_path / "model", peer, texts())


@pytest.mark.parametrize(("pooling", "normalize"), [*zip(POOLINGS, [False, True] * 3, strict=True)])
def test_sentence_transformers_loads_what_is_saved_with_equal_vectors(peer, bert, tmp_path, pooling, normalize):
    ours = TextEncoder.from_pretrained(bert, device="cpu", pooling=pooling, normalize=normalize)
    ours.tokenizer.model_max_length = 100
    ours.save_pretrained(tmp_path / "model")
    assert_equal(tmp_path / "model", peer, texts())
    again = TextEncoder.from_pretrained(tmp_path / "model", device="cpu")
    assert (again.pooling, again.normalize, again.max_length) == (pooling, normalize, 100)
    torch.testing.assert_close(again.embed(texts()), ours.embed(texts()), rtol=0, atol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_flags_of_older_releases_say_the_same(model, pooling):
    flags = {f"pooling_mode_{flag}": name == pooling for name, flag in FLAGS.items()}
    write(model / POOLING, {"word_embedding_dimension": 15, **flags})
    assert read_files(model).pooling == pooling


def test_a_pooling_without_any_mode_is_the_mean(model, peer):
    write(model / POOLING, {"word_embedding_dimension": 15, "pooling_mode_cls_token": False})
    assert read_files(model).pooling == "mean"
    assert_equal(model, peer, texts())


def test_the_transformer_may_stand_in_a_folder_of_its_own(model, peer):
    into_folder(model)
    assert_equal(model, peer, texts())


def test_lowercasing_takes_the_case_and_leaves_the_accents(bert, model, peer):
    """Of a cased vocabulary that has both "é" and "e"."""
    vocab = [*Tokenizer.from_pretrained(bert).vocab[:-1], "é"]
    Tokenizer(vocab, lowercase=False).save_pretrained(model)
    change(model / TRANSFORMER, do_lower_case=True)
    rows = ["a b É C", "a b É c", "a b e c", "A [MASK] é"]
    assert_equal(model, peer, rows)
    encoder = TextEncoder.from_pretrained(model, device="cpu")
    ids = encoder.encode(rows).input_ids
    assert ids[0].tolist() == ids[1].tolist() != ids[2].tolist()
    encoder.save_pretrained(model)
    assert_equal(model, peer, rows)


@pytest.mark.parametrize(("said", "length"), [(None, POSITIONS), (33, 33), (10**30, POSITIONS)])
def test_without_a_max_seq_length_the_tokenizer_says_it_or_else_the_model(model, peer, said, length):
    change(model / TRANSFORMER, max_seq_length=None)
    change(model / "tokenizer_config.json", model_max_length=said)
    assert TextEncoder.from_pretrained(model, device="cpu").max_length == length
    assert_equal(model, peer, texts())


def test_a_max_seq_length_goes_before_what_the_tokenizer_says(model, peer):
    change(model / "tokenizer_config.json", model_max_length=100)
    assert TextEncoder.from_pretrained(model, device="cpu").max_length == 256
    assert_equal(model, peer, texts())


def test_a_max_seq_length_beyond_the_models_positions_is_cut_to_them(model):
    change(model / TRANSFORMER, max_seq_length=10_000)
    assert TextEncoder.from_pretrained(model, device="cpu").embed(texts()).isfinite().all()


def test_its_file_may_be_named_after_another_model(model):
    (model / TRANSFORMER).rename(model / "sentence_roberta_config.json")
    assert read_files(model).max_length == 256


def test_the_default_prompt_stands_before_every_text(model, peer):
    change(model / MODEL, prompts={"q": "a b "}, default_prompt_name="q")
    assert_equal(model, peer, texts())
    encoder = TextEncoder.from_pretrained(model, device="cpu")
    assert encoder.encode(["c"]).input_ids[0].tolist() == encoder.tokenizer.encode("a b c")
    encoder.save_pretrained(model)
    assert_equal(model, peer, texts())


def test_prompts_without_a_default_change_nothing(model, peer):
    change(model / MODEL, prompts={"query": "a b "})
    assert_equal(model, peer, texts())


def test_a_cross_encoders_directory_says_nothing_of_vectors(model):
    """Release 6 writes its modules.json too."""
    write(model / "modules.json", MODULES[:1])
    change(model / MODEL, model_type="CrossEncoder", default_prompt_name="q")
    encoder = TextEncoder.from_pretrained(model, device="cpu")
    assert (encoder.pooling, encoder.normalize, encoder.prompt) == ("mean", False, "")


def test_a_directory_without_modules_gives_the_mean_as_ever(bert):
    encoder = TextEncoder.from_pretrained(bert, device="cpu")
    assert (encoder.pooling, encoder.normalize, encoder.max_length) == ("mean", False, 512)


def test_minilm_is_read_as_its_files_say(minilm):
    encoder = TextEncoder.from_pretrained(minilm, device="cpu", mapped=True)
    assert (encoder.pooling, encoder.normalize, encoder.max_length) == ("mean", True, 256)


@pytest.mark.slow
def test_real_weights_give_the_vectors_of_sentence_transformers(minilm, peer):
    dice = random.Random(1)
    words = ["the", "room", "was", "quiet", "房间", "很", "干净", "unbelievable", "café", "in,", "to!", "it's"]
    assert_equal(minilm, peer, [" ".join(dice.choices(words, k=count)) for count in (*range(1, 20), 255, 256, 700)])


# ---- options go first ----


def test_options_go_before_the_files(model, bert, capsys):
    words = ["a b", "--device", "cpu", "--json", "--pooling", "max", "--no-normalize", "--max-length", "3"]
    assert cli.main(["embed", str(model), *words]) == 0
    (row,) = json.loads(capsys.readouterr().out)["embeddings"]
    (expected,) = TextEncoder.from_pretrained(bert, device="cpu").embed(["a"], "max")
    torch.testing.assert_close(torch.tensor(row), expected, rtol=0, atol=1e-6)


def test_to_normalize_and_not_to_is_refused(model, refusal):
    assert "both given; choose one" in refusal(model, "--normalize", "--no-normalize")


def test_a_call_may_ask_for_another_pooling(model, bert):
    ours, plain = (TextEncoder.from_pretrained(directory, device="cpu") for directory in (model, bert))
    torch.testing.assert_close(ours.embed(["a b"], "last", normalize=False), plain.embed(["a b"], "last"))


# ---- what is not followed ----

DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
OTHER = {"idx": 1, "name": "1", "path": "1_My", "type": "my_module.Pooling"}


@pytest.mark.parametrize(
    ("file", "value", "said"),
    [
        ("modules.json", [*MODULES[:2], DENSE, MODULES[2]], "step 2 is Dense"),
        ("modules.json", [MODULES[0], OTHER], "step 1 is my_module.Pooling"),
        ("modules.json", [*MODULES[:2], MODULES[1]], "step 2 is Pooling"),
        ("modules.json", [MODULES[0], MODULES[2], MODULES[1]], "step 1 is Normalize"),
        ("modules.json", MODULES[:1], "has no Pooling"),
        (POOLING, {"pooling_mode": ["mean", "max"]}, "pooling_mode is mean and max"),
        (POOLING, {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "is mean and cls"),
        (POOLING, {"pooling_mode": "median"}, "pooling_mode is 'median'"),
        (POOLING, {"pooling_mode_median_tokens": True}, "pooling_mode is 'pooling_mode_median_"),
        (POOLING, {"pooling_mode": 3}, "pooling_mode is 3"),
    ],
)
def test_a_pooling_that_is_not_followed_is_named_and_the_remedy_works(model, refusal, capsys, file, value, said):
    write(model / file, value)
    line = refusal(model)
    assert line.startswith(f"minibert: {model / file}: ")
    assert said in line
    assert line.endswith("choose the pooling yourself: --pooling mean\n")
    assert cli.main(["embed", str(model), "a", "--device", "cpu", "--pooling", "mean"]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "value", "said"),
    [
        ("modules.json", {}, "not a list of steps"),
        ("modules.json", [{"type": 3, "path": ""}], "not a list of steps"),
        ("modules.json", [], "begins with nothing"),
        ("modules.json", [MODULES[0] | {"type": "sentence_transformers.models.StaticEmbedding"}], "with StaticEmb"),
        ("modules.json", [MODULES[1]], "begins with Pooling"),
        ("modules.json", [MODULES[0] | {"path": "../other"}], "leads out of the directory"),
        ("modules.json", [MODULES[0] | {"path": "/other"}], "leads out of the directory"),
        (POOLING, [], "must hold a JSON object"),
        (
            "2_Normalize/config.json",
            {"module_input_name": "token_embeddings"},
            "module_input_name is 'token_embeddings'",
        ),
        (TRANSFORMER, {"max_seq_length": "256"}, "max_seq_length is '256'"),
        (TRANSFORMER, {"max_seq_length": 1}, "max_seq_length is 1"),
        (TRANSFORMER, {"max_seq_length": True}, "max_seq_length is True"),
        (TRANSFORMER, {"do_lower_case": 1}, "do_lower_case is 1"),
        (TRANSFORMER, {"transformer_task": "fill-mask"}, "transformer_task is 'fill-mask'"),
        (TRANSFORMER, {"processing_kwargs": {"text": {"max_length": 3}}}, "processing_kwargs is {'text'"),
        (TRANSFORMER, {"modality_config": {"image": {}}}, "without text"),
        (TRANSFORMER, {"modality_config": {"text": {"method_output_name": "pooler_output"}}}, "is 'pooler_output'"),
        (MODEL, {"truncate_dim": 8}, "truncate_dim is 8"),
        (MODEL, {"model_type": "SparseEncoder"}, "model_type is 'SparseEncoder'"),
        (MODEL, {"default_prompt_name": "q"}, "default_prompt_name is 'q'"),
        (MODEL, {"default_prompt_name": "q", "prompts": {"q": 3}}, "default_prompt_name is 'q'"),
        (MODEL, {"default_prompt_name": ["q"]}, "default_prompt_name is ['q']"),
    ],
)
def test_a_setting_that_is_not_followed_costs_one_line_with_the_file_and_the_value(model, refusal, file, value, said):
    write(model / file, value)
    line = refusal(model)
    assert line.startswith(f"minibert: {model / file}: ")
    assert said in line


def test_a_prompt_that_the_pooling_leaves_out_is_refused(model, refusal):
    change(model / MODEL, prompts={"q": "a b "}, default_prompt_name="q")
    change(model / POOLING, include_prompt=False)
    assert "include_prompt is False" in refusal(model)
    assert "include_prompt is False" in refusal(model, "--pooling", "mean")


def test_a_lacking_pooling_file_is_named(model, refusal):
    (model / POOLING).unlink()
    assert str(model / POOLING) in refusal(model)


@pytest.mark.parametrize("words", [["predict", "a"], ["fill-mask", "a [MASK]"], ["explain", "a"], ["doctor"]])
def test_other_commands_find_the_model_in_its_folder(model, capsys, words):
    """What a bare encoder cannot answer is said of it, and not of the directory around it."""
    inner = into_folder(model)
    command, *text = words
    where = ["--model", str(model), *text] if command in ("fill-mask", "explain") else [str(model), *text]
    status = cli.main([command, *where])
    out, err = capsys.readouterr()
    assert "config.json: No such file" not in out + err
    assert status == (0 if command in ("explain", "doctor") else 2)
    assert status == 0 or str(inner) in err


def test_a_classifier_is_trained_from_the_model_in_its_folder(model, tmp_path):
    into_folder(model)
    (tmp_path / "rows.tsv").write_text("label\ttext\nx\ta\ny\tb\n", encoding="utf-8")
    data, out = str(tmp_path / "rows.tsv"), str(tmp_path / "out")
    words = ["--model", str(model), "--data", data, "--dev", data, "--out", out, "--epochs", "1", "--device", "cpu"]
    assert cli.main(["train", *words]) == 0
    assert TextClassifier.from_pretrained(out, device="cpu").labels == ["x", "y"]


# ---- files of any size ----


def test_a_file_of_texts_gets_the_same_vectors(model, tmp_path):
    change(model / MODEL, prompts={"q": "a b "}, default_prompt_name="q")
    (tmp_path / "rows.txt").write_text("\n".join(texts()) + "\n", encoding="utf-8")
    out = tmp_path / "out.npy"
    words = ["--data", str(tmp_path / "rows.txt"), "--out", str(out), "--device", "cpu", "--tokens-per-batch", "300"]
    assert cli.main(["embed", str(model), *words]) == 0
    ours = TextEncoder.from_pretrained(model, device="cpu").embed(texts())
    assert_near(np.load(out), ours.numpy())


def journal(monkeypatch, model: Path, tmp_path: Path, **how) -> dict[str, object]:
    """What the journal of a job says that it is."""
    said = {}

    def output(out, settings, head):
        said.update(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "Output", output)
    (tmp_path / "rows.txt").write_text("a\n", encoding="utf-8")
    data, out = str(tmp_path / "rows.txt"), str(tmp_path / "out.npy")
    with pytest.raises(KeyboardInterrupt):
        jobs.embed_file(cli.EmbedOptions(directory=str(model), text=(), data=data, out=out, device="cpu"), **how)
    return said


def test_a_journal_knows_pooling_length_and_whether_vectors_are_normalised(monkeypatch, model, tmp_path):
    names = ("pooling", "normalize", "max_length")
    said = journal(monkeypatch, model, tmp_path)
    assert [said[name] for name in names] == ["cls", True, 256]
    said = journal(monkeypatch, model, tmp_path, pooling="max", normalize=False)
    assert [said[name] for name in names] == ["max", False, 256]


@pytest.mark.parametrize("file", ["0_Transformer/model.safetensors", f"0_Transformer/{TRANSFORMER}", MODEL])
def test_a_journal_knows_the_files_of_the_model(monkeypatch, model, tmp_path, file):
    """So that a job does not go on with another model."""
    inner = into_folder(model)
    before = journal(monkeypatch, model, tmp_path)
    if file.endswith("json"):
        change(model / file, comment="another")
    else:
        TextEncoder.from_pretrained(model, device="cpu").model.to(torch.bfloat16).float().save_pretrained(inner)
    assert journal(monkeypatch, model, tmp_path) != before


# ---- the hub ----


def test_what_sentence_transformers_adds_to_a_model_is_fetched_from_the_hub():
    wanted = {
        *(
            "modules.json",
            "config_sentence_transformers.json",
            "sentence_bert_config.json",
            "sentence_roberta_config.json",
        ),
        *("1_Pooling/config.json", "2_Normalize/config.json", "0_Transformer/config.json", "0_Transformer/vocab.txt"),
        *("0_Transformer/sentence_bert_config.json", "0_Transformer/model.safetensors"),
        "0_Transformer/pytorch_model.bin",
    }
    others = {"2_Dense/model.safetensors", "onnx/model.onnx", "README.md", "train_script.py", "data_config.json"}
    patterns = hub.PATTERNS + hub.OLD_PATTERNS
    fetched = set(huggingface_hub.utils.filter_repo_objects(wanted | others, allow_patterns=patterns))
    assert fetched == wanted


def test_every_command_that_fetches_a_model_fetches_those_files(monkeypatch, tmp_path):
    """A cache that `minibert train` has filled serves `minibert embed` offline."""
    asked = []
    (tmp_path / "model.safetensors").touch()
    download = lambda name, allow_patterns, **_: asked.extend(allow_patterns) or str(tmp_path)  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    resolve("tester/small")
    assert "modules.json" in asked
