"""How images of any size become square ones: random crops, and the middle."""

import dataclasses
from collections.abc import Callable
from typing import Any

# By name: TensorFlow's kernel of resizing with antialiasing, and how many pixels of the smaller of
# both images it reaches to either side. They are Pillow's; Keys' cubic has the parameter -1/2.
KERNELS = {"bilinear": ("triangle", 1), "bicubic": ("keyscubic", 2)}


INTERPOLATIONS = tuple(KERNELS)


ASPECT_RATIOS = (3 / 4, 4 / 3)


# Tensors: height and width of an image to top, left, height and width of a part of it.
Window = Callable[[Any], Any]


# Tensors: (an encoded image, its place in the epoch) to what is seen of it.
View = Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class CropSpec:
    """How images of any size become square ones of `image_size` pixels.

    In training a random part of the image, resized ("Inception crop": Szegedy et al. 2015; Hu et
    al., section 5.1). In evaluation the middle of the resized image, see `middle.py`.

    Attributes:
      image_size: of the result, in pixels.
      eval_crop: side of the middle against the resized image's shorter side ("crop_pct" in timm).
      crop_area: the least part of the image's area in a random crop; the greatest is all of it.
      interpolation: "bilinear" or "bicubic", of resizing; antialiased, as in Pillow.
      shuffle_buffer: number of encoded images among which the next is drawn.
      max_unreadable: images in one pass over the data that may fail to decode. In training the next
        one that can be decoded takes the place of such an image; evaluation leaves it out.
      corners: evaluation sees five squares of the same side, in the four corners (upper left, upper
        right, lower left, lower right) and in the middle (Krizhevsky et al. 2012): [5, H, W, C].

    Raises:
      ValueError: for values outside these.
    """

    image_size: int
    eval_crop: float
    crop_area: float
    interpolation: str
    shuffle_buffer: int
    max_unreadable: int
    corners: bool = False

    def __post_init__(self) -> None:
        for field, least in (("image_size", 0), ("shuffle_buffer", 1), ("max_unreadable", 0)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} must be at least {least}, not {getattr(self, field)}")
        for field in ("crop_area", "eval_crop"):
            if not 0 < getattr(self, field) <= 1:
                raise ValueError(
                    f"{field} must be above 0 and at most 1, not {getattr(self, field)}"
                )
        if self.interpolation not in INTERPOLATIONS:
            known = " or ".join(INTERPOLATIONS)
            raise ValueError(f"interpolation must be {known}, not {self.interpolation!r}")
