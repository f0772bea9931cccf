"""Proves that docs/glossary.md holds: its terms are in use, and no other Chinese form of them is, nor wording that was
found awkward.

Run: pytest tests/test_glossary.py
"""

import json
import re

import pytest
from pages import ALL, BLOCK, PAGES, ROOT, cells

PACKAGE = ROOT / "minibert"
WORDS = [
    said
    for name in ("explain/words.json", "report-words.json")
    for said in json.loads((PACKAGE / "assets" / name).read_text(encoding="utf-8")).values()
]
EXERCISES = json.loads((PACKAGE / "assets" / "exercises" / "exercises.json").read_text(encoding="utf-8"))
WORDS += EXERCISES["words"].values()
MESSAGES = json.loads((PACKAGE / "assets" / "messages.zh.json").read_text(encoding="utf-8"))
COURSE = (PACKAGE / "assets" / "course.json").read_text(encoding="utf-8")
GLOSSARY = PAGES["glossary"]
AWKWARD = re.split(
    "[、\n]",
    """都一样：、内部处处可以打开看、核对到最后一位数字、分辨好评与差评、赢不了数词、数词仍然领先
来自一个软件包、文档字符串、崩溃之后、随机时刻下手、指名拒绝、每个进程负责每个批次、进程死了、快速孪生
不经主机的训练步、靠什么活下来、明明白白的循环、谁来问都一样、文件流过模型、梯子、必须胜过的、便宜的随机数
看里面、它对吗、它有什么毛病、学得一样好吗、谁累了、只有被问到的层、模型上什么也不留下、不向别处请求
子词为什么是子词、不计算补齐、参差、用户本来会用的、GPU 上和 GPU 外、测试指名、短的行要等长的行、编码的几行
却也要照算不误、弯折、写明的训练循环、看进去、任意后端、乘以学到的系数、编码的五行、往词元的向量上加东西""",
)


def terms(text: str) -> list[list[str]]:
    """English, Chinese, what is not used, meaning."""
    return [cells(line) for line in text.splitlines() if line.startswith("| ")][1:]


def prose(page: str) -> list[str]:
    """Lines of Chinese, without code and what a link leads to."""
    text = re.sub(r"`[^`\n]*`|<code>.*?</code>|\]\([^)]*\)", "", BLOCK.sub("", page))
    return [line for line in text.splitlines() if re.search("[一-鿿]", line)]


def chinese() -> list[str]:
    """All that is said in Chinese; of the glossary its meanings alone, of programs what stands in Chinese letters."""
    lines = [line for page in ALL if page is not GLOSSARY for line in prose(page.chinese)]
    lines += [row[3] for row in terms("\n".join(prose(GLOSSARY.chinese)))]
    lines += [said["zh"] for said in WORDS]
    lines += re.findall(r'"\w+_zh": (".*")', COURSE)
    lines += MESSAGES.values()
    for row in EXERCISES["exercises"]:
        lines += prose("\n".join([row["title_zh"], row["task_zh"], *row["hints_zh"]]))
    for path in PACKAGE.rglob("*"):
        if path.suffix in (".py", ".html"):
            lines += re.findall("[一-鿿，、；：（）]+", path.read_text(encoding="utf-8"))
    return lines


LINES = chinese()


def found(phrase: str) -> list[str]:
    """Latin words as whole ones, neither a part of a name nor explained in brackets."""
    pattern = re.escape(phrase)
    if phrase.isascii():
        pattern = rf"(?<![\w.(（/-]){pattern}(?![\w.)）/-])"
    return [line for line in LINES if re.search(pattern, line, re.ASCII)]


def test_both_languages_have_the_same_terms():
    english, translated = ([row[:3] for row in terms(text)] for text in (GLOSSARY.english, GLOSSARY.chinese))
    assert english == translated
    assert len(english) >= 60


@pytest.mark.parametrize("column", [0, 1], ids=["english", "chinese"])
def test_every_term_stands_once(column):
    names = [row[column] for row in terms(GLOSSARY.english)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("row", terms(GLOSSARY.english), ids=lambda row: row[0])
def test_every_term_is_in_use(row):
    used = [page for page in ALL if page is not GLOSSARY]
    english = "\n".join([*(page.english for page in used), *(said["en"] for said in WORDS)])
    assert row[0].lower() in english.lower()
    assert any(row[1] in text for text in [*LINES, *(page.chinese for page in used)])


@pytest.mark.parametrize("row", terms(GLOSSARY.english), ids=lambda row: row[0])
def test_no_second_chinese_form_of_a_term_is_used(row):
    assert [line for phrase in filter(None, row[2].split(", ")) for line in found(phrase)] == []


@pytest.mark.parametrize("phrase", AWKWARD)
def test_no_awkward_phrase_comes_back(phrase):
    assert found(phrase) == []
