"""Multiply-adds of products with parameters, from the program that JAX traces.

A network of others may use layers in ways that a count by layers does not know: in pieces of an
image, inside transformations, with matrices of its own. What it multiplies is in its program.
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.extend.core import Literal

# What a value depends on.
PARAMS, IMAGES = 1, 2
CALLED = ("call_jaxpr", "fun_jaxpr", "jaxpr")  # parameters with a program that is called


def products(model: nn.Module, variables: Any, image: jax.ShapeDtypeStruct) -> int:
    """Multiply-adds of all products of what depends on images with what depends on parameters.

    Both may depend on nothing else than that: products of two maps, and those with constants, do
    not count. A transposed convolution has those of the positions of its input, and a loop of
    unknown length those of one pass.

    Args:
      variables: the variables' shapes, or they themselves.
      image: the batch's shape.
    """
    key = jax.eval_shape(jax.random.key, 0)

    def apply(variables: Any, image: Any, key: Any) -> Any:
        return model.apply(variables, image, rngs={"params": key}, mutable=True)

    traced = jax.make_jaxpr(apply)(variables, image, key)
    count = len(jax.tree.leaves(variables))
    return _walk(traced.jaxpr, [PARAMS] * count + [IMAGES, 0])[0]


def _walk(jaxpr: Any, given: Sequence[int]) -> tuple[int, list[int]]:
    """The multiply-adds of a program, and what its outputs depend on, by what its inputs do."""
    known = dict(zip(jaxpr.invars, given, strict=True))

    def of(variable: Any) -> int:
        return 0 if isinstance(variable, Literal) else known.get(variable, 0)

    total = 0
    for equation in jaxpr.eqns:
        inputs = [*map(of, equation.invars)]
        depends = [functools.reduce(operator.or_, inputs, 0)] * len(equation.outvars)
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            if PARAMS in inputs[:2] and (inputs[0] | inputs[1]) & IMAGES:
                total += _multiply_adds(equation)
        elif inner := [_inside(equation, each, inputs) for each in _programs(equation)]:
            total += equation.params.get("length", 1) * max(count for count, _ in inner)
            outputs = zip(*(each for _, each in inner), strict=True)
            depends = [functools.reduce(operator.or_, each) for each in outputs]
        known |= dict(zip(equation.outvars, depends, strict=True))
    return total, [*map(of, jaxpr.outvars)]


def _programs(equation: Any) -> list[Any]:
    """The programs that an operation runs: one of them, or for a loop its body."""
    name, values = equation.primitive.name, equation.params
    if name == "while":
        return [values["body_jaxpr"].jaxpr]
    if name == "cond":
        return [branch.jaxpr for branch in values["branches"]]
    found = called(equation)
    return [] if found is None else [getattr(found, "jaxpr", found)]


def called(equation: Any) -> Any:
    """The program that an operation calls, as a jitted function does, closed or not; or None."""
    values = equation.params
    return next((values[key] for key in CALLED if key in values), None)


def _inside(equation: Any, program: Any, inputs: list[int]) -> tuple[int, list[int]]:
    """The multiply-adds of a program inside an operation, and what that one's outputs depend on."""
    name = equation.primitive.name
    if name == "cond":
        inputs = inputs[1:]
    elif name == "while":
        inputs = inputs[equation.params["cond_nconsts"] :]
    if len(program.invars) != len(inputs):  # an operation that is not known here
        depends = functools.reduce(operator.or_, inputs, 0)
        return 0, [depends] * len(equation.outvars)
    if name not in ("scan", "while"):
        return _walk(program, inputs)
    # A scan's inputs are constants, what is carried and slices; its outputs what is carried, and
    # slices, which have an axis less inside. JAX's names for their numbers differ by version.
    sliced = sum(map(_differ, equation.invars, program.invars)) if name == "scan" else 0
    carried = len(program.outvars) - sum(map(_differ, equation.outvars, program.outvars))
    begin, inputs = len(inputs) - sliced - carried, [*inputs]
    # What is carried may depend on more after a pass than before; two kinds are told in two passes.
    for _ in range(2):
        _, depends = _walk(program, inputs)
        for place in range(carried):
            inputs[begin + place] |= depends[place]
    return _walk(program, inputs)


def _differ(outside: Any, inside: Any) -> bool:
    return outside.aval.ndim != inside.aval.ndim


def _multiply_adds(equation: Any) -> int:
    left, right = (variable.aval.shape for variable in equation.invars[:2])
    result = equation.outvars[0].aval.shape
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return math.prod(result) * math.prod(left[axis] for axis in contracted)
    numbers = equation.params["dimension_numbers"]
    per_position = math.prod(right) // right[numbers.rhs_spec[0]]  # and feature of the output
    is_transposed = math.prod(equation.params["lhs_dilation"]) > 1
    positions, spec = (left, numbers.lhs_spec) if is_transposed else (result, numbers.out_spec)
    features = result[numbers.out_spec[1]]
    return math.prod(positions) // positions[spec[1]] * features * per_position
