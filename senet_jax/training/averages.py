"""Averages of a network's variables: moving ones, train.ema_decay, or even ones, train.swa_epochs.

Either is `state.ema`, so that both are evaluated, saved and loaded alike.
"""

import functools
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
from senet_jax.training.step import dropout_key, without_frozen

# A state after a step, and whether that was finite, to its averages.
Average = Callable[[TrainState, jax.Array], Any]

TENSORFLOW = "tensorflow"
# By train.ema_warmup: the most that the decay may be after the step t, from 1 on. In timm (1.0,
# ModelEmaV3) the first average is the first step's variables, with its warm-up and without.
WARMUPS: dict[str, Callable[[jax.Array], jax.Array]] = {
    TENSORFLOW: lambda t: (1.0 + t) / (10.0 + t),
    "timm": lambda t: 1.0 - t ** (-2.0 / 3.0),
    "none": lambda t: jnp.where(t > 1, 1.0, 0.0),
}


def moving_average(
    state: TrainState, finite: jax.Array, decay: float, warmup: str = TENSORFLOW
) -> Any:
    """Averages of parameters and batch statistics after this step; as before where it was skipped.

    The decay rises first, so that the start does not linger.
    """
    kept = jnp.minimum(decay, WARMUPS[warmup](state.step.astype(jnp.float32)))
    return _kept(state, jnp.where(finite, kept, 1.0))


def even_average(state: TrainState, finite: jax.Array, first: int, every: int) -> Any:
    """Averages of the variables after the steps first, first + every, ..., each with equal weight.

    This is stochastic weight averaging (Izmailov et al., arXiv 1803.05407). Before the first they
    are the variables themselves. A step that was skipped has weights as well, those before it.
    """
    del finite
    since = state.step - first
    number = (since // every).astype(jnp.float32)
    is_due = (since >= 0) & (since % every == 0)
    kept = jnp.where(since < 0, 0.0, jnp.where(is_due, number / (number + 1), 1.0))
    return _kept(state, kept)


def _kept(state: TrainState, kept: jax.Array) -> Any:
    return jax.tree.map(functools.partial(_mixed, kept), state.ema, state.variables)


def _mixed(kept: jax.Array, mean: jax.Array, value: jax.Array) -> jax.Array:
    """The average of a value that never changes is that value, to the last bit."""
    return jnp.where(mean == value, value, kept * mean + (1 - kept) * value)


def make_statistics_step(
    model: Network, inputs: Callable[..., Any], axis_name: str | None
) -> Callable[[TrainState, Any], Any]:
    """A step from batch statistics that are means over n training batches to those over n + 1.

    Its state has n as `step`, the means in `ema`, and there the averaged parameters as well.
    """

    def statistics_step(state: TrainState, batch: Any) -> Any:
        step_key = jax.random.fold_in(state.key, state.step)
        keys = example_keys(step_key, len(batch["label"]), axis_name)
        images, _ = inputs(keys, batch, model.num_classes)
        means, frozen = state.ema["batch_stats"], model.freeze_batch_norm
        # From nothing: what was there before changes no bit, but for layers that are frozen.
        before = without_frozen(jax.tree.map(jnp.zeros_like, means), means, frozen)
        _, changed = model.apply(
            state.ema | {"batch_stats": before},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key(step_key)},
        )
        of_batch = jax.tree.map(lambda after: after / (1 - MOMENTUM), changed["batch_stats"])
        of_batch = average_over_devices(of_batch, axis_name)
        number = state.step.astype(jnp.float32)
        after = jax.tree.map(functools.partial(_mixed, number / (number + 1)), means, of_batch)
        return without_frozen(after, means, frozen)

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
    ema = state.ema
    for number, batch in enumerate(placed):
        at = replicate(jnp.asarray(number, jnp.int32), run.devices)
        means = run.steps.statistics(state.replace(step=at, ema=ema), batch)
        ema = ema | {"batch_stats": jax.block_until_ready(means)}
        between()
    means = replicate(jax.device_get(ema["batch_stats"]), run.devices)
    return state.replace(ema=ema | {"batch_stats": means})
