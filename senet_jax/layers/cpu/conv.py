"""The formulations of a convolution: the native one, and those that are fast on a CPU.

The table of `layers/conv.py` says which is used for what. All functions map arrays to arrays, given
the static part of a convolution, a `ConvSpec`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from senet_jax.layers.cpu import onednn
from senet_jax.layers.cpu.fusion import materialize, zero_after
from senet_jax.layers.cpu.spec import ConvSpec
from senet_jax.layers.cpu.windows import shift

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# Channels per dense block of a grouped convolution. Fewer waste less, more make fewer kernels to
# compile: 16 and 32 are equally fast, and 16 takes twice as long to compile.
BLOCK_CHANNELS = 32


# Native: what XLA makes of the plain operation and its own gradients.


def native_output(layer: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        w,
        layer.stride,
        layer.padding,
        dimension_numbers=DIMENSIONS,
        feature_group_count=layer.groups,
    )


def native_input_gradient(layer: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    x = jax.ShapeDtypeStruct((dy.shape[0], *layer.size, layer.channels[0]), dy.dtype)
    (dx,) = jax.linear_transpose(lambda x: native_output(layer, x, w), x)(dy)
    return dx


def native_kernel_gradient(layer: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    inputs, outputs = layer.channels
    w = jax.ShapeDtypeStruct((*layer.kernel, inputs // layer.groups, outputs), x.dtype)
    (dw,) = jax.linear_transpose(lambda w: native_output(layer, x, w), w)(dy)
    return dw


# Fast on a CPU.


def output(layer: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    if layer.depthwise:
        return _depthwise_output(layer, x, w)
    if layer.groups > 1:
        return _by_blocks(output, layer, x, w)
    if layer.pointwise or layer.small:
        patches = jnp.concatenate(layer.windows.unfold(x), -1)
        return _product(patches, w.reshape(-1, w.shape[-1]), ((3,), (0,)))
    few = layer.channels[0] <= 4 and layer.kernel[1] <= 3
    if few and layer.stride[1] == 2 and layer.size[1] % 2 == 0:
        return _output_of_paired_columns(layer, x, w)
    return native_output(layer, x, w)


def output_in_training(layer: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """The output, where a gradient follows."""
    if onednn.takes(onednn.OUTPUT, layer, x, w):
        return onednn.output(layer, x, w)
    return output(layer, x, w)


def input_gradient(layer: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    if onednn.takes(onednn.INPUT_GRADIENT, layer, dy, w):
        return onednn.input_gradient(layer, dy, w)
    if layer.depthwise:
        return _depthwise_input_gradient(layer, dy, w)
    if layer.groups > 1:
        return _by_blocks(input_gradient, layer, dy, w)
    if layer.pointwise or layer.small:
        patches = _product(dy, w.reshape(-1, w.shape[-1]), ((3,), (1,)))
        return layer.windows.fold(jnp.split(patches, len(layer.windows.taps), -1))
    return native_input_gradient(layer, dy, w)


def kernel_gradient(layer: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    if onednn.takes(onednn.KERNEL_GRADIENT, layer, x, dy):
        return onednn.kernel_gradient(layer, x, dy)
    if layer.groups > 1 and not layer.depthwise:
        block, blocks = _blocks(layer)
        parts = zip(_split(x, blocks), _split(dy, blocks), strict=True)
        return _unpack(layer, [kernel_gradient(block, xb, db) for xb, db in parts])
    zero = zero_after(dy)
    if layer.pointwise:
        return _transposed_product(layer.windows.unfold(x, zero)[0], dy)[None, None]
    rows, columns = layer.kernel
    if layer.stride == (1, 1):
        # Column offsets on x and row offsets on dy: every pair of them is one tap, and both copies
        # are short, where patches of x would be rows * columns maps.
        xs = [shift(x, columns // 2 - j, 2, zero) for j in range(columns)]
        dys = [shift(dy, i - rows // 2, 1) for i in range(rows)]
    else:
        xs, dys = layer.windows.unfold(x, zero), [dy]
    inputs, outputs = layer.channels
    if layer.depthwise:
        taps = [(x * dy).sum((0, 1, 2)) for dy in dys for x in xs]
        return jnp.stack(taps).reshape(rows, columns, 1, outputs)
    dw = _transposed_product(jnp.concatenate(xs, -1), jnp.concatenate(dys, -1))
    dw = dw.reshape(len(xs), inputs, len(dys), outputs).transpose(2, 0, 1, 3)
    return dw.reshape(rows, columns, inputs, outputs)


def _output_of_paired_columns(layer: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """A horizontal stride of 2 as one of 1 over columns taken in pairs, with twice the channels.

    XLA copies windows in runs of a pixel, which the three channels of an image make slow.
    """
    (height, width), (rows, columns), (inputs, outputs) = layer.size, layer.kernel, layer.channels
    reach = columns // 2  # window v covers columns 2v - reach to 2v + reach
    extra = (1, 0) if reach % 2 else (0, 1)
    return lax.conv_general_dilated(
        x.reshape(-1, height, width // 2, 2 * inputs),
        jnp.pad(w, ((0, 0), extra, (0, 0), (0, 0))).reshape(rows, -1, 2 * inputs, outputs),
        (layer.stride[0], 1),
        (layer.padding[0], (-(-reach // 2), reach // 2)),
        dimension_numbers=DIMENSIONS,
    )


# Matrix products over all positions of a map.


def _product(x: jax.Array, w: jax.Array, contract: Any) -> jax.Array:
    return lax.dot_general(x, w, (contract, ((), ())))


def _transposed_product(x: jax.Array, dy: jax.Array) -> jax.Array:
    """x [N, H, W, A] and dy [N, H, W, B] -> x^T dy [A, B], summed over all positions."""
    x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    # With the wide one on the right it is up to 1.5 times as fast. Without the barrier, XLA would
    # undo the exchange.
    if x.shape[1] > dy.shape[1]:
        return materialize(lax.dot_general(dy, x, (((0,), (0,)), ((), ())))).T
    return lax.dot_general(x, dy, (((0,), (0,)), ((), ())))


# Groups: blocks of neighbouring groups are dense convolutions with a block-diagonal kernel.


def _blocks(layer: ConvSpec) -> tuple[ConvSpec, int]:
    """The dense layer of one block, and the number of blocks."""
    inputs, outputs = layer.channels
    blocks = layer.groups
    for candidate in range(1, layer.groups + 1):  # the fewest blocks of at most BLOCK_CHANNELS
        if layer.groups % candidate == 0 and inputs // candidate <= BLOCK_CHANNELS:
            blocks = candidate
            break
    channels = inputs // blocks, outputs // blocks
    return dataclasses.replace(layer, groups=1, channels=channels), blocks


def _by_blocks(function: Any, layer: ConvSpec, maps: jax.Array, w: jax.Array) -> jax.Array:
    block, blocks = _blocks(layer)
    parts = zip(_split(maps, blocks), _pack(layer, w, blocks), strict=True)
    return jnp.concatenate([function(block, part, kernel) for part, kernel in parts], -1)


def _split(x: jax.Array, blocks: int) -> list[jax.Array]:
    return [materialize(part) for part in jnp.split(x, blocks, -1)]


def _pack(layer: ConvSpec, w: jax.Array, blocks: int) -> list[jax.Array]:
    """w [kh, kw, C'/groups, C] -> for each block [kh, kw, C'/blocks, C/blocks], block-diagonal."""
    (rows, columns, depth, outputs), together = w.shape, layer.groups // blocks
    w = w.reshape(rows, columns, depth, blocks, together, -1).transpose(3, 0, 1, 4, 2, 5)
    diagonal = jnp.eye(together, dtype=w.dtype)[:, None, :, None]
    packed = w[:, :, :, :, :, None] * lax.broadcast_to_rank(diagonal, 7)
    return list(packed.reshape(blocks, rows, columns, depth * together, outputs // blocks))


def _unpack(layer: ConvSpec, gradients: Sequence[jax.Array]) -> jax.Array:
    """The transpose of `_pack`: the diagonals of all blocks."""
    blocks = len(gradients)
    (inputs, outputs), together = layer.channels, layer.groups // blocks
    shape = blocks, *layer.kernel, together, inputs // layer.groups, together, -1
    dw = jnp.diagonal(jnp.stack(gradients).reshape(shape), axis1=3, axis2=5)
    return dw.transpose(1, 2, 3, 0, 5, 4).reshape(*layer.kernel, -1, outputs)


# Depthwise: one multiply-add per tap; XLA merges them into one pass.


def _taps(w: jax.Array) -> list[jax.Array]:
    """w [kh, kw, 1, C] as kh kw vectors [1, 1, 1, C]."""
    return [lax.broadcast_to_rank(tap, 4) for tap in w.reshape(-1, w.shape[-1])]


def _depthwise_output(layer: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    pairs = zip(layer.windows.unfold(x), _taps(w), strict=True)
    return functools.reduce(jnp.add, (part * tap for part, tap in pairs))


def _depthwise_input_gradient(layer: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    return layer.windows.fold([dy * tap for tap in _taps(w)])
