"""What is known of a convolution before it is computed."""

import dataclasses

from senet_jax.layers.cpu.windows import Windows


@dataclasses.dataclass(frozen=True)
class ConvSpec:
    """The static part of a convolution, by which its formulation is chosen.

    Attributes:
      size: height and width of the input.
      kernel: height and width of the kernel, both odd.
      stride: steps down and across.
      groups: number of groups.
      channels: numbers of channels of the input and of the output.
    """

    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    groups: int
    channels: tuple[int, int]

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        up, left = (side // 2 for side in self.kernel)
        return ((up, up), (left, left))

    @property
    def windows(self) -> Windows:
        return Windows(self.size, self.kernel, self.stride, self.padding)

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.channels == (self.groups, self.groups)

    @property
    def pointwise(self) -> bool:
        return self.kernel == (1, 1)

    @property
    def small(self) -> bool:
        """Whether the output is smaller than the kernel in both directions."""
        return max(self.windows.count) < min(self.kernel)
