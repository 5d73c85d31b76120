"""A function of JAX as an ONNX model: its operations one by one, constants computed beforehand.

What is traced are plain operations on arrays (`implementation="xla"`), of which networks have a few
dozen kinds, in `onnx_operations.py`. docs/decisions/export.md says why this is not a converter of
others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from senet_jax.errors import InputError
from senet_jax.inference.onnx_graph import BATCH, INPUT, OUTPUT, Graph, Tensor, Value
from senet_jax.inference.onnx_operations import BROADCASTING, OTHERS
from senet_jax.models.products import called

UNCHANGED = ("copy", "name", "optimization_barrier", "stop_gradient")


def onnx_model(
    function: Callable[[jax.Array], jax.Array], image_shape: tuple[int, int, int]
) -> bytes:
    """Write a function from uint8 [batch, H, W, C] to logits [batch, classes] as an ONNX model.

    Its input is called "images", its output "logits"; the batch may have any size.

    Raises: InputError without the package onnx, or for an operation that is not known here.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise InputError(
            "ONNX needs a package that is not here: pip install 'senet-jax[onnx]'"
        ) from error
    (batch,) = jax.export.symbolic_shape(BATCH)
    images = jax.ShapeDtypeStruct((batch, *image_shape), "uint8")
    traced, graph = jax.make_jaxpr(function)(images), Graph()
    (result,) = _run(graph, traced.jaxpr, traced.consts, [Tensor(INPUT, images.shape)])
    logits: Any = traced.out_avals[0]
    graph.add("Identity", [graph.whole(result, logits)], logits.shape, name=OUTPUT)
    return graph.model(images, logits)


def _run(
    graph: Graph, jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Value]
) -> list[Value]:
    """Add what a program of JAX computes. Returns: its outputs."""
    values: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
    values |= {v: np.asarray(c) for v, c in zip(jaxpr.constvars, constants, strict=True)}

    def read(atom: Any) -> Value:
        if not isinstance(atom, core.Literal):
            return values[atom]
        said: Any = atom.aval
        return np.asarray(atom.val, said.dtype)

    for equation in jaxpr.eqns:
        results = _equation(graph, equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(graph: Graph, equation: Any, inputs: list[Value]) -> Sequence[Value]:
    """Add one operation of JAX. Returns: its results."""
    name, params = equation.primitive.name, equation.params
    if name in UNCHANGED:
        return inputs
    if inner := called(equation):
        return _run(graph, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs)
    if name == "broadcast_in_dim":
        return [graph.ranked(inputs[0], params["shape"], params["broadcast_dimensions"])]
    if name not in BROADCASTING:
        pairs = zip(inputs, equation.invars, strict=True)
        inputs = [graph.whole(value, atom.aval) for value, atom in pairs]
    constants = [value for value in inputs if isinstance(value, np.ndarray)]
    if len(constants) == len(inputs):
        if name in BROADCASTING:
            constants = np.broadcast_arrays(*constants)
        results = equation.primitive.bind(*map(jax.numpy.asarray, constants), **params)
        return [*map(np.asarray, results if equation.primitive.multiple_results else [results])]
    if name in BROADCASTING:
        shape = _common([value.shape for value in inputs])
        result = BROADCASTING[name](graph, *inputs, shape=shape, **params)
    elif name not in OTHERS:
        raise InputError(
            f"the network has the operation {name!r}, which cannot be written as ONNX here; "
            "--formats=stablehlo has all"
        )
    else:
        shape = equation.outvars[0].aval.shape
        result = OTHERS[name](graph, *inputs, **params | {"shape": shape})
    return result if isinstance(result, list) else [result]


def _common(shapes: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The shape to which values of the same rank, or numbers, broadcast."""
    rank = max(map(len, shapes))
    full = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(next((s for s in sizes if s != 1), 1) for sizes in zip(*full, strict=True))
