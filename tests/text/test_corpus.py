"""Proves that text files become documents of tokens, that a cache is reused only where it is right, and that what
cannot be read is named. Run: pytest tests/text/test_corpus.py
"""

import gzip
import json
import os

import numpy as np
import pytest

from minibert.text.corpus import Corpus, Sentences, find_documents, open_corpus
from minibert.text.tokenizer import Tokenizer

WORDS = [f"w{number}" for number in range(40)]
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##x"])
CHINESE = Tokenizer.from_pretrained("bundled")


def written(path, text):
    path.write_bytes(text.encode())
    return path


def texts_of(corpus: Corpus) -> list[list[str]]:
    """The sentences of each document, as they were tokenised."""
    tokens = corpus.tokens
    return [
        [" ".join(TOKENIZER.vocab[i] for i in tokens[line]) for line in range(first, end)]
        for first, end in corpus.documents.tolist()
    ]


def test_a_blank_line_and_the_end_of_a_file_end_a_document(tmp_path):
    one = written(tmp_path / "one.txt", "w1 w2\nw3\n\n  \n\nw4\r\n\r\nw5")
    two = written(tmp_path / "two.txt", "\ufeffw6\n")
    corpus = open_corpus([one, two], TOKENIZER, tmp_path / "cache")
    assert texts_of(corpus) == [["w1 w2", "w3"], ["w4"], ["w5"], ["w6"]]


def test_a_jsonl_has_a_document_a_line_and_its_lines_are_sentences(tmp_path):
    rows = [{"text": "w1\nw2\n\nw3"}, {"id": 7, "text": "w4\u2028w5"}]
    path = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    corpus = open_corpus([path, written(tmp_path / "b.txt", "w6\n")], TOKENIZER, tmp_path / "cache")
    assert texts_of(corpus) == [["w1", "w2", "w3"], ["w4 w5"], ["w6"]]
    assert list(Sentences([path])) == ["w1", "w2", "w3", "", "w4\u2028w5", "", "", ""]


LINES = ["房间很干净，服务员的态度也不错，下次来还会住在这里。", "这本书的内容没有什么新意。", "", "我很喜欢这个地方。"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "gzip"])
def test_a_corpus_in_any_encoding_is_read_and_said(tmp_path, encoding):
    said, data = [], "\r\n".join(LINES).encode("utf-8" if encoding == "gzip" else encoding)
    (tmp_path / "a.txt").write_bytes(gzip.compress(data) if encoding == "gzip" else data)
    corpus = open_corpus([tmp_path / "a.txt"], CHINESE, tmp_path / "cache", said.append)
    assert [CHINESE.decode(corpus.tokens[i]).replace(" ", "") for i in (0, 1, 3)] == [line for line in LINES if line]
    words = "" if encoding.startswith("utf-8") or encoding == "gzip" else f", read as {encoding}"
    assert said[-1] == f"a.txt: 2 documents, 3 lines{words}"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "wiki_00",
            '<doc id="1" url="u" title="w1">\nw1\n\nw2 w3\n</doc>\n<doc id="2" url="u">\nw4\n</doc>\n',
            "<doc>",
        ),
        ("wiki_00", '\r\n<doc id="1" url="u">\r\nw1\r\nw2 w3\r\n</doc>\r\n<doc id="2">\r\nw4\r\n</doc>\r\n', "<doc>"),
        ("wiki_00", '{"id": "1", "text": "w1\\n\\nw2 w3"}\n{"id": "2", "text": "w4"}\n', "2 documents, 3 lines"),
        ("a.txt", '{"content": "w1\\nw2 w3"}\n{"content": "w4"}\n', "2 documents, 3 lines (content)"),
        ("a.json", '[{"text": "w1\\nw2 w3"},\n{"text": "w4"}]', "2 documents, 3 lines"),
        ("mac.txt", "w1\rw2 w3\r\rw4\r", "2 documents, 3 lines ended by carriage returns"),
    ],
    ids=["wikiextractor", "wikiextractor on Windows", "wikiextractor --json", "JSON in .txt", "array", "old Mac"],
)
def test_a_corpus_is_read_by_what_it_holds(tmp_path, name, text, said):
    lines = []
    corpus = open_corpus([written(tmp_path / name, text)], TOKENIZER, tmp_path / "cache", lines.append)
    assert texts_of(corpus) == [["w1", "w2 w3"], ["w4"]]
    assert said in lines[-1]


def test_another_encoding_that_is_asked_for_means_tokenising_again(tmp_path):
    (tmp_path / "a.txt").write_bytes("w1 é".encode("cp1252"))
    said, args = [], ([tmp_path / "a.txt"], TOKENIZER, tmp_path / "cache")
    open_corpus(*args, said.append, encoding="cp1252")
    open_corpus(*args, said.append, encoding="latin-1")
    assert [line.rpartition("read as ")[2] for line in said[1::2]] == ["cp1252", "iso8859-1"]


def test_a_document_is_a_run_of_lines_with_tokens():
    lengths = [0, 0, 3, 1, 0, 2, 0, 0, 5, 5, 1]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    assert find_documents(offsets).tolist() == [[2, 4], [5, 6], [8, 11]]
    assert find_documents(np.zeros(1, np.int64)).tolist() == []


def test_an_unchanged_corpus_is_not_tokenised_again_whatever_its_name_and_date(tmp_path):
    said = []
    path = written(tmp_path / "a.txt", "w1\n")
    open_corpus([path], TOKENIZER, tmp_path / "cache", said.append)
    path = path.rename(tmp_path / "moved.txt")
    os.utime(path, (1, 1))
    open_corpus([path], TOKENIZER, tmp_path / "cache", said.append)
    assert "tokenising" in said[0]
    assert said[1:] == ["a.txt: 1 document, 1 line", "moved.txt: 1 document, 1 line"]


def test_a_changed_corpus_is_noticed_and_said_though_size_and_date_are_the_same(tmp_path):
    said = []
    paths = [written(tmp_path / f"{name}.txt", "w1\n") for name in "ab"]
    open_corpus(paths, TOKENIZER, tmp_path / "cache", said.append)
    stat = paths[1].stat()
    written(paths[1], "w2\n")
    os.utime(paths[1], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    corpus = open_corpus(paths, TOKENIZER, tmp_path / "cache", said.append)
    assert f"the corpus has changed ({paths[1]}): tokenising" in said[3]
    assert texts_of(corpus) == [["w1"], ["w2"]]


def test_another_tokenizer_or_a_broken_cache_means_tokenising_again(tmp_path):
    said = []
    path, cache = written(tmp_path / "a.txt", "w1\n"), tmp_path / "cache"
    open_corpus([path], TOKENIZER, cache, said.append)
    other = Tokenizer([*TOKENIZER.vocab, "w40"])
    open_corpus([path], other, cache, said.append)
    assert "made by another tokenizer" in said[2]
    (cache / "documents.npy").write_bytes(b"broken")
    open_corpus([path], other, cache, said.append)
    (cache / "corpus.json").unlink()  # what a run that was killed while writing leaves
    open_corpus([path], other, cache, said.append)
    assert sum("tokenising" in line for line in said) == 4


def test_nothing_but_the_cache_stays_behind(tmp_path):
    open_corpus([written(tmp_path / "a.jsonl", '{"text": "w1"}')], TOKENIZER, tmp_path / "cache")
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"tokens", "documents.npy", "corpus.json"}


def test_held_out_documents_are_a_few_at_least_half_at_most_and_never_trained_on(tmp_path):
    path = written(tmp_path / "a.txt", "\n\n".join(WORDS))
    corpus = open_corpus([path], TOKENIZER, tmp_path / "cache")
    for share, count in ((0.01, 8), (0.3, 12), (0, 0)):
        train, held = corpus.split(share, seed=5)
        assert (len(train), len(held)) == (40 - count, count)
        assert sorted([*train.tolist(), *held.tolist()]) == corpus.documents.tolist()
    assert len(Corpus(corpus.tokens, corpus.documents[:5], []).split(0.01, 0)[1]) == 2


def test_documents_of_the_same_text_stand_on_one_side(tmp_path):
    path = written(tmp_path / "a.txt", "\n\n".join((WORDS[:20] + WORDS[10:20]) * 3))
    corpus = open_corpus([path], TOKENIZER, tmp_path / "cache")
    train, held = (Corpus(corpus.tokens, part, []) for part in corpus.split(0.5, seed=5))
    texts = [{sentence for (sentence,) in texts_of(part)} for part in (train, held)]
    assert [len(part) for part in texts] == [10, 10]
    assert not texts[0] & texts[1]


def test_token_counts_leave_the_held_out_documents_out(tmp_path, monkeypatch):
    monkeypatch.setattr("minibert.text.corpus.IDS", 3)
    path = written(tmp_path / "a.txt", "w1 w2 w1\nw1\n\nw2 w2\n\nw3\n")
    corpus = open_corpus([path], TOKENIZER, tmp_path / "cache")
    counts = corpus.token_counts(corpus.documents[1:2], TOKENIZER.vocab_size)
    assert {TOKENIZER.vocab[i]: int(counts[i]) for i in np.flatnonzero(counts)} == {"w1": 3, "w2": 1, "w3": 1}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"w1\nw2 \xb0\xd7\n", r"a.txt:2: byte 0xb0 is not UTF-8"),
        ("a.jsonl", b'{"text": "w1"}\n{"text": "\xb0"}\n', r"a.jsonl:2: byte 0xb0 is not UTF-8"),
        ("a.jsonl", b'{"text": "w1"}\n\n{"text": \n', r"a.jsonl:3: not JSON"),
        ("a.jsonl", b'["w1"]\n', r"a.jsonl:1: holds a list, not an object"),
        ("a.jsonl", b'{"text": 5}\n', r"a.jsonl:1: text is 5; give a string"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', r"a.jsonl:1: text holds half of a surrogate pair"),
        ("a.md", b"w1\n", r"unknown kind of file '.md'; use .txt"),
        ("a.txt", b"", r"a.txt: no text"),
        ("a.jsonl", b'{"text": " "}\n', r"a.jsonl: no text"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        list(Sentences([tmp_path / name])) and open_corpus([tmp_path / name], TOKENIZER, tmp_path / "cache")


def test_missing_files_directories_and_files_named_twice_are_refused(tmp_path):
    path = written(tmp_path / "a.txt", "w1\n")
    for paths, message in (
        ([], "name at least one"),
        ([tmp_path / "b.txt"], "no such file"),
        ([tmp_path], "a directory"),
        ([path, tmp_path / ".." / tmp_path.name / "a.txt"], "named twice"),
    ):
        with pytest.raises(ValueError, match=message):
            open_corpus(paths, TOKENIZER, tmp_path / "cache")
