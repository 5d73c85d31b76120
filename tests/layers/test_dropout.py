"""Dropout keeps what its rate says, and an example's mask does not depend on its device."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import tiny_config

from experiments.grid.narrow import NARROW, size_of
from senet_jax import create_model
from senet_jax.errors import InputError
from senet_jax.layers.dropout import Dropout
from senet_jax.layers.network import Layers
from senet_jax.layers.residual import ResidualUnit
from senet_jax.models import MODELS
from senet_jax.models.resnet import BasicBlock
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


@pytest.mark.slow(reason="three programs of two stages; that masks are the same is quick")
@pytest.mark.parametrize("field", ["drop_path", "dropout"])
def test_a_step_with_dropout_is_the_same_on_one_and_on_four_devices(field):
    tiny = tiny_config(stages=2)  # the first unit is never left out
    tiny.train.sync_batch_norm = True
    losses = {}
    for rate, count in ((0.0, 1), (0.5, 1), (0.5, 4)):
        with tiny.unlocked():
            tiny.model[field] = rate
        devices = jax.local_devices()[:count]
        run = prepare(tiny, devices)
        batch = next(run.dataset.train.train_batches(32, 0))
        _, sums = run.steps.train(run.initial_state, split_batch(batch, devices))
        losses[rate, count] = float(sums["loss"])
    np.testing.assert_allclose(losses[0.5, 1], losses[0.5, 4], rtol=1e-5)
    assert abs(losses[0.5, 1] - losses[0.0, 1]) > 1e-3


RESIDUAL = [name for name in NARROW if MODELS[name].func.residual]


@pytest.mark.parametrize("name", RESIDUAL)
def test_the_probability_of_leaving_a_branch_out_grows_evenly_with_depth(name):
    model = create_model(name, **NARROW[name] | {"dropout": 0.0}, drop_path=0.4)
    rates, units = [], []

    def note(next_fun, args, kwargs, context):
        if isinstance(context.module, Dropout) and context.module.whole:
            rates.append(context.module.rate)
        elif isinstance(context.module, ResidualUnit) and context.method_name == "__call__":
            units.append(context.module)
        return next_fun(*args, **kwargs)

    images = jax.ShapeDtypeStruct((2, size_of(name), size_of(name), 3), jnp.float32)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    with nn.intercept_methods(note):
        jax.eval_shape(lambda images: model.init(rngs, images, train=True), images)
    expected = [0.4 * number / (len(units) - 1) for number in range(len(units))]
    if "shuffle" in name:
        expected[0] = 0  # concatenated
    np.testing.assert_allclose(rates, [rate for rate in expected if rate])
    assert rates


def test_the_networks_without_residual_branches_refuse_it():
    assert {name for name in NARROW if name not in RESIDUAL} == {
        "semobilenetv1",
        "sebninception",
        "sevgg16_bn",
    }
    with pytest.raises(
        InputError, match=r"drop_path=0\.1 has no effect in a VGG, which has no resi"
    ):
        create_model("vgg16_bn", drop_path=0.1)


def test_a_branch_is_left_out_or_scaled_up_for_each_example_and_whole_in_evaluation():
    x = jax.random.normal(jax.random.key(1), (32, 4, 4, 8))
    frozen = Layers(freeze_batch_norm=True)
    plain = BasicBlock(layers=frozen, features=8)
    unit = BasicBlock(layers=frozen, features=8, drop_path=0.25)
    variables = plain.init(jax.random.key(0), x, train=False)
    whole = plain.apply(variables, x, train=False)
    np.testing.assert_array_equal(unit.apply(variables, x, train=False), whole)
    y = unit.apply(variables, x, train=True, rngs={"dropout": jax.random.key(2)})
    norms = variables["params"]
    scaled = norms | {"bn2": jax.tree.map(lambda p: p / 0.75, norms["bn2"])}
    left_out = nn.relu(x)
    scaled_up = plain.apply(variables | {"params": scaled}, x, train=False)
    is_left_out = [bool(jnp.allclose(one, two)) for one, two in zip(y, left_out, strict=True)]
    assert 1 <= sum(is_left_out) <= 20
    kept = ~np.asarray(is_left_out)
    np.testing.assert_allclose(y[kept], scaled_up[kept], rtol=1e-5, atol=1e-6)
