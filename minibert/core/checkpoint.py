"""What a checkpoint holds: tensors in a safetensors file, under Hugging Face's names; ours, one table between the two,
and the audit in which every key of a file is used exactly once, or named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from reprlib import repr as short
from typing import NamedTuple

import safetensors
import torch
from torch import Tensor, nn

# ---- names ----

# Module by module, theirs -> ours; ".weight" and ".bias" follow by themselves.
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

# Parts that a checkpoint may lack (they are initialised) or bring in vain (they are left), and what to call them.
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

OLD_SUFFIXES = {"gamma": "weight", "beta": "bias"}  # LayerNorm's names in Google's and the oldest PyTorch files


def their_name(key: str) -> str:
    """A key in today's spelling: `embeddings.LayerNorm.gamma` -> `bert.embeddings.LayerNorm.weight`."""
    module, _, last = key.rpartition(".")
    if module.endswith("LayerNorm"):
        key = f"{module}.{OLD_SUFFIXES.get(last, last)}"
    return f"bert.{key}" if key.startswith(("embeddings.", "encoder.", "pooler.")) else key


def translate(key: str, table: Mapping[str, str]) -> str | None:
    """A key by TABLE or BACK, its layer number carried over. None: not in the table."""
    module, _, last = key.rpartition(".")
    number = re.search(r"(?<=\.)(0|[1-9][0-9]{0,3})(?=\.)", module)
    pattern = module if number is None else f"{module[: number.start()]}{{}}{module[number.end() :]}"
    if pattern not in table or last not in ("weight", "bias") or "{}" in module:
        return None
    return f"{table[pattern].format(number and number.group())}.{last}"


def back_name(key: str) -> str:
    """Our full name -> Hugging Face's."""
    theirs = translate(key, BACK)
    assert theirs is not None, f"{key} is missing in the table"
    return theirs


def prefix_of(model: nn.Module) -> str:
    """What full names have before those of the model: BertModel's own lack what the others begin with."""
    return "" if hasattr(model, "bert") else "bert."


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights under our full names."""
    return {prefix_of(model) + name: tensor for name, tensor in model.state_dict().items()}


# ---- the audit ----

FIT_REMEDY = "take config.json and weights that belong together, of a BERT"


class Audit(NamedTuple):
    """What a file's keys are to a model."""

    offered: dict[str, Tensor]  # the file's tensors under our names
    fresh: set[str]  # parts that the file lacks
    left: set[str]  # parts that the model lacks
    problems: dict[str, list[str]]  # "missing", "unexpected", "mismatched": keys, in Hugging Face's names


def audit(model: nn.Module, found: Mapping[str, Tensor], source: str) -> Audit:
    """Compares a model's tensors with a file's, by name, shape and kind of number; their values are not looked at.

    Raises ValueError where the file holds one weight twice, see `rename`.
    """
    wanted = model_tensors(model)
    offered, unknown = rename(found, source)
    missing, unused = sorted(wanted.keys() - offered.keys()), sorted(offered.keys() - wanted.keys())
    fresh, left = parts(missing) - parts(offered), parts(unused) - parts(wanted)
    lacking = [back_name(key) for key in missing if part_of(key) not in fresh]
    unexpected = unknown + [back_name(key) for key in unused if part_of(key) not in left]
    problems: dict[str, list[str]] = {"missing": lacking, "unexpected": unexpected, "mismatched": []}
    for key in sorted(wanted.keys() & offered.keys()):
        tensor, shape = offered[key], list(wanted[key].shape)
        if list(tensor.shape) != shape:
            problems["mismatched"].append(f"{back_name(key)} is {list(tensor.shape)}, wanted {shape}")
        elif not tensor.dtype.is_floating_point:
            problems["mismatched"].append(f"{back_name(key)} holds {tensor.dtype}, wanted floating-point numbers")
    return Audit(offered, fresh, left, problems)


def rename(found: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """A file's tensors under our names, shared ones once, and the keys that no BERT has.

    Raises ValueError where two keys are one weight, unless they are the two names of a shared one and equal.
    """
    ours: dict[str, Tensor] = {}
    spelled: dict[str, str] = {}
    unknown = []
    for key, tensor in found.items():
        theirs = their_name(key)
        name = translate(TIED.get(theirs, theirs), TABLE)
        if name is None:
            unknown += [] if BUFFERS.fullmatch(key) else [printable(key)]
        elif name not in ours:
            ours[name], spelled[name] = tensor, key
        else:
            pair = f"{printable(spelled[name])} {list(ours[name].shape)} and {printable(key)} {list(tensor.shape)}"
            if theirs not in TIED and their_name(spelled[name]) not in TIED:
                raise ValueError(f"{source}: holds one weight twice, as {pair}; keep one of them")
            if ours[name].shape != tensor.shape or not torch.equal(ours[name], tensor):
                remedy = "minibert has no untied decoder, choose a checkpoint with a tied one"
                raise ValueError(f"{source}: {pair} differ, which BERT shares; {remedy}")
    return ours, sorted(unknown)


def part_of(key: str) -> str | None:
    """The optional part that a weight belongs to."""
    return next((part for part in PARTS if key.startswith(f"{part}.")), None)


def parts(keys: Iterable[str]) -> set[str]:
    """The optional parts that these weights belong to."""
    return {part for key in keys if (part := part_of(key))}


def complain(source: str, problems: Mapping[str, list[str]], most: int = 6) -> None:
    """Raises one ValueError that lists all problems, at most `most` of a kind by name; nothing where there is none."""
    lists = []
    for kind, rows in problems.items():
        more = f", … and {len(rows) - most} more" if len(rows) > most else ""
        lists += [f"{len(rows)} {kind}: {', '.join(rows[:most])}{more}"] * bool(rows)
    if lists:
        head = all(row.startswith("classifier.") for rows in problems.values() for row in rows)
        remedy = "its labels are not config.json's; minibert train makes a new head for yours" if head else FIT_REMEDY
        raise ValueError(f"{source} does not fit this model: {'; '.join(lists)}; {remedy}")


# ---- the file ----


def read_weights(directory: Path) -> tuple[Path, dict[str, Tensor]]:
    """A directory's model.safetensors: its path, and its tensors under the names that it has for them.

    Raises ValueError for a file that is missing or damaged.
    """
    path = directory / "model.safetensors"
    if not path.is_file():
        remedy = "give a model directory with its weights; minibert.BertModel reads shards and older files too"
        raise ValueError(f"{directory}: holds no {path.name}; {remedy}")
    return path, dict(each_of_safetensors(path))


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
