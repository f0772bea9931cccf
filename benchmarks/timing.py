"""Time on a device, and what the device can do: what benchmarks/attention.py measures with.

On a GPU a call returns before its work is done, and starting a kernel costs the host about as long as a short kernel
runs. So the work is timed by the device's own events around the replay of a CUDA graph that holds many calls; what the
call costs without a graph is a number of its own (`wall_us`). On a CPU the clock of the host does.

    python -m benchmarks.timing --out probe.json      # the device, its software and its peaks, some seconds
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.smi import readings
from minibert.core.files import write_json

Call = Callable[[], object]

REPLAY_US = 1000  # a replay is about as long at least, so that starting it and the events' 0.5 us hardly count
LEAST, MOST = 7, 100  # samples of one runner in one round
PEAK_SIZE, BURST, SUSTAINED, REST = 8192, 5, 1.5, 0.5  # rows; products of a burst; seconds of many, and before
STREAM_BYTES = 2**30  # of each tensor in a copy or a triad
SMI_FIELDS = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw", "power.limit")


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# ---- one function's time ----


class Runner(NamedTuple):
    """What is timed as one. replay: makes `calls` calls. timer: graph, events or perf_counter. note: why no graph.
    reads: what the calls read, which a graph does not keep alive."""

    replay: Callable[[], object]
    calls: int
    timer: str
    note: str = ""
    reads: Sequence[Call] = ()


def make_runner(calls: Sequence[Call], timer: str, device: torch.device) -> Runner:
    """Of calls that do the same work on one input set each: they take turns, so that more sets than fit into the cache
    are always read from memory. All compiling and caching is done here, before anything is timed.
    """
    for call in calls:
        call()
    each = wall_us(calls[0], device, 3)
    sequence = list(calls) * max(1, math.ceil(REPLAY_US / (each * len(calls))))

    def replay() -> None:
        for call in sequence:
            call()

    if device.type != "cuda":
        return Runner(calls[0], 1, "perf_counter")
    if timer == "events":
        return Runner(replay, len(sequence), "events")
    if note := what_waits(calls[0]):
        return Runner(replay, len(sequence), "events", note)
    try:
        graph = capture(sequence, len(calls))
    except RuntimeError as error:
        return Runner(replay, len(sequence), "events", f"no graph: {first_line(error)}")
    return Runner(graph.replay, len(sequence), "graph", reads=calls)


def what_waits(call: Call) -> str:
    """Why a graph cannot hold the call: where it waits for the device. Asked first, as a failed capture may leave
    PyTorch's memory unfit for any later one.
    """
    try:
        torch.cuda.set_sync_debug_mode("error")
        call()
    except RuntimeError as error:
        return f"no graph: {first_line(error)}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


def capture(sequence: Sequence[Call], sets: int) -> torch.cuda.CUDAGraph:
    """One graph of all the calls. The newest results are kept, one for each input set, as otherwise every call would
    write to the same place in the cache.

    The stream is the current one, because autograd runs a backward where its forward ran: both must be on it.
    """
    graph, results = torch.cuda.CUDAGraph(), deque(maxlen=sets)
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        for call in sequence:
            results.append(call())
    return graph


def wall_us(call: Call, device: torch.device, calls: int) -> float:
    """Microseconds of the host for one of several calls in a row, until the device has done the last."""
    synchronize(device)
    started = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize(device)
    return (time.perf_counter() - started) * 1e6 / calls


def sample(runners: Sequence[Runner], device: torch.device, seconds: float) -> list[list[float]]:
    """Microseconds per call of each runner, many times. They take turns, so that what changes with time (clocks, heat,
    other work) meets all of them.

    seconds: for each runner, about.
    """
    timed = cuda_turns if device.type == "cuda" else host_turns
    timed(runners, 1)  # warm
    synchronize(device)
    started = time.perf_counter()
    timed(runners, 1)
    turn = time.perf_counter() - started
    return timed(runners, int(min(MOST, max(LEAST, seconds * len(runners) / turn))))


def cuda_turns(runners: Sequence[Runner], turns: int) -> list[list[float]]:
    found = []
    for _ in range(turns):
        for runner in runners:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            runner.replay()
            end.record()
            found.append((begin, end, runner.calls))
    torch.cuda.synchronize()
    times = [begin.elapsed_time(end) * 1e3 / calls for begin, end, calls in found]
    return [times[k :: len(runners)] for k in range(len(runners))]


def host_turns(runners: Sequence[Runner], turns: int) -> list[list[float]]:
    found = [[] for _ in runners]
    for _ in range(turns):
        for runner, times in zip(runners, found, strict=True):
            started = time.perf_counter()
            runner.replay()
            times.append((time.perf_counter() - started) * 1e6 / runner.calls)
    return found


def extra_mb(call: Call, device: torch.device) -> float | None:
    """10^6 bytes that one call needs at its peak beyond what was there, its results included."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before, result = torch.cuda.memory_allocated(device), call()
    torch.cuda.synchronize(device)
    del result
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def kernel_names(call: Call, device: torch.device, most: int = 4) -> list[str]:
    """The kernels that really ran, the longest first; [] where the profiler cannot say."""
    if device.type != "cuda":
        return []
    try:
        with profile(activities=[ProfilerActivity.CUDA]) as found:
            call()
            torch.cuda.synchronize(device)
    except (RuntimeError, AssertionError):  # no CUPTI, or another profiler holds it
        return []
    kernels = [event for event in found.key_averages() if event.device_type == DeviceType.CUDA]
    kernels.sort(key=lambda event: -event.device_time_total)
    return [f"{event.count} × {event.key[:160]}" for event in kernels[:most]]


# ---- what the device can do ----


def matmul_tflops(dtype: torch.dtype, device: torch.device) -> tuple[float, float] | tuple[None, None]:
    """10^12 floating-point operations a second in PyTorch's own product of two large matrices of random numbers: in the
    first products after a rest, and in the long run, when power and heat have lowered the clocks.
    """
    if device.type != "cuda":
        return None, None
    a, b = (torch.randn(PEAK_SIZE, PEAK_SIZE, device=device).to(dtype) for _ in range(2))
    runner = Runner(lambda: torch.mm(a, b), 1, "events")
    cuda_turns([runner], 2)  # warm
    time.sleep(REST)
    (burst,) = cuda_turns([runner], BURST)
    (every,) = cuda_turns([runner], max(2 * BURST, int(SUSTAINED * 1e6 / min(burst))))
    times = sorted(burst)[BURST // 2], sorted(every[len(every) // 2 :])[len(every) // 4]
    return tuple(2 * PEAK_SIZE**3 / us / 1e6 for us in times)


def stream_gb_s(device: torch.device) -> tuple[float, float] | tuple[None, None]:
    """10^9 bytes a second, read and written, far beyond the cache: in a copy, and in a triad that reads three tensors
    for each that it writes, as attention's forward does.
    """
    if device.type != "cuda":
        return None, None
    size = min(STREAM_BYTES, torch.cuda.mem_get_info(device)[0] // 8) // 4
    a, b, c = (torch.rand(size, device=device) for _ in range(3))
    out = torch.empty_like(a)
    copied = median_us(lambda: out.copy_(a), device)
    triad = median_us(lambda: torch.addcmul(a, b, c, out=out), device)
    return 2 * a.nbytes / copied / 1e3, 4 * a.nbytes / triad / 1e3


def median_us(call: Call, device: torch.device) -> float:
    times = sorted(sample([Runner(call, 1, "events")], device, seconds=0.2)[0])
    return times[len(times) // 2]


def measured_peaks(dtype: torch.dtype, device: torch.device, env: dict) -> dict[str, float | None]:
    """tflops, gb_s: what the roofline is made of, a burst of products and the triad; beside them what stays of the
    products in the long run, and a copy. exp_per_us: 16 a clock on each multiprocessor, at the highest clock.
    """
    mhz = str(env.get("clocks.max.sm", ""))
    known = device.type == "cuda" and mhz.isdigit()
    burst, sustained = matmul_tflops(dtype, device)
    copy, triad = stream_gb_s(device)
    return {
        "tflops": burst,
        "tflops_sustained": sustained,
        "gb_s": triad,
        "gb_s_copy": copy,
        "exp_per_us": 16 * env["multiprocessors"] * int(mhz) if known else None,
    }


def environment(device: torch.device) -> dict[str, object]:
    """What the numbers depend on."""
    found = {
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton_version(),
        "device": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }
    if device.type != "cuda":
        return found
    card = torch.cuda.get_device_properties(device)
    return found | {
        "device": card.name,
        "capability": f"{card.major}.{card.minor}",
        "multiprocessors": card.multi_processor_count,
        "l2_bytes": card.L2_cache_size,
        "memory_bytes": card.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        **nvidia_smi(),
    }


def nvidia_smi() -> dict[str, str]:
    """Driver, clocks (MHz) and power (W) at this moment; {} where there is no nvidia-smi."""
    cards = readings(SMI_FIELDS)
    visible = torch.cuda.current_device() if len(cards) == torch.cuda.device_count() else 0
    return cards[visible] if cards else {}


def triton_version() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return triton.__version__


def commit() -> str | None:
    """Of the repository, with a + where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None


def first_line(error: Exception) -> str:
    """What a table has room for."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="result file")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    env = environment(device)
    found = {"env": env, "peaks": measured_peaks(torch.bfloat16, device, env)}
    print(json.dumps(found))
    if arguments.out:
        write_json(arguments.out, found)


if __name__ == "__main__":
    main()
