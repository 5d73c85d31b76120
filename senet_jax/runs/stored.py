"""What a run has left: configuration, result, and weights that are checked against it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from senet_jax.errors import InputError
from senet_jax.runs import checkpoints, provenance, workdir
from senet_jax.system import files

if TYPE_CHECKING:
    from ml_collections import ConfigDict


class Unfinished(InputError):
    """A run that has no result yet."""


def load_weights(directory: Path) -> tuple[ConfigDict, dict[str, Any]]:
    """Read the configuration and the weights of the run in a work directory, without its data.

    The weights are `params` and `batch_stats` as `model.apply` takes them, the moving averages
    where the run has them.

    Raises: InputError if there is no such run, its weights cannot be read, or they are not those of
      its result; Unfinished if it has no result.
    """
    config, result = read_records(directory)
    parts = ("params", "batch_stats", "ema")
    variables = {"batch_stats": {}} | checkpoints.read(directory / workdir.CHECKPOINTS, parts)
    averages = variables.pop("ema", None)
    check_weights(directory, variables, result)
    return config, averages or variables


def read_records(directory: Path, *, unfinished: bool = False) -> tuple[ConfigDict, dict[str, Any]]:
    """Read configuration and result of a run that has a checkpoint.

    Args:
      unfinished: whether a run without a result will do; {} then stands for it.

    Raises: InputError if there is no such run or it has no checkpoint; Unfinished if it has no
      result.
    """
    config = workdir.load_config(directory)
    result = files.read_json(directory / "result.json")
    if result is None and not unfinished:
        raise Unfinished(f"{directory} has no result.json: its run is not finished")
    steps = checkpoints.complete_steps(directory / workdir.CHECKPOINTS)
    if not steps and result is None:
        raise InputError(f"{directory} has no checkpoint yet")
    if not steps:
        raise InputError(
            f"{directory} has a result but not the weights behind it, as runs of versions that "
            "kept none do; train again into another --workdir"
        )
    return config, result or {}


def check_weights(directory: Path, variables: Any, result: dict[str, Any]) -> None:
    """Raises: InputError if the weights are not those of the result, unless that is {}."""
    if result and provenance.fingerprint(variables) != result["params_sha256"]:
        raise InputError(
            f"the weights in {directory / workdir.CHECKPOINTS} are not those of "
            f"{directory / 'result.json'}: their params_sha256 differ"
        )
