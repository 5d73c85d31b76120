"""Batch normalisation as in `flax.linen`, with fewer passes over the map on a CPU.

The variance is taken over x - c, where c is one sample of each channel: the usual E[x^2] - E[x]^2
cancels where the mean is large against the deviation, and x - E[x] would have to wait for the mean.
The normalised map is not kept for the backward pass, but computed again. As in `conv.py`, the form
is chosen when a program is lowered: on GPU and TPU the formulas are those of
`flax.linen.BatchNorm`.

XLA on a CPU sums a map in one fast pass, subtraction included, as long as nothing else uses the
same difference: a difference that two operations share goes to memory first. So no two sums here
subtract the same vector.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from senet_jax.layers.cpu.fusion import zero_after  # saves memory on a CPU

Pair = tuple[jax.Array, jax.Array]
# Values [C] beside maps of some rank, as [1, ..., 1, C]. JAX does so by itself, except for users
# who have it refuse (JAX_NUMPY_RANK_PROMOTION=raise).
beside = lax.broadcast_to_rank


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
      implementation: "auto", or "xla" for the plain formulas on every platform.
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
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", self.scale_init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        dtype = self.dtype or jnp.result_type(x, scale)
        plain = self.implementation == "xla"
        if self.use_running_average or is_frozen(self.frozen, self.path):
            mean, var = running_mean.value, running_var.value
        else:
            mean, var = (plain_statistics if plain else statistics)(x)
            if self.axis_name is not None and not self.is_initializing():
                mean, var = self._over_devices(mean, var)
            if not self.is_initializing():
                for running, value in ((running_mean, mean), (running_var, var)):
                    running.value = self.momentum * running.value + (1 - self.momentum) * value
        function: Any = plain_normalize if plain else normalize
        return function((self.epsilon, dtype), x, mean, var, scale, bias)

    def _over_devices(self, mean: jax.Array, var: jax.Array) -> Pair:
        common = lax.pmean(mean, self.axis_name)
        return common, lax.pmean(var + jnp.square(mean - common), self.axis_name)


def is_frozen(frozen: bool | tuple[str, ...], path: Sequence[str]) -> bool:
    """Whether the layer at a path is frozen; see BatchNorm.frozen."""
    return frozen if isinstance(frozen, bool) else "/".join(path) in frozen


# (epsilon, dtype of the result)
Options = tuple[float, Any]


@jax.custom_vjp
def statistics(x: jax.Array) -> Pair:
    """Mean and (biased) variance of each channel of [N, ..., C], in float32."""
    return lax.platform_dependent(x, cpu=_statistics, default=plain_statistics)


def plain_statistics(x: jax.Array) -> Pair:
    x, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    return mean, jnp.maximum(0.0, jnp.square(x).mean(axes) - jnp.square(mean))


def plain_normalize(
    options: Options,
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
) -> jax.Array:
    """(x - mean) / sqrt(var + epsilon) * scale + bias."""
    epsilon, dtype = options
    mean, factor, bias = (beside(v, x.ndim) for v in (mean, lax.rsqrt(var + epsilon) * scale, bias))
    y = (x.astype(jnp.float32) - mean) * factor + bias
    return y.astype(dtype)


# The formula is the same on every platform; on a CPU its gradient differs.
normalize = jax.custom_vjp(plain_normalize, nondiff_argnums=(0,))


def _statistics(x: jax.Array) -> Pair:
    x, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    first, last = x[(0,) * len(axes)], x[(-1,) * len(axes)]
    offset = (x - beside(first, x.ndim)).mean(axes)
    var = jnp.square(x - beside(last, x.ndim)).mean(axes) - jnp.square(offset + (first - last))
    return first + offset, jnp.maximum(0.0, var)


def _statistics_backward(saved: Any, gradients: Pair) -> tuple[jax.Array]:
    def fast(x: jax.Array, mean: jax.Array, dmean: jax.Array, dvar: jax.Array) -> jax.Array:
        mean, dmean, dvar = (beside(v, x.ndim) for v in (mean, dmean, dvar))
        centred = x.astype(jnp.float32) - mean
        return ((dmean + 2 * dvar * centred) / (x.size // x.shape[-1])).astype(x.dtype)

    def plain(x: jax.Array, mean: jax.Array, dmean: jax.Array, dvar: jax.Array) -> jax.Array:
        return jax.vjp(plain_statistics, x)[1]((dmean, dvar))[0]

    return (lax.platform_dependent(*saved, *gradients, cpu=fast, default=plain),)


def _statistics_forward(x: jax.Array) -> tuple[Pair, Any]:
    mean, var = statistics(x)
    return (mean, var), (x, mean)


statistics.defvjp(_statistics_forward, _statistics_backward)


def _normalize_backward(options: Options, saved: Any, dy: jax.Array) -> tuple[jax.Array, ...]:
    def fast(
        dy: jax.Array,
        x: jax.Array,
        mean: jax.Array,
        var: jax.Array,
        scale: jax.Array,
        bias: jax.Array,
    ) -> tuple[jax.Array, ...]:
        axes = tuple(range(x.ndim - 1))
        inverse = lax.rsqrt(var + options[0])
        d = dy.astype(jnp.float32)
        dbias = d.sum(axes)
        centre = beside(mean + zero_after(dbias), x.ndim)
        along = (d * (x.astype(jnp.float32) - centre)).sum(axes)
        dx = (d * beside(inverse * scale, x.ndim)).astype(x.dtype)
        dmean, dvar = -dbias * inverse * scale, -0.5 * along * scale * inverse**3
        return dx, dmean, dvar, along * inverse, dbias

    def plain(dy: jax.Array, *inputs: jax.Array) -> tuple[jax.Array, ...]:
        return jax.vjp(functools.partial(plain_normalize, options), *inputs)[1](dy)

    return lax.platform_dependent(dy, *saved, cpu=fast, default=plain)


normalize.defvjp(
    lambda options, *inputs: (normalize(options, *inputs), inputs), _normalize_backward
)
