"""Inception-ResNet-v2 and SE-Inception-ResNet-v2 (Szegedy et al. 2017; Hu et al., Table 2).

This is the network of TF-Slim and timm (55,843,464 parameters), for images of 299 pixels. The
paper's SE version was not published. Its text says "a similar scheme", which we read as in ResNet:
the SE block sits on the branch after its linear 1x1, before residual scaling. The stem and the
reductions have none.

The paper prints 11.75 G multiply-adds, those of `blocks=(5, 20, 5)`; this network has 13.16 G.
"""

import dataclasses
import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from senet_jax.layers.network import ConvNorm, Layers, ScalableNetwork, Size
from senet_jax.layers.pool import average_pool, max_pool
from senet_jax.layers.residual import ResidualUnit, drop_paths
from senet_jax.layers.slot import NO_3X3, SEConfig

# Convolutions in a row, each with its width and its kernel.
Path = tuple[tuple[int, Size], ...]


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """Plan of a stage: the paths that come first, side by side, and its blocks.

    Attributes:
      first: paths into the stage; those of stages 4 and 5 end with stride 2, beside max-pooling.
      paths: paths of each block.
      scale: factor of each block's branch.
    """

    first: tuple[Path, ...]
    paths: tuple[Path, ...]
    scale: float


STAGES: dict[int, StagePlan] = {
    3: StagePlan(
        (((96, 1),), ((48, 1), (64, 5)), ((64, 1), (96, 3), (96, 3))),
        (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3))),
        0.17,
    ),
    4: StagePlan(
        (((384, 3),), ((256, 1), (256, 3), (384, 3))),
        (((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1)))),
        0.1,
    ),
    5: StagePlan(
        (((256, 1), (384, 3)), ((256, 1), (288, 3)), ((256, 1), (288, 3), (320, 3))),
        (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1)))),
        0.2,
    ),
}
POOLED_WIDTH = 64  # width of the 1x1 on the averaged input, the fourth path of stage 3


class Paths(nn.Module):
    """Paths side by side, concatenated: [B, H, W, C'] to [B, H', W', C].

    With stride 2 the last convolution of a path has it, and no padding.
    """

    paths: tuple[Path, ...]
    layers: Layers
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        outputs = []
        for number, path in enumerate(self.paths, start=1):
            y = x
            for index, (width, size) in enumerate(path, start=1):
                stride = self.stride if index == len(path) else 1
                padding = "half" if stride == 1 else "VALID"
                name = f"path{number}_conv{index}"
                conv = ConvNorm(
                    width, size, stride, self.layers, padding=padding, relu=True, name=name
                )
                y = conv(y, train)
            outputs.append(y)
        if self.stride == 2:
            outputs.append(shrink(x, self.layers))
        return jnp.concatenate(outputs, -1)


class InceptionBlock(ResidualUnit):
    """relu(x + scale * linear(paths(x))) of [B, H, W, C], same shape; the last lacks the ReLU."""

    paths: tuple[Path, ...] = ()
    scale: float = 1.0
    last: bool = False

    def branch(self, x: jax.Array, train: bool) -> jax.Array:
        y = Paths(self.paths, self.layers, name="paths")(x, train)
        return self.layers.conv(x.shape[-1], 1, bias=True, name="expand")(y)

    @property
    def activated(self) -> bool:
        return not self.last

    def merge(self, shortcut: jax.Array, branch: jax.Array) -> jax.Array:
        return super().merge(shortcut, self.scale * branch)


class InceptionStage(nn.Module):
    """The paths into one resolution, and its blocks."""

    plan: StagePlan
    drop_paths: tuple[float, ...]  # of each block
    se: SEConfig | None
    layers: Layers
    pooled_width: int = 0  # above 0 for the first stage, which has stride 1
    is_last: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        stride = 1 if self.pooled_width else 2
        y = Paths(self.plan.first, self.layers, stride, name="first")(x, train)
        if self.pooled_width:
            mean = average_pool(x, 3, 1, count_padding=False)
            pooled = ConvNorm(self.pooled_width, 1, 1, self.layers, relu=True, name="pooled")
            y = jnp.concatenate([y, pooled(mean, train)], -1)
        for number, drop_path in enumerate(self.drop_paths, start=1):
            last = self.is_last and number == len(self.drop_paths)
            scale = 1.0 if last else self.plan.scale
            block = InceptionBlock(
                *(self.se, self.layers, drop_path, self.plan.paths, scale, last),
                name=f"block{number}",
            )
            y = block(y, train)
        return y


def shrink(x: jax.Array, layers: Layers) -> jax.Array:
    """3x3 max-pooling with stride 2, without padding."""
    return max_pool(x, (3, 3), (2, 2), implementation=layers.implementation)


class InceptionResNet(ScalableNetwork):
    """Inception-ResNet-v2; see ScalableNetwork for the other fields.

    Parameters live under `stem1` ... `stem5`, `stage3` ... `stage5`, numbered by resolution as in
    ResNet, each with `first` and `block1`, `block2`, ..., `last` and `head`.

    Attributes:
      se: which SE block, where, and in which stages.
      blocks: number of blocks per stage.

    Raises:
      ValueError: for values outside these.
    """

    se: SEConfig = SEConfig(stages=tuple(STAGES))
    blocks: tuple[int, int, int] = (10, 20, 10)

    residual = True
    image_size = 299
    least_image_size = 75

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.blocks) != len(STAGES) or min(self.blocks) < 1:
            raise ValueError(f"blocks must be three numbers of at least 1, not {self.blocks}")
        self.se.check("Inception-ResNet, which has many 3x3", tuple(STAGES), NO_3X3)

    def maps(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        conv = functools.partial(ConvNorm, layers=self.layers, relu=True)
        valid = functools.partial(conv, padding="VALID")
        x = valid(self._width(32), 3, 2, name="stem1")(x, train)
        x = valid(self._width(32), 3, 1, name="stem2")(x, train)
        x = conv(self._width(64), 3, 1, name="stem3")(x, train)
        x = conv(self._width(80), 1, 1, name="stem4")(shrink(x, self.layers), train)
        x = valid(self._width(192), 3, 1, name="stem5")(x, train)
        maps = {"stage2": x}
        x = shrink(x, self.layers)
        rates = drop_paths(self.drop_path, sum(self.blocks))
        for (number, plan), size in zip(STAGES.items(), self.blocks, strict=True):
            plan = StagePlan(self._narrow(plan.first), self._narrow(plan.paths), plan.scale)
            x = maps[f"stage{number}"] = InceptionStage(
                plan,
                tuple(itertools.islice(rates, size)),
                self.se if number in self.se.stages else None,
                self.layers,
                self._width(POOLED_WIDTH) if number == 3 else 0,
                number == 5,
                name=f"stage{number}",
            )(x, train)
        maps["stage5"] = conv(self._width(1536), 1, 1, name="last")(x, train)
        return maps

    @nn.nowrap
    def _narrow(self, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(tuple((self._width(width), size) for width, size in path) for path in paths)

    @property
    def layers(self) -> Layers:
        return dataclasses.replace(super().layers, epsilon=1e-3)

    @property
    def strides(self) -> dict[str, int]:
        return {f"stage{number}": 2**number for number in (2, *STAGES)}


MODELS: dict[str, functools.partial[InceptionResNet]] = {
    "inception_resnet_v2": functools.partial(InceptionResNet, se=SEConfig(stages=())),
    "seinception_resnet_v2": functools.partial(InceptionResNet, se=SEConfig(stages=tuple(STAGES))),
}
