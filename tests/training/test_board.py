"""Proves that TensorBoard shows the numbers of metrics.jsonl at their steps, each once, however often a run was killed.

Run: pytest tests/training/test_board.py (-m slow: pretraining)
"""

import importlib.util
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from test_pretrain import small as pretraining
from test_pretrain import write_corpus
from test_train import small, words, write_rows

from minibert import cli
from minibert.training.board import NAME, Board, check_board
from minibert.training.fine_tuning import FineTuning, TrainOptions, train
from minibert.training.pretraining import pretrain

Curves = dict[str, list[tuple[int, float]]]  # name -> step and value of each point


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    return {name: str(write_rows(tmp_path / f"{name}.tsv", 40)) for name in ("data", "dev")}


def installed(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there if name == "tensorboard" else found(name))


def points(folder: Path) -> Curves:
    """As TensorBoard reads them."""
    pytest.importorskip("tensorboard", reason="install the extra: pip install -e '.[test]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def logged(out: Path, steps_per_epoch: int = 5) -> Curves:
    """The same of metrics.jsonl; an epoch ends at its last step."""
    found: Curves = {}
    for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        (kind, at), *numbers = json.loads(line).items()
        step = at * steps_per_epoch if kind == "epoch" else at
        for name, value in numbers:
            found.setdefault(f"{kind}/{name}", []).append((step, float(np.float32(value))))
    return found


def killed(options: TrainOptions, monkeypatch) -> None:
    """The run until step 8 was drawn, behind the checkpoint of step 6."""
    tell = FineTuning.tell

    def dies(run, rate):
        tell(run, rate)
        if run.progress.step == 8:
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "tell", dies)
        with pytest.raises(MemoryError):
            train(options)


def test_the_curves_of_a_run_are_its_metrics(files, tmp_path):
    out = train(small(files, tmp_path / "run", epochs=2, tensorboard=str(tmp_path / "curves")))[1]
    assert points(tmp_path / "curves" / "run") == logged(out)


@pytest.mark.parametrize("folder", ["curves", pytest.param("other", marks=pytest.mark.slow)])
def test_a_run_that_is_killed_and_resumed_has_each_point_once(files, tmp_path, monkeypatch, folder):
    """Another folder holds what came after the checkpoint."""
    options = small(files, tmp_path / "run", epochs=2, save_every=6, tensorboard=str(tmp_path / "curves"))
    killed(options, monkeypatch)
    assert points(tmp_path / "curves" / "run")["step/loss"][-1][0] == 8
    out = train(TrainOptions(resume=options.out, tensorboard=str(tmp_path / folder)))[1]
    whole, first = logged(out), 0 if folder == "curves" else 7
    assert [step for step, _ in whole["step/loss"]] == [2, 4, 6, 8, 10]
    wanted = {name: [point for point in curve if point[0] >= first] for name, curve in whole.items()}
    assert points(tmp_path / folder / "run") == wanted


@pytest.mark.slow
def test_the_curves_of_pretraining_are_its_metrics(tmp_path):
    corpus = str(write_corpus(tmp_path / "corpus.txt", 120))
    options = pretraining(corpus, tmp_path / "run", eval_every=3, tensorboard=str(tmp_path / "curves"))
    out = pretrain(options)[1]
    found = points(tmp_path / "curves" / "run")
    assert found == logged(out)
    assert {"step/nsp_loss", "measured/word_accuracy"} <= found.keys()


def test_a_number_that_is_undefined_is_no_point(tmp_path):
    Board(tmp_path, 0).draw({"epoch": 1, "dev_pearson": None, "dev_loss": 0.5}, 7)
    assert points(tmp_path) == {"epoch/dev_loss": [(7, 0.5)]}


def test_a_record_that_a_full_disk_has_cut_hides_none_of_a_later_file(tmp_path):
    board = Board(tmp_path, 0)
    for step in (1, 2):
        board.draw({"step": step, "loss": float(step)}, step)
    board.path.write_bytes(board.path.read_bytes()[:-5])
    Board(tmp_path, 1).draw({"step": 2, "loss": 2.5}, 2)
    assert points(tmp_path) == {"step/loss": [(1, 1.0), (2, 2.5)]}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_told_in_one_line_with_the_name_of_the_file(files, tmp_path, capsys):
    (tmp_path / "curves" / "run").mkdir(parents=True)
    (tmp_path / "curves" / "run" / f"{NAME}.000001").symlink_to("/dev/full")
    options = small(files, tmp_path / "run", tensorboard=str(tmp_path / "curves"))
    assert cli.main(words(options)) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"minibert: [Errno 28] No space left on device: '{tmp_path / 'curves'}")
    assert last.endswith("make room, then type the command again")


# ---- mistakes ----


@pytest.mark.parametrize("command", ["train", "pretrain"])
def test_without_the_library_a_run_says_what_to_type_and_leaves_nothing(files, tmp_path, monkeypatch, capsys, command):
    installed(monkeypatch, False)
    how = {"out": tmp_path / "run", "tensorboard": str(tmp_path / "curves")}
    options = small(files, **how)
    if command == "pretrain":
        options = pretraining(write_corpus(tmp_path / "a.txt", 20), **how)
    assert cli.main(shlex.split(options.command())[1:]) == 2
    said = "needs TensorBoard's library, which is not installed; type pip install tensorboard, or leave"
    assert f"--tensorboard {how['tensorboard']} {said}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_curves_in_a_file_are_refused(files, tmp_path, monkeypatch):
    installed(monkeypatch, True)
    with pytest.raises(ValueError, match=r"data\.tsv: is no directory; name another"):
        check_board(files["data"], resumed=False)


def test_a_run_that_is_resumed_without_the_library_goes_on_without_curves(monkeypatch, capsys):
    installed(monkeypatch, False)
    assert check_board("curves", resumed=True) is None
    assert "no curves are drawn in curves, as TensorBoard's library is not installed" in capsys.readouterr().err
