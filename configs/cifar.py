"""CIFAR ResNets with the recipe of the paper (section 5.1): "as in the original papers".

    python -m senet_jax.main --config=configs/cifar.py:seresnet20,cifar100 --workdir=runs/x

Argument: network,dataset; by default seresnet20,cifar10. Networks are resnet20, 56 and 110, each
also as seresnet...; the dataset is any TFDS dataset of small images (cifar10, cifar100,
svhn_cropped, mnist, fashion_mnist, ...).

He et al. 2016, section 4.2: SGD with momentum 0.9, batch 128, weight decay 1e-4, learning rate 0.1
divided by 10 at 32k and 48k of 64k steps; ResNet-110 starts with 0.01 for the first 400 steps.
64k steps of 128 images are 164 epochs of CIFAR; 400 steps are about one.
"""

from ml_collections import ConfigDict

from configs import common

# Where left and right can be exchanged without changing the class.
MIRRORED = ("cifar10", "cifar100", "fashion_mnist")


def get_config(arg: str = "seresnet20,cifar10") -> ConfigDict:
    network, _, dataset = arg.partition(",")
    dataset = dataset or "cifar10"
    config = common.get_config()
    common.set_network(config, f"{network}_cifar", stages=(2, 3, 4))
    config.data.name = dataset
    config.data.pad = 4
    config.data.flip = dataset.partition(":")[0] in MIRRORED  # a version may follow
    config.optim.learning_rate = 0.1
    config.optim.schedule = "step"
    config.optim.boundaries = (0.5, 0.75)
    config.optim.weight_decay = 1e-4
    if network.endswith("110"):
        config.optim.warmup = "constant"
        config.optim.warmup_epochs = 1.0
    config.train.epochs = 164.0
    config.train.batch_size = 128
    return config
