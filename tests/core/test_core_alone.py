"""Proves that minibert/core runs where there is no minibert: copied alone into an empty folder, under another name, it
tokenises, loads, computes, trains and saves. Run: pytest -s tests/core/test_core_alone.py, to see what there is to read
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from minibert import core
from minibert.fast.models import BertForSequenceClassification
from minibert.io.bundled import BUNDLED, resolve
from minibert.text.tokenizer import Tokenizer
from minibert.training.options import REVIEWS

TEXTS, PAIRS = ["房间很干净，下次还住", "The room was clean."], ["Très bien", "unaffable [MASK] 😀 1,000"]  # heart.py's
ROWS = 48

pytestmark = pytest.mark.slow  # a process that loads PyTorch anew, for some seconds


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Path, list[str], dict]:
    """(the folder, what was printed while training, what heart.py has found)."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copytree(Path(core.__file__).parent, folder / "heart", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train", "dev"):
        lines = (REVIEWS / f"{name}.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{name}.tsv").write_text("".join(lines[: ROWS + 1]), encoding="utf-8")
    script, arguments = Path(__file__).parents[1] / "heart.py", ("train.tsv", "dev.tsv", "out")
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", script, folder, resolve(BUNDLED), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    *said, found = done.stdout.splitlines()
    return folder, said, json.loads(found)


def test_no_module_of_minibert_is_loaded(alone):
    assert alone[2]["loaded"] == []


def test_it_tokenises_as_minibert_does(alone):
    encoding = Tokenizer.from_pretrained(resolve(BUNDLED))(TEXTS, PAIRS, max_length=32)
    wanted = encoding.input_ids, encoding.attention_mask, encoding.token_type_ids
    assert alone[2]["inputs"] == [array.tolist() for array in wanted]


@pytest.mark.numeric
def test_its_model_equals_the_float64_reference_on_the_real_tokens_of_a_padded_batch(alone):
    assert alone[2]["padding"] > 0
    assert max(alone[2]["distances"]) < 1e-5


def test_it_trains_an_epoch_and_says_how(alone):
    *batches, epoch, last = [line for line in alone[1] if line]
    assert [line.split("  loss")[0] for line in batches] == [
        f"epoch 1  batch {i:>3}" for i in range(5, ROWS // 8 + 1, 5)
    ]
    assert epoch.startswith("epoch 1/1  dev loss ")
    assert "`minibert train` keeps the best epoch's" in last


def test_every_weight_of_the_encoder_has_moved(alone):
    start, end = (
        BertForSequenceClassification.from_pretrained(path).bert.state_dict()
        for path in (resolve(BUNDLED), alone[0] / "out")
    )
    assert [name for name, tensor in start.items() if torch.equal(tensor, end[name])] == []


@pytest.mark.numeric
def test_transformers_loads_what_it_saves_and_gives_the_same_logits(alone):
    out = alone[0] / "out"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(out).eval()
    assert model.config.id2label == {0: "negative", 1: "positive"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    with torch.no_grad():
        logits = model(**tokenizer(TEXTS, PAIRS, padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(torch.tensor(alone[2]["logits"]), logits, rtol=0, atol=1e-5)


def test_the_lines_of_the_reading_path_are_told(alone):
    lines = alone[2]["lines"]
    print(*(f"{count:6,} {name}" for name, count in {**lines, "in all": sum(lines.values())}.items()), sep="\n")
    assert all(lines.values())
