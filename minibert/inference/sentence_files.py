"""What a sentence-transformers directory says of its vectors, in the layouts of releases 1 to 6.

    modules.json                       the steps: Transformer, Pooling, Normalize, and the folder of each
    0_Transformer/ or the directory    the BERT, and sentence_bert_config.json: max_seq_length, do_lower_case
    1_Pooling/config.json              which of POOLINGS, as flags (before release 6) or as pooling_mode
    config_sentence_transformers.json  what stands before every text: default_prompt_name

A step or a setting that would change the vectors, and that minibert does not follow, is refused by its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import NamedTuple

from minibert.core.files import read_json, read_object, write_json
from minibert.inference.options import POOLINGS

REMEDY = "copy the model's whole directory again"
ELSEWHERE = "take sentence-transformers for this model"
INSTEAD = f"{ELSEWHERE}, or choose the pooling yourself: --pooling mean"
UNKNOWN = 10**30  # the length that transformers means by none

# Our names of POOLINGS -> theirs in `pooling_mode`, and as flags `pooling_mode_…`
MODES = dict(zip(POOLINGS, ("cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"), strict=True))
FLAGS = dict(zip(POOLINGS, ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"), strict=False))
FLAGS |= {"weighted-mean": "weightedmean_tokens", "last": "lasttoken"}

# Keys of a step's file that change its vectors, and the values that minibert implements
TRANSFORMER = {
    "transformer_task": ("feature-extraction",),
    "module_output_name": ("token_embeddings",),
    **dict.fromkeys(("processing_kwargs", "processor_kwargs", "tokenizer_args", "config_kwargs", "config_args"), ({},)),
    **dict.fromkeys(("model_kwargs", "model_args"), ({},)),
}
TEXT = {"method": ("forward",), "method_output_name": ("last_hidden_state",)}
NORMALIZE = dict.fromkeys(("module_input_name", "module_output_name"), ("sentence_embedding",))


class SentenceFiles(NamedTuple):
    """The defaults are those of a directory without modules.json.

    folder: of the BERT and its tokenizer. max_length: tokens of a text that are read, None: as the tokenizer's files
    say. lowercase: whether texts are lowercased even where the tokenizer is not told to. prompt: what stands before
    every text.
    """

    folder: Path
    pooling: str = "mean"
    normalize: bool = False
    max_length: int | None = None
    lowercase: bool = False
    prompt: str = ""


def read_files(directory: Path, pooling: str | None = None) -> SentenceFiles:
    """What the directory says. pooling: one of POOLINGS that is to go before what its files say; then only a Normalize
    is followed of the steps after the Transformer.

    Raises:
        ValueError: a file is broken, or asks for what minibert does not do: the file, the value, what to do.
    """
    if not (directory / "modules.json").exists():
        return SentenceFiles(directory, pooling or "mean")
    path = directory / "config_sentence_transformers.json"
    settings = read_object(path, needed=False)
    if settings.get("model_type") == "CrossEncoder":  # its modules give scores: of its vectors they say nothing
        return SentenceFiles(directory, pooling or "mean")
    check(path, settings, {"model_type": ("SentenceTransformer",), "truncate_dim": (None,)})
    prompt = read_prompt(path, settings)
    modules = directory / "modules.json"
    steps = list(read_steps(modules))
    kinds = [kind for kind, _ in steps]
    if kinds[:1] != ["Transformer"]:
        found = kinds[0] if kinds else "nothing"
        raise ValueError(f"{modules}: begins with {found}, where minibert implements Transformer only; {ELSEWHERE}")
    known = {"Normalize": NORMALIZE, "Pooling": {"include_prompt": (True,)} if prompt else {}}
    for kind, place in steps:
        if kind in known:
            check(place / "config.json", read_object(place / "config.json", needed=False), known[kind])
    max_length, lowercase = read_transformer(steps[0][1])
    if pooling is None:
        check_steps(modules, kinds)
        pooling = read_pooling(steps[1][1] / "config.json")
    return SentenceFiles(steps[0][1], pooling, "Normalize" in kinds, max_length, lowercase, prompt)


def check(path: Path, found: Mapping[str, object], known: Mapping[str, tuple[object, ...]]) -> None:
    """Raises ValueError for a value of a file that is none of the known; a key that is left out, or null, is fine."""
    for key, values in known.items():
        if found.get(key) is not None and found[key] not in values:
            wanted = json.dumps(values[0])
            raise ValueError(
                f"{path}: {key} is {short(found[key])}, where minibert implements {wanted} only; {ELSEWHERE}"
            )


def read_steps(path: Path) -> Iterator[tuple[str, Path]]:
    """(kind, its folder) of each step of a modules.json. A class that is not sentence-transformers' own keeps its whole
    name, and so is none that anybody looks for."""
    found = read_json(path, REMEDY)
    for step in found if isinstance(found, list) else [None]:
        kind, place = (step.get("type"), step.get("path")) if isinstance(step, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(place, str):
            raise ValueError(f"{path}: not a list of steps, each with its type and path; {REMEDY}")
        if Path(place).is_absolute() or ".." in Path(place).parts:
            raise ValueError(f"{path}: path {short(place)} leads out of the directory; {REMEDY}")
        own = kind.startswith("sentence_transformers.")
        yield kind.rpartition(".")[2] if own else kind, path.parent / place


def check_steps(path: Path, kinds: Sequence[str]) -> None:
    """Raises ValueError for steps behind the Transformer that are not a Pooling and then nothing but a Normalize."""
    for number, kind in enumerate(kinds[1:], 1):
        wanted = "Pooling" if number == 1 else "Normalize"
        if kind != wanted:
            raise ValueError(f"{path}: step {number} is {kind}, where minibert implements {wanted} only; {INSTEAD}")
    if len(kinds) == 1:
        raise ValueError(f"{path}: has no Pooling; {INSTEAD}")


def read_pooling(path: Path) -> str:
    """The one of POOLINGS that a Pooling's config.json asks for."""
    found = read_object(path)
    said = found.get("pooling_mode")
    if said is None:  # no flag at all is their default
        flags = {f"pooling_mode_{flag}": MODES[name] for name, flag in FLAGS.items()}
        on = [key for key, value in found.items() if key.startswith("pooling_mode_") and value]
        said = [flags.get(key, key) for key in on] or ["mean"]
    modes = said if isinstance(said, list) else [said]
    if len(modes) != 1:
        several = " and ".join(map(str, modes)) or "nothing"
        raise ValueError(f"{path}: pooling_mode is {several}, where minibert implements one at a time; {INSTEAD}")
    for name, mode in MODES.items():
        if mode == modes[0]:
            return name
    raise ValueError(f"{path}: pooling_mode is {short(modes[0])}, none of {', '.join(MODES.values())}; {INSTEAD}")


def read_transformer(folder: Path) -> tuple[int, bool]:
    """The tokens of a text that are read (UNKNOWN: as many as the model has positions), and whether to lowercase."""
    # Some are named after another model; theirs is read first where there are several
    paths = sorted(folder.glob("sentence_*_config.json"), key=lambda path: path.name != "sentence_bert_config.json")
    path = [*paths, folder / "sentence_bert_config.json"][0]
    found = read_object(path, needed=False)
    check(path, found, TRANSFORMER)
    modalities = found.get("modality_config") or {"text": {}}
    text = modalities.get("text") if isinstance(modalities, dict) else None
    if not isinstance(text, dict):
        raise ValueError(f"{path}: modality_config is {short(modalities)}, without text; {REMEDY}")
    check(path, text, TEXT)
    length, lowercase = found.get("max_seq_length"), found.get("do_lower_case") or False
    if length is not None and (type(length) is not int or length < 2):
        raise ValueError(f"{path}: max_seq_length is {short(length)}; it must be a whole number from 2, or null")
    if not isinstance(lowercase, bool):
        raise ValueError(f"{path}: do_lower_case is {short(lowercase)}; it must be true or false")
    if length is None:
        tokenizer = read_object(folder / "tokenizer_config.json", needed=False)
        length = tokenizer.get("model_max_length", tokenizer.get("max_len"))
    return length if type(length) is int and length > 0 else UNKNOWN, lowercase


def read_prompt(path: Path, settings: Mapping[str, object]) -> str:
    """What stands before every text that no other prompt is asked for."""
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts") or {}
    if name is None:
        return ""
    known = {"query": "", "document": ""} | (prompts if isinstance(prompts, dict) else {})
    prompt = known.get(name, False) if isinstance(name, str) else False
    if not isinstance(prompt, str | None):
        raise ValueError(f"{path}: default_prompt_name is {short(name)}, which prompts does not have; {REMEDY}")
    return prompt or ""


def write_files(directory: Path, pooling: str, normalize: bool, max_length: int, prompt: str, width: int) -> None:
    """All but the BERT and its tokenizer, which stand in `directory` itself; as releases 2 to 6 read it. width: E."""
    kinds = ["Transformer", "Pooling", *["Normalize"] * normalize]
    steps = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    for step in steps[1:]:
        (directory / step["path"]).mkdir(parents=True, exist_ok=True)
    flags = {f"pooling_mode_{flag}": name == pooling for name, flag in FLAGS.items()}
    pooled = {"word_embedding_dimension": width, **flags, "include_prompt": True}
    write_json(directory / "1_Pooling" / "config.json", pooled)
    if normalize:
        write_json(directory / "2_Normalize" / "config.json", {})
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    prompts = {"prompts": {"default": prompt}, "default_prompt_name": "default"} if prompt else {"prompts": {}}
    write_json(directory / "config_sentence_transformers.json", {"default_prompt_name": None, **prompts})
    write_json(directory / "modules.json", steps)
