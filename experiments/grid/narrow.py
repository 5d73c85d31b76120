"""A narrow member of each family, small enough to compile and train in seconds.

Tests of families use them, and so does `--smoke` of studies that compare families.
"""

from typing import Any

NARROW: dict[str, dict[str, Any]] = {
    "seresnet20_cifar": {"stage_sizes": (1, 1, 1), "width": 8},
    "seresnet50": {"stage_sizes": (1, 1), "width": 8, "se": {"stages": (2, 3)}},
    "seresnext50_32x4d": {"stage_sizes": (1, 1), "width": 64, "se": {"stages": (2, 3)}},
    "senet154": {"stage_sizes": (1, 1), "cardinality": 8, "se": {"stages": (2, 3)}},
    "semobilenetv1": {"width_multiplier": 0.25},
    "seshufflenet_g3": {"stage_sizes": (2,), "width": 48, "se": {"stages": (3,)}},
    "sebninception": {
        "width_multiplier": 0.125,
        "modules": tuple(f"inception_{name}" for name in ("3a", "3c", "4a", "4e", "5b")),
    },
    "seinception_resnet_v2": {"width_multiplier": 0.125, "blocks": (1, 1, 2)},
    "sevgg16_bn": {
        "stage_sizes": (1, 1, 1),
        "width": 8,
        "fc_width": 64,
        "dropout": 0.1,
        "se": {"stages": (1, 3)},
    },
    "sepreresnet110_cifar": {"stage_sizes": (1, 2, 1), "width": 8},
    "sepreresnet164_cifar": {"stage_sizes": (1, 2, 1), "width": 8},
    "sewrn16_8_cifar": {"stage_sizes": (1, 1, 1), "width": 16, "stem_width": 8},
    "sewrn16_4_cifar": {"stage_sizes": (1, 1, 1), "width": 16, "stem_width": 8},
    "seshakeshake26_2x96d": {"stage_sizes": (1, 1, 1), "width": 8, "stem_width": 8},
    "seshakeeven29_2x4x64d": {"stage_sizes": (1, 1, 1), "width": 4, "stem_width": 8},
}


def size_of(name: str) -> int:
    """The image size in pixels at which a narrow member has maps of a few positions."""
    if "inception_resnet" in name:
        return 96
    return 32 if "cifar" in name or "shake" in name else 64


def least_size_of(name: str) -> int:
    """The least image size in pixels; Inception-ResNet, which lacks padding, needs 75."""
    return 75 if "inception_resnet" in name else 32
