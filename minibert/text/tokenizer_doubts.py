"""Where a tokenizer's files leave open what a text's ids are: minibert reads them, and says how."""

from collections.abc import Iterator
from pathlib import Path

from minibert.core.vocabulary import BLANK, SPECIAL_TOKENS
from minibert.core.wordpiece import CONTINUES
from minibert.io.bundled import resolve
from minibert.io.findings import Finding, warning
from minibert.text.tokenizer_files import (
    CONFIG,
    EXTRA,
    JSON,
    MAP,
    Files,
    extra_tokens,
    named_tokens,
    numbered_tokens,
    read_files,
    token_of,
)

Findings = Iterator[Finding]


def tokenizer_findings(directory: str | Path) -> list[Finding]:
    """For the doctor. Raises ValueError where the files cannot be read."""
    return list(doubts(read_files(resolve(directory))))


def doubts(files: Files) -> Findings:
    """A warning for each kind of contradiction."""
    for check in (other_template, added_words, contradicting_map, trailing_space):
        yield from check(files)


def other_template(files: Files) -> Findings:
    """Whatever a tokenizer.json puts around texts, minibert puts [CLS] A [SEP] B [SEP]."""
    if not files.json:
        return
    named = {name: token.content for name, token in named_tokens(files).items()}
    marks = [(SPECIAL_TOKENS | named)[name] for name in ("cls_token", "sep_token")]
    ids = files.json["model"]["vocab"] | {entry.token.content: entry.number for entry in numbered_tokens(files)}
    cls, sep = ([mark, ids.get(mark)] for mark in marks)
    found = files.json.get("post_processor")
    if found in (template(cls, sep), {"type": "BertProcessing", "sep": sep, "cls": cls}):
        return
    kind = found.get("type") if isinstance(found, dict) else found
    what = (
        f"{files.directory / JSON}: post_processor is {kind!r}, and not BERT's; minibert puts {marks[0]} A {marks[1]} B"
        f" {marks[1]}"
    )
    yield warning("tokenizer-post-processor", what, "take the file away, if the weights were trained so")


def template(cls: list, sep: list) -> dict:
    """BERT's, as `tokenizers` writes it. cls, sep: [token, id]."""
    single = [mark(cls[0], 0), {"Sequence": {"id": "A", "type_id": 0}}, mark(sep[0], 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}, mark(sep[0], 1)],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]} for token, number in (cls, sep)},
    }


def mark(token: str, segment: int) -> dict:
    return {"SpecialToken": {"id": token, "type_id": segment}}


def added_words(files: Files) -> Findings:
    """An added token is found before words are cut, and so inside longer ones, though vocab.txt has it as a word."""
    vocab = {*files.lines} or {*files.json["model"]["vocab"]}
    vocab -= {*SPECIAL_TOKENS.values()} | {token.content for token in named_tokens(files).values()}
    if words := [entry for entry in numbered_tokens(files) if entry.token.content in vocab and not entry.token.special]:
        first = words[0]
        more = f", like {len(words) - 1} more" if len(words) > 1 else ""
        what = (
            f"{first.path}: adds {first.token.content!r}{more}, a token of the vocabulary: it is now found inside words"
        )
        yield warning(
            "tokenizer-added-words", what, "take it out of the added tokens, if the weights were trained without"
        )


def contradicting_map(files: Files) -> Findings:
    """special_tokens_map.json and tokenizer_config.json name other tokens."""
    older, config = files.directory / MAP, files.directory / CONFIG
    for name in (*SPECIAL_TOKENS, *EXTRA):
        ours, theirs = contents(files.config.get(name), config), contents(files.older.get(name), older)
        if ours and theirs and ours != theirs:
            used = CONFIG if files.is_numbered or (name in EXTRA and extra_tokens(files)) else MAP
            what = f"{older}: {name} is {theirs}, {CONFIG} says {ours}; {used} is followed, as by transformers 5"
            yield warning("tokenizer-special-tokens", what, "make both say the same")


def contents(value: object, path: Path) -> str:
    entries = value if isinstance(value, list) else [value]
    return " ".join(token_of(entry, path).content for entry in entries if entry is not None)


def trailing_space(files: Files) -> Findings:
    """White space behind a token of vocab.txt."""
    path = files.directory / "vocab.txt"
    if not path.is_file():
        return
    lines = path.read_bytes().decode("utf-8-sig").split("\n")
    bare = [line.rstrip(BLANK) for line in lines]  # what was white space alone, behind ## or not, is a token as it is
    spaced = [
        number
        for number, (line, token) in enumerate(zip(lines, bare, strict=True), 1)
        if token.removeprefix(CONTINUES) and token != line.removesuffix("\r")
    ]
    if spaced:
        what = (
            f"{path}: white space at the end of {len(spaced)} lines, first of line {spaced[0]}, is no part of the token"
        )
        yield warning("tokenizer-trailing-space", what, "take it away: transformers 4 takes it for a part")
