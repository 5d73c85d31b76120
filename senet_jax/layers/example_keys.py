"""Random keys by an example's place in the global batch, not by its device."""

import jax
import jax.numpy as jnp
from jax import lax


def example_keys(key: jax.Array, count: int, axis_name: str | None) -> jax.Array:
    """Keys [count] for the local examples, the same on one device and on many.

    `axis_name` is the mapped axis of the devices that share the batch, if any.
    """
    first = 0 if axis_name is None else lax.axis_index(axis_name) * count
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, first + jnp.arange(count))
