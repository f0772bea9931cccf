"""A trained model measured on a labelled file: tables for a terminal, numbers for JSON, a page with the worst mistakes.

It stands here and not in inference/ because the page is that of a training run. Letters: N rows, L labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from minibert.core.data import Examples
from minibert.core.files import atomic_write
from minibert.inference.answers import activated, check_asked, task_of
from minibert.inference.options import EvaluateOptions
from minibert.inference.scores import RATIOS, SCORING, AnyScores, largest, numbers_of, ratios, told
from minibert.inference.text_models import TextClassifier
from minibert.io.examples import read_as
from minibert.io.labels import LABELLED, label_values
from minibert.io.stderr import harmless, say
from minibert.options import command_line
from minibert.text.data_doubts import tell
from minibert.text.encode_table import columns_of
from minibert.training.mistakes import WORST
from minibert.training.report import Report, render

FEW = 8  # classes of which a terminal shows the confusion matrix; of more the PAIRS that are confused most often
PAIRS = 10
WIDTH, NARROW = 24, 12  # columns of a terminal that a label may have, beside a row and above a column


def evaluate(options: EvaluateOptions) -> tuple[dict[str, Any], list[str]]:
    """What --json prints, and the lines that are printed without it; writes the page that is asked for.

    Raises:
        ValueError: model or data cannot be used, or do not go together.
    """
    loaded = options.directory, options.attention, options.device
    form = {"mapped": True, "precision": options.precision, "keep_weights": False}
    classifier = TextClassifier.from_pretrained(*loaded, **form)
    labels, task = classifier.labels, task_of(classifier.config)
    check_asked(classifier.config, None, options.threshold)
    rows, line = read_as(options.data, options, LABELLED[task])
    classifier.check_shape(rows.pairs is not None, rows.source)
    truth = label_values(rows, labels, task)
    answers = classifier.logits(rows.texts, rows.pairs, options.max_length, options.tokens_per_batch)
    say(line)
    tell(classifier.doubts(options.data, rows.texts, rows.pairs, options.max_length))
    if task == "regression":  # the numbers that `predict` gives; of classes the order is that of the logits
        answers = activated(classifier.config, answers)
    how = {"threshold": options.threshold} if task == "multi-label" else {}
    scores = SCORING[task](answers, truth, **how)
    numbers = numbers_of(scores)
    answer = {"rows": len(rows), "task": task, "labels": labels, **scores._asdict()}
    lines = []
    if task == "regression":
        numbers["mean_absolute_error"] = float(np.abs(answers[:, 0].double().numpy() - truth).mean())
    else:
        answer["per_label"] = per_label(labels, scores.counts)
        lines += label_table(labels, scores.counts)
    if task == "classification" and len(labels) <= FEW:
        lines += confusion_table(labels, scores.confusion)
    elif task == "classification":
        lines += confused(labels, answers, truth)
    if options.report is not None:
        mistakes = WORST[task](answers, rows, truth, labels, **how)
        write_page(options, rows, labels, scores, task=task, result=numbers, mistakes=mistakes)
    return answer | numbers, [*lines, f"{told(numbers)}  rows {len(rows)}"]


def write_page(options: EvaluateOptions, rows: Examples, labels: list[str], scores: AnyScores, **measured: Any) -> None:
    """The page of a run, without what only a run has. measured: more fields of Report."""
    path = Path(options.report)
    data = Path(options.data)
    page = Report(
        title=f"minibert evaluate: {Path(options.directory).name}, {data.name}",
        summary={"model": Path(options.directory).name, "rows": f"{len(rows):,}"},
        labels=labels,
        steps=[],
        epochs=[],
        steps_per_epoch=0,
        split=data.name,
        baselines={},
        options=dataclasses.asdict(options),
        command=command_line("evaluate", options),
        rows=len(rows),
        confusion=getattr(scores, "confusion", []),
        counts=getattr(scores, "counts", []),
        **measured,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, render(page).encode("utf-8"))
    say(f"report  {path}")


# ---- tables ----


def per_label(labels: list[str], counts: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """For JSON, of each label: its ratios; null where a denominator is zero."""
    return [{"label": name, **ratios(*count)._asdict()} for name, count in zip(labels, counts, strict=True)]


def label_table(labels: list[str], counts: Sequence[Sequence[int]]) -> list[str]:
    """Precision, recall and F1 of each label, of many the largest; a dash where a denominator is zero."""
    rows = []
    for k in largest(counts):
        *shares, true, predicted = ratios(*counts[k])
        cells = [cut(labels[k], WIDTH)]
        for share in shares:
            cells.append("-" if share is None else f"{share:.4f}")
        rows.append([*cells, str(true), str(predicted)])
    lines = aligned(["", *RATIOS], rows)
    if len(rows) < len(labels):
        lines.append(f"the {len(rows)} largest of {len(labels)}")
    return [*lines, ""]


def confusion_table(labels: list[str], confusion: list[list[int]]) -> list[str]:
    """Rows true, columns predicted."""
    head, rows = ["true \\ predicted"], []
    for name, row in zip(labels, confusion, strict=True):
        head.append(cut(name, NARROW))
        rows.append([cut(name, WIDTH), *map(str, row)])
    return [*aligned(head, rows), ""]


def confused(labels: list[str], logits: Tensor, truth: NDArray[np.int64]) -> list[str]:
    """The pairs of classes that are confused most often. logits [N, L], truth [N]."""
    found = np.stack([truth, logits.argmax(dim=1).numpy()])
    pairs, counts = np.unique(found[:, found[0] != found[1]], axis=1, return_counts=True)
    rows = []
    for i in np.argsort(-counts, kind="stable")[:PAIRS]:
        names = [cut(labels[k], WIDTH) for k in pairs[:, i]]
        rows.append([*names, str(counts[i])])
    if not rows:
        return []
    return [*aligned(["confused most often: true", "predicted", "rows"], rows), ""]


def cut(label: str, most: int) -> str:
    """A label in at most so many columns of a terminal."""
    text = harmless(label[: most + 1])
    if len(label) <= most and columns_of(text) <= most:
        return text
    while columns_of(text) > most - 1:
        text = text[:-1]
    return f"{text}…"


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns, the first flush left, the others flush right, also under characters of double width."""
    table, lines = [head, *rows], []
    widths = [max(map(columns_of, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = []
        for width, cell in zip(widths, row, strict=True):
            space = " " * (width - columns_of(cell))
            cells.append(space + cell if cells else cell + space)
        lines.append("  ".join(cells))
    return lines
