"""The rules of `optim.name`: a line each, of Optax's parts, with timm's defaults."""

from collections.abc import Callable
from typing import Any

import jax
import optax

Config = Any  # an OptimConfig, of optim.py, which uses this file
Parts = list[optax.GradientTransformation]

# By name: from the configuration and the learning rate by step to the parts after the clipping.
# SGD and RMSprop see weight decay as a part of the gradient; the others do not scale it by it.
OPTIMIZERS: dict[str, Callable[[Config, optax.Schedule], Parts]] = {
    "sgd": lambda c, rate: [*decay(c), optax.sgd(rate, c.momentum or None, c.nesterov)],
    "rmsprop_tf": lambda c, rate: [*decay(c), rmsprop_tf(c, rate)],
    "adamw": lambda c, rate: [adam(c, 1e-8), *decay(c), optax.scale_by_learning_rate(rate)],
    "lamb": lambda c, rate: [
        *(adam(c, 1e-6), *decay(c), *trust(c), optax.scale_by_learning_rate(rate))
    ],
}


def adam(config: Config, eps: float) -> optax.GradientTransformation:
    """Adam before the learning rate (Kingma and Ba, arXiv 1412.6980); `eps` if none is given."""
    return _promoting(optax.scale_by_adam(*config.betas, eps=config.eps or eps))


def rmsprop_tf(config: Config, rate: optax.Schedule) -> optax.GradientTransformation:
    """RMSprop as TensorFlow has it, and timm's RMSpropTF.

    The mean square starts at one, epsilon is inside the root, and the rate inside the momentum.
    """
    return optax.rmsprop(
        rate,
        config.alpha,
        config.eps or 1e-10,
        initial_scale=1.0,
        eps_in_sqrt=True,
        momentum=config.momentum or None,
    )


def decay(config: Config) -> Parts:
    """The weight decay, if there is any."""
    mask = _mask(config)
    return [optax.add_decayed_weights(config.weight_decay, mask)] if config.weight_decay else []


def trust(config: Config) -> Parts:
    """LAMB's trust ratios (You et al., arXiv 1904.00962).

    As in timm, a parameter without weight decay has none, and keeps the update of Adam.
    """
    ratio, mask = optax.scale_by_trust_ratio(), _mask(config)
    return [optax.masked(ratio, mask) if mask else ratio] if config.weight_decay else []


def _mask(config: Config) -> Callable[[Any], Any] | None:
    return None if config.decay_norm_and_bias else decay_mask


def decay_mask(params: Any) -> Any:
    """True for kernels, False for batch-norm scales, biases and other vectors."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _promoting(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same where users have JAX refuse to mix types: Optax takes powers with a whole number."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return inner.update(updates, state, params)

    return optax.GradientTransformation(inner.init, update)
