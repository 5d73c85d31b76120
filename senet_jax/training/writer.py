"""A run's metrics on disk, as JSON lines, which are passed on to its loggers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from senet_jax.system import files
from senet_jax.training.loggers import Loggers


class MetricWriter:
    """A writer of `metrics.jsonl` in `workdir`, and to loggers; with None, of nothing.

    Raises: InputError, from every method, if the file cannot be written.
    """

    def __init__(self, workdir: Path | None, loggers: Loggers) -> None:
        self.directory = workdir
        self._loggers = loggers
        self._lines = None
        if workdir is not None:
            with files.refused(workdir):
                self._lines = (workdir / "metrics.jsonl").open("ab", buffering=0)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Record values at a step; names are like "train/loss"."""
        if self._lines is None:
            return
        line = json.dumps({"step": step, **values}) + "\n"
        files.append(self._lines, line.encode())
        self._loggers.write(step, values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._lines is not None:
            self._lines.close()
