"""Every key of a configuration, with its default and meaning. Other files start from this one."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A configuration complete but for the recipe; `data.name` and `train` are set by each file."""
    return ConfigDict(
        {
            "seed": 0,  # initial weights, order of examples and augmentation
            "model": {
                "name": "seresnet20_cifar",  # any of senet_jax.list_models()
                "dtype": "float32",  # of activations; "bfloat16" halves their memory
                "implementation": "auto",  # "xla": plain layers on a CPU, too; see layers/conv.py
                "stride_on": "3x3",  # "1x1": stride of a bottleneck as in the authors' networks
                "zero_init_last_bn": False,  # start each residual branch at zero
                "dropout": 0.0,  # before the classifier
                # Weights to start from: "timm", a hub id, a safetensors file or its folder, or a
                # work directory; "": none.
                "pretrained": "",
                "new_head": False,  # a new classifier even where the weights have one that fits
                "se": {  # one field per ablation; see senet_jax/layers/slot.py
                    "kind": "se",  # or a successor: eca, cbam, ...; see layers/attention.py
                    "ratio": 16,
                    "squeeze": "avg",  # avg, max, none
                    "excitation": "mlp",  # mlp, none
                    "gate": "sigmoid",  # sigmoid, relu, tanh, identity, hard_sigmoid
                    # pre, post, identity, after_3x3, parallel, before_convs, between_stages
                    "placement": "standard",
                    "stages": (2, 3, 4, 5),  # () is the plain network
                    "bias": False,  # biases in the two layers of the excitation
                    "groups": 1,  # of kind "conv", a convolution in place of the block
                    "rounding": "none",  # of the hidden width; "timm": to a multiple of 8, as there
                },
            },
            "data": {
                "name": "digits",  # any TFDS image-classification dataset, or "fake"
                "train_split": "train",  # TFDS split expressions, e.g. "train[:90%]"
                "eval_split": "test",
                "classes": (),  # first, and the one after the last; labels are then from 0; (): all
                # Pixels: streamed and cropped; 0: kept in memory, as stored; -1: as many as the
                # weights of model.pretrained are for, in memory if the dataset's have this size.
                "image_size": 0,
                "eval_crop": 224 / 256,  # streamed: share of the shorter side seen; 0: the weights'
                "crop_area": 0.08,  # streamed: the least part of a training image to crop
                "interpolation": "bilinear",  # streamed: or bicubic, of resizing; "": the weights'
                "shuffle_buffer": 8192,  # streamed: images among which the next is drawn
                "max_unreadable": 10,  # streamed: images a pass that may fail to decode
                "mean": (),  # of each channel, of images from 0 to 1; (): the weights' or dataset's
                "std": (),  # the same of the deviation, which normalised images are divided by
                "pad": 0,  # pixels around a training image before it is cropped back at random
                "flip": False,  # mirror training images at random
                "rotation": 0.0,  # degrees by which training images are turned, at most, either way
                "randaugment_layers": 0,  # random operations on each training image, one by one
                "randaugment_magnitude": 9.0,  # of all of them, from 0 to 30
                "color_jitter": 0,  # levels of 255 by which a training image's channels shift
                "cutout": 0,  # side of a square blanked in training images, in pixels
                "mixup": 0.0,  # neighbours in a batch are mixed, in shares from Beta(a, a); 0: not
                "cutmix": 0.0,  # the same by pasting rectangles
            },
            "optim": {  # see senet_jax/training/optim.py
                "learning_rate": 0.1,
                "schedule": "step",  # step, cosine, constant, plateau
                "boundaries": (0.5, 0.75),  # of "step", as fractions of the run
                "factor": 0.1,  # of "step" at each boundary, of "plateau" at each plateau
                "patience": 5,  # of "plateau": evaluations without a lower loss
                "reductions": 3,  # of "plateau": how many count
                "warmup_epochs": 0.0,
                "warmup": "linear",  # linear, or constant at a tenth of the learning rate
                "momentum": 0.9,
                "nesterov": False,
                "clip_norm": 0.0,  # the gradient's largest norm; 0: any
                "weight_decay": 1e-4,
                "decay_norm_and_bias": True,  # False spares batch-norm scales and biases
                "freeze": (),  # regular expressions of paths of parameters that stay as they are
                "layer_decay": 1.0,  # of the updates of each layer against those of the next
            },
            "train": {
                "epochs": 1.0,  # may be fractional
                "batch_size": 128,  # global, whatever the number of devices
                "label_smoothing": 0.0,
                "accumulate_steps": 1,  # parts of a device's batch that are computed in turn
                "ema_decay": 0.0,  # of moving averages of the weights, evaluated as well; 0: none
                "on_nan": "stop",  # or "skip": leave out, and count, updates that are not finite
                "freeze_bn_epochs": 0.0,  # at the end, with batch norm as in evaluation
                "sync_batch_norm": False,  # batch statistics over all devices, not each its own
                "eval_every_epochs": 1.0,
                "log_every_steps": 50,
                "steps_per_call": 1,  # steps compiled into one program, where dispatch takes long
                "profile_steps": (0, 0),  # first and last step to trace, from 1 on; (0, 0): none
                "checkpoint_every_minutes": 10.0,  # a run that is killed continues from there
                "checkpoint_every_steps": 0,  # as well; 0: by the clock alone
                "keep_checkpoints": 2,  # the latest; a damaged one has one before it
                "keep_best": False,  # also the one of the lowest evaluation top-1 error
            },
        }
    )


def split_argument(argument: str, **defaults: str) -> tuple[str, ...]:
    """Split what a configuration file is given after its colon, "PART,PART,...".

    Args:
      argument: the text; spaces around a part do not count.
      defaults: names of the parts in their order, each with its value where the part is left out or
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


# Networks whose blocks have neither a choice of stride nor a last batch norm on a branch.
NO_BOTTLENECK = ("vgg", "bninception", "inception_resnet", "mobilenet", "shufflenet")


def set_network(config: ConfigDict, network: str, stages: tuple[int, ...]) -> None:
    """Choose the network; keys that would have no effect on it go, so flags for them are errors."""
    config.model.name = network
    if network.startswith("se"):
        config.model.se.stages = stages
    else:
        del config.model["se"]
    if network.removeprefix("se").startswith(NO_BOTTLENECK):
        del config.model["stride_on"]
        del config.model["zero_init_last_bn"]
