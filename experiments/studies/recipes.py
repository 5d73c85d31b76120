"""SE under the recipe of 2016 and under a modern one.

SE was published when networks were trained with few augmentations. With timm's recipes for ImageNet
its gain on ResNet-50 is -0.37 (A1), 0.27 (A2) and -1.01 (A3) points at 224 pixels; so this study
asks, on CIFAR-100 and for one network, whether the gain survives a recipe of today.
"""

from typing import Any

from configs.cifar import MODERN
from experiments.grid.comparison import better
from experiments.grid.study import Row, Study

# What of the recipe acts where images are in memory and small; so do all of its keys.
RECIPES: dict[str, dict[str, Any]] = {
    "2016": {},
    "modern": {
        key: value
        for key, value in MODERN.items()
        if not key.startswith("train.") or key == "train.label_smoothing"
    },
}
NARROW: dict[str, Any] = {"stage_sizes": (1, 1, 1), "width": 8}


def _rows(recipe: str) -> tuple[Row, Row]:
    of_recipe = RECIPES[recipe]
    return (
        Row(f"plain,{recipe}", of_recipe, network="resnet20_cifar", narrow=NARROW),
        Row(f"SE,{recipe}", of_recipe, network="seresnet20_cifar", narrow=NARROW),
    )


STUDY = Study(
    order=23,
    title="Ours: SE under the recipe of 2016 and under a modern one",
    column="network and recipe",
    rows=(*_rows("2016"), *_rows("modern")),
    base={"digits": "digits:{network}", "*": "cifar:{network},{dataset}"},
    recipe={"train.epochs": {"digits": 15.0, "*": 200.0}},
    dataset="cifar100",
    paper_datasets={"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"},
    notes=(
        "The recipes are those of configs/cifar.py, of the networks' paper and `modern`, for "
        "equally many epochs.",
    ),
    primary=(better("SE,2016", "plain,2016"), better("SE,modern", "plain,modern")),
)
