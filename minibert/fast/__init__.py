"""What makes core/ fast: batches without padding, attention backends, Triton kernels, cheap dropout, CUDA graphs.

Not here: anything that is specified; each file computes what a file of core/ says, and a test proves them equal.
Read layout.py first, which answers the model's questions for packed rows.
"""

from minibert.lazy import face

FILES = {
    "attention": "attend attention_backends",
    "layout": "Packed pack pad",
    "models": "BertForMaskedLM BertForPreTraining BertForSequenceClassification BertModel",
    "prepacked": "prepack",
    "replay": "Replays",
    "twins": "prepare",
}

__getattr__, __dir__ = face(__name__, FILES)
