"""Intervals of errors: of test images for one network, of seeds for several runs."""

import math
from collections.abc import Sequence


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
