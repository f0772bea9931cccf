"""Options of `minibert explain` and `minibert parity`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minibert.fast.options import ATTENTION
from minibert.io.bundled import BUNDLED
from minibert.options import argument, option

LENGTHS = (1, 2, 3, 7, 16, 31, 64, 128, 257, 512)  # of `parity`


@dataclass(frozen=True)
class ParityOptions:
    model: str = argument("directory or hub name of a BERT")
    lengths: str | None = option(
        None, f"lengths to try (default: {','.join(map(str, LENGTHS))} as far as the model goes)"
    )
    layers: bool = option(False, "a row for every layer instead of the worst layer of each stage")
    seed: int = option(0, "seed of the random token ids")
    json: bool = option(False, "print one JSON object")


@dataclass(frozen=True)
class ExplainOptions:
    text: str = argument("the text to look at")
    pair: str | None = option(None, "a second text that goes with it")
    model: str = option(BUNDLED, "directory or hub name of any BERT: bare, classifier or masked LM")
    target: str | None = option(None, "label that heads and tokens are asked about (default: the likeliest)")
    out: str | None = option(None, "the page (default: the next free runs/explain-N.html; with --json none)")
    max_length: int | None = option(None, "tokens that are read, [CLS] and [SEP] included (default: the model's limit)")
    attention: str = option("auto", f"attention backend: auto, {', '.join(ATTENTION)}")
    json: bool = option(False, "print one JSON object")

    def __post_init__(self) -> None:
        if self.out is not None and Path(self.out).is_dir():
            raise ValueError(f"{self.out} is a directory; give the page's file name, such as {self.out}/page.html")
