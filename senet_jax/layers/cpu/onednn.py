"""Convolutions of oneDNN, the library behind PyTorch's speed on a CPU, within XLA's programs.

XLA splits a convolution over processors by channels and columns, of which CIFAR networks have few.
In training oneDNN takes what it was measured to be faster at: `takes` says what. Evaluation,
prediction and exports do without it: it computes the output of a layer only where a gradient
follows. Where its package is not, as on ARM, training does without it as well, and so it does with
`SENET_JAX_ONEDNN=0` in the environment, and in processes that have not called `enable`, as our
commands do.
"""

import ctypes
import dataclasses
import functools
import importlib.metadata
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from senet_jax.layers.cpu import xla_call
from senet_jax.layers.cpu.spec import ConvSpec

PACKAGE, FILE = "onednn-cpu-gomp", "libdnnl.so.3"
VARIABLE = "SENET_JAX_ONEDNN"  # 0 leaves the library alone
# Between two calls XLA computes on the same processors, which the library's threads would keep busy
# with waiting: a step of SE-ResNet-20 would take a quarter longer.
WAITING = ("OMP_WAIT_POLICY", "passive")
IN_BACKGROUND = "jax_cpu_enable_async_dispatch"  # JAX's setting

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


class _Library:
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


@functools.cache
def library() -> _Library | None:
    """The library; None where it is not installed or is to be left alone."""
    if os.environ.get(VARIABLE) == "0":
        return None
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    os.environ.setdefault(*WAITING)
    for file in files:
        if file.name == FILE:
            try:
                return _Library(str(file.locate()))
            except OSError as error:
                message = "%s is installed and cannot be used: %s"
                logging.getLogger(__name__).warning(message, PACKAGE, error)
    return None


def enable() -> None:
    """Take oneDNN in this process; call before JAX is asked for its devices.

    JAX then waits for each program. At its exit Python waits, with its lock held, for programs that
    still run in the background, and one that wants to call would wait for that lock.
    """
    if library() is not None:
        jax.config.update(IN_BACKGROUND, False)


def _usable() -> _Library | None:
    """The library, where this process may take it: on a single device, enabled.

    One program for several devices would have to be told how to divide a call.
    """
    return library() if _waits() and jax.device_count() == 1 else None


def _waits() -> bool:
    """Whether JAX waits for each program, as `enable` has it."""
    return not jax.config.values[IN_BACKGROUND]


def in_use(platform: str) -> str | None:
    """The version with which programs for a platform compute; None if they do without."""
    found = _usable() if platform == "cpu" else None
    return found and found.version


def takes(kind: str, layer: ConvSpec, *arrays: jax.Array) -> bool:
    """Whether oneDNN computes this of a layer: of dense convolutions above 1x1, in float32."""
    is_dense = layer.groups == 1 and not layer.pointwise
    return (
        is_dense
        and all(array.dtype == jnp.float32 and array.size for array in arrays)
        and _usable() is not None
        and _name(kind, layer, arrays[0].shape[0]) is not None
    )


def output(layer: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    shape = (x.shape[0], *layer.windows.count, layer.channels[1])
    return _call(OUTPUT, layer, shape, x, w)


def input_gradient(layer: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    shape = (dy.shape[0], *layer.size, layer.channels[0])
    return _call(INPUT_GRADIENT, layer, shape, dy, w)


def kernel_gradient(layer: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    return _call(KERNEL_GRADIENT, layer, (*layer.kernel, *layer.channels), x, dy)


def _call(
    kind: str, layer: ConvSpec, shape: tuple[int, ...], a: jax.Array, b: jax.Array
) -> jax.Array:
    name = _name(kind, layer, a.shape[0])
    assert name is not None  # see `takes`
    return xla_call.call(name, shape, a, b)


@functools.cache
def _name(kind: str, layer: ConvSpec, images: int) -> str | None:
    """The name by which programs call a convolution; None if the library has none."""
    found = library()
    assert found is not None
    try:
        convolution = _Convolution(found, kind, layer, images)
    except RuntimeError:
        return None
    numbers = (images, *layer.size, *layer.channels, *layer.kernel, *layer.stride)
    name = f"senet_jax_onednn_{kind}_{'_'.join(map(str, numbers))}"
    xla_call.register(name, convolution)
    return name


@dataclasses.dataclass
class _Execution:
    """What one execution at a time needs: a stream, memories of the arrays, and the steps."""

    stream: ctypes.c_void_p
    memories: list[ctypes.c_void_p]
    steps: list[tuple[ctypes.c_void_p, Any]]


class _Convolution:
    """One of the three functions of a layer for a number of images.

    The library chooses how the kernel lies in memory, and it is brought there and back.

    Raises: RuntimeError if the library cannot compute it.
    """

    def __init__(self, found: _Library, kind: str, layer: ConvSpec, images: int) -> None:
        self._library, self._kind, do = found, kind, found.new
        (inputs, outputs), (rows, columns) = layer.channels, layer.kernel
        x = self._desc((images, inputs, *layer.size), _channels_last(inputs, *layer.size))
        count = layer.windows.count
        y = self._desc((images, outputs, *count), _channels_last(outputs, *count))
        dims = _numbers((outputs, inputs, rows, columns))
        self._own = self._desc(
            (outputs, inputs, rows, columns),
            (1, outputs, columns * inputs * outputs, inputs * outputs),
        )
        w = do("memory_desc_create_with_tag", 4, dims, FLOAT32, ANY)
        low = _numbers([first for first, _ in layer.padding])
        # The library wants to know what lies behind the last window as well.
        high = _numbers(
            [
                (places - 1) * step + side - size - first
                for places, step, side, size, (first, _) in zip(
                    count, layer.stride, layer.kernel, layer.size, layer.padding, strict=True
                )
            ]
        )
        steps, none = _numbers(layer.stride), _numbers((0, 0))
        shape = (steps, none, low, high)
        engine, attributes = found.engine, found.attributes
        made = forward = do(
            "convolution_forward_primitive_desc_create",
            *(engine, FORWARD_TRAINING, DIRECT, x, w, None, y, *shape, attributes),
        )
        if kind == INPUT_GRADIENT:
            name = "convolution_backward_data_primitive_desc_create"
            made = do(name, engine, DIRECT, x, w, y, *shape, forward, attributes)
        if kind == KERNEL_GRADIENT:
            name = "convolution_backward_weights_primitive_desc_create"
            made = do(name, engine, DIRECT, x, w, None, y, *shape, forward, attributes)
        what = DIFF_WEIGHTS_OF if kind == KERNEL_GRADIENT else WEIGHTS_OF
        self._kernel = found.desc_of(made, what)
        self._made, self._primitive = made, do("primitive_create", made)
        self._descs = [x, self._own, y]
        if kind == INPUT_GRADIENT:
            self._descs = [y, self._own, x]
        if kind == KERNEL_GRADIENT:
            self._descs = [x, y, self._own]
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
