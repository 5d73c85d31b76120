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
Without accelerators, runs on small images have a processor each, all processors at once.
`--jobs=N` trains N at once, each on its share of this machine. `--launcher=slurm` makes each a job
of a cluster, with any parameter of sbatch as `--slurm.KEY=VALUE`; `--slurm.time` is needed.
`--log=tensorboard,wandb,mlflow` logs each run there as well, its row as group, its seed as name.
`--config.KEY=VALUE` holds for every row, and `--config.model.se.KEY=VALUE` for every row with SE
blocks. `--smoke` runs all rows in miniature.
"""

if __name__ == "__main__":
    from senet_jax.system import startup

    startup.begin()

import copy
import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from experiments.grid import sweep
from experiments.grid.override import override, parse_seeds
from experiments.grid.plan import (
    base_configs,
    check_rows,
    dataset_of,
    define_flags,
    define_published,
    directory_of,
    on_folds,
    plan,
)
from experiments.grid.study import Study
from experiments.launch import LOG, Launcher, choice, last_lines, launch
from experiments.studies import the_study
from senet_jax.errors import InputError, counted, refuse
from senet_jax.system import cli

CONFIG_FLAG = re.compile(r"--?config=")
OTHER_FLAG = re.compile(
    f"{choice.SLURM_FLAG.pattern}|{CONFIG_FLAG.pattern}"
)  # no --config.KEY=VALUE
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
    launcher = choice.launcher_of(values, rest, directory, chooses=not values.smoke)
    if values.smoke:  # optimised compilation would take most of the time
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # in the runs' processes, too

    # These import JAX and the models.
    from experiments.reporting.write import write_report

    check_rows(study, bases)
    collected, results, failures = train(study, bases, seeds, directory, launcher, values)
    problems = [*collected.damaged]
    if results:
        problems += write_report(study, results, directory, collected.unfinished)
        print(f"-> {directory}/table.md, table.png, curves.png, and CSV of all runs")
    if failures:
        lines = [f"{counted(len(failures), 'run')} failed:"]
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
    choice.define_flags(values)
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
        width = 0.0 if values.precision is None else primary.widest(study, results)
        enough = values.precision is None or width <= values.precision
        added = (*seeds, max(seeds) + 1)  # of all rows, before the next one
        of_rows = [{*added, *(run["seed"] for run in of_row)} for of_row in results.values()]
        most = values.most_seeds or MOST_SEEDS
        if enough or failures or max(map(len, (added, *of_rows))) > most:
            published.announce_exchanged(study, collected.results, bases, known)
            if not (enough or failures):
                reached = f"± {width:.2f}" if width < math.inf else "not known"
                print(
                    f"no more than {most} seeds of a row: the widest interval is {reached}, and "
                    f"was to be ± {values.precision:g}"
                )
            return collected, results, failures
        seeds = added


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


if __name__ == "__main__":
    cli.run(main, __doc__, continues=True)
