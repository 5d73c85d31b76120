"""Random arrays, relative distances and gradients, for the tests of layers."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def distance(value, reference):
    """Relative L2."""
    value, reference = np.asarray(value, "float64"), np.asarray(reference, "float64")
    return np.linalg.norm(value - reference) / max(np.linalg.norm(reference), 1e-30)


def positive(shape, seed=0):
    """Between 0.5 and 1.5: no sum cancels, however few its terms."""
    return np.random.default_rng(seed).random(shape).astype("float32") + np.float32(0.5)


def with_gradients(function, *inputs, cotangent=normal):
    """The value and, for a fixed random cotangent, the gradient of every input."""

    @jax.jit
    def run(*inputs):
        value, back = jax.vjp(function, *inputs)
        return value, *back(jnp.asarray(cotangent(value.shape, seed=9), value.dtype))

    return run(*inputs)
