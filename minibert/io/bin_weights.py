"""The older `pytorch_model.bin`, read without running what a pickle may ask for.

`.bin` files are read with `weights_only=True`, after a look at what they claim to be; in a directory that has a
safetensors file too, that goes first.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from minibert.core import checkpoint
from minibert.core.checkpoint import damaged, printable

INSIDE = ("state_dict", "model_state_dict", "model", "module")  # PyTorch Lightning, PyTorch's tutorials, DeepSpeed
MOST = 100_000  # parts of a tuple in a pickle; PyTorch's have six
FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")  # a list or dictionary that is there
LEGACY = 5  # pickles at the head of a file of the older format
DAMAGE = (*checkpoint.DAMAGE, AssertionError, EOFError, struct.error, zipfile.BadZipFile)


def read_bin(path: Path) -> Iterable[tuple[str, Tensor]]:
    """A `pytorch_model.bin`: plain tensors only, no code, nothing that is larger in memory than in the file."""
    refuse_compressed(path)
    refuse_endless(path)
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


def refuse_endless(path: Path) -> None:
    """A tuple that holds another twice, and that one a third twice, is small in the file, but a dictionary that has it
    for a key hashes all of it: of a file of 1 kB for years. So the opcodes are read first, none is carried out."""
    try:
        with open(path, "rb") as file, warnings.catch_warnings():  # about escapes in a damaged file
            warnings.simplefilter("ignore")
            if file.read(4) == b"PK\3\4":
                with zipfile.ZipFile(path) as archive:
                    names = [name for name in archive.namelist() if name.endswith(".pkl")]
                    largest = max(expanded(archive.read(name)) for name in {*names})
                    if len(names) != len({*names}):
                        raise pickle.UnpicklingError("two pickles of one name")
            else:
                file.seek(0)
                largest = max(expanded(file) for _ in range(LEGACY))
    except (*DAMAGE, pickle.UnpicklingError, ValueError, LookupError, TypeError) as error:
        raise damaged(path, error) from None
    if largest > MOST:
        raise ValueError(
            f"{path}: refused, as its pickle holds tuples of more than {MOST} parts, which PyTorch never writes and"
            " which may take for ever to read; ask for a safetensors file"
        )


def expanded(source: bytes | BinaryIO) -> int:
    """The parts of the largest tuple of a pickle, counted as often as they stand in it. Takes as long as the pickle.

    Raises what pickletools raises, or LookupError, for what is no pickle.
    """
    stack: list[int | None] = []  # sizes; None: a mark
    memo: dict[int, int] = {}
    largest = 0
    for opcode, argument, _ in pickletools.genops(source):
        name, before = opcode.name, opcode.stack_before
        if name == "GLOBAL" and argument.endswith("bytearray"):  # which makes as many bytes as it is told
            raise pickle.UnpicklingError("bytes that are not in the file")
        if "PUT" in name or name == "MEMOIZE":
            memo[len(memo) if argument is None else int(argument)] = stack[-1]
        elif "GET" in name:
            stack.append(memo[int(argument)])
        elif name == "MARK":
            stack.append(None)
        elif name not in ("PROTO", "FRAME", "STOP"):
            parts = popped(stack, before)
            size = parts[0] if name in FILLING else min(MOST + 1, 1 + sum(parts))
            stack += [size] * len(opcode.stack_after)
            largest = max(largest, size)
    return largest


def popped(stack: list[int | None], before: Sequence[object]) -> list[int]:
    """What an opcode takes from the stack. before: what pickletools says that it wants there."""
    marked: list[int] = []
    count = len(before)
    if pickletools.markobject in before:
        while (part := stack.pop()) is not None:
            marked.append(part)
        count = before.index(pickletools.markobject)
    rest = [stack.pop() for _ in range(count)]
    return [*reversed(rest), *marked]


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
