"""All the files that a tokenizer may have: besides the two of core/vocabulary.py tokenizer.json and the older ones.

`read_settings` gives the arguments for Tokenizer(**settings), from a directory of Hugging Face's layout or one file.
A vocabulary that went through a wrong encoding is refused.
"""

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from minibert.core import vocabulary, wordpiece
from minibert.core.files import atomic_write, read_object, write_json
from minibert.core.vocabulary import SPECIAL_TOKENS, SWITCHES, ids_to_list
from minibert.io.bundled import resolve
from minibert.text.added_tokens import AddedToken
from minibert.text.cuts import units

CONFIG, MAP, ADDED, JSON = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")  # of an AddedToken, by their names in the files
JSON_SWITCHES = {"do_lower_case": "lowercase", "strip_accents": "strip_accents"}
JSON_SWITCHES |= {"tokenize_chinese_chars": "handle_chinese_chars"}
EXTRA = ("extra_special_tokens", "additional_special_tokens")  # of transformers 5, and 4
BERT_JSON = (  # what a tokenizer.json must say to be a BERT's
    ("model", "type", "WordPiece"),
    ("model", "continuing_subword_prefix", wordpiece.CONTINUES),
    ("model", "max_input_chars_per_word", wordpiece.MAX_WORD),
    ("normalizer", "type", "BertNormalizer"),
    ("normalizer", "clean_text", True),
    ("pre_tokenizer", "type", "BertPreTokenizer"),
)


class Files(NamedTuple):
    """What a tokenizer's directory holds; empty where a file is not there."""

    directory: Path
    lines: list[str]  # vocab.txt's tokens
    json: dict  # tokenizer.json, checked
    config: dict
    older: dict  # special_tokens_map.json
    added: dict  # added_tokens.json

    @property
    def is_numbered(self) -> bool:
        """Whether the configuration describes the added tokens, so that transformers asks no other file about them."""
        return "added_tokens_decoder" in self.config

    @property
    def of_special_tokens(self) -> list[tuple[dict, Path]]:
        """What is asked about special tokens, and the files: for named ones the last counts."""
        config, older = (self.config, self.directory / CONFIG), (self.older, self.directory / MAP)
        return [config] if self.is_numbered else [config, older]


def read_settings(name: str | Path) -> dict:
    """The arguments of Tokenizer, from a model directory, a hub name, or one file: vocab.txt or tokenizer.json.

    In a directory vocab.txt gives the vocabulary, else tokenizer.json. The switches are tokenizer_config.json's;
    what it leaves open is tokenizer.json's, then as in the original BERT. Special and added tokens are looked for where
    transformers does: in tokenizer_config.json, if that has added_tokens_decoder; else in added_tokens.json and
    tokenizer.json too, and special_tokens_map.json goes before the configuration.
    Truncation and padding written into a tokenizer.json are not read: both are the caller's.

    Raises ValueError for a missing, broken or foreign file, with its name.
    """
    return settings_of(read_files(name))


def read_files(name: str | Path) -> Files:
    """All files of a directory, or the one that is named."""
    path = Path(name)
    if path.is_file():
        is_json = path.suffix == ".json"
        return Files(
            path.parent, [] if is_json else read_vocabulary(path), read_json(path) if is_json else {}, {}, {}, {}
        )
    directory = resolve(name)
    vocab_file, json_file = directory / "vocab.txt", directory / JSON
    if not vocab_file.exists() and not json_file.exists():
        raise ValueError(f"{directory}: no vocab.txt and no tokenizer.json; is it the directory of a BERT model?")
    lines = read_vocabulary(vocab_file) if vocab_file.exists() else []
    json = read_json(json_file) if json_file.exists() else {}
    paths = (directory / name for name in (CONFIG, MAP, ADDED))
    return Files(directory, lines, json, *(read_object(path, needed=False) for path in paths))


def settings_of(files: Files) -> dict:
    """The arguments of Tokenizer."""
    settings: dict = {"vocab": [*files.lines] or ids_to_list(files.json["model"]["vocab"])}
    if files.json:
        normalizer, unknown = files.json["normalizer"], files.json["model"].get("unk_token")
        switches = {name: normalizer.get(theirs) for name, theirs in JSON_SWITCHES.items()}
        vocabulary.overlay(settings, {**switches, "unk_token": unknown}, files.directory / JSON)
    pieces = len(settings["vocab"])
    named = named_tokens(files)
    tokens = add_tokens(settings["vocab"], numbered_tokens(files), named, extra_tokens(files))
    names = {name: token.content for name, token in named.items()}
    special = [content for content, token in tokens.items() if token.special and content not in names.values()]
    switches = {key: files.config[key] for key in (*SWITCHES, "model_max_length") if key in files.config}
    vocabulary.overlay(settings, {**switches, **names, "extra_special_tokens": special}, files.directory / CONFIG)
    if flagged := [token for token in tokens.values() if not token.is_plain]:
        settings["added_tokens"] = flagged
    if len(settings["vocab"]) > pieces:
        settings["pieces"] = pieces
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


# --- tokenizer.json ---------------------------------------------------------------------------------------------------


def read_json(path: Path) -> dict:
    """The one-file format of `tokenizers`, where it describes a BERT; all that is used of it is of the right type."""
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
    vocab = sections["model"].get("vocab")
    if not isinstance(vocab, dict):
        raise ValueError(f"{path}: model vocab must be an object of tokens and their ids")
    for token, number in vocab.items():
        if type(number) is not int:
            raise ValueError(
                f"{path}: id of {token!r} is {number!r}, no whole number; copy the tokenizer's files again"
            )
    return {**data, **sections, "added_tokens": added}


# --- Special and added tokens -----------------------------------------------------------------------------------------


class Numbered(NamedTuple):
    """An added token, the id that a file gives it, and the file."""

    number: int
    token: AddedToken
    path: Path


def numbered_tokens(files: Files) -> list[Numbered]:
    """The added tokens that files give ids, in the order of these."""
    path = files.directory / CONFIG
    if files.is_numbered:
        numbered = files.config["added_tokens_decoder"] or {}
        if not isinstance(numbered, dict) or not all(number.isdecimal() for number in numbered):
            raise ValueError(f"{path}: added_tokens_decoder must be an object of ids and tokens; copy the file again")
        found = [Numbered(int(number), token_of(entry, path), path) for number, entry in numbered.items()]
        return sorted(found, key=lambda entry: entry.number)
    by_id = {}
    special = {token.content for token in (*named_tokens(files).values(), *extra_tokens(files))}
    for content, number in files.added.items():
        is_special = content in special
        token = token_of({"content": content, "special": is_special}, files.directory / ADDED)
        by_id[str(number)] = Numbered(number, token, files.directory / ADDED)
    for entry in files.json.get("added_tokens", ()):
        number, path = entry.get("id"), files.directory / JSON
        by_id[str(number)] = Numbered(number, token_of(entry, path), path)
    for number, token, path in by_id.values():
        if type(number) is not int:
            raise ValueError(f"{path}: token {token.content!r} has id {number!r}, no whole number; mend it")
    return sorted(by_id.values(), key=lambda entry: entry.number)


def named_tokens(files: Files) -> dict[str, AddedToken]:
    """By their names in SPECIAL_TOKENS, as far as the files say them."""
    named = {}
    for data, path in files.of_special_tokens:
        for key in SPECIAL_TOKENS:
            if data.get(key) is not None:
                named[key] = token_of(data[key], path, special=True)._replace(special=True)
    return named


def extra_tokens(files: Files) -> list[AddedToken]:
    """Special tokens without a name, and whatever else the lists of them hold."""
    for data, path in files.of_special_tokens:
        for key in EXTRA:
            if not isinstance(more := data.get(key) or [], list):
                raise ValueError(f"{path}: {key} must be a list, not {type(more).__name__}; copy the file again")
            if more:
                return [token_of(entry, path, special=path.name == MAP) for entry in more]
    return []


def token_of(entry: object, path: Path, special: bool = False) -> AddedToken:
    """A token as tokenizer files write it: "[SEP]" or {"content": "[SEP]", "lstrip": false, …}. special: what an object
    is that does not say it."""
    if isinstance(entry, str):
        return AddedToken(entry)
    if not isinstance(entry, dict) or not isinstance(entry.get("content"), str) or not entry["content"]:
        raise ValueError(f"{path}: {entry!r} is no token; write a string, or an object with content")
    flags = {flag: entry[flag] for flag in FLAGS if flag in entry}
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{path}: {flag} of token {entry['content']!r} is {value!r}, but must be true or false")
    special = flags.setdefault("special", special)
    return AddedToken(entry["content"], **{"normalized": not special, **flags})


def add_tokens(
    vocab: list[str], numbered: list[Numbered], named: dict[str, AddedToken], extra: list[AddedToken]
) -> dict[str, AddedToken]:
    """All tokens that are found before words are cut, by their contents; those new to the vocabulary are put at its
    end, as `tokenizers` does, but for named ones, which Tokenizer will ask for."""
    tokens, known = {}, {token: number for number, token in enumerate(vocab)}
    names = (SPECIAL_TOKENS | {name: token.content for name, token in named.items()}).values()
    for number, token, path in numbered:
        if known.setdefault(token.content, len(vocab)) == len(vocab):
            vocab.append(token.content)
        if number != known[token.content]:
            what = f"token {token.content!r} has id {number}, but {known[token.content]} in the vocabulary"
            raise ValueError(f"{path}: {what}, behind which added tokens stand without gaps; mend the ids")
        tokens.setdefault(token.content, token._replace(special=token.special or token.content in names))
    for token in (*named.values(), *extra):
        if token.content not in known and token in extra:
            known[token.content] = len(vocab)
            vocab.append(token.content)
        tokens.setdefault(token.content, token)
    return tokens


def write_added(directory: Path, vocab: Sequence[str], pieces: int, tokens: Sequence[AddedToken]) -> None:
    """Into a directory that core has written: where a token is none for WordPiece, or has flags, vocab.txt gets the
    others alone and tokenizer_config.json an added_tokens_decoder. tokens: all special and added ones."""
    contents = {token.content for token in tokens}
    if all(token.is_plain for token in tokens) and not any(map(is_piece, vocab[pieces:])):
        return  # no text holds such a word: vocab.txt with all tokens means the same, and core reads it
    atomic_write(directory / "vocab.txt", "".join(f"{token}\n" for token in vocab[:pieces]).encode())
    known = {token: number for number, token in enumerate(vocab)}
    numbered = {known[token.content]: token._asdict() for token in tokens}
    numbered |= {known[token]: AddedToken(token)._asdict() for token in vocab[pieces:] if token not in contents}
    config = read_object(directory / CONFIG) | {"added_tokens_decoder": {n: numbered[n] for n in sorted(numbered)}}
    write_json(directory / CONFIG, config)


def is_piece(token: str) -> bool:
    """Whether WordPiece might find the token in a text, were it in its vocabulary."""
    return token.startswith(wordpiece.CONTINUES) or len(list(units(token))) == 1
