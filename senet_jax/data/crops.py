"""What is seen of an image of any size: a random part in training, the middle in evaluation.

The functions of this file run inside tf.data, on tensors; TensorFlow is imported where they are
called. A `size` is the height and width of an image, int32 [2]. A `window` is a part of it by top,
left, height and width, int32 [4], all in pixels.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from senet_jax.data import center_crop, orientation

# By name: TensorFlow's kernel of resizing with antialiasing, and how many pixels of the smaller of
# both images it reaches to either side. They are Pillow's; Keys' cubic has the parameter -1/2.
KERNELS = {"bilinear": ("triangle", 1), "bicubic": ("keyscubic", 2)}
INTERPOLATIONS = tuple(KERNELS)
ASPECT_RATIOS = (3 / 4, 4 / 3)  # width per height of a random part
ATTEMPTS = 10  # draws of a random part, of which the first that fits in the image counts
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # whether at the bottom, whether on the right

View = Callable[[Any, Any], Any]  # an encoded image and its place in the epoch to what is seen


@dataclasses.dataclass(frozen=True)
class CropSpec:
    """How images of any size become square ones of `image_size` pixels.

    The picture is upright, as its EXIF orientation says; see orientation.py. In training a random
    part of it, resized ("Inception crop": Szegedy et al. 2015; Hu et al., section 5.1). In
    evaluation the middle of the resized image, see center_crop.py.

    Attributes:
      image_size: height and width of the result, in pixels.
      eval_crop: side of the middle per shorter side of the resized image ("crop_pct" in timm).
      crop_area: the least part of the image's area in a random crop; the greatest is all of it.
      interpolation: "bilinear" or "bicubic", the way of resizing; antialiased, as in Pillow.
      shuffle_buffer: number of encoded images among which the next is drawn.
      max_unreadable: images in one pass over the data that may fail to decode. In training the next
        one that can be decoded takes the place of such an image; evaluation leaves it out.
      corners: whether evaluation sees five squares of the same side, in the four corners (upper
        left, upper right, lower left, lower right) and in the middle (Krizhevsky et al. 2012).

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
            choices = " or ".join(INTERPOLATIONS)
            raise ValueError(f"interpolation must be {choices}, not {self.interpolation!r}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, 3], what training sees of an image."""
        return (self.image_size, self.image_size, 3)

    @property
    def eval_shape(self) -> tuple[int, ...]:
        """[H, W, 3], or [5, H, W, 3] with corners, what evaluation sees of an image."""
        return (5, *self.image_shape) if self.corners else self.image_shape


def random_part(crops: CropSpec, key: np.ndarray, encoded: Any, place: Any) -> Any:
    """A random part of an encoded image, resized, as uint8 [H, W, 3].

    Args:
      key: the random key of the epoch, int32 [2]; the part is a function of it and of `place`.
      place: the image's place in the epoch.
    """
    import tensorflow as tf

    part, _ = _decode(encoded, lambda size: random_window(crops, key, size, place))
    side = crops.image_shape[:2]
    return _rounded(crops, tf.image.resize(part, side, crops.interpolation, antialias=True))


def random_window(crops: CropSpec, key: np.ndarray, size: Any, place: Any) -> Any:
    """A random window of an image, drawn as torchvision's RandomResizedCrop draws it.

    The share of the area is even from `crop_area` to 1, the logarithm of width per height even from
    3:4 to 4:3, and the place even where there is room. The first of ten draws that fits counts.
    Where none does it is the middle, with the nearest ratio that is allowed.
    """
    import tensorflow as tf

    seed: Any = tf.random.fold_in(tf.constant(key), tf.cast(place, tf.int32))
    share, ratio, *corner = tf.unstack(tf.random.stateless_uniform((4, ATTEMPTS), seed))
    height_width = tf.cast(size, tf.float32)
    area = tf.reduce_prod(height_width) * (crops.crop_area + (1 - crops.crop_area) * share)
    least, most = np.log(ASPECT_RATIOS).tolist()
    ratio = tf.exp(least + (most - least) * ratio)
    drawn = tf.cast(tf.round(tf.sqrt([area / ratio, area * ratio])), tf.int32)
    fits = tf.reduce_all((drawn > 0) & (drawn <= size[:, None]), axis=0)
    room = tf.cast(size[:, None] - drawn + 1, tf.float32)
    begin = tf.cast(tf.stack(corner) * room, tf.int32)

    def first() -> Any:
        place = tf.where(fits)[0, 0]
        return tf.concat([begin[:, place], drawn[:, place]], 0)

    return tf.cond(tf.reduce_any(fits), first, lambda: _widest(size))


def _widest(size: Any) -> Any:
    """The window in the middle that is as large as the aspect ratios allow."""
    import tensorflow as tf

    height_width = tf.cast(size, tf.float32)
    narrowest, widest = ASPECT_RATIOS
    most = tf.stack([height_width[1] / narrowest, height_width[0] * widest])
    extent = tf.minimum(size, tf.cast(tf.round(most), tf.int32))
    return tf.concat([(size - extent) // 2, extent], 0)


def middle(crops: CropSpec, encoded: Any, place: Any) -> Any:
    """The middle of an encoded image, resized, as uint8 [H, W, 3]."""
    del place
    part, size = _decode(encoded, lambda size: _window_of_middle(crops, size))
    begin = center_crop.begin(_resized(crops, size), crops.image_size)
    return _cut(crops, part, _window_of_middle(crops, size)[:2], begin, size)


def corners_and_middle(crops: CropSpec, encoded: Any, place: Any) -> Any:
    """Four corners and the middle of an image that is decoded once, as uint8 [5, H, W, 3]."""
    import tensorflow as tf

    del place
    image, size = _decode(encoded, lambda size: tf.concat([[0, 0], size], 0))
    resized, side = _resized(crops, size), crops.image_size
    begins = [(resized - side) * corner for corner in CORNERS]
    begins.append(center_crop.begin(resized, side))
    return tf.stack([_cut(crops, image, (0, 0), begin, size) for begin in begins])


def _decode(encoded: Any, window_of: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The part of an upright picture in a window, uint8 [h, w, 3], and the size of the picture.

    Args:
      window_of: takes the size and gives the window.
    """
    import tensorflow as tf

    is_jpeg, found = tf.io.is_jpeg(encoded), orientation.orientation(encoded)

    def whole() -> Any:
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return tf.ensure_shape(image, (None, None, 3)), tf.shape(image)[:2]

    def nothing_yet() -> Any:  # of a JPEG only what lies in the window is decoded
        return tf.zeros((0, 0, 3), tf.uint8), tf.image.extract_jpeg_shape(encoded)[:2]

    image, size = tf.cond(is_jpeg, nothing_yet, whole)
    # What is in a branch costs time in the other one, too, so that all is said once.
    upright = orientation.turned_size(size, found)
    window = orientation.stored_window(window_of(upright), upright, found)

    def decoded() -> Any:
        method = "INTEGER_ACCURATE"
        return tf.image.decode_and_crop_jpeg(encoded, window, 3, dct_method=method)

    def cut() -> Any:
        top, left, height, width = tf.unstack(window)
        return image[top : top + height, left : left + width]

    part = orientation.turned(tf.cond(is_jpeg, decoded, cut), found)
    return tf.ensure_shape(part, (None, None, 3)), upright


def _resized(crops: CropSpec, size: Any) -> Any:
    """The size that an image is resized to for evaluation."""
    import tensorflow as tf

    shorter = center_crop.shorter_side(crops.image_size, crops.eval_crop)
    return center_crop.resized(size, tf.reduce_min(size), shorter)


def _window_of_middle(crops: CropSpec, size: Any) -> Any:
    """The window, before resizing, of all that the pixels of the middle are made of."""
    import tensorflow as tf

    resized, side = _resized(crops, size), crops.image_size
    begin = center_crop.begin(resized, side)
    step = tf.cast(size, tf.float32) / tf.cast(resized, tf.float32)
    reach = KERNELS[crops.interpolation][1] * tf.maximum(step, 1) + 1
    first = tf.floor(tf.cast(begin, tf.float32) * step - reach)
    last = tf.math.ceil(tf.cast(begin + side, tf.float32) * step + reach)
    first = tf.maximum(tf.cast(first, tf.int32), 0)
    return tf.concat([first, tf.minimum(tf.cast(last, tf.int32), size) - first], 0)


def _cut(crops: CropSpec, part: Any, origin: Any, begin: Any, size: Any) -> Any:
    """The square that begins at `begin` in a resized image, as uint8 [H, W, 3].

    Args:
      part: what is needed of the image before resizing, uint8 [h, w, 3].
      origin: top and left of the part in the image before resizing.
      begin: top and left of the square in the resized image.
      size: the size of the image before resizing.
    """
    import tensorflow as tf

    scale = tf.cast(_resized(crops, size), tf.float32) / tf.cast(size, tf.float32)
    squares = tf.raw_ops.ScaleAndTranslate(
        images=part[None],
        size=crops.image_shape[:2],
        scale=scale,
        translation=tf.cast(origin, tf.float32) * scale - tf.cast(begin, tf.float32),
        kernel_type=KERNELS[crops.interpolation][0],
        antialias=True,
    )
    return _rounded(crops, squares[0])


def _rounded(crops: CropSpec, image: Any) -> Any:
    """The nearest uint8 of float32 [H, W, 3]."""
    import tensorflow as tf

    image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
    return tf.ensure_shape(image, crops.image_shape)
