"""An ONNX graph while it is written: nodes, constants, and the shapes of what lies between.

A value is either a constant or the name of a tensor in the graph. Broadcasting is not written out:
`Graph.ranked` only gives a value its rank, since ONNX broadcasts as NumPy does, and `Graph.whole`
expands it where an operation needs the whole.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from senet_jax.errors import InputError

# Opset 18 of 2022 and its format are read by every runtime in use.
OPSET, IR_VERSION = 18, 8
INPUT, OUTPUT, BATCH = "images", "logits", "batch"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of the graph.

    Attributes:
      name: its name there.
      shape: what it has, which broadcasts to what JAX says; sizes with the batch are symbolic.
    """

    name: str
    shape: tuple[Any, ...]


Value = np.ndarray | Tensor


class Graph:
    """Nodes and constants of a graph that is being written."""

    def __init__(self) -> None:
        self.nodes: list[tuple[str, tuple[list[str], list[str]], dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}
        self.turned: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def add(
        self, kind: str, inputs: Sequence[Value], shape: Any, *, name: str = "", **fields: Any
    ) -> Tensor:
        """Add a node with one output of a shape."""
        name = name or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append((kind, ([self.name_of(value) for value in inputs], [name]), fields))
        return Tensor(name, tuple(shape))

    def name_of(self, value: Value) -> str:
        if isinstance(value, Tensor):
            return value.name
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.asarray(value, order="C")
        return name

    def whole(self, value: Value, said: Any) -> Value:
        """A value in the shape that JAX says, if it only broadcasts to that."""
        if tuple(value.shape) == tuple(said.shape):
            return value
        if isinstance(value, np.ndarray) and is_fixed(said.shape):
            return np.broadcast_to(value, said.shape)
        sizes: list[Value] = [
            np.array([size]) if isinstance(size, int) else self.batch(size) for size in said.shape
        ]
        target = self.add("Concat", sizes, (len(sizes),), axis=0)
        return self.add("Expand", [value, target], said.shape)

    def batch(self, size: Any) -> Tensor:
        if str(size) != BATCH:
            raise InputError(f"a size of {size} cannot be written as ONNX here")
        return self.add("Shape", [Tensor(INPUT, ())], (1,), start=0, end=1)

    def ranked(self, value: Value, shape: Any, places: Sequence[int]) -> Value:
        """A value with its axes at `places` among as many as `shape` has; the others are 1."""
        sizes: list[Any] = [1] * len(shape)
        for place, size in zip(places, value.shape, strict=True):
            sizes[place] = size
        return self.reshaped(value, tuple(sizes))

    def transposed(self, value: Value, order: Sequence[int]) -> Value:
        """A value with its axes in another order; a tensor is turned once, however often asked."""
        order = tuple(order)
        if isinstance(value, np.ndarray):
            return value.transpose(order)
        if order == tuple(range(len(order))):
            return value
        if (value.name, order) not in self.turned:
            shape = [value.shape[axis] for axis in order]
            turned = self.add("Transpose", [value], shape, perm=order)
            self.turned[value.name, order] = turned
            self.turned[turned.name, tuple(np.argsort(order).tolist())] = value
        return self.turned[value.name, order]

    def reshaped(self, x: Value, shape: Any) -> Value:
        """A value in another shape, of which one size may be symbolic."""
        if isinstance(x, np.ndarray) and is_fixed(shape):
            return x.reshape(shape)
        if tuple(x.shape) == tuple(shape):
            return x
        sizes = np.array([size if isinstance(size, int) else -1 for size in shape], np.int64)
        return self.add("Reshape", [x, sizes], shape)

    def model(self, images: Any, logits: Any) -> bytes:
        """The graph as an ONNX model, with shape and dtype of its input and output."""
        import onnx

        def info(name: str, aval: Any) -> Any:
            shape = [size if isinstance(size, int) else BATCH for size in aval.shape]
            return onnx.helper.make_tensor_value_info(name, onnx_type(aval.dtype), shape)

        made = onnx.helper.make_graph(
            [onnx.helper.make_node(kind, *ends, **fields) for kind, ends, fields in self.nodes],
            "senet_jax",
            [info(INPUT, images)],
            [info(OUTPUT, logits)],
            [onnx.numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        opset = onnx.helper.make_opsetid("", OPSET)
        model = onnx.helper.make_model(made, opset_imports=[opset], producer_name="senet_jax")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return model.SerializeToString()


def onnx_type(dtype: Any) -> int:
    """The number of a dtype in ONNX."""
    import onnx

    return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def is_fixed(shape: Sequence[Any]) -> bool:
    """Whether no size is symbolic."""
    return all(isinstance(size, int) for size in shape)
