"""All the files that a tokenizer may have: besides the two of core/vocabulary.py tokenizer.json and the older ones.

`read_settings` gives the arguments for Tokenizer(**settings), from a directory of Hugging Face's layout or one file.
A vocabulary that went through a wrong encoding is refused.
"""

import codecs
from collections.abc import Sequence
from pathlib import Path

from minibert.core import vocabulary, wordpiece
from minibert.core.vocabulary import SPECIAL_TOKENS, ids_to_list, read_object
from minibert.io.bundled import resolve

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
            overlay(settings, read_object(file), file)
    _check_added(settings["vocab"], directory / "added_tokens.json")
    return settings


# --- The vocabulary ---------------------------------------------------------------------------------------------------


def read_vocabulary(path: str | Path) -> list[str]:
    """The tokens of a vocab.txt, as core/vocabulary.py reads it; raises ValueError for a wrongly converted one too."""
    tokens = vocabulary.read_vocabulary(path)
    if (example := mojibake(tokens)) is not None:
        raise ValueError(
            f"{path}: line {tokens.index(example) + 1} is {example!r}, and many are like it: "
            f"UTF-8 was read in another encoding; copy the original file again"
        )
    return tokens


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


# --- The richer files -------------------------------------------------------------------------------------------------


def _check_added(vocab: list[str], path: Path) -> None:
    """Raises ValueError where an added_tokens.json, as older transformers wrote it, has tokens that are found nowhere
    else: transformers looks for them in the normalised text, before any word is cut."""
    known = set(vocab)
    for token, number in read_object(path).items() if path.exists() else ():
        if token not in known:
            raise ValueError(
                f"{path}: token {token!r} (id {number}) is not in the vocabulary, and minibert finds pieces of words"
                " and special tokens only; write it into vocab.txt, where a line's number from 0 is the id"
            )


def _from_json(path: Path) -> dict:
    """Settings for Tokenizer(**settings) from the one-file format of `tokenizers`, where it describes a BERT."""
    data = read_object(path)
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
    switches = {"do_lower_case": normalizer.get("lowercase"), "strip_accents": normalizer.get("strip_accents")}
    switches["tokenize_chinese_chars"] = normalizer.get("handle_chinese_chars")
    settings = {"vocab": ids_to_list(model["vocab"])}
    add_tokens(settings, [(entry.get("id"), entry) for entry in added], path)
    overlay(settings, {**switches, "unk_token": model.get("unk_token")}, path)
    return settings


def overlay(settings: dict, config: dict, path: Path) -> None:
    """As core's, but a special token may be an object, and one that is new to the vocabulary is added to it.

    Raises ValueError, with the file's name, for a value of the wrong type, and a token that is not one of BERT's kind.
    """
    numbered = config.get("added_tokens_decoder") or {}
    more = config.get("additional_special_tokens") or config.get("extra_special_tokens") or []
    if not isinstance(numbered, dict) or not isinstance(more, list):
        raise ValueError(
            f"{path}: added_tokens_decoder must be an object and additional_special_tokens a list, not "
            f"{type(numbered).__name__} and {type(more).__name__}; copy the tokenizer's files again"
        )
    entries = [(int(number), entry) for number, entry in numbered.items()] + [(None, entry) for entry in more]
    add_tokens(settings, entries, path)
    names = {name: special_token(config[name], path) for name in SPECIAL_TOKENS if config.get(name) is not None}
    plain = {"additional_special_tokens": settings["extra_special_tokens"], "added_tokens_decoder": None}
    vocabulary.overlay(settings, config | names | plain, path)


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
