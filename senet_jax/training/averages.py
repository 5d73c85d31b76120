"""Averages of a network's variables: moving ones, train.ema_decay, or even ones, train.swa_epochs.

Either is `state.ema`, so that both are evaluated, saved and loaded alike.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from senet_jax.data import resident
from senet_jax.layers.example_keys import example_keys
from senet_jax.layers.network import MOMENTUM, Network
from senet_jax.system.devices import average_over_devices, prefetch, replicate
from senet_jax.training.state import TrainState

Average = Callable[[TrainState], Any]  # a state after a step to its averages

TENSORFLOW = "tensorflow"
# By train.ema_warmup: the most that the decay may be after the step t, from 1 on. In timm (1.0,
# ModelEmaV3) the first average is the first step's variables, with its warm-up and without.
WARMUPS: dict[str, Callable[[jax.Array], jax.Array]] = {
    TENSORFLOW: lambda t: (1.0 + t) / (10.0 + t),
    "timm": lambda t: 1.0 - t ** (-2.0 / 3.0),
    "none": lambda t: jnp.where(t > 1, 1.0, 0.0),
}


def moving_average(state: TrainState, decay: float, warmup: str = TENSORFLOW) -> Any:
    """Averages of parameters and batch statistics after this step.

    The decay rises first, so that the start does not linger.
    """
    return _kept(state, jnp.minimum(decay, WARMUPS[warmup](state.step.astype(jnp.float32))))


def even_average(state: TrainState, first: int, every: int) -> Any:
    """Averages of the variables after the steps first, first + every, ..., each with equal weight.

    This is stochastic weight averaging (Izmailov et al., arXiv 1803.05407). Before the first they
    are the variables themselves.
    """
    since = state.step - first
    number = (since // every).astype(jnp.float32)
    is_due = (since >= 0) & (since % every == 0)
    kept = jnp.where(since < 0, 0.0, jnp.where(is_due, number / (number + 1), 1.0))
    return _kept(state, kept)


def _kept(state: TrainState, kept: jax.Array) -> Any:
    """The average of a value that never changes is that value, to the last bit."""

    def averaged(mean: jax.Array, value: jax.Array) -> jax.Array:
        return jnp.where(mean == value, value, kept * mean + (1 - kept) * value)

    return jax.tree.map(averaged, state.ema, state.variables)


def make_statistics_step(
    model: Network, inputs: Callable[..., Any], axis_name: str | None
) -> Callable[[TrainState, Any], Any]:
    """A step that gives the batch statistics of the averaged parameters for a training batch."""

    def statistics_step(state: TrainState, batch: Any) -> Any:
        keys = example_keys(
            jax.random.fold_in(state.key, state.step), len(batch["label"]), axis_name
        )
        images, _ = inputs(keys, batch, model.num_classes)
        rngs = {"dropout": state.key}
        _, changed = model.apply(state.ema, images, train=True, mutable=["batch_stats"], rngs=rngs)

        def of_batch(after: jax.Array, before: jax.Array) -> jax.Array:
            same = after == before  # of layers that are frozen
            return jnp.where(same, before, (after - MOMENTUM * before) / (1 - MOMENTUM))

        statistics = jax.tree.map(of_batch, changed["batch_stats"], state.ema["batch_stats"])
        return average_over_devices(statistics, axis_name)

    return statistics_step


def with_statistics(run: Any, state: TrainState, between: Callable[[], None]) -> TrainState:
    """The state with the batch statistics of its averages taken anew: means over an epoch.

    Those of the weights that were averaged are not those of their average.

    Args:
      run: a run whose `steps.statistics` is there.
      between: called after each batch; what it raises ends this.
    """
    plan, split = run.plan, run.dataset.train
    batches = split.train_batches(run.settings.batch_size, run.seed)
    counts = itertools.repeat(1, plan.steps_per_epoch)
    placed = prefetch(batches, run.devices, counts=counts, resident=resident.images(split))
    sums: Any = None
    for number, batch in enumerate(placed):
        at = replicate(jnp.asarray(number, jnp.int32), run.devices)
        statistics = run.steps.statistics(state.replace(step=at), batch)
        sums = statistics if sums is None else jax.tree.map(jnp.add, sums, statistics)
        jax.block_until_ready(sums)
        between()
    means = jax.tree.map(lambda total: total / plan.steps_per_epoch, sums)
    means = replicate(jax.device_get(means), run.devices)
    return state.replace(ema={**state.ema, "batch_stats": means})
