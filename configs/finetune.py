"""Fine-tuning: any TFDS dataset of images, from published weights or those of a run.

    python -m senet_jax.main --config=configs/finetune.py:food101 --workdir=runs/food
    python -m senet_jax.main --config=configs/finetune.py:cars196,resnet50.a1_in1k,probe \\
        --workdir=runs/cars
    python -m senet_jax.main --config=configs/finetune.py:cifar10,seresnet20_cifar \\
        --config.model.pretrained=runs/x --workdir=runs/y

Argument: dataset,network,recipe; by default food101,seresnet50.ra2_in1k,all. The network is one of
timm's with the tag of its weights, or that of the run in the work directory model.pretrained. The
weights decide all its fields, the size of the images and the statistics that normalise them. The
classifier is a new one for the classes of the dataset, unless the weights have as many.

The recipes are ours. "all" trains everything, lower layers with smaller updates (layer-wise decay
as in BEiT, Bao et al. 2021). "probe", linear probing, trains the classifier alone, on features that
stay as they are.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import common, imagenet

ALL: dict[str, Any] = {
    "optim.learning_rate": 0.01,
    "optim.layer_decay": 0.8,
    "optim.weight_decay": 1e-4,
    "train.label_smoothing": 0.1,
}
PROBE: dict[str, Any] = {
    "optim.learning_rate": 0.1,
    "optim.freeze": ("^(?!head/)",),
    "optim.weight_decay": 0.0,
}
RECIPES = {"all": ALL, "probe": PROBE}


def get_config(arg: str = "food101,seresnet50.ra2_in1k,all") -> ConfigDict:
    dataset, network, recipe = common.split_argument(
        arg, dataset="food101", network="seresnet50.ra2_in1k", recipe="all"
    )
    if recipe not in RECIPES:
        raise ValueError(f"the recipe is {' or '.join(RECIPES)}, not {recipe!r}")
    config = common.get_config()
    config.model.name = network
    for field in ("se", "stride_on", "zero_init_last_bn"):  # the weights decide them
        del config.model[field]
    config.model.pretrained = "timm"
    config.data.name = dataset
    if common.bare_name(dataset) in imagenet.VALIDATED:
        config.data.eval_split = "validation"
    config.data.update(image_size=-1, eval_crop=0.0, interpolation="")
    config.data.flip = common.mirrors(dataset)
    config.optim.update(schedule="cosine", nesterov=True, warmup_epochs=1.0)
    config.train.update(epochs=20.0, batch_size=64)
    config.update_from_flattened_dict(RECIPES[recipe])
    return config
