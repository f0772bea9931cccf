"""What would pretraining BERT-base on 8 GPUs × 16 machines take? On paper: formulas, printed with their numbers.

    python -m benchmarks.scale_out                                     # at an assumed 50 % of an H100's peak
    python -m benchmarks.scale_out --tokens-per-second 700000          # of one GPU, measured
    python -m benchmarks.scale_out --machines 2 --gpus 4 --length 128

Nothing here is measured but what is given by --tokens-per-second. Expect the network to decide: gradients are 4 bytes a
weight at every optimizer step, however few tokens the step had.

    N   weights, counted in a model built here      G = gpus × machines      F = FLOPs of a token, forward and backward
    F = 3 · (2 · matrices + 4 · S · E · layers)     a matrix product is 2 FLOPs a weight; attention 2 · S · E, twice
    compute = tokens per GPU and step / (tokens per second of one GPU)
    DDP  moves 2 · (G - 1) / G · 4 N bytes through each GPU a step: reduce-scatter, all-gather
    FSDP moves 3 · (G - 1) / G · 4 N: all-gather before forward and before backward, reduce-scatter
    A ring leaves and enters every machine once, so a machine sends as much as each of its GPUs.
    Hidden while the network is not slower than the backward pass, two thirds of the computing.
"""

import argparse

import torch

from minibert.core.config import PRESETS, BertConfig
from minibert.fast.models import BertForPreTraining

H100 = 989e12  # dense bf16 FLOP/s, NVIDIA's data sheet (SXM)
MASKED = 0.15  # of the tokens go through the masked LM head
PAPER = 0.9 * 1e6 * 256 * 128 + 0.1 * 1e6 * 256 * 512  # tokens of the original's million steps (appendix A.2)


def weights(config: BertConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in BertForPreTraining(config).parameters())


def flops(config: BertConfig, length: int) -> float:
    """Forward and backward, of one token."""
    E, F, L = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    matrices = L * (4 * E * E + 2 * E * F) + MASKED * (E * E + E * config.vocab_size)
    return 3 * (2 * matrices + 4 * length * E * L)


def rows(options: argparse.Namespace) -> list[tuple[str, str]]:
    config = BertConfig(vocab_size=30522, **PRESETS["base"])
    N, G, F = weights(config), options.gpus * options.machines, flops(config, options.length)
    assumed = options.tokens_per_second is None
    speed = options.share * H100 / F if assumed else options.tokens_per_second
    source = f"not measured: {options.share:.0%} of {H100 / 1e12:.0f} TFLOP/s" if assumed else "as given"
    seconds = options.tokens / speed
    ddp, fsdp = (times * (G - 1) / G * 4 * N for times in (2, 3))
    backward = seconds * 2 / 3
    sending = ddp / (options.network * 1e9 / 8)
    step = seconds - backward + max(backward, sending)
    state = 12 * N
    return [
        ("weights, FLOPs a token", f"{N / 1e6:.1f} M, {F / 1e6:.0f} MFLOP"),
        ("one GPU", f"{speed:,.0f} tokens/s ({source})"),
        ("one step", f"{options.tokens * G / 1e6:.1f} M tokens, {1e3 * seconds:.0f} ms of computing"),
        ("through each GPU a step", f"{ddp / 1e9:.2f} GB by DDP, {fsdp / 1e9:.2f} GB by FSDP2"),
        ("network that hides DDP's", f"{8 * ddp / backward / 1e9:.0f} Gbit/s a machine"),
        (
            f"DDP at {options.network:.0f} Gbit/s",
            f"{1e3 * step:.0f} ms a step, {options.tokens * G / step / 1e6:.0f} M tokens/s",
        ),
        ("the paper's 43 G tokens", f"{PAPER / (options.tokens * G / step) / 60:.0f} minutes"),
        ("weights, gradients, AdamW", f"{16 * N / 1e9:.2f} GB a GPU by DDP, {16 * N / G / 1e9:.3f} by FSDP2"),
        ("a checkpoint", f"{state / 1e9:.2f} GB; with --keep 2 and one being written {3 * state / 1e9:.1f} GB"),
        ("the corpus as ids", f"{4 * 3.3:.0f} GB and more: 3.3 G words (section 3.1), 4 bytes a token"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=8, help="of a machine")
    parser.add_argument("--machines", type=int, default=16)
    parser.add_argument("--length", type=int, default=512, help="tokens of a row")
    parser.add_argument("--tokens", type=int, default=65536, help="of a GPU and optimizer step, accumulation included")
    parser.add_argument("--tokens-per-second", type=float, help="of one GPU, measured")
    parser.add_argument("--share", type=float, default=0.5, help="of the peak, where nothing is measured")
    parser.add_argument("--network", type=float, default=400.0, help="Gbit/s of a machine")
    for name, value in rows(parser.parse_args()):
        print(f"{name:<28}{value}")


if __name__ == "__main__":
    main()
