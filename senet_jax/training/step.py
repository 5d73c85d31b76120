"""The training and the evaluation step: pure functions of (state, batch).

Both return sums over the global batch, never means, so that a metric is exact however the examples
were grouped.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from senet_jax.data.augment import Augmentation, Mixing
from senet_jax.evaluation.steps import Arrays, classification_sums, soft_targets
from senet_jax.layers.example_keys import example_keys
from senet_jax.layers.network import Network
from senet_jax.layers.norm import is_frozen
from senet_jax.system.devices import average_over_devices, sum_over_devices
from senet_jax.training.state import TrainState


def make_train_step(
    model: Network,
    optimizer: optax.GradientTransformation,
    augment: Augmentation,
    normalize: Callable[[jax.Array], jax.Array],
    label_smoothing: float,
    axis_name: str | None,
    *,
    mixing: Mixing | None = None,
    trained: Any = None,
    accumulate_steps: int = 1,
    ema_decay: float = 0.0,
    on_nan: str = "stop",
) -> Callable[[TrainState, Arrays], tuple[TrainState, Arrays]]:
    """One SGD update, or several. `axis_name` is the mapped device axis; None when there is none.

    A batch is [B, ...] for one update and [K, B, ...] for K of them, which then are one program;
    the sums that come back are scalars, or [K]. Beside them there are "gradient_norm", of the
    gradient before it is clipped, "parameter_norm", after the update, and "nonfinite".

    Where the model freezes all batch normalisation, its scales and biases stay as they are.

    Args:
      mixing: of examples with their neighbours, if any.
      trained: for each parameter whether it is; None if all are. Others get no gradient, so that
        nothing is computed for it, and none of its norm. That they stay is up to the optimizer.
      accumulate_steps: parts of the local batch that pass through the network one after another;
        each has batch statistics of its own, as on so many devices.
      ema_decay: of the state's moving averages; 0 for none.
      on_nan: "stop", or "skip" an update whose loss or gradient is not finite. Either way
        "nonfinite" says so: 0, or the place in `parts_of`, from 1 on, of what is first not finite.
    """

    def gradients_of(
        state: TrainState, images: jax.Array, targets: jax.Array, dropout_key: jax.Array
    ) -> tuple[Any, tuple[jax.Array, jax.Array, Any]]:
        def loss_of(params: Any) -> Any:
            if trained is not None:
                params = jax.tree.map(
                    lambda value, is_trained: value if is_trained else jax.lax.stop_gradient(value),
                    params,
                    trained,
                )
            logits, updates = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            losses = optax.softmax_cross_entropy(logits, targets)
            return losses.mean(), (losses, logits, updates["batch_stats"])

        return jax.grad(loss_of, has_aux=True)(state.params)

    def accumulated(
        state: TrainState, images: jax.Array, targets: jax.Array, dropout_key: jax.Array
    ) -> tuple[Any, tuple[jax.Array, jax.Array, Any]]:
        """`gradients_of` part by part, so that the maps of one part are in memory at a time."""
        parts = jax.tree.map(
            lambda x: x.reshape(accumulate_steps, -1, *x.shape[1:]), (images, targets)
        )

        def one(sums: Any, part: Any) -> tuple[Any, Any]:
            number, part_images, part_targets = part
            key = jax.random.fold_in(dropout_key, number)
            gradients, (losses, logits, stats) = gradients_of(state, part_images, part_targets, key)
            return jax.tree.map(jnp.add, sums, (gradients, stats)), (losses, logits)

        zeros = jax.tree.map(jnp.zeros_like, (state.params, state.batch_stats))
        sums, outputs = jax.lax.scan(one, zeros, (jnp.arange(accumulate_steps), *parts))
        gradients, stats = jax.tree.map(lambda x: x / accumulate_steps, sums)
        losses, logits = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)
        return gradients, (losses, logits, stats)

    def train_step(state: TrainState, batch: Arrays) -> tuple[TrainState, Arrays]:
        step_key = jax.random.fold_in(state.key, state.step)
        keys = example_keys(step_key, len(batch["label"]), axis_name)
        images = augment.cut_out(keys, normalize(augment(keys, batch["image"])))
        targets = soft_targets(batch["label"], model.num_classes, label_smoothing)
        if mixing:
            images, targets = mixing(keys, images, targets)
        # The last number there is: no example's place, so no example's augmentation has this key.
        dropout_key = jax.random.fold_in(step_key, jnp.iinfo(jnp.uint32).max)
        compute = accumulated if accumulate_steps > 1 else gradients_of
        gradients, (losses, logits, batch_stats) = compute(state, images, targets, dropout_key)
        gradients, batch_stats = average_over_devices((gradients, batch_stats), axis_name)
        batch_stats = without_frozen(batch_stats, state.batch_stats, model.freeze_batch_norm)
        sums = classification_sums(losses, logits, batch["label"], jnp.ones_like(losses))
        sums = sum_over_devices(sums, axis_name)
        nonfinite = first_nonfinite(gradients, sums["loss"])
        before = state
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        if state.plateau is not None:
            updates = jax.tree.map(lambda update: update * state.plateau.scale, updates)
        if model.freeze_batch_norm is True:
            updates = without_batch_norm(updates, state.batch_stats)
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        if ema_decay:
            state = state.replace(ema=moving_average(state, ema_decay))
        if on_nan == "skip":
            # The schedule goes on by steps, skipped or not, as the rate that is logged does.
            count = optax.tree_utils.tree_get(state.opt_state, "count")
            opt_state = optax.tree_utils.tree_set(before.opt_state, count=count)
            unchanged = before.replace(step=state.step, opt_state=opt_state)
            state, sums = jax.tree.map(
                lambda new, old: jnp.where(nonfinite == 0, new, old),
                (state.replace(key=None), sums),
                (unchanged.replace(key=None), jax.tree.map(jnp.zeros_like, sums)),
            )
            state = state.replace(key=before.key)
            sums["skipped"] = (nonfinite > 0).astype(jnp.float32)
        norms = {
            "gradient_norm": optax.tree.norm(gradients),
            "parameter_norm": optax.tree.norm(state.params),
        }
        return state, sums | norms | {"nonfinite": nonfinite}

    def train_steps(state: TrainState, batch: Arrays) -> tuple[TrainState, Arrays]:
        if batch["label"].ndim == 1:
            return train_step(state, batch)
        return jax.lax.scan(train_step, state, batch)

    return train_steps


def parts_of(params: Any) -> list[str]:
    """What can be not finite, in the order in which it is looked for: loss, then parameters."""
    return ["the loss", *(f"the gradient of {name}" for name in sorted(params))]


def first_nonfinite(gradients: Any, loss: jax.Array) -> jax.Array:
    """0 if all is finite, else 1 and the place of the first in `parts_of`; a float32 scalar."""
    parts = [loss, *(gradients[name] for name in sorted(gradients))]
    bad = jnp.stack([~_finite(part) for part in parts])
    return jnp.where(bad.any(), 1.0 + jnp.argmax(bad), 0.0)


def _finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def moving_average(state: TrainState, decay: float) -> Any:
    """The averages after this step, of parameters and batch statistics alike.

    At step t the decay is at most (1 + t) / (10 + t), as TensorFlow has it, so that the start does
    not linger. The average of what never changes is that, to the last bit.
    """
    kept = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))

    def averaged(mean: jax.Array, value: jax.Array) -> jax.Array:
        return jnp.where(mean == value, value, kept * mean + (1 - kept) * value)

    return jax.tree.map(averaged, state.ema, state.variables)


def without_frozen(batch_stats: Any, before: Any, frozen: bool | tuple[str, ...]) -> Any:
    """The statistics, but those of frozen layers as they were: a mean of equal ones is rounded.

    Args:
      frozen: as of BatchNorm.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, new, old: old if is_frozen(frozen, [k.key for k in path[:-1]]) else new,
        batch_stats,
        before,
    )


def without_batch_norm(updates: Any, batch_stats: Any) -> Any:
    """Zero for the scales and biases of the layers that have batch statistics."""
    layers = {path[:-1] for path, _ in jax.tree_util.tree_leaves_with_path(batch_stats)}
    return jax.tree_util.tree_map_with_path(
        lambda path, update: jnp.zeros_like(update) if path[:-1] in layers else update, updates
    )
