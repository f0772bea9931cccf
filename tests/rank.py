"""What each of several processes does in tests/training/test_ranks.py: a run for each JSON of a command and its
options.
"""

import importlib
import json
import os
import signal
import sys
import time

import torch.distributed as dist

from minibert.training import engine
from minibert.training.ranks import GLOO_SHUTDOWN_SECONDS


def die_at(step: int) -> None:
    """Rank 1 kills itself after this step, unless torchrun has restarted it already."""
    record = engine.record

    def dying(task, *rest):
        record(task, *rest)
        if task.progress.step == step and task.ranks.rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)

    engine.record = dying


def run_all(runs: list[str]) -> None:
    """Several in one process group."""
    if "DIE_AT" not in os.environ and len(runs) > 1:
        dist.init_process_group("gloo")
    for text in runs:
        command, options = json.loads(text)
        module = importlib.import_module(f"minibert.training.{'fine_tuning' if command == 'train' else 'pretraining'}")
        if "DIE_AT" in os.environ:
            die_at(int(os.environ["DIE_AT"]))
        getattr(module, command)(getattr(module, f"{command.capitalize()}Options")(**options))
    if dist.is_initialized():
        time.sleep(GLOO_SHUTDOWN_SECONDS)


if __name__ == "__main__":
    run_all(sys.argv[1:])
