"""Image files of any kind: found in folders, and read as eight-bit RGB."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from senet_jax.errors import InputError, first_line

DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # modes of grey images of 16 bits
UNKNOWN_WHITE = "its pixels have 32 bits, and nothing says which is white; convert it to 8 or 16"


def find_images(paths: Sequence[str]) -> list[Path]:
    """The files among `paths`, and the images in the folders among them and in folders in these.

    A folder's images are the files with the suffix of a format that Pillow reads, in the order of
    their names; hidden ones are left out.

    Raises: InputError for a path that is not there, and a folder without images.
    """
    Image.init()
    readable = {suffix for suffix, kind in Image.EXTENSION.items() if kind in Image.OPEN}
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [
                Path(folder, name)
                for folder, folders, names in os.walk(path)
                for name in names
                if not any(
                    part.startswith(".") for part in Path(folder, name).relative_to(path).parts
                )
                and Path(name).suffix.lower() in readable
            ]
            if not inside:
                raise InputError(f"{path} has no images in it")
            found += sorted(inside)
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"there is no image {path}")
    return found


def open_image(path: Path, *, upright: bool = True) -> Image.Image:
    """An image in RGB with eight bits a channel; of several, as in an animation, the first.

    Grey becomes RGB, 16 bits become 8, CMYK is converted without a colour profile, and alpha is
    dropped, so that colours show which were transparent: all as `convert("RGB")`, and timm with it,
    but for grey images of 16 bits, which that would cut off at 255.

    Args:
      upright: turn it as its EXIF orientation says, which cameras write.

    Raises:
      InputError: if it cannot be read, has more pixels than Pillow takes for a decompression bomb
        (twice `PIL.Image.MAX_IMAGE_PIXELS`), or has 32-bit pixels, of which nothing says what is
        white.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of large images, and of metadata that nobody asked for
            with Image.open(path) as image:
                image.load()
                if upright:
                    image = _upright(image)
                return _eight_bit(image)
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise InputError(f"{path} has more than {most:,} pixels; make it smaller first") from error
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{path} is no image of a format that can be read") from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise InputError(f"{path} cannot be read: {reason}") from error
    except Exception as error:  # decoders of damaged files raise whatever comes of it
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data, which leave the pixels as good as they are
        return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """Raises: ValueError for pixels of 32 bits."""
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
