"""The ladder of parity: where, on the way from ids to logits, does a model first differ from the reference?

Every stage of the forward pass is compared with `reference.py` in float64, for each attention backend and (where it is
installed) for `transformers`, over a sweep of lengths, each as a padded batch of pairs of which the real tokens count.

A stage has to agree within TOLERANCE; where its numbers are larger than 1 (one of MiniLM's feed-forward outputs
reaches 186, its last vectors 6), within TOLERANCE of the largest, for float32 keeps seven digits. How many of them are
right depends on the processor's kernels. The first stage above the limit is where to start looking.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minibert.core import reference
from minibert.core.checkpoint import TABLE, read_weights, their_name, translate
from minibert.core.config import BertConfig
from minibert.core.model import BertBase
from minibert.core.weights import export_weights
from minibert.fast.architecture import model_class
from minibert.io.bundled import resolve
from minibert.io.stderr import say
from minibert.look.activations import capture
from minibert.look.options import LENGTHS, ParityOptions

TOLERANCE = 1e-5
BACKENDS = ("eager", "sdpa")  # of the others the tests take care


@dataclass
class Rung:
    """One stage: how far each candidate is from the reference, at worst over the sweep."""

    stage: str
    size: float  # largest absolute value of the stage in the reference
    differences: dict[str, float]  # "eager", "sdpa", "transformers" -> largest absolute difference

    @property
    def limit(self) -> float:
        """The largest difference that float32 explains."""
        return TOLERANCE * max(1.0, self.size)

    def take(self, who: str, difference: float) -> None:
        """The worst that a candidate has shown; NaN is worse than any number."""
        self.differences[who] = float(np.maximum(difference, self.differences.get(who, 0)))


def ladder(options: ParityOptions) -> list[Rung]:
    """Runs the sweep. One rung per stage, in the order of computation."""
    candidates = load_candidates(options.model)
    config = candidates["eager"].config
    rungs: dict[str, Rung] = {}
    for length in pick_lengths(options.lengths, config):
        say(f"length {length}")
        batch = padded_batch(length, config, options.seed)
        real = batch[1].bool().numpy()
        wanted = reference_stages(candidates["eager"], batch)
        for who, model in candidates.items():
            seen = record_stages(model, batch)
            for stage, value in wanted.items():
                rung = rungs.setdefault(stage, Rung(stage, 0.0, {}))
                rung.size = max(rung.size, float(np.abs(of_real_tokens(value, real)).max()))
                if stage in seen:
                    rung.take(who, np.abs(of_real_tokens(seen[stage] - value, real)).max())
    return list(rungs.values())


def load_candidates(name: str) -> dict[str, nn.Module]:
    """The checkpoint once for each of our backends, and in transformers where that is installed."""
    kind = model_class(read_weights(resolve(name))[1])
    candidates: dict[str, nn.Module] = {who: kind.from_pretrained(name, attention=who) for who in BACKENDS}
    try:
        import transformers
    except ImportError:
        say("transformers is not installed: comparing with the float64 reference alone")
        return candidates
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    candidates["transformers"] = (
        getattr(transformers, kind.__name__).from_pretrained(resolve(name), dtype=torch.float32).eval()
    )
    return candidates


def pick_lengths(wanted: str | None, config: BertConfig) -> list[int]:
    """The lengths to try, none longer than the model goes."""
    limit = config.max_position_embeddings
    if wanted is None:
        return [length for length in LENGTHS if length <= limit]
    lengths = [int(word) if word.strip().isdigit() else 0 for word in wanted.split(",")]
    if not all(1 <= length <= limit for length in lengths):
        raise ValueError(f"lengths {wanted!r}; give whole numbers from 1 to {limit} with commas between them")
    return lengths


def padded_batch(length: int, config: BertConfig, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random ids, mask and segments [3, length]: a full row, one half full, one with a single real token."""
    random = torch.Generator().manual_seed(seed + length)
    ids = torch.randint(config.vocab_size, (3, length), generator=random)
    mask = (torch.arange(length) < torch.tensor([[length], [-(-length // 2)], [1]])).long()
    segments = (torch.arange(length) >= torch.tensor([[-(-length // 3)], [length], [0]])).long()
    return ids, mask, segments * (config.type_vocab_size > 1)


def of_real_tokens(stage: NDArray, real: NDArray[np.bool_]) -> NDArray:
    """Without what stands at padding, of which nothing is promised: [T, *] of a [B, S, *], pairs of a [B, H, S, S]."""
    if stage.ndim == 4:
        return stage.transpose(0, 2, 3, 1)[real[:, :, None] & real[:, None, :]]
    return stage[real] if stage.ndim == 3 and stage.shape[:2] == real.shape else stage


# ---- the stages of a model that runs ----


def reference_stages(model: BertBase, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, NDArray]:
    """What a model of these weights computes from ids, mask, segments [B, S], in numpy's float64, which shares no line
    with model.py."""
    weights = {name: tensor.detach().numpy() for name, tensor in export_weights(model).items()}
    return reference.forward(weights, model.config, *(tensor.numpy() for tensor in batch))


def record_stages(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, NDArray]:
    """One forward pass over ids, mask, segments [B, S]; what was computed on the way, under the reference's names."""
    ids, mask, segments = batch
    ours = isinstance(model, BertBase)
    with torch.no_grad(), capture(model, "*", check=False) if ours else recording(model) as seen:
        model(input_ids=ids, attention_mask=mask, token_type_ids=segments)
    stages = {stage: tensor.numpy() for stage, tensor in seen.items()}
    stages["last_hidden_state"] = stages[f"layers.{model.config.num_hidden_layers - 1}.ffn.norm"]
    return stages


@contextmanager
def recording(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """What transformers' modules take and give. Scores and probabilities it does not show."""
    seen: dict[str, Tensor] = {}

    def keep(stage: str) -> Callable[[nn.Module, tuple, object], None]:
        part, _, last = stage.rpartition(".")
        taken = {"norm": "sum", "output": "act" if part.endswith("ffn") else "context"}.get(last)

        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            if taken:
                seen[f"{part}.{taken}"] = inputs[0]
            if isinstance(output, Tensor):
                seen[stage] = output

        return hook

    handles = [
        module.register_forward_hook(keep(stage))
        for name, module in model.named_modules()
        if (stage := stage_name(name))
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def stage_name(module: str) -> str | None:
    """The reference's name for what a module of transformers gives, through the table of keys."""
    if module.removeprefix("bert.") == "pooler":
        return "pooler"
    known = translate(their_name(f"{module}.weight"), TABLE)
    return known and known.removeprefix("bert.").removesuffix(".weight")


# ---- showing ----


def failures(rungs: list[Rung]) -> list[tuple[str, str]]:
    """(stage, backend) wherever minibert is further off than the tolerance, in the order of computation."""
    return [
        (rung.stage, who)
        for rung in rungs
        for who, difference in rung.differences.items()
        if who in BACKENDS and not difference <= rung.limit  # so that NaN fails
    ]


def merge_layers(rungs: list[Rung]) -> list[Rung]:
    """One rung per kind of stage: of each difference the worst layer's."""
    merged: dict[str, Rung] = {}
    for rung in rungs:
        stage = re.sub(r"layers\.\d+", "layers.*", rung.stage)
        into = merged.setdefault(stage, Rung(stage, 0.0, {}))
        into.size = max(into.size, rung.size)
        for who, difference in rung.differences.items():
            into.take(who, difference)
    return list(merged.values())


def to_table(rungs: list[Rung], layers: bool) -> str:
    """Largest |difference| to the float64 reference, a row per stage."""
    rows = rungs if layers else merge_layers(rungs)
    columns = list(dict.fromkeys(who for rung in rows for who in rung.differences))
    width = max(len(rung.stage) for rung in rows)
    names = "".join(f"  {who:>12}" for who in columns)
    lines = ["largest absolute difference to the float64 reference"]
    lines.append(f"{'stage':{width}}  {'largest':>8}  {'allowed':>8}{names}")
    for rung in rows:
        cells = (f"{rung.differences[who]:12.1e}" if who in rung.differences else f"{'–':>12}" for who in columns)
        lines.append(
            f"{rung.stage:{width}}  {rung.size:8.3g}  {rung.limit:8.1e}" + "".join(f"  {cell}" for cell in cells)
        )
    above = ", ".join(f"{stage} ({who})" for stage, who in failures(rungs)[:3])
    lines.append(f"above what float32 explains, first of all: {above}" if above else "equal, as far as float32 goes")
    return "\n".join(lines)


def to_dict(rungs: list[Rung]) -> dict[str, object]:
    return {
        "tolerance": TOLERANCE,
        "above": failures(rungs),
        "stages": [{"stage": rung.stage, "largest": rung.size, "differences": rung.differences} for rung in rungs],
    }
