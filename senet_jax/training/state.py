"""The state that training carries from step to step: arrays only."""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from senet_jax.system.devices import Devices, sharded
from senet_jax.training.draw import draw, operation_by_operation


class TrainState(flax.struct.PyTreeNode):
    """Everything the next step depends on, so a run can continue from it exactly.

    Attributes:
      step: number of updates done, int32 scalar.
      key: the run's random key; folded with `step` where randomness is needed, never advanced.
      params, batch_stats: the model's variables.
      opt_state: the optimizer's state.
      ema: moving averages of `variables`; None if there are none.
      plateau: memory of the "plateau" schedule (optim.Plateau); None for other schedules.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: Any = None
    plateau: Any = None

    @property
    def saved(self) -> "TrainState":
        """This state as checkpoints have it."""
        return self

    def resumed(self, saved: "TrainState") -> "TrainState":
        """A state from a checkpoint, with what that lacks taken from this one."""
        return saved

    @property
    def variables(self) -> dict[str, Any]:
        """The model's variables, as `model.apply` takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def averaged(self) -> "TrainState":
        """This state with the moving averages as its variables."""
        return self.replace(**self.ema)


def divided(state: TrainState, devices: Devices) -> TrainState:
    """The shardings of a state whose optimizer state and averages are divided among the devices.

    Of the averages all are divided; evaluation puts them together again.
    """
    kept = jax.tree.map(lambda leaf: leaf.sharding, state)
    return kept.replace(
        opt_state=sharded(state.opt_state, devices), ema=sharded(state.ema, devices)
    )


class TaughtState(TrainState):
    """A state that carries a teacher beside; checkpoints are those of any other run.

    Attributes:
      teacher: variables of the teacher (teacher.py), which stay as they are.
    """

    teacher: Any = None

    @classmethod
    def of(cls, state: TrainState, teacher: Any) -> "TaughtState":
        """A state with a teacher."""
        return cls(**_fields(state), teacher=teacher)

    @property
    def saved(self) -> TrainState:
        return TrainState(**_fields(self))

    def resumed(self, saved: TrainState) -> "TaughtState":
        return TaughtState.of(saved, self.teacher)


def _fields(state: TrainState) -> dict[str, Any]:
    """The fields that every state has, by name."""
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(TrainState)}


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    seed: int,
    *,
    weights: Any = None,
    ema: bool = False,
    plateau: Any = None,
) -> TrainState:
    """A fresh state for images [H, W, C]; a pure function of its arguments.

    Args:
      weights: variables to start from, all or some of the model's; the others are drawn.
      ema: whether the state has moving averages, which start as the variables.
      plateau: memory of the "plateau" schedule at the start.
    """

    run_key, drawn = draw(model, image_shape, jnp.asarray(seed, jnp.uint32))
    variables = unflatten_dict(flatten_dict(drawn) | flatten_dict(weights or {}))
    opt_state = operation_by_operation(optimizer.init, variables["params"])
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=run_key,
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=opt_state,
        # Copies: a step gives its whole state away, and no array can be given twice.
        ema=jax.device_put(variables, may_alias=False) if ema else None,
        plateau=plateau,
    )
