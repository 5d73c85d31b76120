"""Splits that are read from disk as they are used: records, shuffled, decoded, cropped, resized.

Everything is a pure function of (seed, epoch): the order of the files, that of the records, and
each crop. So a run can continue at any step; the records before it are read, but not decoded. Of
several processes each reads a share of the records, the same in each epoch, and shuffles that.
"""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from senet_jax.data.batches import WHOLE, Batch, Share, padded
from senet_jax.data.builders import Source, import_tfds
from senet_jax.errors import InputError

INTERPOLATIONS = ("bilinear", "bicubic")
ASPECT_RATIOS = (3 / 4, 4 / 3)
# Mean and standard deviation of ImageNet's channels, in units of 0 to 255, as everybody uses them;
# nobody reads a large dataset through to find its own.
STATISTICS = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

# Tensors: (height and width of an image, its place in the epoch) to top, left, height, width.
Window = Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class Views:
    """How images of any size become square ones of `image_size` pixels.

    In training a random part of the image, resized ("Inception crop": Szegedy et al. 2015; Hu et
    al., section 5.1). In evaluation the middle, which is cropped before it is resized: the same as
    the other way round but for rounding.

    Attributes:
      image_size: of the result, in pixels.
      eval_crop: side of the middle against the image's shorter side ("crop_pct" in timm).
      crop_area: the least part of the image's area in a random crop; the greatest is all of it.
      interpolation: "bilinear" or "bicubic", of resizing; antialiased, as in Pillow.
      shuffle_buffer: number of encoded images among which the next is drawn.
      max_unreadable: images in one pass over the data that may fail to decode. In training the next
        one that can be decoded takes the place of such an image; evaluation leaves it out.

    Raises:
      ValueError: for values outside these.
    """

    image_size: int
    eval_crop: float
    crop_area: float
    interpolation: str
    shuffle_buffer: int
    max_unreadable: int

    def __post_init__(self) -> None:
        for field, least in (("image_size", 0), ("shuffle_buffer", 1), ("max_unreadable", 0)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} must be at least {least}, not {getattr(self, field)}")
        for field in ("crop_area", "eval_crop"):
            if not 0 < getattr(self, field) <= 1:
                raise ValueError(
                    f"{field} must be above 0 and at most 1, not {getattr(self, field)}"
                )
        if self.interpolation not in INTERPOLATIONS:
            known = " or ".join(INTERPOLATIONS)
            raise ValueError(f"interpolation must be {known}, not {self.interpolation!r}")


@dataclasses.dataclass(frozen=True)
class Stream:
    """A split on disk. Its images are RGB; grey ones have three equal channels."""

    source: Source
    split: str
    views: Views
    share: Share = WHOLE

    def __len__(self) -> int:
        return self.source.count(self.split)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of each image as it leaves here."""
        return (self.views.image_size, self.views.image_size, 3)

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Batches without end, from step `start` on; each epoch in an order of its own.

        Each epoch has `len(self) // batch_size` full batches.
        """
        # No share is too small: it has at least the whole part of len(self) / share.count examples,
        # and of this an epoch takes a multiple of `size` that is not above it.
        size, steps_per_epoch = self.share.size(batch_size), len(self) // batch_size
        epoch, offset = divmod(start, steps_per_epoch)
        while True:
            # Independent of one another: the orders of files and of records, and the crops. Shares,
            # too: with one order for all, the same images would always meet in a batch.
            seeds = np.random.SeedSequence([seed, epoch, self.share.index])
            of_files, of_records, *of_crops = seeds.generate_state(4)
            records = self._records(int(of_files)).shuffle(
                self.views.shuffle_buffer, seed=int(of_records), reshuffle_each_iteration=False
            )
            window = functools.partial(self._random_window, np.array(of_crops).view(np.int32))
            first, last = offset * size, steps_per_epoch * size
            images = self._images(records.take(last), window, first)
            for batch in self._batches(images, size):
                nearest = _nearest_readable(batch["readable"], self.source.name)
                yield {key: batch[key][nearest] for key in ("image", "label")}
            epoch, offset = epoch + 1, 0

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every example exactly once, in order; padding and unreadable images are masked."""
        size, seen = self.share.size(batch_size), 0
        images = self._images(self._records(None), self._middle_window)
        batches = self._batches(images, size)
        for _ in range(0, len(self), batch_size):
            batch = next(batches, self._no_examples())
            seen += len(batch["label"])
            mask = batch.pop("readable").astype(np.float32)
            yield padded(batch | {"mask": mask}, size)
        own = len(self.share.of_examples(len(self)))
        assert (seen, next(batches, None)) == (own, None), (seen, own)

    def _no_examples(self) -> Batch:
        return {
            "image": np.zeros((0, *self.image_shape), np.uint8),
            "label": np.zeros(0, np.int32),
            "readable": np.zeros(0, bool),
        }

    def _records(self, shuffle_seed: int | None) -> Any:
        """Encoded images and labels in the order of the files, which a seed shuffles."""
        tfds = import_tfds()
        import tensorflow as tf

        options = tf.data.Options()
        options.deterministic = True
        image, label = self.source.image_key, self.source.label_key
        records = self.source.examples(
            self.split,
            self.share,
            shuffle_files=shuffle_seed is not None,
            decoders={image: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(
                options=options, shuffle_seed=shuffle_seed, shuffle_reshuffle_each_iteration=False
            ),
        )
        return records.map(lambda record: (record[image], tf.cast(record[label], tf.int32)))

    def _images(self, records: Any, window: Window, first: int = 0) -> Any:
        """Records from place `first` on to dicts of image, label, and whether it was readable."""
        import tensorflow as tf

        def image_of(place: Any, record: Any) -> Any:
            encoded, label = record
            # TensorFlow cannot catch an error, but a dataset of one image can be empty for it.
            viewed = tf.data.Dataset.from_tensors(place).map(
                lambda place: (self._view(encoded, window, place), True)
            )
            blank = tf.data.Dataset.from_tensors((tf.zeros(self.image_shape, tf.uint8), False))
            return (
                viewed.ignore_errors()
                .concatenate(blank)
                .take(1)
                .map(lambda image, good: {"image": image, "label": label, "readable": good})
            )

        return (
            records.enumerate()
            .skip(first)
            .interleave(
                image_of,
                cycle_length=2 * (os.cpu_count() or 1),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
        )

    def _view(self, encoded: Any, window: Window, place: Any) -> Any:
        """The part of an encoded image in its window, resized, as uint8 [H, W, 3]."""
        import tensorflow as tf

        def of_jpeg() -> Any:  # only what lies in the window is decoded
            size = tf.image.extract_jpeg_shape(encoded)[:2]
            part = window(size, place)
            return tf.image.decode_and_crop_jpeg(encoded, part, 3, dct_method="INTEGER_ACCURATE")

        def of_others() -> Any:
            image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            top, left, height, width = tf.unstack(window(tf.shape(image)[:2], place))
            return image[top : top + height, left : left + width]

        part = tf.cond(tf.io.is_jpeg(encoded), of_jpeg, of_others)
        resized = tf.image.resize(
            part, self.image_shape[:2], self.views.interpolation, antialias=True
        )
        image = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
        return tf.ensure_shape(image, self.image_shape)

    def _random_window(self, key: np.ndarray, size: Any, place: Any) -> Any:
        """Top, left, height and width of 8 to 100 % of the area, 3:4 to 4:3 (by default)."""
        import tensorflow as tf

        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.concat([size, [3]], 0),
            tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            tf.random.fold_in(tf.constant(key), tf.cast(place, tf.int32)),
            min_object_covered=0.0,
            aspect_ratio_range=ASPECT_RATIOS,
            area_range=(self.views.crop_area, 1.0),
            max_attempts=10,  # then the whole image
        )
        return tf.concat([begin[:2], extent[:2]], 0)

    def _middle_window(self, size: Any, place: Any) -> Any:
        """The square in the middle."""
        import tensorflow as tf

        side = tf.cast(tf.reduce_min(size), tf.float32) * self.views.eval_crop
        side = tf.maximum(1, tf.cast(tf.round(side), tf.int32))
        return tf.concat([(size - side) // 2, [side, side]], 0)

    def _batches(self, images: Any, batch_size: int) -> Iterator[Batch]:
        """NumPy batches. Raises: InputError if too many images cannot be read."""
        unreadable = 0
        for batch in images.batch(batch_size).prefetch(2).as_numpy_iterator():
            if failed := int((~batch["readable"]).sum()):
                unreadable += failed
                if unreadable > self.views.max_unreadable:
                    raise InputError(
                        f"{unreadable} images of {self.source.name!r}, split {self.split!r}, "
                        f"cannot be decoded; data.max_unreadable is {self.views.max_unreadable}"
                    )
                logging.getLogger(__name__).warning(
                    "%d images of %r so far in this pass cannot be decoded",
                    unreadable,
                    self.source.name,
                )
            yield batch


def _nearest_readable(readable: np.ndarray, name: str) -> np.ndarray:
    """For each place in a batch the next readable one, itself if it is; after the end the first.

    Raises: InputError if there is none.
    """
    good = np.flatnonzero(readable)
    if not len(good):
        raise InputError(f"no image of a whole batch of {name!r} can be decoded")
    return good[np.searchsorted(good, np.arange(len(readable))) % len(good)]
