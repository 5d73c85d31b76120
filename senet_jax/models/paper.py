"""Errors that the paper prints for its networks, in per cent, by our names (Hu et al., version 4).

IMAGENET has top-1 and top-5 errors on single crops; the authors trained plain and SE networks alike
(Tables 2, 3 and 8). CIFAR has top-1 errors by TFDS dataset (Tables 4 and 5).
"""

from collections.abc import Sequence

IMAGENET: dict[str, tuple[float, float]] = {
    "resnet50": (24.80, 7.48),
    "seresnet50": (23.29, 6.62),
    "resnet101": (23.17, 6.52),
    "seresnet101": (22.38, 6.07),
    "resnet152": (22.42, 6.34),
    "seresnet152": (21.57, 5.73),
    "resnext50_32x4d": (22.11, 5.90),
    "seresnext50_32x4d": (21.10, 5.49),
    "resnext101_32x4d": (21.18, 5.57),
    "seresnext101_32x4d": (20.70, 5.01),
    "vgg16_bn": (27.02, 8.81),
    "sevgg16_bn": (25.22, 7.70),
    "bninception": (25.38, 7.89),
    "sebninception": (24.23, 7.14),
    "inception_resnet_v2": (20.37, 5.21),
    "seinception_resnet_v2": (19.80, 4.79),
    "mobilenetv1": (28.4, 9.4),
    "semobilenetv1": (25.3, 7.7),
    "shufflenet_g3": (32.6, 12.5),
    "seshufflenet_g3": (31.0, 11.1),
    "senet154": (18.68, 4.47),
}

CIFAR: dict[str, dict[str, float]] = {
    "preresnet110_cifar": {"cifar10": 6.37, "cifar100": 26.88},
    "sepreresnet110_cifar": {"cifar10": 5.21, "cifar100": 23.85},
    "preresnet164_cifar": {"cifar10": 5.46, "cifar100": 24.33},
    "sepreresnet164_cifar": {"cifar10": 4.39, "cifar100": 21.31},
    "wrn16_8_cifar": {"cifar10": 4.27, "cifar100": 20.43},
    "sewrn16_8_cifar": {"cifar10": 3.88, "cifar100": 19.14},
    "shakeshake26_2x96d": {"cifar10": 2.56},
    "seshakeshake26_2x96d": {"cifar10": 2.12},
    "shakeeven29_2x4x64d": {"cifar100": 15.85},
    "seshakeeven29_2x4x64d": {"cifar100": 15.41},
}


def as_printed(errors: Sequence[float | None]) -> str:
    """Errors of one network in one line, with as many decimals as the paper gives them."""
    # One in Table 3 and for results of others, else two.
    decimals = max(len(f"{e}".partition(".")[2]) for e in errors if e is not None)
    return " / ".join("-" if e is None else f"{e:.{decimals}f}" for e in errors)


def errors_of(model: str) -> str:
    """Errors that the paper prints for a network, as text; a dash where it prints nothing."""
    if model in IMAGENET:
        return as_printed(IMAGENET[model])
    return ", ".join(f"{dataset} {error}" for dataset, error in CIFAR.get(model, {}).items()) or "-"
