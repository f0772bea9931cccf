"""Proves that what is said on stderr is short and harmless, whatever a file holds: pytest tests/io/test_stderr.py"""

import pytest

from minibert import cli
from minibert.io.stderr import one_line, say


def test_an_error_is_one_line_without_control_characters():
    assert one_line("a\x1b[31mred\x07\tb\n c\u202e") == "a\ufffd[31mred\ufffd b c\ufffd"


def test_of_a_long_error_the_beginning_and_the_remedy_stay():
    text = one_line("model.safetensors: " + "x" * 100_000 + "; copy it again")
    assert len(text) == 580
    assert text.startswith("model.safetensors: xxx")
    assert text.endswith("xxx; copy it again")


def test_a_name_from_the_command_line_is_shown_harmlessly_and_cut(capsys):
    assert cli.main(["predict", "/no/\x1b[2J" + "y" * 9000, "a text"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("minibert: ")
    assert "\x1b" not in shown
    assert len(shown) <= 600


def test_progress_keeps_its_columns_and_loses_control_characters(capsys):
    say("step  12   loss  0.5\x1b[0m")
    assert capsys.readouterr().err == "step  12   loss  0.5\ufffd[0m\n"


def test_a_line_while_something_runs_is_no_longer_than_an_error(capsys):
    say("x" * 9000)
    assert len(capsys.readouterr().err) == 581


@pytest.mark.parametrize("text", ["", "room", "房间很干净，下次还住 😀"])
def test_ordinary_words_stay_as_they_are(text):
    assert one_line(text) == text
