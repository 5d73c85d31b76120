"""A trained run, loaded from its work directory with its data: network, state and result."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from senet_jax.errors import InputError, did_you_mean
from senet_jax.runs import checkpoints, workdir
from senet_jax.runs.stored import Unfinished, check_weights, read_records
from senet_jax.training.prepare import Run, prepare
from senet_jax.training.state import TrainState

WEIGHTS = ("final", "ema", "best")


@contextlib.contextmanager
def offering_latest() -> Iterator[None]:
    """Refuse an Unfinished run with how to take it, for commands with --checkpoint."""
    try:
        yield
    except Unfinished as error:
        raise InputError(f"{error}; --checkpoint=latest takes it as it is") from error


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A trained run.

    Attributes:
      run: what it was built from: `run.model`, `run.dataset`, `run.normalize`, `run.settings`.
      state: a state of its training; `state.variables` is what `model.apply` takes.
      result: the content of its result.json, or {} if there is none yet.
    """

    run: Run
    state: TrainState
    result: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of the images as the network gets them."""
        return self.run.dataset.train.image_shape


def load_run(
    directory: Path | str, weights: str = "final", *, unfinished: bool = False
) -> TrainedRun:
    """Load the run in a work directory, and its dataset with it.

        trained = senet_jax.load_run("runs/x")
        trained.run.model.apply(trained.state.variables, images)

    It lies on as many devices as it was trained on, or on all local ones if there are fewer.

    Args:
      weights: "final", "ema" (their moving averages) or "best" (those of the lowest evaluation
        top-1 error on the way, if the run kept them).
      unfinished: take a run without a result, at its latest checkpoint.

    Raises: InputError if there is no such run (Unfinished if it has no result) or it lacks such
      weights, or if its final weights are not those of result.json.
    """
    if weights not in WEIGHTS:
        raise InputError(
            f"weights must be one of {', '.join(WEIGHTS)}, not {weights!r}"
            f"{did_you_mean(weights, WEIGHTS)}"
        )
    directory = Path(directory)
    config, result = read_records(directory, unfinished=unfinished)
    if weights == "ema" and not config.to_dict()["train"]["ema_decay"]:
        raise InputError(f"{directory} has no moving averages: its train.ema_decay is 0")
    devices = jax.local_devices()
    run = prepare(config, devices[: result["devices"]] if result else devices[:1], begun=True)
    restored = checkpoints.restore(directory / workdir.CHECKPOINTS, run.initial_state)
    check_weights(directory, restored.state.variables, result)
    if weights == "best":
        restored = _best(directory, restored, run.initial_state)
    state = restored.state.averaged if weights == "ema" else restored.state
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
