"""What `from_pretrained` does here that core/weights.py does not: more kinds of files, heads of other classes, refusals
that say what the directory is, and a start that does not wait for PyTorch's compiler. Importing this module adds it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path

from torch.overrides import TorchFunctionMode

from minibert.core.config import BertConfig
from minibert.core.hub import resolve
from minibert.core.weights import Pretrained
from minibert.io.diagnosis import explained
from minibert.io.other_heads import audit
from minibert.io.weight_files import read_weights

READ_MODEL, WITHOUT_MEMORY = Pretrained.from_pretrained.__func__, Pretrained.without_memory.__func__
READ_CONFIG = BertConfig.from_file.__func__


class LeftUnfilled(TorchFunctionMode):
    """Skips torch.nn.init: on "meta" there is nothing to fill, yet PyTorch would load its compiler for it."""

    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        filling = getattr(function, "__module__", None) == "torch.nn.init"
        return None if filling else function(*args, **(kwargs or {}))


@wraps(WITHOUT_MEMORY)
def without_memory(cls: type[Pretrained], *arguments: object, **options: object) -> Pretrained:
    with LeftUnfilled():
        return WITHOUT_MEMORY(cls, *arguments, **options)


@wraps(READ_MODEL)
def from_pretrained(cls: type[Pretrained], name: str | Path, *arguments: object, **options: object) -> Pretrained:
    directory = resolve(name)
    with explained(directory):
        return READ_MODEL(cls, directory, *arguments, **options)


@wraps(READ_CONFIG)
def from_file(cls: type[BertConfig], path: str | Path) -> BertConfig:
    with explained(Path(path)):
        return READ_CONFIG(cls, path)


Pretrained.read_weights, Pretrained.audit = staticmethod(read_weights), staticmethod(audit)
Pretrained.without_memory, Pretrained.from_pretrained = classmethod(without_memory), classmethod(from_pretrained)
BertConfig.from_file = classmethod(from_file)
