"""Published runs count as done: whoever adds seeds to a table continues it, on any machine.

A planned run is done if a published one, of any study on this dataset, has the same configuration:
the plain network of one study is that of another, too. Processors and versions may differ, which
the table says.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from experiments.grid.plan import PlannedRun, base_configs, dataset_of, row_config
from experiments.grid.study import Row, Study
from experiments.reporting import publish
from experiments.reporting.collect import Results, Unfinished, check_comparable
from experiments.reporting.run_files import Result
from experiments.studies import load_studies
from senet_jax.config import differences, flatten, plain
from senet_jax.errors import InputError
from senet_jax.runs import effect
from senet_jax.runs.workdir import ADDED, with_added

Published = dict[str, dict[int, Result]]  # by `identity` of the configuration, and seed


def read(study: Study, dataset: str) -> Published:
    """All published runs on a dataset; those of this study come before the same of others."""
    published: Published = {}
    for other in sorted(load_studies(), key=lambda other: other.name != study.name):
        if dataset in publish.published_datasets(other):
            results, _ = publish.read(other, dataset)
            for run in (run for runs in results.values() for run in runs):
                published.setdefault(identity(run["config"]), {}).setdefault(run["seed"], run)
    return published


def counted(study: Study, results: Results, values: flags.FlagValues) -> Results:
    """The results with the published runs that `--published` counts, of which it is said so.

    Raises: InputError if together they are runs of different configurations.
    """
    if not values.published:
        return results
    bases = base_configs(study, values)
    published = announce(study, bases, dataset_of(study, values), results)
    announce_exchanged(study, results, bases, published)
    return add(study, results, bases, published)


def announce(
    study: Study, bases: Sequence[ConfigDict], dataset: str, results: Results | None = None
) -> Published:
    """Read what is published on a dataset, and print which rows it cannot be counted for, and why.

    Args:
      bases: the configuration that each row starts from, as for `plan`.
      results: runs that are here; published ones are to be like them.
    """
    published = read(study, dataset)
    configs = {
        row.label: _wanted(row, base, results or {})
        for row, base in zip(study.rows, bases, strict=True)
        if not row.starts_from
    }
    others = [label for label, config in configs.items() if config not in published]
    if not published:
        print(f"nothing is published on {dataset}")
    elif others:
        wanted = json.loads(configs[others[0]])
        changes = [(json.loads(config), wanted) for config in published]
        nearest = min(changes, key=lambda pair: len(_changed(*pair)))
        print(
            f"no published run has the configuration of {', '.join(others)}; the nearest to "
            f"{others[0]} differs in {differences(*nearest, names=('there', 'here'))}"
        )
    if published and (rows := [row.label for row in study.rows if row.starts_from]):
        print(f"no published run counts for {', '.join(rows)}, which start from other runs")
    return published


def _changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]


def stand_in(study: Study, values: flags.FlagValues, directory: Path) -> tuple[Results, Unfinished]:
    """Read the published results that the flags mean, whatever their configuration, and say so.

    Raises: InputError if there are none.
    """
    dataset = dataset_of(study, values)
    if values.workdir or values.smoke or dataset not in publish.published_datasets(study):
        raise InputError(
            f"there are no results in {directory}; make them with "
            f"`python -m experiments.run {study.name}`"
        )
    print(
        f"There are no results in {directory}; these are those in "
        f"experiments/results/{study.name}/{dataset}."
    )
    return publish.read(study, dataset)


def identity(flat: Mapping[str, Any]) -> str:
    """What is trained, but for the seed, from a flat configuration: equal ones are the same."""
    values = with_added(flat)
    left_out = {"seed", *effect.without(values)}
    if not values.get("model.pretrained"):
        left_out |= {key for key, value in ADDED.items() if value is None}
    acting = {key: value for key, value in values.items() if key not in left_out}
    return json.dumps(acting, sort_keys=True)  # which writes tuples and lists alike


def _wanted(row: Row, base: ConfigDict, results: Results) -> str:
    """The `identity` of the runs of a row: of those that are here, perhaps trained with flags."""
    runs = results.get(row.label)
    return identity(runs[0]["config"]) if runs else _identity_of(row_config(row, base))


def _identity_of(config: ConfigDict) -> str:
    return identity(flatten(plain(config)))


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
    for label, same in _of_rows(study, results, bases, published).items():
        by_seed = same | {run["seed"]: run for run in results.get(label, [])}
        if by_seed:
            together[label] = [by_seed[seed] for seed in sorted(by_seed)]
    check_comparable(study, together)
    return together


def announce_exchanged(
    study: Study, results: Results, bases: Sequence[ConfigDict], published: Published
) -> None:
    """Print which runs that are here `add` takes where published ones have other results."""
    of_rows = _of_rows(study, results, bases, published)
    earlier = {label: list(same.values()) for label, same in of_rows.items()}
    for label, seeds in publish.exchanged(earlier, results).items():
        print(f"of {label}, {seeds} the runs here count; published ones have other results")


def _of_rows(
    study: Study, results: Results, bases: Sequence[ConfigDict], published: Published
) -> dict[str, dict[int, Result]]:
    """The published runs of each row, by label and seed."""
    return {
        row.label: {} if row.starts_from else published.get(_wanted(row, base, results), {})
        for row, base in zip(study.rows, bases, strict=True)
    }
