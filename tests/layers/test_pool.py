"""Max-pooling and its gradient agree with those of XLA."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from helpers.numeric import normal, with_gradients

from senet_jax.layers.pool import max_pool

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
