"""The training step: a pure function of (state, batch).

It returns sums over the global batch, never means, so that a metric is exact however the examples
were grouped.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from senet_jax.data.augment import Augmentation, Mixing
from senet_jax.data.operations import TIMM
from senet_jax.evaluation.steps import Arrays, classification_sums, soft_targets
from senet_jax.layers.example_keys import example_keys
from senet_jax.layers.network import Network
from senet_jax.layers.norm import is_frozen
from senet_jax.system.devices import average_over_devices, sum_over_devices
from senet_jax.training.losses import Loss
from senet_jax.training.optim import either
from senet_jax.training.state import TaughtState, TrainState

Outputs = tuple[jax.Array, jax.Array, Any]  # losses [B], logits [B, classes], batch statistics


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The making of a network's inputs from a batch, on the device.

    Attributes:
      augment: random changes of single images, as they were read.
      normalize: images as they were read to what the network takes.
      label_smoothing: share of each target that is spread over all classes.
      mixing: mixing of examples with their neighbours, if any.
      class_weights: factor of each class's targets, see class_weights.py; () for none.
      size: the smaller side that images are shrunk to, in pixels; 0 leaves them as they are.
      fill: levels [C], the mean of the channels, for what a warp leaves empty; see augment.
    """

    augment: Augmentation
    normalize: Callable[[jax.Array], jax.Array]
    label_smoothing: float = 0.0
    mixing: Mixing | None = None
    class_weights: tuple[float, ...] = ()
    fill: tuple[int, ...] = TIMM.fill
    size: int = 0

    def __call__(self, keys: jax.Array, batch: Arrays, classes: int) -> tuple[jax.Array, jax.Array]:
        """Images [B, H, W, C] and targets [B, classes]; `keys` [B] are those of the examples."""
        images = self.normalize(self.augment(keys, batch["image"], self.fill))
        images = shrunk(images, self.size) if self.size else images
        images = self.augment.erase(keys, self.augment.cut_out(keys, images))
        targets = soft_targets(batch["label"], classes, self.label_smoothing)
        if self.mixing:
            images, targets = self.mixing(keys, images, targets)
        if self.class_weights:
            targets = targets * jnp.array([self.class_weights])
        return images, targets


def shrunk(images: jax.Array, size: int) -> jax.Array:
    """Images [B, H, W, C] with a smaller side of `size` pixels, by a bilinear filter."""
    count, *shape = images.shape
    return jax.image.resize(images, (count, *shape_at(size, shape)), "bilinear", antialias=True)


def shape_at(size: int, shape: Sequence[int]) -> tuple[int, int, int]:
    """The shape of images [H, W, C] whose smaller side becomes `size` pixels; 0 leaves them."""
    *sides, channels = shape
    height, width = (round(side * size / min(sides)) if size else side for side in sides)
    return height, width, channels


def make_train_step(
    model: Network,
    optimizer: optax.GradientTransformation,
    inputs: Inputs,
    axis_name: str | None,
    *,
    loss: Loss = optax.softmax_cross_entropy,
    teacher: Callable[[Any, jax.Array], jax.Array] | None = None,
    trained: Any = None,
    accumulate_steps: int = 1,
    average: Callable[[TrainState, jax.Array], Any] | None = None,
    on_nan: str = "stop",
) -> Callable[[TrainState, Arrays], tuple[TrainState, Arrays]]:
    """Make the step function of a network: (state, batch) to the next state and sums.

    A batch is [B, ...] for one update and [K, B, ...] for K of them, which then are one program;
    the sums that come back are scalars, or [K]. Beside them there are "gradient_norm", the norm of
    the gradient before it is clipped, "parameter_norm", after the update, and "nonfinite": 0, or
    the place in `parts_of`, from 1 on, of what is first not finite.

    Args:
      optimizer: its `update` is told the state's `plateau` and whether all is `finite` (optim.py).
      axis_name: mapped axis of the devices that share the batch; None if there is none.
      loss: losses [B] of logits and targets [B, classes]; with a teacher, of logits and a pair, the
        targets and the teacher's logits.
      teacher: the state's `teacher` and images to logits, if there is one.
      trained: tree of booleans, whether each parameter is trained; None if all are. The gradient of
        the others is zero and costs nothing. The optimizer is to leave them alone.
      accumulate_steps: micro-batches per device and update, each with its own batch statistics, as
        if each had a device to itself.
      average: the state after the step, and whether that was finite, to its averages, see
        averages.py; None for none.
      on_nan: "stop", or "skip" an update whose loss or gradient is not finite: it leaves the state
        as it was, but for the number of the step, and sums of 0. The optimizer must skip as well.
    """
    differentiate = functools.partial(gradients_of, model, loss, trained)
    if teacher:
        differentiate = functools.partial(taught_gradients, differentiate, teacher)
    if accumulate_steps > 1:
        differentiate = functools.partial(accumulated_gradients, differentiate, accumulate_steps)
    step = functools.partial(
        train_step,
        model=model,
        optimizer=optax.with_extra_args_support(optimizer),
        inputs=inputs,
        differentiate=differentiate,
        axis_name=axis_name,
        average=average,
        on_nan=on_nan,
    )

    def one_or_several_steps(state: TrainState, batch: Arrays) -> tuple[TrainState, Arrays]:
        return step(state, batch) if batch["label"].ndim == 1 else jax.lax.scan(step, state, batch)

    return one_or_several_steps


def train_step(
    state: TrainState,
    batch: Arrays,
    *,
    model: Network,
    optimizer: optax.GradientTransformationExtraArgs,
    inputs: Inputs,
    differentiate: Callable[..., tuple[Any, Outputs]],
    axis_name: str | None,
    average: Callable[[TrainState, jax.Array], Any] | None,
    on_nan: str,
) -> tuple[TrainState, Arrays]:
    """One update and its sums; see `make_train_step`, which gives the rest of the arguments."""
    step_key = jax.random.fold_in(state.key, state.step)
    keys = example_keys(step_key, len(batch["label"]), axis_name)
    images, targets = inputs(keys, batch, model.num_classes)

    gradients, outputs = differentiate(state, images, targets, dropout_key(step_key))
    losses, logits, batch_stats = outputs
    gradients, batch_stats = average_over_devices((gradients, batch_stats), axis_name)
    batch_stats = without_frozen(batch_stats, state.batch_stats, model.freeze_batch_norm)
    sums = classification_sums(losses, logits, batch["label"], jnp.ones_like(losses))
    sums = sum_over_devices(sums, axis_name)
    nonfinite = first_nonfinite(gradients, sums["loss"])
    finite = nonfinite == 0

    updates, opt_state = optimizer.update(
        gradients, state.opt_state, state.params, plateau=state.plateau, finite=finite
    )
    after = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    if on_nan == "skip":  # parameters and opt_state have been kept by the optimizer
        after = after.replace(batch_stats=either(finite, after.batch_stats, state.batch_stats))
        sums = either(finite, sums, jax.tree.map(jnp.zeros_like, sums))
        sums["skipped"] = (~finite).astype(jnp.float32)
    if average:
        after = after.replace(ema=average(after, finite))
    norms = {
        "gradient_norm": optax.tree.norm(gradients),
        "parameter_norm": optax.tree.norm(after.params),
    }
    return after, sums | norms | {"nonfinite": nonfinite}


def dropout_key(step_key: jax.Array) -> jax.Array:
    """The key of a step's dropout, which is that of no example's augmentation."""
    # The last number there is: no example's place.
    return jax.random.fold_in(step_key, jnp.iinfo(jnp.uint32).max)


def gradients_of(
    model: Network,
    loss: Loss,
    trained: Any,
    state: TrainState,
    images: jax.Array,
    targets: Any,
    key: jax.Array,
) -> tuple[Any, Outputs]:
    """Gradients of the mean loss of a batch, and what the network has computed on the way."""

    def loss_of(params: Any) -> tuple[jax.Array, Outputs]:
        if trained is not None:
            params = jax.tree.map(
                lambda value, is_trained: value if is_trained else jax.lax.stop_gradient(value),
                params,
                trained,
            )
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, changed = model.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        losses = loss(logits, targets)
        return losses.mean(), (losses, logits, changed["batch_stats"])

    return jax.grad(loss_of, has_aux=True)(state.params)


def taught_gradients(
    differentiate: Callable[..., tuple[Any, Outputs]],
    teacher: Callable[[Any, jax.Array], jax.Array],
    state: TaughtState,
    images: jax.Array,
    targets: jax.Array,
    key: jax.Array,
) -> tuple[Any, Outputs]:
    """What `differentiate` returns where the logits of a teacher are targets as well."""
    return differentiate(state, images, (targets, teacher(state.teacher, images)), key)


def accumulated_gradients(
    differentiate: Callable[..., tuple[Any, Outputs]],
    parts: int,
    state: TrainState,
    images: jax.Array,
    targets: jax.Array,
    key: jax.Array,
) -> tuple[Any, Outputs]:
    """What `differentiate` returns, part by part: the maps of one part are in memory at a time."""
    batches = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), (images, targets))

    def add_part(sums: Any, part: Any) -> tuple[Any, Any]:
        number, part_images, part_targets = part
        part_key = jax.random.fold_in(key, number)
        gradients, (losses, logits, stats) = differentiate(
            state, part_images, part_targets, part_key
        )
        return jax.tree.map(jnp.add, sums, (gradients, stats)), (losses, logits)

    zeros = jax.tree.map(jnp.zeros_like, (state.params, state.batch_stats))
    sums, outputs = jax.lax.scan(add_part, zeros, (jnp.arange(parts), *batches))
    gradients, stats = jax.tree.map(lambda x: x / parts, sums)
    losses, logits = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)
    return gradients, (losses, logits, stats)


def parts_of(params: Any) -> list[str]:
    """Names of what may be not finite, in the order in which it is looked for: the loss first."""
    return ["the loss", *(f"the gradient of {name}" for name in sorted(params))]


def first_nonfinite(gradients: Any, loss: jax.Array) -> jax.Array:
    """Place in `parts_of`, from 1 on, of the first that is not finite; 0 if all are. A float32."""
    parts = [loss, *(gradients[name] for name in sorted(gradients))]
    bad = jnp.stack([~_finite(part) for part in parts])
    return jnp.where(bad.any(), 1.0 + jnp.argmax(bad).astype(jnp.float32), 0.0)


def _finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def without_frozen(batch_stats: Any, before: Any, frozen: bool | tuple[str, ...]) -> Any:
    """Batch statistics in which those of frozen layers are as they were `before`.

    Their average over devices or parts would be rounded, though all are equal.

    Args:
      frozen: all layers, none, or the paths of some, as BatchNorm has it.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, new, old: old if is_frozen(frozen, [k.key for k in path[:-1]]) else new,
        batch_stats,
        before,
    )
