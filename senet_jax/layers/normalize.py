"""The formulas of batch normalisation and their gradients, with few passes over the map on a CPU.

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
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from senet_jax.layers.cpu.fusion import zero_after  # saves memory on a CPU
from senet_jax.layers.platforms import by_platform

Pair = tuple[jax.Array, jax.Array]
# Values [C] beside maps of some rank, as [1, ..., 1, C]. JAX does so by itself, except for users
# who have it refuse (JAX_NUMPY_RANK_PROMOTION=raise).
beside = lax.broadcast_to_rank


class Options(NamedTuple):
    """What is known when a program is traced.

    Attributes:
      epsilon: number added to the variance.
      dtype: dtype of the result.
      everywhere: whether other platforms than a CPU get the forms of `deferred.py` as well.
    """

    epsilon: float
    dtype: Any
    everywhere: bool = False


@jax.custom_vjp
def statistics(x: jax.Array) -> Pair:
    """Mean and (biased) variance of each channel of [N, ..., C], in float32."""
    return by_platform(x, cpu=_statistics, default=plain_statistics)


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
    factor = lax.rsqrt(var + options.epsilon) * scale
    mean, factor, bias = (beside(v, x.ndim) for v in (mean, factor, bias))
    y = (x.astype(jnp.float32) - mean) * factor + bias
    return y.astype(options.dtype)


# The formula is the same on every platform; on a CPU its gradient differs.
normalize = jax.custom_vjp(plain_normalize, nondiff_argnums=(0,))


def _statistics(x: jax.Array) -> Pair:
    x, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    return moments(x, (x - beside(x[(0,) * len(axes)], x.ndim)).mean(axes))


def moments(x: jax.Array, offset: jax.Array) -> Pair:
    """Mean and variance [C] of [N, ..., C], given the mean of x less its first sample, [C]."""
    axes = tuple(range(x.ndim - 1))
    first, last = x[(0,) * len(axes)], x[(-1,) * len(axes)]
    var = jnp.square(x - beside(last, x.ndim)).mean(axes) - jnp.square(offset + (first - last))
    return first + offset, jnp.maximum(0.0, var)


def _statistics_backward(saved: Any, gradients: Pair) -> tuple[jax.Array]:
    def fast(x: jax.Array, mean: jax.Array, dmean: jax.Array, dvar: jax.Array) -> jax.Array:
        mean, dmean, dvar = (beside(v, x.ndim) for v in (mean, dmean, dvar))
        centred = x.astype(jnp.float32) - mean
        return ((dmean + 2 * dvar * centred) / (x.size // x.shape[-1])).astype(x.dtype)

    def plain(x: jax.Array, mean: jax.Array, dmean: jax.Array, dvar: jax.Array) -> jax.Array:
        return jax.vjp(plain_statistics, x)[1]((dmean, dvar))[0]

    return (by_platform(*saved, *gradients, cpu=fast, default=plain),)


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
        inverse = lax.rsqrt(var + options.epsilon)
        d = dy.astype(jnp.float32)
        dbias = d.sum(axes)
        centre = beside(mean + zero_after(dbias), x.ndim)
        along = (d * (x.astype(jnp.float32) - centre)).sum(axes)
        dx = (d * beside(inverse * scale, x.ndim)).astype(x.dtype)
        return dx, *norm_gradients(dbias, along, inverse, scale)

    plain = backward_of(functools.partial(plain_normalize, options))
    return by_platform(dy, *saved, cpu=fast, default=plain)


def norm_gradients(
    dbias: jax.Array, along: jax.Array, inverse: jax.Array, scale: jax.Array
) -> tuple[jax.Array, ...]:
    """The gradients of mean, variance, scale and bias, [C] each.

    Args:
      dbias: sum of the gradient of the normalised map.
      along: sum of that gradient times the map less its mean.
      inverse: 1 / sqrt(var + epsilon).
    """
    dmean, dvar = -dbias * inverse * scale, -0.5 * along * scale * inverse**3
    return dmean, dvar, along * inverse, dbias


def backward_of(function: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, ...]]:
    """From the gradient of a function's result, and its inputs, to the gradients of these."""
    return lambda dy, *inputs: jax.vjp(function, *inputs)[1](dy)


normalize.defvjp(
    lambda options, *inputs: (normalize(options, *inputs), inputs), _normalize_backward
)
