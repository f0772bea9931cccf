"""Text at speed and in bulk: the fast twin of WordPiece, tokenizer.json, corpora on disk, learning a vocabulary.

Not here: the specification that the twin is proven equal to (core/wordpiece.py, core/tokenizer.py).
Read tokenizer.py first.
"""

from minibert.lazy import face

FILES = {
    "corpus": "Corpus open_corpus",
    "encode_table": "encoding_dict encoding_table",
    "options": "EncodeOptions VocabOptions",
    "token_file": "TokenFile",
    "tokenizer": "Encoding Tokenizer",
    "vocab": "learn_vocabulary vocabulary_of_files",
}

__getattr__, __dir__ = face(__name__, FILES)
