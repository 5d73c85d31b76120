"""With bfloat16 only activations have this type; programs are read, not compiled or run."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from helpers.families import few_quick

import senet_jax
from experiments.grid.narrow import NARROW, least_size_of
from senet_jax.data.augment import Augmentation, normalize
from senet_jax.layers.norm import BatchNorm
from senet_jax.layers.squeeze_excite import SqueezeExcite
from senet_jax.training.averages import moving_average
from senet_jax.training.state import create_state
from senet_jax.training.step import Inputs, make_train_step

BFLOAT16, FLOAT32 = jnp.dtype("bfloat16"), jnp.dtype("float32")


def equations(jaxpr):
    """Every equation of a program and of its inner programs."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def program(function, *arguments):
    return list(equations(jax.make_jaxpr(function)(*arguments).jaxpr))


def types(steps, *primitives):
    """Types of the results of the primitives."""
    return {e.outvars[0].aval.dtype for e in steps if e.primitive.name in primitives}


def step_of(name):
    """The training step of a narrow network, with the network and the shapes of its inputs."""
    size = least_size_of(name)
    model = senet_jax.create_model(name, num_classes=7, dtype="bfloat16", **NARROW[name])
    optimizer = optax.sgd(0.1, momentum=0.9)
    scale = functools.partial(normalize, mean=(127.0,) * 3, std=(60.0,) * 3)
    average = functools.partial(moving_average, decay=0.9)
    step = make_train_step(
        model, optimizer, Inputs(Augmentation(), scale, 0.1), None, average=average
    )
    state = jax.eval_shape(
        functools.partial(create_state, model, optimizer, (size, size, 3), ema=True), 0
    )
    batch = {
        "image": jax.ShapeDtypeStruct((4, size, size, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((4,), jnp.int32),
    }
    return model, state, batch, step


@pytest.mark.parametrize("name", few_quick("a whole training step is traced"))
def test_only_what_lies_between_layers_is_bfloat16(name):
    """State, sums, logits, and all results of exponentials and roots are float32."""
    model, state, batch, step = step_of(name)
    closed, (after, sums) = jax.make_jaxpr(step, return_shape=True)(state, batch)
    floating = lambda tree: {
        leaf.dtype for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)
    }
    for kind in ("params", "batch_stats", "opt_state", "ema"):
        assert floating(getattr(after, kind)) == {FLOAT32}, kind
    assert floating(sums) == {FLOAT32}
    steps = list(equations(closed.jaxpr))
    assert types(steps, "conv_general_dilated") <= {BFLOAT16}
    # Gates, softmax and logarithm, and what batch norm divides by.
    assert types(steps, "exp", "log", "logistic", "tanh", "rsqrt", "sqrt") == {FLOAT32}
    images = jax.ShapeDtypeStruct(batch["image"].shape, FLOAT32)
    maps = jax.eval_shape(model.clone(features=True).apply, state.variables, images)
    assert floating(maps) == {BFLOAT16}
    assert jax.eval_shape(model.apply, state.variables, images).dtype == FLOAT32


@pytest.mark.parametrize("train", [True, False])
def test_means_and_variances_of_batch_norm_are_summed_in_float32(train):
    layer = BatchNorm(not train, dtype=jnp.bfloat16)
    x = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.bfloat16)
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    steps = program(functools.partial(layer.apply, mutable=["batch_stats"]), variables, x)
    assert types(steps, "reduce_sum", "dot_general") <= {FLOAT32}
    assert bool(types(steps, "reduce_sum", "dot_general")) == train
    y, updates = jax.eval_shape(
        functools.partial(layer.apply, mutable=["batch_stats"]), variables, x
    )
    assert y.dtype == BFLOAT16
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} <= {FLOAT32}


@pytest.mark.parametrize("squeeze", ["avg", "max", "none"])
def test_squeeze_excitation_and_gate_are_float32(squeeze):
    layer = SqueezeExcite(ratio=2, squeeze=squeeze)
    u = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.bfloat16)
    variables = jax.eval_shape(layer.init, jax.random.key(0), u)
    steps = program(layer.apply, variables, u)
    assert types(steps, "reduce_sum", "reduce_max", "dot_general", "logistic") == {FLOAT32}
    # The map itself is scaled in its own type, by the gate and nothing else.
    assert [e.primitive.name for e in steps if e.outvars[0].aval.dtype == BFLOAT16][-2:] == [
        "convert_element_type",
        "mul",
    ]
