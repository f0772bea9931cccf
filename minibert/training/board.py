"""The numbers of metrics.jsonl as curves of TensorBoard, in its own library's records where that is installed.

The library's SummaryWriter writes in a thread, which on a full disk prints a traceback and leaves the run in doubt; so
its records are written here, a line of metrics.jsonl at a time.
"""

from __future__ import annotations

import importlib.util
import io
import time
from collections.abc import Mapping
from pathlib import Path

from minibert.io.stderr import say

NAME = "events.out.tfevents"  # what TensorBoard looks for; it reads such files in the order of their names


def check_board(directory: str | None, resumed: bool) -> str | None:
    """Where curves are drawn; a run that is resumed where they cannot be goes on without them, which is said.

    Raises:
        ValueError: curves are asked for and cannot be drawn.
    """
    if directory is None:
        return None
    known = importlib.util.find_spec("tensorboard")
    if not known and resumed:
        say(f"no curves are drawn in {directory}, as TensorBoard's library is not installed; pip install tensorboard")
        return None
    if not known:
        raise ValueError(
            f"--tensorboard {directory} needs TensorBoard's library, which is not installed; type pip install"
            " tensorboard, or leave --tensorboard out"
        )
    if Path(directory).exists() and not Path(directory).is_dir():
        raise ValueError(f"--tensorboard {directory}: is no directory; name another")
    return directory


class Board:
    """The curves of one run: of each number of metrics.jsonl, called as its line and itself are, such as step/loss,
    epoch/dev_accuracy or measured/accuracy."""

    def __init__(self, folder: Path, step: int) -> None:
        """step: up to which the run has come; what stands there behind it, drawn before it was killed, no longer
        counts. OSError: the folder cannot be written."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{NAME}.{len([*folder.glob(f'{NAME}.*')]):06d}"
        self.write(0, file_version="brain.Event:2")
        self.write(step + 1, session_log=SessionLog(status=SessionLog.START))

    def draw(self, row: Mapping[str, object], step: int) -> None:
        """A line of metrics.jsonl: "step", "epoch" or "measured" first, then its numbers; null is no point."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        kind, *names = row
        points = [(f"{kind}/{name}", row[name]) for name in names if row[name] is not None]
        self.write(step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=x) for tag, x in points]))

    def write(self, step: int, **event: object) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), step=step, **event).SerializeToString())
        try:
            with self.path.open("ab") as file:
                file.write(record.getvalue())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
