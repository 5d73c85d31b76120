"""Batch normalisation as in `flax.linen`; `layers/normalize.py` has its formulas."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from senet_jax.layers import deferred
from senet_jax.layers.normalize import (
    Options,
    Pair,
    normalize,
    plain_normalize,
    plain_statistics,
    statistics,
)


class BatchNorm(nn.Module):
    """Normalise the channels of [N, ..., C]; same shape. It replaces `flax.linen.BatchNorm`.

    Parameters `scale` and `bias` [C]; statistics `mean` and `var` [C] in `batch_stats`. All are
    float32, and so is the arithmetic, whatever the dtype of the result.

    Attributes:
      use_running_average: normalise by the running statistics, else by those of the batch.
      momentum: share of the running statistics that a step keeps.
      epsilon: number added to the variance.
      dtype: dtype of the result; if None, that of the input and the parameters together.
      scale_init: initialiser of `scale`.
      axis_name: mapped axis over which the statistics of a batch are taken together, if any.
      frozen: normalise by the running statistics in training as well: True, or the paths of the
        layers that do, such as "stem/bn".
      implementation: one of IMPLEMENTATIONS in `layers/conv.py`.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = None
    scale_init: Any = nn.initializers.ones
    axis_name: str | None = None
    frozen: bool | tuple[str, ...] = False
    implementation: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array, *, defer: bool = False, means: jax.Array | None = None) -> Any:
        """Normalise a map.

        Args:
          defer: give a `Deferred`, which waits for a factor of each image [N, H, W, C] and channel,
            unless intermediates are captured.
          means: the means of the images [N, C], where they are known without looking.
        """
        shape = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", self.scale_init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        dtype = self.dtype or jnp.result_type(x, scale)
        plain = self.implementation == "xla"
        # Whoever captures intermediates sees the map itself, as of any other layer.
        defer = defer and not self.is_mutable_collection("intermediates")
        options = Options(self.epsilon, dtype, self.implementation == "fused")
        if self.use_running_average or is_frozen(self.frozen, self.path):
            mean, var = running_mean.value, running_var.value
        else:
            function: Any = plain_statistics if plain else statistics
            if defer:
                function = functools.partial(deferred.statistics, options)
            *of_images, mean, var = function(x)
            means = of_images[0] if of_images else None
            if self.axis_name is not None and not self.is_initializing():
                mean, var = self._over_devices(mean, var)
            if not self.is_initializing():
                for running, value in ((running_mean, mean), (running_var, var)):
                    running.value = self.momentum * running.value + (1 - self.momentum) * value
        if defer:
            means = x.astype(jnp.float32).mean((1, 2)) if means is None else means
            return deferred.Deferred(x, means, (mean, var, scale, bias), options)
        function = plain_normalize if plain else normalize
        return function(options, x, mean, var, scale, bias)

    def _over_devices(self, mean: jax.Array, var: jax.Array) -> Pair:
        common = lax.pmean(mean, self.axis_name)
        return common, lax.pmean(var + jnp.square(mean - common), self.axis_name)


def is_frozen(frozen: bool | tuple[str, ...], path: Sequence[str]) -> bool:
    """Whether the layer at a path is frozen; see BatchNorm.frozen."""
    return frozen if isinstance(frozen, bool) else "/".join(path) in frozen
