"""What the doctor's checks give: findings, each with a name that stays, what is wrong, and what to do about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

from minibert.io.encodings import MARKS, TO_UTF8, judged
from minibert.io.language import is_chinese, letters, translated

SEVERITIES = ("error", "warning", "note")
SEMICOLON = re.compile("；|; ")
CHINESE = {
    "error": "错误",
    "warning": "警告",
    "note": "提示",
}


class Finding(NamedTuple):
    """error: it is refused, or answers are nonsense. warning: answers suffer. note: good to know, nothing is wrong."""

    severity: str
    name: str  # PART-WHAT, for scripts: vocabulary-size
    what: str
    remedy: str = ""

    @property
    def part(self) -> str:
        return self.name.partition("-")[0]


error = partial(Finding, "error")  # name, what, remedy; of a note the remedy may be left out
warning = partial(Finding, "warning")
note = partial(Finding, "note")


def graded(wrong: bool, name: str, what: str, remedy: str) -> Finding:
    """A warning with its remedy, or where nothing is wrong a note."""
    return warning(name, what, remedy) if wrong else note(name, what)


def share(part: float, whole: float = 1) -> str:
    """ "28.2 %" of a whole that may be 0."""
    return f"{100 * (part / max(whole, 1)):.1f} %"


def refusal(name: str, reason: ValueError) -> Finding:
    """A reader's own line, which ends with its remedy."""
    what, _, remedy = str(reason).rpartition("; ")
    return error(name, what, remedy) if what else error(name, remedy, "mend it, or copy the original file again")


def text_encoding(name: str, path: object, data: bytes) -> Iterator[Finding]:
    """A text file that is not UTF-8, with the encoding that it may be in."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as stray:
        marked = next((encoding for mark, encoding in MARKS.items() if data.startswith(mark)), None)
        likely = marked or judged(iter(data.splitlines(keepends=True)))[0]
        line = data.count(b"\n", 0, stray.start) + 1
        remedy = f"if it is {likely}, {TO_UTF8.format(likely)}" if likely else "copy the original file again"
        yield error(name, f"{path}:{line}: byte 0x{data[stray.start]:02x} is not UTF-8", remedy)


# ---- showing ----


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Worst first, otherwise as they were found."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def counted(findings: Iterable[Finding]) -> dict[str, int]:
    return dict.fromkeys(SEVERITIES, 0) | Counter(finding.severity for finding in findings)


def is_wrong(findings: Iterable[Finding]) -> bool:
    return any(finding.severity != "note" for finding in findings)


def to_table(findings: Iterable[Finding]) -> str:
    """Severity, name and what was found; below it the remedy; at the end how many there are. In the language in use."""
    rows = ordered(findings)
    width = max((len(finding.name) for finding in rows), default=0)
    lines, margin = [], 4 if is_chinese() else 7  # columns of the longest severity
    for finding in rows:
        severity = CHINESE[finding.severity] if is_chinese() else f"{finding.severity:{margin}}"
        what, remedy = in_language(finding)
        lines.append(f"{severity}  {finding.name:{width}}  {clean(what)}")
        if remedy:
            lines.append(f"{'':{margin}}  {'':{width}}  → {clean(remedy)}")
    numbers = ", ".join(f"{n} {severity}{'s' * (n != 1)}" for severity, n in counted(rows).items())
    if is_chinese():
        numbers = "，".join(f"{n} 个{CHINESE[severity]}" for severity, n in counted(rows).items())
    ending = "something is wrong" if is_wrong(rows) else "nothing is wrong"
    return "\n".join([*lines, translated(f"{ending}: {numbers}")])


def in_language(finding: Finding) -> tuple[str, str]:
    """What and remedy, each by itself or, where more of it is known so, as the line that `refusal` has cut in two: a
    translation has a full-width semicolon for each of its message."""
    apart = translated(finding.what), translated(finding.remedy)
    line = f"{finding.what}; {finding.remedy}"
    said = translated(line)
    ends = list(SEMICOLON.finditer(said))
    if len(ends) != len(SEMICOLON.findall(line)):
        return apart
    here = ends[len(SEMICOLON.findall(finding.what))]
    together = said[: here.start()], said[here.end() :]
    return min(apart, together, key=lambda pair: letters("".join(pair)))


def clean(text: str) -> str:
    """Words of a file may hold anything: shown in one line, without control characters."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def to_dict(findings: Iterable[Finding]) -> dict[str, object]:
    rows = ordered(findings)
    return {"wrong": is_wrong(rows), **counted(rows), "findings": [finding._asdict() for finding in rows]}
