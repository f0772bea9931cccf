"""What a fine-tuning run starts from: a tokenizer, an encoder, and a head, the model's own or a new one.

A head goes on where it is for the same task and the same labels; their order is then the model's, as its rows have it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from minibert.core.config import BertConfig
from minibert.core.data import Examples
from minibert.fast.models import BertForSequenceClassification, BertModel
from minibert.inference.answers import TASKS, cross_encoders_own, for_cross_encoders, task_of, without_activation
from minibert.inference.text_models import with_shape
from minibert.io.bundled import resolve
from minibert.io.labels import names_of
from minibert.io.stderr import say
from minibert.text.tokenizer import Tokenizer
from minibert.text.vocab import learn_vocabulary
from minibert.training.engine import config_for, model_for
from minibert.training.options import TrainOptions


def label_order(options: TrainOptions, rows: Examples, record: dict | None) -> tuple[list[str], bool]:
    """The labels by logit column, and whether the head of --model has them so.

    record: of a run that is resumed. Without labels in it, it is of a release that sorted them in any case.
    """
    names = names_of(rows, options.task)
    if options.model is None or (record is not None and "labels" not in record):
        return names, False
    config = BertConfig.from_file(resolve(options.model) / "config.json")
    return own_order(names, options.task, config)


def own_order(names: list[str], task: str, config: BertConfig) -> tuple[list[str], bool]:
    """The labels in the order of a model's own head, and True, where it is for this task and has the same; else as they
    are, and False. A model without such a head has the order of its config, which does no harm."""
    own = list(config.id2label.values())
    if task_of(config) != task or len(own) != len(names):
        return names, False
    if task == "regression":  # a score behind a sigmoid is another one
        said = cross_encoders_own(config)
        return own, config.problem_type == "regression" if said is None else str(said).endswith("Identity")
    if set(own) == set(names):
        return own, True
    unnamed = own == [f"LABEL_{i}" for i in range(len(own))]
    return names, unnamed and names == [str(i) for i in range(len(own))]  # 0 is LABEL_0, as for `evaluate`


def build(
    options: TrainOptions, rows: Examples, names: list[str], kept: bool
) -> tuple[Tokenizer, BertForSequenceClassification]:
    """Tokenizer and model: from a checkpoint, or from scratch with a vocabulary learned from the training rows.

    kept: whether the checkpoint's head, if it has one, is for these labels.
    """
    if options.model is not None:
        tokenizer = Tokenizer.from_pretrained(resolve(options.model))
    else:
        tokenizer = Tokenizer(learn_vocabulary(rows.texts + (rows.pairs or []), options.vocab_size))
    tokenizer.model_max_length = options.max_length  # goes into the trained directory, where texts are cut alike
    changes: dict[str, object] = {"id2label": dict(enumerate(names))}
    changes["problem_type"] = next(theirs for theirs, ours in TASKS.items() if ours == options.task)
    if options.dropout is not None:
        changes["classifier_dropout"] = options.dropout
    config = config_for(options, tokenizer, changes)
    config = with_shape(for_cross_encoders(without_activation(config)), rows.pairs is not None)
    if options.model is None or kept:
        model = model_for(BertForSequenceClassification, options, config)
    else:
        model = with_new_head(options, config)
    if options.model is not None and options.pooler == "fresh":
        model.init_weights(model.bert.pooler)
    freeze(model, options.freeze)
    return tokenizer, model


def with_new_head(options: TrainOptions, config: BertConfig) -> BertForSequenceClassification:
    """The checkpoint's encoder under a head that is drawn from the run's seed, which is said."""
    before = BertConfig.from_file(resolve(options.model) / "config.json")
    wanted = "one number" if options.task == "regression" else some(config.id2label.values())
    own = ""
    if "BertForSequenceClassification" in str(before.others.get("architectures")):
        own = f"; its own, not used, is for {some(before.id2label.values())} ({task_of(before)})"
    say(f"{options.model}: a new head is drawn, for {wanted} ({options.task}){own}")
    torch.manual_seed(options.seed)
    model = BertForSequenceClassification.without_memory(config, options.attention)
    model.bert = BertModel.from_pretrained(resolve(options.model), options.attention, config=config)
    model.init_weights(model.classifier.to_empty(device="cpu"))
    return model.eval()


def some(names: Iterable[str]) -> str:
    """Names in a line, of many the first."""
    names = list(names)
    return ", ".join(names[:5]) + f", … ({len(names)})" * (len(names) > 5)


def freeze(model: BertForSequenceClassification, layers: int | None) -> None:
    """Leaves the embeddings and the first layers as they are. ValueError: the model has fewer."""
    if layers is None:
        return
    if layers > (count := len(model.bert.layers)):
        raise ValueError(f"freeze is {layers}; the model has {count} layers, so give 0 (the embeddings) to {count}")
    for part in (model.bert.embeddings, *model.bert.layers[:layers]):
        part.requires_grad_(False)
