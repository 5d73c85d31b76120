"""The files of a study's results: its table, figures and their data."""

from collections.abc import Callable
from pathlib import Path

from experiments.grid.study import Study
from experiments.reporting import by_class, numbers, plot, table
from experiments.reporting.collect import Results, Unfinished
from experiments.reporting.csv_files import (
    CURVES,
    EXAMPLES,
    RIGHT,
    RUNS,
    curves_csv,
    right_csv,
    runs_csv,
    to_csv,
)
from senet_jax.runs.class_files import CALIBRATION_PNG, CLASSES, CONFUSION_PNG
from senet_jax.system import figures, files

TABLE = ("table.csv", "table.md", "table.png")
BY_CLASS = (CLASSES, CALIBRATION_PNG, CONFUSION_PNG)
REPORT = (*TABLE, RUNS, CURVES, RIGHT, "curves.png", *BY_CLASS)


def data_files(study: Study, results: Results, unfinished: Unfinished) -> dict[str, bytes]:
    """The table and the data about a study's results, by name; only what there is any of."""
    written = {
        "table.csv": to_csv(numbers.number_rows(study, results)),
        RUNS: runs_csv(results, unfinished),
        "table.md": files.encoded(table.markdown(study, results, unfinished)),
    }
    if _have(results, "curve"):
        written[CURVES] = curves_csv(results)
    if _have(results, EXAMPLES):
        written[RIGHT] = right_csv(results)
    return written


def figure_files(study: Study, results: Results) -> dict[str, Callable[[], bytes]]:
    """The figures about a study's results, by name, each as the function that draws it."""

    def errors() -> bytes:
        caption, rows = table.caption(study, results), numbers.number_rows(study, results)
        return plot.draw(study, results, rows, table.theirs(study, results), caption)

    def curves() -> bytes:
        return plot.curves(study, results, table.caption(study, results))

    drawings = {"table.png": errors}
    return drawings | ({"curves.png": curves} if _have(results, "curve") else {})


def _have(results: Results, key: str) -> bool:
    return any(run.get(key) for runs in results.values() for run in runs)


def write_report(
    study: Study, results: Results, directory: Path, unfinished: Unfinished
) -> list[str]:
    """Write table, data and figures into the directory, and print the table.

    What an earlier report wrote there and this one does not is removed: it is of other runs.

    Returns: a sentence for each figure that cannot be drawn, and each damaged file by class.

    Raises: InputError if the directory cannot be written.
    """
    with files.refused(directory):  # which is not there if all results are published ones
        directory.mkdir(parents=True, exist_ok=True)
    written = data_files(study, results, unfinished)
    for name, content in written.items():
        files.write(directory / name, content)
    table.show(study, results, unfinished)
    drawings = figure_files(study, results)
    tallies, problems = by_class.read(results, directory)
    if tallies:
        caption = table.caption(study, results)
        written[CLASSES] = by_class.classes_csv(tallies)
        files.write(directory / CLASSES, written[CLASSES])
        drawings[CALIBRATION_PNG] = lambda: by_class.calibration(tallies, caption)
        matrices = {k: v for k, v in tallies.items() if v[0].confusion is not None}
        if matrices:
            drawings[CONFUSION_PNG] = lambda: by_class.confusion(matrices, caption)
    for name in {*REPORT} - {*written, *drawings}:
        (directory / name).unlink(missing_ok=True)
    failed = (figures.write(directory / name, draw) for name, draw in drawings.items())
    return [*problems, *filter(None, failed)]
