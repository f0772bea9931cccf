"""From an explanation to one HTML file: template, style, script and words of assets/explain, and the numbers.

What comes from outside (texts, tokens, names) reaches the page as JSON only, in which no tag can begin, and the script
puts it there as text, never as markup. The Content-Security-Policy names the page's own script by its hash: nothing
else runs, and nothing is fetched.

Arrays are one block of bytes, compressed, in base64: in single precision where all of them find room, else in half;
the probabilities of a long text as bytes of their square root. What finds no room is left out, and the page says so.
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

LIMIT = 2_000_000  # bytes before compression and base64: a page of 64 tokens shall not be larger than 3 MB
LARGEST_HALF = 65504.0

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
    table, block = packed(arrays)
    script, style = asset("page.js"), asset("page.css")
    policy = (
        f"default-src 'none'; script-src '{fingerprint(script)}'; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": html.escape(policy),
        "STYLE": style,
        "WORDS": embedded(json.loads(asset("words.json"))),
        "DATA": embedded({**facts, "arrays": table, "block": base64.b64encode(block).decode()}),
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


def packed(arrays: Mapping[str, NDArray]) -> tuple[dict[str, dict], bytes]:
    """What is on the page, {name: shape, coding, offset in bytes}, and the compressed bytes."""
    width = 4 if sum(x.size for x in arrays.values()) * 4 <= LIMIT else 2
    probabilities = sum(x.size for name, x in arrays.items() if part_of(name) == 0)
    found: dict[str, tuple[str, bytes]] = {}
    room = LIMIT
    for name in sorted(arrays, key=part_of):
        small = part_of(name) == 0 and probabilities * width > LIMIT
        coding, data = coded(arrays[name], 1 if small else width)
        if part_of(name) <= 1 or len(data) <= room:
            found[name] = coding, data + bytes(-len(data) % 4)  # aligned for JavaScript's typed arrays
            room -= len(data)
    table: dict[str, dict] = {}
    offset = 0
    for name in filter(found.__contains__, arrays):  # in the order of computation again
        coding, data = found[name]
        table[name] = {"shape": list(arrays[name].shape), "coding": coding, "offset": offset}
        offset += len(data)
    return table, zlib.compress(b"".join(found[name][1] for name in table), 6)


def part_of(name: str) -> int:
    """The first of PARTS that it belongs to."""
    return next(number for number, pattern in enumerate(PARTS) if re.fullmatch(pattern, name))


def coded(x: NDArray, width: int) -> tuple[str, bytes]:
    """Little-endian bytes of x, of any shape, and what they are. The square root gives small probabilities more steps:
    the smallest is 1/255², 0.000015."""
    if width == 1:
        return "u1", np.rint(np.sqrt(x.clip(0, 1)) * 255).astype(np.uint8).tobytes()
    if width == 2 and np.abs(x).max(initial=0) <= LARGEST_HALF:
        return "f2", x.astype("<f2").tobytes()
    return "f4", x.astype("<f4").tobytes()
