"""A tally as CSV files, for people and spreadsheets, and back."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from senet_jax.evaluation.tally import BINS, Tally


def classes_csv(tally: Tally, names: Sequence[str]) -> bytes:
    """A line for each class: examples, errors, and which other class it is most often taken for."""
    lines = [["class", "name", "examples", "errors", "error", "taken_for", "times"]]
    for number, name in enumerate(names):
        examples, right = int(tally.examples[number]), int(tally.right[number])
        error = float(tally.class_errors[number]) if examples else ""
        line: list[Any] = [number, name, examples, examples - right, error, "", 0]
        if tally.confusion is not None:
            others = tally.confusion[number].copy()
            others[number] = 0
            if times := int(others.max()):
                line[-2:] = names[int(others.argmax())], times
        lines.append(line)
    return _csv(lines)


def confusion_csv(tally: Tally, names: Sequence[str]) -> bytes:
    """The confusion matrix: a line for each right class, a column for each most probable one."""
    assert tally.confusion is not None
    rows = zip(names, tally.confusion.tolist(), strict=True)
    return _csv([["right class", *names], *([name, *row] for name, row in rows)])


def calibration_csv(tally: Tally) -> bytes:
    """The bins of confidence: their examples, and the mean confidence and accuracy of these."""
    lines: list[list[Any]] = [["above", "to", "examples", "right", "confidence", "accuracy"]]
    for place, (number, right, confidence) in enumerate(tally.bins.tolist()):
        means = (confidence / number, right / number) if number else ("", "")
        lines.append([place / BINS, (place + 1) / BINS, int(number), int(right), *means])
    return _csv(lines)


def read(
    classes: bytes, confusion: bytes | None, calibration: bytes
) -> tuple[Tally, tuple[str, ...]]:
    """The tally and the names of the classes that were written, the matrix if there is one.

    Raises: ValueError for anything else.
    """
    rows = _rows(classes, 7)
    names = tuple(row[1] for row in rows)
    examples, errors = np.array([[int(row[2]), int(row[3])] for row in rows]).T
    bins = np.array(
        [
            [float(number), float(right), float(number) * float(confidence or 0)]
            for _, _, number, right, confidence, _ in _rows(calibration, 6)
        ]
    )
    matrix = None
    if confusion is not None:
        matrix = np.array([[int(cell) for cell in row[1:]] for row in _rows(confusion)])
    if bins.shape != (BINS, 3) or (matrix is not None and matrix.shape != (len(names),) * 2):
        raise ValueError("there are not as many lines and columns as there should be")
    return Tally(examples, examples - errors, bins, matrix), names


def _rows(content: bytes, columns: int | None = None) -> list[list[str]]:
    """The lines below the head. Raises: ValueError for none, or other columns than the head's."""
    head, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    if not rows or {len(row) for row in rows} != {columns or len(head)}:
        raise ValueError("there are not as many lines and columns as there should be")
    return rows


def _csv(lines: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode("utf-8", "backslashreplace")
