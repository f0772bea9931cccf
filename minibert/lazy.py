"""The public names of a folder, each imported from its file when it is first used (PEP 562).

So a folder's `__init__.py` can list what PyTorch computes with, and `minibert --help` does not wait for PyTorch.
"""

from collections.abc import Callable, Mapping
from importlib import import_module


def face(package: str, files: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        package: its name.
        files: file -> the public names that stand in it, with spaces between them.
    """
    home = {name: file for file, names in files.items() for name in names.split()}

    def get(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(sorted(home))}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return get, lambda: sorted(home)
