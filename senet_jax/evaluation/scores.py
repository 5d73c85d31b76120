"""Scores of examples from networks' outputs, put together over views and networks.

All of it is NumPy in float64 on logarithms of probabilities, so that for one network and one view
of an image the order of the classes and the loss are those of the logits.
"""

import dataclasses

import numpy as np

BEST = 5  # classes that are written down for each example, and count for the top-5 error


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Predictions of an ensemble and of each of its M members for B examples of a split.

    Attributes:
      label: true classes [B].
      mask: [B], 0 for padding and for what could not be decoded.
      together: logarithms of the ensemble's probabilities [B, classes].
      members: logarithms of each member's probabilities [M, B, classes].
    """

    label: np.ndarray
    mask: np.ndarray
    together: np.ndarray
    members: np.ndarray


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Logits [B, V, classes] of V views to the logarithm of their mean probabilities [B, classes].

    It is not a number for an example with a logit that is not finite.
    """
    finite = np.isfinite(logits).all(axis=-1, keepdims=True)
    logits = np.where(finite, np.float64(logits), np.nan)
    return log_mean(logits - log_sum(logits, axis=-1), axis=1)


def log_mean(x: np.ndarray, axis: int) -> np.ndarray:
    """The logarithm of the mean of exp(x) along an axis, which goes."""
    return (log_sum(x, axis) - np.log(x.shape[axis])).squeeze(axis)


def log_sum(x: np.ndarray, axis: int) -> np.ndarray:
    """The logarithm of the sum of exp(x) along an axis, which stays; faster than SciPy's."""
    highest = x.max(axis=axis, keepdims=True)
    return highest + np.log(np.exp(x - highest).sum(axis=axis, keepdims=True))


def best(log_probability: np.ndarray, count: int = BEST) -> np.ndarray:
    """The `count` most probable classes [B, count], or all if there are fewer; equals in order."""
    return np.argsort(-log_probability, axis=-1, kind="stable")[:, :count]


def outcomes(log_probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most probable classes [B], -1 where there is none, and their probabilities [B]."""
    finite = ~np.isnan(log_probability).any(axis=-1)
    predicted = best(log_probability, 1)[:, 0]
    return np.where(finite, predicted, -1), np.exp(log_probability.max(axis=-1))


def sums(log_probability: np.ndarray, label: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """The sums of steps.make_eval_step, from logarithms of probabilities [B, classes]."""
    real = mask > 0
    log_probability, label = log_probability[real], label[real]
    of_label = np.take_along_axis(log_probability, label[:, None], axis=-1)
    hits = (best(log_probability) == label[:, None]) & np.isfinite(of_label)
    return {
        "loss": float(-of_label.sum()),
        "top1": float(hits[:, :1].sum()),
        "top5": float(hits.sum()),
        "probability": float(np.exp(of_label).sum()),
        "examples": float(real.sum()),
    }
