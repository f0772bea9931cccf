"""Fine-tuning a classifier, the loop in the open: one process, padded batches, everything in `fit`.

    python -m minibert.core.train --model DIR --data train.tsv --dev dev.tsv --out DIR

The defaults are the paper's (appendix A.3); a small model learns with --epochs 4 --batch-size 8 --lr 5e-4. In a
notebook: `fit(model, loader, dev_loader)` with a model of model.py and two Loaders of data.py.
"""

import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn

from .config import BertConfig
from .data import Loader, label_names, read_examples
from .hub import resolve
from .model import BertForSequenceClassification
from .optimizer import learning_rate, optimizer_groups
from .tokenizer import Tokenizer

WARMUP, DECAY, CLIP = 0.1, 0.01, 1.0  # share of all steps; weight decay; largest norm of the gradients


def fit(
    model: nn.Module, loader: Loader, dev_loader: Loader, epochs: int = 3, lr: float = 5e-5, device: str = "cpu"
) -> list[float]:
    """Trains the model in place; lr is the highest rate. Returns every batch's loss. ValueError: one is NaN or inf."""
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
            if i % 5 == 4:
                accuracy = (output.argmax(dim=1) == label).float().mean().item()
                print(f"epoch {epoch + 1}  batch {i + 1:>3}  loss {losses[-1]:.4f}  accuracy {accuracy:.3f}")
        loss, accuracy = evaluate(model, dev_loader, device)
        print(f"epoch {epoch + 1}/{epochs}  dev loss {loss:.4f}  dev accuracy {accuracy:.3f}")
    return losses


def evaluate(model: nn.Module, loader: Loader, device: str = "cpu") -> tuple[float, float]:
    """Mean loss and accuracy over all rows, without dropout and without gradients."""
    model.eval()
    loss = hits = 0
    with torch.no_grad():
        for batch in loader:
            *inputs, label = (tensor.to(device) for tensor in batch)
            output = model(*inputs)  # logits [B, L]
            loss += F.cross_entropy(output, label, reduction="sum").item()
            hits += (output.argmax(dim=1) == label).sum().item()
    rows = len(loader.labels)
    return loss / rows, hits / rows


def main(words: list[str] | None = None) -> None:
    """The command line: reads, trains, and saves what `transformers` loads."""
    parser = argparse.ArgumentParser("python -m minibert.core.train", description=__doc__.splitlines()[0])
    for name in ("model", "data", "dev", "out"):
        parser.add_argument(f"--{name}", required=name != "out")
    for name, default in (("epochs", 3), ("batch-size", 32), ("lr", 5e-5), ("max-length", 128), ("seed", 0)):
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"default {default}")
    args = parser.parse_args(words)
    torch.manual_seed(args.seed)
    directory = resolve(args.model)
    rows = read_examples(args.data)
    names = label_names(rows)
    tokenizer = Tokenizer.from_pretrained(directory)
    tokenizer.model_max_length = args.max_length  # is saved with the model: texts are cut alike later
    config = BertConfig.from_file(directory / "config.json").replace(id2label=dict(enumerate(names)))
    model = BertForSequenceClassification.from_pretrained(directory, config=config)
    loader = Loader(rows, names, tokenizer, args.batch_size, args.max_length, args.seed)
    dev_loader = Loader(read_examples(args.dev), names, tokenizer, args.batch_size, args.max_length)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fit(model, loader, dev_loader, args.epochs, args.lr, device)
    if args.out:
        model.save_pretrained(args.out)
        tokenizer.save_pretrained(args.out)
    print("the last epoch's model; `minibert train` keeps the best epoch's, drops tokens, and may be a little better")


if __name__ == "__main__":
    main()
