"""Proves that every bug of the course is first seen at the stage where it is made, and that nothing of it stays.

That the test which a bug names fails under it is shown by tests/mutations.py. Run: pytest tests/check/test_course.py
"""

import json
import re
from pathlib import Path

import pytest
import torch

from minibert import cli
from minibert.check import course
from minibert.check.course import BUGS, chosen, first_difference, ladder_of
from minibert.core import wordpiece

ROOT = Path(__file__).parents[2]
every_bug = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)


@every_bug
def test_the_first_difference_is_at_the_stage_of_the_bug(bug):
    rungs = ladder_of(bug)
    assert first_difference(rungs) == bug.stage
    assert all(rung.differences["right"] <= rung.limit for rung in rungs if "right" in rung.differences)


@every_bug
def test_nothing_of_a_bug_stays_not_even_after_an_exception(bug):
    before = bug.experiment()
    with pytest.raises(KeyboardInterrupt), bug.put_in():
        raise KeyboardInterrupt
    after = bug.experiment()
    assert before.keys() == after.keys()
    assert all((before[stage] == after[stage]).all() for stage in before)
    assert "eval" not in vars(course.bert.BertBase)


def test_the_lesson_does_not_depend_on_random_numbers_drawn_before():
    eval_forgotten = chosen("eval")
    torch.manual_seed(3)
    drawn = torch.get_rng_state()
    first = course.lesson(eval_forgotten, chinese=False, answer=False)
    assert torch.equal(torch.get_rng_state(), drawn)
    torch.rand(5)
    assert course.lesson(eval_forgotten, chinese=False, answer=False) == first


@every_bug
def test_the_test_that_a_bug_names_exists(bug):
    file, _, name = bug.test.partition("::")
    assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_numbers_and_names_choose_the_same_bugs():
    assert [chosen(str(number)) for number in range(1, len(BUGS) + 1)] == [chosen(bug.name) for bug in BUGS]
    assert len({bug.name for bug in BUGS}) == len(BUGS) == 14


@every_bug
def test_all_that_is_said_of_a_bug_is_said_in_chinese_too(bug):
    words = ("title", "seen", "hint", "cause", "fix")
    assert sorted(bug.texts) == sorted([*words, *(f"{word}_zh" for word in words)])
    for word in words[:-1]:  # a fix may be code alone
        assert any(map(wordpiece.is_chinese, bug.texts[f"{word}_zh"])), word
    lesson = course.lesson(bug, chinese=True, answer=True)
    assert all(bug.texts[f"{word}_zh"] in lesson for word in words)


def test_the_losses_and_adam_equal_pytorchs():
    """The two experiments whose right way is written out in course.py itself."""
    p = torch.linspace(-1, 1, 7).requires_grad_()
    adam = torch.optim.Adam([p], lr=0.01)
    for ours in course.steps().values():
        adam.zero_grad()
        (p**2).sum().backward()
        adam.step()
        torch.testing.assert_close(torch.from_numpy(ours), p.detach(), rtol=1e-5, atol=1e-7)
    words, follows = torch.eye(5)[:4], torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    mlm, nsp = course.pretraining_losses(words, torch.tensor([0, 3, -100, -100]), follows, torch.tensor([0, 1]))
    hit, miss = (torch.log(torch.tensor(4 + torch.e)) - score for score in (1, 0))  # of 5 words, one has the score 1
    torch.testing.assert_close(mlm, (hit + miss) / 2)
    torch.testing.assert_close(nsp, torch.log1p(torch.exp(torch.tensor(-2.0))))


def test_the_command_lists_and_shows(capsys):
    assert cli.main(["course"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(BUGS)
    assert cli.main(["course", "2", "--answer", "--chinese"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("掩码")
    assert re.findall(r"(\S+) .*← 从这里开始", out) == ["layers.0.attention.probs"]
    assert "mask[:, None, None, :]" in out
    assert "\n提示：softmax" in out
    assert cli.main(["course", "pre-ln", "hashes", "--json"]) == 0
    out = capsys.readouterr().out
    assert "Infinity" not in out  # which is no JSON
    assert [answer["first"] for answer in json.loads(out)["bugs"]] == ["layers.0.attention.query", "pieces"]


@pytest.mark.parametrize("name", ["0", "15", "nonsense", "²"])
def test_an_unknown_bug_is_one_line(name, capsys):
    assert cli.main(["course", name]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
