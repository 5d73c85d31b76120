"""Dropout keeps what its rate says, and an example's mask does not depend on its device."""

import jax
import jax.numpy as jnp
import numpy as np

from senet_jax.layers.dropout import Dropout
from senet_jax.system.devices import split_batch
from senet_jax.training.prepare import prepare

ONES = jnp.ones((8, 1000))


def dropped(x, rate=0.25, axis_name=None, training=True, seed=0):
    rngs = {"dropout": jax.random.key(seed)}
    return Dropout(rate, axis_name).apply({}, x, training, rngs=rngs)


def test_it_zeroes_at_its_rate_and_scales_the_rest():
    y = np.asarray(dropped(ONES))
    np.testing.assert_allclose(np.unique(y), [0, 4 / 3], rtol=1e-6)
    # 8,000 draws: five standard deviations are 0.024.
    assert abs((y == 0).mean() - 0.25) < 0.024
    assert not (y[0] == y[1]).all()
    assert not (y == dropped(ONES, seed=1)).all()


def test_it_is_the_identity_in_evaluation_and_at_rate_zero():
    np.testing.assert_array_equal(dropped(ONES, training=False), ONES)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, ONES, True), ONES)


def test_gradients_pass_where_values_do():
    gradient = jax.grad(lambda x: dropped(x).sum())(ONES)
    np.testing.assert_array_equal(gradient, dropped(ONES))


def test_masks_do_not_depend_on_how_the_batch_is_split():
    parts = ONES.reshape(4, 2, -1)
    split = jax.vmap(lambda x: dropped(x, axis_name="i"), axis_name="i")(parts)
    np.testing.assert_array_equal(split.reshape(ONES.shape), dropped(ONES))


def test_a_step_with_dropout_is_the_same_on_one_and_on_four_devices(tiny):
    tiny.train.sync_batch_norm = True
    losses = {}
    for rate, count in ((0.0, 1), (0.5, 1), (0.5, 4)):
        with tiny.unlocked():
            tiny.model.dropout = rate
        devices = jax.local_devices()[:count]
        run = prepare(tiny, devices)
        batch = next(run.dataset.train.train_batches(32, 0))
        _, sums = run.steps.train(run.initial_state, split_batch(batch, devices))
        losses[rate, count] = float(sums["loss"])
    np.testing.assert_allclose(losses[0.5, 1], losses[0.5, 4], rtol=1e-5)
    assert abs(losses[0.5, 1] - losses[0.0, 1]) > 1e-3
