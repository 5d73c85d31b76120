"""Batch norm that waits for the gate of an SE block, so that both read a map as often as one does.

Between the last convolution x [N, H, W, C] of a residual branch and the addition stand

    u = (x - mean) / sqrt(var + epsilon) * scale + bias           batch norm
    z = u.mean((H, W))                                            squeeze
    y = u * gate(z)                                               scale

The squeeze follows from the means of the images, [N, C], without u; their mean is the batch's, so
one pass over x does for both. Batch norm and scaling are one product and one sum with numbers of
each image and channel. What their gradients need of the map are two sums for each image and
channel, from which those of batch norm follow. That is no pass more than without SE, forward and
backward. In inference, `means_after` knows the means from the narrower input of a 1x1 convolution.

As in `normalize.py`, the form is chosen when a program is lowered: on a CPU it is this one. On GPU
and TPU, where it has not been measured, all is computed in the order of the three lines, unless
`implementation="fused"` asks for this form everywhere.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from senet_jax.layers.cpu.fusion import zero_after  # saves memory on a CPU
from senet_jax.layers.normalize import (
    Options,
    backward_of,
    beside,
    moments,
    norm_gradients,
    normalize,
    plain_normalize,
    plain_statistics,
)
from senet_jax.layers.platforms import by_platform

Arrays = tuple[jax.Array, ...]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["x", "means", "norm"],
    meta_fields=["options"],
)
@dataclasses.dataclass(frozen=True)
class Deferred:
    """A map [N, H, W, C] on which batch normalisation waits for a factor.

    It is asked for the squeeze, then multiplied by the gate, which gives an array.

    Attributes:
      x: the map before normalisation.
      means: mean of each image and channel of `x`, [N, C] in float32.
      norm: mean, variance, scale and bias [C], which normalise it.
      options: see Options.
    """

    x: jax.Array
    means: jax.Array
    norm: Arrays
    options: Options

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape

    @property
    def ndim(self) -> int:
        return self.x.ndim

    @property
    def dtype(self) -> Any:
        return self.options.dtype

    def squeezed(self) -> jax.Array:
        """The mean of the normalised map over height and width, [N, 1, 1, C] in float32."""
        return squeezed(self.options, self.x, self.means, *self.norm)

    def __mul__(self, gate: jax.Array) -> jax.Array:
        """The normalised map times a gate that broadcasts to [N, 1, 1, C]."""
        gate = jnp.broadcast_to(gate, (self.x.shape[0], 1, 1, self.x.shape[-1]))
        return gated(self.options, self.x, *self.norm, gate)

    def __jax_array__(self) -> jax.Array:
        """The normalised map [N, H, W, C], which functions of JAX see in its place."""
        return normalize(self.options, self.x, *self.norm)


def means_after(a: jax.Array, kernel: jax.Array) -> jax.Array:
    """The means [N, C] of the 1x1 convolution of a map [N, H, W, C'] by a kernel [1, 1, C', C]."""
    return a.astype(jnp.float32).mean((1, 2)) @ kernel[0, 0].astype(a.dtype).astype(jnp.float32)


def is_cheaper_before(x: jax.Array, y: jax.Array) -> bool:
    """Whether the means after a 1x1 convolution of x to y are to be had from x; see `means_after`.

    They are if x and the weights have fewer numbers than y; of a single image the last maps have
    fewer than the weights. A batch of unknown size, as in jax.export, is taken for a large one.
    """
    images, spared = x.shape[0], math.prod(y.shape[1:]) - math.prod(x.shape[1:])
    return images * spared > x.shape[-1] * y.shape[-1] if isinstance(images, int) else spared > 0


def _chosen(options: Options, fast: Callable[..., Any], plain: Callable[..., Any]) -> Any:
    """The fast form where it is wanted, else the plain one."""
    if options.everywhere:
        return fast
    return functools.partial(by_platform, cpu=fast, default=plain)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def statistics(options: Options, x: jax.Array) -> Arrays:
    """The mean of each image [N, C], and mean and variance [C] of all, in float32."""

    def fast(x: jax.Array) -> Arrays:
        x = x.astype(jnp.float32)
        first = x[0, 0, 0]
        offsets = (x - beside(first, 4)).mean((1, 2))
        return beside(first, 2) + offsets, *moments(x, offsets.mean(0))

    def plain(x: jax.Array) -> Arrays:
        return (x.astype(jnp.float32).mean((1, 2)), *plain_statistics(x))

    return _chosen(options, fast, plain)(x)


def _statistics_backward(options: Options, saved: Any, gradients: Arrays) -> tuple[jax.Array]:
    def fast(
        x: jax.Array, mean: jax.Array, dmeans: jax.Array, dmean: jax.Array, dvar: jax.Array
    ) -> jax.Array:
        batch, height, width, _ = x.shape
        pixels = height * width
        shift = dmeans / pixels + beside(dmean / (batch * pixels), 2)
        factor = beside(2 * dvar / (batch * pixels), 4)
        centred = x.astype(jnp.float32) - beside(mean, 4)
        return (centred * factor + shift[:, None, None]).astype(x.dtype)

    def plain(x: jax.Array, mean: jax.Array, *gradients: jax.Array) -> jax.Array:
        return jax.vjp(plain_statistics, x)[1](gradients[1:])[0]

    return (_chosen(options, fast, plain)(*saved, *gradients),)


def _statistics_forward(options: Options, x: jax.Array) -> tuple[Arrays, Any]:
    outputs: Any = statistics(options, x)
    return outputs, (x, outputs[1])


statistics.defvjp(_statistics_forward, _statistics_backward)


def _fast_squeezed(
    options: Options,
    x: jax.Array,
    means: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
) -> jax.Array:
    factor = lax.rsqrt(var + options.epsilon) * scale
    z = (means - beside(mean, 2)) * beside(factor, 2) + beside(bias, 2)
    return z[:, None, None]


def _plain_squeezed(
    options: Options, x: jax.Array, means: jax.Array, *norm: jax.Array
) -> jax.Array:
    u = plain_normalize(options, x, *norm)
    return u.astype(jnp.float32).mean((1, 2), keepdims=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def squeezed(options: Options, *inputs: jax.Array) -> jax.Array:
    """The mean over height and width of a normalised map, [N, 1, 1, C] in float32."""
    forms = (functools.partial(form, options) for form in (_fast_squeezed, _plain_squeezed))
    return _chosen(options, *forms)(*inputs)


def _squeezed_backward(options: Options, saved: Arrays, dz: jax.Array) -> Arrays:
    forms = (functools.partial(form, options) for form in (_fast_squeezed, _plain_squeezed))
    return _chosen(options, *map(backward_of, forms))(dz, *saved)


squeezed.defvjp(lambda options, *inputs: (squeezed(options, *inputs), inputs), _squeezed_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def gated(options: Options, x: jax.Array, *norm_and_gate: jax.Array) -> jax.Array:
    """A normalised map times a gate [N, 1, 1, C]: [N, H, W, C] in the dtype of the options."""
    forms = (functools.partial(form, options) for form in (_fast_gated, _plain_gated))
    return _chosen(options, *forms)(x, *norm_and_gate)


def _fast_gated(
    options: Options,
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    gate: jax.Array,
) -> jax.Array:
    gate = gate.astype(jnp.float32)
    factor = gate * beside(lax.rsqrt(var + options.epsilon) * scale, 4)
    y = (x.astype(jnp.float32) - beside(mean, 4)) * factor + gate * beside(bias, 4)
    return y.astype(options.dtype)


def _plain_gated(options: Options, x: jax.Array, *norm_and_gate: jax.Array) -> jax.Array:
    *norm, gate = norm_and_gate
    return plain_normalize(options, x, *norm) * gate


def _gated_backward(options: Options, saved: Arrays, dy: jax.Array) -> Arrays:
    def fast(
        dy: jax.Array,
        x: jax.Array,
        mean: jax.Array,
        var: jax.Array,
        scale: jax.Array,
        bias: jax.Array,
        gate: jax.Array,
    ) -> Arrays:
        d, gates = dy.astype(jnp.float32), gate.astype(jnp.float32)[:, 0, 0]
        inverse = lax.rsqrt(var + options.epsilon)
        factor = beside(inverse * scale, 2)
        sums = d.sum((1, 2))
        centre = beside(mean + zero_after(sums), 4)
        along = (d * (x.astype(jnp.float32) - centre)).sum((1, 2))
        dx = (d * (gates * factor)[:, None, None]).astype(x.dtype)
        dgate = (along * factor + sums * beside(bias, 2)).astype(gate.dtype)[:, None, None]
        along, sums = (gates * along).sum(0), (gates * sums).sum(0)
        return dx, *norm_gradients(sums, along, inverse, scale), dgate

    plain = backward_of(functools.partial(_plain_gated, options))
    return _chosen(options, fast, plain)(dy, *saved)


gated.defvjp(lambda options, *inputs: (gated(options, *inputs), inputs), _gated_backward)
