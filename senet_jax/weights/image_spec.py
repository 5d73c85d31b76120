"""What images weights were made for, in timm's words and in those of a configuration."""

import dataclasses
from typing import Any

from senet_jax.data.crops import INTERPOLATIONS
from senet_jax.errors import InputError

CROP_MODES = ("center", "squash", "border")


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """What images a set of weights was made for.

    Names and meanings are those of `pretrained_cfg` in timm and in a config.json of its form.

    Attributes:
      input_size: channels, height and width of the images in training, in pixels.
      crop_pct: side of the crop per shorter side of the resized image.
      interpolation: "bicubic" or "bilinear", the way of resizing, with antialiasing.
      mean, std: one number per channel of images from 0 to 1.
      num_classes: width of the classifier; 0 if the weights have none.
      test_input_size, test_crop_pct: what timm evaluates best with, where that is different.
      crop_mode: one of CROP_MODES, the way to the square that is seen, see Preprocessing.
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    num_classes: int = 1000
    test_input_size: tuple[int, int, int] | None = None
    test_crop_pct: float | None = None
    crop_mode: str = "center"


def data_fields(spec: ImageSpec) -> dict[str, Any]:
    """The keys of a configuration's `data` section that give such images.

    Raises: InputError as `image_fields`, and for images that training does not cut as these were.
    """
    if spec.crop_mode != "center":
        raise InputError(
            f"the weights are for images of crop_mode {spec.crop_mode!r}; training and evaluation "
            "know center"
        )
    return image_fields(spec)


def image_fields(spec: ImageSpec) -> dict[str, Any]:
    """The same keys for prediction, which knows all CROP_MODES.

    Raises: InputError for images that are not square, or an unknown interpolation.
    """
    _, height, width = spec.input_size
    if height != width:
        raise InputError(
            f"the weights are for images of {height} x {width} pixels (input_size), not square"
        )
    if spec.interpolation not in INTERPOLATIONS:
        raise InputError(
            f"the weights are for images resized with interpolation {spec.interpolation!r}; "
            f"known are {' and '.join(INTERPOLATIONS)}"
        )
    return {
        "image_size": height,
        "eval_crop": spec.crop_pct,
        "interpolation": spec.interpolation,
        "mean": tuple(spec.mean),
        "std": tuple(spec.std),
    }
