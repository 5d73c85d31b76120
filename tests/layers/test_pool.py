"""Max-pooling and its gradient agree with those of XLA."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.numeric import normal, with_gradients

from senet_jax.layers.pool import _first_maximum, largest, max_pool

POOLS = [
    ((8, 8), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((7, 9), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((8, 8), (3, 3), (2, 2), ((0, 1), (0, 1))),  # ceil mode of the authors' networks
    ((6, 6), (2, 2), (2, 2), "VALID"),
    ((7, 7), (3, 3), (2, 2), "VALID"),
    ((5, 5), (3, 3), (1, 1), "SAME"),
]


@pytest.mark.parametrize(("size", "window", "stride", "padding"), POOLS, ids=str)
@pytest.mark.parametrize("ties", [False, True])
def test_pooling_and_its_gradient_equal_xla(size, window, stride, padding, ties):
    x = normal((2, *size, 3))
    x = np.maximum(np.round(x), 0) if ties else x  # after a ReLU most windows have ties
    got = with_gradients(lambda x: max_pool(x, window, stride, padding), x)
    want = with_gradients(lambda x: nn.max_pool(x, window, stride, padding), x)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_allclose(got[1], want[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("side", [4, 32])  # XLA on a CPU has another program for large maps
@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("trained", [False, True])
def test_pooling_passes_on_what_is_not_a_number(side, window, trained):
    x = normal((1, side, side, 4))
    x[0, 1, 1, 0] = np.nan

    def pool(x):
        return max_pool(nn.relu(x), (window, window), (2, 2))

    y = jax.jit(lambda x: jax.vjp(pool, x)[0] if trained else pool(x))(x)
    windows = np.lib.stride_tricks.sliding_window_view(np.maximum(x, 0), (window, window), (1, 2))
    np.testing.assert_array_equal(y, windows[:, ::2, ::2].max((-2, -1)))
    assert np.isnan(y).any()


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 17, 49, 64, 65, 196, 3136])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("which", ["normal", "ties", "equal", "nan", "infinite"])
def test_the_first_maximum_is_that_of_argmax(length, dtype, which):
    rng = np.random.default_rng(length)
    x = rng.normal(size=(3, length, 5))
    if which == "ties":
        x = np.maximum(np.round(x), 0)
    if which == "equal":
        x = np.full_like(x, -np.inf)
    if which == "nan":
        x[rng.random(x.shape) < 0.1] = np.nan
    if which == "infinite":
        x = np.where(rng.random(x.shape) < 0.2, np.inf, np.where(x > 0, -np.inf, x))
    x = jnp.asarray(x, dtype)
    found = jax.jit(_first_maximum, static_argnums=1)(x, -2)
    np.testing.assert_array_equal(found, jnp.argmax(x, -2, keepdims=True))


@pytest.mark.parametrize("axis", [-1, -2, -3])
def test_the_gradient_of_the_largest_goes_to_the_first(axis):
    x = jnp.asarray(np.maximum(np.round(normal((2, 20, 21, 22))), 0))
    y, back = jax.vjp(lambda x: largest(x, axis), x)
    np.testing.assert_array_equal(y, jnp.max(x, axis, keepdims=True))
    dy = jnp.asarray(normal(y.shape))
    expected = np.zeros(x.shape, np.float32)
    first = np.expand_dims(np.argmax(x, axis), axis)
    np.put_along_axis(expected, first, np.asarray(dy), axis)
    np.testing.assert_array_equal(back(dy)[0], expected)


@pytest.mark.parametrize("axis", [-1, -2, -3])
def test_gradients_of_the_gradient_of_the_largest_are_those_of_the_maximum(axis):
    x = jnp.asarray(normal((2, 20, 21, 22)))  # no two are equal

    def penalty(maximum, x):
        return jnp.sum(jax.grad(lambda x: jnp.sum(maximum(x) ** 3))(x) ** 2)

    found, expected = (
        jax.jit(jax.grad(functools.partial(penalty, maximum)))(x)
        for maximum in (
            lambda x: largest(x, axis),
            lambda x: jnp.max(x, axis, keepdims=True),
        )
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
