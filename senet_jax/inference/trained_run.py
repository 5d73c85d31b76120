"""A trained run, loaded from its work directory: its network alone, or with its data and state."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from senet_jax import data
from senet_jax.errors import InputError
from senet_jax.layers.network import Network
from senet_jax.runs import checkpoints, workdir
from senet_jax.runs.stored import (
    EMA,
    FINAL,
    StoredRun,
    Unfinished,
    check_choice,
    check_weights,
    choose,
    load_weights,
    read_records,
)
from senet_jax.system.devices import Devices
from senet_jax.training.prepare import Run, prepare
from senet_jax.training.recipe import check
from senet_jax.training.state import TrainState
from senet_jax.weights import loading
from senet_jax.weights.class_names import readable

RECORDS = ("image_shape", "mean", "std", "class_names")  # what result.json says of the dataset


@contextlib.contextmanager
def offering_latest() -> Iterator[None]:
    """Refuse an Unfinished run with how to take it, for commands with --checkpoint."""
    try:
        yield
    except Unfinished as error:
        raise InputError(f"{error}; --checkpoint=latest takes it as it is") from error


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """The network of a run, and what is known of its images and classes.

    Attributes:
      name: directory of the run.
      config: configuration of the run, nested.
      model: the module, as it is evaluated.
      variables: `params` and `batch_stats`, as `model.apply` takes them.
      step: the step of the run at which it had these variables.
      image_shape: [H, W, C] of the images it was trained on.
      mean, std: one number per channel, in units of 0 to 255, that normalise its images.
      class_names: one name per output, in words.
    """

    name: str
    config: dict[str, Any]
    model: Network
    variables: Any
    step: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]

    @property
    def streamed(self) -> bool:
        """Whether its images are streamed and cropped, not taken whole from memory."""
        return self.config["data"]["image_size"] > 0


def load_trained_network(
    directory: Path | str, weights: str = FINAL, *, unfinished: bool = False
) -> TrainedNetwork:
    """Load the network of the run in a work directory; its dataset need not be there.

    Runs of a version that did not record what images and classes they had do need it. Arguments and
    errors are those of `load_run`.
    """
    run = load_weights(Path(directory), weights, unfinished=unfinished)
    run = dataclasses.replace(run, result=run.dataset | run.result)
    if RECORDS[-1] not in run.result:
        run = dataclasses.replace(run, result=run.result | _records_of_dataset(run))
    shape, mean, std, names = (tuple(run.result[key]) for key in RECORDS)
    loaded = loading.from_run(run)
    if len(names) != loaded.classes or len(shape) != 3 or {len(mean), len(std)} != {shape[-1]}:
        raise InputError(
            f"{run.directory / 'result.json'} is damaged: its {', '.join(RECORDS)} are not those "
            f"of a network with {loaded.classes} classes"
        )
    return TrainedNetwork(
        name=str(directory),
        config=run.config,
        model=loaded.model,
        variables=loaded.variables,
        step=run.step,
        image_shape=shape,
        mean=tuple(255 * value for value in mean),
        std=tuple(255 * value for value in std),
        class_names=readable(names),
    )


def _records_of_dataset(run: StoredRun) -> dict[str, Any]:
    """What result.json would record of the run's dataset. Raises: InputError if it is gone."""
    recipe = check(workdir.load_config(run.directory), jax.local_devices()[:1])
    try:
        dataset = data.load_dataset(**recipe.data)
    except InputError as error:
        raise InputError(
            f"{run.directory} does not record its {', '.join(RECORDS)}, as runs do since they are "
            f"asked without their data, and its dataset cannot be loaded: {error}"
        ) from error
    return dataset.records


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A trained run with its data.

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

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class, in words; `run.dataset.class_names` are the dataset's own."""
        return readable(self.run.dataset.class_names)


def load_run(
    directory: Path | str, weights: str = FINAL, *, unfinished: bool = False
) -> TrainedRun:
    """Load the run in a work directory, and its dataset with it.

        trained = senet_jax.load_run("runs/x")
        trained.run.model.apply(trained.state.variables, images)

    It lies on as many devices as it was trained on, or on as many local ones as share its batches
    evenly.

    Args:
      weights: "final", "ema" (their moving averages) or "best" (those of the lowest evaluation
        top-1 error on the way, if the run kept them).
      unfinished: take a run without a result, at its latest checkpoint.

    Raises: InputError if there is no such run (Unfinished if it has no result) or it lacks such
      weights, if its final weights are not those of result.json, or if its dataset has changed.
    """
    directory = Path(directory)
    config, result = read_records(directory, unfinished=unfinished)
    check_choice(directory, weights, config, is_finished=bool(result))
    run = prepare(config, _devices_for(result.get("devices", 1)), begun=True, trains=False)

    def restore(step: int | None) -> checkpoints.Restored:
        return checkpoints.restore(directory / workdir.CHECKPOINTS, run.initial_state, step)

    end = restore(None)
    check_weights(directory, end.state.variables, result)
    recorded = {key: result[key] for key in RECORDS if key in result}
    run.dataset.check_unchanged(end.notes.get("dataset", {}) | recorded, directory)
    state = choose(directory, weights, end, restore).state
    return TrainedRun(run, state.averaged if weights == EMA else state, result)


def _devices_for(trained_on: Any) -> Devices:
    """The most local devices that divide the number of those a run was trained on.

    What divided its batches evenly, and each device's share, then still does.
    """
    devices = jax.local_devices()
    if not isinstance(trained_on, int):
        trained_on = 1
    return devices[: max(n for n in range(1, 1 + len(devices)) if trained_on % n == 0)]
