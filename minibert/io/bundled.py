"""Where a model's files are: core/hub.py, and the small pretrained BERT that this package brings."""

from __future__ import annotations

from pathlib import Path

from minibert.core import hub
from minibert.core.hub import NAMED, OLD_PATTERNS, PATTERNS

BUNDLED = "bundled"  # its name; a directory of your own of that name is ./bundled. Its card says what it can do
ASSETS = Path(__file__).parents[1] / "assets"

NAMED[BUNDLED] = ASSETS / BUNDLED

# What sentence-transformers adds to a model (inference/sentence_files.py); `*` stands for folders too.
SENTENCES = ["modules.json", "config_sentence_transformers.json", "*sentence_*_config.json"]
SENTENCES += ["*_Pooling/config.json", "*_Normalize/config.json", *(f"0_*/{one}" for one in PATTERNS)]
if "modules.json" not in PATTERNS:
    OLD_PATTERNS.extend([f"0_*/{one}" for one in OLD_PATTERNS])
    PATTERNS.extend(SENTENCES)


def resolve(name: str | Path) -> Path:
    """As core's; of a sentence-transformers directory whose BERT has a folder of its own, that folder."""
    directory = hub.resolve(name)
    folders = [path.parent for path in directory.glob("0_*/config.json")]
    inside = len(folders) == 1 and (directory / "modules.json").exists() and not (directory / "config.json").exists()
    return folders[0] if inside else directory
