"""Splits of images of which any can be opened at once: read by Pillow, in threads.

The order of an epoch is that of a split in memory, a function of (seed, epoch), and each crop one
of (seed, epoch, place in the epoch). So a run continues at any step without reading what was before
it, and of several processes each reads its part of the batches that one would have.
"""

import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterator

import numpy as np

from senet_jax.data import pillow_views, views
from senet_jax.data.source import Listed
from senet_jax.data.split import (
    WHOLE,
    Batch,
    Share,
    check_labels,
    nearest_readable,
    padded,
)
from senet_jax.errors import InputError
from senet_jax.system import readers

AHEAD = 2  # batches that are read before it is their turn


@dataclasses.dataclass(frozen=True)
class FileStream:
    """A split on disk. Its images are RGB; grey ones have three equal channels."""

    source: Listed
    split: str
    crops: views.CropSpec
    share: Share = WHOLE

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
        return label.astype(np.int32)

    def check_first_labels(self) -> None:
        """Raises: InputError if a label is no class."""
        len(self)

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Batches without end, from step `start` on; each epoch in an order of its own.

        Each epoch has `len(self) // batch_size` full batches.
        """
        part, steps_per_epoch = self.share.of_batch(batch_size), len(self) // batch_size
        size = self.share.size(batch_size)

        def steps() -> Iterator[tuple[int, int, np.ndarray]]:
            epoch, offset = divmod(start, steps_per_epoch)
            while True:
                order = np.random.default_rng([seed, epoch]).permutation(len(self))
                for step in range(offset, steps_per_epoch):
                    yield epoch, step, order[step * batch_size : (step + 1) * batch_size][part]
                epoch, offset = epoch + 1, 0

        def see(item: tuple[int, int, int]) -> np.ndarray | InputError:
            epoch, place, index = item
            # A word of their own: other numbers than those of the order.
            rng = np.random.default_rng([seed, epoch, place, 1])
            return self._seen(index, lambda image: pillow_views.random_part(self.crops, image, rng))

        for_order, for_images = itertools.tee(steps())
        images = readers.in_order(
            see,
            (
                (epoch, step * batch_size + part.start + place, index)
                for epoch, step, indices in for_images
                for place, index in enumerate(indices.tolist())
            ),
            AHEAD * size,
        )
        unreadable, before = 0, -1
        for epoch, _, indices in for_order:
            seen = list(itertools.islice(images, size))
            unreadable = self._count_bad(seen, 0 if epoch != before else unreadable)
            before = epoch
            readable = [place for place, image in enumerate(seen) if isinstance(image, np.ndarray)]
            nearest = nearest_readable(np.array(readable), size, self.source.name)
            chosen = np.array(readable)[nearest]
            yield {
                "image": np.stack([seen[place] for place in chosen]),
                "label": self._labels[indices[chosen]],
            }

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every example exactly once, in order; padding and unreadable images are masked."""
        view, size, part = (
            pillow_views.view_of(self.crops),
            self.share.size(batch_size),
            self.share.of_batch(batch_size),
        )
        batches = [
            np.arange(start, min(start + batch_size, len(self)), dtype=np.int32)[part]
            for start in range(0, len(self), batch_size)
        ]
        images = readers.in_order(
            lambda index: self._seen(index, view), itertools.chain(*batches), AHEAD * size
        )
        unreadable = 0
        for places in batches:
            seen = list(itertools.islice(images, len(places)))
            unreadable = self._count_bad(seen, unreadable)
            image = np.zeros((len(places), *self.crops.eval_shape), np.uint8)
            mask = np.zeros(len(places), np.float32)
            for place, one in enumerate(seen):
                if isinstance(one, np.ndarray):
                    image[place], mask[place] = one, 1
            batch = {"image": image, "label": self._labels[places], "mask": mask, "place": places}
            yield padded(batch, size)

    def _seen(self, index: int, view: Callable) -> np.ndarray | InputError:
        """What a view shows of an example, or the sentence that says why it cannot be read."""
        for name, places in self._places:
            if index < len(places):
                try:
                    return view(self.source.open(name, places[index]))
                except InputError as error:
                    return error
            index -= len(places)
        raise IndexError(index)

    def _count_bad(self, seen: list[np.ndarray | InputError | TimeoutError], before: int) -> int:
        """Name what cannot be read; gives the number of that in this pass, `before` included.

        Raises: InputError if there is too much of it.
        """
        for error in (one for one in seen if not isinstance(one, np.ndarray)):
            before += 1
            if before > self.crops.max_unreadable:
                raise InputError(
                    f"{before} images of {self.source.name!r}, split {self.split!r}, cannot be "
                    f"decoded; data.max_unreadable is {self.crops.max_unreadable} (last: {error})"
                )
            logging.getLogger(__name__).warning(
                "%s (%d images of %r so far in this pass cannot be decoded)",
                error,
                before,
                self.source.name,
            )
        return before
