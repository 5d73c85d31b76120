"""The interval of a median, whatever distribution the values are from."""

import math
from collections.abc import Sequence

import scipy


def interval_of_median(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the median, two of the values; None of fewer than six.

    Between the least and the most of five lies the median in 94 % of cases. Medians of resampled
    values would cover it in 89 to 93 % of cases of six to eight values, as there are turns here.
    """
    low, high = scipy.stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    return None if math.isnan(low) else (float(low), float(high))
