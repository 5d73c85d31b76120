"""Sliding windows over maps: what each tap of a kernel sees, and the transpose.

Both consist of slices, pads and sums, which XLA merges into the operations around them.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from senet_jax.layers.cpu.fusion import materialize


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows over maps of one size; heights before widths.

    Attributes:
      size: size of the maps.
      window: size of a window.
      stride: steps from one window to the next, down and across.
      padding: pixels added at (top, bottom) and (left, right).
    """

    size: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]

    @property
    def count(self) -> tuple[int, int]:
        """Numbers of windows down and across: the size of the output."""
        down, across = (
            (size + low + high - window) // stride + 1
            for size, window, stride, (low, high) in zip(
                self.size, self.window, self.stride, self.padding, strict=True
            )
        )
        return down, across

    @property
    def taps(self) -> list[tuple[int, int]]:
        """The positions in a window, row by row."""
        return list(itertools.product(range(self.window[0]), range(self.window[1])))

    def unfold(self, x: jax.Array, fill: jax.typing.ArrayLike = 0.0) -> list[jax.Array]:
        """What each tap sees of x [N, H, W, C]: a map [N, H', W', C] per tap."""
        pads = [(0, 0, 0), *((low, high, 0) for low, high in self.padding), (0, 0, 0)]
        padded = materialize(lax.pad(x, jnp.asarray(fill, x.dtype), pads))
        (down, across), (rows, columns) = self.stride, self.count
        return [
            padded[
                :, i : i + (rows - 1) * down + 1 : down, j : j + (columns - 1) * across + 1 : across
            ]
            for i, j in self.taps
        ]

    def fold(self, maps: Sequence[jax.Array]) -> jax.Array:
        """The transpose of `unfold`: the sum by position [N, H, W, C] of a map per tap.

        With a stride, positions fall into stride x stride phases that no window mixes; each is a
        sum of moved maps, and the phases are woven together at the end.
        """
        down, across = self.stride
        phases = [[self._phase(maps, a, b) for b in range(across)] for a in range(down)]
        if self.stride == (1, 1):
            return phases[0][0]
        woven = jnp.stack([jnp.stack(row, 3) for row in phases], 2)  # [N, H/s, s, W/s, s, C]
        batch, height, _, width, _, channels = woven.shape
        woven = woven.reshape(batch, height * down, width * across, channels)
        return woven[:, : self.size[0], : self.size[1]]

    def _phase(self, maps: Sequence[jax.Array], *phase: int) -> jax.Array:
        """The sum at positions (a + stride * u, b + stride * v) for all u and v."""
        extent = [-(-size // stride) for size, stride in zip(self.size, self.stride, strict=True)]
        total = jnp.zeros((maps[0].shape[0], *extent, maps[0].shape[-1]), maps[0].dtype)
        for tap, seen in zip(self.taps, maps, strict=True):
            pads = [(0, 0, 0)]
            for axis in (0, 1):
                # Window u' covers position stride * u' + tap - low.
                offset = phase[axis] + self.padding[axis][0] - tap[axis]
                if offset % self.stride[axis]:
                    break
                by = offset // self.stride[axis]
                pads.append((-by, extent[axis] - self.count[axis] + by, 0))
            else:
                total += lax.pad(seen, jnp.zeros((), seen.dtype), [*pads, (0, 0, 0)])
        return total


def shift(x: jax.Array, by: int, axis: int, fill: jax.typing.ArrayLike = 0.0) -> jax.Array:
    """Move a map along an axis, with `fill` where nothing moves in."""
    pads = [(0, 0, 0)] * x.ndim
    pads[axis] = (by, -by, 0)
    return lax.pad(x, jnp.asarray(fill, x.dtype), pads)
