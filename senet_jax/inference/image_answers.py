"""Answers about image files: classes, gates and maps; files are read while the device works."""

import collections
import dataclasses
import functools
import io
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL.PngImagePlugin import PngInfo

from senet_jax.data.image_files import open_image
from senet_jax.data.image_search import OF_IMAGE, OUR_SIGN, digest_of, is_ours
from senet_jax.errors import InputError
from senet_jax.evaluation.scores import best, log_probabilities
from senet_jax.evaluation.steps import make_logits_step
from senet_jax.inference import explain
from senet_jax.inference.classifier import Classifier
from senet_jax.inference.gated_blocks import NO_GATES, gates_of
from senet_jax.system import files, readers
from senet_jax.system.devices import AXIS, Devices, map_step, replicate, split_batch
from senet_jax.system.terminal import counting

# A file with its pixels [H, W, C] uint8, or with the reason why it has none.
ReadFile = tuple[Path, np.ndarray | InputError]
AHEAD = 3  # batches that are read at once, of which one is computed
LONGEST_STEM = 200  # bytes of an image's name in that of its map; file systems take 255 in all


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
    check: Callable[[], None] = readers.nothing,
) -> Iterator[Answer]:
    """Yield one answer per file, in the order of the files, computed on all local devices.

    Args:
      batch_size: the most images at once, rounded up to a multiple of the devices.
      check: called before each batch and while files are awaited; what it raises ends everything.

    Raises: InputError for gates of a network that has none, and a map that cannot be written.
    """
    devices = jax.local_devices()
    batch_size = -(-min(batch_size, len(paths)) // len(devices)) * len(devices)
    answer_batch = _BatchAnswers(
        network, question, batch_size, devices, map_files(paths, question.maps)
    )
    with counting(len(paths), "predicting") as done:
        reading = _read(network, paths, AHEAD * batch_size, check)
        while batch := list(itertools.islice(reading, batch_size)):
            check()
            readable = [(path, image) for path, image in batch if not isinstance(image, InputError)]
            of_readable = answer_batch(readable)
            for path, image in batch:
                failed = isinstance(image, InputError)
                yield Answer(path, str(image)) if failed else next(of_readable)
            done(len(batch))


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
        step = map_step(step, devices, donate_state=False)
        self._logits = functools.partial(step, replicate(variables, devices))

        def gates(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
            return gates_of(model, variables, normalize(images))

        def heat(variables: Any, images: jax.Array, classes: jax.Array) -> jax.Array:
            return explain.grad_cam(model, variables, normalize(images), classes)

        images = jax.ShapeDtypeStruct(self._shape, np.uint8)
        if question.gates and not jax.eval_shape(gates, variables, images):
            raise InputError(f"{network.name} has {NO_GATES}, so there are no --gates to show")
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
        path, png, signature = self._maps[image_path], io.BytesIO(), PngInfo()
        signature.add_text(*OUR_SIGN)
        signature.add_text(OF_IMAGE, digest_of(image_path))
        explain.overlay(image, heat).save(png, "PNG", pnginfo=signature)
        with files.refused(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, png.getvalue())
        return path


def _read(
    network: Classifier, paths: Sequence[Path], ahead: int, check: Callable[[], None]
) -> Iterator[ReadFile]:
    """The files as the network is shown them; threads read some ahead."""

    def read(path: Path) -> np.ndarray | InputError:
        try:
            return network.preprocessing(open_image(path))
        except InputError as error:
            return error

    images = readers.in_order(read, paths, ahead, check)
    for path, image in zip(paths, images, strict=True):
        silent = isinstance(image, TimeoutError)
        yield path, InputError(f"{path} cannot be read: {image}") if silent else image


def map_files(paths: Sequence[Path], folder: Path | None) -> dict[Path, Path]:
    """Name a file in the folder for each image's map, numbered where that is taken.

    A name is taken by another image's map, of this call or an earlier one, and by a file that is
    none of our maps.
    """
    if folder is None:
        return {}
    maps: dict[Path, Path] = {}
    numbers = collections.defaultdict[str, Iterator[int]](lambda: itertools.count(1))
    for path in dict.fromkeys(paths):
        stem = path.stem
        while len(os.fsencode(stem)) > LONGEST_STEM:
            stem = stem[:-1]
        for number in numbers[stem]:
            file = folder / f"{stem}_cam{f'-{number}' if number > 1 else ''}.png"
            if not os.path.lexists(file) or is_ours(file, path):
                maps[path] = file
                break
    return maps
