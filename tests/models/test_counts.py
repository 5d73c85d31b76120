"""Parameters and multiply-adds of networks of others, with blocks and without, as by hand."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import senet_jax
from senet_jax.layers.attention import KINDS
from senet_jax.models.counts import summarize
from senet_jax.models.shapes import variable_shapes

BY_HAND = {  # of one image [8, 8, 16]: parameters, multiply-adds
    "strided": (nn.Conv(4, (3, 3), strides=2), 9 * 16 * 4 + 4, 4 * 4 * 9 * 16 * 4),
    "grouped": (nn.Conv(8, (3, 3), feature_group_count=4), 9 * 4 * 8 + 8, 64 * 9 * 4 * 8),
    "dilated": (nn.Conv(4, (3, 3), kernel_dilation=2), 9 * 16 * 4 + 4, 64 * 9 * 16 * 4),
    "transposed": (nn.ConvTranspose(4, (2, 2), strides=(2, 2)), 4 * 16 * 4 + 4, 64 * 4 * 16 * 4),
    "dense": (nn.Dense(5), 16 * 5 + 5, 64 * 16 * 5),
    "heads": (nn.DenseGeneral((3, 2)), 16 * 6 + 6, 64 * 16 * 6),
    "both sides": (nn.DenseGeneral(5, axis=(-2, -1)), 8 * 16 * 5 + 5, 8 * 8 * 16 * 5),
    "local": (nn.ConvLocal(4, (3, 3)), 64 * (9 * 16 * 4 + 4), 64 * 9 * 16 * 4),
}


class One(nn.Module):
    layer: nn.Module

    def __call__(self, x):
        return self.layer(x)


class Unit(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + nn.Conv(16, (3, 3), name="conv")(x)


class Units(nn.Module):
    @nn.compact
    def __call__(self, x):
        for number in range(3):
            x = Unit(name=f"unit{number}")(x)
        return nn.Dense(3, name="head")(x.mean((1, 2)))


@pytest.mark.parametrize("case", BY_HAND)
def test_a_layer_of_flax_has_as_many_multiply_adds_as_by_hand(case, caplog):
    layer, params, macs = BY_HAND[case]
    for network in (One(layer), layer):
        summary = summarize(network, (8, 8, 16))
        assert (summary.params, summary.macs) == (params, macs)
    assert not caplog.messages


class ByHand(nn.Module):
    """A matrix that is no layer's kernel, and parameters of one axis."""

    @nn.compact
    def __call__(self, x):
        x = x * self.param("scale", nn.initializers.ones, (1, 1, 1, 16))
        x = x @ self.param("matrix", nn.initializers.ones, (16, 8))
        return nn.Dense(5, name="head")(nn.LayerNorm(name="norm")(x).mean((1, 2)))


class TwoOfNNX(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(16, 4, (1, 1), rngs=rngs)
        self.second = nnx.Conv(4, 8, (1, 1), rngs=rngs)

    def __call__(self, x):
        return self.second(self.first(x))


class InLinen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nnx.bridge.to_linen(TwoOfNNX, name="two")(x)
        return nn.Dense(5, name="head")(x.mean((1, 2)))


class Block(nn.Module):
    """A layer of its own and one of others."""

    shared: Callable

    @nn.compact
    def __call__(self, x):
        return x + self.shared(nn.relu(nn.Dense(16, name="own")(x)))


class Tied(nn.Module):
    """Blocks that share a layer, which they get as what `given_as` makes of it."""

    given_as: Callable[[nn.Module], Callable]

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(16, name="stem")(x)
        shared = nn.Dense(16, name="shared")
        for number in range(3):
            x = Block(self.given_as(shared), name=f"block{number}")(x)
        return x.mean((1, 2))


class Recurrent(nn.Module):
    """Two layers that are alike, the second called twice, and then the first's."""

    def setup(self):
        self.units = [Unit(), Unit()]
        self.last = nn.Conv(16, (3, 3))

    def __call__(self, x):
        for unit in (*self.units, self.units[1]):
            x = unit(x)
        return self.last(self.last(x)).mean((1, 2))


class Patches(nn.Module):
    """Images in 16 parts of 2 x 2 positions, which go through the axis of the batch."""

    @nn.compact
    def __call__(self, x):
        x = x.reshape(1, 4, 2, 4, 2, 16).swapaxes(2, 3).reshape(16, 2, 2, 16)
        return nn.Conv(8, (1, 1), name="conv")(x)


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            Carried, {"params": 0}, split_rngs={"params": True}, length=3, in_axes=nn.broadcast
        )
        return scan(name="scan")(x, None)[0]


class Carried(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(16, name="dense")(x), None


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.WeightNorm(nn.Conv(8, (3, 3)), name="norm")(x)


class Cells(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.RNN(nn.OptimizedLSTMCell(8), name="cells")(x.reshape(1, 64, 16))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(4, name="attention")(x.reshape(1, 64, 16))


@pytest.mark.parametrize(
    ("network", "counted", "multiplied"),
    [
        (ByHand(), 8 * 5, 8 * 5 + 64 * 16 * 8),
        (InLinen(), 8 * 5, 8 * 5 + 64 * 16 * 4 + 64 * 4 * 8),
        (Patches(), 4 * 16 * 8, 64 * 16 * 8),
        (Scanned(), None, 3 * 64 * 256),  # as often as Flax traces it
        (Normed(), None, 64 * 9 * 16 * 8),
        (Cells(), None, 64 * (16 + 8) * 4 * 8),
        (Attention(), 4 * 64 * 256, None),  # products of two maps do not count
        (Recurrent(), 5 * 64 * 2304, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_other_multiply_adds_than_the_program_has_are_said(network, counted, multiplied, caplog):
    macs = summarize(network, (8, 8, 16)).macs
    assert counted in (None, macs)
    said = f"has {macs:,} multiply-adds, but its program has {multiplied or 0:,} in products"
    assert [said in message for message in caplog.messages] == [True] * (multiplied is not None)


def as_function(layer):
    return lambda x: layer(x)


@pytest.mark.parametrize(
    ("network", "params", "applied"),
    [
        (Tied(lambda layer: layer), 5 * 272, 7 * 256),
        (Tied(as_function), 5 * 272, 7 * 256),
        (Recurrent(), 3 * 2320, 5 * 2304),
    ],
)
def test_a_layer_that_is_called_again_has_its_parameters_once(network, params, applied):
    summary = summarize(network, (8, 8, 16))
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 16)))
    assert params == sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert (summary.params, summary.macs) == (params, 64 * applied)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_with_blocks_of_any_kind_has_the_parameters_that_are_drawn(kind):
    """Some call a layer twice, or the block that they derive from."""
    se = {"kind": kind} | ({"placement": "between_stages"} if kind == "bam" else {})
    model = senet_jax.create_model("seresnet20_cifar", se=se, stage_sizes=(2, 2, 2))
    drawn = variable_shapes(model, (32, 32, 3))["params"]
    params = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(drawn))
    assert summarize(model, (32, 32, 3)).params == params


@pytest.mark.parametrize("where", ["unit0", "unit1", "unit[02]", r"unit\d/conv", r"unit\d(/conv)?"])
def test_blocks_in_networks_of_others_are_counted_where_they_are(where):
    """Units that are alike are not, where one of them has a block."""
    bare = summarize(Units(), (8, 8, 16))
    model = senet_jax.with_se(Units(), senet_jax.SEConfig(ratio=4), where=where)
    parts = {part.name: (part.params, part.macs) for part in summarize(model, (8, 8, 16)).parts}
    blocks = {
        "unit0": {"unit0": 1},
        "unit1": {"unit1": 1},
        "unit[02]": {"unit0": 1, "unit2": 1},
        r"unit\d/conv": {"unit0": 1, "unit1": 1, "unit2": 1},
        r"unit\d(/conv)?": {"unit0": 2, "unit1": 2, "unit2": 2},
    }[where]
    weights = 2 * 16 * 4  # of the two layers of a block, which are applied once
    assert parts == {
        part.name: tuple(
            value + blocks.get(part.name, 0) * weights for value in (part.params, part.macs)
        )
        for part in bare.parts
    }
