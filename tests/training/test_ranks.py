"""Proves that several processes are one: the same losses and weights as one process with the same batches; checkpoints
go from any number of ranks to any other. Run: pytest tests/training/test_ranks.py
(two processes; with `-m slow` four, torchrun itself, killed ranks)
"""

import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import processes
import pytest
import rank
import torch
from safetensors.torch import load_file

from minibert import cli
from minibert.training.fine_tuning import TrainOptions, train
from minibert.training.pretraining import PretrainOptions, pretrain
from minibert.training.ranks import Ranks, joined

SCRIPT = Path(__file__).parents[1] / "rank.py"
RUNS = {  # 21 rows: the last batch of an epoch has one row, so a rank has none
    "rows": {"batch_size": 4, "parallel": "ddp"},
    "accumulating": {"batch_size": 2, "accumulation": 2, "parallel": "ddp"},
    "by-tokens": {"tokens_per_batch": 30, "accumulation": 2, "parallel": "ddp"},
    "several-labels": {"batch_size": 4, "parallel": "ddp", "task": "multi-label", "freeze": 1},
}


def options(folder: Path, name: str, **changes) -> TrainOptions:
    """Twelve steps without dropout."""
    data = folder / "data.tsv"
    if not data.exists():
        dice = random.Random(0)
        words = ["dull", "lovely", "film", "room", "quiet", "again", "干净", "差"]
        lines = [f"{('bad', 'good')[i % 2]}\t{' '.join(dice.choices(words, k=dice.randint(1, 9)))}" for i in range(21)]
        data.write_text("label\ttext\n" + "\n".join(lines) + "\n", encoding="utf-8")
    sizes = dict(
        epochs=2, max_length=12, vocab_size=80, device="cpu", log_every=1, dropout=0.0, save_every=2, lr=1e-4, threads=1
    )
    return TrainOptions(data=str(data), dev=str(data), out=str(folder / name), **{**sizes, **changes})


PRETRAINING = {  # 65 examples: the last batch of an epoch has one
    "pretrain": {"batch_size": 8, "parallel": "ddp"},
    "pretrain-by-tokens": {"tokens_per_batch": 100, "accumulation": 2, "parallel": "ddp"},
    "pretrain-nsp-off": {"batch_size": 4, "accumulation": 3, "parallel": "ddp", "nsp": "off"},
}


def pretraining(folder: Path, name: str, **changes) -> PretrainOptions:
    """Twelve steps without dropout."""
    text = folder / "text.txt"
    if not text.exists():
        dice = random.Random(0)
        words = ["dull", "lovely", "film", "room", "quiet", "again", "干净", "差"]
        lines = [" ".join(dice.choices(words, k=dice.randint(1, 9))) + "\n" * (i % 3 == 0) for i in range(150)]
        text.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sizes = dict(
        **dict(layers=2, width=64, max_length=24, vocab_size=80, device="cpu", threads=1, dropout=0.0, lr=1e-4),
        **dict(steps=12, log_every=1, eval_every=5, save_every=2, held_out=0.1),
    )
    return PretrainOptions(**{"corpus": (str(text),), "out": str(folder / name), **sizes, **changes})


def as_json(run: TrainOptions | PretrainOptions) -> str:
    return json.dumps(["train" if isinstance(run, TrainOptions) else "pretrain", dataclasses.asdict(run)])


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def in_ranks(world: int, *runs: TrainOptions | PretrainOptions) -> list[str]:
    """What the ranks print, without torchrun, which takes seconds to load."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(world)}
    running = [
        processes.start(
            rank.run_all, list(map(as_json, runs)), environment={**place, "RANK": str(k), "LOCAL_RANK": str(k)}
        )
        for k in range(world)
    ]
    said = ["".join(process.communicate(timeout=300)) for process in running]
    assert [process.returncode for process in running] == [0] * world, "\n".join(said)
    return said


def torchrun(world: int, *arguments: str, restarts: int = 0, **environment: str) -> subprocess.Popen:
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}", f"--max-restarts={restarts}"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, *start, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def logged(out: Path, *names: str) -> list[float]:
    rows = map(json.loads, (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [row[name] for row in rows for name in names if name in row]


def losses(out: Path) -> list[float]:
    return logged(out, "loss", "dev_loss", "nsp_loss")


def same(one: Path, many: Path) -> None:
    """Losses within 1e-6 relative, weights within 1e-5. Not compared: the keys' biases, whose gradient is 0 (softmax
    does not see what all scores share), so AdamW blows its rounding errors up."""
    apart = max(abs(a / b - 1) for a, b in zip(losses(many), losses(one), strict=True))
    expected, found = load_file(one / "model.safetensors"), load_file(many / "model.safetensors")
    assert expected.keys() == found.keys()
    compared = [name for name in expected if not name.endswith("key.bias")]
    off = max((found[name] - expected[name]).abs().max().item() for name in compared)
    print(f"{many.name}: losses within {apart:.1e} relative, weights within {off:.1e}")
    assert apart <= 1e-6
    assert off <= 1e-5
    assert logged(many, "tokens") == logged(one, "tokens"), "some were computed twice, or not at all"
    configs = [json.loads((out / "config.json").read_text(encoding="utf-8")) for out in (one, many)]
    assert configs[0] == configs[1]


# ---- one process with itself ----


@pytest.mark.parametrize("world", [2, 3, 4, 7])
@pytest.mark.parametrize("rows", [1, 3, 32])
def test_a_batch_is_dealt_without_overlap_or_loss_and_evenly(world, rows):
    lengths = np.random.default_rng(rows).integers(3, 128, 100)
    batch = list(range(50, 50 + rows))
    hands = [Ranks(rank, world).own_rows(batch, lengths) for rank in range(world)]
    assert sorted(chain(*hands)) == batch
    tokens = [int(lengths[hand].sum()) for hand in hands]
    assert max(tokens) - min(tokens) <= lengths[batch].max()
    assert max(map(len, hands)) - min(map(len, hands)) <= 1


def test_one_process_has_nothing_to_share():
    ranks, rows = Ranks(), [3, 1, 2]
    assert ranks.own_rows(rows, np.array([1, 5, 2, 9])) is rows
    assert (ranks.total(1.5, 2), ranks.broadcast("x"), ranks.device("cuda")) == ((1.5, 2), "x", "cuda")
    model = torch.nn.Linear(2, 2)
    assert ranks.wrap(model) is model


def test_one_process_is_not_parallel(tmp_path):
    with pytest.raises(ValueError, match="parallel ddp is for several processes; start them with torchrun"):
        train(options(tmp_path, "run", parallel="ddp"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "pretrain"])
def test_who_asks_for_fsdp_is_told_to_take_ddp(capsys, command):
    assert cli.main([command, "--parallel", "fsdp"]) == 2
    line = "minibert: parallel fsdp is no more, every process holds the whole model; type --parallel ddp\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("command", ["train", "pretrain"])
def test_a_process_that_is_not_the_first_ends_without_a_word(command, monkeypatch, capsys):
    monkeypatch.setattr(
        f"minibert.training.{'fine_tuning' if command == 'train' else 'pretraining'}.{command}", lambda options: None
    )
    assert cli.main([command, "--threads", "1"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("error", "status"), [(ValueError("no"), 2), (KeyboardInterrupt(), 130)], ids=repr)
def test_a_mistake_and_ctrl_c_end_all_but_the_first_with_its_status_alone(error, status, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr("logging.disable", lambda level: None)
    for number, raised in ((0, type(error)), (1, SystemExit)):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda number=number: number)
        with pytest.raises(raised) as caught, joined():
            raise error
    assert caught.value.code == status


# ---- several ----


def compare(folder: Path, world: int, *names: str) -> None:
    runs = {name: options(folder, name, **RUNS[name]) for name in names if name in RUNS}
    runs |= {name: pretraining(folder, name, **PRETRAINING[name]) for name in names if name in PRETRAINING}
    said = in_ranks(world, *runs.values())
    assert "report" in said[0]
    assert said[1:] == [""] * (world - 1), "a rank that is not the first has spoken"
    for name, run in runs.items():
        alone = dataclasses.replace(run, out=str(folder / f"{name}-alone"), parallel=None)
        train(alone) if name in RUNS else pretrain(alone)
        same(Path(alone.out), Path(run.out))
        assert {path.name for path in Path(run.out).iterdir()} == {path.name for path in Path(alone.out).iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [("accumulating",), pytest.param(("by-tokens", "several-labels", "pretrain-by-tokens"), marks=pytest.mark.slow)],
    ids=" ".join,
)
def test_two_processes_are_one(tmp_path, names):
    compare(tmp_path, 2, *names)


@pytest.mark.slow
def test_four_processes_are_one(tmp_path):
    compare(tmp_path, 4, *RUNS, *PRETRAINING)


@pytest.mark.slow
def test_a_compiled_model_goes_with_ddp(tmp_path):
    """In two ranks as in one process, up to what the compiler changes."""
    run = options(tmp_path, "run", parallel="ddp", compile=True)
    in_ranks(2, run, run.__class__(**{**dataclasses.asdict(run), "out": str(tmp_path / "again")}))
    alone = train(dataclasses.replace(run, out=str(tmp_path / "alone"), compile=False, parallel=None))[1]
    assert losses(tmp_path / "run") == pytest.approx(losses(alone), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 1), (1, 2)])
def test_a_checkpoint_of_n_ranks_loads_on_m(tmp_path, before, after):
    """Stopped by SIGTERM somewhere in the first epochs, and resumed on another number of processes."""
    whole = train(options(tmp_path, "whole", epochs=30))[1]
    run = options(tmp_path, "run", epochs=30)
    command = ["train", *(word for word in run.command().split()[2:])]
    process = launched(before, command)
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert "state saved; continue with" in err
    stopped = len(losses(tmp_path / "run"))
    assert stopped < len(losses(whole))
    process = launched(after, ["train", "--resume", run.out])
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"resuming with processes {after}, before {before}" in err
    assert losses(tmp_path / "run") == pytest.approx(losses(whole), rel=1e-5)


def launched(world: int, command: list[str]) -> subprocess.Popen:
    if world > 1:
        return torchrun(world, "-m", "minibert", *command)
    return subprocess.Popen(
        [sys.executable, "-m", "minibert", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("made", [options, pretraining])
def test_a_rank_that_is_killed_and_restarted_by_torchrun_ends_as_if_nothing_had_happened(tmp_path, made):
    """Rank 1 dies after step 7; torchrun starts both again, and they go on from the checkpoint of step 6."""
    whole, run = (made(tmp_path, name, parallel="ddp", batch_size=4) for name in ("whole", "run"))
    in_ranks(2, whole)
    process = torchrun(2, str(SCRIPT), as_json(run), restarts=1, DIE_AT="7")
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert "resuming at step 6" in err
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    records = [json.loads((tmp_path / name / "run.json").read_text(encoding="utf-8")) for name in ("run", "whole")]
    assert records[0]["state"] == records[1]["state"]


@pytest.mark.slow
def test_every_process_of_a_command_ends_well(tmp_path):
    process = torchrun(2, "-m", "minibert", *pretraining(tmp_path, "run", parallel="ddp").command().split()[1:])
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.startswith("loss ")


@pytest.mark.slow
def test_several_processes_tell_a_mistake_once(tmp_path):
    process = torchrun(2, "-m", "minibert", "train", "--data", "nowhere.tsv", "--out", str(tmp_path / "run"))
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert err.count("minibert: ") == 1, err
    assert "nowhere.tsv" in err
    assert not (tmp_path / "run").exists()
