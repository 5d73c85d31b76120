"""Splits that are read from disk as they are used: records, shuffled, decoded, cropped, resized.

Everything is a pure function of (seed, epoch): the order of the files, that of the records, and
each crop. So a run can continue at any step; the records before it are read, but not decoded. Of
several processes each reads a share of the records, the same in each epoch, and shuffles that.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from senet_jax.data.crops import CropSpec, View, corners_and_middle, middle, random_part
from senet_jax.data.sources.tfds_builder import import_tfds
from senet_jax.data.sources.tfds_source import TfdsSource
from senet_jax.data.split import (
    WHOLE,
    Batch,
    Share,
    check_labels,
    nearest_readable,
    places_of_batch,
)
from senet_jax.errors import InputError, counted
from senet_jax.system import processors

# Mean and standard deviation of ImageNet's channels, in units of 0 to 255, as everybody uses them;
# nobody reads a large dataset through to find its own.
STATISTICS = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CHOOSE_SPLIT = "are they published? choose a split in which all examples have one"
FIRST = 1000  # labels of a split that are looked at before anything begins


@dataclasses.dataclass(frozen=True)
class Stream:
    """A split on disk. Its images are RGB; grey ones have three equal channels."""

    source: TfdsSource
    split: str
    crops: CropSpec
    share: Share = WHOLE
    repeats: int = 1

    def __len__(self) -> int:
        return self.source.count(self.split)

    def check_first_labels(self) -> None:
        """Look at the first labels; the others are looked at as they are read.

        Raises: InputError if one of them is no class.
        """
        self._checked(self.source.first_labels(self.split, FIRST), "first")

    def labels(self) -> np.ndarray:
        source = self.source
        return self._checked(
            np.concatenate(
                [source.labels(name)[places] for name, places in source.places(self.split)]
            )
        )

    def _checked(self, label: np.ndarray, which: str = "") -> np.ndarray:
        what = f"{len(label):,} labels of {self.source.name!r}, split {self.split!r},"
        what = f"the {which} {what}" if which else what
        check_labels(label, len(self.source.class_names), what, CHOOSE_SPLIT)
        return label

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of each image as it leaves here."""
        return self.crops.image_shape

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
                self.crops.shuffle_buffer, seed=int(of_records), reshuffle_each_iteration=False
            )
            if self.repeats > 1:
                records = records.flat_map(_untranslated(self._views))
            key = np.array(of_crops).view(np.int32)
            view = functools.partial(random_part, self.crops, key)
            first, last = offset * size, steps_per_epoch * size
            batches = self._batches(records.take(last), view, self.image_shape, size, first)
            for number, (batch, _) in enumerate(self._watched(batches), start=offset):
                nearest = nearest_readable(batch.pop("place"), size, self.source.name)
                places = places_of_batch(number * size, size, self.repeats)
                nearest = nearest[places - number * size]
                yield {key: values[nearest] for key, values in batch.items()}
            epoch, offset = epoch + 1, 0

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every example exactly once, in order; padding and unreadable images are masked."""
        size, seen, share = self.share.size(batch_size), 0, self.share.of_examples(len(self))
        see = corners_and_middle if self.crops.corners else middle
        view = functools.partial(see, self.crops)
        batches = self._batches(self._records(None), view, self.crops.eval_shape, size)
        watched = self._watched(batches)
        for _ in range(0, len(self), batch_size):
            batch, count = next(watched, (self._no_examples(), 0))
            in_batch = batch["place"]
            mask = np.ones(len(in_batch), np.float32)
            place = (share.start + seen + in_batch).astype(np.int32)
            batch |= {"mask": mask, "place": place}
            yield {key: _spread(values, in_batch, size) for key, values in batch.items()}
            seen += count
        assert (seen, next(watched, None)) == (len(share), None), (seen, share)

    def _no_examples(self) -> Batch:
        return {
            "image": np.zeros((0, *self.crops.eval_shape), np.uint8),
            "label": np.zeros(0, np.int32),
            "place": np.zeros(0, np.int64),
        }

    def _views(self, *record: Any) -> Any:
        """The record as often as a batch has views of it, which have places of their own."""
        import tensorflow as tf

        return tf.data.Dataset.from_tensors(record).repeat(self.repeats)

    def _records(self, shuffle_seed: int | None) -> Any:
        """Encoded images and labels in the order of the files, which a seed shuffles."""
        tfds = import_tfds()
        import tensorflow as tf

        options = tf.data.Options()
        options.deterministic = True
        # One file after the other where the order is not random: the same order for all shares.
        files = 16 if shuffle_seed is not None else 1
        image, label = self.source.image_key, self.source.label_key
        records = self.source.encoded(
            self.split,
            self.share,
            shuffle_files=shuffle_seed is not None,
            read_config=tfds.ReadConfig(
                options=options,
                shuffle_seed=shuffle_seed,
                shuffle_reshuffle_each_iteration=False,
                interleave_cycle_length=files,
            ),
        )
        return records.map(
            _untranslated(lambda record: (record[image], tf.cast(record[label], tf.int64)))
        )

    def _batches(
        self, records: Any, view: View, shape: tuple[int, ...], size: int, first: int = 0
    ) -> Any:
        """Turn records into batches of those that can be decoded, with a blank at the end of each.

        A batch is a dict of image, label, and place in the batch. The blank is there so that no
        batch is empty; its label is the number of the batch's records, readable or not.

        Args:
          shape: what `view` gives of an image.
          size: records per batch.
          first: the place of the first record to take.
        """
        import tensorflow as tf

        def example_of(place: Any, in_batch: Any, encoded: Any, label: Any) -> Any:
            return {"image": view(encoded, place), "label": label, "place": in_batch}

        def batch_of(places: Any, records: Any) -> Any:
            encoded, labels = records
            blank = {
                "image": tf.zeros(shape, tf.uint8),
                "label": tf.size(labels, tf.int64),
                "place": tf.constant(-1, tf.int64),
            }
            # TensorFlow cannot catch an error, but a dataset can leave out what ends in one.
            return (
                tf.data.Dataset.from_tensor_slices((places, places - places[0], encoded, labels))
                .map(example_of, num_parallel_calls=len(processors.usable()), deterministic=True)
                .ignore_errors()
                .concatenate(tf.data.Dataset.from_tensors(blank))
                .batch(size + 1)
            )

        # Two at a time: the last images of a batch would leave processors idle.
        return (
            records.enumerate()
            .skip(first)
            .batch(size)
            .interleave(
                _untranslated(batch_of), cycle_length=2, num_parallel_calls=2, deterministic=True
            )
        )

    def _watched(self, batches: Any) -> Iterator[tuple[Batch, int]]:
        """NumPy batches without their blanks, each with its number of records.

        Raises: InputError if too many images cannot be read, or a label is no class.
        """
        unreadable, classes = 0, len(self.source.class_names)
        for batch in batches.prefetch(2).as_numpy_iterator():
            count, readable = int(batch["label"][-1]), len(batch["label"]) - 1
            if readable < count:
                unreadable += count - readable
                images = math.ceil(unreadable / self.repeats)
                if images > self.crops.max_unreadable:
                    raise InputError(
                        f"{counted(images, 'image')} of {self.source.name!r}, split "
                        f"{self.split!r}, "
                        f"cannot be decoded; data.max_unreadable is {self.crops.max_unreadable}"
                    )
                logging.getLogger(__name__).warning(
                    "%d images of %r so far in this pass cannot be decoded",
                    images,
                    self.source.name,
                )
            batch = {key: values[:-1] for key, values in batch.items()}
            what = f"the {readable:,} labels in a batch of {self.source.name!r}, {self.split!r},"
            check_labels(batch["label"], classes, what, CHOOSE_SPLIT)
            yield batch | {"label": batch["label"].astype(np.int32)}, count


def _untranslated(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of TensorFlow's without Python's `if` and `for` over its tensors.

    TensorFlow would translate its source, and that of all that it calls, at each start of a stream.
    """
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)


def _spread(values: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """Values [N, ...] in an array [size, ...], each at its place; zeros elsewhere."""
    spread = np.zeros((size, *values.shape[1:]), values.dtype)
    spread[place] = values
    return spread
