"""What does a corpus of any size cost before the model sees it: time for each token, and memory?

    python -m benchmarks.corpus                     # 10 MB, 100 MB and 2 GB of synthetic text: minutes, 4 GB of disk
    python -m benchmarks.corpus --mb 1 --mb 4       # these sizes; writes no file
    python -m benchmarks.corpus --show              # the table of the newest result

Expected: tokenising is one pass over the text; hashing it is another, a tenth of that. The plan of an epoch holds
some 60 bytes for an example of about a hundred tokens, while it is made three times that. So time grows with the text,
and memory with a third of it at most.

The text: documents of 1 … 40 sentences of 4 … 30 words, drawn by Zipf's law from those of the bundled reviews (their
Chinese characters too). Each size runs in a process of its own. Columns:
    tokenise, reopen    seconds from files to tokens, and when they are there already (hashes compared)
    plan                seconds for the examples of an epoch
    batches             seconds for 1,000 batches of 64 examples at random places, masked and on their way to the model
    ns/token            of tokenising and planning, for each token of the corpus
    peak MB             the process's own memory, looked at every 10 ms: the largest since before tokenising
    mapped MB           pages of files at the end, which the kernel takes back when somebody wants the memory
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import environment
from benchmarks.tokenizer import RESULTS, commit, in_child
from minibert.core.data import shuffled
from minibert.io.examples import read_examples
from minibert.text.corpus import open_corpus
from minibert.text.tokenizer import Tokenizer
from minibert.text.vocab import learn_vocabulary
from minibert.training.instances import VocabTables, batch, plan
from minibert.training.options import REVIEWS

SIZES = (10, 100, 2000)  # MB
BATCHES, BATCH, MAX_LENGTH = 1000, 64, 128


def write_text(path: Path, megabytes: float) -> None:
    """The same text for the same size."""
    texts = read_examples(REVIEWS / "train.tsv").texts
    words = np.array(sorted({word for text in texts for word in re.findall(r"[\u4e00-\u9fff]|[A-Za-z']+", text)}))
    dice = np.random.default_rng(0)
    dice.shuffle(words)
    shares = 1 / np.arange(1, len(words) + 1)
    shares /= shares.sum()
    with open(path, "w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            drawn = iter(dice.choice(words, 100_000, p=shares).tolist())
            for sentences in dice.integers(1, 41, 100).tolist():
                for length in dice.integers(4, 31, sentences).tolist():
                    file.write(" ".join(word for word, _ in zip(drawn, range(length), strict=False)) + ".\n")
                file.write("\n")


def measure(folder: str, megabytes: float) -> dict[str, float]:
    """All times of one size, in this process."""
    path, cache = Path(folder) / "text.txt", Path(folder) / "cache"
    tokenizer = Tokenizer(learn_vocabulary(read_examples(REVIEWS / "train.tsv").texts, 4000))
    times = []

    def timed(work: object) -> object:
        begun = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - begun)
        return result

    with watched() as own:
        corpus = timed(lambda: open_corpus([path], tokenizer, cache))
        timed(lambda: open_corpus([path], tokenizer, cache))
        planned = timed(lambda: plan(corpus, corpus.documents, MAX_LENGTH, pairs=True, seed=0, epoch=0))
        order, tables = shuffled(len(planned.lengths), 0, 0), VocabTables(tokenizer)
        starts = [start % max(1, len(order) - BATCH) for start in range(0, BATCHES * BATCH, BATCH)]
        timed(lambda: [batch(corpus, planned, order[start : start + BATCH], tables) for start in starts] and None)
    tokens = len(corpus.tokens.ids)
    return {
        "mb": path.stat().st_size / 1e6,
        "tokens": tokens,
        "examples": len(planned.lengths),
        **dict(zip(("tokenise", "reopen", "plan", "batches"), times, strict=True)),
        "ns_per_token": (times[0] + times[2]) / tokens * 1e9,
        "peak_mb": max(own),
        "mapped_mb": status_mb("RssFile"),
    }


def status_mb(name: str) -> float:
    """A line of the process's status: RssAnon is its own memory, RssFile what of files is mapped and present."""
    line = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(line[1]) * 1024 / 1e6


@contextmanager
def watched() -> Iterator[list[float]]:
    """The process's own memory in MB, every 10 ms."""
    found, over = [status_mb("RssAnon")], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            found.append(status_mb("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def table(rows: list[dict[str, float]]) -> str:
    head = (
        "| MB | tokens | tokenise | reopen | plan | batches | ns/token | peak MB | mapped MB |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    lines = [
        f"| {r['mb']:,.0f} | {r['tokens']:,} | {r['tokenise']:.1f} s | {r['reopen']:.1f} s | {r['plan']:.1f} s"
        f" | {r['batches']:.1f} s | {r['ns_per_token']:.0f} | {r['peak_mb']:,.0f} | {r['mapped_mb']:,.0f} |"
        for r in rows
    ]
    return "\n".join([head, *lines])


def show() -> str:
    """The table of the newest result file."""
    newest = sorted(RESULTS.glob("corpus-*.json"))
    return table(json.loads(newest[-1].read_text(encoding="utf-8"))["rows"]) if newest else "not measured"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, action="append", help=f"sizes (default: {', '.join(map(str, SIZES))})")
    parser.add_argument("--show", action="store_true", help="print the table of the newest result")
    options, rows = parser.parse_args(), []
    if options.show:
        print(show())
        return
    for megabytes in options.mb or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            in_child(write_text, Path(folder) / "text.txt", megabytes)
            rows.append(in_child(measure, folder, megabytes))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))
    if not options.mb:
        facts = {"commit": commit(), "env": environment(torch.device("cpu")), "rows": rows}
        path = RESULTS / f"corpus-{datetime.date.today()}.json"
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
