"""Where the bundled model comes from, and what it is good for.

    python -m benchmarks.bundled prepare                # ../shared/data/text and the bundled reviews -> corpus/*.txt
    minibert vocab … --out vocab                        # COMMANDS, below, has these three whole
    minibert pretrain --vocab vocab --out bundled …
    python -m benchmarks.bundled pack bundled           # bundled -> minibert/assets/bundled, in half precision
    minibert pretrain --model bundled --out adapted …
    python -m benchmarks.bundled pack adapted           # in its place
    python -m benchmarks.bundled race                   # fine-tuning it against training the same sizes from scratch
    python -m benchmarks.bundled lines                  # twenty famous lines with one character hidden
    python -m benchmarks.bundled show                   # the tables of the newest results

Expected of the race: pretraining on verse and drama teaches little about reviews but what the characters have to do
with each other; so the gain is larger where there is less to learn from. Both contestants have the same sizes and the
same vocabulary, and each the recipe that `minibert train` has for its kind; ChnSentiCorp, ten times as large, is read
once, in batches of 32. The epoch is chosen on dev, the accuracy is test's.

Tasks: `reviews`, bundled; `chnsenticorp` (in ../shared/data, not part of this repository), whose test is given with and
without the texts that stand in its training rows.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import re
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.accuracy import RESULTS, SHARED, run_minibert, write_splits
from benchmarks.timing import environment
from benchmarks.tokenizer import commit
from minibert.core.config import BertConfig
from minibert.core.files import read_json
from minibert.fast.models import BertForPreTraining
from minibert.inference.fill_mask import FillMaskOptions, fill
from minibert.io.bundled import ASSETS, BUNDLED, resolve
from minibert.text.tokenizer import Tokenizer
from minibert.training.options import REVIEWS, SCRATCH_RECIPE, TrainOptions
from minibert.training.state import hashes

FILES = " ".join(f"corpus/{name}.txt" for name in ("tang_poems", "shakespeare", "google_bert_sample_text", "reviews"))
COMMANDS = (
    f"minibert vocab {FILES} --size 8000 --character-coverage 0.998 --out vocab",
    f"minibert pretrain --corpus {FILES} --vocab vocab --out bundled --layers 4 --width 192 --dropout 0.0 --epochs 6"
    " --batch-size 32 --threads 1 --log-every 100 --eval-every 1000 --save-every 1000",
    "minibert pretrain --model bundled --corpus corpus/reviews_once.txt --out adapted --steps 3000 --batch-size 32"
    " --lr 0.0003 --dropout 0.2 --held-out 0.0 --threads 1 --log-every 100 --save-every 1000",
)  # all texts, then the task's own once more (Gururangan et al. 2020, "Don't stop pretraining", section 4)
PAPERS = ("run.json", "metrics.jsonl", "report.html")
COPIES = 20  # of the reviews, so that they are a tenth of the text
WHO = {"bundled": {}, "from scratch": {**SCRATCH_RECIPE, "dropout": 0.1}}  # the first: what it has by default
TASKS = {"reviews": {}, "chnsenticorp": {"epochs": 1, "batch_size": 32, "dropout": 0.1, "token_dropout": 0.0}}

# Each with the character or word that is hidden between brackets.
LINES = [
    "白日依山[尽]，黄河入海流。",
    "床前明[月]光，疑是地上霜。",
    "春眠不觉[晓]，处处闻啼鸟。",
    "千山鸟飞[绝]，万径人踪灭。",
    "红豆生南国，春来发几[枝]。",
    "国破山河[在]，城春草木深。",
    "海内存知己，天涯若比[邻]。",
    "大漠孤烟直，长河落日[圆]。",
    "野火烧不尽，春[风]吹又生。",
    "谁知盘中餐，粒粒皆[辛]苦。",
    "明月松间照，清[泉]石上流。",
    "欲穷千里[目]，更上一层楼。",
    "举头望明月，低头思故[乡]。",
    "烽火连三月，家[书]抵万金。",
    "朝辞白帝彩云间，千里江[陵]一日还。",
    "To be, or not to be: that is the [question]:",
    "But, soft! what light through yonder window [breaks]?",
    "O Romeo, Romeo! wherefore art thou [Romeo]?",
    "A horse! a horse! my [kingdom] for a horse!",
    "Now is the [winter] of our discontent.",
]


# ---- making it ----


def prepare(folder: Path) -> None:
    """The text files, a sentence (in drama a speech) a line, a blank line between documents."""
    folder.mkdir(exist_ok=True)
    for name in ("tang_poems", "google_bert_sample_text"):
        shutil.copyfile(SHARED / "text" / f"{name}.txt", folder / f"{name}.txt")
    speeches = (SHARED / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8").strip().split("\n\n")
    lines = (" ".join(speech.split("\n")) + "\n" * (i % 20 == 19) for i, speech in enumerate(speeches))
    (folder / "shakespeare.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with open(REVIEWS / "train.tsv", encoding="utf-8", newline="") as file:
        texts = [text for _, text in list(csv.reader(file, delimiter="\t"))[1:]]
    reviews = "".join(map(as_document, texts))
    (folder / "reviews_once.txt").write_text(reviews, encoding="utf-8")
    (folder / "reviews.txt").write_text(reviews * COPIES, encoding="utf-8")


def as_document(text: str) -> str:
    """Its sentences, a line each, and a blank line."""
    parts = re.findall(r".+?(?:[。！？]|[.!?](?=\s|$)|$)", text)
    return "\n".join(part.strip() for part in parts if part.strip()) + "\n\n"


def pack(run: Path) -> None:
    """What a run has left, as the package ships it: weights in half precision, and what says where they come from.

    Of a run that went on from the bundled model, the mean of its first and last weights is taken: it knows what either
    knows (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"; the card has the figures). The papers of what
    was bundled move to `first/`.

    Raises:
        ValueError: it went on from another model than the one that is bundled now; so no run is packed twice.
    """
    target = ASSETS / BUNDLED
    target.mkdir(exist_ok=True)
    weights = load_file(run / "model.safetensors")
    record = read_json(run / "run.json", "")
    if record["options"]["model"] == BUNDLED:
        if record["sources"][f"{BUNDLED}/run.json"] != hashes([target / "run.json"])[str(target / "run.json")]:
            raise ValueError(f"{run} did not begin with what is in {target}; put the model back that it began with")
        before = load_file(target / "model.safetensors")
        weights = {name: (before[name].float() + tensor) / 2 for name, tensor in weights.items()}
        (target / "first").mkdir(exist_ok=True)
        for name in PAPERS:
            (target / name).rename(target / "first" / name)
    weights = {name: tensor.half() for name, tensor in weights.items()}
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values()), "too large for half precision"
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    config = BertConfig.from_file(run / "config.json").replace(
        hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1
    )
    text = json.dumps({"architectures": ["BertForPreTraining"], **config.to_dict()}, ensure_ascii=False, indent=2)
    (target / "config.json").write_text(text + "\n", encoding="utf-8")
    for name in ("vocab.txt", "tokenizer_config.json", *PAPERS):
        shutil.copyfile(run / name, target / name)
    print(f"{target}: {sum(path.stat().st_size for path in target.iterdir()) / 1e6:.2f} MB")


# ---- what it is good for ----


def race(tasks: list[str], seeds: list[int]) -> None:
    """Both contestants in turn for every seed; the file is rewritten after each run, and keeps the day's others."""
    for task in tasks:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = splits(task, folder)
            for seed in seeds:
                for who, recipe in WHO.items():
                    model = str(fresh(folder / f"fresh-{seed}", seed)) if who == "from scratch" else BUNDLED
                    options = TrainOptions(**{**recipe, **TASKS[task]}, model=model, seed=seed)
                    started = time.perf_counter()
                    found = run_minibert(options, files, folder / f"{who}-{seed}")
                    facts = {"task": task, "who": who, "seed": seed, "accuracy": found}
                    add({**facts, "seconds": round(time.perf_counter() - started)}, ("task", "who", "seed"))


def splits(task: str, folder: Path) -> dict[str, Path]:
    if task == "reviews":
        return {name: REVIEWS / f"{name}.tsv" for name in ("train", "dev", "test")}
    return write_splits(task, folder)


def fresh(folder: Path, seed: int) -> Path:
    """A model directory with the bundled vocabulary and sizes, and weights that were only drawn."""
    torch.manual_seed(seed)
    directory = resolve(BUNDLED)
    BertForPreTraining(BertConfig.from_file(directory / "config.json")).save_pretrained(folder)
    Tokenizer.from_pretrained(directory).save_pretrained(folder)
    return folder


def lines() -> None:
    """Top five of each hidden character."""
    texts = [re.sub(r"\[.*?\]", "[MASK]", line) for line in LINES]
    for line, (mask,) in zip(LINES, fill(FillMaskOptions(texts), texts), strict=True):
        hidden = re.search(r"\[(.*?)\]", line)[1]
        tokens = [answer["token"] for answer in mask]
        add({"line": line, "top5": tokens, "found": hidden.lower() in tokens}, ("line",))


def add(row: dict[str, object], key: tuple[str, ...]) -> None:
    """Puts a row into today's file, in the place of an older one with the same key, and prints it."""
    print(json.dumps(row, ensure_ascii=False), flush=True)
    path, part = RESULTS / f"bundled-{datetime.date.today()}.json", "runs" if "task" in row else "lines"
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": [], "lines": []}
    others = [old for old in facts[part] if any(old[name] != row[name] for name in key)]
    facts |= {"commit": commit(), "env": environment(torch.device("cpu")), part: [*others, row]}
    path.write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def show() -> str:
    """Markdown tables of the newest result file."""
    newest = sorted(RESULTS.glob("bundled-*.json"))
    if not newest:
        return "not measured"
    facts = json.loads(newest[-1].read_text(encoding="utf-8"))
    table = [f"| task, split | {' | '.join(WHO)} | seeds |", "|---|" + "---|" * (len(WHO) + 1)]
    for task in TASKS:
        runs = [run for run in facts["runs"] if run["task"] == task]
        for split in sorted(runs[0]["accuracy"]) if runs else ():
            cells = [spread([run["accuracy"][split] for run in runs if run["who"] == who]) for who in WHO]
            table.append(f"| {task}, {split} | {' | '.join(cells)} | {len({run['seed'] for run in runs})} |")
    hits = sum(row["found"] for row in facts["lines"])
    table += ["", f"Of {len(facts['lines'])} famous lines, the hidden one is among the first five in {hits}:", ""]
    table += ["| line | first five |", "|---|---|"]
    table += [f"| {row['line']} | {' '.join(row['top5'])} |" for row in facts["lines"]]
    return "\n".join(table)


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) if len(values) > 1 else float('nan'):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("prepare").add_argument("--out", type=Path, default=Path("corpus"))
    parts.add_parser("pack").add_argument("run", type=Path)
    racing = parts.add_parser("race")
    racing.add_argument("--task", choices=list(TASKS), nargs="+", default=list(TASKS))
    racing.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parts.add_parser("lines")
    parts.add_parser("show")
    arguments = parser.parse_args()
    if arguments.part == "prepare":
        prepare(arguments.out)
    elif arguments.part == "pack":
        pack(arguments.run)
    elif arguments.part == "race":
        race(arguments.task, arguments.seeds)
    elif arguments.part == "lines":
        lines()
    else:
        print(show())


if __name__ == "__main__":
    main()
