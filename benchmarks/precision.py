"""What a fine-tuned classifier's answers lose, and gain in time, in smaller numbers than float32: a case of
benchmarks/encoder.py.

MiniLM learns a task for one epoch. On the dev split: how many of its labels are those of float32, its accuracy, and its
speed relative to float32; in bfloat16 (`--precision bf16`), and in int8 as PyTorch quantises Linears dynamically.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.accuracy import MINILM, SHARED, take, write_splits, write_tsv
from benchmarks.race import Contestant, Plan, Work, judged, race, take_times
from benchmarks.tokenizer import Bound, Row
from minibert.fast.models import BertForSequenceClassification
from minibert.fast.prepacked import prepack
from minibert.inference.scores import score
from minibert.inference.text_models import TextClassifier, classify
from minibert.io.examples import label_ids, read_examples
from minibert.text.tokenizer import Encoding
from minibert.training.fine_tuning import TrainOptions, train

TASKS = {"sst": "sst5", "chnsenticorp": "chnsenticorp"}
RECIPE = TrainOptions(model=MINILM, epochs=1, lr=1e-4, max_length=128, quoting="none")
ROWS = 5000  # of the training split
AGREE = Bound(0.995)
KINDS = ("bf16", "int8")


def precision_case(plan: Plan) -> Iterator[Row]:
    """Two rows for each corpus and kind of numbers: labels that agree, and speed. One number of threads."""
    for corpus, task in TASKS.items():
        if plan.device.type != "cpu" or corpus not in plan.corpora or not SHARED.is_dir():
            continue
        for threads in plan.each_threads(last=True):
            with tempfile.TemporaryDirectory() as folder:
                yield from races(plan, corpus, *trained(task, Path(folder), plan.scale), threads)


def trained(task: str, folder: Path, scale: float) -> tuple[TextClassifier, list[str], NDArray[np.int64]]:
    """The classifier, and the dev split's texts and labels."""
    files = write_splits(task, folder)
    rows = read_examples(files["train"], quoting="none")
    few = take(rows, range(min(len(rows), round(ROWS * scale))))
    data = write_tsv(folder / "few.tsv", few.labels, few.texts)
    train(dataclasses.replace(RECIPE, data=str(data), dev=str(files["dev"]), out=str(folder / "out")))
    dev = read_examples(files["dev"], quoting="none")
    classifier = TextClassifier.from_pretrained(folder / "out", device="cpu")
    return classifier, dev.texts, label_ids(dev, classifier.labels)


def races(
    plan: Plan, corpus: str, classifier: TextClassifier, texts: list[str], truth: NDArray[np.int64], threads: str
) -> Iterator[Row]:
    encoding, model = classifier.encode(texts, max_length=RECIPE.max_length), classifier.model
    forms = {
        "fp32": prepack(copy.deepcopy(model)),
        "bf16": prepack(copy.deepcopy(model).bfloat16()),
        "int8": quantised(model),
    }
    answers = {name: classify(form, encoding) for name, form in forms.items()}
    work = Work(corpus, "minilm", texts, classifier.tokenizer.vocab, encoding)
    for name in KINDS:
        who = [
            Contestant(name, answering(forms[name], encoding)),
            Contestant("fp32", answering(forms["fp32"], encoding)),
        ]
        found, case = take_times(who, plan, lambda _: 0.0), f"precision, {name}, minilm, {threads}"
        accuracy = {f"accuracy {form}": score(answers[form], truth).accuracy for form in ("fp32", name)}
        for row in race(case, work, found, who, {}):
            yield dataclasses.replace(row, facts={**row.facts, **accuracy})
        same = (answers[name].argmax(1) == answers["fp32"].argmax(1)).double().mean().item()
        row = Row(case, corpus, "fp32", None, "labels that agree", facts=accuracy)
        yield judged(row, same, AGREE if name == "bf16" else None)


def answering(model: nn.Module, encoding: Encoding) -> Callable[[], Tensor]:
    return lambda: classify(model, encoding)


def quantised(model: BertForSequenceClassification) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch means to take it out
        return torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, torch.qint8)
