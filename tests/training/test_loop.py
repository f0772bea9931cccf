"""Proves the parts of a training loop: the schedule and the parameter groups are those of transformers, dropout
draws by step, the first signal is a request. Run: pytest tests/training/test_loop.py
"""

import os
import signal
import sys
import threading
import time

import children
import processes
import pytest
import torch
import transformers
from conftest import MODELS, small_config
from torch import nn

from minibert.core.optimizer import learning_rate, optimizer_groups
from minibert.fast.dropout import dropout
from minibert.io.signals import Interrupt
from minibert.training.engine import check_compiler, seed_step
from minibert.training.state import METRICS, Means, append_metrics, read_metrics

# ---- learning ----


def test_the_learning_rate_equals_an_example_by_hand():
    """10 steps, warm-up over 0.4 of them: 0/4 … 3/4 of the peak, the peak, then down by 1/6 a step."""
    rates = [learning_rate(step, 10, 6.0, 0.4) for step in range(10)]
    assert rates == pytest.approx([0, 1.5, 3, 4.5, 6, 5, 4, 3, 2, 1])


def test_without_warmup_the_learning_rate_starts_at_its_peak():
    assert [learning_rate(step, 4, 8.0, 0.0) for step in range(4)] == [8, 6, 4, 2]


@pytest.mark.parametrize("total", [1, 2, 7, 30, 1001])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.1, 0.5, 1.0])
def test_the_schedule_of_a_whole_run_equals_that_of_transformers(total, warmup):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3e-4)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, int(warmup * total), total)
    for step in range(total):
        assert learning_rate(step, total, 3e-4, warmup) == pytest.approx(schedule.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        schedule.step()


def test_the_cosine_equals_that_of_transformers():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3e-4)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 3, 30)
    for step in range(30):
        assert learning_rate(step, 30, 3e-4, 0.1, "cosine") == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("name", MODELS)
def test_weight_decay_is_for_all_but_biases_and_layer_norms(name):
    model = MODELS[name](small_config())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, plain = optimizer_groups(model, 0.25)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.25, 0.0)
    by_name = {name for name in names.values() if name.endswith("bias") or "norm" in name}
    assert {names[id(parameter)] for parameter in plain["params"]} == by_name
    assert {names[id(parameter)] for parameter in decayed["params"]} == set(names.values()) - by_name
    assert len(decayed["params"]) + len(plain["params"]) == len(names), "a parameter stands in two groups"


def test_means_weigh_batches_by_their_rows():
    means = Means()
    means.add(loss=1.0, hits=1, rows=1)
    means.add(loss=8.0, hits=0, rows=2)
    assert (means.loss, means.accuracy) == (3.0, pytest.approx(1 / 3))
    assert (Means().loss, Means().accuracy) == (0, 0)


# ---- metrics ----


def test_metrics_are_one_json_object_a_line_and_their_length_is_told(tmp_path):
    assert append_metrics(tmp_path, {"step": 1}) == len('{"step": 1}\n')
    length = append_metrics(tmp_path, {"epoch": 1, "name": "好"})
    assert length == (tmp_path / METRICS).stat().st_size
    assert read_metrics(tmp_path) == [{"step": 1}, {"epoch": 1, "name": "好"}]


def test_fused_adamw_takes_the_steps_of_the_plain_one():
    """30 of them on the same gradients, with a decay that shows; AdamW's own size of a step is 1e-2 here."""
    start = [torch.randn(n, 7, generator=torch.Generator().manual_seed(n)) for n in (1, 30, 1000)]
    ends = []
    for fused in (False, True):
        weights = [nn.Parameter(tensor.clone()) for tensor in start]
        optimizer = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.1, fused=fused)
        generator = torch.Generator().manual_seed(0)
        for _ in range(30):
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=generator)
            optimizer.step()
        ends.append([weight.detach() for weight in weights])
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-6)
    assert (ends[1][2] - start[2]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["no-such-compiler", "/usr/bin/no-such-compiler"])
def test_compiling_without_a_compiler_is_refused_before_the_first_step(monkeypatch, name):
    monkeypatch.setenv("CXX", name)
    with pytest.raises(ValueError, match=f"{name} is not found; install one, name it by the variable CXX, or leave"):
        check_compiler(torch.device("cpu"))


def test_compiling_for_a_gpu_needs_triton_and_no_compiler_of_c(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    check_compiler(torch.device("cuda"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs Triton, which is not installed; pip install triton, or leave"):
        check_compiler(torch.device("cuda"))


def test_a_compiler_that_is_there_is_taken(monkeypatch):
    monkeypatch.setenv("CXX", sys.executable)  # anything that can be run
    check_compiler(torch.device("cpu"))


# ---- random numbers ----


@pytest.mark.parametrize("drop", [torch.nn.functional.dropout, dropout], ids=["PyTorch's", "our own"])
def test_what_dropout_draws_depends_on_seed_step_and_rank_alone(drop):
    """Both of the CPU's: nn.Dropout for padded batches, fast/dropout.py for packed ones."""

    def drawn(*key: int) -> list[float]:
        seed_step(*key)
        return drop(torch.ones(40, 8), 0.5).flatten().tolist()

    first = drawn(1, 2, 3)
    assert all(drawn(*key) != first for key in ((0, 2, 3), (1, 0, 3), (1, 2, 0), (2, 1, 3), (3, 2, 1)))
    torch.rand(7)
    assert drawn(1, 2, 3) == first


# ---- signals ----


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # the handler runs between two instructions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_a_request(number, capsys):
    before = signal.signal(number, signal.default_int_handler)  # these tests may run under nohup themselves
    try:
        with Interrupt() as interrupt:
            assert not interrupt.requested
            send(number)
            assert interrupt.requested
    finally:
        signal.signal(number, before)
    assert "once more to stop at once" in capsys.readouterr().err


@pytest.mark.slow
def test_a_signal_while_stderr_waits_for_its_reader_is_a_request_too():
    """As with `minibert train 2>&1 | less`: Python refuses to write to a stream from within a write to it.

    The process fills a pipe that nobody reads until it has blocked, gets the signal there, and is read from then on.
    """
    process = processes.start(children.fill_stderr)
    assert process.stderr.read(1) == "x"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("True\n", 0), err[-500:]


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)])
def test_the_second_signal_stops_at_once(numbers):
    with Interrupt():
        send(numbers[0])
        with pytest.raises(KeyboardInterrupt):
            send(numbers[1])


def test_a_run_under_nohup_goes_on_when_its_terminal_is_closed():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            send(signal.SIGHUP)
            assert not interrupt.requested
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("fails", [False, True])
def test_the_handlers_from_before_are_back_afterwards(fails):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with Interrupt():
            assert signal.getsignal(signal.SIGTERM) != before[1]
            if fails:
                raise ValueError("in the loop")
    except ValueError:
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_signals_are_left_alone():
    """Python lets only the main thread set handlers; a notebook's worker may train all the same."""
    seen = []

    def work() -> None:
        with Interrupt() as interrupt:
            seen.append(interrupt.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
