"""The weights of a run, for whatever is done with them afterwards."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from senet_jax.errors import InputError
from senet_jax.runs import checkpoints, workdir
from senet_jax.runs.stored import Unfinished, check_weights, read_records
from senet_jax.training.prepare import Run, prepare
from senet_jax.training.state import TrainState

WEIGHTS = ("final", "ema", "best")


@contextlib.contextmanager
def offering_latest() -> Iterator[None]:
    """For commands with --checkpoint: an Unfinished run is refused with how to take it."""
    try:
        yield
    except Unfinished as error:
        raise InputError(f"{error}; --checkpoint=latest takes it as it is") from error


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """What a run was built from, a state of it, and its result.json, {} if there is none yet."""

    run: Run
    state: TrainState
    result: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of the images as the network gets them."""
        return self.run.dataset.train.image_shape


def load_run(directory: Path, weights: str = "final", *, unfinished: bool = False) -> TrainedRun:
    """The run in a work directory, on as many devices as it was trained on if there are so many.

    Args:
      weights: one of WEIGHTS: those of the end, their moving averages ("ema"), or those of the
        lowest evaluation top-1 error on the way, if the run kept them.
      unfinished: a run without a result will do; its latest checkpoint is then its end.

    Raises: InputError if there is no such run (Unfinished if it is one) or it has no such weights,
      or if the weights of its end are not those of result.json.
    """
    config, result = read_records(directory, unfinished=unfinished)
    if weights == "ema" and not config.to_dict()["train"]["ema_decay"]:
        raise InputError(f"{directory} has no moving averages: its train.ema_decay is 0")
    devices = jax.local_devices()
    run = prepare(config, devices[: result["devices"]] if result else devices[:1], begun=True)
    found = checkpoints.restore(directory / workdir.CHECKPOINTS, run.initial_state)
    check_weights(directory, found.state.variables, result)
    if weights == "best":
        found = _best(directory, found, run.initial_state)
    state = found.state.averaged if weights == "ema" else found.state
    return TrainedRun(run, state, result)


def _best(directory: Path, end: checkpoints.Restored, initial: TrainState) -> checkpoints.Restored:
    if not end.notes.get("best"):
        raise InputError(f"{directory} has not been evaluated yet, so no weights are the best")
    error, step = end.notes["best"]
    if step == end.step:
        return end
    states = directory / workdir.CHECKPOINTS
    if step not in checkpoints.complete_steps(states):
        raise InputError(
            f"{directory} has no weights of its lowest top-1 error, {error:.2f} % at step {step}: "
            "they are kept with train.keep_best=True"
        )
    return checkpoints.restore(states, initial, step)
