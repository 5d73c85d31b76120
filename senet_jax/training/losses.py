"""The losses of `train.loss`: logits and targets [B, classes] to losses [B], to be averaged."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax

Loss = Callable[[jax.Array, Any], jax.Array]
LOSSES = SOFTMAX, BCE = ("softmax", "bce")


def loss_of(name: str, threshold: float = 0.0) -> Loss:
    """The loss of a name; see `binary_cross_entropy` for `threshold`."""
    if name == BCE:
        return functools.partial(binary_cross_entropy, threshold=threshold)
    return optax.softmax_cross_entropy


def binary_cross_entropy(logits: jax.Array, targets: jax.Array, *, threshold: float) -> jax.Array:
    """The mean over classes of the losses of as many yes-or-no questions, as timm has it.

    Args:
      threshold: above 0, a target above it is one, so that an image mixed of two classes is of both
        (Wightman et al., arXiv 2110.00476, section 2.2), and any other is zero.
    """
    if threshold:
        targets = (targets > threshold).astype(targets.dtype)
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean(-1)


def distilled(loss: Loss, weight: float, temperature: float) -> Loss:
    """A loss of logits and a pair, targets and the logits of a teacher, all [B, classes].

    The teacher's part is the divergence of its softened probabilities from ours, times the square
    of the temperature, so that its gradients keep their size (Hinton et al., arXiv 1503.02531,
    section 2). It is zero where both say the same.

    Args:
      loss: the loss of the targets, whose part is 1 - `weight`.
      weight: part of the teacher.
      temperature: number by which logits of both are divided.
    """

    def loss_of_pair(logits: jax.Array, pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        targets, theirs = pair
        ours, wanted = (jax.nn.log_softmax(x / temperature) for x in (logits, theirs))
        divergence = optax.losses.kl_divergence_with_log_targets(ours, wanted)
        return (1 - weight) * loss(logits, targets) + weight * temperature**2 * divergence

    return loss_of_pair
