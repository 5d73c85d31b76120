"""Linen's networks and blocks in Flax NNX, and NNX modules beside them: the same numbers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict

from senet_jax import SqueezeExcite, create_model, with_se

KEY = jax.random.key(0)
IMAGES = jax.random.normal(KEY, (2, 8, 8, 3))
SMALL = {"num_classes": 5, "width": 4, "stage_sizes": (1, 1), "se": {"stages": (2, 3), "ratio": 4}}


def in_nnx(module, *arguments, variables=None):
    bridged = nnx.bridge.ToNNX(module, rngs=nnx.Rngs(0))
    nnx.bridge.lazy_init(bridged, *arguments)
    if variables is not None:
        nnx.update(bridged, nnx.bridge.variables.linen_vars_to_nnx_attrs(variables))
    return bridged


def test_a_network_in_nnx_is_the_one_in_linen():
    """With its weights, in evaluation and in training, gradients and statistics as well."""
    network = create_model("seresnet20_cifar", **SMALL)
    variables = jax.jit(network.init)(jax.random.key(1), IMAGES)
    model = in_nnx(network, IMAGES, variables=variables)
    expected_logits = jax.jit(network.apply)(variables, IMAGES)
    np.testing.assert_allclose(nnx.jit(lambda m: m(IMAGES))(model), expected_logits, atol=1e-6)

    def expected(params):
        logits, changed = network.apply(
            variables | {"params": params}, IMAGES, train=True, mutable=["batch_stats"]
        )
        return jnp.square(logits).sum(), changed["batch_stats"]

    gradients, stats = jax.jit(jax.grad(expected, has_aux=True))(variables["params"])

    @nnx.jit
    def found(model):
        def loss(model):
            return jnp.square(model(IMAGES, train=True, mutable=["batch_stats"])).sum()

        return nnx.grad(loss)(model)

    for tree, state in ((gradients, found(model)), (stats, nnx.state(model, nnx.BatchStat))):
        values = {path: variable[...] for path, variable in nnx.to_flat_state(state)}
        linen = flatten_dict(tree)
        assert values.keys() == linen.keys()
        for path, value in linen.items():
            np.testing.assert_allclose(values[path], value, rtol=1e-4, atol=1e-5, err_msg=str(path))


class Convs(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        for stage in range(2):
            x = nn.relu(nn.Conv(8, (3, 3), name=f"conv{stage}")(x))
        return nn.Dense(5)(x.mean((1, 2)))


@pytest.mark.parametrize("se", [{"ratio": 4}, {"kind": "ge_theta"}])
def test_blocks_that_with_se_adds_are_trained_in_nnx_too(se):
    """By an optimizer of nnx.Param, with the gradients, and the statistics, that Linen gives."""
    network = with_se(Convs(), se, where=r"conv\d")
    variables = jax.jit(network.init)(jax.random.key(1), IMAGES)
    model = in_nnx(network, IMAGES, variables=variables)
    stats = [name for name in ("se_stats",) if name in variables]

    def loss(logits):
        return jnp.square(logits - 1).sum()

    def expected(trained):
        logits, changed = network.apply(variables | trained, IMAGES, train=True, mutable=stats)
        return loss(logits), changed

    trained = {name: variables[name] for name in ("params", "se")}
    gradients, changed = jax.grad(expected, has_aux=True)(trained)
    optimizer = nnx.Optimizer(model, optax.sgd(0.5), wrt=nnx.Param)
    found = nnx.grad(lambda m: loss(m(IMAGES, train=True, mutable=stats)))(model)
    optimizer.update(model, found)
    after = nnx.bridge.variables.nnx_attrs_to_linen_vars(
        {
            name: value
            for name, value in vars(model).items()
            if name in ("conv0", "conv1", "Dense_0")
        }
    )
    for name, tree in trained.items():
        for path, value in flatten_dict(tree).items():
            moved = value - 0.5 * flatten_dict(gradients[name])[path]
            actual = flatten_dict(after[name])[path]
            np.testing.assert_allclose(actual, moved, atol=1e-5, err_msg=str(path))
    for path, value in flatten_dict(changed).items():
        np.testing.assert_allclose(flatten_dict(after)[path], value, atol=1e-5, err_msg=str(path))


class Around(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nnx.bridge.to_linen(nnx.Conv, 3, 8, (3, 3), name="inner")(x)


class Wraps(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Around(name="around")(x)


def test_a_block_follows_a_linen_module_around_one_of_nnx_only():
    variables = (network := with_se(Wraps(), {"ratio": 4}, "around")).init(KEY, IMAGES)
    assert network.apply(variables, IMAGES).shape == (2, 8, 8, 8)
    with pytest.raises(ValueError, match="around/inner is a module of NNX"):
        with_se(Wraps(), {"ratio": 4}, "around/inner").init(KEY, IMAGES)


def test_a_block_in_a_module_of_nnx_and_a_layer_of_nnx_beside_a_block():
    block = SqueezeExcite(ratio=4)
    variables = block.init(jax.random.key(1), IMAGES)
    bridged = in_nnx(block, IMAGES, variables=variables)
    np.testing.assert_array_equal(bridged(IMAGES), block.apply(variables, IMAGES))

    class Both(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nnx.bridge.to_linen(nnx.Conv, 3, 8, (3, 3), name="conv")(x)
            return SqueezeExcite(ratio=4, name="se")(x)

    both = Both().init(jax.random.key(0), IMAGES)
    conv = nn.Conv(8, (3, 3)).apply({"params": both["params"]["conv"]}, IMAGES)
    expected = block.apply({"params": both["params"]["se"]}, conv)
    np.testing.assert_allclose(Both().apply(both, IMAGES), expected, atol=1e-6)
