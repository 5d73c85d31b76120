"""What commands show in a terminal: bars, whole tables, durations.

Rich is imported where something is drawn, so that a library function that may show a bar costs
nothing where it shows none.
"""

from __future__ import annotations

import contextlib
import errno
import io
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from senet_jax.system import startup

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TextColumn
    from rich.table import Table


def outlive_the_terminal() -> None:
    """Write nowhere what is printed to a terminal that has closed, instead of ending in an error.

    No signal comes after the shell's `disown`, or it comes when a print has failed already.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream.isatty():
            stream.flush()
            buffer = io.BufferedWriter(_Terminal(stream.fileno(), "w", closefd=False))
            lasting = io.TextIOWrapper(buffer, stream.encoding, stream.errors, line_buffering=True)
            setattr(sys, name, lasting)


class _Terminal(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:  # which is what writing to a closed terminal gives
                raise
            startup.to_nowhere(self.fileno())
            return super().write(data)


def print_whole(table: Table) -> None:
    """Print a table, wider than the terminal if it must be: it wraps lines, no digit is cut."""
    from rich.console import Console

    narrowest = Console(width=1000).measure(table).maximum
    width = max(Console(file=sys.stdout).width, narrowest)
    Console(file=sys.stdout, highlight=False, width=width).print(table)


@contextlib.contextmanager
def counting(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Show a bar of `total` things, in a terminal only.

    Yields a function that is told how many more of them are done.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda more: None
        return
    with progress_bar(console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda more: bar.advance(task, more)


def progress_bar(console: Console, *status: TextColumn) -> Progress:
    """A bar with a count and the time that is left, which vanishes at its end.

    Args:
      status: columns between the count and the time.
    """
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=30),
        progress.MofNCompleteColumn(),
        *status,
        progress.TextColumn("ETA"),
        progress.TimeRemainingColumn(compact=True),
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
