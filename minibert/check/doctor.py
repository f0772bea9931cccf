"""The doctor: what is wrong with a checkpoint, its vocabulary or a data file, and what to do, before it costs a day.

Every check is a small function that yields findings. What the readers of the other modules refuse is a finding too, in
their words, unless a check has named the cause; a broken part does not keep the others from being checked.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from minibert.check.data_checks import check_data
from minibert.check.options import DoctorOptions
from minibert.core.checkpoint import (
    PARTS,
    TABLE,
    TIED,
    audit,
    each_tensor,
    printable,
    their_name,
    translate,
    untie,
    weight_files,
)
from minibert.core.config import BertConfig
from minibert.core.files import read_json
from minibert.core.tokenizer import MAX_LENGTH
from minibert.core.vocabulary import SPECIAL_TOKENS
from minibert.core.weights import listed, model_tensors, without_memory
from minibert.fast.architecture import model_class
from minibert.io.bundled import resolve
from minibert.io.findings import Finding, error, note, refusal, text_encoding, warning
from minibert.text.tokenizer import Tokenizer
from minibert.text.tokenizer_files import mojibake, read_settings

# SHA-256 of a vocabulary's tokens, a line each: (name, whether texts are lowercased for it).
KNOWN = {
    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3": ("bert-base-uncased", True),
    "eeaa9875b23b04b4c54ef759d03db9d1ba1554838f8fb26c5d96fa551df93d02": ("bert-base-cased", False),
    "45bbac6b341c319adc98a532532882e91a9cefc0329aa57bac9ae761c27b291c": ("bert-base-chinese", True),
}
KEEPS_CASE = ("bert-base-chinese",)  # Google lowercased texts for it, its directory on the hub says not to
PLACES = ((0, 100, 101, 102, 103), (0, 1, 2, 3, 4))  # of the special tokens: Google's, and of vocabularies made since
CASED = 0.01  # upper-case tokens from which on a vocabulary is a cased one: bert-base-cased has 29 %, uncased none
EPS = 1e-12
LARGE_EPS = 1e-6  # from here on outputs change in the fourth digit
CUT_NORMAL = 0.8796  # the standard deviation of a normal that is cut off at 2, as Google's fresh weights are
COPY_AGAIN = "copy the original file again"


def diagnose(options: DoctorOptions) -> list[Finding]:
    """All findings about a model's directory, and about data files where some are given.

    Raises:
        ValueError: there is no such directory, nothing of a model in it, or an option is impossible.
    """
    files = [file for file in (options.data, options.dev, options.test) if file is not None]
    for file in files:
        if not os.path.isfile(file):
            raise ValueError(f"{file}: no such file; give a data file")
    patient = examine(resolve(options.model))
    found = [finding for check in CHECKS for finding in check(patient)]
    named = {finding.part for finding in found if finding.severity == "error"}
    if "vocabulary" in named:
        named.add("tokenizer")
    found += [refused for refused in patient.refused if refused.part not in named]  # else its cause has been
    limits = patient.model_max_length, patient.config and patient.config.max_position_embeddings
    max_length = options.max_length or min(filter(None, limits), default=MAX_LENGTH)
    columns = options.columns.split(",") if options.columns else None
    found += check_data(files, columns, options.quoting, patient.tokenizer, max_length, patient.labels)
    return found


# ---- what there is ----


class Summary(NamedTuple):
    """What is kept of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    nan: int  # how many numbers are
    infinite: int
    zero: bool  # whether all numbers are
    one: bool
    mean: float
    std: float


@dataclass
class Patient:
    """What could be read; None where there is nothing, or where the reader has refused it."""

    directory: Path
    files: set[str]
    raw_config: dict | None = None
    config: BertConfig | None = None
    vocabulary: bytes | None = None  # of vocab.txt
    tokens: list[str] | None = None
    settings: dict | None = None
    tokenizer: Tokenizer | None = None
    weights: dict[str, Summary] | None = None  # by the file's names
    shared: dict[str, Tensor] = field(default_factory=dict)  # embedding and decoder, by today's names
    refused: list[Finding] = field(default_factory=list)

    @property
    def names(self) -> dict[str, Summary]:
        """The weights by today's Hugging Face names, without what a wrapper has put before them."""
        prefix = wrapper(self.weights or {})
        return {their_name(key.removeprefix(prefix)): summary for key, summary in (self.weights or {}).items()}

    @property
    def model_max_length(self) -> int | None:
        return (self.settings or {}).get("model_max_length")

    @property
    def labels(self) -> list[str] | None:
        """Class names, where there is a classifier to give them."""
        if self.config is None or "classifier.weight" not in self.names:
            return None
        return list(self.config.id2label.values())


def examine(directory: Path) -> Patient:
    """Reads all parts; a reader's refusal is kept."""
    patient = Patient(directory, {path.name for path in directory.iterdir()})
    has_weights = any(re.match(r"(pytorch_)?model\.(safetensors|bin)", name) for name in patient.files)
    has_vocabulary = bool({"vocab.txt", "tokenizer.json"} & patient.files)
    if not has_weights and not has_vocabulary and "config.json" not in patient.files:
        raise ValueError(f"{directory}: holds no config.json, no vocab.txt, no weights; give a model's directory")
    readers = (
        ("config", read_config, "config.json" in patient.files),
        ("tokenizer", read_tokenizer, has_vocabulary),
        ("weights", read_summaries, has_weights),
    )
    for part, read, present in readers:
        try:
            if present:
                read(patient)
        except ValueError as reason:
            patient.refused.append(refusal(f"{part}-refused", reason))
    return patient


def read_config(patient: Patient) -> None:
    raw = read_json(patient.directory / "config.json", COPY_AGAIN)
    patient.raw_config = raw if isinstance(raw, dict) else None
    patient.config = BertConfig.from_file(patient.directory / "config.json")


def read_tokenizer(patient: Patient) -> None:
    path = patient.directory / "vocab.txt"
    if path.is_file():
        patient.vocabulary = path.read_bytes()
        text = patient.vocabulary.decode("utf-8-sig", errors="replace")  # first aid: read_settings is strict
        patient.tokens = [line.removesuffix("\r") for line in text.rstrip("\r\n").split("\n")]
    patient.settings = read_settings(patient.directory)
    patient.tokens = patient.settings["vocab"]
    patient.tokenizer = Tokenizer(**patient.settings)


def read_summaries(patient: Patient) -> None:
    """One tensor after the other: the weights are never in memory together."""
    weights: dict[str, Summary] = {}
    for key, tensor in each_tensor(weight_files(patient.directory)[1]):
        weights[key] = summarise(tensor)
        name = their_name(key)
        if name in TIED or name in TIED.values():
            patient.shared[name] = tensor
    patient.weights = weights


def summarise(tensor: Tensor) -> Summary:
    """A tensor of any shape."""
    if not tensor.dtype.is_floating_point or not tensor.numel():
        return Summary(tuple(tensor.shape), tensor.dtype, 0, 0, False, False, math.nan, math.nan)
    x = tensor.float()
    std, mean = torch.std_mean(x, correction=0)
    finite = math.isfinite(mean)
    nan, infinite = (0, 0) if finite else (int(x.isnan().sum()), int(x.isinf().sum()))
    constant = float(std) == 0
    zero, one = (constant and bool((x == value).all()) for value in (0, 1))
    return Summary(tuple(tensor.shape), tensor.dtype, nan, infinite, zero, one, float(mean), float(std))


def wrapper(keys: Iterable[str]) -> str:
    """What stands before every name because a wrapped model was saved: "module.", "_orig_mod.", "0.auto_model."."""
    keys = list(keys)
    if not keys or any(known(key) for key in keys):
        return ""
    starts = [keys[0][: dot.end()] for dot in re.finditer(r"\.", keys[0])]
    starts = [start for start in starts if all(key.startswith(start) for key in keys)]
    return next((start for start in starts if any(known(key.removeprefix(start)) for key in keys)), "")


def known(key: str) -> bool:
    """Whether some BERT has a weight of that name."""
    return translate(their_name(key), TABLE) is not None


# ---- checks: files ----


def absent_parts(patient: Patient) -> Iterator[Finding]:
    """A part alone can be checked; weights without the rest, or the rest without weights, cannot be used."""
    has_config, has_weights = "config.json" in patient.files, patient.weights is not None
    refused = {finding.part for finding in patient.refused}
    if not has_config:
        kind = error if has_weights else note
        yield kind("config-absent", "no config.json: sizes and switches are not checked", "copy it from the same model")
    if not has_weights and "weights" not in refused:
        kind = error if has_config else note
        yield kind("weights-absent", "no weights: nothing about them is checked", "copy model.safetensors too")
    if patient.tokens is None and "tokenizer" not in refused:
        kind = error if has_weights else note
        yield kind("vocabulary-absent", "no vocab.txt, no tokenizer.json: texts cannot be read", "copy one of them too")


def pointers(patient: Patient) -> Iterator[Finding]:
    """A clone of a repository without git-lfs has small text files in place of the large ones."""
    parts = {"vocab.txt": "vocabulary", "tokenizer.json": "vocabulary", "config.json": "config"}
    for name in sorted(patient.files):
        path = patient.directory / name
        if path.is_file() and path.stat().st_size < 1000 and path.read_bytes().startswith(b"version https://git-lfs."):
            what = f"{name} is a pointer of git-lfs, not the file"
            yield error(f"{parts.get(name, 'weights')}-pointer", what, "git lfs pull, or download it")


# ---- checks: vocabulary ----


def vocabulary_bytes(patient: Patient) -> Iterator[Finding]:
    """What an editor of another system leaves in a text file."""
    data = patient.vocabulary
    if data is None:
        return
    path = patient.directory / "vocab.txt"
    other = "other programs take it for a part of the token"
    yield from text_encoding("vocabulary-not-utf8", path, data)
    if data.startswith(b"\xef\xbb\xbf"):
        yield warning("vocabulary-bom", f"{path}:1: begins with a byte order mark; {other}", "save it without a BOM")
    if count := data.count(b"\r\n"):
        what = f"{path}: {count} lines end with CR LF; {other}"
        yield warning("vocabulary-crlf", what, "save it with LF (sed -i 's/\\r$//' vocab.txt)")


def vocabulary_lines(patient: Patient) -> Iterator[Finding]:
    """A token's line is its id: a line too many moves all that follow."""
    tokens = patient.tokens or []
    if blank := [line for line, token in enumerate(tokens, 1) if not token.strip() and token.isascii()]:
        what = f"{len(blank)} empty lines, the first is {blank[0]}: each takes an id, or has lost its token"
        yield error("vocabulary-empty-lines", what, f"{COPY_AGAIN}; do not delete lines, ids would move")
    first: dict[str, int] = {}
    twice = [line for line, token in enumerate(tokens, 1) if token.strip() and first.setdefault(token, line) != line]
    if twice and mojibake(tokens) is None:
        token = tokens[twice[0] - 1]
        what = f"{len(twice)} tokens stand twice, first of all {token!r} on lines {first[token]} and {twice[0]}"
        yield error("vocabulary-duplicates", what, f"a token has one id: {COPY_AGAIN}")
    if (example := mojibake(tokens)) is not None and is_utf8(patient):
        what = f"line {tokens.index(example) + 1} is {example!r}, like many: UTF-8 was read in another encoding"
        yield error("vocabulary-mojibake", what, COPY_AGAIN)


def is_utf8(patient: Patient) -> bool:
    """Whether the bytes of vocab.txt are."""
    return not any(text_encoding("vocabulary-not-utf8", "", patient.vocabulary or b""))


def special_tokens(patient: Patient) -> Iterator[Finding]:
    """All five are there, at places that some BERT has: a sorted vocabulary has the tokens, but other ids."""
    if patient.tokens is None or is_damaged(patient):
        return
    spelled = SPECIAL_TOKENS | (patient.settings or {}).get("special_tokens", {})
    ids = {token: number for number, token in enumerate(patient.tokens)}
    if lacking := [token for token in spelled.values() if token not in ids]:
        what = f"the vocabulary lacks {' '.join(lacking)}"
        yield error("vocabulary-special-tokens", what, "take the vocabulary that belongs to the weights")
        return
    places = tuple(ids[token] for token in spelled.values())
    what = f"{' '.join(spelled.values())} have the ids {' '.join(map(str, places))}"
    if places[0] != 0 or list(places) != sorted(places):
        remedy = "was the file sorted? Every id has moved then: take the original"
        yield warning("vocabulary-special-places", f"{what}, which no known BERT has", remedy)
    elif places not in PLACES:
        yield note("vocabulary-special-places", f"{what}; Google's BERTs have {' '.join(map(str, PLACES[0]))}")
    if patient.config is not None and patient.config.pad_token_id != places[0]:
        what = f"config.json says pad_token_id {patient.config.pad_token_id}, but {spelled['pad_token']} is {places[0]}"
        yield warning("config-pad-id", what, f"write {places[0]} into config.json, if the weights were trained with it")


def is_damaged(patient: Patient) -> bool:
    """Whether the bytes of the vocabulary are, so that its tokens tell nothing."""
    pointer = (patient.vocabulary or b"").startswith(b"version https://git-lfs.")
    return pointer or not is_utf8(patient) or mojibake(patient.tokens or []) is not None


def vocabulary_size(patient: Patient) -> Iterator[Finding]:
    """Three places give V: the vocabulary's tokens, the config, the rows of the embedding."""
    embedding = patient.names.get("bert.embeddings.word_embeddings.weight")
    sizes = {
        "the vocabulary": patient.tokens and not is_damaged(patient) and len(patient.tokens),
        "config.json": patient.config and patient.config.vocab_size,
        "the embedding": embedding and embedding.shape and embedding.shape[0],
    }
    if len(set(filter(None, sizes.values()))) > 1:
        what = ", ".join(f"{name} {size}" for name, size in sizes.items() if size)
        yield error("vocabulary-size", f"sizes differ: {what}", "take vocab.txt, config.json and weights of one model")


def two_vocabularies(patient: Patient) -> Iterator[Finding]:
    """minibert reads vocab.txt, transformers the tokenizer.json beside it."""
    path = patient.directory / "tokenizer.json"
    if patient.settings is None or patient.vocabulary is None or not path.is_file():
        return
    try:
        other = read_settings(path)["vocab"]
    except ValueError as reason:
        yield refusal("tokenizer-refused", reason)
        return
    pairs = zip(patient.tokens, other, strict=False)
    at = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), min(len(patient.tokens), len(other)))
    if patient.tokens != other:
        what = f"vocab.txt ({len(patient.tokens)} tokens) and tokenizer.json ({len(other)}) differ from id {at} on"
        yield error("vocabulary-two", what, "delete the one that does not belong to the weights")


def known_vocabulary(patient: Patient) -> Iterator[Finding]:
    """Which of the published ones it is."""
    if (mark := fingerprint(patient.tokens or [])) in KNOWN:
        yield note("vocabulary-known", f"it is that of {KNOWN[mark][0]}, token for token")


def fingerprint(tokens: Sequence[str]) -> str:
    """SHA-256 of a vocab.txt without BOM and CR."""
    return hashlib.sha256("".join(f"{token}\n" for token in tokens).encode("utf-8", "surrogatepass")).hexdigest()


def case(patient: Patient) -> Iterator[Finding]:
    """A cased vocabulary under lowercased text never uses its upper-case tokens; the other way round, capitals are
    [UNK]."""
    if patient.tokenizer is None:
        return
    tokens, special = patient.tokens, set(patient.tokenizer.special_tokens.values())
    upper = [token for token in tokens if token != token.lower() and token not in special and token[:1] != "["]
    cased = len(upper) > CASED * len(tokens)
    letters = any(token.isascii() and token.isalpha() and token.islower() for token in tokens)
    name, lowered = KNOWN.get(fingerprint(tokens), (None, not cased))
    says = f"do_lower_case is {str(patient.tokenizer.lowercase).lower()}"
    if patient.tokenizer.lowercase and not lowered:
        what = f"{says} (or not said), but the vocabulary is cased: {len(upper)} tokens, as {upper[:3]}, are never used"
        yield warning("tokenizer-lowercases", what, 'write "do_lower_case": false into tokenizer_config.json')
    elif not patient.tokenizer.lowercase and lowered and letters:
        what = f"{says}, but the vocabulary has no upper-case words: every capital letter makes [UNK]"
        kind = note if name in KEEPS_CASE else warning
        yield kind("tokenizer-keeps-case", what, 'write "do_lower_case": true into tokenizer_config.json')


def longest_text(patient: Patient) -> Iterator[Finding]:
    """Longer texts than the model has positions for."""
    length, config = patient.model_max_length, patient.config
    if length is not None and config is not None and length > config.max_position_embeddings:
        what = f"model_max_length is {length}, but the model has {config.max_position_embeddings} positions"
        remedy = f"write {config.max_position_embeddings} into tokenizer_config.json: others crash on longer texts"
        yield warning("tokenizer-max-length", what, remedy)


# ---- checks: config ----


def arithmetic(patient: Patient) -> Iterator[Finding]:
    """Settings that other models have, with which BERT's weights give slightly wrong answers."""
    if (config := patient.config) is None:
        return
    if config.layer_norm_eps >= LARGE_EPS or config.layer_norm_eps == 0:
        what = f"layer_norm_eps is {config.layer_norm_eps:g}; BERT's is {EPS:g} (PyTorch's default is 1e-5)"
        yield warning("config-eps", what, f"write {EPS:g}, unless the weights were trained with it")
    if config.hidden_act != "gelu":
        what = f"hidden_act is {config.hidden_act}; BERT's checkpoints are used with gelu, the erf form"
        yield warning("config-activation", what, 'write "gelu", unless the weights were trained with it')


def labels(patient: Patient) -> Iterator[Finding]:
    """The classifier's rows, and the names that config.json gives them."""
    if (config := patient.config) is None:
        return
    head = patient.names.get("classifier.weight")
    if head is not None and head.shape and head.shape[0] != config.num_labels:
        what = f"the classifier has {head.shape[0]} rows, config.json names {config.num_labels} labels"
        yield error("labels-count", what, "name every row in id2label, in the order of training")
    raw = patient.raw_config or {}
    backwards = raw.get("label2id")
    forwards = {label: number for number, label in config.id2label.items()}
    if raw.get("id2label") and isinstance(backwards, dict) and backwards != forwards:
        what = f"id2label and label2id disagree: {forwards} against {backwards}"[:200]
        yield warning("labels-disagree", what, "make label2id the reverse of id2label")
    if head is not None and all(re.fullmatch(r"LABEL_\d+", label) for label in forwards):
        yield note("labels-unnamed", "the labels have no names, only LABEL_0 …", "name them in id2label")


# ---- checks: weights ----


def tied(patient: Patient) -> Iterator[Finding]:
    """A decoder that differs from the embedding."""
    try:
        untie(dict(patient.shared), "the weights")
    except ValueError as reason:
        yield refusal("weights-untied", reason)


def key_names(patient: Patient) -> Iterator[Finding]:
    """Names with a wrapper's prefix, and those of the oldest files."""
    keys = patient.weights or {}
    if prefix := wrapper(keys):
        what = f"every name begins with {prefix!r}: a wrapped model was saved, or it is no BERT"
        yield error("weights-prefix", what, f"take {prefix!r} off the names, or save the model inside")
    if old := [key for key in keys if their_name(key).rpartition(".")[2] != key.rpartition(".")[2]]:
        yield note("weights-old-names", f"{len(old)} names are of the old kind, such as {old[0]}; they are understood")


def tensors(patient: Patient) -> Iterator[Finding]:
    """Every weight that the config asks for is there, in its shape, and no other."""
    if patient.config is None or not patient.weights or wrapper(patient.weights) or any(tied(patient)):
        return
    model = without_memory(model_class(patient.weights), patient.config, "eager")
    found = {key: torch.empty(s.shape, dtype=s.dtype, device="meta") for key, s in patient.weights.items()}
    for copy in [key for key in found if key in TIED]:  # equal, so the original alone counts
        found.setdefault(TIED[copy], found[copy])
        del found[copy]
    try:
        checked = audit(model_tensors(model), found, "the weights")
    except ValueError as reason:
        yield refusal("weights-twice", reason)
        return
    told = ("classifier.",) if any(f.name == "labels-count" for f in labels(patient)) else ()
    if any(vocabulary_size(patient)):
        told += ("bert.embeddings.word_embeddings.", "cls.predictions.bias")
    for problem, rows in checked.problems.items():
        if rows := [row for row in rows if not row.startswith(told)]:
            more = f", … and {len(rows) - 4} more" if len(rows) > 4 else ""
            what = f"{len(rows)} {problem}: {', '.join(rows[:4])}{more}"
            yield error(f"weights-{problem}", what, "take config.json and weights that belong together, of a BERT")
    if checked.fresh:
        yield note("weights-parts", f"no {' and no '.join(PARTS[p].removeprefix('a ') for p in sorted(checked.fresh))}")
    if checked.left:
        yield note("weights-parts", f"they bring {listed(checked.left)} too")


def numbers(patient: Patient) -> Iterator[Finding]:
    """Training that diverged, and files that were damaged."""
    again = "training diverged, or the file is damaged: take an earlier checkpoint"
    weights = patient.weights or {}
    for name, slug in (("nan", "weights-nan"), ("infinite", "weights-inf")):
        if bad := {key: n for key, summary in weights.items() if (n := getattr(summary, name))}:
            key, more = next(iter(bad)), f", as in {len(bad) - 1} more tensors" if len(bad) > 1 else ""
            what = f"{bad[key]} numbers of {printable(key)} are {name}{more}"
            yield error(slug, what, again)
    if zero := [key for key, s in weights.items() if s.zero and is_matrix(key, s)]:
        what = f"{len(zero)} weights are all zero, such as {printable(zero[0])}"
        yield error("weights-zero", what, "the file is damaged, or a conversion lost them: convert it again")


def is_matrix(key: str, summary: Summary) -> bool:
    """Whether a trained BERT cannot have only zeros there: in biases and in the segments' embedding it can."""
    name = their_name(key)
    return name.endswith(".weight") and known(name) and "token_type" not in name


def fresh(patient: Patient) -> Iterator[Finding]:
    """Parts that look as if training had never touched them: zero biases, and weights as they are initialised.

    One step of an optimizer moves every bias from zero, so the zeros tell; the deviation makes it sure."""
    std = patient.config.initializer_range if patient.config else 0.02
    state: dict[str, list[bool]] = {}  # part -> of its modules, whether each looks fresh
    for name, weight in patient.names.items():
        module, _, last = name.rpartition(".")
        bias = patient.names.get(f"{module}.bias")
        part = re.match(r"bert\.encoder\.layer\.\d+|bert\.pooler|classifier|cls\.\w+", name)
        if last == "weight" and bias and part and "decoder" not in name:
            state.setdefault(part.group(), []).append(looks_fresh(weight, bias, std))
    untouched = [part for part, modules in state.items() if all(modules)]
    layers = [part.rpartition(".")[2] for part in untouched if ".layer." in part]
    if layers:
        total = sum(".layer." in part for part in state)
        some = f"{len(layers)} of {total} layers ({', '.join(layers)}) look"
        what = f"{'every layer looks' if len(layers) == total else some} fresh: zero biases, weights as initialised"
        yield warning("weights-fresh", what, "were the trained weights loaded before this was saved?")
    if heads := [part for part in untouched if part.startswith(("classifier", "cls."))]:
        what = f"{' and '.join(heads)} look fresh, so answers are chance"
        yield warning("weights-fresh-head", what, "train it first (minibert train), or save after training")
    if "bert.pooler" in untouched:
        yield note("weights-fresh-pooler", "the pooler looks fresh: use pooled vectors after training only")


def looks_fresh(weight: Summary, bias: Summary, std: float) -> bool:
    """Whether a module's weight and bias are as they are initialised."""
    if not bias.zero:
        return False
    if weight.one:  # LayerNorm
        return True
    spread = 4 / math.sqrt(2 * max(1, math.prod(weight.shape)))  # four standard errors of a standard deviation
    return any(abs(weight.std / (std * cut) - 1) < spread for cut in (1, CUT_NORMAL)) if std else False


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    *(absent_parts, pointers),
    *(vocabulary_bytes, vocabulary_lines, special_tokens, vocabulary_size, two_vocabularies, known_vocabulary),
    *(case, longest_text, arithmetic, labels, tied, key_names, tensors, numbers, fresh),
)
