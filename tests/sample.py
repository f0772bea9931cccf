"""What of the long lists a single run takes: all that a commit touched, and a quarter of the rest.

Which quarter is decided by the parent's hash, so nobody chooses it who writes the commit, and another commit has
another one. Used by tests/mutations.py and tests/conftest.py; tests/everything.py takes all.
"""

import ast
import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARE = 4


def chosen(name: str, seed: str) -> bool:
    """Whether `name` is in the quarter that `seed`, a commit's hash, decides."""
    return hashlib.sha256(f"{seed} {name}".encode()).digest()[0] % SHARE == 0


def git(*words: str) -> str:
    """What git prints. Raises ValueError where it has no answer, as in a folder that is no clone."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def commit_hash(revision: str) -> str:
    return git("rev-parse", "--verify", f"{revision}^{{commit}}").strip()


def changed_since(revision: str) -> set[str]:
    """Paths of the files that differ between this commit's state of the folder and `revision`."""
    return set(git("diff", "--name-only", revision).split("\n")) - {""}


def mutations_at(revision: str) -> set[str]:
    """Names of the mutations that `revision` listed in tests/mutants/."""
    names = set()
    for path in git("ls-tree", "--name-only", revision, "tests/mutants/").split():
        for node in ast.parse(git("show", f"{revision}:{path}")).body:
            if isinstance(node, ast.Assign) and node.targets[0].id == "MUTATIONS":
                names |= {row[0] for rows in ast.literal_eval(node.value).values() for row in rows}
    return names
