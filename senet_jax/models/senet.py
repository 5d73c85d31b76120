"""SENet-154 (Hu et al., appendix): a ResNeXt-152 64x4d with SE blocks and a few changes.

The changes save computation or gain accuracy: the first 1x1 of a bottleneck has half the width of
its 3x3; the stem is three 3x3 convolutions; projections that stride are 3x3; dropout of 0.2 comes
before the classifier. The authors trained it with label smoothing, and with batch normalisation
frozen towards the end.
"""

from senet_jax.layers.slot import SEConfig
from senet_jax.models.resnet import Bottleneck, Models, with_and_without_se


class SENetBottleneck(Bottleneck):
    """Bottleneck with a first 1x1 of half the width and 3x3 projections where it strides."""

    narrowing = 2
    strided_shortcut = 3


# The paper does not name the network without its SE blocks; we call it "net154".
MODELS: Models = with_and_without_se(
    "net154",
    SEConfig(),
    stage_sizes=(3, 8, 36, 3),
    block=SENetBottleneck,
    stem="deep",
    cardinality=64,
    base_width=4,
    dropout=0.2,
)
