"""Proves that files as people have them are read rightly, or refused in one line whose remedy, typed as printed, works.

Each is written as the named program or data set writes it. Run: pytest tests/io/test_files_people_have.py
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from minibert.io.examples import read_as
from minibert.options import Reading

CHINESE = [
    "房间很干净，服务员的态度也不错，下次来还会住在这里。",
    "这本书的内容没有什么新意，看了一半就不想再看了。",
    "电脑用了一个月，没有出现问题，价格也便宜，我很满意。",
    "等了一个多小时才上菜，味道还不如学校的食堂，不会再来了。",
]
TRADITIONAL = [
    "這個房間很乾淨，服務也不錯，我們下次還會來。",
    "這本書沒有什麼新的內容，看了一半就不想看了。",
    "電腦用了一個月，沒有問題，價錢也不貴，我很喜歡。",
    "等了一個多小時，東西也不好吃，以後不會再來了。",
]
ENGLISH = ["a truly moving film, and funny", "dull; far too long", 'he said "no" and left', "good, good, good"]
FRENCH = ["très déçu par le déjeuner", "un café agréable à côté", "c'est une bonne idée", "la qualité a baissé"]
LABELS = ["1", "0", "1", "0"]
PAIRS = [(a, b) for a, b in zip(ENGLISH, reversed(ENGLISH), strict=True)]


class Case(NamedTuple):
    """A file's bytes, its texts, pairs and labels; words: of the line that is said; refused: of the refusal."""

    name: str
    content: bytes
    texts: list[str]
    labels: list[str] | None = LABELS
    pairs: list[str] | None = None
    words: str = ""
    refused: str = ""
    how: Reading = Reading()


def table(header: str | None, rows: list[tuple], delimiter: str = ",", end: str = "\n", quoted: bool = True) -> str:
    """As a spreadsheet writes it: quotes where they are needed."""
    lines = [] if header is None else [header]
    for row in rows:
        fields = []
        for field in map(str, row):
            needs = quoted and any(char in field for char in f'{delimiter}"\n')
            fields.append('"' + field.replace('"', '""') + '"' if needs else field)
        lines.append(delimiter.join(fields))
    return end.join(lines) + end


def rows(texts: list[str], labels: list[str] = LABELS) -> list[tuple[str, str]]:
    return list(zip(texts, labels, strict=True))


def swapped(texts: list[str], labels: list[str] = LABELS) -> list[tuple[str, str]]:
    return list(zip(labels, texts, strict=True))


def numbered(texts: list[str]) -> list[tuple]:
    return [(i, text, label) for i, (text, label) in enumerate(rows(texts))]


def objects(texts: list[str], text: str = "text", label: str = "label", **more) -> list[dict]:
    return [{text: t, label: n, **more} for t, n in rows(texts)]


def json_lines(found: list[dict]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found).encode()


def enumerated(texts: list[str]) -> list[tuple]:
    return [(i, label, text) for i, text, label in numbered(texts)]


def quoted(header: list[str] | None, found: list[tuple], delimiter: str = ",") -> str:
    """Every field in quotes, as csv.QUOTE_ALL and databases write."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([] if header is None else [header])
    writer.writerows(found)
    return file.getvalue()


MRPC = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
QUORA = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
SECOND = [b for _, b in PAIRS]
GLUE = [(i, a, b, n) for i, ((a, b), n) in enumerate(zip(PAIRS, LABELS, strict=True))]
TWO = ["positive", "negative"] * 2
WITH_LINES = ["the first line,\nthe second", 'a "quoted" word', "one<br />two", "plain"]
FILES = {  # the first word is the kind
    "excel utf-8": Case("a.csv", ("\ufeff" + table("text,label", rows(CHINESE), end="\r\n")).encode(), CHINESE),
    "excel gbk": Case(
        "a.csv", table("text,label", rows(CHINESE), end="\r\n").encode("gbk"), CHINESE, words="read as gb18030"
    ),
    "excel unicode text": Case(
        "a.txt", table("text\tlabel", rows(CHINESE), "\t", "\r\n").encode("utf-16"), CHINESE, words="read as utf-16"
    ),
    "excel germany": Case(
        "a.csv", table("text;label", rows(ENGLISH), ";", "\r\n").encode(), ENGLISH, words="columns by semicolon"
    ),
    "windows france": Case(
        "a.csv", table("text;label", rows(FRENCH), ";").encode("cp1252"), FRENCH, words="read as cp1252"
    ),
    "excel trailing commas": Case(
        "a.csv", table("text,label,,", [(*r, "", "") for r in rows(ENGLISH)]).encode(), ENGLISH
    ),
    "excel commas behind rows": Case("a.csv", table("text,label", [(*r, "") for r in rows(ENGLISH)]).encode(), ENGLISH),
    "windows taiwan": Case(
        "a.csv", table("text,label", rows(TRADITIONAL)).encode("big5"), TRADITIONAL, words="read as big5"
    ),
    "windows chinese header": Case(
        "a.csv", table("评论,标签", rows(CHINESE)).encode("gbk"), CHINESE, words="2 labels (标签)"
    ),
    "pandas index": Case("a.csv", table(",text,label", numbered(ENGLISH)).encode(), ENGLISH),
    "pandas floats": Case("a.csv", table("text,label", rows(ENGLISH, ["1.0", "0.0", "1.0", "0.0"])).encode(), ENGLISH),
    "json records": Case("a.json", json.dumps(objects(ENGLISH)).encode(), ENGLISH),
    "json records indented": Case("a.json", json.dumps(objects(ENGLISH), indent=2).encode(), ENGLISH),
    "json columns": Case(
        "a.json",
        json.dumps({k: {str(i): row[k] for i, row in enumerate(objects(ENGLISH))} for k in ("text", "label")}).encode(),
        ENGLISH,
    ),
    "pandas tabs in csv": Case("a.csv", table("text\tlabel", rows(ENGLISH), "\t").encode(), ENGLISH, words="by tab"),
    "pandas without header": Case(
        "a.csv", table(None, rows(ENGLISH)).encode(), ENGLISH, refused="--text-column 1 --label-column 2"
    ),
    "glue sst-2": Case("train.tsv", table("sentence\tlabel", rows(ENGLISH), "\t", quoted=False).encode(), ENGLISH),
    "glue qqp": Case(
        "train.tsv",
        table("id\tquestion1\tquestion2\tis_duplicate", GLUE, "\t", quoted=False).encode(),
        ENGLISH,
        pairs=SECOND,
        words="pairs (question1, question2), 2 labels (is_duplicate): 1 (2), 0 (2); ignored: id",
    ),
    "glue qnli": Case(
        "train.tsv",
        table("index\tquestion\tsentence\tlabel", GLUE, "\t", quoted=False).encode(),
        ENGLISH,
        pairs=SECOND,
        words="pairs (question, sentence)",
    ),
    "glue rte": Case(
        "train.tsv",
        table("index\tsentence1\tsentence2\tlabel", GLUE, "\t", quoted=False).encode(),
        ENGLISH,
        pairs=SECOND,
    ),
    "glue cola": Case(
        "train.tsv",
        table(None, [("gj04", n, "", t) for t, n in rows(ENGLISH * 2, LABELS * 2)], "\t", quoted=False).encode(),
        ENGLISH * 2,
        LABELS * 2,
        refused="--text-column 4",
    ),
    "clue tnews": Case(
        "train.json",
        json_lines(objects(CHINESE, "sentence", label_desc="news_x", keywords="")),
        CHINESE,
        words="ignored: label_desc, keywords",
    ),
    "clue afqmc": Case(
        "train.json",
        json_lines([{"sentence1": a, "sentence2": b, "label": n} for (a, b), n in zip(PAIRS, LABELS, strict=True)]),
        ENGLISH,
        pairs=SECOND,
    ),
    "nli snli": Case(
        "dev.jsonl",
        json_lines([{"gold_label": n, "premise": a, "hypothesis": b} for (a, b), n in zip(PAIRS, LABELS, strict=True)]),
        ENGLISH,
        pairs=SECOND,
    ),
    "json array in jsonl": Case("train.jsonl", json.dumps(objects(CHINESE)).encode(), CHINESE),
    "json around data": Case("train.json", json.dumps({"version": "1", "data": objects(CHINESE)}).encode(), CHINESE),
    "json-lines in txt": Case("train.txt", json_lines(objects(CHINESE)), CHINESE),
    "json-lines other names": Case(
        "a.jsonl", json_lines(objects(ENGLISH, "utt", "y")), ENGLISH, refused="--text-column utt --label-column y"
    ),
    "thucnews": Case("train.txt", table(None, rows(CHINESE), "\t", quoted=False).encode(), CHINESE),
    "thucnews cnews": Case(
        "train.txt", table(None, swapped(CHINESE, ["体育", "财经"] * 2), "\t").encode(), CHINESE, ["体育", "财经"] * 2
    ),
    "thucnews gbk": Case("train.txt", table(None, rows(CHINESE), "\t").encode("gbk"), CHINESE, words="read as gb18030"),
    "thucnews lines without labels": Case("a.txt", "\n".join(CHINESE).encode(), CHINESE, None),
    "news ag": Case(
        "train.csv",
        table(None, [(n, "a title", t) for t, n in rows(ENGLISH)]).encode(),
        ENGLISH,
        refused="--text-column 3 --label-column 1",
    ),
    "sentiment chnsenticorp": Case("train.tsv", table("label\ttext_a", swapped(CHINESE), "\t").encode(), CHINESE),
    "sentiment hotels": Case("ChnSentiCorp_htl_all.csv", table("label,review", swapped(CHINESE)).encode(), CHINESE),
    "sentiment weibo": Case("weibo.csv", ("\ufeff" + table("label,review", swapped(CHINESE))).encode(), CHINESE),
    "sentiment waimai": Case(
        "waimai.csv", table("cat,label,review", [("x", *r) for r in swapped(CHINESE)]).encode(), CHINESE
    ),
    "kaggle imdb": Case(
        "IMDB Dataset.csv",
        table("review,sentiment", rows(ENGLISH, ["positive", "negative"] * 2)).encode(),
        ENGLISH,
        TWO,
        words="2 labels (sentiment)",
    ),
    "kaggle spam": Case(
        "spam.csv",
        table("v1,v2,,,", [(n, t, "", "", "") for t, n in rows(FRENCH, ["ham", "spam"] * 2)]).encode("cp1252"),
        FRENCH,
        ["ham", "spam"] * 2,
        refused="--text-column v2 --label-column v1",
    ),
    "kaggle disaster": Case(
        "train.csv",
        table("id,keyword,location,text,target", [(i, "", "", t, n) for i, t, n in numbered(ENGLISH)]).encode(),
        ENGLISH,
    ),
    "kaggle fake news": Case(
        "train.csv",
        table("id,title,author,text,label", [(i, "t", "a", t, n) for i, t, n in numbered(ENGLISH)]).encode(),
        ENGLISH,
        words="ignored: id, title, author",
    ),
    "kaggle several labels": Case(
        "train.csv",
        table("text,category,sentiment", [(t, n, "x") for t, n in rows(ENGLISH)]).encode(),
        ENGLISH,
        refused="type --label-column category",
    ),
    "kaggle titles": Case("train.csv", table("title,category", rows(ENGLISH)).encode(), ENGLISH),
    "windows notepad unicode": Case(
        "a.tsv", table("label\ttext", swapped(CHINESE), "\t", "\r\n").encode("utf-16"), CHINESE
    ),
    "windows utf-16 without its mark": Case("a.csv", table("text,label", rows(ENGLISH)).encode("utf-16-le"), ENGLISH),
    "sql pipes": Case("a.csv", table("text|label", rows(ENGLISH), "|").encode(), ENGLISH, words="columns by pipe"),
    "sql no ending": Case(
        "a.data",
        table("text,label", rows(ENGLISH)).encode(),
        ENGLISH,
        refused="--format tsv",
        how=Reading(delimiter="comma"),
    ),
    "windows few chinese bytes": Case(
        "a.csv",
        table("text,label", [("不好", "0"), ("good", "1")]).encode("gbk"),
        ["不好", "good"],
        ["0", "1"],
        refused="type --encoding gb18030",
    ),
    "pandas unnamed": Case("a.csv", table("Unnamed: 0,text,label", numbered(ENGLISH)).encode(), ENGLISH),
    "pandas all quoted": Case("a.csv", quoted(["text", "label"], rows(WITH_LINES)).encode(), WITH_LINES),
    "glue mrpc": Case(
        "msr_paraphrase_train.txt",
        ("\ufeff" + table(MRPC, [(n, i, i, a, b) for i, a, b, n in GLUE], "\t", quoted=False)).encode(),
        ENGLISH,
        pairs=SECOND,
        words="pairs (#1 String, #2 String), 2 labels (Quality)",
    ),
    "clue ocnli": Case(
        "train.50k.json",
        json_lines([{"level": "m", "sentence1": a, "sentence2": b, "label": n, "genre": "x"} for _, a, b, n in GLUE]),
        ENGLISH,
        pairs=SECOND,
    ),
    "clue iflytek": Case("train.json", json_lines(objects(CHINESE, "sentence", label_des="旅游")), CHINESE),
    "clue csl": Case(
        "train.json",
        json_lines([{"id": 1, "abst": t, "keyword": ["a"], "label": n} for t, n in rows(CHINESE)]),
        CHINESE,
        refused="--text-column abst --label-column label",
    ),
    "nli mnli": Case(
        "dev_matched.tsv",
        table(
            "index\tgenre\tsentence1_parse\tsentence1\tsentence2\tlabel1\tgold_label",
            [(i, "fiction", "( x )", a, b, n, n) for i, a, b, n in GLUE],
            "\t",
            quoted=False,
        ).encode(),
        ENGLISH,
        pairs=SECOND,
        words="2 labels (gold_label)",
    ),
    "nli xnli": Case(
        "xnli.dev.tsv",
        table("language\tgold_label\tsentence1\tsentence2", [("zh", n, a, b) for _, a, b, n in GLUE], "\t").encode(),
        ENGLISH,
        pairs=SECOND,
    ),
    "nli paws": Case("train.tsv", table("id\tsentence1\tsentence2\tlabel", GLUE, "\t").encode(), ENGLISH, pairs=SECOND),
    "nli lcqmc": Case(
        "train.tsv",
        table("text_a\ttext_b\tlabel", [(a, b, n) for _, a, b, n in GLUE], "\t").encode(),
        ENGLISH,
        pairs=SECOND,
    ),
    "thucnews windows": Case("dev.txt", table(None, rows(CHINESE), "\t", "\r\n").encode("utf-8-sig"), CHINESE),
    "news dbpedia": Case(
        "train.csv",
        quoted(None, [(n, "a title", t) for t, n in rows(ENGLISH)]).encode(),
        ENGLISH,
        refused="--text-column 3 --label-column 1",
    ),
    "news yelp": Case(
        "train.csv", quoted(None, swapped(WITH_LINES)).encode(), WITH_LINES, refused="--text-column 2 --label-column 1"
    ),
    "sentiment nlpcc": Case("train.tsv", table("qid\tlabel\ttext_a", enumerated(CHINESE), "\t").encode(), CHINESE),
    "sentiment chinese names": Case(
        "评论.csv",
        table("编号,评论内容,情感倾向", numbered(CHINESE)).encode("utf-8-sig"),
        CHINESE,
        words="(评论内容), 2",
    ),
    "competition quora": Case(
        "train.csv",
        quoted(QUORA, [(i, 1, 2, *r) for i, *r in GLUE]).encode(),
        ENGLISH,
        pairs=SECOND,
        words="ignored: id, qid1, qid2",
    ),
    "competition sentiment140": Case(
        "training.1600000.csv",
        quoted(None, [(n, i, "Mon Apr 06", "NO_QUERY", "user", t) for i, t, n in numbered(FRENCH)]).encode("cp1252"),
        FRENCH,
        refused="--text-column 6 --label-column 1",
    ),
    "competition airline": Case(
        "Tweets.csv",
        table("tweet_id,airline_sentiment,airline,text", [(i, n, "U", t) for i, t, n in numbered(ENGLISH)]).encode(),
        ENGLISH,
        refused="--text-column text --label-column airline_sentiment",
    ),
    "competition cells with lines": Case(
        "IMDB.csv", table("review,sentiment", rows(WITH_LINES, TWO), end="\r\n").encode(), WITH_LINES, TWO
    ),
    "huggingface csv": Case(
        "train.csv", table("sentence,label,idx", [(t, n, 0) for t, n in rows(ENGLISH)]).encode(), ENGLISH
    ),
    "huggingface json": Case(
        "train.json", json_lines([{"text": t, "label": int(n)} for t, n in rows(ENGLISH)]), ENGLISH
    ),
    "huggingface pairs": Case(
        "train.jsonl",
        json_lines([{"premise": a, "hypothesis": b, "idx": i, "label": int(n)} for i, a, b, n in GLUE]),
        ENGLISH,
        pairs=SECOND,
    ),
    "huggingface label names": Case("a.json", json_lines(objects(ENGLISH, label_text="positive")), ENGLISH),
    "sheets csv": Case("a.csv", table("text,label", rows(WITH_LINES), end="\r\n").encode(), WITH_LINES),
    "sheets tsv": Case("a.tsv", table("text\tlabel", rows(ENGLISH), "\t", "\r\n", quoted=False).encode(), ENGLISH),
    "sheets spaces": Case("a.csv", table(" text , label ", rows(ENGLISH), end="\r\n").encode(), ENGLISH),
    "sheets blank columns": Case(
        "a.csv", table(",text,,label,", [("", t, "", n, "") for t, n in rows(ENGLISH)]).encode(), ENGLISH
    ),
    "sql blank first lines": Case(
        "a.csv", ("\r\n\r\n" + table("text,label", rows(ENGLISH), end="\r\n")).encode(), ENGLISH
    ),
    "sql quoted semicolons": Case("a.csv", quoted(["text", "label"], rows(ENGLISH), ";").encode(), ENGLISH),
    "sql upper case": Case("a.csv", table("ID,TEXT,LABEL", numbered(ENGLISH)).encode(), ENGLISH, words="(TEXT), 2"),
    "sql unicode": Case("a.txt", table("id\ttext\tlabel", numbered(CHINESE), "\t", "\r\n").encode("utf-16"), CHINESE),
    "label-studio min": Case("a.json", json.dumps(objects(ENGLISH, label="sentiment"), indent=1).encode(), ENGLISH),
    "label-studio csv": Case(
        "a.csv",
        table(
            "annotation_id,annotator,id,lead_time,sentiment,text", [(1, 1, 1, 2.5, n, t) for t, n in rows(ENGLISH)]
        ).encode(),
        ENGLISH,
    ),
    "label-studio choice": Case(
        "a.csv",
        table("annotation_id,choice,id,text", [(1, n, 1, t) for t, n in rows(ENGLISH, TWO)]).encode(),
        ENGLISH,
        TWO,
        refused="--text-column text --label-column choice",
    ),
    "gzip csv": Case("a.csv.gz", gzip.compress(table("text,label", rows(ENGLISH)).encode()), ENGLISH),
    "gzip json lines": Case("a.jsonl.gz", gzip.compress(json_lines(objects(CHINESE))), CHINESE),
    "gzip by content": Case("a.tsv", gzip.compress(table("text\tlabel", rows(CHINESE), "\t").encode()), CHINESE),
    "gzip gbk": Case("a.csv.gz", gzip.compress(table("text,label", rows(CHINESE)).encode("gbk")), CHINESE),
    "gzip alone": Case(
        "a.gz", gzip.compress(table("text,label", rows(ENGLISH)).encode()), ENGLISH, refused="--format tsv"
    ),
}
OPTION = re.compile(r"--(text-column|pair-column|label-column|delimiter|format|encoding|quoting) (\S+)")


def read(path: Path, case: Case, how: Reading):
    return read_as(path, how, None if case.labels is None else True)


def with_remedy(message: str, how: Reading) -> Reading:
    """The options that the line names, as a shell would have them."""
    _, _, remedy = message.rpartition("; ")
    given = {name.replace("-", "_"): shlex.split(value.rstrip(","))[0] for name, value in OPTION.findall(remedy)}
    assert given, f"no option is named: {message}"
    return dataclasses.replace(how, **given)


@pytest.mark.parametrize("name", FILES)
def test_a_file_as_people_have_it_is_read_or_its_remedy_works(tmp_path, name):
    case, path = FILES[name], tmp_path / FILES[name].name
    path.write_bytes(case.content)
    how = case.how
    if case.refused:
        with pytest.raises(ValueError, match=re.escape(case.refused)) as caught:
            read(path, case, how)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600
        how = with_remedy(str(caught.value), how)
    found, line = read(path, case, how)
    assert (found.texts, found.pairs, found.labels) == (case.texts, case.pairs, case.labels)
    assert case.words in line
    assert line.startswith(f"{case.name}: {len(case.texts)} rows, ")


def test_two_thirds_of_the_files_need_no_option():
    kinds = Counter(name.split()[0] for name in FILES)
    assert len(FILES) >= 72
    assert len(kinds) >= 12
    assert max(kinds.values()) <= 6
    assert sum(not case.refused for case in FILES.values()) * 3 >= 2 * len(FILES)
