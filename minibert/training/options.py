"""Options of `minibert train` and `minibert pretrain`, and what fine-tuning does if it is not told otherwise.

Only the standard library, and what needs no more, is imported by any file called options.py: a help text or a mistake
on the command line does not wait for PyTorch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from minibert.core.config import PRESETS, BertConfig
from minibert.fast.options import ATTENTION, LAYOUTS, PRECISIONS
from minibert.io.bundled import ASSETS, BUNDLED, resolve
from minibert.options import Reading, check_options, command_line, option

REVIEWS = ASSETS / "reviews"

# What fine-tuning does if it is not told otherwise. A large model as in the paper (appendix A.3); a small one, which
# knows less, has to learn more from the texts, yet not by heart. Its pooler, made to tell next sentences, is drawn anew
# (Zhang et al. 2021, "Revisiting few-sample BERT fine-tuning", section 5), unless it has served a classifier already.
SMALL = 256  # hidden size
COMMON = {"batch_size": 32, "token_dropout": 0.0, "pooler": "kept"}
RECIPE = {**COMMON, "epochs": 3, "lr": 5e-5}
SMALL_RECIPE = {"epochs": 8, "lr": 5e-4, "batch_size": 8, "dropout": 0.2, "token_dropout": 0.3, "pooler": "fresh"}
SCRATCH_RECIPE = {**COMMON, "epochs": 10, "lr": 1e-3}

BEST_BY = {  # task -> the scores by which it may choose its best epoch, the first if nothing is said
    "classification": ("accuracy", "loss", "macro_f1"),
    "multi-label": ("micro_f1", "loss", "macro_f1", "exact_match"),
    "regression": ("loss", "pearson", "spearman"),
}


def check_training(
    options: TrainOptions | PretrainOptions, counts: Sequence[str], limits: dict[str, float], choices: dict
) -> None:
    """Refuses values that no run can have: of the options of both commands, and of those that are named. See
    check_options."""
    if options.parallel == "fsdp":
        raise ValueError("parallel fsdp is no more, every process holds the whole model; type --parallel ddp")
    numbers = ("vocab_size", "epochs", "batch_size", "tokens_per_batch", "accumulation")
    check_options(
        options,
        (*numbers, "log_every", "save_every", "keep", "threads", *counts),
        {"warmup": 1, "clip": 1e9, "weight_decay": 1e3, "lr": 1e3, "dropout": 0.99, "seed": 2**63 - 1, **limits},
        {"preset": PRESETS, "precision": PRECISIONS, "layout": LAYOUTS, "parallel": ("ddp",), **choices},
    )


@dataclass(frozen=True)
class TrainOptions(Reading):
    """Everything a fine-tuning run depends on."""

    model: str | None = option(None, f"directory or hub name of a pretrained BERT (default: {BUNDLED}, ours)")
    preset: str | None = option(None, f"train a model from scratch, of this size (default: tiny): {', '.join(PRESETS)}")
    vocab_size: int | None = option(None, "train from scratch, with a vocabulary of so many tokens (default: 4000)")
    data: str | None = option(None, "training file, .tsv .csv .jsonl .json or .txt (default: the bundled reviews)")
    dev: str | None = option(None, "validation file (default: a tenth of the training rows)")
    test: str | None = option(None, "test file, used once at the end")
    out: str | None = option(None, "directory for the trained model (default: the next free runs/train-N)")
    epochs: int | None = option(None, "passes over the training data (default: 3, small models 8, from scratch 10)")
    batch_size: int | None = option(None, "texts per batch (default: 32, for a small pretrained model 8)")
    tokens_per_batch: int | None = option(None, "tokens per batch, texts of like length together; not --batch-size")
    accumulation: int = option(1, "batches per optimizer step")
    lr: float | None = option(None, "peak learning rate (default: 5e-5, small or from scratch more)")
    warmup: float = option(0.1, "share of the steps over which the learning rate rises")
    weight_decay: float = option(0.01, "AdamW's decay, on weights but not on biases and LayerNorms")
    clip: float = option(1.0, "largest gradient norm; 0 switches clipping off")
    dropout: float | None = option(None, "dropout everywhere (default: the config's, small pretrained models 0.2)")
    token_dropout: float | None = option(None, "share of tokens masked in training (default: 0, small models 0.3)")
    pooler: str | None = option(None, "kept, or fresh: drawn anew (default: fresh for a small model without classes)")
    max_length: int = option(128, "longest text in tokens, [CLS] and [SEP] included")
    layout: str = option("packed", "packed: no padding is ever computed; padded: the rectangle of the original")
    attention: str = option("auto", f"attention backend: auto, {', '.join(ATTENTION)}")
    precision: str = option("fp32", "fp32, bf16 for autocast, or auto: bf16 where the device is made for it")
    compile: bool = option(False, "compile what is done to each token by itself; the first steps take a minute")
    graphs: bool = option(False, "record the steps of a GPU as CUDA graphs, once for each size, and replay them")
    device: str = option("auto", "auto, cpu, cuda, cuda:1 …")
    threads: int | None = option(None, "CPU threads (default: 1 for a model below 5 million weights, else all cores)")
    seed: int = option(0, "seed of everything random")
    log_every: int = option(5, "batches between two log lines")
    save_every: int = option(1000, "optimizer steps between two checkpoints; there is one after every epoch, too")
    keep: int = option(2, "checkpoints kept while training, the last ones")
    parallel: str | None = option(None, "under torchrun: ddp, each process holds the whole model (default)")
    tensorboard: str | None = option(None, "directory for TensorBoard's curves, in a folder called as --out")
    resume: str | None = option(None, "directory of an interrupted run: continue it with its own options")
    task: str | None = option(None, f"{', '.join(BEST_BY)} (default: as a trained --model has it, else the first)")
    freeze: int | None = option(None, "train neither the embeddings nor so many layers, from the first")
    class_weights: str | None = option(None, "balanced: rare classes (labels) count as much as frequent ones")
    best_by: str | None = option(None, "loss, accuracy, macro_f1 …: the epoch that is kept; of equals, the lower loss")
    patience: int | None = option(None, "stop after so many epochs in a row that were not better")
    label_smoothing: float = option(0.0, "share of a label that is given to all of them alike")

    def __post_init__(self) -> None:
        self.check_reading()
        if None not in (self.tokens_per_batch, self.batch_size):
            raise ValueError(
                f"batch_size is {self.batch_size} and tokens_per_batch {self.tokens_per_batch}; give one of them"
            )
        limits = {"token_dropout": 0.99, "label_smoothing": 0.99, "freeze": 512}
        choices = {"pooler": ("kept", "fresh"), "task": BEST_BY, "class_weights": ("balanced",)}
        if self.task is not None:
            choices["best_by"] = BEST_BY.get(self.task, ())
        check_training(self, ("patience",), limits, choices)
        if self.task == "regression" and (self.class_weights or self.label_smoothing):
            raise ValueError("--class-weights and --label-smoothing are for classes, a regression has none; leave out")
        if self.task not in (None, "classification") and self.graphs:
            raise ValueError(f"graphs is for --task classification, not {self.task}; leave --graphs out")
        if self.model is not None and self.from_scratch:
            raise ValueError(f"{self.model} brings its own vocabulary and sizes; leave --preset and --vocab-size out")

    @property
    def from_scratch(self) -> bool:
        return self.preset is not None or self.vocab_size is not None

    def filled(self) -> TrainOptions:
        """The options with the defaults that depend on others, so that what is recorded is what ran."""
        from minibert.inference.answers import task_of  # needs PyTorch

        changes: dict[str, object]
        if self.from_scratch:
            changes = {"preset": "tiny", "vocab_size": 4000, "task": "classification", **SCRATCH_RECIPE}
        else:
            model = self.model or BUNDLED
            path = resolve(model) / "config.json"
            config = BertConfig.from_file(path)
            changes = {"model": model, **(SMALL_RECIPE if config.hidden_size <= SMALL else RECIPE)}
            trained = "BertForSequenceClassification" in str(config.others.get("architectures"))
            changes |= {"pooler": "kept", "task": task_of(config)} if trained else {"task": "classification"}
        if self.tokens_per_batch is not None:
            del changes["batch_size"]
        if self.data is None:
            bundled = {name: str(REVIEWS / f"{name}.tsv") for name in ("dev", "test")}
            changes |= {"data": str(REVIEWS / "train.tsv"), **bundled}
        changes["best_by"] = BEST_BY[self.task or changes["task"]][0]
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if getattr(self, k) is None})

    def command(self) -> str:
        """The command line that repeats the run."""
        return command_line("train", self)


@dataclass(frozen=True)
class PretrainOptions:
    """Everything a pretraining run depends on."""

    corpus: Sequence[str] = option((), "text files: .txt, a sentence a line, a blank line between documents; or .jsonl")
    encoding: str | None = option(None, "of the corpus: utf-8, utf-16, gb18030, big5 … (default: as each file looks)")
    out: str | None = option(None, "directory for the model (default: the next free runs/pretrain-N)")
    cache: str | None = option(None, "directory for the tokenised corpus; runs may share it (default: OUT/corpus)")
    vocab: str | None = option(None, "directory of a vocabulary (default: learned from the corpus)")
    vocab_size: int = option(8000, "most tokens of a learned vocabulary")
    cased: bool = option(False, "keep capitals and accents in a learned vocabulary")
    character_coverage: float = option(0.9995, "share of the text whose characters get an id in a learned vocabulary")
    model: str | None = option(None, "directory or hub name of a BERT to continue from (default: from scratch)")
    preset: str = option("tiny", f"size of a model from scratch: {', '.join(PRESETS)}")
    layers: int | None = option(None, "its layers, instead of the preset's")
    width: int | None = option(None, "its hidden size, a multiple of 64, instead of the preset's")
    nsp: str = option("on", "on: pairs and next-sentence prediction; off: one stretch of text, masked LM alone")
    whole_word_mask: bool = option(False, "hide the pieces of a word together")
    max_length: int = option(128, "longest example in tokens, [CLS] and [SEP] included")
    held_out: float = option(0.01, "share of the documents to measure on and not to train on; 0 for none")
    steps: int | None = option(None, "optimizer steps; not --epochs")
    epochs: int | None = option(None, "passes over the corpus (default: 10)")
    batch_size: int = option(64, "examples per batch")
    tokens_per_batch: int | None = option(None, "tokens per batch, examples of like length together; not --batch-size")
    accumulation: int = option(1, "batches per optimizer step")
    lr: float = option(1e-3, "peak learning rate; 1e-4 for a model of BERT's size")
    warmup: float = option(0.05, "share of the steps over which the learning rate rises")
    schedule: str = option("linear", "how it falls afterwards: linear or cosine")
    weight_decay: float = option(0.01, "AdamW's decay, on weights but not on biases and LayerNorms")
    clip: float = option(1.0, "largest gradient norm; 0 switches clipping off")
    dropout: float | None = option(None, "dropout everywhere (default: as the model's config says)")
    layout: str = option("packed", "packed: no padding is ever computed; padded: the rectangle of the original")
    attention: str = option("auto", f"attention backend: auto, {', '.join(ATTENTION)}")
    precision: str = option("fp32", "fp32, bf16 for autocast, or auto: bf16 where the device is made for it")
    compile: bool = option(False, "compile what is done to each token by itself; the first steps take a minute")
    graphs: bool = option(False, "record the steps of a GPU as CUDA graphs, once for each size, and replay them")
    device: str = option("auto", "auto, cpu, cuda, cuda:1 …")
    threads: int | None = option(None, "CPU threads (default: 1 for a model below 5 million weights, else all cores)")
    seed: int = option(0, "seed of everything random")
    log_every: int = option(20, "steps between two log lines")
    eval_every: int = option(500, "steps between two measurements on the held-out documents")
    save_every: int = option(500, "steps between two checkpoints")
    keep: int = option(2, "checkpoints kept while training, the last ones")
    parallel: str | None = option(None, "under torchrun: ddp, each process holds the whole model (default)")
    tensorboard: str | None = option(None, "directory for TensorBoard's curves, in a folder called as --out")
    resume: str | None = option(None, "directory of an interrupted run: continue it with its own options")

    def __post_init__(self) -> None:
        object.__setattr__(self, "corpus", tuple(self.corpus))
        for one, other, unset in (("batch_size", "tokens_per_batch", 64), ("steps", "epochs", None)):
            if getattr(self, one) != unset and getattr(self, other) is not None:
                raise ValueError(f"{one} is {getattr(self, one)} and {other} {getattr(self, other)}; give one of them")
        check_training(
            self,
            ("layers", "width", "steps", "eval_every"),
            {"held_out": 0.5, "character_coverage": 1},
            {"nsp": ("on", "off"), "schedule": ("linear", "cosine")},
        )
        if self.width is not None and self.width % 64:
            raise ValueError(f"width is {self.width}; it must be a multiple of 64, the size of a head")
        if self.model is not None and (self.vocab is not None or self.layers or self.width):
            raise ValueError(f"{self.model} brings its own vocabulary and sizes; leave --vocab, --layers, --width out")

    def filled(self) -> PretrainOptions:
        """The options with the defaults that depend on others, so that what is recorded is what ran."""
        return dataclasses.replace(self, epochs=10) if self.steps is self.epochs is None else self

    def command(self) -> str:
        """The command line that repeats the run."""
        return command_line("pretrain", self)
