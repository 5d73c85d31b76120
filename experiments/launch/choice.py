"""The flags that choose a launcher, and what it does to each run."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments.launch import Launcher, in_waves, local, serial, slurm
from senet_jax.errors import InputError
from senet_jax.training import loggers

SLURM_FLAG = re.compile(r"--?slurm\.")


def define_flags(values: flags.FlagValues) -> None:
    """Define the flags."""
    flags.DEFINE_enum(
        "launcher", "local", ["local", "slurm"], "Where runs are trained.", flag_values=values
    )
    flags.DEFINE_integer(
        "jobs", None, "Runs at once; default: 1, all with slurm.", flag_values=values
    )
    loggers.define_flag(values)


def launcher_of(
    values: flags.FlagValues, arguments: Sequence[str], directory: Path, *, keep_going: bool = False
) -> Launcher:
    """Make the launcher that the flags mean, among them `--slurm.KEY=VALUE` in `arguments`.

    Args:
      keep_going: see serial.train.

    Raises: InputError if it cannot be used here, or a logger cannot.
    """
    loggers.check(values.log)
    parameters = slurm_parameters(arguments)
    if values.launcher == "slurm":
        return in_waves(slurm.Slurm(parameters, directory / "slurm", values.jobs, values.log))
    if parameters:
        raise InputError(f"--slurm.{next(iter(parameters))} needs --launcher=slurm")
    if values.jobs in (None, 1):
        return functools.partial(serial.train, log=values.log, keep_going=keep_going)
    parts = local.slices_of_machine(values.jobs)
    return in_waves(functools.partial(local.train, parts=parts, log=values.log))


def slurm_parameters(arguments: Sequence[str]) -> dict[str, str | bool]:
    """The parameters of sbatch: VALUE for `--slurm.KEY=VALUE`, True for `--slurm.KEY`."""
    texts = [a.lstrip("-") for a in arguments if SLURM_FLAG.match(a)]
    pairs = [text.removeprefix("slurm.").partition("=") for text in texts]
    return {key: value if equals else True for key, equals, value in pairs}
