"""Fine-tuning on one half of a dataset's classes from a network trained on the other half.

    python -m experiments.run transfer
    python -m experiments.run transfer --dataset=cifar100

The classes are divided by their numbers. "pretraining" learns the first half; all other rows learn
the second, with the same images, crops and steps. They differ in the weights they start from and in
the layers they train. Each has a new classifier, drawn from the run's seed.
"""

from typing import Any

from experiments.grid.study import Row, Study

CLASSES = {
    **dict.fromkeys(("digits", "mnist", "kmnist", "fashion_mnist", "mnist_corrupted"), 10),
    **dict.fromkeys(("cifar10", "cifar10_corrupted", "svhn_cropped", "stl10", "cmaterdb"), 10),
    "cifar100": 100,
}
# Of datasets that are not here shares of the classes, whose number is known when they are read.
FIRST: dict[str, Any] = {
    "data.classes": {name: (0, n // 2) for name, n in CLASSES.items()} | {"*": (0.0, 0.5)}
}
SECOND: dict[str, Any] = {
    "data.classes": {name: (n // 2, n) for name, n in CLASSES.items()} | {"*": (0.5, 1.0)}
}


def _tuned(label: str, overrides: dict[str, Any]) -> Row:
    overrides = {**SECOND, "model.new_head": True, **overrides}
    return Row(label, overrides, starts_from="pretraining")


STUDY = Study(
    order=22,
    title="Ours: fine-tuning on the other half of the classes",
    column="start",
    rows=(
        Row("pretraining", FIRST),
        Row("scratch", SECOND),
        _tuned("linear-probe", {"optim.freeze": ("^(?!head/)",)}),
        _tuned("all-layers", {}),
        _tuned("layer-decay", {"optim.layer_decay": 0.8}),
    ),
    reference="scratch",
    base={"digits": "digits:seresnet20", "*": "cifar:seresnet20,{dataset}"},
    recipe={
        "optim.schedule": "cosine",
        "optim.nesterov": True,
        "optim.warmup_epochs": {"digits": 1.0, "*": 0.5},
        "optim.weight_decay": 5e-4,
        "train.epochs": {"digits": 15.0, "*": 2.0},
    },
    network="seresnet20_cifar",
    narrow={"stage_sizes": (1, 1, 1), "width": 8},
    paper_datasets={},
    notes=(
        "The first half of the classes is that of pretraining, whose error is of these; the other "
        "rows have the second half, and equally many steps of one recipe.",
        "linear-probe trains the classifier alone; layer-decay multiplies updates by 0.8 for each "
        "layer between a parameter's and the classifier.",
    ),
)
