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
# Bytes of which any file but a JPEG has some where Pillow finds an orientation: PNG, then WebP.
MARKS = r"\C*(eXIf|Raw profile type|XML:com\.adobe\.xmp|EXIF|XMP )\C*"
# Markers of a JPEG: APP1, which has EXIF and XMP data, and the other metadata, APPn and comments.
APP1, OTHER_METADATA = 0xE1, (0xE0, *range(0xE2, 0xF0), 0xFE)


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its orientation says; damaged EXIF data leave it as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever comes of damaged data, the pixels are as good as they are
        return image


def orientation_of(encoded: bytes) -> int:
    """The orientation of an encoded image, from its header; 1 where nothing sensible is said."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return of_image(image)
    except Exception:  # no image, of which the decoder will tell
        return UPRIGHT


def of_image(image: Image.Image) -> int:
    """The orientation of an image that Pillow has opened; 1 where nothing sensible is said."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except Exception:  # damaged data, as above
        return UPRIGHT
    return found if found in range(1, 9) else UPRIGHT


def orientation(encoded: Any) -> Any:
    """`orientation_of` for TensorFlow: a scalar string to a scalar int32."""
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

    # Python, of which one thread runs at a time, sees only what may have an orientation.
    is_plain = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: _first_marker(encoded) != APP1,
        lambda: ~tf.strings.regex_full_match(encoded, MARKS),
    )
    return tf.cond(is_plain, lambda: UPRIGHT, looked_at)


def _first_marker(encoded: Any) -> Any:
    """The first marker of a JPEG that is not of OTHER_METADATA, in TensorFlow."""
    import tensorflow as tf

    end = tf.strings.length(encoded)

    def read(place: Any) -> tuple[Any, Any]:
        header = tf.strings.substr(encoded, tf.minimum(place, end), 4)
        return place, tf.cast(tf.io.decode_raw(header, tf.uint8, fixed_length=4), tf.int32)

    _, header = tf.while_loop(
        lambda place, header: tf.reduce_any(header[1] == OTHER_METADATA),
        lambda place, header: read(place + 2 + 256 * header[2] + header[3]),
        read(tf.constant(2)),
    )
    return header[1]


def turned(pixels: Any, orientation: Any) -> Any:
    """Turn decoded pixels [H, W, C], or a part of them, in TensorFlow."""
    import tensorflow as tf

    def other() -> Any:
        exchanged = orientation >= TRANSPOSED
        image = tf.cond(exchanged, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
        return tf.reverse(image, tf.where(_is_reversed(orientation))[:, 0])

    return tf.cond(orientation == UPRIGHT, lambda: pixels, other)


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

    def other() -> Any:
        begin, extent = window[:2], window[2:]
        begin = tf.where(_is_reversed(orientation), size - begin - extent, begin)
        return tf.concat([turned_size(begin, orientation), turned_size(extent, orientation)], 0)

    return tf.cond(orientation == UPRIGHT, lambda: window, other)


def _is_reversed(orientation: Any) -> Any:
    """Whether rows, and columns, of a picture are in reverse order after transposition, [2]."""
    import tensorflow as tf

    return tf.reduce_any(tf.constant((ROWS_REVERSED, COLUMNS_REVERSED)) == orientation, axis=1)
