"""ResNeXt and SE-ResNeXt (Xie et al., arXiv 1611.05431; Hu et al., Table 1).

A ResNet whose 3x3 convolutions have `cardinality` groups; the stride is on the 3x3.
"""

from senet_jax.layers.slot import SEConfig
from senet_jax.models.resnet import Bottleneck, Models, with_and_without_se


def _imagenet(depth: int, sizes: tuple[int, ...], cardinality: int, base_width: int) -> Models:
    return with_and_without_se(
        f"resnext{depth}_{cardinality}x{base_width}d",
        SEConfig(),
        stage_sizes=sizes,
        block=Bottleneck,
        cardinality=cardinality,
        base_width=base_width,
    )


MODELS: Models = {
    **_imagenet(50, (3, 4, 6, 3), 32, 4),
    **_imagenet(101, (3, 4, 23, 3), 32, 4),
    **_imagenet(101, (3, 4, 23, 3), 64, 4),
}
