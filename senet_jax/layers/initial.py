"""How weights are drawn: He et al. 2015, as the paper says, by programs that many shapes share."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# A tensor is the beginning of the shortest of these vectors that has room for it, since JAX draws
# the same numbers first whatever the length. A program for each shape would take longer to compile
# than a step. What is larger than all has a program of its own.
LENGTHS = (2**16, 2**20, 2**22, 2**24)
ABOVE_MINUS_1 = float(np.nextafter(np.float32(-1), np.float32(0)))


def he_normal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Normal with variance 2 / fan_in, not truncated.

    The same bits as `jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")` has in a
    compiled program, in compiled programs and outside.

    Args:
      shape: [..., inputs, outputs] of a kernel.
    """
    size = math.prod(shape)
    scale = np.float32(math.sqrt(2)) * np.sqrt(np.float32(2 / max(1, math.prod(shape[:-1]))))
    length = min((length for length in LENGTHS if length >= size), default=size)
    return _beginning(_normal(key, scale, length), shape).astype(dtype)


@functools.partial(jax.jit, static_argnums=2)
def _normal(key: jax.Array, scale: jax.Array, length: int) -> jax.Array:
    """What `jax.random.normal` computes, [length], with one factor: two would round twice."""
    uniform = jax.random.uniform(key, (length,), jnp.float32, ABOVE_MINUS_1, 1.0)
    return jax.lax.erf_inv(uniform) * scale


@functools.partial(jax.jit, static_argnums=1)
def _beginning(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return x[: math.prod(shape)].reshape(shape)
