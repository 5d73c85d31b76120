"""Every key of a configuration, with its default and meaning; other files start from this one."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A configuration complete but for the recipe; each file sets `data.name` and `train`."""
    # The function is long because it is the reference of all keys, to be read from the top.
    return ConfigDict(
        {
            "seed": 0,  # initial weights, order of examples and augmentation
            "model": {
                "name": "seresnet20_cifar",  # any of senet_jax.list_models()
                "dtype": "float32",  # the activations' type; "bfloat16" halves their memory
                # "xla": plain layers on a CPU, too; see senet_jax/layers/conv.py
                "implementation": "auto",
                "stride_on": "3x3",  # "1x1": stride of a bottleneck as in the authors' networks
                "zero_init_last_bn": False,  # start each residual branch at zero
                "dropout": 0.0,  # before the classifier
                # Leave out the last residual branch with this probability, others the less the
                # earlier they come.
                "drop_path": 0.0,
                # Weights to start from: "timm", a hub id, a safetensors file or its folder, or a
                # work directory; "": none.
                "pretrained": "",
                "weights": "final",  # of a work directory: final, ema (moving averages) or best
                "new_head": False,  # a new classifier even where the weights have one that fits
                "se": {  # one field per ablation; see senet_jax/layers/slot.py
                    "kind": "se",  # or a successor, e.g. eca; see senet_jax/layers/attention.py
                    "ratio": 16,
                    "squeeze": "avg",  # avg, max, none
                    "excitation": "mlp",  # mlp, none
                    "gate": "sigmoid",  # sigmoid, relu, tanh, identity, hard_sigmoid
                    # pre, post, identity, after_3x3, parallel, before_convs, between_stages
                    "placement": "standard",
                    "stages": (2, 3, 4, 5),  # () is the plain network
                    "bias": False,  # biases in the two layers of the excitation
                    "groups": 1,  # groups of kind "conv", a convolution in place of the block
                    "rounding": "none",  # "timm": hidden width rounded to a multiple of 8, as there
                },
            },
            "data": {
                # Any TFDS image-classification dataset, the folder of a prepared one (tfds:PATH),
                # folder:PATH with a folder of images per class, csv:PATH with columns of files and
                # labels (or .tsv, .parquet), hf:ORG/NAME[:CONFIG] or hf:PATH, or "fake".
                "name": "digits",
                # The feature or column with the images, and that to learn, e.g. "coarse_label";
                # "": the dataset's own choice.
                "image": "",
                "label": "",
                "train_split": "train",  # TFDS split expressions, e.g. "train[:90%]"
                "eval_split": "test",
                # Number of a fold of train_split to evaluate on, and how many there are: (1, 5); a
                # third number is the seed that draws them. (): eval_split.
                "fold": (),
                # The first class and the one after the last, whose labels are then from 0, or these
                # places as shares, such as (0.5, 1.0); (): all.
                "classes": (),
                # Side in pixels of images, which are streamed and cropped; 0: kept in memory, as
                # stored; -1: the size that the weights of model.pretrained are for, in memory if
                # the dataset's images have it.
                "image_size": 0,
                "eval_size": 0,  # streamed: side of images in evaluation; 0: as in training
                # Side of training images at first, shrunk on the device, which grows to that of the
                # data in equal parts of the run; 0: always that.
                "first_size": 0,
                "size_stages": 4,  # how many sizes there are then
                "repeats": 1,  # views of an example in a batch, each augmented by itself
                "eval_crop": 224 / 256,  # streamed: share of the shorter side seen; 0: the weights'
                "crop_area": 0.08,  # streamed: the least share of a training image to crop
                "interpolation": "bilinear",  # streamed: bilinear, bicubic; "": the weights'
                "shuffle_buffer": 8192,  # streamed TFDS: images among which the next is drawn
                "max_unreadable": 10,  # streamed, and of files: images that may fail to decode
                # Mean and standard deviation of each channel, of images from 0 to 1, which
                # normalise images; (): those of the weights or of the dataset.
                "mean": (),
                "std": (),
                "pad": 0,  # pixels around a training image before it is cropped back at random
                "flip": False,  # mirror training images at random
                "rotation": 0.0,  # most degrees by which training images are turned, either way
                "randaugment_layers": 0,  # random operations per training image
                "randaugment_magnitude": 9.0,  # strength of these operations, from 0 to 30
                # "torchvision"; timm's "timm_inc1", from 0 to 10, as "rand-m7-mstd0.5-inc1", or
                # "timm", without "inc1"
                "randaugment_kind": "torchvision",
                "randaugment_std": 0.0,  # timm's: standard deviation of the magnitude
                "autoaugment": "",  # the policy for imagenet, cifar10 or svhn
                "trivialaugment": False,  # one random operation of any strength per training image
                "color_jitter": 0,  # levels of 255 by which a training image's channels shift
                "cutout": 0,  # side in pixels of a square blanked in training images
                "erasing": 0.0,  # probability of erasing a rectangle of a training image
                "erasing_mode": "pixel",  # by noise; rand: by one colour; const: by the mean
                "mixup": 0.0,  # a: neighbours in a batch are mixed in shares from Beta(a, a); 0: no
                "cutmix": 0.0,  # the same by pasting rectangles
                "mix_probability": 1.0,  # of mixing a pair at all
                "cutmix_probability": 0.5,  # of a rectangle, where mixup is on as well
            },
            "optim": {  # see senet_jax/training/optim.py
                "name": "sgd",  # sgd, lamb, adamw, rmsprop_tf
                "learning_rate": 0.1,
                "schedule": "step",  # step, cosine, constant, plateau
                "boundaries": (0.5, 0.75),  # "step": places to multiply, as fractions of the run
                "factor": 0.1,  # "step" multiplies by it at a boundary, "plateau" at a plateau
                "patience": 5,  # "plateau": evaluations without a lower loss
                "reductions": 3,  # "plateau": the most times to multiply
                "warmup_epochs": 0.0,
                "warmup_steps": 0,  # the same in updates
                "warmup": "linear",  # linear, or constant at a tenth of the learning rate
                "momentum": 0.9,  # of sgd and rmsprop_tf
                "nesterov": False,
                "betas": (0.9, 0.999),  # lamb, adamw: decays of the means of gradient and square
                "alpha": 0.9,  # rmsprop_tf: decay of the mean square
                "eps": 0.0,  # keeps a root of a mean square above zero; 0: the optimizer's own
                "clip_norm": 0.0,  # the gradient's largest norm; 0: any
                "weight_decay": 1e-4,
                "decay_norm_and_bias": True,  # False spares batch-norm scales and biases
                "freeze": (),  # regular expressions; parameters whose paths match stay as they are
                "layer_decay": 1.0,  # ratio of each layer's updates to those of the next
            },
            # How a run is computed, not which: a run may continue with another.
            "parallel": {
                "backend": "pmap",  # "shard_map", or "jit": one program for the whole batch
                "shard_optimizer": False,  # with jit: each device keeps a part of the momentum
            },
            "train": {
                "epochs": 1.0,  # may be fractional
                "batch_size": 128,  # global, whatever the number of devices
                # softmax, or bce: the mean of all classes' binary losses. Evaluation has softmax.
                "loss": "softmax",
                "target_threshold": 0.0,  # bce: targets above it are 1, others 0; 0: as they are
                "label_smoothing": 0.0,
                # Factors of the classes in the loss: "inverse" frequency; "effective:0.999", by
                # effective numbers of examples; "1,1,2.5", given; "": none. Scaled to mean 1.
                "class_weights": "",
                # Distillation: a trained network to learn from beside the labels. A name of timm's,
                # a hub id, a safetensors file or its folder, or a work directory; "": none.
                "teacher": "",
                "teacher_weights": "final",  # of a work directory: final, ema or best
                "distill_weight": 0.5,  # the teacher's part of the loss; 1: no part for the labels
                "distill_temperature": 1.0,  # divides the logits of both, above 1 to soften them
                "accumulate_steps": 1,  # micro-batches per device and update, computed in turn
                "ema_decay": 0.0,  # decay of the weights' moving averages, also evaluated; 0: none
                # Its rise: tensorflow's (1 + t) / (10 + t), timm's 1 - t^(-2/3), or none
                "ema_warmup": "tensorflow",
                # Last epochs at whose ends the weights are averaged evenly, in place of ema_decay;
                # batch statistics are then taken anew.
                "swa_epochs": 0,
                "on_nan": "stop",  # or "skip": leave out, and count, updates that are not finite
                "freeze_bn_epochs": 0.0,  # last epochs, in which batch norm is as in evaluation
                "sync_batch_norm": False,  # batch statistics over all devices, not per device
                "eval_every_epochs": 1.0,
                # Evaluations without a lower top-1 error after which the run ends early; 0: never.
                "patience": 0,
                "log_every_steps": 50,
                # Steps compiled into one program, if starting one takes long; at most those between
                # two evaluations or checkpoints.
                "steps_per_call": 1,
                "profile_steps": (0, 0),  # first and last step to trace, from 1 on; (0, 0): none
                "checkpoint_every_minutes": 10.0,  # a run that is killed continues from there
                "checkpoint_every_steps": 0,  # in addition; 0: by the clock alone
                "keep_checkpoints": 2,  # the latest; if one is damaged, the one before it serves
                "keep_best": False,  # also the checkpoint of the lowest evaluation top-1 error
            },
        }
    )


def split_argument(argument: str, **defaults: str) -> tuple[str, ...]:
    """Split the argument of a configuration file, "PART,PART,..." after its colon.

    Args:
      argument: the text; spaces around a part do not count.
      defaults: the parts' names in their order, each with its value if the part is left out or
        empty.

    Raises: ValueError if there are more parts than names.
    """
    parts = [part.strip() for part in argument.split(",")]
    if len(parts) > len(defaults):
        raise ValueError(
            f"the argument is {','.join(defaults)}; it has no part for {parts[len(defaults)]!r}"
        )
    parts += [""] * (len(defaults) - len(parts))
    return tuple(part or default for part, default in zip(parts, defaults.values(), strict=True))


# TFDS datasets of digits, letters and signs, in which a mirror image is of a different class, or of
# none; with a config after the slash, that one alone.
HANDED = (
    "binary_alpha_digits",
    "cmaterdb",
    "digits",
    "emnist",
    "kmnist",
    "mnist",
    "mnist_corrupted",
    "omniglot",
    "svhn_cropped",
    "visual_domain_decathlon/gtsrb",
    "visual_domain_decathlon/omniglot",
    "visual_domain_decathlon/svhn",
)
# A name in TFDS spelling, as TFDS reads it: namespace:name/config:version/arguments.
TFDS_NAME = re.compile(
    r"(?!(?:folder|csv|hf|tfds):)(?:[\w-]+:)?([a-zA-Z]\w*)(?:/([\w+.-]+))?(?::[\d*.]+)?"
    r"(?:/\w+=.*)?"
)


def bare_name(dataset: str) -> str:
    """The name of a TFDS dataset alone, by which recipes, studies and printed figures go.

    That of "mnist:3.0.1", "huggingface:mnist", "Mnist" and the folder of a prepared MNIST is
    "mnist". What is no name in TFDS spelling stays as it is.
    """
    return _name_and_config(dataset)[0]


# Names for datasets of TFDS with other splits. With half of the images in training, 35,000 are left
# to measure the errors on, and a difference of two networks has two thirds of the noise that it has
# on 10,000: see docs/decisions/statistics.md.
VARIANTS: dict[str, dict[str, Any]] = {
    f"{name}_half": {
        "data.name": name,
        "data.train_split": "train[:50%]",
        "data.eval_split": "train[50%:]+test",
    }
    for name in ("cifar10", "cifar100")
}


def dataset_of(values: Mapping[str, Any]) -> str:
    """The dataset of a flat configuration: its name in VARIANTS, or data.name."""
    given = {**values, "data.name": bare_name(values["data.name"])}
    for name, variant in VARIANTS.items():
        if all(given.get(key) == value for key, value in variant.items()):
            return name
    return values["data.name"]


def mirrors(dataset: str) -> bool:
    """Whether left and right can be exchanged in a TFDS dataset without changing the class."""
    name, config = _name_and_config(dataset)
    return not {name, f"{name}/{config}"} & {*HANDED}


def _name_and_config(dataset: str) -> tuple[str, str]:
    try:  # the folder of a prepared dataset, in which TFDS has written whose it is
        folder = Path(dataset.strip().removeprefix("tfds:")).expanduser()
        info = json.loads((folder / "dataset_info.json").read_text("utf-8"))
        return str(info["name"]), str(info.get("configName", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        match = TFDS_NAME.fullmatch(dataset.strip())
    if not match:
        return dataset, ""
    # TFDS takes the names of classes as well, SvhnCropped or MNISTCorrupted, and reads them so.
    parted = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", match[1])
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", parted).lower(), match[2] or ""


# Networks whose blocks have neither a choice of stride nor a last batch norm on a branch.
NO_BOTTLENECK = ("vgg", "bninception", "inception_resnet", "mobilenet", "shufflenet")


def set_network(config: ConfigDict, network: str, stages: tuple[int, ...]) -> None:
    """Choose the network; delete keys without effect on it, so that flags for them are errors."""
    config.model.name = network
    if network.startswith("se"):
        config.model.se.stages = stages
    else:
        del config.model["se"]
    if network.removeprefix("se").startswith(NO_BOTTLENECK):
        del config.model["stride_on"]
        del config.model["zero_init_last_bn"]
