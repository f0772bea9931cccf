"""Proves that the command line speaks Chinese where the locale or --lang asks: every message in the source has a
translation, and a translation has a message. Run: pytest tests/io/test_language.py

Messages are found in the source as templates, `{}` in the place of each value. Required are the arguments of
ValueError, of findings and of `say`, the words that a name in them may stand for in the same function, and the
constants of the package that they name. Left out: lines of numbers (two spaces between columns), and what has no words.
What another function returns into a message is translated too, but not required: nobody can see from here that it is
shown.
"""

import argparse
import ast
import dataclasses
import errno
import inspect
import logging
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from minibert import cli
from minibert.core import checkpoint
from minibert.io import findings, language, other_heads
from minibert.io.language import chosen, translated
from minibert.io.stderr import Translated, say

PACKAGE = Path(cli.__file__).parent
FIRST = {"ValueError": 0, "say": 0, "Diagnosis": 0, "error": 1, "warning": 1, "note": 1, "kind": 1}
FIRST |= {"graded": 2, "refused": 2}  # where the texts among the arguments begin
HEADS = (*checkpoint.PARTS.values(), *other_heads.BY_NAME.values(), *other_heads.BY_CLASS.values())
# Joints of a message's parts, and messages of which a word is a value.
JOINED = {"{}: {}", "{}; {}", "max_length {} cuts none", "holds {} ({}); {}", "holds {} ({}) of {}; {}"}
JOINED |= {f"{part} and {{}}" for part in HEADS}
JOINED |= {f"{those}, type {{}}" for those in ("if these are the names", "if that is no header")}
JOINED |= {"has no {} column; its columns are {}; {}", "{}: token {} stands on lines {} and {}; {}"}
JOINED |= {"{}: holds no config.json, no vocab.txt, no weights; {}"}
JOINED |= {"{}:{}: byte 0x{} is not UTF-8; mend that line, or copy the file again"}
JOINED |= {f"{{}} {problem}: {{}}" for problem in ("missing", "unexpected", "mismatched")}
JOINED |= {"{}: {} rows, {}", "texts ({})", "pairs ({})", "[Errno {}] {}: {}", "[Errno {}] {}", "{} ({} rows), {}"}
JOINED |= {f"{{}}: {{}} rows, {two} ({{}}), {{}} labels: {{}}" for two in ("texts", "pairs")}
JOINED |= {f"{{}}: {{}} rows, {two} ({{}}), {{}} labels ({{}}): {{}}" for two in ("texts", "pairs")}
NO_SENTENCES = ("length {}", "#1 string", "#2 string", "num_attention_heads {}")
NO_SENTENCES += ("course {} DIR", "course BUG", "baseline.not below")
NO_SENTENCES += ("minibert {} --resume {} --parallel ddp",)
SIZES = ("the vocabulary {}", "config.json {}", "the embedding {}")
JOINED |= {", ".join(sizes) for sizes in (SIZES, SIZES[:2], SIZES[::2], SIZES[1:])}


@pytest.fixture(autouse=True)
def speaks_english_again():
    yield
    language.use("en")


@pytest.fixture
def chinese():
    language.use("zh")


# ---- templates of the source ----


@cache
def modules() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def template(node: ast.AST) -> str:
    """A string's text with `{}` for each value, also of a constant that is still to be formatted."""
    if isinstance(node, ast.JoinedStr):
        text = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.BinOp):
        text = template(node.left) + template(node.right)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = re.sub(r"%s|\{+\w*(![rs])?(:[^{}]*)?\}+", "{}", node.value)
    else:
        text = "{}"
    return re.sub(r"(\{\})+", "{}", text)


def strings(node: ast.AST | None) -> list[ast.AST]:
    """The strings that an expression may be."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return [node]
    if isinstance(node, ast.BinOp):
        return [node] if isinstance(node.op, ast.Add) else strings(node.left)
    parts = {ast.IfExp: ("body", "orelse"), ast.Tuple: ("elts",), ast.BoolOp: ("values",), ast.Dict: ("values",)}
    fields = [getattr(node, name) for name in parts.get(type(node), ())]
    return [s for field in fields for part in (field if isinstance(field, list) else [field]) for s in strings(part)]


def assigned(nodes: list[ast.AST]) -> dict[str, list[ast.AST]]:
    """Name -> what is assigned to it; each part of a tuple to each name."""
    found: dict[str, list[ast.AST]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.NamedExpr):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                    found.setdefault(getattr(name, "id", ""), []).append(node.value)
    return found


@cache
def constants() -> dict[str, list[ast.AST]]:
    return assigned([node for tree in modules().values() for node in tree.body])


def is_sentence(text: str) -> bool:
    return sum(map(str.isalpha, text)) > 3 and " " in text.strip() and not re.search(r"  |\n", text)


@cache
def required() -> dict[str, str]:
    """Template -> the file that it stands in."""
    found = {}
    for path, tree in modules().items():
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            names = constants() | assigned([*ast.walk(function)])
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                name = getattr(call.func, "id", getattr(call.func, "attr", ""))
                for argument in call.args[FIRST[name] :] if name in FIRST else ():
                    parts = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(argument)}
                    said = [argument, *(value for part in parts for value in names.get(part, ()))]
                    found |= {template(string): path.name for value in said for string in strings(value)}
    return {text: file for text, file in found.items() if is_sentence(text) and text not in NO_SENTENCES}


@cache
def known() -> set[str]:
    """Every string of the source, of argparse and of the system."""
    nodes = [node for tree in modules().values() for node in ast.walk(tree)]
    found = {template(node) for node in nodes if isinstance(node, ast.JoinedStr | ast.BinOp | ast.Constant)}
    strings_of_argparse = ast.walk(ast.parse(inspect.getsource(argparse)))
    found |= {
        re.sub(r"%(\(\w+\))?[sr]", "{}", n.value)
        for n in strings_of_argparse
        if isinstance(getattr(n, "value", 0), str)
    }
    return found | {os.strerror(number) for number in errno.errorcode}


def spellings(text: str) -> set[str]:
    """A template; a tail of a message without the comma that it begins with, or behind what it is joined to; and for
    what is named "config" the file that it comes from."""
    return {text, text.strip(";, "), "{}" + text, text.replace("config: ", "{}: ", 1)}


@cache
def translations() -> dict[str, str]:
    return {"{}".join(literals): text for literals, text in language.catalog()}


def test_every_message_of_the_source_has_a_translation():
    assert [f"{file}: {text}" for text, file in required().items() if not spellings(text) & translations().keys()] == []
    assert len(required()) > 450


def test_every_translation_is_of_a_message():
    messages = JOINED.union(*map(spellings, known()))
    assert translations().keys() - messages == set()


def test_a_translation_has_each_value_of_its_message_once():
    for text, chinese in translations().items():
        assert sorted(re.findall(r"\{(\d)\}", chinese)) == [str(i) for i in range(text.count("{}"))], text


def test_a_translation_is_chinese():
    assert [text for text, chinese in translations().items() if not re.search("[一-鿿：；]", chinese)] == []


def test_a_message_that_is_open_at_its_end_stays_open():
    """As a remedy may follow."""
    for text, chinese in translations().items():
        assert not text.endswith("{}") or chinese.endswith(f"{{{text.count('{}') - 1}}}"), text


def test_of_two_values_it_can_be_told_where_one_ends():
    assert [text for text in translations() if "{}{}" in text] == []


def test_a_translation_has_a_semicolon_for_each_of_its_message():
    """By which the doctor parts what and remedy."""
    uneven = {text for text, chinese in translations().items() if chinese.count("；") != text.count("; ")}
    assert uneven - {"; its own, not used, is for {} ({})"} == set()


# ---- which language ----


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LC_MESSAGES": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, "zh"),
        ({"LC_ALL": "C", "LC_MESSAGES": "zh_CN.UTF-8", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LC_ALL": "", "LANG": "zh_TW"}, "zh"),
    ],
)
def test_the_first_variable_of_the_locale_that_is_set_decides(monkeypatch, environment, wanted):
    for name in language.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert chosen() == wanted


def test_what_is_asked_for_counts_more_than_the_locale(monkeypatch):
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert chosen("en") == "en"
    monkeypatch.setenv("LC_ALL", "C")
    assert chosen("zh") == "zh"


def test_a_process_speaks_the_language_of_its_locale(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    command = [sys.executable, "-m", "minibert", "encode", "a", "--model", str(tmp_path / "nowhere")]
    for locale, words in (
        ("zh_CN.UTF-8", "没有这个目录；请给出模型目录"),
        ("C.UTF-8", "no such directory; give a model"),
    ):
        done = subprocess.run(command, env=environment | {"LANG": locale}, capture_output=True, encoding="utf-8")
        assert done.returncode == 2
        assert words in done.stderr


def test_english_reads_no_catalog(monkeypatch):
    monkeypatch.setattr(language, "catalog", None)
    assert translated("standard input is empty; give one text a line").startswith("standard")


# ---- lines ----


def test_values_stand_where_the_translation_has_them(chinese):
    said = translated("id 7 at position 3 is outside the vocabulary 0 … 5")
    assert said == "位置 3 的编号 7 超出词表 0 … 5"


def test_an_unknown_message_stays_english(chinese):
    assert translated("the moon is far: fly there; or stay") == "the moon is far: fly there; or stay"


def test_of_two_templates_that_fit_the_one_that_says_more_is_taken(chinese):
    assert translated("a.tsv: no such file; give a data file") == "a.tsv：没有这个文件；请给出数据文件"
    assert translated("a.tsv: Permission denied; give a data file") == "a.tsv：没有权限；请给出数据文件"


def test_messages_inside_a_message_are_translated_and_quoted_values_are_not(chinese):
    line = "dir: holds ONNX weights (x.onnx); it is for running only; take the model.safetensors that it was made from"
    assert translated(line).endswith("；它只供运行；请使用导出它的 model.safetensors")
    assert translated("device 'x: give y' cannot be used here (z); choose cpu").startswith("设备 'x: give y' 在这里")


def test_a_message_is_parted_where_most_of_it_is_known(chinese):
    assert translated("a.tsv:3: the label is empty; give every row one") == "a.tsv:3：标签为空；请为每一行写一个标签"
    assert translated("d: no weights: nothing about them is checked; unpack it") == "d：没有权重：未检查权重；请解压"


def test_a_message_that_ends_too_early_fits_no_template(chinese):
    assert language.values_of("aba", ["ab", "ba"]) is None
    assert language.values_of("abba", ["ab", "ba"]) == [""]
    assert language.values_of("a-b-c", ["", "-", ""]) == ["a", "b-c"]


def test_a_line_of_numbers_stays_as_it_is(chinese, capsys):
    line = "epoch 1/3  train loss 0.5123  │  dev loss 0.4  accuracy 0.9  best so far"
    say(line)
    say("the text supports 512 tokens")
    assert capsys.readouterr().err.splitlines() == [line, "文本只够学到 512 个词元"]


def test_what_the_package_logs_is_translated(chinese):
    said = "%s brings %s: not used here", ("m", "a pooler")
    record = logging.LogRecord("minibert", logging.WARNING, "", 1, *said, None)
    assert Translated().format(record) == "m 带有 pooler 层：这里不使用"


# ---- the command line ----


def test_lang_chooses_the_language_of_a_mistake(monkeypatch, capsys):
    command = ["predict", "/no/where", "a text", "--lang"]
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert cli.main([*command, "en"]) == 2
    monkeypatch.setenv("LC_ALL", "C")
    assert cli.main([*command, "zh"]) == 2
    english, chinese = capsys.readouterr().err.splitlines()
    assert english.startswith("minibert: '/no/where': no such directory; give")
    assert chinese.startswith("minibert: '/no/where'：没有这个目录；请给出")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--epochs"], "参数 --epochs：需要一个值；用法见 minibert train --help"),
        (["--epochs", "x"], "参数 --epochs：应是 int 类型的值，而不是 'x'；用法见 minibert train --help"),
        (["--nonsense"], "不认识的参数：--nonsense；用法见 minibert train --help"),
    ],
)
def test_a_mistake_of_the_command_line_is_told_in_chinese(words, line, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "--lang", "zh", *words])
    assert left.value.code == 2
    assert capsys.readouterr().err == f"minibert train: {line}\n"


def test_another_language_is_refused_in_one_line(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["doctor", "bundled", "--lang", "fr"])
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "argument --lang: invalid choice: 'fr'" in line


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_lang_is_an_option_of_every_command_and_of_no_run(command):
    fields = dataclasses.fields(cli.COMMANDS[command][0])
    needed = ["1" for field in fields if field.metadata.get("positional")]
    for field in fields:
        if field.default is dataclasses.MISSING and not field.metadata.get("positional"):
            needed += [f"--{field.name.replace('_', '-')}", "1"]
    name, values = cli.parse([command, *needed, "--lang", "zh"])
    assert name == command
    assert language.is_chinese()
    assert "lang" not in values


def test_the_doctor_speaks_chinese_of_a_broken_directory(tmp_path, capsys):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n\nroom\nroom\n", encoding="utf-8")
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    assert cli.main(["doctor", str(tmp_path), "--lang", "zh"]) == 1
    shown = capsys.readouterr().out
    assert "错误  vocabulary-duplicates" in shown
    assert "→ 请重新复制原文件；不要删行，否则编号会移位\n" in shown
    assert re.search(r"config-refused +\S+config.json：不是 JSON（", shown)
    assert re.search(r"\n有问题：\d 个错误，\d 个警告，\d 个提示\n$", shown)
    assert all(re.search("[一-鿿]", line) for line in shown.splitlines())


def test_json_stays_english(tmp_path, capsys):
    (tmp_path / "vocab.txt").write_text("room\nroom\n", encoding="utf-8")
    assert cli.main(["doctor", str(tmp_path), "--lang", "zh", "--json"]) == 1
    assert not re.search("[一-鿿]", capsys.readouterr().out)


def test_a_findings_remedy_is_what_stands_behind_the_arrow(chinese):
    what = "c.json: hidden_size is -1; it must be a whole number from 1 to 5"  # the reader's line goes on behind it
    found = findings.error("config-refused", what, "copy the config.json that belongs to the weights")
    said = "c.json：hidden_size 是 -1；要求：是 1 到 5 的整数", "请复制与权重配套的 config.json"
    assert findings.in_language(found) == said
    known = findings.warning("config-eps", "layer_norm_eps is 1; BERT's is 2 (PyTorch's default is 1e-5)", "do")
    assert findings.in_language(known) == ("layer_norm_eps 是 1；BERT 用 2（PyTorch 默认 1e-5）", "do")
    shown = findings.warning("data-mojibake", "a.tsv: 2.0 % of the texts are like '好；坏'", "copy it again")
    assert findings.in_language(shown) == ("a.tsv：2.0 % 的文本类似 '好；坏'", "请重新复制")
    strange = findings.error("x-y", "odd; very odd", "do; undo")
    assert findings.in_language(strange) == ("odd; very odd", "do; undo")
