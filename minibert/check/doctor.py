"""The doctor: what is wrong with a checkpoint, its vocabulary or a data file, and what to do, before it costs a day.

Every check is a small function that yields findings. What the readers of the other modules refuse is a finding too, in
their words, unless a check has named the cause; a broken part does not keep the others from being checked.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from minibert.check.data_checks import check_data
from minibert.check.options import DoctorOptions
from minibert.core import checkpoint
from minibert.core.config import BertConfig
from minibert.core.files import LIMIT, read_json
from minibert.core.tokenizer import MAX_LENGTH
from minibert.core.vocabulary import SPECIAL_TOKENS
from minibert.core.weights import listed
from minibert.fast.architecture import model_class
from minibert.io import diagnosis, other_heads, weight_files
from minibert.io.bundled import resolve
from minibert.io.findings import Finding, error, note, refusal, text_encoding, warning
from minibert.text.tokenizer import Tokenizer
from minibert.text.tokenizer_doubts import tokenizer_findings
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
FILLED_UP = 128  # rows at most that are added to an embedding so that it is a multiple of 8, 64 or 128
EPS = 1e-12
LARGE_EPS = 1e-6  # from here on outputs change in the fourth digit
CUT_NORMAL = 0.8796  # the standard deviation of a normal that is cut off at 2, as Google's fresh weights are
COPY_AGAIN = "copy the original file again"

SHARED = (*checkpoint.TIED, *(name.removeprefix("bert.") for name in checkpoint.TIED.values()))

Findings = Iterator[Finding]


def diagnose(options: DoctorOptions) -> list[Finding]:
    """All findings about a model's directory, and about data files where some are given.

    Raises:
        ValueError: there is no such directory, nothing of a model in it, or an option is impossible.
    """
    paths = [path for path in (options.data, options.dev, options.test) if path is not None]
    for path in paths:
        if not os.path.isfile(path):
            raise ValueError(f"{path}: no such file; give a data file")
    files = read_files(resolve(options.model))
    found = [finding for check in CHECKS for finding in check(files)]
    explained = {finding.part for finding in found if finding.severity == "error"}
    if "vocabulary" in explained:
        explained.add("tokenizer")
    found += [refused for refused in files.refused if refused.part not in explained]
    config = files.config
    limits = files.settings.get("model_max_length"), config and config.max_position_embeddings
    max_length = options.max_length or min(filter(None, limits), default=MAX_LENGTH)
    labels = list(config.id2label.values()) if config and "classifier.weight" in files.names else None
    return found + list(check_data(paths, options, files.tokenizer, max_length, labels))


# ---- what there is ----


class Summary(NamedTuple):
    """What is kept of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    nan: int = 0  # how many numbers are
    infinite: int = 0
    zero: bool = False  # whether all numbers are zero
    std: float = math.nan


@dataclass
class ModelFiles:
    """What could be read of a model's directory; empty where there is nothing, or where the reader has refused it."""

    directory: Path
    present: set[str]
    config: BertConfig | None = None
    tokenizer: Tokenizer | None = None
    raw_config: dict = field(default_factory=dict)
    vocabulary: bytes = b""  # of vocab.txt
    not_utf8: list[Finding] = field(default_factory=list)  # about vocab.txt
    tokens: list[str] = field(default_factory=list)
    settings: dict = field(default_factory=dict)  # of the tokenizer
    weights: dict[str, Summary] = field(default_factory=dict)  # by the file's names
    shared: dict[str, Tensor] = field(default_factory=dict)  # embedding and decoder, by the file's names
    refused: list[Finding] = field(default_factory=list)

    @cached_property
    def names(self) -> dict[str, Summary]:
        """The weights by today's Hugging Face names."""
        return {checkpoint.their_name(key): summary for key, summary in self.unwrapped.items()}

    @cached_property
    def prefix(self) -> str:
        """What a wrapper has put before all names."""
        return weight_files.wrapper(self.weights)

    @property
    def unwrapped(self) -> dict[str, Summary]:
        """The weights by the file's names without the prefix, as they are loaded."""
        return {key.removeprefix(self.prefix): summary for key, summary in self.weights.items()}

    @cached_property
    def misread(self) -> str | None:
        """A token that was read in another encoding, where there are many."""
        return mojibake(self.tokens)

    @property
    def is_damaged(self) -> bool:
        """Whether the bytes of the vocabulary are, so that its tokens tell nothing."""
        return bool(self.vocabulary.startswith(diagnosis.POINTER) or self.not_utf8 or self.misread)

    @cached_property
    def published(self) -> tuple[str, bool] | None:
        """KNOWN's row of the vocabulary."""
        lines = "".join(f"{token}\n" for token in self.tokens)
        return KNOWN.get(hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest())


def read_files(directory: Path) -> ModelFiles:
    """Reads all parts; a reader's refusal is kept."""
    files = ModelFiles(directory, {path.name for path in directory.iterdir()})
    readers = {
        read_config: "config.json" in files.present,
        read_tokenizer: diagnosis.has(directory, diagnosis.VOCABULARY),
        read_weights: diagnosis.has(directory, diagnosis.WEIGHTS),
    }
    if not any(readers.values()):
        raise ValueError(f"{directory}: {'; '.join(diagnosis.absent(directory))}")
    for read, present in readers.items():
        try:
            with diagnosis.explained(directory):
                if present:
                    read(files)
        except ValueError as reason:
            files.refused.append(refusal(f"{read.__name__.removeprefix('read_')}-refused", reason))
    return files


def read_config(files: ModelFiles) -> None:
    path = files.directory / "config.json"
    if isinstance(raw := read_json(path, COPY_AGAIN), dict):
        files.raw_config = raw
    files.config = BertConfig.from_file(path)


def read_tokenizer(files: ModelFiles) -> None:
    path = files.directory / "vocab.txt"
    if path.is_file() and path.stat().st_size <= LIMIT:  # read_settings refuses a larger one
        files.vocabulary = path.read_bytes()
        files.not_utf8 = list(text_encoding("vocabulary-not-utf8", path, files.vocabulary))
        text = files.vocabulary.decode("utf-8-sig", errors="replace")  # for the checks: read_settings may refuse it
        files.tokens = [line.removesuffix("\r") for line in text.rstrip("\r\n").split("\n")]
    files.settings = read_settings(files.directory)
    files.tokens = files.settings["vocab"]
    files.tokenizer = Tokenizer(**files.settings)


def read_weights(files: ModelFiles) -> None:
    """One tensor after the other: the weights are never in memory together."""
    weights: dict[str, Summary] = {}
    for key, tensor in weight_files.each_tensor(weight_files.weight_files(files.directory)[1]):
        weights[key] = summarise(tensor)
        if key.endswith(SHARED):
            files.shared[key] = tensor
    files.weights = weights


def summarise(tensor: Tensor) -> Summary:
    """A tensor of any shape."""
    shape = tuple(tensor.shape)
    if not tensor.dtype.is_floating_point or not tensor.numel():
        return Summary(shape, tensor.dtype)
    x = tensor.float()
    std = float(x.std(correction=0))
    finite = math.isfinite(std)
    nan, infinite = (0, 0) if finite else (int(x.isnan().sum()), int(x.isinf().sum()))
    return Summary(shape, tensor.dtype, nan, infinite, std == 0 and not x.any(), std)


def known(key: str) -> bool:
    """Whether some BERT has a weight of that name."""
    return checkpoint.translate(checkpoint.their_name(key), checkpoint.TABLE) is not None


# ---- checks: files ----


def absent_parts(files: ModelFiles) -> Findings:
    """A part alone can be checked; weights without the rest, or the rest without weights, cannot be used."""
    found = diagnosis.absent(files.directory)
    if found == diagnosis.ALONE:
        yield note("config-absent", "no config.json: sizes and switches are not checked")
        yield note("weights-absent", "no weights: nothing about them is checked")
    elif found:
        yield error("weights-absent" if "config.json" in files.present else "config-absent", *found)
    if not files.tokens and not any(finding.part == "tokenizer" for finding in files.refused):
        kind = error if files.weights else note
        yield kind("vocabulary-absent", *diagnosis.without_vocabulary(files.directory))


def pointers(files: ModelFiles) -> Findings:
    """A clone of a repository without git-lfs has small text files in place of the large ones."""
    parts = dict.fromkeys(diagnosis.VOCABULARY, "vocabulary") | dict.fromkeys(diagnosis.CONFIG, "config")
    for name in sorted(files.present):
        if diagnosis.is_pointer(files.directory / name):
            yield error(f"{parts.get(name, 'weights')}-pointer", *diagnosis.pointer(files.directory / name))


# ---- checks: vocabulary ----


def vocabulary_text(files: ModelFiles) -> Findings:
    """What an editor of another system leaves in a text file; and a token's line is its id, so a line too many moves
    all that follow."""
    path, data, tokens = files.directory / "vocab.txt", files.vocabulary, files.tokens
    other = "other programs take it for a part of the token"
    yield from files.not_utf8
    if data.startswith(b"\xef\xbb\xbf"):
        yield warning("vocabulary-bom", f"{path}:1: begins with a byte order mark; {other}", "save it without a BOM")
    if count := data.count(b"\r\n"):
        what = f"{path}: {count} lines end with CR LF; {other}"
        yield warning("vocabulary-crlf", what, "save it with LF (sed -i 's/\\r$//' vocab.txt)")
    if blank := [line for line, token in enumerate(tokens, 1) if not token.strip() and token.isascii()]:
        what = f"{len(blank)} empty lines, the first is {blank[0]}: each takes an id, or has lost its token"
        yield error("vocabulary-empty-lines", what, diagnosis.KEEP_LINES)
    first: dict[str, int] = {}
    twice = [line for line, token in enumerate(tokens, 1) if token.strip() and first.setdefault(token, line) != line]
    if twice and not files.misread:
        token = tokens[twice[0] - 1]
        what = f"{len(twice)} tokens stand twice, first of all {token!r} on lines {first[token]} and {twice[0]}"
        yield error("vocabulary-duplicates", what, diagnosis.KEEP_LINES)
    if (example := files.misread) and not files.not_utf8:
        what = f"line {tokens.index(example) + 1} is {example!r}, like many: UTF-8 was read in another encoding"
        yield error("vocabulary-mojibake", what, COPY_AGAIN)


def special_tokens(files: ModelFiles) -> Findings:
    """All five are there, at places that some BERT has: a sorted vocabulary has the tokens, but other ids."""
    if not files.tokens or files.is_damaged:
        return
    spelled = SPECIAL_TOKENS | files.settings.get("special_tokens", {})
    ids = {token: number for number, token in enumerate(files.tokens)}
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
    if files.config is not None and files.config.pad_token_id != places[0]:
        what = f"config.json says pad_token_id {files.config.pad_token_id}, but {spelled['pad_token']} is {places[0]}"
        yield warning("config-pad-id", what, f"write {places[0]} into config.json, if the weights were trained with it")


def vocabulary_size(files: ModelFiles) -> Findings:
    """Three places give V: the vocabulary's tokens, the config, the rows of the embedding."""
    embedding = files.names.get("bert.embeddings.word_embeddings.weight")
    sizes = {
        "the vocabulary": len(files.tokens) if not files.is_damaged else 0,
        "config.json": files.config and files.config.vocab_size,
        "the embedding": embedding and embedding.shape and embedding.shape[0],
    }
    tokens, *rows = sizes.values()
    if len(set(filter(None, rows))) > 1 or (tokens and any(size and size < tokens for size in rows)):
        what = ", ".join(f"{name} {size}" for name, size in sizes.items() if size)
        yield error("vocabulary-size", f"sizes differ: {what}", "take vocab.txt, config.json and weights of one model")
    elif tokens and (V := max(filter(None, rows), default=tokens)) > tokens:
        what = f"{V - tokens} of the embedding's {V} rows have no token"
        if V % 8 == 0 and V - tokens < FILLED_UP:
            yield note("vocabulary-padded", f"{what}: it was filled up to a multiple of 8")
        else:
            yield warning("vocabulary-short", what, "take the vocab.txt that belongs to the weights, if lines are lost")


def tokenizer_files(files: ModelFiles) -> Findings:
    """What other programs may read differently in the tokenizer's files."""
    if files.tokenizer is not None:
        yield from tokenizer_findings(files.directory)


def which_vocabulary(files: ModelFiles) -> Findings:
    """minibert reads vocab.txt, transformers the tokenizer.json beside it; and which of the published ones it is."""
    path, ours = files.directory / "tokenizer.json", files.tokens
    theirs = read_settings(path)["vocab"] if files.settings and files.vocabulary and path.is_file() else ours
    if ours != theirs:
        same = [*map(str.__eq__, ours, theirs), False].index(False)
        what = f"vocab.txt ({len(ours)} tokens) and tokenizer.json ({len(theirs)}) differ from id {same} on"
        yield error("vocabulary-two", what, "delete the one that does not belong to the weights")
    if files.published:
        yield note("vocabulary-known", f"it is that of {files.published[0]}, token for token")


def case(files: ModelFiles) -> Findings:
    """A cased vocabulary under lowercased text never uses its upper-case tokens; the other way round, capitals are
    [UNK]."""
    if files.tokenizer is None:
        return
    tokens, special = files.tokens, set(files.tokenizer.special_tokens.values())
    upper = [token for token in tokens if token != token.lower() and token not in special and token[:1] != "["]
    cased = len(upper) > CASED * len(tokens)
    letters = any(token.isascii() and token.isalpha() and token.islower() for token in tokens)
    name, lowered = files.published or (None, not cased)
    says = f"do_lower_case is {str(files.tokenizer.lowercase).lower()}"
    if files.tokenizer.lowercase and not lowered:
        what = f"{says} (or not said), but the vocabulary is cased: {len(upper)} tokens, as {upper[:3]}, are never used"
        yield warning("tokenizer-lowercases", what, 'write "do_lower_case": false into tokenizer_config.json')
    elif not files.tokenizer.lowercase and lowered and letters:
        what = f"{says}, but the vocabulary has no upper-case words: every capital letter makes [UNK]"
        kind = note if name in KEEPS_CASE else warning
        yield kind("tokenizer-keeps-case", what, 'write "do_lower_case": true into tokenizer_config.json')


# ---- checks: config ----


def config_values(files: ModelFiles) -> Findings:
    """Texts longer than the model has positions for, and settings of other models, with which BERT's weights give
    slightly wrong answers."""
    if (config := files.config) is None:
        return
    length, positions = files.settings.get("model_max_length"), config.max_position_embeddings
    if length is not None and length > positions:
        what = f"model_max_length is {length}, but the model has {positions} positions"
        remedy = f"write {positions} into tokenizer_config.json: others crash on longer texts"
        yield warning("tokenizer-max-length", what, remedy)
    if config.layer_norm_eps >= LARGE_EPS or config.layer_norm_eps == 0:
        what = f"layer_norm_eps is {config.layer_norm_eps:g}; BERT's is {EPS:g} (PyTorch's default is 1e-5)"
        yield warning("config-eps", what, f"write {EPS:g}, unless the weights were trained with it")
    if config.hidden_act != "gelu":
        what = f"hidden_act is {config.hidden_act}; BERT's checkpoints are used with gelu, the erf form"
        yield warning("config-activation", what, 'write "gelu", unless the weights were trained with it')


def label_names(files: ModelFiles) -> Findings:
    """The classifier's rows, and the names that config.json gives them."""
    if (config := files.config) is None:
        return
    head = files.names.get("classifier.weight")
    if head is not None and head.shape and head.shape[0] != config.num_labels:
        what = f"the classifier has {head.shape[0]} rows, config.json names {config.num_labels} labels"
        yield error("labels-count", what, "name every row in id2label, in the order of training")
    backwards = files.raw_config.get("label2id")
    forwards = {label: number for number, label in config.id2label.items()}
    if files.raw_config.get("id2label") and isinstance(backwards, dict) and backwards != forwards:
        what = f"id2label and label2id disagree: {forwards} against {backwards}"[:200]
        yield warning("labels-disagree", what, "make label2id the reverse of id2label")
    if head is not None and all(re.fullmatch(r"LABEL_\d+", label) for label in forwards):
        yield note("labels-unnamed", "the labels have no names, only LABEL_0 …", "name them in id2label")


# ---- checks: weights ----


def key_names(files: ModelFiles) -> Findings:
    """Names with a wrapper's prefix, and those of the oldest files."""
    if files.prefix:
        prefix = checkpoint.printable(files.prefix)
        yield note(
            "weights-prefix", f"every name begins with {prefix}, as a wrapped model was saved: it is looked through"
        )
    if old := [key for key in files.weights if not checkpoint.their_name(key).endswith(key)]:
        yield note("weights-old-names", f"{len(old)} names are of the old kind, such as {old[0]}; they are understood")


def tensors(files: ModelFiles) -> Findings:
    """Every weight that the config asks for is there, in its shape, and no other; a decoder equals the embedding."""
    weights = files.unwrapped
    try:
        checkpoint.rename({key.removeprefix(files.prefix): x for key, x in files.shared.items()}, "the weights")
    except ValueError as reason:
        yield refusal("weights-untied", reason)
        return
    if files.config is None or not weights:
        return
    model = model_class(weights).without_memory(files.config, "eager")
    found = {key: torch.empty(s.shape, dtype=s.dtype, device="meta") for key, s in weights.items()}
    for copy in weights.keys() & checkpoint.TIED.keys():  # equal, so the original alone counts
        found.setdefault(checkpoint.TIED[copy], found.pop(copy))
    try:
        checked = other_heads.audit(model, found, "the weights")
    except ValueError as reason:
        yield refusal("weights-twice", reason)
        return
    reported = ("classifier.",) if any(f.name == "labels-count" for f in label_names(files)) else ()
    if any(vocabulary_size(files)):
        reported += ("bert.embeddings.word_embeddings.", "cls.predictions.bias")
    for problem, rows in checked.problems.items():
        if rows := [row for row in rows if not row.startswith(reported)]:
            more = f", … and {len(rows) - 4} more" if len(rows) > 4 else ""
            what = f"{len(rows)} {problem}: {', '.join(rows[:4])}{more}"
            yield error(f"weights-{problem}", what, diagnosis.fitting(what) or checkpoint.FIT_REMEDY)
    if foreign := checked.left & {*other_heads.BY_NAME.values(), *other_heads.BY_CLASS.values()}:
        remedy = "train a head on them (minibert train), or take their encoder alone (minibert embed)"
        yield warning("weights-foreign-head", f"they bring {listed(foreign)}, by which minibert has no answers", remedy)
    if checked.fresh:
        yield note("weights-parts", f"they lack {listed(checked.fresh)}")
    if left := checked.left - foreign:
        yield note("weights-parts", f"they bring {listed(left)} too: not used here")


def numbers(files: ModelFiles) -> Findings:
    """Training that diverged, and files that were damaged."""
    for name, slug in (("nan", "weights-nan"), ("infinite", "weights-inf")):
        if bad := {key: n for key, summary in files.weights.items() if (n := getattr(summary, name))}:
            key, more = next(iter(bad)), f", as in {len(bad) - 1} more tensors" if len(bad) > 1 else ""
            what = f"{checkpoint.printable(key)} holds NaN or infinity: {bad[key]} numbers are {name}{more}"
            yield error(slug, what, "training diverged, or the file is damaged; take an earlier checkpoint")
    if zero := [key for key, s in files.weights.items() if s.zero and is_matrix(key)]:
        what = f"{len(zero)} weights are all zero, such as {checkpoint.printable(zero[0])}"
        yield error("weights-zero", what, "the file is damaged, or a conversion lost them: convert it again")


def is_matrix(key: str) -> bool:
    """Whether a trained BERT cannot have only zeros there: in biases and in the segments' embedding it can."""
    name = checkpoint.their_name(key)
    return name.endswith(".weight") and known(name) and "token_type" not in name


def fresh(files: ModelFiles) -> Findings:
    """Parts that look as if training had never touched them: zero biases, and weights as they are initialised.

    One step of an optimizer moves every bias from zero, so the zeros tell; the deviation makes it sure."""
    std = files.config.initializer_range if files.config else 0.02
    state: dict[str, list[bool]] = {}  # part -> of its modules, whether each looks fresh
    for name, weight in files.names.items():
        module, _, last = name.rpartition(".")
        bias = files.names.get(f"{module}.bias")
        part = re.match(r"bert\.encoder\.layer\.\d+|bert\.pooler|classifier|cls\.\w+", name)
        if last == "weight" and bias and part and "decoder" not in name:
            state.setdefault(part.group(), []).append(looks_fresh(weight, bias, std))
    untouched = [part for part, modules in state.items() if all(modules)]
    if layers := [part.rpartition(".")[2] for part in untouched if ".layer." in part]:
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
    """Whether a module's weight and bias are as they are initialised: normal, or 1 in a LayerNorm, and 0."""
    spread = 4 / math.sqrt(2 * max(1, math.prod(weight.shape)))  # four standard errors of a standard deviation
    normal = std > 0 and any(abs(weight.std / (std * cut) - 1) < spread for cut in (1, CUT_NORMAL))
    constant = weight.std == 0 and not weight.zero  # a LayerNorm's ones
    return bias.zero and (constant or normal)


CHECKS: tuple[Callable[[ModelFiles], Findings], ...] = (
    *(absent_parts, pointers, vocabulary_text, special_tokens, vocabulary_size, tokenizer_files),
    *(which_vocabulary, case, config_values, label_names, key_names, tensors, numbers, fresh),
)
