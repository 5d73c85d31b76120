"""Batch normalisation replaces that of Flax, and is exact where the usual formula fails."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.numeric import distance, normal, with_gradients

from senet_jax import create_model
from senet_jax.layers.network import Layers
from senet_jax.layers.norm import BatchNorm


def normalised(layer, variables, x):
    return layer.apply(variables, x, mutable=["batch_stats"])


@pytest.fixture
def promotion_of_flax():
    """Flax's own layer counts on JAX to convert bfloat16."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("promotion_of_flax")
@pytest.mark.parametrize("implementation", ["auto", "xla"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_batch_norm_is_a_drop_in_for_flax(implementation, dtype):
    x = jnp.asarray(2 * normal((4, 5, 5, 6)) + 1, dtype)
    fields = {"use_running_average": False, "momentum": 0.9, "epsilon": 1e-5, "dtype": dtype}
    ours, flaxs = BatchNorm(**fields, implementation=implementation), nn.BatchNorm(**fields)
    variables = ours.init(jax.random.key(0), x)
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, flaxs.init(jax.random.key(0), x)))
    variables["params"] = {
        "scale": jnp.asarray(normal((6,), 2)),
        "bias": jnp.asarray(normal((6,), 3)),
    }

    def run(layer):
        def function(x, params):
            return normalised(layer, variables | {"params": params}, x)[0]

        return with_gradients_of_tree(function, x, variables["params"])

    tolerance = 1e-6 if dtype == "float32" else 1e-2
    for got, want in zip(run(ours), run(flaxs), strict=True):
        assert got.dtype == want.dtype
        assert distance(got, want) < tolerance
    for got, want in zip(
        jax.tree.leaves(normalised(ours, variables, x)[1]),
        jax.tree.leaves(normalised(flaxs, variables, x)[1]),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    evaluation = dict(fields, use_running_average=True)
    np.testing.assert_allclose(
        BatchNorm(**evaluation, implementation=implementation).apply(variables, x),
        nn.BatchNorm(**evaluation).apply(variables, x),
        rtol=1e-6 if dtype == "float32" else 1e-2,
    )


def with_gradients_of_tree(function, x, tree):
    value, back = jax.vjp(function, x, tree)
    dx, dtree = back(jnp.asarray(normal(value.shape, 9), value.dtype))
    return [value, dx, *jax.tree.leaves(dtree)]


def test_variance_survives_a_mean_a_thousand_times_the_deviation():
    x = normal((8, 7, 7, 5)) + np.float32(1000)
    exact = x.astype("float64")
    layer = BatchNorm(use_running_average=False)
    variables = layer.init(jax.random.key(0), x)
    y, updates = normalised(layer, variables, x)
    var = exact.var((0, 1, 2))
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * var, rtol=1e-6)
    expected = (exact - exact.mean((0, 1, 2))) / np.sqrt(var + 1e-5)
    assert distance(y, expected) < 1e-4  # the mean itself is known to 1000 * 6e-8
    # The one-pass formula has no digit left, so this test can fail.
    plain = BatchNorm(use_running_average=False, implementation="xla")
    assert distance(normalised(plain, variables, x)[0], expected) > 1e-3


def test_networks_move_their_statistics_by_a_tenth_and_add_an_epsilon_of_1e_5():
    """As in PyTorch and the authors' networks; Inception-ResNet's epsilon is 1e-3."""
    x = 3 * normal((4, 5, 5, 6)) + 2
    for layers, epsilon in (
        (Layers(), 1e-5),
        (create_model("inception_resnet_v2").layers, 1e-3),
    ):
        training, evaluation = (layers.norm(train, name="bn") for train in (True, False))
        variables = training.init(jax.random.key(0), x)
        moved = normalised(training, variables, x)[1]["batch_stats"]
        np.testing.assert_allclose(moved["mean"], 0.1 * x.mean((0, 1, 2)), rtol=1e-5)
        np.testing.assert_allclose(moved["var"], 0.9 + 0.1 * x.var((0, 1, 2)), rtol=1e-5)
        constant = variables | {"batch_stats": {"mean": jnp.zeros(6), "var": jnp.zeros(6)}}
        np.testing.assert_allclose(evaluation.apply(constant, x), x / epsilon**0.5, rtol=1e-5)


def test_batch_norm_gradients_equal_a_float64_reference():
    x = normal((4, 5, 5, 6)) * 3 + 2
    scale, bias = normal((6,), 2), normal((6,), 3)
    layer = BatchNorm(use_running_average=False)

    def function(x, scale, bias):
        stats = {"mean": jnp.zeros(6), "var": jnp.ones(6)}
        return normalised(
            layer, {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}, x
        )[0]

    _, dx, dscale, dbias = with_gradients(function, x, scale, bias)
    exact, dy = x.astype("float64"), normal(x.shape, seed=9).astype("float64")
    axes = (0, 1, 2)
    inverse = 1 / np.sqrt(exact.var(axes) + 1e-5)
    unit = (exact - exact.mean(axes)) * inverse
    assert distance(dscale, (dy * unit).sum(axes)) < 1e-6
    assert distance(dbias, dy.sum(axes)) < 1e-6
    expected = scale * inverse * (dy - dy.mean(axes) - unit * (dy * unit).mean(axes))
    assert distance(dx, expected) < 1e-6


def test_statistics_over_devices_are_those_of_the_whole_batch():
    x = normal((4, 2, 3, 3, 5)) + np.arange(4, dtype="float32").reshape(4, 1, 1, 1, 1) * 1000
    layer = BatchNorm(use_running_average=False, axis_name="i")
    variables = BatchNorm(use_running_average=False).init(jax.random.key(0), x[0])
    y, updates = jax.vmap(lambda x: normalised(layer, variables, x), axis_name="i")(x)
    exact = x.astype("float64").reshape(-1, 5)
    np.testing.assert_allclose(
        updates["batch_stats"]["var"][0], 0.9 + 0.1 * exact.var(0), rtol=1e-5
    )
    expected = (x.astype("float64") - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    assert distance(y, expected) < 1e-5
