"""What XLA must be told about fusion on a CPU; none of it changes a result.

XLA:CPU merges an elementwise operation into all that read it, and computes it in each of them.
"""

import jax
import jax.numpy as jnp
from jax import lax

# XLA would merge what is behind a barrier into the operation that reads it, and compute it there
# again for each use or in a strided order. It is of use around slices, pads and products; before
# XLA merges elementwise operations with each other, the barrier is gone.
materialize = lax.optimization_barrier


def zero_after(x: jax.Array) -> jax.Array:
    """The number zero, which XLA can only compute once it has `x`.

    What a backward pass makes of the maps of the forward pass alone, XLA on a CPU likes to compute
    in the forward pass, and keeps it until it is used: of ResNet-50 it then holds twice the memory.
    Adding this zero ties it to a gradient. (A barrier does not: it is gone before the order of the
    operations is chosen.)
    """
    first = x[(0,) * x.ndim]
    return ((first > 0) & (first < 0)).astype(x.dtype)


@jax.custom_vjp
def computed_once(x: jax.Array) -> jax.Array:
    """`x`, bit for bit, which XLA on a CPU then computes once and keeps, as it does its gradient.

    For the sum that ends a residual unit. Left alone, XLA computes the sums of all units before it
    again in each unit, forward and backward: a step of SE-ResNet-152 took 1.35 times as long for
    each multiply-add as one of SE-ResNet-50.

    A division is what XLA never computes twice. It must not see that this one is by one, or would
    divide only once and multiply by the result.
    """
    return lax.platform_dependent(x, cpu=_divided, default=lambda x: x)


def _divided(x: jax.Array) -> jax.Array:
    zero = zero_after(x)
    return x / jnp.where(x > 0, 1 + zero, 1 - zero)


computed_once.defvjp(
    lambda x: (computed_once(x), None), lambda _, gradient: (computed_once(gradient),)
)
