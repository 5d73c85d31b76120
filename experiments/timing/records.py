"""Rows of measurements in CSV files."""

import csv
from pathlib import Path
from typing import Any

from senet_jax.errors import InputError


def read(path: str) -> list[dict[str, str]]:
    """Read the rows of a CSV file. Raises: InputError if it cannot be read."""
    try:
        return list(csv.DictReader(Path(path).read_text("utf-8").splitlines()))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to a CSV file, which gets a header if it is new.

    Raises: InputError if the file cannot be written.
    """
    new = not path.exists()
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise InputError(f"--csv={path} cannot be written: {error.strerror}") from None
