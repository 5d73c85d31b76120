"""BN-Inception and SE-BN-Inception (Ioffe and Szegedy 2015; Hu et al., Table 2).

It follows the authors' network file: convolutions lack biases, the last module has max-pooling, and
an SE block comes after the concatenation of each of the ten modules, with stride 2 or without.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from senet_jax.layers.network import ConvNorm, Layers, ScalableNetwork
from senet_jax.layers.pool import average_pool, max_pool
from senet_jax.layers.slot import NO_BRANCH, SEConfig, attend


@dataclasses.dataclass(frozen=True)
class Widths:
    """Widths of the branches of a module, from the 1x1 that reduces to the last convolution.

    A module without `one` and `pool` has stride 2, and its pooled input passes as it is.
    """

    three: tuple[int, int]
    double: tuple[int, int]
    one: int | None = None
    pool: int | None = None
    pooling: str = "average"


# Stage and widths of each module. Stages are numbered by resolution as in ResNet: stage 3 has an
# eighth of the image's.
MODULES: dict[str, tuple[int, Widths]] = {
    "inception_3a": (3, Widths((64, 64), (64, 96), 64, 32)),
    "inception_3b": (3, Widths((64, 96), (64, 96), 64, 64)),
    "inception_3c": (4, Widths((128, 160), (64, 96), pooling="max")),
    "inception_4a": (4, Widths((64, 96), (96, 128), 224, 128)),
    "inception_4b": (4, Widths((96, 128), (96, 128), 192, 128)),
    "inception_4c": (4, Widths((128, 160), (128, 160), 160, 128)),
    "inception_4d": (4, Widths((128, 192), (160, 192), 96, 128)),
    "inception_4e": (5, Widths((128, 192), (192, 256), pooling="max")),
    "inception_5a": (5, Widths((192, 320), (160, 224), 352, 128)),
    "inception_5b": (5, Widths((192, 320), (192, 224), 352, 128, pooling="max")),
}
STAGES = (3, 4, 5)


class InceptionModule(nn.Module):
    """1x1, 3x3, two 3x3, and pooling, side by side: [B, H, W, C'] to [B, H/stride, W/stride, C]."""

    widths: Widths
    se: SEConfig | None
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = functools.partial(ConvNorm, layers=self.layers, relu=True)
        widths = self.widths
        stride = 1 if widths.one else 2
        branches = []
        if widths.one:
            branches.append(conv(widths.one, 1, 1, name="one")(x, train))
        y = conv(widths.three[0], 1, 1, name="three_reduce")(x, train)
        branches.append(conv(widths.three[1], 3, stride, name="three")(y, train))
        y = conv(widths.double[0], 1, 1, name="double_reduce")(x, train)
        y = conv(widths.double[1], 3, 1, name="double1")(y, train)
        branches.append(conv(widths.double[1], 3, stride, name="double2")(y, train))
        if widths.pooling == "average":
            y = average_pool(x, 3, 1)
        else:
            y = pool(x, stride, self.layers.implementation)
        branches.append(conv(widths.pool, 1, 1, name="pool")(y, train) if widths.pool else y)
        x = jnp.concatenate(branches, -1)
        return x if self.se is None else attend(self.se, self.layers, x, train, activated=True)


def pool(x: jax.Array, stride: int, implementation: str) -> jax.Array:
    """3x3 max-pooling to the size that a 3x3 convolution gives.

    With stride 2, windows begin at the first pixel of an even map, as in Caffe, which rounds sizes
    up.
    """
    padding = [(1 if stride == 1 else side % 2, 1) for side in x.shape[1:3]]
    return max_pool(x, (3, 3), (stride, stride), padding, implementation)


class BNInception(ScalableNetwork):
    """BN-Inception; see ScalableNetwork for the other fields.

    Parameters live under `stem1`, `stem2_reduce`, `stem2`, `inception_3a` ... `inception_5b`, and
    `head`.

    Attributes:
      se: which SE block and in which stages; its placement is the standard one.
      modules: names of its modules, in order; by default all ten. Each stage needs one.

    Raises:
      ValueError: for values outside these.
    """

    se: SEConfig = SEConfig(stages=STAGES)
    modules: tuple[str, ...] = tuple(MODULES)

    def __post_init__(self) -> None:
        super().__post_init__()
        in_order = tuple(name for name in MODULES if name in self.modules)
        if self.modules != in_order or not {"inception_3c", "inception_4e"} <= set(in_order[1:]):
            raise ValueError(
                f"modules must be some of {', '.join(MODULES)}, in this order, with both of stride "
                f"2, inception_3c and inception_4e, and one before them, not {self.modules}"
            )
        self.se.check("BN-Inception, which has no residual branches", STAGES, NO_BRANCH)

    def maps(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        conv = functools.partial(ConvNorm, layers=self.layers, relu=True)
        x = conv(self._width(64), 7, 2, name="stem1")(x, train)
        x = pool(x, 2, self.implementation)
        x = conv(self._width(64), 1, 1, name="stem2_reduce")(x, train)
        x = conv(self._width(192), 3, 1, name="stem2")(x, train)
        maps = {"stage2": x}
        x = pool(x, 2, self.implementation)
        for name in self.modules:
            stage, widths = MODULES[name]
            se = self.se if stage in self.se.stages else None
            x = InceptionModule(self._narrow(widths), se, self.layers, name=name)(x, train)
            maps[f"stage{stage}"] = x
        return maps

    @nn.nowrap
    def _narrow(self, widths: Widths) -> Widths:
        return Widths(
            (self._width(widths.three[0]), self._width(widths.three[1])),
            (self._width(widths.double[0]), self._width(widths.double[1])),
            widths.one and self._width(widths.one),
            widths.pool and self._width(widths.pool),
            widths.pooling,
        )

    @property
    def strides(self) -> dict[str, int]:
        return {f"stage{stage}": 2**stage for stage in (2, *STAGES)}


MODELS: dict[str, functools.partial[BNInception]] = {
    "bninception": functools.partial(BNInception, se=SEConfig(stages=())),
    "sebninception": functools.partial(BNInception, se=SEConfig(stages=STAGES)),
}
