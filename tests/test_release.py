"""Proves that what is published is whole: contents and size of sdist and wheel, and that the wheel alone passes tests.
Building takes setuptools from the network.

Run: pytest -m slow tests/test_release.py
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from pages import ROOT

pytestmark = pytest.mark.slow

LARGEST = 15_000_000  # bytes of the wheel
NAME = "minibert_torch-"


def python(*typed: str, cwd: Path, **env: str) -> str:
    """What Python prints, run there and without the checkout on its path."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | env
    done = subprocess.run([sys.executable, *typed], cwd=cwd, env=env, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files of the repository."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout, so nobody says which files belong to it")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tracked, tmp_path_factory) -> dict[str, Path]:
    """sdist, and the wheel that is made of it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    python("-m", "build", "--outdir", str(out), cwd=source)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """The wheel's files in a folder of their own; what it depends on is this environment's."""
    folder = tmp_path_factory.mktemp("installed")
    python("-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), str(built["wheel"]), cwd=folder)
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built, tracked):
    names = zipfile.ZipFile(built["wheel"]).namelist()
    package = {name for name in names if not name.startswith(NAME)}
    assert package == {name for name in tracked if name.startswith("minibert/")}
    assert {name.split("/", 1)[1] for name in names if name not in package} >= {"METADATA", "licenses/LICENSE"}


def test_the_wheel_is_small(built):
    assert built["wheel"].stat().st_size <= LARGEST


def test_the_sdist_holds_what_the_wheel_is_made_of(built, tracked):
    with tarfile.open(built["sdist"]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert names >= {name for name in tracked if name.startswith("minibert/")}
    assert names >= {"LICENSE", "README.md", "pyproject.toml"}


def test_the_wheel_alone_answers(installed, tmp_path):
    said = python("-m", "minibert", "fill-mask", "白日依山[MASK]。", cwd=tmp_path, PYTHONPATH=str(installed))
    assert said.splitlines()[0] == "白日依山[MASK]。"


def test_the_index_of_packages_can_show_the_descriptions(built):
    said = python("-m", "twine", "check", "--strict", *map(str, built.values()), cwd=ROOT)
    assert said.count("PASSED") == 2


def test_the_wheel_alone_passes_the_quick_suite(installed, tracked, tmp_path):
    """The tests read and import the wheel's files, as no others are there."""
    for name in tracked:
        if not name.startswith("minibert/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "minibert").symlink_to(installed / "minibert")
    where = "import minibert; print(minibert.__file__)"
    found = Path(python("-P", "-c", where, cwd=tmp_path, PYTHONPATH=str(installed)).strip())
    assert found.is_relative_to(installed)
    said = python("-m", "pytest", "-n", "2", "-rN", "-p", "no:cacheprovider", cwd=tmp_path, PYTHONPATH=str(installed))
    assert said.count("%]") > 50
