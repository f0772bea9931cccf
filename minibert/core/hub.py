"""Where a model's files are: in a directory, or on the Hugging Face hub under a name."""

import os
from pathlib import Path

NAMED: dict[str, Path] = {}  # names that stand for a directory; minibert/io/bundled.py adds that of its bundled model

# What minibert reads; everything else in a repository (TensorFlow, ONNX, Flax …) stays there.
PATTERNS = ["config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
PATTERNS += ["added_tokens.json", "model.safetensors*", "model-*-of-*.safetensors"]
OLD_PATTERNS = ["pytorch_model.bin*", "pytorch_model-*-of-*.bin"]  # fetched only where there are no safetensors


def resolve(name: str | Path) -> Path:
    """The directory that holds a model's files: that of NAMED, `name` itself, or the hub's cache after a download.

    Raises ValueError, with what to do: there is no such directory, no such name, or no network.
    """
    text = str(name)
    if text in NAMED:
        return NAMED[text]
    if os.path.isdir(text):
        return Path(name)
    if os.path.exists(text):
        raise ValueError(f"{text!r} is a file; give the model directory that it lies in")
    local = isinstance(name, Path) or text.startswith((".", "/", "~")) or "\\" in text or text.count("/") > 1
    if local or not text:
        raise ValueError(f"{text!r}: no such directory; give a model directory or a hub name such as bert-base-chinese")
    return downloaded(text)


def downloaded(name: str) -> Path:
    """The directory of a hub name, in the hub's cache. Only who asks the hub waits for its library."""
    # HTTPError is the base of all errors of the hub's HTTP library (requests, httpx or httpx2, by version).
    from huggingface_hub.errors import HFValidationError, HTTPError, RepositoryNotFoundError

    try:
        directory = fetch(name, PATTERNS)
        if not any(directory.glob("model*.safetensors*")):
            directory = fetch(name, OLD_PATTERNS)
        return directory
    except (HFValidationError, RepositoryNotFoundError):
        raise ValueError(
            f"{name!r} is neither a directory nor a hub name such as bert-base-chinese, or is not public on the hub;"
            " check the spelling, or log in first where it is private"
        ) from None
    except (HTTPError, OSError) as error:
        reason = (str(error).split("\n")[0].strip() or type(error).__name__)[:200]
        raise ValueError(
            f"{name!r}: no such directory, and it cannot be fetched from the hub ({reason}); give a local directory,"
            " or set HF_ENDPOINT to a mirror (such as https://hf-mirror.com), or fill the cache once where there is a"
            " network and set HF_HUB_OFFLINE=1"
        ) from None


def fetch(name: str, patterns: list[str]) -> Path:
    """Brings the files that match into the hub's cache, and returns their directory.

    Without a network an incomplete directory is returned too: what it lacks may be a file that nobody needs (another
    program fetched it), and who needs it names it.
    """
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns, etag_timeout=5))
    except LocalEntryNotFoundError as error:
        if getattr(error, "snapshot_path", None) is None:  # older releases do not tell
            raise
        return Path(error.snapshot_path)
