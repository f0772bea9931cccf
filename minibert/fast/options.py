"""Names that the options of several commands offer, listed without loading PyTorch; tests/test_structure.py proves
that the lists are complete.
"""

from __future__ import annotations

ATTENTION = (  # backends
    *("eager", "sdpa", "sdpa-math", "sdpa-efficient", "sdpa-flash", "sdpa-cudnn"),
    *("flex", "varlen", "triton"),
)
PRECISIONS = ("fp32", "bf16", "auto")  # auto: bf16 where the device is made for it
LAYOUTS = ("packed", "padded")
