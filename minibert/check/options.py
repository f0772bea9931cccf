"""Options of `minibert doctor` and `minibert course`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minibert.options import Reading, argument, option


@dataclass(frozen=True)
class DoctorOptions(Reading):
    model: str = argument("directory or hub name of a model, or of a vocabulary alone")
    data: str | None = option(None, "training data to check as well, .tsv .csv .jsonl .json or .txt")
    dev: str | None = option(None, "its dev file, also looked for in the training data")
    test: str | None = option(None, "its test file, likewise")
    max_length: int | None = option(None, "tokens of a text that are read (default: as the model's files say)")
    json: bool = option(False, "print one JSON object")

    def __post_init__(self) -> None:
        self.check_reading()
        if self.max_length is not None and self.max_length < 3:
            raise ValueError(f"max_length is {self.max_length}; it must be at least 3, for [CLS], a token and [SEP]")


@dataclass(frozen=True)
class CourseOptions:
    bug: Sequence[str] = argument("numbers or names of bugs (default: list them)")
    answer: bool = option(False, "also print cause, fix, and the test that catches it")
    chinese: bool = option(False, "titles in Chinese")
    json: bool = option(False, "print one JSON object")
