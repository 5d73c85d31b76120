"""Keys of a configuration that do something only beside others, and what becomes of them elsewhere.

A value that somebody chose and that does nothing is refused by the name of its key. What a recipe
leaves behind where a command line chooses a different schedule, say, goes back to its default.
Configurations here are flat: dotted keys to values.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from senet_jax.data.sources import names
from senet_jax.errors import InputError, did_you_mean

Flat = Mapping[str, Any]

NEEDED = ("seed", "model", "data", "optim", "train")
SECTIONS = (*NEEDED, "parallel")  # which configurations of earlier versions lack
# Fields of a network that training or another section sets, or that are no values of a
# configuration, and what decides them.
DECIDED = {
    "num_classes": "the dataset has them, and data.classes chooses some",
    "sync_batch_norm": "that is train.sync_batch_norm",
    "freeze_batch_norm": "that is train.freeze_bn_epochs",
    "features": "a network is trained by its logits",
    **dict.fromkeys(("axis_name", "block", "parent"), "training decides it"),
}


class Dependence(NamedTuple):
    """When a key does something.

    Attributes:
      default: the key's value in configs/common.py, which asks for nothing.
      acts: whether the key has an effect in a configuration.
      where_not: the keys to blame where it has none, which the error shows with their values.
    """

    default: Any
    acts: Callable[[Flat], bool]
    where_not: tuple[str, ...]


def _needs(key: str, *values: Any) -> tuple[Callable[[Flat], bool], tuple[str, ...]]:
    """Act where `key` has one of the values or, without any, where it is neither 0 nor empty."""
    return (lambda flat: flat.get(key) in values if values else bool(flat.get(key))), (key,)


STREAMED = _needs("data.image_size")  # images in memory are never cropped, nor read again
FACTOR = ("optim.schedule", "optim.factor")
STEP, PLATEAU = (_needs("optim.schedule", name) for name in ("step", "plateau"))

# The fields of a block, with the defaults of SEConfig, which is not asked: it brings JAX.
OF_A_BLOCK = {
    "kind": "se",
    "ratio": 16,
    "squeeze": "avg",
    "excitation": "mlp",
    "gate": "sigmoid",
    "placement": "standard",
    "bias": False,
    "groups": 1,
    "rounding": "none",
}
SGD = ("sgd", None)  # None: configurations of versions that had nothing else


def _steps(flat: Flat) -> bool:
    return STEP[0](flat) and flat.get("optim.factor") != 1


def _waits(flat: Flat) -> bool:
    return PLATEAU[0](flat) and flat.get("optim.factor") != 1


def _multiplies(flat: Flat) -> bool:
    return PLATEAU[0](flat) or (STEP[0](flat) and bool(flat.get("optim.boundaries")))


def _warms_up(flat: Flat) -> bool:
    return bool(flat.get("optim.warmup_epochs") or flat.get("optim.warmup_steps"))


def _has_momentum(flat: Flat) -> bool:
    return flat.get("optim.name") in SGD and bool(flat.get("optim.momentum"))


def _has_moments(flat: Flat) -> bool:
    averages = flat.get("train.ema_decay") or flat.get("train.swa_epochs")
    return bool(averages) or flat.get("optim.name") not in SGD or _has_momentum(flat)


def _learns_labels(flat: Flat) -> bool:
    return not flat.get("train.teacher") or flat.get("train.distill_weight") != 1


def _has_spread(flat: Flat) -> bool:
    is_timms = flat.get("data.randaugment_kind") in ("timm", "timm_inc1")
    return is_timms and bool(flat.get("data.randaugment_layers"))


def _mixes(flat: Flat, which: Callable[[Collection[Any]], bool]) -> bool:
    return which([flat.get("data.mixup"), flat.get("data.cutmix")])


def _has_threshold(flat: Flat) -> bool:
    """Targets of images that are not mixed are 0 and 1, and smoothed ones come out so again."""
    return flat.get("train.loss") == "bce" and _learns_labels(flat) and _mixes(flat, any)


def _is_of_tfds(flat: Flat) -> bool:
    return names.parted(str(flat.get("data.name")))[0] in ("", "tfds")


def _is_buffered(flat: Flat) -> bool:
    """Of files every epoch is shuffled as a whole."""
    return STREAMED[0](flat) and _is_of_tfds(flat)


def _may_be_unreadable(flat: Flat) -> bool:
    """Of TFDS datasets in memory all images must be readable."""
    return STREAMED[0](flat) or not _is_of_tfds(flat)


def _starts_anew(flat: Flat) -> bool:
    return not flat.get("model.pretrained")


BLOCKS = _needs("model.se.stages")  # without any, the network is plain
LABELS = _learns_labels, ("train.teacher", "train.distill_weight")

KEYS = {
    **{f"model.se.{field}": Dependence(default, *BLOCKS) for field, default in OF_A_BLOCK.items()},
    "model.zero_init_last_bn": Dependence(False, _starts_anew, ("model.pretrained",)),
    "model.new_head": Dependence(False, *_needs("model.pretrained")),
    "data.eval_split": Dependence("test", lambda flat: not flat.get("data.fold"), ("data.fold",)),
    "data.size_stages": Dependence(4, *_needs("data.first_size")),
    "data.eval_size": Dependence(0, *STREAMED),
    "data.eval_crop": Dependence(224 / 256, *STREAMED),
    "data.crop_area": Dependence(0.08, *STREAMED),
    "data.interpolation": Dependence("bilinear", *STREAMED),
    "data.shuffle_buffer": Dependence(8192, _is_buffered, ("data.image_size", "data.name")),
    "data.max_unreadable": Dependence(10, _may_be_unreadable, ("data.image_size", "data.name")),
    "data.randaugment_magnitude": Dependence(9.0, *_needs("data.randaugment_layers")),
    "data.randaugment_kind": Dependence("torchvision", *_needs("data.randaugment_layers")),
    "data.randaugment_std": Dependence(
        0.0, _has_spread, ("data.randaugment_layers", "data.randaugment_kind")
    ),
    "data.erasing_mode": Dependence("pixel", *_needs("data.erasing")),
    "data.mix_probability": Dependence(
        1.0, lambda flat: _mixes(flat, any), ("data.mixup", "data.cutmix")
    ),
    "data.cutmix_probability": Dependence(
        0.5, lambda flat: _mixes(flat, all), ("data.mixup", "data.cutmix")
    ),
    "train.loss": Dependence("softmax", *LABELS),
    "train.target_threshold": Dependence(
        0.0, _has_threshold, ("train.loss", "data.mixup", "data.cutmix")
    ),
    "train.label_smoothing": Dependence(0.0, *LABELS),
    "train.class_weights": Dependence("", *LABELS),
    "train.ema_warmup": Dependence("tensorflow", *_needs("train.ema_decay")),
    "train.teacher_weights": Dependence("final", *_needs("train.teacher")),
    "train.distill_weight": Dependence(0.5, *_needs("train.teacher")),
    "train.distill_temperature": Dependence(1.0, *_needs("train.teacher")),
    "optim.boundaries": Dependence((0.5, 0.75), _steps, FACTOR),
    "optim.factor": Dependence(0.1, _multiplies, ("optim.schedule", "optim.boundaries")),
    "optim.patience": Dependence(5, _waits, FACTOR),
    "optim.reductions": Dependence(3, _waits, FACTOR),
    "optim.warmup": Dependence("linear", _warms_up, ("optim.warmup_epochs", "optim.warmup_steps")),
    "optim.momentum": Dependence(0.9, *_needs("optim.name", "rmsprop_tf", *SGD)),
    "optim.nesterov": Dependence(False, _has_momentum, ("optim.name", "optim.momentum")),
    "optim.betas": Dependence((0.9, 0.999), *_needs("optim.name", "adamw", "lamb")),
    "optim.alpha": Dependence(0.9, *_needs("optim.name", "rmsprop_tf")),
    "optim.eps": Dependence(0.0, *_needs("optim.name", "adamw", "lamb", "rmsprop_tf")),
    "parallel.shard_optimizer": Dependence(
        False, _has_moments, ("optim.momentum", "train.ema_decay", "train.swa_epochs")
    ),
    "optim.decay_norm_and_bias": Dependence(True, *_needs("optim.weight_decay")),
}


def check_known(flat: Flat) -> None:
    """Check that keys are of the sections that there are, and of no field decided elsewhere.

    Raises: InputError for the first that is not, which would have no effect.
    """
    for key in flat:
        section, _, field = key.partition(".")
        if section not in SECTIONS:
            raise InputError(
                f"{key} has no effect: a configuration has no {section!r}, but "
                f"{', '.join(SECTIONS)}{did_you_mean(section, SECTIONS)}"
            )
        if section == "model" and field in DECIDED:
            raise InputError(f"{key} has no effect: {DECIDED[field]}; leave it out")


def without(flat: Flat) -> list[str]:
    """The keys that have no effect in a configuration, whatever their values."""
    return [key for key, dependence in KEYS.items() if key in flat and not dependence.acts(flat)]


def check(flat: Flat, apart_from: Collection[str] = ()) -> None:
    """Check that no key has a value of its own where it has no effect.

    Args:
      apart_from: keys that may.

    Raises: InputError for the first that has.
    """
    for key in without(flat):
        default, _, where_not = KEYS[key]
        if key not in apart_from and not _same(flat[key], default):
            blame = " and ".join(f"{name}={flat.get(name)!r}" for name in where_not)
            raise InputError(
                f"{key}={flat[key]!r} has no effect with {blame}; leave it at {default!r}"
            )


def resets(flat: Flat, given: Collection[str]) -> dict[str, Any]:
    """The defaults of the keys to which a recipe gives values without an effect.

    Args:
      given: the keys that a command line or a study sets, which must have one.

    Raises: InputError for the first of `given` that has none.
    """
    left = [key for key in without(flat) if key not in given]
    check(flat, left)
    return {key: KEYS[key].default for key in left if not _same(flat[key], KEYS[key].default)}


def _same(value: Any, default: Any) -> bool:
    """Whether a value is the default; config.json has lists for tuples."""
    return (tuple(value) if isinstance(value, list) else value) == default
