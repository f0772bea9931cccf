"""The words of `transformers` in a call of the tokenizer, which mean here what they mean there.

    tokenizer(texts, padding=True, truncation=True, return_tensors="pt")       a mapping, for model(**encoding)

A call with one of them is theirs altogether: what it leaves open is as there (no padding, no truncation, lists), and so
is what it returns.
"""

from collections import UserDict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minibert.core.encoding import Options
from minibert.core.tokenizer import Tokenizer

PADDINGS = {True: "longest", False: "none", None: "none", "do_not_pad": "none"}
PADDED = ("longest", "max_length", "none")
TRUNCATIONS = {True: "longest_first", False: "none", None: "none", "do_not_truncate": "none"}
DEFAULTS = {  # the words that only they have, and what these are there if they are not said
    "text": None,
    "text_pair": None,
    "add_special_tokens": True,
    "return_tensors": None,
    "return_token_type_ids": True,
    "return_attention_mask": True,
    "return_special_tokens_mask": False,
    "return_offsets_mapping": False,
    "return_length": False,
    "verbose": True,
}
ABSENT = {  # what is there and not here, and what to do
    "stride": "cut long texts yourself, at tokenizer.border(text, position)",
    "return_overflowing_tokens": "cut long texts yourself, at tokenizer.border(text, position)",
    "is_split_into_words": "join the words with spaces",
    "padding_side": "BERT is padded on the right",
    "truncation_side": "BERT's texts are cut on the right",
    "text_target": "BERT has no target texts",
    "text_pair_target": "BERT has no target texts",
}
NAMES = {  # theirs, in their order -> ours, and the word that asks for it
    "input_ids": ("input_ids", None),
    "token_type_ids": ("token_type_ids", "return_token_type_ids"),
    "attention_mask": ("attention_mask", "return_attention_mask"),
    "special_tokens_mask": ("special_tokens_mask", "return_special_tokens_mask"),
    "offset_mapping": ("offsets", "return_offsets_mapping"),
}
TENSORS = (None, "pt", "np")


class Words(UserDict[str, Any]):
    """What such a call returns: a mapping, whose entries are attributes too."""

    def __getattr__(self, name: str) -> object:
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(f"no {name!r} here; there are {', '.join(self.__dict__.get('data', ()))}") from None

    def to(self, device: object) -> "Words":
        """All tensors on a device."""
        return Words({name: value.to(device) for name, value in self.data.items()})


def are_theirs(options: Options, words: dict) -> bool:
    """Whether a call is one of transformers. words: those that our call does not have."""
    values = options.padding, options.truncation
    return bool(words) or any(isinstance(value, bool) or str(value).startswith("do_not_") for value in values)


def check_words(words: dict) -> None:
    for name, value in words.items():
        if name in ABSENT and value not in (None, False, 0, "right"):  # not as it is here anyway
            raise ValueError(f"{name} is no argument of minibert's tokenizer: {ABSENT[name]}")
        if name not in DEFAULTS and name not in ABSENT:
            raise ValueError(f"the tokenizer has no argument {name}; of transformers' it knows {', '.join(DEFAULTS)}")
    if (kind := words.get("return_tensors")) not in TENSORS:
        raise ValueError(f'return_tensors {kind!r}: choose "pt" for PyTorch, "np" for numpy, or None for lists')


def call(
    tokenizer: Tokenizer,
    texts: str | Iterable[str] | None,
    pairs: str | Iterable[str] | None,
    options: Options,
    split_special_tokens: bool,
    words: dict,
) -> Words:
    """options: as they were given, None for what was not. Raises ValueError for words that are not known here, and
    what our call refuses."""
    check_words(words)
    words = DEFAULTS | words
    texts, pairs = words["text"] if texts is None else texts, words["text_pair"] if pairs is None else pairs
    length, truncation, padding, multiple = options
    if length is not None and padding in (None, False) and truncation is None:
        truncation = True  # so it is there
    truncation, padding = TRUNCATIONS.get(truncation, truncation), PADDINGS.get(padding, padding)
    if padding not in PADDED:
        raise ValueError(f"padding {padding!r}: choose one of True, False, {', '.join(PADDED)}")
    length = tokenizer.model_max_length if length is None else length
    spare = 0 if words["add_special_tokens"] else 2 if pairs is None else 3  # marks that are taken out below
    chosen = {"truncation": truncation, "padding": "none", "return_offsets": words["return_offsets_mapping"]}
    encoding = tokenizer(texts, pairs, length + spare, **chosen, split_special_tokens=split_special_tokens)
    asked = {theirs: ours for theirs, (ours, word) in NAMES.items() if word is None or words[word]}
    rows = {theirs: getattr(encoding, ours) for theirs, ours in asked.items()}
    if spare:
        own = [special == 0 for special in encoding.special_tokens_mask]
        rows = {name: [row[keep] for row, keep in zip(array, own, strict=True)] for name, array in rows.items()}
    if padding != "none":
        width = max([len(row) for row in rows["input_ids"]], default=0)
        width = max(width, length) if padding == "max_length" else width
        width += -width % (multiple or 1)
        fill = {"input_ids": tokenizer.pad_id, "special_tokens_mask": 1}
        rows = {name: padded(array, width, fill.get(name, 0)) for name, array in rows.items()}
    if words["return_length"]:
        rows["length"] = [np.array(len(row)) for row in rows["input_ids"]]
    one = isinstance(texts, str) and words["return_tensors"] is None
    return Words({name: shown(array, name, words["return_tensors"], one) for name, array in rows.items()})


def padded(rows: list[NDArray], width: int, value: int) -> NDArray:
    """[S] or [S, 2] each -> [N, width] or [N, width, 2]"""
    shape = rows[0].shape[1:] if rows else ()
    filled = np.full((len(rows), width, *shape), value, np.int64)
    for number, row in enumerate(rows):
        filled[number, : len(row)] = row
    return filled


def shown(rows: Iterable[NDArray], name: str, kind: str | None, one: bool) -> object:
    """The rows as they are asked for. one: the only row, by itself."""
    if kind is None:
        lists = [[*map(tuple, row.tolist())] if name == "offset_mapping" else row.tolist() for row in rows]
        return lists[0] if one and name != "length" else lists
    if len({np.shape(row) for row in rows}) > 1:
        lengths = [len(row) for row in rows]
        raise ValueError(f"rows have {min(lengths)} to {max(lengths)} tokens, which is no tensor; use padding=True")
    array = np.array(rows, np.int64)
    if kind == "np":
        return array
    import torch

    return torch.from_numpy(array)
