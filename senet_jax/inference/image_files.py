"""Image files of any format: found in folders, and read as eight-bit RGB."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from senet_jax.data import orientation
from senet_jax.errors import InputError, first_line

DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # Pillow's modes for grey images of 16 bits
UNKNOWN_WHITE = "its pixels have 32 bits, and nothing says which is white; convert it to 8 or 16"


def find_images(paths: Sequence[str]) -> list[Path]:
    """Find image files: the files among `paths`, and the images in the folders among them.

    Folders are searched with the folders in them, see `_images_in`. Files are taken as they are.

    Raises: InputError for a path that does not exist, and a folder without images.
    """
    Image.init()
    images: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            if not (inside := _images_in(path)):
                raise InputError(f"{path} has no images in it")
            images += inside
        elif path.exists():
            images.append(path)
        else:
            raise InputError(f"there is no image {path}")
    return images


def _images_in(root: Path) -> list[Path]:
    """Files with the suffix of a format that Pillow reads, in the order of their names.

    Hidden files, and files in hidden folders, are left out.
    """
    readable = {suffix for suffix, kind in Image.EXTENSION.items() if kind in Image.OPEN}
    files = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    return sorted(
        file
        for file in files
        if file.suffix.lower() in readable
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
    )


def open_image(path: Path | str, *, upright: bool = True) -> Image.Image:
    """Read an image file as RGB with eight bits per channel; of an animation, the first frame.

        image = network.preprocessing(senet_jax.open_image("cat.jpg"))  # [224, 224, 3] uint8

    Grey becomes RGB, 16 bits become 8, CMYK is converted without a colour profile, and alpha is
    dropped, so that transparent pixels show their colours. All this is as in Pillow's
    `convert("RGB")`, and so in timm, except for grey images of 16 bits, which that would cut off at
    255.

    Args:
      upright: turn the image as its EXIF orientation says, which cameras write.

    Raises:
      InputError: if the file cannot be read, has more pixels than Pillow takes for a decompression
        bomb (twice `PIL.Image.MAX_IMAGE_PIXELS`), or has 32-bit pixels, where nothing says what is
        white.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images, and of metadata that nobody asked for.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                image.load()
                if upright:
                    image = orientation.upright(image)
                return _eight_bit(image)
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise InputError(f"{path} has more than {most:,} pixels; make it smaller first") from error
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{path} is no image of a format that can be read") from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise InputError(f"{path} cannot be read: {reason}") from error
    except Exception as error:  # on damaged files decoders raise whatever comes of it
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error


def _eight_bit(image: Image.Image) -> Image.Image:
    """Convert to RGB. Raises: ValueError for pixels of 32 bits."""
    if image.mode in DEEP:
        pixels = np.asarray(image, np.int64)
        if pixels.min() < 0 or pixels.max() >= 2**16:
            raise ValueError(UNKNOWN_WHITE)
        image = Image.fromarray(((pixels + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError(UNKNOWN_WHITE)
    elif image.mode == "P":  # Pillow warns of palettes with alpha unless it is asked for that
        image = image.convert("RGBA")
    return image.convert("RGB")
