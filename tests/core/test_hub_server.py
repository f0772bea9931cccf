"""Proves that a model comes from the hub as its library is told: from a mirror, by revision, and without a network from
the cache. The hub is a small server of this machine. Run: pytest tests/core/test_hub_server.py
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import minibert
from minibert.io.bundled import BUNDLED, resolve

FILES = ("config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors")
COMMITS = {"main": "1" * 40, "older": "2" * 40}
NAME = "tester/small"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download asks: what a revision holds, and its files."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = self.path.partition("?")[0]
        about, _, revision = path.removeprefix(f"/api/models/{NAME}").partition("/revision/")
        commit = COMMITS.get(revision or "main", revision)
        if path.startswith(f"/api/models/{NAME}") and not about and commit in COMMITS.values():
            files = [{"rfilename": name} for name in FILES]
            self.answer(json.dumps({"id": NAME, "modelId": NAME, "sha": commit, "siblings": files}).encode())
        elif path.startswith(f"/api/models/{NAME}/tree/"):
            parts = [{"type": "file", "path": name, "oid": "0", "size": len(content(name, "main"))} for name in FILES]
            self.answer(json.dumps(parts).encode())
        elif path.startswith(f"/{NAME}/resolve/"):
            revision, _, name = path.removeprefix(f"/{NAME}/resolve/").partition("/")
            commit = COMMITS.get(revision, revision)
            data = content(name, next(branch for branch, known in COMMITS.items() if known == commit))
            etag = hashlib.sha1(data).hexdigest()
            self.answer(data, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})
        else:
            self.answer(b"{}", {"X-Error-Code": "RevisionNotFound"}, 404)

    def answer(self, data: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *said: object) -> None:
        pass


def content(name: str, branch: str) -> bytes:
    """The bundled model; on the older branch its vocabulary has another case."""
    data = (resolve(BUNDLED) / name).read_bytes()
    return data.replace(b"true", b"false") if branch == "older" and name == "tokenizer_config.json" else data


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def encoded(cache: Path, model: str, endpoint: str, **env: str) -> subprocess.CompletedProcess:
    """`minibert encode`, in a process that has this cache and this hub."""
    env = os.environ | {"HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"} | env
    env["PYTHONPATH"] = str(Path(minibert.__file__).parents[1])
    typed = [sys.executable, "-m", "minibert", "encode", "Room", "--model", model, "--json"]
    return subprocess.run(typed, env=env, capture_output=True, text=True, encoding="utf-8", timeout=60)


def test_a_mirror_gives_any_revision_and_the_cache_answers_without_a_network(hub, tmp_path):
    mirror = f"http://127.0.0.1:{hub.server_port}"
    done = encoded(tmp_path, NAME, mirror)
    assert done.returncode == 0, done.stderr
    assert any(path.startswith(f"/{NAME}/resolve/") for path in hub.asked)

    older = encoded(tmp_path, f"{NAME}@older", mirror)
    assert older.returncode == 0, older.stderr
    assert json.loads(older.stdout) != json.loads(done.stdout)  # the case counts there
    assert encoded(tmp_path, f"{NAME}@{COMMITS['older']}", mirror).stdout == older.stdout

    asked = len(hub.asked)
    alone = encoded(tmp_path, f"{NAME}@older", mirror, HF_HUB_OFFLINE="1")
    assert alone.stdout == older.stdout
    assert len(hub.asked) == asked


def test_a_revision_that_is_not_there_is_one_line_with_a_remedy(hub, tmp_path):
    done = encoded(tmp_path, f"{NAME}@never", f"http://127.0.0.1:{hub.server_port}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{NAME}@never" in line
    assert "HF_ENDPOINT" in line
