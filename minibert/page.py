"""From an explanation to one HTML file: template, style, script and words of assets/explain, and the numbers.

What comes from outside (texts, tokens, names) reaches the page as JSON only, in which no tag can begin, and the script
puts it there as text, never as markup. The Content-Security-Policy names the page's own script by its hash: nothing
else runs, and nothing is fetched.

Arrays are one block of bytes, compressed, in base64: single precision where that stays small enough, else half, else
bytes of the square root (for probabilities). What finds no room is left out, and the page says so.
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

LIMIT = 2_700_000  # bytes of base64 before compression: a page of 64 tokens shall not be larger than 3 MB
LARGEST_HALF = 65504.0


# In the order of their use; each is a pattern of names.
PARTS = (
    r"layers\.\d+\.(attention\.probs|rollout)",
    r"embeddings\..*",
    r"layers\.\d+\.output|pooler|classifier|nsp",
    r"layers\.\d+\.attention\.(query|key|value)",
    r".*",
)
# What is tried in turn: bytes for each number of the first part, the second … 4 is single precision, 2 half, 1 a byte.
PLANS = ("44444", "44442", "44422", "44222", "42222", "22222", "4422", "4222", "2222", "222", "22", "12")


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
    plan = next((plan for plan in PLANS if size(arrays, plan) * 4 / 3 <= LIMIT), PLANS[-1])
    table: dict[str, dict] = {}
    pieces: list[bytes] = []
    offset = 0
    for name, x in arrays.items():
        if not (width := bytes_each(name, plan)):
            continue
        coding, data = coded(x, width)
        table[name] = {"shape": list(x.shape), "coding": coding, "offset": offset}
        pieces.append(data + bytes(-len(data) % 4))  # aligned for JavaScript's typed arrays
        offset += len(pieces[-1])
    return table, zlib.compress(b"".join(pieces), 6)


def bytes_each(name: str, plan: str) -> int:
    """Bytes for each number of an array; 0: it is left out."""
    part = next(number for number, pattern in enumerate(PARTS) if re.fullmatch(pattern, name))
    return int(plan[part]) if part < len(plan) else 0


def size(arrays: Mapping[str, NDArray], plan: str) -> int:
    return sum(x.size * bytes_each(name, plan) for name, x in arrays.items())


def coded(x: NDArray, width: int) -> tuple[str, bytes]:
    """Little-endian bytes, and what they are. The square root gives small probabilities more steps: the smallest is
    1/255², 0.000015."""
    if width == 1:
        return "u1", np.rint(np.sqrt(x.clip(0, 1)) * 255).astype(np.uint8).tobytes()
    if width == 2 and np.abs(x).max(initial=0) <= LARGEST_HALF:
        return "f2", x.astype("<f2").tobytes()
    return "f4", x.astype("<f4").tobytes()
