"""Does each task of fine-tuning learn as well as a plain loop over transformers? Pairs, numbers, several labels.

    python -m benchmarks.tasks --task mrpc --seeds 0,1,2       # minutes for a seed; writes results/tasks-mrpc-DATE.json
    python -m benchmarks.tasks --show                          # the tables of the committed results

The same recipe, rows, batches and choice of the epoch for both: all-MiniLM-L6-v2, three epochs, the best by the dev
split, measured on the test split.
    mrpc            pairs, are they paraphrases: accuracy, F1 (of those that are, as GLUE has it)
    mrpc-regression the same pairs with the labels 0.0 and 1.0, by squared error: Pearson and Spearman
    sst5-labels     sentences with the labels that hold of >=2, >=3, >=4 stars (half of SST-5's training rows): F1
Expected: differences within the spread of the seeds, as only the draws of dropout and of the new head are others.
Columns: mean ± sample standard deviation over the seeds; of the means the difference ± its standard error.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
import statistics
import tempfile
import time
from pathlib import Path

import torch
import transformers

from benchmarks.accuracy import MINILM, RESULTS, SHARED, cell, facts, write_runs, write_tsv
from minibert.core.data import Examples, chunks, shuffled
from minibert.inference.answers import TASKS as TYPES
from minibert.inference.scores import SCORING, AnyScores, Scores, numbers_of
from minibert.io.examples import read_examples
from minibert.io.labels import LABELLED, label_values, names_of
from minibert.training.engine import seed_step
from minibert.training.fine_tuning import TrainOptions, train

COMMON = TrainOptions(model=MINILM, epochs=3, lr=1e-4, batch_size=32, max_length=128, token_dropout=0.0, pooler="kept")
TASKS = {
    "mrpc": dataclasses.replace(COMMON, task="classification", best_by="accuracy"),
    "mrpc-regression": dataclasses.replace(COMMON, task="regression", best_by="loss"),
    "sst5-labels": dataclasses.replace(COMMON, task="multi-label", best_by="micro_f1", max_length=64),
}
WHO = ("minibert", "transformers")


# ---- data ----


def write_splits(name: str, directory: Path) -> dict[str, Path]:
    """The task's files train, dev and test, as .tsv without quotes."""
    if name == "sst5-labels":
        return {split: write_stars(split, directory) for split in ("train", "dev", "test")}
    mrpc, files = SHARED / "mrpc", {}
    places = {"train": mrpc / "train.tsv", "dev": mrpc / "dev.tsv", "test": mrpc / "msr_paraphrase_test_labelled.txt"}
    for split, place in places.items():
        header, *rows = place.read_text(encoding="utf-8-sig").splitlines()
        if name == "mrpc-regression":
            rows = [f"{float(row[0])}{row[1:]}" for row in rows]
        files[split] = directory / f"{split}.tsv"
        files[split].write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return files


def write_stars(split: str, directory: Path) -> Path:
    """SST-5 with its 0 to 4 stars as the labels that hold of them."""
    lines = (SHARED / "sst5_cfimdb" / f"sst-{split}.txt").read_text(encoding="utf-8").splitlines()
    if split == "train":
        lines = lines[::2]
    stars, texts = zip(*(line.split(" ||| ", 1) for line in lines if line.strip()), strict=True)
    labels = ["|".join(f"at least {least}" for least in (2, 3, 4) if int(star) >= least) for star in stars]
    return write_tsv(directory / f"{split}.tsv", labels, texts)


# ---- the two contestants ----


def run_minibert(options: TrainOptions, files: dict[str, Path], out: Path) -> dict[str, float | None]:
    """Scores on the test split, of the epoch that is best on dev."""
    paths = {"data": str(files["train"]), "dev": str(files["dev"]), "test": str(files["test"])}
    scores, _ = train(dataclasses.replace(options, **paths, out=str(out), quoting="none"))
    return told(scores)


def run_transformers(options: TrainOptions, files: dict[str, Path]) -> dict[str, float | None]:
    """The same recipe in a plain loop over transformers' model, tokenizer, loss (problem_type) and schedule."""
    torch.manual_seed(options.seed)
    data = {split: read_examples(path, None, "none", LABELLED[options.task]) for split, path in files.items()}
    names = names_of(data["train"], options.task)
    tokenizer = transformers.BertTokenizer.from_pretrained(options.model)
    kind = {theirs for theirs, ours in TYPES.items() if ours == options.task}.pop()
    model = transformers.BertForSequenceClassification.from_pretrained(
        options.model, num_labels=len(names), problem_type=kind
    )
    named, plain = list(model.named_parameters()), ("bias", "LayerNorm.weight")
    groups = [
        {"params": [p for n, p in named if not n.endswith(plain)], "weight_decay": options.weight_decay},
        {"params": [p for n, p in named if n.endswith(plain)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.lr)
    labels = torch.from_numpy(label_values(data["train"], names, options.task))
    steps = options.epochs * -(-len(labels) // options.batch_size)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, int(options.warmup * steps), steps)
    best, kept = (), {}
    for epoch in range(options.epochs):
        model.train()
        for rows in chunks(shuffled(len(labels), options.seed, epoch), options.batch_size):
            seed_step(options.seed, schedule.last_epoch)
            inputs = encoded(tokenizer, data["train"], rows, options.max_length)
            loss = model(**inputs, labels=labels[rows]).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
            optimizer.step()
            schedule.step()
        found = {split: measured(model, tokenizer, data[split], names, options) for split in ("dev", "test")}
        value = getattr(found["dev"], options.best_by)
        reached = (-value if options.best_by == "loss" else value, -found["dev"].loss)
        if not best or reached > best:
            best, kept = reached, told(found["test"])
    return kept


def encoded(tokenizer: object, data: Examples, rows: list[int], max_length: int) -> dict[str, torch.Tensor]:
    """Some rows as transformers' own tokenizer pads them."""
    texts = [[data.texts[row] for row in rows]]
    if data.pairs is not None:
        texts.append([data.pairs[row] for row in rows])
    return tokenizer(*texts, truncation=True, max_length=max_length, padding=True, return_tensors="pt")


@torch.no_grad()
def measured(
    model: torch.nn.Module, tokenizer: object, data: Examples, names: list[str], options: TrainOptions
) -> AnyScores:
    """The scores of one split."""
    model.eval()
    parts = chunks(range(len(data)), 32)
    logits = torch.cat([model(**encoded(tokenizer, data, part, options.max_length)).logits for part in parts])
    return SCORING[options.task](logits, label_values(data, names, options.task))


def told(scores: AnyScores) -> dict[str, float | None]:
    """The single numbers; of two classes F1 of the second too."""
    more = {}
    if isinstance(scores, Scores):
        (_, false), (missed, hits) = scores.confusion
        more["f1"] = 2 * hits / max(1, 2 * hits + false + missed)
    return numbers_of(scores) | more


# ---- running and showing ----


def measure(name: str, seeds: list[int]) -> None:
    """Both contestants in turn for every seed."""
    path, runs = RESULTS / f"tasks-{name}-{datetime.date.today()}.json", []
    with tempfile.TemporaryDirectory() as folder:
        files = write_splits(name, Path(folder))
        for seed in seeds:
            options = dataclasses.replace(TASKS[name], seed=seed)
            for who in WHO:
                started = time.perf_counter()
                if who == "minibert":
                    scores = run_minibert(options, files, Path(folder) / f"seed-{seed}")
                else:
                    scores = run_transformers(options, files)
                seconds = round(time.perf_counter() - started)
                runs.append({"who": who, "seed": seed, "test": scores, "seconds": seconds})
                print(json.dumps(runs[-1]), flush=True)
                write_runs(path, facts(name, TASKS[name]), runs)


def show() -> str:
    """A markdown table of the newest result file of every task that has one."""
    lines = [f"| task, score | {' | '.join(WHO)} | difference | seeds |", "|---|" + "---|" * (len(WHO) + 2)]
    for name in TASKS:
        for path in sorted(RESULTS.glob(f"tasks-{name}-2*.json"))[-1:]:
            runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
            for score in runs[0]["test"]:
                ours, theirs = ([run["test"][score] for run in runs if run["who"] == who] for who in WHO)
                seeds = len({run["seed"] for run in runs})
                cells = cell(ours), cell(theirs), difference(ours, theirs), str(seeds)
                lines.append(f"| {name}, {score.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def difference(ours: list[float], theirs: list[float]) -> str:
    """Of the means, and its standard error."""
    if min(len(ours), len(theirs)) < 2:
        return "not measured"
    error = math.hypot(*(statistics.stdev(values) / math.sqrt(len(values)) for values in (ours, theirs)))
    return f"{statistics.mean(ours) - statistics.mean(theirs):+.4f} ± {error:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(TASKS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print the table of the committed results and stop")
    arguments = parser.parse_args()
    if arguments.show or not arguments.task:
        print(show())
        return
    if not SHARED.is_dir():
        parser.error(f"the data is not at {SHARED}; see the docstring of benchmarks/accuracy.py")
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    measure(arguments.task, [int(seed) for seed in arguments.seeds.split(",")])


if __name__ == "__main__":
    main()
