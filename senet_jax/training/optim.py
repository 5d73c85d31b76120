"""Learning-rate schedule and optimizer from the `optim` section of a configuration."""

import dataclasses
import math
import re
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from senet_jax.training.optimizers import OPTIMIZERS

SCHEDULES = ("step", "cosine", "constant", "plateau")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning rate; by default SGD with momentum (Hu et al., section 5.1).

    Attributes:
      learning_rate: peak of the learning rate, for the whole batch.
      schedule: "step", "cosine" (to zero), "constant", or "plateau": multiplied by `factor` when
        the evaluation loss has not fallen for a while (Hu et al., section 6, for the ablations).
      boundaries: where "step" multiplies the rate by `factor`, as fractions of the run, so that a
        longer or shorter run keeps its shape: 30, 60 and 90 of 100 epochs are (0.3, 0.6, 0.9).
      factor: multiplier at each boundary, or plateau.
      patience: evaluations without a lower loss that are a plateau.
      reductions: largest number of plateaus that count.
      warmup_epochs: length of the warm-up, part of the run; may be fractional.
      warmup_steps: the same in updates, in its place; 0 for none.
      warmup: "linear" from zero, or "constant" at a tenth of the peak (He et al., for ResNet-110).
      name: rule of the updates, see OPTIMIZERS.
      momentum: share of the last update that is kept, with "sgd" and "rmsprop_tf".
      nesterov: whether the momentum of "sgd" is Nesterov's.
      betas: decays of the means of gradient and square that "adamw" and "lamb" keep.
      alpha: decay of the mean square of "rmsprop_tf".
      eps: number that keeps a root of a mean square above zero; 0 for the optimizer's own: 1e-8
        for "adamw", 1e-6 for "lamb", 1e-10 for "rmsprop_tf", as in timm.
      clip_norm: largest norm of the gradient, all parameters together, before the penalty is
        added; a longer one is scaled down. 0 for no limit.
      weight_decay: L2 penalty, added to the gradient; with "adamw" and "lamb", to the update
        before its learning rate.
      decay_norm_and_bias: whether the penalty also covers what is no kernel: batch-norm scales, all
        biases, and the vectors of SRM and GCT blocks.
      freeze: regular expressions; a parameter stays as it is if one is found anywhere in its path,
        such as "stage2/block1/conv1/kernel" (freezing.py).
      layer_decay: factor on the updates of each layer against those of the next one, from the
        classifier, whose updates are whole, down to the stem (freezing.py).

    Raises:
      ValueError: for values outside these.
    """

    learning_rate: float
    schedule: str = "step"
    boundaries: tuple[float, ...] = ()
    factor: float = 0.1
    patience: int = 5
    reductions: int = 3
    warmup_epochs: float = 0.0
    warmup: str = "linear"
    name: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    alpha: float = 0.9
    eps: float = 0.0
    clip_norm: float = 0.0
    weight_decay: float = 0.0
    decay_norm_and_bias: bool = True
    freeze: tuple[str, ...] = ()
    layer_decay: float = 1.0
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        self._check_rule()
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be {', '.join(SCHEDULES)}, not {self.schedule!r}")
        for field in ("patience", "reductions"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
        if self.warmup not in ("linear", "constant"):
            raise ValueError(f"warmup must be linear or constant, not {self.warmup!r}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be at least 0, not {self.warmup_steps}")
        if self.warmup_steps and self.warmup_epochs:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} cannot go with "
                f"warmup_epochs={self.warmup_epochs}: both say how long the warm-up is"
            )
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0, not {self.learning_rate}")
        object.__setattr__(self, "boundaries", tuple(self.boundaries))
        if list(self.boundaries) != sorted(set(self.boundaries)) or not all(
            0 < b < 1 for b in self.boundaries
        ):
            raise ValueError(
                f"boundaries must be increasing fractions of the run between 0 and 1, "
                f"not {self.boundaries}"
            )
        for field in ("weight_decay", "warmup_epochs", "factor", "clip_norm", "eps"):
            if not 0 <= getattr(self, field) < math.inf:
                raise ValueError(f"{field} must be at least 0, not {getattr(self, field)}")
        object.__setattr__(self, "freeze", tuple(self.freeze))
        for pattern in self.freeze:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"freeze has {pattern!r}, no regular expression: {error}"
                ) from error
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be above 0 and at most 1, not {self.layer_decay}")

    def _check_rule(self) -> None:
        if self.name not in OPTIMIZERS:
            raise ValueError(f"name must be {', '.join(OPTIMIZERS)}, not {self.name!r}")
        for field in ("momentum", "alpha"):
            if not 0 <= (value := getattr(self, field)) < 1:
                raise ValueError(f"{field} must be at least 0 and below 1, not {value}")
        object.__setattr__(self, "betas", tuple(self.betas))
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers from 0 to below 1, not {self.betas}")


def make_optimizer(
    config: OptimConfig,
    schedule: optax.Schedule,
    trained: Any = None,
    scales: Any = None,
    *,
    on_nan: str = "stop",
) -> optax.GradientTransformationExtraArgs:
    """The optimizer; with "sgd", weight decay passes through the momentum, as in the paper's time.

    Its `update` takes, beside gradients, state and parameters, the `plateau` of the run if the
    schedule is "plateau", and whether loss and gradients are `finite` if `on_nan` is "skip".

    Args:
      trained: tree of booleans, whether each parameter is trained; None if all are. The others are
        not updated.
      scales: tree of factors on the updates, weight decay included; None for whole updates.
      on_nan: "stop", or "skip" for an optimizer that does nothing where `finite` is False.
    """
    parts: list[optax.GradientTransformation] = []
    if config.clip_norm:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    parts += OPTIMIZERS[config.name](config, schedule)
    optimizer = optax.chain(*parts)
    if trained is not None:
        kinds: dict[Hashable, optax.GradientTransformation] = {
            "trained": optimizer,
            "frozen": optax.set_to_zero(),
        }
        labels = jax.tree.map(lambda is_trained: "trained" if is_trained else "frozen", trained)
        optimizer = optax.multi_transform(kinds, labels)
    if scales is not None:
        scaled = optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, scales))
        optimizer = optax.chain(optimizer, scaled)
    if config.schedule == "plateau":
        optimizer = scale_by_plateau(optimizer)
    if on_nan == "skip":
        optimizer = skip_not_finite(optimizer)
    return optax.with_extra_args_support(optimizer)


# The transformations below wrap an optimizer, as optax.apply_if_finite does, and add nothing to its
# state: a checkpoint has the same tree with and without them.


def scale_by_plateau(
    inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Updates of `inner` times the scale of the `plateau` that `update` is told of."""
    inner = optax.with_extra_args_support(inner)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        plateau: Plateau = extra.pop("plateau")
        updates, state = inner.update(updates, state, params, **extra)
        return jax.tree.map(lambda update: update * plateau.scale, updates), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def freeze_batch_norm(
    inner: optax.GradientTransformation, batch_stats: Any
) -> optax.GradientTransformationExtraArgs:
    """Updates of `inner`, except for layers that have batch statistics: their updates are zero."""
    inner = optax.with_extra_args_support(inner)
    layers = {path[:-1] for path, _ in jax.tree_util.tree_leaves_with_path(batch_stats)}

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        updates, state = inner.update(updates, state, params, **extra)
        kept = jax.tree_util.tree_map_with_path(
            lambda path, update: jnp.zeros_like(update) if path[:-1] in layers else update, updates
        )
        return kept, state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def skip_not_finite(
    inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Updates of `inner` where `update` is told that all is `finite`, else none.

    A skipped update leaves the state of `inner` as it was, but for its count: the schedule goes on
    by steps, skipped or not, as the rate that is logged does.
    """
    inner = optax.with_extra_args_support(inner)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        finite = extra.pop("finite")
        updates, after = inner.update(updates, state, params, **extra)
        count = optax.tree_utils.tree_get(after, "count", filtering=_of_schedule)
        before = optax.tree_utils.tree_set(state, _of_schedule, count=count)
        # Minus zero: adding it changes no bit, not even that of a minus zero.
        nothing = jax.tree.map(lambda update: jnp.full_like(update, -0.0), updates)
        return either(finite, updates, nothing), either(finite, after, before)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _of_schedule(path: Any, _: Any) -> bool:
    """Whether a leaf of a state is of the schedule, not, say, the number of Adam's updates."""
    return getattr(path[-1], "tuple_name", "") == "ScaleByScheduleState"


def either(condition: jax.Array, one: Any, other: Any) -> Any:
    """The leaves of one tree where the scalar is True, else those of the other."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


class Plateau(NamedTuple):
    """Memory of the "plateau" schedule: float32 and int32 scalars.

    Attributes:
      scale: factor on the schedule's learning rate.
      best: lowest evaluation loss so far.
      stale: evaluations since then, or since the last reduction.
      reductions: how often the rate was reduced.
    """

    scale: jax.Array
    best: jax.Array
    stale: jax.Array
    reductions: jax.Array


NOT_LOWER = 1e-4  # relative; as PyTorch's ReduceLROnPlateau


def initial_plateau() -> Plateau:
    """The memory before the first evaluation."""
    # Two zeros: a step gives its whole state away, and no array can be given twice.
    stale, reductions = (jnp.zeros((), jnp.int32) for _ in range(2))
    return Plateau(jnp.ones(()), jnp.full((), jnp.inf), stale, reductions)


def after_evaluation(config: OptimConfig, plateau: Plateau, loss: float) -> Plateau:
    """Count an evaluation loss; reduce the rate if the losses have not fallen for long enough."""
    lower = loss < plateau.best * (1 - NOT_LOWER)
    stale = jnp.where(lower, 0, plateau.stale + 1)
    reduce = (stale >= config.patience) & (plateau.reductions < config.reductions)
    return Plateau(
        scale=jnp.where(reduce, plateau.scale * config.factor, plateau.scale),
        best=jnp.where(lower, jnp.float32(loss), plateau.best),
        stale=jnp.where(reduce, 0, stale),
        reductions=plateau.reductions + reduce.astype(jnp.int32),
    )
