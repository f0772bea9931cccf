"""What a pretrained model would put in the place of [MASK]: tokens and their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch

from minibert.fast.layout import upload
from minibert.fast.models import BertForMaskedLM
from minibert.inference.options import FillMaskOptions
from minibert.inference.text_models import TrainedModel, batches
from minibert.text.encode_table import columns_of
from minibert.text.tokenizer import Encoding, Tokenizer


class MaskFiller(TrainedModel):
    """A pretrained masked-LM model and its tokenizer."""

    model_class = BertForMaskedLM


class Candidate(TypedDict):
    token: str
    id: int
    probability: float


def fill(options: FillMaskOptions, texts: Sequence[str]) -> list[list[list[Candidate]]]:
    """For each text, for each of its masks in order, the likeliest tokens, best first.

    Raises:
        ValueError: the model cannot be used or has no masked-LM head, or a text has no mask or is too long.
    """
    trained = MaskFiller.from_pretrained(options.model, options.attention, options.device)
    tokenizer, config = trained.tokenizer, trained.config
    encoding = encoded(tokenizer, texts, config.max_position_embeddings)
    answers: list[list[list[Candidate]]] = [[] for _ in texts]
    for rows, batch in batches(encoding, None, trained.model):
        masks = np.flatnonzero(np.concatenate([encoding.input_ids[row] for row in rows]) == tokenizer.mask_id)
        owner = np.repeat(rows, encoding.length[rows])[masks]
        with torch.no_grad():
            logits = trained.model(*batch[:-1], positions=upload(masks, trained.device))  # [M, V]
        shares = logits.float().softmax(dim=1)[:, : tokenizer.vocab_size]  # other rows have no token
        best = shares.topk(min(options.top_k, tokenizer.vocab_size), dim=1)
        for row, ids, found in zip(owner.tolist(), best.indices.tolist(), best.values.tolist(), strict=True):
            found = zip(ids, found, strict=True)
            answers[row].append([{"token": tokenizer.vocab[i], "id": i, "probability": p} for i, p in found])
    return answers


def encoded(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> Encoding:
    """The texts, none of which is cut."""
    encoding = tokenizer(texts, truncation="none", padding="none")
    mask = tokenizer.special_tokens["mask_token"]
    for text, ids, length in zip(texts, encoding.input_ids, encoding.length.tolist(), strict=True):
        if tokenizer.mask_id not in ids:
            raise ValueError(f"{text[:60]!r} holds no {mask}; write it where a token is to be found")
        if length > max_length:
            raise ValueError(f"{text[:60]!r} has {length} tokens, more than the model's {max_length}; shorten it")
    return encoding


def fills_table(text: str, masks: list[list[Candidate]]) -> str:
    """The text, then a column of tokens and one of probabilities for each mask.

    白日依山[MASK],黄河入海流。
      尽  0.9120
      上  0.0210
    """
    columns = []
    for answers in masks:
        width = max(columns_of(answer["token"]) for answer in answers)
        columns.append(
            [f"{a['token']}{' ' * (width - columns_of(a['token']))}  {a['probability']:.4f}" for a in answers]
        )
    return "\n".join([text, *("  " + "    ".join(row) for row in zip(*columns, strict=True))])
