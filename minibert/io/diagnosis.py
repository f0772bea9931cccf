"""What a directory is whose config, vocabulary or weights do not fit, and what to do: one diagnosis for all who read
one. `explained(DIR)` puts it in place of a reader's own words; the doctor (check/) asks its parts.

It loads no torch, as `minibert encode` reads directories too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from minibert.core.files import read_json
from minibert.core.hub import resolve


class Diagnosis(NamedTuple):
    """What it is, and what to do."""

    what: str
    remedy: str


class Explained(ValueError):
    """A refusal that has been through `explained` already."""


ALONE = Diagnosis("holds a vocabulary alone", "copy config.json and model.safetensors of the same model too")
CONFIG = ("config.json",)
VOCABULARY = ("vocab.txt", "tokenizer.json")
WEIGHTS = tuple(f"{stem}{end}" for stem in ("model.safetensors", "pytorch_model.bin") for end in ("", ".index.json"))
POINTER = b"version https://git-lfs."  # how a pointer of git-lfs begins
KEEP_LINES = "copy the original file again; do not delete lines, ids would move"
FOLDERS = 1000  # entries of a directory that are looked at, for the model may be in one of them

# Models that are there in another form: a pattern of names, what it is, what to do.
CONVERT = (
    "convert it with transformers 4 ({{kind}}.from_pretrained({{name!r}}, from_{}=True).save_pretrained({{name!r}}))"
)
GOOGLES = "convert it with transformers 4 (convert_bert_original_tf_checkpoint_to_pytorch.py)"
RUNNING = "is for running only; take the model.safetensors that it was made from"
FORMATS = {
    "adapter_*": ("an adapter, which only changes a model", "merge it (merge_and_unload of peft), and save that"),
    "*.ckpt.index": ("a TensorFlow checkpoint as Google published them", GOOGLES),
    "*.ckpt.data-*": ("a TensorFlow checkpoint as Google published them", GOOGLES),
    "*.h5": ("TensorFlow weights", CONVERT.format("tf")),
    "*.msgpack": ("Flax weights", CONVERT.format("flax")),
    "*.ot": ("weights of rust-bert", "take the model.safetensors or pytorch_model.bin that they were made from"),
    "*.onnx": ("an ONNX graph", f"it {RUNNING}"),
    "openvino_model.*": ("an OpenVINO graph", f"it {RUNNING}"),
    "*.gguf": ("GGUF weights for llama.cpp", f"it {RUNNING}"),
    "*.mlmodel": ("a Core ML model", f"it {RUNNING}"),
    "state-*.pt": (
        "a run that has saved its state and no model yet",
        "go on with it: minibert {command} --resume {name}",
    ),
    "run.json": ("a run that has saved nothing yet", "run its command again, or give the directory of a model"),
    "model-*-of-*.safetensors": ("shards without their index", "copy model.safetensors.index.json too"),
    "pytorch_model-*-of-*.bin": ("shards without their index", "copy pytorch_model.bin.index.json too"),
    "*.safetensors": ("weights of another name", "rename them to model.safetensors"),
    "optimizer.*": ("the state of a training alone", "give the directory that the model was saved to"),
    "training_args.bin": ("the state of a training alone", "give the directory that the model was saved to"),
    "*.bin": ("weights of another name", "rename them to pytorch_model.bin"),
    "*.p[tk]*": ("a file of PyTorch", "rename it to pytorch_model.bin, if it holds the model's state_dict"),
    "*.ckpt": ("a file of PyTorch", "rename it to pytorch_model.bin, if it holds the model's state_dict"),
}
TOKENIZERS = {  # of other models
    "merges.txt": "byte-pair tokens, as RoBERTa and GPT have them",
    "*.model": "a SentencePiece model, as ALBERT and XLM-R have it",
}
# What a refusal says -> a better remedy than the reader's, which knows one name or one line
SIGNS = {
    r"stands on lines \d+ and \d+": KEEP_LINES,
    r"lora_[AB]\b|\.base_layer\.": FORMATS["adapter_*"][1],
    r"\.(weight_scale|SCB|scales|qweight|qzeros|absmax|quant_map)\b|holds torch\.u?int|quantization_config is": (
        "the weights are quantised: take the model in float32, float16 or bfloat16"
    ),
    r"pruned_heads is|attention\.(self|output)\.\w+\.\w+ is \[[^a-z]* wanted": (
        "were heads pruned? Their layers are smaller: take the model before it was pruned"
    ),
    r" roberta\.": "take the weights of a BERT; these are a RoBERTa's, which counts positions from 2",
    r"lacks [^;]*a masked-LM head": "choose a masked LM, or make one: minibert pretrain --corpus FILE --out DIR",
}


def is_pointer(path: Path) -> bool:
    """Whether a file is what a clone of a repository without git-lfs has in place of a large one."""
    if not path.is_file() or path.stat().st_size >= 1000:
        return False
    with open(path, "rb") as file:
        return file.read(len(POINTER)) == POINTER


def pointer(path: Path) -> Diagnosis:
    """What to say of one."""
    return Diagnosis(f"{path.name} is a pointer of git-lfs, not the file", "git lfs pull, or download it")


def has(directory: Path, names: tuple[str, ...]) -> bool:
    return any((directory / name).is_file() for name in names)


def absent(directory: Path) -> Diagnosis | None:
    """Of a directory that lacks its config or its weights, what it has. None: it has both."""
    config, weights = has(directory, CONFIG), has(directory, WEIGHTS)
    if config and weights:
        return None
    if not config and (inner := newest_below(directory)):
        return Diagnosis("holds a model in a folder below it", f"give {inner}")
    for pattern, (what, remedy) in FORMATS.items() if not weights else ():
        if found := sorted(filter(Path.is_file, directory.glob(pattern))):
            names = {"name": str(directory), "command": command(directory), "kind": kind(directory)}
            return Diagnosis(f"holds {what} ({found[0].name})", remedy.format(**names))
    if config and (inner := newest_below(directory)):
        return Diagnosis("holds no weights, but a folder below it does", f"give {inner}")
    if config:
        return Diagnosis("holds a config.json and no weights", "copy model.safetensors of the same model too")
    if weights and has(directory, ("bert_config.json",)):
        return Diagnosis("has its config under Google's name", "rename bert_config.json to config.json")
    if weights:
        return Diagnosis("holds weights and no config.json", "copy it from the same model")
    if has(directory, VOCABULARY):
        return ALONE
    return Diagnosis("holds no config.json, no vocab.txt, no weights", "give a model's directory")


def without_vocabulary(directory: Path) -> Diagnosis:
    """Of a directory that has no vocabulary, what else it has."""
    for pattern, what in TOKENIZERS.items():
        if found := sorted(directory.glob(pattern)):
            remedy = "it is no BERT's; choose a model with a vocab.txt"
            return Diagnosis(f"holds {what} ({found[0].name}), and no vocab.txt", remedy)
    if has(directory, CONFIG) and has(directory, WEIGHTS):
        return Diagnosis("holds a model without its vocabulary", "copy vocab.txt of the same model too")
    return absent(directory) or Diagnosis("no vocab.txt and no tokenizer.json", "copy one of them too")


def newest_below(directory: Path) -> Path | None:
    """Of the models in folders of a directory the newest: the largest checkpoint-N, else the last written one."""
    found = []
    with suppress(OSError):
        for _, path in zip(range(FOLDERS), directory.iterdir(), strict=False):
            if has(path, CONFIG) and has(path, WEIGHTS):
                number = re.fullmatch(r"checkpoint-(\d{1,18})", path.name)
                found.append((int(number.group(1)) if number else -1, (path / CONFIG[0]).stat().st_mtime, path))
    return max(found)[-1] if found else None


def adapted(directory: Path) -> str:
    """The name of the model that an adapter changes, as words for a message."""
    name = entry(directory / "adapter_config.json", "base_model_name_or_path")
    return f" of {name[:100]!r}" if isinstance(name, str) else ""


def command(directory: Path) -> str:
    """The command that a run of ours is of."""
    options = entry(directory / "run.json", "options")
    return "pretrain" if isinstance(options, dict) and "corpus" in options else "train"


def kind(directory: Path) -> str:
    """The class of transformers that a config.json names, where it is a BERT's."""
    named = entry(directory / CONFIG[0], "architectures")
    name = named[0] if isinstance(named, list) and named else None
    return name if isinstance(name, str) and re.fullmatch(r"BertFor[A-Za-z]{1,40}", name) else "BertModel"


def entry(path: Path, name: str) -> object:
    """One of a small JSON file's values; None where it cannot be read."""
    with suppress(ValueError, AttributeError):
        return read_json(path, "").get(name)
    return None


# ---- in place of a reader's words ----


def better(directory: Path, reason: str) -> str:
    """A reader's line about a file of the directory, with the diagnosis where there is one."""
    if reason.startswith("the vocabulary"):  # of a reader that had no file
        listed = next((name for name in VOCABULARY if has(directory, (name,))), "")
        reason = f"{directory / listed}: {reason}"
    for path in (directory / name for name in (*CONFIG, *VOCABULARY, *WEIGHTS)):
        if str(path) in reason and is_pointer(path):
            return f"{directory}: {'; '.join(pointer(path))}"
    found = None
    if "no vocab.txt" in reason and not has(directory, VOCABULARY):
        found = without_vocabulary(directory)
    elif reason.startswith((f"{directory / CONFIG[0]}: No such file", f"{directory}: holds no ")):
        found = absent(directory)
    if found:
        return f"{directory}: {found.what}{adapted(directory)}; {found.remedy}"
    if remedy := fitting(reason):
        return f"{reason.rpartition('; ')[0] or reason}; {remedy}"
    return reason


def fitting(reason: str) -> str | None:
    """The remedy for what a refusal of weights, config or vocabulary shows."""
    return next((remedy for sign, remedy in SIGNS.items() if re.search(sign, reason)), None)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Reading a directory, or a file of it, inside: a refusal, which is a ValueError, says what the directory is."""
    try:
        yield
    except Explained:
        raise
    except ValueError as reason:
        raise Explained(better(path if path.is_dir() else path.parent, str(reason))) from None


@contextmanager
def explained_name(name: str | Path) -> Iterator[Path]:
    """`explained` for what a name stands for: a file, a directory, or the hub's."""
    path = Path(name) if Path(name).is_file() else resolve(name)
    with explained(path):
        yield path
