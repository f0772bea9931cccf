"""The page a training run leaves behind: curves, confusion matrix, baselines, worst mistakes. One HTML string.

Order: `Report`, `render`, the sections as they stand on the page, the line chart, small helpers.
What comes from outside (labels, texts, options) is escaped where it enters the markup, by `_esc`.
No script and no network: the page opens from disk, and its Content-Security-Policy forbids anything more.
"""

import html
import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from minibert.io.bundled import ASSETS


@dataclass(frozen=True)
class Report:
    """All that the page shows. Losses are in nats; accuracies and probabilities lie between 0 and 1."""

    title: str
    summary: dict[str, str]  # model, data, parameters, seconds, device, versions, …
    labels: list[str]  # class names, in the order of the confusion matrix
    steps: list[dict]  # a logged training step: step, loss, accuracy, lr
    epochs: list[
        dict
    ]  # epoch (from 1), train_loss, train_accuracy, dev_loss, dev_accuracy, seconds (None: of another process)
    steps_per_epoch: int
    confusion: list[list[int]]  # [L, L], rows true, columns predicted
    split: str  # what confusion, result, baselines and mistakes were measured on: "test" or "dev"
    result: dict[str, float]  # accuracy, loss, macro_f1
    baselines: dict[str, float]  # name -> accuracy
    mistakes: list[dict]  # worst first: text, pair (or None), label, predicted, probability of the wrong prediction
    options: dict[str, object]  # all that is needed to run it again
    command: str


@dataclass(frozen=True)
class PretrainingReport:
    """What the page of a pretraining run shows; as in Report where the names are the same."""

    title: str
    summary: dict[str, str]
    steps: list[dict]  # a logged training step: step, loss, accuracy, lr, and nsp_accuracy where that is trained
    measured: list[dict]  # on held-out documents: measured (the step), loss and accuracies by their names
    result: dict[str, float]  # the last of them; empty without held-out documents
    options: dict[str, object]
    command: str

    @property
    def epochs(self) -> list[dict]:
        """The measurements, as the charts want them."""
        names = ("loss", "accuracy", "nsp_accuracy")
        return [{"epoch": m["measured"], **{f"dev_{name}": m.get(name) for name in names}} for m in self.measured]


def render(run: Report | PretrainingReport) -> str:
    """The whole page."""
    if isinstance(run, Report):
        sections = (_header, _training, _epochs, _classes, _baselines, _mistakes, _options)
    else:
        sections = (_pretraining_header, _pretraining_curves, _measurements, _options)
    body = "".join(section(run) for section in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{_esc(run.title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
{(ASSETS / "report.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
"""


def _header(run: Report) -> str:
    """Title, the three results, and the facts of the run."""
    total, accuracy = sum(map(sum, run.confusion)), run.result["accuracy"]
    low, high = (_percent(edge, 1) for edge in _wilson(accuracy, total))
    note = f"on {total:,} {_esc(run.split)} examples<br>95% interval {low} to {high}"
    tiles = (
        ("accuracy", _percent(accuracy), note),
        ("loss", _number(run.result["loss"]), "cross-entropy, nats"),
        ("macro F1", _number(run.result["macro_f1"]), "mean F1 of the classes"),
    )
    return _top(run, tiles)


def _top(run: Report | PretrainingReport, tiles: Iterable[tuple[str, str, str]]) -> str:
    """Title, tiles of (name, value, note), and the facts of the run."""
    results = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in tiles)
    facts = "".join(f"<div><dt>{_esc(name)}</dt><dd>{_esc(value)}</dd></div>" for name, value in run.summary.items())
    lists = f'<dl class="results">{results}</dl>\n' + (f"<dl>{facts}</dl>\n" if facts else "")
    return f'<header>\n<h1 dir="auto">{_esc(run.title)}</h1>\n{lists}</header>\n'


def _training(run: Report) -> str:
    """Loss and accuracy side by side, and what the learning rate did."""
    return _curves(run, _figure(run, "loss", "nats; lower is better") + _figure(run, "accuracy", "higher is better"))


def _curves(run: Report | PretrainingReport, figures: str) -> str:
    rates, note = [(s["step"], s["lr"]) for s in run.steps], ""
    if rates:
        step, peak = max(rates, key=lambda rate: rate[1])
        note = f"<p>The learning rate peaked at {peak:.3g} in step {step:,} and ended at {rates[-1][1]:.3g}.</p>\n"
    return _section("Training", f'<div class="pair">\n{figures}</div>\n{note}')


def _epochs(run: Report) -> str:
    """The numbers behind the dev points."""
    best, rows = _best_epoch(run), []
    for e in run.epochs:
        cells = [f"{e['epoch']} <b>best</b>" if e is best else f"{e['epoch']}"]
        for part in ("train", "dev"):
            cells += [_number(e[f"{part}_loss"]), _percent(e[f"{part}_accuracy"])]
        rows.append([*cells, _number(e["seconds"], 1)])
    head = ["epoch", "train loss", "train accuracy", "dev loss", "dev accuracy", "seconds"]
    return _section("Epochs", _table("Epochs", head, rows))


def _classes(run: Report) -> str:
    """The confusion matrix, and precision, recall and F1 of each class; a dash where a denominator is zero."""
    matrix, scores = [], []
    for k, (name, row) in enumerate(zip(map(_label, run.labels), run.confusion, strict=True)):
        true, predicted = sum(row), sum(other[k] for other in run.confusion)
        cells = []
        for j, count in enumerate(row):
            kind, share = "hit" if j == k else "miss", count / true if true else 0.0
            percent = _percent(share if true else None, 1)
            cells.append(f'<div class="{kind}" style="--share:{share:.3f}">{count:,}<small>{percent}</small></div>')
        matrix.append([name, *cells])
        ratios = ((row[k], predicted), (row[k], true), (2 * row[k], true + predicted))
        scores.append([name, *(_number(a / b if b else None) for a, b in ratios), f"{true:,}", f"{predicted:,}"])
    title = f"Classes, on the {_esc(run.split)} split"
    head = ["true ↓ predicted →", *map(_label, run.labels)]
    tables = _table("Confusion matrix", head, matrix, "confusion" if len(matrix) < 6 else "confusion many")
    tables += _table("Classes", ["class", "precision", "recall", "F1", "true", "predicted"], scores)
    return _section(title, f'<div class="pair">\n{tables}</div>\n' if len(matrix) < 6 else tables)


def _baselines(run: Report) -> str:
    """What BERT adds, or fails to add, to simpler ways of answering."""
    ours, others = run.result["accuracy"], [(_esc(name), a, "") for name, a in run.baselines.items()]
    best, accuracy, _ = max(others, key=lambda bar: bar[1])
    points = round(100 * (ours - accuracy), 2)
    verdict = f"{abs(points):.2f} points {'above' if points > 0 else 'below'}" if points else "level with"
    bars = sorted([("BERT, this run", ours, " ours"), *others], key=lambda bar: -bar[1])
    rows = [[n, f'<div class="bar{own}" style="width:{100 * a:.2f}%"></div>', _percent(a)] for n, a, own in bars]
    table = _table("Baselines", ["classifier", "0 to 100%", "accuracy"], rows, "bars")
    sentence = f"<p>BERT is {verdict} the best baseline, <bdi>{best}</bdi>.</p>\n"
    return _section(f"Baselines, on the {_esc(run.split)} split", sentence + table)


def _mistakes(run: Report) -> str:
    """The wrong answers given with the most confidence."""
    wrong = sum(sum(row) - row[k] for k, row in enumerate(run.confusion))
    of = f" of {wrong:,}" if wrong else ""
    count = f"{len(run.mistakes):,}{of}, the most confident first." if run.mistakes else "None to show."
    items = ""
    for m in run.mistakes:
        verdict = f'true <bdi class="true">{_esc(m["label"])}</bdi> predicted <bdi>{_esc(m["predicted"])}</bdi>'
        texts = "".join(_text(text) for text in (m["text"], m["pair"]) if text is not None)
        items += f"<li><p>{verdict} with&nbsp;{_percent(m['probability'])}</p>\n{texts}</li>\n"
    return _section("Worst mistakes", f"<p>{count}</p>\n" + (f"<ol>\n{items}</ol>\n" if items else ""))


def _options(run: Report) -> str:
    """How to run it again."""
    rows = [[_esc(name), f"<code>{_esc(value)}</code>"] for name, value in run.options.items()]
    table = _table("Options", ["option", "value"], rows, "options")
    details = f"<details>\n<summary>all {len(rows)} options</summary>\n{table}</details>\n"
    return _section("Run it again", f"<pre><code>{_esc(run.command)}</code></pre>\n{details}")


# What the page of a pretraining run has of its own.


def _pretraining_header(run: PretrainingReport) -> str:
    """The results on held-out documents, with what guessing reaches."""
    if not run.result:
        return _top(run, [("loss", _number(run.steps[-1]["loss"] if run.steps else None), "of the last logged steps")])
    guess = "always the most frequent {}: {}".format
    tiles = [
        ("masked-LM loss", _number(run.result["loss"]), "cross-entropy of hidden tokens, nats"),
        ("tokens", _percent(run.result["accuracy"]), guess("token", _percent(run.result["unigram_accuracy"]))),
        (
            "without punctuation",
            _percent(run.result["word_accuracy"]),
            guess("one", _percent(run.result["unigram_word_accuracy"])),
        ),
    ]
    if "nsp_accuracy" in run.result:
        tiles.append(("next sentence", _percent(run.result["nsp_accuracy"]), "guessing: 50%"))
    return _top(run, tiles)


def _pretraining_curves(run: PretrainingReport) -> str:
    figures = _figure(run, "loss", "masked LM, nats") + _figure(run, "accuracy", "of hidden tokens")
    if any("nsp_accuracy" in row for row in run.steps):
        figures += _figure(run, "nsp_accuracy", "of pairs", "next-sentence accuracy")
    return _curves(run, figures)


def _measurements(run: PretrainingReport) -> str:
    """The numbers behind the held-out points."""
    if not run.measured:
        return ""
    names = [name for name in run.measured[-1] if name != "measured"]
    rows = [
        [f"{m['measured']:,}", *(_number(m[n]) if n == "loss" else _percent(m[n]) for n in names)] for m in run.measured
    ]
    return _section("Held-out documents", _table("Held out", ["step", *(n.replace("_", " ") for n in names)], rows))


# The line chart, in units of its viewBox; the style sheet enlarges its text on narrow screens.
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 520, 300, 58, 26, 28, 52


def _figure(run: Report | PretrainingReport, metric: str, unit: str, title: str = "") -> str:
    """A metric at every logged step (thin), its running mean (thick), its dev value after each epoch (points); of
    pretraining its value on held-out documents wherever it was measured."""
    epochs = isinstance(run, Report)
    every, name = (run.steps_per_epoch, "epoch") if epochs else (1, "step")
    raw = sorted((s["step"], s[metric]) for s in run.steps if s.get(metric) is not None)
    dev = [(e["epoch"] * every, e[f"dev_{metric}"], e) for e in run.epochs if e[f"dev_{metric}"] is not None]
    percent = metric != "loss"
    heading, show = f"<h3>{(title or metric).capitalize()} <small>{unit}</small></h3>", _percent if percent else _number
    if not raw and not dev:
        return f"<figure><figcaption>{heading}</figcaption><p>Nothing was logged.</p></figure>\n"
    xs, ys = zip(*(point[:2] for point in raw + dev), strict=True)
    axes = _Axes(max(xs), _ticks(min(0.9, *ys), 1.0) if percent else _ticks(min(0.0, *ys), max(ys)))
    lines = [axes.grid(percent, "training step" + f" (one epoch: {every:,})" * epochs)]
    legend, width = [], len(raw) // 30 * 2 + 1  # width of the running mean: odd, about a fifteenth of the run
    if width > 1:
        lines.append(axes.path("raw", raw))
        legend.append('<span class="key raw"></span>train, each logged step')
    if raw:
        lines.append(axes.path("mean", _running_mean(raw, width)))
        legend.append(f'<span class="key"></span>train, {f"mean of {width}" if width > 1 else "each logged step"}')
    if dev:
        lines.append(axes.path("dev", [point[:2] for point in dev]))
        best = _best_epoch(run) if epochs else None
        lines += [axes.dot(x, y, f"{name} {e['epoch']}, {show(y)}", e is best) for x, y, e in dev]
        legend.append(f'<span class="key dev"></span>{"dev, after each epoch" if epochs else "held-out documents"}')
    keys, label = "".join(f"<li>{entry}</li>" for entry in legend), f"<title>{title or metric} by training step</title>"
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{label}\n' + "\n".join(lines) + "\n</svg>"
    return f"<figure>\n<figcaption>{heading}<ul>{keys}</ul></figcaption>\n{svg}\n</figure>\n"


@dataclass(frozen=True)
class _Axes:
    """From data to the picture: x from 0 to `end`, y from the first to the last of its ticks."""

    end: float
    ticks: list[float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        right, up = x / (self.end or 1), (y - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return _LEFT + right * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    def grid(self, percent: bool, unit: str) -> str:
        """Gridlines, tick labels, and the unit of the x axis."""
        parts = [f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}">{unit}</text>']
        for tick in self.ticks:
            y, name = self.at(0, tick)[1], f"{100 * tick:g}%" if percent else f"{tick:g}"
            parts.append(f'<path class="grid" d="M{_LEFT},{y:.1f}H{_WIDTH - _RIGHT}"/>')
            parts.append(f'<text class="before" x="{_LEFT - 8}" y="{y + 4:.1f}">{name}</text>')
        for tick in (t for t in _ticks(0, self.end, smallest=1) if t <= self.end):
            x, base = self.at(tick, 0)[0], _HEIGHT - _BOTTOM
            parts.append(f'<path class="grid" d="M{x:.1f},{base}v5"/>')
            parts.append(f'<text x="{x:.1f}" y="{base + 20}">{tick:,g}</text>')
        return "\n".join(parts)

    def path(self, kind: str, points: list[tuple[float, float]]) -> str:
        """A line through the points; one point alone becomes a dot."""
        spots = [f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in _thin(points))]
        return f'<path class="{kind}" d="M{"L".join(spots if len(spots) > 1 else spots * 2)}"/>'

    def dot(self, x: float, y: float, name: str, best: bool) -> str:
        """A dev point, its numbers as a tooltip; the best one also gets a line, and its name above the plot."""
        right, down = self.at(x, y)
        circle = f'<circle cx="{right:.1f}" cy="{down:.1f}" r="{6 if best else 4}"><title>{name}</title></circle>'
        if not best:
            return circle
        side = "before" if right > 0.7 * _WIDTH else "after" if right < 0.3 * _WIDTH else "over"
        line = f'<path class="best" d="M{right:.1f},{_TOP}V{_HEIGHT - _BOTTOM}"/>'
        return f'{line}<text class="best {side}" x="{right:.1f}" y="{_TOP - 10}">best: {name}</text>{circle}'


def _ticks(low: float, high: float, smallest: float = 0.0) -> list[float]:
    """About five round numbers that enclose low to high: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low if high > low else 1.0) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = max(smallest, next(times * power for times in (1, 2, 5, 10) if times * power >= 0.999 * rough))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * k for k in range(first, max(last, first + 1) + 1)]


def _running_mean(points: list[tuple[float, float]], width: int, limit: int = 600) -> list[tuple[float, float]]:
    """The centred mean of `width` points (near the ends of those there are), at no more than `limit` places."""
    half, every = width // 2, math.ceil(len(points) / limit)
    windows = ((points[k][0], points[max(0, k - half) : k + half + 1]) for k in range(0, len(points), every))
    return [(x, sum(y for _, y in window) / len(window)) for x, window in windows]


def _thin(points: list[tuple[float, float]], limit: int = 600) -> list[tuple[float, float]]:
    """At most `limit` points that keep every peak: the lowest and the highest of each bucket, in order."""
    size = math.ceil(len(points) / (limit // 2)) if len(points) > limit else 1
    buckets = (sorted(points[k : k + size], key=lambda point: point[1]) for k in range(0, len(points), size))
    return [point for bucket in buckets for point in sorted({bucket[0], bucket[-1]})]


def _best_epoch(run: Report) -> dict:
    """The epoch of the highest dev accuracy, the first one of equals."""
    return max(run.epochs, key=lambda e: e["dev_accuracy"])


def _wilson(share: float, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% interval (Wilson score) of a share that was measured on `total` examples."""
    middle, scale = share + z * z / (2 * total), 1 + z * z / total
    reach = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    return (middle - reach) / scale, (middle + reach) / scale


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}%"


def _esc(value: object) -> str:
    """Any value as HTML text; what HTML or UTF-8 cannot hold (control characters, lone surrogates) becomes U+FFFD."""
    return html.escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", str(value)))


def _label(text: str) -> str:
    """A class name kept on one short line; the whole of it is the tooltip."""
    return f'<bdi class="label" title="{_esc(text)}">{_esc(text)}</bdi>'


def _text(text: str, at: int = 300) -> str:
    """A text in any language; of a long one its beginning, cut where no visible character is broken."""
    marks = ("Mn", "Mc", "Me", "Sk")  # combining marks and skin tones; U+200D joins emoji
    while text[at:] and at < 340 and (unicodedata.category(text[at]) in marks or "\u200d" in text[at - 1 : at + 1]):
        at += 1
    first, rest = (f'<p class="text" dir="auto" lang="">{_esc(part)}' for part in (text[:at], text[at:]))
    more = f"<details><summary>the other {len(text) - at:,} characters</summary>\n{rest}</p>\n</details>\n"
    return f"{first}…</p>\n{more}" if text[at:] else f"{first}</p>\n"


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{body}</section>\n"


def _table(name: str, head: list[str], rows: list[list[str]], kind: str = "plain") -> str:
    """A table of ready markup, in a box that scrolls by itself, also by keyboard."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "\n".join(f'<tr><th scope="row">{first}</th><td>{"</td><td>".join(rest)}</td></tr>' for first, *rest in rows)
    return f"""<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table class="{kind}">
<thead><tr>{top}</tr></thead>
<tbody>
{body}
</tbody>
</table></div>
"""
