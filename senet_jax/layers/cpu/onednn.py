"""Convolutions of oneDNN, the library behind PyTorch's speed on a CPU, within XLA's programs.

XLA splits a convolution over processors by channels and columns, of which CIFAR networks have few.
In training oneDNN takes what it was measured to be faster at: `takes` says what. Evaluation,
prediction and exports do without it: it computes the output of a layer only where a gradient
follows. Where its package is not, as on ARM, training does without it as well, and so it does with
`SENET_JAX_ONEDNN=0` in the environment, and in processes that have not called `enable`, as our
commands do.
"""

import atexit
import contextlib
import functools
import importlib.metadata
import logging
import os
import threading
from typing import Any

import jax
import jax.numpy as jnp
from jax._src import xla_bridge  # nothing public tells whether JAX has its devices

from senet_jax.layers.cpu import xla_call
from senet_jax.layers.cpu.onednn_convolution import (
    INPUT_GRADIENT,
    KERNEL_GRADIENT,
    OUTPUT,
    Convolution,
    Library,
)
from senet_jax.layers.cpu.spec import ConvSpec

PACKAGE, FILE = "onednn-cpu-gomp", "libdnnl.so.3"
VARIABLE = "SENET_JAX_ONEDNN"  # 0 leaves the library alone
# Between two calls XLA computes on the same processors, which the library's threads would keep busy
# with waiting: a step of SE-ResNet-20 would take a quarter longer.
WAITING = ("OMP_WAIT_POLICY", "passive")
IN_BACKGROUND = "jax_cpu_enable_async_dispatch"  # JAX's setting
# OpenMP keeps as many threads for each thread that calls, and XLA calls from all of its own.
MOST_PROCESSORS = 16
# What divides the work, and so decides the last bits, beside the processors.
DIVIDES = ("OMP_", "DNNL_", "ONEDNN_")

_enabled: list[bool] = []  # not empty once `enable` had an effect
_naming = threading.Lock()


@functools.cache
def library() -> Library | None:
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
                return Library(str(file.locate()))
            except OSError as error:
                message = "%s is installed and cannot be used: %s"
                logging.getLogger(__name__).warning(message, PACKAGE, error)
    return None


def enable(processors: int) -> None:
    """Take oneDNN in this process; call before JAX is asked for its devices, or it has no effect.

    It has none either with more than MOST_PROCESSORS.

    At its exit Python waits, with its lock held, for programs that still run in the background, and
    one that wants to call would wait for that lock. So JAX waits for each program whose arguments
    are there, and before the exit for all whose results anybody holds.
    """
    if xla_bridge.backends_are_initialized() or processors > MOST_PROCESSORS or library() is None:
        return
    jax.config.update(IN_BACKGROUND, False)
    atexit.register(_finish)
    _enabled.append(True)


def _finish() -> None:
    for array in jax.live_arrays():
        with contextlib.suppress(Exception):  # deleted, or what failed, of which others have told
            array.block_until_ready()


def _usable() -> Library | None:
    """The library, where this process may take it: on a single device, enabled.

    One program for several devices would have to be told how to divide a call.
    """
    return library() if _enabled and jax.device_count() == 1 else None


def in_use(platform: str, dtype: Any = jnp.float32, implementation: str = "auto") -> str | None:
    """The version with which programs for a platform train; None if they do without.

    `dtype` and `implementation` are those of the network's layers. Variables of the environment
    that divide the library's work otherwise stand beside the version.
    """
    may_take = platform == "cpu" and dtype == jnp.float32 and implementation != "xla"
    found = _usable() if may_take else None
    if found is None:
        return None
    given = [key for key in os.environ if key.startswith(DIVIDES) and key != WAITING[0]]
    return " ".join([found.version, *(f"{key}={os.environ[key]}" for key in sorted(given))])


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


def _name(kind: str, layer: ConvSpec, images: int) -> str | None:
    """The name by which programs call a convolution; None if the library has none."""
    with _naming:  # two threads may trace the same layer
        return _named(kind, layer, images)


@functools.cache
def _named(kind: str, layer: ConvSpec, images: int) -> str | None:
    found = library()
    assert found is not None
    try:
        convolution = Convolution(found, kind, layer, images)
    except RuntimeError:
        return None
    numbers = (images, *layer.size, *layer.channels, *layer.kernel, *layer.stride)
    name = f"senet_jax_onednn_{kind}_{'_'.join(map(str, numbers))}"
    xla_call.register(name, convolution)
    return name
