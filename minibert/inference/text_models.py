"""Trained models at work: texts in, answers out, in the order of the texts."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from minibert.core.config import BertConfig
from minibert.core.tokenizer import as_list
from minibert.fast import products
from minibert.fast.batches import Batch, by_length, check_vocabulary, collate_packed, token_chunks
from minibert.fast.models import BertForSequenceClassification
from minibert.fast.options import PRECISIONS
from minibert.fast.prepacked import prepack
from minibert.fast.twins import prepare
from minibert.inference.answers import activated, answers, for_cross_encoders, read_config
from minibert.io.bundled import resolve
from minibert.io.findings import Finding
from minibert.lazy import face
from minibert.text.data_doubts import Doubts
from minibert.text.tokenizer import Encoding, Tokenizer

# Tokens of a batch: enough for the matrix products, few enough for the caches. On a CPU its widest numbers, [T, F] in
# float32, have to stay below 32 MiB: larger ones glibc takes from the system each time, and new pages cost more than
# longer products gain.
TOKENS, WIDEST = {"cpu": 4096, "cuda": 32768}, 31 << 20

OWN = "minibert"  # in config.json, what this package alone says, and transformers keeps

# They stood here, and can still be asked for
__getattr__, _ = face("minibert.inference", {"text_encoder": "TextEncoder sentence_vectors"})


def pick_device(name: str) -> torch.device:
    """ "auto": a GPU where there is one.

    Raises:
        ValueError: the device does not exist here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here ({reason}); choose cpu") from None
    return device


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What a model is to answer in. "bf16": weights and activations in bfloat16, which has 8 bits where float32 has 24.

    Raises:
        ValueError: a precision that is unknown, or that the device does not have.
    """
    gpu = device.type == "cuda"
    known = torch.cuda.is_bf16_supported() if gpu else products.BF16 or device.type != "cpu"
    native = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else products.BF16_IN_HARDWARE
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; choose {', '.join(PRECISIONS)}")
    if precision == "bf16" and not known:
        raise ValueError(f"precision bf16: on this {device.type} PyTorch has no fast bfloat16; choose fp32")
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and native) else torch.float32


class TrainedModel:
    """Loads a model of `model_class` and its tokenizer from one directory or hub name."""

    model_class: type[nn.Module]

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, device: str = "auto") -> None:
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.config: BertConfig = model.config

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        attention: str = "auto",
        device: str = "auto",
        mapped: bool = False,
        precision: str = "fp32",
        keep_weights: bool = True,
    ) -> Self:
        """mapped: see Pretrained.from_pretrained. precision: "fp32", "bf16" or "auto", see pick_dtype. keep_weights:
        False for a model that only answers; faster with AVX-512, on short texts above all: see fast.prepack.

        Raises:
            ValueError: model or vocabulary cannot be used, or do not belong together; the device lacks the precision.
        """
        dtype = pick_dtype(precision, pick_device(device))
        directory = resolve(name)
        tokenizer = Tokenizer.from_pretrained(directory)
        config = cls.read_config(directory, tokenizer)
        check_vocabulary(tokenizer, config, str(name))
        model = cls.model_class.from_pretrained(directory, attention, config=config, fresh_heads=False, mapped=mapped)
        made = cls(model.to(dtype), tokenizer, device)
        if not keep_weights:
            prepack(made.model)
        return made

    @staticmethod
    def read_config(directory: Path, tokenizer: Tokenizer) -> BertConfig:
        """What the files say, to the tokenizer too."""
        return BertConfig.from_file(directory / "config.json")

    @property
    def max_length(self) -> int:
        """Tokens of a text that are read: as many as in training, which the tokenizer's files record."""
        return self.tokens_read(self.tokenizer.model_max_length)

    def tokens_read(self, max_length: int | None) -> int:
        """Of a text where so many are asked for: no more than the model has positions. None: `max_length`."""
        return self.max_length if max_length is None else min(max_length, self.config.max_position_embeddings)

    def encode(
        self, texts: Iterable[str], pairs: Iterable[str] | None = None, max_length: int | None = None
    ) -> Encoding:
        """The texts' tokens, as many of each as `tokens_read` says, unpadded."""
        return self.tokenizer(texts, pairs, max_length=self.tokens_read(max_length), padding="none")

    def doubts(
        self, name: str, texts: list[str], pairs: list[str] | None = None, max_length: int | None = None
    ) -> list[Finding]:
        """What is worth a line about texts that are to be answered: much that is [UNK], much that is cut."""
        encoding = self.encode(texts, pairs, max_length)
        return Doubts(self.tokenizer, self.tokens_read(max_length)).about(name, texts, pairs, encoding)


class TextClassifier(TrainedModel):
    """A trained classifier and its tokenizer: of classes, of several labels at once, or of one score (answers.py).

    >>> clf = TextClassifier.from_pretrained(DIR)                    # doctest: +SKIP
    >>> clf.predict(["房间很干净，下次还住"])                            # doctest: +SKIP
    [('positive', 0.97)]
    """

    model_class = BertForSequenceClassification
    model: BertForSequenceClassification
    read_config = staticmethod(read_config)

    @property
    def labels(self) -> list[str]:
        """Class names, by logit column."""
        return [self.config.id2label[i] for i in range(self.config.num_labels)]

    def encode(
        self, texts: Iterable[str], pairs: Iterable[str] | None = None, max_length: int | None = None
    ) -> Encoding:
        """See TrainedModel.encode. ValueError: as `check_shape`."""
        if texts := as_list(texts, "texts"):
            self.check_shape(pairs is not None, "texts")
        return super().encode(texts, pairs, max_length)

    def check_shape(self, pairs: bool, source: str) -> None:
        """Raises ValueError where pairs, or single texts, come to a model that was trained on the others."""
        if wrong := misfit(self.config, pairs):
            typed = source == "texts"
            if pairs:
                remedy = "leave --pair out" if typed else "name the one --text-column"
            else:
                remedy = "give each its second: --pair TEXT" if typed else "give each its second, in a --pair-column"
            raise ValueError(f"{source}: {wrong}; {remedy}")

    def logits(
        self,
        texts: Iterable[str],
        pairs: Iterable[str] | None = None,
        max_length: int | None = None,
        tokens_per_batch: int | None = None,
    ) -> Tensor:
        """[N, L] float32 on the CPU, row i for text i. Texts longer than `max_length` are cut."""
        return classify(self.model, self.encode(texts, pairs, max_length), tokens_per_batch)

    def probabilities(
        self,
        texts: Iterable[str],
        pairs: Iterable[str] | None = None,
        max_length: int | None = None,
        tokens_per_batch: int | None = None,
    ) -> Tensor:
        """[N, L] float32 on the CPU: softmax of the logits, sigmoid, or (of a regression, say) the logits themselves,
        as transformers' text-classification pipeline and a CrossEncoder of sentence-transformers give them."""
        return activated(self.config, self.logits(texts, pairs, max_length, tokens_per_batch))

    def predict(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> list[tuple[str, float]]:
        """For each text the likeliest label and its probability; of a single label its name and score; of several
        labels at once all of probability 0.5 and more, joined by "|", and the probability of the least certain
        decision."""
        return [(answer.label, answer.value) for answer in answers(self.config, self.logits(texts, pairs))]

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes a directory that transformers' pipeline and sentence-transformers' CrossEncoder load and answer like
        this, except that a CrossEncoder gives several classes' logits."""
        model = copy.copy(self.model)  # shares the weights
        model.config = for_cross_encoders(self.config)
        model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)


def with_shape(config: BertConfig, pairs: bool) -> BertConfig:
    """The config, saying whether the model is trained on pairs."""
    return config.replace(others={**config.others, OWN: {"pairs": pairs}})


def misfit(config: BertConfig, pairs: bool) -> str:
    """What is wrong with pairs, or with single texts, for a model; "" where they fit, or where it does not say what it
    was trained on."""
    own = config.others.get(OWN)
    if not isinstance(own, dict) or own.get("pairs") is not (not pairs):
        return ""
    here, there = ("pairs", "single texts")[:: 1 if pairs else -1]
    return f"{here}, but the model was trained on {there}"


@torch.no_grad()
def classify(
    model: BertForSequenceClassification,
    encoding: Encoding,
    tokens_per_batch: int | None = None,
    order: Sequence[int] | None = None,
) -> Tensor:
    """Logits of encoded rows, [N, L] float32 on the CPU, in their order; the model is expected in eval mode.

    order: some of the rows, the longest first; those of the others are 0.
    """
    logits, model = torch.zeros(len(encoding.length), model.config.num_labels), prepare(model)
    for rows, batch in batches(encoding, tokens_per_batch, model, True, order):
        logits[rows] = model(*batch[:-1]).float().cpu()
    return logits


def token_budget(tokens_per_batch: int | None, model: nn.Module) -> int:
    """What is asked, else what suits the model where it is."""
    if tokens_per_batch is not None:
        return tokens_per_batch
    if next(model.parameters()).device.type == "cuda":
        return TOKENS["cuda"]
    return min(TOKENS["cpu"], max(1, WIDEST // (4 * model.config.intermediate_size)))


def batches(
    encoding: Encoding,
    tokens_per_batch: int | None,
    model: nn.Module,
    first_only: bool = False,
    order: Sequence[int] | None = None,
) -> Iterator[tuple[list[int], Batch]]:
    """All rows, or those of `order`, in packed batches, the longest first: (their numbers, the batch)."""
    budget, device = token_budget(tokens_per_batch, model), next(model.parameters()).device
    order = by_length(encoding.length) if order is None else order
    for rows in token_chunks(order, encoding.length, budget):
        rows.reverse()  # shortest first inside: sorted that way, attention need not move a token
        yield rows, collate_packed(encoding, None, rows, device, first_only=first_only)
