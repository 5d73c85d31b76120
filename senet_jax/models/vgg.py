"""VGG-16 with batch normalisation and SE-VGG-16 (Simonyan and Zisserman 2015; Hu et al., Table 2).

The SE block follows the ReLU of each of the 13 convolutions (section 3.3); the fully connected
layers have none. As in torchvision, convolutions have biases beside batch normalisation and the
last map is averaged to 7x7, so that images of any size have the same parameters.
"""

import functools

import flax.linen as nn
import jax

from senet_jax.layers.network import Layers, Network
from senet_jax.layers.pool import average_to, max_pool
from senet_jax.layers.slot import NO_BRANCH, SEConfig, attend

STAGES = (1, 2, 3, 4, 5)


class ConvStage(nn.Module):
    """3x3 convolutions of one width, each with batch norm, ReLU and SE: [B, H, W, features]."""

    size: int
    features: int
    se: SEConfig | None
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for index in range(1, self.size + 1):
            x = self.layers.conv(self.features, 3, bias=True, name=f"conv{index}")(x)
            x = nn.relu(self.layers.norm(train, name=f"bn{index}")(x))
            if self.se is not None:
                x = attend(self.se, self.layers, x, train, activated=True, name=f"se{index}")
        return x


class VGG(Network):
    """VGG; see Network for the fields that all networks have.

    Parameters live under `stage1` ... `stage5` (conv1_x ... conv5_x in the paper's words), `fc1`,
    `fc2` and `head`. Stages are followed by 2x2 max-pooling.

    Attributes:
      se: which SE block and in which stages; its placement is the standard one.
      stage_sizes: number of convolutions per stage.
      width: width of the first stage; each later stage doubles it, up to eight times.
      fc_width: width of the two fully connected layers before the classifier.
      dropout: probability of zeroing a feature after each of these, in training.

    Raises:
      ValueError: for values outside these.
    """

    dropout: float = 0.5
    se: SEConfig = SEConfig(stages=STAGES)
    stage_sizes: tuple[int, ...] = (2, 2, 3, 3, 3)
    width: int = 64
    fc_width: int = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = range(1, 1 + len(self.stage_sizes))
        self.se.check("VGG, which has no residual branches", numbers, NO_BRANCH)

    @property
    def least_image_size(self) -> int:
        """Side below which halving would leave nothing, in pixels: once a stage, or for `features`
        between the stages alone."""
        return 2 ** (len(self.stage_sizes) - self.features)

    def maps(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        maps = {}
        for number, size in enumerate(self.stage_sizes, start=1):
            if number > 1:
                x = self._halve(x)
            features = self.width * 2 ** min(number - 1, 3)
            se = self.se if number in self.se.stages else None
            x = ConvStage(size, features, se, self.layers, name=f"stage{number}")(x, train)
            maps[f"stage{number}"] = x
        return maps

    def logits(self, x: jax.Array, train: bool) -> jax.Array:
        x = average_to(self._halve(x), (7, 7)).reshape(x.shape[0], 7 * 7 * x.shape[-1])
        for name in ("fc1", "fc2"):
            x = nn.relu(self.layers.dense(self.fc_width, name=name)(x))
            x = self.layers.dropout(self.dropout, name=f"dropout_{name}")(x, train)
        return self.layers.dense(self.num_classes, name="head")(x)

    def _halve(self, x: jax.Array) -> jax.Array:
        return max_pool(x, (2, 2), (2, 2), implementation=self.implementation)

    @property
    def strides(self) -> dict[str, int]:
        return {f"stage{1 + index}": 2**index for index in range(len(self.stage_sizes))}


MODELS: dict[str, functools.partial[VGG]] = {
    "vgg16_bn": functools.partial(VGG, se=SEConfig(stages=())),
    "sevgg16_bn": functools.partial(VGG, se=SEConfig(stages=STAGES)),
}
