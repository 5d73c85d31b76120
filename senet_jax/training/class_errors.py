"""Files of the errors by class, the confusion matrix and the calibration, and their pictures."""

import os
from collections.abc import Sequence
from pathlib import Path

from senet_jax.errors import InputError, first_line
from senet_jax.evaluation import tally_csv, tally_pictures
from senet_jax.evaluation.tally import Tally
from senet_jax.runs.class_files import (
    CALIBRATION,
    CALIBRATION_PNG,
    CLASSES,
    CONFUSION,
    CONFUSION_PNG,
)
from senet_jax.system import figures, files


def write(folder: Path, tally: Tally, names: Sequence[str]) -> None:
    """Write the tables into a folder; the matrix only where there is one.

    Raises: InputError if they cannot be written.
    """
    files.write(folder / CLASSES, tally_csv.classes_csv(tally, names))
    files.write(folder / CALIBRATION, tally_csv.calibration_csv(tally))
    if tally.confusion is not None:
        files.write(folder / CONFUSION, tally_csv.confusion_csv(tally, names))


def read(folder: Path) -> tuple[Tally, tuple[str, ...]] | None:
    """The tally in a folder, with the names of the classes; None where there is none.

    Raises: InputError if it is damaged.
    """
    paths = [folder / name for name in (CLASSES, CONFUSION, CALIBRATION)]
    try:
        classes, confusion, calibration = (
            path.read_bytes() if os.path.exists(path) else None for path in paths
        )
        if classes is None or calibration is None:
            return None
        return tally_csv.read(classes, confusion, calibration)
    except (ValueError, OSError) as error:
        raise InputError(
            f"{folder} has a damaged {CLASSES}, {CONFUSION} or {CALIBRATION}: {first_line(error)}"
        ) from error


def draw(folder: Path, tally: Tally, names: Sequence[str], caption: str) -> list[str]:
    """Draw the pictures of a tally into a folder.

    Returns: a sentence for each that cannot be drawn.

    Raises: InputError if they cannot be written.
    """
    drawings = {CALIBRATION_PNG: lambda: tally_pictures.calibration(tally, caption)}
    if tally.confusion is not None:
        drawings[CONFUSION_PNG] = lambda: tally_pictures.confusion(tally, names, caption)
    return [*filter(None, (figures.write(folder / k, v) for k, v in drawings.items()))]


def write_all(folder: Path, tally: Tally, names: Sequence[str], caption: str) -> list[str]:
    """Write tables and pictures into a folder, which is created; see `write` and `draw`.

    A matrix that an earlier evaluation wrote there is removed where this one has none.
    """
    with files.refused(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if tally.confusion is None:
            for name in (CONFUSION, CONFUSION_PNG):
                (folder / name).unlink(missing_ok=True)
    write(folder, tally, names)
    return draw(folder, tally, names, caption)


def draw_run(directory: Path, caption: str) -> list[str]:
    """Draw the pictures of a finished run that lack; see `draw`."""
    lack = not (directory / CALIBRATION_PNG).exists()
    return draw(directory, *found, caption) if lack and (found := read(directory)) else []
