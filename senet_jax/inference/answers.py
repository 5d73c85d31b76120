"""What a network says of image files, and why; files are read while the device works."""

import collections
import dataclasses
import functools
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from senet_jax.errors import InputError
from senet_jax.evaluation.scores import best, log_probabilities
from senet_jax.evaluation.steps import make_logits_step
from senet_jax.inference import explain
from senet_jax.inference.classifier import Classifier
from senet_jax.inference.gate_statistics import gates_of
from senet_jax.inference.images import open_image
from senet_jax.system import files
from senet_jax.system.devices import AXIS, Devices, pmap_step, replicate, split_batch
from senet_jax.system.terminal import counting

Read = tuple[Path, np.ndarray | InputError]  # what is shown of a file, or why it cannot be
AHEAD = 2  # batches that are read while one is computed


@dataclasses.dataclass(frozen=True)
class Asked:
    """What to find out about each image.

    Attributes:
      top: number of classes.
      flip: average over the image and its mirror image; gates and maps are of the image alone.
      gates: of each SE block.
      maps: a folder for class-activation maps, or None.
    """

    top: int = 5
    flip: bool = False
    gates: bool = False
    maps: Path | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is said of an image file.

    Attributes:
      error: why nothing is said.
      classes, probabilities: the most probable ones, in this order.
      gates: of each SE block, [C], if they were asked for.
      map: file of the class-activation map of the first class, if that was asked for.
    """

    path: Path
    error: str | None = None
    classes: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()
    gates: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    map: Path | None = None


def predict(
    network: Classifier,
    paths: Sequence[Path],
    batch_size: int,
    asked: Asked,
    between: Callable[[], None] = lambda: None,
) -> list[Answer]:
    """An answer for each file, in their order, computed on all local devices.

    Args:
      batch_size: images at once, at most, rounded up to a multiple of the devices.
      between: called before each batch; what it raises ends everything.

    Raises: InputError for gates of a network that has none, and a map that cannot be written.
    """
    devices = jax.local_devices()
    batch_size = -(-min(batch_size, len(paths)) // len(devices)) * len(devices)
    answer = _Answering(network, asked, batch_size, devices, map_files(paths, asked.maps))
    said: list[Answer] = []
    with counting(len(paths), "predicting") as done:
        for part in _batches(network, paths, batch_size):
            between()
            readable = [(path, image) for path, image in part if not isinstance(image, InputError)]
            answers = answer(readable)
            for path, image in part:
                failed = isinstance(image, InputError)
                said.append(Answer(path, str(image)) if failed else next(answers))
            done(len(part))
    return said


class _Answering:
    """From images to answers, a batch at a time."""

    def __init__(
        self,
        network: Classifier,
        asked: Asked,
        batch_size: int,
        devices: Devices,
        maps: Mapping[Path, Path],
    ) -> None:
        self._asked, self._devices, self._maps = asked, devices, maps
        model, shown, variables = network.model, network.shown, network.variables
        self._shape = (batch_size, *shown.image_shape)
        step = make_logits_step(model, shown.normalize, AXIS, flip=asked.flip)
        step = pmap_step(step, devices, donate_state=False)
        self._logits = functools.partial(step, replicate(variables, devices))

        def gates(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
            return gates_of(model, variables, shown.normalize(images))

        def heat(variables: Any, images: jax.Array, classes: jax.Array) -> jax.Array:
            return explain.grad_cam(model, variables, shown.normalize(images), classes)

        images = jax.ShapeDtypeStruct(self._shape, np.uint8)
        if asked.gates and not jax.eval_shape(gates, variables, images):
            raise InputError(f"{network.name} has no SE blocks, so there are no --gates to show")
        self._gates = functools.partial(jax.jit(gates), variables)
        self._heat = functools.partial(jax.jit(heat), variables)

    def __call__(self, seen: Sequence[tuple[Path, np.ndarray]]) -> Iterator[Answer]:
        """An answer for each of at most as many images [H, W, C] uint8 as a batch has."""
        if not seen:
            return
        batch = np.zeros(self._shape, np.uint8)
        batch[: len(seen)] = [image for _, image in seen]
        logits = self._logits(split_batch({"image": batch}, self._devices))
        said = log_probabilities(np.asarray(logits))
        order = best(said, self._asked.top)
        gates = jax.device_get(self._gates(batch)) if self._asked.gates else {}
        heat = np.asarray(self._heat(batch, order[:, 0])) if self._asked.maps else None
        for place, (path, image) in enumerate(seen):
            if np.isnan(said[place]).any():
                yield Answer(path, f"what the network says of {path} is not finite")
                continue
            yield Answer(
                path,
                classes=tuple(order[place].tolist()),
                probabilities=tuple(np.exp(said[place][order[place]]).tolist()),
                gates={name: of_all[place] for name, of_all in gates.items()},
                map=None if heat is None else self._drawn(path, image, heat[place]),
            )

    def _drawn(self, of: Path, image: np.ndarray, heat: np.ndarray) -> Path:
        path, file = self._maps[of], io.BytesIO()
        explain.overlay(image, heat).save(file, "PNG")
        with files.refused(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, file.getvalue())
        return path


def _batches(network: Classifier, paths: Sequence[Path], batch_size: int) -> Iterator[list[Read]]:
    """What the network is shown of the files, or why it is not; some are read ahead in threads."""

    def read(path: Path) -> Read:
        try:
            return path, network.shown(open_image(path))
        except InputError as error:
            return path, error

    pending: collections.deque[list[Future[Read]]] = collections.deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), batch_size):
            pending.append([pool.submit(read, path) for path in paths[start : start + batch_size]])
            if len(pending) > AHEAD:
                yield [one.result() for one in pending.popleft()]
        for part in pending:
            yield [one.result() for one in part]


def map_files(paths: Sequence[Path], folder: Path | None) -> dict[Path, Path]:
    """A file in the folder for the map of each image, numbered where images have the same name."""
    if folder is None:
        return {}
    found: dict[Path, Path] = {}
    taken: collections.Counter[str] = collections.Counter()
    for path in dict.fromkeys(paths):
        taken[path.stem] += 1
        number = f"-{taken[path.stem]}" if taken[path.stem] > 1 else ""
        found[path] = folder / f"{path.stem}_cam{number}.png"
    return found
