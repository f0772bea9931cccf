"""Proves that a step that a GPU records and replays is the same step: here the batch is put where a recording would
read it, and computed from there; tests/fast/test_gpu.py records. Run: pytest tests/fast/test_replay.py
"""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import small_config, stir
from torch import nn

from minibert.fast import replay
from minibert.fast.attention import torch_backends
from minibert.fast.batches import Batch
from minibert.fast.layout import Packed, pad
from minibert.fast.models import BertForPreTraining, BertForSequenceClassification
from minibert.fast.replay import Replays, check_replayable, most_tiles
from minibert.training.fine_tuning import TrainOptions, train
from minibert.training.instances import MaskedBatch
from minibert.training.ranks import Ranks

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
SIZES = dict(
    hidden_size=64, num_attention_heads=2, intermediate_size=37, max_position_embeddings=80, num_hidden_layers=1
)
WEIGHTS = {"BertForSequenceClassification": torch.tensor(0.7), "BertForPreTraining": torch.tensor([0.7, 0.3])}


def batch_of(name: str, lengths: list[int], seed: int) -> Batch | MaskedBatch:
    dice = torch.Generator().manual_seed(seed)
    layout, T, B = Packed.from_lengths(lengths), sum(lengths), len(lengths)
    ids, segments = (torch.randint(high, (T,), generator=dice) for high in (101, 2))
    if name == "BertForSequenceClassification":
        return Batch(ids, None, segments, layout, torch.randint(7, (B,), generator=dice))
    positions = torch.randperm(T, generator=dice)[: T // 8]
    labels, is_random = (torch.randint(high, (n,), generator=dice) for high, n in ((101, len(positions)), (2, B)))
    return MaskedBatch(ids, None, segments, layout, positions, labels, is_random, np.array(lengths))


def filled(batch: Batch | MaskedBatch, multiple: int) -> Batch | MaskedBatch:
    """With a last row of [PAD], as data.collate_packed and instances.batch make it."""
    if not (rest := -len(batch.input_ids) % multiple):
        return batch
    ids, segments = (F.pad(x, (0, rest)) for x in (batch.input_ids, batch.token_type_ids))
    layout = Packed.from_lengths([*batch.layout.lengths, rest])
    more = {"labels": F.pad(batch.labels, (0, 1), value=-100)} if isinstance(batch, Batch) else {}
    return batch._replace(input_ids=ids, token_type_ids=segments, layout=layout, **more)


def computing(model: nn.Module):
    """Sums of losses; the gradient of the weighted ones is added to the parameters'."""

    def compute(batch, weights):
        answers = model(*batch[: 4 if isinstance(batch, Batch) else 5])
        given = [(answers, batch.labels)]
        if isinstance(batch, MaskedBatch):
            given = zip(answers, (batch.labels, batch.is_random), strict=True)
        losses = [F.cross_entropy(x[: len(truth)], truth, reduction="sum") for x, truth in given]
        losses = losses[0] if isinstance(batch, Batch) else torch.stack(losses)
        (losses * weights).sum().backward()
        return losses.detach()

    return compute


@pytest.fixture
def no_gpu(monkeypatch):
    """What there is of CUDA graphs on a CPU, and the last layer as a GPU does it."""
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)

    def as_on_a_gpu(q, k, v, layout, dropout_p=0.0, scale=None):
        k, v = (pad(tensor, layout).transpose(1, 2) for tensor in (k, v))
        return torch_backends.sdpa(q[:, :, None], k, v, layout.padded, dropout_p, scale)[:, :, 0]

    monkeypatch.setattr(torch_backends, "packed_sdpa", as_on_a_gpu)


class Straight(Replays):
    """Computes from where a recording would read."""

    def __call__(self, batch, weights):
        T = len(batch.input_ids)
        recording = self.recordings.setdefault(T, self.recordings.get(T) or self.room(batch, weights))
        self.fill(recording, batch, weights)
        return self.compute(self.laid_out(recording), recording.weights)


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize(
    "kind", [pytest.param(BertForSequenceClassification, marks=pytest.mark.slow), BertForPreTraining]
)
def test_batches_of_any_lengths_fit_into_one_recording(kind, no_gpu, monkeypatch):
    """The second is computed where the first has left its numbers."""
    monkeypatch.setattr(replay, "STEP", 80)
    ours, plain = (stir(kind(small_config(**SIZES), backend)) for backend in ("triton", "eager"))
    weights = WEIGHTS[kind.__name__]
    replays = Straight(
        computing(ours), ours, 4, 80, torch.float32, None if "Seq" in kind.__name__ else lambda T: T // 8
    )
    for seed, lengths in enumerate(([70, 3, 66], [5, 80, 9, 60])):
        batch = batch_of(kind.__name__, lengths, seed)
        wanted = computing(plain)(batch, weights)
        found = replays(filled(batch, replays.multiple), weights)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        for (name, p), q in zip(ours.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(
                p.grad, q.grad, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
            )
    assert list(replays.recordings) == [160]


@pytest.mark.parametrize("lengths", [[9] * 5, [81], [40, 41]])
def test_a_batch_that_no_recording_was_meant_for_is_computed_as_it_is(lengths, no_gpu):
    """Too many rows, too long a row, too many labels."""
    seen = []
    replays = Replays(lambda *given: seen.append(given), None, 3, 80, torch.float32, lambda T: T // 10)
    given = batch_of("BertForPreTraining", lengths, 0), torch.ones(2)
    replays(*given)
    assert seen == [given]


@pytest.mark.parametrize(
    ("device", "world", "options", "said"),
    [
        ("cpu", 1, TrainOptions(), "graphs is for a GPU, and the device is cpu; leave --graphs out"),
        ("cuda", 2, TrainOptions(), "graphs is for one process, and there are 2"),
        ("cuda", 1, TrainOptions(layout="padded"), "graphs is for packed batches, and the layout is padded"),
        ("cuda", 1, TrainOptions(attention="eager"), "graphs needs the attention backend triton, and here it is eager"),
    ],
)
def test_what_cannot_be_recorded_is_refused(device, world, options, said):
    with pytest.raises(ValueError, match=said):
        check_replayable(torch.device(device), 64, Ranks(world=world).world, options)


def test_a_run_on_a_cpu_says_that_graphs_are_for_a_gpu(tmp_path):
    with pytest.raises(ValueError, match="graphs is for a GPU"):
        train(TrainOptions(graphs=True, device="cpu", out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("tile", [16, 64])
@pytest.mark.parametrize(("over", "up_to"), [(0, 64), (64, 128), (0, None), (128, None)])
def test_a_recording_has_room_for_the_tiles_of_any_batch(tile, over, up_to):
    dice = np.random.default_rng(0)
    for _ in range(300):
        rows = int(dice.integers(1, 20))
        lengths = dice.integers(1, int(dice.integers(2, 300)), rows).tolist()
        tiles = len(Packed.from_lengths(lengths).tiles(tile, over, up_to))
        assert tiles <= most_tiles(tile, over, up_to, rows, sum(lengths))
