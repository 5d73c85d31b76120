"""Dropout of features or of branches; its mask depends on the example, not on its device."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from senet_jax.layers.example_keys import example_keys


class Dropout(nn.Module):
    """Zero features [B, ...] at random while training and scale the rest up; same shape and dtype.

    The mask of an example is drawn for its place in the global batch, so it is the same on one
    device and on many. Training needs an rng named `dropout`.

    Attributes:
      rate: probability of zeroing, from 0 to below 1.
      axis_name: mapped axis of the devices that share the batch, if any.
      whole: whether all features of an example are zeroed together: stochastic depth (Huang et al.,
        arXiv 1603.09382), where `x` is a residual branch. The rest is scaled as in timm.
    """

    rate: float
    axis_name: str | None = None
    whole: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or self.rate == 0:
            return x
        keys = example_keys(self.make_rng("dropout"), len(x), self.axis_name)
        shape = (1,) * (x.ndim - 1) if self.whole else x.shape[1:]
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, shape))(keys)
        return jnp.where(keep, x / (1 - self.rate), 0).astype(x.dtype)
