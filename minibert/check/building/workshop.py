"""A learner's directory: core/ with ten bodies to be written, what is known of it, a slip put in to be found.

DIR/core/…             the learner's; nothing here writes into it but `build` (what is missing) and `break`
DIR/README.md          the tasks, with hints and solutions to unfold
DIR/test_exercises.py  ten small examples for pytest
DIR/course.json        a record: what kind of directory it is, hints given, what the last check found
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from minibert import __version__
from minibert.check.building import functions
from minibert.check.building.examination import CORE, examine, imports
from minibert.check.building.exercises import Exercise, exercises, optimizing
from minibert.check.course import Bug, chosen
from minibert.check.options import CourseOptions
from minibert.core.files import atomic_write, read_object, write_json
from minibert.io.bundled import ASSETS
from minibert.text.encode_table import columns_of

EXERCISES = ASSETS / "exercises"
ADAM = Path(__file__).parents[1] / "adam.py"
RECORD = "course.json"
KINDS = ("build", "repair")
LATER = re.compile(r"layers\.[1-9]")  # their stages are those of layer 0 again
TRIALS = 12  # slips that are tried until one shows as another number
AROUND = 4  # stages before and behind the first that differs which are shown


@cache
def words() -> dict[str, dict[str, str]]:
    return json.loads((EXERCISES / "exercises.json").read_text(encoding="utf-8"))["words"]


def phrase(key: str, chinese: bool, *values: object) -> str:
    return words()[key]["zh" if chinese else "en"].format(*values)


@dataclass
class Workshop:
    """A directory and its record."""

    directory: Path
    record: dict[str, Any]

    @classmethod
    def open(cls, name: str) -> Workshop:
        """Raises ValueError where it is none, or files of core/ are missing."""
        directory = Path(name).resolve()
        if not (directory / RECORD).is_file() and is_course(directory):
            raise ValueError(f"{name}: {RECORD} is missing; put it back with minibert course build {shlex.quote(name)}")
        if not (directory / RECORD).is_file():
            raise ValueError(f"{name}: no course in it; begin one with minibert course build {shlex.quote(name)}")
        record = read_object(directory / RECORD)
        parts = [record.setdefault(part, {}) for part in ("hints", "checked")]
        if record.get("kind") not in KINDS or not all(isinstance(part, dict) for part in parts):
            raise ValueError(f"{directory / RECORD}: kind is {record.get('kind')!r}, or more is wrong; begin another")
        missing = [file.name for file in files() if not (directory / "core" / file.name).is_file()]
        if missing:
            raise ValueError(
                f"{name}: core/{missing[0]} is missing; put it back with minibert course build {shlex.quote(name)}"
            )
        return cls(directory, record)

    def save(self) -> None:
        write_json(self.directory / RECORD, self.record)

    def source(self, file: str) -> str:
        """Of a file of core/. Raises ValueError where it is not UTF-8."""
        path = self.directory / "core" / file
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def is_course(directory: Path) -> bool:
    """Also one whose record is lost."""
    return (directory / RECORD).is_file() or all((directory / name).exists() for name in ("core", "test_exercises.py"))


def files() -> list[Path]:
    return [path for path in sorted(CORE.iterdir()) if path.is_file() and path.suffix in (".py", ".txt")]


def known(adam: bool = False) -> tuple[Exercise, ...]:
    """The ten exercises; adam: and the optimizer's step, which is none of core's."""
    return (*exercises(), optimizing()) if adam else exercises()


# ---- building ----


def build(name: str, chinese: bool) -> str:
    """A new directory; of one that is there what is missing is put back.

    Raises ValueError where the directory holds something else.
    """
    directory = Path(name).resolve()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        if not is_course(directory):
            raise ValueError(f"{name} holds something else; give a directory that is new or empty")
        return restored(name, directory, chinese)
    put(directory, dict(contents(name, chinese)), begun_record("build"))
    return phrase("built", chinese, shlex.quote(name))


def begun_record(kind: str, **more: str) -> dict[str, object]:
    return {"kind": kind, "version": __version__, **more, "hints": {}, "checked": {}}


def put(directory: Path, texts: dict[str, bytes], record: dict[str, object]) -> None:
    """The record is the last file, so that a directory with one is whole."""
    for place, data in texts.items():
        (directory / place).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(directory / place, data)
    write_json(directory / RECORD, record)


def restored(name: str, directory: Path, chinese: bool) -> str:
    lost = not (directory / RECORD).exists()
    record = begun_record("build") if lost else read_object(directory / RECORD)
    mending = record.get("kind") == "repair"
    whole = repair_texts(chosen(str(record.get("bug")))) if mending else dict(contents(name, chinese))
    missing = {place: data for place, data in whole.items() if not (directory / place).exists()}
    for place, data in missing.items():
        (directory / place).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(directory / place, data)
    if lost:
        missing[RECORD] = b""
        write_json(directory / RECORD, record)
    return (
        phrase("restored", chinese, name, ", ".join(missing))
        if missing
        else phrase("complete", chinese, shlex.quote(name))
    )


def contents(name: str, chinese: bool) -> Iterator[tuple[str, bytes]]:
    """Every file of a new directory but the record."""
    taken = known()
    for file in files():
        data = file.read_bytes()
        for exercise in (one for one in taken if one.file == file.name):
            remark = f"exercise {exercise.number}, {exercise.words['title']}"
            data = functions.emptied(data.decode(), exercise.names, remark).encode()
        yield f"core/{file.name}", data
    yield "README.md", readme(name, chinese).encode()
    yield "test_exercises.py", (EXERCISES / "test_exercises.txt").read_bytes()


def readme(name: str, chinese: bool) -> str:
    parts = [phrase("readme", chinese, shlex.quote(name))]
    for one in known():
        parts.append(f"## {one.number}. {one.said('title', chinese)}")
        parts.append(f"`core/{one.file}`: {', '.join(f'`{name}`' for name in one.names)}. {one.said('task', chinese)}")
        for number, hint in enumerate(one.hints(chinese), 1):
            parts.append(f"<details><summary>{phrase('hint title', chinese, number)}</summary>\n\n{hint}\n\n</details>")
        title = phrase("solution title", chinese)
        parts.append(f"<details><summary>{title}</summary>\n\n```python\n{solution(one)}\n```\n\n</details>")
    return "\n\n".join(parts) + "\n"


def solution(exercise: Exercise) -> str:
    source = (CORE / exercise.file).read_text(encoding="utf-8")
    return "\n\n".join(functions.text_of(source, name) for name in exercise.names)


# ---- checking ----


def check(name: str) -> list[dict[str, Any]]:
    """A row an exercise: number, name, state, and what `examine` says of those that are written.

    state: passes | differs | not begun | raises | loops | forbidden | lacks | imports | silent.
    """
    workshop = Workshop.open(name)
    repair = workshop.record["kind"] == "repair"
    asked = known(adam=repair and (workshop.directory / "core" / ADAM.name).exists())
    foreign = imports(workshop.directory)
    rows = [{"number": one.number, "name": one.name, **begun(workshop, one, foreign)} for one in asked]
    numbers = [row["number"] for row in rows if row["state"] == "written"]
    found = examine(workshop.directory, numbers, whole=repair) if numbers else {}
    for row in rows:
        if row["number"] in found:
            row |= found[row["number"]]
            row["state"] = state_of(row)
    workshop.record["checked"] = {row["name"]: [row["state"], row["hash"]] for row in rows}
    workshop.save()
    return rows


def begun(workshop: Workshop, exercise: Exercise, foreign: dict[str, str]) -> dict[str, object]:
    """Whether a body is written, before it is run; hash: of its text. foreign: see `imports`."""
    source = workshop.source(exercise.file)
    if exercise.file in foreign:
        return {"state": "imports", "file": exercise.file, "module": foreign[exercise.file], "hash": ""}
    try:
        empty = [functions.is_empty(source, name) for name in exercise.names]
        silent = [name for name in exercise.names if functions.gives_nothing(source, name)]
    except SyntaxError:
        return {"state": "written", "hash": ""}  # the run will say where
    except ValueError as error:
        return {"state": "lacks", "file": exercise.file, "function": str(error), "hash": ""}
    text = "\n".join(functions.text_of(source, name) for name in exercise.names)
    if silent and not any(empty):
        return {"state": "silent", "file": exercise.file, "function": silent[0], "hash": ""}
    state = "not begun" if any(empty) else "written"
    return {"state": state, "hash": hashlib.sha256(text.encode()).hexdigest()[:16]}


def state_of(row: dict[str, Any]) -> str:
    for key, state in (("forbidden", "forbidden"), ("loops", "loops"), ("error", "raises"), ("first", "differs")):
        if row.get(key):
            return state
    return "passes"


def status(name: str) -> list[dict[str, Any]]:
    """As `check`, without running anything: what the last check has found, as far as the text is still the same."""
    workshop = Workshop.open(name)
    rows, foreign = [], imports(workshop.directory)
    for one in known():
        row = {"number": one.number, "name": one.name, **begun(workshop, one, foreign)}
        if row["state"] == "written":
            state, digest = workshop.record["checked"].get(one.name, ["", None])
            row["state"] = state if digest == row["hash"] and state == "passes" else "not checked"
        rows.append(row)
    return rows


def first_wrong(rows: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    return next((row for row in rows if row["state"] != "passes"), None)


# ---- showing ----


def told(row: dict[str, Any], chinese: bool, limit: float = 0) -> str:
    """What came of one exercise, in a line."""
    place = [f"core/{row['file']}", row["line"]] if row.get("file") and row.get("line") else []
    state = row["state"]
    if state == "raises":
        return phrase("raises", chinese, row["error"], *place) if place else row["error"]
    if state == "loops":
        return phrase("loops", chinese, limit, *place) if place else phrase("looped", chinese, limit)
    if state == "forbidden":
        return phrase("forbidden", chinese, row["forbidden"], *(place or ["?", "?"]))
    values = {"differs": [row.get("first")], "lacks": [f"core/{row.get('file')}", row.get("function")]}
    values["imports"] = [f"core/{row.get('file')}", row.get("module")]
    values["silent"] = [row.get("function"), f"core/{row.get('file')}"]
    return phrase(state, chinese, *values.get(state, ()))


def table(rows: Sequence[dict[str, Any]], chinese: bool) -> str:
    """A line an exercise."""
    lines = []
    for one, row in zip(known(), rows, strict=True):
        lines.append(f"{one.number:2}  {row['name']:11} {told(row, chinese, one.limit)}")
    return "\n".join(lines)


def details(row: dict[str, Any], chinese: bool) -> list[str]:
    """Of an exercise that does not pass: the ladder around the first stage that differs, or the line that failed."""
    lines: list[str] = []
    if row.get("code"):
        lines.append(f"    {row['code']}")
        if row.get("column"):
            lines.append(f"    {' ' * (row['column'] - 1)}^")
    if row["state"] == "differs":
        lines += ladder(row, chinese)
    if row.get("printed") and row["state"] != "passes":
        lines += ["", phrase("printed", chinese), *row["printed"].splitlines()[-10:]]
    return lines


def ladder(row: dict[str, Any], chinese: bool) -> list[str]:
    stages = row["stages"]
    place = next(i for i, stage in enumerate(stages) if stage["stage"] == row["first"])
    near = stages[max(0, place - AROUND) : place + AROUND + 1]
    width = max(len(stage["stage"]) for stage in near)
    head = phrase("stage", chinese)
    numbers = any(stage["distance"] is not None for stage in near)
    lines = [f"{head}{' ' * (width - columns_of(head))}  {phrase('ladder', chinese) if numbers else ''}".rstrip()]
    for stage in near:
        number = f"{stage['distance']:.1e}" if stage["distance"] is not None else ""
        mark = f"  {phrase('begins', chinese)}" if stage["stage"] == row["first"] else ""
        lines.append(f"{stage['stage']:{width}}  {number:>8}{mark}".rstrip())
    if numbers:
        return lines
    case, ours, right = row["example"]
    if case:
        lines.append(phrase("case", chinese, case))
    return [*lines, phrase("yours", chinese, repr(ours)), phrase("right", chinese, repr(right))]


def checked(name: str, chinese: bool, hint: bool, shown: bool) -> tuple[list[dict[str, Any]], str]:
    """`check`, and what is printed of it: all ten in a line each, more of the first that does not pass. hint: the next
    one; shown: a solution."""
    rows = check(name)
    workshop = Workshop.open(name)
    if workshop.record["kind"] == "repair":
        return rows, repaired(workshop, rows, chinese)
    lines = [table(rows, chinese)]
    row = first_wrong(row for row in rows if row["state"] != "not begun") or first_wrong(rows)
    slip = workshop.record.get("slip")
    if slip and any(one["name"] == slip["name"] and one["state"] == "passes" for one in rows):
        del workshop.record["slip"]
        workshop.save()
        lines += ["", phrase("mended", chinese)]
    if workshop.record.get("version") != __version__:
        lines += ["", phrase("version", chinese, workshop.record.get("version"), __version__)]
    if row is None:
        return rows, "\n".join([*lines, "", phrase("done", chinese, shlex.quote(name))])
    exercise = known()[row["number"] - 1]
    if told_more := details(row, chinese):
        lines += ["", *told_more]
    if hint:
        given = workshop.record["hints"].get(exercise.name, 0) % 3
        workshop.record["hints"][exercise.name] = given + 1
        workshop.save()
        lines.append(phrase("hint", chinese, given + 1, exercise.hints(chinese)[given]))
    if shown:
        lines += [phrase("solution", chinese, f"core/{exercise.file}"), solution(exercise)]
    if not hint and not shown:
        said = "next" if row["state"] == "not begun" else "mend"
        lines += ["", phrase(said, chinese, f"core/{exercise.file}", ", ".join(exercise.names), shlex.quote(name))]
    return rows, "\n".join(lines)


# ---- a slip in the learner's own code ----


def broken(name: str, chinese: bool, stage: str | None, undo: bool) -> str:
    """Puts a slip in, or judges an answer to where it shows first. Raises ValueError where nothing passes yet."""
    workshop = Workshop.open(name)
    if workshop.record["kind"] == "repair":
        raise ValueError(f"{name} has a bug to be mended already; break a directory of minibert course build")
    slip = workshop.record.get("slip")
    if undo:
        return undone(workshop, slip, name, chinese)
    if slip is None:
        if stage is not None:
            raise ValueError(f"no slip waits in {name}; put one in with minibert course break {shlex.quote(name)}")
        slip = workshop.record["slip"] = new_slip(workshop, name)
        workshop.save()  # first, as it holds the file as it was
        atomic_write(workshop.directory / "core" / slip["file"], slip["source"].encode())
    stages = [row["stage"] for row in slip["stages"] if row["stage"] == slip["first"] or not LATER.match(row["stage"])]
    if stage is None:
        off = [row["stage"] for row in slip["stages"] if row["off"]]
        last = next((one for one in reversed(off) if not one.startswith("dropout")), off[-1])
        lines = [
            phrase("broken", chinese, last, shlex.quote(name)),
            *(f"{i:3}  {one}" for i, one in enumerate(stages, 1)),
        ]
        return "\n".join([*lines, phrase("waits", chinese)])
    if stage.isdecimal() and 1 <= int(stage) <= len(stages):
        stage = stages[int(stage) - 1]
    if stage not in stages:
        raise ValueError(f"stage {stage!r} is none of them; give a number from 1 to {len(stages)}")
    if stage == slip["first"]:
        lines = ladder(slip, chinese)
        return "\n".join([*lines, "", phrase("yes", chinese, stage, f"core/{slip['file']}", shlex.quote(name))])
    off = next(row["off"] for row in slip["stages"] if row["stage"] == stage)
    return phrase("too late" if off else "too early", chinese, stage)


def new_slip(workshop: Workshop, name: str) -> dict[str, Any]:
    """One that is seen as another number at some stage, in a body that passes."""
    passing = [row for row in check(name) if row["state"] == "passes"]
    if not passing:
        raise ValueError(
            f"{name}: nothing passes yet, so nothing can be broken; see minibert course check {shlex.quote(name)}"
        )
    fresh = Workshop.open(name)
    workshop.record = fresh.record
    candidates = []
    for row in passing:
        exercise = known()[row["number"] - 1]
        source = workshop.source(exercise.file)
        for function in exercise.names:
            candidates.append([(exercise, slip) for slip in functions.slips(source, function)])
    tried = 0
    while candidates := [some for some in candidates if some]:
        some = random.choice(candidates)  # a function first, so that a long one has no more than its share
        exercise, slip = some.pop(random.randrange(len(some)))
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(workshop.directory / "core", Path(folder) / "core")
            (Path(folder) / "core" / exercise.file).write_text(slip.source, encoding="utf-8")
            answer = examine(Path(folder).resolve(), [exercise.number])[exercise.number]
        if answer.get("first"):
            before = workshop.source(exercise.file)
            return {**answer, "file": exercise.file, "line": slip.line, "source": slip.source, "before": before}
        if (tried := tried + 1) == TRIALS:
            break
    raise ValueError(f"{name}: {tried} slips were tried, and none shows; type the command again")


def undone(workshop: Workshop, slip: dict[str, Any] | None, name: str, chinese: bool) -> str:
    """The file as it was. Raises ValueError where there is no slip, or the file was changed since."""
    if slip is None:
        raise ValueError(f"no slip waits in {name}; put one in with minibert course break {shlex.quote(name)}")
    file = slip["file"]
    if workshop.source(file) != slip["source"]:
        raise ValueError(f"core/{file} was changed since the slip; mend its line {slip['line']} by hand, then check")
    atomic_write(workshop.directory / "core" / file, slip["before"].encode())
    del workshop.record["slip"]
    workshop.save()
    return phrase("undone", chinese, f"core/{file}")


# ---- a shipped bug in a whole core ----


def repair(bug: Bug, name: str, chinese: bool) -> str:
    """A new directory with core as it is, and one of the course's bugs in its source.

    Raises ValueError where the directory holds something.
    """
    directory = Path(name).resolve()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{name} holds something; give a directory that is new or empty")
    put(directory, repair_texts(bug), begun_record("repair", bug=bug.name))
    return phrase(
        "repair", chinese, shlex.quote(name), "core/", bug.text_of("title", chinese), bug.text_of("seen", chinese)
    )


def repair_texts(bug: Bug) -> dict[str, bytes]:
    """Every file of such a directory but the record."""
    texts = {f"core/{file.name}": file.read_bytes() for file in files()}
    edit = bug.repair
    place = f"core/{edit['file']}"
    source = texts[place].decode() if place in texts else ADAM.read_text(encoding="utf-8")
    assert source.count(edit["old"]) == 1, edit
    texts[place] = source.replace(edit["old"], edit["new"]).encode()
    return texts


def repaired(workshop: Workshop, rows: Sequence[dict[str, Any]], chinese: bool) -> str:
    bug, row = chosen(workshop.record["bug"]), first_wrong(rows)
    if row is None:
        return phrase("repaired", chinese, bug.text_of("cause", chinese))
    line = phrase("still", chinese, row["first"]) if row["state"] == "differs" else told(row, chinese)
    return "\n".join([line, *details(row, chinese), bug.text_of("hint", chinese)])


# ---- a class ----


def grades(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row a directory, in their order: how many pass, and of the first that does not what is wrong."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(grade, names)


def grade(name: str) -> dict[str, Any]:
    try:
        rows = check(name)
    except (ValueError, OSError) as error:
        return {"directory": name, "error": str(error)}
    row = first_wrong(rows)
    passed = [one["name"] for one in rows if one["state"] == "passes"]
    first = None if row is None else {"name": row["name"], "state": row["state"], "stage": row.get("first")}
    return {"directory": name, "passed": len(passed), "of": len(rows), "passes": passed, "first": first}


def graded(row: dict[str, Any], chinese: bool) -> str:
    if "error" in row:
        return f"{row['directory']}  {row['error']}"
    first = row["first"]
    why = "" if first is None else f"  {first['name']}: {first['stage'] or phrase(first['state'], chinese)}"
    return f"{row['directory']}  {phrase('grade', chinese, row['passed'], row['of'])}{why}"


# ---- the command line ----


def commanded(options: CourseOptions, chinese: bool) -> tuple[int, object, Iterable[str]]:
    """What `minibert course` does to directories: the exit status (1 where a body does not pass), the answer as JSON,
    and the lines to print in its place."""
    command, names = options.command, options.what[1:]
    if command == "grade":
        rows = list(grades(names)) if options.json else ()
        lacking = not all((Path(name) / RECORD).is_file() for name in names)
        return int(lacking), {"grades": rows}, (graded(row, chinese) for row in grades(names))
    if command == "status":
        rows = status(names[0])
        return 0, {"exercises": rows}, [table(rows, chinese)]
    if command == "check":
        rows, said = checked(names[0], chinese, options.hint, options.solution)
        return int(first_wrong(rows) is not None), {"exercises": rows}, [said]
    if command == "build":
        said = build(names[0], chinese)
    elif command == "break":
        said = broken(names[0], chinese, options.stage, options.undo)
    else:
        said = repair(chosen(options.what[0]), options.repair, chinese)
    return 0, {"said": said}, [said]
