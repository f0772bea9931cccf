"""Proves that models and training give on a GPU what they give on a CPU. Run on a machine with one: pytest -m gpu"""

import pytest
import torch
from conftest import MODELS, outputs, padded_batch, small_config, stir

from minibert.attention import BACKENDS
from minibert.train import TrainOptions, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_equal_those_of_the_cpu(name, backend):
    """1e-4: a GPU adds in another order than a CPU."""
    model, batch = stir(MODELS[name](small_config(), backend)), padded_batch(rows=3, length=61)
    with torch.no_grad():
        wanted = outputs(model(**batch))
        found = outputs(model.cuda()(**{key: tensor.cuda() for key, tensor in batch.items()}))
    torch.testing.assert_close([tensor.cpu() for tensor in found], wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_of_padding_alone_stays_free_of_nan(backend):
    model, batch = stir(MODELS["BertModel"](small_config(), backend)).cuda(), padded_batch(rows=3, length=61)
    batch["attention_mask"][1] = 0
    with torch.no_grad():
        hidden = model(**{key: tensor.cuda() for key, tensor in batch.items()}).last_hidden_state
    assert hidden.isfinite().all()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_bundled_reviews_are_learned_on_a_gpu(tmp_path, precision):
    scores, _ = train(TrainOptions(device="cuda", precision=precision, out=str(tmp_path / "run")))
    assert scores.accuracy >= 0.75
