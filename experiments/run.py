"""Train a study's grid, row by row and seed by seed, and print its table.

    python -m experiments.run reduction
    python -m experiments.run reduction --dataset=cifar100 --seeds=0,1,2 --config.train.epochs=30
    python -m experiments.run reduction --smoke
    python -m experiments.run cifar --dataset=cifar100

Runs that have a result are skipped, so the same command continues after an interruption.
`--config.KEY=VALUE` holds for every row, and `--config.model.se.KEY=VALUE` for every row with SE
blocks. `--smoke` runs all rows in miniature.
"""

if __name__ == "__main__":
    from senet_jax import startup

    startup.begin()

import re
import sys
import traceback
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments.study import (
    PRETRAINED,
    PlannedRun,
    Study,
    base_config,
    dataset_of,
    define_flags,
    directory_of,
    plan,
    the_study,
)
from senet_jax import cli, host_memory, workdir
from senet_jax.errors import Diverged, InputError, did_you_mean

SE_FLAG = re.compile(r"--?(no)?config\.model\.se\.")


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    define_flags(values)
    flags.DEFINE_list(
        "seeds", None, "Default: the study's; its first with --smoke.", flag_values=values
    )
    rest = cli.parse_flags(argv, values, known_only=True)
    study = the_study([argument for argument in rest if not argument.startswith("-")], "run")
    dataset = dataset_of(study, values)
    bases = [base_config(study, row, dataset, smoke=values.smoke) for row in study.rows]
    bases = override(bases, rest, study, list(values))
    if values.seeds is None:
        seeds = study.seeds[:1] if values.smoke else study.seeds
    else:
        seeds = tuple(_seed(text) for text in values.seeds or [""])

    import jax

    from experiments import report  # with it come the models

    if values.smoke:  # most of it would be compilation, for steps that take no time
        jax.config.update("jax_disable_most_optimizations", True)
    directory = directory_of(study, values)
    failures = launch(plan(study, bases, seeds, directory))
    results = report.collect(study, directory)
    if results:
        report.report(study, results, directory)
        print(f"-> {directory}/table.md, table.png, curves.png, table.csv, runs.csv, curves.csv")
    if failures:
        listed = "\n".join(f"  {run.workdir}: {error}" for run, error in failures)
        raise InputError(f"{len(failures)} run(s) failed:\n{listed}")


def override(
    bases: Sequence[ConfigDict], arguments: Sequence[str], study: Study, known_flags: Sequence[str]
) -> list[ConfigDict]:
    """The rows' configurations with every `--config.KEY=VALUE` of the command line applied.

    A plain network has no `model.se` section; flags for it are those of the other rows.

    Raises: InputError for any other flag, a key that not every row has, or a value of the
      wrong type.
    """
    everything = ConfigDict()
    for base in bases:
        everything.update(base.to_dict())
    for key in cli.given_keys(arguments, "config", everything):
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
        known = workdir.flatten(base.to_dict())
        has_se = "model.se.ratio" in known
        own = [a for a in arguments if has_se or not SE_FLAG.match(a)]
        for key in cli.given_keys(own, "config", everything):
            if key not in known:
                raise InputError(
                    f"--config.{key} cannot hold for every row: {row.label} has no such key"
                )
        values = flags.FlagValues()
        argv = [sys.argv[0], *own]
        config_flags.DEFINE_config_dict("config", base, flag_values=values, sys_argv=argv)
        cli.parse_flags(argv, values)
        configs.append(values.config)
    return configs


def launch(runs: Sequence[PlannedRun]) -> list[tuple[PlannedRun, str]]:
    """Train what has no result yet, one after the other; returns what failed and why.

    The reason is left in the work directory as well, where `report` finds it.

    Raises: InputError, before anything is trained, if a work directory holds another configuration.
    """
    from senet_jax import compilation_cache
    from senet_jax.train import train_and_evaluate

    missing = [run for run in runs if not workdir.finished_result(run.config, run.workdir)]
    for run in runs:  # the other seeds of the row, too: they end in one mean
        for neighbour in run.workdir.parent.glob("seed*"):
            workdir.check_same(run.config, neighbour, apart_from=("seed", PRETRAINED))
    if len(runs) > len(missing):
        print(f"{len(runs) - len(missing)} of {len(runs)} runs are done already")
    if not missing:
        return []
    compilation_cache.enable()  # the seeds of a row compile to one program
    host_memory.release_after_compilation()
    failures: list[tuple[PlannedRun, str]] = []
    for number, run in enumerate(missing, start=1):
        print(f"[{number}/{len(missing)}] {run.row.label}, seed {run.seed}", flush=True)
        try:
            train_and_evaluate(run.config, run.workdir)
            continue
        except Diverged as error:
            reason = str(error)
        except InputError as error:
            if number == 1:  # most likely wrong for every row: say so at once
                raise
            reason = str(error)
        except Exception as error:  # one failing run must not stop the others
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
        workdir.fail(run.workdir, reason)
        failures.append((run, reason))
    return failures


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise InputError(f"--seeds takes whole numbers from 0, like 0,1,2, not {text!r}")
    return int(text)


if __name__ == "__main__":
    cli.run(main, __doc__)
