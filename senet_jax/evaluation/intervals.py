"""Intervals of errors, of one network and of two: over test images, and over seeds."""

import math
from collections.abc import Sequence

import numpy as np


def wilson(errors: int, examples: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of an error in per cent, of errors among independent examples.

    It says how well the test images place the error of this one network (Wilson 1927).
    """
    from scipy.stats import binomtest

    interval = binomtest(errors, examples).proportion_ci(confidence, "wilson")
    return 100 * float(interval.low), 100 * float(interval.high)


def of_seeds(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of two or more values, one a seed, and the ends of its t interval."""
    from scipy.stats import t

    count = len(values)
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = float(t.ppf((1 + confidence) / 2, count - 1)) * math.sqrt(variance / count)
    return mean, mean - half, mean + half


def mcnemar(only_one: int, only_other: int) -> float:
    """The two-sided exact p-value of McNemar's test.

    It asks whether two networks are wrong equally often (McNemar 1947).

    Args:
      only_one, only_other: examples on which only one of the two networks is wrong.
    """
    from scipy.stats import binomtest

    if not only_one + only_other:
        return 1.0
    return float(binomtest(only_one, only_one + only_other, 0.5).pvalue)


def bootstrap(
    values: np.ndarray, confidence: float = 0.95, draws: int = 2000
) -> tuple[float, float]:
    """Percentile interval of the mean of values [N], over draws of N examples (Efron 1979)."""
    # Always the same draws: the same errors have the same interval.
    rng = np.random.default_rng(0)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(draws)]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(means, (tail, 100 - tail))
    return float(low), float(high)
