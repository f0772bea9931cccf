"""Processes that need not load PyTorch: forks of a server that has, with pipes and signals as a command has them.

A process that imports torch takes a second or two before it does anything. `start` forks one from multiprocessing's
forkserver instead. It is like a command that a shell starts: its output goes to pipes, Ctrl-C ends it (also where the
tests themselves run in the background of a shell, which makes all in it deaf to that), one thread computes. What has
to be seen of a real `python -m minibert` (arguments, locale, pipes that close) is still tested with one.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import TextIO

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pytest", "torch", "torch.distributed"])


class Process:
    """What of subprocess.Popen the tests use. stdout and stderr are read as UTF-8."""

    def __init__(self, process: multiprocessing.Process, stdout: TextIO, stderr: TextIO) -> None:
        self.process, self.stdout, self.stderr = process, stdout, stderr

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()

    def communicate(self, timeout: float) -> tuple[str, str]:
        """All that is still to come of stdout and stderr, after the end of the process.

        Raises TimeoutError, with what it has said, where it does not end in time.
        """
        said = ["", ""]

        def read(k: int, stream: TextIO) -> None:
            with stream:
                said[k] = stream.read()

        readers = [threading.Thread(target=read, args=pair) for pair in enumerate((self.stdout, self.stderr))]
        for reader in readers:
            reader.start()
        self.process.join(timeout)
        late = self.process.exitcode is None
        if late:
            self.process.kill()
        for reader in readers:
            reader.join()
        if late:
            raise TimeoutError(f"not done in {timeout} s\n{said[0]}{said[1]}")
        return said[0], said[1]


def start(
    run: Callable[..., int | None],
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    file_size: int | None = None,
) -> Process:
    """Runs a function of a module, whose answer is the exit status (None: 0).

    environment: changes to this one's. file_size: bytes that a file may grow to, as if the disk were full then.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when the server loads PyTorch
    pipes = [SERVER.Pipe(duplex=False) for _ in range(2)]
    ends = [end for _, end in pipes]
    described = {**os.environ, **(environment or {})}
    process = SERVER.Process(target=_run, args=(run, arguments, ends, described, file_size))
    process.start()
    for end in ends:
        end.close()
    return Process(process, *(_text(begin, "r") for begin, _ in pipes))


def minibert(*words: object, **how: object) -> Process:
    """The command `minibert …`."""
    return start(_command, [str(word) for word in words], **how)


def _command(words: list[str]) -> int:
    from minibert import cli

    return cli.main(words)


def _run(
    run: Callable[..., int | None],
    arguments: tuple[object, ...],
    ends: list[Connection],
    environment: Mapping[str, str],
    file_size: int | None,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for end, number in zip(ends, (1, 2), strict=True):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115 (for the process's life)
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    sys.exit(run(*arguments))


def _text(connection: Connection, mode: str) -> TextIO:
    """The pipe as a file of text; the connection gives its descriptor away."""
    descriptor = os.dup(connection.fileno())
    connection.close()
    return open(descriptor, mode, encoding="utf-8")
