"""The middle of an image, which evaluation and prediction see, to the pixel as in torchvision.

The shorter side is resized to `image_size / eval_crop` pixels and the square in the middle is cut
out, as timm evaluates. A `size` is the height and width of an image, as an array of NumPy or a
tensor of TensorFlow.
"""

import math
from typing import Any


def shorter_side(image_size: int, eval_crop: float) -> int:
    """The shorter side of a resized image, in pixels, rounded down; 299 / (299 / 352) is 352."""
    return math.floor(image_size / eval_crop + 1e-6)


def resized(size: Any, shortest: Any, shorter: int) -> Any:
    """The size of a resized image.

    Args:
      size: the size before.
      shortest: the smaller one of `size`.
      shorter: what `shortest` becomes, in pixels.
    """
    return shorter * size // shortest


def begin(resized: Any, image_size: int) -> Any:
    """Top and left of the middle in a resized image; halves are rounded to even numbers."""
    room = resized - image_size
    return (room + room // 2 % 2) // 2
