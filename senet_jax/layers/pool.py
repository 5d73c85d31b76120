"""Pooling: means, and maxima as in `flax.linen` with a gradient that is fast on a CPU.

XLA's gradient of maxima on a CPU, select-and-scatter, takes several times as long as the form here:
the forward pass keeps in one byte which tap of the window won, and the backward pass returns each
tap's share. Ties go to the first tap and a NaN wins, as in XLA. As in `conv.py`, the form is chosen
when a program is lowered: on GPU and TPU it is XLA's.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from senet_jax.layers.cpu.windows import Windows  # of which the backward pass is made
from senet_jax.layers.platforms import by_platform

PARTS = 8  # of a map that are compared at once, where a maximum is looked for
NOWHERE = np.iinfo(np.int32).max  # the index of what is no value


def max_pool(
    x: jax.Array,
    window: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    padding: Any = "VALID",
    implementation: str = "auto",
) -> jax.Array:
    """Maximum of each window: [N, H, W, C] to [N, H', W', C].

    Args:
      padding: "SAME", "VALID" or ((top, bottom), (left, right)).
      implementation: "auto", or "xla" for `flax.linen.max_pool` on every platform.
    """
    if implementation == "xla":
        return nn.max_pool(x, window, strides, padding)
    _, height, width, _ = x.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads((height, width), window, strides, padding)
    (top, bottom), (left, right) = padding
    windows = Windows((height, width), window, strides, ((top, bottom), (left, right)))
    return _max_pool(windows, x)


def halve(x: jax.Array, implementation: str = "auto") -> jax.Array:
    """3x3 max-pooling with stride 2 as in Caffe.

    Windows begin at the first pixel, and sizes are rounded up.
    """
    padding = [(0, 1 - side % 2) for side in x.shape[1:3]]
    return max_pool(x, (3, 3), (2, 2), padding, implementation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _max_pool(windows: Windows, x: jax.Array) -> jax.Array:
    if windows.stride == windows.window:  # of which XLA on a CPU loses a NaN, and takes longer
        return by_platform(
            x,
            cpu=lambda x: functools.reduce(jnp.maximum, windows.unfold(x, -jnp.inf)),
            default=functools.partial(_native, windows),
        )
    return _native(windows, x)


def _forward(windows: Windows, x: jax.Array) -> tuple[jax.Array, Any]:
    y, winner = by_platform(
        x,
        cpu=functools.partial(_with_winner, windows),
        # On other platforms the winner is not needed: the gradient is XLA's, which wants x.
        default=lambda x: (
            _native(windows, x),
            jnp.zeros((x.shape[0], *windows.count, x.shape[3]), jnp.int8),
        ),
    )
    return y, (x, winner)


def _backward(windows: Windows, saved: Any, dy: jax.Array) -> tuple[jax.Array]:
    def select(x: jax.Array, winner: jax.Array, dy: jax.Array) -> jax.Array:
        zero = jnp.zeros((), dy.dtype)
        return windows.fold(
            [jnp.where(winner == tap, dy, zero) for tap in range(len(windows.taps))]
        )

    def native(x: jax.Array, winner: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.vjp(functools.partial(_native, windows), x)[1](dy)[0]

    return (by_platform(*saved, dy, cpu=select, default=native),)


_max_pool.defvjp(_forward, _backward)


def _native(windows: Windows, x: jax.Array) -> jax.Array:
    padding: Any = windows.padding  # Flax declares a str and takes both
    return nn.max_pool(x, windows.window, windows.stride, padding)


def _with_winner(windows: Windows, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    seen = windows.unfold(x, -jnp.inf)
    y, winner = seen[0], jnp.zeros(seen[0].shape, jnp.int8)
    for tap, other in enumerate(seen[1:], start=1):
        winner = jnp.where((other > y) | (jnp.isnan(other) & ~jnp.isnan(y)), jnp.int8(tap), winner)
        y = jnp.maximum(y, other)
    return y, winner


def average_pool(
    x: jax.Array, window: int, stride: int, *, count_padding: bool = True
) -> jax.Array:
    """Mean of each square window: [N, H, W, C] to [N, H/stride, W/stride, C].

    The map is padded by half a window. With `count_padding` the padding counts as zeros, as in
    Caffe and by default in PyTorch; otherwise means are taken over pixels alone.
    """
    half: Any = ((window // 2,) * 2,) * 2  # Flax declares a str and takes both
    sides, steps = (window, window), (stride, stride)
    with jax.numpy_dtype_promotion("standard"):  # Flax divides by whole numbers
        return nn.avg_pool(x, sides, steps, half, count_include_pad=count_padding)


def average_to(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Means over even parts of a map of any size: [N, H, W, C] to [N, *size, C].

    The parts are those of PyTorch's adaptive average pooling: they overlap where they do not divide
    the map, and repeat the pixels of a map that is smaller than `size`.
    """
    for axis, parts in ((1, size[0]), (2, size[1])):
        if x.shape[axis] != parts:
            weights = jnp.asarray(_means(x.shape[axis], parts), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(x, weights, (axis, 1)), -1, axis)
    return x


def _means(length: int, parts: int) -> np.ndarray:
    """Weights [parts, length] of the mean over each part."""
    weights = np.zeros((parts, length))
    for part in range(parts):
        first, end = part * length // parts, -(-(part + 1) * length // parts)
        weights[part, first:end] = 1 / (end - first)
    return weights


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def largest(x: jax.Array, axis: int) -> jax.Array:
    """Maximum over an axis, which keeps size 1; the gradient goes to the first maximum.

    The gradient of `jnp.max` looks for values that equal the maximum. XLA may compute the map a
    second time for that and round it differently; then nothing is equal, and the gradient is 0 / 0.
    """
    return jnp.max(x, axis, keepdims=True)


def _largest_forward(x: jax.Array, axis: int) -> tuple[jax.Array, Any]:
    native = functools.partial(jnp.argmax, axis=axis, keepdims=True)
    in_parts = functools.partial(_first_maximum, axis=axis)
    # Along the last axis, values that are compared would not lie side by side.
    fixed = lax.stop_gradient(x)  # gradients of gradients would look for that of the comparisons
    index = native(fixed) if axis == -1 else by_platform(fixed, cpu=in_parts, default=native)
    return jnp.take_along_axis(x, index, axis), (index, x.shape[axis])


def _first_maximum(x: jax.Array, axis: int) -> jax.Array:
    """`jnp.argmax`, by comparing parts of the map as wholes.

    XLA's own, on a CPU, compares one number after the other, and took up to four times as long.
    """
    index = _positions(x.shape[axis], axis, x.ndim)
    while (length := x.shape[axis]) > PARTS:
        # Equal parts need no padding, which would be a pass of its own.
        equal = [count for count in range(2, PARTS + 1) if length % count == 0]
        size = -(-length // max(equal, default=PARTS))
        parts = [
            (_part(x, start, size, axis, -jnp.inf), _part(index, start, size, axis, NOWHERE))
            for start in range(0, length, size)
        ]
        x, index = functools.reduce(_ahead, parts)
    index = jnp.broadcast_to(index, x.shape)
    nothing = jnp.asarray(-jnp.inf, x.dtype), jnp.int32(NOWHERE)
    _, first = lax.reduce((x, index), nothing, _ahead, (x.ndim + axis,))
    return jnp.expand_dims(first, axis)


def _part(x: jax.Array, start: int, size: int, axis: int, fill: float) -> jax.Array:
    part = lax.slice_in_dim(x, start, min(start + size, x.shape[axis]), axis=x.ndim + axis)
    lacking = size - part.shape[axis]
    padding = [(0, lacking if position == x.ndim + axis else 0, 0) for position in range(x.ndim)]
    return lax.pad(part, jnp.asarray(fill, x.dtype), padding) if lacking else part


def _ahead(one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array]) -> Any:
    """The greater of two values and its index: of equal ones the first, and a NaN of all."""
    (a, at), (b, bt) = one, other
    nan = jnp.isnan(a), jnp.isnan(b)
    is_equal = (a == b) | (nan[0] & nan[1])
    wins = (b > a) | (nan[1] & ~nan[0]) | (is_equal & (bt < at))
    return jnp.where(wins, b, a), jnp.where(wins, bt, at)


def _largest_backward(axis: int, saved: Any, dy: jax.Array) -> tuple[jax.Array]:
    index, size = saved
    return (jnp.where(_positions(size, axis, dy.ndim) == index, dy, 0),)


def _positions(size: int, axis: int, rank: int) -> jax.Array:
    """0, 1, ... along an axis of `size`, counted from the last; the other axes have size 1."""
    positions = jnp.arange(size, dtype=jnp.int32).reshape([-1] + [1] * (-1 - axis))
    return lax.broadcast_to_rank(positions, rank)


largest.defvjp(_largest_forward, _largest_backward)
