"""Files from outside, and what is said while they are read: data files as checked rows, older `.bin` weights with the
checks that keep a hostile one from harm, bundled models by name, findings, lines on stderr, signals.

Not here: what core reads by itself (config.json, safetensors, vocab.txt), and text files of any size (text/).
Read examples.py first.
"""

from minibert.lazy import face

FILES = {
    "bundled": "ASSETS BUNDLED resolve",
    "examples": "read_examples",
    "findings": "Finding",
    "signals": "Interrupt",
    "stderr": "say",
}

__getattr__, __dir__ = face(__name__, FILES)
