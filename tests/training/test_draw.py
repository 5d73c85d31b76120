"""A network's weights are those that a program of its own would draw."""

import jax
import jax.numpy as jnp
import numpy as np

from senet_jax.models import create_model
from senet_jax.training.draw import draw, without_unused


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
