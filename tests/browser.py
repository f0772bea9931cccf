"""A headless Chromium for tests, driven over its debugging pipe: JSON messages with a zero byte after each.

No library: three methods of the DevTools protocol are all that clicks, keys and pictures need.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Self

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
QUIET += " --disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe"
# Gives Chromium its ends of the pipe as files 3 and 4, where it expects them.
LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, place in zip(ends, (3, 4)):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
KEYS = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
KEYS |= {"End": 35, "Home": 36, " ": 32}


class Browser:
    """One page. `errors`: what its console said; `requests`: the addresses that it asked for."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 900) -> None:
        read, chromium_writes = os.pipe()
        chromium_reads, write = os.pipe()

        ends = (chromium_reads, chromium_writes)
        command = [
            sys.executable,
            "-c",
            LAUNCH,
            *map(str, ends),
            CHROMIUM,
            *QUIET.split(),
            f"--user-data-dir={profile}",
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, pass_fds=ends, **quiet)
        for end in ends:
            os.close(end)
        self.incoming, self.outgoing = os.fdopen(read, "rb"), os.fdopen(write, "wb", buffering=0)
        self.numbers, self.rest, self.session = count(1), b"", None
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")[
            "targetId"
        ]  # the first one may load Chromium's own
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.session = None
        self.send("Browser.close")
        self.process.wait(20)
        self.incoming.close()
        self.outgoing.close()

    def send(self, method: str, **parameters: object) -> dict:
        """Asks, and waits for the answer; what happens meanwhile is kept."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.outgoing.write(json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != number:
            self.note(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def receive(self) -> dict:
        while b"\0" not in self.rest:
            part = os.read(self.incoming.fileno(), 1 << 20)
            assert part, "Chromium has gone"
            self.rest += part
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def note(self, event: dict) -> None:
        method, said = event["method"], event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded":
            self.errors.append(said["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.errors.append(str([argument.get("value") for argument in said["args"]]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])

    # ---- what a reader does ----

    def open(self, page: Path) -> None:
        """Opens a file and waits until it has drawn itself."""
        self.send("Page.navigate", url=page.as_uri())
        self.wait("document.documentElement?.dataset.ready === 'yes'")

    def wait(self, condition: str) -> None:
        end = time.monotonic() + 20
        while not self.run(condition):
            assert time.monotonic() < end, f"still not {condition}"
            time.sleep(0.01)

    def run(self, script: str) -> object:
        """The value of a JavaScript expression, a promise's too."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def resize(self, width: int, height: int) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def prefer(self, dark: bool) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def press(self, key: str) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])
            if kind == "rawKeyDown" and key == "Enter":  # without the character no button is pressed
                self.send("Input.dispatchKeyEvent", type="char", key=key, text="\r")

    def place(self, selector: str) -> tuple[float, float]:
        """The middle of an element, brought into view."""
        find = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{find}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y, wide, high = self.run(
            f"(({{x, y, width, height}}) => [x, y, width, height])({find}.getBoundingClientRect())"
        )
        return x + wide / 2, y + high / 2

    def hover(self, selector: str) -> None:
        x, y = self.place(selector)
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        x, y = self.place(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, file: Path, whole: bool = True) -> None:
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(answer["data"]))
