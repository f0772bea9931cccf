"""All activations of one forward pass and what they say: as an object, as JSON, and as an HTML page.

    explanation = explain(model, tokenizer, "The cat sat.")
    explanation.tensors["layers.0.attention.probs"]    # [H, S, S]
    explanation                                        # in Jupyter: the page
    Path("page.html").write_text(explanation.to_html(), encoding="utf-8")

The pieces come from wordpiece_trace.py, the numbers from activations.py and analysis.py; page.py puts them on the page.

Letters: S tokens, E hidden size, H heads, N layers, V vocabulary, L labels.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from reprlib import repr as short
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minibert.core.encoding import Encoding
from minibert.core.files import atomic_write
from minibert.core.model import BertBase
from minibert.core.tokenizer import check_text
from minibert.fast.architecture import model_class
from minibert.fast.batches import check_vocabulary
from minibert.fast.models import BertForSequenceClassification, BertModel, BertOutput
from minibert.inference.answers import ACTIVATIONS, activation_of, present, read_config
from minibert.io.bundled import resolve
from minibert.io.locks import held
from minibert.io.weight_files import read_weights
from minibert.look import analysis, page
from minibert.look.activations import Capture, capture, encoder_of, places
from minibert.look.options import ExplainOptions
from minibert.look.wordpiece_trace import Stretch, trace
from minibert.text.encode_table import ROWS
from minibert.text.tokenizer import Tokenizer

GUESSES = 5  # tokens that the logit lens tells for each position
MOST_MULTIPLICATIONS = 1e12  # multiplications that taking heads or tokens away may cost: 10 to 20 seconds of a CPU core
LEFT_OUT = ("layers.*.heads.*", "embeddings.norm", "layers.*.ffn.norm", "mlm")  # held under other names, or too large

Source = tuple[int, int, int]  # of a token: text, stretch, piece
Score = Callable[[BertOutput], Tensor]


class Guess(NamedTuple):
    """One possible answer: a label or a token."""

    name: str
    logit: float
    probability: float | None  # None where the logit is the answer: a regression's, say


class Prediction(NamedTuple):
    """What the model says, and so what heads and tokens contribute to."""

    kind: str  # "label"; "token": of the first [MASK]; "vector": no head, or no [MASK]: the mean of all tokens' vectors
    guesses: list[Guess]  # best first; none for a vector
    position: int | None  # of the [MASK]
    activation: str | None = None  # "softmax", "sigmoid" or "none": from logits to probabilities
    target: str | None = None  # the label or token that heads and tokens contribute to


class Lens(NamedTuple):
    """What the head would say after the embeddings (0) and after each layer (1 … N)."""

    names: list[str]  # labels, or the tokens that are among the best anywhere
    best: NDArray  # indices into names, the best first: [N + 1, S, GUESSES], of labels all: [N + 1, L]
    probabilities: NDArray  # theirs; where the answer's are None, the logits


class Contributions(NamedTuple):
    """What speaks for the answer: positive numbers. None: not computed, as it would take too long or has no meaning."""

    heads_ablated: NDArray | None  # [N, H]: what the score loses without the head
    heads_gradient: NDArray | None  # [N, H]: gradient · what the head answers
    tokens_ablated: NDArray | None  # [S]: what the score loses with [MASK] in the token's place
    tokens_gradient: NDArray | None  # [S]: gradient · the token's embedding


@dataclass(frozen=True, eq=False)
class Explanation:
    """All that is known of one forward pass. Arrays are numpy's, of one row: no batch dimension."""

    model: str  # as the user calls it
    architecture: str  # the class of the model
    config: dict[str, object]
    texts: list[str]  # the text, and its pair if there is one
    tokens: list[str]
    encoding: dict[str, list[int]]  # table.ROWS
    left_out: int  # tokens that were too many
    stretches: list[list[Stretch]]  # of each text, as far as it was read
    sources: list[Source | None]  # of each token; None: put there by the tokenizer
    norm: NDArray  # [N + 1, S] length of each token's vector, from the embeddings on
    cosine: NDArray  # [N + 1, S] to where it began
    lens: Lens | None
    answer: Prediction
    contributions: Contributions
    names: list[str]  # everything that `capture` could give, also what is not in `tensors`
    rollout: NDArray  # [N, S, S]
    tensors: dict[str, NDArray]  # by the names of activations.py, without its batch dimension

    def to_dict(self) -> dict[str, object]:
        """Plain lists and numbers (six decimals), ready for JSON; of the tensors the embeddings and probabilities."""
        chosen = {key: x for key, x in self.tensors.items() if key.startswith("embeddings.") or key.endswith(".probs")}
        return {**self.facts(), **as_json({"rollout": self.rollout, "tensors": chosen})}

    def facts(self) -> dict[str, object]:
        """All but the large arrays, ready for JSON."""
        names = [field.name for field in fields(self) if field.name not in ("rollout", "tensors")]
        return as_json({name: getattr(self, name) for name in names})

    def to_html(self) -> str:
        """The page: one file that needs no network."""
        rollouts = {f"layers.{i}.rollout": x for i, x in enumerate(self.rollout)}
        texts = self.texts
        if self.left_out:
            texts = [text[: part[-1].end if part else 0] for text, part in zip(texts, self.stretches, strict=True)]
        return page.render({**self.facts(), "texts": texts}, {**self.tensors, **rollouts})

    def _repr_html_(self) -> str:
        """For Jupyter: the page in a frame of its own, which may run its script and save files, and nothing else."""
        frame = 'sandbox="allow-scripts allow-downloads" style="width: 100%; height: 48em; border: 0"'
        return f'<iframe {frame} srcdoc="{html.escape(self.to_html())}"></iframe>'


def as_json(value: object) -> object:
    """Named tuples as objects, arrays of any shape as nested lists of six decimals."""
    if isinstance(value, np.ndarray):
        numbers = value.astype(np.float64) if value.dtype.kind == "f" else value
        return numbers.round(6).tolist()
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value


# ---- from texts to an explanation ----


def explain(
    model: BertBase,
    tokenizer: Tokenizer,
    text: str,
    pair: str | None = None,
    name: str = "",
    max_length: int | None = None,
    target: str | None = None,
) -> Explanation:
    """Runs a text, or a pair, through the model and keeps everything; in eval mode, whatever the model's mode is.

    Args:
        model: a BertModel or one with a head. name: what to call it.
        max_length: tokens to read, [CLS] and [SEP] included; None: as many as model and tokenizer allow.
        target: the label that heads and tokens contribute to; None: the best one.

    Raises:
        ValueError: a text holds lone surrogates, model and tokenizer do not belong together, or no label is `target`.
    """
    config, texts = encoder_of(model).config, [text] if pair is None else [text, pair]
    for which, part in zip(("text", "pair"), texts, strict=False):
        check_text(part, which)
    check_vocabulary(tokenizer, config, name or "the model")
    names = names_of(model, tokenizer, target)
    limit = min(tokenizer.model_max_length, config.max_position_embeddings)
    row = tokenizer([text], None if pair is None else [pair], max_length=min(limit, max_length or limit))
    stretches, sources, left_out = trace_tokens(tokenizer, texts, row)
    training = model.training
    try:
        seen, lens, answer, contributions = run_and_analyse(model.eval(), tokenizer, row, names, target)
    finally:
        model.train(training)
    stream = analysis.stacked(seen)[:, 0]  # [N + 1, S, E]
    probs = torch.stack([seen[f"layers.{i}.attention.probs"] for i in range(config.num_hidden_layers)])
    return Explanation(
        model=name,
        architecture=type(model).__name__,
        config=config.to_dict(),
        texts=texts,
        tokens=tokenizer.ids_to_tokens(row.input_ids[0]),
        encoding={key: np.atleast_1d(getattr(row, key)[0]).tolist() for key in ROWS},
        left_out=left_out,
        stretches=stretches,
        sources=sources,
        norm=array(stream.norm(dim=-1)),
        cosine=array(torch.cosine_similarity(stream, stream[:1], dim=-1)),
        lens=lens,
        answer=answer,
        contributions=contributions,
        names=seen.names(),
        rollout=array(analysis.rollout(probs)[:, 0]),
        tensors={key: array(x if key == "embeddings.position" else x[0]) for key, x in seen.items()},
    )


def trace_tokens(
    tokenizer: Tokenizer, texts: list[str], row: Encoding
) -> tuple[list[list[Stretch]], list[Source | None], int]:
    """The stretches of each text, as far as the row holds its tokens (what is cut off may be a whole book); where each
    token comes from; and how many tokens were too many."""
    ids, special, segments = row.input_ids[0], row.special_tokens_mask[0], row.token_type_ids[0]
    stretches: list[list[Stretch]] = [[] for _ in texts]
    sources: list[Source | None] = [None] * len(ids)
    left_out = 0
    for number, text in enumerate(texts):
        places = np.flatnonzero((special == 0) & (segments == number)).tolist()
        missing = len(tokenizer.encode(text)) - 2 - len(places)
        left_out += missing
        for stretch in trace(tokenizer, text):
            if missing and not places:
                break
            for k, piece in enumerate(stretch.pieces[: len(places)]):
                place = places.pop(0)
                assert piece.id == ids[place], "the trace is not what the tokenizer did"
                sources[place] = number, len(stretches[number]), k
            stretches[number].append(stretch)
    return stretches, sources, left_out


def names_of(model: BertBase, tokenizer: Tokenizer, target: str | None) -> list[str]:
    """Of the labels or tokens that the model's head tells apart."""
    if not isinstance(model, BertForSequenceClassification):
        if target is not None:
            raise ValueError(f"target is {short(target)}, but the model has no labels; leave it out")
        size = encoder_of(model).config.vocab_size
        return [*tokenizer.vocab, *(f"(no token: {number})" for number in range(tokenizer.vocab_size, size))]
    names = list(model.config.id2label.values())
    if target is not None and target not in names:
        known = ", ".join(names[:10]) + ", …" * (len(names) > 10)
        raise ValueError(f"target is {short(target)}, which is no label of the model; choose one of {known}")
    return names


def run_and_analyse(
    model: BertBase, tokenizer: Tokenizer, row: Encoding, names: list[str], target: str | None
) -> tuple[Capture, Lens | None, Prediction, Contributions]:
    """All that takes forward passes."""
    device = next(model.parameters()).device
    keys = ("input_ids", "attention_mask", "token_type_ids")
    inputs = {key: torch.from_numpy(getattr(row, key)).to(device) for key in keys}
    wanted = [name for name in places(model) if not any(fnmatchcase(name, pattern) for pattern in LEFT_OUT)]
    with torch.no_grad(), capture(model, *wanted) as seen:
        model(**inputs)
    if wrong := next((key for key, x in seen.items() if not x.isfinite().all()), None):
        raise ValueError(f"{wrong} is not finite; minibert doctor says what is wrong with a model's weights")
    stream = analysis.stacked(seen)[:, 0]  # [N + 1, S, E]
    with torch.no_grad():
        answer, score = predict(model, names, stream[-1:], row.input_ids[0] == tokenizer.mask_id, target)
        lens = lens_of(model, names, stream)
    return seen, lens, answer, contributions_of(encoder_of(model), inputs, score, answer, tokenizer.mask_id)


def array(x: Tensor) -> NDArray:
    """Any shape, as numpy's single precision."""
    return x.detach().float().cpu().numpy()


# ---- the answer, and what leads to it ----


def predict(
    model: BertBase, names: list[str], last: Tensor, masked: NDArray[np.bool_], target: str | None
) -> tuple[Prediction, Score]:
    """What the model says, and the score [B] that heads and tokens contribute to, of what its encoder returns.

    The score of a label or token among others is its logit minus the mean of all logits, since adding the same to all
    of them changes nothing; that of a label by itself its logit; that of a vector its cosine to what it is when
    nothing is taken away.

    names: of the labels or tokens. last: the encoder's vectors, [1, S, E]. masked: [S], whether a token is [MASK].
    target: a label; None: the best.
    """
    labels = isinstance(model, BertForSequenceClassification)
    if not labels and not (hasattr(model, "mlm") and masked.any()):
        goal = last.mean(dim=1)  # [1, E]

        def nearness(out: BertOutput) -> Tensor:
            return torch.cosine_similarity(out.last_hidden_state.mean(dim=1), goal)

        return Prediction("vector", [], None), nearness
    at = None if labels else int(masked.argmax())
    logits = analysis.head_logits(model, last)[0]  # [L]; of tokens [S, V]
    logits = logits if labels else logits[at]
    activation, shares = activation_for(model), shares_of(model, logits).tolist()
    best = logits[: len(names)].topk(len(names) if labels else GUESSES).indices.tolist()
    raw = activation == "none"
    guesses = [Guess(names[i], logits[i].item(), None if raw else shares[i]) for i in best]
    chosen = best[0] if target is None else names.index(target)

    def score(out: BertOutput) -> Tensor:
        x = out.last_hidden_state
        found = analysis.head_logits(model, x if labels else x[:, at])  # [B, L] or [B, V]
        if activation != "softmax":
            return found[:, chosen]
        return found[:, chosen] - found.mean(dim=1)

    return Prediction("label" if labels else "token", guesses, at, activation, names[chosen]), score


def activation_for(model: BertBase) -> str:
    """What makes probabilities of a head's logits; of tokens softmax."""
    return activation_of(model.config) if isinstance(model, BertForSequenceClassification) else "softmax"


def shares_of(model: BertBase, logits: Tensor) -> Tensor:
    """Probabilities, or where there are none the logits: [..., L] of [..., L]."""
    return ACTIVATIONS[activation_for(model)](logits.float())


def lens_of(model: BertBase, names: list[str], stream: Tensor) -> Lens | None:
    """Of [N + 1, S, E]. Layer by layer, as the logits of all, [N + 1, S, V], would not fit."""
    if isinstance(model, BertModel):
        return None
    most = len(names) if isinstance(model, BertForSequenceClassification) else GUESSES
    best = []
    for x in stream:
        shares = shares_of(model, analysis.head_logits(model, x))  # [S, V]; of labels [L]
        best.append(shares[..., : len(names)].topk(most))
    probabilities = torch.stack([part.values for part in best]).cpu().numpy()
    indices = torch.stack([part.indices for part in best]).cpu().numpy()
    chosen, places = np.unique(indices, return_inverse=True)
    return Lens([names[i] for i in chosen], places.reshape(indices.shape), probabilities)


def contributions_of(
    encoder: BertModel, inputs: dict[str, Tensor], score: Score, answer: Prediction, mask_id: int
) -> Contributions:
    """As far as it does not take too long; inputs are [1, S]. A vector's cosine to itself is at its largest, so its
    gradient is 0."""
    S, config = inputs["input_ids"].shape[1], encoder.config
    N, E, F = config.num_hidden_layers, config.hidden_size, config.intermediate_size
    multiplications = S * N * (4 * E**2 + 2 * E * F)  # of a forward pass
    few_heads = multiplications * N * config.num_attention_heads <= MOST_MULTIPLICATIONS
    few_tokens = multiplications * S <= MOST_MULTIPLICATIONS
    slopes = answer.kind != "vector"
    return Contributions(
        array(analysis.head_contributions(encoder, inputs, score)[..., 0]) if few_heads else None,
        array(analysis.gradient_times_heads(encoder, inputs, score)[..., 0]) if slopes else None,
        array(analysis.token_contributions(encoder, inputs, score, mask_id)[0]) if few_tokens else None,
        array(analysis.gradient_times_input(encoder, inputs, score)[0]) if slopes else None,
    )


# ---- from a directory to a page ----


def explained(options: ExplainOptions) -> Explanation:
    """Of a model with the heads that its files have. Raises ValueError where they cannot be used."""
    directory = resolve(options.model)
    tokenizer = Tokenizer.from_pretrained(directory)
    kind = model_class(read_weights(directory)[1])
    config = read_config(directory, tokenizer) if kind is BertForSequenceClassification else None
    model = kind.from_pretrained(directory, options.attention, config=config, fresh_heads=False, mapped=True)
    name, path = options.model, Path(options.model)
    if path.is_dir():
        name = path.resolve().name  # pages are passed on: no path of this computer
    return explain(model, tokenizer, options.text, options.pair, name, options.max_length, options.target)


def in_words(answer: Prediction) -> str:
    """The answer in a few words: the target, or the best; of labels by themselves all of probability 0.5 and more."""
    best = [guess for guess in answer.guesses if guess.name == answer.target]
    if answer.activation == "sigmoid" and best == answer.guesses[:1]:
        best = [guess for guess in answer.guesses if present(guess.logit)] or best
    numbers = [guess.logit if guess.probability is None else guess.probability for guess in best]
    return "".join(f"{guess.name} {number:.4f}  " for guess, number in zip(best, numbers, strict=True))


def write_page(explanation: Explanation, out: str | None) -> Path:
    """Writes the page, whole or not at all, and says where."""
    path = Path(out) if out else next_page()
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path):
        atomic_write(path, explanation.to_html().encode("utf-8"))
    return path


def next_page() -> Path:
    """The first of runs/explain-1.html, runs/explain-2.html … that does not exist."""
    pages = (Path(f"runs/explain-{number}.html") for number in itertools.count(1))
    return next(page for page in pages if not page.exists())
