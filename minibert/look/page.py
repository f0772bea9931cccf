"""From an explanation to one HTML file: template, style, script and words of assets/explain, and the numbers.

What comes from outside (texts, tokens, names) reaches the page as JSON only, in which no tag can begin, and the script
puts it there as text, never as markup. The Content-Security-Policy names the page's own script by its hash: nothing
else runs, and nothing is fetched.

Arrays are compressed, in base64. Those of a short text are in single precision; of a longer one probabilities are two
bytes or one, other numbers one. What finds no room is left out, and the page says so.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Mapping
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

LIMIT = 1_500_000  # bytes before compression and base64: a page of 64 tokens shall not be larger than 2 MB

# Patterns of names, those that are used most first; the first two are always on the page.
PARTS = (
    r"layers\.\d+\.(attention\.probs|rollout)",
    r"embeddings\..*",
    r"layers\.\d+\.output|pooler|classifier|nsp",
    r"layers\.\d+\.attention\.(query|key|value)",
    r".*",
)


def render(facts: Mapping[str, object], arrays: Mapping[str, NDArray]) -> str:
    """The whole page. facts: ready for JSON."""
    script, style = asset("page.js"), asset("page.css")
    policy = (
        f"default-src 'none'; script-src '{fingerprint(script)}'; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": html.escape(policy),
        "STYLE": style,
        "WORDS": embedded(json.loads(asset("words.json"))),
        "DATA": embedded({**facts, "arrays": packed(arrays)}),
        "SCRIPT": script,
    }
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda match: parts[match[1]], asset("page.html"))


def asset(name: str) -> str:
    return (files("minibert") / "assets" / "explain" / name).read_text(encoding="utf-8")


def fingerprint(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode('utf-8')).digest()).decode()}"


def embedded(value: object) -> str:
    """JSON that can stand inside a <script>: no "<" that could end it, no line end that only JavaScript knows."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)


# ---- arrays ----


def packed(arrays: Mapping[str, NDArray]) -> dict[str, dict]:
    """What is on the page: {name: shape, coding, compressed bytes in base64}, in the order of `arrays`."""
    exact = sum(x.size for x in arrays.values()) * 4 <= LIMIT
    probabilities = sum(x.size for name, x in arrays.items() if part_of(name) == 0)
    found, room = {}, LIMIT
    for name in sorted(arrays, key=part_of):
        x, part = arrays[name], part_of(name)
        coding = "i1" if part else "u2" if probabilities * 2 <= LIMIT else "u1"
        coding = "f4" if exact or x.ndim == 1 else coding
        data = encoded(x, coding)
        if part <= 1 or len(data) <= room:
            room -= len(data)
            block = base64.b64encode(zlib.compress(data, 6)).decode()
            found[name] = {"shape": list(x.shape), "coding": coding, "data": block}
    return {name: found[name] for name in arrays if name in found}


def part_of(name: str) -> int:
    """The first of PARTS that it belongs to."""
    return next(number for number, pattern in enumerate(PARTS) if re.fullmatch(pattern, name))


def encoded(x: NDArray, coding: str) -> bytes:
    """Little-endian bytes of x, of any shape.

    f4: single precision. u1, u2: the square root of probabilities, which gives small ones more steps; to within 0.004
    and 0.00002. i1: each row's largest size in single precision, then all numbers as 127ths of their row's.
    """
    if coding == "f4":
        return x.astype("<f4").tobytes()
    if coding != "i1":
        return np.rint(np.sqrt(x.clip(0, 1)) * np.iinfo(coding).max).astype(f"<{coding}").tobytes()
    largest = np.abs(x).max(axis=-1, keepdims=True).astype("<f4")
    shares = np.rint(x / np.where(largest > 0, largest, 1) * 127)
    return largest.tobytes() + shares.astype("i1").tobytes()
