"""The losses of `train.loss`: logits and targets [B, classes] to losses [B], to be averaged."""

import functools
from collections.abc import Callable

import jax
import optax

Loss = Callable[[jax.Array, jax.Array], jax.Array]
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
