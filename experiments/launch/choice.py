"""The flags that choose a launcher, and what it does to each run."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from experiments.grid.plan import PlannedRun
from experiments.launch import Failures, Launcher, in_waves, local, serial, slurm
from senet_jax.errors import InputError
from senet_jax.training import loggers

SLURM_FLAG = re.compile(r"--?slurm\.")


def define_flags(values: flags.FlagValues) -> None:
    """Define the flags."""
    flags.DEFINE_enum(
        "launcher", "local", ["local", "slurm"], "Where runs are trained.", flag_values=values
    )
    flags.DEFINE_integer(
        "jobs",
        None,
        "Runs at once; default: as many as there are processors, one for each, where a study has "
        "small images and no accelerator; else 1; all with slurm.",
        flag_values=values,
    )
    loggers.define_flag(values)


def launcher_of(
    values: flags.FlagValues,
    arguments: Sequence[str],
    directory: Path,
    *,
    keep_going: bool = False,
    chooses: bool = False,
) -> Launcher:
    """Make the launcher that the flags mean, among them `--slurm.KEY=VALUE` in `arguments`.

    Args:
      keep_going: see serial.train.
      chooses: whether, without `--jobs`, small networks are trained on a processor each.

    Raises: InputError if it cannot be used here, or a logger cannot.
    """
    loggers.check(values.log)
    parameters = slurm_parameters(arguments)
    if values.launcher == "slurm":
        return in_waves(slurm.Slurm(parameters, directory / "slurm", values.jobs, values.log))
    if parameters:
        raise InputError(f"--slurm.{next(iter(parameters))} needs --launcher=slurm")
    one_by_one = functools.partial(serial.train, log=values.log, keep_going=keep_going)
    at_once = functools.partial(local.train, log=values.log, keep_going=keep_going)
    if values.jobs is None and chooses and local.has_processors_alone():
        return functools.partial(_by_size, one_by_one=one_by_one, at_once=at_once)
    if values.jobs in (None, 1):
        return one_by_one
    return in_waves(functools.partial(at_once, parts=local.slices_of_machine(values.jobs)))


def _by_size(
    runs: Sequence[PlannedRun], one_by_one: Launcher, at_once: Callable[..., Failures]
) -> Failures:
    """Train small networks on a processor each, and others one after the other on all processors.

    A step on images of CIFAR's size takes 1.55 times as long on one processor as on two. The bits
    of a run are then those of one processor on every machine, however many others are beside it.
    """
    # Images of another size than 0 are streamed, or have the size of the weights to start from.
    if any(run.config.to_dict()["data"]["image_size"] for run in runs):
        return one_by_one(runs)
    parts = local.processor_each(len(runs))
    print(
        f"each run has a processor of its own, {len(parts)} at once; --jobs=1 trains one after the "
        f"other on all of them"
    )
    return in_waves(functools.partial(at_once, parts=parts))(runs)


def slurm_parameters(arguments: Sequence[str]) -> dict[str, str | bool]:
    """The parameters of sbatch: VALUE for `--slurm.KEY=VALUE`, True for `--slurm.KEY`."""
    texts = [a.lstrip("-") for a in arguments if SLURM_FLAG.match(a)]
    pairs = [text.removeprefix("slurm.").partition("=") for text in texts]
    return {key: value if equals else True for key, equals, value in pairs}
