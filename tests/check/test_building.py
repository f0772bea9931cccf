"""Proves that a BERT of one's own is judged rightly: a solved copy passes, every unsolved or wrong body is found at its
stage, and what is no course, or does not end, is said in a line. Run: pytest tests/check/test_building.py
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from minibert import cli
from minibert.check.building import functions, workshop
from minibert.check.building.examination import CORE, answer_of, examine
from minibert.check.building.exercises import exercises, optimizing
from minibert.check.course import BUGS, Bug

EVERY = exercises()
by_name = {one.name: one for one in EVERY}

WRONG = [  # exercise, what stands there, what is written instead, the first stage that differs
    (
        "clean",
        'if char in WHITESPACE:\n            yield " ", source\n        elif not is_removed(char):',
        "if not is_removed(char):",
        "clean: characters",
    ),
    ("clean", 'yield " ", source', 'yield " ", 0', "clean: sources"),
    ("wordpiece", "range(len(word), start, -1)", "range(start + 1, len(word) + 1)", "wordpiece: pieces"),
    (
        "wordpiece",
        "return [Piece(unknown, 0, len(word))]\n    return pieces",
        "pieces.append(Piece(unknown, start, len(word)))\n            break\n    return pieces",
        "wordpiece: pieces",
    ),
    ("pairs", "Place(token_id, 1, False, span)", "Place(token_id, 0, False, span)", "token_type_ids"),
    ("pairs", "row.append(Place(sep_id, 1, True))", "pass", "length"),
    ("pairs", "[1] * len(row) + [0] * many", "[1] * (len(row) + many)", "attention_mask"),
    ("clean", "if char in WHITESPACE:", "if char.isspace():", "clean: characters"),
    ("masking", "hidden & (action < AS_MASK)", "hidden & (action < 0.7)", "shown"),
    ("attention", "if scale is None else scale", "if True else scale", "scores, scale 0.3"),
    ("attention", "dim=-1).masked_fill(hidden, 0.0)", "dim=-1)", "probabilities, a row without tokens"),
    ("heads", "asking = batch.asking(x, last)", "asking = x", "batch.asking"),
    ("loop", "losses.append(loss.item())", "losses.append(loss.detach())", "losses returned"),
    ("loop", "if not math.isfinite(losses[-1])", "if False", "a loss that is no number"),
    ("embeddings", "self.dropout(self.norm(x))", "self.dropout(x)", "embeddings.norm"),
    ("embeddings", "self.position(positions)", "self.position(positions + 1)", "embeddings.position"),
    ("embeddings", "self.segment(token_type_ids)", "self.segment(1 - token_type_ids)", "embeddings.segment"),
    ("embeddings", "return self.dropout(self.norm(x))", "return self.norm(x)", "dropout, embeddings"),
    ("attention", "@ k.transpose(-2, -1) * scale", "@ k.transpose(-2, -1)", "layers.0.attention.scores"),
    ("attention", "~batch.keys[:, None, None, :]", "~batch.keys[:, None, :, None]", "layers.0.attention.probs"),
    ("attention", "dim=-1).masked_fill(hidden, 0.0)", "dim=-2).masked_fill(hidden, 0.0)", "layers.0.attention.probs"),
    (
        "heads",
        "x.unflatten(-1, (self.heads, self.head_size))",
        "x.unflatten(-1, (self.head_size, self.heads)).transpose(-1, -2)",
        "layers.0.attention.scores",
    ),
    (
        "heads",
        "self.split_heads(self.key(x)), self.split_heads(self.value(x))",
        "self.split_heads(self.key(x)), self.split_heads(self.key(x))",
        "layers.0.attention.context",
    ),
    (
        "block",
        "return self.norm(x + self.dropout(answer))",
        "return x + self.norm(self.dropout(answer))",
        "layers.0.attention.sum",
    ),
    (
        "block",
        "inner = activation(self.act, self.inner(x))",
        "inner = activation(self.act, self.inner(self.norm(x)))",
        "layers.0.ffn.inner",
    ),
    ("block", "self.dropout(self.output(inner))", "self.output(inner)", "dropout, layers.0.ffn"),
    ("classifier", "torch.tanh(self.dense(first))", "self.dense(first)", "pooler"),
    (
        "classifier",
        "self.classifier(self.dropout(pooled))",
        "self.classifier(self.dropout(pooled)).softmax(-1)",
        "classifier",
    ),
    ("masking", "HIDDEN * (~special).sum(dim=1, keepdim=True) - rank > border", "order < HIDDEN", "hidden"),
    ("masking", "order.masked_fill(special, 1.0)", "order", "hidden"),
    ("masking", "torch.where(hidden, input_ids, IGNORED)", "torch.where(hidden, input_ids, 0)", "special tokens"),
    ("masking", "AS_MASK + AS_RANDOM", "AS_MASK", "shown"),
    ("loop", "            optimizer.zero_grad()\n", "", "step 2: gradient"),
    ("loop", "            nn.utils.clip_grad_norm_(model.parameters(), CLIP)\n", "", "step 1: gradient"),
    ("loop", "        model.train()\n", "", "batches"),
    (
        "loop",
        "learning_rate(len(losses), total, lr, WARMUP)",
        "learning_rate(len(losses), total, lr, 0)",
        "step 1: learning rate",
    ),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A course in which all bodies are core's."""
    out = tmp_path_factory.mktemp("course") / "own"
    cli.main(["course", "build", str(out)])
    for file in CORE.glob("*.py"):
        shutil.copy(file, out / "core")
    return out


@pytest.fixture
def solved(template, tmp_path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(template, tmp_path / "own"))


def judged_here(directory: Path, name: str) -> dict:
    """As `course check`, in this process."""
    return answer_of(by_name[name], [one for one in EVERY if one.name != name], directory)


def edit(directory: Path, file: str, old: str, new: str) -> None:
    path = directory / "core" / file
    source = path.read_text(encoding="utf-8")
    assert source.count(old) >= 1, old
    path.write_text(source.replace(old, new, 1), encoding="utf-8")


# ---- what is asked ----


@pytest.mark.parametrize("name", by_name)
def test_a_solved_body_passes(solved, name):
    answer = judged_here(solved, name)
    assert answer["first"] is None, answer
    assert len(answer["stages"]) >= 3


@pytest.mark.parametrize(("name", "old", "new", "stage"), WRONG, ids=[f"{row[0]}-{i}" for i, row in enumerate(WRONG)])
def test_a_plausible_wrong_body_is_named_at_its_stage(solved, name, old, new, stage):
    edit(solved, by_name[name].file, old, new)
    assert judged_here(solved, name)["first"] == stage


@pytest.mark.parametrize("name", by_name)
def test_an_unsolved_body_fails_its_own_check_and_no_other(solved, name):
    one = by_name[name]
    path = solved / "core" / one.file
    path.write_text(functions.emptied(path.read_text(encoding="utf-8"), one.names, "to be written"), encoding="utf-8")
    assert judged_here(solved, name)["error"].startswith("NotImplementedError")
    same = [other.name for other in EVERY if other is not one and other.file == one.file]
    other = [*same, "masking" if name != "masking" else "clean"][0]
    assert judged_here(solved, other)["first"] is None


def test_a_shape_that_is_wrong_is_a_difference_and_no_exception(solved):
    edit(solved, "masking.py", "replaced, random_ids, shown), labels", "replaced, random_ids, shown), labels[:1]")
    assert judged_here(solved, "masking")["first"] == "shapes"


def test_a_fused_function_of_torch_is_refused_and_its_line_is_named(solved):
    edit(solved, "attention.py", "    return q @ k", "    F.scaled_dot_product_attention(q, k, k)\n    return q @ k")
    answer = judged_here(solved, "attention")
    assert answer["forbidden"] == "scaled_dot_product_attention"
    assert "scaled_dot_product_attention" in answer["code"]


def test_what_a_body_prints_is_kept_apart(solved):
    edit(solved, "masking.py", "    labels =", '    print("here")\n    labels =')
    assert judged_here(solved, "masking")["printed"].startswith("here\n")


PLAUSIBLE = [  # what is right too, written otherwise
    ("clean", "if char in WHITESPACE:", "if char in set(WHITESPACE):"),
    ("heads", "self.query(asking)", "F.linear(asking, self.query.weight, self.query.bias)"),
    ("attention", "torch.softmax(scores, dim=-1).masked", "scores.softmax(-1).masked"),
    ("loop", "lr=lr, fused=True)", "lr=lr)"),
    ("loop", "lr=lr, fused=True)", "lr=lr, foreach=False)"),
    ("masking", "hidden = ~special & (", "hidden = ("),
]


@pytest.mark.parametrize(("name", "old", "new"), PLAUSIBLE, ids=[f"{row[0]}-{i}" for i, row in enumerate(PLAUSIBLE)])
def test_a_right_body_that_is_written_otherwise_passes(solved, name, old, new):
    edit(solved, by_name[name].file, old, new)
    answer = judged_here(solved, name)
    assert answer.get("first", answer) is None


def test_where_a_stand_in_fails_no_line_of_the_learner_is_blamed(solved):
    edit(solved, "model.py", "return self.dropout(self.norm(x))", "return self.dropout(self.norm(x))[:, :1]")
    assert judged_here(solved, "embeddings").get("line", 0) < 10**6


def test_a_body_without_return_is_said_to_give_nothing(solved):
    edit(solved, "model.py", "        return torch.tanh(self.dense(first))", "        torch.tanh(self.dense(first))")
    rows = workshop.status(str(solved))
    assert "Pooler.forward gives nothing; is a return missing?" in workshop.table(rows, chinese=False)


def test_of_what_does_not_pass_the_first_that_is_written_is_explained(solved, capsys):
    edit(solved, "masking.py", "    return torch.where(replaced", "    torch.where(replaced")
    empty_all_but(solved, "masking")
    assert cli.main(["course", "check", str(solved)]) == 1
    assert "mend hide_tokens in core/masking.py" in capsys.readouterr().out


def test_a_syntax_error_outside_of_the_exercises_passes_nothing(solved):
    edit(solved, "config.py", "import", "import import")
    assert judged_here(solved, "embeddings")["file"] == "config.py"


# ---- the commands ----


def test_a_new_directory_has_ten_bodies_to_write_and_nothing_else_missing(tmp_path, capsys):
    out = tmp_path / "own"
    assert cli.main(["course", "build", str(out)]) == 0
    for one in EVERY:
        source = (out / "core" / one.file).read_text(encoding="utf-8")
        assert all(functions.is_empty(source, name) for name in one.names)
    assert {path.name for path in CORE.iterdir() if path.is_file()} == {path.name for path in (out / "core").iterdir()}
    assert cli.main(["course", "status", str(out)]) == 0
    assert capsys.readouterr().out.count("not begun") == 10
    assert cli.main(["course", "check", str(out), "--hint"]) == 1  # nothing is run, as nothing is written
    assert "hint 1 of 3" in capsys.readouterr().out


def test_the_page_of_a_directory_has_a_task_three_hints_and_a_solution_each(tmp_path):
    for words, title in ((["--chinese"], "提示 3"), ([], "Hint 3")):
        out = tmp_path / title[:2]
        cli.main(["course", "build", str(out), *words])
        page = (out / "README.md").read_text(encoding="utf-8")
        assert page.count(f"<summary>{title}") == page.count("```python") == 10


def test_a_hint_follows_the_last_one(tmp_path, capsys):
    out = str(tmp_path / "own")
    cli.main(["course", "build", out])
    for number in (1, 2, 3, 1):
        capsys.readouterr()
        cli.main(["course", "check", out, "--hint"])
        assert f"hint {number} of 3" in capsys.readouterr().out


@pytest.mark.slow
def test_a_solved_copy_passes_all_twice(solved, capsys):
    for _ in range(2):
        assert cli.main(["course", "check", str(solved)]) == 0
        assert capsys.readouterr().out.count("passes\n") == 10
    assert cli.main(["course", "status", str(solved)]) == 0
    assert capsys.readouterr().out.count("passes\n") == 10
    edit(solved, "masking.py", "HIDDEN, AS", "HIDDEN,  AS")  # no body
    edit(solved, "masking.py", "    labels = ", "    x = 0\n    labels = ")
    cli.main(["course", "status", str(solved)])
    out = capsys.readouterr().out
    assert out.count("passes\n") == 9
    assert "written, not checked" in out


@pytest.mark.slow
def test_a_body_that_loops_is_stopped_and_its_line_is_named(solved):
    edit(solved, "wordpiece.py", "                start = end\n", "")
    answers = examine(solved, [2, 9])
    assert answers[2].get("loops") or "MemoryError" in answers[2]["error"]
    assert answers[2]["file"] == "wordpiece.py"
    assert answers[9]["first"] is None


@pytest.mark.slow
def test_a_syntax_error_is_shown_as_such_and_spoils_no_other_file(solved, capsys):
    edit(solved, "masking.py", "    labels = ", "    labels = = ")
    assert cli.main(["course", "check", str(solved)]) == 1
    out = capsys.readouterr().out
    assert "SyntaxError" in out
    lines = (solved / "core" / "masking.py").read_text(encoding="utf-8").splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "= =" in text)
    assert f"core/masking.py, line {line}" in out
    assert out.count("passes\n") == 9
    assert "labels = = torch.where" in out


@pytest.mark.slow
def test_a_slip_is_put_in_asked_for_found_and_taken_back(solved, capsys):
    before = {path.name: path.read_bytes() for path in (solved / "core").iterdir()}
    assert cli.main(["course", "break", str(solved)]) == 0
    record = json.loads((solved / "course.json").read_text(encoding="utf-8"))["slip"]
    asked = capsys.readouterr().out
    assert record["first"] in asked
    assert "first that differs" in asked
    changed = [path.name for path in (solved / "core").iterdir() if path.read_bytes() != before[path.name]]
    assert changed == [record["file"]]
    assert cli.main(["course", "break", str(solved), "--stage", record["first"]]) == 0
    assert f"begins at {record['first']}" in capsys.readouterr().out
    assert cli.main(["course", "check", str(solved)]) == 1
    assert cli.main(["course", "break", str(solved), "--undo"]) == 0
    assert {path.name: path.read_bytes() for path in (solved / "core").iterdir()} == before


@pytest.mark.slow
def test_a_slip_that_is_mended_is_forgotten_though_other_bodies_are_not_written(solved, capsys):
    empty_all_but(solved, "masking")
    assert cli.main(["course", "break", str(solved)]) == 0
    slip = json.loads((solved / "course.json").read_text(encoding="utf-8"))["slip"]
    assert slip["name"] == "masking"
    (solved / "core" / "masking.py").write_text(slip["before"], encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["course", "check", str(solved)]) == 1
    assert "The slip is mended." in capsys.readouterr().out
    assert "no slip waits" in refused(capsys, "break", str(solved), "--undo")


def empty_all_but(directory: Path, name: str) -> None:
    for one in EVERY:
        path = directory / "core" / one.file
        if one.name != name:
            source = functions.emptied(path.read_text(encoding="utf-8"), one.names, "to be written")
            path.write_text(source, encoding="utf-8")


def test_a_directory_of_another_release_says_so(solved, capsys):
    path = solved / "course.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "version": "0.1.0"}), encoding="utf-8")
    empty_all_but(solved, "")
    cli.main(["course", "check", str(solved)])
    assert "begun with minibert 0.1.0, checked by" in capsys.readouterr().out


def test_an_answer_that_is_wrong_says_on_which_side_the_slip_is(solved, capsys):
    stages = [{"stage": name, "off": name != "one", "distance": 0.1} for name in ("one", "two", "three")]
    slip = {
        "first": "two",
        "stages": stages,
        "file": "model.py",
        "line": 1,
        "source": "",
        "before": "",
        "example": None,
    }
    path = solved / "course.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "slip": slip}), encoding="utf-8")
    for answer, said in (("1", "still agrees"), ("three", "an earlier stage"), ("2", "it begins at two")):
        assert cli.main(["course", "break", str(solved), "--stage", answer]) == 0
        assert said in capsys.readouterr().out
    assert cli.main(["course", "break", str(solved), "--undo"]) == 2
    assert "changed since" in capsys.readouterr().err


# ---- the shipped bugs, to be mended ----


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_shipped_bug_in_the_source_is_found_and_its_cure_too(bug, tmp_path, capsys):
    out = tmp_path / "own"
    assert cli.main(["course", bug.name, "--repair", str(out)]) == 0
    file = bug.repair["file"]
    asked = {"adam.py": optimizing(), "masking.py": by_name["masking"], "wordpiece.py": by_name["wordpiece"]}
    one = asked.get(file, by_name["classifier"])  # for all others the forward pass

    assert answer_of(one, (), out)["first"]
    mend(out, bug)
    assert answer_of(one, (), out)["first"] is None


def mend(directory: Path, bug: Bug) -> None:
    path = directory / "core" / bug.repair["file"]
    before, _, behind = path.read_text(encoding="utf-8").rpartition(bug.repair["new"])
    path.write_text(f"{before}{bug.repair['old']}{behind}", encoding="utf-8")


def test_a_file_that_was_removed_from_a_directory_to_be_mended_comes_back_whole_with_its_bug(tmp_path, capsys):
    out = tmp_path / "own"
    cli.main(["course", "no-root-d", "--repair", str(out)])
    before = {path.name: path.read_bytes() for path in (out / "core").iterdir()}
    for name in ("attention.py", "model.py"):
        (out / "core" / name).unlink()
    assert cli.main(["course", "build", str(out)]) == 0
    assert {path.name: path.read_bytes() for path in (out / "core").iterdir()} == before
    assert sorted(path.name for path in out.iterdir()) == ["core", "course.json"]
    assert "already" in refused(capsys, "break", str(out))


@pytest.mark.slow
def test_a_repaired_directory_is_said_to_be_mended(tmp_path, capsys):
    out = tmp_path / "own"
    cli.main(["course", "no-root-d", "--repair", str(out), "--chinese"])
    assert cli.main(["course", "check", str(out)]) == 1
    assert "layers.0.attention.scores" in capsys.readouterr().out
    bug = next(bug for bug in BUGS if bug.name == "no-root-d")
    mend(out, bug)
    assert cli.main(["course", "check", str(out)]) == 0
    assert "mended" in capsys.readouterr().out


# ---- a class ----


def test_a_class_is_graded_though_some_have_begun_nothing_and_some_are_no_course(tmp_path, capsys):
    names = [str(tmp_path / name) for name in ("a", "b", "nothing")]
    for name in names[:2]:
        cli.main(["course", "build", name])
    capsys.readouterr()
    assert cli.main(["course", "grade", *names, "--json"]) == 1  # as one is none
    rows = json.loads(capsys.readouterr().out)["grades"]
    assert [row.get("passed") for row in rows] == [0, 0, None]
    assert "minibert course build" in rows[2]["error"]


# ---- what cannot be done ----


def refused(capsys, *words: str) -> str:
    assert cli.main(["course", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert "new or empty" in refused(capsys, "build", str(tmp_path))
    assert "new or empty" in refused(capsys, "3", "--repair", str(tmp_path))
    assert "course build" in refused(capsys, "check", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_that_was_removed_is_named_and_put_back(solved, capsys):
    mine = (solved / "core" / "model.py").read_bytes()
    (solved / "core" / "hub.py").unlink()
    line = refused(capsys, "check", str(solved))
    assert line.endswith(f"core/hub.py is missing; put it back with minibert course build {solved}")
    capsys.readouterr()
    assert cli.main(["course", "build", str(solved)]) == 0
    assert capsys.readouterr().out.strip() == f"{solved}: put back core/hub.py"
    assert (solved / "core" / "model.py").read_bytes() == mine


def test_a_record_that_was_removed_is_put_back(solved, capsys):
    (solved / "course.json").unlink()
    assert "course.json is missing; put it back with minibert course build" in refused(capsys, "status", str(solved))
    assert cli.main(["course", "build", str(solved)]) == 0
    assert cli.main(["course", "status", str(solved)]) == 0


def test_a_directory_with_a_space_is_quoted_where_it_is_to_be_typed(tmp_path, capsys):
    out = tmp_path / "my 伯特"
    cli.main(["course", "build", str(out)])
    assert f"minibert course check '{out}'" in capsys.readouterr().out
    assert f"`minibert course check '{out}'`" in (out / "README.md").read_text(encoding="utf-8")


def test_a_function_that_was_removed_is_named(solved):
    edit(solved, "masking.py", "def hide_tokens(", "def hide(")
    rows = workshop.status(str(solved))
    assert rows[8]["state"] == "lacks"
    assert "core/masking.py has no hide_tokens" in workshop.table(rows, chinese=False)


def test_a_file_that_imports_minibert_does_not_pass(solved):
    edit(solved, "masking.py", "import torch\n", "import torch\nimport minibert.core.masking\n")
    assert workshop.status(str(solved))[8]["state"] == "imports"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check",), "takes one directory, not 0"),
        (("check", "a", "b"), "takes one directory, not 2"),
        (("grade",), "takes directories"),
        (("3", "--hint"), "--hint belongs to"),
        (("check", "a", "--answer"), "--answer belongs to"),
        (("--repair", "a"), "takes one bug, not 0"),
        (("break", "nowhere", "--stage", "1"), "no course in it"),
    ],
)
def test_a_command_that_makes_no_sense_is_one_line(words, said, capsys):
    assert said in refused(capsys, *words)


def test_an_answer_before_there_is_a_slip_is_one_line(solved, capsys):
    assert "no slip waits" in refused(capsys, "break", str(solved), "--stage", "1")
    assert "no slip waits" in refused(capsys, "break", str(solved), "--undo")


def test_a_record_that_is_no_course_is_one_line(solved, capsys):
    (solved / "course.json").write_text('{"kind": "thesis"}')
    assert "begin another" in refused(capsys, "check", str(solved))
    for part in ("hints", "checked"):
        (solved / "course.json").write_text(json.dumps({"kind": "build", part: 1}))
        assert "begin another" in refused(capsys, "status", str(solved))
    (solved / "course.json").write_text('{"kind": "build"}')
    assert cli.main(["course", "status", str(solved)]) == 0
    capsys.readouterr()
    (solved / "course.json").write_text("{")
    assert "course.json" in refused(capsys, "status", str(solved))


# ---- functions in a source ----

SOURCE = '''class A:
    def f(self, x, y):
        """What it does."""
        z = x * 2 + self.g(x, y)  # a remark
        return z[:, None] if x > y else z


def g():
    return 1
'''


def test_a_body_is_taken_out_and_its_docstring_stays():
    found = functions.emptied(SOURCE, ["A.f"], "exercise 1")
    assert '"""What it does."""\n        # exercise 1\n        raise NotImplementedError\n\n\ndef g' in found
    assert functions.is_empty(found, "A.f")
    assert not functions.is_empty(found, "g")
    assert not functions.is_empty(SOURCE, "A.f")


def test_slips_change_one_place_each_and_stay_python():
    found = list(functions.slips(SOURCE, "A.f"))
    assert len({slip.source for slip in found}) == len(found) >= 8
    for slip in found:
        lines = zip(SOURCE.splitlines(), slip.source.splitlines(), strict=True)
        assert [number for number, (old, new) in enumerate(lines, 1) if old != new] == [slip.line]
        compile(slip.source, "slip", "exec")
    assert any("z = x + self.g(x, y)  # a remark" in slip.source for slip in found)
    assert any("self.g(y, x)" in slip.source for slip in found)


# ---- what docs/course.md says ----


def test_the_ladder_of_the_docs_is_what_the_check_prints(solved):
    edit(solved, "attention.py", "@ k.transpose(-2, -1) * scale", "@ k.transpose(-2, -1)")
    row = {**judged_here(solved, "attention"), "state": "differs"}
    page = (Path(__file__).parents[2] / "docs" / "course.md").read_text(encoding="utf-8")
    shown = [line for line in page.splitlines() if line.startswith(("stage  ", "layers.0.attention.s"))]
    assert len(shown) == 2
    assert set(shown) <= set(workshop.ladder(row, chinese=False))


def test_the_table_of_the_docs_names_every_function_to_be_written():
    page = (Path(__file__).parents[2] / "docs" / "course.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [row[1].strip("`") for row in rows] == [one.file for one in EVERY]
    for row, one in zip(rows, EVERY, strict=True):
        assert all(f"`{name}`" in row[2] for name in one.names)
