"""A run's metrics on disk: JSON lines and TensorBoard events."""

import json
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from senet_jax.system import files


class MetricWriter:
    """A writer of `metrics.jsonl` and TensorBoard events in `workdir`; with None, of nothing.

    Events about steps after `step`, from which a run continues, are not shown any more. Both files
    are written at once and in this thread: tensorboardX's own writer has a thread that on a full
    disk dies with a traceback, and raises one more at exit.

    Raises: InputError, from every method, if they cannot be written.
    """

    def __init__(self, workdir: Path | None, step: int = 0) -> None:
        self.directory = workdir
        self._lines = self._events = None
        if workdir is None:
            return
        from tensorboardX.proto import event_pb2, summary_pb2

        self._proto: Any = event_pb2  # its classes are made when it is imported
        self._summary: Any = getattr(summary_pb2, "Summary")  # noqa: B009
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        with files.refused(workdir):
            if step == 0:
                for stale in workdir.glob("events.out.tfevents.*"):
                    stale.unlink()
            self._lines = (workdir / "metrics.jsonl").open("ab", buffering=0)
            self._events = (workdir / name).open("ab", buffering=0)
        self._event(file_version="brain.Event:2")
        if step:
            self._event(step=step + 1, session_log={"status": self._proto.SessionLog.START})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Record values at a step; names are like "train/loss"."""
        if self._lines is None:
            return
        line = json.dumps({"step": step, **values}) + "\n"
        files.append(self._lines, line.encode())
        shown = [{"tag": name, "simple_value": value} for name, value in values.items()]
        self._event(step=step, summary=self._summary(value=shown))

    def _event(self, **fields: Any) -> None:
        """Append a record to the event file: length, its checksum, content, its checksum."""
        from tensorboardX.record_writer import masked_crc32c

        content = self._proto.Event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(content))
        sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, content))
        if self._events is not None:
            files.append(self._events, length + next(sums) + content + next(sums))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        for file in (self._lines, self._events):
            if file is not None:
                file.close()
