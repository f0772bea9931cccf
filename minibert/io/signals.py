"""Ctrl-C, SIGTERM and a closed terminal's SIGHUP, which may come at any moment."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType

from minibert.io.stderr import say

SIGHUP = getattr(signal, "SIGHUP", None)  # Windows has none


class Interrupt:
    """The first of these signals sets `requested`; the loop saves and stops after the current step. The second raises
    KeyboardInterrupt at once. A SIGHUP that is ignored stays so, as nohup asks."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, signal.SIGTERM]
            if SIGHUP is not None and signal.getsignal(SIGHUP) is not signal.SIG_IGN:
                numbers.append(SIGHUP)
            for number in numbers:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # "reentrant call": the signal came while stderr was waiting for its reader; OSError: its terminal is closed
        with suppress(RuntimeError, OSError):
            say("stopping after this step; once more to stop at once, without saving")
