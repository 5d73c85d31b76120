"""CIFAR ResNets on the hand-written digits that scikit-learn ships: seconds per run, no download.

    python -m senet_jax.main --config=configs/digits.py:seresnet20 --workdir=runs/digits

Argument: the network, one of configs/cifar.py; by default seresnet20. This recipe is ours. It
exists so that everything can be tried within minutes, not to compare with the paper.
"""

from ml_collections import ConfigDict

from configs import cifar, common


def get_config(arg: str = "seresnet20") -> ConfigDict:
    (network,) = common.split_argument(arg, network="seresnet20")
    config = common.get_config()
    common.set_network(config, cifar.model_name(network), stages=(2, 3, 4))
    config.data.name = "digits"
    config.data.pad = 1
    config.optim.learning_rate = 0.1
    config.optim.schedule = "cosine"
    config.optim.nesterov = True
    config.optim.weight_decay = 5e-4
    config.optim.warmup_epochs = 1.0
    config.train.epochs = 15.0
    config.train.batch_size = 64
    config.train.eval_every_epochs = 1.0
    return config
