"""Proves that the loop in core/train.py and engine.py's are the same training: bit for bit where both pad,
to float noise where the engine packs. test_core_alone.py runs its command line.
Run: pytest tests/core/test_core_train.py
"""

import json
import random
from pathlib import Path

import pytest
import torch
from conftest import small_config, stir

import minibert.training.engine
import minibert.training.fine_tuning
from minibert.core import train as loop
from minibert.core.data import Loader, read_examples
from minibert.fast.models import BertForSequenceClassification
from minibert.text.tokenizer import Tokenizer
from minibert.training.fine_tuning import TrainOptions

WORDS = ["good", "bad", "the", "room", "was", "very", "film", "book"]
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
NAMES = ["neg", "pos"]


def written(path: Path, rows: int) -> str:
    """Sentence pairs of unlike lengths, half of them with a good word and half with a bad one."""
    dice = random.Random(rows)
    lines = ["label\tsentence1\tsentence2"]
    for row in range(rows):
        words = [(WORDS[row % 2]), *dice.choices(WORDS[2:], k=dice.randint(1, 9))]
        lines.append(
            f"{NAMES[1 - row % 2]}\t{' '.join(words)}\t{' '.join(dice.choices(WORDS[2:], k=dice.randint(1, 5)))}"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """42 rows to train on, so that the last of an epoch's six batches of 8 is a smaller one; a model to begin with."""
    folder = tmp_path_factory.mktemp("loop")
    config = small_config(vocab_size=len(VOCAB), max_position_embeddings=24, id2label=dict(enumerate(NAMES)))
    stir(BertForSequenceClassification(config)).save_pretrained(folder / "start")
    Tokenizer(VOCAB, model_max_length=24).save_pretrained(folder / "start")
    return {
        "data": written(folder / "data.tsv", 42),
        "dev": written(folder / "dev.tsv", 10),
        "model": str(folder / "start"),
    }


def by_engine(files: dict[str, str], out: Path, monkeypatch, **changes) -> tuple[list[float], dict[str, torch.Tensor]]:
    """(each batch's loss, the weights after the last), of `minibert train`."""
    runs = []
    monkeypatch.setattr(minibert.training.fine_tuning.FineTuning, "finish", lambda task, seconds: runs.append(task))
    options = dict(epochs=2, batch_size=8, max_length=24, device="cpu", threads=torch.get_num_threads(), log_every=1)
    minibert.training.fine_tuning.train(
        TrainOptions(**files, out=str(out), token_dropout=0.0, **{**options, **changes})
    )
    rows = map(json.loads, (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [row["loss"] for row in rows if "step" in row], runs[0].model.state_dict()


def by_loop(
    files: dict[str, str], dropout: float, seed: int = 0, **changes
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The same of `fit`."""
    torch.manual_seed(seed)
    config = BertForSequenceClassification.from_pretrained(files["model"]).config
    config = config.replace(**dict.fromkeys(DROPOUTS, dropout))
    model = BertForSequenceClassification.from_pretrained(files["model"], config=config)
    tokenizer = Tokenizer.from_pretrained(files["model"])
    loader, dev = (
        Loader(read_examples(files[name]), NAMES, tokenizer, 8, 24, order)
        for name, order in (("data", seed), ("dev", None))
    )
    return loop.fit(model, loader, dev, **{"epochs": 2, **changes}), model.state_dict()


def assert_equal(found: tuple, wanted: tuple) -> None:
    """The engine's losses are float32 sums divided in float64, `fit`'s are float32 means; in float32 they are equal."""
    losses, weights = found
    assert torch.equal(torch.tensor(losses), torch.tensor(wanted[0]))
    assert all(torch.equal(tensor, wanted[1][name]) for name, tensor in weights.items())


# ---- loop and engine ----


@pytest.mark.numeric
@pytest.mark.parametrize(("decay", "clip"), [(0.01, 1.0), (5.0, 0.3)])
def test_without_dropout_the_loop_is_the_engine_bit_for_bit(files, tmp_path, monkeypatch, plain_products, decay, clip):
    """Order, loss, clipping, decay, schedule, and the smaller batch at an epoch's end."""
    monkeypatch.setattr(loop, "DECAY", decay)
    monkeypatch.setattr(loop, "CLIP", clip)
    options = dict(layout="padded", dropout=0.0, lr=1e-3, weight_decay=decay, clip=clip, seed=3)
    engine = by_engine(files, tmp_path / "run", monkeypatch, **options)
    ours = by_loop(files, 0.0, seed=3, lr=1e-3)
    assert_equal(ours, engine)
    assert len(ours[0]) == 12


@pytest.mark.numeric
def test_with_dropout_the_loop_is_the_engine_bit_for_bit_where_steps_are_not_seeded(
    files, tmp_path, monkeypatch, plain_products
):
    """The engine seeds every step, so that a resumed run draws the same; the loop draws on from where it is."""
    monkeypatch.setattr(minibert.training.engine, "seed_step", lambda *numbers: None)
    engine = by_engine(files, tmp_path / "run", monkeypatch, layout="padded", dropout=0.3, lr=1e-3, seed=3)
    assert_equal(by_loop(files, 0.3, seed=3, lr=1e-3), engine)
    assert engine[0] != by_loop(files, 0.0, seed=3, lr=1e-3)[0], "nothing was dropped"


@pytest.mark.numeric
def test_by_onednn_the_engines_losses_are_the_loops_up_to_float_noise(files, tmp_path, monkeypatch, onednn):
    engine = by_engine(files, tmp_path / "run", monkeypatch, layout="padded", dropout=0.0, lr=1e-3, seed=3)
    assert engine[0] == pytest.approx(by_loop(files, 0.0, seed=3, lr=1e-3)[0], rel=0, abs=1e-6)


@pytest.mark.numeric
@pytest.mark.slow
def test_packed_batches_train_the_same_model_up_to_float_noise(files, tmp_path, monkeypatch):
    """60 steps. Not compared: the keys' biases, whose gradient is 0 in theory, so AdamW walks on rounding noise."""
    changes = dict(epochs=10, lr=1e-4)
    losses, weights = by_engine(files, tmp_path / "run", monkeypatch, layout="packed", dropout=0.0, **changes)
    wanted_losses, wanted = by_loop(files, 0.0, **changes)
    assert losses == pytest.approx(wanted_losses, rel=0, abs=1e-6)
    start = BertForSequenceClassification.from_pretrained(files["model"]).state_dict()
    for name, tensor in weights.items():
        if not name.endswith("key.bias"):
            torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=1e-5, msg=lambda m, name=name: f"{name} {m}")
    assert max((tensor - start[name]).abs().max() for name, tensor in weights.items()) > 2e-3


# ---- the loop alone ----


def test_every_fifth_batch_and_every_epoch_have_a_line(files, capsys):
    losses, _ = by_loop(files, 0.0)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  loss")[0] for line in lines[::2]] == ["epoch 1  batch   5", "epoch 2  batch   5"]
    assert f"  loss {losses[4]:.4f}  accuracy " in lines[0]
    assert lines[1].startswith("epoch 1/2  dev loss ")
    assert len(lines) == 4


def test_validation_is_without_dropout_over_all_rows(files):
    model = BertForSequenceClassification.from_pretrained(files["model"]).train()
    dev = read_examples(files["dev"])
    loader = Loader(dev, NAMES, Tokenizer.from_pretrained(files["model"]), batch_size=4, max_length=24)
    loss, accuracy = loop.evaluate(model, loader)
    assert not model.training
    ((ids, mask, segments, label),) = Loader(dev, NAMES, Tokenizer.from_pretrained(files["model"]), 10, 24)
    logits = model.eval()(ids, mask, segments)
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, label).item(), abs=1e-6)
    assert accuracy == (logits.argmax(dim=1) == label).sum().item() / 10


def test_each_epoch_trains_with_dropout_though_validation_switches_it_off(files, monkeypatch):
    modes = []
    monkeypatch.setattr(
        loop.F, "cross_entropy", spied(loop.F.cross_entropy, lambda: modes.append(torch.is_grad_enabled()))
    )
    dropped = []
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda part, x: dropped.append(part.training) or x)
    by_loop(files, 0.1)
    parts = len(dropped) // len(modes)
    assert modes == [True] * 6 + [False] * 2 + [True] * 6 + [False] * 2
    assert dropped == [mode for mode in modes for _ in range(parts)]


def spied(function, note):
    """The function, which notes each call."""

    def call(*arguments, **options):
        note()
        return function(*arguments, **options)

    return call


def test_a_loss_that_is_no_number_ends_the_training(files, monkeypatch):
    monkeypatch.setattr(loop, "learning_rate", lambda *numbers: 1e38)
    with pytest.raises(ValueError, match=r"^the loss is (nan|inf) at step \d+; try a smaller lr than 5e-05$"):
        by_loop(files, 0.0)
