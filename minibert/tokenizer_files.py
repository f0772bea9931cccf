"""What the files of a tokenizer say: its vocabulary, its switches, its special tokens.

`read_settings` gives the arguments for Tokenizer(**settings), from a directory of Hugging Face's layout or one file.
"""

import codecs
from collections.abc import Mapping, Sequence
from pathlib import Path

from minibert import wordpiece
from minibert.files import read_json
from minibert.hub import resolve

SPECIAL_TOKENS = {  # by the names of tokenizer_config.json
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}

BERT_JSON = (  # what a tokenizer.json must say to be a BERT's
    ("model", "type", "WordPiece"),
    ("model", "continuing_subword_prefix", wordpiece.CONTINUES),
    ("model", "max_input_chars_per_word", wordpiece.MAX_WORD),
    ("normalizer", "type", "BertNormalizer"),
    ("normalizer", "clean_text", True),
    ("pre_tokenizer", "type", "BertPreTokenizer"),
)


def read_settings(name: str | Path) -> dict:
    """The arguments of Tokenizer, from a model directory, a hub name, or one file: vocab.txt or tokenizer.json.

    In a directory vocab.txt gives the vocabulary, else tokenizer.json. The switches are tokenizer_config.json's;
    what it leaves open is special_tokens_map.json's, then tokenizer.json's, then as in the original BERT.
    Truncation and padding written into a tokenizer.json are not read: both are the caller's. Words that an
    added_tokens.json adds to the vocabulary are refused, as they would not be found.

    Raises ValueError for a missing, broken or foreign file, with its name.
    """
    path = Path(name)
    if path.is_file():
        return _from_json(path) if path.suffix == ".json" else {"vocab": read_vocabulary(path)}
    directory = resolve(name)
    vocab_file, json_file = directory / "vocab.txt", directory / "tokenizer.json"
    if not vocab_file.exists() and not json_file.exists():
        raise ValueError(f"{directory}: no vocab.txt and no tokenizer.json; is it the directory of a BERT model?")
    settings = _from_json(json_file) if json_file.exists() else {}
    if vocab_file.exists():
        settings["vocab"] = read_vocabulary(vocab_file)
    for file in (directory / "special_tokens_map.json", directory / "tokenizer_config.json"):
        if file.exists():
            _overlay(settings, _read_object(file), file)
    _check_added(settings["vocab"], directory / "added_tokens.json")
    return settings


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

    Raises ValueError for a file that is missing, empty, not UTF-8 or wrongly converted to it, or has a token twice.
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
    _check_not_mojibake(tokens, str(path))
    return tokens


def _check_not_mojibake(tokens: list[str], name: str) -> None:
    if (example := mojibake(tokens)) is not None:
        raise ValueError(
            f"{name}: line {tokens.index(example) + 1} is {example!r}, and many are like it: "
            f"UTF-8 was read in another encoding; copy the original file again"
        )


def mojibake(tokens: Sequence[str]) -> str | None:
    """A token of a file that went through a wrong encoding: it has U+FFFD in many tokens, or most read as bytes taken
    for letters. None for a sound file."""
    foreign = [token for token in tokens if not token.isascii()]
    lost = [token for token in foreign if "\ufffd" in token]
    misread = [token for token in foreign if is_misread(token)]
    if len(lost) * 100 > len(foreign) or len(misread) * 2 > len(foreign):
        return (lost or misread)[0]
    return None


def is_misread(text: str) -> bool:
    """Whether the characters, taken as bytes of another encoding, spell UTF-8: "ç™½" is what becomes of "白" in a
    Western one, "鐧" or "鐧?" in GBK, which takes two bytes at a time and loses the third."""
    for encoding in ("cp1252", "latin-1"):
        try:
            text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text.rstrip("?").encode("gbk"))
    except UnicodeError:
        return False
    return True


# --- JSON -------------------------------------------------------------------------------------------------------------


def _read_object(path: Path) -> dict:
    data = read_json(path, "copy the tokenizer's files again")
    if not isinstance(data, dict):
        raise ValueError(f"{path}: must hold a JSON object, not {type(data).__name__}")
    return data


def _token(entry: object, path: Path) -> str:
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


def _switch(value: object, key: str, path: Path) -> bool | None:
    if not (isinstance(value, bool) or (value is None and key == "strip_accents")):
        raise ValueError(f"{path}: {key} is {value!r}, but must be true or false")
    return value


def _overlay(settings: dict, config: dict, path: Path) -> None:
    """Puts what a tokenizer_config.json or special_tokens_map.json says over settings for Tokenizer(**settings)."""
    names = settings.setdefault("special_tokens", {})
    names |= {name: _token(config[name], path) for name in SPECIAL_TOKENS if config.get(name) is not None}
    numbered = config.get("added_tokens_decoder") or {}
    more = config.get("additional_special_tokens") or config.get("extra_special_tokens") or []
    if not isinstance(numbered, dict) or not isinstance(more, list):
        raise ValueError(
            f"{path}: added_tokens_decoder must be an object and additional_special_tokens a list, not "
            f"{type(numbered).__name__} and {type(more).__name__}; copy the tokenizer's files again"
        )
    entries = [(int(number), entry) for number, entry in numbered.items()] + [(None, entry) for entry in more]
    _add_tokens(settings, entries, path)
    for key, name in (
        ("do_lower_case", "lowercase"),
        *((key, key) for key in ("strip_accents", "tokenize_chinese_chars")),
    ):
        if key in config:
            settings[name] = _switch(config[key], key, path)
    length = config.get("model_max_length")
    if isinstance(length, int) and 0 < length < 10**9:  # transformers writes 10**30 for "unknown"
        settings["model_max_length"] = length


def _add_tokens(settings: dict, entries: list[tuple[int | None, object]], path: Path) -> None:
    """Makes special tokens of (id, entry), putting those new to the vocabulary at its end, as `tokenizers` does."""
    vocab, extra = settings["vocab"], settings.setdefault("extra_special_tokens", [])
    known = {token: number for number, token in enumerate(vocab)}
    for number, entry in entries:
        token = _token(entry, path)
        if token not in known:
            known[token] = len(vocab)
            vocab.append(token)
        if number not in (None, known[token]):
            raise ValueError(f"{path}: token {token!r} has id {number}, but {known[token]} in the vocabulary")
        if token not in extra:
            extra.append(token)


def _check_added(vocab: list[str], path: Path) -> None:
    """Raises ValueError where an added_tokens.json, as older transformers wrote it, has tokens that are found nowhere
    else: transformers looks for them in the normalised text, before any word is cut."""
    known = set(vocab)
    for token, number in _read_object(path).items() if path.exists() else ():
        if token not in known:
            raise ValueError(
                f"{path}: token {token!r} (id {number}) is not in the vocabulary, and minibert finds pieces of words"
                " and special tokens only; write it into vocab.txt, where a line's number from 0 is the id"
            )


def _from_json(path: Path) -> dict:
    """Settings for Tokenizer(**settings) from the one-file format of `tokenizers`, where it describes a BERT."""
    data = _read_object(path)
    sections = {key: data.get(key) or {} for key in ("model", "normalizer", "pre_tokenizer")}
    added = data.get("added_tokens") or []
    if not all(
        isinstance(part, dict) for part in (*sections.values(), *(added if isinstance(added, list) else [None]))
    ):
        raise ValueError(f"{path}: not as `tokenizers` writes it; copy the tokenizer's files again")
    for section, key, want in BERT_JSON:
        if (found := sections[section].get(key)) != want:
            raise ValueError(f"{path}: {section} {key} is {found!r}, but BERT's is {want!r}; minibert reads no other")
    model, normalizer = sections["model"], sections["normalizer"]
    if not isinstance(model.get("vocab"), dict):
        raise ValueError(f"{path}: model vocab must be an object of tokens and their ids")
    settings = {
        "vocab": ids_to_list(model["vocab"]),
        "lowercase": _switch(normalizer.get("lowercase"), "lowercase", path),
        "strip_accents": _switch(normalizer.get("strip_accents"), "strip_accents", path),
        "tokenize_chinese_chars": _switch(normalizer.get("handle_chinese_chars"), "handle_chinese_chars", path),
        "special_tokens": {"unk_token": model["unk_token"]},
    }
    _add_tokens(settings, [(entry.get("id"), entry) for entry in added], path)
    return settings
