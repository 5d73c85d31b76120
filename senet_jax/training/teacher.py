"""Distillation: a trained network whose answers a run learns, beside the labels.

The teacher sees the images that the network sees, augmented and mixed as they are, and normalises
them by its own statistics (Beyer et al., arXiv 2106.05237, on why it must see the same).
"""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from senet_jax import data
from senet_jax.errors import InputError, counted, named
from senet_jax.layers.network import Network
from senet_jax.models.shapes import takes
from senet_jax.runs import numbering
from senet_jax.training.config import TrainConfig
from senet_jax.training.start import TIMM, Origin, check_shapes, of_weights
from senet_jax.training.step import shape_at
from senet_jax.weights import loading, sources
from senet_jax.weights.class_names import first_difference, readable

NAME, SHA256 = RECORDS = ("teacher", "teacher_sha256")


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained network, as training calls it.

    Attributes:
      model: the module.
      variables: `params` and `batch_stats`, which the state of the run carries.
      factor, shift: numbers per channel that turn what the run normalises into what this network
        takes: x * factor + shift.
      records: what the run's result says of it: the network's name and the sum of its weights, see
        weights.loading.Weights.
    """

    model: Network
    variables: Any
    factor: tuple[float, ...]
    shift: tuple[float, ...]
    records: Mapping[str, Any]

    def __call__(self, variables: Any, images: jax.Array) -> jax.Array:
        """Logits [B, classes] for images [B, H, W, C] that the run has normalised."""
        images = images * jnp.array([[[self.factor]]]) + jnp.array([[[self.shift]]])
        logits: Any = self.model.apply(variables, images)
        return jax.lax.stop_gradient(logits)


def load_teacher(train: TrainConfig, dataset: data.Dataset, first_size: int, dtype: Any) -> Teacher:
    """Load the network of train.teacher for the images and classes of a dataset.

    Args:
      first_size: smaller side of images at first, if they grow; 0 if not.
      dtype: type of its activations.

    Raises: InputError if it cannot be read, or is for other classes or images.
    """
    shape, count = dataset.train.image_shape, dataset.num_classes
    with named("train.teacher"):
        name, source = sources.by_word(train.teacher)
        origin = Origin(TIMM if source is True else str(source), train.teacher_weights)
        _, images = of_weights(name, origin)
        weights = loading.load_pretrained(name, source, train.teacher_weights, dtype=dtype)
        if weights.classes != count:
            raise InputError(
                f"{train.teacher} knows {weights.classes} classes, and the dataset has {count}"
            )
        if difference := first_difference(weights.class_names, readable(dataset.class_names)):
            raise InputError(
                f"{train.teacher} knows other classes than those of the dataset: {difference}"
            )
        _warn_of_other_numbers(train.teacher, dataset)
        mean, std = ([255 * value for value in images[key]] for key in ("mean", "std"))
        if len(mean) != shape[-1]:
            raise InputError(
                f"{train.teacher} is for images of "
                f"{counted(len(mean), 'channel')}, and these have {shape[-1]}"
            )
        smallest = shape_at(first_size, shape)
        if min(smallest[:2]) < (least := weights.model.least_image_size):
            raise InputError(
                f"{train.teacher} needs {least} pixels in height and width, and the images have "
                f"{smallest[0]} x {smallest[1]}"
            )
        check_shapes(weights.variables, weights.model, shape)
        if not takes(weights.model, weights.variables, smallest):
            raise InputError(
                f"{train.teacher} is tied to images of {shape[0]} x {shape[1]} pixels, and cannot "
                f"see those of data.first_size={first_size}"
            )
    sides = zip(dataset.std, dataset.mean, std, mean, strict=True)
    changes = [(ours / theirs, (m - t) / theirs) for ours, m, theirs, t in sides]
    factor, shift = zip(*changes, strict=True)
    records = {NAME: weights.name, SHA256: weights.sha256}
    return Teacher(weights.model, weights.variables, factor, shift, records)


def _warn_of_other_numbers(teacher: str, dataset: data.Dataset) -> None:
    if numbering.differs(dataset.identity, numbering.records_of(teacher)):
        logging.getLogger(__name__).warning(
            "%s was trained on the same files with other labels, and classes have numbers for "
            "names: equal numbers are taken for the same class",
            teacher,
        )


def check_unchanged(now: Mapping[str, Any], notes: Mapping[str, Any], run: Path) -> None:
    """Check that a run that continues has the teacher with which it was begun.

    Args:
      now: records of the teacher that was loaded, if any.
      notes: what the run's checkpoint says.
      run: the run's directory.

    Raises: InputError if not.
    """
    if now.get(SHA256) != notes.get(SHA256):
        raise InputError(
            f"train.teacher has other weights than those that {run} was begun with; put them back, "
            "or train again into another --workdir"
        )
