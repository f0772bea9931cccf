"""Fine-tuning a classifier, the loop in the open: one process, padded batches, everything in `fit`.

    python -m minibert.core.train --model DIR --data train.tsv --dev dev.tsv --out DIR

The defaults are the paper's (appendix A.3); a small model learns with --epochs 4 --batch-size 8 --lr 5e-4. In a
notebook: `fit(model, loader, dev_loader)` with a model of model.py and two Loaders of data.py.
"""

from __future__ import annotations

import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn

from .config import BertConfig
from .data import Loader, label_names, read_examples
from .hub import resolve
from .model import BertForSequenceClassification
from .tokenizer import Tokenizer

WARMUP, DECAY, CLIP = 0.1, 0.01, 1.0  # share of all steps; weight decay; largest norm of the gradients


def learning_rate(step: int, total: int, peak: float, warmup: float, schedule: str = "linear") -> float:
    """The rate of step `step` (from 0) of `total`: rises linearly from 0 over the share `warmup` of all, then falls
    linearly to 0 (Devlin et al. 2018, appendix A.2; Google's optimization.py, from 0 too), or along half a cosine."""
    rising = int(warmup * total)
    if step < rising:
        return peak * step / rising
    left = (total - step) / max(1, total - rising)
    return peak * (left if schedule == "linear" else 0.5 - 0.5 * math.cos(math.pi * left))


def optimizer_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay for matrices (Linear and Embedding weights), none for vectors (biases, LayerNorms): Google's BERT."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def fit(
    model: nn.Module, loader: Loader, dev_loader: Loader, epochs: int = 3, lr: float = 5e-5, device: str = "cpu"
) -> list[float]:
    """Trains the model in place; lr is the peak. Returns the loss of every batch. ValueError: it is no number."""
    model.to(device)
    optimizer = torch.optim.AdamW(optimizer_groups(model, DECAY), lr=lr, fused=True)
    losses, total = [], epochs * len(loader)
    for epoch in range(epochs):
        model.train()
        for i, (input_ids, attention_mask, token_type_ids, label) in enumerate(loader):
            input_ids = input_ids.to(device)  # [B, S]
            attention_mask = attention_mask.to(device)  # [B, S]
            token_type_ids = token_type_ids.to(device)  # [B, S]
            label = label.to(device)  # [B]
            output = model(input_ids, attention_mask, token_type_ids)  # logits [B, L]
            loss = F.cross_entropy(output, label)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(len(losses), total, lr, WARMUP)
            optimizer.step()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise ValueError(f"the loss is {losses[-1]} at step {len(losses)}; try a smaller lr than {lr:g}")
            if (i + 1) % 5 == 0:
                accuracy = (output.argmax(dim=1) == label).float().mean().item()
                print(f"epoch {epoch + 1}  batch {i + 1:>3}  loss {losses[-1]:.4f}  accuracy {accuracy:.3f}")
        loss, accuracy = evaluate(model, dev_loader, device)
        print(f"epoch {epoch + 1}/{epochs}  dev loss {loss:.4f}  dev accuracy {accuracy:.3f}")
    return losses


def evaluate(model: nn.Module, loader: Loader, device: str = "cpu") -> tuple[float, float]:
    """Mean loss and accuracy over all rows, without dropout and without gradients."""
    model.eval()
    loss, hits = 0.0, 0
    with torch.no_grad():
        for input_ids, attention_mask, token_type_ids, label in loader:
            output = model(input_ids.to(device), attention_mask.to(device), token_type_ids.to(device)).cpu()
            loss += F.cross_entropy(output, label, reduction="sum").item()
            hits += (output.argmax(dim=1) == label).sum().item()
    return loss / len(loader.labels), hits / len(loader.labels)


def main(words: list[str] | None = None) -> None:
    """The command line: reads, trains, and saves what `transformers` loads."""

    parser = argparse.ArgumentParser(prog="python -m minibert.core.train", description=__doc__.splitlines()[0])
    for name in ("model", "data", "dev", "out"):
        parser.add_argument(f"--{name}", required=name != "out")
    for name, default in (("epochs", 3), ("batch-size", 32), ("lr", 5e-5), ("max-length", 128), ("seed", 0)):
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"default {default}")
    args = parser.parse_args(words)
    torch.manual_seed(args.seed)
    directory, rows, dev = resolve(args.model), read_examples(args.data), read_examples(args.dev)
    names, tokenizer = label_names(rows), Tokenizer.from_pretrained(directory)
    tokenizer.model_max_length = args.max_length  # is saved with the model: texts are cut alike later
    config = BertConfig.from_file(directory / "config.json").replace(id2label=dict(enumerate(names)))
    model = BertForSequenceClassification.from_pretrained(directory, config=config)
    loader = Loader(rows, names, tokenizer, args.batch_size, args.max_length, args.seed)
    dev_loader = Loader(dev, names, tokenizer, args.batch_size, args.max_length)
    fit(model, loader, dev_loader, args.epochs, args.lr, "cuda" if torch.cuda.is_available() else "cpu")
    if args.out:
        model.save_pretrained(args.out)
        tokenizer.save_pretrained(args.out)
    print("the last epoch's model; `minibert train` keeps the best epoch's, drops tokens, and may be a little better")


if __name__ == "__main__":
    main()
