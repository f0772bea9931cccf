"""A directory's weights, in whatever files they are: safetensors or the older `.bin`, in one file or in shards that an
index lists, under names that a wrapper may have put something before. Which weights those are: core/checkpoint.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from reprlib import repr as short

from torch import Tensor

from minibert.core.checkpoint import TABLE, each_of_safetensors, printable, their_name, translate
from minibert.core.files import read_json
from minibert.io.bin_weights import read_bin
from minibert.io.diagnosis import explained

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there is read
READERS: dict[str, Callable[[Path], Iterable[tuple[str, Tensor]]]] = {".safetensors": each_of_safetensors}
READERS[".bin"] = read_bin


def read_weights(directory: Path) -> tuple[Path, dict[str, Tensor]]:
    """The file that lists a directory's tensors, and the tensors, under names without a wrapper's.

    Raises ValueError, which says what the directory is, for files that are missing, damaged or hostile.
    """
    with explained(directory):
        listed, files = weight_files(directory)
        found = dict(each_tensor(files))
    cut = len(wrapper(found))
    return listed, {name[cut:]: tensor for name, tensor in found.items()}


def wrapper(keys: Collection[str]) -> str:
    """What stands before every name because a wrapped model was saved: "module.", "_orig_mod.", "0.auto_model."."""
    first, cut = next(iter(keys), ""), 0
    while not any(translate(their_name(key[cut:]), TABLE) for key in keys):
        cut = first.find(".", cut) + 1
        if not cut or not all(key.startswith(first[:cut]) for key in keys):
            return ""
    return "" if "roberta" in first[:cut] else first[:cut]  # RoBERTa counts positions from 2, under the same names


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
