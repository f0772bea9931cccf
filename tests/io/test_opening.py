"""Proves that gzip is read wherever text is, damaged and hostile ones are refused, and what holds no text is named.

Run: pytest tests/io/test_opening.py
"""

import gzip
import random

import pytest

from minibert.io import opening
from minibert.io.examples import read_as
from minibert.io.file_layout import layout_of
from minibert.options import Reading

ROWS = "text,label\n" + "".join(f"a text of number {i},{i % 2}\n" for i in range(200))


def read(path):
    return read_as(path, Reading())


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv", "A.CSV.GZ"])
def test_a_gzip_is_read_as_what_it_holds_whatever_its_name(tmp_path, name):
    (tmp_path / "plain.csv").write_text(ROWS, encoding="utf-8")
    (tmp_path / name).write_bytes(gzip.compress(ROWS.encode()))
    found, line = read(tmp_path / name)
    plain, said = read(tmp_path / "plain.csv")
    assert (found.texts, found.labels, found.lines) == (plain.texts, plain.labels, plain.lines)
    assert line == said.replace("plain.csv", name)


def test_gzip_in_another_encoding_is_judged_by_what_it_holds(tmp_path):
    text = "评论,标签\n" + "房间很干净，服务员的态度也不错，下次来还会住在这里。,1\n我不喜欢这本书。,0\n" * 5
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode("gbk")))
    found, line = read(tmp_path / "a.csv.gz")
    assert found.texts[1] == "我不喜欢这本书。"
    assert "read as gb18030" in line


@pytest.mark.parametrize("damage", ["cut", "changed", "followed"])
def test_a_damaged_gzip_is_refused_in_a_line(tmp_path, damage):
    noise = random.Random(0)
    packed = gzip.compress("".join(f"{noise.random()},{i % 2}\n" for i in range(9000)).encode())
    middle = len(packed) // 2
    damaged = {
        "cut": packed[:-100],
        "changed": packed[:middle] + bytes(20) + packed[middle + 20 :],
        "followed": packed + b"more",
    }
    (tmp_path / "a.csv.gz").write_bytes(damaged[damage])
    with pytest.raises(ValueError, match=r"a\.csv\.gz: its gzip data is cut off or damaged; copy the file again"):
        read(tmp_path / "a.csv.gz")


def test_a_gzip_that_holds_far_more_than_text_would_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "FREE", 1 << 20)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(bytes(1 << 24)))
    with pytest.raises(ValueError, match="100 times its size; if it is to be read, unpack it: gunzip"):
        read(tmp_path / "a.csv.gz")


@pytest.mark.parametrize(
    ("name", "begin", "what"),
    [
        ("a.xlsx", b"PK\x03\x04", "an Excel workbook, no text; unpack it, or save it as CSV UTF-8"),
        ("a.csv", b"PK\x03\x04", "an Excel workbook, no text"),
        ("a.parquet", b"PAR1\x15", "a Parquet file, no text; save it as .csv or .jsonl"),
        ("a.csv.xz", b"\xfd7zXZ\0", "packed by xz, no text; unpack it"),
    ],
)
def test_what_holds_no_text_is_named(tmp_path, name, begin, what):
    (tmp_path / name).write_bytes(begin + bytes(100))
    with pytest.raises(ValueError, match=what):
        read(tmp_path / name)


def test_lines_of_an_old_mac_are_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a first text\ra second one\ra third\r")
    found, line = read_as(tmp_path / "a.txt", Reading(), labelled=False)
    assert found.texts == ["a first text", "a second one", "a third"]
    assert "lines ended by carriage returns" in line


def test_a_stray_carriage_return_in_a_long_first_line_ends_no_line(tmp_path):
    (tmp_path / "r.txt").write_text("a" * (1 << 18) + "\r b\nc\n", encoding="utf-8", newline="")
    assert layout_of(tmp_path / "r.txt", Reading()).newline == "\n"


def test_a_text_that_begins_as_an_array_of_a_template_is_a_text(tmp_path):
    (tmp_path / "r.txt").write_text("[{{cite}} a\nb\n", encoding="utf-8")
    assert layout_of(tmp_path / "r.txt", Reading()).kind == "txt"
