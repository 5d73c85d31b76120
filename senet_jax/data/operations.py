"""What the policies of policies.py draw from: Pillow's operations on uint8, on the device.

Whatever is drawn, an image is warped, blended with a poorer version of itself and looked up in a
table of 256 levels, and two of the three change nothing: so an accelerator does all images at once
without a branch. On a CPU they are taken one by one, each with a program of its operation alone.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from senet_jax.layers.platforms import by_platform

MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
ENHANCEMENTS = ("brightness", "contrast", "color", "sharpness")
TABLES = ("solarize", "posterize", "autocontrast", "equalize", "invert", "solarize_add")
OPERATIONS = ("identity", *MOVES, *ENHANCEMENTS, *TABLES)

Result = Callable[[], jax.Array]


class Ranges(NamedTuple):
    """What operations do at the greatest magnitude; at 0 they do nothing.

    Attributes:
      degrees: angle of a rotation.
      shear: pixels per pixel.
      part, pixels: length of a translation: a part of the side, and pixels beside.
      enhancement: how much more, or less, color, contrast, brightness and sharpness.
      lost_bits: bits that "posterize" drops.
      level: the level from which "solarize" inverts at magnitude 0.
      kept_bits: bits that "posterize" keeps at magnitude 0.
      added: levels that "solarize_add" adds to those below 128.
      fill: levels [C] where a warp has no pixels, which it then takes between pixels, by lengths
        that are not whole, as timm does; () for black, and the nearest pixels.
      reverse: whether enhancements go from a tenth to 1.9, and "posterize" and "solarize" do the
        less the greater the magnitude, as in timm without "inc1".
    """

    degrees: float = 30.0
    shear: float = 0.3
    part: float = 150 / 331
    pixels: float = 0.0
    enhancement: float = 0.9
    lost_bits: int = 4
    level: int = 256
    kept_bits: int = 8
    added: int = 0
    fill: tuple[int, ...] = ()
    reverse: bool = False


NARROW = Ranges()
WIDE = Ranges(135.0, 0.99, 0.0, 32.0, 0.99, 6, 255)  # "solarize" inverts white even at 0
TIMM = Ranges(part=0.45, kept_bits=4, added=110, fill=(128, 128, 128))


def apply(numbers: jax.Array, strengths: jax.Array, images: jax.Array, ranges: Ranges) -> jax.Array:
    """Apply `operate` to a batch in the way that is quickest on the platform."""
    ways = {"cpu": one_by_one, "default": at_once}
    ways = {name: functools.partial(way, ranges=ranges) for name, way in ways.items()}
    return by_platform(numbers, strengths, images, **ways)


def at_once(
    numbers: jax.Array, strengths: jax.Array, images: jax.Array, ranges: Ranges = NARROW
) -> jax.Array:
    """Apply `operate` to a batch: numbers [B], strengths [B], images [B, H, W, C]."""
    return jax.vmap(functools.partial(operate, ranges=ranges))(numbers, strengths, images)


def one_by_one(
    numbers: jax.Array, strengths: jax.Array, images: jax.Array, ranges: Ranges = NARROW
) -> jax.Array:
    """Do the same with a program per operation, without the work of all others."""
    places = range(len(OPERATIONS))
    programs = [functools.partial(operate, place, ranges=ranges) for place in places]

    def one(example: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        number, strength, image = example
        return jax.lax.switch(number, programs, strength, image)

    return jax.lax.map(one, (numbers, strengths, images))


def operate(
    number: int | jax.Array, strength: jax.Array, image: jax.Array, ranges: Ranges = NARROW
) -> jax.Array:
    """Apply the operation at place `number` of OPERATIONS to an image [H, W, C].

    Args:
      strength: share of the greatest magnitude, from -1 to 1.
    """
    for names, change in ((MOVES, _move), (ENHANCEMENTS, _enhance), (TABLES, _look_up)):
        if not isinstance(number, int) or OPERATIONS[number] in names:
            image = change(number, strength, image, ranges)
    return image


def _choose(number: int | jax.Array, results: Mapping[str, Result], otherwise: Any) -> Any:
    """The result of the operation `number`; `otherwise` if it is none of these."""
    if isinstance(number, int):
        return results[OPERATIONS[number]]()
    for name, result in results.items():
        otherwise = jnp.where(number == OPERATIONS.index(name), result(), otherwise)
    return otherwise


def rotation(degrees: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """The matrix [6] with which `warp` turns an image counter-clockwise around its middle."""
    cosine, sine = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
    y, x = (side / 2 for side in shape)
    return jnp.stack(
        [cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y]
    )


def warp(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """Move the pixels of an image [H, W, C] by an affine map.

    At x, y it gets the pixel nearest to a x + b y + c, d x + e y + f; black outside.

    Args:
      matrix: a to f [6], which map the middles of pixels, rounded to 2^-16 as in Pillow.
    """
    height, width, _ = image.shape
    x, y = jnp.arange(width)[None], jnp.arange(height)[:, None]

    def places(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        by_x, by_y, first = (
            jnp.floor(value * 2**16 + 0.5).astype(jnp.int32) for value in (a, b, c + a / 2 + b / 2)
        )
        return (first + by_x * x + by_y * y) >> 16

    columns, rows = places(*matrix[:3]), places(*matrix[3:])
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    return jnp.where(inside[..., None], image.at[rows, columns].get(mode="clip"), 0)


def warp_between(image: jax.Array, matrix: jax.Array, fill: tuple[int, ...]) -> jax.Array:
    """Do the same with the bilinear mean of four pixels, rounded down as in Pillow.

    Args:
      fill: levels of the channels outside.
    """
    height, width, channels = image.shape
    x, y = jnp.arange(float(width))[None] + 0.5, jnp.arange(float(height))[:, None] + 0.5
    a, b, c, d, e, f = matrix
    column, row = a * x + b * y + c, d * x + e * y + f
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    left, top = jnp.floor(column - 0.5), jnp.floor(row - 0.5)
    right_share, below_share = column - 0.5 - left, row - 0.5 - top
    blended = jnp.zeros(image.shape, jnp.float32)
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows = jnp.clip(top + down, 0, height - 1).astype(jnp.int32)
        columns = jnp.clip(left + across, 0, width - 1).astype(jnp.int32)
        share = (below_share if down else 1 - below_share) * (
            right_share if across else 1 - right_share
        )
        blended += share[..., None] * image[rows, columns].astype(jnp.float32)
    outside = jnp.array(fill[:channels], jnp.uint8)[None, None]
    # Sums of shares are one only to rounding: what is whole must not fall below itself.
    return jnp.where(inside[..., None], jnp.floor(blended + 1e-3).astype(jnp.uint8), outside)


def _move(
    number: int | jax.Array, strength: jax.Array, image: jax.Array, ranges: Ranges
) -> jax.Array:
    """Turn, shear or shift an image [H, W, C]."""
    height, width, _ = image.shape
    unmoved = jnp.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])

    def matrix(place: int, value: jax.Array) -> Result:
        return lambda: unmoved.at[place].set(value)

    def shift(side: int) -> jax.Array:
        length = strength * ranges.part * side + strength * ranges.pixels
        return length if ranges.fill else jnp.trunc(length)

    matrices = {
        "rotate": lambda: rotation(strength * ranges.degrees, (height, width)),
        "shear_x": matrix(1, strength * ranges.shear),
        "shear_y": matrix(3, strength * ranges.shear),
        "translate_x": matrix(2, shift(width)),
        "translate_y": matrix(5, shift(height)),
    }
    chosen = _choose(number, matrices, unmoved)
    return warp_between(image, chosen, ranges.fill) if ranges.fill else warp(image, chosen)


def _enhance(
    number: int | jax.Array, strength: jax.Array, image: jax.Array, ranges: Ranges
) -> jax.Array:
    """Bring an image [H, W, C] nearer to, or farther from, a poorer version of itself.

    That is one without light, contrast, colour or edges.
    """

    def mean() -> jax.Array:
        grey = _grey(image)
        return (2 * grey.sum() + grey.size) // (2 * grey.size)

    versions = {
        "brightness": lambda: jnp.int32(0),
        "contrast": mean,
        "color": lambda: _grey(image),
        "sharpness": lambda: _smooth(image),
    }
    without = _choose(number, versions, image.astype(jnp.int32))
    factor, more = 1 + ranges.enhancement * strength, image.astype(jnp.int32) - without
    if ranges.reverse:
        factor = 1 - ranges.enhancement + 2 * ranges.enhancement * jnp.abs(strength)
    blended = without.astype(factor.dtype) + factor * more.astype(factor.dtype)
    return jnp.clip(blended, 0, 255).astype(jnp.uint8)


def _grey(image: jax.Array) -> jax.Array:
    """The brightness [H, W, 1] int32, with the weights of ITU-R 601-2 for red, green and blue."""
    image = image.astype(jnp.int32)
    if image.shape[-1] == 1:
        return image
    return ((image * jnp.array([[[19595, 38470, 7471]]])).sum(-1, keepdims=True) + 2**15) >> 16


def _smooth(image: jax.Array) -> jax.Array:
    """Means over 3x3 pixels, [H, W, C] int32; the middle one counts five times, edges stay."""
    image = image.astype(jnp.int32)
    height, width, _ = image.shape
    if min(height, width) < 3:
        return image
    rows = image[:-2] + image[1:-1] + image[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * image[1:-1, 1:-1]
    return image.at[1:-1, 1:-1].set((2 * sums + 13) // 26)


def _look_up(
    number: int | jax.Array, strength: jax.Array, image: jax.Array, ranges: Ranges
) -> jax.Array:
    """Replace each level of each channel of an image [H, W, C] by what a table says."""
    same, size = jnp.arange(256), jnp.abs(strength)

    def posterized() -> jax.Array:
        bits = ranges.lost_bits * size
        if ranges.fill:  # timm's
            bits = jnp.floor(bits + 1e-4).astype(jnp.int32)
            return same & (0xFF << (8 - bits if ranges.reverse else 8 - ranges.kept_bits + bits))
        return same & (0xFF << jnp.round(bits).astype(jnp.int32))

    def solarized() -> jax.Array:
        first = ranges.level * (1 - size)
        if ranges.reverse:
            first = jnp.floor(ranges.level * size + 1e-4)
        return jnp.where(same.astype(size.dtype) < first, same, 255 - same)

    def brightened() -> jax.Array:
        more = jnp.floor(ranges.added * size + 1e-4).astype(jnp.int32)
        return jnp.where(same < 128, jnp.minimum(same + more, 255), same)

    tables = {
        "solarize": solarized,
        "posterize": posterized,
        "autocontrast": lambda: _stretched(image),
        "equalize": lambda: _equalized(image),
        "invert": lambda: 255 - same,
        "solarize_add": brightened,
    }
    table = _choose(number, tables, jnp.broadcast_to(same, (image.shape[-1], 256)))
    table = jnp.broadcast_to(table, (image.shape[-1], 256)).astype(jnp.uint8)
    return table[jnp.arange(image.shape[-1]), image]


def _stretched(image: jax.Array) -> jax.Array:
    """A table [C, 256] that takes a channel's darkest level to 0 and its brightest to 255."""
    same, image = jnp.arange(256)[None], image.astype(jnp.int32)
    least, most = image.min((0, 1))[:, None], image.max((0, 1))[:, None]
    stretched = 255 * (same - least) // jnp.maximum(most - least, 1)
    return jnp.where(most > least, jnp.clip(stretched, 0, 255), same)


def _equalized(image: jax.Array) -> jax.Array:
    """A table [C, 256] that gives each level about as many pixels of a channel."""
    channels = jnp.arange(image.shape[-1])
    counts = jnp.zeros((len(channels), 256), jnp.int32).at[channels, image].add(1)
    brightest = jnp.take_along_axis(counts, image.max((0, 1))[:, None].astype(jnp.int32), 1)
    step = (counts.sum(1, keepdims=True) - brightest) // 255
    before = jnp.cumsum(counts, 1) - counts
    return jnp.where(
        step > 0, jnp.minimum((step // 2 + before) // jnp.maximum(step, 1), 255), jnp.arange(256)
    )
