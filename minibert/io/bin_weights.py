"""The older `pytorch_model.bin`, read without running what a pickle may ask for.

`.bin` files are read with `weights_only=True`, after a look at what they claim to be; in a directory that has a
safetensors file too, that goes first. Importing this module lets `from_pretrained` read them.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from minibert.core import checkpoint as core
from minibert.core.checkpoint import damaged, printable

INSIDE = ("state_dict", "model_state_dict", "model", "module")  # PyTorch Lightning, PyTorch's tutorials, DeepSpeed
DAMAGE = (*core.DAMAGE, AssertionError, EOFError, struct.error, zipfile.BadZipFile)


def read_bin(path: Path) -> Iterable[tuple[str, Tensor]]:
    """A `pytorch_model.bin`: plain tensors only, no code, nothing that is larger in memory than in the file."""
    refuse_compressed(path)
    found = inside(unpickle(path))
    if not isinstance(found, dict) or not all(isinstance(key, str) and is_plain(found[key]) for key in found):
        raise ValueError(
            f"{path}: holds more than a dictionary of plain tensors; is it a training state? Give the model's own file"
        )
    size, claimed = path.stat().st_size, sum(tensor.numel() * tensor.element_size() for tensor in found.values())
    if claimed > 2 * size:  # the tied decoder may show the embedding's bytes once more
        raise ValueError(
            f"{path}: refused, as its tensors claim {claimed} bytes in a file of {size}; ask for a safetensors file"
        )
    return found.items()


def inside(found: object) -> object:
    """The tensors that stand under one name, beside what a training has kept: {"state_dict": {…}, "epoch": 3}."""
    if not isinstance(found, dict) or any(isinstance(value, Tensor) for value in found.values()):
        return found
    return next((found[name] for name in INSIDE if isinstance(found.get(name), dict)), found)


def refuse_compressed(path: Path) -> None:
    """A compressed archive could be a zip bomb; PyTorch's own are plain."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\3\4":  # so does torch.load tell zip from the older format, which cannot be compressed
            return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except DAMAGE as error:
        raise damaged(path, error) from None
    size, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError(
            f"{path}: refused, as it is compressed ({unpacked} bytes packed into {size}), which PyTorch never does;"
            " ask for a safetensors file"
        )


def unpickle(path: Path) -> object:
    """What a `.bin` holds; `weights_only=True` knows tensors and plain containers, and calls nothing else."""
    try:
        with warnings.catch_warnings():  # about old pickles and storages; if they matter, loading or the audit fails
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))  # only the name: torch's own text also tells how to run the code
        what = f"calls {printable(name.group(1))}, which could run code" if name else "is no pickle of tensors"
        raise ValueError(f"{path}: refused, as it {what}; ask for a safetensors file, or copy it again") from None
    except DAMAGE as error:
        raise damaged(path, error) from None


def is_plain(tensor: object) -> bool:
    """Numbers in memory: not sparse, nested, quantized, without data (meta), or of a class of its own."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_nested or tensor.is_quantized:
        return False
    return tensor.layout is torch.strided and tensor.device.type == "cpu"


if "pytorch_model.bin" not in core.WEIGHTS:
    core.WEIGHTS.append("pytorch_model.bin")
core.READERS[".bin"] = read_bin
