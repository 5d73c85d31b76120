"""Splits that fit in memory: read once, kept as uint8, batched by index.

The order of examples is a pure function of (seed, epoch), so a run can continue at any step
without anything of the data being saved. Of several processes each holds the whole split, and all
together get the batches that one would.
"""

import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from senet_jax.data.sources.source import Source
from senet_jax.data.split import (
    WHOLE,
    Batch,
    Share,
    check_labels,
    nearest_readable,
    padded,
    places_of_batch,
)
from senet_jax.errors import InputError, counted

CHUNK = 2**24  # bytes of images that are looked at in one go


class Rows:
    """Rows of several arrays in an order of their own, copied only as they are asked for.

    Args:
      arrays: arrays [N, ...] that differ in N alone.
      array, row: the number of each row's array, and its place in that; both [M].
    """

    def __init__(self, arrays: Sequence[np.ndarray], array: np.ndarray, row: np.ndarray) -> None:
        self._arrays, self._array, self._row = arrays, array, row
        self.shape, self.dtype = (len(row), *arrays[0].shape[1:]), arrays[0].dtype

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, key: Any) -> np.ndarray:
        array, row = self._array[key], self._row[key]
        if len(self._arrays) == 1:
            return self._arrays[0][row]
        result = np.empty((*np.shape(row), *self.shape[1:]), self.dtype)
        for number, one in enumerate(self._arrays):
            result[array == number] = one[row[array == number]]
        return result

    @classmethod
    def of(
        cls, arrays: Sequence[np.ndarray], array: np.ndarray, row: np.ndarray
    ) -> "np.ndarray | Rows":
        """The same rows; of one array and one after the other, they are a part of it."""
        if len(arrays) == 1 and len(row) and (np.diff(row) == 1).all():
            return arrays[0][row[0] : row[-1] + 1]
        return cls(arrays, array, row)

    def take(self, places: np.ndarray) -> "np.ndarray | Rows":
        """The rows at some places, uncopied as these are."""
        return Rows.of(self._arrays, self._array[places], self._row[places])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


@dataclasses.dataclass(frozen=True)
class Images:
    """A split in memory: image [N, H, W, C] uint8 and label [N] int32.

    At the places of images that cannot be read others stand in, with their labels; evaluation
    leaves these places out. `unreadable` has the places, and the labels that were theirs. A
    training batch has `repeats` views of an example, see places_of_batch.
    """

    image: np.ndarray | Rows
    label: np.ndarray
    share: Share = WHOLE
    unreadable: Mapping[int, int] = dataclasses.field(default_factory=dict)
    repeats: int = 1

    def __len__(self) -> int:
        return len(self.label)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of each image."""
        return self.image.shape[1:]

    def labels(self) -> np.ndarray:
        return self.label

    def take(self, places: np.ndarray) -> "Images":
        """The examples at some places [M], in that order."""
        rows = self.image
        if not isinstance(rows, Rows):
            rows = Rows([rows], np.zeros(len(self), int), np.arange(len(self)))
        bad = np.flatnonzero(np.isin(places, [*self.unreadable])).tolist()
        unreadable = {place: self.unreadable[int(places[place])] for place in bad}
        return Images(rows.take(places), self.label[places], self.share, unreadable)

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over all pixels, in units of 0 to 255."""
        # A histogram of the bytes gives both exactly, without a float copy of the dataset.
        *sides, channels = self.image_shape
        counts, step = np.zeros((channels, 256), np.int64), max(1, CHUNK // math.prod(sides))
        for start in range(0, len(self), step):
            part = self.image[start : start + step]
            for channel in range(channels):
                counts[channel] += np.bincount(part[..., channel].ravel(), minlength=256)
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
        for batch in self.train_indices(batch_size, seed, start):
            yield {"image": self.image[batch["index"]], "label": batch["label"]}

    def train_indices(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `train_batches` with the "index" [B] int32 of each image instead of it."""
        own, steps_per_epoch = self.share.of_batch(batch_size), len(self) // batch_size
        epoch, offset = divmod(start, steps_per_epoch)
        while True:
            order = np.random.default_rng([seed, epoch]).permutation(len(self))
            for step in range(offset, steps_per_epoch):
                places = places_of_batch(step * batch_size, batch_size, self.repeats)
                index = order[places // self.repeats][own]
                yield {"index": index.astype(np.int32), "label": self.label[index]}
            epoch, offset = epoch + 1, 0

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every example exactly once, in order; the last batch is padded and masked."""
        size = self.share.size(batch_size)
        for batch in self._eval_places(batch_size):
            yield padded({"image": self.image[batch["place"]], **batch}, size)

    def eval_indices(self, batch_size: int) -> Iterator[Batch]:
        """The batches of `eval_batches` with the "index" [B] int32 of each image instead of it."""
        for batch in self._eval_places(batch_size):
            yield padded({"index": batch["place"], **batch}, self.share.size(batch_size))

    def _eval_places(self, batch_size: int) -> Iterator[Batch]:
        own, unreadable = self.share.of_batch(batch_size), [*self.unreadable]
        for start in range(0, len(self), batch_size):
            last = min(start + own.stop, len(self))
            place = np.arange(start + own.start, last, dtype=np.int32)
            mask = (~np.isin(place, unreadable)).astype(np.float32)
            yield {"label": self.label[place], "mask": mask, "place": place}


def read(
    source: Source,
    split: str,
    share: Share = WHOLE,
    classes: range | None = None,
    max_unreadable: int = 0,
) -> Images:
    """Read a split into memory, or rather map it.

    Args:
      classes: labels to take, of which the first becomes label 0; what has another label is left
        out. None takes all.
      max_unreadable: images that may be unreadable; each is named, and the next one stands in.

    Raises: InputError if the split has no example of them, if without `classes` a label is none of
      the dataset's, or if too many images cannot be decoded or have another size than the others.
    """
    names = list(dict.fromkeys(name for name, _ in source.places(split)))
    parts = [(names.index(name), np.array(p)) for name, p in source.in_reading_order(split)]
    array = np.concatenate([np.full(len(places), number) for number, places in parts])
    row = np.concatenate([places for _, places in parts])
    label = Rows([source.labels(name) for name in names], array, row)[:]
    count = len(source.class_names)
    if classes is None:
        what = f"{len(label):,} labels of {source.name!r}, split {split!r},"
        remedy = f"are they published? data.classes=(0, {count}) leaves such examples out"
        check_labels(label, count, what, remedy)
    else:
        label, is_taken = _taken(label, classes, source, split)
        array, row = array[is_taken], row[is_taken]
    label = label.astype(np.int32)
    # Asked for first: where too many are unreadable, that is the better sentence.
    image = Rows.of([source.images(name) for name in names], array, row)
    bad = np.flatnonzero(Rows([source.unreadable(name) for name in names], array, row)[:])
    if not len(bad):
        return Images(image, label, share)
    for place in bad[: max_unreadable + 1]:
        reason = source.why_unreadable(names[array[place]], int(row[place]))
        logging.getLogger(__name__).warning("%s; it is left out", reason)
    if len(bad) > max_unreadable:
        raise InputError(
            f"{counted(len(bad), 'image')} of {source.name!r}, split {split!r}, cannot be decoded; "
            f"data.max_unreadable is {max_unreadable}"
        )
    good = np.setdiff1d(np.arange(len(label)), bad)
    stand_in = np.arange(len(label))
    stand_in[bad] = good[nearest_readable(good, len(label), source.name)[bad]]
    image = Rows.of([source.images(name) for name in names], array[stand_in], row[stand_in])
    unreadable = dict(zip(bad.tolist(), label[bad].tolist(), strict=True))
    return Images(image, label[stand_in], share, unreadable)


def class_ends(classes: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """What `data.classes` gives, shares of so many classes as whole numbers of them."""
    if all(type(end) is float and 0 <= end <= 1 for end in classes):
        return tuple(round(end * count) for end in classes)
    return classes


def _taken(
    label: np.ndarray, classes: range, source: Source, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """The labels among `classes`, counted from their first, and which of all labels these are."""
    if unknown := int(((label < 0) | (label >= len(source.class_names))).sum()):
        message = "%d of %d labels of %r, split %r, are no class; these examples are left out"
        logging.getLogger(__name__).warning(message, unknown, len(label), source.name, split)
    is_taken = (label >= classes.start) & (label < classes.stop)
    if not is_taken.any():
        raise InputError(
            f"split {split!r} of {source.name!r} has no example of the classes from "
            f"{classes.start} to {classes.stop - 1}, which data.classes takes"
        )
    return label[is_taken] - classes.start, is_taken
