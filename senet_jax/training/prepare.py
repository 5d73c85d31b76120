"""From a configuration to everything a run calls: data, model, steps, ready and checked."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from senet_jax import data
from senet_jax.config import build, check_present
from senet_jax.data.augment import Augmentation, Mixing, normalize
from senet_jax.errors import InputError
from senet_jax.evaluation.steps import make_eval_step
from senet_jax.layers.network import Network
from senet_jax.system.devices import AXIS, Devices, check_divisible, pmap_step, replicate
from senet_jax.training import freezing, optim
from senet_jax.training.config import TrainConfig
from senet_jax.training.start import load_start, split_origin
from senet_jax.training.state import TrainState, create_state
from senet_jax.training.step import Inputs, make_train_step
from senet_jax.weights.loading import create_model

Step = Callable[..., tuple[TrainState, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a configuration stands for: data, model and steps, ready to be called."""

    seed: int
    settings: TrainConfig
    devices: Devices
    dataset: data.Dataset
    model: Network
    normalize: Callable[[jax.Array], jax.Array]  # images, as the model takes them
    optim: optim.OptimConfig
    schedule: optax.Schedule
    train_step: Step
    frozen_step: Step  # the same with batch norm frozen, for the steps after `freeze_after`
    eval_step: Callable[..., dict[str, jax.Array]]
    initial_state: TrainState
    pretrained_sha256: str  # of the weights in it; "" for none, see prepare
    steps_per_epoch: int
    total_steps: int
    eval_every_steps: int
    freeze_after: int

    def calls(self, start: int) -> Iterator[int]:
        """How many steps each call does, from after step `start` to the end of the run.

        As many as train.steps_per_call says, or one where so many would go past an evaluation, a
        line of metrics, a checkpoint or where batch norm is frozen. It is a function of the step
        alone, so that a run that continues makes the calls of one that was not interrupted.
        """
        settings, step = self.settings, start
        every = (self.eval_every_steps, settings.log_every_steps, settings.checkpoint_every_steps)
        while step < self.total_steps:
            ends = [(step // period + 1) * period for period in every if period]
            ends += [end for end in (self.freeze_after, self.total_steps) if end > step]
            count = settings.steps_per_call if step + settings.steps_per_call <= min(ends) else 1
            yield count
            step += count


def prepare(config: ConfigDict, devices: Devices, begun: bool = False) -> Run:
    """Check the configuration, load the data, and build everything the loop calls.

    Args:
      begun: the state is that of a checkpoint: the initial one, only a place for it, is without the
        weights of model.pretrained, which need not be there any more.
    """
    sections: dict[str, Any] = config.to_dict()
    check_present("", sections, ("seed", "model", "data", "optim", "train"))
    check_present("model", sections["model"], ("name",))
    check_present("data", sections["data"], ("name", "train_split", "eval_split"))
    settings = build(TrainConfig, "train", sections["train"])
    optim_config = build(optim.OptimConfig, "optim", sections["optim"])
    seed = sections["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed must be from 0 to 2^32 - 1 and whole, not {seed!r}")
    check_divisible(settings.batch_size, devices)
    data_fields = sections["data"]
    mixing = build(Mixing, "data", _taken_from(data_fields, Mixing))
    augment = build(Augmentation, "data", _taken_from(data_fields, Augmentation))
    check_parts(settings, len(devices), mixing)
    model_fields = sections["model"]
    start_from = split_origin(model_fields)
    model_fields |= {"axis_name": AXIS, "sync_batch_norm": settings.sync_batch_norm}
    create_model(**model_fields)  # refuses what it must before any data is read
    share = data.Share(jax.process_index(), jax.process_count())
    dataset = data.load_dataset(**data_fields, share=share)
    augment.check(dataset.train.image_shape[-1])
    model = create_model(**model_fields, num_classes=dataset.num_classes)
    check_images(dataset.train.image_shape, sections, model, augment)

    steps_per_epoch = len(dataset.train) // settings.batch_size
    if steps_per_epoch == 0:
        raise InputError(
            f"batch_size {settings.batch_size} exceeds the {len(dataset.train)} training examples"
        )
    total_steps = max(1, round(settings.epochs * steps_per_epoch))
    if total_steps >= 2**31:  # which the state counts
        raise InputError(f"train.epochs {settings.epochs:g} are too many steps: {total_steps:.3g}")
    shape = dataset.train.image_shape
    start = None
    if start_from.source and not begun:
        start = load_start(start_from, model_fields["name"], model, shape)
    tuning = freezing.tuning(model, shape, optim_config.freeze, optim_config.layer_decay)
    schedule = optim.make_schedule(optim_config, total_steps, steps_per_epoch)
    optimizer = optim.make_optimizer(
        optim_config, schedule, tuning.trained, tuning.scales, on_nan=settings.on_nan
    )
    scale = functools.partial(normalize, mean=dataset.mean, std=dataset.std)
    state = create_state(
        model,
        optimizer,
        shape,
        sections["seed"],
        weights=start and start.variables,
        ema=settings.ema_decay > 0,
        plateau=optim.start_plateau() if optim_config.schedule == "plateau" else None,
    )
    make_step = functools.partial(
        make_train_step,
        inputs=Inputs(augment, scale, settings.label_smoothing, mixing),
        axis_name=AXIS,
        trained=tuning.trained,
        accumulate_steps=settings.accumulate_steps,
        ema_decay=settings.ema_decay,
        on_nan=settings.on_nan,
    )
    train_step = make_step(model.clone(freeze_batch_norm=tuning.frozen_norms), optimizer)
    frozen_step = make_step(
        model.clone(freeze_batch_norm=True), optim.freeze_batch_norm(optimizer, state.batch_stats)
    )
    train_step, frozen_step = (
        pmap_step(step, devices, donate_state=True) for step in (train_step, frozen_step)
    )
    eval_step = make_eval_step(model, scale, AXIS)
    return Run(
        seed=sections["seed"],
        settings=settings,
        devices=devices,
        dataset=dataset,
        model=model,
        normalize=scale,
        optim=optim_config,
        schedule=schedule,
        train_step=train_step,
        frozen_step=frozen_step,
        eval_step=pmap_step(eval_step, devices, donate_state=False),
        initial_state=replicate(state, devices),
        pretrained_sha256=start.sha256 if start else "",
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        eval_every_steps=max(1, round(settings.eval_every_epochs * steps_per_epoch)),
        freeze_after=total_steps - round(settings.freeze_bn_epochs * steps_per_epoch),
    )


def _taken_from(values: dict[str, Any], owner: type[Any]) -> dict[str, Any]:
    """The values of `owner`'s fields, which `values` loses."""
    names = [field.name for field in dataclasses.fields(owner)]
    check_present("data", values, names)
    return {name: values.pop(name) for name in names}


def check_parts(settings: TrainConfig, devices: int, mixing: Mixing) -> None:
    """Raises: InputError if the batch cannot be cut into its parts."""
    local, parts = settings.batch_size // devices, settings.accumulate_steps
    if local % parts:
        raise InputError(
            f"train.accumulate_steps {parts} does not divide the {local} images of a device "
            f"(batch_size {settings.batch_size} on {devices})"
        )
    if mixing and local % 2:
        raise InputError(
            f"data.mixup and data.cutmix mix pairs of images, but each device has {local} "
            f"(batch_size {settings.batch_size} on {devices}); choose an even number"
        )


def check_images(
    shape: tuple[int, int, int], sections: Any, model: Network, augment: Augmentation
) -> None:
    """Raises: InputError for images [H, W, C] that the network or the augmentation cannot take."""
    height, width, _ = shape
    least, of = min(height, width), f"the images of {sections['data']['name']!r}: they have "
    of += f"{height} x {width} pixels"
    if least < model.least_image_size:
        raise InputError(
            f"model {sections['model']['name']} needs {model.least_image_size} pixels in height "
            f"and width, more than {of}; set data.image_size"
        )
    for field in ("pad", "cutout"):
        if getattr(augment, field) > least:
            raise InputError(f"data.{field} {getattr(augment, field)} is more than {of}")
