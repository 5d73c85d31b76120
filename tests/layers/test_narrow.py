"""Blocks at their narrowest still learn, and keep the sign of the maps that they stand in."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.families import fields_of as fields_of_family
from helpers.numeric import normal
from helpers.quick import one_in
from helpers.weights import fill

from experiments.grid.narrow import least_size_of
from senet_jax import create_model
from senet_jax.layers.network import Layers
from senet_jax.layers.slot import KINDS, SEConfig, attend, fields_of

# Channels, hidden width and side of the map.
SHAPES = ((16, 1, 6), (16, 2, 6), (2, 2, 6), (2, 1, 1), (1, 1, 6))
VARIANTS = {
    **{kind: {"kind": kind} for kind in KINDS},
    "max": {"squeeze": "max"},
    "no squeeze": {"squeeze": "none"},
    "no excitation": {"excitation": "none"},
    "tanh": {"gate": "tanh"},
    "hard_sigmoid": {"gate": "hard_sigmoid"},
    "identity": {"gate": "identity"},
    "timm": {"rounding": "timm"},
    "biases": {"bias": True},
}
# What the formulas of the papers leave without an effect. Where there is one position: the choice
# among positions, and the deviation. Where there is one channel: its norm beside the norm of all.
# Where either leaves a convolution one weight per channel, batch norm cancels it. By variant,
# channels and side.
CONSTANT = {
    ("gc", 2, 1): {"attention"},
    ("bam", 1, 6): {"reduce", "spatial_reduce"},
    ("bam", 2, 1): {"spatial_conv1", "spatial_conv2"},
    ("ge_theta", 2, 1): {"gather"},
    ("ge_theta_plus", 2, 1): {"gather"},
    ("srm", 2, 1): {"std"},
    ("gct", 1, 6): {"alpha", "the gate"},
    ("simam", 2, 1): {"the gate"},
}


class Block(nn.Module):
    config: SEConfig
    activated: bool = False

    @nn.compact
    def __call__(self, u, train):
        return attend(self.config, Layers(), u, train, activated=self.activated)


def filled(block, u):
    return fill(jax.eval_shape(lambda u: block.init(jax.random.key(0), u, False), u))


def configured(fields, channels=16, hidden=4):
    kind = fields.get("kind", "se")
    ratio = "ratio" in fields_of(kind) and fields.get("excitation") != "none"
    fields = {"ratio": channels // hidden} | fields if ratio else fields
    return SEConfig(placement="between_stages" if kind == "bam" else "standard", **fields)


@pytest.mark.parametrize("variant", one_in(2, VARIANTS, "compiles one more kind"))
def test_every_parameter_learns_and_the_gate_sees_the_map_at_any_width(variant):
    def effects(block, variables, u, dy):
        def output(params):
            return block.apply(variables | {"params": params}, u, True, mutable=["batch_stats"])[0]

        y, back = jax.vjp(output, variables.get("params", {}))
        parts = {
            path[1].key: jnp.linalg.norm(leaf * jnp.linalg.norm(value))
            for (path, leaf), value in zip(
                jax.tree.leaves_with_path(back(dy)[0]),
                jax.tree.leaves(variables.get("params", {})),
                strict=True,
            )
        }
        # Images of a batch differ in more than a factor of all of them.
        change = y - u if variant == "gc" else y / u
        spread = jnp.max(change.std(0) / jnp.abs(change).max())
        return {**parts, "the gate": spread}

    cases = []
    for channels, hidden, side in SHAPES:
        block = Block(configured(VARIANTS[variant], channels, hidden))
        u, dy = (normal((8, side, side, channels), seed) for seed in (0, 1))
        # Weights above zero: the only hidden unit of an excitation is not always off.
        cases.append((block, jax.tree.map(np.abs, filled(block, u)), u, dy))
    found = jax.jit(lambda inputs: [effects(c[0], *i) for c, i in zip(cases, inputs, strict=True)])(
        [case[1:] for case in cases]
    )
    for (channels, _, side), effect in zip(SHAPES, found, strict=True):
        dead = {name for name, size in effect.items() if size < 1e-4}
        assert dead == CONSTANT.get((variant, channels, side), set()), (channels, side, effect)


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_after_a_relu_that_is_no_gate_ends_with_one(kind):
    u = np.abs(normal((2, 4, 4, 16)))
    for activated in (False, True):
        block = Block(configured({"kind": kind}), activated)
        least = block.apply(filled(block, u), u, False).min()
        assert (least >= 0) == (activated or KINDS[kind].is_gate)


# Where a block's result goes on in the place of a map after a ReLU: networks without residual
# branches, after units that end with one, and between stages.
ACTIVATED = (
    ("sevgg16_bn", "standard"),
    ("semobilenetv1", "standard"),
    ("sebninception", "standard"),
    ("seresnet20_cifar", "post"),
    ("seresnet20_cifar", "between_stages"),
    ("seshufflenet_g3", "post"),
    ("seinception_resnet_v2", "post"),
)


@pytest.mark.parametrize(("name", "placement"), ACTIVATED)
def test_maps_after_a_relu_have_no_negative_values_whatever_the_block(name, placement):
    fields = fields_of_family(name)
    se = fields.get("se", {}) | {"kind": "conv", "placement": placement}
    model = create_model(name, features=True, **fields | {"se": se})
    size = least_size_of(name)
    images = normal((1, size, size, 3))
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), images))
    maps = jax.jit(model.apply)(variables, images)
    assert all(maps[f"stage{stage}"].min() >= 0 for stage in model.se.stages)
