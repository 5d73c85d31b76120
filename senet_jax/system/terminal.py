"""What commands show: bars, whole tables, durations."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


def print_whole(drawn: Table) -> None:
    """Print a table, wider than the terminal if it must be: it wraps lines, no digit is cut."""
    least = Console(width=1000).measure(drawn).maximum
    width = max(Console(file=sys.stdout).width, least)
    Console(file=sys.stdout, highlight=False, width=width).print(drawn)


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
