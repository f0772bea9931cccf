"""The modules of 0.1.0 under their old names, until 0.3: `import minibert.layout` gives minibert.fast.layout.

It is the same module and not a second copy, and a DeprecationWarning says what to write instead. Kept are the modules
that README and docs of 0.1.0 show; what their models took as `layout=` and `first=` is in fast/old_arguments.py.
"""

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

END = "0.3"
_SAME = {  # folder -> modules that have kept their name
    "core": "config encoding files reference unicode_tables wordpiece",
    "io": "findings",
    "text": "corpus symbols token_file tokenizer tokenizer_files vocab wordpiece_batch",
    "fast": "attention dropout layout replay",
    "inference": "fill_mask jobs",
    "training": "baselines instances ranks report state",
    "look": "activations analysis page parity",
    "check": "course data_checks doctor",
}
PLACES = {name: f"{folder}.{name}" for folder, names in _SAME.items() for name in names.split()} | {
    "checkpoint": "core.weights",
    "data": "io.examples",
    "explain": "look.explanation",
    "hub": "io.bundled",
    "loop": "core.train",
    "model": "fast.models",
    "pretrain": "training.pretraining",
    "table": "text.encode_table",
    "trace": "look.wordpiece_trace",
    "train": "training.fine_tuning",
}


def renamed(old: str) -> ModuleType:
    """The module that has an old name, which may have a part below it: attention.eager. Warns whoever asks for it by
    an import or as an attribute of the package."""
    first, dot, below = old.partition(".")
    new = f"minibert.{PLACES[first]}{dot}{below}"
    warnings.warn(f"minibert.{old} is {new} now; the old name ends with {END}", DeprecationWarning, stacklevel=3)
    module = import_module(new)
    if not dot:
        setattr(sys.modules["minibert"], old, module)
    return module


class OldNames:
    """Finds `minibert.OLD` and what is below it, before the finders that would load a second copy."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, old = name.partition(".")
        if package != "minibert" or old.partition(".")[0] not in PLACES:
            return None
        return ModuleSpec(name, self, origin=old)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = renamed(spec.origin)
        spec.loader_state = module.__spec__  # the import system is about to overwrite it
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = module.__spec__.loader_state
