"""What each of several processes does in tests/test_ranks.py: a run for each JSON of options."""

import json
import os
import signal
import sys

import torch.distributed as dist

import minibert.train
from minibert.train import TrainOptions, train


def die_at(step: int) -> None:
    """Rank 1 kills itself after this step, unless torchrun has restarted it already."""
    record = minibert.train.record

    def dying(run, *rest):
        record(run, *rest)
        if run.progress.step == step and run.ranks.rank == 1 and not run.ranks.restarted:
            os.kill(os.getpid(), signal.SIGKILL)

    minibert.train.record = dying


if __name__ == "__main__":
    if "DIE_AT" in os.environ:
        die_at(int(os.environ["DIE_AT"]))
    elif len(sys.argv) > 2:
        dist.init_process_group("gloo")  # once for all runs
    for text in sys.argv[1:]:
        train(TrainOptions(**json.loads(text)))
