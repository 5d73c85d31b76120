"""MobileNet v1 and SE-MobileNet (Howard et al., arXiv 1704.04861; Hu et al., section 5.1).

A block is a depthwise 3x3 and a pointwise 1x1 convolution, each with batch normalisation and ReLU.
The paper does not say where its SE blocks sit; after the pointwise convolutions is the only place
that gives its 4.7 M parameters.
"""

import functools
import math

import flax.linen as nn
import jax

from senet_jax.layers.network import ConvNorm, Layers, ScalableNetwork, Stage
from senet_jax.layers.slot import NO_BRANCH, SEConfig, attend

# Stage, width and stride of each block. Stages are numbered by resolution as in ResNet: stage 2 has
# a quarter of the image's.
BLOCKS = (
    (1, 64, 1),
    *((2, 128, 2), (2, 128, 1)),
    *((3, 256, 2), (3, 256, 1)),
    *((4, 512, 2), *[(4, 512, 1)] * 5),
    *((5, 1024, 2), (5, 1024, 1)),
)
STAGES = (1, 2, 3, 4, 5)
SE_AFTER = ("pointwise", "both")


class SeparableBlock(nn.Module):
    """Depthwise 3x3, then pointwise 1x1: [B, H, W, C'] to [B, H/stride, W/stride, features]."""

    features: int
    stride: int
    se: SEConfig | None
    se_after: str
    layers: Layers
    limit: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        conv = functools.partial(ConvNorm, layers=self.layers, relu=True, limit=self.limit)
        x = conv(channels, 3, self.stride, groups=channels, name="depthwise")(x, train)
        if self.se is not None and self.se_after == "both":
            x = attend(self.se, self.layers, x, train, activated=True, name="se_depthwise")
        x = conv(self.features, 1, 1, name="pointwise")(x, train)
        return x if self.se is None else attend(self.se, self.layers, x, train, activated=True)


class MobileNet(ScalableNetwork):
    """MobileNet v1; see ScalableNetwork for the other fields.

    Parameters live under `stem`, `stage1` ... `stage5`, each with `block1`, `block2`, ..., and
    `head`.

    Attributes:
      se: which SE block and in which stages; its placement is the standard one.
      se_after: "pointwise", or "both" for a second SE block, after each depthwise convolution, as
        CBAM's authors read the paper (5,060,520 parameters).
      relu6: whether activations end at 6, as in TF-Slim and timm; the paper says ReLU.

    Raises:
      ValueError: for values outside these.
    """

    se: SEConfig = SEConfig(stages=STAGES)
    se_after: str = "pointwise"
    relu6: bool = False

    least_width = 8  # number of channels, whatever the factor

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.se_after not in SE_AFTER:
            raise ValueError(
                f"se_after must be one of {', '.join(SE_AFTER)}, not {self.se_after!r}"
            )
        if self.se_after != "pointwise" and not self.se.stages:
            raise ValueError("se_after has no effect without SE blocks; leave it out")
        self.se.check("MobileNet, which has no residual branches (see se_after)", STAGES, NO_BRANCH)

    def maps(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        limit = 6.0 if self.relu6 else math.inf
        stem = ConvNorm(self._width(32), 3, 2, self.layers, relu=True, limit=limit, name="stem")
        x = stem(x, train)
        maps = {}
        for stage in STAGES:
            block = functools.partial(
                SeparableBlock,
                se=self.se if stage in self.se.stages else None,
                se_after=self.se_after,
                layers=self.layers,
                limit=limit,
            )
            blocks = tuple(
                functools.partial(block, features=self._width(width), stride=stride)
                for number, width, stride in BLOCKS
                if number == stage
            )
            x = maps[f"stage{stage}"] = Stage(blocks, name=f"stage{stage}")(x, train)
        return maps

    @property
    def strides(self) -> dict[str, int]:
        return {f"stage{stage}": 2**stage for stage in STAGES}


MODELS: dict[str, functools.partial[MobileNet]] = {
    "mobilenetv1": functools.partial(MobileNet, se=SEConfig(stages=())),
    "semobilenetv1": functools.partial(MobileNet, se=SEConfig(stages=STAGES)),
}
