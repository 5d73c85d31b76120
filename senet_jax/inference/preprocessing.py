"""From an image file to what a network takes: the middle, cut out, resized and normalised."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from PIL import Image

from senet_jax.data import center_crop
from senet_jax.data.augment import normalize
from senet_jax.errors import InputError
from senet_jax.weights.image_spec import ImageSpec, data_fields

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # of Pillow, by the number of channels
LONGEST = 64  # times as long as wide; of a longer image the ends are far outside the middle


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How images of any size become what a network takes.

    Attributes:
      image_shape: [H, W, C] of the result. A square is cut out of the middle; to another shape,
        which only datasets in memory have, the whole image is resized.
      eval_crop: side of the square against the resized image's shorter side ("crop_pct" in timm).
      interpolation: "bilinear" or "bicubic"; images are resized with antialiasing.
      mean, std: one number per channel, in units of 0 to 255.

    Raises:
      InputError: if no image file has as many channels, or mean and std have a different number.
    """

    image_shape: tuple[int, int, int]
    eval_crop: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_weights(cls, config: ImageSpec) -> "Preprocessing":
        """What published weights are made for. Raises: InputError as `data_fields` and the class.

        Example:
          preprocessing = Preprocessing.of_weights(timm.weights()["seresnet50.ra2_in1k"])
        """
        fields = data_fields(config)
        side, channels = fields["image_size"], config.input_size[0]
        mean, std = (tuple(255 * value for value in fields[key]) for key in ("mean", "std"))
        return cls((side, side, channels), config.crop_pct, config.interpolation, mean, std)

    @classmethod
    def of_run(
        cls,
        section: Mapping[str, Any],
        image_shape: tuple[int, int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> "Preprocessing":
        """What the evaluation of a run shows its network.

        Where the run keeps its images in memory, an image of their shape is left as it is.

        Args:
          section: `data` of the run's configuration.
          image_shape: [H, W, C] of its images.
          mean, std: one number per channel, in units of 0 to 255.
        """
        eval_crop = section["eval_crop"] if section["image_size"] else 1.0
        return cls(image_shape, eval_crop, section["interpolation"], mean, std)

    def __post_init__(self) -> None:
        channels = self.image_shape[2]
        if channels not in MODES:
            raise InputError(f"the network takes images of {channels} channels, as no file has")
        if {len(self.mean), len(self.std)} != {channels}:
            raise InputError(
                f"the network takes images of {channels} channels, but mean and std are "
                f"{self.mean} and {self.std}"
            )

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Turn an image, RGB, or grey for a network of grey images, into uint8 [H, W, C]."""
        height, width, channels = self.image_shape
        image = image.convert(MODES[channels])
        method = Image.Resampling[self.interpolation.upper()]
        if height != width:
            return self._pixels(image.resize((width, height), method))
        image = _without_far_ends(image)
        size = np.array([image.height, image.width])
        resized = center_crop.resized(
            size, size.min(), center_crop.shorter_side(height, self.eval_crop)
        )
        top, left = center_crop.begin(resized, height).tolist()
        image = image.resize((int(resized[1]), int(resized[0])), method)
        return self._pixels(image.crop((left, top, left + width, top + height)))

    def _pixels(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image).reshape(self.image_shape)

    def normalize(self, images: jax.Array) -> jax.Array:
        """Normalise uint8 [B, H, W, C] to the float32 that the network takes."""
        return normalize(images, self.mean, self.std)

    def as_image_spec(self) -> ImageSpec:
        """Say the same in timm's terms, mean and std in units of 0 to 1."""
        height, width, channels = self.image_shape
        mean, std = (tuple(v / 255 for v in values) for values in (self.mean, self.std))
        size = (channels, height, width)
        return ImageSpec(size, self.eval_crop, self.interpolation, mean, std)

    def seen_at(self, image_size: int | None, eval_crop: float | None) -> "Preprocessing":
        """The same at a different size in pixels, or a different crop; None changes nothing."""
        side = image_size or self.image_shape[0]
        return dataclasses.replace(
            self,
            image_shape=(side, side, self.image_shape[2]) if image_size else self.image_shape,
            eval_crop=eval_crop or self.eval_crop,
        )


def _without_far_ends(image: Image.Image) -> Image.Image:
    """The middle of an image so long that it would not fit into memory when resized."""
    most = LONGEST * min(image.size)
    left, top = (max(0, (side - most) // 2) for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))
