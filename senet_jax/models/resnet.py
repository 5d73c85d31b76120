"""ResNet and SE-ResNet for ImageNet (He et al. 2016; Hu et al., Table 1) and for CIFAR.

A residual unit computes relu(shortcut(x) + branch(x)). `ResidualBlock.__call__` shows every place
the paper puts an SE block in it (Figures 3 and 5); a plain network is the same code with no stage
chosen.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from senet_jax.layers.conv import Conv
from senet_jax.layers.conv_norm import ConvNorm, Layers, Network
from senet_jax.layers.norm import BatchNorm
from senet_jax.layers.pool import max_pool
from senet_jax.layers.squeeze_excite import SEConfig, SqueezeExcite

PLAIN = SEConfig(stages=())
STEMS = ("imagenet", "deep", "cifar")


class ResidualBlock(nn.Module):
    """One residual unit with its SE block: [B, H, W, C'] to [B, H/stride, W/stride, C].

    Attributes:
      features: width of the 3x3 convolutions.
      stride: of the branch and the shortcut.
      se: which SE block and where; None for a plain unit.
      stride_on: "3x3", or "1x1" to stride on the first 1x1 convolution of a bottleneck, as the
        authors' Caffe networks do.
      zero_init_last_bn: start the last batch-norm scale of the branch at zero.
      cardinality: number of groups of the 3x3 of a bottleneck (ResNeXt).
      base_width: width of the 3x3 of a bottleneck, per group, where `features` is 64.
      layers: settings of every convolution and batch normalisation.
    """

    features: int
    stride: int = 1
    se: SEConfig | None = None
    stride_on: str = "3x3"
    zero_init_last_bn: bool = False
    cardinality: int = 1
    base_width: int = 64
    layers: Layers = Layers()

    expansion = 1  # of the block's output over `features`
    strided_shortcut = 1  # side of the kernel of a projection that strides

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        branch = self.branch(self.se_at("pre", x), train)
        branch = self.se_at("standard", branch)
        branch = self.se_at("parallel", branch, source=x)
        shortcut = self.se_at("identity", self.shortcut(x, branch.shape[-1], train))
        return self.se_at("post", nn.relu(shortcut + branch))

    def branch(self, x: jax.Array, train: bool) -> jax.Array:
        raise NotImplementedError("a residual block defines its branch")

    def shortcut(self, x: jax.Array, channels: int, train: bool) -> jax.Array:
        """The identity where shapes agree, else a projection (option B of He et al.)."""
        if self.stride == 1 and x.shape[-1] == channels:
            return x
        size = self.strided_shortcut if self.stride > 1 else 1
        return ConvNorm(channels, size, self.stride, self.layers, name="shortcut")(x, train)

    def se_at(self, place: str, u: jax.Array, source: jax.Array | None = None) -> jax.Array:
        """Apply the SE block to `u` if `place` is where the configuration puts it."""
        if self.se is None or self.se.placement != place:
            return u
        return SqueezeExcite(self.se, name="se")(u, source)

    def conv(self, index: int, features: int, size: int, stride: int = 1, groups: int = 1) -> Conv:
        return self.layers.conv(features, size, stride, groups=groups, name=f"conv{index}")

    def norm(self, index: int, train: bool, *, last: bool = False) -> BatchNorm:
        zero_init = last and self.zero_init_last_bn
        return self.layers.norm(train, zero_init=zero_init, name=f"bn{index}")


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions. "after_3x3" means after the first: the second is the standard place."""

    def branch(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.relu(self.norm(1, train)(self.conv(1, self.features, 3, self.stride)(x)))
        x = self.se_at("after_3x3", x)
        return self.norm(2, train, last=True)(self.conv(2, self.features, 3)(x))


class Bottleneck(ResidualBlock):
    """1x1 reduction, 3x3 in `cardinality` groups, 1x1 expansion to four times `features`."""

    expansion = 4
    narrowing = 1  # of the first 1x1 against the 3x3

    def branch(self, x: jax.Array, train: bool) -> jax.Array:
        first, second = (1, self.stride) if self.stride_on == "3x3" else (self.stride, 1)
        width, groups = self.features * self.base_width // 64 * self.cardinality, self.cardinality
        x = nn.relu(self.norm(1, train)(self.conv(1, width // self.narrowing, 1, first)(x)))
        x = nn.relu(self.norm(2, train)(self.conv(2, width, 3, second, groups)(x)))
        x = self.se_at("after_3x3", x)
        return self.norm(3, train, last=True)(self.conv(3, self.features * self.expansion, 1)(x))


class Stage(nn.Module):
    """`size` blocks of one resolution, the first with the stage's stride."""

    size: int
    stride: int
    block: Callable[..., ResidualBlock]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for index in range(self.size):
            stride = self.stride if index == 0 else 1
            x = self.block(stride=stride, name=f"block{index + 1}")(x, train)
        return x


class ResNet(Network):
    """ResNet and its descendants; see Network for the fields that all networks have.

    Parameters live under `stem`, `stage2` ... `stage5` (the paper's numbers), each with `block1`,
    `block2`, ..., and `head`.

    Attributes:
      stage_sizes: number of blocks in each stage.
      block: BasicBlock or Bottleneck.
      se: which SE block, where, and in which stages.
      width: channels of the stem; each later stage doubles the width of its 3x3 convolutions.
      stem: "imagenet" (7x7 stride 2 and 3x3 max-pool stride 2), "deep" (three 3x3 in place of the
        7x7, the last of twice the width) or "cifar" (3x3).
      stride_on, zero_init_last_bn, cardinality, base_width: see ResidualBlock.

    Raises:
      ValueError: for values outside these, or a stage in `se.stages` that the network lacks.
    """

    stage_sizes: tuple[int, ...] = ()
    block: type[ResidualBlock] = BasicBlock
    se: SEConfig = SEConfig()
    width: int = 64
    stem: str = "imagenet"
    stride_on: str = "3x3"
    zero_init_last_bn: bool = False
    cardinality: int = 1
    base_width: int = 64

    def __post_init__(self) -> None:
        if self.stride_on not in ("3x3", "1x1"):
            raise ValueError(f"stride_on must be 3x3 or 1x1, not {self.stride_on!r}")
        if self.stride_on == "1x1" and self.block.expansion == 1:
            raise ValueError("stride_on=1x1 needs bottleneck blocks; these have no 1x1 convolution")
        if self.cardinality != 1 and self.block.expansion == 1:
            raise ValueError("cardinality needs bottleneck blocks; these have no grouped 3x3")
        if self.stem not in STEMS:
            raise ValueError(f"stem must be {', '.join(STEMS[:-1])} or cifar, not {self.stem!r}")
        self.se.check_stages(range(2, 2 + len(self.stage_sizes)))
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        x = Stem(self.width, self.stem, self.layers, name="stem")(images.astype(self.dtype), train)
        for number, size in enumerate(self.stage_sizes, start=2):
            block = functools.partial(
                self.block,
                features=self.width * 2 ** (number - 2),
                se=self.se if number in self.se.stages else None,
                stride_on=self.stride_on,
                zero_init_last_bn=self.zero_init_last_bn,
                cardinality=self.cardinality,
                base_width=self.base_width,
                layers=self.layers,
            )
            x = Stage(size, 1 if number == 2 else 2, block, name=f"stage{number}")(x, train)
        return self.layers.head(x, self.num_classes, self.dropout, train)


class Stem(nn.Module):
    """The layers before the first stage: [B, H, W, C] to [B, H/4, W/4, width] for ImageNet."""

    width: int
    kind: str
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if self.kind == "deep":
            for index, (widen, stride) in enumerate(((1, 2), (1, 1), (2, 1)), start=1):
                x = self.layers.conv(widen * self.width, 3, stride, name=f"conv{index}")(x)
                x = nn.relu(self.layers.norm(train, name=f"bn{index}")(x))
        else:
            size, stride = (7, 2) if self.kind == "imagenet" else (3, 1)
            x = self.layers.conv(self.width, size, stride, name="conv")(x)
            x = nn.relu(self.layers.norm(train, name="bn")(x))
        if self.kind == "cifar":
            return x
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


def _cifar(depth: int) -> Models:
    """ResNet-(6n+2) of He et al., section 4.2: three stages of n basic blocks, widths 16, 32, 64.

    Shortcuts that change shape are projections, as in the published SE-ResNet counts for CIFAR; He
    et al. pad with zeros there.
    """
    return with_and_without_se(
        f"resnet{depth}_cifar",
        SEConfig(stages=(2, 3, 4)),
        stage_sizes=((depth - 2) // 6,) * 3,
        block=BasicBlock,
        width=16,
        stem="cifar",
        num_classes=10,
    )


MODELS: Models = {
    **_imagenet(18, (2, 2, 2, 2), BasicBlock),
    **_imagenet(34, (3, 4, 6, 3), BasicBlock),
    **_imagenet(50, (3, 4, 6, 3), Bottleneck),
    **_imagenet(101, (3, 4, 23, 3), Bottleneck),
    **_imagenet(152, (3, 8, 36, 3), Bottleneck),
    **_cifar(20),
    **_cifar(56),
    **_cifar(110),
}
