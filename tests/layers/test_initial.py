"""Weights are drawn as a compiled program of JAX's own initialiser draws them, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from senet_jax.layers import initial

REFERENCE = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (16, 1), (1, 1, 300, 400), (3, 100)])
def test_he_normal_has_the_bits_of_the_reference(shape, compiled, monkeypatch):
    """For tensors shorter than a shared vector, between two of them, and longer than all."""
    monkeypatch.setattr(initial, "LENGTHS", (128, 1024, 2**17))
    key = jax.random.key(7)
    draw = jax.jit(initial.he_normal, static_argnums=1) if compiled else initial.he_normal
    expected = jax.jit(REFERENCE, static_argnums=(1, 2))(key, shape, jnp.float32)
    np.testing.assert_array_equal(draw(key, shape), expected)


def test_layers_of_many_shapes_share_the_program_that_draws():
    initial._normal.clear_cache()
    for width in (1, 2, 3, 9):
        initial.he_normal(jax.random.key(0), (3, 3, width, width))
    assert initial._normal._cache_size() == 1
