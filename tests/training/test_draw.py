"""A network's weights are those that a program of its own would draw."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from senet_jax.models import create_model
from senet_jax.training.draw import draw, operation_by_operation, with_filled, without_unused
from senet_jax.training.optim import OptimConfig
from senet_jax.training.optimizers import OPTIMIZERS


def test_weights_have_the_bits_of_a_program_of_the_network():
    fields = {"se": {"kind": "cbam"}, "width": 4, "stage_sizes": (1, 1, 1)}
    model = create_model("seresnet20_cifar", num_classes=3, **fields)
    shape, seed = (8, 8, 1), jnp.asarray(11, jnp.uint32)

    @jax.jit
    def program(seed):
        init_key, run_key = jax.random.split(jax.random.key(seed))
        return jax.random.key_data(run_key), model.init(init_key, jnp.zeros((1, *shape)))

    key, variables = draw(model, shape, seed)
    expected_key, expected = program(seed)
    np.testing.assert_array_equal(jax.random.key_data(key), expected_key)
    jax.tree.map(np.testing.assert_array_equal, variables, dict(expected))


def test_what_no_output_depends_on_is_not_computed():
    def some(x):
        used = x + 1
        jnp.sin(used) * jnp.cos(x)
        return used * 2, x

    traced = without_unused(jax.make_jaxpr(some)(1.0))
    assert [equation.primitive.name for equation in traced.jaxpr.eqns] == ["add", "mul"]


def test_arrays_of_one_number_are_given_and_not_computed():
    def some(x):
        return x + jnp.ones((2, 3)), jnp.full((3,), 7, jnp.int32), jnp.full((2, 3), x)

    traced = with_filled(jax.make_jaxpr(some)(jnp.float32(1)))
    assert [equation.primitive.name for equation in traced.jaxpr.eqns] == [
        "add",
        "broadcast_in_dim",
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_starts_as_by_a_program_of_its_own(name):
    optimizer = OPTIMIZERS[name](OptimConfig(name=name, learning_rate=0.1), lambda step: 0.1)
    optimizer = optax.chain(*optimizer)
    params = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(4, jnp.bfloat16)}
    state, expected = (
        operation_by_operation(optimizer.init, params),
        jax.jit(optimizer.init)(params),
    )
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for leaf, by_program in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        assert (leaf.dtype, leaf.weak_type) == (by_program.dtype, by_program.weak_type)
        np.testing.assert_array_equal(leaf, by_program)


def test_numbers_and_arguments_that_come_back_are_arrays():
    number, x = operation_by_operation(lambda x: (3, x), 1.5)
    assert (number.dtype, x.dtype) == (jnp.int32, jnp.float32)
    np.testing.assert_array_equal([number, x], [3, 1.5])
