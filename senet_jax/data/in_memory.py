"""Splits that fit in memory: read once through TFDS, kept as uint8, batched by index.

The order of examples is a pure function of (seed, epoch), so a run can continue at any step without
anything about the data being saved. Of several processes each holds the whole split, and all
together get the batches that one would.
"""

import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from senet_jax.data import orientation
from senet_jax.data.split import WHOLE, Batch, Share, check_labels, padded
from senet_jax.data.tfds_builder import import_tfds
from senet_jax.data.tfds_source import TfdsSource
from senet_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Images:
    """A split in memory: image [N, H, W, C] uint8 and label [N] int32."""

    image: np.ndarray
    label: np.ndarray
    share: Share = WHOLE

    def __len__(self) -> int:
        return len(self.label)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of each image."""
        return self.image.shape[1:]

    def labels(self) -> np.ndarray:
        return self.label

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over all pixels, in units of 0 to 255."""
        channels = self.image.shape[-1]
        # A histogram of the bytes gives both exactly, without a float copy of the dataset.
        counts = np.stack(
            [np.bincount(self.image[..., c].ravel(), minlength=256) for c in range(channels)]
        )
        values = np.arange(256)
        mean = counts @ values / counts.sum(axis=1)
        variance = counts @ values**2 / counts.sum(axis=1) - mean**2
        # A channel without variation (an alpha channel, say) is centred and left unscaled.
        std = np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1.0)
        return tuple(mean.tolist()), tuple(std.tolist())

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Batches without end, from step `start` on; each epoch in an order of its own.

        Each epoch has `len(self) // batch_size` full batches; the examples left over differ from
        epoch to epoch, as the order does.
        """
        places, steps_per_epoch = self.share.of_batch(batch_size), len(self) // batch_size
        epoch, offset = divmod(start, steps_per_epoch)
        while True:
            order = np.random.default_rng([seed, epoch]).permutation(len(self))
            for step in range(offset, steps_per_epoch):
                index = order[step * batch_size : (step + 1) * batch_size][places]
                yield {"image": self.image[index], "label": self.label[index]}
            epoch, offset = epoch + 1, 0

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every example exactly once, in order; the last batch is padded and masked."""
        places = self.share.of_batch(batch_size)
        for start in range(0, len(self), batch_size):
            part = slice(start + places.start, start + places.stop)
            image, label = self.image[part], self.label[part]
            mask = np.ones(len(label), np.float32)
            place = np.arange(len(self), dtype=np.int32)[part]
            yield padded(
                {"image": image, "label": label, "mask": mask, "place": place},
                self.share.size(batch_size),
            )


def read(
    source: TfdsSource, split: str, share: Share = WHOLE, classes: range | None = None
) -> Images:
    """Read a split into memory.

    Args:
      classes: labels to take, of which the first becomes label 0; what has another label is left
        out. None takes all.

    Raises: InputError if the split has no example of them, if without `classes` a label is none of
      the dataset's, or if an image cannot be decoded or has another size than the others.
    """
    image, label = _arrays(source, split)
    count = len(source.class_names)
    if classes is None:
        what = f"{len(label):,} labels of {source.name!r}, split {split!r},"
        remedy = f"are they published? data.classes=(0, {count}) leaves such examples out"
        check_labels(label, count, what, remedy)
        return Images(image, label.astype(np.int32), share)
    if unknown := int(((label < 0) | (label >= count)).sum()):
        message = "%d of %d labels of %r, split %r, are no class; these examples are left out"
        logging.getLogger(__name__).warning(message, unknown, len(label), source.name, split)
    is_taken = (label >= classes.start) & (label < classes.stop)
    if not is_taken.any():
        raise InputError(
            f"split {split!r} of {source.name!r} has no example of the classes from "
            f"{classes.start} to {classes.stop - 1}, which data.classes takes"
        )
    label = (label[is_taken] - classes.start).astype(np.int32)
    return Images(image[is_taken], label, share)


def _arrays(source: TfdsSource, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All images of a split, upright as orientation.py says, and their labels."""
    tfds = import_tfds()
    import tensorflow as tf

    @tfds.decode.make_decoder()
    def upright(encoded: Any, feature: Any) -> Any:
        image, found = feature.decode_example(encoded), orientation.orientation(encoded)
        return tf.ensure_shape(orientation.turned(image, found), feature.shape)

    try:
        arrays = tfds.as_numpy(
            source.examples(split, batch_size=-1, shuffle_files=False, decoder=upright())
        )
    except tf.errors.InvalidArgumentError as error:
        raise InputError(
            f"split {split!r} of {source.name!r} has an image that cannot be decoded, or has not "
            f"the shape {source.image.shape} of the others; set data.image_size to stream it"
        ) from error
    return arrays[source.image_key], arrays[source.label_key]


def check_size(source: TfdsSource) -> None:
    """Raises: InputError for images that differ in size."""
    if len(shape := source.image.shape) != 3 or None in shape:
        raise InputError(
            f"dataset {source.name!r} has images of shape {shape}; only datasets whose images all "
            "have one size can be kept in memory: set data.image_size to stream it"
        )
