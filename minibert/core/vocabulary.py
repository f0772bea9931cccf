"""A tokenizer's two plain files, read and written: vocab.txt, a token a line, and tokenizer_config.json, its switches.

Both are as Hugging Face's `transformers` writes them; Google's own checkpoints bring vocab.txt alone. `read_settings`
gives the arguments for Tokenizer(**settings).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .files import atomic_write, read_json, write_json
from .hub import resolve

SPECIAL_TOKENS = {  # by the names of tokenizer_config.json
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
JSON_REMEDY = "read its tokenizer.json with minibert.Tokenizer, whose save_pretrained writes vocab.txt"


def read_settings(name: str | Path) -> dict:
    """The arguments of Tokenizer, from a model directory, a hub name, or one vocab.txt.

    What a directory's tokenizer_config.json leaves open, or its absence, is as in the original BERT. No other file is
    read.

    Raises ValueError for a missing, broken or foreign file, with its name.
    """
    path = Path(name)
    if path.is_file() and path.suffix == ".json":
        raise ValueError(f"{path}: give vocab.txt or its directory; {JSON_REMEDY}")
    if path.is_file():
        return {"vocab": read_vocabulary(path)}
    directory = resolve(name)
    if not (directory / "vocab.txt").exists():
        raise ValueError(f"{directory}: no vocab.txt; is it the directory of a BERT model? If so, {JSON_REMEDY}")
    settings = {"vocab": read_vocabulary(directory / "vocab.txt")}
    config = directory / "tokenizer_config.json"
    if config.exists():
        overlay(settings, read_object(config), config)
    return settings


def write_settings(directory: Path, vocab: Sequence[str], config: Mapping[str, object]) -> None:
    """Writes vocab.txt and tokenizer_config.json, each whole or not at all; makes the directory.

    Removes another tokenizer's tokenizer.json, special_tokens_map.json and added_tokens.json, which would go first.
    """
    directory.mkdir(parents=True, exist_ok=True)
    atomic_write(directory / "vocab.txt", "".join(f"{token}\n" for token in vocab).encode())
    write_json(directory / "tokenizer_config.json", config)
    for stale in ("tokenizer.json", "special_tokens_map.json", "added_tokens.json"):
        (directory / stale).unlink(missing_ok=True)


# --- The vocabulary ---------------------------------------------------------------------------------------------------


def ids_to_list(vocab: Mapping[str, int]) -> list[str]:
    """{token: id} -> the tokens in the order of their ids, which must run from 0 without gaps."""
    tokens = sorted(vocab, key=vocab.__getitem__)
    for number, token in enumerate(tokens):
        if vocab[token] != number:
            raise ValueError(
                f"vocabulary: ids must run 0 … {len(tokens) - 1} without gaps, but {token!r} has {vocab[token]}"
            )
    return tokens


def check_tokens(tokens: Sequence[str], name: str = "vocabulary") -> None:
    """Raises ValueError where a list of tokens cannot be one: empty, a token twice, a line break inside a token."""
    if not tokens:
        raise ValueError(f"{name} is empty; it must have a line for each token")
    lines: dict[str, int] = {}
    for line, token in enumerate(tokens, start=1):
        if not isinstance(token, str) or "\n" in token or "\r" in token:
            raise ValueError(f"{name}: token {token!r} on line {line} must be a str without line breaks")
        if token in lines:
            raise ValueError(
                f"{name}: token {token!r} stands on lines {lines[token]} and {line}; a token has one id, remove one"
            )
        lines[token] = line


def read_vocabulary(path: str | Path) -> list[str]:
    """The tokens of a vocab.txt: one a line, the line's number from 0 is the id.

    Only LF and CR LF end a line: bert-base-chinese has U+2028 as a token, at which str.splitlines() would cut and so
    shift all ids behind it. A byte order mark and blank lines at the end are left out.

    Raises ValueError for a file that is missing, empty or not UTF-8, or has a token twice.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8 or copy the original again"
        ) from None
    tokens = [line.removesuffix("\r") for line in text.rstrip("\r\n").split("\n")] if text.strip() else []
    check_tokens(tokens, str(path))
    return tokens


# --- The configuration ------------------------------------------------------------------------------------------------


def read_object(path: Path) -> dict:
    """What a JSON file holds. Raises ValueError, with its name, where that is no object."""
    data = read_json(path, "copy the tokenizer's files again")
    if not isinstance(data, dict):
        raise ValueError(f"{path}: must hold a JSON object, not {type(data).__name__}")
    return data


def overlay(settings: dict, config: dict, path: Path) -> None:
    """Puts what a tokenizer_config.json or special_tokens_map.json says over settings for Tokenizer(**settings).

    Raises ValueError, with the file's name, for a value of the wrong type, and a token that is not one of BERT's kind.
    """
    names = settings.setdefault("special_tokens", {})
    names |= {name: special_token(config[name], path) for name in SPECIAL_TOKENS if config.get(name) is not None}
    numbered = config.get("added_tokens_decoder") or {}
    more = config.get("additional_special_tokens") or config.get("extra_special_tokens") or []
    if not isinstance(numbered, dict) or not isinstance(more, list):
        raise ValueError(
            f"{path}: added_tokens_decoder must be an object and additional_special_tokens a list, not "
            f"{type(numbered).__name__} and {type(more).__name__}; copy the tokenizer's files again"
        )
    entries = [(int(number), entry) for number, entry in numbered.items()] + [(None, entry) for entry in more]
    add_tokens(settings, entries, path)
    for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        if key in config:
            name = "lowercase" if key == "do_lower_case" else key
            settings[name] = switch(config[key], key, path)
    length = config.get("model_max_length")
    if isinstance(length, int) and 0 < length < 10**9:  # transformers writes 10**30 for "unknown"
        settings["model_max_length"] = length


def add_tokens(settings: dict, entries: list[tuple[int | None, object]], path: Path) -> None:
    """Makes special tokens of (id, entry), putting those new to the vocabulary at its end, as `tokenizers` does."""
    vocab, extra = settings["vocab"], settings.setdefault("extra_special_tokens", [])
    known = {token: number for number, token in enumerate(vocab)}
    for number, entry in entries:
        token = special_token(entry, path)
        if token not in known:
            known[token] = len(vocab)
            vocab.append(token)
        if number not in (None, known[token]):
            raise ValueError(f"{path}: token {token!r} has id {number}, but {known[token]} in the vocabulary")
        if token not in extra:
            extra.append(token)


def special_token(entry: object, path: Path) -> str:
    """A special token as tokenizer files write it: "[SEP]" or {"content": "[SEP]", "lstrip": false, …}."""
    if isinstance(entry, str):
        return entry
    if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
        raise ValueError(f"{path}: {entry!r} is no token; write a string, or an object with content")
    flags = [flag for flag in ("lstrip", "rstrip", "single_word", "normalized") if entry.get(flag)]
    if flags or not entry.get("special", True):
        flag = flags[0] if flags else "special: false"
        raise ValueError(f"{path}: token {entry['content']!r} has {flag}, which no token of BERT has; add it without")
    return entry["content"]


def switch(value: object, key: str, path: Path) -> bool | None:
    """`value`, which must be a bool; None too for strip_accents, which then goes with the lower case."""
    if not (isinstance(value, bool) or (value is None and key == "strip_accents")):
        raise ValueError(f"{path}: {key} is {value!r}, but must be true or false")
    return value
