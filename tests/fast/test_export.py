"""Proves that what exporters make of a model serves other batches than the one that it was made with.

An export is made with a batch without padding; it must answer batches of other sizes, padded, as the model does.
Run: pytest tests/fast/test_export.py -m ""
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import MODELS, assert_near, outputs, small_config, stir
from pages import PAGES
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor, Tensor]  # input_ids, attention_mask, token_type_ids, each [B, S]
Export = Callable[[nn.Module, Batch, Path], Callable[..., object]]

pytestmark = [pytest.mark.numeric, pytest.mark.filterwarnings("ignore")]  # exporters warn of themselves


def batch_of(lengths: list[int], seed: int = 1) -> Batch:
    """Rows of these lengths as a padded batch of pairs, each row's second half the second text."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    mask = torch.tensor([[1] * length + [0] * (width - length) for length in lengths])
    ids = torch.randint(5, 101, mask.shape, generator=generator) * mask
    return ids, mask, (torch.arange(width) >= width // 2).long() * mask


FIRST = batch_of([7, 7])
OTHERS = [batch_of([11, 4, 9]), batch_of([9, 9, 9, 9]), batch_of([5, 1]), batch_of([3])]
INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


def shapes() -> tuple[dict[int, object], ...]:
    rows, width = torch.export.Dim("rows"), torch.export.Dim("width", max=521)
    return ({0: rows, 1: width},) * 3


def exported(model: nn.Module, batch: Batch, folder: Path) -> Callable[..., object]:
    return torch.export.export(model, batch, dynamic_shapes=shapes()).module()


def traced(model: nn.Module, batch: Batch, folder: Path) -> Callable[..., object]:
    return torch.jit.trace(model, batch, strict=False)


def compiled(model: nn.Module, batch: Batch, folder: Path) -> Callable[..., object]:
    torch.compiler.reset()  # what was compiled for other models counts towards a limit
    return torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")


def run_by_onnxruntime(file: Path) -> Callable[..., tuple[Tensor, ...]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [place.name for place in session.get_inputs()]

    def run(*batch: Tensor) -> tuple[Tensor, ...]:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, batch, strict=True)}
        return tuple(map(torch.from_numpy, session.run(None, arrays)))

    return run


def onnx_by_dynamo(model: nn.Module, batch: Batch, folder: Path) -> Callable[..., object]:
    torch.onnx.export(
        model, batch, folder / "m.onnx", dynamo=True, dynamic_shapes=shapes(), input_names=INPUTS, verbose=False
    )
    return run_by_onnxruntime(folder / "m.onnx")


def onnx_by_torchscript(model: nn.Module, batch: Batch, folder: Path) -> Callable[..., object]:
    axes = {name: {0: "rows", 1: "width"} for name in INPUTS}
    torch.onnx.export(model, batch, folder / "m.onnx", dynamo=False, input_names=INPUTS, dynamic_axes=axes)
    return run_by_onnxruntime(folder / "m.onnx")


def tensors(answer: object) -> list[Tensor]:
    return [answer] if isinstance(answer, Tensor) else [tensor for tensor in answer if tensor is not None]


def answers_as_the_model(name: str, backend: str, export: Export, folder: Path) -> None:
    model = stir(MODELS[name](small_config(), backend))
    with torch.no_grad():
        run = export(model, FIRST, folder)
        for batch in OTHERS:
            mask = batch[1].bool()
            pairs = zip(tensors(run(*batch)), outputs(model(*batch)), strict=True)
            for found, wanted in pairs:
                real = (x[mask] if x.dim() == 3 else x for x in (found, wanted))
                assert_near(*([x] for x in real))


@pytest.mark.parametrize(
    "export",
    [exported, traced, pytest.param(onnx_by_torchscript, marks=pytest.mark.slow)],
    ids=lambda export: export.__name__,
)
def test_an_exported_classifier_answers_batches_of_other_sizes_and_masks(tmp_path, export):
    answers_as_the_model("BertForSequenceClassification", "auto", export, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "export",
    [exported, traced, compiled, onnx_by_dynamo, onnx_by_torchscript],
    ids=lambda export: export.__name__,
)
def test_an_export_of_every_head_answers_batches_of_other_sizes_and_masks(tmp_path, name, backend, export):
    answers_as_the_model(name, backend, export, tmp_path)


@pytest.mark.slow
def test_the_lines_that_the_docs_show_make_what_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (lines,) = PAGES["export"].blocks("python")
    made: dict[str, object] = {}
    exec(lines, made)
    model, batch = made["model"], made["batch"]
    with torch.no_grad():
        for run in (made["program"].module(), run_by_onnxruntime(tmp_path / "model.onnx")):
            assert_near(tensors(run(*batch)), [model(*batch)])
