"""Steps that evaluate: pure functions of (variables, batch); and the sums of every step."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from senet_jax.system.devices import gather_over_devices, sum_over_devices

Arrays = dict[str, jax.Array]


def make_eval_step(
    model: nn.Module, normalize: Callable[[jax.Array], jax.Array], axis_name: str | None
) -> Callable[[Any, Arrays], Arrays]:
    """A step that gives sums over the examples of a masked batch, see `classification_sums`.

    Beside them there is "probability", the sum of the probabilities of the right classes; and for
    each example of the whole batch, [B], its "place" in the split, -1 for padding, its "label", the
    most probable class, "predicted", -1 where a logit is not finite, and "confidence", the
    probability of that class. Batch norm uses its running statistics. `axis_name` is the mapped
    axis of the devices that share the batch, if any.
    """

    def eval_step(variables: Any, batch: Arrays) -> Arrays:
        logits: Any = model.apply(variables, normalize(batch["image"]), train=False)
        targets = soft_targets(batch["label"], logits.shape[-1], 0.0)
        losses, mask = optax.softmax_cross_entropy(logits, targets), batch["mask"]
        sums = classification_sums(losses, logits, batch["label"], mask)
        sums["probability"] = jnp.sum(jnp.where(mask > 0, jnp.exp(-losses), 0.0))
        examples = {
            "place": jnp.where(mask > 0, batch["place"], -1),
            "label": batch["label"],
            "predicted": most_probable(logits, 1)[:, 0],
            "confidence": jax.nn.softmax(logits).max(axis=-1),
        }
        return sum_over_devices(sums, axis_name) | gather_over_devices(examples, axis_name)

    return eval_step


def make_logits_step(
    model: nn.Module,
    normalize: Callable[[jax.Array], jax.Array],
    axis_name: str | None,
    *,
    flip: bool,
) -> Callable[[Any, Arrays], jax.Array]:
    """A step that gives logits [B, V, classes] of the views of a whole batch, on every device.

    Views are the image, or its crops where the batch has [B, crops, H, W, C], and after them, with
    `flip`, their mirror images.
    """

    def logits_step(variables: Any, batch: Arrays) -> jax.Array:
        images = batch["image"]
        views = images if images.ndim == 5 else images[:, None]
        if flip:
            views = jnp.concatenate([views, views[..., ::-1, :]], axis=1)
        flat = normalize(views.reshape(-1, *views.shape[2:]))
        logits: Any = model.apply(variables, flat, train=False)
        return gather_over_devices(logits.reshape(*views.shape[:2], -1), axis_name)

    return logits_step


def soft_targets(labels: jax.Array, classes: int, smoothing: float) -> jax.Array:
    """Labels [B] to targets [B, classes], of which `smoothing` is spread over all classes."""
    return optax.smooth_labels(jax.nn.one_hot(labels, classes), smoothing)


def classification_sums(
    losses: jax.Array, logits: jax.Array, labels: jax.Array, mask: jax.Array
) -> Arrays:
    """Sums of loss, top-1 hits, top-5 hits and examples where `mask` [B] is 1.

    With fewer than five classes top-5 counts every example.
    """
    counted = hits(logits, labels, 5) & (mask[:, None] > 0)
    return {
        "loss": jnp.sum(jnp.where(mask > 0, losses, 0.0)),
        "top1": jnp.sum(counted[:, :1], dtype=jnp.float32),
        "top5": jnp.sum(counted, dtype=jnp.float32),
        "examples": jnp.sum(mask),
    }


def hits(logits: jax.Array, labels: jax.Array, best: int) -> jax.Array:
    """Whether each of the `best` most probable classes is the label, [B, best] or [B, classes].

    A logit that is not a number is a miss: without that, a diverged network would sort it first and
    score.
    """
    return most_probable(logits, best) == labels[:, None]


def most_probable(logits: jax.Array, best: int) -> jax.Array:
    """The `best` most probable classes, [B, best] or fewer; -1 where a logit is not finite."""
    _, classes = jax.lax.top_k(logits, min(best, logits.shape[-1]))
    return jnp.where(jnp.isfinite(logits).all(axis=-1, keepdims=True), classes, -1)
