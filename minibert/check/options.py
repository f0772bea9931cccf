"""Options of `minibert doctor` and `minibert course`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minibert.options import Reading, argument, option

COMMANDS = ("build", "check", "status", "break", "grade")


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
    what: Sequence[str] = argument(
        "numbers or names of bugs (default: list them); or build DIR, check DIR, status DIR, break DIR, grade DIR…"
    )
    answer: bool = option(False, "of a bug also print cause, fix, and the test that catches it")
    repair: str | None = option(None, "a new directory: core with the bug in its source, to be mended; then check DIR")
    hint: bool = option(False, "check: the next hint for the first body that does not pass")
    solution: bool = option(False, "check: a solution of it")
    stage: str | None = option(None, "break: your answer, the number or name of the first stage that differs")
    undo: bool = option(False, "break: take the slip back")
    chinese: bool = option(False, "as --lang zh")
    json: bool = option(False, "print one JSON object")

    def __post_init__(self) -> None:
        """Raises ValueError: an option that the command does not have, or not exactly one directory."""
        command = self.command
        owners = {"answer": "", "repair": "", "hint": "check", "solution": "check", "stage": "break", "undo": "break"}
        for name, owner in owners.items():
            if getattr(self, name) and command != owner:
                where = f"course {owner} DIR" if owner else "course BUG"
                raise ValueError(f"--{name} belongs to minibert {where}; leave it out here")
        if command not in ("", "grade") and len(self.what) != 2:
            raise ValueError(
                f"course {command} takes one directory, not {len(self.what) - 1}; type course {command} DIR"
            )
        if command == "grade" and len(self.what) < 2:
            raise ValueError("course grade takes directories; type course grade DIR…")
        if self.repair is not None and len(self.what) != 1:
            raise ValueError(f"--repair takes one bug, not {len(self.what)}; type course BUG --repair DIR")

    @property
    def command(self) -> str:
        """Of the learner's directory; empty: bugs are asked for."""
        return self.what[0] if self.what and self.what[0] in COMMANDS else ""
