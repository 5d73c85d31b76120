"""The mean and deviation with which images are normalised, where a configuration says them."""

import dataclasses

from senet_jax.data.split import Dataset
from senet_jax.errors import InputError, counted


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What images are normalised with where a configuration says it.

    Otherwise a dataset in memory has the mean and deviation of its training split, a streamed one
    ImageNet's. Pretrained weights come with those of the images that they were trained on.

    Attributes:
      mean, std: one number per channel of images from 0 to 1; () leaves the dataset's own.

    Raises:
      ValueError: for numbers that cannot be these.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError(
                "mean and std must have a number for each channel, or both none, not "
                f"{self.mean} and {self.std}"
            )
        if not all(0 <= value <= 1 for value in self.mean):
            raise ValueError(f"mean must be of images from 0 to 1, not {self.mean}")
        if not all(0 < value <= 1 for value in self.std):
            raise ValueError(f"std must be of images from 0 to 1, and above 0, not {self.std}")

    def override(self, dataset: Dataset) -> Dataset:
        """The dataset with these statistics in place of its own, if there are any.

        Raises: InputError if the images differ in their number of channels.
        """
        if not self.mean:
            return dataset
        channels = dataset.train.image_shape[-1]
        if len(self.mean) != channels:
            raise InputError(
                f"data.mean and data.std have {counted(len(self.mean), 'number')}, but the "
                f"images have {counted(channels, 'channel')}"
            )
        mean, std = (tuple(255 * value for value in values) for values in (self.mean, self.std))
        return dataclasses.replace(dataset, mean=mean, std=std)
