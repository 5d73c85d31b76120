"""The parts that all networks share: settings of layers, fields, and the way through a network."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from senet_jax.layers.checks import check_batch, check_counts
from senet_jax.layers.conv import Conv, check_implementation
from senet_jax.layers.dropout import Dropout
from senet_jax.layers.initial import he_normal
from senet_jax.layers.norm import BatchNorm

Size = int | tuple[int, int]

MOMENTUM = 0.9  # share of running batch statistics that a step keeps


@dataclasses.dataclass(frozen=True)
class Layers:
    """Settings that all layers of a network share, and constructors of layers that have them.

    Attributes:
      dtype: dtype of activations; parameters and batch statistics are float32.
      axis_name: name of the mapped axis of the devices that share a batch, if any.
      sync_batch_norm: whether batch statistics are taken over all these devices together.
      implementation: "auto", or "xla" for plain operations on every platform (layers/conv.py).
      epsilon: number that batch normalisation adds to the variance.
      freeze_batch_norm: whether training normalises by the running statistics as well: True, or the
        paths of the layers that do.
    """

    dtype: Any = jnp.float32
    axis_name: str | None = None
    sync_batch_norm: bool = False
    implementation: str = "auto"
    epsilon: float = 1e-5
    freeze_batch_norm: bool | tuple[str, ...] = False

    def conv(
        self,
        features: int,
        size: Size,
        stride: int = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
        padding: str = "half",
        bias: bool = False,
        name: str,
    ) -> Conv:
        """A He-initialised convolution.

        Args:
          features: number of channels of the output.
          size: size of the kernel: a side, or height and width.
          stride: step, down and across.
          groups: number of groups.
          dilation: distance of the kernel's taps, in pixels.
          padding: "half" the kernel on both sides, which differs from SAME where the stride is 2,
            or "VALID": none.
          bias: whether it has a bias.
          name: name of the part.
        """
        height, width = (size, size) if isinstance(size, int) else size
        half = tuple((side // 2 * dilation,) * 2 for side in (height, width))
        return Conv(
            features,
            (height, width),
            stride,
            padding=half if padding == "half" else padding,
            kernel_dilation=dilation,
            feature_group_count=groups,
            use_bias=bias,
            kernel_init=he_normal,
            dtype=self.dtype,
            implementation=self.implementation,
            name=name,
        )

    def norm(self, train: bool, *, zero_init: bool = False, name: str) -> BatchNorm:
        """Batch normalisation by batch statistics when training, by running ones otherwise.

        With `zero_init` its scale starts at zero.
        """
        return BatchNorm(
            use_running_average=not train,
            momentum=MOMENTUM,
            epsilon=self.epsilon,
            dtype=self.dtype,
            axis_name=self.axis_name if self.sync_batch_norm else None,
            frozen=self.freeze_batch_norm,
            scale_init=nn.initializers.zeros if zero_init else nn.initializers.ones,
            implementation=self.implementation,
            name=name,
        )

    def dense(self, features: int, *, name: str) -> nn.Dense:
        """A He-initialised fully connected layer with a bias."""
        return nn.Dense(features, kernel_init=he_normal, dtype=self.dtype, name=name)

    def dropout(self, rate: float, *, whole: bool = False, name: str) -> Dropout:
        return Dropout(rate, self.axis_name, whole, name=name)


class Network(nn.Module):
    """The base of every network: images [B, H, W, C] to logits [B, num_classes] in float32.

    A family defines `maps`, and replaces `logits` where the mean over a map and one dense layer do
    not fit.

    Attributes:
      num_classes: width of the classifier.
      dropout: probability of zeroing a feature before the classifier, in training.
      drop_path: probability of leaving out the last residual branch, in training; that of the
        others grows evenly from 0 at the first (stochastic depth).
      features: whether to return the last map of each stage, by name, instead of logits. `strides`
        says how many pixels of the image a step in each map spans. The network then has no
        classifier.
      dtype, axis_name, sync_batch_norm, implementation, freeze_batch_norm: see Layers.

    Raises:
      ValueError: for values outside these.
    """

    num_classes: int = 1000
    dropout: float = 0.0
    drop_path: float = 0.0
    features: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None
    sync_batch_norm: bool = False
    implementation: str = "auto"
    freeze_batch_norm: bool | tuple[str, ...] = False

    image_size = 224  # side of the images that the network is made for, in pixels
    residual = False  # whether there are branches for `drop_path`
    least_image_size = 1  # side below which a map would shrink to nothing, in pixels

    def __post_init__(self) -> None:
        check_implementation(self.implementation)
        check_counts(self)
        for field in ("dropout", "drop_path"):
            if not 0 <= getattr(self, field) < 1:
                value = getattr(self, field)
                raise ValueError(f"{field} must be from 0 to below 1, not {value!r}")
        if self.drop_path and not self.residual:
            raise ValueError(
                f"drop_path={self.drop_path!r} has no effect in a {type(self).__name__}, which has "
                "no residual branches; leave it at 0"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> Any:
        check_batch(images, train, self.least_image_size)
        maps = self.maps(images.astype(self.dtype), train)
        if self.features:
            return maps
        *_, last = maps.values()
        return self.logits(last, train).astype(jnp.float32)

    def maps(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        """The last map [B, H', W', C'] of each stage, in order, for images [B, H, W, C]."""
        raise NotImplementedError("a network defines its maps")

    def logits(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits [B, num_classes] for the last map."""
        x = self.layers.dropout(self.dropout, name="dropout")(jnp.mean(x, axis=(1, 2)), train)
        return self.layers.dense(self.num_classes, name="head")(x)

    @property
    def layers(self) -> Layers:
        return Layers(
            self.dtype,
            self.axis_name,
            self.sync_batch_norm,
            self.implementation,
            freeze_batch_norm=self.freeze_batch_norm,
        )

    @property
    def strides(self) -> dict[str, int]:
        """Pixels of the image per step in each of `maps`."""
        raise NotImplementedError("a network defines its strides")


class ScalableNetwork(Network):
    """A network whose widths can all be multiplied; see Network for the other fields.

    Attributes:
      width_multiplier: factor of all widths (alpha in Howard et al., for MobileNet).

    Raises:
      ValueError: for a factor that is not positive.
    """

    width_multiplier: float = 1.0

    least_width = 1  # number of channels, whatever the factor

    def __post_init__(self) -> None:
        if not self.width_multiplier > 0:
            raise ValueError(f"width_multiplier must be positive, not {self.width_multiplier!r}")
        super().__post_init__()

    @nn.nowrap
    def _width(self, channels: int) -> int:
        return max(self.least_width, int(channels * self.width_multiplier))


class Stage(nn.Module):
    """Blocks of one resolution, one after another: [B, H, W, C'] to [B, H', W', C].

    Attributes:
      blocks: constructors of the blocks, which lack only their names.
      part: what a block is called, before its number from 1.
    """

    blocks: tuple[Callable[..., nn.Module], ...]
    part: str = "block"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for number, block in enumerate(self.blocks, start=1):
            x = block(name=f"{self.part}{number}")(x, train)
        return x


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and, if asked, ReLU: [B, H, W, C'] to [B, H', W', features].

    See Layers.conv for `size`, `groups` and `padding`. No output of a ReLU is above `limit`. With
    `defer`, without a ReLU, batch norm waits for a factor; see BatchNorm.
    """

    features: int
    size: Size
    stride: int
    layers: Layers
    groups: int = 1
    padding: str = "half"
    relu: bool = False
    limit: float = math.inf

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, *, defer: bool = False) -> Any:
        x = self.layers.conv(
            self.features,
            self.size,
            self.stride,
            groups=self.groups,
            padding=self.padding,
            name="conv",
        )(x)
        x = self.layers.norm(train, name="bn")(x, defer=defer)
        if not self.relu:
            return x
        return nn.relu(x) if self.limit == math.inf else jnp.minimum(nn.relu(x), self.limit)
