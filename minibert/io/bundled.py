"""Where a model's files are: core/hub.py, and the small pretrained BERT that this package brings."""

from __future__ import annotations

from pathlib import Path

from minibert.core.hub import NAMED, resolve

__all__ = ["ASSETS", "BUNDLED", "resolve"]

BUNDLED = "bundled"  # its name; a directory of your own of that name is ./bundled. Its card says what it can do
ASSETS = Path(__file__).parents[1] / "assets"

NAMED[BUNDLED] = ASSETS / BUNDLED
