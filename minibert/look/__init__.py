"""Inside a forward pass: capture and change any activation, analyses of a prediction, a page that draws them, and where
a model first differs from the reference.

Not here: training, of which nothing in this folder knows.
Read activations.py first.
"""

from minibert.lazy import face

FILES = {
    "activations": "Capture capture intervene",
    "analysis": "head_contributions logit_lens rollout token_contributions",
    "explanation": "explain explained write_page",
    "options": "ExplainOptions ParityOptions",
    "parity": "ladder",
    "wordpiece_trace": "trace",
}

__getattr__, __dir__ = face(__name__, FILES)
