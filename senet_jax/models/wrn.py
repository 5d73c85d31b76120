"""Wide ResNets for CIFAR (Zagoruyko and Komodakis 2016; Hu et al., Table 4).

Pre-activation networks of basic blocks, 8 or 4 times as wide after a stem of 16 channels. The paper
has the wider one.
"""

from senet_jax.models.preresnet import PreBasicBlock
from senet_jax.models.resnet import Models, cifar

MODELS: Models = {
    **cifar("wrn16_8_cifar", PreBasicBlock, 2, width=16 * 8, stem_width=16),
    **cifar("wrn16_4_cifar", PreBasicBlock, 2, width=16 * 4, stem_width=16),
}
