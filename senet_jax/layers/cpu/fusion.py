"""Hints for XLA about fusion on a CPU; none of them changes a result.

XLA merges an elementwise operation into every operation that reads it, and computes it in each of
them.
"""

import jax
import jax.numpy as jnp
from jax import lax

from senet_jax.layers.platforms import by_platform

# Without a barrier, XLA would merge an operation into the one that reads it, and compute it there
# once per use, or in a strided order. Barriers help around slices, pads and products. They are gone
# before XLA merges elementwise operations with each other.
materialize = lax.optimization_barrier


def zero_after(x: jax.Array) -> jax.Array:
    """The number zero, which XLA can only compute once it has `x`.

    XLA on a CPU likes to compute early, in the forward pass, what a backward pass needs of the maps
    alone, and keeps the result until it is used: ResNet-50 then takes twice the memory. Adding this
    zero ties such a result to a gradient. (A barrier does not: it is gone before the order of the
    operations is chosen.)
    """
    if not x.size:  # a batch without images, of which there is nothing to compute
        return jnp.zeros((), x.dtype)
    first = x[(0,) * x.ndim]
    return ((first > 0) & (first < 0)).astype(x.dtype)


@jax.custom_vjp
def computed_once(x: jax.Array) -> jax.Array:
    """The same array, bit for bit, which XLA on a CPU computes once and keeps, like its gradient.

    It is meant for the sum that ends a residual unit. Otherwise XLA computes the sums of all units
    before a unit again in that unit, forward and backward: a step of SE-ResNet-152 took 1.35 times
    as long per multiply-add as a step of SE-ResNet-50.

    XLA never computes a division twice. It must not see that this one is by one, or it would divide
    only once and multiply by the result.
    """
    return by_platform(x, cpu=_divided, default=lambda x: x)


def _divided(x: jax.Array) -> jax.Array:
    zero = zero_after(x)
    return x / jnp.where(x > 0, 1 + zero, 1 - zero)


computed_once.defvjp(
    lambda x: (computed_once(x), None), lambda _, gradient: (computed_once(gradient),)
)
