"""ShuffleNet v1 and SE-ShuffleNet (Zhang et al., arXiv 1707.01083; Hu et al., Table 3).

The branch of a unit is a grouped 1x1, a shuffle of channels over groups, a depthwise 3x3 and a
second grouped 1x1. It is added to the unit's input, or with stride 2 concatenated to the averaged
input. The SE block sits on the branch before that, the place that gives the paper's parameters: it
scales the 240 - 24 = 216 channels of the first branch with 13 hidden units (216 // 16).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from senet_jax.layers.network import ConvNorm, Network, Stage
from senet_jax.layers.pool import average_pool, max_pool
from senet_jax.layers.residual import ResidualUnit, drop_paths
from senet_jax.layers.slot import IN_UNIT, SEConfig

# Numbered by resolution as in ResNet: stage 3, the paper's "Stage2", has an eighth of the image's.
STAGES = (3, 4, 5)
STEM_WIDTH = 24


class ShuffleUnit(ResidualUnit):
    """A unit of ShuffleNet: [B, H, W, C'] to [B, H/stride, W/stride, features].

    Attributes:
      features: width of the unit's output; its bottleneck has a quarter.
      stride: 1 or 2.
      groups: number of groups of the 1x1 convolutions.
      group_first: whether the first 1x1 is grouped as well, which it is not on the few channels of
        the stem.
    """

    features: int = 240
    stride: int = 1
    groups: int = 3
    group_first: bool = True

    def branch(self, x: jax.Array, train: bool) -> jax.Array:
        narrow, wide = self.features // 4, self.features
        if self.stride > 1:
            wide -= x.shape[-1]
        first = self.groups if self.group_first else 1
        x = ConvNorm(narrow, 1, 1, self.layers, groups=first, relu=True, name="reduce")(x, train)
        x = shuffle(x, self.groups)
        x = ConvNorm(narrow, 3, self.stride, self.layers, groups=narrow, name="depthwise")(x, train)
        x = self.se_at("after_3x3", x, train)
        expand = ConvNorm(wide, 1, 1, self.layers, groups=self.groups, name="expand")
        return expand(x, train, defer=self.defers)

    def shortcut(self, x: jax.Array, entry: jax.Array, channels: int, train: bool) -> jax.Array:
        return x if self.stride == 1 else average_pool(x, 3, self.stride)

    def merge(self, shortcut: jax.Array, branch: jax.Array) -> jax.Array:
        if self.stride == 1:
            return nn.relu(shortcut + branch)
        return nn.relu(jnp.concatenate([shortcut, branch], -1))


def shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Reorder channels [..., C]: the first of every group, then the second of every group, ..."""
    grouped = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return grouped.swapaxes(-1, -2).reshape(x.shape)


class ShuffleNet(Network):
    """ShuffleNet v1; see Network for the fields that all networks have.

    Parameters live under `stem`, `stage3` ... `stage5`, each with `unit1`, `unit2`, ..., and
    `head`.

    Attributes:
      se: which SE block, where, and in which stages.
      groups: number of groups of the 1x1 convolutions.
      width: width of the first stage's output; each later stage doubles it. 240 goes with 3 groups.
      stage_sizes: number of units per stage.

    Raises:
      ValueError: for values outside these, or a width that the groups do not divide.
    """

    se: SEConfig = SEConfig(stages=STAGES)
    groups: int = 3
    width: int = 240
    stage_sizes: tuple[int, ...] = (4, 8, 4)

    residual = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.se.check("ShuffleNet", STAGES[: len(self.stage_sizes)], IN_UNIT)
        if len(self.stage_sizes) > len(STAGES):
            raise ValueError(
                f"stage_sizes must be at most {len(STAGES)} numbers, not {self.stage_sizes}"
            )
        if self.width % (4 * self.groups) or (self.width - STEM_WIDTH) % self.groups:
            raise ValueError(
                f"width must be a multiple of 4 x {self.groups} groups, and {STEM_WIDTH} less of "
                f"the groups, not {self.width}"
            )
        if self.width <= STEM_WIDTH:  # the first unit's branch has what the stem's map lacks
            raise ValueError(f"width must be above the stem's {STEM_WIDTH}, not {self.width}")

    def maps(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        x = ConvNorm(STEM_WIDTH, 3, 2, self.layers, relu=True, name="stem")(x, train)
        x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)), self.implementation)
        maps, rates = {}, drop_paths(self.drop_path, sum(self.stage_sizes))
        for index, (number, size) in enumerate(zip(STAGES, self.stage_sizes, strict=False)):
            unit = functools.partial(
                ShuffleUnit,
                features=self.width * 2**index,
                groups=self.groups,
                se=self.se if number in self.se.stages else None,
                layers=self.layers,
            )
            next(rates)  # nothing would be left of a branch that is concatenated
            units = [functools.partial(unit, stride=2, group_first=index > 0)]
            units += [functools.partial(unit, drop_path=next(rates)) for _ in range(size - 1)]
            stage = Stage(tuple(units), "unit", name=f"stage{number}")
            x = maps[f"stage{number}"] = stage(x, train)
        return maps

    @property
    def strides(self) -> dict[str, int]:
        return {f"stage{number}": 2**number for number in STAGES[: len(self.stage_sizes)]}


MODELS: dict[str, functools.partial[ShuffleNet]] = {
    "shufflenet_g3": functools.partial(ShuffleNet, se=SEConfig(stages=())),
    "seshufflenet_g3": functools.partial(ShuffleNet, se=SEConfig(stages=STAGES)),
}
