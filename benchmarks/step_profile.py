"""Which kernels does a training step spend its time in? One step each of pretraining and fine-tuning, by the profiler.

    python -m benchmarks.step_profile --out profile.json            # BERT-base, bf16, with --graphs; some seconds
    python -m benchmarks.step_profile --small --out profile.json    # a tiny model on a CPU, to see that all runs

A row: us, the time of all kernels together; wall_us, of the host until the device is done, without the profiler; the
kernels by their time, the longest first. A case that the file has already is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks import pretraining, training
from benchmarks.race import BATCH, Plan, make_work, own_model
from benchmarks.timing import environment, wall_us
from minibert.core.files import write_json
from minibert.fast.models import BertForPreTraining

MOST = 60  # kernels of a row


def pretraining_step(plan: Plan, length: int) -> Callable[[], object]:
    examples = pretraining.make_examples(plan, plan.corpora[0], plan.sizes[0], length)
    model = BertForPreTraining(examples.config).to(plan.device)
    step = pretraining.OwnStep(model, examples.packed, length, plan)
    return pretraining.loop(step, model, examples.packed[:1])


def training_step(plan: Plan) -> Callable[[], object]:
    work = make_work(plan, plan.corpora[0], plan.sizes[0], round(BATCH / plan.scale))
    return training.own_loop(own_model(work).to(plan.device), work, plan)


def cases(plan: Plan) -> dict[str, Callable[[], Callable[[], object]]]:
    """What makes each step."""
    name = f"{plan.sizes[0]}, {plan.corpora[0]}"
    made = {f"pretraining, {name}, {n}": lambda n=n: pretraining_step(plan, n) for n in pretraining.LENGTHS}
    return made | {f"fine-tuning, {name}": lambda: training_step(plan)}


def profiled(step: Callable[[], object], device: torch.device) -> dict[str, object]:
    """A step's kernels, on a CPU PyTorch's operations; it has run before."""
    step()
    wall = wall_us(step, device, 3)
    gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as found:
        step()
        if gpu:
            torch.cuda.synchronize(device)
    kind = DeviceType.CUDA if gpu else DeviceType.CPU
    rows = [
        {
            "name": event.key[:200],
            "count": event.count,
            "us": event.self_device_time_total if gpu else event.self_cpu_time_total,
        }
        for event in found.key_averages()
        if event.device_type == kind
    ]
    rows.sort(key=lambda row: -row["us"])
    count, us = (sum(row[name] for row in rows) for name in ("count", "us"))
    return {"us": us, "wall_us": wall, "count": count, "kernels": rows[:MOST]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="result file")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    if not arguments.small and not torch.cuda.is_available():
        sys.exit("PyTorch sees no GPU here; to see that all runs: --small")
    device = torch.device("cpu" if arguments.small else "cuda")
    size, corpus = ("bert-tiny", "sst") if arguments.small else ("bert-base", "chnsenticorp")
    plan = Plan(device, "fp32" if arguments.small else "bf16", (1,), 1, 0.05, False, (corpus,), (size,))
    out, rows = arguments.out, []
    if out.exists():
        rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    for case, make in cases(plan).items():
        if case not in {row["case"] for row in rows}:
            rows.append({"case": case, **profiled(make(), device)})
            print(f"{case}: {rows[-1]['us']:.0f} µs of kernels, {rows[-1]['wall_us']:.0f} µs in all", flush=True)
            write_json(out, {"env": environment(device), "rows": rows})


if __name__ == "__main__":
    main()
