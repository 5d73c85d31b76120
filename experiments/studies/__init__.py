"""The studies: one table per file, found by being here.

Each file whose name lacks a leading underscore is a study: it declares `STUDY`, an
`experiments.grid.study.Study`, whose name is that of the file.
"""

import dataclasses
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from experiments.grid.study import Study
from senet_jax.errors import InputError, did_you_mean, first_line


def study_names() -> list[str]:
    """List the names of the studies, in alphabetical order, without importing any."""
    return sorted(
        module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")
    )


def load_study(name: str) -> Study:
    """Import a study by its name.

    Raises: InputError if there is no such study, or its file cannot be imported or declares none.
    """
    names = study_names()
    if name not in names:
        near = did_you_mean(name, names)
        raise InputError(f"unknown study {name!r}{near} (there is {', '.join(names)})")
    file = f"experiments/studies/{name}.py"
    try:
        study = importlib.import_module(f"{__name__}.{name}").STUDY
    except Exception as error:  # whatever a file that somebody is writing may raise
        raise InputError(f"{file}: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(study, Study):
        raise InputError(f"{file}: STUDY must be a Study, not {study!r}")
    return dataclasses.replace(study, name=name)


def load_studies() -> list[Study]:
    """Load all studies, in the order of lists; a broken one is named on stderr and left out."""
    studies = []
    for name in study_names():
        try:
            studies.append(load_study(name))
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)
    return sorted(studies, key=lambda study: (study.order, study.name))


def the_study(names: Sequence[str], command: str) -> Study:
    """Load the one study that the command line names.

    Raises: InputError if it names none or several, or the study cannot be loaded.
    """
    if len(names) != 1:
        raise InputError(f"give one study, e.g. `python -m experiments.{command} reduction`")
    return load_study(names[0])
