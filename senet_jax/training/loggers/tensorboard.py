"""TensorBoard's event files in the work directory, with what its HParams page shows."""

import io
import socket
import struct
import time
from typing import Any

from senet_jax.system import files
from senet_jax.training.loggers import About, Values

METRICS = ("eval/top1_error", "eval/loss", "train/loss")  # the columns of the HParams page


class TensorBoard:
    """A writer of events.

    Those about steps after the one a run continues from are not shown any more. Every event is
    written at once: tensorboardX's own writer has a thread that on a full disk dies with a
    traceback, and raises one more at exit.
    """

    _file: io.FileIO | None = None

    def begin(self, config: Values, about: About) -> None:
        self._config, self._about = config, about

    def _open(self) -> None:
        """Open the file, for its first event: this takes a third of a second of a run's start."""
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.summary import hparams

        self._proto: Any = event_pb2  # its classes are made when it is imported
        self._summary: Any = getattr(summary_pb2, "Summary")  # noqa: B009
        about = self._about
        if about.step == 0:
            for stale in about.directory.glob("events.out.tfevents.*"):
                stale.unlink()
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        self._file = (about.directory / name).open("ab", buffering=0)
        self._event(file_version="brain.Event:2")
        if about.step:
            status = self._proto.SessionLog.START
            self._event(step=about.step + 1, session_log={"status": status})
        shown = {
            key: value if isinstance(value, int | float) else str(value)
            for key, value in self._config.items()
        }
        experiment, start, self._end = hparams(shown, dict.fromkeys(METRICS, 0.0))
        self._event(summary=experiment)
        self._event(summary=start)

    def write(self, step: int, values: Values) -> None:
        if not self._file:
            self._open()
        shown = [{"tag": name, "simple_value": value} for name, value in values.items()]
        self._event(step=step, summary=self._summary(value=shown))

    def finish(self, result: Values | None) -> None:
        if result is not None:
            if not self._file:
                self._open()
            self._event(summary=self._end)
        if self._file:
            self._file.close()

    def _event(self, **fields: Any) -> None:
        """Append a record: length, its checksum, content, its checksum."""
        from tensorboardX.record_writer import masked_crc32c

        content = self._proto.Event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(content))
        sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, content))
        assert self._file
        files.append(self._file, length + next(sums) + content + next(sums))


LOGGER = TensorBoard
