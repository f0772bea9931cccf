"""Runs commands side by side and lets none of them outlive whoever asked: started by benchmarks/gpu.py, not by hand.

    python guard.py SECONDS '[["program", "argument"], ["another"]]'

Exit status: that of the first command. The others have until it has ended, and SECONDS at least. All are of this
process's group. When standard input ends, as it does when the process at its other end is killed, the group is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time


def follow(stream: int) -> None:
    """Waits for the end of the stream, which is that of the process that asked."""
    while os.read(stream, 1024):
        pass
    os.killpg(0, signal.SIGKILL)  # this process too


def main() -> int:
    ends = time.monotonic() + float(sys.argv[1])
    threading.Thread(target=follow, args=(sys.stdin.fileno(),), daemon=True).start()
    first, *others = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for command in json.loads(sys.argv[2])]
    status = first.wait()
    while any(other.poll() is None for other in others) and time.monotonic() < ends:
        time.sleep(0.1)
    for other in others:
        other.kill()
    return status if status >= 0 else 128 - status  # as a shell tells a signal


if __name__ == "__main__":
    sys.exit(main())
