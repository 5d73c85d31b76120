"""Rows of measurements in CSV files."""

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from senet_jax.errors import InputError


def read(path: str) -> list[dict[str, str]]:
    """Read the rows of a CSV file. Raises: InputError if it cannot be read, or has none."""
    try:
        rows = list(csv.DictReader(Path(path).read_text("utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {_reason(error)}") from None
    if not rows:
        raise InputError(f"{path} has no rows")
    return rows


@contextlib.contextmanager
def columns_of(path: str) -> Iterator[None]:
    """Turn a column that rows of a file lack into an InputError: they are of something else."""
    try:
        yield
    except KeyError as error:
        raise InputError(f"{path} holds rows of something else: they have no {error}") from error


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to a CSV file, which gets a header if it is new.

    Raises: InputError if the file cannot be written, or has rows of other columns.
    """
    try:
        before = path.read_text("utf-8") if path.exists() else ""
        first = next(csv.reader(before.splitlines()), None)
        if first not in (None, list(rows[0])):
            raise InputError(
                f"--csv={path} has rows of other columns, {', '.join(first)}; choose another file"
            )
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            if first is None:
                writer.writeheader()
            elif not before.endswith("\n"):
                file.write("\n")
            writer.writerows(rows)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--csv={path} cannot be written: {_reason(error)}") from None


def _reason(error: OSError | UnicodeDecodeError) -> str | None:
    return error.strerror if isinstance(error, OSError) else "it is no text"
