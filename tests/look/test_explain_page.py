"""Proves in a headless Chromium that the page of `minibert explain` works: by mouse, by keyboard, on a phone, offline.

Run: pytest tests/look/test_explain_page.py (skipped where no Chromium is found); with all texts: -m ""
"""

import json
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from conftest import MODELS, small_config, stir
from test_explain import NASTY, TOKENIZER

from minibert.look.explanation import Explanation, explain

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")

TEXTS = {
    "one": ("cat", None),
    "nothing": ("", None),
    "twelve": ("the unaffable cat, a cat a the cat a", None),
    "sixty-four": ("the cat un " * 20, None),
    "all": ("the unaffable cat " * 200, None),
    "pair": ("白日=the [MASK], e", "白, 日<script>'cat'"),
    "nasty": (" ".join(NASTY), "<img src=x onerror='window.hacked = 1'>"),
}
QUICK = {("pair", 1280), ("pair", 390), ("nasty", 390)}  # the default suite has no time for all


class Pages(dict[str, Path]):
    """By the names of TEXTS; made when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def __missing__(self, name: str) -> Path:
        kind = "BertForSequenceClassification" if name == "twelve" else "BertForMaskedLM"
        self[name] = self.directory / f"{name}.html"
        self[name].write_text(explanation(kind, *TEXTS[name]).to_html(), encoding="utf-8")
        return self[name]


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Pages:
    return Pages(tmp_path_factory.mktemp("pages"))


def explanation(kind: str, text: str, pair: str | None) -> Explanation:
    return explain(stir(MODELS[kind](small_config(), "sdpa")), TOKENIZER, text, pair)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium, tmp_path) -> Iterator[Browser]:
    """At 1280 pixels, light, in English; what it saves lies in tmp_path. Nothing may have been said on the console."""
    chromium.resize(1280, 900)
    chromium.prefer(dark=False)
    chromium.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    chromium.errors.clear()
    chromium.requests.clear()
    yield chromium
    assert chromium.errors == []
    assert [address for address in chromium.requests if not address.startswith(("file:", "blob:", "data:"))] == []


def text(browser: Browser, selector: str) -> str:
    return browser.run(f"document.querySelector({json.dumps(selector)}).textContent")


def saved(file: Path) -> bytes:
    """A download, as soon as it is whole."""
    end = time.monotonic() + 10
    while not file.exists() or not file.stat().st_size:
        assert time.monotonic() < end, f"{file.name} was not saved"
        time.sleep(0.01)
    return file.read_bytes()


@pytest.mark.parametrize(
    ("name", "width"),
    [
        pytest.param(name, width, marks=() if (name, width) in QUICK else pytest.mark.slow)
        for name in TEXTS
        for width in (1280, 390)
    ],
)
def test_every_text_fits_and_is_drawn_without_error_or_request(name, width, browser, pages):
    browser.resize(width, 800)
    browser.open(pages[name])
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run("document.querySelectorAll('section > h2').length") == 7
    assert browser.requests == [pages[name].as_uri()]
    assert browser.run("typeof window.hacked") == "undefined"
    browser.click("#language")
    assert browser.run("document.documentElement.scrollWidth") == width


def test_the_switches_change_language_and_colours(browser, pages):
    browser.open(pages["twelve"])
    browser.run("state.language === 'en' || document.querySelector('#language').click()")
    assert text(browser, "#pieces h2") == "1The text and its pieces"
    before = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.click("#language")
    assert text(browser, "#pieces h2") == "1文本与它的切分"
    assert browser.run("document.documentElement.lang") == "zh-Hans"
    browser.click("#theme")
    assert browser.run("getComputedStyle(document.body).backgroundColor") != before


def test_the_readers_own_colours_come_first(browser, pages):
    browser.prefer(dark=True)
    browser.open(pages["one"])
    assert browser.run("document.documentElement.dataset.theme") == "dark"


def test_a_piece_says_why_by_mouse_and_stays_when_clicked(browser, pages):
    browser.open(pages["twelve"])
    chip = "#pieces .chip[data-token='{}']"
    browser.hover(chip.format(3))
    assert text(browser, "#pieces .panel h3") == "##aff"
    assert text(browser, "#pieces .tries li:nth-child(4)") == "×##affa"
    assert text(browser, "#pieces .tries .yes") == "✓##aff"
    browser.hover("#pieces h2")
    assert text(browser, "#pieces .panel h3") == "the"
    browser.click(chip.format(4))
    browser.hover("#pieces h2")
    assert text(browser, "#pieces .panel h3") == "##able"
    assert browser.run("[...document.querySelectorAll('label > select')].map(s => s.value).slice(0, 2)") == ["4", "4"]


def test_arrow_keys_go_through_the_pieces(browser, pages):
    browser.open(pages["twelve"])
    browser.run("document.querySelector('#pieces .chip[tabindex=\"0\"]').focus()")
    for key, shown in (("ArrowRight", "un"), ("ArrowRight", "##aff"), ("ArrowLeft", "un"), ("End", "[SEP]")):
        browser.press(key)
        assert text(browser, "#pieces .panel h3") == shown


def test_a_head_opens_by_mouse_and_shows_its_row(browser, pages):
    browser.open(pages["twelve"])
    found = explanation("BertForSequenceClassification", *TEXTS["twelve"])
    browser.click("#attention .maps [aria-label='Layer 1, head 2']")
    assert text(browser, ".large h3") == "Layer 1, head 2"
    browser.click(".large .chip[data-token='5']")
    row = found.tensors["layers.1.attention.probs"][2, 5]
    for i, share in enumerate(row):
        shown = text(browser, f".large .chip[data-token='{i}'] small")
        assert shown == "·" or float(shown) == pytest.approx(share, abs=0.006)
    browser.click(".large label input")  # who looks at it
    shown = text(browser, ".large .chip[data-token='7'] small")
    assert float(shown) == pytest.approx(found.tensors["layers.1.attention.probs"][2, 7, 5], abs=0.006)
    browser.click("#attention .maps [aria-label='Rollout after layer 1']")
    assert text(browser, ".large h3") == "Rollout after layer 1"


def test_the_map_tells_its_cells_by_mouse_and_keyboard(browser, pages):
    browser.open(pages["twelve"])
    browser.hover(".large canvas")
    assert " looks at " in text(browser, ".large .readout")
    browser.run("document.querySelector('.large canvas').focus()")
    before = text(browser, ".large .readout")
    browser.press("ArrowDown")
    assert text(browser, ".large .readout") != before


def test_cls_and_sep_can_be_hidden(browser, pages):
    browser.open(pages["pair"])
    count = "document.querySelectorAll('.large .chip').length"
    before = browser.run(count)
    browser.click("#attention .controls input")
    assert browser.run(count) == before - 3
    assert "[CLS]" not in text(browser, ".large .chips")


def test_the_grid_of_heads_works_by_keyboard(browser, pages):
    browser.open(pages["twelve"])
    label = "document.activeElement.getAttribute('aria-label')"
    browser.click("#attention .maps [aria-label='Layer 0, head 0']")
    browser.press("ArrowRight")
    browser.press("ArrowDown")
    assert browser.run(label) == "Layer 1, head 1"
    browser.press("Enter")
    assert text(browser, ".large h3") == "Layer 1, head 1"
    assert browser.run("document.activeElement.className").startswith("chip")
    before = browser.run("document.activeElement.dataset.token")
    browser.press("ArrowRight")
    assert browser.run("document.activeElement.dataset.token") == str(int(before) + 1)
    browser.press("Escape")
    assert browser.run(label) == "Layer 1, head 1"


@pytest.mark.slow
def test_tab_reaches_every_part_and_the_focus_is_seen(browser, pages):
    browser.open(pages["pair"])
    parts, outlines = [], set()
    for _ in range(90):
        browser.press("Tab")
        part, outline = browser.run(
            "(e => [e.closest('section, header')?.id ?? '', getComputedStyle(e).outlineStyle])(document.activeElement)"
        )
        parts.append(part)
        outlines.add(outline)
    assert {"pieces", "encoding", "embeddings", "attention", "stream", "answer", "numbers"} <= set(parts)
    assert outlines <= {"solid", "none", "auto"}
    assert parts.index("pieces") < parts.index("attention") < parts.index("numbers")


def test_the_charts_and_the_lens_choose_a_token(browser, pages):
    browser.open(pages["pair"])
    browser.click("#stream table td[data-token='9']")
    assert browser.run("document.querySelector('#stream select').value") == "9"
    browser.run(
        "(s => { s.value = '2'; s.dispatchEvent(new Event('change')) })(document.querySelector('#stream select'))"
    )
    assert browser.run("document.querySelector('#embeddings select').value") == "2"
    browser.click("#stream svg")
    assert browser.run("document.querySelector('#stream path.now') !== null")


def test_the_answer_is_said_and_its_two_explanations_switch(browser, pages):
    found = explanation("BertForSequenceClassification", *TEXTS["twelve"])
    browser.open(pages["twelve"])
    assert text(browser, "#answer .guesses .best bdi") == found.answer.guesses[0].name
    cell = "#answer .maps [aria-label^='Layer 1, head 0']"
    label = f"document.querySelector({json.dumps(cell)}).getAttribute('aria-label')"
    values = []
    for _ in range(2):
        values.append(float(browser.run(label).split(": ")[1].replace("−", "-")))
        browser.click("#answer .choice button:last-child")
    wanted = found.contributions.heads_ablated[1, 0], found.contributions.heads_gradient[1, 0]
    assert values == pytest.approx(wanted, abs=1e-5)
    browser.click(cell)
    assert text(browser, ".large h3") == "Layer 1, head 0"


@pytest.mark.parametrize(
    ("labels", "problem", "said", "caption"),
    [
        (3, "multi_label_classification", "Each label by itself, the model says", "probability"),
        (1, None, "The model's one score", "score"),
        (1, "regression", "The model's one score", "score"),
    ],
)
def test_labels_by_themselves_and_scores_are_called_what_they_are(labels, problem, said, caption, browser, tmp_path):
    config = small_config(id2label={i: f"c{i}" for i in range(labels)}, problem_type=problem)
    model = stir(MODELS["BertForSequenceClassification"](config, "sdpa"))
    found = explain(model, TOKENIZER, "the unaffable cat", target="c0")
    (tmp_path / "page.html").write_text(found.to_html(), encoding="utf-8")
    browser.open(tmp_path / "page.html")
    assert text(browser, "#answer > p:nth-of-type(2)") == said
    assert text(browser, "#answer figcaption span") == caption
    assert "The score is the logit of c0, which stands by itself." in text(browser, "#answer")
    guess = next(guess for guess in found.answer.guesses if guess.name == "c0")
    number = guess.logit if guess.probability is None else guess.probability
    assert text(browser, "#stream .lens tbody tr:last-child td small") == f"{number:.2f}".replace("-", "−")
    if labels == 1:
        assert text(browser, "#answer .guesses > span:nth-of-type(3)") == f"{number:.3f}".replace("-", "−")


def test_any_tensor_is_a_table_that_can_be_copied_and_saved(browser, pages, tmp_path):
    found = explanation("BertForSequenceClassification", *TEXTS["twelve"])
    browser.open(pages["twelve"])
    pick = "(s => { s.value = 'layers.0.ffn.inner'; s.dispatchEvent(new Event('change')) })"
    browser.run(f"{pick}(document.querySelector('#numbers select'))")
    cell = "#numbers tbody tr:nth-child(3) td:nth-child(2)"
    x = found.tensors["layers.0.ffn.inner"]
    assert float(text(browser, cell).replace("−", "-")) == pytest.approx(x[2, 0], abs=1e-4)
    browser.click("#numbers .choice button:last-child")
    assert float(text(browser, cell).replace("−", "-")) == pytest.approx(x[2, 12], abs=1e-4)
    browser.click("#numbers .controls:last-child button:last-of-type")
    written = json.loads(saved(tmp_path / "layers.0.ffn.inner.json"))
    assert written["shape"] == list(x.shape)
    assert written["values"][2] == pytest.approx(x[2].tolist(), rel=1e-6)
    browser.click("#numbers .controls:last-child button")
    browser.wait("document.querySelector('#numbers .controls:last-child button').textContent === 'Copied'")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["twelve", "pair"])
def test_every_figure_is_saved_as_svg_and_png(name, browser, pages, tmp_path):
    browser.open(pages[name])
    count = browser.run("document.querySelectorAll('figure').length")
    assert count >= 11
    script = """(() => {
        const found = [];
        for (const box of document.querySelectorAll("figure > .body")) {
            const svg = svgOf(box);
            found.push([box.closest("section").id, new XMLSerializer().serializeToString(svg)]);
        }
        return found;
    })()"""
    for part, svg in browser.run(script):
        root = ET.fromstring(svg)
        assert float(root.get("width")) > 0, part
        assert len(list(root.iter())) >= 3, part
        assert "var(--" not in svg, part
    browser.click("#attention figcaption button:last-child")
    assert saved(tmp_path / "attention.png").startswith(b"\x89PNG")
    browser.click("#pieces figcaption button")
    drawn = ET.fromstring(saved(tmp_path / "pieces.svg"))
    assert "[CLS]" in [node.text for node in drawn.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.slow
def test_every_button_can_be_pressed(browser, pages):
    browser.open(pages["twelve"])
    for _ in range(2):  # in both languages
        browser.run("""[...document.querySelectorAll("main button")].filter(
            (button) => !button.closest("figcaption")).forEach((button) => button.click())""")
        browser.run("document.querySelectorAll('summary, input[type=checkbox]').forEach((box) => box.click())")
        browser.click("#language")
    assert browser.run("document.querySelectorAll('section > h2').length") == 7
