"""Proves that data files are read whole or refused in one clear line, and that batches hold every row once, padded
right. Run: pytest tests/io/test_data.py
"""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHARED, needs_shared

from minibert.core.data import Examples, chunks, label_names, shuffled
from minibert.fast.batches import by_length, collate, collate_packed, encode_examples, shuffled_by_tokens, token_chunks
from minibert.io import encodings
from minibert.io.encodings import encoding_of
from minibert.io.examples import check_shapes, hold_out, label_ids, read_as, read_examples
from minibert.io.labels import names_of
from minibert.io.rows import open_lines, read_rows
from minibert.options import Reading
from minibert.text.tokenizer import Tokenizer

VOCAB = ["x", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "a", "b", "c", "好"]  # [PAD] is not 0, on purpose
PAD = VOCAB.index("[PAD]")


def written(directory: Path, name: str, content: str | bytes) -> Path:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def refusal(path: Path, **options) -> str:
    """The one line in which a file is refused."""
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}:") as caught:
        read_examples(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def examples(labels: list[str], source: str = "file.tsv") -> Examples:
    rows = range(len(labels))
    return Examples([f"text {row}" for row in rows], None, labels, [row + 2 for row in rows], source)


# ---- reading what is valid ----


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.tsv", "label\ttext\n1\t很好, really\n0\t\n"),
        ("rows.csv", 'text,label\n"很好, really",1\n,0\n'),
        ("rows.jsonl", '{"text": "很好, really", "label": "1"}\n{"text": "", "label": "0"}\n'),
        ("ROWS.TSV", "LABEL\tText\n1\t很好, really\n0\t\n"),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name, content):
    rows = read_examples(written(tmp_path, name, content))
    assert (rows.texts, rows.labels, rows.pairs) == (["很好, really", ""], ["1", "0"], None)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("r.tsv", ["label\ttext", "pos\tgood", "neg\tbad"]),
        ("r.csv", ["label,text", "pos,good", "neg,bad"]),
        ("r.jsonl", ['{"label": "pos", "text": "good"}', '{"label": "neg", "text": "bad"}']),
    ],
)
def test_byte_order_marks_line_ends_and_a_missing_last_one_are_no_part_of_a_row(
    tmp_path, name, lines, ending, mark, end
):
    rows = read_examples(written(tmp_path, name, mark + ending.join(lines) + ending * end))
    assert (rows.texts, rows.labels) == (["good", "bad"], ["pos", "neg"])


@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\0"])
@pytest.mark.parametrize("name", ["r.tsv", "r.csv", "r.jsonl"])
def test_only_line_feeds_split_rows(tmp_path, name, char):
    """str.splitlines would split at all of these but NUL, which csv readers used to refuse."""
    delimiter = "," if name == "r.csv" else "\t"
    content = f"label{delimiter}text\n1{delimiter}one{char}two\n0{delimiter}three\n"
    if name == "r.jsonl":
        rows = [{"label": "1", "text": f"one{char}two"}, {"label": "0", "text": "three"}]
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert read_examples(written(tmp_path, name, content)).texts == [f"one{char}two", "three"]


def test_blank_lines_are_skipped_and_line_numbers_stay_true(tmp_path):
    rows = read_examples(written(tmp_path, "r.tsv", "label\ttext\n\n1\ta\n\n\n0\tb\n\n"))
    assert (rows.texts, rows.lines) == (["a", "b"], [3, 6])
    rows = read_examples(written(tmp_path, "r.jsonl", '\n{"label": 1, "text": "a"}\n\n{"label": 0, "text": "b"}\n'))
    assert (rows.texts, rows.lines) == (["a", "b"], [2, 4])


def test_a_quoted_field_may_hold_delimiters_quotes_and_line_breaks(tmp_path):
    rows = read_examples(written(tmp_path, "r.csv", 'label,text\n1,"say ""hi"", then\nleave"\n0,b\n'))
    assert rows.texts == ['say "hi", then\nleave', "b"]
    assert rows.lines == [2, 4]


def test_quoting_none_reads_quotes_as_text(tmp_path):
    path = written(tmp_path, "r.tsv", 'label\ttext\n1\t"open\n0\t"both"\n')
    assert read_examples(path, quoting="none").texts == ['"open', '"both"']


@pytest.mark.parametrize("text", ["text", "text_a", "sentence", "sentence1", "review", "Sentence", " review "])
def test_every_alias_of_the_text_column_is_known(tmp_path, text):
    assert read_examples(written(tmp_path, "r.tsv", f"label\t{text}\n1\ta\n")).texts == ["a"]


@pytest.mark.parametrize(("first", "second"), [("text_a", "text_b"), ("sentence1", "sentence2"), ("text", "text_b")])
def test_every_alias_of_the_pair_column_is_known(tmp_path, first, second):
    rows = read_examples(written(tmp_path, "r.tsv", f"{second}\t{first}\tlabel\nB\tA\t1\n"))
    assert (rows.texts, rows.pairs, rows.labels) == (["A"], ["B"], ["1"])


def test_the_header_of_mrpc_is_known(tmp_path):
    content = '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t702\t703\tHe said "no.\tHe refused.\n'
    rows = read_examples(written(tmp_path, "r.tsv", content), quoting="none")
    assert (rows.texts, rows.pairs, rows.labels) == (['He said "no.'], ["He refused."], ["1"])


@needs_shared
def test_the_real_mrpc_is_read_whole():
    rows = read_examples(SHARED / "mrpc" / "train.tsv", quoting="none")
    lines = (SHARED / "mrpc" / "train.tsv").read_bytes().rstrip(b"\n").count(b"\n")
    assert len(rows) == len(rows.pairs) == lines
    assert label_names(rows) == ["0", "1"]


def test_columns_name_those_of_a_file_without_a_header(tmp_path):
    path = written(tmp_path, "r.tsv", "1\t17\tgood\n0\t18\tbad\n")
    rows = read_examples(path, columns=["label", "id", " text "])
    assert (rows.texts, rows.labels, rows.lines) == (["good", "bad"], ["1", "0"], [1, 2])


def test_other_columns_are_ignored(tmp_path):
    rows = read_examples(written(tmp_path, "r.tsv", "id\tlabel\t\ttext\t\n7\t1\tx\ta\ty\n"))
    assert (rows.texts, rows.labels, rows.pairs) == (["a"], ["1"], None)


def test_class_numbers_in_json_are_labels_by_their_text(tmp_path):
    rows = read_examples(written(tmp_path, "r.jsonl", '{"label": 10, "text": "a"}\n{"label": -2, "text": "b"}\n'))
    assert rows.labels == ["10", "-2"]


def test_a_label_has_no_spaces_around_it(tmp_path):
    path = written(tmp_path, "r.csv", "text,label\na, pos\nb,pos \n")
    assert read_examples(path).labels == ["pos", "pos"]
    with open_lines(path, labelled=True) as lines:
        assert [row.label for row in read_rows(lines)] == ["pos", "pos"]


@pytest.mark.parametrize("text", ["", " ", "   ", "\u3000", "\0"])
@pytest.mark.parametrize("name", ["r.tsv", "r.csv"])
def test_empty_texts_and_texts_of_spaces_are_cls_sep(tmp_path, name, text):
    delimiter = "," if name == "r.csv" else "\t"
    rows = read_examples(written(tmp_path, name, f"label{delimiter}text\n1{delimiter}{text}\n"))
    encoding = encode_examples(Tokenizer(VOCAB), rows, max_length=8)
    assert rows.texts == [text]
    assert encoding.input_ids[0].tolist() == [VOCAB.index("[CLS]"), VOCAB.index("[SEP]")]


def test_a_file_without_labels_is_read_where_none_are_asked_for(tmp_path):
    rows = read_examples(written(tmp_path, "r.tsv", "text\nsome words\n"), labelled=False)
    assert (rows.texts, rows.labels) == (["some words"], None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r.tsv", "r.csv", "r.jsonl"])
def test_a_text_of_ten_million_characters_is_read_in_bounded_time(tmp_path, name):
    """Far above csv's own limit of 131,072 characters to a field."""
    long = "很长" * 5_000_000
    delimiter = "," if name == "r.csv" else "\t"
    content = f"label{delimiter}text\n1{delimiter}{long}\n"
    path = written(
        tmp_path, name, json.dumps({"label": 1, "text": long}, ensure_ascii=False) if name == "r.jsonl" else content
    )
    assert read_examples(path).texts == [long]


def test_a_text_of_two_million_characters_is_cut_to_max_length():
    """NULs, which the tokenizer drops at no cost: what long texts cost otherwise is its own business."""
    rows = Examples(["a b c " + "\0" * 2_000_000], None, None, [2], "f")
    assert encode_examples(Tokenizer(VOCAB), rows, max_length=4).length.tolist() == [4]


# ---- refusing what is not ----


def test_a_missing_file_is_named(tmp_path):
    assert refusal(tmp_path / "no.tsv").endswith("No such file or directory; give a data file")


def test_a_directory_is_named(tmp_path):
    (tmp_path / "d.tsv").mkdir()
    assert "Is a directory; give a data file" in refusal(tmp_path / "d.tsv")


@pytest.mark.parametrize("name", ["r.tsv", "r.csv", "r.jsonl"])
@pytest.mark.parametrize("content", ["", "\ufeff", " \n\n"])
def test_an_empty_file_is_named(tmp_path, name, content):
    assert "is empty" in refusal(written(tmp_path, name, content))


def test_a_header_alone_is_no_data(tmp_path):
    assert "holds no rows" in refusal(written(tmp_path, "r.tsv", "label\ttext\n"))


@pytest.mark.parametrize("name", ["r", "r.xlsx"])
def test_an_unknown_ending_says_which_are_known(tmp_path, name):
    assert "use .tsv, .csv, .jsonl" in refusal(written(tmp_path, name, "label\ttext\n1\ta\n"))


def test_unknown_quoting_says_which_are_known(tmp_path):
    with pytest.raises(ValueError, match="choose minimal, none"):
        read_examples(written(tmp_path, "r.tsv", "label\ttext\n1\ta\n"), quoting="all")


@pytest.mark.parametrize(
    ("content", "missing"),
    [("label\twords\n1\ta\n", "text"), ("kind\ttext\n1\ta\n", "label")],
)
def test_wrong_columns_are_told_with_those_that_are_there(tmp_path, content, missing):
    message = refusal(written(tmp_path, "r.tsv", content))
    assert f"has no {missing} column; its columns are {content.split()[0]!r}" in message
    assert f"--{missing}-column" in message


def test_wrong_names_given_by_columns_are_told(tmp_path):
    assert "has no label column" in refusal(written(tmp_path, "r.tsv", "1\ta\n"), columns=["kind", "text"])


def test_a_column_that_stands_twice_is_refused(tmp_path):
    message = refusal(written(tmp_path, "r.tsv", "label\ttext\ttext\n1\ta\tb\n"))
    assert "two columns are named 'text'" in message


@pytest.mark.parametrize(("row", "count"), [("1", 1), ("1\ta\tb", 3)])
def test_a_row_with_too_few_or_too_many_columns_has_its_line(tmp_path, row, count):
    path = written(tmp_path, "r.tsv", f"label\ttext\n1\ta\n\n{row}\n0\tb\n")
    message = refusal(path)
    assert message.startswith(f"{path}:4: has {count} columns, not the 2 of label, text")
    assert "--quoting none" in message


@pytest.mark.parametrize("label", ["", " ", "\u3000"])
def test_an_empty_label_has_its_line(tmp_path, label):
    path = written(tmp_path, "r.tsv", f"label\ttext\n1\ta\n{label}\tb\n")
    assert refusal(path).startswith(f"{path}:3: the label is empty")


@pytest.mark.parametrize("name", ["r.tsv", "r.csv", "r.jsonl"])
def test_an_undecodable_byte_has_its_line(tmp_path, name):
    good = b'{"text": "a", "label": 1}' if name == "r.jsonl" else b"label,text" if name == "r.csv" else b"label\ttext"
    path = written(tmp_path, name, good + b"\n\n1\t" + "很好".encode("gbk") + b"\n")
    message = refusal(path)
    assert message.startswith(f"{path}:3: byte 0xba is not UTF-8")
    assert message.endswith("; if the file is gb18030, type --encoding gb18030")


def test_an_unclosed_quote_has_the_line_where_it_opens(tmp_path):
    path = written(tmp_path, "r.tsv", 'label\ttext\n1\ta\n0\t"never closed\n1\tc\n')
    message = refusal(path)
    assert message.startswith(f"{path}:3: a quoted field is not closed")
    assert "--quoting none" in message


def test_text_behind_a_closing_quote_is_refused(tmp_path):
    path = written(tmp_path, "r.tsv", 'label\ttext\n1\t"Bravo" they said\n')
    assert refusal(path).startswith(f"{path}:2: a quoted field is not closed properly")


@pytest.mark.parametrize(
    "line",
    ["{'label': 1}", "label\ttext", "[" * 100_000, '{"label": ' + "9" * 5000 + "}", '{"label": 1, "text": "a'],
    ids=["Python", "tsv", "deep", "long number", "cut off"],
)
def test_a_line_that_is_not_json_has_its_number(tmp_path, line):
    path = written(tmp_path, "r.jsonl", f'{{"label": 1, "text": "a"}}\n{line}\n')
    assert refusal(path).startswith(f"{path}:2: not JSON")


@pytest.mark.parametrize(("line", "kind"), [("[1, 2]", "list"), ('"text"', "str"), ("17", "int"), ("null", "NoneType")])
def test_json_that_is_no_object_has_its_line(tmp_path, line, kind):
    path = written(tmp_path, "r.jsonl", f'{{"label": 1, "text": "a"}}\n{line}\n')
    assert refusal(path).startswith(f"{path}:2: holds a {kind}, not an object")


@pytest.mark.parametrize(
    ("missing", "line", "message"),
    [
        ("text", 1, ": has no text column"),
        ("label", 1, ": has no label column"),
        ("text", 2, ":2: has no text column"),
        ("label", 2, ":2: has no label column"),
        ("text_b", 1, ":2: its columns are ('label', 'text', 'text_b'), not as in the first row"),
        ("text_b", 2, ":2: its columns are ('label', 'text'), not as in the first row"),
    ],
)
def test_a_key_that_one_row_lacks_is_named(tmp_path, missing, line, message):
    full = {"label": 1, "text": "a", "text_b": "b"}
    rows = [full, full]
    rows[line - 1] = {key: value for key, value in full.items() if key != missing}
    path = written(tmp_path, "r.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert refusal(path).startswith(f"{path}{message}")


@pytest.mark.parametrize("value", [5, 0.5, True, ["a"], {"a": 1}])
def test_a_text_that_is_no_string_has_its_line(tmp_path, value):
    path = written(tmp_path, "r.jsonl", '{"label": 1, "text": "a"}\n' + json.dumps({"label": 1, "text": value}) + "\n")
    assert refusal(path).startswith(f"{path}:2: text is {value!r}; give a string")


@pytest.mark.parametrize("value", [0.5, ["a"]])
def test_a_label_that_is_neither_string_nor_whole_number_has_its_line(tmp_path, value):
    path = written(tmp_path, "r.jsonl", json.dumps({"label": value, "text": "a"}) + "\n")
    assert refusal(path).startswith(f"{path}:1: label is {value!r}; give a string")


@pytest.mark.parametrize("field", ["label", "text"])
@pytest.mark.parametrize("escape", [r"\ud83d", r"\udc00 x", r"x\udbff"])
def test_half_a_surrogate_pair_has_its_line(tmp_path, field, escape):
    row = {"label": "1", "text": "a"} | {field: "HERE"}
    path = written(tmp_path, "r.jsonl", '{"label": 1, "text": "a"}\n' + json.dumps(row).replace("HERE", escape) + "\n")
    assert refusal(path).startswith(f"{path}:2: {field} holds half of a surrogate pair")


def test_a_whole_surrogate_pair_is_a_character(tmp_path):
    assert read_examples(written(tmp_path, "r.jsonl", r'{"label": 1, "text": "\ud83d\ude00"}')).texts == ["😀"]


# ---- labels ----


def test_numbers_are_classes_in_numeric_order_and_names_in_alphabetical_after_them():
    assert label_names(examples(["10", "9", "-1", "9"])) == ["-1", "9", "10"]
    assert label_names(examples(["pos", "neg", "10", "9"])) == ["9", "10", "neg", "pos"]


def test_classes_that_are_equal_as_numbers_have_one_order_in_every_process():
    """1, 01, 001 … come from a set, whose order is another in every process."""
    names = ["0" * zeros + "1" for zeros in range(10)]
    assert label_names(examples(names)) == sorted(names)


def test_one_class_alone_is_refused():
    with pytest.raises(ValueError, match=r"^file\.tsv: every row has the label 'pos'; .* two classes"):
        label_names(examples(["pos", "pos"]))


def test_labels_become_their_numbers():
    ids = label_ids(examples(["b", "a", "b"]), ["a", "b"])
    assert ids.dtype == np.int64
    assert ids.tolist() == [1, 0, 1]


def test_numbers_are_the_labels_of_classes_without_names():
    assert label_ids(examples(["1", "LABEL_0", "0"]), ["LABEL_0", "LABEL_1"]).tolist() == [1, 0, 0]
    for names in (["LABEL_1", "LABEL_0"], ["neg", "pos"]):
        with pytest.raises(ValueError, match="label '1' is none of"):
            label_ids(examples(["1"]), names)


def test_a_label_unseen_in_training_has_its_line():
    with pytest.raises(ValueError, match=r"^file\.tsv:4: label 'c' is none of the training data's a, b$"):
        label_ids(examples(["a", "b", "c"]), ["a", "b"])


@pytest.mark.parametrize(
    ("labels", "meant"),
    [
        (["1", "1.0", "\uff11", "0"], ["1", "1", "1", "0"]),
        (["True", "TRUE", "False", "true"], ["True", "True", "False", "True"]),
        (["-1", "+1", "-0", "0.0"], ["-1", "1", "0", "0"]),
        (["1.5", "007", "7", "1_0"], ["1.5", "007", "7", "1_0"]),
        (["\u597d\uff01", "\u597d!", "Pos", "pos"], ["\u597d\uff01", "\u597d\uff01", "Pos", "pos"]),
    ],
)
def test_labels_that_mean_the_same_are_one(tmp_path, labels, meant):
    rows = "".join(f"{label}\ttext {i}\n" for i, label in enumerate(labels))
    assert read_examples(written(tmp_path, "r.tsv", f"label\ttext\n{rows}")).labels == meant


def test_a_label_is_known_to_the_model_however_it_is_spelled():
    assert label_ids(examples(["1.0", "\uff10"]), ["0", "1"]).tolist() == [1, 0]
    assert label_ids(examples(["TRUE", "False"]), ["False", "True"]).tolist() == [1, 0]


@pytest.mark.parametrize("label", ["nan", "NaN", "None", "NULL", "<NA>"])
def test_a_label_that_says_that_there_is_none_has_its_line_and_a_remedy(tmp_path, label):
    path = written(tmp_path, "r.tsv", f"label\ttext\n1\ta\n{label}\tb\n")
    assert refusal(path).startswith(f"{path}:3: the label is {label}, which means that there is none; delete the row")


def test_a_label_to_each_of_many_rows_is_refused():
    names_of(examples([f"label {row}" for row in range(20)]), "classification")
    with pytest.raises(ValueError, match=r"has 21 labels in 21 rows, .*; name the --label-column"):
        names_of(examples([f"label {row}" for row in range(21)]), "classification")


# ---- what was read ----


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        (
            "r.tsv",
            "question\tsentence1\tsentence2\tlabel\nq\ta\tb\t0\nq\tc\td\t1\nq\te\tf\t0\n",
            "r.tsv: 3 rows, pairs (sentence1, sentence2), 2 labels: 0 (2), 1 (1); ignored: question",
        ),
        (
            "r.csv",
            "内容;类别\n好;正\n".encode("utf-16"),
            "r.csv: 1 row, texts (内容), 1 label (类别): 正 (1), columns by semicolon, read as utf-16",
        ),
    ],
)
def test_what_was_read_is_said_in_a_line(tmp_path, name, content, line):
    assert read_as(written(tmp_path, name, content), Reading())[1] == line


def test_pairs_here_and_single_texts_there_are_refused_by_name():
    single = examples(["a", "b"], "dev.tsv")
    pairs = dataclasses.replace(single, pairs=["x", "y"], source="train.tsv")
    with pytest.raises(ValueError, match=r"^dev\.tsv: holds single texts, but train\.tsv pairs; "):
        check_shapes([pairs, None, single])
    check_shapes([single, None, single])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.tsv", 'label\ttext\n1\t"Bravo\n0\tbad\n1\tend"\n0\tb\n'),
        ("r.tsv", 'text\tlabel\n"Bravo\t1\nbad\t0\nend"\t1\nb\t0\n'),
        ("r.csv", 'label,text\n1,"Bravo\n0,bad\n1,end"\n0,b\n'),
        ("r.csv", 'text,label\n"Bravo,1\nbad,0\nend",1\nb,0\n'),
    ],
)
def test_rows_that_a_quote_has_joined_are_refused_and_quoting_none_reads_them(tmp_path, name, content):
    path = written(tmp_path, name, content)
    assert refusal(path).startswith(f"{path}:2: a quoted field runs over several rows; ")
    assert len(read_examples(path, quoting="none")) == 4


def test_rows_of_a_tsv_that_a_quote_has_joined_are_refused_without_labels_too(tmp_path):
    path = written(tmp_path, "r.tsv", 'id\ttext\n1\t"Bravo\n2\tbad"\n3\tb\n')
    with pytest.raises(ValueError, match=r"r\.tsv:2: a quoted field runs over several rows; "):
        read_as(path, Reading(), labelled=False)


def test_a_quoted_text_of_several_lines_with_commas_is_a_text(tmp_path):
    rows = read_examples(written(tmp_path, "r.csv", 'text,label\n"good, yes\nor, no",1\nb,0\n'))
    assert rows.texts == ["good, yes\nor, no", "b"]


def test_a_header_that_stands_in_the_middle_again_is_no_row(tmp_path):
    path = written(tmp_path, "r.csv", "text,label\na,1\ntext,label\nb,0\n")
    assert refusal(path) == f"{path}:3: repeats the header; delete this line"


def test_columns_of_one_string_are_names_between_commas(tmp_path):
    assert read_examples(written(tmp_path, "r.tsv", "1\tgood\n"), columns="label,text").texts == ["good"]


@pytest.mark.parametrize(("column", "text"), [("2", "b"), ("other", "b"), ("1", "a")])
def test_a_column_is_named_or_numbered(tmp_path, column, text):
    path = written(tmp_path, "r.tsv", "text\tother\tlabel\na\tb\t1\n")
    assert read_as(path, Reading(text_column=column))[0].texts == [text]


def test_numbers_of_columns_mean_that_there_is_no_header_unless_there_is_one(tmp_path):
    path = written(tmp_path, "r.csv", "1,good\n0,bad\n")
    assert read_as(path, Reading(text_column="2", label_column="1"))[0].texts == ["good", "bad"]


def test_a_column_that_is_not_there_is_named(tmp_path):
    path = written(tmp_path, "r.tsv", "text\tlabel\na\t1\n")
    with pytest.raises(ValueError, match="has no column '3' for --text-column; its 2 columns are 'text', 'label'"):
        read_as(path, Reading(text_column="3"))


def test_several_columns_that_may_be_meant_are_named(tmp_path):
    path = written(tmp_path, "r.tsv", "text\tcategory\tsentiment\na\t1\t2\n")
    assert "category, sentiment; type --label-column category" in refusal(path)


def test_rows_of_an_indented_array_have_the_line_on_which_they_begin(tmp_path):
    content = json.dumps([{"text": "a", "label": 1}, {"text": "b", "label": 0}], indent=1)
    assert read_examples(written(tmp_path, "r.json", content)).lines == [2, 6]


def test_an_array_that_is_cut_off_is_refused(tmp_path):
    assert "not JSON" in refusal(written(tmp_path, "r.json", '[{"text": "a", "label": 1}, {"text": "b"'))


def test_quotes_of_a_txt_are_text(tmp_path):
    rows = read_examples(written(tmp_path, "r.txt", '"a\t1\nb"\t0\nc c\t1\nd d\t0\n'))
    assert (rows.texts, rows.labels) == (['"a', 'b"', "c c", "d d"], ["1", "0", "1", "0"])


def test_a_text_a_line_has_no_labels_to_train_on(tmp_path):
    path = written(tmp_path, "r.tsv", "text\tlabel\na\t1\nb\t0\n")
    with pytest.raises(ValueError, match="--format txt is a text a line, without labels; leave it out"):
        read_as(path, Reading(format="txt"))


# ---- encodings ----


@pytest.mark.parametrize("encoding", ["gb18030", "big5"])
def test_chinese_in_another_encoding_is_told(tmp_path, encoding):
    text = "這個房間不好，我們不會再來了。" if encoding == "big5" else "这个房间不好，我们不会再来了。"
    assert encoding_of(written(tmp_path, "r.csv", (text * 3).encode(encoding))) == encoding


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("방이 깨끗하고 직원들이 친절해서 다시 오고 싶습니다", "cp949"), ("Комната была чистой и светлой", "cp1251")],
)
def test_what_is_neither_chinese_nor_western_is_not_taken_for_it(tmp_path, text, encoding):
    path = written(tmp_path, "r.csv", f"text,label\n{text},1\n".encode(encoding))
    assert refusal(path).startswith(f"{path}:2: byte 0x")
    assert read_as(path, Reading(encoding=encoding))[0].texts == [text]


def test_an_encoding_that_does_not_fit_has_its_line(tmp_path):
    path = written(tmp_path, "r.csv", b"text,label\na,1\n\xff\xff,0\n")
    with pytest.raises(ValueError, match=r"r\.csv:3: is not in gb18030; take another --encoding"):
        read_as(path, Reading(encoding="gb18030"))


def test_lines_that_are_broken_in_a_file_of_utf8_are_named(tmp_path):
    path = written(tmp_path, "r.csv", "text,label\n很好,1\n也好,1\n".encode() + "很好,0\n".encode("gbk"))
    assert refusal(path).startswith(f"{path}:4: byte 0xba is not UTF-8; mend that line")


def test_a_file_of_one_line_is_judged_in_pieces(tmp_path, monkeypatch):
    path = written(tmp_path, "r.csv", "房间很干净，下次还住".encode("gb18030") * 20)
    monkeypatch.setattr(encodings, "BLOCK", 100)
    pieces = []
    monkeypatch.setattr(encodings, "judged", lambda lines: (pieces.extend(lines), (None, False))[1])
    encodings.likely(path)
    assert [*map(len, pieces)] == [100] * 4


# ---- holding out ----


def test_holding_out_is_reproducible_disjoint_and_complete():
    rows = examples(["a", "b"] * 20)
    kept, held = hold_out(rows, 0.1, seed=3)
    again, also = hold_out(rows, 0.1, seed=3)
    assert (kept, held) == (again, also)
    assert (len(kept), len(held)) == (36, 4)
    assert sorted(kept.lines + held.lines) == rows.lines
    assert held != hold_out(rows, 0.1, seed=4)[1]


def test_rows_held_out_keep_their_labels_and_lines():
    rows = Examples(list("abcdef"), list("ABCDEF"), list("123456"), [2, 3, 4, 5, 6, 7], "f")
    for part in hold_out(rows, 0.5, seed=0):
        for text, pair, label, line in zip(part.texts, part.pairs, part.labels, part.lines, strict=True):
            assert (pair, label, line) == (text.upper(), str("abcdef".index(text) + 1), "abcdef".index(text) + 2)


def test_at_least_one_row_is_held_out():
    assert [len(part) for part in hold_out(examples(["a", "b"]), 0.1, seed=0)] == [1, 1]


# ---- batches ----


def test_collate_pads_ids_with_the_pad_id_and_mask_and_segments_with_zero():
    rows = Examples(["a b", "c"], ["好", "a b c"], ["1", "0"], [2, 3], "f")
    encoding = encode_examples(Tokenizer(VOCAB), rows, max_length=16)
    batch = collate(encoding, np.array([1, 0]), [0, 1], PAD)
    cls, sep = VOCAB.index("[CLS]"), VOCAB.index("[SEP]")
    assert batch.input_ids.tolist() == [[cls, 6, 7, sep, 9, sep, PAD], [cls, 8, sep, 6, 7, 8, sep]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1, 1, 0], [1] * 7]
    assert batch.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1]]
    assert batch.labels.tolist() == [1, 0]
    assert {tensor.dtype for tensor in batch if tensor is not None} == {torch.int64}


def test_collate_takes_the_rows_asked_for_in_their_order_and_pads_to_the_longest_of_them():
    rows = Examples(["a b c 好", "a", "b c"], None, ["0", "1", "2"], [2, 3, 4], "f")
    batch = collate(encode_examples(Tokenizer(VOCAB), rows, max_length=16), np.array([0, 1, 2]), [2, 1], PAD)
    assert batch.input_ids[:, 1].tolist() == [7, 6]
    assert batch.input_ids.shape == (2, 4)
    assert batch.labels.tolist() == [2, 1]


def test_collate_packed_lays_rows_one_after_the_other_without_padding():
    rows = Examples(["a b", "c"], ["好", "a b c"], ["1", "0"], [2, 3], "f")
    encoding = encode_examples(Tokenizer(VOCAB), rows, max_length=16)
    batch = collate_packed(encoding, np.array([1, 0]), [1, 0])
    cls, sep = VOCAB.index("[CLS]"), VOCAB.index("[SEP]")
    assert batch.input_ids.tolist() == [cls, 8, sep, 6, 7, 8, sep, cls, 6, 7, sep, 9, sep]
    assert batch.token_type_ids.tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1]
    assert batch.layout.lengths == (7, 6)
    assert batch.attention_mask is None
    assert batch.labels.tolist() == [0, 1]
    assert collate_packed(encoding, None, [0]).labels.tolist() == [0]


def test_a_row_of_padding_without_a_label_makes_the_tokens_a_multiple():
    encoding = encode_examples(Tokenizer(VOCAB), Examples(["a b", "c"], None, ["1", "0"], [2, 3], "f"), max_length=16)
    plain = collate_packed(encoding, np.array([1, 0]), [0, 1])
    for multiple, rest in ((5, 3), (7, 0)):
        batch = collate_packed(encoding, np.array([1, 0]), [0, 1], multiple=multiple, pad_id=PAD)
        assert batch.input_ids.tolist() == plain.input_ids.tolist() + [PAD] * rest
        assert batch.token_type_ids.tolist() == [0] * (7 + rest)
        assert batch.layout.lengths == (4, 3, rest)[: 3 if rest else 2]
        assert batch.labels.tolist() == [1, 0, -100][: 3 if rest else 2]


def test_without_labels_a_batch_holds_zeros():
    rows = Examples(["a", "b"], None, None, [2, 3], "f")
    assert collate(encode_examples(Tokenizer(VOCAB), rows, 8), None, [0, 1], PAD).labels.tolist() == [0, 0]


def test_long_rows_are_cut_the_longer_text_of_a_pair_first():
    rows = Examples(["a a a a a a"], ["b b"], None, [2], "f")
    encoding = encode_examples(Tokenizer(VOCAB), rows, max_length=8)
    assert encoding.input_ids[0].tolist() == [2, 6, 6, 6, 3, 7, 7, 3]


def test_an_epochs_order_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    np.random.seed(1)
    torch.manual_seed(1)
    first = shuffled(100, seed=0, epoch=0)
    np.random.seed(2)
    torch.manual_seed(2)
    assert first == shuffled(100, seed=0, epoch=0)
    assert sorted(first) == list(range(100))
    assert first != list(range(100))
    others = [shuffled(100, seed=0, epoch=1), shuffled(100, seed=1, epoch=0), shuffled(100, seed=1, epoch=1)]
    assert all(first != other for other in others)
    assert others[0] != others[1]


def test_by_length_is_longest_first_and_stable():
    assert by_length(np.array([3, 9, 3, 5, 9])) == [1, 4, 3, 0, 2]


def test_chunks_hold_every_row_once_and_only_the_last_is_short():
    parts = chunks(list(range(10)), 4)
    assert parts == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert chunks([], 4) == []


def test_token_chunks_hold_every_row_once_in_order_and_as_many_tokens_as_fit():
    lengths = np.array([3, 3, 4, 9, 30, 1, 10])
    assert token_chunks([0, 1, 2, 3, 5, 4, 6], lengths, 10) == [[0, 1, 2], [3, 5], [4], [6]]
    assert token_chunks([], lengths, 10) == []
    assert token_chunks([4, 6], lengths, 1) == [[4], [6]]


@pytest.mark.parametrize("tokens", [0, -1])
def test_a_token_budget_below_one_is_refused(tokens):
    with pytest.raises(ValueError, match=f"tokens_per_batch is {tokens}; it must be at least 1"):
        token_chunks([0], np.array([3]), tokens)


# Of 3000 rows of 3 to 200 tokens, some as long as a whole batch.
UNEQUAL = np.random.default_rng(0).integers(3, 200, 3000)
UNEQUAL[::500] = 300
BUDGET = 256


def test_batches_by_tokens_hold_every_row_once_and_no_more_tokens_than_asked_for():
    batches = shuffled_by_tokens(UNEQUAL, BUDGET, seed=0, epoch=0)
    assert sorted(row for batch in batches for row in batch) == list(range(3000))
    assert all(UNEQUAL[batch].sum() <= BUDGET or len(batch) == 1 for batch in batches)
    full = sum(UNEQUAL[batch].sum() > BUDGET - 200 for batch in batches)
    assert full > 0.95 * len(batches), "batches are not filled"


def test_rows_of_like_length_share_a_batch():
    """So a rectangle around it has hardly any padding, unlike one around as many rows met by chance."""

    def padding(batches: list[list[int]]) -> float:
        full = [batch for batch in batches if len(batch) > 1]
        return 1 - sum(UNEQUAL[batch].sum() for batch in full) / sum(len(b) * UNEQUAL[b].max() for b in full)

    assert padding(shuffled_by_tokens(UNEQUAL, BUDGET, seed=0, epoch=0)) < 0.06
    assert padding(token_chunks(shuffled(3000, seed=0, epoch=0), UNEQUAL, BUDGET)) > 0.2


def test_batches_by_tokens_are_dealt_by_seed_and_epoch_alone():
    np.random.seed(1)
    first = shuffled_by_tokens(UNEQUAL, BUDGET, seed=0, epoch=0)
    np.random.seed(2)
    assert first == shuffled_by_tokens(UNEQUAL, BUDGET, seed=0, epoch=0)
    others = [shuffled_by_tokens(UNEQUAL, BUDGET, seed, epoch) for seed, epoch in ((0, 1), (1, 0), (1, 1))]
    assert all(first != other for other in others)
    assert others[0] != others[1]


def test_batches_by_tokens_come_in_no_order_of_length():
    """Long and short ones follow each other by chance: their lengths are no more alike than those of strangers."""
    means = np.array([UNEQUAL[batch].mean() for batch in shuffled_by_tokens(UNEQUAL, BUDGET, seed=0, epoch=0)])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 4 / len(means) ** 0.5
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 4 / len(means) ** 0.5


def test_a_row_meets_others_in_every_epoch():
    """Also among rows of the very same length: the windows are of shuffled rows."""
    mates = [
        {
            (a, b)
            for batch in shuffled_by_tokens(np.full(3000, 10), 100, 0, epoch)
            for a in batch
            for b in batch
            if a < b
        }
        for epoch in range(2)
    ]
    assert len(mates[0] & mates[1]) < 0.05 * len(mates[0])


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_size_below_one_is_refused(size):
    """range() would end at once for -1, and leave logits that nobody has written."""
    with pytest.raises(ValueError, match=f"batch_size is {size}; it must be at least 1"):
        chunks([1, 2], size)


def test_column_names_for_a_file_that_has_a_header_are_refused(tmp_path):
    path = written(tmp_path, "r.tsv", "label\ttext\n1\tgood\n")
    with pytest.raises(ValueError, match=r"r\.tsv:1: is a header \(label, text\); leave --columns out"):
        read_examples(path, columns=["label", "text"])


# ---- nothing is guessed that would change rows ----


def told(path: Path, labelled: bool = True, **options) -> Examples:
    return read_as(path, Reading(**options), labelled)[0]


def told_refusal(path: Path, **options) -> str:
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}:") as caught:
        told(path, **options)
    return str(caught.value)


def test_commas_in_texts_of_a_single_column_divide_nothing(tmp_path):
    path = written(tmp_path, "r.tsv", "Hello, world\tpos\nGood, film\tpos\nBad, plot\tneg\n")
    options = dict(text_column="1", label_column="2")
    assert told(path, **options).texts == ["Hello, world", "Good, film", "Bad, plot"]
    one = written(tmp_path, "one.tsv", "Hello, world\nGood, film\nBad, plot\n")
    assert told(one, False, text_column="1").texts == ["Hello, world", "Good, film", "Bad, plot"]
    assert "divided by comma or tab; type --delimiter comma" in told_refusal(one, text_column="2", label_column="1")


def test_columns_that_two_delimiters_give_are_refused_with_the_option(tmp_path):
    path = written(tmp_path, "r.csv", "pos;good film, nice\nneg;bad film, boring\n")
    assert "type --delimiter comma" in refusal(path, columns=["label", "text"])
    found = told(path, columns="label,text", delimiter="semicolon")
    assert (found.labels, found.texts) == (["pos", "neg"], ["good film, nice", "bad film, boring"])


ROWS = "".join(f"{label}\t{text}\n" for label, text in [("pos", "a good film"), ("neg", "a bad plot")] * 4)


def test_a_first_row_that_may_be_a_header_is_no_row_because_columns_are_numbered(tmp_path):
    path = written(tmp_path, "r.tsv", f"grade\tremark\n{ROWS}")
    message = told_refusal(path, label_column="1", text_column="2")
    assert "type --text-column remark --label-column grade, if not, --columns label,text" in message
    assert len(told(path, text_column="remark", label_column="grade")) == 8
    assert len(told(path, columns="label,text")) == 9
    assert len(told(written(tmp_path, "s.tsv", ROWS), label_column="1", text_column="2")) == 8


def test_one_line_of_another_encoding_spoils_no_others(tmp_path):
    rows = ["label\ttext", *["pos\tDas ist schön und größer"] * 200]
    path = written(
        tmp_path, "r.tsv", "\n".join(rows).encode() + "\nneg\tfür Mädchen schöne Grüße wäre\n".encode("cp1252")
    )
    assert ":202: byte 0xfc is not UTF-8" in refusal(path)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("őszintén gyűlölöm ezt az önző főhőst", "cp1250"), ("これは、大人の本。それは、人の心。", "euc_jp")],
)
def test_what_no_known_encoding_surely_is_is_refused(tmp_path, text, encoding):
    rows = "\n".join(["label\ttext", *[f"pos\t{text}"] * 9])
    assert "is not UTF-8" in refusal(written(tmp_path, "r.tsv", rows.encode(encoding)))


@pytest.mark.parametrize("text", ["não é bom, são pães", "Où est l'hôtel? Bien sûr, très près"])
def test_portuguese_and_french_are_read_as_cp1252(tmp_path, text):
    rows = "\n".join(["label\ttext", *[f"pos\t{text}"] * 9])
    assert read_examples(written(tmp_path, "r.tsv", rows.encode("cp1252"))).texts == [text] * 9


@pytest.mark.parametrize("end", ["", ",", "\n", ",\n", "]\n[{}]", "] and more"])
def test_an_array_that_is_cut_or_followed_by_something_is_refused(tmp_path, end):
    assert "not JSON" in refusal(written(tmp_path, "r.json", '[{"text": "a", "label": "x"}' + end))


@pytest.mark.parametrize("name", ["r.jsonl", "r.json"])
def test_a_list_inside_a_row_is_no_rows(tmp_path, name):
    row = {"text": "good", "label": "pos", "spans": [{"text": "x", "label": "neg"}]}
    found = read_examples(written(tmp_path, name, json.dumps(row)))
    assert (found.texts, found.labels) == (["good"], ["pos"])


def test_columns_of_json_whose_rows_stand_in_another_order_are_refused(tmp_path):
    columns = {"text": {"0": "good", "1": "bad"}, "label": {"1": "neg", "0": "pos"}}
    assert "do not hold the same rows" in refusal(written(tmp_path, "r.json", json.dumps(columns)))


@pytest.mark.parametrize("header", ["label,Text,text", "Label,label,text"])
def test_columns_that_differ_in_case_alone_are_refused(tmp_path, header):
    assert "called alike" in refusal(written(tmp_path, "r.csv", f"{header}\na,b,c\nd,e,f\n"))


def test_a_number_counts_columns_without_a_name_too(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("label,,,note\nyes,a,b,c\nno,d,e,f\n", encoding="utf-8")
    for number, texts in ("2", ["a", "d"]), ("3", ["b", "e"]), ("4", ["c", "f"]):
        assert read_as(path, Reading(text_column=number))[0].texts == texts


def rows_and_hashes(path):
    with open_lines(path) as lines:
        return [(row, lines.number, lines.digest.hexdigest()) for row in read_rows(lines)]


MIXED = {
    "rows.tsv": b'id\ttext\r\n1\ta\r\n2\t"b"\r\n\r\n3\t"c\r\nd"\r\n4\n'
    b'5\te\n6\t\xff\n7\t\xe5\xa5\xbd\nid\ttext\n8\t"f\n9\tg\n',
    "mac.csv": b"\xef\xbb\xbftext,id\ra,1\rb,2\r\rc\rd,3",
    "rows.jsonl": b'{"text": "a"}\n{"text": "b"}\n\n{"t": "c"}\n{"t": "d"}\n[1]\n{"text": "\\ud800"}\n{"text": "e"}\n',
    "rows.txt": b"a\n\nb\r\n\xff\nc",
}


@pytest.mark.parametrize("name", MIXED)
def test_rows_and_hashes_do_not_depend_on_how_much_is_read_at_once(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_bytes(MIXED[name])
    seen = []
    for block in (1, 9, 20, 1 << 16):
        monkeypatch.setattr("minibert.io.rows.BLOCK", block)
        seen.append(rows_and_hashes(path))
    monkeypatch.setattr("minibert.io.rows.ordinary_rows", lambda lines, shape: [])
    assert seen == [rows_and_hashes(path)] * 4


def test_a_file_of_broken_rows_is_judged_once(tmp_path, monkeypatch):
    """Binary noise has thousands of them."""
    (tmp_path / "r.tsv").write_bytes(b"label\ttext\n" + b"a\t\xff\xfe\x81 b\n" * 30)
    judged, real = [], encodings.judged
    monkeypatch.setattr(encodings, "judged", lambda lines: (judged.append(1), real(lines))[1])
    with open_lines(tmp_path / "r.tsv", Reading()) as lines:
        assert sum("is not UTF-8" in row.problem for row in read_rows(lines)) == 30
    assert len(judged) <= 2, "once for the encoding, once for the remedy"
