"""The ladder of parity: where, on the way from ids to logits, does a model first differ from the reference?

Every stage of the forward pass is compared with core/reference.py in float64, for the backends eager and sdpa and
(where it is installed) `transformers`, over a sweep of lengths, each as a padded batch of pairs of which the real
tokens count. A stage has to agree within TOLERANCE, or where its numbers are larger than 1, within TOLERANCE of the
largest, for float32 keeps seven digits. The first stage above the limit is where to start looking.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minibert.core import reference
from minibert.core.checkpoint import TABLE, their_name, translate
from minibert.core.config import BertConfig
from minibert.core.model import BertBase
from minibert.core.weights import export_weights
from minibert.fast.architecture import model_class
from minibert.io.bundled import resolve
from minibert.io.stderr import say
from minibert.io.weight_files import read_weights
from minibert.look.activations import capture
from minibert.look.options import LENGTHS, ParityOptions

TOLERANCE = 1e-5
BACKENDS = ("eager", "sdpa")  # of the others the tests take care

Batch = tuple[Tensor, Tensor, Tensor]  # ids, mask, segments: [B, S]
Stages = dict[str, NDArray]


@dataclass
class Rung:
    """One stage: how far each candidate is from the reference, at worst."""

    stage: str
    size: float  # largest absolute value of the stage in the reference
    differences: dict[str, float]  # "eager", "sdpa", "transformers" -> largest absolute difference

    @property
    def limit(self) -> float:
        """The largest difference that float32 explains."""
        return TOLERANCE * max(1.0, self.size)


def ladder(options: ParityOptions) -> list[Rung]:
    """Runs the sweep. One rung per stage, in the order of computation."""
    candidates = load_candidates(options.model)
    config = candidates["eager"].config
    rungs: list[Rung] = []
    for length in pick_lengths(options.lengths, config):
        say(f"length {length}")
        batch = padded_batch(length, config, options.seed)
        real = batch[1].bool().numpy()
        wanted = reference_stages(candidates["eager"], batch)
        for who, model in candidates.items():
            seen = record_stages(model, batch)
            for stage, value in wanted.items():
                difference = {who: largest(seen[stage] - value, real)} if stage in seen else {}
                rungs.append(Rung(stage, largest(value, real), difference))
    return merged(rungs)


def merged(rungs: list[Rung], name: Callable[[str], str] = str) -> list[Rung]:
    """One rung for all whose stages have the same name: of each difference the largest; NaN is above any number."""
    found: dict[str, Rung] = {}
    for rung in rungs:
        stage = name(rung.stage)
        into = found.setdefault(stage, Rung(stage, 0.0, {}))
        into.size = max(into.size, rung.size)
        for who, difference in rung.differences.items():
            into.differences[who] = float(np.maximum(difference, into.differences.get(who, 0)))
    return list(found.values())


def merge_layers(rungs: list[Rung]) -> list[Rung]:
    """One rung per kind of stage, for all layers."""
    return merged(rungs, lambda stage: re.sub(r"layers\.\d+", "layers.*", stage))


def load_candidates(name: str) -> dict[str, nn.Module]:
    """The checkpoint once for each of our backends, and in transformers where that is installed."""
    kind = model_class(read_weights(resolve(name))[1])
    candidates: dict[str, nn.Module] = {
        who: kind.from_pretrained(name, attention=who, fresh_heads=False) for who in BACKENDS
    }
    try:
        import transformers
    except ImportError:
        say("transformers is not installed: comparing with the float64 reference alone")
        return candidates
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    theirs, loading = getattr(transformers, kind.__name__).from_pretrained(
        resolve(name), dtype=torch.float32, output_loading_info=True
    )
    if fresh := sorted(key for key in loading["missing_keys"] if not key.startswith("pooler.")):
        say(f"transformers finds no {fresh[0]} in it, and would draw it: comparing with the float64 reference alone")
    else:
        candidates["transformers"] = theirs.eval()
    return candidates


def pick_lengths(wanted: str | None, config: BertConfig) -> list[int]:
    """The lengths to try, none longer than the model goes.

    Raises ValueError where `wanted` holds anything but lengths that the model has.
    """
    limit = config.max_position_embeddings
    if wanted is None:
        return [length for length in LENGTHS if length <= limit]
    lengths = [int(word) if word.strip().isdigit() else 0 for word in wanted.split(",")]
    if not all(1 <= length <= limit for length in lengths):
        raise ValueError(f"lengths {wanted!r}; give whole numbers from 1 to {limit} with commas between them")
    return lengths


def padded_batch(length: int, config: BertConfig, seed: int) -> Batch:
    """Random ids, mask and segments [3, length]: a full row, one half full, one with a single real token."""
    random = torch.Generator().manual_seed(seed + length)
    ids = torch.randint(config.vocab_size, (3, length), generator=random)
    places = torch.arange(length)
    mask = (places < torch.tensor([[length], [-(-length // 2)], [1]])).long()
    segments = (places >= torch.tensor([[-(-length // 3)], [length], [0]])).long()
    return ids, mask, segments * (config.type_vocab_size > 1)


def largest(stage: NDArray, real: NDArray[np.bool_]) -> float:
    """The largest size at real tokens [B, S] (of what stands at padding nothing is promised), in [B, S, *], between
    pairs in [B, H, S, S], or of all."""
    if stage.ndim == 4:
        stage = stage.transpose(0, 2, 3, 1)[real[:, :, None] & real[:, None, :]]
    elif stage.ndim == 3 and stage.shape[:2] == real.shape:
        stage = stage[real]
    return float(np.abs(stage).max())


# ---- the stages of a model that runs ----


def reference_stages(model: BertBase, batch: Batch) -> Stages:
    """What a model of these weights computes from ids, mask, segments [B, S], in numpy's float64, which shares no line
    with model.py."""
    weights = {name: tensor.detach().numpy() for name, tensor in export_weights(model).items()}
    return reference.forward(weights, model.config, *(tensor.numpy() for tensor in batch))


def record_stages(model: nn.Module, batch: Batch) -> Stages:
    """One forward pass over ids, mask, segments [B, S]; what was computed on the way, under the reference's names."""
    ids, mask, segments = batch
    ours = isinstance(model, BertBase)
    with torch.no_grad(), capture(model, "*", check=False) if ours else recording(model) as seen:
        model(input_ids=ids, attention_mask=mask, token_type_ids=segments)
    stages = {stage: tensor.numpy() for stage, tensor in seen.items()}
    stages["last_hidden_state"] = stages[f"layers.{model.config.num_hidden_layers - 1}.ffn.norm"]
    return stages


@contextmanager
def recording(model: nn.Module, name_of: Callable[[str], str | None] | None = None) -> Iterator[dict[str, Tensor]]:
    """What a model's modules take and give; not scores and probabilities, which are of none.

    name_of: the reference's name for what a module gives; None: for those of transformers.
    """
    seen: dict[str, Tensor] = {}

    def keep(stage: str, module: nn.Module, inputs: tuple, output: object) -> None:
        part, _, last = stage.rpartition(".")
        if taken := {"norm": "sum", "output": "act" if part.endswith("ffn") else "context"}.get(last):
            seen[f"{part}.{taken}"] = inputs[0]
        if isinstance(output, Tensor):
            seen[stage] = output

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if stage := (name_of or stage_name)(name):
                stack.callback(module.register_forward_hook(partial(keep, stage)).remove)
        yield seen


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


def to_table(rungs: list[Rung], layers: bool) -> str:
    """Largest |difference| to the float64 reference, a row per stage."""
    rows = rungs if layers else merge_layers(rungs)
    columns = list(dict.fromkeys(who for rung in rows for who in rung.differences))
    width = max(len(rung.stage) for rung in rows)
    lines = ["largest absolute difference to the float64 reference"]
    lines.append(f"{'stage':{width}}  {'largest':>8}  {'allowed':>8}" + "".join(f"  {who:>12}" for who in columns))
    for rung in rows:
        cells = [f"{rung.differences[who]:.1e}" if who in rung.differences else "–" for who in columns]
        start = f"{rung.stage:{width}}  {rung.size:8.3g}  {rung.limit:8.1e}"
        lines.append(start + "".join(f"  {cell:>12}" for cell in cells))
    above = ", ".join(f"{stage} ({who})" for stage, who in failures(rungs)[:3])
    lines.append(f"above what float32 explains, first of all: {above}" if above else "equal, as far as float32 goes")
    return "\n".join(lines)


def to_dict(rungs: list[Rung]) -> dict[str, object]:
    """All that `to_table` shows, for every layer, ready for JSON."""
    return {
        "tolerance": TOLERANCE,
        "above": failures(rungs),
        "stages": [{"stage": rung.stage, "largest": rung.size, "differences": rung.differences} for rung in rungs],
    }
