"""The page a training run leaves behind: curves, confusion matrix, baselines, worst mistakes. One HTML string.

Order: `Report`, `render`, the sections as they stand on the page, the line chart, small helpers.
What comes from outside (labels, texts, options) is escaped where it enters the markup, by `_esc`. The page's own words
come from report_words.py in both languages.
No script and no network: the page opens from disk, and its Content-Security-Policy forbids anything more.
"""

import html
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from minibert.inference.scores import RATIOS, largest, ratios
from minibert.io.bundled import ASSETS
from minibert.io.language import of_pages
from minibert.training.losses import RIGHT
from minibert.training.report_words import LANGUAGES, SAID, both, named, pair, say

PERCENT = ("accuracy", "nsp_accuracy", "exact_match")


@dataclass(frozen=True)
class Report:
    """All that the page shows. Losses are in nats (a regression's squared); shares lie between 0 and 1."""

    title: str
    summary: dict[str, str | dict[str, int]]  # model, parameters, rows (of each split), seconds, device, versions, …
    labels: list[str]  # class names, in the order of the confusion matrix
    steps: list[dict]  # a logged training step: step, loss, accuracy, lr
    epochs: list[dict]  # epoch (from 1), seconds (None: of another process); scores as train_NAME and dev_NAME
    steps_per_epoch: int
    confusion: list[list[int]]  # [L, L], rows true, columns predicted; empty: of too many classes
    split: str  # what confusion, counts, result, baselines and mistakes were measured on: "test" or "dev"
    result: dict[str, float | None]  # the scores on it, by their names in inference/scores.py
    baselines: dict[str, float]  # name -> accuracy (exact match, mean squared error)
    mistakes: list[dict]  # worst first: text, pair (or None), label, predicted, of a class its probability
    options: dict[str, object]  # all that is needed to run it again
    command: str
    task: str = "classification"
    best_by: str = "accuracy"  # the score that chose the best epoch
    rows: int = 0  # of the split
    counts: Sequence[Sequence[int]] = ()  # [L, 3], see LabelScores; not of a regression
    rates: Sequence[tuple[int, float]] = ()  # the largest learning rate and the last: (optimizer step from 1, rate)
    warnings: Sequence[str] = ()  # what the numbers say against the run


@dataclass(frozen=True)
class PretrainingReport:
    """What the page of a pretraining run shows; as in Report where the names are the same."""

    title: str
    summary: dict[str, str | dict[str, int]]
    steps: list[dict]  # a logged training step: step, loss, accuracy, lr, and nsp_accuracy where that is trained
    measured: list[dict]  # on held-out documents: measured (the step), loss and accuracies by their names
    result: dict[str, float]  # the last of them; empty without held-out documents
    options: dict[str, object]
    command: str
    rates: Sequence[tuple[int, float]] = ()
    warnings: Sequence[str] = ()

    @property
    def epochs(self) -> list[dict]:
        """The measurements, as the charts want them."""
        rows = []
        for row in self.measured:
            scores = {f"dev_{name}": row.get(name) for name in ("loss", "accuracy", "nsp_accuracy")}
            rows.append({"epoch": row["measured"], **scores})
        return rows


def render(run: Report | PretrainingReport) -> str:
    """The whole page; it begins in the language of the locale, and its reader may choose the other."""
    if isinstance(run, Report):
        trained = (_training, _epochs) if run.epochs else ()  # or only evaluated
        sections = (_header, *trained, *OWN[run.task], _mistakes, _options)
    else:
        sections = (_pretraining_header, _pretraining_curves, _measurements, _options)
    body, begin = "".join(section(run) for section in sections), of_pages()
    shown = {language: " checked" if language == begin else "" for language in LANGUAGES}
    return f"""<!doctype html>
<html lang="{LANGUAGES[begin]}">
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
<input type="radio" name="language" id="en"{shown["en"]}><label for="en" lang="en">English</label>
<input type="radio" name="language" id="zh"{shown["zh"]}><label for="zh" lang="zh-Hans">中文</label>
<main>
{body}</main>
</body>
</html>
"""


def _header(run: Report) -> str:
    """Title, the results, and the facts of the run."""
    total, tiles = sum(map(sum, run.confusion)) or run.rows, []
    for name, value in run.result.items():
        note = ""
        if name == RIGHT.get(run.task):
            low, high = (_percent(edge, 1) for edge in _wilson(value, total))
            note = say("interval", low=low, high=high)
        elif name == "loss":
            note = say(f"loss.{run.task}")
        elif f"note.{name}" in SAID:
            note = say(f"note.{name}")
        tiles.append((say(f"score.{name}"), _shown(name, value), note))
    (name, value, note), *rest = tiles
    on = say("on", total=f"{total:,}", split=named("split", _esc(run.split)))
    return _top(run, [(name, value, f"{on}<br>{note}"), *rest])


def _top(run: Report | PretrainingReport, tiles: Iterable[tuple[str, str, str]]) -> str:
    """Title, tiles of (name, value, note), and the facts of the run."""
    results = facts = ""
    for name, value, note in tiles:
        results += f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>"
    for name, value in run.summary.items():
        shown = _esc(value)
        if isinstance(value, dict):
            shown = "<br>".join(say(f"count.{part}", count=f"{count:,}") for part, count in value.items())
        name = pair(named("fact", _esc(name)))
        facts += f"<div><dt>{name}</dt><dd>{shown}</dd></div>"
    warnings = "".join(f"<p><b>!</b> {_esc(warning)}</p>\n" for warning in run.warnings)
    lists = f'<dl class="results">{results}</dl>\n{warnings}<dl>{facts}</dl>\n'
    return f'<header>\n<h1 dir="auto">{_esc(run.title)}</h1>\n{lists}</header>\n'


def _training(run: Report) -> str:
    """Loss and accuracy side by side, and what the learning rate did."""
    figures = _figure(run, "loss", f"unit.{run.task}")
    return _curves(run, figures + _figure(run, RIGHT.get(run.task, "pearson"), "unit.higher"))


def _curves(run: Report | PretrainingReport, figures: str) -> str:
    note = ""
    if run.rates:
        (step, peak), (last, end) = run.rates
        said = say("rates", peak=f"{peak:.3g}", step=f"{step:,}", end=f"{end:.3g}", last=f"{last:,}")
        note = f"<p>{said}</p>\n"
    return _section("training", f'<div class="pair">\n{figures}</div>\n{note}')


def _epochs(run: Report) -> str:
    """The numbers behind the dev points."""
    best, rows = _best_epoch(run), []
    names = [name for name in run.epochs[0] if name.startswith(("train_", "dev_"))] if run.epochs else []
    for e in run.epochs:
        cells = [f"{e['epoch']} <b>{say('best')}</b>" if e is best else f"{e['epoch']}"]
        cells += [_shown(name.partition("_")[2], e[name]) for name in names]
        rows.append([*cells, _number(e["seconds"], 1)])
    heads = []
    for name in names:
        part, _, score = name.partition("_")
        heads.append(say(f"of.{part}", score=both(f"score.{score}")))
    return _section("epochs", _table("epochs", [say("epoch"), *heads, say("seconds")], rows))


def _classes(run: Report) -> str:
    """The confusion matrix, and what `_labels` shows of each class; of many the largest, in their order."""
    if not run.confusion:
        return _labels(run, "classes", f"<p>{say('classes.many', count=f'{len(run.labels):,}')}</p>\n")
    matrix, shown = [], largest(run.counts)
    names = [_label(run.labels[k]) for k in shown]
    for k, name in zip(shown, names, strict=True):
        true, cells = run.counts[k][1], []
        for j in shown:
            count = run.confusion[k][j]
            kind = "hit" if j == k else "miss"
            share = count / true if true else 0.0
            percent = _percent(share if true else None, 1)
            cells.append(f'<div class="{kind}" style="--share:{share:.3f}">{count:,}<small>{percent}</small></div>')
        matrix.append([name, *cells])
    head, kind = [say("confusion.head"), *names], "confusion" if len(shown) < 6 else "confusion many"
    return _labels(run, "classes", _table("confusion", head, matrix, kind))


def _labels(run: Report, kind: str = "labels", before: str = "") -> str:
    """Precision, recall and F1 of each class, or of each of several labels at once; a dash where a denominator is zero.
    before: what stands before the table, of few beside it."""
    rows, shown = [], largest(run.counts)
    for k in shown:
        *shares, true, predicted = ratios(*run.counts[k])
        rows.append([_label(run.labels[k]), *map(_number, shares), f"{true:,}", f"{predicted:,}"])
    heads = [say(f"{kind}.one")]
    heads += [say(f"ratio.{name}") for name in RATIOS]
    tables = before + _table(kind, heads, rows)
    if before and len(shown) < 6:
        tables = f'<div class="pair">\n{tables}</div>\n'
    if len(shown) < len(run.labels):
        sentence = say(f"{kind}.largest", shown=f"{len(shown)}", count=f"{len(run.labels):,}")
        tables = f"<p>{sentence}</p>\n{tables}"
    return _section(f"{kind}.on", tables, run.split)


def _baselines(run: Report) -> str:
    """What BERT adds, or fails to add, to simpler ways of answering."""
    if not run.baselines:
        return ""
    right = RIGHT[run.task]
    ours, best = run.result[right], max(run.baselines, key=run.baselines.__getitem__)
    points = round(100 * (ours - run.baselines[best]), 2)
    verdict = "above" if points > 0 else "below" if points else "level"
    bars = [(say("baselines.ours"), ours, " ours")]
    bars += [(pair(named("baseline", _esc(name))), accuracy, "") for name, accuracy in run.baselines.items()]
    rows = []
    for name, accuracy, own in sorted(bars, key=lambda bar: -bar[1]):
        bar = f'<div class="bar{own}" style="width:{100 * accuracy:.2f}%"></div>'
        rows.append([name, bar, _percent(accuracy)])
    heads = [say("baselines.one"), say("baselines.scale"), say(f"score.{right}")]
    table = _table("baselines", heads, rows, "bars")
    name = named("baseline", _esc(best))
    sentence = say(f"baselines.{verdict}", points=f"{abs(points):.2f}", name=name)
    return _section("baselines.on", f"<p>{sentence}</p>\n{table}", run.split)


def _mean(run: Report) -> str:
    """What a regression adds to one answer for all rows."""
    if not run.baselines:
        return ""
    ((name, guess),) = run.baselines.items()
    loss, name = run.result["loss"], named("baseline", _esc(name))
    verdict = "baseline.below" if loss < guess else "baseline.not below"
    sentence = say(verdict, loss=_number(loss), name=name, guess=_number(guess))
    return _section("baseline.on", f"<p>{sentence}</p>\n", run.split)


# By task: what stands between the epochs and the mistakes
OWN = {"classification": (_classes, _baselines), "multi-label": (_labels, _baselines), "regression": (_mean,)}


def _mistakes(run: Report) -> str:
    """The wrong answers given with the most confidence, or furthest off."""
    if not run.mistakes:
        return _section("mistakes", f"<p>{say('mistakes.none')}</p>\n")
    wrong, items = run.rows, ""
    if run.task == "classification":
        wrong = round((1 - run.result["accuracy"]) * (sum(map(sum, run.confusion)) or run.rows))
    elif run.task == "multi-label":
        wrong = round((1 - run.result["exact_match"]) * run.rows)
    for m in run.mistakes:
        verdict = f'{say("mistakes.true")} <bdi class="true">{_esc(m["label"])}</bdi> '
        verdict += f"{say('mistakes.predicted')} <bdi>{_esc(m['predicted'])}</bdi>"
        if "probability" in m:
            verdict += f" {say('mistakes.with', share=_percent(m['probability']))}"
        texts = "".join(_text(text) for text in (m["text"], m["pair"]) if text is not None)
        items += f"<li><p>{verdict}</p>\n{texts}</li>\n"
    count = say(f"mistakes.{run.task}", shown=f"{len(run.mistakes):,}", wrong=f"{wrong:,}")
    return _section("mistakes", f"<p>{count}</p>\n<ol>\n{items}</ol>\n")


def _options(run: Report) -> str:
    """How to run it again."""
    rows = [[_esc(name), f"<code>{_esc(value)}</code>"] for name, value in run.options.items()]
    table = _table("options", [say("options.one"), say("options.value")], rows, "options")
    details = f"<details>\n<summary>{say('options.all', count=str(len(rows)))}</summary>\n{table}</details>\n"
    return _section("again", f"<pre><code>{_esc(run.command)}</code></pre>\n{details}")


# What the page of a pretraining run has of its own.


def _pretraining_header(run: PretrainingReport) -> str:
    """The results on held-out documents, with what guessing reaches."""
    if not run.result:
        last = _number(run.steps[-1]["loss"] if run.steps else None)
        return _top(run, [(say("score.loss"), last, say("pretraining.logged"))])
    tiles = [(say("pretraining.loss"), _number(run.result["loss"]), say("pretraining.loss.note"))]
    for kind, name in (("tokens", "accuracy"), ("words", "word_accuracy")):
        guess = say(f"pretraining.{kind}.note", share=_percent(run.result[f"unigram_{name}"]))
        tiles.append((say(f"pretraining.{kind}"), _percent(run.result[name]), guess))
    if "nsp_accuracy" in run.result:
        tiles.append((say("pretraining.pairs"), _percent(run.result["nsp_accuracy"]), say("pretraining.pairs.note")))
    return _top(run, tiles)


def _pretraining_curves(run: PretrainingReport) -> str:
    figures = _figure(run, "loss", "unit.masked")
    figures += _figure(run, "accuracy", "unit.hidden")
    if any("nsp_accuracy" in row for row in run.steps):
        figures += _figure(run, "nsp_accuracy", "unit.pairs")
    return _curves(run, figures)


def _measurements(run: PretrainingReport) -> str:
    """The numbers behind the held-out points."""
    if not run.measured:
        return ""
    names = [name for name in run.measured[-1] if name != "measured"]
    rows = []
    for row in run.measured:
        cells = [_number(row[name]) if name == "loss" else _percent(row[name]) for name in names]
        rows.append([f"{row['measured']:,}", *cells])
    head = [say(f"measured.{name}") for name in ("step", *names)]
    return _section("measured", _table("measured.table", head, rows))


# The line chart, in units of its viewBox; the style sheet enlarges its text on narrow screens.
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 520, 300, 58, 26, 28, 52


def _figure(run: Report | PretrainingReport, metric: str, unit: str) -> str:
    """A metric at every logged step (thin), its running mean (thick), its dev value after each epoch (points); of
    pretraining its value on held-out documents wherever it was measured."""
    epochs = isinstance(run, Report)
    every, kind = (run.steps_per_epoch, "epochs") if epochs else (1, "steps")
    raw = sorted((s["step"], s[metric]) for s in run.steps if s.get(metric) is not None)
    dev = [(e["epoch"] * every, e[f"dev_{metric}"], e) for e in run.epochs if e[f"dev_{metric}"] is not None]
    percent = metric in PERCENT
    heading = f'<h3 id="chart-{metric}">{say(f"chart.{metric}")} <small>{say(unit)}</small></h3>'
    if not raw and not dev:
        return f"<figure><figcaption>{heading}</figcaption><p>{say('nothing')}</p></figure>\n"
    xs, ys = zip(*(point[:2] for point in raw + dev), strict=True)
    ticks = _ticks(min(0.9, *ys), 1.0) if percent else _ticks(min(0.0, *ys), max(ys))
    axes = _Axes(max(xs), ticks)
    lines = [axes.grid(percent, say(f"axis.{kind}", "tspan", every=f"{every:,}"))]
    legend, width = [], len(raw) // 30 * 2 + 1  # width of the running mean: odd, about a fifteenth of the run
    if width > 1:
        lines.append(axes.path("raw", raw))
        legend.append(f'<span class="key raw"></span>{say("legend.each")}')
    if raw:
        lines.append(axes.path("mean", _running_mean(raw, width)))
        each = "legend.mean" if width > 1 else "legend.each"
        legend.append(f'<span class="key"></span>{say(each, width=f"{width}")}')
    if dev:
        lines.append(axes.path("dev", [point[:2] for point in dev]))
        best, show = _best_epoch(run) if epochs else None, _percent if percent else _number
        for x, y, e in dev:
            name = both(f"dot.{kind}", at=f"{e['epoch']}", value=show(y))
            lines.append(axes.dot(x, y, name, e is best))
        legend.append(f'<span class="key dev"></span>{say(f"legend.{kind}")}')
    keys = "".join(f"<li>{entry}</li>" for entry in legend)
    begin = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="chart-{metric}">'
    svg = "\n".join([begin, *lines, "</svg>"])
    return f"<figure>\n<figcaption>{heading}<ul>{keys}</ul></figcaption>\n{svg}\n</figure>\n"


@dataclass(frozen=True)
class _Axes:
    """From data to the picture: x from 0 to `end`, y from the first to the last of its ticks."""

    end: float
    ticks: list[float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        low, high = self.ticks[0], self.ticks[-1]
        right, up = x / (self.end or 1), (y - low) / (high - low)
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + right * width, _HEIGHT - _BOTTOM - up * height

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
        places = [self.at(*point) for point in _thin(points)]
        spots = [f"{x:.1f},{y:.1f}" for x, y in places]
        return f'<path class="{kind}" d="M{"L".join(spots if len(spots) > 1 else spots * 2)}"/>'

    def dot(self, x: float, y: float, name: dict[str, str], best: bool) -> str:
        """A dev point, its numbers as a tooltip; the best one also gets a line, and its name above the plot."""
        right, down = self.at(x, y)
        circle = f'<circle cx="{right:.1f}" cy="{down:.1f}" r="{6 if best else 4}"><title>{{}}</title></circle>'
        circles = pair({language: circle.format(said) for language, said in name.items()}, "g")
        if not best:
            return circles
        side = "before" if right > 0.7 * _WIDTH else "after" if right < 0.3 * _WIDTH else "over"
        label = say("dot.best", "tspan", name=name)
        line = f'<path class="best" d="M{right:.1f},{_TOP}V{_HEIGHT - _BOTTOM}"/>'
        return f'{line}<text class="best {side}" x="{right:.1f}" y="{_TOP - 10}">{label}</text>{circles}'


def _ticks(low: float, high: float, smallest: float = 0.0) -> list[float]:
    """About five round numbers that enclose low to high: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low if high > low else 1.0) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [times * power for times in (1, 2, 5, 10)]
    step = max(smallest, next(step for step in steps if step >= 0.999 * rough))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [step * k for k in range(first, last + 1)]


def _running_mean(points: list[tuple[float, float]], width: int, limit: int = 600) -> list[tuple[float, float]]:
    """The centred mean of `width` points (near the ends of those there are), at no more than `limit` places."""
    half, means = width // 2, []
    for k in range(0, len(points), math.ceil(len(points) / limit)):
        window = [y for _, y in points[max(0, k - half) : k + half + 1]]
        means.append((points[k][0], sum(window) / len(window)))
    return means


def _thin(points: list[tuple[float, float]], limit: int = 600) -> list[tuple[float, float]]:
    """At most `limit` points that keep every peak: the lowest and the highest of each bucket, in order."""
    if len(points) <= limit:
        return points
    size, kept = math.ceil(len(points) / (limit // 2)), []
    for k in range(0, len(points), size):
        bucket = sorted(points[k : k + size], key=lambda point: point[1])
        kept += sorted({bucket[0], bucket[-1]})
    return kept


def _best_epoch(run: Report) -> dict:
    """The epoch that was kept: of the best score, of equals the one of the lowest loss, of those the first."""

    def key(epoch: dict) -> tuple[float, float]:
        value = epoch[f"dev_{run.best_by}"]
        if value is None:
            value = -math.inf
        if run.best_by == "loss":
            value = -value
        return value, -epoch["dev_loss"]

    return max(run.epochs, key=key)


def _wilson(share: float, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% interval (Wilson score) of a share that was measured on `total` examples."""
    middle = share + z * z / (2 * total)
    scale = 1 + z * z / total
    reach = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    return (middle - reach) / scale, (middle + reach) / scale


def _number(value: float | None, digits: int = 4) -> str:
    """With thousands parted; a dash for None."""
    return "–" if value is None else f"{value:,.{digits}f}"


def _shown(name: str, value: float | None) -> str:
    """A score as it is usual."""
    return _percent(value) if name in PERCENT else _number(value)


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
    while at < min(340, len(text)):
        if unicodedata.category(text[at]) not in marks and "\u200d" not in text[at - 1 : at + 1]:
            break
        at += 1
    begin = '<p class="text" dir="auto" lang="">'
    if not text[at:]:
        return f"{begin}{_esc(text)}</p>\n"
    summary = f"<summary>{say('mistakes.rest', count=f'{len(text) - at:,}')}</summary>"
    rest = f"<details>{summary}\n{begin}{_esc(text[at:])}</p>\n</details>\n"
    return f"{begin}{_esc(text[:at])}…</p>\n{rest}"


def _section(title: str, body: str, split: str = "") -> str:
    """title: the key of its words, which may name a split."""
    heading = say(title, split=named("split", _esc(split)))
    return f"<section>\n<h2>{heading}</h2>\n{body}</section>\n"


def _table(name: str, head: list[str], rows: list[list[str]], kind: str = "plain") -> str:
    """A table of ready markup, in a box that scrolls by itself, also by keyboard. name: the key of its words."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "\n".join(f'<tr><th scope="row">{first}</th><td>{"</td><td>".join(rest)}</td></tr>' for first, *rest in rows)
    return f"""<div class="scroll" role="region" aria-labelledby="table-{name}" tabindex="0"><table class="{kind}">
<caption id="table-{name}">{say(name)}</caption>
<thead><tr>{top}</tr></thead>
<tbody>
{body}
</tbody>
</table></div>
"""
