"""The learning rate by step, as the `optim` section of a configuration has it."""

from typing import Any

import jax
import optax

from senet_jax.training.optim import OptimConfig


def make_schedule(config: OptimConfig, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate by step, from 0 to `total_steps`; plateaus are left out."""
    schedule = _schedule_of_optax(config, total_steps, steps_per_epoch)

    def rate(step: Any) -> Any:
        # Optax multiplies numbers of different types, which users may have JAX refuse.
        with jax.numpy_dtype_promotion("standard"):
            return schedule(step)

    return rate


def warmup_of(config: OptimConfig, steps_per_epoch: int) -> int:
    """Length of the warm-up in steps."""
    return config.warmup_steps or round(config.warmup_epochs * steps_per_epoch)


def _schedule_of_optax(
    config: OptimConfig, total_steps: int, steps_per_epoch: int
) -> optax.Schedule:
    warmup_steps = warmup_of(config, steps_per_epoch)  # the end of a longer one is left out
    peak = config.learning_rate
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(peak, max(1, total_steps - warmup_steps))
    elif config.schedule == "step":
        # Boundaries count from the start of the run; optax counts from the end of the warm-up.
        steps = [round(b * total_steps) - warmup_steps for b in config.boundaries]
        # In a very short run several boundaries can fall on one step.
        factors = {step: config.factor ** steps.count(step) for step in steps}
        main = optax.piecewise_constant_schedule(peak, factors)
    else:
        main = optax.constant_schedule(peak)
    if warmup_steps == 0:
        return main
    if config.warmup == "linear":
        warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    else:
        warmup = optax.constant_schedule(0.1 * peak)
    return optax.join_schedules([warmup, main], [warmup_steps])
