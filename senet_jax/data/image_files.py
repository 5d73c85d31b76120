"""Image files of any format, read as eight-bit RGB, with their transparency."""

import contextlib
import os
import stat
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from PIL import Image, TiffImagePlugin

from senet_jax.data import orientation
from senet_jax.errors import InputError, first_line

T = TypeVar("T")

DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # Pillow's modes for grey images of 16 bits
# Pillow's, by the number of channels, for what TFDS decodes to as many: the luminance of ITU-R 601;
# colours, without transparency; colours and transparency as stored, 255 where there is none.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
GREY = ("1", "L", "LA", "La", *DEEP)  # Pillow's modes without colours
# Formats whose 16 bits Pillow opens in its mode of 32, the first always and the second once did.
IN_32_BITS = ("PPM", "PNG")
# Tags of TIFF, and values of some of them.
BITS, COMPRESSION, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 258, 259, 262, 284, 339
UNCOMPRESSED, WHITE_IS_ZERO, APART, SIGNED = 1, 0, 2, 2
UNKNOWN_WHITE = (
    "its pixels have 32 bits or a sign, and nothing says which is white; convert it to 8 or 16 bits"
)
BY_LIBTIFF = threading.Lock()  # held while Pillow's setting is changed
# What opening might never come back from, or has no image in it.
NO_FILES = (
    (stat.S_ISDIR, "it is a folder, from which no image was taken"),
    (stat.S_ISFIFO, "it is a named pipe, not a file"),
    (stat.S_ISSOCK, "it is a socket, not a file"),
    (lambda mode: not stat.S_ISREG(mode), "it is a device, not a file"),
)


def open_image(path: Path | str | IO[bytes], *, upright: bool = True) -> Image.Image:
    """Read an image file as RGB with eight bits per channel; of an animation, the first frame.

        image = network.preprocessing(senet_jax.open_image("cat.jpg"))  # [224, 224, 3] uint8

    It is RGBA where the file has transparency: a network of four channels is shown that as it is
    stored, all others see the stored colours alone, see `in_eight_bits`.

    Args:
      upright: turn the image as its EXIF orientation says, which cameras write.

    Raises:
      InputError: if the file cannot be read or is none, has more pixels than Pillow takes for a
        decompression bomb (twice `PIL.Image.MAX_IMAGE_PIXELS`), or has pixels of 32 bits or with a
        sign, where nothing says what is white.
    """

    def load(image: Image.Image) -> Image.Image:
        image.load()
        grey = _black_and_white(image)  # of which a turned image no longer tells
        return _in_eight_bits(orientation.upright(image) if upright else image, grey)

    return _opened(path, load)


def header(path: Path | str | IO[bytes]) -> tuple[int, int, bool]:
    """Height and width of the upright image in a file, and whether it is grey, from its header.

    Raises: InputError as `open_image`.
    """

    def look(image: Image.Image) -> tuple[int, int, bool]:
        # The size of a TIFF is upright before it is loaded.
        is_lying = image.format != "TIFF" and orientation.of_image(image) >= orientation.TRANSPOSED
        height, width = image.size if is_lying else image.size[::-1]
        return height, width, image.mode in GREY

    return _opened(path, look)


def _opened(path: Path | str | IO[bytes], look: Callable[[Image.Image], T]) -> T:
    """What is seen of an image in a file. Raises: InputError as `open_image`."""
    try:
        with contextlib.ExitStack() as stack, warnings.catch_warnings():
            # Pillow warns of large images, and of metadata that nobody asked for.
            warnings.simplefilter("ignore")
            if isinstance(path, str | os.PathLike):
                _check_is_file(path)
                # Given the path, Pillow would map a file whose pixels lie in it as in memory, and
                # of a lying TIFF take them for rows as wide as those of the upright picture.
                file = stack.enter_context(open(path, "rb"))
            elif hasattr(path, "read"):
                file = path
            else:
                raise InputError(f"open_image takes the path of a file, not {type(path).__name__}")
            return look(stack.enter_context(_open(file)))
    except InputError:
        raise
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


def _open(file: IO[bytes]) -> Image.Image:
    """Pillow's image of a file, by libtiff where Pillow itself would misread it.

    Of a TIFF whose channels are stored one after the other, and not compressed, it takes 16 bits
    for 8 and what is white for black.

    Raises: ValueError for colours above 8 bits in JPEG 2000, of which it makes white black.
    """
    image = Image.open(file)
    if image.format == "JPEG2000" and image.mode not in DEEP and (bits := _bits(file)) > 8:
        raise ValueError(
            f"its channels have {bits} bits, which Pillow misreads in JPEG 2000; convert it to 8 "
            "bits, or to PNG"
        )
    tags = getattr(image, "tag_v2", {})
    if tags.get(PLANES) != APART or tags.get(COMPRESSION, UNCOMPRESSED) != UNCOMPRESSED:
        return image
    with BY_LIBTIFF:  # others may open files meanwhile; theirs have the same pixels either way
        usual, TiffImagePlugin.READ_LIBTIFF = TiffImagePlugin.READ_LIBTIFF, True
        try:
            return Image.open(file)
        finally:
            TiffImagePlugin.READ_LIBTIFF = usual


def _bits(file: IO[bytes]) -> int:
    """Bits per channel of a JPEG 2000, from its codestream (ISO 15444-1, A.5.1); 0 if it has none.

    Pillow does not say. The marker SIZ follows SOC; the channels come after nine numbers of it.
    """
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    begin = data.find(b"\xff\x4f\xff\x51")
    channels = int.from_bytes(data[begin + 40 : begin + 42]) if begin >= 0 else 0
    depths = data[begin + 42 : begin + 42 + 3 * channels : 3]
    return max(((depth & 0x7F) + 1 for depth in depths), default=0)


def in_eight_bits(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, or RGBA where it has transparency.

    Grey becomes RGB, 16 bits become 8 (of TIFF also 12), and CMYK is converted without a colour
    profile. Transparent pixels keep their colours. All this is as in Pillow's `convert("RGB")`, and
    so in timm, except for grey images above 8 bits, which that would cut off at 255.

    Raises: ValueError for pixels of 32 bits or with a sign.
    """
    return _in_eight_bits(image, _black_and_white(image))


def _in_eight_bits(image: Image.Image, grey: tuple[int, int]) -> Image.Image:
    """`in_eight_bits`, where black and white are these if the image is grey and above 8 bits."""
    if image.mode in DEEP:
        black, white = grey
        bits = np.asarray(image, np.int64)
        scaled = (510 * (bits - black) + (white - black)) // (2 * (white - black))  # rounded
        image = Image.fromarray(scaled.clip(0, 255).astype(np.uint8))
    elif image.mode == "La":  # multiplied by its alpha, which Pillow undoes for no other mode
        image = image.convert("LA")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _black_and_white(image: Image.Image) -> tuple[int, int]:
    """The values of black and white of a grey image above 8 bits, by what its file says of them.

    Raises: ValueError where nothing says which is white.
    """
    tags = getattr(image, "tag_v2", {})  # only TIFF has any
    is_of_16 = image.mode != "I" or image.format in IN_32_BITS
    if image.mode == "F" or not is_of_16 or SIGNED in tags.get(SAMPLE_FORMAT, ()):
        raise ValueError(UNKNOWN_WHITE)
    white = 2 ** tags.get(BITS, (16,))[0] - 1
    # Pillow turns this round for 8 bits alone.
    return (white, 0) if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else (0, white)


def pixels(image: Image.Image, channels: int) -> np.ndarray:
    """An image that `open_image` has read as uint8 [H, W, C]; of how many channels, see MODES."""
    array = np.asarray(image.convert(MODES[channels]))
    return array.reshape(*array.shape[:2], channels)


def _check_is_file(path: str | os.PathLike[str]) -> None:
    """Raises: ValueError for what is there but no file, OSError for what is not there."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        os.scandir(path).close()  # raises what forbids it
    for is_kind, reason in NO_FILES:
        if is_kind(mode):
            raise ValueError(reason)
