"""A finished run, for whatever is done with its weights afterwards."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from senet_jax import checkpoints, files, provenance, workdir
from senet_jax.errors import InputError
from senet_jax.prepare import Run, prepare
from senet_jax.state import TrainState


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a run was built from, its final state, and its result.json."""

    run: Run
    state: TrainState
    result: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of the images as the network gets them."""
        return self.run.dataset.train.image_shape


def load(directory: Path) -> Finished:
    """The run in a work directory, on as many devices as it was trained on if there are so many.

    Raises: InputError if no finished run is there, or its weights are not those of result.json.
    """
    config, result = _recorded(directory)
    run = prepare(config, jax.local_devices()[: result["devices"]])
    state = checkpoints.restore(directory / workdir.CHECKPOINTS, run.initial_state).state
    _check_weights(directory, state.variables, result)
    return Finished(run, state, result)


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


def _recorded(directory: Path) -> tuple[ConfigDict, dict[str, Any]]:
    config = workdir.load_config(directory)
    result = files.read_json(directory / "result.json")
    if result is None:
        raise InputError(f"{directory} has no result.json: its run is not finished")
    if not checkpoints.complete_steps(directory / workdir.CHECKPOINTS):
        raise InputError(
            f"{directory} has a result but not the weights behind it, as runs of versions that "
            "kept none do; train again into another --workdir"
        )
    return config, result


def _check_weights(directory: Path, variables: Any, result: dict[str, Any]) -> None:
    if provenance.fingerprint(variables) != result["params_sha256"]:
        raise InputError(
            f"the weights in {directory / workdir.CHECKPOINTS} are not those of "
            f"{directory / 'result.json'}: their params_sha256 differ"
        )
