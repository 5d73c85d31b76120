"""A dataset as it lies on disk: its splits, its labels and the names of its classes."""

import abc
import hashlib
import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from senet_jax.data.sources import split_terms
from senet_jax.data.sources.split_terms import Splits
from senet_jax.errors import InputError


class Source(abc.ABC):
    """What in_memory.py and streams ask of a dataset, whatever it is read from.

    Attributes:
      name: the dataset's name as the user wrote it.
    """

    name: str

    @property
    @abc.abstractmethod
    def splits(self) -> Splits:
        """Splits by name; what they are, split_terms.py says."""

    @property
    @abc.abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """One name per label, from 0 on. Raises: InputError for labels that are no classes."""

    @abc.abstractmethod
    def labels(self, split: str) -> np.ndarray:
        """All labels of a split, by its name, [N] int64."""

    @abc.abstractmethod
    def images(self, split: str) -> np.ndarray:
        """All images of a split, by its name, upright, [N, H, W, C] uint8.

        Raises: InputError if one cannot be decoded, or has another size than the others.
        """

    @property
    @abc.abstractmethod
    def image_shape(self) -> tuple[int | None, ...]:
        """[H, W, C], None where images differ; of some sources only when they were read."""

    @property
    @abc.abstractmethod
    def image_bytes(self) -> int | None:
        """Bytes of the images of all splits as arrays; None where their sizes differ."""

    @property
    def other_names(self) -> Mapping[str, str]:
        """Other names that splits may be called by."""
        return {}

    def unreadable(self, split: str) -> np.ndarray:
        """Which images of a split, by its name, cannot be read, [N] bool; `images` has others."""
        return np.zeros(sum(self.splits[split]), bool)

    def why_unreadable(self, split: str, place: int) -> str:
        """A sentence on an image of `unreadable`."""
        return f"image {place} of {self.name!r}, split {split!r}, cannot be read"

    def places(self, split: str) -> list[tuple[str, range]]:
        """The terms of a split expression. Raises: InputError if one has no examples."""
        try:
            return split_terms.terms(split, self.splits, self.other_names)
        except ValueError as error:
            counts = ", ".join(f"{name} ({sum(files)})" for name, files in self.splits.items())
            raise InputError(
                f"dataset {self.name!r} has no examples in split {split!r}; its splits are {counts}"
                f"{_how_to_cut([*self.splits])}"
            ) from error

    def in_reading_order(self, split: str) -> Iterator[tuple[str, range]]:
        """Places of a split expression in the order in which the examples are evaluated."""
        return iter(self.places(split))

    def count(self, split: str) -> int:
        """Number of examples of a split expression. Raises: InputError if there are none."""
        return sum(len(places) for _, places in self.places(split))

    def shared(self, one: str, other: str) -> int:
        """Number of examples that are in both of two split expressions."""
        pairs = itertools.product(self.places(one), self.places(other))
        both = [
            range(max(a.start, b.start), min(a.stop, b.stop))
            for (split_of_a, a), (split_of_b, b) in pairs
            if split_of_a == split_of_b
        ]
        return sum(map(len, both))

    def record(self, split: str, place: int) -> Hashable:
        """What is equal for two examples that are read from the same place."""
        return split, place

    def identity(self, split: str, place: int) -> Hashable:
        """What is equal for two examples that are the same image, copies among them."""
        return self.record(split, place)

    def contents(self, split: str) -> np.ndarray | None:
        """What tells the image files of a split expression apart, in order [N]; else None."""
        return None

    def repeated(self, split: str) -> tuple[int, int]:
        """Numbers of examples of a split expression that are there already, further in front.

        Returns: of those that are read from the same place again, and of copies.
        """
        places = [(name, place) for name, places in self.places(split) for place in places]
        records = len({self.record(*place) for place in places})
        return len(places) - records, records - len({self.identity(*place) for place in places})

    def check_fits_memory(self) -> None:
        """Raises: InputError for images that are known to differ in size."""
        if len(shape := self.image_shape) != 3 or None in shape:
            what = "images of several sizes" if len(shape) == 3 else f"images of shape {shape}"
            raise InputError(
                f"dataset {self.name!r} has {what}; only datasets whose images all have one size "
                "can be kept in memory: set data.image_size to stream it"
            )


def _how_to_cut(splits: Sequence[str]) -> str:
    """The end of a sentence on a dataset with a single split: two parts of it; else ""."""
    if len(splits) != 1:
        return ""
    (only,) = splits
    return f"; parts of it are '{only}[:90%]' and '{only}[90%:]', to train and to evaluate on"


class Listed(Source):
    """A dataset of which any image can be opened at once."""

    @abc.abstractmethod
    def open(self, split: str, place: int) -> Image.Image:
        """The image at a place of a split, by its name, as `open_image` reads it.

        Raises: InputError, naming it, if it cannot be read.
        """


def digest(values: np.ndarray) -> str:
    """What tells labels or files of a split apart from those of before, for a result."""
    return hashlib.sha256(values.tobytes()).hexdigest()[:8]


def numbers(count: int) -> tuple[str, ...]:
    """The names of classes that have none."""
    return tuple(map(str, range(count)))
