"""Max-pooling as `flax.linen.max_pool` has it, with a gradient that is fast on a CPU.

XLA's gradient on a CPU, select-and-scatter, takes several times as long as the form here: the
forward pass keeps in one byte which tap of the window won, and the backward pass hands each tap's
share back. Ties go to the first tap and a NaN wins, as in XLA. The form is chosen when a program is
lowered, as in `conv.py`: on GPU and TPU it is XLA's.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from senet_jax.layers.windows import Windows


def max_pool(
    x: jax.Array,
    window: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    padding: Any = "VALID",
    implementation: str = "auto",
) -> jax.Array:
    """Maxima of windows, [N, H, W, C] to [N, H', W', C].

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


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _max_pool(windows: Windows, x: jax.Array) -> jax.Array:
    return _native(windows, x)


def _forward(windows: Windows, x: jax.Array) -> tuple[jax.Array, Any]:
    y, winner = lax.platform_dependent(
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

    return (lax.platform_dependent(*saved, dy, cpu=select, default=native),)


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
