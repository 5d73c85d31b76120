"""The functions that a run calls, mapped over its devices, and kept for its other seeds."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from senet_jax import data
from senet_jax.evaluation.steps import make_eval_step
from senet_jax.layers.network import Network
from senet_jax.system.devices import JIT, Devices, axis_of, backend_of, map_step
from senet_jax.training import averages, freezing, optim
from senet_jax.training.config import TrainConfig
from senet_jax.training.losses import distilled, loss_of
from senet_jax.training.plan import Plan
from senet_jax.training.recipe import Recipe
from senet_jax.training.state import TrainState
from senet_jax.training.step import Inputs, make_train_step
from senet_jax.training.teacher import Teacher

Step = Callable[..., tuple[TrainState, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Steps:
    """The functions that a run calls, mapped over its devices.

    Attributes:
      train: (state, batch) to the next state and sums.
      smaller: the same with images of each size of the plan's stages.
      frozen: the same with batch norm frozen.
      eval: (variables, masked batch) to sums.
      statistics: (state, batch) to batch statistics of its averages; None where their own are kept.
    """

    train: Step
    frozen: Step
    eval: Callable[..., dict[str, jax.Array]]
    statistics: Callable[..., Any] | None = None
    smaller: Mapping[int, Step] = dataclasses.field(default_factory=dict)

    def after(self, plan: Plan, step: int) -> Step:
        """The function for what follows after a step."""
        if step >= plan.freeze_after:
            return self.frozen
        return self.smaller.get(plan.size_after(step), self.train)


KEPT = 8  # configurations whose steps stay traced and compiled: rows of a study
_steps: collections.OrderedDict[str, Steps] = collections.OrderedDict()


def steps_of(
    given: tuple[Recipe, data.Dataset, Plan, Inputs],
    devices: Devices,
    make: Callable[[], Steps],
    *,
    kept: bool,
) -> Steps:
    """The steps that `make` builds, or those that another seed of the configuration built before.

    A process that trains the seeds of a study then traces and compiles the steps of a row once.

    Args:
      given: all that steps depend on.
      kept: whether they depend on nothing besides.
    """
    recipe, dataset, plan, inputs = given
    key = repr(
        (
            dataclasses.replace(recipe, seed=0),
            plan,
            (backend_of(devices), *devices),
            (dataset.train.image_shape, dataset.num_classes, dataset.mean, dataset.std),
            inputs.class_weights,
        )
    )
    steps = (_steps.pop(key, None) if kept else None) or make()
    if kept:
        _steps[key] = steps
    while len(_steps) > KEPT:
        _steps.popitem(last=False)
    return steps


def build_steps(
    train: TrainConfig,
    plan: Plan,
    devices: Devices,
    model: Network,
    optimizer: optax.GradientTransformationExtraArgs,
    tuning: freezing.Tuning,
    inputs: Inputs,
    state: TrainState,
    teacher: Teacher | None,
) -> Steps:
    """The steps, mapped over the devices; nothing is compiled before their first call.

    Args:
      state: the state before the first one, as it lies on the devices.
    """
    loss = loss_of(train.loss, train.target_threshold)
    if teacher:
        loss = distilled(loss, train.distill_weight, train.distill_temperature)
    make_step = functools.partial(
        make_train_step,
        axis_name=axis_of(devices),
        loss=loss,
        teacher=teacher,
        trained=tuning.trained,
        accumulate_steps=train.accumulate_steps,
        average=average_of(train, plan),
        on_nan=train.on_nan,
    )
    training = model.clone(freeze_batch_norm=tuning.frozen_norms)
    train_step = make_step(training, optimizer, inputs)
    frozen_step = make_step(
        model.clone(freeze_batch_norm=True),
        optim.freeze_batch_norm(optimizer, state.batch_stats),
        inputs,
    )
    eval_step = make_eval_step(model, inputs.normalize, axis_of(devices))
    statistics = None
    if train.swa_epochs:
        unmixed = dataclasses.replace(inputs, mixing=None)
        statistics_step = averages.make_statistics_step(training, unmixed, axis_of(devices))
        statistics = map_step(statistics_step, devices, donate_state=False)
    layout = None
    if backend_of(devices) == JIT:  # the state stays as it is, and the sums are replicated
        shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
        layout = shardings, shardings.step
    map_train_step = functools.partial(map_step, devices=devices, donate_state=True, layout=layout)
    smaller = {
        size: make_step(training, optimizer, dataclasses.replace(inputs, size=size))
        for _, size in plan.stages
    }
    return Steps(
        train=map_train_step(train_step),
        frozen=map_train_step(frozen_step),
        eval=map_step(eval_step, devices, donate_state=False),
        statistics=statistics,
        smaller={size: map_train_step(step) for size, step in smaller.items()},
    )


def average_of(train: TrainConfig, plan: Plan) -> averages.Average | None:
    """What averages the weights after each step, if anything does."""
    if train.ema_decay:
        return functools.partial(
            averages.moving_average, decay=train.ema_decay, warmup=train.ema_warmup
        )
    if train.swa_epochs:
        return functools.partial(
            averages.even_average, first=plan.average_from, every=plan.steps_per_epoch
        )
    return None
