"""Options of `minibert evaluate`, `predict`, `embed` and `fill-mask`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass

from minibert.fast.options import ATTENTION, PRECISIONS
from minibert.io.bundled import BUNDLED
from minibert.options import Reading, argument, check_options, option

EVERY = "*"  # what --keep alone means
PRECISION = "fp32, bf16, or auto: bf16 where the device has instructions for it"
THRESHOLD = "of a multi-label model: the probability from which a label is given"
POOLINGS = ("cls", "mean", "max", "mean-sqrt", "weighted-mean", "last")


@dataclass(frozen=True)
class EvaluateOptions(Reading):
    directory: str = argument("a trained model")
    data: str = option(MISSING, "data file with labels, .tsv .csv .jsonl .json or .txt")
    tokens_per_batch: int | None = option(None, "tokens of a batch (default: what suits model and device)")
    attention: str = option("auto", f"attention backend: auto, {', '.join(ATTENTION)}")
    device: str = option("auto", "auto, cpu, cuda, cuda:1 …")
    precision: str = option("fp32", PRECISION)
    max_length: int | None = option(None, "tokens of a text that are read (default: as the model's files say)")
    threshold: float = option(0.5, THRESHOLD)
    report: str | None = option(None, "write a page too, FILE.html: tables, and the worst mistakes")
    json: bool = option(False, "print one JSON object")

    def __post_init__(self) -> None:
        check_options(self, (), {}, {"precision": PRECISIONS})
        self.check_reading()
        check_threshold(self.threshold)
        if self.report is not None and not self.report.lower().endswith(".html"):
            raise ValueError(f"report is {self.report}, which is not called .html; name the page that is to be written")


def check_threshold(threshold: float) -> None:
    """Raises ValueError: it is no probability that a label can be above and below."""
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold:g}; it must lie between 0 and 1, such as 0.5")


@dataclass(frozen=True, kw_only=True)
class JobOptions(Reading):
    """What `predict` and `embed` both ask."""

    directory: str = argument("a model: its directory, or its name on the hub")
    text: Sequence[str] = argument("texts (default: one a line from stdin)")
    data: str | None = option(
        None, "instead of texts a file of any size, .tsv .csv .jsonl .json, or .txt with a text a line"
    )
    out: str | None = option(None, "where its answers go; an interrupted job is continued by the same command")
    on_error: str = option("stop", "what a broken row does: stop, or skip, which leaves it out and counts it")
    max_length: int | None = option(None, "tokens of a text that are read (default: as the model's files say)")
    tokens_per_batch: int | None = option(None, "tokens of a batch (default: what suits model and device)")
    attention: str = option("auto", f"attention backend: auto, {', '.join(ATTENTION)}")
    device: str = option("auto", "auto, cpu, cuda, cuda:1 …")
    precision: str = option("fp32", PRECISION)
    json: bool = option(False, "print one JSON object")

    def __post_init__(self) -> None:
        check_options(self, (), {}, {"on_error": ("stop", "skip"), "precision": PRECISIONS})
        self.check_reading()
        if (self.data is None) != (self.out is None):
            given, missing = ("out", "data") if self.data is None else ("data", "out")
            raise ValueError(f"--{given} is given without --{missing}; a file of rows needs both, texts neither")
        if self.data is not None and self.text:
            raise ValueError(f"--data {self.data} and {len(self.text)} texts are given; choose one")


@dataclass(frozen=True, kw_only=True)
class PredictOptions(JobOptions):
    pair: str | None = option(None, "a second text that goes with each text")
    top: int | None = option(None, "so many of the best labels with their probabilities, the best first")
    threshold: float = option(0.5, THRESHOLD)
    probabilities: bool = option(False, "of classes too a column for each label's probability (.jsonl has them)")
    keep: str | None = option(None, "columns of --data to repeat in --out, such as id,title (alone: all)", alone=EVERY)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is not None and self.pair is not None:
            raise ValueError(f"--pair goes with texts; the pairs of --data {self.data} are its column text_b")
        check_options(self, ("top",), {}, {})
        check_threshold(self.threshold)
        if self.top is not None and self.probabilities:
            raise ValueError("--top and --probabilities are both given; choose one")
        if self.data is None and (self.keep is not None or self.probabilities):
            given = "probabilities" if self.probabilities else "keep"
            raise ValueError(f"--{given} is for --data and --out; leave it out, --json shows all")


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(JobOptions):
    """Its own three go before what the files of sentence-transformers say; None, or neither, leaves it to them."""

    pooling: str | None = option(None, f"{', '.join(POOLINGS)} (default: as the model's files say, else mean)")
    normalize: bool = option(False, "scale vectors to length 1 (default: as the model's files say, else not)")
    no_normalize: bool = option(False, "leave vectors as they are, whatever the model's files say")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, (), {}, {"pooling": POOLINGS})
        if self.normalize and self.no_normalize:
            raise ValueError("--normalize and --no-normalize are both given; choose one")


@dataclass(frozen=True)
class FillMaskOptions:
    text: Sequence[str] = argument("texts with [MASK] (default: one a line from stdin)")
    model: str = option(BUNDLED, "directory or hub name of a pretrained BERT with its masked-LM head")
    top_k: int = option(5, "answers for each mask")
    attention: str = option("auto", f"attention backend: auto, {', '.join(ATTENTION)}")
    device: str = option("auto", "auto, cpu, cuda, cuda:1 …")
    json: bool = option(False, "print one JSON object")

    def __post_init__(self) -> None:
        check_options(self, ("top_k",), {}, {})
