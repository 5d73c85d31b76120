"""Dropout whose mask is a matter of the example, not of the device it is on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


class Dropout(nn.Module):
    """Zero features [B, ...] at random while training and scale the rest up; same shape and dtype.

    The mask of an example is drawn for its place in the global batch, so it is the same on one
    device and on many. Needs an rng named `dropout` when training.

    Attributes:
      rate: probability of zeroing, from 0 to below 1.
      axis_name: mapped axis of the devices that share the batch, if any.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or self.rate == 0:
            return x
        first = 0 if self.axis_name is None else lax.axis_index(self.axis_name) * len(x)
        places = first + jnp.arange(len(x))
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.make_rng("dropout"), places)
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1 - self.rate), 0).astype(x.dtype)
