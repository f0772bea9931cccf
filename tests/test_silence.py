"""Proves that mistakes in data, options and models are not silent: 54 of 15 kinds, each through the command line, each
with the line that has to be there. Run: pytest tests/test_silence.py (-m slow: those that train)
"""

import random
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import small_config, stir

from minibert import cli
from minibert.fast.models import BertForSequenceClassification
from minibert.text.tokenizer import Tokenizer

WORDS = ["the", "room", "was", "very", "clean", "film", "book", "again", "good", "bad", "other", "hotel"]
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]


def rows(count: int = 40, seed: int = 0, labels: tuple[str, ...] = ("neg", "pos"), words: list[str] = WORDS) -> str:
    """Labels in turn, a tab, words at random: no two rows are alike, and nothing can be learned."""
    dice = random.Random(seed)
    lines = [f"{labels[row % len(labels)]}\t{' '.join(dice.choices(words, k=10))}" for row in range(count)]
    return "\n".join(["label\ttext", *lines]) + "\n"


def pairs(seed: int = 0) -> str:
    head, *lines = rows(seed=seed).splitlines()
    return "\n".join([f"{head}\ttext_b", *(f"{line}\tthe {line[-9:]}" for line in lines)]) + "\n"


def labelled(*labels: str) -> str:
    """Rows of which the last few have these labels."""
    lines = rows().splitlines()
    return "\n".join(lines + [f"{label}\tthe room {'was ' * n}" for n, label in enumerate(labels)]) + "\n"


TRAIN, DEV = rows(), rows(12, seed=1)
CHINESE = rows(words=list("房间很干净服务不好酒店"))
LONG = rows(words=[" ".join(WORDS)])
CORPUS = "\n\n".join(f"{' '.join(random.Random(n).choices(WORDS, k=8))}\n{WORDS[n % 9]} film" for n in range(40))


class Mistake(NamedTuple):
    """files: name -> what is in it. command: its words; ENGLISH, PAIRS, SINGLES are models. line: a pattern, on stderr.

    status: 0 where the line does not end the command.
    """

    kind: str
    files: dict[str, str | bytes]
    command: str
    line: str
    status: int = 0


FIT = "train --out out --epochs 1 --batch-size 8 --model ENGLISH --data train.tsv"
JOB = "predict ENGLISH --data data.tsv --out out.tsv"
UNKNOWN, CUT, LEAK = (
    "% of the tokens are \\[UNK\\]; take the vocabulary",
    "max_length 8 cuts 100.0 %",
    "stand in train.tsv",
)
SECOND, FIRST = (
    "single texts, but the model was trained on pairs; give",
    "pairs, but the model was trained on single texts",
)

QUICK = [
    Mistake("vocabulary", {"data.tsv": CHINESE}, JOB, f"data.tsv, rows 1 to 40: 100.0 {UNKNOWN}"),
    Mistake("vocabulary", {"data.tsv": CHINESE}, "evaluate ENGLISH --data data.tsv", UNKNOWN),
    Mistake("vocabulary", {}, "predict ENGLISH 房间很干净", UNKNOWN),
    Mistake("vocabulary", {"data.tsv": CHINESE}, "embed ENGLISH --data data.tsv --out out.npy", UNKNOWN),
    Mistake("cut", {"data.tsv": LONG}, f"{JOB} --max-length 8", f"rows 1 to 40: .*{CUT} of the rows"),
    Mistake("cut", {"data.tsv": LONG}, "evaluate ENGLISH --data data.tsv", "max_length 64 cuts 100.0 %"),
    Mistake("cut", {}, "predict ENGLISH --max-length 8 " + "room-" * 30, CUT),
    Mistake("shape", {"train.tsv": pairs(), "dev.tsv": DEV}, f"{FIT} --dev dev.tsv", "holds single texts", 2),
    Mistake("shape", {"train.tsv": TRAIN, "test.tsv": pairs(1)}, f"{FIT} --test test.tsv", "holds pairs", 2),
    Mistake("shape", {}, "predict PAIRS the-room", SECOND, 2),
    Mistake("shape", {}, "predict SINGLES room --pair book", FIRST, 2),
    Mistake("shape", {"data.tsv": TRAIN}, JOB.replace("ENGLISH", "PAIRS"), f"data.tsv: {SECOND}", 2),
    Mistake("shape", {"data.tsv": pairs()}, JOB.replace("ENGLISH", "SINGLES"), f"data.tsv: {FIRST}", 2),
    Mistake("shape", {"data.tsv": TRAIN}, "evaluate PAIRS --data data.tsv", f"data.tsv: {SECOND}", 2),
    Mistake("shape", {"data.tsv": pairs()}, "evaluate SINGLES --data data.tsv", f"data.tsv: {FIRST}", 2),
    Mistake("shape", {}, "embed PAIRS room", "trained on pairs; its vectors may mean little"),
    Mistake("label spelling", {"train.tsv": labelled("nan")}, FIT, "train.tsv:42: the label is nan", 2),
    Mistake("label spelling", {"train.tsv": labelled("None")}, FIT, "the label is None, .*delete the row", 2),
    Mistake("label spelling", {"train.tsv": labelled("")}, FIT, "train.tsv:42: the label is empty", 2),
    Mistake("labels", {"train.tsv": rows(labels=tuple(map(str, range(40))))}, FIT, "40 labels in 40 rows", 2),
    Mistake("labels", {"train.tsv": rows(labels=("pos",))}, FIT, "every row has the label 'pos'", 2),
    Mistake("labels", {"train.tsv": rows(labels=("0.5", "1.25"))}, FIT, "--task regression", 2),
    Mistake("labels", {"train.tsv": rows(labels=("a", "1"))}, f"{FIT} --task regression", "'a' is no number", 2),
    Mistake("labels", {"train.tsv": TRAIN, "dev.tsv": labelled("new")}, f"{FIT} --dev dev.tsv", "'new'", 2),
    Mistake("labels", {"data.tsv": rows(labels=("0", "2"))}, "evaluate ENGLISH --data data.tsv", "'0'", 2),
    Mistake("columns", {"train.tsv": TRAIN.partition("\n")[2]}, FIT, "if that is no header, type", 2),
    Mistake("columns", {"train.tsv": TRAIN.replace("label", "mine", 1)}, FIT, "--label-column", 2),
    Mistake("columns", {"data.tsv": TRAIN.replace("label", "topic", 1)}, JOB, "ignored: topic"),
    Mistake("columns", {"train.tsv": TRAIN.replace("label\ttext", "tweet\ttext\t", 1)}, FIT, "column", 2),
    Mistake("encoding", {"data.tsv": CHINESE.encode("gb18030")}, JOB, "read as gb18030"),
    Mistake("encoding", {"train.tsv": CHINESE.encode() + CHINESE.encode("gb18030")}, FIT, "train.tsv", 2),
    Mistake("quotes", {"train.tsv": TRAIN + 'pos\t"the room\nneg\tbook\npos\tfilm"\n'}, FIT, "--quoting none", 2),
    Mistake("delimiter", {"data.csv": TRAIN.replace("\t", ";")}, JOB.replace("tsv", "csv"), "columns by semicolon"),
    Mistake("nothing there", {"train.tsv": ""}, FIT, "train.tsv: is empty", 2),
    Mistake("nothing there", {"train.tsv": "label\ttext\n"}, FIT, "holds no rows", 2),
    Mistake("nothing there", {"data.tsv": rows() + "pos\t\n"}, JOB, "rows 1 to 41: 1 text is empty; remove"),
    Mistake("output", {"data.tsv": TRAIN, "out.tsv": "mine"}, JOB, "out.tsv: is there already", 2),
    Mistake("output", {"train.tsv": TRAIN, "out/notes.txt": "mine"}, FIT, "out exists already", 2),
]
SLOW = [
    Mistake("vocabulary", {"train.tsv": CHINESE}, FIT, UNKNOWN),
    Mistake("vocabulary", {"a.txt": CORPUS.replace("the", "房")}, "pretrain --vocab ENGLISH --corpus a.txt", UNKNOWN),
    Mistake("cut", {"train.tsv": LONG}, f"{FIT} --max-length 8", CUT),
    Mistake("leak", {"train.tsv": TRAIN, "dev.tsv": rows(12)}, f"{FIT} --dev dev.tsv", f"dev.tsv: 100.0 % .*{LEAK}"),
    Mistake("leak", {"train.tsv": pairs(), "test.tsv": pairs()}, f"{FIT} --test test.tsv", f"test.tsv: .*{LEAK}"),
    Mistake("leak", {"train.tsv": rows() + rows().partition("\n")[2]}, FIT, f"rows held out of train.tsv: .*{LEAK}"),
    Mistake("label spelling", {"train.tsv": rows(labels=("1", "1.0", "0", "0.0"))}, FIT, "2 labels: 1 \\(20\\)"),
    Mistake("label spelling", {"train.tsv": rows(labels=("1", "１", "0"))}, FIT, "2 labels: 1 \\(27\\)"),
    Mistake("label spelling", {"train.tsv": rows(labels=("True", "TRUE", "no"))}, FIT, "2 labels: True \\(27\\)"),
    Mistake("loss", {"train.tsv": TRAIN, "dev.tsv": DEV}, f"{FIT} --dev dev.tsv --lr 0", "loss is not below what the"),
    Mistake("loss", {"a.txt": CORPUS}, "pretrain --corpus a.txt --lr 0", "accuracy .* is not above always"),
    Mistake(
        "one answer", {"train.tsv": TRAIN, "dev.tsv": DEV}, f"{FIT} --dev dev.tsv --lr 0", "never predicted on dev: "
    ),
    Mistake(
        "one answer",
        {"train.tsv": rows(labels=("a", "b", "a|b", ""))},
        f"{FIT} --task multi-label --lr 1e-5 --seed 1",
        "never predicted on dev: ",
    ),
    Mistake(
        "no better", {"train.tsv": TRAIN, "dev.tsv": DEV}, f"{FIT} --dev dev.tsv --lr 0", "is not above what needs no"
    ),
    Mistake(
        "no better",
        {"train.tsv": rows(labels=("1.5", "2.5"))},
        f"{FIT} --task regression --lr 0",
        "is not below what needs no BERT: mean of",
    ),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """By their names in a command: of no recorded shape, trained on pairs, trained on single texts."""
    found = {}
    for name, own in {"ENGLISH": {}, "PAIRS": {"pairs": True}, "SINGLES": {"pairs": False}}.items():
        folder = tmp_path_factory.mktemp(name)
        sizes = {"vocab_size": len(VOCAB), "max_position_embeddings": 128, "id2label": {0: "neg", 1: "pos"}}
        stir(BertForSequenceClassification(small_config(**sizes, others={"minibert": own}))).save_pretrained(folder)
        Tokenizer(VOCAB, model_max_length=64).save_pretrained(folder)
        found[name] = str(folder)
    return found


def said(mistake: Mistake, models: dict[str, str], folder: Path, capsys: pytest.CaptureFixture) -> tuple[int, str]:
    """The exit status and stderr of a command in a folder of its own."""
    for name, content in mistake.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    words = [models.get(word, word) for word in mistake.command.split()]
    if words[0] == "pretrain":
        sizes = "--out out --layers 1 --width 64 --max-length 32 --steps 6 --log-every 1 --held-out 0.2"
        words += sizes.split() + ["--vocab-size", "100"] * ("--vocab" not in words)
    status = cli.main(words)
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    "mistake",
    [*QUICK, *(pytest.param(mistake, marks=pytest.mark.slow) for mistake in SLOW)],
    ids=[f"{number}-{mistake.kind}" for number, mistake in enumerate(QUICK + SLOW)],
)
def test_a_mistake_has_its_line(mistake, models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, err = said(mistake, models, tmp_path, capsys)
    lines = [line for line in err.splitlines() if re.search(mistake.line, line)]
    assert (status, len(lines)) == (mistake.status, 1), err


def test_the_mistakes_are_of_many_kinds():
    kinds = Counter(mistake.kind for mistake in QUICK + SLOW)
    assert (len(kinds) >= 12, kinds.total() >= 40) == (True, True), kinds
