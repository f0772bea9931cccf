"""Weights on disk ↔ weights in a model: one table of names, and an audit in which every key is used exactly once.

A checkpoint directory holds `config.json` and either `model.safetensors` (one file, or shards with an index) or the
older `pytorch_model.bin`. The names inside are those of Hugging Face's BERT, so `transformers` and minibert read each
other's directories. Nothing is unpickled: `.bin` files are read with `weights_only=True`.
"""

from __future__ import annotations

import json
import logging
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from reprlib import repr as short
from typing import NamedTuple, Self

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minibert.config import BertConfig, numbered_labels
from minibert.files import atomic_write, read_json
from minibert.hub import resolve

logger = logging.getLogger("minibert")

# ---- the table: module by module, theirs -> ours; ".weight" and ".bias" follow by themselves ----

ENCODER = {
    "embeddings.word_embeddings": "embeddings.token",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.token_type_embeddings": "embeddings.segment",
    "embeddings.LayerNorm": "embeddings.norm",
    "encoder.layer.{}.attention.self.query": "layers.{}.attention.query",
    "encoder.layer.{}.attention.self.key": "layers.{}.attention.key",
    "encoder.layer.{}.attention.self.value": "layers.{}.attention.value",
    "encoder.layer.{}.attention.output.dense": "layers.{}.attention.output",
    "encoder.layer.{}.attention.output.LayerNorm": "layers.{}.attention.norm",
    "encoder.layer.{}.intermediate.dense": "layers.{}.ffn.inner",
    "encoder.layer.{}.output.dense": "layers.{}.ffn.output",
    "encoder.layer.{}.output.LayerNorm": "layers.{}.ffn.norm",
    "pooler.dense": "pooler.dense",
}
HEADS = {
    "classifier": "classifier",
    "cls.predictions": "mlm",
    "cls.predictions.transform.dense": "mlm.dense",
    "cls.predictions.transform.LayerNorm": "mlm.norm",
    "cls.seq_relationship": "nsp",
}
TABLE = {**{f"bert.{theirs}": f"bert.{ours}" for theirs, ours in ENCODER.items()}, **HEADS}
BACK = {ours: theirs for theirs, ours in TABLE.items()}

# Parts that a checkpoint may lack (then they are initialised) or bring in vain (then they are left), and their names.
PARTS = {
    "bert.pooler": "a pooler",
    "classifier": "a classification head",
    "mlm": "a masked-LM head",
    "nsp": "a next-sentence head",
}

# Not weights: a range 0 … S-1 and a row of zeros that old versions of transformers saved.
BUFFERS = re.compile(r"(bert\.)?embeddings\.(position_ids|token_type_ids)")

# The decoder shares the token embedding and the head's bias; some writers store the shared tensors twice.
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}

FIT_REMEDY = "take config.json and weights that belong together, of a BERT"

OLD_SUFFIXES = {"gamma": "weight", "beta": "bias"}  # LayerNorm's names in Google's and the oldest PyTorch files


def their_name(key: str) -> str:
    """A key as a file spells it -> today's Hugging Face spelling with prefix: `embeddings.LayerNorm.gamma` ->
    `bert.embeddings.LayerNorm.weight`."""
    module, _, last = key.rpartition(".")
    if module.endswith("LayerNorm"):
        key = f"{module}.{OLD_SUFFIXES.get(last, last)}"
    return f"bert.{key}" if key.startswith(("embeddings.", "encoder.", "pooler.")) else key


def translate(key: str, table: Mapping[str, str]) -> str | None:
    """Looks a key's module up in TABLE or BACK; the layer number is carried over. None: not in the table."""
    module, _, last = key.rpartition(".")
    number = re.search(r"(?<=\.)(0|[1-9][0-9]{0,3})(?=\.)", module)
    pattern = module if number is None else f"{module[: number.start()]}{{}}{module[number.end() :]}"
    if pattern not in table or last not in ("weight", "bias") or "{}" in module:
        return None
    return f"{table[pattern].format(number and number.group())}.{last}"


# ---- reading ----


class Pretrained:
    """Gives a model class `from_pretrained` and `save_pretrained`; the class itself knows no files.

    The class brings its `config`, and `init_weights(module)` for the parts that a checkpoint lacks.
    """

    config: BertConfig

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        attention: str = "auto",
        num_labels: int | None = None,
        config: BertConfig | None = None,
        fresh_heads: bool = True,
        mapped: bool = False,
    ) -> Self:
        """The model of a directory or of a Hugging Face hub name, in float32 and in eval mode.

        Args:
            attention: a backend of `minibert.attention`.
            num_labels: size of the classification head, where the checkpoint has none or its config does not say.
            config: replaces the checkpoint's own (to change dropout or name the labels).
            fresh_heads: whether a head that the checkpoint lacks may be initialised (to be trained) or is an error.
            mapped: leaves the weights in a safetensors file and reads what is used, when it is used (of the token
                embedding a few rows for a short text): for a quick answer, as long as nobody writes into that file.

        Raises:
            ValueError: the directory, its config or its weights cannot be used; the message says what and why.
        """
        directory = resolve(name)
        config = config or BertConfig.from_file(directory / "config.json")
        if num_labels is not None and num_labels != config.num_labels:
            config = config.replace(id2label=numbered_labels(num_labels))
        model = without_memory(cls, config, attention)
        weights_file, found = read_weights(directory)
        load_weights(model, found, str(weights_file), fresh_heads, mapped)
        return model.eval()

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes config.json and model.safetensors, each whole or not at all, as `transformers` reads them."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in export_weights(self).items()}
        weights = safetensors.torch.save(tensors, metadata={"format": "pt"})
        config = {"architectures": [type(self).__name__], **self.config.to_dict()}
        text = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
        settings = text.encode("utf-8")  # may fail on a label's name, so before anything is written
        atomic_write(directory / "model.safetensors", weights)
        atomic_write(directory / "config.json", settings)


class _LeftUnfilled(TorchFunctionMode):
    """Passes over the filling of fresh weights. On "meta" there is nothing to fill, yet to fill it PyTorch loads its
    compiler, which takes longer than all else that reading a small model does."""

    def __torch_function__(
        self, function: Callable, types: object, arguments: tuple = (), options: dict | None = None
    ) -> object:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return None
        return function(*arguments, **(options or {}))


def without_memory(kind: type[nn.Module], config: BertConfig, attention: str = "auto") -> nn.Module:
    """A model whose tensors have shapes only: an absurd config must fail on the file's shapes, not on malloc."""
    with torch.device("meta"), _LeftUnfilled():
        return kind(config, attention)


def read_weights(directory: Path) -> tuple[Path, dict[str, Tensor]]:
    """The tensors of a checkpoint directory and the file they are listed in; safetensors first, then `.bin`."""
    listed, files = weight_files(directory)
    return listed, dict(each_tensor(files))


def each_tensor(files: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    """The names and tensors of all files; of a safetensors file none is read before it is its turn."""
    seen: set[str] = set()
    for file in files:
        for name, tensor in each_of_safetensors(file) if file.suffix == ".safetensors" else read_bin(file).items():
            if name in seen:
                raise ValueError(f"{file}: holds {printable(name)}, as another shard does; keep one of them")
            seen.add(name)
            yield name, tensor


def weight_files(directory: Path) -> tuple[Path, list[Path]]:
    """The file that lists a directory's weights, and those that hold them: the same, or the shards of an index."""
    for stem in ("model.safetensors", "pytorch_model.bin"):
        whole, index = directory / stem, directory / f"{stem}.index.json"
        if whole.is_file():
            return whole, [whole]
        if index.is_file():
            shards = [directory / shard for shard in shard_names(index)]
            if absent := [shard for shard in shards if not shard.is_file()]:
                raise ValueError(f"{absent[0]}: no such file, but {index.name} lists it; copy every shard")
            return index, shards
    raise ValueError(
        f"{directory}: holds neither model.safetensors nor pytorch_model.bin; give a model directory with its weights"
    )


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


# What safetensors, torch.load and zipfile were seen to raise on files with flipped, cut and random bytes.
DAMAGE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError),
    *(TypeError, ValueError, struct.error, zipfile.BadZipFile, safetensors.SafetensorError),
)


def damaged(path: Path, error: BaseException) -> ValueError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    reason = "".join(letter if letter.isprintable() else "?" for letter in reason)  # it may quote the file
    return ValueError(f"{path}: not a whole {path.suffix} file ({reason}); copy it again")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    return dict(each_of_safetensors(path))


def each_of_safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The library checks header, sizes and bounds before anything is allocated."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118, it is no dict
                yield name, file.get_tensor(name)
    except DAMAGE as error:
        raise damaged(path, error) from None


def read_bin(path: Path) -> dict[str, Tensor]:
    """A `pytorch_model.bin`: plain tensors only, no code, nothing that is larger in memory than in the file."""
    refuse_compressed(path)
    found = unpickle(path)
    if not isinstance(found, dict) or not all(isinstance(key, str) and is_plain(found[key]) for key in found):
        raise ValueError(
            f"{path}: holds more than a dictionary of plain tensors; is it a training state? Give the model's own file"
        )
    size, claimed = path.stat().st_size, sum(tensor.numel() * tensor.element_size() for tensor in found.values())
    if claimed > 2 * size:  # the tied decoder may show the embedding's bytes once more
        raise ValueError(
            f"{path}: refused, as its tensors claim {claimed} bytes in a file of {size}; ask for a safetensors file"
        )
    return found


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


def printable(name: str) -> str:
    """A name from a file, safe to show in one line."""
    return name if name.isprintable() and len(name) <= 120 else short(name)


# ---- the audit ----


class Audit(NamedTuple):
    """What a file's keys are to a model."""

    offered: dict[str, Tensor]  # the file's tensors under our names
    fresh: set[str]  # parts that the file lacks
    left: set[str]  # parts that the model lacks
    problems: dict[str, list[str]]  # "missing", "unexpected", "mismatched": keys, in Hugging Face's names


def audit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str) -> Audit:
    """Compares a model's tensors with a file's, by name, shape and kind of number; their values are not looked at."""
    offered, unexpected = rename(found, source)
    missing = sorted(wanted.keys() - offered.keys())
    unused = sorted(offered.keys() - wanted.keys())
    fresh, left = whole_parts(missing, offered), whole_parts(unused, wanted)
    mismatched = [mismatch(key, offered[key], wanted[key]) for key in sorted(wanted.keys() & offered.keys())]
    problems = {
        "missing": [back_name(key) for key in missing if part_of(key) not in fresh],
        "unexpected": unexpected + [back_name(key) for key in unused if part_of(key) not in left],
        "mismatched": list(filter(None, mismatched)),
    }
    return Audit(offered, fresh, left, problems)


def load_weights(
    model: nn.Module, found: Mapping[str, Tensor], source: str, fresh_heads: bool = True, mapped: bool = False
) -> None:
    """Fills the model with a file's tensors, every key used exactly once, as float32. mapped: without copying them.

    A whole part (pooler or head) that the file lacks is freshly initialised; one that the model lacks is left. Both
    are said in one line, as they change what is trained and saved.

    Raises:
        ValueError: listing missing, unexpected and mismatched keys with their shapes.
    """
    wanted = model_tensors(model)
    checked = audit(wanted, found, source)
    offered, fresh, left = checked.offered, checked.fresh, checked.left
    if fresh - {"bert.pooler"} and not fresh_heads:
        raise ValueError(f"{source} lacks {listed(fresh)}, so it has no answers yet; train it first (minibert train)")
    complain(source, checked.problems)

    state = {
        key: offered[key].to(torch.float32, copy=not mapped, memory_format=torch.contiguous_format).contiguous()
        for key in wanted.keys() & offered.keys()
    }
    strip = "" if hasattr(model, "bert") else "bert."
    model.load_state_dict({key.removeprefix(strip): tensor for key, tensor in state.items()}, strict=False, assign=True)
    initialise(model, fresh)
    if fresh:
        logger.warning("%s lacks %s: freshly initialised, to be trained", source, listed(fresh))
    if left:  # whoever trains loses them; whoever only asks does not miss them
        logger.log(
            logging.WARNING if fresh_heads else logging.INFO, "%s brings %s: not used here", source, listed(left)
        )


def listed(parts: Iterable[str]) -> str:
    return " and ".join(PARTS[part] for part in sorted(parts))


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights under our full names: BertModel's own get the prefix that the others have."""
    prefix = "" if hasattr(model, "bert") else "bert."
    return {prefix + name: tensor for name, tensor in model.state_dict().items()}


def export_weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights under Hugging Face's names; a bare BertModel's without prefix, as transformers saves it."""
    strip = "" if hasattr(model, "bert") else "bert."
    return {back_name(name).removeprefix(strip): tensor for name, tensor in model_tensors(model).items()}


def back_name(key: str) -> str:
    """Our full name -> Hugging Face's."""
    theirs = translate(key, BACK)
    assert theirs is not None, f"{key} is missing in the table"
    return theirs


def rename(found: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """A file's tensors under our names, and the keys that no BERT has."""
    theirs: dict[str, Tensor] = {}
    spelled: dict[str, str] = {}
    for key, tensor in found.items():
        if BUFFERS.fullmatch(key):
            continue
        name = their_name(key)
        if name in theirs:
            both = f"{printable(spelled[name])} and as {printable(key)}"
            raise ValueError(f"{source}: holds one weight twice, as {both}; keep one of them")
        theirs[name], spelled[name] = tensor, key
    untie(theirs, source)
    ours = {name: translate(name, TABLE) for name in theirs}
    unknown = sorted(printable(spelled[name]) for name in theirs if not ours[name])
    return {ours[name]: theirs[name] for name in theirs if ours[name]}, unknown


def untie(theirs: dict[str, Tensor], source: str) -> None:
    """Takes the second copy of a shared tensor out, after making sure that it is one."""
    for copy, original in TIED.items():
        if copy not in theirs:
            continue
        tensor = theirs.pop(copy)
        kept = theirs.setdefault(original, tensor)
        if kept.shape != tensor.shape or not torch.equal(kept, tensor):
            raise ValueError(
                f"{source}: {copy} {list(tensor.shape)} differs from {original} {list(kept.shape)}, with which BERT"
                " shares it; minibert has no untied decoder, choose a checkpoint with a tied one"
            )


def part_of(key: str) -> str | None:
    """The optional part that a weight belongs to."""
    return next((part for part in PARTS if key.startswith(f"{part}.")), None)


def whole_parts(absent: Iterable[str], other: Iterable[str]) -> set[str]:
    """The optional parts among `absent` of which the other side has nothing at all."""
    return {part for key in absent if (part := part_of(key))} - {part for key in other if (part := part_of(key))}


def mismatch(key: str, offered: Tensor, wanted: Tensor) -> str | None:
    """What is wrong with a tensor, or None."""
    if offered.shape != wanted.shape:
        return f"{back_name(key)} is {list(offered.shape)}, wanted {list(wanted.shape)}"
    if not offered.dtype.is_floating_point:
        return f"{back_name(key)} holds {offered.dtype}, wanted floating-point numbers"
    return None


def complain(source: str, problems: Mapping[str, list[str]], most: int = 6) -> None:
    """Raises one ValueError that lists all problems, at most `most` of a kind by name."""
    parts = []
    for kind, rows in problems.items():
        if rows:
            more = f", … and {len(rows) - most} more" if len(rows) > most else ""
            parts.append(f"{len(rows)} {kind}: {', '.join(rows[:most])}{more}")
    if parts:
        rows = [row for kind in problems.values() for row in kind]
        head = all(row.startswith("classifier.") for row in rows)
        remedy = "for other labels, save its encoder through BertModel and start from that" if head else FIT_REMEDY
        raise ValueError(f"{source} does not fit this model: {'; '.join(parts)}; {remedy}")


def initialise(model: nn.Module, parts: set[str]) -> None:
    """Memory and fresh values for the parts that the file lacked."""
    for part in sorted(parts):
        module = model.get_submodule(part if hasattr(model, "bert") else part.removeprefix("bert."))
        model.init_weights(module.to_empty(device="cpu"))
