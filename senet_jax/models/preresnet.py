"""Pre-activation ResNets for CIFAR, with and without SE (He et al. 2016b; Hu et al., Table 4).

Batch norm and ReLU come before each convolution, and once more before the classifier. Projections
start from the activation and have no batch norm. The SE block follows the last convolution of the
branch, with nothing between it and the addition (section 3.3). As in the authors' code, bottlenecks
stride on the first 1x1.
"""

import flax.linen as nn
import jax

from senet_jax.models.resnet import Models, ResidualBlock, cifar


class PreActivation(ResidualBlock):
    """A pre-activation unit: x + branch(relu(bn(x)))."""

    ending = ("bn", "relu")

    def enter(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.relu(self.norm(1, train)(x))

    def project(self, x: jax.Array, entry: jax.Array, channels: int, train: bool) -> jax.Array:
        return self.layers.conv(channels, 1, self.stride, name="shortcut")(entry)


class PreBasicBlock(PreActivation):
    """Two 3x3 convolutions. "after_3x3" means after the first and its activation."""

    def branch(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.conv(x, train, 1, self.features, 3, self.stride)
        x = self.se_at("after_3x3", nn.relu(self.norm(2, train)(x)), train)
        return self.conv(x, train, 2, self.features, 3)


class PreBottleneck(PreActivation):
    """1x1 reduction, 3x3, 1x1 expansion to four times `features`; `stride_on` as in Bottleneck."""

    stride_on: str = "3x3"

    expansion = 4

    def branch(self, x: jax.Array, train: bool) -> jax.Array:
        first, second = (1, self.stride) if self.stride_on == "3x3" else (self.stride, 1)
        x = self.conv(x, train, 1, self.features, 1, first)
        x = self.conv(nn.relu(self.norm(2, train)(x)), train, 2, self.features, 3, second)
        x = self.se_at("after_3x3", nn.relu(self.norm(3, train)(x)), train)
        return self.conv(x, train, 3, self.features * self.expansion, 1)


MODELS: Models = {
    **cifar("preresnet20_cifar", PreBasicBlock, 3),
    **cifar("preresnet56_cifar", PreBasicBlock, 9),
    **cifar("preresnet110_cifar", PreBasicBlock, 18),
    **cifar("preresnet164_cifar", PreBottleneck, 18, stride_on="1x1"),
}
