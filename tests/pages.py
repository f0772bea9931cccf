"""The README and docs/ as tests read them: pages in two languages, their blocks of code, commands, what is printed."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.M | re.S)
BODY = r"((?:(?!```).*\n)*)```"
SHOWN = re.compile(rf"^```(bash|py|python)\n{BODY}\n+```\n{BODY}$", flags=re.M)
NUMBER = re.compile(r"\d[\d,]*(\.\d+)?(e[+-]\d+)?")


class Page(NamedTuple):
    """name: as in docs/NAME.md and docs/NAME.zh-CN.md, or README."""

    name: str
    english: str
    chinese: str

    def blocks(self, language: str) -> list[str]:
        return [body for kind, body in BLOCK.findall(self.english) if kind == language]

    def lines(self) -> list[str]:
        """Every line of its bash blocks, without comments and without the installation."""
        lines = [line for block in self.blocks("bash") for line in block.splitlines()]
        return [line.removeprefix("pip install -e . && ").split("  #")[0].strip() for line in lines]

    def commands(self) -> list[list[str]]:
        """The words of every minibert command, also of those that torchrun starts."""
        return [shlex.split(line) for line in self.lines() if re.match("minibert |torchrun ", line)]

    def shown(self, language: str) -> list[tuple[str, str]]:
        """Every block of a language with what it prints: the block without a language right after it."""
        return [(body, output) for kind, body, output in SHOWN.findall(self.english) if kind == language]

    def tables(self) -> list[str]:
        return [line for line in self.english.splitlines() if line.startswith("|")]


class Part(NamedTuple):
    """Of a page: prose ("markdown"), or a block with what is shown of its output, if anything is."""

    kind: str
    source: str
    shown: str | None = None

    @property
    def command(self) -> str:
        """The subcommand of a block of commands, "" of other parts."""
        return self.source.split()[1] if self.kind == "bash" else ""

    def missing(self, printed: str) -> list[str]:
        """The lines that are shown and not printed, or not in that order; "…" stands for any lines."""
        lines = iter([form(self.command, line) for line in printed.splitlines()])
        shown = (self.shown or "").splitlines()
        return [line for line in shown if line != "…" and form(self.command, line) not in lines]


def parts_of(text: str) -> list[Part]:
    """The parts of a page, or of a section, in its order; what a block prints is no part of its own."""
    found, end = [], 0
    for block in [*BLOCK.finditer(text), None]:
        if prose := text[end : block.start() if block else None].strip():
            found.append(Part("markdown", prose))
        if block and block[1]:
            found.append(Part(block[1], block[2].rstrip("\n")))
        elif block:
            found[-1] = found[-1]._replace(shown=block[2])
        end = block.end() if block else 0
    return found


def form(command: str, line: str) -> str:
    """A line without its numbers, and without what another bundled model would say: pieces and answers.

    What Python code prints is left as it is, except losses and cosines: rounding differs between processors.
    """
    if command == "encode":
        return line.split(" ")[0]
    if not command and not re.search("loss|cosine", line):
        return line
    line = re.sub(r"^(  )?\S+( +0\.\d+)", r"\1answer 0", line) if command in ("fill-mask", "explain") else line
    line = line.replace("  best so far", "") if command == "train" else line
    return " ".join(NUMBER.sub("#", line).split())


def read(path: Path) -> Page:
    english = path.read_text(encoding="utf-8")
    return Page(path.stem, english, path.with_suffix(".zh-CN.md").read_text(encoding="utf-8"))


def cells(line: str) -> list[str]:
    """A table's row without its borders."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


README = read(ROOT / "README.md")
PAGES = {page.stem: read(page) for page in sorted((ROOT / "docs").glob("*.md")) if not page.stem.endswith(".zh-CN")}
ALL = [README, *PAGES.values()]
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
