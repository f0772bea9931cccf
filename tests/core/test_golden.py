"""Proves the model against frozen answers of transformers (golden/make_forward.py).

Run: pytest tests/core/test_golden.py
"""

import json
from pathlib import Path

import pytest
import torch
from conftest import MODELS, assert_near, outputs, real_tokens, small_config, stir

pytestmark = pytest.mark.numeric

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "forward.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_the_stirred_model_gives_the_frozen_answer(name, backend):
    model = stir(MODELS[name](small_config(), backend))
    drawn = sum(p.double().sum().item() for p in model.parameters())
    assert drawn == pytest.approx(GOLDEN["answers"][f"{name} weights"], abs=1e-4), (
        "torch draws other random numbers now"
    )
    batch = {key: torch.tensor(rows) for key, rows in GOLDEN["batch"].items()}
    with torch.no_grad():
        found = outputs(model(**batch), batch["attention_mask"])
    wanted = [torch.tensor(rows, dtype=torch.float64) for rows in GOLDEN["answers"][name]]
    assert_near(found, [real_tokens(tensor, batch["attention_mask"]) for tensor in wanted])
