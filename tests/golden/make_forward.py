"""Makes forward.json: what transformers, in float64, answers for the stirred models of conftest.py.

Run from the repository's root: python tests/golden/make_forward.py
"""

import json
import sys
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import MODELS, outputs, padded_batch, twins

TARGET = Path(__file__).with_name("forward.json")


def main() -> None:
    batch = padded_batch(rows=3, length=7)
    answers = {}
    for name in MODELS:
        ours, theirs = twins(name)
        with torch.no_grad():
            answers[name] = [tensor.tolist() for tensor in outputs(theirs.double()(**batch))]
        answers[f"{name} weights"] = sum(p.double().sum().item() for p in ours.parameters())
    made_by = f"transformers {transformers.__version__}, torch {torch.__version__}"
    record = {"made_by": made_by, "batch": {k: v.tolist() for k, v in batch.items()}, "answers": answers}
    TARGET.write_text(json.dumps(record, indent=None) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
