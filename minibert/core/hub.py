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

    name@revision is a branch, a tag or a commit. Raises ValueError, with what to do: there is no such directory, no
    such name, or no network.
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
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        directory = fetch(name, PATTERNS)
        return directory if any(directory.glob("model*.safetensors*")) else fetch(name, OLD_PATTERNS)
    except (HFValidationError, HTTPError, OSError) as error:
        reason = (str(error).split("\n")[0].strip() or type(error).__name__)[:200]
        raise ValueError(
            f"{name!r} is neither a directory nor a hub name such as bert-base-chinese that is found on the hub"
            f" ({reason}); check the spelling, log in where it is private, or give a local directory; without a network"
            " set HF_ENDPOINT to a mirror (such as https://hf-mirror.com), or fill the cache and set HF_HUB_OFFLINE=1"
        ) from None


def fetch(name: str, patterns: list[str]) -> Path:
    """Brings the files that match into the hub's cache, and returns their directory. name: may end in @revision.

    Without a network an incomplete one too: what it lacks may be a file that nobody needs, and who needs it names it.
    """
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        name, at, revision = name.partition("@")
        which = {"revision": revision if at else None, "allow_patterns": patterns}
        return Path(huggingface_hub.snapshot_download(name, **which, etag_timeout=5))
    except LocalEntryNotFoundError as error:
        if snapshot := getattr(error, "snapshot_path", None):  # older releases do not tell
            return Path(snapshot)
        raise
