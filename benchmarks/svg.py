"""The few shapes that the benchmarks' pictures are made of, as SVG."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

STYLE = "text{font:11px sans-serif;fill:#333}.title{font-size:14px;font-weight:bold}.right{text-anchor:end}"


def drawing(width: float, height: float, parts: Iterable[str]) -> str:
    """A whole file."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, f"<style>{STYLE}</style>", rect(0, 0, width, height, "#fff"), *parts, "</svg>\n"])


def rect(x: float, y: float, width: float, height: float, colour: str, name: str = "") -> str:
    inside = f"<title>{escape(name)}</title>" if name else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}">{inside}</rect>'


def text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words)}</text>'
