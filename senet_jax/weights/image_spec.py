"""What images weights were made for, in timm's words and in those of a configuration."""

import dataclasses
from typing import Any

from senet_jax.data.views import INTERPOLATIONS
from senet_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class PretrainedConfig:
    """What images a set of weights was made for; names and meanings are those of timm.

    Attributes:
      input_size: channels, height and width of the images in training.
      crop_pct: share of the shorter side, after resizing, that is the side of the crop.
      interpolation: of resizing: "bicubic" or "bilinear", with antialiasing.
      mean, std: of each channel, of images from 0 to 1.
      num_classes: of the classifier; 0 if the weights have none.
      test_input_size, test_crop_pct: what timm evaluates best with, where it is another.
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    num_classes: int = 1000
    test_input_size: tuple[int, int, int] | None = None
    test_crop_pct: float | None = None


def data_fields(config: PretrainedConfig) -> dict[str, Any]:
    """The keys of a configuration's `data` section that give images as weights were made for.

    Raises: InputError for images that are not square, or another interpolation.
    """
    _, height, width = config.input_size
    if height != width:
        raise InputError(f"the weights are for images of {height} x {width} pixels, not square")
    if config.interpolation not in INTERPOLATIONS:
        raise InputError(
            f"the weights are for images resized with interpolation {config.interpolation!r}; "
            f"known are {' and '.join(INTERPOLATIONS)}"
        )
    return {
        "image_size": height,
        "eval_crop": config.crop_pct,
        "interpolation": config.interpolation,
        "mean": tuple(config.mean),
        "std": tuple(config.std),
    }
