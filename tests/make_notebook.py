"""Makes docs/ten-stops.ipynb of docs/ten-stops.md: its prose and blocks as cells, run from top to bottom.

Run: python tests/make_notebook.py (a minute or two; it needs the extra "test"); with --prose where no block of code has
changed. tests/test_stops.py says when to.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pages import PAGES, ROOT, parts_of

if TYPE_CHECKING:
    from nbformat import NotebookNode

WALK = PAGES["ten-stops"]
NOTEBOOK = ROOT / "docs" / "ten-stops.ipynb"
PARTS = parts_of(WALK.english)


def sources() -> list[tuple[str, str]]:
    """Type and text of every cell; a command becomes `!python -m minibert …`."""
    return [
        ("markdown", part.source)
        if part.kind == "markdown"
        else ("code", part.source.replace("minibert ", "!python -m minibert ") if part.command else part.source)
        for part in PARTS
    ]


def run(folder: Path) -> NotebookNode:
    """The notebook with its outputs; what it writes comes into the folder. nbclient's error: a cell has failed."""
    import nbclient
    import nbformat.v4

    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    cells = [make[kind](text, id=f"cell-{number}") for number, (kind, text) in enumerate(sources())]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    patience = {"timeout": 600, "iopub_timeout": 60, "raise_on_iopub_timeout": True}
    where = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(book, **patience, record_timing=False, resources=where)
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    client.execute(env={**os.environ, "PATH": programs, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = tidied(cell.outputs)
    book.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return book


def tidied(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Each stream in one piece, without progress bars, and without the folder of the package, which log lines name."""
    found: list[NotebookNode] = []
    for output in outputs:
        if found and output.get("name") == found[-1].get("name", "no stream"):
            found[-1].text += output.text
        else:
            found.append(output)
    for output in found:
        if "text" in output:
            lines = output.text.replace("\r\n", "\n").split("\n")
            text = "\n".join(line.rpartition("\r")[2] for line in lines)  # what was written over is gone
            output.text = text.replace(f"{ROOT}{os.sep}", "")
    return found


def main() -> None:
    import nbformat

    if sys.argv[1:] == ["--prose"]:
        book = nbformat.read(NOTEBOOK, 4)
        ran = [cell for cell in book.cells if cell.cell_type == "code"]
        if [cell.source for cell in ran] != [text for kind, text in sources() if kind == "code"]:
            sys.exit("a block of the page is another than the notebook's; leave --prose out")
        waiting = iter(ran)
        book.cells = [
            nbformat.v4.new_markdown_cell(text) if kind == "markdown" else next(waiting) for kind, text in sources()
        ]
        for number, cell in enumerate(book.cells):
            cell.id = f"cell-{number}"
        nbformat.write(book, NOTEBOOK)
        return
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(run(Path(folder)), NOTEBOOK)


if __name__ == "__main__":
    main()
