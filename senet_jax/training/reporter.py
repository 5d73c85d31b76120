"""A run's progress in the terminal, and its speed."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import Progress, TextColumn

from senet_jax.system.terminal import progress_bar


class Reporter:
    """A view of the progress, a bar in a terminal and plain lines elsewhere, and a stopwatch."""

    def __init__(
        self, total_steps: int, batch_size: int, bar: Progress | None, *, quiet: bool = False
    ) -> None:
        self._quiet = quiet
        self._total = total_steps
        self._batch_size = batch_size
        self._bar = bar
        self._task = bar.add_task("compiling", total=total_steps, status="") if bar else None
        self._all = Pace(batch_size)
        self._window = Pace(batch_size)

    @property
    def pace(self) -> dict[str, float]:
        """Speed over all steps so far, see Pace.measured."""
        return self._all.measured()

    def step(self, step: int, loss: float | None) -> dict[str, float]:
        """Show that `step` steps are finished, and return the speed since the last call.

        Call it when the device has been waited for.

        Args:
          loss: their mean loss; None where all of them were skipped.
        """
        measured, self._window = self._window.measured(), Pace(self._batch_size)
        shown = "none: all skipped" if loss is None else f"{loss:.4f}"
        rate = self.pace.get("images_per_second")
        speed = f"  {rate:,.0f} images/s" if rate else ""
        if (waited := measured.get("data_wait", 0)) >= MUCH_WAIT:
            speed += f"  waiting for data {waited:.0%}"
        if self._bar is not None and self._task is not None:
            status = f"loss {shown}{speed}"
            self._bar.update(self._task, completed=step, description="training", status=status)
        else:
            eta = f"  ETA {(self._total - step) * self._batch_size / rate:,.0f} s" if rate else ""
            self.say(f"step {step}/{self._total}  loss {shown}{speed}{eta}")
        return measured

    def evaluation(self, epoch: float, metrics: Mapping[str, float]) -> None:
        """Show an evaluation as a line that stays."""
        self.say(
            f"epoch {epoch:.4g}  eval loss {metrics['loss']:.4f}  top-1 error "
            f"{metrics['top1_error']:.2f} %  top-5 error {metrics['top5_error']:.2f} %"
        )

    def steps(self, count: int) -> None:
        """Count steps that were done outside `paused`."""
        for pace in (self._all, self._window):
            pace.steps += count

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        began = time.perf_counter()
        yield
        for pace in (self._all, self._window):
            pace.waited += time.perf_counter() - began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time inside out of the measured speed."""
        began = time.perf_counter()
        yield
        for pace in (self._all, self._window):
            pace.began += time.perf_counter() - began

    def say(self, text: str) -> None:
        """Show a line that stays."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)


MUCH_WAIT = 0.1  # share of the time from which on waiting is shown


class Pace:
    """A stopwatch: steps done since it was made, and the time they took."""

    def __init__(self, batch_size: int) -> None:
        self.began = time.perf_counter()
        self.steps = 0
        self.waited = 0.0
        self._batch_size = batch_size

    def measured(self) -> dict[str, float]:
        """Images per second, seconds per step, and the share of time spent waiting for data.

        There are none before the first step.
        """
        seconds = time.perf_counter() - self.began
        if not self.steps:
            return {}
        return {
            "images_per_second": self.steps * self._batch_size / seconds,
            "step_seconds": seconds / self.steps,
            "data_wait": self.waited / seconds,
        }


@contextlib.contextmanager
def reporting(total_steps: int, batch_size: int, *, quiet: bool = False) -> Iterator[Reporter]:
    """Give a Reporter whose bar is gone when the block is left; a quiet one shows nothing."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Reporter(total_steps, batch_size, None, quiet=quiet)
        return
    with progress_bar(console, TextColumn("{task.fields[status]}")) as bar:
        yield Reporter(total_steps, batch_size, bar)
