"""Splits of images of which any can be opened at once: read by Pillow, in threads.

The order of an epoch is that of a split in memory, a function of (seed, epoch), and each crop one
of (seed, epoch, place in the epoch). So a run continues at any step without reading what was before
it, and of several processes each reads its part of the batches that one would have.
"""

import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from senet_jax.data import pillow_crops
from senet_jax.data.crops import CropSpec
from senet_jax.data.sources.source import Listed
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
from senet_jax.system import readers

AHEAD = 2  # batches that are read before it is their turn


@dataclasses.dataclass(frozen=True)
class FileStream:
    """A split on disk. Its images are RGB; grey ones have three equal channels.

    `chosen` are the places in it that are taken, [N]; None takes all.
    """

    source: Listed
    split: str
    crops: CropSpec
    share: Share = WHOLE
    chosen: np.ndarray | None = dataclasses.field(default=None, compare=False)
    repeats: int = 1

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of each image as it leaves here."""
        return self.crops.image_shape

    @functools.cached_property
    def _places(self) -> list[tuple[str, range]]:
        return self.source.places(self.split)

    @functools.cached_property
    def _labels(self) -> np.ndarray:
        """All labels [N] int32. Raises: InputError if one of them is no class."""
        label = np.concatenate([self.source.labels(name)[r] for name, r in self._places])
        what = f"{len(label):,} labels of {self.source.name!r}, split {self.split!r},"
        check_labels(label, len(self.source.class_names), what, "correct them")
        return label.astype(np.int32)[slice(None) if self.chosen is None else self.chosen]

    def labels(self) -> np.ndarray:
        return self._labels

    def take(self, places: np.ndarray) -> "FileStream":
        """The examples at some places [M], in that order."""
        return dataclasses.replace(
            self, chosen=places if self.chosen is None else self.chosen[places]
        )

    def check_first_labels(self) -> None:
        """Raises: InputError if a label is no class."""
        len(self)

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Batches without end, from step `start` on; each epoch in an order of its own.

        Each epoch has `len(self) // batch_size` full batches.
        """
        part, steps_per_epoch = self.share.of_batch(batch_size), len(self) // batch_size

        def steps() -> Iterator[tuple[int, int, np.ndarray]]:
            """Epoch, place of the first example in it, and the examples of each step."""
            epoch, offset = divmod(start, steps_per_epoch)
            while True:
                order = np.random.default_rng([seed, epoch]).permutation(len(self))
                for first in range(offset * batch_size, steps_per_epoch * batch_size, batch_size):
                    places = places_of_batch(first, batch_size, self.repeats)
                    yield epoch, first + part.start, order[places // self.repeats][part]
                epoch, offset = epoch + 1, 0

        def see(epoch: int, place: int, index: int) -> np.ndarray | InputError:
            # A number more than the order has: random numbers of their own.
            rng = np.random.default_rng([seed, epoch, place, 1])
            return self._seen(index, lambda image: pillow_crops.random_part(self.crops, image, rng))

        ahead, now = itertools.tee(steps())
        each = (
            functools.partial(see, epoch, place, index)
            for epoch, first, indices in ahead
            for place, index in enumerate(indices.tolist(), start=first)
        )
        size = self.share.size(batch_size)
        images = readers.in_order(lambda look: look(), each, AHEAD * size)
        unreadable, last = 0, -1
        for epoch, _, indices in now:
            seen = list(itertools.islice(images, size))
            unreadable = self._count_bad(seen, unreadable if epoch == last else 0)
            last = epoch
            good = np.flatnonzero([isinstance(image, np.ndarray) for image in seen])
            chosen = good[nearest_readable(good, size, self.source.name)]
            image = np.stack([seen[place] for place in chosen])
            yield {"image": image, "label": self._labels[indices[chosen]]}

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every example exactly once, in order; padding and unreadable images are masked."""
        part, size = self.share.of_batch(batch_size), self.share.size(batch_size)
        view, places = pillow_crops.view_of(self.crops), np.arange(len(self), dtype=np.int32)
        batches = [
            places[start : start + batch_size][part] for start in range(0, len(self), batch_size)
        ]
        images = readers.in_order(
            lambda index: self._seen(index, view), itertools.chain(*batches), AHEAD * size
        )
        unreadable = 0
        for place in batches:
            seen = list(itertools.islice(images, len(place)))
            unreadable = self._count_bad(seen, unreadable)
            mask = np.zeros(len(place), np.float32)
            image = np.zeros((len(place), *self.crops.eval_shape), np.uint8)
            for row, one in enumerate(seen):
                if isinstance(one, np.ndarray):
                    image[row], mask[row] = one, 1
            batch = {"image": image, "label": self._labels[place], "mask": mask, "place": place}
            yield padded(batch, size)

    def _seen(
        self, index: int, view: Callable[[Image.Image], np.ndarray]
    ) -> np.ndarray | InputError:
        """What a view shows of an example, or the sentence that says why it cannot be read."""
        name, place = self._place(index)
        try:
            return view(self.source.open(name, place))
        except InputError as error:
            return error

    def _place(self, index: int) -> tuple[str, int]:
        """The split that an example is in, and its place there."""
        if self.chosen is not None:
            index = int(self.chosen[index])
        for name, places in self._places:
            if index < len(places):
                return name, places[index]
            index -= len(places)
        raise IndexError(index)

    def _count_bad(self, seen: Sequence[np.ndarray | Exception], before: int) -> int:
        """Name what cannot be read; gives the number of views of that in this pass.

        Args:
          before: their number before these.

        Raises: InputError if there is too much of it.
        """
        for error in (one for one in seen if not isinstance(one, np.ndarray)):
            before += 1
            images = math.ceil(before / self.repeats)
            if images > self.crops.max_unreadable:
                raise InputError(
                    f"{counted(images, 'image')} of {self.source.name!r}, split {self.split!r}, "
                    "cannot be "
                    f"decoded; data.max_unreadable is {self.crops.max_unreadable} (last: {error})"
                )
            logging.getLogger(__name__).warning(
                "%s (%d images of %r so far in this pass cannot be decoded)",
                error,
                images,
                self.source.name,
            )
        return before
