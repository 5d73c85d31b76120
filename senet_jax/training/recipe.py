"""A configuration, checked: its sections as objects that fit together."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from senet_jax.config import build, check_kinds, check_present, flatten
from senet_jax.data.augment import Augmentation, Mixing
from senet_jax.data.fields import ON_SOURCES, read_fields
from senet_jax.errors import InputError, counted
from senet_jax.layers.network import Network
from senet_jax.models.shapes import takes, variable_shapes
from senet_jax.runs import effect
from senet_jax.runs.added import ADDED
from senet_jax.system.devices import JIT, DeviceGroup, Devices, axis_of
from senet_jax.training.config import ParallelConfig, TrainConfig
from senet_jax.training.optim import OptimConfig
from senet_jax.training.plan import Growth
from senet_jax.training.start import Origin, split_origin
from senet_jax.training.step import shape_at
from senet_jax.weights.loading import create_model


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A configuration whose sections fit together; no data have been read for that.

    Attributes:
      seed: number from which all randomness of the run comes.
      train, optim, parallel: the sections of these names.
      augment, mixing, growth: fields of `data` on changes of single images, on mixing them, and on
        their size.
      origin: fields of `model` on the weights to start from.
      network: the other fields of `model`, as `create_model` takes them.
      data: the other fields of `data`, as `load_dataset` takes them.
    """

    seed: int
    train: TrainConfig
    optim: OptimConfig
    parallel: ParallelConfig
    augment: Augmentation
    mixing: Mixing
    growth: Growth
    origin: Origin
    network: dict[str, Any]
    data: dict[str, Any]


def check(config: ConfigDict, devices: Devices) -> Recipe:
    """Check a configuration, each section alone, all together, and for the devices.

    Raises: InputError, naming the key, for the first that is missing, unknown or impossible.
    """
    recipe = check_sections(config)
    train, parallel = recipe.train, recipe.parallel
    check_divisible(train.batch_size, devices)
    check_parts(train, len(devices), recipe.mixing, recipe.data.get("repeats", 1))
    devices = DeviceGroup.of(devices, parallel.backend)
    check_parallel(parallel, train, devices)
    across = {"axis_name": axis_of(devices), "sync_batch_norm": train.sync_batch_norm}
    recipe = dataclasses.replace(recipe, network=recipe.network | across)
    check_network(recipe.network)
    return recipe


def check_sections(config: ConfigDict) -> Recipe:
    """Check what a configuration says on whatever devices, data and weights.

    The network and the images of one that starts from weights are left to the run: the weights
    decide some of their fields.

    Raises: InputError, naming the key, for the first that is missing, unknown or impossible.
    """
    sections: dict[str, Any] = config.to_dict()
    check_kinds(sections)
    effect.check_known(flatten(sections))
    check_present("", sections, effect.NEEDED)
    check_present("model", sections["model"], ("name",))
    check_present("data", sections["data"], ("name", "train_split", "eval_split"))
    train = build(TrainConfig, "train", sections["train"])
    optim_config = build(OptimConfig, "optim", sections["optim"])
    seed = sections["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed must be from 0 to 2^32 - 1 and whole, not {seed!r}")
    mixing, data_fields = _split_off(Mixing, sections["data"])
    augment, data_fields = _split_off(Augmentation, data_fields)
    growth, data_fields = _split_off(Growth, data_fields)
    origin, network = split_origin(sections["model"])
    parallel = build(ParallelConfig, "parallel", sections.get("parallel", {}))
    if not origin.source:
        check_network(network)
        read_fields(**{k: v for k, v in data_fields.items() if k not in ON_SOURCES})
    return Recipe(
        seed, train, optim_config, parallel, augment, mixing, growth, origin, network, data_fields
    )


def check_network(network: Mapping[str, Any]) -> None:
    """Raises: InputError for a network that cannot be, before any data are read."""
    create_model(**network)
    check_name(network)


def _split_off(owner: type[Any], section: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """An object of the keys of the `data` section that are its fields, and the other keys.

    Configurations of versions that had not all of these are as the defaults of the fields.
    """
    names = [field.name for field in dataclasses.fields(owner)]
    names = [name for name in names if name in section or f"data.{name}" not in ADDED]
    check_present("data", section, names)
    fields = {name: section[name] for name in names}
    return build(owner, "data", fields), {k: v for k, v in section.items() if k not in fields}


def check_divisible(batch_size: int, devices: Devices) -> None:
    """Raises: InputError if a batch cannot be shared evenly between devices and processes."""
    counts = collections.Counter(device.process_index for device in devices)
    if len(set(counts.values())) > 1:
        raise InputError(f"processes must have equally many devices, not {list(counts.values())}")
    if batch_size % len(devices):
        below = max(batch_size // len(devices), 1) * len(devices)
        raise InputError(
            f"batch_size {batch_size} cannot be divided by {len(devices)} devices; "
            f"{below} or {below + len(devices)} can"
        )


def check_parts(train: TrainConfig, devices: int, mixing: Mixing, repeats: int) -> None:
    """Raises: InputError if the batch cannot be cut into its parts."""
    if isinstance(repeats, int) and 2 * repeats > train.batch_size and repeats > 1:
        raise InputError(
            f"data.repeats {repeats} leaves fewer than two examples in a batch of "
            f"{train.batch_size}; choose fewer"
        )
    local, parts = train.batch_size // devices, train.accumulate_steps
    if local % parts:
        raise InputError(
            f"train.accumulate_steps {parts} does not divide the "
            f"{counted(local, 'image')} of a device "
            f"(batch_size {train.batch_size} on {devices})"
        )
    if mixing and local % 2:
        raise InputError(
            f"data.mixup and data.cutmix mix pairs of images, but each device has {local} "
            f"(batch_size {train.batch_size} on {devices}); choose an even number"
        )


def check_parallel(parallel: ParallelConfig, train: TrainConfig, devices: Devices) -> None:
    """Raises: InputError for batch statistics of each device where there is but one program."""
    if parallel.backend == JIT and len(devices) > 1 and not train.sync_batch_norm:
        raise InputError(
            f"parallel.backend='jit' has one program for all {len(devices)} devices, where batch "
            "norm sees the whole batch: set train.sync_batch_norm=True, or choose pmap or shard_map"
        )


def check_name(network: Mapping[str, Any]) -> None:
    """Raises: InputError for SE blocks in a network whose name says that it has none."""
    name, se = network["name"], network.get("se") or {}
    if se.get("stages") and not getattr(create_model(name), "se").stages:  # noqa: B009
        raise InputError(
            f"model.name {name!r} is a network without SE blocks, and model.se.stages "
            f"{se['stages']} puts some in it: choose the network after the colon of --config, or "
            "set model.se.stages=()"
        )


def check_images(
    shape: tuple[int, int, int],
    evaluation: tuple[int, int, int],
    recipe: Recipe,
    model: Network,
) -> None:
    """Raises: InputError for images [H, W, C] that the network or the augmentation cannot take.

    Args:
      evaluation: shape of those in evaluation, which may be of a different size.
    """
    name, least = recipe.data["name"], model.least_image_size
    first = shape_at(recipe.growth.first_size, shape)
    sizes = {"image_size": shape, "eval_size": evaluation, "first_size": first}
    for key, (height, width, _) in sizes.items():
        if min(height, width) < least:
            raise InputError(
                f"model {recipe.network['name']} needs {least} pixels in height and width, more "
                f"than the images of {name!r}: they have {height} x {width} pixels; set data.{key}"
            )
    for field, key in (("pad", "image_size"), ("cutout", "first_size")):  # cutout after shrinking
        height, width, _ = sizes[key]
        if (pixels := getattr(recipe.augment, field)) > min(height, width):
            raise InputError(
                f"data.{field} {pixels} is more than the images of {name!r}: they have {height} x "
                f"{width} pixels; see data.{key}"
            )
    for key in ("eval_size", "first_size"):
        if sizes[key] == shape:  # as it nearly always is: tracing takes a moment
            continue
        if not takes(model, variable_shapes(model, shape), sizes[key]):
            raise InputError(
                f"model {recipe.network['name']} is tied to the {shape[0]} x {shape[1]} pixels "
                f"that it is trained on, so that data.{key} must be 0"
            )
