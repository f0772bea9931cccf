"""What people take for serving BERT on a CPU, as contestants of benchmarks/encoder.py: OpenVINO, CTranslate2 and ONNX
Runtime, each with the model's last hidden states averaged over real tokens, or of [CLS], each at the best setting of a
`sweep`.

A batch is padded to its longest row; "sorted" batches are filled with rows in the order of their lengths, "exact" ones
with rows of one length.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.race import Work, own_model
from benchmarks.tokenizer import timed
from minibert.core.weights import export_weights
from minibert.fast.batches import by_length
from minibert.fast.models import BertForSequenceClassification
from minibert.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import onnxruntime

Forward = Callable[[NDArray, NDArray], NDArray]  # ids and mask [B, S] -> hidden states [B, S, E] float32

BATCHES = {"minilm": (1, 4, 8, 16, 32, 64), "bert-base": (1, 4, 8, 16)}  # rows
ORDERS = ("sorted", "exact")
PACKAGES = {"OpenVINO": "openvino", "CTranslate2": "ctranslate2", "ONNX Runtime": "onnxruntime"}


class Setting(NamedTuple):
    """How an engine gets its rows."""

    batch: int
    order: str

    def __str__(self) -> str:
        return f"{self.order}, {self.batch} a batch"

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """The numbers of all rows, the longest first."""
        rows: list[int] = []
        for row in by_length(lengths):
            if rows and (len(rows) == self.batch or (self.order == "exact" and lengths[row] != lengths[rows[0]])):
                yield rows
                rows = []
            rows.append(row)
        yield rows


class Engine(NamedTuple):
    """obstacle: why it cannot run here."""

    name: str
    forward: Forward | None
    obstacle: str = ""

    def vectors(self, rows: Sequence[Sequence[int]], setting: Setting, width: int, first: bool = False) -> Tensor:
        """The mean of each row's hidden states, or the first one's. rows: token ids. [N, E]"""
        found = np.empty((len(rows), width), np.float32)
        for some in setting.batches([len(row) for row in rows]):
            longest = max(len(rows[i]) for i in some)
            ids = np.array([[*rows[i], *[0] * (longest - len(rows[i]))] for i in some], np.int64)
            mask = np.array([[1] * len(rows[i]) + [0] * (longest - len(rows[i])) for i in some], np.int64)
            weights = mask[..., None].astype(np.float32)
            hidden = self.forward(ids, mask)
            found[some] = hidden[:, 0] if first else (hidden * weights).sum(1) / weights.sum(1)
        return torch.from_numpy(found)


class Hidden(nn.Module):
    """A model of transformers that gives its hidden states alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


def written(work: Work, folder: Path) -> BertForSequenceClassification:
    """Puts an encoder into the folder as transformers and as ONNX have it, with its tokenizer; gives our own, with a
    head."""
    classifier = own_model(work)
    own = classifier.bert
    config = transformers.BertConfig(**own.config.to_dict(), attn_implementation="eager")  # the optimisers know it
    theirs = transformers.BertModel(config, add_pooling_layer=True).eval()
    theirs.load_state_dict(export_weights(own))
    theirs.save_pretrained(folder)
    Tokenizer(work.vocab).save_pretrained(folder)
    export(Hidden(theirs), folder / "model.onnx", ["ids", "mask"])
    return classifier


def export(model: nn.Module, file: Path, inputs: list[str]) -> None:
    """As ONNX, for any two dimensions of its two inputs."""
    free, ids = torch.export.Dim.DYNAMIC, torch.ones(2, 7, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            model,
            (ids, torch.ones_like(ids)),
            file,
            input_names=inputs,
            output_names=["answers"],
            dynamic_shapes=({0: free, 1: free},) * 2,
            dynamo=True,
            verbose=False,
        )


def session(file: Path, threads: int, arena: bool = True) -> onnxruntime.InferenceSession:
    """With all graph optimisations. arena: whether it keeps the memory that it has used."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_cpu_mem_arena = threads, arena
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def openvino(folder: Path, threads: int, precision: str) -> Forward:
    """bf16: what OpenVINO takes by itself where the CPU has it."""
    import openvino

    how = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    how |= {"INFERENCE_PRECISION_HINT": "f32"} if precision == "fp32" else {}
    model = openvino.Core().compile_model(str(folder / "model.onnx"), "CPU", how)
    return lambda ids, mask: model([ids, mask])[0]


def ctranslate2(folder: Path, threads: int, precision: str) -> Forward:
    """With the OpenMP of its own package. Loaded as usual it would start its threads by PyTorch's, which then counts
    more threads than cores, lets all sleep between products, and makes CTranslate2, transformers and minibert slower:
    one sentence on two cores by three quarters.
    """
    usual = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | getattr(os, "RTLD_DEEPBIND", 0))
    try:
        import ctranslate2
    finally:
        sys.setdlopenflags(usual)

    converted = folder / "ctranslate2"
    if not converted.exists():
        ctranslate2.converters.TransformersConverter(str(folder)).convert(str(converted))
    kind = {"fp32": "float32", "int8": "int8", "bf16": "bfloat16"}[precision]
    encoder = ctranslate2.Encoder(str(converted), "cpu", compute_type=kind, intra_threads=threads, inter_threads=1)

    def forward(ids: NDArray, mask: NDArray) -> NDArray:
        given = [ctranslate2.StorageView.from_array(part.astype(np.int32)) for part in (ids, mask.sum(1))]
        return np.array(encoder.forward_batch(*given).last_hidden_state.to(ctranslate2.DataType.float32))

    return forward


def onnx_runtime(folder: Path, threads: int, arena: bool = True) -> Forward:
    """arena: see `session`."""
    model = session(folder / "model.onnx", threads, arena)
    return lambda ids, mask: model.run(None, {"ids": ids, "mask": mask})[0]


def transformers_itself(folder: Path, precision: str) -> Forward:
    """transformers itself, with PyTorch's attention."""
    model = transformers.BertModel.from_pretrained(folder, attn_implementation="sdpa").eval()
    model = model.to(torch.float32 if precision == "fp32" else torch.bfloat16)

    @torch.inference_mode()
    def forward(ids: NDArray, mask: NDArray) -> NDArray:
        given = (torch.from_numpy(part) for part in (ids, mask))
        return model(*given).last_hidden_state.float().numpy()

    return forward


def engines(folder: Path, threads: int, precision: str) -> list[Engine]:
    """Those of this precision; int8 runs beside bf16."""
    makers = {
        "transformers sdpa": lambda: transformers_itself(folder, precision),
        "OpenVINO": lambda: openvino(folder, threads, precision),
    }
    if precision == "fp32":
        makers["CTranslate2"] = lambda: ctranslate2(folder, threads, "fp32")
        makers["ONNX Runtime"] = lambda: onnx_runtime(folder, threads)
        makers["ONNX Runtime, no arena"] = lambda: onnx_runtime(folder, threads, arena=False)
    else:
        makers["CTranslate2, bfloat16"] = lambda: ctranslate2(folder, threads, "bf16")
        makers["CTranslate2, int8"] = lambda: ctranslate2(folder, threads, "int8")
    found = []
    for name, make in makers.items():
        package = PACKAGES.get(name.split(",")[0], "transformers")
        if importlib.util.find_spec(package) is None:
            found.append(Engine(name, None, f"skipped: {package} not installed"))
            continue
        try:
            found.append(Engine(name, make()))
        except ValueError as error:  # CTranslate2: this CPU does not have the type
            found.append(Engine(name, None, f"skipped: {error}"))
    return found


def sweep(engine: Engine, rows: Sequence[Sequence[int]], size: str, width: int) -> dict[Setting, float]:
    """Seconds of each setting, the fastest first. A batch as large as all rows is the last that is tried; before it is
    timed a setting runs once, as engines prepare their kernels for each new shape."""
    sizes = [batch for batch in BATCHES[size] if batch == 1 or batch < 2 * len(rows)]
    found = {}
    for setting in (Setting(batch, order) for batch in sizes for order in ORDERS[batch == 1 :]):
        engine.vectors(rows, setting, width)
        found[setting] = timed(lambda s=setting: engine.vectors(rows, s, width))
    return dict(sorted(found.items(), key=lambda item: item[1]))
