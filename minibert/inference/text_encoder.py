"""Sentence vectors: each text's tokens through the encoder, pooled to one vector, as sentence-transformers does it.

Batches are packed, so pooling never meets padding. Letters: N texts, B rows of a batch, T its tokens, E hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from minibert.core.hub import resolve
from minibert.core.tokenizer import as_list
from minibert.fast.layout import Packed
from minibert.fast.models import BertModel
from minibert.fast.twins import prepare
from minibert.inference.options import POOLINGS
from minibert.inference.sentence_files import read_files, write_files
from minibert.inference.text_models import TrainedModel, batches, misfit
from minibert.io.stderr import say
from minibert.text.tokenizer import Encoding, Tokenizer


class TextEncoder(TrainedModel):
    """Sentence vectors of a bare encoder.

    pooling: one of POOLINGS. normalize: whether vectors are scaled to length 1. prompt: what stands before every text.

    >>> encoder = TextEncoder.from_pretrained(DIR)                    # doctest: +SKIP
    >>> encoder.embed(["房间很干净", "The room was clean."]).shape       # doctest: +SKIP
    torch.Size([2, 384])
    """

    model_class = BertModel
    model: BertModel

    def __init__(
        self,
        model: BertModel,
        tokenizer: Tokenizer,
        device: str = "auto",
        pooling: str = "mean",
        normalize: bool = False,
        prompt: str = "",
    ) -> None:
        super().__init__(model, tokenizer, device)
        self.pooling, self.normalize, self.prompt = checked_pooling(pooling), normalize, prompt

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        attention: str = "auto",
        device: str = "auto",
        mapped: bool = False,
        pooling: str | None = None,
        normalize: bool | None = None,
        precision: str = "fp32",
        keep_weights: bool = True,
    ) -> Self:
        """A model and what its sentence-transformers files say; without such files the mean, not normalised.

        pooling, normalize: what goes before that. mapped, precision, keep_weights: see TrainedModel.from_pretrained.

        Raises:
            ValueError: model or vocabulary cannot be used, or the files ask for what minibert does not do.
        """
        said = read_files(resolve(name), None if pooling is None else checked_pooling(pooling))
        encoder = super().from_pretrained(said.folder, attention, device, mapped, precision, keep_weights)
        encoder.pooling, encoder.prompt = said.pooling, said.prompt
        encoder.normalize = said.normalize if normalize is None else normalize
        tokenizer = encoder.tokenizer
        if said.max_length is not None:
            tokenizer.model_max_length = min(said.max_length, encoder.config.max_position_embeddings)
        if said.lowercase and not tokenizer.lowercase:  # and nothing else: accents stay
            tokenizer.lowercase, tokenizer.strip_accents = True, bool(tokenizer.strip_accents)
        return encoder

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes what `from_pretrained` and sentence_transformers.SentenceTransformer(directory) load, with equal
        vectors; of a model in bfloat16 the weights as they are rounded, which are then read as float32. Model and
        tokenizer come last: what an interruption leaves is no model without its pooling."""
        directory = Path(directory)
        E = self.config.hidden_size
        self.model.state_dict()  # a model without its weights is refused before anything is written
        write_files(directory, self.pooling, self.normalize, self.max_length, self.prompt, E)
        self.tokenizer.save_pretrained(directory)
        self.model.save_pretrained(directory)

    def encode(
        self, texts: Iterable[str], pairs: Iterable[str] | None = None, max_length: int | None = None
    ) -> Encoding:
        """As TrainedModel.encode, the prompt before each text."""
        if self.prompt:
            texts = [self.prompt + text if isinstance(text, str) else text for text in as_list(texts, "texts")]
        return super().encode(texts, pairs, max_length)

    def check_shape(self, pairs: bool, source: str) -> None:
        """Says where pairs, or single texts, come to a model that was trained on the others."""
        if wrong := misfit(self.config, pairs):
            say(f"{source}: {wrong}; its vectors may mean little")

    def embed(
        self,
        texts: Iterable[str],
        pooling: str | None = None,
        tokens_per_batch: int | None = None,
        max_length: int | None = None,
        normalize: bool | None = None,
    ) -> Tensor:
        """[N, E] float32 on the CPU, row i for text i.

        pooling, normalize, max_length: other than the encoder's own. Poolings are over all real tokens, [CLS] and [SEP]
        with them: "cls", the first; "mean"; "max", number by number; "mean-sqrt", the sum over the root of the count;
        "weighted-mean", the n-th counting n times; "last".
        """
        return self.vectors(self.encode(texts, None, max_length), pooling, tokens_per_batch, normalize)

    def vectors(
        self,
        encoding: Encoding,
        pooling: str | None = None,
        tokens_per_batch: int | None = None,
        normalize: bool | None = None,
    ) -> Tensor:
        """The same of encoded rows."""
        found = sentence_vectors(self.model, encoding, pooling or self.pooling, tokens_per_batch)
        return F.normalize(found) if (self.normalize if normalize is None else normalize) else found


@torch.no_grad()
def sentence_vectors(
    model: BertModel, encoding: Encoding, pooling: str = "mean", tokens_per_batch: int | None = None
) -> Tensor:
    """Vectors of encoded rows, [N, E] float32 on the CPU, in their order; the model is expected in eval mode."""
    first = checked_pooling(pooling) == "cls"
    vectors, model = torch.empty(len(encoding.length), model.config.hidden_size), prepare(model)
    for rows, batch in batches(encoding, tokens_per_batch, model, first_only=first):
        hidden = model(*batch[:-1]).last_hidden_state  # [T, E]; of [CLS] alone [B, E]
        vectors[rows] = (hidden if first else pooled(hidden.float(), batch.layout, pooling)).float().cpu()
    return vectors


def pooled(hidden: Tensor, layout: Packed, pooling: str) -> Tensor:
    """One vector for each row, by any pooling but "cls". [T, E] -> [B, E]"""
    lengths = layout.cu_seqlens.diff().long()  # [B]
    if pooling == "last":
        return hidden.index_select(0, layout.cu_seqlens[1:].long() - 1)
    if pooling in ("mean", "max"):
        return torch.segment_reduce(hidden, pooling, lengths=lengths)
    count = lengths[:, None].float()
    if pooling == "mean-sqrt":
        return torch.segment_reduce(hidden, "sum", lengths=lengths) / count.sqrt()
    weights = (layout.position_ids[:, None] + 1).float()  # 1, 2, … in each row
    return torch.segment_reduce(hidden * weights, "sum", lengths=lengths) / (count * (count + 1) / 2)


def checked_pooling(pooling: str) -> str:
    """Raises ValueError for one that is not known."""
    if pooling not in POOLINGS:
        raise ValueError(f"pooling {pooling!r} is unknown; choose {', '.join(POOLINGS)}")
    return pooling
