"""Weights of the classes in the training loss, for classes with uneven numbers of examples.

The target of each class is multiplied by its weight, so that for hard labels the loss of an example
is that of its class; smoothed and mixed targets are weighted class by class, as PyTorch does.
Whatever the rule, weights are scaled so that their mean over the training examples is 1: the loss
keeps its size, and the learning rate its meaning.
"""

import re
from collections.abc import Callable

import numpy as np

from senet_jax.errors import InputError, counted

Rule = Callable[[np.ndarray], np.ndarray]  # examples of each class [classes] to weights [classes]


def rule(text: str) -> Rule | None:
    """Read `train.class_weights`; None for "", no weights.

    Rules give classes without training examples no weight, as they have nothing to be weighted.

    Raises: ValueError for text that is no rule.
    """
    if not text:
        return None
    if text == "inverse":
        return lambda counts: _where_any(counts, counts)
    kind, _, number = text.partition(":")
    try:
        if kind == "effective" and 0 < (beta := float(number)) < 1:
            # The effective number of examples (Cui et al. 2019, arXiv 1901.05555, equation 4).
            return lambda counts: _where_any(counts, -np.expm1(counts * np.log(beta)))
        given = [float(part) for part in re.split(r"[,\s]+", text.strip())]
    except ValueError:
        given = []
    if not (given and all(0 < weight < np.inf for weight in given)):
        raise ValueError(
            "class_weights must be inverse, effective:BETA with BETA between 0 and 1 such as "
            f"effective:0.999, or a number above 0 for each class such as 1,1,2.5, not {text!r}"
        )
    return lambda _: np.array(given)


def _where_any(counts: np.ndarray, effective: np.ndarray) -> np.ndarray:
    return np.divide(1.0, effective, out=np.zeros(len(counts)), where=counts > 0)


def of_classes(text: str, counts: np.ndarray) -> tuple[float, ...]:
    """The weight of each class; () for none.

    Args:
      text: `train.class_weights`.
      counts: number of training examples of each class, [classes].

    Raises: InputError for weights of another number of classes, or without an effect.
    """
    if (rule_of := rule(text)) is None:
        return ()
    weights = rule_of(counts)
    if len(weights) != len(counts):
        raise InputError(
            f"train.class_weights has "
            f"{counted(len(weights), 'number')}, but there are {len(counts)} classes"
        )
    present = weights[counts > 0]
    if np.ptp(present) < 1e-6 * present.max():
        least, most = counts[counts > 0].min(), counts.max()
        numbers = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        raise InputError(
            f"train.class_weights={text!r} has no effect: it weights all classes alike, which have "
            f"{numbers} training examples; leave it at ''"
        )
    return tuple((weights * counts.sum() / (weights @ counts)).tolist())
