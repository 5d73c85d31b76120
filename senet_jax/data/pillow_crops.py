"""What is seen of an image of any size, as crops.py has it, of images that Pillow has read.

The middle is to the pixel what prediction sees. Parts are torchvision's, as those of crops.py are,
but drawn from other random numbers. A window is a part of an image by left, top, right and bottom,
in pixels.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from senet_jax.data import center_crop
from senet_jax.data.crops import ASPECT_RATIOS, ATTEMPTS, CORNERS, CropSpec

LONGEST = 64  # times as long as wide; of a longer image the ends are far outside the middle

Window = tuple[int, int, int, int]


def random_part(crops: CropSpec, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A random part of an image, resized, as uint8 [H, W, 3]."""
    part = image.convert("RGB").crop(random_window(crops, image.size, rng))
    side = crops.image_size
    return np.asarray(resized(part, side, side, crops.interpolation))


def random_window(crops: CropSpec, size: tuple[int, int], rng: np.random.Generator) -> Window:
    """A random window of an image, drawn as torchvision's RandomResizedCrop draws it.

    See `crops.random_window`.

    Args:
      size: width and height of the image.
    """
    shares, ratios, *corners = rng.random((4, ATTEMPTS)).tolist()
    least, most = (math.log(ratio) for ratio in ASPECT_RATIOS)
    area = size[0] * size[1]
    for share, place, left, top in zip(shares, ratios, *corners, strict=True):
        drawn = area * (crops.crop_area + (1 - crops.crop_area) * share)
        ratio = math.exp(least + (most - least) * place)
        extent = round(math.sqrt(drawn * ratio)), round(math.sqrt(drawn / ratio))
        room = [side - taken + 1 for side, taken in zip(size, extent, strict=True)]
        if min(extent) > 0 and min(room) > 0:
            begin = int(left * room[0]), int(top * room[1])
            return *begin, begin[0] + extent[0], begin[1] + extent[1]
    narrowest, widest = ASPECT_RATIOS
    extent = min(size[0], round(size[1] * widest)), min(size[1], round(size[0] / narrowest))
    begin = (size[0] - extent[0]) // 2, (size[1] - extent[1]) // 2
    return *begin, begin[0] + extent[0], begin[1] + extent[1]


def view_of(crops: CropSpec) -> Callable[[Image.Image], np.ndarray]:
    """What evaluation sees of an image: the middle, uint8 [H, W, 3], or [5, H, W, 3] with corners.

    These are the four corners of the resized image, and then its middle.
    """
    side, share, kernel = crops.image_size, crops.eval_crop, crops.interpolation

    def corners_and_middle(image: Image.Image) -> np.ndarray:
        whole = to_shorter_side(image.convert("RGB"), side, share, kernel)
        room = whole.width - side, whole.height - side
        begins = [(right * room[0], bottom * room[1]) for bottom, right in CORNERS]
        begins.append((center_crop.begin(whole.width, side), center_crop.begin(whole.height, side)))
        return np.stack([np.asarray(whole.crop((x, y, x + side, y + side))) for x, y in begins])

    if crops.corners:
        return corners_and_middle
    return lambda image: np.asarray(middle(image.convert("RGB"), side, share, kernel))


def middle(image: Image.Image, side: int, eval_crop: float, interpolation: str) -> Image.Image:
    """The square in the middle of the resized image, see center_crop.py.

    Args:
      side: height and width of the square, in pixels.
      eval_crop: side of the square per shorter side of the resized image.
    """
    most = LONGEST * min(image.size)
    left, top = (max(0, (there - most) // 2) for there in image.size)
    if left or top:  # the whole of it would not fit into memory when resized
        image = image.crop((left, top, image.width - left, image.height - top))
    image = to_shorter_side(image, side, eval_crop, interpolation)
    left, top = (center_crop.begin(there, side) for there in image.size)
    return image.crop((left, top, left + side, top + side))


def to_shorter_side(
    image: Image.Image, side: int, eval_crop: float, interpolation: str
) -> Image.Image:
    """Resize an image so that its shorter side is `side / eval_crop` pixels."""
    size, shorter = np.array([image.height, image.width]), center_crop.shorter_side(side, eval_crop)
    height, width = center_crop.resized(size, size.min(), shorter).tolist()
    return resized(image, height, width, interpolation)


def resized(image: Image.Image, height: int, width: int, interpolation: str) -> Image.Image:
    """Resize an image; each channel by itself, which Pillow does not do where one is alpha."""
    method = Image.Resampling[interpolation.upper()]
    if image.mode != "RGBA":
        return image.resize((width, height), method)
    channels = [channel.resize((width, height), method) for channel in image.split()]
    return Image.merge(image.mode, channels)
