"""A finished run, for whatever is done with its weights afterwards."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

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
    config = workdir.load_config(directory)
    result = files.read_json(directory / "result.json")
    if result is None:
        raise InputError(f"{directory} has no result.json: its run is not finished")
    states = directory / workdir.CHECKPOINTS
    if not checkpoints.complete_steps(states):
        raise InputError(
            f"{directory} has a result but not the weights behind it, as runs of versions that "
            "kept none do; train again into another --workdir"
        )
    run = prepare(config, jax.local_devices()[: result["devices"]])
    state = checkpoints.restore(states, run.initial_state).state
    if provenance.fingerprint(state.variables) != result["params_sha256"]:
        raise InputError(
            f"the weights in {states} are not those of {directory / 'result.json'}: "
            "their params_sha256 differ"
        )
    return Finished(run, state, result)
