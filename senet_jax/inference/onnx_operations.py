"""The operations of JAX, by their names and parameters there, as nodes of an ONNX graph.

A function gets the graph, the inputs, the shape of the result, and the parameters of JAX. Inputs of
`BROADCASTING` operations may broadcast against each other; others are whole.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from senet_jax.errors import InputError
from senet_jax.inference.onnx_graph import Graph, Tensor, Value, onnx_type

# Operations of JAX that ONNX has under another name, on values that broadcast against each other.
ELEMENTWISE = {
    "abs": "Abs",
    "add": "Add",
    "add_any": "Add",
    "ceil": "Ceil",
    "div": "Div",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log": "Log",
    "logistic": "Sigmoid",
    "lt": "Less",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "pow": "Pow",
    "sign": "Sign",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "tanh": "Tanh",
}


def maximum(graph: Graph, *inputs: Value, shape: Any, **_: Any) -> Tensor:
    one, two = inputs
    if isinstance(two, np.ndarray) and not two.any() and two.size == 1:
        return graph.add("Relu", [one], shape)
    return graph.add("Max", inputs, shape)


def select(graph: Graph, *inputs: Value, shape: Any, **_: Any) -> Tensor:
    which, otherwise, chosen = inputs
    return graph.add("Where", [which, chosen, otherwise], shape)


def rsqrt(graph: Graph, *inputs: Value, shape: Any, **_: Any) -> Tensor:
    return graph.add("Reciprocal", [graph.add("Sqrt", inputs, shape)], shape)


def clamp(graph: Graph, *inputs: Value, shape: Any, **_: Any) -> Tensor:
    low, x, high = inputs
    return graph.add("Min", [graph.add("Max", [x, low], shape), high], shape)


def square(graph: Graph, *inputs: Value, shape: Any, **_: Any) -> Tensor:
    return graph.add("Mul", [*inputs, *inputs], shape)


def power(graph: Graph, *inputs: Value, shape: Any, y: int, **_: Any) -> Tensor:
    return graph.add("Pow", [*inputs, np.asarray(y, np.float32)], shape)


def reshape(graph: Graph, x: Value, *, shape: Any, **_: Any) -> Value:
    return graph.reshaped(x, shape)


def transpose(graph: Graph, x: Value, *, permutation: Sequence[int], **_: Any) -> Value:
    return graph.transposed(x, permutation)


def convert_element_type(graph: Graph, x: Value, *, new_dtype: Any, shape: Any, **_: Any) -> Tensor:
    return graph.add("Cast", [x], shape, to=onnx_type(new_dtype))


def reduction(
    graph: Graph, x: Value, *, kind: str, axes: Sequence[int], shape: Any, **_: Any
) -> Tensor:
    return graph.add(kind, [x, np.array(axes, np.int64)], shape, keepdims=0)


def concatenate(graph: Graph, *parts: Value, dimension: int, shape: Any, **_: Any) -> Tensor:
    return graph.add("Concat", parts, shape, axis=dimension)


def slice_(
    graph: Graph,
    x: Value,
    *,
    start_indices: Any,
    limit_indices: Any,
    strides: Any,
    shape: Any,
    **_: Any,
) -> Tensor:
    steps = strides or (1,) * len(shape)
    # An axis with a symbolic size is taken whole.
    axes = [axis for axis, end in enumerate(limit_indices) if isinstance(end, int)]
    ends = ([at[axis] for axis in axes] for at in (start_indices, limit_indices))
    begin, end = (np.array(at, np.int64) for at in ends)
    step = np.array([steps[axis] for axis in axes], np.int64)
    return graph.add("Slice", [x, begin, end, np.array(axes, np.int64), step], shape)


def split(graph: Graph, x: Value, *, sizes: Any, axis: int, **_: Any) -> list[Value]:
    ends, parts = np.cumsum([0, *sizes]).tolist(), []
    for begin, end in itertools.pairwise(ends):
        first, last = [0] * len(x.shape), list(x.shape)
        first[axis], last[axis] = begin, end
        shape = [*x.shape[:axis], end - begin, *x.shape[axis + 1 :]]
        fields = {"start_indices": first, "limit_indices": last, "strides": None}
        parts.append(slice_(graph, x, **fields, shape=shape))
    return parts


def gather(
    graph: Graph,
    x: Value,
    first: Value,
    *,
    dimension_numbers: Any,
    slice_sizes: Any,
    shape: Any,
    **_: Any,
) -> Value:
    """What indexing with slices is traced as, where the size of the batch is not known."""
    numbers, fixed = dimension_numbers, isinstance(first, np.ndarray) and first.ndim == 1
    _refuse_unless(fixed and not numbers.operand_batching_dims, "an indexing")
    begins = [0] * len(slice_sizes)
    for axis, begin in zip(numbers.start_index_map, np.asarray(first).tolist(), strict=True):
        begins[axis] = begin
    pairs = zip(begins, slice_sizes, strict=True)
    ends = [begin + size if isinstance(size, int) else size for begin, size in pairs]
    fields = {"start_indices": begins, "limit_indices": ends, "strides": None}
    return graph.reshaped(slice_(graph, x, **fields, shape=slice_sizes), shape)


def pad(
    graph: Graph, x: Value, filling: Value, *, padding_config: Any, shape: Any, **_: Any
) -> Tensor:
    low, high, inside = zip(*padding_config, strict=True)
    _refuse_unless(not any(inside), "padding between pixels")
    return graph.add("Pad", [x, np.array([*low, *high], np.int64), filling], shape)


def dot_general(
    graph: Graph, x: Value, y: Value, *, dimension_numbers: Any, shape: Any, **_: Any
) -> Tensor:
    (ours, theirs), (of_x, of_y) = dimension_numbers
    if (ours, theirs, of_y) == ((len(x.shape) - 1,), (0,), ()) and len(y.shape) == 2:
        return graph.add("MatMul", [x, y], shape)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    one = [next(letters) for _ in x.shape]
    two = [next(letters) for _ in y.shape]
    for a, b in zip((*ours, *of_x), (*theirs, *of_y), strict=True):
        two[b] = one[a]
    rest = [s for i, s in enumerate(one) if i not in (*ours, *of_x)]
    rest += [s for i, s in enumerate(two) if i not in (*theirs, *of_y)]
    said = "".join([one[a] for a in of_x] + rest)
    return graph.add("Einsum", [x, y], shape, equation=f"{''.join(one)},{''.join(two)}->{said}")


def conv_general_dilated(
    graph: Graph, x: Value, w: Value, *, dimension_numbers: Any, shape: Any, **params: Any
) -> Value:
    low, high = zip(*params["padding"], strict=True)
    plain = params["batch_group_count"] == 1 and set(params["lhs_dilation"]) <= {1}
    _refuse_unless(plain and min(*low, *high) >= 0, "a convolution of that kind")
    of_x, of_w, of_y = dimension_numbers
    y = graph.add(
        "Conv",
        [graph.transposed(x, of_x), graph.transposed(w, of_w)],
        [shape[axis] for axis in of_y],
        strides=params["window_strides"],
        pads=[*low, *high],
        dilations=params["rhs_dilation"],
        group=params["feature_group_count"],
    )
    return graph.transposed(y, np.argsort(of_y).tolist())


def reduce_window_max(graph: Graph, x: Value, *, shape: Any, **params: Any) -> Value:
    return pool(graph, "MaxPool", x, shape, params)


def reduce_window_sum(graph: Graph, x: Value, *, shape: Any, **params: Any) -> Value:
    size = np.float32(math.prod(params["window_dimensions"]))
    means = pool(graph, "AveragePool", x, shape, params, count_include_pad=1)
    return graph.add("Mul", [means, np.asarray(size)], shape)


def pool(graph: Graph, kind: str, x: Value, shape: Any, params: Any, **fields: Any) -> Value:
    """Pool maps [N, H, W, C] over height and width."""
    sides, steps = params["window_dimensions"], params["window_strides"]
    padding = params["padding"]
    outer = [(sides[axis], steps[axis], *padding[axis]) for axis in (0, -1)]
    dilated = {*params["base_dilation"], *params["window_dilation"]} != {1}
    _refuse_unless(len(sides) == 4 and outer == [(1, 1, 0, 0)] * 2 and not dilated, "pooling")
    low, high = zip(*padding[1:3], strict=True)
    y = graph.add(
        kind,
        [graph.transposed(x, (0, 3, 1, 2))],
        [shape[axis] for axis in (0, 3, 1, 2)],
        kernel_shape=sides[1:3],
        strides=steps[1:3],
        pads=[*low, *high],
        **fields,
    )
    return graph.transposed(y, (0, 2, 3, 1))


def _refuse_unless(known: bool, what: str) -> None:
    if not known:
        raise InputError(f"the network has {what} that cannot be written as ONNX here")


def _node(kind: str, graph: Graph, *inputs: Value, shape: Any, **_: Any) -> Tensor:
    return graph.add(kind, inputs, shape)


Operation = Callable[..., Value | list[Value]]

BROADCASTING: dict[str, Operation] = {
    **{name: functools.partial(_node, kind) for name, kind in ELEMENTWISE.items()},
    "clamp": clamp,
    "integer_pow": power,
    "max": maximum,
    "rsqrt": rsqrt,
    "select_n": select,
    "square": square,
}
OTHERS: dict[str, Operation] = {
    "concatenate": concatenate,
    "conv_general_dilated": conv_general_dilated,
    "convert_element_type": convert_element_type,
    "dot_general": dot_general,
    "expand_dims": reshape,
    "gather": gather,
    "pad": pad,
    "reduce_max": functools.partial(reduction, kind="ReduceMax"),
    "reduce_min": functools.partial(reduction, kind="ReduceMin"),
    "reduce_sum": functools.partial(reduction, kind="ReduceSum"),
    "reduce_window_max": reduce_window_max,
    "reduce_window_sum": reduce_window_sum,
    "reshape": reshape,
    "slice": slice_,
    "split": split,
    "squeeze": reshape,
    "transpose": transpose,
}
