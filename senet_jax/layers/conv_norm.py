"""Convolution and batch normalisation with the settings that all networks here share."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from senet_jax.layers.conv import Conv, check_implementation
from senet_jax.layers.norm import BatchNorm

# He et al. 2015, as the paper says; variance 2 / fan_in, not truncated.
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


@dataclasses.dataclass(frozen=True)
class Layers:
    """What is the same for every convolution and batch normalisation of a network.

    Attributes:
      dtype: of activations; parameters and batch statistics are float32.
      bn_axis_name: name of the mapped axis over which batch statistics are averaged, if any.
      implementation: "auto", or "xla" for plain operations on every platform (layers/conv.py).

    Raises:
      ValueError: for another implementation.
    """

    dtype: Any = jnp.float32
    bn_axis_name: str | None = None
    implementation: str = "auto"

    def __post_init__(self) -> None:
        check_implementation(self.implementation)

    def conv(
        self, features: int, size: int, stride: int = 1, *, groups: int = 1, name: str
    ) -> Conv:
        """Bias-free, He-initialised; symmetric padding, which SAME is not where the stride is 2."""
        return Conv(
            features,
            (size, size),
            stride,
            padding=size // 2,
            feature_group_count=groups,
            use_bias=False,
            kernel_init=he_normal,
            dtype=self.dtype,
            implementation=self.implementation,
            name=name,
        )

    def norm(self, train: bool, *, zero_init: bool = False, name: str) -> BatchNorm:
        """Batch statistics when training, running ones otherwise; `zero_init` is of its scale."""
        return BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            axis_name=self.bn_axis_name,
            scale_init=nn.initializers.zeros if zero_init else nn.initializers.ones,
            implementation=self.implementation,
            name=name,
        )


class ConvNorm(nn.Module):
    """Convolution and batch normalisation: [B, H, W, C'] to [B, H/stride, W/stride, features]."""

    features: int
    size: int
    stride: int
    layers: Layers
    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.layers.conv(
            self.features, self.size, self.stride, groups=self.groups, name="conv"
        )(x)
        return self.layers.norm(train, name="bn")(x)
