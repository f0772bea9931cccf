"""A file is written whole or not at all, and broken JSON is named in one line: pytest tests/core/test_files.py"""

import contextlib
import errno
import json
import os
import resource
import stat

import pytest

from minibert.core.files import LIMIT, atomic_write, read_json
from minibert.core.vocabulary import read_vocabulary

OLD, NEW = b"the old content", b"the new content, which is longer"


def permissions(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def umask(value):
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def largest_file(size):
    """The system refuses to let a file grow beyond `size`: a full disk that needs no disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# ---- writing ----


def test_bytes_are_written(tmp_path):
    atomic_write(tmp_path / "a", NEW)
    assert (tmp_path / "a").read_bytes() == NEW


def test_a_path_may_be_a_string(tmp_path):
    atomic_write(str(tmp_path / "a"), NEW)
    assert (tmp_path / "a").read_bytes() == NEW


def test_a_bare_name_is_written_in_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atomic_write("a", NEW)
    assert (tmp_path / "a").read_bytes() == NEW


def test_a_function_may_write_the_file(tmp_path):
    def writer(file):
        file.write(b"part 1, ")
        file.write(b"part 2")

    atomic_write(tmp_path / "a", writer)
    assert (tmp_path / "a").read_bytes() == b"part 1, part 2"


def test_an_old_file_is_replaced(tmp_path):
    (tmp_path / "a").write_bytes(NEW)
    atomic_write(tmp_path / "a", OLD)
    assert (tmp_path / "a").read_bytes() == OLD


def test_nothing_but_the_file_is_left(tmp_path):
    atomic_write(tmp_path / "a", NEW)
    assert os.listdir(tmp_path) == ["a"]


def test_a_reader_of_the_old_file_keeps_it(tmp_path):
    """The name moves to new content; the open (or mapped) old file does not change under its reader."""
    (tmp_path / "a").write_bytes(OLD)
    with open(tmp_path / "a", "rb") as reader:
        atomic_write(tmp_path / "a", NEW)
        assert reader.read() == OLD


def test_the_old_file_stands_until_the_new_one_is_complete(tmp_path):
    (tmp_path / "a").write_bytes(OLD)

    def writer(file):
        file.write(NEW)
        file.flush()
        assert (tmp_path / "a").read_bytes() == OLD

    atomic_write(tmp_path / "a", writer)
    assert (tmp_path / "a").read_bytes() == NEW


def test_the_bytes_are_on_the_disk_before_the_name_moves_and_the_name_after_it(tmp_path, monkeypatch):
    calls, size = [], lambda found: "directory" if stat.S_ISDIR(found.st_mode) else found.st_size
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append(("fsync", size(os.fstat(handle)))))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append(("replace", None)), replace(*names)))
    atomic_write(tmp_path / "a", NEW)
    assert calls == [("fsync", len(NEW)), ("replace", None), ("fsync", "directory")]


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_would_be_read_without_end_is_refused(tmp_path, kind):
    if kind == "pipe":
        os.mkfifo(tmp_path / "a.json")
    else:
        (tmp_path / "a.json").symlink_to("/dev/zero")
    assert "is no regular file" in refusal(tmp_path / "a.json")


# ---- writing that fails ----


def fails_as_before(tmp_path, error, data=NEW):
    """The write raises; the old file and nothing else is there."""
    (tmp_path / "a").write_bytes(OLD)
    with pytest.raises(error) as caught:
        atomic_write(tmp_path / "a", data)
    assert (tmp_path / "a").read_bytes() == OLD
    assert os.listdir(tmp_path) == ["a"]
    return caught.value


def test_a_full_disk_on_writing_keeps_the_old_file(tmp_path):
    with largest_file(1000):
        error = fails_as_before(tmp_path, OSError, b"x" * 100_000)
    assert error.errno == errno.EFBIG


def test_a_full_disk_in_the_middle_of_a_function_keeps_the_old_file(tmp_path):
    def writer(file):
        file.write(b"half of it")
        file.flush()
        full_disk()

    assert fails_as_before(tmp_path, OSError, writer).errno == errno.ENOSPC


def test_a_full_disk_on_fsync_keeps_the_old_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    assert fails_as_before(tmp_path, OSError).errno == errno.ENOSPC


def test_a_failing_rename_keeps_the_old_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", full_disk)
    assert fails_as_before(tmp_path, OSError).errno == errno.ENOSPC


def test_ctrl_c_keeps_the_old_file(tmp_path):
    def writer(file):
        file.write(b"half of it")
        raise KeyboardInterrupt

    fails_as_before(tmp_path, KeyboardInterrupt, writer)


def test_the_first_error_is_told_when_cleaning_up_fails_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    monkeypatch.setattr(os, "unlink", lambda _: (_ for _ in ()).throw(PermissionError("unlink")))
    with pytest.raises(OSError, match="No space left") as caught:
        atomic_write(tmp_path / "a", NEW)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "a").exists()


def test_a_missing_directory_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        atomic_write(tmp_path / "missing" / "a", NEW)


def test_a_directory_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(NotADirectoryError):
        atomic_write(tmp_path / "file" / "a", NEW)


def test_a_directory_in_the_files_place_stays(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic_write(tmp_path / "a", NEW)
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            atomic_write(tmp_path / "a", NEW)
    finally:
        tmp_path.chmod(0o700)
    assert os.listdir(tmp_path) == []


def test_a_read_only_file_system_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    def read_only(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("builtins.open", read_only)
    with pytest.raises(OSError, match="Read-only") as caught:
        atomic_write(tmp_path / "a", NEW)
    monkeypatch.undo()
    assert caught.value.errno == errno.EROFS
    assert os.listdir(tmp_path) == []


# ---- permissions and links ----


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_of_an_ordinary_one(tmp_path, mask):
    with umask(mask):
        atomic_write(tmp_path / "a", NEW)
        (tmp_path / "ordinary").write_bytes(NEW)
    assert permissions(tmp_path / "a") == permissions(tmp_path / "ordinary")


def test_a_private_file_stays_private(tmp_path):
    (tmp_path / "a").write_bytes(OLD)
    (tmp_path / "a").chmod(0o600)
    with umask(0o022):
        atomic_write(tmp_path / "a", NEW)
    assert permissions(tmp_path / "a") == 0o600


def test_a_symbolic_link_is_replaced_and_its_target_left_alone(tmp_path):
    """As in the hub's cache, where the names are links into a store that other models share."""
    (tmp_path / "store").write_bytes(OLD)
    (tmp_path / "a").symlink_to("store")
    atomic_write(tmp_path / "a", NEW)
    assert (tmp_path / "store").read_bytes() == OLD
    assert (tmp_path / "a").read_bytes() == NEW
    assert not (tmp_path / "a").is_symlink()


def test_a_dangling_link_is_replaced(tmp_path):
    (tmp_path / "a").symlink_to("nowhere")
    atomic_write(tmp_path / "a", NEW)
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == NEW


# ---- reading JSON ----


def refusal(path) -> str:
    """The one line that read_json gives."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the callers check the text)
        read_json(path, "copy it again")
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}:")
    assert text.endswith("copy it again")
    return text


def test_json_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"名": [1, 2.5, null]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json", "") == {"名": [1, 2.5, None]}


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json", "") == [1]


def test_a_missing_json_file_is_named(tmp_path):
    assert "No such file" in refusal(tmp_path / "a.json")


def test_a_directory_in_place_of_json_is_named(tmp_path):
    (tmp_path / "a.json").mkdir()
    assert "is no regular file" in refusal(tmp_path / "a.json")


@pytest.mark.parametrize("encoding", ["utf-16", "gb18030", "latin-1"])
def test_json_that_is_not_utf_8_is_named(tmp_path, encoding):
    text = {"latin-1": '{"é": 1}'}.get(encoding, '{"好": 1}')
    (tmp_path / "a.json").write_bytes(text.encode(encoding))
    assert "not UTF-8" in refusal(tmp_path / "a.json")


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a": 1', "{'a': 1}", "[1,]", "nul", "\0", "9" * 5000, "[" * 100_000],
    ids=["empty", "open", "cut", "quotes", "comma", "word", "NUL", "digits", "depth"],
)
def test_broken_json_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    assert "not JSON" in refusal(tmp_path / "a.json")


def test_a_huge_json_file_is_refused_unread(tmp_path):
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(LIMIT + 1)  # a hole: it takes no room
    assert str(LIMIT) in refusal(tmp_path / "a.json")


def test_a_huge_vocabulary_is_refused_unread(tmp_path):
    with open(tmp_path / "vocab.txt", "wb") as file:
        file.truncate(LIMIT + 1)
    with pytest.raises(ValueError, match=f"more than the limit of {LIMIT}; copy the original again"):
        read_vocabulary(tmp_path / "vocab.txt")


def test_json_dumps_is_read_back(tmp_path):
    values = {"a": [1, "二", None, True, 1e-12], "b": {"c": -3}}
    (tmp_path / "a.json").write_text(json.dumps(values), encoding="utf-8")
    assert read_json(tmp_path / "a.json", "") == values
