"""oneDNN's convolutions through its interface in C, version 3 (dnnl.h).

A `Convolution` is one of the three functions of a layer, for a number of images; it computes on
arrays by their addresses.
"""

import ctypes
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from senet_jax.layers.cpu.spec import ConvSpec

# Values of the library's types, dnnl_types.h of version 3.
CPU, IN_ORDER, FLOAT32, ANY, DIRECT = 1, 1, 3, 1, 1
FORWARD_TRAINING = 64
WEIGHTS_OF, DIFF_WEIGHTS_OF, SCRATCHPAD_OF = 131, 132, 136  # what is asked of a primitive
SRC, DST, WEIGHTS, SCRATCHPAD, DIFF_SRC, DIFF_DST, DIFF_WEIGHTS = 1, 17, 33, 80, 129, 145, 161
SCRATCHPAD_OF_USER = 1
ALLOCATE = ctypes.c_void_p(-1)

OUTPUT, INPUT_GRADIENT, KERNEL_GRADIENT = "output", "input_gradient", "kernel_gradient"
# What the two arguments and the result of each are to the library, and which of them is the kernel.
ROLES = {
    OUTPUT: (SRC, WEIGHTS, DST),
    INPUT_GRADIENT: (DIFF_DST, WEIGHTS, DIFF_SRC),
    KERNEL_GRADIENT: (SRC, DIFF_DST, DIFF_WEIGHTS),
}
KERNEL_AT = {OUTPUT: 1, INPUT_GRADIENT: 1, KERNEL_GRADIENT: 2}


class _Version(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("major", "minor", "patch")]


class _Argument(ctypes.Structure):
    _fields_ = [("role", ctypes.c_int), ("memory", ctypes.c_void_p)]


class Library:
    """The library, an engine of it, and its functions, which raise where they return a status.

    Args:
      path: the file.

    Raises: OSError if it cannot be loaded or is not of version 3.
    """

    def __init__(self, path: str) -> None:
        self._held = ctypes.PyDLL(path)  # with Python's lock: what is done in a microsecond
        self._free = ctypes.CDLL(path)  # without: what takes long
        self._held.dnnl_version.restype = ctypes.POINTER(_Version)
        found = self._held.dnnl_version().contents
        if found.major != 3:
            raise OSError(f"{path} is oneDNN {found.major}, not 3")
        self.version = f"{found.major}.{found.minor}.{found.patch}"
        self.engine = self.new("engine_create", CPU, ctypes.c_size_t(0))
        # The library's own scratchpad is shared by all primitives that a thread has made, which
        # several threads may execute at once.
        self.attributes = self.new("primitive_attr_create")
        self.do("primitive_attr_set_scratchpad_mode", self.attributes, SCRATCHPAD_OF_USER)

    def do(self, name: str, *args: Any, free: bool = False) -> None:
        """Call a function. Raises: RuntimeError if it returns another status than success."""
        library = self._free if free else self._held
        if status := getattr(library, f"dnnl_{name}")(*args):
            raise RuntimeError(f"oneDNN: {name} failed with status {status}")

    def new(self, name: str, *args: Any) -> ctypes.c_void_p:
        """What a function creates."""
        created = ctypes.c_void_p()
        self.do(name, ctypes.byref(created), *args)
        return created

    def desc_of(self, primitive_desc: ctypes.c_void_p, what: int) -> ctypes.c_void_p:
        """How a primitive has one of its arrays in memory."""
        query = self._held.dnnl_primitive_desc_query_md
        query.restype = ctypes.c_void_p
        return ctypes.c_void_p(query(primitive_desc, what, 0))

    def are_same(self, a: ctypes.c_void_p, b: ctypes.c_void_p) -> bool:
        return bool(self._held.dnnl_memory_desc_equal(a, b))


@dataclasses.dataclass
class _Execution:
    """What one execution at a time needs: a stream, memories of the arrays, and the steps."""

    stream: ctypes.c_void_p
    memories: list[ctypes.c_void_p]
    steps: list[tuple[ctypes.c_void_p, Any]]


class Convolution:
    """One of the three functions of a layer for a number of images.

    The library chooses how the kernel lies in memory, and it is brought there and back.

    Raises: RuntimeError if the library cannot compute it.
    """

    def __init__(self, library: Library, kind: str, layer: ConvSpec, images: int) -> None:
        self._library, self._kind, new = library, kind, library.new
        (inputs, outputs), (rows, columns), count = (
            layer.channels,
            layer.kernel,
            layer.windows.count,
        )
        x = self._desc((images, inputs, *layer.size), _channels_last(inputs, *layer.size))
        y = self._desc((images, outputs, *count), _channels_last(outputs, *count))
        sides = (outputs, inputs, rows, columns)
        own = self._desc(sides, (1, outputs, columns * inputs * outputs, inputs * outputs))
        w = new("memory_desc_create_with_tag", len(sides), _numbers(sides), FLOAT32, ANY)
        low = [first for first, _ in layer.padding]
        high = [  # behind the last window, of which a larger stride leaves something out
            (places - 1) * step + side - size - first
            for places, step, side, size, first in zip(
                count, layer.stride, layer.kernel, layer.size, low, strict=True
            )
        ]
        shape = [_numbers(each) for each in (layer.stride, (0, 0), low, high)]
        engine, attributes = library.engine, library.attributes
        forward = new(
            "convolution_forward_primitive_desc_create",
            *(engine, FORWARD_TRAINING, DIRECT, x, w, None, y, *shape, attributes),
        )
        if kind == OUTPUT:
            self._descs, what, self._made = [x, own, y], WEIGHTS_OF, forward
        elif kind == INPUT_GRADIENT:
            self._descs, what = [y, own, x], WEIGHTS_OF
            self._made = new(
                "convolution_backward_data_primitive_desc_create",
                *(engine, DIRECT, x, w, y, *shape, forward, attributes),
            )
        else:
            self._descs, what = [x, y, own], DIFF_WEIGHTS_OF
            self._made = new(
                "convolution_backward_weights_primitive_desc_create",
                *(engine, DIRECT, x, w, None, y, *shape, forward, attributes),
            )
        self._own, self._kernel = own, library.desc_of(self._made, what)
        self._primitive = new("primitive_create", self._made)
        self._idle = [self._execution()]

    def __call__(self, addresses: list[int]) -> None:
        """Compute it on arrays at these addresses, the result last."""
        do = self._library.do
        try:
            execution = self._idle.pop()
        except IndexError:  # the others are at work for other threads
            execution = self._execution()
        for memory, address in zip(execution.memories, addresses, strict=True):
            do("memory_set_data_handle", memory, ctypes.c_void_p(address))
        for primitive, arguments in execution.steps:
            count = len(arguments)
            do("primitive_execute", primitive, execution.stream, count, arguments, free=True)
        do("stream_wait", execution.stream, free=True)
        self._idle.append(execution)

    def _desc(self, dims: Sequence[int], strides: Sequence[int]) -> ctypes.c_void_p:
        create = "memory_desc_create_with_strides"
        return self._library.new(create, len(dims), _numbers(dims), FLOAT32, _numbers(strides))

    def _memory(self, desc: ctypes.c_void_p, address: ctypes.c_void_p | None) -> ctypes.c_void_p:
        return self._library.new("memory_create", desc, self._library.engine, address)

    def _execution(self) -> _Execution:
        new, engine, at = self._library.new, self._library.engine, KERNEL_AT[self._kind]
        attributes = self._library.attributes
        stream = new("stream_create", engine, IN_ORDER)
        memories = [self._memory(desc, None) for desc in self._descs]
        used, steps = [*memories], []
        if is_moved := not self._library.are_same(self._own, self._kernel):
            used[at] = self._memory(self._kernel, ALLOCATE)
        steps.append(
            self._step(self._primitive, self._made, zip(ROLES[self._kind], used, strict=True))
        )
        if is_moved:
            ends = [(self._own, memories[at]), (self._kernel, used[at])]
            (a, source), (b, target) = ends[::-1] if self._kind == KERNEL_GRADIENT else ends
            made = new("reorder_primitive_desc_create", *(a, engine, b, engine), attributes)
            move = self._step(new("primitive_create", made), made, [(SRC, source), (DST, target)])
            steps = [*steps, move] if self._kind == KERNEL_GRADIENT else [move, *steps]
        return _Execution(stream, memories, steps)

    def _step(
        self,
        primitive: ctypes.c_void_p,
        made: ctypes.c_void_p,
        roles: Iterable[tuple[int, ctypes.c_void_p]],
    ) -> tuple[ctypes.c_void_p, Any]:
        """A primitive with its arguments, and a scratchpad of its own."""
        scratchpad = self._memory(self._library.desc_of(made, SCRATCHPAD_OF), ALLOCATE)
        pairs = [_Argument(*pair) for pair in (*roles, (SCRATCHPAD, scratchpad))]
        return primitive, (_Argument * len(pairs))(*pairs)


def _channels_last(channels: int, height: int, width: int) -> tuple[int, int, int, int]:
    """The strides of maps [N, H, W, C] in the library's order N, C, H, W."""
    return height * width * channels, 1, width * channels, channels


def _numbers(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * 12)(*values)  # as many as the library reads at most
