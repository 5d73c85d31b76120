"""Published runs count as done: whoever adds seeds to a table continues it, on any machine.

A planned run is done if a published one, of any study on this dataset, has the same configuration:
the plain network of one study is that of another, too. Processors and versions may differ, which
the table says.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from experiments.grid.plan import PlannedRun, row_config
from experiments.grid.study import Study
from experiments.reporting import publish
from experiments.reporting.collect import Results, check_comparable
from experiments.reporting.csv_files import read_results
from experiments.reporting.run_files import Result
from experiments.studies import load_studies
from senet_jax.config import flatten, plain
from senet_jax.runs import effect
from senet_jax.runs.workdir import ADDED, with_added

Published = dict[str, dict[int, Result]]  # by `identity` of the configuration, and seed


def read(study: Study, dataset: str) -> Published:
    """All published runs on a dataset; those of this study come before the same of others."""
    published: Published = {}
    for other in sorted(load_studies(), key=lambda other: other.name != study.name):
        if dataset in publish.published_datasets(other):
            results, _ = read_results(publish.directory_of(other, dataset))
            for run in (run for runs in results.values() for run in runs):
                published.setdefault(identity(run["config"]), {}).setdefault(run["seed"], run)
    return published


def identity(flat: Mapping[str, Any]) -> str:
    """What is trained, but for the seed, from a flat configuration: equal ones are the same."""
    values = with_added(flat)
    left_out = {"seed", *effect.without(values)}
    if not values.get("model.pretrained"):
        left_out |= {key for key, value in ADDED.items() if value is None}
    acting = {key: value for key, value in values.items() if key not in left_out}
    return json.dumps(acting, sort_keys=True)  # which writes tuples and lists alike


def remaining(runs: Sequence[PlannedRun], published: Published) -> list[PlannedRun]:
    """The planned runs that are not published.

    A run that starts from another's weights is always trained, and so is that one: published
    results have no weights.
    """
    planned = [flatten(plain(run.config)) for run in runs]
    sources = {flat["model.pretrained"] for flat in planned}
    return [
        run
        for run, flat in zip(runs, planned, strict=True)
        if str(run.workdir) in sources or run.seed not in published.get(identity(flat), {})
    ]


def add(
    study: Study, results: Results, bases: Sequence[ConfigDict], published: Published
) -> Results:
    """The results of a study with the published runs of its rows whose seeds they lack.

    Args:
      bases: the configuration that each row starts from, as for `plan`.

    Raises: InputError if together they are runs of different configurations.
    """
    together: Results = {}
    for row, base in zip(study.rows, bases, strict=True):
        config = flatten(plain(row_config(row, base)))
        same = {} if row.starts_from else published.get(identity(config), {})
        by_seed = same | {run["seed"]: run for run in results.get(row.label, [])}
        if by_seed:
            together[row.label] = [by_seed[seed] for seed in sorted(by_seed)]
    check_comparable(study, together)
    return together
