"""Loads mutated model directories as the commands do: no traceback, no hang, no code run, one short line of error.

    python tests/fuzz_files.py                          # 10,000 directories, about 6 minutes of one core
    python tests/fuzz_files.py --from 4000 --seed 1     # the rest of another 10,000
    python tests/fuzz_files.py --from 17 --cases 1 --processes 1 --keep /tmp/seen    # leaves what case 17 has read

The directories are of the KINDS below, with one to three mutations each: bytes, JSON values, tensors' headers, pickles,
zip archives, what a path is. What counts as a fault stands in fuzz_runner.py.
"""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import random
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import fuzz_runner
import torch
from fuzz_runner import CANARY, Call, Case

from minibert import Tokenizer, cli
from minibert.core.config import BertConfig
from minibert.fast.models import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification

TOKENS = "[PAD] [UNK] [CLS] [SEP] [MASK] good bad room film ##s ##ly a b c ##a ##b ##c 好 坏 房 间 , ."
SIZES = dict(hidden_size=8, num_attention_heads=2, intermediate_size=8, num_hidden_layers=1, max_position_embeddings=32)
TEXT = "good rooms [MASK] 房间好"

# ---- directories as they are found, whole ----


def model(directory: Path, kind: type = BertForSequenceClassification, **more: object) -> None:
    """A model of two labels with its tokenizer, as minibert saves them."""
    tokenizer = Tokenizer(TOKENS.split())
    config = BertConfig(vocab_size=tokenizer.vocab_size, id2label={0: "no", 1: "yes"}, **SIZES, **more)
    kind(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    """The weights, taken out of the directory."""
    from safetensors.torch import load_file

    path = directory / "model.safetensors"
    found = {name: tensor.clone() for name, tensor in load_file(path).items()}
    path.unlink()
    return found


def save_bin(directory: Path, zipped: bool = True, wrap: Callable[[dict], object] = dict, half: bool = False) -> None:
    found = {name: tensor.half() if half else tensor for name, tensor in tensors(directory).items()}
    torch.save(wrap(found), directory / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)


def shard(directory: Path, save: Callable[[dict, Path], object], stem: str, ending: str) -> None:
    found, table = tensors(directory), {}
    names = sorted(found)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"{stem}-{number:05d}-of-00002{ending}"
        save({name: found[name] for name in part}, directory / file)
        table |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": table}
    (directory / f"{stem}{ending}.index.json").write_text(json.dumps(index), encoding="utf-8")


def shard_safetensors(directory: Path) -> None:
    from safetensors.torch import save_file

    shard(directory, save_file, "model", ".safetensors")


def rich_tokenizer(directory: Path) -> None:
    from tokenizers import BertWordPieceTokenizer

    vocab = {token: number for number, token in enumerate(TOKENS.split())}
    BertWordPieceTokenizer(vocab).save(str(directory / "tokenizer.json"))


def older_files(directory: Path) -> None:
    special = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")}
    write(directory / "special_tokens_map.json", special | {"additional_special_tokens": ["[E1]"]})
    write(directory / "added_tokens.json", {"[E1]": len(TOKENS.split())})
    config = json.loads((directory / "config.json").read_bytes())
    write(directory / "config.json", config | {"vocab_size": config["vocab_size"] + 1})


def sentence_files(directory: Path) -> None:
    names = ("Transformer", "", "Pooling", "1_Pooling", "Normalize", "2_Normalize")
    steps = [
        {"idx": i, "name": str(i), "path": names[2 * i + 1], "type": f"sentence_transformers.models.{names[2 * i]}"}
        for i in range(3)
    ]
    write(directory / "modules.json", steps)
    for folder in names[3::2]:
        (directory / folder).mkdir()
    flags = {"word_embedding_dimension": 8, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    write(directory / "1_Pooling" / "config.json", flags)
    write(directory / "sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": False})
    prompts = {"prompts": {"query": "a: "}, "default_prompt_name": "query", "similarity_fn_name": "cosine"}
    write(directory / "config_sentence_transformers.json", prompts)


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def old_name(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def named_otherwise(found: dict) -> dict:
    """As a wrapped model of an old release was saved in the middle of a training."""
    return {"epoch": 3, "state_dict": {f"module.{old_name(name)}": tensor for name, tensor in found.items()}}


def token_classifier(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_bytes())
    write(directory / "config.json", config | {"architectures": ["BertForTokenClassification"]})


KINDS: dict[str, tuple[dict[str, object], list[Callable[[Path], object]]]] = {  # the model, and what becomes of it
    "safetensors": ({}, []),
    "bin": ({}, [save_bin]),
    "bin of the older format": ({}, [lambda d: save_bin(d, zipped=False)]),
    "bin of half precision": ({}, [lambda d: save_bin(d, half=True)]),
    "bin of a training, old names": ({}, [lambda d: save_bin(d, wrap=named_otherwise)]),
    "safetensors in shards": ({}, [shard_safetensors]),
    "bin in shards": ({}, [lambda d: shard(d, torch.save, "pytorch_model", ".bin")]),
    "masked LM": ({"kind": BertForMaskedLM}, []),
    "pretraining, bin": ({"kind": BertForPreTraining}, [save_bin]),
    "both tokenizer files": ({}, [rich_tokenizer]),
    "tokenizer.json alone": ({}, [rich_tokenizer, lambda d: (d / "vocab.txt").unlink()]),
    "vocab.txt alone": ({}, [lambda d: (d / "tokenizer_config.json").unlink()]),
    "added tokens": ({}, [older_files]),
    "sentence-transformers": ({}, [sentence_files]),
    "several labels": ({"problem_type": "multi_label_classification"}, []),
    "regression": ({"problem_type": "regression"}, []),
    "token classification": ({}, [token_classifier]),
}


def prepare(home: Path) -> None:
    """The whole directories, as home/seeds/KIND."""
    torch.manual_seed(0)
    for name, (how, steps) in KINDS.items():
        model(home / "seeds" / name, **how)
        for step in steps:
            step(home / "seeds" / name)
    for name, how in {"one.txt": "good room\n好\n", "one.tsv": "label\ttext\nyes\tgood room\nno\t坏\n"}.items():
        (home / name).write_text(how, encoding="utf-8")
    for name in (
        "safetensors",
        "masked LM",
    ):  # what a command loads when it is first called is not to count as a case's
        shutil.copytree(home / "seeds" / name, home / f"first {name}" / "model")
        os.chdir(home / f"first {name}")
        for call in COMMANDS:
            fuzz_runner.called(cli.main, call.words)


# ---- mutations: of bytes, of JSON, of tensor files, of what a path is ----


def flip(dice: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8, 40))):
        if changed:
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def cut(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def leave_out(dice: random.Random, data: bytes) -> bytes:
    begin = dice.randrange(len(data) + 1)
    return data[:begin] + data[begin + dice.choice((1, 2, 7, 100)) :]


def put_in(dice: random.Random, data: bytes) -> bytes:
    strange = (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[31m", b"\r", b"\x80", "\u2028\u202e好".encode(), b'"')
    piece = dice.choice((*strange, dice.randbytes(dice.choice((1, 4, 300))), data[: dice.randrange(500)]))
    place = dice.choice((0, len(data), dice.randrange(len(data) + 1)))
    return data[:place] + piece * dice.choice((1, 1, 1, 3, 3000)) + data[place:]


def replace_all(dice: random.Random, data: bytes) -> bytes:
    garbage = dice.randbytes(dice.choice((1, 100, 5000)))
    other = (data.decode("utf-8", "replace").encode(name) for name in ("utf-16", "utf-8-sig", "utf-32"))
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    return dice.choice((b"", b"\n", b"null", b"[]", b"{}", pointer, garbage, *other))


BYTES = (flip, flip, cut, leave_out, put_in, replace_all)

STRANGE = (None, True, False, 0, -1, 2, 1.5, 10**9, 10**30, -(2**63), 1e308, float("nan"), float("inf"), "", "x" * 5000)
STRANGE += ("\x1b[31mred\x1b[0m\r\n\u202e", "\0", "\ud800", "好" * 200, "../../etc/passwd", "[PAD]", [], {}, [[]])
STRANGE += ([1, "a", {}], {"a": {"b": []}}, {"": 0}, list(range(3000)), {str(i): i for i in range(3000)}, "5")
STRANGE += (-0.0, 10**400, [None])


def places(value: object) -> list[tuple[object, object]]:
    """Every (container, key) in a JSON value."""
    found, open_ones = [], [value]
    while open_ones:
        one = open_ones.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        found += [(one, key) for key in keys]
        open_ones += [one[key] for key in keys]
    return found


def change_json(dice: random.Random, data: bytes) -> bytes:
    """A value of another type, a key that is missing, strange or there twice, too deep, a number beyond all bounds."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return flip(dice, data)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        if not (known := places(whole)):
            break
        inside, key = dice.choice(known)
        how = dice.random()
        if how < 0.65:
            inside[key] = copy.deepcopy(dice.choice(STRANGE))
        elif how < 0.8:
            del inside[key]
        elif isinstance(inside, dict):
            inside[dice.choice(("\x1b]0;\x07", "", "a" * 3000, str(dice.choice(list(inside)))))] = inside[key]
        else:
            inside.insert(0, inside[key])
    text = json.dumps(whole, ensure_ascii=dice.random() < 0.5)
    how = dice.random()
    if how < 0.04:
        depth = dice.choice((50, 990, 100_000))
        text = text.replace(":", f':{"[" * depth}{"]" * depth},"x":', 1)
    elif how < 0.08:
        text = text.replace("{", '{"hidden_size": 5, "vocab": {"a": 0}, "model": 3, ', 1)
    elif how < 0.11:
        text = text.replace("8", "9" * dice.choice((20, 5000)), 1)
    elif how < 0.12:
        text = text[:-1] + ', "more": [' + "[]," * dice.choice((1000, 2_000_000)) + "1]}"
    return text.encode("utf-8", "surrogatepass")


def change_lines(dice: random.Random, data: bytes) -> bytes:
    """Of vocab.txt: lines lost, twice, in another order, endless, empty."""
    lines = data.split(b"\n")
    place = dice.randrange(len(lines))
    strange = (b"", b" ", b"\t", b"##", b"[PAD]", b"\x1b[2J", b"x" * 100_000, "\u2028".encode(), b"a b", b"\0")
    line = dice.choice((*strange, lines[place]))
    return b"\n".join(
        dice.choice((lines[:place], lines[place:], lines[::-1], [*lines[:place], line, *lines[place:]], lines * 2))
    )


def change_header(dice: random.Random, data: bytes) -> bytes:
    """Of a safetensors file: its length, or a value of its JSON."""
    length = int.from_bytes(data[:8], "little")
    if dice.random() < 0.2:
        return (
            dice.choice((0, 1, length - 1, length + 1, 10**6, 2**40, 2**63, 2**64 - 1)).to_bytes(8, "little") + data[8:]
        )
    header = change_json(dice, data[8 : 8 + length])
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


# ---- hostile pickles ----


class Calls:
    """Unpickles as the answer of a call."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


ENDLESS = b"\x80\x02})" + 40 * b"2\x86" + b"K\x01s."  # {((((…), (…)): 1}, of 2 ** 40 parts that are hashed


def hostile(dice: random.Random, found: object) -> bytes:
    """A pickle that runs code, never ends, or claims what it has not."""
    command = f"touch {CANARY}"
    harm = [
        lambda: Calls(os.system, command),
        lambda: Calls(exec, f"open({CANARY!r}, 'w')"),
        lambda: Calls(eval, f"open({CANARY!r}, 'w')"),
        lambda: Calls(open, CANARY, "w"),
        lambda: Calls(bytearray, 10**10),
        lambda: Calls(torch.zeros, 10**9),
        lambda: Calls(torch._utils._rebuild_tensor_v2, 0, 0, (10**9,), (0,), False, {}),
        lambda: [[]] * 10**5,
        lambda: {i: i for i in range(10**5)},
        lambda: {"bert.pooler.dense.weight": "text", 3: [1, None], None: {}},
        lambda: [1, 2],
        lambda: torch.nn.Linear,
    ]
    value = dice.choice(harm)()
    if dice.random() < 0.5:
        value = {"bert.embeddings.LayerNorm.weight": value}
    if dice.random() < 0.2:
        return dice.choice((ENDLESS, ENDLESS, b"(" * 100_000 + b"."))
    return pickle.dumps(value, protocol=dice.choice((2, 2, 4)))


def change_zip(dice: random.Random, data: bytes) -> bytes:
    """Of a .bin: its pickle, its names, its storages, its packing."""
    if data[:4] != b"PK\3\4":
        return hostile(dice, None) if dice.random() < 0.3 else dice.choice(BYTES)(dice, data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError):
        return flip(dice, data)
    names = list(entries)
    pickled, chosen = next((name for name in names if name.endswith(".pkl")), names[0]), dice.choice(names)
    how = dice.random()
    if how < 0.3:
        entries[pickled] = hostile(dice, None)
    elif how < 0.65:
        entries[pickled] = dice.choice(BYTES)(dice, entries[pickled])
    elif how < 0.8:
        entries[chosen] = dice.choice(BYTES)(dice, entries[chosen])
    elif how < 0.9:
        entries[dice.choice(("x/data.pkl", "../x", "\x1b[31m", "archive/data/99", chosen + "/"))] = entries.pop(chosen)
    packing = zipfile.ZIP_DEFLATED if how > 0.95 else zipfile.ZIP_STORED
    if how > 0.97:
        entries[chosen] = bytes(100_000_000)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


# ---- what a path is ----


def change_path(dice: random.Random, path: Path, sizes: tuple[int, ...] = (200_000_000, 2_000_000_000)) -> None:
    """A directory, a pipe, a link, nothing, or a file that is enormous on paper."""
    links = {"zero": "/dev/zero", "tty": "/dev/tty", "dangling": "nothing", "round": path.name}
    kind = dice.choice(("missing", "directory", "pipe", "other", "sparse", "renamed", *links))
    content = path.read_bytes()
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "sparse":
        path.write_bytes(content)
        os.truncate(path, dice.choice(sizes))
    elif kind == "renamed":
        names = ("tf_model.h5", "model.onnx", "adapter_model.safetensors", f"{path.name}.bak")
        path.with_name(dice.choice(names)).write_bytes(content)
    elif kind != "missing":
        others = sorted(other.name for other in path.parent.iterdir())
        path.symlink_to(links.get(kind) or dice.choice([*others, "nothing"]))


def mutate(dice: random.Random, directory: Path) -> str:
    """One mutation of one file. Returns what and of which."""
    known = sorted(path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    files = [path for path in known if path.stat().st_size < 10**7]  # not those that are enormous already
    if not files:
        return "nothing left"
    path = dice.choice(files)
    if dice.random() < 0.08:
        change_path(dice, path)
        return f"path of {path.name}"
    change = dice.choice(BYTES)
    own = {".json": change_json, ".txt": change_lines, ".safetensors": change_header, ".bin": change_zip}
    if path.suffix in own and dice.random() < 0.7:
        change = own[path.suffix]
    path.write_bytes(change(dice, path.read_bytes()))
    return f"{change.__name__} of {path.name}"


# ---- cases ----

COMMANDS = [
    Call(["predict", "model", TEXT]),
    Call(["predict", "model", "--data", "../one.tsv", "--out", "out.tsv"]),
    Call(["embed", "model", TEXT]),
    Call(["embed", "model", "--data", "../one.txt", "--out", "out.npy"]),
    Call(["evaluate", "model", "--data", "../one.tsv"]),
    Call(["doctor", "model"], (0, 1, 2)),
    Call(["doctor", "model", "--data", "../one.tsv"], (0, 1, 2)),
    Call(["explain", TEXT, "--model", "model", "--out", "page.html"]),
    Call(["fill-mask", TEXT, "--model", "model"]),
    Call(["encode", TEXT, "--model", "model"]),
]


def make(dice: random.Random) -> Case:
    kind = dice.choice(list(KINDS))
    shutil.copytree(Path("..", "seeds", kind), "model")
    done = [mutate(dice, Path("model")) for _ in range(dice.choice((1, 1, 1, 2, 3)))]
    return Case(f"{kind}: {', '.join(done)}", dice.sample(COMMANDS, 2))


if __name__ == "__main__":
    sys.exit(fuzz_runner.main("fuzz_files", __doc__))
