"""Gated blocks: their gates, names and stages, and networks in which constants replace them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers.families import few_quick
from helpers.quick import one_in, some_quick
from helpers.weights import fill

from experiments.grid.narrow import NARROW, size_of
from senet_jax.inference.gated_blocks import (
    find_blocks,
    gates_of,
    is_all_gates,
    with_constants,
    without_stage,
)
from senet_jax.layers.attention import KINDS
from senet_jax.layers.squeeze_excite import SqueezeExcite
from senet_jax.models import create_model


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_gates_are_sown_only_where_they_are_asked_for():
    layer, u = SqueezeExcite(squeeze="none"), jnp.ones((2, 3, 3, 16))
    variables = layer.init(jax.random.key(0), u)
    assert set(variables) == {"params"}
    assert not isinstance(layer.apply(variables, u), tuple)
    y, sown = layer.apply(variables, u, mutable=["gates"])
    np.testing.assert_array_equal(y, layer.apply(variables, u))
    np.testing.assert_array_equal(sown["gates"]["gate"][0] * u, y)


@pytest.mark.parametrize("squeeze", ["avg", "max", "none"])
def test_recorded_gates_are_what_scales_the_maps(squeeze):
    """With a map of ones, an identity block after it would give the gate itself."""
    layer = SqueezeExcite(ratio=2, squeeze=squeeze)
    u = jnp.broadcast_to(jnp.arange(1.0, 5.0), (2, 3, 3, 4))
    variables = layer.init(jax.random.key(0), u)
    gates = gates_of(Whole(layer), {"params": {"layer": variables["params"]}}, u)
    expected = (layer.apply(variables, u) / u).mean(axis=(1, 2))
    np.testing.assert_allclose(gates["layer"], expected, rtol=1e-6)


class Whole(nn.Module):
    layer: SqueezeExcite

    def __call__(self, u, train):
        return self.layer(u)


@pytest.mark.parametrize("name", few_quick("a network is traced for it three times"))
def test_every_family_names_its_blocks_in_order_with_their_stages(name):
    fields = {key: value for key, value in NARROW[name].items() if key != "se"}
    # With plain layers, which are traced in half the time.
    model = create_model(name, **fields, se=NARROW[name].get("se"), implementation="xla")
    shape = (size_of(name), size_of(name), 3)
    blocks = find_blocks(model, shape)
    assert {block.stage for block in blocks} == set(model.se.stages)
    stages = [block.stage for block in blocks]
    assert stages == sorted(stages)
    assert len({block.name for block in blocks}) == len(blocks)
    kept = find_blocks(without_stage(model, stages[-1]), shape)
    assert kept == tuple(block for block in blocks if block.stage != stages[-1])


def test_gates_come_in_the_order_of_the_computation_where_they_are_compiled_too():
    """That is not the order of their names, from ten blocks on."""
    fields = {"stage_sizes": (11, 1, 1), "width": 4, "implementation": "xla"}
    model = create_model("seresnet20_cifar", **fields)
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    compiled = jax.jit(gates_of, static_argnums=0)
    names = [f"stage2/block{block}/se" for block in range(1, 12)]
    assert list(compiled.eval_shape(model, variables, images))[:11] == names != sorted(names)


@pytest.mark.parametrize("stages", [(2,), (3,), (2, 3), (2, 4), (3, 4), (2, 3, 4)])
def test_blocks_between_stages_are_found_where_no_other_is_left(stages):
    """Nothing follows stage 4, so that a network with only its block has none."""
    se = {"placement": "between_stages", "stages": stages, "ratio": 2}
    fields = {"stage_sizes": (1, 1, 1), "width": 4, "implementation": "xla"}
    model = create_model("seresnet20_cifar", se=se, **fields)
    found = [(block.name, block.stage) for block in find_blocks(model, (8, 8, 3))]
    assert found == [(f"se{stage}", stage) for stage in stages if stage != 4]


@pytest.mark.parametrize(
    "placement",
    some_quick(["standard", "pre", "post", "identity"], ["standard", "post"], "a program more"),
)
@pytest.mark.parametrize("squeeze", one_in(2, ["avg", "none"], "compiles as many programs more"))
def test_a_gate_of_one_is_the_network_without_the_block(rng, placement, squeeze):
    """Both give the same bits with the same remaining weights; other gates do not."""
    se = {"placement": placement, "squeeze": squeeze, "ratio": 2}
    fields = {"stage_sizes": (1, 1, 2), "width": 4, "num_classes": 3}
    model = create_model("seresnet20_cifar", se=se, **fields)
    images = jnp.float32(rng.normal(size=(5, 8, 8, 3)))
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), images))
    blocks = [b.name for b in find_blocks(model, (8, 8, 3)) if b.stage == 4]
    assert len(blocks) == 2
    plain = without_stage(model, 4)
    kept = jax.tree.map(lambda leaf: leaf, variables["params"])  # a copy of the dicts
    for block in kept["stage4"].values():
        block.pop("se")
    expected = plain.apply({**variables, "params": kept}, images)
    with_one = with_constants(model.apply, dict.fromkeys(blocks, 1.0))
    np.testing.assert_array_equal(with_one(variables, images), expected)
    assert np.abs(model.apply(variables, images) - expected).max() > 1e-3
    halves = with_constants(model.apply, dict.fromkeys(blocks, 0.5))
    assert np.abs(halves(variables, images) - expected).max() > 1e-3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bam"])
def test_constants_are_the_gates_where_these_do_not_depend_on_the_image(kind, rng):
    """Of one image they are constants; which kinds are more than their gates, this tells."""
    se = {"kind": kind}
    model = create_model("seresnet20_cifar", stage_sizes=(1, 1, 1), width=4, se=se)
    images = jnp.float32(rng.normal(size=(1, 8, 8, 3)))
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), images))
    gates = jax.jit(functools.partial(gates_of, model))(variables, images)
    constants = {name: np.asarray(gate[0]) for name, gate in gates.items()}
    replaced = jax.jit(with_constants(model.apply, constants))(variables, images)
    are_equal = np.allclose(replaced, jax.jit(model.apply)(variables, images), rtol=1e-5)
    assert are_equal == (is_all_gates(model) or not gates)
