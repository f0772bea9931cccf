"""Options of `minibert encode` and `minibert vocab`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass

from minibert.io.bundled import BUNDLED
from minibert.options import argument, check_options, option


@dataclass(frozen=True)
class EncodeOptions:
    text: Sequence[str] = argument("texts to encode (default: one a line from stdin)")
    pair: str | None = option(None, "a second text that goes with each text")
    model: str = option(BUNDLED, "directory or hub name of the vocabulary")
    max_length: int = option(512, "longest row in tokens, [CLS] and [SEP] included")
    truncation: str = option("longest_first", "longest_first, only_first, only_second or none")
    padding: str = option("longest", "longest, max_length or none")
    split_special_tokens: bool = option(False, "read [SEP] and its like in a text as plain text")
    json: bool = option(False, "print one JSON object")


@dataclass(frozen=True)
class VocabOptions:
    files: Sequence[str] = argument("text files, .txt or .jsonl")
    size: int = option(MISSING, "most tokens, the five special ones included")
    out: str = option(MISSING, "directory for vocab.txt and tokenizer_config.json")
    cased: bool = option(False, "keep capitals and accents")
    character_coverage: float = option(0.9995, "share of the text whose characters get an id; 1 for all characters")
    encoding: str | None = option(None, "of the files: utf-8, utf-16, gb18030, big5, cp1252 … (default: as each looks)")
    json: bool = option(False, "print one JSON object")

    def __post_init__(self) -> None:
        check_options(self, counts=("size",), limits={"character_coverage": 1}, choices={})
