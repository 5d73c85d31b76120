"""Answers about image files: classes, gates and maps; files are read while the device works."""

import collections
import dataclasses
import functools
import io
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
from senet_jax.inference.gated_blocks import gates_of
from senet_jax.inference.image_files import open_image
from senet_jax.system import files, processors
from senet_jax.system.devices import AXIS, Devices, pmap_step, replicate, split_batch
from senet_jax.system.terminal import counting

# A file with its pixels [H, W, C] uint8, or with the reason why it has none.
ReadFile = tuple[Path, np.ndarray | InputError]
AHEAD = 2  # batches that are read while one is computed


@dataclasses.dataclass(frozen=True)
class Question:
    """What to find out about each image.

    Attributes:
      top: number of classes.
      flip: average over the image and its mirror image; gates and maps are of the image alone.
      gates: whether to add the gates of each SE block.
      maps: a folder for class-activation maps, or None.
    """

    top: int = 5
    flip: bool = False
    gates: bool = False
    maps: Path | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a network says of an image file.

    Attributes:
      error: the reason why it says nothing, or None.
      classes, probabilities: the most probable classes, most probable first.
      gates: path of each SE block to its gates [C], if the question has them.
      map: file of the first class's activation map, if the question has maps.
    """

    path: Path
    error: str | None = None
    classes: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()
    gates: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    map: Path | None = None


def answer_files(
    network: Classifier,
    paths: Sequence[Path],
    batch_size: int,
    question: Question,
    between: Callable[[], None] = lambda: None,
) -> list[Answer]:
    """One answer per file, in the order of the files, computed on all local devices.

    Args:
      batch_size: the most images at once, rounded up to a multiple of the devices.
      between: called before each batch; what it raises ends everything.

    Raises: InputError for gates of a network that has none, and a map that cannot be written.
    """
    devices = jax.local_devices()
    batch_size = -(-min(batch_size, len(paths)) // len(devices)) * len(devices)
    answer_batch = _BatchAnswers(
        network, question, batch_size, devices, map_files(paths, question.maps)
    )
    answers: list[Answer] = []
    with counting(len(paths), "predicting") as done:
        for batch in _read_batches(network, paths, batch_size):
            between()
            readable = [(path, image) for path, image in batch if not isinstance(image, InputError)]
            of_readable = answer_batch(readable)
            for path, image in batch:
                failed = isinstance(image, InputError)
                answers.append(Answer(path, str(image)) if failed else next(of_readable))
            done(len(batch))
    return answers


class _BatchAnswers:
    """From a batch of images to their answers."""

    def __init__(
        self,
        network: Classifier,
        question: Question,
        batch_size: int,
        devices: Devices,
        maps: Mapping[Path, Path],
    ) -> None:
        self._question, self._devices, self._maps = question, devices, maps
        model, variables = network.model, network.variables
        normalize = network.preprocessing.normalize
        self._shape = (batch_size, *network.preprocessing.image_shape)
        step = make_logits_step(model, normalize, AXIS, flip=question.flip)
        step = pmap_step(step, devices, donate_state=False)
        self._logits = functools.partial(step, replicate(variables, devices))

        def gates(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
            return gates_of(model, variables, normalize(images))

        def heat(variables: Any, images: jax.Array, classes: jax.Array) -> jax.Array:
            return explain.grad_cam(model, variables, normalize(images), classes)

        images = jax.ShapeDtypeStruct(self._shape, np.uint8)
        if question.gates and not jax.eval_shape(gates, variables, images):
            raise InputError(f"{network.name} has no SE blocks, so there are no --gates to show")
        self._gates = functools.partial(jax.jit(gates), variables)
        self._heat = functools.partial(jax.jit(heat), variables)

    def __call__(self, readable: Sequence[tuple[Path, np.ndarray]]) -> Iterator[Answer]:
        """One answer per image [H, W, C] uint8; there are at most as many as in a batch."""
        if not readable:
            return
        batch = np.zeros(self._shape, np.uint8)
        batch[: len(readable)] = [image for _, image in readable]
        logits = self._logits(split_batch({"image": batch}, self._devices))
        log_probability = log_probabilities(np.asarray(logits))
        classes = best(log_probability, self._question.top)
        gates = jax.device_get(self._gates(batch)) if self._question.gates else {}
        heat = np.asarray(self._heat(batch, classes[:, 0])) if self._question.maps else None
        for place, (path, image) in enumerate(readable):
            if np.isnan(log_probability[place]).any():
                yield Answer(path, f"what the network says of {path} is not finite")
                continue
            yield Answer(
                path,
                classes=tuple(classes[place].tolist()),
                probabilities=tuple(np.exp(log_probability[place][classes[place]]).tolist()),
                gates={name: of_batch[place] for name, of_batch in gates.items()},
                map=None if heat is None else self._write_map(path, image, heat[place]),
            )

    def _write_map(self, image_path: Path, image: np.ndarray, heat: np.ndarray) -> Path:
        path, png = self._maps[image_path], io.BytesIO()
        explain.overlay(image, heat).save(png, "PNG")
        with files.refused(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, png.getvalue())
        return path


def _read_batches(
    network: Classifier, paths: Sequence[Path], batch_size: int
) -> Iterator[list[ReadFile]]:
    """The files in batches, as the network is shown them; threads read some batches ahead."""

    def read(path: Path) -> ReadFile:
        try:
            return path, network.preprocessing(open_image(path))
        except InputError as error:
            return path, error

    pending: collections.deque[list[Future[ReadFile]]] = collections.deque()
    with ThreadPoolExecutor(len(processors.usable())) as pool:
        for start in range(0, len(paths), batch_size):
            pending.append([pool.submit(read, path) for path in paths[start : start + batch_size]])
            if len(pending) > AHEAD:
                yield [future.result() for future in pending.popleft()]
        for batch in pending:
            yield [future.result() for future in batch]


def map_files(paths: Sequence[Path], folder: Path | None) -> dict[Path, Path]:
    """Name a file in the folder for each image's map, numbered where images share a name."""
    if folder is None:
        return {}
    maps: dict[Path, Path] = {}
    taken: collections.Counter[str] = collections.Counter()
    for path in dict.fromkeys(paths):
        taken[path.stem] += 1
        number = f"-{taken[path.stem]}" if taken[path.stem] > 1 else ""
        maps[path] = folder / f"{path.stem}_cam{number}.png"
    return maps
