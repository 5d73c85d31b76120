"""Traces of some steps, for TensorBoard's profile page or Perfetto."""

from pathlib import Path
from typing import Any, Self

import jax


class Profile:
    """A trace of steps `first` to `last`, and the calls they fall into, in `directory`.

    It goes to plugins/profile there. Without a directory, or if `last` is 0, nothing is traced.
    """

    def __init__(self, directory: Path | None, first: int, last: int) -> None:
        self._directory = directory
        self._first, self._last = first, last if directory else 0
        self._running = False

    def before(self, step: int, count: int) -> None:
        """Note that `count` steps from `step` on are about to be done."""
        if not self._running and step <= self._last and step + count > self._first:
            jax.profiler.start_trace(str(self._directory))
            self._running = True

    def after(self, step: int, state: Any) -> None:
        """Note that `step` has been given to the device and returns `state`."""
        if self._running and step >= self._last:
            jax.block_until_ready(state)
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._running = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._running:
            self._stop()
