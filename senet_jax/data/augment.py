"""Augmentation and normalisation of uint8 images on the device, inside the jitted step.

Random numbers are drawn per example, from its place in the global batch, and those of mixing per
pair of neighbours. So the images a step trains on do not depend on how many devices share it.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from senet_jax.data.operations import TIMM, rotation, warp
from senet_jax.data.policies import TORCHVISION, AutoAugment, Policy, RandAugment, TrivialAugment
from senet_jax.errors import InputError

MODES = PIXEL, RAND, CONST = ("pixel", "rand", "const")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Pad, crop back at random, mirror at random (Hu et al., section 5.1, for CIFAR), cut out.

    Between mirroring and cutting out come, in this order: the rotation that the authors' released
    networks were trained with beside their crops, a policy such as RandAugment, and the authors'
    "pixel jitter". How the authors made the two is not known.

    Attributes:
      pad: black pixels added on each side before the crop; 0 for none.
      flip: mirror left and right with probability one half.
      rotation: most degrees by which an image is turned either way; it takes the nearest pixels,
        and black ones where there are none.
      randaugment_layers, randaugment_magnitude, randaugment_kind, randaugment_std: see
        `RandAugment`.
      trivialaugment, autoaugment: whether there is `TrivialAugment` in its place, or which policy
        of `AutoAugment`; "" for none.
      color_jitter: most levels, of 255, by which each channel becomes brighter or darker.
      cutout: side, in pixels, of a square around a random pixel that is blanked (DeVries and
        Taylor, arXiv 1708.04552); 0 for none. It may reach over the edge.
      erasing, erasing_mode: probability of a rectangle, and what fills it, see `erase`.

    Raises:
      ValueError: for values outside these.
    """

    pad: int = 0
    flip: bool = False
    rotation: float = 0.0
    randaugment_layers: int = 0
    randaugment_magnitude: float = 9.0
    color_jitter: int = 0
    cutout: int = 0
    trivialaugment: bool = False
    erasing: float = 0.0
    randaugment_kind: str = TORCHVISION
    randaugment_std: float = 0.0
    autoaugment: str = ""
    erasing_mode: str = PIXEL

    def __post_init__(self) -> None:
        for field in ("pad", "cutout"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} must be at least 0 pixels, not {getattr(self, field)}")
        for field, most, unit in (("rotation", 180, "degrees"), ("color_jitter", 255, "levels")):
            if not 0 <= getattr(self, field) <= most:
                value = getattr(self, field)
                raise ValueError(f"{field} must be from 0 to {most} {unit}, not {value}")
        self.policy()  # refuses what it must
        if self.erasing_mode not in MODES:
            raise ValueError(f"erasing_mode must be {', '.join(MODES)}, not {self.erasing_mode!r}")
        if not 0 <= self.erasing <= 1:
            raise ValueError(f"erasing must be from 0 to 1, not {self.erasing}")

    def policy(self, fill: tuple[int, ...] = TIMM.fill) -> Policy | None:
        """The policy that was chosen, if any. Raises: ValueError for several.

        Args:
          fill: levels [C] where a warp of timm's has no pixels.
        """
        randaugment = RandAugment(
            self.randaugment_layers,
            self.randaugment_magnitude,
            self.randaugment_kind,
            self.randaugment_std,
            fill,
        )
        makers = {
            "randaugment_layers": lambda: randaugment,
            "trivialaugment": TrivialAugment,
            "autoaugment": lambda: AutoAugment(self.autoaugment),
        }
        chosen = [field for field in makers if getattr(self, field)]
        if len(chosen) > 1:
            one, other, *_ = (f"{field}={getattr(self, field)!r}" for field in chosen)
            raise ValueError(f"{one} cannot go with {other}: choose one")
        return makers[chosen[0]]() if chosen else None

    def check(self, channels: int) -> None:
        """Raises: InputError if images with so many channels cannot be augmented like this."""
        for field in ("randaugment_layers", "trivialaugment", "autoaugment"):
            if (value := getattr(self, field)) and channels not in (1, 3):
                raise InputError(
                    f"data.{field} is {value!r}, but its operations are for images of 1 or 3 "
                    f"channels, not {channels}"
                )

    def __call__(
        self, keys: jax.Array, images: jax.Array, fill: tuple[int, ...] = TIMM.fill
    ) -> jax.Array:
        """Augment images [B, H, W, C] uint8, each with its own key: keys [B]; see `policy`."""
        crop_keys, flip_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        if self.pad:
            images = jax.vmap(self._crop)(crop_keys, images)
        if self.flip:
            mirrored = jax.vmap(jax.random.bernoulli)(flip_keys)
            images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        keys_of = functools.partial(jax.vmap(jax.random.fold_in, in_axes=(0, None)), keys)
        if self.rotation:
            images = jax.vmap(self._rotate)(keys_of(4), images)
        if policy := self.policy(fill):
            images = policy(keys_of(5), images)
        if self.color_jitter:
            images = jax.vmap(self._jitter)(keys_of(6), images)
        return images

    def cut_out(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Cut a square out of normalised images [B, H, W, C]: what is blanked becomes the mean."""
        if not self.cutout:
            return images
        _, height, width, _ = images.shape

        def is_kept(key: jax.Array) -> jax.Array:
            square = (self.cutout, self.cutout)
            return ~_rectangle(jax.random.fold_in(key, 2), (height, width), square)

        return images * jax.vmap(is_kept)(keys)[..., None].astype(images.dtype)

    def erase(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Fill a rectangle of normalised images [B, H, W, C], at random.

        This is random erasing (Zhong et al., arXiv 1708.04896) in timm's modes: normal noise in
        each "pixel", one colour of such noise ("rand"), or the mean ("const"). The area is 2 to
        33 % of the image's, height by width 0.3 to 1 / 0.3.
        """
        return jax.vmap(self._erase)(keys, images) if self.erasing else images

    def _erase(self, key: jax.Array, image: jax.Array) -> jax.Array:
        sides = jnp.array(image.shape[:2], jnp.float32)
        keys = jax.random.split(jax.random.fold_in(key, 7), 5)
        # The first of ten tries that fits counts; with none, there is no rectangle.
        area = sides.prod() * jax.random.uniform(keys[0], (10,), minval=0.02, maxval=1 / 3)
        bound = -math.log(0.3)
        root = jnp.exp(jax.random.uniform(keys[1], (10,), minval=-bound, maxval=bound) / 2)
        tries = jnp.round(jnp.stack([jnp.sqrt(area) * root, jnp.sqrt(area) / root], axis=1))
        fits = (tries < sides[None]).all(1)
        side = tries[jnp.argmax(fits)]
        first = jnp.floor(jax.random.uniform(keys[2], (2,)) * (sides - side + 1))
        rows, columns = (
            (place >= first[axis]) & (place < first[axis] + side[axis])
            for axis, place in enumerate(jnp.arange(float(side)) for side in image.shape[:2])
        )
        erases = fits.any() & jax.random.bernoulli(keys[3], self.erasing)
        shape = image.shape if self.erasing_mode == PIXEL else (1, 1, image.shape[-1])
        noise = jax.random.normal(keys[4], shape, image.dtype)
        value = jnp.zeros_like(noise) if self.erasing_mode == CONST else noise
        return jnp.where((rows[:, None] & columns[None] & erases)[..., None], value, image)

    def _crop(self, key: jax.Array, image: jax.Array) -> jax.Array:
        y, x = jax.random.randint(key, (2,), 0, 2 * self.pad + 1)
        padded = jnp.pad(image, ((self.pad, self.pad), (self.pad, self.pad), (0, 0)))
        return jax.lax.dynamic_slice(padded, (y, x, 0), image.shape)

    def _rotate(self, key: jax.Array, image: jax.Array) -> jax.Array:
        degrees = jax.random.uniform(key, minval=-self.rotation, maxval=self.rotation)
        height, width, _ = image.shape
        return warp(image, rotation(degrees, (height, width)))

    def _jitter(self, key: jax.Array, image: jax.Array) -> jax.Array:
        most = self.color_jitter
        shift = jax.random.randint(key, image.shape[-1:], -most, most + 1)
        return jnp.clip(image.astype(jnp.int32) + shift[None, None], 0, 255).astype(image.dtype)


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mix each example with its neighbour in the batch, images and targets.

    The share of the example itself is drawn from Beta(a, a).

    Neighbours are examples 0 and 1, 2 and 3, ..., which are strangers in a shuffled epoch, so that
    a batch can be cut anywhere between pairs. With both kinds on, each pair gets one or the other.

    Attributes:
      mixup: the number a where all pixels are mixed (Zhang et al., arXiv 1710.09412); 0 for none.
      cutmix: the number a where a rectangle is pasted (Yun et al., arXiv 1905.04899); 0 for none.
      mix_probability: probability that a pair is mixed at all.
      cutmix_probability: probability of a rectangle where both are on.

    Raises:
      ValueError: for a negative number, or a probability that is none.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    cutmix_probability: float = 0.5

    def __post_init__(self) -> None:
        for field in ("mixup", "cutmix"):
            if not 0 <= getattr(self, field) < math.inf:
                raise ValueError(f"{field} must be at least 0, not {getattr(self, field)}")
        if not 0 < self.mix_probability <= 1:
            raise ValueError(
                f"mix_probability must be above 0 and at most 1, not {self.mix_probability}"
            )
        if not 0 < self.cutmix_probability < 1:
            raise ValueError(
                f"cutmix_probability must be between 0 and 1, not {self.cutmix_probability}"
            )

    def __bool__(self) -> bool:
        """Whether there is anything to mix."""
        return bool(self.mixup or self.cutmix)

    def __call__(
        self, keys: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Mix images [B, H, W, C] and targets [B, K] by the keys [B] of the examples; B is even."""
        _, height, width, _ = images.shape
        masks = jax.vmap(lambda key: self._share(key, (height, width)))(keys[::2])
        masks = jnp.repeat(masks, 2, axis=0)
        share = masks.mean((1, 2))[:, None]
        masks = masks[..., None].astype(images.dtype)
        return (
            masks * images + (1 - masks) * _neighbours(images),
            share * targets + (1 - share) * _neighbours(targets),
        )

    def _share(self, key: jax.Array, shape: tuple[int, int]) -> jax.Array:
        """The share of each pixel that stays: [H, W]."""
        which, share_key, place_key = jax.random.split(jax.random.fold_in(key, 3), 3)
        has_both = self.mixup and self.cutmix
        chance = self.cutmix_probability
        pastes = jax.random.bernoulli(which, chance) if has_both else bool(self.cutmix)
        alpha = jnp.where(pastes, self.cutmix, self.mixup)
        share = jax.random.beta(share_key, alpha, alpha)
        halves = [jnp.floor(jnp.sqrt(1 - share) * s).astype(jnp.int32) // 2 for s in shape]
        pasted = _rectangle(place_key, shape, [2 * half for half in halves])
        stays = jnp.where(pastes, 1.0 - pasted.astype(share.dtype), share)
        if self.mix_probability < 1:
            mixes = jax.random.bernoulli(jax.random.fold_in(key, 8), self.mix_probability)
            stays = jnp.where(mixes, stays, 1.0)
        return stays


def _rectangle(
    key: jax.Array, shape: tuple[int, int], sides: Sequence[int | jax.Array]
) -> jax.Array:
    """A mask [H, W], true in a rectangle around a random pixel, as far as it fits.

    Args:
      sides: its height and width in pixels.
    """
    spans = []
    for one, size, side in zip(jax.random.split(key), shape, sides, strict=True):
        first = jax.random.randint(one, (), 0, size) - side // 2
        places = jnp.arange(size)
        spans.append((places >= first) & (places < first + side))
    return spans[0][:, None] & spans[1][None]


def _neighbours(x: jax.Array) -> jax.Array:
    """The batch [B, ...] with examples 0 and 1, 2 and 3, ... exchanged."""
    return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """Turn uint8 [..., C] into float32 of zero mean and unit variance.

    Args:
      mean, std: one number per channel, in units of 0 to 255.
    """
    centre, scale = (jax.lax.broadcast_to_rank(jnp.array(v), images.ndim) for v in (mean, std))
    return (images.astype(jnp.float32) - centre) / scale
