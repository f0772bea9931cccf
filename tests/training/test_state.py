"""Proves that a run survives: checkpoints come back whole or are passed over, killed runs end with the same bytes, no
two runs share a directory, nothing that has changed is resumed unnoticed. Run: pytest tests/training/test_state.py
(with `-m slow` also a few kills at random moments; `python tests/kill_runs.py` does a hundred)
"""

import dataclasses
import errno
import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import full_disks
import kill_runs
import lost_writes
import processes
import pytest
import races
import torch
from conftest import MODELS, small_config, stir
from torch import nn

import minibert.io.locks
import minibert.training.engine
from minibert import cli
from minibert.core import files
from minibert.core.optimizer import optimizer_groups
from minibert.training.engine import seed_step
from minibert.training.fine_tuning import CHANGEABLE, TrainOptions, TrainProgress, train
from minibert.training.pretraining import PretrainOptions, pretrain
from minibert.training.ranks import Ranks
from minibert.training.state import (
    METRICS,
    Means,
    append_metrics,
    continued,
    damage,
    fingerprint,
    free_directory,
    load_state,
    locked,
    read_metrics,
    read_record,
    remove_states,
    restored,
    save_state,
    states,
)

ONE = Ranks()


def trained(steps: int, fused: bool = True) -> tuple[nn.Module, torch.optim.AdamW]:
    """A small model with dropout, some steps on."""
    torch.manual_seed(0)
    model = stir(MODELS["BertForSequenceClassification"](small_config())).train()
    optimizer = torch.optim.AdamW(optimizer_groups(model, 0.01), lr=1e-2, fused=fused)
    for number in range(steps):
        step(model, optimizer, number)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> float:
    seed_step(0, number)
    loss = nn.functional.cross_entropy(model(torch.arange(10).view(2, 5)), torch.tensor([0, 1]))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def save(directory: Path, steps: int, keep: int = 2, **changes) -> tuple[nn.Module, torch.optim.AdamW]:
    model, optimizer = trained(min(steps, 3))
    save_state(directory, ONE, model, optimizer, TrainProgress(step=steps, **changes), keep)
    return model, optimizer


def small(out: Path, **changes) -> TrainOptions:
    """A run of ten steps on twenty short rows."""
    data = out.parent / "data.tsv"
    if not data.exists():
        lines = [f"{('bad', 'good')[i % 2]}\t{('dull film', 'lovely room')[i % 2]} {i % 7}" for i in range(20)]
        data.write_text("label\ttext\n" + "\n".join(lines) + "\n", encoding="utf-8")
    sizes = dict(epochs=2, batch_size=4, max_length=8, vocab_size=60, device="cpu", log_every=1, save_every=2)
    return TrainOptions(data=str(data), out=str(out), **{**sizes, **changes})


def contents(out: Path) -> dict[str, object]:
    """What must not differ; of run.json also the options may, as they name another directory."""
    found = kill_runs.contents(out)
    return found | {"run.json": {k: v for k, v in found["run.json"].items() if k not in ("options", "command")}}


# ---- checkpoints ----


@pytest.mark.parametrize("fused", [True, False])
def test_a_run_goes_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path, fused):
    """Weights and AdamW's moments: each makes the next losses others if it is lost."""
    model, optimizer = trained(3, fused)
    save_state(tmp_path, ONE, model, optimizer, TrainProgress(epoch=2, step=3), keep=2)
    expected = [step(model, optimizer, number) for number in (3, 4, 5)]
    model, optimizer = trained(0, fused)
    progress = load_state(tmp_path, ONE, model, optimizer)
    assert [step(model, optimizer, number) for number in (3, 4, 5)] == expected
    assert (progress["epoch"], progress["step"]) == (2, 3)


def test_progress_comes_back_with_its_means(tmp_path):
    model, optimizer = trained(steps=1)
    (tmp_path / METRICS).write_text("x" * 9)
    saved = TrainProgress(1, 2, 3, 6, Means(1.5, 2, 3), 4, 0.5, Means(2.5, 4, 5))
    save_state(tmp_path, ONE, model, optimizer, saved, keep=1)
    assert restored(TrainProgress(), load_state(tmp_path, ONE, model, optimizer)) == saved


def test_the_last_checkpoints_are_kept(tmp_path):
    for steps in (1, 2, 9, 10, 11):
        save(tmp_path, steps, keep=3)
    assert list(states(tmp_path)) == [9, 10, 11]
    save(tmp_path, 11, keep=1)
    assert list(states(tmp_path)) == [11]


def test_which_checkpoint_is_the_newest_does_not_depend_on_clocks(tmp_path):
    model, optimizer = save(tmp_path, 1)
    save(tmp_path, 2)
    os.utime(states(tmp_path)[1], (2e9, 2e9))
    os.utime(states(tmp_path)[2], (0, 0))
    assert load_state(tmp_path, ONE, model, optimizer)["step"] == 2


def test_loading_cuts_the_metrics_to_where_they_were(tmp_path):
    length = append_metrics(tmp_path, {"step": 1})
    model, optimizer = save(tmp_path, 1, metrics_bytes=length)
    append_metrics(tmp_path, {"step": 2})
    load_state(tmp_path, ONE, model, optimizer)
    assert read_metrics(tmp_path) == [{"step": 1}]


def test_without_a_checkpoint_a_run_begins_at_its_beginning(tmp_path):
    model, optimizer = trained(0)
    append_metrics(tmp_path, {"step": 1})
    assert load_state(tmp_path, ONE, model, optimizer) is None
    assert not (tmp_path / METRICS).exists()


def test_metrics_that_have_lost_lines_are_refused(tmp_path):
    append_metrics(tmp_path, {"step": 1})
    model, optimizer = save(tmp_path, 1, metrics_bytes=100)
    with pytest.raises(ValueError, match="shorter than when the state was saved"):
        load_state(tmp_path, ONE, model, optimizer)


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def harm(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "tensor":
        torch.save(torch.zeros(3), path)
    elif kind == "code":
        torch.save(Evil(), path)
    elif kind == "flip":
        position = content.index(trained(3)[0].state_dict()["bert.pooler.dense.weight"].numpy().tobytes())
        path.write_bytes(content[: position + 5] + bytes([content[position + 5] ^ 1]) + content[position + 6 :])
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"no state"}[kind])


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "tensor", "code", "flip"])
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_line(tmp_path, capsys, kind):
    model, optimizer = save(tmp_path, 3)
    save(tmp_path, 4)
    harm(states(tmp_path)[4], kind)
    assert load_state(tmp_path, ONE, model, optimizer)["step"] == 3
    assert "state-000000004.pt: damaged (" in capsys.readouterr().err
    save(tmp_path, 3, keep=1)
    assert list(states(tmp_path)) == [3], "the damaged one must not push a whole one out"


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    """Wherever it is, the file is found damaged, or what is read from it is the same to the last bit."""
    save(tmp_path, 3)
    path, dice = states(tmp_path)[3], random.Random(0)
    content, whole = path.read_bytes(), fingerprint(tmp_path)
    noticed = 0
    for _ in range(150):
        flipped, place = bytearray(content), dice.randrange(len(content))
        flipped[place] ^= 1 << dice.randrange(8)
        path.write_bytes(flipped)
        if damage(path) is None:
            assert fingerprint(tmp_path) == whole, f"bit at {place} of {len(content)}"
        else:
            noticed += 1
    assert noticed > 50


def test_where_all_checkpoints_are_damaged_the_run_is_refused(tmp_path):
    model, optimizer = save(tmp_path, 1)
    harm(states(tmp_path)[1], "cut")
    with pytest.raises(ValueError, match="no checkpoint is whole"):
        load_state(tmp_path, ONE, model, optimizer)


def test_a_checkpoint_of_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(minibert.training.state, "VERSION", 99)
    model, optimizer = save(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"a checkpoint of version 99, and this minibert reads version 1; resume with"):
        load_state(tmp_path, ONE, model, optimizer)


def test_a_checkpoint_of_another_model_is_refused_in_one_line(tmp_path):
    _, optimizer = trained(1)
    save_state(tmp_path, ONE, nn.Linear(2, 2), optimizer, TrainProgress(), keep=1)
    with pytest.raises(ValueError, match="not a state of this model") as caught:
        load_state(tmp_path, ONE, trained(0)[0], optimizer)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_is_plain_data_that_needs_no_code_to_load(tmp_path):
    save(tmp_path, 3, epoch=3)
    state = torch.load(states(tmp_path)[3], weights_only=True)
    assert state["progress"] == json.loads(json.dumps(dataclasses.asdict(TrainProgress(epoch=3, step=3))))


@pytest.mark.parametrize("room", [0, 100, 3_000, 20_000])
def test_a_full_disk_while_writing_a_checkpoint_leaves_the_one_before(tmp_path, room):
    """A file may grow so far: a real error from the system. At 3,000 bytes PyTorch complains of something else."""
    model, optimizer = save(tmp_path, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OSError, match="checkpoint of step 2 is not written, the one before it stays") as caught:
            save_state(tmp_path, ONE, model, optimizer, TrainProgress(step=2), keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["state-000000001.pt"]
    assert damage(states(tmp_path)[1]) is None


def test_a_fingerprint_is_of_weights_and_moments(tmp_path):
    model, optimizer = save(tmp_path, 3)
    first = fingerprint(tmp_path)
    save(tmp_path, 3, epoch=7)
    assert fingerprint(tmp_path) == first
    optimizer.state_dict()["state"][4]["exp_avg_sq"].view(-1)[2] += 1
    save_state(tmp_path, ONE, model, optimizer, TrainProgress(step=3), keep=1)
    assert fingerprint(tmp_path) != first


def test_older_checkpoints_go_only_after_the_name_of_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    save(tmp_path, 1)
    calls, unlink = [], Path.unlink
    monkeypatch.setattr(files, "sync_directory", lambda directory: calls.append(f"sync {directory}"))
    monkeypatch.setattr(Path, "unlink", lambda self, **how: (calls.append(f"unlink {self}"), unlink(self, **how))[1])
    save(tmp_path, 2, keep=1)
    assert calls == [f"sync {tmp_path}", f"unlink {tmp_path}/state-000000001.pt"]


ROOM = {"predict": [50], "embed": [2_000], "encode_file": [50], "vocab": [50], "pretrain --out": [3_000, 300_000]}


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=() if name == "predict" else pytest.mark.slow) for name in ROOM]
)
def test_a_command_whose_disk_was_full_says_so_and_goes_on_when_there_is_room(tmp_path, command):
    course = races.Course(tmp_path)
    for number, size in enumerate(ROOM[command]):
        assert full_disks.attempt(course, command, number, size) == (True, [])


# ---- the directory ----


def test_a_second_run_in_a_directory_is_refused_and_a_later_one_is_not(tmp_path):
    """Two locks of one process are as strange to each other as those of two."""
    with locked(tmp_path, ONE):
        with pytest.raises(ValueError, match="another process is writing there"), locked(tmp_path, ONE):
            pass
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path, ONE):
        pass


def test_of_two_runs_without_an_output_each_gets_one_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (free_directory(None, "train") for _ in range(2))
    assert (str(first), str(second)) == ("runs/train-1", "runs/train-2")
    for path in (first, second):
        with locked(path, ONE, reserved=True):
            pass
    assert os.listdir(tmp_path) == []


def test_a_lock_dies_with_its_process(tmp_path):
    code = "import fcntl, os, signal; f = open('.lock', 'a'); fcntl.flock(f, fcntl.LOCK_EX); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == -signal.SIGKILL
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path, ONE):
        pass


def test_where_nothing_can_be_locked_a_line_says_so(tmp_path, monkeypatch, capsys):
    def refused(*rest, **options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(minibert.io.locks.FileLock, "acquire", refused)
    with locked(tmp_path, ONE):
        pass
    assert "cannot be locked ([Errno 37] No locks available); see that no second run" in capsys.readouterr().err


def test_what_a_killed_run_leaves_half_written_is_removed_and_nothing_else(tmp_path):
    for name in (".text.0a1b2c3d", ".tokens.0a1b2c3d.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    for name in (".model.safetensors.0a1b2c3d", ".run.json.ffffffff", ".gitignore", "model.safetensors", "x.0a1b2c3d"):
        (tmp_path / name).touch()
    with locked(tmp_path, ONE):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {".gitignore", "model.safetensors", "x.0a1b2c3d"}


def test_a_directory_of_leftovers_is_free(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json.0a1b2c3d").touch()
    assert free_directory(str(tmp_path), "train") == tmp_path
    (tmp_path / "run.json").touch()
    with pytest.raises(ValueError, match="exists already"):
        free_directory(str(tmp_path), "train")


# ---- resuming ----


def test_a_runs_own_options_may_be_repeated_and_nothing_is_said(capsys):
    stored = TrainOptions(data="a.tsv", seed=3, lr=1e-3)
    assert continued(stored, dataclasses.replace(stored, resume="x"), CHANGEABLE) == stored
    assert capsys.readouterr().err == ""


def test_a_run_that_was_killed_before_it_began_says_to_type_its_command_again(tmp_path):
    (tmp_path / ".lock").touch()
    with pytest.raises(ValueError, match=r"killed before it began, type its command again, without --resume"):
        train(TrainOptions(resume=str(tmp_path)))


def test_what_may_change_when_resuming_is_changed_and_said(capsys):
    stored = TrainOptions(data="a.tsv", seed=3, threads=4)
    options = continued(stored, TrainOptions(resume="x", threads=2, save_every=7), CHANGEABLE)
    assert options == dataclasses.replace(stored, threads=2, save_every=7)
    assert "resuming with --threads 2, before it was 4" in capsys.readouterr().err


def test_what_would_make_another_run_is_refused():
    with pytest.raises(ValueError, match=r"leave --lr, --seed out. What may change: --attention, --device"):
        continued(TrainOptions(), TrainOptions(resume="x", lr=1e-3, seed=1, threads=1), CHANGEABLE)


@pytest.mark.parametrize("change", ["data", "model"])
def test_files_that_have_changed_since_a_run_began_are_named(tmp_path, monkeypatch, change):
    model = train(small(tmp_path / "model", epochs=1))[1]
    options = small(tmp_path / "run", model=str(model), vocab_size=None)
    with monkeypatch.context() as patch:
        patch.setattr(minibert.training.engine, "fit", lambda *rest: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(options)
    path = Path(options.data) if change == "data" else model / "vocab.txt"
    with path.open("a", encoding="utf-8") as file:
        file.write("good\tnew\n" if change == "data" else "new\n")
    shown = path if change == "data" else f"{model}/vocab.txt"
    with pytest.raises(ValueError, match=rf"^{re.escape(str(shown))}: changed since the run began"):
        train(TrainOptions(resume=str(tmp_path / "run")))


@pytest.fixture
def begun_elsewhere(tmp_path, monkeypatch) -> Path:
    """The directory where a run was begun by relative names and stopped; the working directory is another."""
    home = tmp_path / "a home"
    home.mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(home)
        patch.setattr(minibert.training.engine, "fit", lambda *rest: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(small(Path("run")))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.mark.parametrize("there", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_that_is_resumed_from_another_directory_says_which_file_it_means(begun_elsewhere, monkeypatch, there):
    if there:
        Path("data.tsv").write_text("label\ttext\n", encoding="utf-8")  # another of the same name
    with pytest.raises(ValueError, match=r"^data.tsv: the run was begun in another directory and means ") as refused:
        train(TrainOptions(resume="a home/run"))
    _, home, _, *command = shlex.split(str(refused.value).partition("; type: ")[2])
    monkeypatch.chdir(home)
    assert command[:2] == ["minibert", "train"]
    assert cli.main(command[1:]) == 0


@pytest.mark.slow
def test_a_run_goes_on_from_elsewhere_where_its_names_mean_equal_files(begun_elsewhere):
    shutil.copy(begun_elsewhere / "data.tsv", "data.tsv")
    assert train(TrainOptions(resume="a home/run"))[1] == Path("a home/run")
    record = json.loads(Path("a home/run/run.json").read_text(encoding="utf-8"))
    assert record["directory"] == str(begun_elsewhere), "what the names mean stays"


def test_a_file_of_a_run_that_is_gone_is_named(begun_elsewhere, monkeypatch):
    monkeypatch.chdir(begun_elsewhere)
    Path("data.tsv").unlink()
    with pytest.raises(ValueError, match=r"^data.tsv: no such file, and the run reads it; put it back"):
        train(TrainOptions(resume="run"))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"save_every": 7}])
def test_a_run_that_was_begun_with_fsdp_says_what_to_type_and_then_goes_on(tmp_path, monkeypatch, changes):
    """Its checkpoints are whole, so that any number of processes can load them."""
    train(small(tmp_path / "whole"))
    run, save_state = small(tmp_path / "run"), minibert.training.engine.save_state

    def dies(*rest):
        save_state(*rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(minibert.training.engine, "save_state", dies)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["options"]["parallel"] = "fsdp"
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    again = f"minibert train --resume {run.out} --parallel ddp"
    with pytest.raises(ValueError, match=f"was begun with --parallel fsdp, which is no more; type {again}"):
        train(TrainOptions(resume=run.out, **changes))
    train(TrainOptions(resume=run.out, parallel="ddp", **changes))
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_complete_run_is_known_by_its_result(tmp_path):
    record = {"options": {}, "sources": {}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert read_record(tmp_path, TrainOptions)[1] == TrainOptions()
    (tmp_path / "run.json").write_text(json.dumps(record | {"result": {}}))
    with pytest.raises(ValueError, match="nothing to resume; the run is complete"):
        read_record(tmp_path, TrainOptions)
    save(tmp_path, 1)
    read_record(tmp_path, TrainOptions)
    remove_states(tmp_path)
    with pytest.raises(ValueError, match="the run is complete"):
        read_record(tmp_path, TrainOptions)


@pytest.mark.parametrize(
    "record",
    [
        [],
        {"options": {}, "sources": [1]},
        {"options": [1], "sources": {}},
        {"options": {"lr": "x"}, "sources": {}},
        {"options": {"compile": 1}, "sources": {}},
        {"options": {"epochs": [3]}, "sources": {}},
    ],
)
def test_a_record_of_the_wrong_types_is_none(tmp_path, record):
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"run\.json: not the record of a run"):
        read_record(tmp_path, TrainOptions)


def test_a_file_that_is_named_nearly_as_a_checkpoint_is_none(tmp_path):
    for name in ("state-0x.pt", "state-1 (copy).pt", "state-000000001.pt"):
        (tmp_path / name).touch()
    assert list(states(tmp_path)) == [1]


def test_under_torchrun_the_same_command_resumes_and_another_does_not(tmp_path, monkeypatch):
    options = small(tmp_path / "run")
    whole = train(small(tmp_path / "whole"))
    save_state = minibert.training.engine.save_state

    def dies(*rest):
        save_state(*rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(minibert.training.engine, "save_state", dies)
        with pytest.raises(KeyboardInterrupt):
            train(options)
    with pytest.raises(ValueError, match="exists already"):
        train(options)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(ValueError, match="exists already"):
        train(dataclasses.replace(options, seed=1))
    assert train(options)[0] == whole[0]
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


# ---- kills ----

PLACES = [  # each kills the run once; it is resumed and killed at the next one
    ("run.json", 0, "before"),
    ("run.json", 0, "after"),
    ("metrics.jsonl", 1, "half"),
    ("state", 0, "before"),
    ("state", 0, "after"),
    ("state", 0, "remove"),
    ("metrics.jsonl", 1, "half"),
    ("model.safetensors", 0, "before"),
    ("model.safetensors", 0, "after"),
    ("vocab.txt", 0, "before"),
    ("state", 2, "before"),
    ("run.json", 1, "after"),  # the first is resuming's own
    ("report.html", 0, "before"),
    ("state", 0, "remove"),  # the run is done; its checkpoints go
]


PRETRAINING = [
    ("corpus.json", 0, "before"),  # all is tokenised, but nothing says so
    ("run.json", 0, "before"),
    ("run.json", 0, "after"),  # the vocabulary that was learned is not there
    ("vocab.txt", 0, "after"),  # nor is the file that says how to use it
    ("metrics.jsonl", 1, "half"),
    ("state", 0, "before"),
    ("state", 0, "after"),
    ("state", 0, "remove"),
    ("metrics.jsonl", 2, "half"),
    ("model.safetensors", 0, "before"),
    ("model.safetensors", 0, "after"),
    ("run.json", 1, "after"),
    ("report.html", 0, "before"),
    ("state", 0, "remove"),
]


def killed(command: str, places: list[tuple[str, int, str]], options: TrainOptions | PretrainOptions) -> None:
    """Each time by a real SIGKILL, of a process that is forked from one that has loaded PyTorch already."""
    process = processes.start(kill_runs.killed_in_turn, command, places, dataclasses.asdict(options))
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    ends = dict(zip(map(str, places), json.loads(stdout), strict=True))
    assert set(ends.values()) == {-signal.SIGKILL}, f"{ends}: a place was not reached, or resuming failed: {stderr}"


@pytest.mark.slow
def test_a_run_killed_at_every_place_where_it_writes_ends_with_the_same_bytes(tmp_path):
    train(small(tmp_path / "whole", keep=1))
    options = small(tmp_path / "run", keep=1)
    killed("train", PLACES, options)
    train(TrainOptions(resume=options.out))
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert not [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith((".", "state"))]


@pytest.mark.slow
def test_pretraining_killed_at_every_place_where_it_writes_ends_with_the_same_bytes(tmp_path):
    lines = [f"the {('cat', 'dog')[i % 2]} sees {i % 7} of them." + "\n" * (i % 3 == 0) for i in range(60)]
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sizes = dict(steps=6, batch_size=4, max_length=32, vocab_size=60, layers=1, width=64, threads=1, device="cpu")
    whole = PretrainOptions(
        **{"corpus": (str(tmp_path / "text.txt"),), "out": str(tmp_path / "whole"), "keep": 1, "log_every": 1},
        **{"save_every": 2, "eval_every": 4, "cased": True, **sizes},
    )
    pretrain(whole)
    options = dataclasses.replace(whole, out=str(tmp_path / "run"))
    killed("pretrain", PRETRAINING, options)
    pretrain(PretrainOptions(resume=options.out))
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert not [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith((".", "state"))]


@pytest.mark.slow
@pytest.mark.parametrize("command", kill_runs.COMMANDS)
def test_commands_killed_at_random_moments_end_with_the_same_bytes(tmp_path, command):
    total = kill_runs.kill(command, kill_runs.words_of(command, tmp_path), tmp_path, random.Random(0), 5)
    assert (total["kills"], total["lost"], total["corrupt"], total["different"]) == (5, 0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("command", lost_writes.COMMANDS)
def test_commands_end_with_the_same_bytes_whatever_a_power_cut_has_left_of_their_writes(tmp_path, command):
    assert lost_writes.attempt(command, tmp_path, random.Random(0), 5) == []


def test_what_a_power_cut_may_leave_is_known(tmp_path):
    """Of a file that is renamed and whose directory is not synced: the old name, the new one, or both, or none."""
    root, disk = tmp_path / "root", lost_writes.Disk(tmp_path / "root")
    root.mkdir()
    for name, text in {"old": "1", "new": "22"}.items():
        with (root / name).open("w") as file:
            file.write(text)
            file.flush()
            disk.synced(file.fileno())
    directory = os.open(root, os.O_RDONLY)
    disk.synced(directory)
    os.close(directory)
    disk.goes(root / "old")
    os.replace(root / "new", root / "old")
    (root / "unsynced").write_text("333")
    seen, dice = set(), random.Random(0)
    for number in range(100):
        disk.crash(dice, tmp_path / str(number))
        seen.update((path.name, path.read_text()) for path in (tmp_path / str(number)).iterdir())
    assert {("old", "1"), ("old", "22"), ("new", "22"), ("unsynced", "333"), ("unsynced", "")} <= seen
    disk.crash(None, tmp_path / "worst")
    assert {path.name: path.read_text() for path in (tmp_path / "worst").iterdir()} == {"old": "1", "new": "22"}


def test_a_run_goes_on_without_its_damaged_newest_checkpoint(tmp_path, monkeypatch):
    """Two kept; the newer one loses its end. What was written behind the older one is taken back."""
    train(small(tmp_path / "whole"))
    options, save_state = small(tmp_path / "run"), minibert.training.engine.save_state

    def dies(*rest):
        save_state(*rest)
        if rest[4].step == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(minibert.training.engine, "save_state", dies)
        with pytest.raises(KeyboardInterrupt):
            train(options)
    shutil.copy(tmp_path / "data.tsv", states(tmp_path / "run")[6])
    train(TrainOptions(resume=options.out))
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
