"""The interval of a median, from medians of resampled values."""

from collections.abc import Sequence

import numpy as np


def interval_of_median(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median, from medians of values drawn with replacement."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)
