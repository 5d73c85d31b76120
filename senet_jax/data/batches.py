"""What every split gives, whether it is kept in memory, streamed or made up.

A Batch is a dict of NumPy arrays:
  image [B, H, W, C] uint8   normalised and augmented on the device, inside the step
  label [B] int32
  mask  [B] float32          evaluation only: 1 for an example, 0 for padding
"""

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np

Batch = dict[str, np.ndarray]


def padded(batch: Batch, batch_size: int) -> Batch:
    """A batch of `image`, `label` and `mask`, filled up to `batch_size` with zeros."""
    missing = batch_size - len(batch["label"])
    return {
        key: np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))
        for key, values in batch.items()
    }


class Split(Protocol):
    """Examples of one image size, of a known number."""

    def __len__(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of each image."""
        ...

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Full batches without end from step `start` on, a pure function of (seed, step).

        An epoch has `len(self) // batch_size` of them and an order of its own.
        """
        ...

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every example exactly once; the last batch is padded and masked."""
        ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A training and an evaluation split.

    Attributes:
      class_names: of each label, from 0 on.
      mean, std: of each channel, in units of 0 to 255, to normalise images with.
    """

    train: Split
    eval: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)
