"""What every split gives, in memory, streamed or made up, and which part each process gets.

A Batch is a dict of NumPy arrays:
  image [B, H, W, C] uint8   normalised and augmented on the device, inside the step;
                             [B, 5, H, W, C] where evaluation sees five crops (CropSpec.corners)
  label [B] int32
  mask  [B] float32          evaluation only: 1 for an example, 0 for padding
  place [B] int32            evaluation only: the example's place in the split, from 0 on
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from senet_jax.config import differences
from senet_jax.errors import InputError

Batch = dict[str, np.ndarray]
DECIMALS = 6  # of a mean of images from 0 to 1, up to which machines agree
# What of a dataset's identity has a value for the training and one for the evaluation images.
OF_SPLITS = {
    "examples": "the number",
    "labels": "a digest of the labels",
    "files": "a digest of the files",
}


@dataclasses.dataclass(frozen=True)
class Share:
    """The equal part of every batch that goes to one of several processes that train together.

    Attributes:
      index: number of the process, from 0 on; `jax.process_index()`.
      count: number of processes; `jax.process_count()`.

    Raises:
      ValueError: for an index that is not from 0 to `count` - 1.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"index must be from 0 to {self.count - 1}, not {self.index}")

    def size(self, batch_size: int) -> int:
        """Number of examples of a global batch, whose size the number of processes divides."""
        size, remainder = divmod(batch_size, self.count)
        assert not remainder, (batch_size, self.count)
        return size

    def of_batch(self, batch_size: int) -> slice:
        """The places of its examples in a global batch."""
        size = self.size(batch_size)
        return slice(self.index * size, (self.index + 1) * size)

    def of_examples(self, count: int) -> range:
        """The places of its examples among `count`; shares differ by at most one in length."""
        return range(self.index * count // self.count, (self.index + 1) * count // self.count)


WHOLE = Share()


def places_of_batch(first: int, size: int, repeats: int) -> np.ndarray:
    """The places [size] in an epoch of a batch's examples, of which `first` is the first.

    With repeated augmentation (Hoffer et al., arXiv 1901.09335) `repeats` places one after another
    are views of one example, number `place // repeats` in the order of the epoch. In a batch they
    are apart, so that neighbours, which are mixed, are strangers.
    """
    places = np.arange(first, first + size)
    return places[np.argsort(places % repeats, kind="stable")]


def padded(batch: Batch, batch_size: int) -> Batch:
    """Fill a batch up to `batch_size` with zeros."""
    missing = batch_size - len(batch["label"])
    return {
        key: np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))
        for key, values in batch.items()
    }


def check_labels(label: np.ndarray, classes: int, what: str, remedy: str) -> None:
    """Check that every label [N] is a class, from 0 to `classes` - 1.

    Test images of competitions have labels, -1, that nobody has published.

    Args:
      what: the name of these labels in a sentence.
      remedy: the end of the sentence.

    Raises: InputError, with their number, if some are none.
    """
    wrong = label[(label < 0) | (label >= classes)]
    if len(wrong):
        raise InputError(
            f"{len(wrong):,} of {what} are none of the {classes:,} classes, the first {wrong[0]}; "
            f"{remedy}"
        )


def nearest_readable(places: np.ndarray, size: int, name: str) -> np.ndarray:
    """For each place in a batch the index of the readable image there, else of the next one.

    After the last readable image the first one follows.

    Raises: InputError if there is none.
    """
    if not len(places):
        raise InputError(f"no image of a whole batch of {name!r} can be decoded")
    return np.searchsorted(places, np.arange(size)) % len(places)


class Split(Protocol):
    """A known number of examples whose images have one size.

    Numbers of examples and batch sizes are those of all processes together; batches hold the share
    of this process, `batch_size / share.count` examples.
    """

    def __len__(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of each image."""
        ...

    def labels(self) -> np.ndarray:
        """All labels [N], in order, without the images; streamed ones are read through."""
        ...

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Full batches without end from step `start` on, a pure function of (seed, step).

        An epoch has `len(self) // batch_size` of them and an order of its own.
        """
        ...

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every example exactly once; padding is masked.

        All processes get the same number of batches, some perhaps of padding only.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A training and an evaluation split.

    Attributes:
      class_names: one name per label, from 0 on.
      mean, std: one number per channel, in units of 0 to 255, to normalise images with.
      labels: a digest of the labels of each split; () where they would have to be read for that.
      files: a digest of the image files of each split, whole where a fold or classes of it are
        taken; () where the images are no files. It is of their sizes where they are many, see
        sources/same_files.py: most edits change them.
      whole: what there is of each split by name, whichever part is taken: number of examples, a
        digest of their labels, and one of their files, "" where it is not known.
    """

    train: Split
    eval: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    whole: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def records(self) -> dict[str, list[Any]]:
        """What a run records of its images and classes; mean and std are of images from 0 to 1."""
        return {
            "image_shape": [*self.train.image_shape],
            "mean": [value / 255 for value in self.mean],
            "std": [value / 255 for value in self.std],
            "class_names": [*self.class_names],
        }

    @property
    def identity(self) -> dict[str, list[Any]]:
        """By what a run knows its dataset again: `records`, and the `examples` of its splits."""
        examples = [len(self.train), len(self.eval)]
        digests = {"labels": [*self.labels], "files": [*self.files]}
        return self.records | {"examples": examples} | digests

    def check_unchanged(self, records: Mapping[str, Sequence[Any]], run: Path) -> None:
        """Check that it is the dataset that a run was begun with.

        Args:
          records: what the run has recorded of its `identity`.
          run: the run's directory.

        Raises: InputError, naming what differs.
        """
        before, after = (
            {_named(key, n): v for key in records for n, v in enumerate(side.get(key, ()))}
            for side in (records, self.identity)
        )
        if changes := differences(before, after):
            raise InputError(
                f"the dataset is not the one that {run} was trained on, differing in {changes}; "
                "put that one back, or train again into another --workdir"
            )


def _named(key: str, place: int) -> str:
    """What one of the values of a dataset's identity is called where it differs."""
    if key in OF_SPLITS:
        return f"{OF_SPLITS[key]} of the {('training', 'evaluation')[place]} images"
    return f"{key}[{place}]"
