"""Unicode as the `tokenizers` library sees it, frozen: ids must not depend on the running Python.

Each table is a text: hexadecimal code points and ranges of them, both ends included; unicode_tables.txt says what for.
"""

from pathlib import Path

_HEADER, *_TABLES = Path(__file__).with_suffix(".txt").read_text("ascii").split("\n\n")
REMOVED, PUNCTUATION, NONSPACING_MARKS, DECOMPOSABLE, COMBINING_CLASSES, LOWERCASE = (
    table.partition("\n")[2] for table in _TABLES
)
