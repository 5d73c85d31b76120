"""The dataset `fake`: noise with random labels, made once, to time a run without its input."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from senet_jax.data.split import WHOLE, Batch, Dataset, Share
from senet_jax.errors import InputError

NUM_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class Noise:
    """A split whose batches are all the same."""

    count: int
    image_size: int
    share: Share = WHOLE

    def __len__(self) -> int:
        return self.count

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.image_size, self.image_size, 3)

    def labels(self) -> np.ndarray:
        raise InputError("'fake' is noise, whose labels cannot be counted")

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        batch = self._batch(batch_size)
        while True:
            yield batch

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        batch = self._batch(batch_size)
        for start in range(0, self.count, batch_size):
            place = np.arange(start, start + batch_size)[self.share.of_batch(batch_size)]
            mask = place < self.count
            yield batch | {"mask": mask.astype(np.float32), "place": place.astype(np.int32)}

    def _batch(self, batch_size: int) -> Batch:
        rng, places = np.random.default_rng(0), self.share.of_batch(batch_size)
        return {
            "image": rng.integers(0, 256, (batch_size, *self.image_shape), np.uint8)[places],
            "label": rng.integers(0, NUM_CLASSES, batch_size, np.int32)[places],
        }


def dataset(image_size: int, share: Share = WHOLE, eval_size: int = 0) -> Dataset:
    """The dataset: as many training images as ImageNet has, and a batch or so to evaluate."""
    middle = (127.5,) * 3
    return Dataset(
        Noise(1_281_167, image_size, share),
        Noise(256, eval_size or image_size, share),
        tuple(map(str, range(NUM_CLASSES))),
        middle,
        middle,
    )
