"""Proves that the attention benchmark counts, judges and reports rightly; its times are nobody's claim.

pytest tests/bench/test_benchmark_attention.py
"""

import dataclasses
import json
import math

import pytest
import torch
from conftest import needs_shared, small_config, stir

from benchmarks import attention, attention_cases, attention_gate, nested, timing
from benchmarks.attention_cases import HISTOGRAMS, Case, Suite, flops, least_bytes, lengths_of, roofline_us
from benchmarks.attention_gate import Batch, Contestant, Incorrect, gate, gate_edges, random_tensors, truth_of
from benchmarks.attention_report import Row, compare, floors, picture, summary, table
from minibert.core import attention as core
from minibert.fast.attention import BACKENDS
from minibert.fast.layout import Packed
from minibert.fast.models import BertModel

CASE = Case("bert", "uniform", 3, heads=2, head_size=4, dtype="bf16", lengths=(3, 1))
CPU = torch.device("cpu")


# ---- cases and costs ----


@pytest.mark.parametrize(("direction", "wanted"), [("fwd", 4), ("bwd", 10), ("both", 14)])
def test_only_real_tokens_count_as_work(direction, wanted):
    assert flops(CASE, direction) == wanted * 2 * 4 * (3 * 3 + 1 * 1)


@pytest.mark.parametrize(("direction", "tensors", "sums"), [("fwd", 4, 1), ("bwd", 8, 1), ("both", 12, 2)])
def test_each_tensor_is_moved_once(direction, tensors, sums):
    elements = (3 + 1) * 2 * 4
    assert least_bytes(CASE, direction) == tensors * elements * 2 + sums * 4 * (3 + 1) * 2


def test_the_roofline_is_the_slower_of_work_and_memory():
    work, memory = flops(CASE, "fwd") / 1e6, least_bytes(CASE, "fwd") / 1e3  # µs at 1 TFLOP/s and 1 GB/s
    assert roofline_us(CASE, "fwd", {"tflops": 1, "gb_s": 1e9}) == pytest.approx(work)
    assert roofline_us(CASE, "fwd", {"tflops": 1e9, "gb_s": 1}) == pytest.approx(memory)
    assert roofline_us(CASE, "fwd", {"tflops": None, "gb_s": None}) is None


def test_a_backward_begins_after_its_forward():
    """At these rates memory limits the forward and work the backward."""
    found = roofline_us(CASE, "both", {"tflops": 1, "gb_s": 800})
    assert found == pytest.approx(least_bytes(CASE, "fwd") / 800e3 + flops(CASE, "bwd") / 1e6)


DISTS = ("full", "uniform", "normal", "lognormal", "bimodal", "chnsenticorp", "sst")


@pytest.mark.parametrize("dist", DISTS)
def test_lengths_begin_with_the_width_and_stay_within_it(dist):
    found = lengths_of(dist, 64, 100, seed=0)
    assert len(found) == 64
    assert found[0] == 100
    assert 1 <= min(found) <= max(found) <= 100


@pytest.mark.parametrize("dist", DISTS[1:])
def test_lengths_are_those_of_the_seed(dist):
    assert lengths_of(dist, 64, 100, seed=0) == lengths_of(dist, 64, 100, seed=0) != lengths_of(dist, 64, 100, seed=1)


def test_the_lognormal_batch_is_a_quarter_full():
    found = lengths_of("lognormal", 256, 512, seed=0)
    assert 0.2 < sum(found) / (256 * 512) < 0.3


@pytest.mark.parametrize("text", ["[7, 7, 9]", '{"7": 2, "9": 1}'])
def test_lengths_can_come_from_a_file(tmp_path, text):
    (tmp_path / "lens.json").write_text(text, encoding="utf-8")
    found = lengths_of(f"file:{tmp_path / 'lens.json'}", 50, 20, seed=0)
    assert found[0] == 20
    assert set(found[1:]) == {7, 9}


def test_the_committed_histograms_are_counts_of_lengths():
    for entry in json.loads(HISTOGRAMS.read_text(encoding="utf-8")).values():
        assert sum(entry["counts"].values()) == entry["texts"]
        assert {type(count) for count in entry["counts"].values()} == {int}
        assert max(map(int, entry["counts"])) <= 512


@pytest.mark.slow
@needs_shared
def test_the_committed_histograms_are_those_of_the_data():
    assert attention_cases.histograms() == json.loads(HISTOGRAMS.read_text(encoding="utf-8"))


# ---- the gate ----


def batch_of(*lengths: int) -> Batch:
    return Batch(lengths, max(lengths), heads=2, head_size=8, device=CPU)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def judge(who: Contestant) -> None:
    batch = batch_of(9, 1, 5)
    gate(who, batch, truth_of(batch, random_tensors(batch, 4, torch.float32, generator())), grads=True)
    gate_edges(who, batch_of(1, 2, 17), torch.float32, generator(), grads=True)


def test_the_written_out_reference_equals_autograd():
    q, k, v, dout = torch.randn(4, 2, 5, 8, dtype=torch.float64, generator=generator())
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    out = torch.softmax(leaves[0] @ leaves[1].mT / math.sqrt(8), dim=-1) @ leaves[2]
    wanted = (out, *torch.autograd.grad(out, leaves, dout))
    for found, want in zip(attention_gate.reference(q, k, v, dout), wanted, strict=True):
        torch.testing.assert_close(found, want.detach())


@pytest.fixture
def with_nested(monkeypatch):
    for backends in (BACKENDS, core.BACKENDS):
        monkeypatch.setitem(backends, "nested", None)  # is taken away again
    nested.add()


@pytest.mark.usefixtures("with_nested")
@pytest.mark.parametrize("boundary", ["kernel", "module"])
@pytest.mark.parametrize("who", [("eager", "padded"), ("sdpa", "padded"), ("sdpa", "packed"), ("nested", "packed")])
def test_right_backends_pass(who, boundary):
    judge(Contestant(*who, boundary))


def test_nested_rows_without_tokens_are_left_out():
    """The kernels for a GPU refuse them; the one for the CPU does not mind."""
    assert nested.row_offsets(Packed.from_lengths([0, 3, 0, 2, 0])).tolist() == [0, 3, 5]


@pytest.mark.usefixtures("with_nested")
def test_nested_is_a_backend_of_every_model_once_it_is_added():
    model = stir(BertModel(small_config(), "eager"))
    ids, mask = torch.arange(1, 13).view(2, 6), torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])
    found, wanted = (use_backend(model, name)(ids, mask).last_hidden_state[mask.bool()] for name in ("nested", "eager"))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def use_backend(model: BertModel, name: str) -> BertModel:
    for layer in model.layers:
        layer.attention.backend = name
    return model


def attention_of_all(q, k, v, layout, dropout_p=0.0, scale=None):
    """The mask is forgotten."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1) @ v


def right(q, k, v, layout, dropout_p=0.0, scale=None):
    return BACKENDS["eager"].padded(q, k, v, layout, 0.0, scale)


def plain_softmax(q, k, v, layout, dropout_p=0.0, scale=None):
    """Without the maximum: right as long as exp does not underflow."""
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).exp()
    weights = weights if layout.keys is None else weights * layout.keys[:, None, None, :]
    return weights / weights.sum(dim=-1, keepdim=True) @ v


def wrong_for_two_tokens(q, k, v, layout, dropout_p=0.0, scale=None):
    pairs = layout.keys.sum(dim=1) == 2
    return right(q, k, v, layout) * (1 + pairs[:, None, None, None])


def nan_at_padding(q, k, v, layout, dropout_p=0.0, scale=None):
    return right(q, k, v, layout).masked_fill(~layout.keys[:, None, :, None], math.nan)


WRONG = {
    "NaN at padding": nan_at_padding,
    "exp underflows": plain_softmax,
    "rows of two tokens": wrong_for_two_tokens,
    "padding is attended to": attention_of_all,
    "no scale": lambda *given: right(*given[:4], 0.0, 1.0),
    "one row is wrong": lambda *given: torch.cat([right(*given)[:-1], right(*given)[-1:] * 1.2]),
    "an element is not written": lambda *given: right(*given).index_fill(2, torch.tensor(0), math.nan),
    "no gradient for q": lambda q, *rest: right(q.detach(), *rest) + 0 * q,
    "rows are mixed": lambda q, k, v, *rest: right(q, k, v, *rest) + 0 * v.sum(),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_backends_are_caught(monkeypatch, what):
    monkeypatch.setitem(BACKENDS, "sdpa", BACKENDS["sdpa"]._replace(padded=WRONG[what]))
    with pytest.raises(Incorrect):
        judge(Contestant("sdpa", "padded", "kernel"))


def test_a_gradient_at_padding_is_caught():
    who, batch = Contestant("eager", "padded", "kernel"), batch_of(3, 1)
    gradient = torch.ones(2, 2, 3, 8)
    with pytest.raises(Incorrect, match="gradient at padding"):
        attention_gate.check_padding(who, batch, [torch.zeros(2, 2, 3, 8), gradient])


def test_nan_is_never_within_bounds(monkeypatch):
    monkeypatch.setitem(BACKENDS, "sdpa", BACKENDS["sdpa"]._replace(padded=WRONG["an element is not written"]))
    batch = batch_of(4, 4)
    truth = truth_of(batch, random_tensors(batch, 4, torch.float32, generator()))
    with pytest.raises(Incorrect, match="is nan times"):
        gate(Contestant("sdpa", "padded", "kernel"), batch, truth, grads=False)


# ---- a whole run ----


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(attention_cases.SUITES, "smoke", Suite((("uniform", 9),), batches=(3,), heads=1))


def run(tmp_path, *more: str) -> dict:
    """Of the tiny suite: what stands in its file."""
    command = ["--suite", "smoke", "--device", "cpu", "--head-size", "32", "--seconds", "0.001", "--out", str(tmp_path)]
    assert attention.main([*command, *more]) == 0
    (path,) = tmp_path.glob("attention-*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_smoke_runs_from_end_to_end_on_a_cpu(tiny, tmp_path, capsys):
    rows = run(tmp_path, "--backends", "eager,sdpa")["rows"]
    assert {(row["boundary"], row["direction"]) for row in rows} == set(attention.DEFAULT_PAIRS)
    assert all(row["status"] == "ok" and len(row["rounds"]) == 2 and row["us"] > 0 for row in rows)
    assert all(row["roof_percent"] is None for row in rows)
    assert "not comparable" in capsys.readouterr().out
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".svg"}


def test_a_backend_that_cannot_run_is_a_row_with_its_reason(tiny, tmp_path):
    (row,) = run(tmp_path, "--backends", "varlen", "--boundary", "kernel", "--pass", "fwd")["rows"]
    assert (row["status"], row["us"]) == ("skipped", None)
    assert "CUDA" in row["reason"]


def test_a_wrong_backend_gets_no_time(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(BACKENDS, "sdpa", BACKENDS["sdpa"]._replace(padded=attention_of_all))
    rows = run(tmp_path, "--backends", "sdpa,eager", "--boundary", "kernel")["rows"]
    assert {(row["backend"], row["status"], row["us"] is None) for row in rows} == {
        ("sdpa", "incorrect", True),
        ("eager", "ok", False),
    }


@pytest.mark.parametrize("error", [RuntimeError, torch.cuda.OutOfMemoryError, ValueError, NotImplementedError])
def test_an_exception_ends_its_row_and_not_the_run(tiny, tmp_path, monkeypatch, error):
    def failing(*given):
        raise error("no room\nfor this")

    monkeypatch.setitem(BACKENDS, "sdpa", BACKENDS["sdpa"]._replace(padded=failing))
    sdpa, eager = run(tmp_path, "--backends", "sdpa,eager", "--boundary", "kernel", "--pass", "fwd")["rows"]
    assert (sdpa["status"], sdpa["reason"]) == ("error", f"{error.__name__}: no room")
    assert eager["status"] == "ok"


def test_a_case_without_room_for_its_reference_ends_alone(tiny, tmp_path, monkeypatch):
    def failing(*given):
        raise torch.cuda.OutOfMemoryError("no room")

    monkeypatch.setattr(attention, "truth_of", failing)
    rows = run(tmp_path, "--backends", "eager")["rows"]
    assert {(row["status"], row["reason"]) for row in rows} == {("error", "OutOfMemoryError: no room")}


def test_what_the_time_does_not_reach_says_so(tiny, tmp_path):
    rows = run(tmp_path, "--backends", "eager", "--minutes", "0")["rows"]
    assert {(row["status"], row["reason"]) for row in rows} == {("not reached", "--minutes 0 were over")}


# ---- going on with a file ----


def resumed(path, *more: str) -> dict:
    """The tiny suite's forward at the kernel boundary, gone on with in a file."""
    fast = ["--suite", "smoke", "--device", "cpu", "--head-size", "32", "--seconds", "0.001", "--out", str(path)]
    assert attention.main([*fast, "--boundary", "kernel", "--pass", "fwd", "--resume", *more]) == 0
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_file_that_is_complete_is_not_measured_again(tiny, tmp_path, monkeypatch):
    first = resumed(tmp_path / "a.json", "--backends", "eager,sdpa")
    for name in ("truth_of", "call_of", "gate"):
        monkeypatch.setattr(attention, name, lambda *given: pytest.fail("measured again"))
    assert resumed(tmp_path / "a.json", "--backends", "eager,sdpa")["rows"] == first["rows"]


def test_what_a_killed_run_left_out_is_measured_and_nothing_else(tiny, tmp_path):
    """eager lacks its second round, and sdpa all of it."""
    path = tmp_path / "a.json"
    whole = resumed(path, "--backends", "eager,sdpa,sdpa-math")
    eager, sdpa, math_ = whole["rows"]
    eager |= {"rounds": [7.0], "us": 7.0, "p20": 6.0, "p80": 8.0}
    sdpa |= {"status": "not reached", "us": None, "rounds": [], "shares": {}}
    path.write_text(json.dumps(whole), encoding="utf-8")
    found = {row["backend"]: row for row in resumed(path, "--backends", "eager,sdpa,sdpa-math")["rows"]}
    assert found["sdpa-math"] == math_
    assert (found["sdpa"]["status"], len(found["sdpa"]["rounds"]), len(found["sdpa"]["shares"])) == ("ok", 2, 1)
    assert found["eager"]["rounds"][0] == 7.0
    assert len(found["eager"]["rounds"]) == 2


def test_other_backends_join_the_file_beside_their_rivals(tiny, tmp_path):
    path = tmp_path / "a.json"
    resumed(path, "--backends", "eager", "--pass", "fwd,bwd")
    rows = resumed(path, "--backends", "sdpa", "--pass", "fwd,bwd")["rows"]
    assert [(row["direction"], row["backend"]) for row in rows] == [
        *(("fwd", "eager"), ("fwd", "sdpa")),
        *(("bwd", "eager"), ("bwd", "sdpa")),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_file_of_other_lengths_is_not_gone_on_with(tiny, tmp_path):
    path = tmp_path / "a.json"
    resumed(path, "--backends", "eager")
    with pytest.raises(SystemExit, match="other lengths"):
        resumed(path, "--backends", "sdpa", "--seed", "1")


def test_resuming_needs_a_file(capsys):
    with pytest.raises(SystemExit):
        attention.main(["--resume", "--out", "somewhere"])
    assert "--out FILE.json" in capsys.readouterr().err


def test_the_most_telling_cases_come_first():
    cases = attention_cases.cases_of(attention.parsed(["--suite", "bert,ragged", "--first", "6"]))
    assert [(case.dist, case.width) for case in cases] == list(attention_cases.FIRST[:6])


# ---- a kernel of one's own ----

OWN = """
from minibert.fast.attention import BACKENDS, add_backend
from minibert.fast.layout import Packed
add_backend("mine", BACKENDS["eager"]._replace(native=(Packed,)))
"""


def test_a_kernel_of_ones_own_is_raced_and_drawn(tiny, tmp_path, monkeypatch):
    (tmp_path / "own_kernel.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for backends in (BACKENDS, core.BACKENDS):
        monkeypatch.setitem(backends, "mine", None)  # is taken away again
    out = tmp_path / "out"
    rows = run(out, "--import", "own_kernel", "--backends", "mine,eager", "--boundary", "kernel")["rows"]
    assert {(row["backend"], row["layout"], row["status"]) for row in rows} == {
        ("mine", "packed", "ok"),
        ("eager", "padded", "ok"),
    }
    (drawn,) = out.glob("*.svg")
    assert "<title>mine: " in drawn.read_text(encoding="utf-8")


def test_a_triad_moves_four_tensors_and_a_copy_two(monkeypatch):
    """Each call takes 1 ms, on a card whose memory is free for 8 tensors of 4 kB."""
    monkeypatch.setattr(timing, "median_us", lambda call, device: (call(), 1000.0)[1])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 * 4096, 0))
    real = torch.rand
    monkeypatch.setattr(torch, "rand", lambda size, device: real(size))
    copied, triad = timing.stream_gb_s(torch.device("cuda"))
    assert (copied, triad) == (pytest.approx(2 * 4096 / 1e6), pytest.approx(4 * 4096 / 1e6))


def test_products_are_timed_in_a_burst_and_in_the_long_run(monkeypatch):
    """The clock says 1000 µs at first and 1250 µs once the card is hot."""
    monkeypatch.setattr(timing, "PEAK_SIZE", 100)
    monkeypatch.setattr(timing, "REST", 0)
    real, seen = torch.randn, []
    monkeypatch.setattr(torch, "randn", lambda *sizes, device: real(*sizes))
    slow = lambda runners, turns: [[1000.0 if k < 600 else 1250.0 for k in range(turns)]]  # noqa: E731
    monkeypatch.setattr(timing, "cuda_turns", lambda runners, turns: (seen.append(turns), slow(runners, turns))[1])
    burst, sustained = timing.matmul_tflops(torch.float32, torch.device("cuda"))
    assert (burst, sustained) == (pytest.approx(2e6 / 1000 / 1e6), pytest.approx(2e6 / 1250 / 1e6))
    assert seen == [2, timing.BURST, 1500]


def test_runners_take_turns():
    order = []
    runners = [timing.Runner(lambda k=k: order.append(k), 1, "perf_counter") for k in (0, 1)]
    times = timing.sample(runners, CPU, seconds=0)
    assert order == [0, 1] * (2 + timing.LEAST)
    assert [len(each) for each in times] == [timing.LEAST, timing.LEAST]


# ---- what is made of a result ----


def row(backend: str, us: float | None, **changes: object) -> Row:
    """A forward in bf16, whose useful TFLOP/s are 100 / us."""
    layout = "padded" if backend.startswith("sdpa") else "packed"
    plain = Row("bert", "full", 256, 128, 12, 64, "bf16", "kernel", "fwd", backend, layout, "cold")
    timed = {} if us is None else dict(status="ok", timer="graph", us=us, p20=us, p80=us, rounds=[us, us])
    return dataclasses.replace(plain, **timed, tflops=us and 100 / us, roof_percent=us and 50.0, **changes)


def result(*rows: Row, comparable: bool = True, device: str = "H200") -> dict:
    env = {"device": device, "torch": "2", "triton": "3", "commit": "abc"}
    whole = {"schema": attention.SCHEMA, "date": "2026-01-01", "comparable": comparable, "env": env}
    whole |= {"peaks": {"tflops": 790.0, "gb_s": 4300.0}, "rows": [dataclasses.asdict(row) for row in rows]}
    return json.loads(json.dumps(whole))


def test_tables_and_picture_are_made_of_the_file_alone():
    found = result(row("varlen", 20.0), row("triton", 10.0), row("nested", None, status="skipped", reason="too old"))
    text = "\n".join(summary(found))
    assert "790 TFLOP/s" in text
    assert "| **10** |" in text
    assert "nested, 1 rows skipped: too old" in text
    assert any(line.startswith("| triton | 10 |") and "| 2 |" in line for line in table(found))
    assert "triton: 10 TFLOP/s" in picture(found)
    assert "roofline: 20 TFLOP/s" in picture(found)


def verdict(found: dict, words: str) -> tuple[str, str]:
    (line,) = [floor for floor in floors(found) if floor[0].startswith(words)]
    return line[2:]


@pytest.mark.parametrize(("us", "wanted"), [(10.0, ("1.50, 1.50 ×", "met")), (14.0, ("1.07, 1.07 ×", "MISSED"))])
def test_a_floor_is_judged_by_the_best_rival(us, wanted):
    shapes = [dict(width=128), dict(width=256)]
    rows = [
        row(name, time, **at) for at in shapes for name, time in (("varlen", 20), ("sdpa-cudnn", 15), ("triton", us))
    ]
    assert verdict(result(*rows), "fwd full 128, full 256, against the best of varlen") == wanted


def test_a_floor_of_which_a_case_is_missing_is_not_measured():
    found = result(row("varlen", 20.0), row("triton", 10.0))
    assert verdict(found, "fwd full 128, full 256")[1] == "not measured"
    assert verdict(found, "share of roofline, fwd full 128") == ("50 %", "MISSED")


def test_on_a_cpu_no_floor_is_judged():
    found = result(row("varlen", 20.0), row("triton", 10.0), comparable=False)
    assert {floor[3] for floor in floors(found)} == {"not measured"}


def exit_code(tmp_path, old: dict, new: dict) -> int:
    for name, found in (("old", old), ("new", new)):
        (tmp_path / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
    return attention.main(["--show", str(tmp_path / "new.json"), "--compare", str(tmp_path / "old.json")])


@pytest.mark.parametrize(("us", "code"), [(10.2, 0), (9.0, 0), (10.5, 1)])
def test_a_comparison_fails_beyond_the_noise(tmp_path, us, code):
    assert exit_code(tmp_path, result(row("triton", 10.0)), result(row("triton", us))) == code


def test_a_comparison_allows_for_the_spread_of_both(tmp_path):
    wide = dataclasses.replace(row("triton", 10.0), rounds=[9.5, 10.6])
    assert exit_code(tmp_path, result(wide), result(row("triton", 10.5))) == 0


def test_a_comparison_fails_where_something_became_wrong(tmp_path):
    wrong = row("triton", None, status="incorrect")
    assert exit_code(tmp_path, result(row("triton", 10.0)), result(wrong)) == 1
    assert exit_code(tmp_path, result(wrong), result(row("triton", 10.0))) == 0


def test_files_of_two_devices_are_not_compared():
    with pytest.raises(ValueError, match="made on H100, the new one on H200"):
        compare(result(device="H100"), result())
