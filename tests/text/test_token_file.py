"""Files are read some lines at a time, and hold what each line gives: pytest tests/text/test_token_file.py"""

import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from minibert.text import token_file
from minibert.text.token_file import IDS, INFO, OFFSETS, TokenFile, write
from minibert.text.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["a", "b", "##a", "##b", "ab", "née", "e", "##e", "n", "##n", "北", "京", "##京", ",", "!", "[", "]", "sep"]
TOKENIZER = Tokenizer([*SPECIAL, *WORDS])
CHARACTERS = ["a", "b", "ab", "é", "e\u0301", "\u0315", "\U0001d165", "北京", "😀", " ", ",", "\0", "\ufeff", "\u2028"]
BREAKS = ["\n", "\n", "\r\n", "\r", "\n\n", "\x85", "\x0b", "\x1c"]
PARTS = [*CHARACTERS, *BREAKS, "[SEP]", "[SEP", "]", "[MASK]", "[[SEP]]"]


def has_semaphores() -> bool:
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError:
        return False
    return True


needs_semaphores = pytest.mark.skipif(
    not has_semaphores(), reason="several processes share semaphores, and /dev/shm is not writable here"
)


class Broken(Tokenizer):
    """Raises the error when a text holds "stop"."""

    error: BaseException = KeyboardInterrupt()

    def encode_flat(self, texts):
        if any("stop" in text for text in texts):
            raise self.error
        return super().encode_flat(texts)


class Dead(Tokenizer):
    def encode_flat(self, texts):
        os._exit(1)


def lines_of(text: str) -> list[str]:
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def rows(tokens: TokenFile) -> list[list[int]]:
    return [tokens[i].tolist() for i in range(len(tokens))]


def line_by_line(text: str, tokenizer=TOKENIZER) -> list[list[int]]:
    return [tokenizer.encode_flat([line]).ids.tolist() for line in lines_of(text)]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(token_file, "CHUNK", 5)


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text("ab, née\n\n北京!\n", encoding="utf-8")
    return path


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def encoded(tmp_path, content: str | bytes, tokenizer=TOKENIZER, processes=1) -> TokenFile:
    (tmp_path / "text").write_bytes(content.encode() if isinstance(content, str) else content)
    return write(tokenizer, tmp_path / "text", tmp_path / "out", processes)


# ---- what is written ----


def test_every_line_is_a_row(source, out):
    tokens = write(TOKENIZER, source, out)
    assert [TOKENIZER.ids_to_tokens(row) for row in tokens] == [["ab", ",", "n", "##e", "##e"], [], ["北", "京", "!"]]


def test_the_files_are_plain_npy(source, out):
    write(TOKENIZER, source, out)
    ids, offsets = (np.load(out / name, mmap_mode="r") for name in (IDS, OFFSETS))
    assert (ids.dtype, ids.shape) == (np.uint16, (8,))
    assert (offsets.dtype, offsets.tolist()) == (np.int64, [0, 5, 5, 8])


def test_a_vocabulary_beyond_65536_tokens_has_wider_ids(source, out):
    vocab = [*SPECIAL, *map(str, range(65536 - 5)), "née"]
    tokens = write(Tokenizer(vocab, lowercase=False), source, out)
    assert tokens.ids.dtype == np.int32
    assert 65536 in tokens[0]


def test_a_vocabulary_of_65536_tokens_has_narrow_ids(source, out):
    vocab = [*SPECIAL, *map(str, range(65536 - 6)), "née"]
    tokens = write(Tokenizer(vocab, lowercase=False), source, out)
    assert tokens.ids.dtype == np.uint16
    assert 65535 in tokens[0]


def test_the_arrays_are_mapped_not_read(source, out):
    tokens = write(TOKENIZER, source, out)
    assert isinstance(tokens.ids, np.memmap)
    assert isinstance(tokens.offsets, np.memmap)


def test_tokens_json_tells_where_the_ids_come_from(source, out):
    write(TOKENIZER, source, out)
    info = json.loads((out / INFO).read_text(encoding="utf-8"))
    assert (info["version"], info["lines"], info["ids"]) == (1, 3, 8)
    assert info["sources"] == [{"name": str(source), "bytes": len(source.read_bytes())}]
    assert info["tokenizer"]["vocab_size"] == len(TOKENIZER.vocab)
    assert info["tokenizer"]["strip_accents"] is True


def test_the_hash_is_that_of_the_saved_vocabulary(source, out, tmp_path):
    TOKENIZER.save_pretrained(tmp_path / "model")
    saved = hashlib.sha256((tmp_path / "model" / "vocab.txt").read_bytes()).hexdigest()
    assert write(TOKENIZER, source, out).info["tokenizer"]["vocab_sha256"] == saved


def test_several_files_follow_one_another(tmp_path, out):
    (tmp_path / "1").write_text("a\nb")
    (tmp_path / "2").write_text("")
    (tmp_path / "3").write_text("ab\n")
    tokens = write(TOKENIZER, [tmp_path / "1", str(tmp_path / "2"), tmp_path / "3"], str(out))
    assert rows(tokens) == line_by_line("a\nb\nab\n")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"], ids=["empty", "BOM"])
def test_an_empty_file_has_no_lines(tmp_path, content):
    tokens = encoded(tmp_path, content)
    assert (len(tokens), tokens.ids.tolist(), tokens.offsets.tolist()) == (0, [], [0])


def test_blank_lines_alone_give_empty_rows(tmp_path):
    assert rows(encoded(tmp_path, "\n\r\n\n")) == [[], [], []]


def test_a_byte_order_mark_is_skipped(tmp_path):
    assert rows(encoded(tmp_path, b"\xef\xbb\xbfab")) == line_by_line("ab")


def test_another_encoding_is_said_and_utf_8_is_not(tmp_path, capsys):
    found = []
    for name, encoding in (("a", "utf-8"), ("b", "utf-16"), ("c", "gb18030")):
        path = tmp_path / f"{name}.txt"
        path.write_text("房间很干净，下次还会再来住\n" * 30, encoding=encoding)
        found.append(rows(TOKENIZER.encode_file(path, tmp_path / name)))
    assert found[0] == found[1] == found[2]
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / 'b.txt'}: read as utf-16",
        f"{tmp_path / 'c.txt'}: read as gb18030",
    ]


def test_a_last_line_without_a_break_counts(tmp_path):
    assert rows(encoded(tmp_path, "a\nb")) == rows(encoded(tmp_path, "a\nb\n")) == line_by_line("a\nb")


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_only_a_line_feed_ends_a_line(tmp_path, mark):
    assert rows(encoded(tmp_path, f"a{mark}b\nab")) == line_by_line(f"a{mark}b\nab")
    assert len(TokenFile.open(tmp_path / "out")) == 2


def test_a_pipe_is_read(tmp_path, out):
    os.mkfifo(tmp_path / "pipe")
    writer = multiprocessing.get_context("fork").Process(target=(tmp_path / "pipe").write_text, args=("a\nb\n",))
    writer.start()
    assert rows(write(TOKENIZER, tmp_path / "pipe", out)) == line_by_line("a\nb\n")
    writer.join()


# ---- batches of lines ----


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.sampled_from(PARTS) | st.text(max_size=4), max_size=30), size=st.integers(1, 12))
@example(parts=["[SEP]"] * 9, size=7)
@example(parts=["北京"] * 30, size=4)
@example(parts=["ab\r\n"] * 9, size=3)
@example(parts=["a, b "] * 20, size=6)
@example(parts=["a\u0315\U0001d165e\u0301"] * 9, size=5)
def test_any_text_is_encoded_line_by_line_however_many_at_once(tmp_path, parts, size):
    text = "".join(parts).encode(errors="ignore").decode().lstrip("\ufeff")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_file, "CHUNK", size)
        assert rows(encoded(tmp_path, text)) == line_by_line(text)


def test_the_files_do_not_depend_on_how_many_lines_are_read_at_once(tmp_path, monkeypatch):
    text = "ab, née\r\n\n北京[SEP]!" * 20
    encoded(tmp_path, text)
    whole = contents(tmp_path / "out")
    for size in (1, 2, 7, 64):
        monkeypatch.setattr(token_file, "CHUNK", size)
        encoded(tmp_path, text)
        assert contents(tmp_path / "out") == whole


# ---- processes ----


@pytest.mark.usefixtures("small")
@needs_semaphores
def test_two_processes_write_the_same_bytes(tmp_path):
    text = "ab, née\r\n\n北京[SEP]! a\n" * 20
    encoded(tmp_path, text)
    alone = contents(tmp_path / "out")
    encoded(tmp_path, text, processes=2)
    assert contents(tmp_path / "out") == alone


@needs_semaphores
def test_an_error_in_a_worker_arrives_as_it_is(tmp_path):
    broken = Broken(TOKENIZER.vocab)
    broken.error = ValueError("text 0: no")
    with pytest.raises(ValueError, match=r"^text 0: no$"):
        encoded(tmp_path, "stop", broken, processes=2)
    assert os.listdir(tmp_path) == ["text"]


@needs_semaphores
def test_a_worker_that_dies_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="worker process has died"):
        encoded(tmp_path, "a", Dead(TOKENIZER.vocab), processes=2)
    assert os.listdir(tmp_path) == ["text"]


def test_without_semaphores_the_remedy_is_named(tmp_path, monkeypatch):
    def pool(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(token_file, "ProcessPoolExecutor", pool)
    with pytest.raises(ValueError, match=r"^processes 2: .*; make /dev/shm writable, or use processes=1$"):
        encoded(tmp_path, "a", processes=2)
    assert os.listdir(tmp_path) == ["text"]


@pytest.mark.usefixtures("small")
def test_reading_waits_for_the_workers(monkeypatch):
    """At most 2 * processes batches are under way, however long the file."""
    waiting = []

    class Pool:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            waiting.append("shut")

        def submit(self, _, batch):
            waiting.append(batch)
            return self

        def result(self):
            return waiting.pop(0)

    monkeypatch.setattr(token_file, "ProcessPoolExecutor", Pool)
    flats = token_file._encoded(TOKENIZER, (str(i) for i in range(100)), 3)
    assert next(flats) == "0"
    assert len(waiting) == 5
    assert list(flats) == [str(i) for i in range(1, 100)]
    assert waiting == ["shut"]


@pytest.mark.usefixtures("small")
@needs_semaphores
def test_no_worker_outlives_an_interruption(tmp_path, monkeypatch):
    def interrupted(values, dtype):
        raise KeyboardInterrupt

    (tmp_path / "text").write_text("a b a b a b" * 20)
    monkeypatch.setattr(np, "cumsum", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(TOKENIZER, tmp_path / "text", tmp_path / "out", processes=2)
    assert multiprocessing.active_children() == []
    assert os.listdir(tmp_path) == ["text"]


# ---- whole or not at all ----


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), OSError("full")], ids=lambda e: repr(e))
@pytest.mark.usefixtures("small")
def test_an_error_on_the_way_keeps_the_old_result(tmp_path, error):
    encoded(tmp_path, "a b\n")
    before = contents(tmp_path / "out")
    broken = Broken(TOKENIZER.vocab)
    broken.error = error
    with pytest.raises(type(error)):
        encoded(tmp_path, "a\nb\nab\n stop\n", broken)
    assert contents(tmp_path / "out") == before
    assert sorted(os.listdir(tmp_path)) == ["out", "text"]


@pytest.mark.usefixtures("small")
def test_an_error_on_the_way_leaves_nothing_where_nothing_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        encoded(tmp_path, "a\nb\n stop\n", Broken(TOKENIZER.vocab))
    assert os.listdir(tmp_path) == ["text"]


def test_an_old_result_is_replaced(tmp_path):
    encoded(tmp_path, "a\nb\n")
    assert rows(encoded(tmp_path, "ab")) == line_by_line("ab")
    assert sorted(os.listdir(tmp_path)) == ["out", "text"]


def test_a_reader_of_the_old_result_keeps_it(tmp_path):
    old = encoded(tmp_path, "a\nb\n")
    encoded(tmp_path, "ab")
    assert rows(old) == line_by_line("a\nb\n")


def test_the_old_result_comes_back_when_the_new_one_cannot_be_moved(tmp_path, monkeypatch):
    encoded(tmp_path, "a\nb\n")
    before = contents(tmp_path / "out")
    rename = Path.rename

    def refusing(self, target):
        if (self / INFO).exists() and json.loads((self / INFO).read_text())["lines"] == 1:
            raise PermissionError("rename")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(PermissionError, match="rename"):
        encoded(tmp_path, "ab")
    assert contents(tmp_path / "out") == before
    assert sorted(os.listdir(tmp_path)) == ["out", "text"]


def test_all_is_on_the_disk_before_the_name_moves(tmp_path, monkeypatch):
    """And the moved name too: what of a former result is removed is removed after that."""
    encoded(tmp_path, "b\n")
    calls, rename, rmtree = [], Path.rename, shutil.rmtree
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append(os.fstat(handle).st_size))
    monkeypatch.setattr(shutil, "rmtree", lambda *rest, **more: (calls.append("rmtree"), rmtree(*rest, **more))[1])
    monkeypatch.setattr(Path, "rename", lambda self, target: (calls.append("rename"), rename(self, target))[1])
    encoded(tmp_path, "a b\n")
    moved = calls.index("rename")
    assert {path.stat().st_size for path in (tmp_path / "out").iterdir()} <= set(calls[:moved])
    assert calls[moved : moved + 2] == ["rename", "rename"]
    assert calls[moved + 2 :] == [tmp_path.stat().st_size, "rmtree", "rmtree"]


def test_an_empty_directory_may_be_written(source, out):
    out.mkdir()
    assert len(write(TOKENIZER, source, out)) == 3


def test_the_directories_above_are_made(source, out):
    assert len(write(TOKENIZER, source, out / "deep" / "er")) == 3


def test_the_permissions_are_ordinary(source, out, tmp_path):
    write(TOKENIZER, source, out)
    (tmp_path / "ordinary").mkdir()
    (tmp_path / "ordinary" / "file").touch()
    for ours, ordinary in ((out, tmp_path / "ordinary"), (out / IDS, tmp_path / "ordinary" / "file")):
        assert stat.S_IMODE(ours.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


# ---- what is refused ----


def refused(*args, **kwargs) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the callers check the text)
        write(TOKENIZER, *args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("size", [1, 3, 5, 1 << 20])
@pytest.mark.parametrize(
    ("content", "line", "byte"),
    [
        (b"ab\nab\xffab", 2, "0xff"),
        (b"\xef\xbb\xbfab\n\n\xe4\xba", 3, "0xe4"),
        (b"\xe4\xba\xac\n\xed\xa0\x80", 2, "0xed"),
        ("北".encode("gb18030"), 1, "0xb1"),
    ],
    ids=["stray", "cut short", "surrogate", "GB"],
)
def test_bytes_that_are_not_utf_8_are_located(tmp_path, out, monkeypatch, content, line, byte, size):
    monkeypatch.setattr(token_file, "CHUNK", size)
    (tmp_path / "bad.txt").write_bytes(content)
    assert refused(tmp_path / "bad.txt", out).startswith(f"{tmp_path / 'bad.txt'}:{line}: byte {byte} is not UTF-8; ")
    assert os.listdir(tmp_path) == ["bad.txt"]


def test_a_missing_file_is_named(tmp_path, out):
    assert refused([tmp_path / "no.txt"], out).startswith(f"{tmp_path / 'no.txt'}: no such file")
    assert os.listdir(tmp_path) == []


def test_a_directory_is_no_text(tmp_path, out):
    assert refused(tmp_path, out).startswith(f"{tmp_path}: a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(source, out):
    source.chmod(0)
    assert "may not be read" in refused(source, out)


def test_no_files_are_refused(out):
    assert "no text files" in refused([], out)


@pytest.mark.parametrize("processes", [0, -1])
def test_fewer_than_one_process_is_refused(source, out, processes):
    assert str(processes) in refused(source, out, processes=processes)


def test_a_file_in_the_place_of_the_directory_stays(source, out):
    out.write_text("precious")
    assert refused(source, out).startswith(f"{out}: a file")
    assert out.read_text() == "precious"


@pytest.mark.parametrize("names", [["notes"], [IDS, OFFSETS], [IDS, OFFSETS, INFO, "notes"]], ids=",".join)
def test_a_directory_with_other_files_stays(source, out, names):
    out.mkdir()
    for name in names:
        (out / name).write_text("precious")
    assert refused(source, out).startswith(f"{out}: holds other files")
    assert contents(out) == dict.fromkeys(names, b"precious")


# ---- reading ----


def test_a_result_is_opened_again(source, out):
    assert rows(write(TOKENIZER, source, out)) == rows(TokenFile.open(str(out)))


def test_rows_are_counted_from_the_end_too(source, out):
    tokens = write(TOKENIZER, source, out)
    assert [tokens[i - 3].tolist() for i in range(3)] == rows(tokens)


@pytest.mark.parametrize("index", [3, -4])
def test_a_row_beyond_the_last_is_an_index_error(source, out, index):
    with pytest.raises(IndexError, match=f"text {index} of 3"):
        write(TOKENIZER, source, out)[index]


def test_another_process_maps_the_files_itself(source, out):
    tokens = write(TOKENIZER, source, out)
    copy = pickle.loads(pickle.dumps(tokens))
    assert isinstance(copy.ids, np.memmap)
    assert rows(copy) == rows(tokens)


def test_the_same_tokenizer_passes_the_check(source, out):
    write(TOKENIZER, source, out).check(Tokenizer(TOKENIZER.vocab, strip_accents=True))


def test_another_vocabulary_fails_the_check(source, out):
    with pytest.raises(ValueError, match=r"another tokenizer \(vocab_sha256 differ\)"):
        write(TOKENIZER, source, out).check(Tokenizer([*SPECIAL, *reversed(WORDS)]))


def test_another_switch_fails_the_check(source, out):
    with pytest.raises(ValueError, match=r"another tokenizer \(lowercase, strip_accents differ\)"):
        write(TOKENIZER, source, out).check(Tokenizer(TOKENIZER.vocab, lowercase=False))


def edit(**changes):
    def spoil(out):
        info = json.loads((out / INFO).read_text(encoding="utf-8"))
        (out / INFO).write_text(json.dumps({**info, **changes}), encoding="utf-8")

    return spoil


def cut_short(name, size):
    return lambda out: os.truncate(out / name, size)


@pytest.mark.parametrize(
    "spoil",
    [
        edit(version=2),
        edit(lines=2),
        edit(ids=9),
        edit(tokenizer={"vocab_size": 70_000}),
        edit(tokenizer=None),
        lambda out: (out / INFO).write_text("[]"),
        lambda out: (out / INFO).write_text("{"),
        lambda out: (out / INFO).unlink(),
        lambda out: (out / IDS).unlink(),
        lambda out: (out / OFFSETS).write_bytes(b""),
        lambda out: (out / IDS).write_bytes(b"no array at all"),
        lambda out: np.save(out / OFFSETS, np.array([0, 5, 5, 7])),
        lambda out: np.save(out / OFFSETS, np.array([1, 5, 5, 8])),
        lambda out: np.save(out / OFFSETS, np.array([0.0, 5, 5, 8])),
        lambda out: np.save(out / IDS, np.zeros((8, 1), np.uint16)),
        cut_short(IDS, 130),
        cut_short(OFFSETS, 40),
    ],
)
def test_files_that_do_not_fit_are_refused(source, out, spoil):
    write(TOKENIZER, source, out)
    spoil(out)
    with pytest.raises(ValueError, match="encode the text again") as caught:
        TokenFile.open(out)
    assert str(caught.value).startswith(str(out))
    assert "\n" not in str(caught.value)


def test_what_a_killed_process_has_left_goes_when_the_file_is_whole(tmp_path):
    (tmp_path / "a.txt").write_text("good room\n")
    for name in (".out.01234567", ".out.89abcdef.old", ".other.01234567"):
        (tmp_path / name).mkdir()
    write(Tokenizer.from_pretrained("bundled"), tmp_path / "a.txt", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "a.txt") == [".other.01234567", "out"]
