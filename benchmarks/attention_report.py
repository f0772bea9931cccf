"""Tables, verdicts, a picture and a comparison, made of a result file of benchmarks/attention.py and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from benchmarks.svg import drawing, rect, text

NOISE = 0.03  # of a time: two runs on one GPU differ by that at least


@dataclass
class Row:
    """One contestant at one boundary, in one case and direction. Times are microseconds.

    status: ok, correct (checked, not to be timed here), incorrect, error, skipped or not reached; reason: why not ok.
    rounds: the medians of the two rounds. shares: errors relative to their bounds.
    """

    suite: str
    dist: str
    batch: int
    width: int
    heads: int
    head_size: int
    dtype: str
    boundary: str
    direction: str
    backend: str
    layout: str
    l2: str
    status: str = "not reached"
    reason: str = ""
    timer: str = ""
    us: float | None = None
    p20: float | None = None
    p80: float | None = None
    rounds: list[float] = field(default_factory=list)
    tflops: float | None = None
    peak_percent: float | None = None
    roof_percent: float | None = None
    exp_percent: float | None = None
    gb_s: float | None = None
    mtokens_s: float | None = None
    extra_mb: float | None = None
    wall_us: float | None = None
    plan_us: float | None = None
    shares: dict[str, float] = field(default_factory=dict)
    kernels: list[str] = field(default_factory=list)

    @property
    def group(self) -> tuple:
        """Rows of one group are to be compared with each other."""
        shape = self.suite, self.dist, self.batch, self.width, self.heads, self.head_size, self.dtype
        return *shape, self.boundary, self.direction, self.l2

    @property
    def key(self) -> tuple:
        return *self.group, self.backend, self.layout

    @property
    def who(self) -> str:
        return f"{self.backend} {self.layout}" if self.backend == "flex" else self.backend

    @property
    def noise(self) -> float:
        """By how much, relative to the time, another run may differ without meaning anything."""
        apart = max(self.rounds) - min(self.rounds) if self.rounds else 0.0
        return max(NOISE, apart / self.us, (self.p80 - self.p20) / self.us)


def rows_of(result: dict) -> list[Row]:
    return [Row(**row) for row in result["rows"]]


# ---- tables ----


def overview(result: dict) -> list[str]:
    """Useful TFLOP/s (on a CPU µs), a line for each case, a column for each contestant; the best and its ties bold."""
    rows, timed = rows_of(result), result["comparable"]
    names = list(dict.fromkeys(row.who for row in rows if any(r.us or r.shares for r in rows if r.who == row.who)))
    unit = "useful TFLOP/s" if timed else "µs, not comparable"
    lines = [f"| {unit} | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for _, found in groupby(rows, key=lambda row: row.group):
        of = {row.who: row for row in found}
        best = min((row.us for row in of.values() if row.us), default=None)
        cells = [cell(of.get(name), best, timed) for name in names]
        lines.append(f"| {title(next(iter(of.values())))} | {' | '.join(cells)} |")
    return lines


def title(row: Row) -> str:
    l2 = f", L2 {row.l2}" if row.l2 else ""
    shape = f"{row.batch}×{row.width}, {row.heads}×{row.head_size} {row.dtype}"
    return f"{row.boundary} {row.direction}, {row.dist} {shape}{l2}"


def cell(row: Row | None, best: float | None, timed: bool) -> str:
    if row is None:
        return ""
    if row.us is None:
        return row.status
    text = digits(row.tflops if timed else row.us) + ("*" if timed and row.timer != "graph" else "")
    return f"**{text}**" if timed and row.us <= best * (1 + row.noise) else text


def table(result: dict) -> list[str]:
    """Every row with every number; a group for each case."""
    names = ["µs", "p20 … p80", "TFLOP/s", "% peak", "% roof", "% exp", "GB/s", "Mtok/s", "MB", "wall", "plan", "error"]
    head = ["backend", *names, "× varlen", "kernels"]
    lines = []
    for _, found in groupby(rows_of(result), key=lambda row: row.group):
        group = list(found)
        lines += [
            "",
            f"**{title(group[0])}**",
            "",
            f"| {' | '.join(head)} |",
            "|---|" + "---:|" * len(names) + "---:|---|",
        ]
        varlen = next((row.us for row in group if row.backend == "varlen"), None)
        lines += [f"| {' | '.join(line(row, varlen))} |" for row in group if row.status != "skipped"]
        skipped = [f"{row.who}: {row.reason}" for row in group if row.status == "skipped"]
        lines += ["", f"Skipped: {'; '.join(skipped)}"] if skipped else []
    return lines


def line(row: Row, varlen: float | None) -> list[str]:
    if row.us is None:
        why = f"{row.status}: {row.reason}".rstrip(": ").replace("|", "/")
        return [row.who, why, *[""] * 10, digits(max(row.shares.values(), default=None)), "", ""]
    mark = "*" if row.timer == "events" else ""
    spread = f"{digits(row.p20)} … {digits(row.p80)}"
    figures = row.tflops, row.peak_percent, row.roof_percent, row.exp_percent, row.gb_s, row.mtokens_s, row.extra_mb
    ratio = varlen / row.us if varlen else None
    rest = [*figures, row.wall_us, row.plan_us, max(row.shares.values(), default=None), ratio]
    kernels = "; ".join(name.replace("|", "/")[:60] for name in row.kernels)
    return [row.who, digits(row.us) + mark, spread, *map(digits, rest), kernels]


def digits(value: float | None) -> str:
    """Three of them; nothing for None."""
    return "" if value is None else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def summary(result: dict) -> list[str]:
    env, peaks = result["env"], result["peaks"]
    lines = [f"{env['device']}, torch {env['torch']}, triton {env['triton']}, {result['date']}, commit {env['commit']}"]
    if result["comparable"]:
        lines.append(
            f"Measured peaks: {digits(peaks['tflops'])} TFLOP/s (matrix product), {digits(peaks['gb_s'])} GB/s."
        )
    else:
        lines.append("Made on a CPU: the times say that all runs, and are not comparable with anything.")
    lines += ["", "| asked | floor | measured | verdict |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(floor)} |" for floor in floors(result)]
    return [*lines, "", *overview(result), *problems(result)]


def problems(result: dict) -> list[str]:
    """What has no time, and why, once for each reason."""
    found = Counter((row.who, row.status, row.reason) for row in rows_of(result) if row.us is None)
    lines = [
        f"- {who}, {count} rows {status}: {reason or 'no reason given'}"
        for (who, status, reason), count in found.items()
    ]
    return ["", "Without a time:", "", *lines] if lines else []


# ---- what was asked for ----

Rivals = Callable[[Row], bool]


def fused(row: Row) -> bool:
    return row.backend in ("varlen", "sdpa-cudnn", "sdpa-efficient", "flex")


def varlen(row: Row) -> bool:
    return row.backend == "varlen"


def padded(row: Row) -> bool:
    return row.layout == "padded"


RAGGED = (("uniform", 512), ("lognormal", 512), ("chnsenticorp", 512))
SHORT = (("full", 64), ("full", 128), ("full", 256))
SPEEDUPS: tuple[tuple[str, str, tuple[tuple[str, int], ...], Rivals, float], ...] = (
    ("against the best of varlen, cuDNN, efficient, flex", "fwd", SHORT[1:], fused, 1.2),
    ("against varlen", "fwd", RAGGED, varlen, 1.3),
    ("against the best padded path", "fwd", RAGGED, padded, 3.0),
    ("against varlen", "bwd", SHORT, varlen, 1.7),
    ("against varlen", "bwd", RAGGED, varlen, 1.3),
    ("against the best padded path", "bwd", RAGGED, padded, 3.0),
)
ROOFS = ((128, 80.0), (512, 45.0))


def floors(result: dict) -> Iterator[tuple[str, str, str, str]]:
    """What was asked of the triton backend at the kernel boundary in bf16 with heads of 64: (asked, floor, measured,
    verdict), the worst case of each line. A line of which one case has no time is not measured.
    """
    usable = [r for r in rows_of(result) if (r.boundary, r.dtype, r.head_size) == ("kernel", "bf16", 64)]
    usable = [row for row in usable if row.l2 == "cold" and row.suite in ("bert", "ragged", "long")]
    rows = usable if result["comparable"] else []
    for what, direction, shapes, rivals, floor in SPEEDUPS:
        found = {shape: speedup(rows, direction, shape, rivals) for shape in shapes}
        where = ", ".join(f"{dist} {width}" for dist, width in shapes)
        yield f"{direction} {where}, {what}", f"≥ {floor:g} ×", *verdict(found, floor, " ×")
    for width, floor in ROOFS:
        own = [r.roof_percent for r in triton(rows, "fwd", ("full", width))]
        found = {("full", width): min(own) if own and None not in own else None}
        yield f"share of roofline, fwd full {width}", f"≥ {floor:g} %", *verdict(found, floor, " %")
    dense = sorted({r.width for r in rows if r.backend == "triton" and r.dist == "full" and r.width >= 1024 and r.us})
    yield "dense S ≥ 1024, win or lose", "measured", str(dense) if dense else "", "met" if dense else "not measured"
    shares = [max(r.shares.values()) for r in rows if r.backend == "triton" and r.shares]
    wrong = any(r.status == "incorrect" for r in rows if r.backend == "triton")
    found = {("all rows", 0): 2 * max(shares) if shares else None}
    asked = "error of out, dq, dk, dv, as a multiple of eager's"
    yield (
        (asked, "≤ 2 ×", "", "missed: incorrect") if wrong else (asked, "≤ 2 ×", *verdict(found, 2, " ×", least=False))
    )


def triton(rows: Sequence[Row], direction: str, shape: tuple[str, int]) -> list[Row]:
    return [r for r in rows if (r.backend, r.direction, r.dist, r.width) == ("triton", direction, *shape)]


def speedup(rows: Sequence[Row], direction: str, shape: tuple[str, int], rivals: Rivals) -> float | None:
    """The best rival's time over triton's in the same group, the least of all groups of that shape."""
    found = []
    for own in triton(rows, direction, shape):
        times = [r.us for r in rows if r.group == own.group and r.backend != "triton" and rivals(r) and r.us]
        if own.us is None or not times:
            return None
        found.append(min(times) / own.us)
    return min(found, default=None)


def verdict(found: dict[tuple[str, int], float | None], floor: float, unit: str, least: bool = True) -> tuple[str, str]:
    """(measured, verdict)."""
    if None in found.values():
        return "", "not measured"
    values = ", ".join(f"{value:.2f}" if unit == " ×" else f"{value:.0f}" for value in found.values())
    worst = min(found.values()) if least else max(found.values())
    return values + unit, "met" if (worst >= floor if least else worst <= floor) else "MISSED"


# ---- comparison ----


def compare(old: dict, new: dict) -> tuple[list[str], bool]:
    """What became faster, slower, or wrong, beyond the noise of both; and whether anything became worse.

    Raises:
        ValueError: the two were not made on the same device.
    """
    if old["env"]["device"] != new["env"]["device"]:
        raise ValueError(
            f"the old file was made on {old['env']['device']}, the new one on {new['env']['device']}; "
            "compare files of one device"
        )
    before, lines, worse = {row.key: row for row in rows_of(old)}, [], False
    fine = ("ok", "correct")
    for row in rows_of(new):
        was = before.get(row.key)
        if was is None or was.status not in fine:
            continue
        if row.status in ("incorrect", "error"):
            lines.append(f"{row.status}: {title(row)}, {row.who}: {row.reason}")
            worse = True
        elif row.us and was.us and old["comparable"] and new["comparable"]:
            band = max(row.noise, was.noise)
            if abs(row.us - was.us) > band * was.us:
                what = "slower" if row.us > was.us else "faster"
                percent = f"{digits(was.us)} -> {digits(row.us)} µs, {row.us / was.us - 1:+.1%}, noise {band:.1%}"
                lines.append(f"{what}: {title(row)}, {row.who}: {percent}")
                worse = worse or what == "slower"
    return lines or ["no difference beyond the noise"], worse


# ---- picture ----

COLOURS = {
    "eager": "#9aa0a6",
    "sdpa": "#5f6b7a",
    "sdpa-math": "#c3c8cf",
    "sdpa-efficient": "#7fb3d5",
    "sdpa-flash": "#2e86c1",
    "sdpa-cudnn": "#1a5276",
    "flex padded": "#a9dfbf",
    "flex packed": "#27ae60",
    "varlen": "#8e44ad",
    "nested": "#d7bde2",
    "triton": "#e67e22",
}
OTHERS = ("#c0392b", "#b7950b", "#16a085", "#2c3e50")  # of backends that are not ours
WIDTH, LEFT, TOP, HEIGHT, GAP = 1080, 56, 76, 170, 68  # of the picture, of a panel, and between panels


def picture(result: dict) -> str:
    """SVG: a panel of bars for each direction and kind of length at the kernel boundary, the roofline dashed."""
    rows = [
        r for r in rows_of(result) if r.boundary == "kernel" and r.tflops and r.l2 != "hot" and r.suite != "latency"
    ]
    rows = rows or [r for r in rows_of(result) if r.boundary == "kernel" and r.tflops]
    present = dict.fromkeys(row.who for row in rows)
    names = [*(name for name in COLOURS if name in present), *(name for name in present if name not in COLOURS)]
    panels = [(d, full) for d in ("fwd", "bwd") for full in (True, False)]
    panels = [(d, full, [r for r in rows if r.direction == d and (r.dist == "full") == full]) for d, full in panels]
    panels = [panel for panel in panels if panel[2]]
    where = result["env"]["device"] + ("" if result["comparable"] else ", not comparable")
    parts = [text(LEFT, 24, f"Attention, useful TFLOP/s (real tokens only; dashed: the roofline), {where}", "title")]
    for k, name in enumerate(names):
        x = LEFT + k * (WIDTH - LEFT) / max(len(names), 8)
        parts += [rect(x, 36, 10, 10, colour(name, names), name), text(x + 14, 45, name)]
    for k, (direction, full, found) in enumerate(panels):
        label = f"{direction}, {'no padding' if full else 'ragged'}"
        parts += panel(label, found, names, TOP + k * (HEIGHT + GAP))
    height = TOP + len(panels) * (HEIGHT + GAP)
    return drawing(WIDTH, height, parts)


def colour(name: str, names: Sequence[str]) -> str:
    """A backend's own, or one of OTHERS in turn."""
    return COLOURS.get(name) or OTHERS[[n for n in names if n not in COLOURS].index(name) % len(OTHERS)]


def panel(label: str, rows: Sequence[Row], names: Sequence[str], top: float) -> Iterator[str]:
    """A cluster of bars for each case, and the roofline over it."""
    clusters = [list(group) for _, group in groupby(rows, key=lambda row: row.group)]
    roofs = [max((r.tflops * 100 / r.roof_percent for r in group if r.roof_percent), default=0) for group in clusters]
    most, base = max(1e-9, *(r.tflops for r in rows), *roofs), top + HEIGHT
    yield text(LEFT, top - 2, label, "title")
    for part in (0, 0.5, 1):
        y = base - part * (HEIGHT - 20)
        yield f'<path d="M{LEFT},{y:.1f}H{WIDTH}" stroke="#ddd"/>' + text(LEFT - 6, y + 4, digits(part * most), "right")
    each = (WIDTH - LEFT) / len(clusters)
    bar = min(24.0, (each - 14) / len(names))
    for k, (group, roof) in enumerate(zip(clusters, roofs, strict=True)):
        begin = LEFT + k * each + 7
        for row in group:
            height = row.tflops / most * (HEIGHT - 20)
            x = begin + names.index(row.who) * bar
            speed = f"{row.who}: {digits(row.tflops)} TFLOP/s"
            yield rect(x, base - height, bar - 1, height, colour(row.who, names), speed)
        if roof:
            y = base - roof / most * (HEIGHT - 20)
            yield f'<path d="M{begin:.1f},{y:.1f}h{bar * len(names):.1f}" stroke="#c0392b" stroke-dasharray="4 3">'
            yield f"<title>roofline: {digits(roof)} TFLOP/s</title></path>"
        first = group[0]
        words = (
            *(() if first.dist == "full" else (first.dist,)),
            f"{first.batch}×{first.width}",
            f"{first.heads} heads",
        )
        for down, word in enumerate(words):
            yield text(begin, base + 13 + 12 * down, word)
