"""Moving averages of a network's variables, train.ema_decay, and how their decay rises."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from senet_jax.training.state import TrainState

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

    The decay rises first, so that the start does not linger. The average of a value that never
    changes is that value, to the last bit.
    """
    kept = jnp.minimum(decay, WARMUPS[warmup](state.step.astype(jnp.float32)))

    def averaged(mean: jax.Array, value: jax.Array) -> jax.Array:
        return jnp.where(mean == value, value, kept * mean + (1 - kept) * value)

    return jax.tree.map(averaged, state.ema, state.variables)
