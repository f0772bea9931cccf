"""Trained models at work: texts in, answers out, in the order of the texts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from minibert.config import BertConfig
from minibert.data import by_length, check_vocabulary, chunks, collate
from minibert.hub import resolve
from minibert.model import BertForSequenceClassification, BertModel
from minibert.tokenizer import Encoding, Tokenizer


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


class _FromPretrained:
    """Loads a model of `model_class` and its tokenizer from one directory or hub name."""

    model_class: type[nn.Module]

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, device: str = "auto") -> None:
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.config: BertConfig = model.config

    @classmethod
    def from_pretrained(cls, name: str | Path, attention: str = "auto", device: str = "auto") -> Self:
        """Raises ValueError where model or vocabulary cannot be used, or do not belong together."""
        directory = resolve(name)
        tokenizer = Tokenizer.from_pretrained(directory)
        check_vocabulary(tokenizer, BertConfig.from_file(directory / "config.json"), str(name))
        model = cls.model_class.from_pretrained(directory, attention, fresh_heads=False)
        return cls(model, tokenizer, device)

    @property
    def max_length(self) -> int:
        """Tokens of a text that are read: as many as in training, which the tokenizer's files record."""
        return min(self.tokenizer.model_max_length, self.config.max_position_embeddings)

    def _encode(self, texts: Iterable[str], pairs: Iterable[str] | None, max_length: int | None) -> Encoding:
        length = self.max_length if max_length is None else min(max_length, self.config.max_position_embeddings)
        return self.tokenizer(texts, pairs, max_length=length, padding="none")


class TextClassifier(_FromPretrained):
    """A trained classifier and its tokenizer.

    >>> clf = TextClassifier.from_pretrained(DIR)                    # doctest: +SKIP
    >>> clf.predict(["房间很干净，下次还住"])                            # doctest: +SKIP
    [('positive', 0.97)]
    """

    model_class = BertForSequenceClassification
    model: BertForSequenceClassification

    @property
    def labels(self) -> list[str]:
        """Class names, by logit column."""
        return [self.config.id2label[i] for i in range(self.config.num_labels)]

    def logits(
        self,
        texts: Iterable[str],
        pairs: Iterable[str] | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
    ) -> Tensor:
        """[N, L] float32 on the CPU, row i for text i. Texts longer than `max_length` are cut."""
        return classify(self.model, self._encode(texts, pairs, max_length), self.tokenizer.pad_id, batch_size)

    def predict(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> list[tuple[str, float]]:
        """For each text the likeliest label and its probability."""
        best = self.logits(texts, pairs).softmax(dim=1).max(dim=1)
        return [(self.labels[i], p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


class TextEncoder(_FromPretrained):
    """Sentence vectors of a bare encoder."""

    model_class = BertModel
    model: BertModel

    @torch.no_grad()
    def embed(self, texts: Iterable[str], pooling: str = "mean", batch_size: int = 32) -> Tensor:
        """[N, E] float32 on the CPU, row i for text i.

        pooling: "mean" over the real tokens (sentence-transformers' usual choice) or "cls", the vector of [CLS].
        """
        if pooling not in ("mean", "cls"):
            raise ValueError(f"pooling {pooling!r} is unknown; choose mean or cls")
        encoding = self._encode(texts, None, None)
        vectors = torch.empty(len(encoding.length), self.config.hidden_size)
        for rows in chunks(by_length(encoding.length), batch_size):
            batch = collate(encoding, None, rows, self.tokenizer.pad_id).to(self.device)
            hidden = self.model(batch.input_ids, batch.attention_mask, batch.token_type_ids).last_hidden_state
            real = batch.attention_mask[:, :, None]  # [B, S, 1]
            mean = (hidden * real).sum(dim=1) / real.sum(dim=1)  # [B, E]
            vectors[rows] = (mean if pooling == "mean" else hidden[:, 0]).float().cpu()
        return vectors


@torch.no_grad()
def classify(model: BertForSequenceClassification, encoding: Encoding, pad_id: int, batch_size: int) -> Tensor:
    """Logits of encoded rows, [N, L] float32 on the CPU, in their order; the model is expected in eval mode."""
    device = next(model.parameters()).device
    logits = torch.empty(len(encoding.length), model.config.num_labels)
    for rows in chunks(by_length(encoding.length), batch_size):
        batch = collate(encoding, None, rows, pad_id).to(device)
        logits[rows] = model(batch.input_ids, batch.attention_mask, batch.token_type_ids).float().cpu()
    return logits


# ---- scores ----


class Scores(NamedTuple):
    """How good predictions are: accuracy, mean cross-entropy (nats), macro-averaged F1, and the confusion matrix."""

    accuracy: float
    loss: float
    macro_f1: float
    confusion: list[list[int]]  # [L, L], rows true, columns predicted


def score(logits: Tensor, labels: NDArray[np.int64]) -> Scores:
    """logits [N, L], labels [N]. A class that neither occurs nor is predicted counts as F1 0, as in scikit-learn."""
    truth, predicted = torch.from_numpy(labels), logits.argmax(dim=1)
    L = logits.shape[1]
    confusion = torch.bincount(truth * L + predicted, minlength=L * L).view(L, L)
    hits = confusion.diagonal().double()
    f1 = 2 * hits / (confusion.sum(dim=0) + confusion.sum(dim=1)).clamp(min=1)
    accuracy = (truth == predicted).double().mean().item()
    return Scores(accuracy, F.cross_entropy(logits, truth).item(), f1.mean().item(), confusion.tolist())
