"""The report page is self-contained, escaped, well-formed and true to its numbers: pytest
tests/training/test_report.py
"""

import dataclasses
import json
import math
import re
from html.parser import HTMLParser
from itertools import chain

import pytest

from minibert.inference.scores import WORDS
from minibert.io.bundled import ASSETS
from minibert.training import report_words
from minibert.training.report import (
    PretrainingReport,
    Report,
    _running_mean,
    _text,
    _thin,
    _ticks,
    render,
)
from minibert.training.report_words import SAID

HOSTILE = "<script>alert(1)</script>\"'& <img src=x onerror=alert(1)>"
VOID = {"meta", "br", "img", "link", "input", "hr", "base", "source"}


def make(**changes) -> Report:
    """A small run of two classes; every test changes what it is about."""
    steps = [{"step": k, "loss": 1 / k, "accuracy": 1 - 0.5 / k, "lr": 1e-5 * k} for k in range(1, 41)]
    losses, accuracies = (0.4321, 0.3217, 0.3333), (0.8125, 0.9375, 0.9375)
    epochs = [
        {"epoch": k, "train_loss": 0.5678, "train_accuracy": 0.7654, "dev_loss": x, "dev_accuracy": y, "seconds": 12.3}
        for k, x, y in zip((1, 2, 3), losses, accuracies, strict=True)
    ]
    wrong = {"text": "不好吃", "pair": None, "label": "negative", "predicted": "positive", "probability": 0.9731}
    run = Report(
        title="a run",
        summary={"device": "cpu"},
        labels=["negative", "positive"],
        steps=steps,
        epochs=epochs,
        steps_per_epoch=13,
        **of_matrix([[40, 10], [5, 1045]]),
        split="test",
        result={"accuracy": 0.9864, "loss": 0.1357, "macro_f1": 0.9173},
        baselines={"majority class": 0.9545, "naive Bayes": 0.9612},
        mistakes=[wrong],
        options={"lr": 5e-5, "seed": 7},
        command="minibert train --seed 7",
    )
    return dataclasses.replace(run, **changes)


def of_matrix(confusion: list[list[int]]) -> dict[str, list[list[int]]]:
    """The confusion matrix, and the counts that are in it."""
    columns = zip(*confusion, strict=True)
    counts = [[row[k], sum(row), sum(next(columns))] for k, row in enumerate(confusion)]
    return {"confusion": confusion, "counts": counts}


def with_steps(losses: list[float]) -> Report:
    """A run of one epoch whose losses are these."""
    steps = [{"step": k, "loss": loss, "accuracy": 0.5, "lr": 0.0} for k, loss in enumerate(losses, 1)]
    return make(steps=steps, epochs=make().epochs[:1], steps_per_epoch=len(steps) + 1)


def of_classes(count: int) -> Report:
    return make(labels=[f"{k}类 {HOSTILE}" for k in range(count)], **of_matrix([[k % 3] * count for k in range(count)]))


def view(page: str, language: str = "en") -> str:
    """What the style sheet shows of a page in one of its languages."""
    other = {"en": "zh-Hans", "zh": "en"}[language]
    head, main, rest = re.split("(?<=<main>)|(?=</main>)", page)
    main = re.sub(rf'<(span|tspan|g) lang="{other}">.*?</\1>', "", main)
    return head + re.sub(r'<(span|tspan|g) lang="(?:en|zh-Hans)">(.*?)</\1>', r"\2", main) + rest


def shown(run: Report | PretrainingReport, language: str = "en") -> str:
    return view(render(run), language)


def paths(page: str, kind: str) -> list[list[str]]:
    """The points of every path of this class: loss first, then accuracy."""
    return [d.split("L") for d in re.findall(rf'<path class="{kind}" d="M([^"]*)"', page)]


class Walk(HTMLParser):
    """Walks a page; remembers every tag that closes nothing or never closes, the attributes used, and the text."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.faults, self.attributes, self.text = [], [], set(), []
        self.feed(page)
        self.close()
        self.faults += self.open

    def handle_starttag(self, tag, attrs):
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"/{tag}")

    def handle_data(self, data):
        self.text.append(data)


PAGES = {
    "plain": make(),
    "one epoch": make(epochs=make().epochs[:1]),
    "one step": with_steps([0.7]),
    "no step": with_steps([]),
    "exploding": with_steps([0.5, 1e30, 0.4]),
    "constant": make(steps=[{"step": k, "loss": 0.0, "accuracy": 1.0, "lr": 0.0} for k in range(3)]),
    "50 classes": of_classes(50),
}
every_page = pytest.mark.parametrize("run", PAGES.values(), ids=PAGES.keys())


@every_page
def test_the_page_asks_the_network_for_nothing(run):
    page = render(run).lower()
    assert not re.search(r"https?://|<script|<link|<iframe|url\(|@import", page)
    assert not [name for name in Walk(page).attributes if re.match("src|href|xlink|on", name)]


@every_page
def test_every_tag_that_opens_is_closed_in_order(run):
    assert Walk(render(run)).faults == []


@every_page
def test_the_curves_hold_only_finite_numbers(run):
    for value in re.findall(r'\s(?:d|x|y|cx|cy|r)="([^"]*)"', render(run)):
        assert re.fullmatch(r"[MLHVv\d.,-]+", value), value


def test_the_page_declares_charset_viewport_and_title():
    page = render(make())
    for part in ('<meta charset="utf-8">', '<meta name="viewport"', "<title>a run</title>"):
        assert part in page


@pytest.mark.parametrize(
    "changes",
    [
        {"title": HOSTILE},
        {"command": HOSTILE},
        {"split": HOSTILE},
        {"labels": [HOSTILE, "b"]},
        {"summary": {HOSTILE: HOSTILE}},
        {"options": {HOSTILE: HOSTILE}},
        {"baselines": {HOSTILE: 0.99}},
        {
            "mistakes": [
                {**make().mistakes[0], "text": HOSTILE, "pair": HOSTILE, "label": HOSTILE, "predicted": HOSTILE}
            ]
        },
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_hostile_text_is_shown_and_not_run(changes):
    page = render(make(**changes))
    assert "<script" not in page
    assert "<img" not in page
    assert HOSTILE in "".join(Walk(page).text)


def test_characters_that_utf8_or_html_cannot_hold_are_replaced():
    page = render(make(title="a\ud800b\x00c\x1bd"))
    assert "a\ufffdb\ufffdc\ufffdd" in page
    page.encode("utf-8")


def test_the_results_stand_in_the_header():
    header = shown(make()).split("</header>")[0]
    assert all(number in header for number in ("98.64%", "0.1357", "0.9173", "1,100 test examples"))


def test_the_interval_of_the_accuracy_is_wilsons():
    """8 of 10 right, z = 1.96: (.8 + .19208 ± 1.96·√(.016 + .009604)) / 1.38416 = .490 and .943."""
    page = shown(make(**of_matrix([[4, 1], [1, 4]]), result={**make().result, "accuracy": 0.8}))
    assert "95% interval 49.0% to 94.3%" in page


def test_the_epochs_table_shows_its_numbers():
    row = "</td><td>".join(["0.5678", "76.54%", "0.4321", "81.25%", "12.3"])
    assert f'<tr><th scope="row">1</th><td>{row}</td></tr>' in render(make())


def test_the_first_of_the_best_epochs_is_marked():
    """Of equal accuracy, and the third, which is added, of equal loss too."""
    epochs = [*make().epochs, {**make().epochs[1], "epoch": 4}]
    page = shown(make(epochs=epochs))
    assert "2 <b>best</b>" in page
    assert page.count("<b>best</b>") == 1
    assert "best: epoch 2, 0.3217" in page
    assert "best: epoch 2, 93.75%" in page


def test_the_confusion_matrix_shows_counts_and_row_shares():
    page = render(make())
    cells = re.findall(r'<div class="(hit|miss)" style="--share:([\d.]+)">([\d,]+)<small>([\d.]+%)</small>', page)
    assert cells == [
        ("hit", "0.800", "40", "80.0%"),
        ("miss", "0.200", "10", "20.0%"),
        ("miss", "0.005", "5", "0.5%"),
        ("hit", "0.995", "1,045", "99.5%"),
    ]


def test_the_scores_of_a_class_are_those_computed_by_hand():
    """negative: precision 40/45, recall 40/50, F1 2·40/(50+45)."""
    row = "</td><td>".join(["0.8889", "0.8000", "0.8421", "50", "45"])
    assert f"<td>{row}</td>" in render(make())


def test_a_class_that_never_occurs_has_dashes_for_scores():
    page = render(make(**of_matrix([[5, 0], [0, 0]])))
    assert "<td>–</td><td>–</td><td>–</td><td>0</td><td>0</td>" in page


@pytest.mark.parametrize("count", [2, 5, 6, 30])
def test_a_confusion_matrix_of_many_classes_has_every_cell(count):
    page = shown(of_classes(count))
    assert len(re.findall(r'<div class="(?:hit|miss)"', page)) == count * count
    assert "largest of" not in page


def test_of_more_classes_the_largest_are_shown_in_their_order():
    sizes = [*range(40)]
    page = shown(make(labels=[f"class{k}" for k in sizes], **of_matrix([[k] * 40 for k in sizes])))
    assert len(re.findall(r'<div class="(?:hit|miss)"', page)) == 30 * 30
    assert "<p>The 30 largest of 40 classes.</p>" in page
    assert list(dict.fromkeys(re.findall(r"class\d+", page.partition("Confusion matrix")[2]))) == [
        f"class{k}" for k in range(10, 40)
    ]


def test_thousands_of_classes_make_no_larger_page():
    counts = [[1, 1, 1]] * 3000
    page = shown(make(labels=[f"class{k}" for k in range(3000)], confusion=[], counts=counts, rows=3000))
    assert "3,000 classes: too many for a confusion matrix." in page
    assert "<p>The 30 largest of 3,000 classes.</p>" in page
    assert len(page) < len(shown(of_classes(30)))


def test_a_model_that_is_only_evaluated_has_neither_curves_nor_baselines():
    page = shown(make(steps=[], epochs=[], baselines={}))
    assert re.findall("<h2>(.*?)</h2>", page) == ["Classes, on the test split", "Worst mistakes", "Run it again"]
    assert Walk(page).faults == []


@pytest.mark.parametrize(
    ("best", "verdict"), [(0.9612, "2.52 points above"), (0.9999, "1.35 points below"), (0.9864, "level with")]
)
def test_the_best_baseline_is_compared_with_bert(best, verdict):
    page = shown(make(baselines={"weak": 0.5, "strong": best}))
    assert f"BERT is {verdict} the best baseline, <bdi>strong</bdi>." in page


def test_the_learning_rates_are_those_of_the_run_and_not_of_the_steps_that_were_logged():
    page = shown(make(rates=[(4, 1e-3), (1600, 2.5e-5)]))
    assert "The learning rate peaked at 0.001 in update 4 and ended at 2.5e-05 in update 1,600." in page


def test_what_speaks_against_a_run_stands_above_its_facts():
    page = shown(make(warnings=["never predicted: <b>x</b>"]))
    place = page.index("<p><b>!</b> never predicted: &lt;b&gt;x&lt;/b&gt;</p>")
    assert page.index('<dl class="results">') < place < page.index("<dt>device</dt>")


def test_baselines_and_bert_are_bars_in_order_of_accuracy():
    widths = re.findall(r'<div class="bar(| ours)" style="width:([\d.]+)%"', render(make()))
    assert widths == [(" ours", "98.64"), ("", "96.12"), ("", "95.45")]


def test_the_dev_points_stand_at_the_ends_of_their_epochs():
    """Three epochs of 13 steps, beside the logged steps 1 … 40."""
    page = render(make())
    for dev, mean in zip(paths(page, "dev"), paths(page, "mean"), strict=True):
        at = {step: point.split(",")[0] for step, point in enumerate(mean, 1)}
        assert [point.split(",")[0] for point in dev] == [at[13], at[26], at[39]]


@pytest.mark.slow
def test_thousands_of_steps_are_drawn_with_at_most_600_points():
    losses = [0.5 + 0.1 * math.sin(k) for k in range(5000)]
    page = render(with_steps(losses))
    assert all(300 < len(points) <= 600 for points in paths(page, "raw")[:1] + paths(page, "mean"))


def test_thinning_keeps_the_highest_and_the_lowest_point():
    points = [(k, 0.5) for k in range(5000)]
    points[1234], points[4321] = (1234, 9.0), (4321, 0.1)
    assert {(1234, 9.0), (4321, 0.1)} <= set(_thin(points))


def test_the_running_mean_is_centred():
    """Of 1, 2, 6, 4 by threes: (1+2)/2, (1+2+6)/3, (2+6+4)/3, (6+4)/2."""
    points = list(zip((1, 2, 3, 4), (1.0, 2.0, 6.0, 4.0), strict=True))
    assert _running_mean(points, 3) == [(1, 1.5), (2, 3.0), (3, 4.0), (4, 5.0)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 0.72, [0, 0.2, 0.4, 0.6, 0.8]), (0.35, 1, [0.2, 0.4, 0.6, 0.8, 1]), (0, 936, [0, 200, 400, 600, 800, 1000])],
)
def test_ticks_are_round_and_enclose_the_data(low, high, expected):
    assert _ticks(low, high) == pytest.approx(expected)


def test_the_steps_axis_has_whole_numbers():
    assert _ticks(0, 2, smallest=1) == [0, 1, 2]


def test_a_short_text_stands_whole():
    assert _text("不好吃") == '<p class="text" dir="auto" lang="">不好吃</p>\n'


def test_a_long_text_is_cut_and_its_rest_can_be_opened():
    text = "".join(chr(0x4E00 + k) for k in range(10_000))
    first, rest = _text(text).split("<details>")
    assert '<span lang="en">the other 9,700 characters</span>' in rest
    assert text[:300] + "…" in first
    assert text[300:] in rest


@pytest.mark.parametrize(
    "tail", ["\u0301\u0301", "\u200d👩", "🏽", "\ufe0f"], ids=["accents", "joiner", "skin", "selector"]
)
def test_the_cut_breaks_no_visible_character(tail):
    text = "x" * 298 + "👩" + "e" + tail + "z" * 50
    assert f"e{tail}…</p>" in _text(text)


def test_a_pair_shows_both_texts():
    page = render(make(mistakes=[{**make().mistakes[0], "pair": "second"}]))
    assert page.index("不好吃</p>") < page.index("second</p>")


def test_a_mistake_shows_truth_prediction_and_probability():
    assert 'true <bdi class="true">negative</bdi> predicted <bdi>positive</bdi> with&nbsp;97.31%' in shown(make())


def test_options_and_command_are_there_to_run_it_again():
    page = render(make())
    assert "<code>minibert train --seed 7</code>" in page
    assert '<th scope="row">lr</th><td><code>5e-05</code></td>' in page


# ---- pretraining ----


def pretraining(**changes) -> PretrainingReport:
    """A small run with two measurements; every test changes what it is about."""
    steps = [{"step": k, "loss": 5 / k, "accuracy": 0.1, "nsp_accuracy": 0.5, "lr": 1e-4} for k in range(20, 401, 20)]
    scores = {"loss": 3.1, "accuracy": 0.3217, "word_accuracy": 0.2, "unigram_accuracy": 0.1}
    scores |= {"unigram_word_accuracy": 0.0123, "nsp_accuracy": 0.7531}
    run = PretrainingReport(
        title="poems",
        summary={"model": HOSTILE},
        steps=steps,
        measured=[{"measured": 200, **scores}, {"measured": 400, **scores, "accuracy": 0.4}],
        result=scores,
        options={"corpus": ("a.txt", HOSTILE), "lr": 1e-3},
        command="minibert pretrain --corpus a.txt",
    )
    return dataclasses.replace(run, **changes)


@pytest.mark.parametrize(
    "run", [pretraining(), pretraining(measured=[], result={}), pretraining(steps=[], measured=[], result={})]
)
def test_a_pretraining_page_is_well_formed_escaped_and_asks_the_network_for_nothing(run):
    page = render(run)
    walk = Walk(page)
    assert walk.faults == []
    assert "<script" not in page
    assert not re.search(r"https?://|<link|<iframe|url\(|@import", page)
    assert not [name for name in walk.attributes if re.match("src|href|xlink|on", name)]
    for value in re.findall(r'\s(?:d|x|y|cx|cy|r)="([^"]*)"', page):
        assert re.fullmatch(r"[MLHVv\d.,-]+", value), value


def test_a_pretraining_page_holds_its_results_and_what_guessing_reaches():
    text = " ".join(Walk(shown(pretraining())).text)
    for part in ("3.1000", "32.17%", "20.00%", "75.31%", "always the most frequent one: 1.23%", "step 400, 40.00%"):
        assert part in text
    assert "epoch" not in text


def test_a_pretraining_page_has_a_point_for_each_measurement_at_its_step():
    loss, accuracy, pairs = paths(render(pretraining()), "dev")
    for points in (loss, accuracy, pairs):
        assert [round((float(p.split(",")[0]) - 58) / (520 - 58 - 26) * 400) for p in points] == [200, 400]


# ---- both languages ----

SUMMARY = {key.partition(".")[2]: "7" for key in SAID if key.startswith("fact.")}
SUMMARY["rows"] = {key.partition(".")[2]: 1234 for key in SAID if key.startswith("count.")}
OURS = {"title": "甲", "summary": SUMMARY, "options": {"乙": 7}, "command": "丙"}  # not the page's own: no Latin word
MISTAKE = {"text": "字" * 400, "pair": None, "label": "负", "predicted": "正"}
EPOCH = {"epoch": 1, "seconds": 1.5, "train_loss": 0.5, "dev_loss": 0.25}
CLASSES = make(
    **OURS,
    labels=["负", "正"],
    baselines={"majority class": 0.5, "bag of tokens (naive Bayes)": 0.75},
    mistakes=[{**MISTAKE, "probability": 0.75}],
    rates=[(4, 1e-3), (16, 2.5e-3)],
)
LABELS = dataclasses.replace(
    CLASSES,
    task="multi-label",
    best_by="exact_match",
    steps=[{"step": k, "loss": 1.0, "exact_match": 0.5, "lr": 0.1} for k in range(1, 41)],
    epochs=[{**EPOCH, "train_exact_match": 0.5, "dev_exact_match": 0.75}],
    confusion=[],
    result={"exact_match": 0.5, "loss": 0.25, "micro_f1": 0.75, "macro_f1": 0.5},
    baselines={"most frequent labels": 0.5},
    mistakes=[MISTAKE],
    rows=40,
    split="dev",
)
NUMBERS = dataclasses.replace(
    LABELS,
    task="regression",
    best_by="pearson",
    epochs=[{**EPOCH, "dev_pearson": 0.75, "dev_spearman": 0.5}],
    counts=[],
    result={"pearson": 0.75, "spearman": 0.5, "loss": 0.25},
    baselines={"mean of the training rows": 0.5},
)
POEMS = pretraining(**OURS, rates=[(4, 1e-3), (16, 2.5e-3)])
MANY = {"labels": ["字"] * 40, "counts": [[1, 1, 1]] * 40, "confusion": [], "rows": 40}
KINDS = {
    "classes": CLASSES,
    "above": dataclasses.replace(CLASSES, baselines={"majority class": 1.0}),
    "level": dataclasses.replace(CLASSES, baselines={"majority class": 0.9864}),
    "many classes": dataclasses.replace(CLASSES, **MANY, mistakes=[]),
    "labels": LABELS,
    "many labels": dataclasses.replace(LABELS, **MANY),
    "numbers": NUMBERS,
    "equal numbers": dataclasses.replace(NUMBERS, baselines={"mean of the training rows": 0.25}),
    "pretraining": POEMS,
    "nothing held out": dataclasses.replace(POEMS, measured=[], result={}),
    "nothing at all": dataclasses.replace(POEMS, measured=[], result={}, steps=[]),
}
every_kind = pytest.mark.parametrize("run", KINDS.values(), ids=KINDS.keys())


def said(page: str) -> str:
    """The text of its <main>."""
    return "".join(Walk(page.partition("<main>")[2].partition("</main>")[0]).text)


@every_kind
def test_the_chinese_view_has_no_english_words_and_the_english_one_no_chinese(run):
    names = {"BERT", "F", "Pearson", "Spearman", "nat"}
    assert set(re.findall("[A-Za-z]+", said(shown(run, "zh")))) <= names
    assert set(re.findall("[\u4e00-\u9fff]", said(shown(run, "en")))) <= set("甲乙丙负正字")


@every_kind
def test_both_views_have_the_same_numbers_and_the_page_no_words_besides(run):
    numbers = [sorted(re.findall(r"[\d.,]*\d", said(shown(run, language)))) for language in ("en", "zh")]
    assert numbers[0] == numbers[1]
    assert Walk(render(run)).faults == Walk(shown(run, "en")).faults == Walk(shown(run, "zh")).faults == []


@every_kind
def test_what_names_a_table_or_a_chart_is_there_once(run):
    page = render(run)
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'aria-labelledby="([^"]*)"', page)) <= set(ids)
    assert "aria-label=" not in page


@pytest.mark.parametrize("key", SAID)
def test_words_are_said_in_both_languages_with_the_same_places(key):
    assert list(SAID[key]) == ["en", "zh"]
    english, chinese = (sorted(re.findall(r"\{\w+\}", text)) for text in SAID[key].values())
    assert english == chinese
    assert re.search("[\u4e00-\u9fff]", SAID[key]["zh"])


def test_no_words_stand_twice_in_the_file():
    pairs = json.loads((ASSETS / "report-words.json").read_text(encoding="utf-8"), object_pairs_hook=list)
    assert [key for key, _ in pairs] == list(SAID)


def test_scores_are_called_as_everywhere():
    scores = {key.partition(".")[2]: text["en"] for key, text in SAID.items() if key.startswith("score.")}
    assert scores == {name: WORDS[name][0] for name in scores}


def test_all_words_are_in_use(monkeypatch):
    asked = set()

    class Asked(dict):
        def __getitem__(self, key):
            asked.add(key)
            return super().__getitem__(key)

    monkeypatch.setattr(report_words, "SAID", Asked(SAID))
    for run in chain(KINDS.values(), PAGES.values()):
        render(run)
    assert set(SAID) - asked == set()


@pytest.mark.parametrize(
    ("names", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LC_MESSAGES": "zh_TW", "LANG": "en_US.UTF-8"}, "zh"),
        ({"LC_ALL": "C", "LC_MESSAGES": "zh_CN", "LANG": "zh_CN"}, "en"),
        ({"LC_ALL": "", "LANG": "zh"}, "zh"),
    ],
    ids=str,
)
def test_the_page_begins_in_the_language_of_the_locale(monkeypatch, names, language):
    monkeypatch.setattr("minibert.io.language._current", None)  # which a command has chosen before
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    page = render(make())
    assert page.startswith(f'<!doctype html>\n<html lang="{report_words.LANGUAGES[language]}">')
    assert re.findall(r'<input type="radio" name="language" id="(..)" checked>', page) == [language]


def test_the_switch_hides_the_other_language():
    """`~` reaches main alone where the inputs stand before it, in the same element."""
    page = render(make())
    body = page.partition("<body>\n")[2].partition("<main>")[0]
    assert re.findall(r' (?:id|for)="(..)"', body) == ["en", "en", "zh", "zh"]
    assert set(Walk(body).open) == set()
    rule = '#en:checked ~ main [lang|="zh"], #zh:checked ~ main [lang="en"] { display: none }'
    assert rule in page.partition("</style>")[0]
    assert set(re.findall(r' lang="([^"]*)"', page.partition("<main>")[2])) == {"en", "zh-Hans", ""}
