"""From an image to what a network takes: the middle, cut out, resized and normalised."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from PIL import Image

from senet_jax.data import center_crop
from senet_jax.data.augment import normalize
from senet_jax.data.image_files import MODES, in_eight_bits
from senet_jax.data.pillow_crops import middle, resized
from senet_jax.errors import InputError, counted
from senet_jax.weights.image_spec import CROP_MODES, ImageSpec, image_fields

LARGEST = 8192  # pixels of a side of what a network is shown; more would not fit into memory


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How images of any size become what a network takes.

    Attributes:
      image_shape: [H, W, C] of the result. A square is cut out of the middle; to another shape,
        which only datasets in memory have, the whole image is resized.
      eval_crop: side of the square against the resized image's shorter side ("crop_pct" in timm).
      interpolation: "bilinear" or "bicubic"; images are resized with antialiasing.
      mean, std: one number per channel, in units of 0 to 255.
      crop_mode: the way to the square, as in timm: "center" is what `eval_crop` says; "squash"
        resizes both sides to the crop over `eval_crop` and cuts out the middle; "border" resizes
        the longer side to that, cuts out the middle, and surrounds what is too short by the mean.

    Raises:
      InputError: for another crop or crop mode, a size below 1, or another number of channels than
        in MODES or in mean and std.
    """

    image_shape: tuple[int, int, int]
    eval_crop: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_mode: str = "center"

    @classmethod
    def of_weights(cls, config: ImageSpec) -> "Preprocessing":
        """What published weights are made for. Raises: InputError as `image_fields` and the class.

        Example:
          preprocessing = Preprocessing.of_weights(timm.weights()["seresnet50.ra2_in1k"])
        """
        fields = image_fields(config)
        side, channels = fields["image_size"], config.input_size[0]
        mean, std = (tuple(255 * value for value in fields[key]) for key in ("mean", "std"))
        shape = side, side, channels
        return cls(shape, config.crop_pct, config.interpolation, mean, std, config.crop_mode)

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
        if side := section.get("eval_size"):
            image_shape = (side, side, image_shape[-1])
        return cls(image_shape, eval_crop, section["interpolation"], mean, std)

    def __post_init__(self) -> None:
        *sides, channels = self.image_shape
        if channels not in MODES:
            raise InputError(
                f"the network takes images of "
                f"{counted(channels, 'channel')}, as no file has that is read "
                "here: known are 1 (grey), 3 (colours) and 4 (colours and transparency)"
            )
        if {len(self.mean), len(self.std)} != {channels}:
            raise InputError(
                f"the network takes images of {counted(channels, 'channel')}, but mean and std are "
                f"{self.mean} and {self.std}"
            )
        if not 1 <= min(sides) <= max(sides) <= LARGEST:
            size = " x ".join(map(str, sides))
            raise InputError(f"the size of images must be from 1 to {LARGEST} pixels, not {size}")
        if not 0 < self.eval_crop <= 1:
            raise InputError(f"eval_crop must be above 0 and at most 1, not {self.eval_crop}")
        if self.crop_mode not in CROP_MODES:
            known = ", ".join(CROP_MODES)
            raise InputError(f"crop_mode must be one of {known}, not {self.crop_mode!r}")

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Turn an image of Pillow's into uint8 [H, W, C].

        Raises: InputError for anything but an image, and for pixels of 32 bits or with a sign.
        """
        if not isinstance(image, Image.Image):
            raise InputError(
                "preprocessing takes an image, as of open_image(path) or Image.fromarray(pixels), "
                f"not {type(image).__name__}"
            )
        height, width, channels = self.image_shape
        try:
            image = in_eight_bits(image).convert(MODES[channels])
        except ValueError as error:
            raise InputError(f"an image of mode {image.mode} cannot be read: {error}") from error
        if height != width:
            return self._pixels(resized(image, height, width, self.interpolation))
        if self.crop_mode == "center":
            return self._pixels(middle(image, height, self.eval_crop, self.interpolation))
        scale = center_crop.shorter_side(height, self.eval_crop)
        if self.crop_mode == "squash":
            return self._middle(resized(image, scale, scale, self.interpolation))
        longest = max(image.size)
        height, width = (
            max(1, round(side * scale / longest)) for side in (image.height, image.width)
        )
        return self._middle(resized(image, height, width, self.interpolation))

    def _middle(self, image: Image.Image) -> np.ndarray:
        """The middle of an image, uint8 [H, W, C], in the mean colour where that is too short."""
        height, width, channels = self.image_shape
        left, top = (
            center_crop.begin(there, side) if there >= side else -((side - there) // 2)
            for there, side in zip(image.size, (width, height), strict=True)
        )
        if image.width >= width and image.height >= height:
            return self._pixels(image.crop((left, top, left + width, top + height)))
        colour = tuple(round(value) for value in self.mean)
        canvas = Image.new(image.mode, (width, height), colour if channels > 1 else colour[0])
        canvas.paste(image, (-left, -top))
        return self._pixels(canvas)

    def _pixels(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image).reshape(self.image_shape)

    def normalize(self, images: jax.Array) -> jax.Array:
        """Normalise uint8 [B, H, W, C] to the float32 that the network takes.

        Raises: InputError for another type or number of channels.
        """
        self._check(images, (*images.shape[:-1], self.image_shape[2]))
        return normalize(images, self.mean, self.std)

    def check_batch(self, images: jax.Array) -> None:
        """Raises: InputError for anything but uint8 [B, H, W, C] of `image_shape`."""
        self._check(images, (*images.shape[:1], *self.image_shape))

    def _check(self, images: jax.Array, shape: tuple[int, ...]) -> None:
        if images.dtype == np.uint8 and images.shape == shape:
            return
        wanted = ", ".join(map(str, ("B", *self.image_shape)))
        raise InputError(
            f"the network takes uint8 images [{wanted}], not {images.dtype} "
            f"{list(images.shape)}{self._advice(images.shape, images.dtype)}"
        )

    def _advice(self, shape: tuple[int, ...], dtype: Any) -> str:
        """What to do with an array of another type or shape; "" if that is not clear."""
        *sides, channels = self.image_shape
        if shape == self.image_shape:
            return "; images[None] has the axis of the batch"
        if channels != 1 and shape[-3:] == (channels, *sides):
            return "; the channels come last"
        if dtype != np.uint8:
            return "; pixels are from 0 to 255, and normalised here"
        if len(shape) == 4 and shape[3] == channels:
            return "; Classifier.seen_at changes the size"
        return ""

    def as_image_spec(self) -> ImageSpec:
        """Say the same in timm's terms, mean and std in units of 0 to 1."""
        height, width, channels = self.image_shape
        mean, std = (tuple(v / 255 for v in values) for values in (self.mean, self.std))
        size = (channels, height, width)
        mode = self.crop_mode if height == width else "squash"  # the whole image is resized
        return ImageSpec(size, self.eval_crop, self.interpolation, mean, std, crop_mode=mode)

    def seen_at(self, image_size: int | None, eval_crop: float | None) -> "Preprocessing":
        """The same at a different size in pixels, or a different crop; None changes nothing."""
        changes: dict[str, Any] = {}
        if image_size is not None:
            changes["image_shape"] = image_size, image_size, self.image_shape[2]
        if eval_crop is not None:
            changes["eval_crop"] = eval_crop
        return dataclasses.replace(self, **changes)
