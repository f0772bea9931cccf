"""Proves that `evaluate` says of every label how well it is answered, in a terminal, as JSON and as a page, and that
thousands of labels make none of these long. Run: pytest tests/training/test_evaluation.py
"""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support
from test_inference import saved, texts
from test_report import Walk, view

from minibert import cli
from minibert.fast.models import BertForSequenceClassification
from minibert.inference.text_models import TextClassifier
from minibert.io.examples import read_examples
from minibert.text.encode_table import columns_of
from minibert.training.evaluation import NARROW, WIDTH, aligned, confused, cut

MULTI, REGRESSION = "multi_label_classification", "regression"
FACES = ["负面", "neutral", "正面评价"]


def made(folder: Path, names: list[str], problem: str | None, label) -> tuple[Path, Path]:
    """A stirred model, and a file of 60 rows, whose labels `label` draws."""
    model = saved(
        folder / "model", BertForSequenceClassification, id2label=dict(enumerate(names)), problem_type=problem
    )
    draw, path = random.Random(1), folder / "rows.tsv"
    rows = [f"{label(draw)}\t{text}\n" for text in texts(60)]
    path.write_text("label\ttext\n" + "".join(rows), encoding="utf-8")
    return model, path


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> tuple[Path, Path]:
    return made(tmp_path_factory.mktemp("classes"), FACES, None, lambda draw: draw.choice(FACES))


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> tuple[Path, Path]:
    labels = ["", "a", "a|b", "标签"]
    return made(tmp_path_factory.mktemp("several"), ["a", "b", "标签"], MULTI, lambda draw: draw.choice(labels))


@pytest.fixture
def evaluated(capsys):
    """Runs the command: what it prints."""

    def call(model: Path, data: Path, *words: str) -> str:
        capsys.readouterr()
        assert cli.main(["evaluate", str(model), "--data", str(data), "--device", "cpu", *map(str, words)]) == 0
        return capsys.readouterr().out

    return call


def answered(model: Path, data: Path) -> tuple[torch.Tensor, list[str]]:
    """Logits and labels of the rows."""
    rows = read_examples(data, labelled="many")
    return TextClassifier.from_pretrained(model, device="cpu").logits(rows.texts), rows.labels


# ---- numbers ----


def compared(per_label: list[dict], truth: np.ndarray, predicted: np.ndarray) -> None:
    """Precision, recall, F1 and support are scikit-learn's, who says 0 where a denominator is zero."""
    wanted = np.array(precision_recall_fscore_support(truth, predicted, zero_division=0, labels=range(3)))
    found = [[row[name] or 0 for row in per_label] for name in ("precision", "recall", "f1", "true")]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert wanted.max() > 0, "or it proves nothing"


def test_json_has_the_ratios_of_each_class(classes, evaluated):
    result, (logits, labels) = json.loads(evaluated(*classes, "--json")), answered(*classes)
    assert [row["label"] for row in result["per_label"]] == FACES
    truth, predicted = np.array([FACES.index(label) for label in labels]), logits.argmax(dim=1).numpy()
    compared(result["per_label"], truth, predicted)
    assert [row["predicted"] for row in result["per_label"]] == np.bincount(predicted, minlength=3).tolist()


def test_json_has_the_ratios_of_each_of_several_labels(several, evaluated):
    result, (logits, labels) = json.loads(evaluated(*several, "--json")), answered(*several)
    truth = np.array([[name in label.split("|") for name in ("a", "b", "标签")] for label in labels])
    compared(result["per_label"], truth, (logits >= 0).numpy())


def test_a_regression_says_by_how_much_it_errs(tmp_path, evaluated):
    model, data = made(tmp_path, ["x"], REGRESSION, lambda draw: f"{draw.random():.3f}")
    logits, labels = answered(model, data)
    error = (logits[:, 0] - torch.tensor([float(label) for label in labels])).abs().mean().item()
    assert re.fullmatch(
        rf"Pearson \S+  Spearman \S+  loss \S+  mean absolute error {error:.4f}  rows 60\n", evaluated(model, data)
    )
    assert json.loads(evaluated(model, data, "--json"))["mean_absolute_error"] == pytest.approx(error)


# ---- tables ----


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line)


def test_the_tables_have_a_line_for_each_class_and_all_columns_end_alike(classes, evaluated):
    """The numbers: those of --json."""
    *lines, last = evaluated(*classes).splitlines()
    result = json.loads(evaluated(*classes, "--json"))
    ratios, confusion = ("\n".join(lines).rstrip("\n").split("\n\n")[k].splitlines() for k in (0, 1))
    for table in (ratios, confusion):
        assert len({columns_of(line) for line in table}) == 1
        assert [cells(line)[0] for line in table[1:]] == FACES
    assert cells(ratios[0])[1:] == ["precision", "recall", "F1", "true", "predicted"]
    for line, row in zip(ratios[1:], result["per_label"], strict=True):
        shares = ["-" if row[name] is None else f"{row[name]:.4f}" for name in ("precision", "recall", "f1")]
        assert cells(line)[1:] == [*shares, str(row["true"]), str(row["predicted"])]
    assert [[int(cell) for cell in cells(line)[1:]] for line in confusion[1:]] == result["confusion"]
    assert last.startswith("accuracy ")


def test_several_labels_have_no_confusion_matrix(several, evaluated):
    lines = evaluated(*several).splitlines()
    assert [cells(line)[0] for line in lines[1:4]] == ["a", "b", "标签"]
    assert lines[4] == ""
    assert lines[5].startswith("exact match ")
    assert len(lines) == 6


def test_columns_stand_below_each_other_under_wide_characters():
    assert aligned(["", "真", "b"], [["房间", "1", "22"], ["x", "333", "4"]]) == [
        "       真   b",
        "房间    1  22",
        "x     333   4",
    ]


@pytest.mark.parametrize("label", ["a" * 30, "房间" * 15, "é" * 30, "e\u0301" * 30, "x\x1b[31m" * 9, "房" * 10**6])
def test_a_label_takes_no_more_columns_than_it_may(label):
    for most in (WIDTH, NARROW):
        shown = cut(label, most)
        assert columns_of(shown) <= most
        assert shown.endswith("…")
        assert "\x1b" not in shown


def test_a_label_that_fits_stands_whole():
    assert [cut(label, 12) for label in ("房" * 6, "a" * 12, "")] == ["房" * 6, "a" * 12, ""]


def test_of_many_classes_the_pairs_that_are_confused_most_often_are_shown():
    """True 0 0 0 1 2, predicted 1 1 2 1 0: of 0 two are taken for 1."""
    logits = torch.nn.functional.one_hot(torch.tensor([1, 1, 2, 1, 0]), 3).float()
    head, *lines, last = confused(["a", "b", "房间"], logits, np.array([0, 0, 0, 1, 2]))
    assert [cells(line) for line in lines] == [["a", "b", "2"], ["a", "房间", "1"], ["房间", "a", "1"]]
    assert (cells(head), last) == (["confused most often: true", "predicted", "rows"], "")
    assert confused(["a", "b"], torch.eye(2), np.array([0, 1])) == []


@pytest.mark.parametrize("problem", [None, MULTI])
def test_thousands_of_labels_make_neither_long_tables_nor_a_large_page(tmp_path, evaluated, problem):
    """The model gives a row of several labels some 1,500 of them."""
    names, page = [f"label{k}" for k in range(3000)], tmp_path / "page.html"
    model, data = made(tmp_path, names, problem, lambda draw: draw.choice(names[:50]))
    lines = evaluated(model, data, "--report", page).splitlines()
    assert "the 30 largest of 3000" in lines
    assert len(lines) <= 31 + 2 + 12 + 1
    assert max(map(columns_of, lines)) <= 80
    assert page.stat().st_size < 100_000


# ---- the page ----


def test_the_page_has_the_tables_the_mistakes_and_the_command(classes, evaluated, tmp_path):
    page = tmp_path / "new" / "page.html"
    evaluated(*classes, "--report", page)
    walk = Walk(page.read_text(encoding="utf-8"))
    assert walk.faults == []
    text = "".join(walk.text)
    logits, labels = answered(*classes)
    wrong = sum(FACES[k] != label for k, label in zip(logits.argmax(dim=1).tolist(), labels, strict=True))
    assert f"20 of {wrong}, the most confident first." in text
    assert re.findall("<h2>(.*?)</h2>", view(page.read_text(encoding="utf-8")))[0] == "Classes, on the rows.tsv split"
    assert f"minibert evaluate {classes[0]} --data {classes[1]} --device cpu --report {page}" in text


@pytest.mark.parametrize("name", ["page.tsv", "page", "."])
def test_a_page_that_is_not_called_html_is_refused(classes, name, tmp_path, capsys):
    """It may be the data."""
    report = str(tmp_path / name)
    assert cli.main(["evaluate", str(classes[0]), "--data", str(classes[1]), "--report", report]) == 2
    assert f"report is {report}, which is not called .html" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ---- another threshold ----


def test_a_threshold_is_that_of_scores_and_page(several, evaluated, tmp_path):
    logits, labels = answered(*several)
    high = logits.sigmoid() >= 0.9
    result = json.loads(evaluated(*several, "--json", "--threshold", "0.9", "--report", tmp_path / "page.html"))
    assert [row["predicted"] for row in result["per_label"]] == high.sum(dim=0).tolist()
    assert high.sum() != (logits >= 0).sum(), "or it proves nothing"
    truth = [[name in label.split("|") for name in ("a", "b", "标签")] for label in labels]
    wrong = sum(row != right for row, right in zip(high.tolist(), truth, strict=True))
    text = view((tmp_path / "page.html").read_text(encoding="utf-8"))
    shown = re.findall(r"predicted <bdi>(.*?)</bdi>", text)
    assert f"{len(shown)} of {wrong}, the largest loss first" in text
    names = (("a", "b", "标签"),) * len(labels)
    possible = [[n for n, yes in zip(*pair, strict=True) if yes] for pair in zip(names, high.tolist(), strict=True)]
    assert {*shown} <= {", ".join(row) or "none" for row in possible}


def test_a_threshold_for_classes_is_refused(classes, capsys):
    assert cli.main(["evaluate", str(classes[0]), "--data", str(classes[1]), "--threshold", "0.7"]) == 2
    assert "--threshold 0.7 is for a model of several labels at once" in capsys.readouterr().err
