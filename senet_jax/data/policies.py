"""RandAugment and the like: which of the operations an image gets, and how strong they are."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from senet_jax.data.operations import NARROW, OPERATIONS, TIMM, WIDE, Ranges, apply

MAX_MAGNITUDE = 30
TORCHVISIONS = OPERATIONS[:14]
# In timm's "inc1" and without it; the order does not matter.
TIMMS = tuple(name for name in OPERATIONS if name != "identity")
KINDS = TORCHVISION, TIMM_INC1, TIMM_INC0 = ("torchvision", "timm_inc1", "timm")
MAX_MAGNITUDES = {TORCHVISION: MAX_MAGNITUDE, TIMM_INC1: 10, TIMM_INC0: 10}

Drawn = tuple[jax.Array, jax.Array]  # place of an operation in OPERATIONS, strength from -1 to 1


class Policy(Protocol):
    """What changes images [B, H, W, 1 or 3] uint8, each with its own key: keys [B]."""

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array: ...


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Some operations one after another, each drawn from all; what has a sign goes either way.

    This is Cubuk et al., arXiv 1909.13719, in one of the forms of KINDS. In timm's each operation
    is done with probability one half, between pixels, and fills what is empty with a level.

    Attributes:
      layers: operations per image; 0 for none.
      magnitude: strength of every operation, from 0 to 30, or to 10 in timm's forms.
      kind: "torchvision"; "timm_inc1" for timm's "rand-mM-mstdS-inc1", and "timm" for the same
        without "inc1", where some operations do the less the greater the magnitude.
      std: timm's spread of the magnitude, which is normal, and cut at 0 and 10.
      fill: levels [C] of timm's forms.

    Raises:
      ValueError: for values outside these.
    """

    layers: int = 0
    magnitude: float = 9.0
    kind: str = TORCHVISION
    std: float = 0.0
    fill: tuple[int, ...] = TIMM.fill

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise ValueError(f"randaugment_layers must be at least 0, not {self.layers}")
        if self.kind not in KINDS:
            raise ValueError(f"randaugment_kind must be {', '.join(KINDS)}, not {self.kind!r}")
        most = MAX_MAGNITUDES[self.kind]
        if not 0 <= self.magnitude <= most:
            raise ValueError(
                f"randaugment_magnitude must be from 0 to {most}, not {self.magnitude}"
            )
        if not 0 <= self.std <= most:
            raise ValueError(f"randaugment_std must be from 0 to {most}, not {self.std}")

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        draw: Callable[..., Drawn] = self._draw if self.kind == TORCHVISION else self._draw_timms
        for layer in range(self.layers):
            drawn = jax.vmap(functools.partial(draw, layer))(keys)
            images = apply(*drawn, images, self.ranges)
        return images

    @property
    def ranges(self) -> Ranges:
        """What the operations do."""
        if self.kind == TORCHVISION:
            return NARROW
        return TIMM._replace(fill=self.fill, reverse=self.kind == TIMM_INC0)

    def _draw(self, layer: int, key: jax.Array) -> Drawn:
        which, way = jax.random.split(jax.random.fold_in(key, layer))
        number = jax.random.randint(which, (), 0, len(TORCHVISIONS))
        sign = jax.random.rademacher(way, (), jnp.float32)
        return number, self.magnitude / MAX_MAGNITUDE * sign

    def _draw_timms(self, layer: int, key: jax.Array) -> Drawn:
        keys = jax.random.split(jax.random.fold_in(key, layer), 4)
        number = _one_of(keys[0], [OPERATIONS.index(name) for name in TIMMS])
        number = jnp.where(jax.random.bernoulli(keys[1]), number, OPERATIONS.index("identity"))
        magnitude = self.magnitude + self.std * jax.random.normal(keys[2])
        sign = jax.random.rademacher(keys[3], (), jnp.float32)
        return number, jnp.clip(magnitude / 10, 0, 1) * sign


class TrivialAugment:
    """One operation, drawn from all, with one of 31 magnitudes from wide ranges, either way.

    This is "TA (Wide)" of Mueller and Hutter, arXiv 2103.10158.
    """

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        return apply(*jax.vmap(self._draw)(keys), images, WIDE)

    def _draw(self, key: jax.Array) -> Drawn:
        which, way, how = jax.random.split(key, 3)
        magnitude = jax.random.randint(how, (), 0, MAX_MAGNITUDE + 1).astype(jnp.float32)
        sign = jax.random.rademacher(way, (), jnp.float32)
        number = jax.random.randint(which, (), 0, len(TORCHVISIONS))
        return number, magnitude / MAX_MAGNITUDE * sign


@dataclasses.dataclass(frozen=True)
class AutoAugment:
    """One of 25 pairs of operations, each of them done with a probability of its own.

    This is Cubuk et al., arXiv 1805.09501, with the policies and ranges of torchvision.

    Attributes:
      policy: the dataset that it was found on, one of POLICIES.

    Raises:
      ValueError: for another.
    """

    policy: str

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(
                f"autoaugment must be {', '.join(POLICIES)}, or '' for none, not {self.policy!r}"
            )

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        for place in range(2):
            drawn = jax.vmap(functools.partial(self._draw, place))(keys)
            images = apply(*drawn, images, AUTO)
        return images

    def _draw(self, place: int, key: jax.Array) -> Drawn:
        table = [pair[place] for pair in pairs(self.policy)]
        which, *others = jax.random.split(key, 5)
        chosen = jax.random.randint(which, (), 0, len(table))
        columns: Any = zip(*table, strict=True)
        names, probabilities, levels = columns
        number = jnp.array([OPERATIONS.index(name) for name in names])[chosen]
        does = jax.random.bernoulli(others[place], jnp.array(probabilities)[chosen])
        sign = jax.random.rademacher(others[2 + place], (), jnp.float32)
        number = jnp.where(does, number, OPERATIONS.index("identity"))
        return number, jnp.array([level / 9 for level in levels])[chosen] * sign


def _one_of(key: jax.Array, places: list[int]) -> jax.Array:
    return jnp.array(places)[jax.random.randint(key, (), 0, len(places))]


AUTO = NARROW._replace(level=255)
# Pairs of operation, probability and level from 0 to 9, by the names here.
POLICIES = {
    "imagenet": """
        posterize .4 8 rotate .6 9;         solarize .6 5 autocontrast .6 0
        equalize .8 0 equalize .6 0;        posterize .6 7 posterize .6 6
        equalize .4 0 solarize .2 4;        equalize .4 0 rotate .8 8
        solarize .6 3 equalize .6 0;        posterize .8 5 equalize 1 0
        rotate .2 3 solarize .6 8;          equalize .6 0 posterize .4 6
        rotate .8 8 color .4 0;             rotate .4 9 equalize .6 0
        equalize 0 0 equalize .8 0;         invert .6 0 equalize 1 0
        color .6 4 contrast 1 8;            rotate .8 8 color 1 2
        color .8 8 solarize .8 7;           sharpness .4 7 invert .6 0
        shear_x .6 5 equalize 1 0;          color .4 0 equalize .6 0
        equalize .4 0 solarize .2 4;        solarize .6 5 autocontrast .6 0
        invert .6 0 equalize 1 0;           color .6 4 contrast 1 8
        equalize .8 0 equalize .6 0""",
    "cifar10": """
        invert .1 0 contrast .2 6;          rotate .7 2 translate_x .3 9
        sharpness .8 1 sharpness .9 3;      shear_y .5 8 translate_y .7 9
        autocontrast .5 0 equalize .9 0;    shear_y .2 7 posterize .3 7
        color .4 3 brightness .6 7;         sharpness .3 9 brightness .7 9
        equalize .6 0 equalize .5 0;        contrast .6 7 sharpness .6 5
        color .7 7 translate_x .5 8;        equalize .3 0 autocontrast .4 0
        translate_y .4 3 sharpness .2 6;    brightness .9 6 color .2 8
        solarize .5 2 invert 0 0;           equalize .2 0 autocontrast .6 0
        equalize .2 0 equalize .6 0;        color .9 9 equalize .6 0
        autocontrast .8 0 solarize .2 8;    brightness .1 3 color .7 0
        solarize .4 5 autocontrast .9 0;    translate_y .9 9 translate_y .7 9
        autocontrast .9 0 solarize .8 3;    equalize .8 0 invert .1 0
        translate_y .7 9 autocontrast .9 0""",
    "svhn": """
        shear_x .9 4 invert .2 0;           shear_y .9 8 invert .7 0
        equalize .6 0 solarize .6 6;        invert .9 0 equalize .6 0
        equalize .6 0 rotate .9 3;          shear_x .9 4 autocontrast .8 0
        shear_y .9 8 invert .4 0;           shear_y .9 5 solarize .2 6
        invert .9 0 autocontrast .8 0;      equalize .6 0 rotate .9 3
        shear_x .9 4 solarize .3 3;         shear_y .8 8 invert .7 0
        equalize .9 0 translate_y .6 6;     invert .9 0 equalize .6 0
        contrast .3 3 rotate .8 4;          invert .8 0 translate_y 0 2
        shear_y .7 6 solarize .4 8;         invert .6 0 rotate .8 4
        shear_y .3 7 translate_x .9 3;      shear_x .1 6 invert .6 0
        solarize .7 2 translate_y .6 7;     shear_y .8 4 invert .8 0
        shear_x .7 9 translate_y .8 3;      shear_y .8 5 autocontrast .7 0
        shear_x .7 2 invert .1 0""",
}


@functools.cache
def pairs(policy: str) -> tuple[tuple[tuple[str, float, int], ...], ...]:
    """The pairs of a policy: operation, probability and level of each."""
    words = POLICIES[policy].replace(";", " ").split()
    steps = [(words[n], float(words[n + 1]), int(words[n + 2])) for n in range(0, len(words), 3)]
    return tuple(zip(steps[::2], steps[1::2], strict=True))
