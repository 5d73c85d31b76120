"""A study's table and figures, written beside its runs and shown."""

from pathlib import Path

from experiments.grid.study import Study
from experiments.reporting import publish, table
from experiments.reporting.collect import Results, unfinished
from senet_jax.errors import InputError
from senet_jax.system import files


def report(study: Study, results: Results, directory: Path) -> None:
    """Write table, figures and their data into the directory, and print the table.

    Raises: InputError if the directory cannot be written.
    """
    rows, stopped = table.numbers(study, results), unfinished(study, directory)
    try:
        for name, content in publish.documents(study, results, rows, stopped).items():
            files.write(directory / name, content)
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error.strerror or error}") from error
    table.show(study, results, rows, stopped)
