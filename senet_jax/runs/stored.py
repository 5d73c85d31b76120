"""The weights that a run has left, without its data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from senet_jax.errors import InputError
from senet_jax.runs import checkpoints, provenance, workdir
from senet_jax.system import files

if TYPE_CHECKING:
    from ml_collections import ConfigDict


class Unfinished(InputError):
    """The run has no result yet."""


def load_weights(directory: Path) -> tuple[ConfigDict, dict[str, Any]]:
    """The configuration of the run in a work directory and its weights, without its data.

    The weights are `params` and `batch_stats` as `model.apply` takes them, the moving averages
    where the run has them.

    Raises: as `load`.
    """
    config, result = _recorded(directory)
    parts = ("params", "batch_stats", "ema")
    found = {"batch_stats": {}} | checkpoints.read(directory / workdir.CHECKPOINTS, parts)
    averages = found.pop("ema", None)
    _check_weights(directory, found, result)
    return config, averages or found


def _recorded(directory: Path, *, unfinished: bool = False) -> tuple[ConfigDict, dict[str, Any]]:
    """Configuration and result, {} if there is none yet, of a run that has a checkpoint."""
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


def _check_weights(directory: Path, variables: Any, result: dict[str, Any]) -> None:
    if result and provenance.fingerprint(variables) != result["params_sha256"]:
        raise InputError(
            f"the weights in {directory / workdir.CHECKPOINTS} are not those of "
            f"{directory / 'result.json'}: their params_sha256 differ"
        )
