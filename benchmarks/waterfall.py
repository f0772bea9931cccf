"""A picture of what each step of a benchmark's `waterfall` case brought: bars of speed relative to the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from benchmarks.svg import drawing, rect, text
from benchmarks.tokenizer import Row

WIDTH, NAMES, BARS = 760, 220, 440  # of the picture, of the steps' names, of the longest bar
LINE, HEAD, MARGIN = 22, 46, 16
DONE, BASE = "#2e86c1", "#9aa0a6"


def picture(rows: Sequence[Row]) -> str | None:
    """SVG: a panel for each corpus and number of threads, its steps from top to bottom. None: no such rows."""
    timed = [row for row in rows if row.case.startswith("waterfall") and row.value is not None]
    panels = [list(panel) for _, panel in groupby(timed, key=lambda row: (row.case, row.corpus))]
    if not panels:
        return None
    most, top, parts = max(row.value for row in timed), MARGIN, []
    for panel in panels:
        parts += drawn(panel, top, most)
        top += HEAD + LINE * (len(panel) + 1)
    return drawing(WIDTH, top + MARGIN, parts)


def drawn(panel: Sequence[Row], top: float, most: float) -> Iterator[str]:
    first = panel[0]
    yield text(MARGIN, top + 14, f"{first.corpus}: {first.case.removeprefix('waterfall, ')}", "title")
    y = top + HEAD - LINE
    for name, value in (("transformers, random order", 1.0), *((row.against, row.value) for row in panel)):
        yield text(NAMES - 8, y + 13, name, "right")
        yield rect(NAMES, y, value / most * BARS, LINE - 6, BASE if value == 1.0 else DONE)
        yield text(NAMES + value / most * BARS + 6, y + 13, f"{value:.2f} ×")
        y += LINE
