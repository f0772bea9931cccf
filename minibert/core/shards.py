"""The tensors of a model directory's safetensors: in one file, or in shards that an index lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from reprlib import repr as short

import safetensors
from torch import Tensor

from .files import read_json


def read_weights(directory: Path) -> tuple[Path, dict[str, Tensor]]:
    """The tensors of a model directory and the file they are listed in."""
    listed, files = weight_files(directory)
    return listed, dict(each_tensor(files))


def each_tensor(files: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    """The names and tensors of all files; of a safetensors file none is read before it is its turn."""
    seen: set[str] = set()
    for file in files:
        for name, tensor in READERS[file.suffix](file):
            if name in seen:
                raise ValueError(f"{file}: holds {printable(name)}, as another shard does; keep one of them")
            seen.add(name)
            yield name, tensor


def weight_files(directory: Path) -> tuple[Path, list[Path]]:
    """The file that lists a directory's weights, and those that hold them: the same, or the shards of an index."""
    for stem in WEIGHTS:
        whole, index = directory / stem, directory / f"{stem}.index.json"
        if whole.is_file():
            return whole, [whole]
        if index.is_file():
            shards = [directory / shard for shard in shard_names(index)]
            if absent := [shard for shard in shards if not shard.is_file()]:
                raise ValueError(f"{absent[0]}: no such file, but {index.name} lists it; copy every shard")
            return index, shards
    raise ValueError(f"{directory}: holds no {' and no '.join(WEIGHTS)}; give a model directory with its weights")


def shard_names(index: Path) -> list[str]:
    """The files that an index lists, each once; names only, never paths."""
    remedy = "copy the index that belongs to the shards"
    content = read_json(index, remedy)
    table = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(table, dict):
        raise ValueError(f"{index}: has no weight_map, so it is not an index of shards; {remedy}")
    suffix = Path(index.name.removesuffix(".index.json")).suffix  # pytorch_model.bin.index.json -> .bin
    for shard in table.values():
        if not isinstance(shard, str) or not re.fullmatch(rf"[\w-][\w.-]{{0,200}}{re.escape(suffix)}", shard):
            raise ValueError(f"{index}: lists {short(shard)}; a shard must be a {suffix} file of the same directory")
    return list(dict.fromkeys(table.values()))


# What safetensors and torch were seen to raise on files with flipped, cut and random bytes.
DAMAGE = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
DAMAGE += (safetensors.SafetensorError,)


def damaged(path: Path, error: BaseException) -> ValueError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    reason = "".join(letter if letter.isprintable() else "?" for letter in reason)  # it may quote the file
    return ValueError(f"{path}: not a whole {path.suffix} file ({reason}); copy it again")


def each_of_safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The library checks header, sizes and bounds before anything is allocated."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118, it is no dict
                yield name, file.get_tensor(name)
    except DAMAGE as error:
        raise damaged(path, error) from None


def printable(name: str) -> str:
    """A name from a file, safe to show in one line."""
    return name if name.isprintable() and len(name) <= 120 else short(name)


# Names of weight files, the first that is there is read; and how, by their ending. minibert.checkpoint adds `.bin`.
WEIGHTS = ["model.safetensors"]
READERS: dict[str, Callable[[Path], Iterable[tuple[str, Tensor]]]] = {".safetensors": each_of_safetensors}
