"""What nvidia-smi says of the GPUs here. Without torch, so that it can be asked for at any time."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

SECONDS = 5  # a driver that has hung answers never


def readings(fields: Sequence[str]) -> list[dict[str, str]]:
    """The fields of each GPU, in its own words; [] where there is no nvidia-smi, or it does not answer."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError):
        return []
    return [dict(zip(fields, map(str.strip, line.split(",")), strict=True)) for line in done.stdout.splitlines()]
