"""The weights that a network starts from, drawn without a program of its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.extend import core

from senet_jax.layers import platforms
from senet_jax.models.shapes import with_plain_layers


def draw(
    model: nn.Module, image_shape: tuple[int, int, int], seed: jax.Array
) -> tuple[jax.Array, dict[str, Any]]:
    """The run's random key and the variables of a model for images [H, W, C].

    A program that draws the weights of a network takes longer to compile than its step. So it is
    traced alone, and what its weights depend on is computed operation by operation.
    """

    def start(seed: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        init_key, run_key = jax.random.split(jax.random.key(seed))
        return run_key, dict(with_plain_layers(model).init(init_key, jnp.zeros((1, *image_shape))))

    # Its maps are dropped, so it may be traced for any platform.
    return operation_by_operation(platforms.on(jax.default_backend(), start), seed)


def operation_by_operation(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of arrays returns, without a program of its own.

    For a function whose operations are few, and the same in all networks, so that those compiled
    for one serve the next. Arrays of one number, such as an optimizer's zeros, need not even these.
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    by_operation = core.jaxpr_as_fun(with_filled(without_unused(traced)))
    outputs = by_operation(*jax.tree.leaves(arguments))
    leaves, tree = jax.tree.flatten(shapes)
    # A number that is written in the function comes out as a number of Python.
    outputs = [
        output if isinstance(output, jax.Array) else jnp.asarray(output, leaf.dtype)
        for output, leaf in zip(outputs, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, outputs)


def with_filled(traced: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """A traced function that is given the arrays of one number that it would make of a literal."""
    jaxpr, equations = traced.jaxpr, []
    variables, values = list(jaxpr.constvars), list(traced.consts)
    for equation in jaxpr.eqns:
        literal = all(isinstance(variable, core.Literal) for variable in equation.invars)
        if equation.primitive.name == "broadcast_in_dim" and literal:
            (made,), (number,) = equation.outvars, equation.invars
            variables.append(made)
            values.append(jnp.array(np.full(made.aval.shape, number.val, made.aval.dtype)))
        else:
            equations.append(equation)
    return core.ClosedJaxpr(jaxpr.replace(eqns=equations, constvars=variables), values)


def without_unused(traced: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """A traced function without the operations that none of its outputs depends on."""
    jaxpr, equations = traced.jaxpr, []
    needed = set(map(id, jaxpr.outvars))
    for equation in reversed(jaxpr.eqns):
        if any(id(variable) in needed for variable in equation.outvars):
            equations.append(equation)
            needed.update(map(id, equation.invars))
    return traced.replace(jaxpr=jaxpr.replace(eqns=equations[::-1]))
