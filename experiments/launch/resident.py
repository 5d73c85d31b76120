"""A process that trains one run after the other, so that they share what is compiled."""

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

from experiments.grid.plan import PlannedRun
from experiments.launch import worker


class Resident:
    """A worker on a part of the machine that trains one run after the other.

    It starts with the first, and again after whatever ended it. Runs of one row share what it has
    compiled.
    """

    def __init__(
        self, flags: Sequence[str], environment: Mapping[str, str], log: Sequence[str]
    ) -> None:
        self._flags, self._environment, self._log = flags, environment, log
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: IO[str] | None = None
        self._is_ending = False
        self.rows: set[str] = set()  # labels of the rows that it has compiled

    def train(self, run: PlannedRun) -> int:
        """Train a run. Returns: its exit status, or that with which the process has ended.

        Raises: InputError if its log cannot be written, as where its directory has been removed.
        """
        worker.open_log(run.workdir).close()  # or the process would end, with what it has compiled
        if self._process and self._process.poll() is not None:  # killed while it had no run
            self.close()
        if self._process is None:
            reading, writing = os.pipe()
            self._process = worker.start(
                run.workdir, self._log, self._flags, self._environment, writing
            )
            os.close(writing)
            self._answers = os.fdopen(reading, encoding="ascii")
            if self._is_ending:  # since before there was a process to tell
                self._process.terminate()
        elif self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # ended meanwhile, which the answer says
                self._process.stdin.write(json.dumps(str(run.workdir)).encode() + b"\n")
                self._process.stdin.flush()
        self.rows.add(run.row.label)
        answer = self._answers.readline() if self._answers else ""
        return int(answer) if answer else self.close()

    def terminate(self) -> None:
        """Ask the process to save and end."""
        self._is_ending = True
        if process := self._process:
            process.terminate()

    def close(self) -> int:
        """Wait until the process has ended, for want of runs at the latest. Returns: its status."""
        self.rows.clear()
        if self._answers:
            self._answers.close()
        if self._process is None:
            return 0
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        status = self._process.wait()
        self._process = None  # not before: until then it can be told to save
        return status
