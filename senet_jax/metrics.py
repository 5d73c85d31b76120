"""Metrics: sums to means, and where they are written: JSON lines, TensorBoard, the terminal."""

import contextlib
import json
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from senet_jax import files


def totals(sums: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Sums of several steps to sums of all of them, in float64; nothing for no steps."""
    names = sums[0] if sums else ()
    return {name: float(np.sum([np.float64(s[name]) for s in sums])) for name in names}


def means(sums: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Sums of several steps to loss (nats), top-1 and top-5 error (per cent) and example count.

    Where no example counted there is only the count, 0.
    """
    total = totals(sums)
    examples = total["examples"]
    if not examples:
        return {"examples": 0}
    return {
        "loss": total["loss"] / examples,
        "top1_error": 100 * (examples - total["top1"]) / examples,
        "top5_error": 100 * (examples - total["top5"]) / examples,
        "examples": int(examples),
    }


class MetricWriter:
    """Appends to `metrics.jsonl` and to TensorBoard events in `workdir`.

    Events about steps after `step`, from which a run continues, are not shown any more. Both files
    are written at once and in this thread: tensorboardX's own writer has a thread that on a full
    disk dies with a traceback, and another one at exit. Without a work directory nothing is
    written.

    Raises: InputError, from every method, if they cannot be written.
    """

    def __init__(self, workdir: Path | None, step: int = 0) -> None:
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
        """A record of the event file: length, its checksum, content, its checksum."""
        from tensorboardX.record_writer import masked_crc32c

        content = self._proto.Event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(content))
        sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, content))
        if self._events is not None:
            files.append(self._events, length + next(sums) + content + next(sums))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (self._lines, self._events):
            if file is not None:
                file.close()


class Reporter:
    """Shows progress, a bar in a terminal and plain lines elsewhere, and measures speed."""

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
        """Speed of all steps so far, see Pace.measured."""
        return self._all.measured()

    def step(self, step: int, loss: float | None) -> dict[str, float]:
        """`step` steps are finished, of this mean loss; the device has been waited for.

        The loss is None where all of them were skipped. Returns the speed since the last call.
        """
        found, self._window = self._window.measured(), Pace(self._batch_size)
        shown = "none: all skipped" if loss is None else f"{loss:.4f}"
        rate = self.pace.get("images_per_second")
        speed = f"  {rate:,.0f} images/s" if rate else ""
        if (waited := found.get("data_wait", 0)) >= MUCH_WAIT:
            speed += f"  waiting for data {waited:.0%}"
        if self._bar is not None and self._task is not None:
            status = f"loss {shown}{speed}"
            self._bar.update(self._task, completed=step, description="training", status=status)
        else:
            eta = f"  ETA {(self._total - step) * self._batch_size / rate:,.0f} s" if rate else ""
            self._message(f"step {step}/{self._total}  loss {shown}{speed}{eta}")
        return found

    def evaluation(self, epoch: float, found: Mapping[str, float]) -> None:
        """Show an evaluation as a line that stays."""
        self._message(
            f"epoch {epoch:.4g}  eval loss {found['loss']:.4f}  top-1 error "
            f"{found['top1_error']:.2f} %  top-5 error {found['top5_error']:.2f} %"
        )

    def steps(self, count: int) -> None:
        """So many steps were done outside `paused`."""
        for pace in (self._all, self._window):
            pace.steps += count

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """What happens inside is waiting for data."""
        began = time.perf_counter()
        yield
        for pace in (self._all, self._window):
            pace.waited += time.perf_counter() - began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave what happens inside out of the measured speed."""
        began = time.perf_counter()
        yield
        for pace in (self._all, self._window):
            pace.began += time.perf_counter() - began

    def _message(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)


MUCH_WAIT = 0.1  # the share of time from which on it is shown


class Pace:
    """Steps done since it was made, and the time they took."""

    def __init__(self, batch_size: int) -> None:
        self.began = time.perf_counter()
        self.steps = 0
        self.waited = 0.0
        self._batch_size = batch_size

    def measured(self) -> dict[str, float]:
        """Images a second, seconds a step, and the share of them spent waiting for data.

        Nothing before the first step.
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
    """A Reporter whose bar is gone when the block is left; a quiet one shows nothing."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Reporter(total_steps, batch_size, None, quiet=quiet)
        return
    with _bar(console, TextColumn("{task.fields[status]}")) as bar:
        yield Reporter(total_steps, batch_size, bar)


@contextlib.contextmanager
def counting(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """A bar, in a terminal only; what it gives is to be told how many more are done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda more: None
        return
    with _bar(console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda more: bar.advance(task, more)


def _bar(console: Console, *status: TextColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        *status,
        TextColumn("ETA"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
    )


def duration(seconds: float) -> str:
    """Seconds as a person would say them: 42 s, 12 min, 3 h 25 min, 2 d 4 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"
