"""Which way is up in a photograph: the EXIF orientation that cameras write, as Pillow reads it.

One rule for training, evaluation and prediction: all of them see the picture as `upright` turns it.
Orientations are whole numbers from 1 to 8, of which 1 is upright as stored.
"""

import io
import warnings
from typing import Any

from PIL import ExifTags, Image, ImageOps

UPRIGHT = 1
# A picture is turned by exchanging rows and columns, where the orientation is 5 or above, and then
# reversing the order of its rows or of its columns, or of both, where it is one of these.
TRANSPOSED = 5
ROWS_REVERSED, COLUMNS_REVERSED = (3, 4, 7, 8), (2, 3, 6, 7)
# Bytes of which a PNG with an orientation has one. Pillow would decode it all to look for them.
MARKS_OF_PNG = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
# JPEG: after the marker of the first segment, or of the second where the first is JFIF's of 16
# bytes, come tables, and so no metadata, if the marker is one of these: DQT, SOF0, SOF2, DHT, DRI.
TABLES, JFIF = (0xDB, 0xC0, 0xC2, 0xC4, 0xDD), (0xFF, 0xD8, 0xFF, 0xE0, 0, 16)


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its orientation says; damaged EXIF data leave it as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever comes of damaged data, the pixels are as good as they are
        return image


def orientation_of(encoded: bytes) -> int:
    """The orientation of an encoded image, from its header; 1 where nothing sensible is said."""
    if encoded.startswith(b"\x89PNG") and not any(mark in encoded for mark in MARKS_OF_PNG):
        return UPRIGHT
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            found = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except Exception:  # damaged data, as above, or no image, of which the decoder will tell
        return UPRIGHT
    return found if found in range(1, 9) else UPRIGHT


def orientation(encoded: Any) -> Any:
    """`orientation_of` for TensorFlow: a scalar string to a scalar int32.

    Python, of which one thread runs at a time, looks only at what may have metadata.
    """
    import numpy as np
    import tensorflow as tf

    # Damaged EXIF data are no news. For good: threads cannot ignore warnings for a moment.
    warnings.filterwarnings("ignore", module=r"PIL\.")

    def looked_at() -> Any:
        # As numbers: NumPy's strings lose zeros at their end.
        data = tf.io.decode_raw(encoded, tf.uint8)
        found = tf.numpy_function(
            lambda data: np.int32(orientation_of(data.tobytes())), [data], tf.int32
        )
        return tf.ensure_shape(found, ())

    head = tf.cast(tf.io.decode_raw(encoded, tf.uint8, fixed_length=24), tf.int32)
    is_jfif = tf.reduce_all(head[: len(JFIF)] == JFIF)
    marker = tf.where(is_jfif, head[21], tf.where(head[1] == JFIF[1], head[3], 0))
    return tf.cond(tf.reduce_any(marker == TABLES), lambda: UPRIGHT, looked_at)


def turned(pixels: Any, orientation: Any) -> Any:
    """Turn decoded pixels [H, W, C], or a part of them, in TensorFlow."""
    import tensorflow as tf

    exchanged = orientation >= TRANSPOSED
    pixels = tf.cond(exchanged, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    return tf.reverse(pixels, tf.where(_is_reversed(orientation))[:, 0])


def turned_size(size: Any, orientation: Any) -> Any:
    """The size [2] of the upright picture of one of a `size`, and the other way round."""
    import tensorflow as tf

    return tf.where(orientation >= TRANSPOSED, size[::-1], size)


def stored_window(window: Any, size: Any, orientation: Any) -> Any:
    """The part of an image as it is stored that becomes a part of the upright picture.

    Args:
      window: top, left, height and width in the upright picture, int32 [4].
      size: the size of the upright picture.
    """
    import tensorflow as tf

    begin, extent = window[:2], window[2:]
    begin = tf.where(_is_reversed(orientation), size - begin - extent, begin)
    return tf.concat([turned_size(begin, orientation), turned_size(extent, orientation)], 0)


def _is_reversed(orientation: Any) -> Any:
    """Whether rows, and columns, of a picture are in reverse order after transposition, [2]."""
    import tensorflow as tf

    return tf.reduce_any(tf.constant((ROWS_REVERSED, COLUMNS_REVERSED)) == orientation, axis=1)
