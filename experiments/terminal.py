"""Tables in a terminal."""

import sys

from rich.console import Console
from rich.table import Table


def print_whole(drawn: Table) -> None:
    """Print a table, wider than the terminal if it must be: it wraps lines, no digit is cut."""
    least = Console(width=1000).measure(drawn).maximum
    width = max(Console(file=sys.stdout).width, least)
    Console(file=sys.stdout, highlight=False, width=width).print(drawn)
