"""Splits in memory whose images are put on the devices once, where these have memory of their own.

Batches then have the index of each image, four bytes, and `place_batches` takes the images from
those on the device: the same ones, so that a run ends with the same bits.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from senet_jax.data.in_memory import Images
from senet_jax.data.split import Batch, Dataset, Split
from senet_jax.system import device_memory
from senet_jax.system.devices import Devices, replicate

# Share of a device's free memory that images may take. Calls of a whole epoch have copies of them.
MOST = 1 / 8


@dataclasses.dataclass(frozen=True)
class Resident:
    """A split whose images [N, H, W, C] are on every device; its batches have none."""

    split: Images
    images: Any

    def __len__(self) -> int:
        return len(self.split)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of each image."""
        return self.split.image_shape

    def labels(self) -> np.ndarray:
        return self.split.labels()

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return self.split.train_indices(batch_size, seed, start)

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        return self.split.eval_indices(batch_size)


def place(dataset: Dataset, devices: Devices) -> Dataset:
    """The dataset with those of its splits on the devices for which there is room."""
    room = MOST * device_memory.free_memory(devices)
    placed: list[Split] = []
    for split in (dataset.train, dataset.eval):
        if (
            isinstance(split, Images)
            and (size := len(split) * math.prod(split.image_shape)) <= room
        ):
            split, room = Resident(split, replicate(np.asarray(split.image), devices)), room - size
        placed.append(split)
    return dataclasses.replace(dataset, train=placed[0], eval=placed[1])


def images(split: Split) -> Any:
    """The images of a split that are on the devices; None if they are not."""
    return split.images if isinstance(split, Resident) else None
