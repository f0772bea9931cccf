"""A tokenizer's plain files, as Hugging Face's `transformers` writes them: vocab.txt, a token a line, and
tokenizer_config.json, its switches. Google's own checkpoints bring vocab.txt alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .files import atomic_write, read_object, read_text, write_json
from .hub import resolve
from .wordpiece import CONTINUES, WHITESPACE

# By the names of tokenizer_config.json: {"pad_token": "[PAD]", …}
SPECIAL_TOKENS = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
# Switches by their names in tokenizer_config.json, with their names in Tokenizer
SWITCHES = {"do_lower_case": "lowercase"} | {name: name for name in ("strip_accents", "tokenize_chinese_chars")}
# The kind of special token that core's Tokenizer knows: found as it is written, it takes no white space with it
PLAIN = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
BLANK = WHITESPACE + "\v\f\x85"  # what `tokenizers` leaves out at the end of a line
REMEDY = "read the directory with minibert.Tokenizer, which knows added tokens"


def read_settings(name: str | Path) -> dict:
    """The arguments of Tokenizer, from a model directory, a hub name, or one vocab.txt.

    What tokenizer_config.json leaves open, or its absence, is as in the original BERT. An older special_tokens_map.json
    may say the same.

    Raises ValueError for a missing, broken or foreign file, with its name, and for tokens that vocab.txt lacks.
    """
    path = Path(name)
    if path.is_file() and path.suffix == ".json":
        raise ValueError(f"{path}: give vocab.txt or its directory; or {REMEDY}")
    if path.is_file():
        return {"vocab": read_vocabulary(path)}
    directory = resolve(name)
    if not (directory / "vocab.txt").exists():
        raise ValueError(f"{directory}: no vocab.txt; is it the directory of a BERT model? If so, {REMEDY}")
    if (added := directory / "added_tokens.json").exists():
        raise ValueError(f"{added}: adds tokens to those of vocab.txt; {REMEDY}")
    settings = {"vocab": read_vocabulary(directory / "vocab.txt")}
    config = directory / "tokenizer_config.json"
    if config.exists():
        overlay(settings, read_object(config), config)
    older = directory / "special_tokens_map.json"
    tokens = {**SPECIAL_TOKENS, **settings.get("special_tokens", {})}
    for name, said in read_object(older, needed=False).items():
        known = [tokens[name]] if name in tokens else settings.get("extra_special_tokens", [])
        for token in said if isinstance(said, list) else [said]:
            if (token.get("content") if isinstance(token, dict) else token) not in known:
                raise ValueError(f"{older}: {name} is {said!r}, which tokenizer_config.json does not say; {REMEDY}")
    return settings


def write_settings(directory: Path, vocab: Sequence[str], config: Mapping[str, object]) -> None:
    """Writes vocab.txt and tokenizer_config.json; removes another tokenizer's richer files, which would go first."""
    directory.mkdir(parents=True, exist_ok=True)
    atomic_write(directory / "vocab.txt", "".join(f"{token}\n" for token in vocab).encode())
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", **config})
    for stale in ("tokenizer.json", "special_tokens_map.json", "added_tokens.json"):
        (directory / stale).unlink(missing_ok=True)


def ids_to_list(vocab: Mapping[str, int]) -> list[str]:
    """{token: id} -> the tokens in the order of their ids, which must run from 0 without gaps."""
    tokens = sorted(vocab, key=vocab.__getitem__)
    for number, token in enumerate(tokens):
        if vocab[token] != number:
            most = len(tokens) - 1
            raise ValueError(f"vocabulary: ids must run 0 … {most} without gaps, but {token!r} has {vocab[token]}")
    return tokens


def check_tokens(tokens: Sequence[str], name: str = "vocabulary") -> None:
    """Raises ValueError where a list of tokens cannot be one: empty, a token twice, a line break inside a token."""
    if not tokens:
        raise ValueError(f"{name} is empty; it must have a line for each token")
    lines: dict[str, int] = {}
    for line, token in enumerate(tokens, start=1):
        if not isinstance(token, str) or "\n" in token or "\r" in token:
            raise ValueError(f"{name}: token {token!r} on line {line} must be a str without line breaks")
        if (first := lines.setdefault(token, line)) != line:
            raise ValueError(
                f"{name}: token {token!r} stands on lines {first} and {line}; a token has one id: take the original"
            )


def read_vocabulary(path: str | Path) -> list[str]:
    """The tokens of a vocab.txt: one a line, the line's number from 0 is the id. Blank lines at the end are left out,
    and white space behind a token, as `tokenizers` and transformers 5 leave it out (transformers 4 did not).

    Only LF and CR LF end a line: bert-base-chinese has U+2028 as a token, at which str.splitlines() would cut and so
    shift all ids behind it. Such a token, which is white space alone, stays as it is.

    Raises ValueError for a file that is missing, empty or not UTF-8, or has a token twice.
    """
    text = read_text(Path(path), "copy the original again")
    lines = [line.removesuffix("\r") for line in text.rstrip("\r\n").split("\n")] if text.strip() else []
    tokens = [token if (token := line.rstrip(BLANK)).removeprefix(CONTINUES) else line for line in lines]
    check_tokens(tokens, str(path))
    return tokens


def overlay(settings: dict, config: dict, path: Path) -> None:
    """Puts what a tokenizer_config.json says over settings for Tokenizer(**settings).

    Raises ValueError, with the file's name, for a value of the wrong type, and for a token that vocab.txt lacks or that
    takes white space with it (`lstrip` …): core's Tokenizer does not do that.
    """
    for key, name in SWITCHES.items():
        if key in config:
            settings[name] = config[key]
            if not (isinstance(config[key], bool) or (config[key] is None and key == "strip_accents")):
                raise ValueError(f"{path}: {key} is {config[key]!r}, but must be true or false")
    length = config.get("model_max_length")
    if isinstance(length, int) and 0 < length < 10**9:  # transformers writes 10**30 for "unknown"
        settings["model_max_length"] = length
    names = {name: config[name] for name in SPECIAL_TOKENS if config.get(name) is not None}
    more = config.get("additional_special_tokens") or config.get("extra_special_tokens") or []
    numbered = config.get("added_tokens_decoder") or {}
    if not isinstance(more, list) or not isinstance(numbered, dict):
        raise ValueError(f"{path}: additional_special_tokens must be a list, added_tokens_decoder an object; {REMEDY}")
    vocab = {str(number): token for number, token in enumerate(settings["vocab"])}
    wrong = [token for token in [*names.values(), *more] if not isinstance(token, str)]
    wrong += [token for number, token in numbered.items() if token != {"content": vocab.get(number), **PLAIN}]
    if wrong:
        raise ValueError(f"{path}: {wrong[0]!r} is no plain token of vocab.txt; {REMEDY}")
    settings["special_tokens"] = settings.get("special_tokens", {}) | names
    settings["extra_special_tokens"] = [*more, *(token["content"] for token in numbered.values())]
