"""Shake-Shake networks for CIFAR (Gastaldi, arXiv 1705.07485; Hu et al., Tables 4 and 5).

A block adds two branches to its input, mixed by random weights: alpha and 1 - alpha in the forward
pass, and in the backward pass either new ones ("Shake-Shake") or a half each ("Shake-Even").
Training draws weights per image; in evaluation they are a half. The paper does not say where its SE
block sits; ours scales the mixed branch, which is the whole path beside the identity.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from senet_jax.errors import InputError
from senet_jax.layers.example_keys import example_keys
from senet_jax.layers.network import Layers
from senet_jax.layers.slot import NO_3X3
from senet_jax.models.resnet import Models, ResidualBlock, cifar


class Branch(nn.Module):
    """ReLU, convolution and batch norm per entry (width, side, stride, groups)."""

    convolutions: tuple[tuple[int, int, int, int], ...]
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for index, (width, size, stride, groups) in enumerate(self.convolutions, start=1):
            conv = self.layers.conv(width, size, stride, groups=groups, name=f"conv{index}")
            x = self.layers.norm(train, name=f"bn{index}")(conv(nn.relu(x)))
        return x


class ShakeBlock(ResidualBlock):
    """x + mix(branch1(x), branch2(x)), where a branch is two 3x3 convolutions.

    Training needs an rng named `dropout`.
    """

    shaken_gradient = True  # otherwise the gradient weighs the branches evenly
    ending = ("relu",)
    placements = NO_3X3

    def branch(self, x: jax.Array, train: bool) -> jax.Array:
        plan = self.convolutions()
        one, two = (
            Branch(plan, self.layers, name=f"branch{number}")(x, train) for number in (1, 2)
        )
        if not train or self.is_initializing():
            return (one + two) / 2
        keys = example_keys(self.make_rng("dropout"), len(x), self.layers.axis_name)
        weights = jax.vmap(lambda key: jax.random.uniform(key, (2, 1, 1, 1)))(keys).astype(x.dtype)
        alpha, beta = weights[:, 0], weights[:, 1]
        return mix(one, two, alpha, beta if self.shaken_gradient else jnp.full_like(beta, 0.5))

    @nn.nowrap
    def convolutions(self) -> tuple[tuple[int, int, int, int], ...]:
        return (self.features, 3, self.stride, 1), (self.features, 3, 1, 1)

    def project(self, x: jax.Array, entry: jax.Array, channels: int, train: bool) -> jax.Array:
        """Two 1x1 convolutions side by side: one on pixels, one on their neighbours."""
        if channels % 2:
            raise InputError(f"width must be even in {type(self).__name__}s, not {channels}")
        x = nn.relu(x)
        moved = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
        halves = [
            self.layers.conv(channels // 2, 1, self.stride, name=f"shortcut{number}")(half)
            for number, half in enumerate((x, moved), start=1)
        ]
        return self.layers.norm(train, name="shortcut_bn")(jnp.concatenate(halves, -1))


class ShakeEvenBottleneck(ShakeBlock):
    """Branches of 1x1, 3x3 in `cardinality` groups and 1x1, mixed evenly in the backward pass.

    See Bottleneck for `cardinality` and `base_width`.
    """

    cardinality: int = 1
    base_width: int = 64

    expansion = 4
    shaken_gradient = False

    @nn.nowrap
    def convolutions(self) -> tuple[tuple[int, int, int, int], ...]:
        width = self.features * self.base_width // 64 * self.cardinality
        return (
            (width, 1, 1, 1),
            (width, 3, self.stride, self.cardinality),
            (self.features * self.expansion, 1, 1, 1),
        )


@jax.custom_vjp
def mix(one: jax.Array, two: jax.Array, alpha: jax.Array, beta: jax.Array) -> jax.Array:
    """alpha * one + (1 - alpha) * two; in the gradients of both maps beta takes alpha's place.

    Maps are [B, H, W, C], weights [B, 1, 1, 1]. The gradient of a weight is zero.
    """
    return alpha * one + (1 - alpha) * two


def _mix_forward(one: Any, two: Any, alpha: Any, beta: Any) -> tuple[jax.Array, jax.Array]:
    return mix(one, two, alpha, beta), beta


def _mix_backward(beta: jax.Array, dy: jax.Array) -> tuple[jax.Array, ...]:
    return beta * dy, (1 - beta) * dy, jnp.zeros_like(beta), jnp.zeros_like(beta)


mix.defvjp(_mix_forward, _mix_backward)

MODELS: Models = {
    **cifar("shakeshake26_2x96d", ShakeBlock, 4, width=96, stem_width=16),
    **cifar(
        "shakeeven29_2x4x64d",
        ShakeEvenBottleneck,
        3,
        width=64,
        stem_width=16,
        cardinality=4,
    ),
}
