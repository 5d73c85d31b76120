"""What the rows of a study say by class and by confidence, over all of their seeds."""

import functools
import operator
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting.collect import Results
from experiments.reporting.csv_files import to_csv
from senet_jax.errors import InputError
from senet_jax.evaluation.tally import Tally
from senet_jax.evaluation.tally_pictures import draw_matrix, draw_reliability
from senet_jax.system.figures import canvas, drawing, literal, png
from senet_jax.training import class_errors

COLUMNS = 4  # panels side by side

Tallies = Mapping[str, tuple[Tally, Sequence[str]]]  # row label to counts and names of classes
ERRORS = ("eval/balanced_error", "eval/calibration_error")


def read(results: Results, directory: Path) -> tuple[Tallies, list[str]]:
    """The counts of each row, those of its seeds added up, and a sentence on each damaged run.

    A row one of whose runs has none, as one of an earlier version or a published one, is left out.
    """
    rows: dict[str, tuple[Tally, Sequence[str]]] = {}
    damaged = []
    for label, runs in results.items():
        try:
            found = [class_errors.read(directory / label / f"seed{run['seed']}") for run in runs]
        except InputError as error:
            damaged.append(str(error))
            continue
        tallies = [each for each in found if each is not None]
        if len(tallies) == len(runs) and len({names for _, names in tallies}) == 1:
            total = functools.reduce(operator.add, (tally for tally, _ in tallies))
            rows[label] = total, tallies[0][1]
    return rows, damaged


def classes_csv(tallies: Tallies) -> bytes:
    """The errors of each class in each row, a line for each."""
    lines: list[dict[str, Any]] = []
    for label, (tally, names) in tallies.items():
        for number, name in enumerate(names):
            examples, right = int(tally.examples[number]), int(tally.right[number])
            error = float(tally.class_errors[number]) if examples else ""
            counts = {"examples": examples, "errors": examples - right, "error": error}
            lines.append({"row": label, "class": number, "name": name, **counts})
    return to_csv(lines)


def in_words(results: Results) -> list[str]:
    """The remark on balanced and calibration errors, where all runs have them."""
    if not all(set(ERRORS) <= run.keys() for runs in results.values() for run in runs):
        return []
    rows = []
    for label, runs in results.items():
        values = [[run[key] for run in runs if run[key] is not None] for key in ERRORS]
        means = (f"{statistics.fmean(v):.2f}" if v else "not finite" for v in values)
        rows.append(f"{label}: {' and '.join(means)}")
    return [
        "Mean balanced error and expected calibration error (15 bins, Guo et al. 2017), in per "
        f"cent: {'; '.join(rows)}."
    ]


@drawing
def confusion(tallies: Tallies, caption: str) -> bytes:
    """A PNG of the confusion matrices, a panel for each row."""
    figure, panels = _panels(tallies, (4.0, 3.6))
    for axes, (tally, names) in zip(panels, tallies.values(), strict=True):
        draw_matrix(axes, tally, names, numbers=False)
    return png(figure, caption)


@drawing
def calibration(tallies: Tallies, caption: str) -> bytes:
    """A PNG of the reliability diagrams, a panel for each row."""
    figure, panels = _panels(tallies, (3.0, 3.0))
    for axes, (tally, _) in zip(panels, tallies.values(), strict=True):
        draw_reliability(axes, tally)
        axes.set_xlabel(f"confidence; ECE {tally.calibration_error:.2f} %")
    panels[0].legend(frameon=False, fontsize=7, loc="upper left")
    return png(figure, caption)


def _panels(tallies: Tallies, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """A figure with axes of `size`, in inches, for each row under its label."""
    columns = min(COLUMNS, len(tallies))
    lines = -(-len(tallies) // columns)
    figure = canvas((max(9.0, size[0] * columns), size[1] * lines + 0.5))
    panels = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    for axes in panels[len(tallies) :]:
        axes.axis("off")
    for axes, label in zip(panels, tallies, strict=False):
        axes.set_title(literal(label, 40), fontsize=9)
    return figure, panels[: len(tallies)]
