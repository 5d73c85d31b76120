"""The weights that a network starts from, drawn without a program of its own."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend import core

from senet_jax.layers import platforms
from senet_jax.models.shapes import with_plain_layers


def draw(
    model: nn.Module, image_shape: tuple[int, int, int], seed: jax.Array
) -> tuple[jax.Array, dict[str, Any]]:
    """The run's random key and the variables of a model for images [H, W, C].

    A program that draws the weights of a network takes longer to compile than its step. So the
    network is traced, and what its weights depend on is computed operation by operation: these are
    few, and the same in all networks.
    """

    def start(seed: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        init_key, run_key = jax.random.split(jax.random.key(seed))
        return run_key, dict(with_plain_layers(model).init(init_key, jnp.zeros((1, *image_shape))))

    # Its maps are dropped, so it may be traced for any platform.
    start = platforms.on(jax.default_backend(), start)
    traced, shapes = jax.make_jaxpr(start, return_shape=True)(seed)
    outputs = core.jaxpr_as_fun(without_unused(traced))(seed)
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)


def without_unused(traced: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """A traced function without the operations that none of its outputs depends on."""
    jaxpr, equations = traced.jaxpr, []
    needed = set(map(id, jaxpr.outvars))
    for equation in reversed(jaxpr.eqns):
        if any(id(variable) in needed for variable in equation.outvars):
            equations.append(equation)
            needed.update(map(id, equation.invars))
    return traced.replace(jaxpr=jaxpr.replace(eqns=equations[::-1]))
