"""The slot of the SE block: the choices, those that are refused, and what a choice builds."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.numeric import normal

from experiments.grid.narrow import NARROW
from senet_jax import create_model
from senet_jax.errors import InputError
from senet_jax.layers import attention, squeeze_excite
from senet_jax.layers.attention import KINDS
from senet_jax.layers.network import Layers
from senet_jax.layers.slot import SEConfig, attend, fields_of
from senet_jax.layers.squeeze_excite import SlotBlock

# The fields of SEConfig with a meaning for each kind; all others are refused.
MEANINGFUL = {
    "se": {"ratio", "squeeze", "excitation", "gate", "bias", "rounding"},
    "conv": {"groups"},
    "eca": {"gate"},
    "ese": {"gate"},
    "cbam_channel": {"ratio", "gate", "bias"},
    "cbam": {"ratio", "gate", "bias"},
    "bam": {"ratio"},
    "ge_theta": {"gate"},
    "ge_theta_plus": {"ratio", "gate", "bias"},
    "gc": {"ratio", "bias"},
    "srm": {"gate"},
    "gct": set(),
    "simam": set(),
    "fca": {"ratio", "gate", "bias"},
}
OTHER_VALUES = {
    "ratio": 4,
    "squeeze": "max",
    "excitation": "none",
    "gate": "tanh",
    "bias": True,
    "groups": 2,
    "rounding": "timm",
}


def configured(kind, **fields):
    placement = "between_stages" if kind == "bam" else "standard"
    return SEConfig(kind=kind, placement=placement, **fields)


def test_the_fields_of_a_kind_are_those_of_its_class():
    assert {kind: set(fields_of(kind)) for kind in KINDS} == MEANINGFUL
    of_the_slot = {"layers", "parent", "name"}
    for kind, block in KINDS.items():
        declared = {field.name for field in dataclasses.fields(block)}
        assert declared - of_the_slot == MEANINGFUL[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_is_accepted_by_a_kind_exactly_where_it_has_a_meaning(kind):
    for field, value in OTHER_VALUES.items():
        if field in MEANINGFUL[kind]:
            configured(kind, **{field: value})
        else:
            with pytest.raises(ValueError, match=f"se.{field} has no effect with se.kind='{kind}'"):
                configured(kind, **{field: value})


def test_defaults_of_a_block_are_those_of_a_configuration():
    for kind, block in KINDS.items():
        for field in fields_of(kind):
            assert getattr(block, field) == getattr(SEConfig, field), (kind, field)


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_works_alone(kind):
    """A block with its fields computes the same with and without a network around it."""
    u = normal([2, 8, 8, 16])
    fields = {field: OTHER_VALUES[field] for field in fields_of(kind) if field != "excitation"}
    block = KINDS[kind](**fields)
    variables = block.init(jax.random.key(0), u)
    y = block.apply(variables, u)
    assert (y.shape, y.dtype) == (u.shape, u.dtype)

    class Around(nn.Module):
        @nn.compact
        def __call__(self, u):
            return attend(configured(kind, **fields), Layers(), u, False)

    inside = {collection: {"se": tree} for collection, tree in variables.items()}
    np.testing.assert_array_equal(Around().apply(inside, u), y)


def test_a_gate_is_one_line(monkeypatch):
    se = NARROW["seresnet20_cifar"].get("se", {}) | {"gate": "softsign"}
    fields = NARROW["seresnet20_cifar"] | {"se": se}
    with pytest.raises(InputError, match=r"se\.gate must be one of sigmoid, "):
        create_model("seresnet20_cifar", **fields)
    monkeypatch.setitem(squeeze_excite.GATES, "softsign", jax.nn.soft_sign)
    default = program_of("seresnet20_cifar", **NARROW["seresnet20_cifar"])
    assert program_of("seresnet20_cifar", **fields) != default


def test_a_kind_is_one_class_and_one_line(monkeypatch):
    class Doubled(SlotBlock):
        ratio: int = 16

        @nn.compact
        def __call__(self, u, train=False):
            return u * self.param("factor", nn.initializers.constant(self.ratio), ())

    monkeypatch.setitem(attention.KINDS, "doubled", Doubled)
    model = create_model(
        "seresnet20_cifar", **NARROW["seresnet20_cifar"], se={"kind": "doubled", "ratio": 2}
    )
    x = jnp.ones((1, 8, 8, 3))
    params = jax.jit(model.init)(jax.random.key(0), x)["params"]
    assert params["stage2"]["block1"]["se"] == {"factor": 2}
    with pytest.raises(ValueError, match=r"se\.gate has no effect with se.kind='doubled'"):
        SEConfig(kind="doubled", gate="tanh")


def program_of(name, **fields):
    model = create_model(name, **fields)
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    return str(jax.make_jaxpr(model.apply)(variables, x))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"ratio": 0}, "ratio must be a whole number of at least 1, not 0"),
        ({"ratio": -4}, "not -4"),
        ({"ratio": 2.5}, "not 2.5"),
        ({"ratio": True}, "not True"),
        ({"squeeze": "mean"}, "squeeze must be one of avg, max, none, not 'mean'"),
        ({"gate": "softmax"}, "gate must be one of"),
        ({"placement": "before"}, "placement must be one of"),
        ({"excitation": "fc"}, "excitation must be one of"),
        ({"bias": 1}, "bias must be True or False"),
        ({"stages": (2, 2)}, "names a stage twice"),
        ({"stages": "2"}, r"se.stages must be whole numbers, not \('2',\)"),
        ({"stages": None}, r"se.stages must be whole numbers, not \(None,\)"),
        ({"squeeze": "none", "placement": "parallel"}, "a different resolution"),
        ({"squeeze": "none", "excitation": "none"}, "leaves no SE block"),
        ({"excitation": "none", "placement": "parallel"}, "a different number of channels"),
        ({"excitation": "none", "bias": True}, "bias has no effect"),
        ({"excitation": "none", "ratio": 4}, "ratio has no effect"),
        ({"excitation": "none", "rounding": "timm"}, "rounding has no effect"),
        ({"kind": "eca", "rounding": "timm"}, "rounding has no effect"),
        ({"rounding": 8}, "rounding must be one of none, timm, not 8"),
        ({"kind": "senet"}, "kind must be one of se, conv, eca"),
        ({"kind": "eca", "ratio": 8}, "ratio has no effect with se.kind='eca'; leave it out"),
        ({"kind": "ese", "bias": True}, "bias has no effect with se.kind='ese'"),
        ({"kind": "simam", "gate": "tanh"}, "gate has no effect"),
        ({"kind": "gc", "squeeze": "max"}, "squeeze has no effect"),
        ({"kind": "conv", "excitation": "none"}, "excitation has no effect"),
        ({"groups": 2}, "groups has no effect with se.kind='se'"),
        ({"kind": "conv", "groups": 0}, "groups must be a whole number of at least 1, not 0"),
        ({"kind": "eca", "placement": "parallel"}, "only 'se' has"),
        ({"kind": "bam", "placement": "post"}, "add se.placement='between_stages'"),
    ],
)
def test_bad_values_are_refused_with_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        SEConfig(**fields)


def test_the_order_of_stages_means_nothing():
    assert SEConfig(stages=(3, 2)) == SEConfig(stages=[2, 3]) == SEConfig(stages=range(2, 4))
