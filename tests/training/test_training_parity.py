"""Proves that 30 AdamW steps from MiniLM equal a plain transformers loop: losses and final weights, dropout off.

Run: pytest -m slow tests/training/test_training_parity.py
"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from conftest import SHARED, needs_shared

from minibert.core.checkpoint import BACK, translate
from minibert.core.config import BertConfig
from minibert.core.data import chunks, label_ids, label_names, shuffled
from minibert.core.optimizer import learning_rate, optimizer_groups
from minibert.fast.batches import Batch, collate, encode_examples
from minibert.fast.layout import Packed
from minibert.fast.models import BertForSequenceClassification
from minibert.fast.twins import prepare
from minibert.io.examples import read_examples
from minibert.look.parity import BACKENDS
from minibert.text.tokenizer import Tokenizer
from minibert.training.options import REVIEWS

STEPS, LR, WARMUP, CLIP, DECAY = 30, 5e-5, 0.1, 1.0, 0.01


def batches(minilm: Path, data: Path, size: int) -> tuple[list, list[str]]:
    rows = read_examples(data, quoting="none")
    names = label_names(rows)
    tokenizer = Tokenizer.from_pretrained(minilm)
    encoding = encode_examples(tokenizer, rows, max_length=64)
    order = chunks(shuffled(len(rows), seed=0, epoch=0), size)[:STEPS]
    return [collate(encoding, label_ids(rows, names), part, tokenizer.pad_id) for part in order], names


def packed(batch: Batch) -> Batch:
    """The same rows without their padding, in the same order."""
    layout, real = Packed.from_mask(batch.attention_mask), batch.attention_mask.bool()
    return Batch(batch.input_ids[real], None, batch.token_type_ids[real], layout, batch.labels)


def our_run(directory: Path, config: BertConfig, backend: str, data: list) -> tuple[list[float], dict]:
    model = prepare(BertForSequenceClassification.from_pretrained(directory, backend, config=config)).train()
    optimizer = torch.optim.AdamW(optimizer_groups(model, DECAY), lr=LR, fused=True)
    losses = []
    for step, batch in enumerate(data):
        loss = F.cross_entropy(model(*batch[:-1]), batch.labels)
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, STEPS, LR, WARMUP)
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, named_for_them(model)


def named_for_them(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {translate(name, BACK): tensor for name, tensor in model.state_dict().items()}


def their_run(directory: Path, dropouts: dict[str, float], data: list) -> tuple[list[float], dict]:
    model = transformers.BertForSequenceClassification.from_pretrained(directory, **dropouts).train()
    plain = ("bias", "LayerNorm.weight")
    groups = [
        {"params": [p for n, p in model.named_parameters() if not n.endswith(plain)], "weight_decay": DECAY},
        {"params": [p for n, p in model.named_parameters() if n.endswith(plain)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, int(WARMUP * STEPS), STEPS)
    losses = []
    for batch in data:
        loss = model(*batch[:3], labels=batch.labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses, model.state_dict()


pytestmark = [pytest.mark.slow, pytest.mark.numeric]


@pytest.fixture(scope="module", params=["reviews", pytest.param("sst", marks=needs_shared)], name="race")
def transformers_race(request, minilm, tmp_path_factory) -> dict:
    """What both loops start from, and what transformers' made of it."""
    folder = tmp_path_factory.mktemp("race")
    data = REVIEWS / "train.tsv" if request.param == "reviews" else write_sst(folder / "sst.tsv")
    prepared, names = batches(minilm, data, size=4 if request.param == "reviews" else 32)
    dropouts = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"), 0.0)
    config = BertConfig.from_file(minilm / "config.json").replace(id2label=dict(enumerate(names)), **dropouts)
    torch.manual_seed(0)
    start = BertForSequenceClassification.from_pretrained(minilm, config=config)
    start.save_pretrained(folder)  # with its fresh classification head, the same for both
    losses, weights = their_run(folder, dropouts, prepared)
    return {"folder": folder, "config": config, "data": prepared, "losses": losses, "weights": weights, "start": start}


def write_sst(path: Path) -> Path:
    lines = (SHARED / "sst5_cfimdb" / "sst-train.txt").read_text(encoding="utf-8").splitlines()
    rows = ("\t".join(part.strip() for part in line.split(" ||| ", 1)) for line in lines)
    path.write_text("label\ttext\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("backend", "layout"),
    [*((name, "padded") for name in BACKENDS), ("sdpa", "packed")],
)
def test_thirty_steps_equal_a_plain_transformers_loop(race, backend, layout):
    """Two of transformers' own backends differ by 2e-7 in the losses and 2e-6 in the weights."""
    data = race["data"] if layout == "padded" else [packed(batch) for batch in race["data"]]
    losses, weights = our_run(race["folder"], race["config"], backend, data)
    apart = [abs(a - b) for a, b in zip(losses, race["losses"], strict=True)]
    moved = max((race["weights"][n] - t).abs().max() for n, t in named_for_them(race["start"]).items())
    off = max((race["weights"][n] - t).abs().max() for n, t in weights.items())
    print(f"{backend}, {layout}: losses within {max(apart):.1e}, weights within {off:.1e}, moved by {moved:.1e}")
    assert moved > 1e-4, "the weights have not moved, so comparing them proves nothing"
    assert max(apart) <= 2e-6
    assert off <= 5e-5
