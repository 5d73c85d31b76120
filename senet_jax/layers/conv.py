"""Convolution as in `flax.linen`, several times faster to train on a CPU.

XLA runs matrix products and dense convolutions on a CPU well. It is slow where a convolution is 1x1
and in the gradients of kernels, and a hundred times too slow in grouped convolutions and their
gradients. So all of these are written as what it runs well:

    layer                    output            gradient of input   gradient of kernel
    1x1                      matrix product    matrix product      matrix product
    dense, stride 1          native            native              product of shifted maps
    dense, stride 2 or more  native            native              product of patches
    3x3 on images, stride 2  pairs of columns  native              product of patches
    map smaller than kernel  product of them   product             as dense
    grouped                  the dense rows, on blocks of neighbouring groups
    depthwise                sums of shifted maps, all three
    anything else            native            native              native

"Anything else" is a kernel with an even side, a padding other than half the kernel, and dilation.
The results are the same but for the order of additions. In training, where a gradient follows,
dense convolutions of float32 above 1x1 are those of oneDNN instead, all three functions, if its
package is there (cpu/onednn.py).

The formulation is chosen when a program is lowered, not when it is traced. A program for GPU or TPU
has the convolutions of `lax.conv_general_dilated` and of its own gradients, and nothing of this
file; with `implementation="xla"` a program for a CPU has them, too.

Gradients of gradients work. JAX refuses forward-mode differentiation (`jax.jvp`, `jax.hessian`) of
functions with a custom gradient; it needs `implementation="xla"`.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from senet_jax.errors import InputError
from senet_jax.layers.cpu import conv as cpu_conv  # the formulations of the table above
from senet_jax.layers.cpu.conv import DIMENSIONS
from senet_jax.layers.cpu.spec import ConvSpec
from senet_jax.layers.platforms import by_platform

# "auto": what is known to be fast on each platform; "xla": plain operations on every platform;
# "fused": as "auto", and batch norm fused with SE (deferred.py) on every platform.
IMPLEMENTATIONS = ("auto", "xla", "fused")


class Conv(nn.Module):
    """Two-dimensional convolution [..., H, W, C'] to [..., H', W', C]; replaces `flax.linen.Conv`.

    Parameters `kernel` [kh, kw, C'/groups, C] and, with `use_bias`, `bias` [C].

    Attributes:
      implementation: "auto", or "xla" for the plain operation on every platform.
      (others): see `flax.linen.Conv`; `padding` is "SAME", "VALID", or pixels.

    Raises:
      ValueError: for an unknown implementation, and an InputError, which is one, for channels that
        do not divide into groups.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: Any = "SAME"
    kernel_dilation: int | tuple[int, int] = 1
    feature_group_count: int = 1
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Any = nn.linear.default_kernel_init
    bias_init: Any = nn.initializers.zeros
    implementation: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inputs = x.shape[-1]
        if min(inputs, self.features, self.feature_group_count) < 1:
            raise InputError(
                f"the convolution {'/'.join(self.path)} would have {inputs} input and "
                f"{self.features} output channels in {self.feature_group_count} groups; the "
                "network must be wider, so that there is at least one of each"
            )
        if inputs % self.feature_group_count or self.features % self.feature_group_count:
            raise InputError(
                f"the convolution {'/'.join(self.path)} has {self.feature_group_count} groups, "
                f"which must divide its {inputs} input and {self.features} output channels; choose "
                "another width, or another number of groups"
            )
        shape = (*self.kernel_size, inputs // self.feature_group_count, self.features)
        w = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        b = (
            self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            if self.use_bias
            else None
        )
        x, w, b = promote_dtype(x, w, b, dtype=self.dtype)
        images = x.reshape(-1, *x.shape[-3:])
        y = convolve(
            images,
            w,
            stride=_pair(self.strides),
            padding=self.padding,
            dilation=_pair(self.kernel_dilation),
            groups=self.feature_group_count,
            implementation=self.implementation,
        )
        y = y.reshape(*x.shape[:-3], *y.shape[1:])
        return y if b is None else y + lax.broadcast_to_rank(b, y.ndim)


def convolve(
    x: jax.Array,
    w: jax.Array,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: Any = "SAME",
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    implementation: str = "auto",
) -> jax.Array:
    """Convolve x [N, H, W, C'] with w [kh, kw, C'/groups, C] to [N, H', W', C].

    Args:
      padding: "SAME", "VALID", a number of pixels, or ((top, bottom), (left, right)).
      implementation: "auto", or "xla" for the plain operation on every platform.

    Raises:
      ValueError: for an unknown implementation.
    """
    check_implementation(implementation)
    _, height, width, inputs = x.shape
    rows, columns, _, outputs = w.shape
    size, kernel = (height, width), (rows, columns)
    if isinstance(padding, int):
        padding = ((padding, padding),) * 2
    if isinstance(padding, str):
        reach = [(side - 1) * step + 1 for side, step in zip(kernel, dilation, strict=True)]
        padding = lax.padtype_to_pads(size, reach, stride, padding)
    layer = ConvSpec(size, kernel, stride, groups, (inputs, outputs))
    in_table = (
        tuple(map(tuple, padding)) == layer.padding
        and dilation == (1, 1)
        and all(side % 2 for side in kernel)
    )
    if in_table and implementation != "xla":
        return output(layer, x, w)
    return lax.conv_general_dilated(
        x,
        w,
        stride,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=DIMENSIONS,
        feature_group_count=groups,
    )


def check_implementation(implementation: str) -> None:
    """Check the name of an implementation.

    Raises: ValueError unless it is one of IMPLEMENTATIONS.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation must be one of {', '.join(IMPLEMENTATIONS)}, not {implementation!r}"
        )


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    down, across = (value, value) if isinstance(value, int) else value
    return down, across


# The three bilinear functions. The derivatives of each are the other two, so that gradients of any
# order stay among them.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def output(layer: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """The output [N, H', W', C] for x [N, H, W, C'] and w [kh, kw, C'/groups, C]."""
    return _choose(cpu_conv.output, cpu_conv.native_output, layer, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def input_gradient(layer: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """The gradient [N, H, W, C'] of the input for the gradient [N, H', W', C] of the output."""
    return _choose(cpu_conv.input_gradient, cpu_conv.native_input_gradient, layer, dy, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def kernel_gradient(layer: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    """The gradient [kh, kw, C'/groups, C] of the kernel for that of the output."""
    return _choose(cpu_conv.kernel_gradient, cpu_conv.native_kernel_gradient, layer, x, dy)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _output_in_training(layer: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    return _choose(cpu_conv.output_in_training, cpu_conv.native_output, layer, x, w)


def _choose(fast: Any, native: Any, layer: ConvSpec, a: jax.Array, b: jax.Array) -> jax.Array:
    return by_platform(
        a, b, cpu=functools.partial(fast, layer), default=functools.partial(native, layer)
    )


for function in (output, _output_in_training):
    function.defvjp(
        lambda layer, x, w: (_output_in_training(layer, x, w), (x, w)),
        lambda layer, saved, dy: (
            input_gradient(layer, dy, saved[1]),
            kernel_gradient(layer, saved[0], dy),
        ),
    )
input_gradient.defvjp(
    lambda layer, dy, w: (input_gradient(layer, dy, w), (dy, w)),
    lambda layer, saved, x: (output(layer, x, saved[1]), kernel_gradient(layer, x, saved[0])),
)
kernel_gradient.defvjp(
    lambda layer, x, dy: (kernel_gradient(layer, x, dy), (x, dy)),
    lambda layer, saved, w: (input_gradient(layer, saved[1], w), output(layer, saved[0], w)),
)
