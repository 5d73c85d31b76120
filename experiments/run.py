"""Train the grid of a study, or of a sweep, and print its table.

    python -m experiments.run reduction
    python -m experiments.run reduction --dataset=cifar100 --seeds=0,1,2 --config.train.epochs=30
    python -m experiments.run reduction --smoke
    python -m experiments.run cifar --dataset=cifar100
    python -m experiments.run --config=configs/cifar.py:seresnet20 --sweep=model.se.ratio=2,4,8
    python -m experiments.run reduction --jobs=4
    python -m experiments.run reduction --launcher=slurm --slurm.time=4:00:00 --slurm.gres=gpu:1

`--folds=5` trains each row on five folds of the training split, stratified by class, in place of
seeds: each is evaluated on one and trained on the others.

`--published` counts the published runs of the same configuration as done, and shows them in the
table. `--precision=0.35` adds seeds until the intervals of the study's primary comparisons are that
narrow; whether anything is significant plays no part in it.

Runs that have a result are skipped, so the same command continues after an interruption.
`--jobs=N` trains N at once, each on its share of this machine. `--launcher=slurm` makes each a job
of a cluster, with any parameter of sbatch as `--slurm.KEY=VALUE`; `--slurm.time` is needed.
`--config.KEY=VALUE` holds for every row, and `--config.model.se.KEY=VALUE` for every row with SE
blocks. `--smoke` runs all rows in miniature.
"""

if __name__ == "__main__":
    from senet_jax.system import startup

    startup.begin()

import copy
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from experiments.grid import sweep
from experiments.grid.plan import (
    base_configs,
    dataset_of,
    define_flags,
    define_published,
    directory_of,
    on_folds,
    plan,
    row_config,
)
from experiments.grid.study import PRETRAINED, Row, Study
from experiments.launch import LOG, Launcher, in_waves, last_lines, launch, local, serial, slurm
from experiments.studies import the_study
from senet_jax.config import flatten
from senet_jax.errors import InputError, did_you_mean, named, refuse
from senet_jax.runs import effect
from senet_jax.system import cli
from senet_jax.training.given import add_fields

SLURM_FLAG = re.compile(r"--?slurm\.")
CONFIG_FLAG = re.compile(r"--?config=")
OTHER_FLAG = re.compile(f"{SLURM_FLAG.pattern}|{CONFIG_FLAG.pattern}")  # no --config.KEY=VALUE
SE_FLAG = re.compile(r"--?(no)?config\.model\.se\.")
MOST_SEEDS = 20  # of each row, if narrow intervals do not end a study before


def main(argv: list[str]) -> None:
    values = define_all_flags()
    rest = cli.parse_flags(argv, values, known_only=True)
    study, bases = studied(values, rest)
    overrides = [argument for argument in rest if not OTHER_FLAG.match(argument)]
    bases = override(on_folds(bases, overrides, values), overrides, study, list(values))
    if study.is_sweep and overrides:  # its table is all that says so
        note = f"All rows with {' '.join(overrides)}."
        study = dataclasses.replace(study, notes=(*study.notes, note))
    if values.folds:
        seeds = tuple(range(values.folds))
    elif values.seeds is None:
        seeds = study.seeds[:1] if values.smoke else study.seeds
    else:
        seeds = parse_seeds(values.seeds)
    check_precision(study, values, seeds)
    directory = directory_of(study, values)
    launcher = launcher_of(values, slurm_parameters(rest), directory)
    if values.smoke:  # optimised compilation would take most of the time
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # in the runs' processes, too

    # These import JAX and the models.
    from experiments.reporting.write import write_report

    collected, results, failures = train(study, bases, seeds, directory, launcher, values)
    problems = [*collected.damaged]
    if results:
        problems += write_report(study, results, directory, collected.unfinished)
        print(f"-> {directory}/table.md, table.png, curves.png, and CSV of all runs")
    if failures:
        lines = [f"{len(failures)} run(s) failed:"]
        for path, why in failures.items():
            lines += [f"  {path}: {why}", *(f"    | {line}" for line in last_lines(path / LOG))]
        problems.append("\n".join(lines))
    refuse(problems)


def define_all_flags() -> flags.FlagValues:
    """Define the flags of the command."""
    values = flags.FlagValues()
    define_flags(values)
    define_published(values)
    flags.DEFINE_list(
        "seeds", None, "Default: the study's; its first with --smoke.", flag_values=values
    )
    flags.DEFINE_multi_string("sweep", [], "KEY=VALUE,VALUE,...", flag_values=values)
    flags.DEFINE_enum(
        "launcher", "local", ["local", "slurm"], "Where runs are trained.", flag_values=values
    )
    flags.DEFINE_integer(
        "jobs", None, "Runs at once; default: 1, all with slurm.", flag_values=values
    )
    flags.DEFINE_float(
        "precision",
        None,
        "Add seeds, of all rows, until the intervals are at most plus and minus so many points.",
        lower_bound=0.01,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "most_seeds",
        None,
        f"With --precision: seeds of each row at most; default: {MOST_SEEDS}.",
        lower_bound=1,
        flag_values=values,
    )
    return values


def check_precision(study: Study, values: flags.FlagValues, seeds: Sequence[int]) -> None:
    """Raises: InputError if there is nothing that `--precision` or `--most_seeds` could limit."""
    if values.precision is None and values.most_seeds is not None:
        raise InputError(f"--most_seeds={values.most_seeds} needs --precision, whose limit it is")
    if values.precision is not None and not (study.primary or study.reference):
        raise InputError(f"--precision needs comparisons, and {study.name} declares none")
    if values.most_seeds is not None and values.most_seeds < len(seeds):
        raise InputError(
            f"--most_seeds={values.most_seeds} is less than the {len(seeds)} seeds to begin with, "
            f"{', '.join(map(str, seeds))}; give fewer --seeds"
        )


def train(
    study: Study,
    bases: Sequence[ConfigDict],
    seeds: tuple[int, ...],
    directory: Path,
    launcher: Launcher,
    values: flags.FlagValues,
) -> tuple[Any, Any, Mapping[Path, str]]:
    """Train what is missing, with `--precision` seed after seed, and read all results.

    Returns: the Collected runs of the directory; their Results, with published ones if these count;
      the reasons of runs that failed, by work directory.
    """
    from experiments.reporting import primary, published
    from experiments.reporting.collect import collect

    known = published.announce(study, bases, dataset_of(study, values)) if values.published else {}
    failures: dict[Path, str] = {}
    while True:
        runs = plan(study, bases, seeds, directory, values.folds)
        rest = published.remaining(runs, known)
        if len(rest) < len(runs):
            print(f"{len(runs) - len(rest)} of {len(runs)} runs are published")
        failures |= launch(rest, launcher) if rest or not runs else {}
        collected = collect(study, directory)
        results = collected.results
        if known:
            results = published.add(study, results, bases, known)
        enough = values.precision is None or primary.widest(study, results) <= values.precision
        if enough or failures or len(seeds) >= (values.most_seeds or MOST_SEEDS):
            return collected, results, failures
        seeds = (*seeds, max(seeds) + 1)  # of all rows, before the next one


def studied(values: flags.FlagValues, rest: Sequence[str]) -> tuple[Study, list[ConfigDict]]:
    """The study that the command line names or makes, and the configuration of each row.

    Raises: InputError if the command line names or makes none, or its flags contradict each other.
    """
    names = [argument for argument in rest if not argument.startswith("-")]
    files = [argument.partition("=")[2] for argument in rest if CONFIG_FLAG.match(argument)]
    if not (values.sweep or files):
        study = the_study(names, "run")
        return study, base_configs(study, values)
    if len(files) != 1 or not values.sweep or names or values.dataset:
        raise InputError(
            "a sweep needs one --config=FILE and --sweep=KEY=VALUES, and no study or --dataset"
        )
    study, config = sweep.study_of(files[0], values.sweep, smoke=values.smoke)
    return study, [copy.deepcopy(config) for _ in study.rows]


def override(
    bases: Sequence[ConfigDict], arguments: Sequence[str], study: Study, known_flags: Sequence[str]
) -> list[ConfigDict]:
    """Apply every `--config.KEY=VALUE` of the command line to the rows' configurations.

    A plain network lacks the `model.se` section; flags for that section apply to the other rows.

    Args:
      bases: the configuration of each row.
      arguments: the command line's `--config.KEY=VALUE`.
      study: the study with the rows.
      known_flags: the names of the command's other flags, for suggestions in errors.

    Raises: InputError for any other flag, a key that some row lacks, or a value of the wrong type.
    """
    everything, fields = ConfigDict(), set()
    for base in bases:
        fields |= {*add_fields(base, cli.dotted(arguments, "config"))}
        everything.update(base.to_dict())
    for key in cli.given_keys(arguments, "config", everything, sorted(fields)):
        if key == "data.name":
            way = "--sweep=data.name=NAME" if study.is_sweep else "--dataset=NAME"
            raise InputError(
                f"--config.{key} would train on another dataset than the table names; "
                f"choose it with {way}"
            )
        if key in study.varied:
            raise InputError(
                f"--config.{key} is what the study varies; it cannot hold for every row"
            )
    for argument in arguments:
        name = argument.partition("=")[0].strip("-")
        if argument.startswith("-") and not name.removeprefix("no").startswith("config."):
            raise InputError(f"unknown flag --{name}{did_you_mean(name, known_flags)}")
    configs = []
    for row, base in zip(study.rows, bases, strict=True):
        values = flatten(base.to_dict())
        has_se = "model.se.ratio" in values
        of_row = [a for a in arguments if has_se or not SE_FLAG.match(a)]
        given = cli.given_keys(of_row, "config", everything)
        for key in given:
            if key not in values:
                raise InputError(
                    f"--config.{key} cannot hold for every row: {row.label} has no such key"
                )
        config = cli.with_flags(base, of_row)
        configs.append(_without_leftovers(row, config, {*given, *row.overrides}))
    return configs


def _without_leftovers(row: Row, config: ConfigDict, given: set[str]) -> ConfigDict:
    """A row's configuration without what its recipe leaves and the row gives no effect.

    Raises: InputError if a given key has none.
    """
    flat = flatten(row_config(row, config).to_dict())
    if row.starts_from:  # plan names the run, once there is a seed
        flat[PRETRAINED] = row.starts_from
    with named(f"row {row.label}"):
        config.update_from_flattened_dict(effect.resets(flat, given))
    return config


def launcher_of(
    values: flags.FlagValues, parameters: Mapping[str, Any], directory: Path
) -> Launcher:
    """Make the launcher that the flags mean. Raises: InputError if it cannot be used here."""
    if values.launcher == "slurm":
        return in_waves(slurm.Slurm(parameters, directory / "slurm", values.jobs))
    if parameters:
        raise InputError(f"--slurm.{next(iter(parameters))} needs --launcher=slurm")
    if values.jobs in (None, 1):
        return serial.train
    parts = local.slices_of_machine(values.jobs)
    return in_waves(lambda runs: local.train(runs, parts))


def slurm_parameters(arguments: Sequence[str]) -> dict[str, str | bool]:
    """The parameters of sbatch: VALUE for `--slurm.KEY=VALUE`, True for `--slurm.KEY`."""
    texts = [a.lstrip("-") for a in arguments if SLURM_FLAG.match(a)]
    pairs = [text.removeprefix("slurm.").partition("=") for text in texts]
    return {key: value if equals else True for key, equals, value in pairs}


def parse_seeds(texts: Sequence[str]) -> tuple[int, ...]:
    """Read `--seeds`. Raises: InputError if there are none, or one is no number or there twice."""
    for text in texts or [""]:
        if not (text.isascii() and text.isdecimal()):
            raise InputError(f"--seeds takes whole numbers from 0, like 0,1,2, not {text!r}")
    seeds = tuple(map(int, texts))
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise InputError(f"--seeds has {seed} twice")
    return seeds


if __name__ == "__main__":
    cli.run(main, __doc__, continues=True)
