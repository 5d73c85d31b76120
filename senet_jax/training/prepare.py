"""From a configuration to everything a run calls: check it, plan its steps, build them."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from senet_jax import data
from senet_jax.config import flatten
from senet_jax.data import resident
from senet_jax.data.augment import normalize
from senet_jax.errors import InputError, counted
from senet_jax.layers.network import Network
from senet_jax.runs import effect
from senet_jax.system.devices import (
    JIT,
    DeviceGroup,
    Devices,
    replicate,
)
from senet_jax.training import class_weights, freezing, optim, seen, together
from senet_jax.training.config import TrainConfig
from senet_jax.training.optim import OptimConfig
from senet_jax.training.optimizers import decay_mask
from senet_jax.training.plan import Plan, plan_steps
from senet_jax.training.recipe import Recipe, check, check_images
from senet_jax.training.schedules import make_schedule, warmup_of
from senet_jax.training.start import load_initial_weights
from senet_jax.training.state import TaughtState, TrainState, create_state, divided
from senet_jax.training.step import Inputs
from senet_jax.training.steps import Steps, build_steps, steps_of
from senet_jax.training.teacher import Teacher, load_teacher
from senet_jax.weights.loading import create_model


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to be trained: data, model, plan and steps.

    Attributes:
      seed: number from which all randomness comes.
      settings, optim: the `train` and the `optim` section of the configuration.
      devices: devices of all processes that share the batch.
      dataset: splits to train and to evaluate on.
      model: the network as it is evaluated.
      normalize: images of the dataset to what the model takes.
      class_weights: factor of each class in the training loss; () for none.
      schedule: learning rate by step, apart from plateaus.
      plan: when what happens, in steps.
      steps: functions that train and evaluate.
      initial_state: the state before the first step.
      pretrained: what a result says of the weights in it, unless it does not start from any, and of
        the teacher, if there is one. See `prepare`.
    """

    seed: int
    settings: TrainConfig
    optim: OptimConfig
    devices: Devices
    dataset: data.Dataset
    model: Network
    normalize: Callable[[jax.Array], jax.Array]
    class_weights: tuple[float, ...]
    schedule: optax.Schedule
    plan: Plan
    steps: Steps
    initial_state: TrainState
    pretrained: Mapping[str, Any]


def prepare(
    config: ConfigDict, devices: Devices, begun: bool = False, *, trains: bool = True
) -> Run:
    """Check the configuration, load the data, plan the run, and build everything the loop calls.

    Args:
      begun: whether the state is that of a checkpoint. The initial one, only a place for it, then
        is without the weights of model.pretrained, which need not be there any more.
      trains: whether steps are to be taken; if not, a teacher need not be there either.

    Raises: InputError for a configuration that cannot be run.
    """
    recipe = check(config, devices)
    devices = DeviceGroup.of(devices, recipe.parallel.backend)
    if not (begun or recipe.origin.source):  # with weights, resolve_config has looked already
        effect.check(flatten(config.to_dict()))
    share = data.Share(jax.process_index(), jax.process_count())
    dataset = data.load_dataset(**recipe.data, share=share)
    if dataset.num_classes < 2 and not begun:
        raise InputError(
            f"dataset {recipe.data['name']!r} has one class here, {dataset.class_names[0]!r}, so "
            "there is nothing to learn: choose others with data.label or data.classes"
        )
    recipe.augment.check(dataset.train.image_shape[-1])
    model = create_model(**recipe.network, num_classes=dataset.num_classes)
    check_images(dataset.train.image_shape, dataset.eval.image_shape, recipe, model)
    full = min(dataset.train.image_shape[:2])
    plan = plan_steps(recipe.train, len(dataset.train), recipe.growth, full)
    if not begun:
        check_course(recipe, plan)
        warn_of_generator()
    teacher = None
    if recipe.train.teacher and trains:
        teacher = load_teacher(recipe.train, dataset, recipe.growth.first_size, model.dtype)
    run = build_run(recipe, devices, dataset, model, plan, begun, teacher)
    together.check(dataset.identity, run.pretrained)
    return run


def check_course(recipe: Recipe, plan: Plan) -> None:
    """Warn of a learning rate without a schedule, which a run of a few steps has.

    Raises: InputError for what is to happen at a time that this run does not have.
    """
    train, evaluations = recipe.train, -(-plan.total_steps // plan.eval_every_steps)
    there_are = f"this run has {counted(evaluations, 'evaluation')}"
    between = max(0, evaluations - 2)  # the first and the last
    if train.patience > between:
        raise InputError(
            f"train.patience={train.patience} has no effect: {there_are}, and "
            "too few lie between the first and the last; leave it at 0, or evaluate more often"
        )
    if train.profile_steps[0] > plan.total_steps:
        raise InputError(
            f"train.profile_steps={tuple(train.profile_steps)} has no effect: this run has "
            f"{counted(plan.total_steps, 'step')}; choose some of these, or leave it at (0, 0)"
        )
    warn = logging.getLogger(__name__).warning
    if warmup_of(recipe.optim, plan.steps_per_epoch) >= plan.total_steps:
        key = "warmup_steps" if recipe.optim.warmup_steps else "warmup_epochs"
        warn(
            "optim.%s %g fill the whole run, train.epochs %g: the learning rate has no schedule "
            "beside its warm-up",
            key,
            getattr(recipe.optim, key),
            train.epochs,
        )
    elif recipe.optim.schedule == "plateau" and recipe.optim.patience > between:
        warn(
            "optim.schedule='plateau' has no effect with optim.patience=%d: %s, and too few lie "
            "between the first and the last",
            recipe.optim.patience,
            there_are,
        )


def warn_of_generator() -> None:
    """Warn of a random generator of JAX that draws for a batch, whatever the keys of its images."""
    generator = jax.config.values["jax_default_prng_impl"]
    if generator != "threefry2x32":
        logging.getLogger(__name__).warning(
            "jax_default_prng_impl=%s: augmentation and dropout depend on the number of devices, "
            "as they do not with threefry2x32",
            generator,
        )


def warn_of_idle(recipe: Recipe, reasons: Mapping[str, str]) -> None:
    """Warn of values that have no effect where few parameters are trained."""
    needs_sync = recipe.parallel.backend == JIT  # of several devices, whatever is frozen
    values = {
        "optim.layer_decay": (recipe.optim.layer_decay, 1.0),
        "optim.decay_norm_and_bias": (recipe.optim.decay_norm_and_bias, True),
        "train.freeze_bn_epochs": (recipe.train.freeze_bn_epochs, 0.0),
        "train.sync_batch_norm": (recipe.train.sync_batch_norm and not needs_sync, False),
    }
    for key, reason in reasons.items():
        value, default = values[key]
        if value != default:
            logging.getLogger(__name__).warning("%s=%s has no effect: %s", key, value, reason)


def build_run(
    recipe: Recipe,
    devices: Devices,
    dataset: data.Dataset,
    model: Network,
    plan: Plan,
    begun: bool,
    teacher: Teacher | None,
) -> Run:
    """State and steps of a run; see `prepare`."""
    train, shape = recipe.train, dataset.train.image_shape
    weights = None
    records: dict[str, Any] = {}
    if not begun:
        records |= seen.look(recipe.data, recipe.origin.pretrained, train.teacher)
    if recipe.origin.source and not begun:
        weights = load_initial_weights(recipe.origin, recipe.network["name"], model, dataset)
    tuning = freezing.tuning(model, shape, recipe.optim.freeze, recipe.optim.layer_decay)
    inputs = inputs_of(recipe, dataset)
    schedule = make_schedule(recipe.optim, plan.total_steps, plan.steps_per_epoch)
    optimizer = optim.make_optimizer(
        recipe.optim, schedule, tuning.trained, tuning.scales, on_nan=train.on_nan
    )
    state = create_state(
        model,
        optimizer,
        shape,
        recipe.seed,
        weights=weights and weights.variables,
        ema=train.has_averages,
        plateau=optim.initial_plateau() if recipe.optim.schedule == "plateau" else None,
    )
    for part in (weights, teacher):
        records |= part.records if part else {}
    if teacher:
        state = TaughtState.of(state, teacher.variables)
    if not begun:
        warn_of_idle(recipe, freezing.idle(tuning, decay_mask(state.params), state.batch_stats))
    state = replicate(state, devices)
    if recipe.parallel.shard_optimizer:
        state = jax.device_put(state, divided(state, devices))
    parts = (train, plan, devices, model, optimizer, tuning, inputs, state, teacher)
    build = functools.partial(build_steps, *parts)
    return Run(
        seed=recipe.seed,
        settings=train,
        optim=recipe.optim,
        devices=devices,
        dataset=resident.place(dataset, devices),
        model=model,
        normalize=inputs.normalize,
        schedule=schedule,
        plan=plan,
        class_weights=inputs.class_weights,
        steps=steps_of((recipe, dataset, plan, inputs), devices, build, kept=teacher is None),
        initial_state=state,
        pretrained=records,
    )


def inputs_of(recipe: Recipe, dataset: data.Dataset) -> Inputs:
    """What makes of a batch the images and targets of a step."""
    rule, split = recipe.train.class_weights, dataset.train
    counts = np.bincount(split.labels(), minlength=dataset.num_classes) if rule else np.zeros(0)
    return Inputs(
        recipe.augment,
        functools.partial(normalize, mean=dataset.mean, std=dataset.std),
        recipe.train.label_smoothing,
        recipe.mixing,
        class_weights.of_classes(rule, counts),
        tuple(round(value) for value in dataset.mean),
    )
