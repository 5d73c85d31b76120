"""The files of a study's results: its table, figures and their data."""

from pathlib import Path

from experiments.grid.study import Study
from experiments.reporting import numbers, plot, table
from experiments.reporting.collect import Results, Unfinished, find_unfinished
from experiments.reporting.csv_files import CURVES, RUNS, curves_csv, runs_csv, to_csv
from senet_jax.errors import InputError
from senet_jax.system import files


def report_files(study: Study, results: Results, unfinished: Unfinished) -> dict[str, bytes]:
    """The files about a study's results, by name; those of curves only if there are any."""
    caption, rows = table.caption(study, results), numbers.number_rows(study, results)
    written = {
        "table.csv": to_csv(rows),
        RUNS: runs_csv(results, unfinished),
        "table.md": table.markdown(study, results, unfinished).encode(),
        "table.png": plot.draw(study, results, rows, table.theirs(study, results), caption),
    }
    if any(run["curve"] for runs in results.values() for run in runs):
        written[CURVES] = curves_csv(results)
        written["curves.png"] = plot.curves(study, results, caption)
    return written


def write_report(study: Study, results: Results, directory: Path) -> None:
    """Write table, figures and their data into the directory, and print the table.

    Raises: InputError if the directory cannot be written.
    """
    unfinished = find_unfinished(study, directory)
    try:
        for name, content in report_files(study, results, unfinished).items():
            files.write(directory / name, content)
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error.strerror or error}") from error
    table.show(study, results, unfinished)
