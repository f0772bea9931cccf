"""A model from a directory and back: config.json and model.safetensors.

The names inside are those of Hugging Face's BERT (checkpoint.py), so `transformers` and minibert read each other's
directories. Nothing is unpickled.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import safetensors.torch
import torch
from torch import Tensor, nn

from .checkpoint import PARTS, audit, back_name, complain, model_tensors, prefix_of, read_weights
from .config import BertConfig, numbered_labels
from .files import atomic_write, json_bytes
from .hub import resolve

logger = logging.getLogger("minibert")


class Pretrained:
    """`from_pretrained` and `save_pretrained` for a model class, which itself knows no files.

    The class brings its `config`, and `init_weights(module)` for the parts that a checkpoint lacks.
    """

    config: BertConfig
    # Two steps of from_pretrained. minibert/fast/loading.py puts others in their place, which know more kinds of files.
    read_weights, audit = staticmethod(read_weights), staticmethod(audit)

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

        attention: a backend of attention.py. num_labels: of the classification head, where the config does not say.
        config: replaces the checkpoint's own (to change dropout or name the labels).
        fresh_heads: whether a head that the checkpoint lacks may be initialised, to be trained, or is an error.
        mapped: leaves the weights in the safetensors file and reads what is used when it is used: for a quick answer,
            as long as nobody writes into that file.

        Raises ValueError where the directory, its config or its weights cannot be used; it says what and why.
        """
        directory = resolve(name)
        config = config or BertConfig.from_file(directory / "config.json")
        if num_labels is not None and num_labels != config.num_labels:
            config = config.replace(id2label=numbered_labels(num_labels))
        model = cls.without_memory(config, attention)
        weights_file, found = cls.read_weights(directory)
        load_weights(model, found, str(weights_file), fresh_heads, mapped)
        return model.eval()

    @classmethod
    def without_memory(cls, config: BertConfig, attention: str = "auto") -> Self:
        """A model whose tensors have shapes only: an absurd config must fail on the file's shapes, not on malloc."""
        with torch.device("meta"):
            return cls(config, attention)

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes config.json and model.safetensors, each whole or not at all, as `transformers` reads them."""
        directory = Path(directory)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in export_weights(self).items()}
        config = {"architectures": [type(self).__name__], **self.config.to_dict()}
        settings = json_bytes(config)  # may fail on a label's name, so before anything is written
        directory.mkdir(parents=True, exist_ok=True)
        atomic_write(directory / "model.safetensors", safetensors.torch.save(tensors, metadata={"format": "pt"}))
        atomic_write(directory / "config.json", settings)


def load_weights(
    model: nn.Module, found: Mapping[str, Tensor], source: str, fresh_heads: bool = True, mapped: bool = False
) -> None:
    """Fills the model with a file's tensors, every key used exactly once, as float32. mapped: without copying them.

    A whole part (pooler or head) that the file lacks is freshly initialised; one that the model lacks is left. Both
    are logged in one line. Without fresh_heads nothing is: a bare encoder then goes without its pooler.

    Raises ValueError that lists missing, unexpected and mismatched keys with their shapes, or names a part that the
    file lacks without fresh_heads, or a weight that is no number.
    """
    wanted, prefix = model_tensors(model), prefix_of(model)
    offered, fresh, left, problems = model.audit(model, found, source)
    complain(source, problems)
    if not fresh_heads and prefix and fresh:
        model.pooler, fresh = None, set()
    if fresh and not fresh_heads:
        brings = f" (it brings {listed(left)})" if left else ""
        remedy = "train it first (minibert train), or take its encoder alone (minibert embed)"
        raise ValueError(f"{source} lacks {listed(fresh)}{brings}, so it has no answers yet; {remedy}")
    state = {}
    for key in wanted.keys() & offered.keys():
        tensor = offered[key].to(torch.float32, copy=not mapped, memory_format=torch.contiguous_format).contiguous()
        if not tensor.sum().isfinite() and not tensor.isfinite().all():
            remedy = "training diverged, or the file is damaged; take an earlier checkpoint"
            raise ValueError(f"{source}: {back_name(key)} holds NaN or infinity: {remedy}")
        state[key.removeprefix(prefix)] = tensor
    model.load_state_dict(state, strict=False, assign=True)
    for part in sorted(fresh):
        module = model.get_submodule(part.removeprefix(prefix))
        model.init_weights(module.to_empty(device="cpu").to(torch.float32))
    if fresh:
        logger.warning("%s lacks %s: freshly initialised, to be trained", source, listed(fresh))
    if left:  # whoever trains loses them; whoever only asks does not miss our own
        level = logging.WARNING if fresh_heads or left - PARTS.keys() else logging.INFO
        logger.log(level, "%s brings %s: not used here", source, listed(left))


def listed(parts: Iterable[str]) -> str:
    return " and ".join(PARTS.get(part, part) for part in sorted(parts))


def export_weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights under Hugging Face's names; a bare BertModel's without prefix, as transformers saves it."""
    prefix = prefix_of(model)
    return {back_name(name).removeprefix(prefix): tensor for name, tensor in model_tensors(model).items()}
