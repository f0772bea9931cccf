"""The encoding of texts as a picture: a column for each token, a row for each array that the model gets."""

import unicodedata
from collections.abc import Iterable

from minibert.text.tokenizer import Tokenizer

ROWS = ("input_ids", "token_type_ids", "special_tokens_mask", "length", "attention_mask")
LABEL = max(map(len, ROWS)) + 2  # the width of the first column


def encoding_dict(
    tokenizer: Tokenizer, texts: str | Iterable[str], pairs: str | Iterable[str] | None = None, **options: object
) -> dict[str, list]:
    """The encoding as plain lists, ready for JSON: `tokens`, each of ROWS, and `decoded`, with an entry for each text.

    options: those of calling a tokenizer.
    """
    encoding = tokenizer(texts, pairs, **options)
    ids = [row.tolist() for row in encoding.input_ids]
    return {
        "tokens": [tokenizer.ids_to_tokens(row) for row in ids],
        **{name: [row.tolist() for row in getattr(encoding, name)] for name in ROWS},
        "decoded": [tokenizer.decode(row) for row in ids],
    }


def encoding_table(
    tokenizer: Tokenizer,
    texts: str | Iterable[str],
    pairs: str | Iterable[str] | None = None,
    width: int | None = None,
    **options: object,
) -> str:
    """For each text a block of lines, its columns aligned on a terminal, also under double-width characters.

        tokens               [CLS]   白   日 [SEP]
        input_ids              101 4635 3189   102
        …
        decoded              [CLS] 白 日 [SEP]

    width: of the terminal; longer rows go on in a second block of rows. None never breaks.
    options: those of calling a tokenizer.
    """
    encoded = encoding_dict(tokenizer, texts, pairs, **options)
    entries = (dict(zip(encoded, entry, strict=True)) for entry in zip(*encoded.values(), strict=True))
    return "\n\n".join(_block(entry, width) for entry in entries)


def _block(entry: dict, width: int | None) -> str:
    """The lines of one text. `length` has one value and no columns, so it stands among the first rows only."""
    rows = {name: [str(value) for value in values] for name, values in entry.items() if isinstance(values, list)}
    sizes = [max(map(columns_of, cells)) for cells in zip(*rows.values(), strict=True)]
    lines = []
    for columns in _breaks(sizes, width):
        for name in ("tokens", *ROWS):
            if name in rows:
                cells = (" " * (sizes[k] - columns_of(rows[name][k])) + rows[name][k] for k in columns)
                lines.append(f"{name:{LABEL}}" + " ".join(cells))
            elif columns[0] == 0:
                lines.append(f"{name:{LABEL}}{entry[name]}")
    return "\n".join([*lines, f"{'decoded':{LABEL}}{entry['decoded']}"])


def _breaks(sizes: list[int], width: int | None) -> list[list[int]]:
    """Cuts columns, by their indices, into groups that fit beside the label."""
    groups: list[list[int]] = [[]]
    used = LABEL
    for index, size in enumerate(sizes):
        if groups[-1] and width is not None and used + size > width:
            groups.append([])
            used = LABEL
        groups[-1].append(index)
        used += size + 1
    return groups


def columns_of(text: str) -> int:
    """How many columns a terminal gives to a text: two to a wide character, none to a combining mark.

    >>> columns_of("a"), columns_of("白"), columns_of("e\\u0301")
    (1, 2, 1)
    """
    return sum(
        0 if unicodedata.category(char) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )
