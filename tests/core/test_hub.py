"""A model's name becomes a directory, or one line that says what to do; no network is used: pytest
tests/core/test_hub.py
"""

import time

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from minibert.core import hub
from minibert.io.bundled import resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REFUSED = "http://127.0.0.1:9"  # the discard port: nobody answers there, so the connection is refused at once


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """The hub's cache is empty and its server does not answer."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "ENDPOINT", REFUSED)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", REFUSED)
    return cache


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def fill(cache, name="tester/small", files=("config.json", "vocab.txt", "model.safetensors")):
    """The cache as an earlier download left it."""
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    for file in files:
        (snapshot / file).write_text("{}", encoding="utf-8")
    return snapshot


def refusal(name) -> str:
    """The one line that resolve gives."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the callers check the text)
        resolve(name)
    text = str(caught.value)
    assert "\n" not in text
    assert repr(str(name)) in text
    return text


def downloads(monkeypatch, error=None, directory=None):
    """Replaces the download; returns the list of its calls."""
    calls = []

    def fake(name, **options):
        calls.append((name, options["allow_patterns"]))
        if error is not None:
            raise error
        return str(directory)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    return calls


# ---- directories ----


def test_a_directory_is_itself(tmp_path, monkeypatch):
    calls = downloads(monkeypatch)
    assert resolve(tmp_path) == tmp_path
    assert resolve(str(tmp_path)) == tmp_path
    assert calls == []


def test_a_relative_directory_is_itself(tmp_path, monkeypatch):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("runs/one").samefile(tmp_path / "runs" / "one")


@pytest.mark.parametrize("name", ["/no/such/directory", "./missing", "../missing", "~/missing", "a/b/c", "a\\b"])
def test_a_path_that_does_not_exist_is_named_and_not_looked_for_on_the_hub(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    calls = downloads(monkeypatch)
    assert "no such directory" in refusal(name)
    assert calls == []


def test_a_path_object_is_never_a_hub_name(tmp_path, monkeypatch):
    calls = downloads(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert "no such directory" in refusal(type(tmp_path)("runs/one"))
    assert calls == []


def test_a_file_is_refused_with_the_advice_to_give_its_directory(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "is a file" in refusal(tmp_path / "model.safetensors")
    assert "directory" in refusal(str(tmp_path / "model.safetensors"))


def test_an_empty_name_is_not_the_current_directory():
    assert "give a model directory" in refusal("")


@pytest.mark.parametrize("name", ["a\nb", "a b", "a--b", "-a", "名前", "a\0b", "x" * 5000, "a/", "tester/", "nul\0/x"])
def test_what_is_neither_path_nor_hub_name_is_refused(name):
    assert "hub name such as" in refusal(name)


# ---- the hub ----


def test_a_hub_name_is_downloaded(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"")
    calls = downloads(monkeypatch, directory=tmp_path)
    assert resolve("tester/small") == tmp_path
    assert [name for name, _ in calls] == ["tester/small"]


def test_old_weights_are_fetched_only_where_there_are_no_safetensors(tmp_path, monkeypatch):
    calls = downloads(monkeypatch, directory=tmp_path)
    resolve("tester/small")
    assert calls == [("tester/small", hub.PATTERNS), ("tester/small", hub.OLD_PATTERNS)]


@pytest.mark.parametrize("index", ["model.safetensors.index.json", "model-00001-of-00002.safetensors"])
def test_shards_count_as_safetensors(tmp_path, monkeypatch, index):
    (tmp_path / index).write_bytes(b"")
    calls = downloads(monkeypatch, directory=tmp_path)
    resolve("tester/small")
    assert len(calls) == 1


def test_everything_that_minibert_reads_is_fetched_and_nothing_else():
    repository = {
        *("config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
        *("model.safetensors", "model.safetensors.index.json", "model-00001-of-00002.safetensors"),
        *("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin"),
        *("tf_model.h5", "flax_model.msgpack", "onnx/model.onnx", "README.md", "model.fp16.safetensors"),
        *("openvino/openvino_model.bin", "training_args.bin", "optimizer.bin", "rust_model.ot"),
    }
    fetched = set(huggingface_hub.utils.filter_repo_objects(repository, allow_patterns=hub.PATTERNS + hub.OLD_PATTERNS))
    assert fetched == {
        *("config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
        *("model.safetensors", "model.safetensors.index.json", "model-00001-of-00002.safetensors"),
        *("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin"),
    }


def says_how_to_go_on(text) -> bool:
    return all(word in text for word in ("local directory", "HF_ENDPOINT", "HF_HUB_OFFLINE"))


def test_a_server_that_does_not_answer_is_told_in_one_line_and_at_once():
    before = time.monotonic()
    assert says_how_to_go_on(refusal("tester/small"))
    assert time.monotonic() - before < 10


@pytest.mark.usefixtures("offline")
def test_offline_mode_without_the_model_in_the_cache_is_told_in_one_line():
    assert says_how_to_go_on(refusal("tester/small"))


@pytest.mark.parametrize(
    "error",
    [
        OSError("Network is unreachable\nTraceback of something"),
        ConnectionError(),
        TimeoutError("timed out"),
        LocalEntryNotFoundError("Cannot find the files"),
        HTTPError("the connection broke off in the middle of a file"),
        OSError(28, "No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_failing_download_is_told_in_one_line(monkeypatch, error):
    downloads(monkeypatch, error)
    assert says_how_to_go_on(refusal("tester/small"))


def test_an_endpoint_that_is_no_address_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", "nonsense")
    assert says_how_to_go_on(refusal("tester/small"))


def test_a_model_that_is_not_on_the_hub_is_named(monkeypatch):
    class NotFound(RepositoryNotFoundError):
        def __init__(self):
            Exception.__init__(self, "404")

    downloads(monkeypatch, NotFound())
    assert "on the hub" in refusal("tester/small")


def test_a_name_that_the_hub_library_refuses_is_named(monkeypatch):
    downloads(monkeypatch, HFValidationError("two\nlines"))
    assert "neither a directory nor a hub name" in refusal("tester/small")


# ---- the cache ----


@pytest.mark.usefixtures("offline")
def test_files_in_the_cache_are_used_offline(empty_cache):
    snapshot = fill(empty_cache)
    assert resolve("tester/small").samefile(snapshot)


def test_files_in_the_cache_are_used_when_the_server_does_not_answer(empty_cache):
    snapshot = fill(empty_cache)
    assert resolve("tester/small").samefile(snapshot)


@pytest.mark.usefixtures("offline")
def test_a_cache_with_old_weights_is_used_offline(empty_cache):
    snapshot = fill(empty_cache, files=("config.json", "pytorch_model.bin"))
    assert resolve("tester/small").samefile(snapshot)


def test_a_cache_that_another_program_filled_in_part_is_used(tmp_path, monkeypatch):
    """Newer hub libraries know what the repository holds, and call a cache without its every file incomplete."""
    (tmp_path / "model.safetensors").write_bytes(b"")
    error = LocalEntryNotFoundError("incomplete")
    error.snapshot_path = str(tmp_path)
    downloads(monkeypatch, error)
    assert resolve("tester/small") == tmp_path
