"""The README and docs/ as tests read them: pages in two languages, their blocks of code, the commands in them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.M | re.S)
BODY = r"((?:(?!```).*\n)*)```"
SHOWN = re.compile(rf"^```(bash|py|python)\n{BODY}\n+```\n{BODY}$", flags=re.M)


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
