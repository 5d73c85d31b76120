"""The corruptions of CIFAR-10-C, for any RGB images of 32 x 32 pixels.

Definitions and strengths are those of Hendrycks and Dietterich 2019 (arXiv 1903.12261) as in their
program (github.com/hendrycks/robustness, make_cifar_c.py), written anew with NumPy, SciPy and
Pillow. These are not the same to the last bit, because what they were computed with is not used:

    motion_blur, snow      ImageMagick's motion blur, by its formula, in floating point
    defocus_blur, elastic_transform
                           OpenCV's filter and warp, exact where OpenCV rounds to 1/32 pixel
    spatter                OpenCV's edges without the search along the gradient, its distances exact
    frost                  the authors blend photographs of frost, which are not here: a fractal of
                           bright ridges stands in, blended with the same weights

The errors of a network on them therefore compare networks with each other, and with published
numbers only roughly. What is random is drawn from the image's place, the kind and the severity
alone, so any part of a dataset is corrupted as in the whole.

The file is long because it is one list of definitions, to be read beside the authors'.
"""

import io
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from senet_jax.errors import InputError

SIDE = 32
SEVERITIES = (1, 2, 3, 4, 5)
ROUNDING = 1e-6  # of 255, far above rounding in double precision and below what can be seen
Rng = np.random.Generator


def corrupt(image: np.ndarray, kind: str, severity: int, place: int) -> np.ndarray:
    """Corrupt an image [32, 32, 3] uint8; the same shape and type.

    Args:
      kind: one of KINDS.
      severity: strength, from 1 to 5.
      place: number of the image in its dataset, which seeds what is random.

    Raises: InputError for other images.
    """
    if image.shape != (SIDE, SIDE, 3) or image.dtype != np.uint8:
        raise InputError(
            f"corruptions are for uint8 images [{SIDE}, {SIDE}, 3], not {image.dtype} "
            f"{list(image.shape)}"
        )
    rng = np.random.default_rng([zlib.crc32(kind.encode()), severity, place])
    return in_bytes(KINDS[kind](image / 255.0, severity - 1, rng))


# Each function takes an image from 0 to 1, the place of the strength in its table, and what draws.


def gaussian_noise(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    return x + rng.normal(0, (0.04, 0.06, 0.08, 0.09, 0.10)[level], x.shape)


def shot_noise(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    photons = (500, 250, 100, 75, 50)[level]
    return rng.poisson(x * photons) / photons


def impulse_noise(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    hit = rng.random(x.shape) < (0.01, 0.02, 0.03, 0.05, 0.07)[level]
    return np.where(hit, rng.random(x.shape) < 0.5, x)


def speckle_noise(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    return x + x * rng.normal(0, (0.06, 0.1, 0.12, 0.16, 0.2)[level], x.shape)


def gaussian_blur(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    return blurred(x, (0.4, 0.6, 0.7, 0.8, 1.0)[level])


def glass_blur(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    table = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
    sigma, reach, rounds = table[level]
    x = in_bytes(blurred(x, sigma))
    # The authors exchange neighbours; as NumPy's views are, each pixel is only replaced by one.
    inner = slice(reach + 1, SIDE - reach + 1)
    rows, columns = np.mgrid[inner, inner]
    for _ in range(rounds):
        right, down = rng.integers(-reach, reach, (2, *rows.shape))
        x[inner, inner] = x[rows + down, columns + right]
    return blurred(x / 255.0, sigma)


def defocus_blur(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[level]
    away = np.arange(-8, 9)
    disk = (away[:, None] ** 2 + away**2 <= radius**2).astype(float)
    taps = np.exp(-0.5 * (np.array([-1, 0, 1]) / alias) ** 2)
    taps /= taps.sum()
    kernel = ndimage.convolve(disk / disk.sum(), np.outer(taps, taps), mode="mirror")
    return ndimage.correlate(x, kernel[..., None], mode="mirror")


def motion_blur(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[level]
    return moved(x, radius, sigma, rng.uniform(-45, 45))


def zoom_blur(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[level], 0.01)
    return (x + sum(zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


def snow(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    mean, deviation, zoom, least, radius, sigma, share = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[level]
    layer = zoomed(rng.normal(mean, deviation, (SIDE, SIDE, 1)), zoom)
    layer = np.clip(np.where(layer < least, 0, layer), 0, 1)
    layer = moved(layer, radius, sigma, rng.uniform(-135, -45))
    grey = x @ (0.299, 0.587, 0.114)
    x = share * x + (1 - share) * np.maximum(x, grey[..., None] * 1.5 + 0.5)
    return x + layer + np.rot90(layer, k=2)


def frost(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    mine, of_frost = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[level]
    ridges = 1 - np.abs(2 * plasma(rng, 2.0) - 1)  # bright where the fractal is near its middle
    return mine * x + of_frost * ridges[..., None] * (0.85, 0.93, 1.0)


def fog(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    density, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[level]
    most = x.max()
    return (x + density * plasma(rng, decay)[..., None]) * most / (most + density)


def spatter(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    mean, deviation, sigma, least, strength, mud = (
        (0.62, 0.1, 0.7, 0.7, 0.5, False),
        (0.65, 0.1, 0.8, 0.7, 0.5, False),
        (0.65, 0.3, 1, 0.69, 0.5, False),
        (0.65, 0.1, 0.7, 0.69, 0.6, True),
        (0.65, 0.1, 0.5, 0.68, 0.6, True),
    )[level]
    liquid = blurred(rng.normal(mean, deviation, (SIDE, SIDE)), sigma)
    liquid = np.where(liquid < least, 0, liquid)
    if mud:
        drops = blurred((liquid > least).astype(float), strength)
        drops = np.where(drops < 0.8, 0, drops)[..., None]
        return x * (1 - drops) + drops * np.array((63, 42, 20)) / 255
    levels = in_bytes(liquid).astype(float)
    shown = levels * relief(levels)
    colour = np.array((175, 238, 238)) / 255  # pale turquoise
    return x + (strength * shown / max(shown.max(), 1e-9))[..., None] * colour


def relief(levels: np.ndarray) -> np.ndarray:
    """How thick drops look, from the distance to their edges: [H, W] from 0 to 255."""
    steps = [ndimage.sobel(levels, axis, mode="nearest") for axis in (0, 1)]
    slope = np.abs(steps[0]) + np.abs(steps[1])
    parts: Any = ndimage.label(slope > 50, np.ones((3, 3)))
    strong = np.unique(parts[0][slope > 150])
    edges = np.isin(parts[0], strong[strong > 0])
    away: Any = np.full(levels.shape, 20.0)
    if edges.any():
        away = ndimage.distance_transform_edt(~edges)
    away = ndimage.uniform_filter(np.minimum(away, 20.0), 3, mode="mirror")
    away = np.floor(away + ROUNDING)
    values, place, counts = np.unique(away, return_inverse=True, return_counts=True)
    summed = np.cumsum(counts)
    equal = np.round(255 * (summed - summed[0]) / max(summed[-1] - summed[0], 1))
    away = equal[place].reshape(away.shape) if len(values) > 1 else away
    lit = ndimage.correlate(away, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2.0]]), mode="mirror")
    return ndimage.uniform_filter(np.clip(lit, 0, 255), 3, mode="mirror")


def contrast(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    mean = x.mean((0, 1), keepdims=True)
    return (x - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[level] + mean


def brightness(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    return in_hsv(x, 2, 1, (0.05, 0.1, 0.15, 0.2, 0.3)[level])


def saturate(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    return in_hsv(x, 1, *((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[level])


def jpeg_compression(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    file = io.BytesIO()
    in_pillow(x).save(file, "JPEG", quality=(80, 65, 58, 50, 40)[level])
    return np.asarray(Image.open(file)) / 255.0


def pixelate(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    side = int(SIDE * (0.95, 0.9, 0.85, 0.75, 0.65)[level])
    small = in_pillow(x).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX)) / 255.0


def elastic_transform(x: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    strength, sigma, most = (
        SIDE * np.array(row)
        for row in (
            (0, 0.05, 0.08, 0.1, 0.1),
            (0, 0.2, 0.06, 0.04, 0.03),
            (0.08, 0.07, 0.06, 0.05, 0.03),
        )
    )
    reach, middle = SIDE // 3, SIDE // 2
    before = middle + reach * np.array([(1, 1), (1, -1), (-1, -1)])
    after = before + rng.uniform(-most[level], most[level], (3, 2))
    # The affine map from after to before, on (across, down, 1).
    back = np.linalg.solve(np.column_stack([after, np.ones(3)]), before)
    down, across = np.mgrid[:SIDE, :SIDE]
    sources = np.stack([across, down, np.ones_like(down)], -1) @ back
    x = sampled(x, sources[..., 1], sources[..., 0], "mirror")
    shifts = [
        strength[level]
        * ndimage.gaussian_filter(
            rng.uniform(-1, 1, (SIDE, SIDE)), sigma[level], mode="reflect", truncate=3
        )
        for _ in range(2)
    ]
    return sampled(x, down + shifts[1], across + shifts[0], "reflect")


# --- What they have in common ---------------------------------------------------------------------


def in_bytes(x: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 to 255, what is behind the point cut off as the authors do.

    Numbers that are whole but for rounding count as whole: processors round differently, and 200
    from one may be 199.99999999999997 from another.
    """
    return (np.clip(x, 0, 1) * 255 + ROUNDING).astype(np.uint8)


def blurred(x: np.ndarray, sigma: float) -> np.ndarray:
    sigmas = (sigma, sigma, 0)[: x.ndim]
    return ndimage.gaussian_filter(x, sigmas, mode="nearest", truncate=4)


def moved(x: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Blur along one direction, from each pixel on, as ImageMagick's MotionBlurImage."""
    width = 2 * radius + 1
    weights = np.exp(-0.5 * (np.arange(width) / sigma) ** 2)
    weights /= weights.sum()
    across, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    result = np.zeros_like(x)
    for step, weight in enumerate(weights):
        row = np.clip(rows + math.ceil(step * down - 0.5), 0, SIDE - 1)
        column = np.clip(columns + math.ceil(step * across - 0.5), 0, SIDE - 1)
        result += weight * x[row, column]
    return result


def zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    """The middle of an image, enlarged to its size."""
    side = math.ceil(SIDE / factor)
    begin = (SIDE - side) // 2
    part = x[begin : begin + side, begin : begin + side]
    large: Any = ndimage.zoom(part, (factor, factor, 1), order=1)
    begin = (len(large) - SIDE) // 2
    return large[begin : begin + SIDE, begin : begin + SIDE]


def plasma(rng: Rng, decay: float) -> np.ndarray:
    """A fractal by midpoints of diamonds and squares, [32, 32] from 0 to 1; borders meet."""
    heights, step, wobble = np.zeros((SIDE, SIDE)), SIDE, 100.0

    def mean(total: np.ndarray) -> np.ndarray:
        return total / 4 + wobble * rng.uniform(-wobble, wobble, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        total = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = mean(total + np.roll(total, -1, 1))
        middles, corners = heights[half::step, half::step], heights[::step, ::step]
        above = middles + np.roll(middles, 1, 0) + corners + np.roll(corners, -1, 1)
        heights[::step, half::step] = mean(above)
        beside = middles + np.roll(middles, 1, 1) + corners + np.roll(corners, -1, 0)
        heights[half::step, ::step] = mean(beside)
        step, wobble = half, wobble / decay
    heights -= heights.min()
    return heights / heights.max()


def in_hsv(x: np.ndarray, channel: int, factor: float, more: float) -> np.ndarray:
    """An image with its saturation (1) or value (2) changed."""
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    hsv = rgb_to_hsv(np.clip(x, 0, 1))
    hsv[..., channel] = np.clip(hsv[..., channel] * factor + more, 0, 1)
    return hsv_to_rgb(hsv)


def sampled(x: np.ndarray, down: np.ndarray, across: np.ndarray, mode: str) -> np.ndarray:
    """The image at places between its pixels, bilinear."""
    places: Any = np.stack([down, across])
    channels = [
        ndimage.map_coordinates(x[..., channel], places, order=1, mode=mode) for channel in range(3)
    ]
    return np.stack(channels, -1)


def in_pillow(x: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(x * 255).astype(np.uint8))


# The kinds that mean errors are taken over, in the order of the paper's tables, and four more that
# it keeps for choosing methods by.
Corruption = Callable[[np.ndarray, int, Rng], np.ndarray]
_MAIN = (
    gaussian_noise,
    shot_noise,
    impulse_noise,
    defocus_blur,
    glass_blur,
    motion_blur,
    zoom_blur,
)
_MAIN += (snow, frost, fog, brightness, contrast, elastic_transform, pixelate, jpeg_compression)
_EXTRA = (speckle_noise, gaussian_blur, spatter, saturate)
MAIN: dict[str, Corruption] = {function.__name__: function for function in _MAIN}
KINDS: dict[str, Corruption] = MAIN | {function.__name__: function for function in _EXTRA}
