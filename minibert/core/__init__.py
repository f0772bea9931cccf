"""The minimal BERT: from a text to its pieces, through the model, to a trained classifier, and nothing else.

It imports PyTorch, numpy, safetensors and itself, so a copy of this folder works anywhere. What is faster, larger or
reads more kinds of files stands on it, in the folders beside. Read wordpiece.py first, then model.py, then train.py.
"""
