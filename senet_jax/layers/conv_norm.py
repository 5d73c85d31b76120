"""The layers that all networks here are made of, with the settings that they share."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from senet_jax.layers.conv import Conv, check_implementation
from senet_jax.layers.dropout import Dropout
from senet_jax.layers.norm import BatchNorm

# He et al. 2015, as the paper says; variance 2 / fan_in, not truncated.
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


@dataclasses.dataclass(frozen=True)
class Layers:
    """What is the same for every layer of a network.

    Attributes:
      dtype: of activations; parameters and batch statistics are float32.
      axis_name: name of the mapped axis of the devices that share a batch, if any.
      sync_batch_norm: take batch statistics over all these devices together.
      implementation: "auto", or "xla" for plain operations on every platform (layers/conv.py).
    """

    dtype: Any = jnp.float32
    axis_name: str | None = None
    sync_batch_norm: bool = False
    implementation: str = "auto"

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
            axis_name=self.axis_name if self.sync_batch_norm else None,
            scale_init=nn.initializers.zeros if zero_init else nn.initializers.ones,
            implementation=self.implementation,
            name=name,
        )

    def head(self, x: jax.Array, num_classes: int, dropout: float, train: bool) -> jax.Array:
        """[B, H, W, C] to logits [B, num_classes] in float32: mean, dropout, one dense layer.

        Called in the network's own scope; the parameters are under `head`.
        """
        x = Dropout(dropout, self.axis_name, name="dropout")(jnp.mean(x, axis=(1, 2)), train)
        dense = nn.Dense(num_classes, kernel_init=he_normal, dtype=self.dtype, name="head")
        return dense(x).astype(jnp.float32)


class Network(nn.Module):
    """What every network here has: images [B, H, W, C] to logits [B, num_classes] in float32.

    Attributes:
      num_classes: width of the classifier.
      dropout: probability of zeroing a feature before the classifier, in training.
      dtype, axis_name, sync_batch_norm, implementation: see Layers.

    Raises:
      ValueError: for values outside these.
    """

    num_classes: int = 1000
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    sync_batch_norm: bool = False
    implementation: str = "auto"

    def __post_init__(self) -> None:
        check_implementation(self.implementation)
        if isinstance(self.num_classes, bool) or not self.num_classes >= 1:
            raise ValueError(f"num_classes must be at least 1, not {self.num_classes!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, not {self.dropout!r}")
        super().__post_init__()

    @property
    def layers(self) -> Layers:
        return Layers(self.dtype, self.axis_name, self.sync_batch_norm, self.implementation)


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
