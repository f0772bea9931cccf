"""Proves that the plain reader takes clean files and names what is not, and that a loader yields every row once an
epoch, padded. What it shares with the richer reader is tested in test_data.py. Run: pytest tests/core/test_core_data.py
"""

import json
from pathlib import Path

import pytest
import torch

from minibert.core.data import Examples, Loader, read_examples, shuffled
from minibert.io import examples
from minibert.text.tokenizer import Tokenizer

VOCAB = ["x", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "a", "b", "c"]  # [PAD] is not 0, on purpose
PAD, CLS, SEP = VOCAB.index("[PAD]"), VOCAB.index("[CLS]"), VOCAB.index("[SEP]")


def written(directory: Path, name: str, content: str | bytes) -> Path:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.tsv", "id\tlabel\ttext\n7\t1\t很好, really\n8\t0 \t\n"),
        ("r.csv", '\ufefflabel,text\r\n1,"很好, really"\r\n0,\r\n'),
        ("r.jsonl", '{"label": 1, "text": "很好, really"}\n\n{"text": "", "label": "0"}'),
    ],
)
def test_every_kind_of_file_gives_the_rows_that_the_richer_reader_gives(tmp_path, name, content):
    path = written(tmp_path, name, content)
    rows = read_examples(path)
    assert (rows.texts, rows.pairs, rows.labels) == (["很好, really", ""], None, ["1", "0"])
    assert rows == examples.read_examples(path)


@pytest.mark.parametrize("text", ["text", "text_a", "sentence", "sentence1", "review"])
@pytest.mark.parametrize("pair", ["text_b", "sentence2"])
def test_columns_of_texts_and_pairs_have_several_names(tmp_path, text, pair):
    rows = read_examples(written(tmp_path, "r.tsv", f"{pair}\t{text}\tlabel\nB\tA\tpos\n"))
    assert (rows.texts, rows.pairs, rows.labels, rows.lines) == (["A"], ["B"], ["pos"], [2])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.txt", "label\ttext\n1\ta\n", ": unknown kind of file '.txt'; use .tsv, .csv or .jsonl"),
        ("r.tsv", "label\ttext\n", ": the columns are []; name one label and one of text, text_a"),
        ("r.tsv", "class\ttext\n1\ta\n", ": the columns are ['class', 'text']; name one label and one of text,"),
        ("r.tsv", "label\twords\n1\ta\n", ": the columns are ['label', 'words']; name one label and one of text,"),
        ("r.tsv", "label\ttext\n1\ta\n1\n", ":3: text is None; give one string for each column"),
        ("r.tsv", "label\ttext\n1\ta\tb\n", ":2: label is '1'; give one string for each column"),
        ("r.tsv", 'label\ttext\n1\ta\n1\t"open\n', ":2: cannot be read (unexpected end of data); repair"),
        ("r.jsonl", '{"label": 1, "text": "a"}\n{"label": 1}\n', ":2: text is None; give one string"),
        ("r.jsonl", '{"label": 1, "text": "a"}\nlabel\n', ":2: cannot be read (Expecting value"),
        ("r.jsonl", "[1, 2]\n", ":1: cannot be read ("),
        ("r.tsv", b"label\ttext\n1\t\xba\xc3\n", ":2: byte 0xba is not UTF-8; convert the file"),
        ("r.tsv", " \n", ": the columns are []; name one label"),
    ],
)
def test_what_is_not_clean_is_refused_with_file_line_and_remedy(tmp_path, name, content, message):
    path = written(tmp_path, name, content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011, the message is compared below
        read_examples(path)
    assert str(caught.value).startswith(f"{path}{message}")


def loader(seed: int | None = None, batch_size: int = 3) -> Loader:
    texts = ["a", "b c", "a b c", "c", "b b", "a", "c b a"]
    rows = Examples(texts, None, ["n", "p", "p", "n", "n", "p", "n"], list(range(2, 9)), "f")
    return Loader(rows, ["n", "p"], Tokenizer(VOCAB), batch_size, 16, seed)


def test_without_a_seed_rows_come_as_they_stand_padded_to_the_longest_of_the_batch():
    batches = list(loader())
    assert len(loader()) == len(batches) == 3
    ids, mask, segments, label = batches[0]
    assert ids.tolist() == [[CLS, 6, SEP, PAD, PAD], [CLS, 7, 8, SEP, PAD], [CLS, 6, 7, 8, SEP]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1] * 5]
    assert segments.tolist() == [[0] * 5] * 3
    assert label.tolist() == [0, 1, 1]
    assert [len(batch[3]) for batch in batches] == [3, 3, 1]
    assert {tensor.dtype for batch in batches for tensor in batch} == {torch.int64}


def test_with_a_seed_each_pass_is_the_next_epoch_in_the_order_of_shuffled():
    rows, truth = loader(seed=5), loader(batch_size=7)
    ((ids, *_, labels),) = truth
    for epoch in range(2):
        order = shuffled(7, 5, epoch)
        seen = [ids.tolist() for ids, *_ in rows]
        flat = [[token for token in row if token != PAD] for batch in seen for row in batch]
        assert flat == [[token for token in ids[row].tolist() if token != PAD] for row in order]
    assert torch.cat([batch[3] for batch in loader(seed=5)]).tolist() == labels[shuffled(7, 5, 0)].tolist()


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(ValueError, match=r"^batch_size is -1; it must be at least 1$"):
        list(loader(batch_size=-1))


def test_a_line_of_json_may_hold_a_number_of_any_length(tmp_path):
    path = written(tmp_path, "r.jsonl", json.dumps({"label": 1, "text": "a"})[:-1] + ', "id": ' + "9" * 5000 + "}")
    assert read_examples(path).labels == ["1"]


def test_of_several_names_of_a_column_the_first_known_is_taken(tmp_path):
    path = written(tmp_path, "r.tsv", "review\tlabel\ttext\nB\t1\tA\n")
    assert read_examples(path).texts == examples.read_examples(path).texts == ["A"]
