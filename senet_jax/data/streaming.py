"""Splits that are read from disk as they are used: records, shuffled, decoded, cropped, resized.

Everything is a pure function of (seed, epoch): the order of the files, that of the records, and
each crop. So a run can continue at any step; the records before it are read, but not decoded. Of
several processes each reads a share of the records, the same in each epoch, and shuffles that.
"""

import dataclasses
import functools
import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from senet_jax.data import center_crop
from senet_jax.data.split import WHOLE, Batch, Share
from senet_jax.data.tfds_source import TfdsSource, import_tfds
from senet_jax.data.views import ASPECT_RATIOS, KERNELS, CropSpec, View, Window
from senet_jax.errors import InputError

# Mean and standard deviation of ImageNet's channels, in units of 0 to 255, as everybody uses them;
# nobody reads a large dataset through to find its own.
STATISTICS = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclasses.dataclass(frozen=True)
class Stream:
    """A split on disk. Its images are RGB; grey ones have three equal channels."""

    source: TfdsSource
    split: str
    views: CropSpec
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
            view = functools.partial(self._random_part, np.array(of_crops).view(np.int32))
            first, last = offset * size, steps_per_epoch * size
            batches = self._batches(records.take(last), view, self.image_shape, size, first)
            for batch, _ in self._watched(batches):
                nearest = _nearest_readable(batch.pop("place"), size, self.source.name)
                yield {key: values[nearest] for key, values in batch.items()}
            epoch, offset = epoch + 1, 0

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every example exactly once, in order; padding and unreadable images are masked."""
        size, seen = self.share.size(batch_size), 0
        view = self._corners_and_middle if self.views.corners else self._middle
        batches = self._watched(self._batches(self._records(None), view, self._seen_shape, size))
        for _ in range(0, len(self), batch_size):
            batch, count = next(batches, (self._no_examples(), 0))
            seen += count
            place = batch.pop("place")
            mask = np.ones(len(place), np.float32)
            yield {k: _spread(v, place, size) for k, v in (batch | {"mask": mask}).items()}
        own = len(self.share.of_examples(len(self)))
        assert (seen, next(batches, None)) == (own, None), (seen, own)

    def _no_examples(self) -> Batch:
        return {
            "image": np.zeros((0, *self._seen_shape), np.uint8),
            "label": np.zeros(0, np.int32),
            "place": np.zeros(0, np.int64),
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

    @property
    def _seen_shape(self) -> tuple[int, ...]:
        """Of what evaluation sees of an image."""
        return (5, *self.image_shape) if self.views.corners else self.image_shape

    def _batches(
        self, records: Any, view: View, shape: tuple[int, ...], size: int, first: int = 0
    ) -> Any:
        """Records from place `first` on to batches of those that can be decoded, and a blank each.

        Dicts of image, label, and place in the batch. The blank comes last, so that no batch is
        empty; its label is the number of the batch's records, readable or not.

        Args:
          shape: of what `view` gives.
        """
        import tensorflow as tf

        def image_of(place: Any, in_batch: Any, encoded: Any, label: Any) -> Any:
            return {"image": view(encoded, place), "label": label, "place": in_batch}

        def batch_of(places: Any, records: Any) -> Any:
            encoded, labels = records
            blank = {
                "image": tf.zeros(shape, tf.uint8),
                "label": tf.size(labels),
                "place": tf.constant(-1, tf.int64),
            }
            # TensorFlow cannot catch an error, but a dataset can leave out what ends in one.
            return (
                tf.data.Dataset.from_tensor_slices((places, places - places[0], encoded, labels))
                .map(image_of, num_parallel_calls=os.cpu_count() or 1, deterministic=True)
                .ignore_errors()
                .concatenate(tf.data.Dataset.from_tensors(blank))
                .batch(size + 1)
            )

        # Two at a time: the last images of a batch would leave processors idle.
        return (
            records.enumerate()
            .skip(first)
            .batch(size)
            .interleave(batch_of, cycle_length=2, num_parallel_calls=2, deterministic=True)
        )

    def _random_part(self, key: np.ndarray, encoded: Any, place: Any) -> Any:
        """A random part of an encoded image, resized, as uint8 [H, W, 3]."""
        import tensorflow as tf

        part, _ = self._decoded(encoded, lambda size: self._random_window(key, size, place))
        return self._rounded(
            tf.image.resize(part, self.image_shape[:2], self.views.interpolation, antialias=True)
        )

    def _middle(self, encoded: Any, place: Any) -> Any:
        """The middle of an encoded image, resized, as uint8 [H, W, 3]."""
        del place
        part, size = self._decoded(encoded, self._around_middle)
        begin = center_crop.begin(self._resized(size), self.views.image_size)
        return self._cut(part, self._around_middle(size)[:2], begin, size)

    def _corners_and_middle(self, encoded: Any, place: Any) -> Any:
        """Four corners and the middle of an image that is decoded once, as uint8 [5, H, W, 3]."""
        import tensorflow as tf

        del place
        image, size = self._decoded(encoded, lambda size: tf.concat([[0, 0], size], 0))
        resized, side = self._resized(size), self.views.image_size
        begins = [(resized - side) * corner for corner in ((0, 0), (0, 1), (1, 0), (1, 1))]
        begins.append(center_crop.begin(resized, side))
        return tf.stack([self._cut(image, (0, 0), begin, size) for begin in begins])

    def _decoded(self, encoded: Any, window: Window) -> Any:
        """The part of an encoded image in its window, uint8 [h, w, 3], and the image's size."""
        import tensorflow as tf

        def of_jpeg() -> Any:  # only what lies in the window is decoded
            size = tf.image.extract_jpeg_shape(encoded)[:2]
            part = window(size)
            method = "INTEGER_ACCURATE"
            return tf.image.decode_and_crop_jpeg(encoded, part, 3, dct_method=method), size

        def of_others() -> Any:
            image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            size = tf.shape(image)[:2]
            top, left, height, width = tf.unstack(window(size))
            return image[top : top + height, left : left + width], size

        return tf.cond(tf.io.is_jpeg(encoded), of_jpeg, of_others)

    def _resized(self, size: Any) -> Any:
        """Height and width of an image of some size after resizing for evaluation."""
        import tensorflow as tf

        shorter = center_crop.shorter_side(self.views.image_size, self.views.eval_crop)
        return center_crop.resized(size, tf.reduce_min(size), shorter)

    def _around_middle(self, size: Any) -> Any:
        """Top, left, height and width of what the pixels of the middle are made of."""
        import tensorflow as tf

        resized, side = self._resized(size), self.views.image_size
        begin = center_crop.begin(resized, side)
        step = tf.cast(size, tf.float32) / tf.cast(resized, tf.float32)
        reach = KERNELS[self.views.interpolation][1] * tf.maximum(step, 1) + 1
        first = tf.floor(tf.cast(begin, tf.float32) * step - reach)
        last = tf.math.ceil(tf.cast(begin + side, tf.float32) * step + reach)
        first = tf.maximum(tf.cast(first, tf.int32), 0)
        return tf.concat([first, tf.minimum(tf.cast(last, tf.int32), size) - first], 0)

    def _cut(self, part: Any, origin: Any, begin: Any, size: Any) -> Any:
        """The square that begins at `begin` in a resized image, as uint8 [H, W, 3].

        Args:
          part: of the image before resizing, which begins at `origin`.
          size: of the image before resizing.
        """
        import tensorflow as tf

        scale = tf.cast(self._resized(size), tf.float32) / tf.cast(size, tf.float32)
        cut = tf.raw_ops.ScaleAndTranslate(
            images=part[None],
            size=self.image_shape[:2],
            scale=scale,
            translation=tf.cast(origin, tf.float32) * scale - tf.cast(begin, tf.float32),
            kernel_type=KERNELS[self.views.interpolation][0],
            antialias=True,
        )
        return self._rounded(cut[0])

    def _rounded(self, image: Any) -> Any:
        """Of float32 [H, W, 3] the nearest uint8."""
        import tensorflow as tf

        image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
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

    def _watched(self, batches: Any) -> Iterator[tuple[Batch, int]]:
        """NumPy batches without their blanks, and their numbers of records.

        Raises: InputError if too many images cannot be read.
        """
        unreadable = 0
        for batch in batches.prefetch(2).as_numpy_iterator():
            count, readable = int(batch["label"][-1]), len(batch["label"]) - 1
            if readable < count:
                unreadable += count - readable
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
            yield {key: values[:-1] for key, values in batch.items()}, count


def _spread(values: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """[N, ...] to [size, ...], each at its place; zeros elsewhere."""
    spread = np.zeros((size, *values.shape[1:]), values.dtype)
    spread[place] = values
    return spread


def _nearest_readable(places: np.ndarray, size: int, name: str) -> np.ndarray:
    """For each place in a batch which of the readable ones stands there or next; or the first.

    Raises: InputError if there is none.
    """
    if not len(places):
        raise InputError(f"no image of a whole batch of {name!r} can be decoded")
    return np.searchsorted(places, np.arange(size)) % len(places)
