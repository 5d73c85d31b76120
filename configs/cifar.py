"""CIFAR networks with the recipes of the paper (section 5.1): "as in the original papers".

    python -m senet_jax.main --config=configs/cifar.py:seresnet20,cifar100 --workdir=runs/x

Argument: network,dataset,recipe; by default seresnet20,cifar10,paper. The dataset is any TFDS
dataset of small images (cifar10, cifar100, svhn_cropped, mnist, fashion_mnist, ...). Networks, each
also with "se" before its name, and the top-1 errors that Tables 4 and 5 of the paper print, plain /
SE:

    resnet20, resnet56, resnet110             not in the paper
    preresnet20, preresnet56                  not in the paper
    preresnet110           CIFAR-10 6.37 / 5.21, CIFAR-100 26.88 / 23.85, there called ResNet-110
    preresnet164           CIFAR-10 5.46 / 4.39, CIFAR-100 24.33 / 21.31, there called ResNet-164
    wrn16_8                CIFAR-10 4.27 / 3.88, CIFAR-100 20.43 / 19.14
    wrn16_4                not in the paper
    shakeshake26_2x96d     CIFAR-10 2.56 / 2.12
    shakeeven29_2x4x64d    CIFAR-100 15.85 / 15.41

The paper says neither its hardware for CIFAR nor its reduction ratio; ours is the usual 16.

The recipes are those of the networks' papers.

- resnet and preresnet, He et al. 2016, section 4.2: SGD with momentum 0.9, batch 128, weight decay
  1e-4, learning rate 0.1 divided by 10 at 32k and 48k of 64k steps. Networks of 110 layers and more
  start with 0.01 for the first 400 steps. 64k steps of 128 images are 164 epochs of CIFAR; 400
  steps are about one.
- wrn, Zagoruyko and Komodakis 2016: Nesterov momentum, weight decay 5e-4, learning rate divided by
  5 at epochs 60, 120 and 160 of 200.
- shakeshake and shakeeven, Gastaldi 2017: Nesterov momentum, cosine over 1800 epochs; cutout as in
  DeVries and Taylor 2017.

cifar10_half and cifar100_half are trained on half of the training images and evaluated, once at the
end, on all the others and the test images, 35,000 together. Errors there are not those that are
printed anywhere; differences between networks are measured with less noise. The recipe of all
networks is then HALF.

Recipe "modern" has what later papers found to help at this size, for any network: the cosine and
linear warm-up, weight decay on kernels alone, label smoothing (0.1), TrivialAugment (Mueller and
Hutter, arXiv 2103.10158: 200 epochs, batch 128, learning rate 0.1, weight decay 5e-4, Nesterov, for
its Wide-ResNets), random erasing (Zhong et al., arXiv 1708.04896, 0.5 there; 0.25 as in DeiT), and
cutmix with mixup (of 1 and 0.2, as "rsb_a1" in configs/imagenet.py). No paper has just these
together: they were chosen before the study "recipes" was run, and not tuned.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import common

HE: dict[str, Any] = {
    "optim.learning_rate": 0.1,
    "optim.boundaries": (0.5, 0.75),
    "optim.weight_decay": 1e-4,
    "train.epochs": 164.0,
    "train.batch_size": 128,
}
DEEP = {**HE, "optim.warmup": "constant", "optim.warmup_epochs": 1.0}
WIDE: dict[str, Any] = {
    "optim.learning_rate": 0.1,
    "optim.boundaries": (0.3, 0.6, 0.8),
    "optim.factor": 0.2,
    "optim.nesterov": True,
    "optim.weight_decay": 5e-4,
    "train.epochs": 200.0,
    "train.batch_size": 128,
}
SHAKE: dict[str, Any] = {
    "optim.schedule": "cosine",
    "optim.nesterov": True,
    "train.epochs": 1800.0,
}
RECIPES: dict[str, dict[str, Any]] = {
    "resnet110": DEEP,
    "preresnet110": DEEP,
    "preresnet164": {**DEEP, "model.stride_on": "1x1"},
    "wrn16_8": WIDE,
    "wrn16_4": WIDE,
    "shakeshake26_2x96d": {
        **SHAKE,
        "optim.learning_rate": 0.2,
        "optim.weight_decay": 1e-4,
        "train.batch_size": 128,
        "data.cutout": 16,
    },
    "shakeeven29_2x4x64d": {
        **SHAKE,
        "optim.learning_rate": 0.025,
        "optim.weight_decay": 5e-4,
        "train.batch_size": 32,
        "data.cutout": 8,
    },
}

# Chosen before the study on it was run; see docs/decisions/statistics.md.
HALF: dict[str, Any] = {
    "optim.learning_rate": 0.2,
    "optim.schedule": "cosine",
    "optim.weight_decay": 5e-4,
    "train.epochs": 16.0,
    "train.eval_every_epochs": 16.0,
    "train.batch_size": 128,
}

MODERN: dict[str, Any] = {
    "optim.learning_rate": 0.1,
    "optim.schedule": "cosine",
    "optim.boundaries": (0.5, 0.75),  # as by default, without effect; and so the next
    "optim.factor": 0.1,
    "optim.warmup": "linear",
    "optim.warmup_epochs": 5.0,
    "optim.nesterov": True,
    "optim.weight_decay": 5e-4,
    "optim.decay_norm_and_bias": False,
    "train.epochs": 200.0,
    "train.batch_size": 128,
    "train.label_smoothing": 0.1,
    "data.trivialaugment": True,
    "data.erasing": 0.25,
    "data.cutout": 0,
    "data.mixup": 0.2,
    "data.cutmix": 1.0,
}


def get_config(arg: str = "seresnet20,cifar10,paper") -> ConfigDict:
    network, dataset, which = common.split_argument(
        arg, network="seresnet20", dataset="cifar10", recipe="paper"
    )
    if which not in ("paper", "modern"):
        raise ValueError(f"the recipe is paper or modern, not {which!r}")
    config = common.get_config()
    common.set_network(config, model_name(network), stages=(2, 3, 4))
    config.data.name = dataset
    config.data.pad = 4
    config.data.flip = common.mirrors(dataset)
    config.optim.schedule = "step"
    recipe = RECIPES.get(network.removeprefix("se"), HE)
    if variant := common.VARIANTS.get(dataset):
        recipe = variant | HALF
    config.update_from_flattened_dict(recipe)
    if which == "modern":
        config.update_from_flattened_dict(MODERN)
    return config


def model_name(network: str) -> str:
    """Our name of a network for CIFAR; families that exist only for CIFAR lack the suffix."""
    return network if "shake" in network else f"{network}_cifar"
