"""ResNet and SE-ResNet for ImageNet (He et al. 2016; Hu et al., Table 1) and for CIFAR.

A residual unit computes relu(shortcut(x) + branch(x)); `layers/residual.py` has the places of its
SE block. ResNeXt, SENet-154, the pre-activation, wide and Shake-Shake networks are this network
with other blocks or fields.
"""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax

from senet_jax.layers.deferred import is_cheaper_before, means_after
from senet_jax.layers.network import ConvNorm, Layers, Network, Stage
from senet_jax.layers.norm import BatchNorm
from senet_jax.layers.pool import halve, max_pool
from senet_jax.layers.residual import ResidualUnit, drop_paths
from senet_jax.layers.slot import PLACEMENTS, SEConfig, attend

PLAIN = SEConfig(stages=())
STEMS = ("imagenet", "deep", "cifar")


class ResidualBlock(ResidualUnit):
    """A unit of a ResNet: [B, H, W, C'] to [B, H/stride, W/stride, C].

    A kind of block is a subclass, with the fields of BLOCK_FIELDS that mean something in it.

    Attributes:
      features: width of the 3x3 convolutions.
      stride: stride of the branch and the shortcut.
    """

    features: int = 64
    stride: int = 1

    expansion: ClassVar = 1  # the block's output is so many times as wide as `features`
    strided_shortcut: ClassVar = 1  # side of the kernel of a projection that strides
    # Where blocks end with the addition, what the network adds to the last one: "bn", "relu".
    ending: ClassVar[tuple[str, ...]] = ()
    placements: ClassVar = PLACEMENTS  # the SE block can have these

    @nn.nowrap  # or Flax would capture what it returns by its name, which a submodule has
    def shortcut(self, x: jax.Array, entry: jax.Array, channels: int, train: bool) -> jax.Array:
        """The identity where shapes agree, otherwise a projection (option B of He et al.)."""
        if self.stride == 1 and x.shape[-1] == channels:
            return x
        return self.project(x, entry, channels, train)

    def project(self, x: jax.Array, entry: jax.Array, channels: int, train: bool) -> jax.Array:
        size = self.strided_shortcut if self.stride > 1 else 1
        return ConvNorm(channels, size, self.stride, self.layers, name="shortcut")(x, train)

    @property
    def activated(self) -> bool:
        return not self.ending

    def conv(
        self,
        x: jax.Array,
        train: bool,
        index: int,
        features: int,
        size: int,
        stride: int = 1,
        groups: int = 1,
    ) -> jax.Array:
        """Apply convolution `index` of the branch, from 1, and what stands before each of them."""
        x = self.se_at("before_convs", x, train, name=f"se{index}")
        return self.layers.conv(features, size, stride, groups=groups, name=f"conv{index}")(x)

    @nn.nowrap
    def norm(self, index: int, train: bool, *, zero_init: bool = False) -> BatchNorm:
        return self.layers.norm(train, zero_init=zero_init, name=f"bn{index}")


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions. "after_3x3" means after the first: the second is the standard place.

    Attributes:
      zero_init_last_bn: start the last batch-norm scale of the branch at zero.
    """

    zero_init_last_bn: bool = False

    def branch(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.conv(x, train, 1, self.features, 3, self.stride)
        x = self.se_at("after_3x3", nn.relu(self.norm(1, train)(x)), train)
        x = self.conv(x, train, 2, self.features, 3)
        return self.norm(2, train, zero_init=self.zero_init_last_bn)(x, defer=self.defers)


class Bottleneck(ResidualBlock):
    """1x1 reduction, 3x3 in `cardinality` groups, 1x1 expansion to four times `features`.

    Attributes:
      stride_on: "3x3", or "1x1" to stride on the first 1x1 convolution, as the authors' Caffe
        networks do.
      zero_init_last_bn: start the last batch-norm scale of the branch at zero.
      cardinality: number of groups of the 3x3 (ResNeXt).
      base_width: width of the 3x3 per group, where `features` is 64.
    """

    stride_on: str = "3x3"
    zero_init_last_bn: bool = False
    cardinality: int = 1
    base_width: int = 64

    expansion = 4
    narrowing = 1  # the first 1x1 is narrower than the 3x3 by this factor

    def branch(self, x: jax.Array, train: bool) -> jax.Array:
        first, second = (1, self.stride) if self.stride_on == "3x3" else (self.stride, 1)
        width, groups = self.features * self.base_width // 64 * self.cardinality, self.cardinality
        x = self.conv(x, train, 1, width // self.narrowing, 1, first)
        x = self.conv(nn.relu(self.norm(1, train)(x)), train, 2, width, 3, second, groups)
        x = self.se_at("after_3x3", nn.relu(self.norm(2, train)(x)), train)
        y = self.conv(x, train, 3, self.features * self.expansion, 1)
        means = None
        if self.defers and not train and is_cheaper_before(x, y):
            means = means_after(x, self.variables["params"]["conv3"]["kernel"])
        norm = self.norm(3, train, zero_init=self.zero_init_last_bn)
        return norm(y, defer=self.defers, means=means)


# Fields of the network that say something about its blocks. A kind of block that lacks one refuses
# values of it.
BLOCK_FIELDS = ("stride_on", "zero_init_last_bn", "cardinality", "base_width")


class ResNet(Network):
    """ResNet and its descendants; see Network for the fields that all networks have.

    Parameters live under `stem`, `stage2` ... `stage5` (the paper's numbers), each with `block1`,
    `block2`, ..., and `head`.

    Attributes:
      stage_sizes: number of blocks per stage.
      block: BasicBlock or Bottleneck.
      se: which SE block, where, and in which stages.
      width: width of the 3x3 convolutions of the first stage; each later stage doubles it.
      stem: "imagenet" (7x7 stride 2 and 3x3 max-pool stride 2), "deep" (three 3x3 in place of the
        7x7, the last of twice the width) or "cifar" (3x3).
      stem_width: number of channels of the stem; `width` if None.
      stem_pool: "padded" (by one pixel on all sides), or "caffe": not padded, sizes rounded up, as
        in the authors' networks and timm's legacy_* ones.
      stride_on, zero_init_last_bn, cardinality, base_width: fields of `block`; see Bottleneck.

    Raises:
      ValueError: for values outside these, for a field that `block` lacks, or a stage in
        `se.stages` that the network lacks.
    """

    stage_sizes: tuple[int, ...] = ()
    block: type[ResidualBlock] = BasicBlock
    se: SEConfig = SEConfig()
    width: int = 64
    stem: str = "imagenet"
    stem_width: int | None = None
    stem_pool: str = "padded"
    stride_on: str = "3x3"
    zero_init_last_bn: bool = False
    cardinality: int = 1
    base_width: int = 64

    residual = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride_on not in ("3x3", "1x1"):
            raise ValueError(f"stride_on must be 3x3 or 1x1, not {self.stride_on!r}")
        for field in BLOCK_FIELDS:
            if not hasattr(self.block, field) and getattr(self, field) != getattr(ResNet, field):
                raise ValueError(f"{field} has no meaning in {self.block.__name__}s; leave it out")
        if self.stem_pool not in ("padded", "caffe"):
            raise ValueError(f"stem_pool must be padded or caffe, not {self.stem_pool!r}")
        if self.stem == "cifar" and self.stem_pool != "padded":
            raise ValueError("stem_pool has no effect with stem='cifar'; leave it out")
        if self.stem not in STEMS:
            raise ValueError(f"stem must be {', '.join(STEMS[:-1])} or cifar, not {self.stem!r}")
        numbers = range(2, 2 + len(self.stage_sizes))
        self.se.check(self.block.__name__, numbers, self.block.placements)
        if self.se.placement == "between_stages" and self.se.stages == (numbers[-1],):
            raise ValueError(
                f"se.stages={self.se.stages} with se.placement='between_stages' leaves no block: "
                "nothing follows the last stage"
            )

    def maps(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        ending = self.block.ending
        x = Stem(
            self.stem_width or self.width,
            self.stem,
            self.stem_pool,
            self.layers,
            activated="bn" not in ending,
            name="stem",
        )(x, train)
        maps, last = {}, 1 + len(self.stage_sizes)
        fields = {name: getattr(self, name) for name in BLOCK_FIELDS if hasattr(self.block, name)}
        block = functools.partial(self.block, layers=self.layers, **fields)
        rates = drop_paths(self.drop_path, sum(self.stage_sizes))
        for number, size in enumerate(self.stage_sizes, start=2):
            se = self.se if number in self.se.stages else None
            unit = functools.partial(block, features=self.width * 2 ** (number - 2), se=se)
            strides = (1 if number == 2 else 2, *[1] * (size - 1))
            blocks = tuple(
                functools.partial(unit, stride=stride, drop_path=next(rates)) for stride in strides
            )
            x = Stage(blocks, name=f"stage{number}")(x, train)
            if se is not None and se.placement == "between_stages" and number < last:
                x = attend(se, self.layers, x, train, activated=not ending, name=f"se{number}")
            maps[f"stage{number}"] = x
        if "bn" in ending:
            x = self.layers.norm(train, name="bn")(x)
        if "relu" in ending:
            x = nn.relu(x)
        return maps | {next(reversed(maps)): x}

    @property
    def strides(self) -> dict[str, int]:
        first = 1 if self.stem == "cifar" else 4
        return {f"stage{2 + index}": first * 2**index for index in range(len(self.stage_sizes))}


class Stem(nn.Module):
    """The layers before the first stage: [B, H, W, C] to [B, H/4, W/4, width] for ImageNet.

    Attributes:
      width: number of channels.
      kind: one of STEMS.
      pool: see ResNet.stem_pool.
      layers: settings of all layers.
      activated: whether batch norm and ReLU follow the only convolution.
    """

    width: int
    kind: str
    pool: str
    layers: Layers
    activated: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if self.kind == "deep":
            for index, (widen, stride) in enumerate(((1, 2), (1, 1), (2, 1)), start=1):
                x = self.layers.conv(widen * self.width, 3, stride, name=f"conv{index}")(x)
                x = nn.relu(self.layers.norm(train, name=f"bn{index}")(x))
        else:
            size, stride = (7, 2) if self.kind == "imagenet" else (3, 1)
            x = self.layers.conv(self.width, size, stride, name="conv")(x)
            if self.activated:
                x = nn.relu(self.layers.norm(train, name="bn")(x))
        if self.kind == "cifar":
            return x
        if self.pool == "caffe":
            return halve(x, self.layers.implementation)
        return max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)), self.layers.implementation)


Models = dict[str, functools.partial[ResNet]]


def with_and_without_se(name: str, se: SEConfig, **fields: Any) -> Models:
    """Two names of one network: `name`, and "se" before it."""
    return {
        name: functools.partial(ResNet, se=PLAIN, **fields),
        f"se{name}": functools.partial(ResNet, se=se, **fields),
    }


def _imagenet(depth: int, sizes: tuple[int, ...], block: type[ResidualBlock]) -> Models:
    return with_and_without_se(f"resnet{depth}", SEConfig(), stage_sizes=sizes, block=block)


def cifar(name: str, block: type[ResidualBlock], blocks: int, **fields: Any) -> Models:
    """Two names of a network with three stages of `blocks` blocks each, for images of 32 pixels.

    Shortcuts that change shape are projections, as in the published SE-ResNet counts for CIFAR; He
    et al. (section 4.2) pad with zeros instead. ResNet-(6n+2) has n basic blocks per stage.
    """
    fields = {"width": 16, "stem": "cifar", "num_classes": 10} | fields
    fields |= {"stage_sizes": (blocks,) * 3, "block": block}
    return with_and_without_se(name, SEConfig(stages=(2, 3, 4)), **fields)


MODELS: Models = {
    **_imagenet(18, (2, 2, 2, 2), BasicBlock),
    **_imagenet(34, (3, 4, 6, 3), BasicBlock),
    **_imagenet(50, (3, 4, 6, 3), Bottleneck),
    **_imagenet(101, (3, 4, 23, 3), Bottleneck),
    **_imagenet(152, (3, 8, 36, 3), Bottleneck),
    **cifar("resnet20_cifar", BasicBlock, 3),
    **cifar("resnet56_cifar", BasicBlock, 9),
    **cifar("resnet110_cifar", BasicBlock, 18),
}
