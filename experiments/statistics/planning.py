"""How many seeds a comparison needs, by the deviation of the differences that there are."""

import math

import numpy as np
import scipy

from experiments.statistics.paired import ALPHA, BETTER, EQUIVALENT, LEVEL

MOST = 1000  # seeds; more are not worth a plan


def power(deviation: float, seeds: int, effect: float, expected: str = BETTER) -> float:
    """The probability that so many paired seeds confirm an expectation that is true.

    Args:
      deviation: standard deviation of a difference, in points.
      effect: the true gain in points of BETTER and WORSE, by its size; of EQUIVALENT the margin,
        where the true gain is 0.
    """
    if seeds < 2:
        return 0.0
    if expected != EQUIVALENT:
        freedom, shift = seeds - 1, abs(effect) / deviation * math.sqrt(seeds)
        limit = scipy.stats.t.isf(ALPHA / 2, freedom)
        return float(scipy.stats.nct.sf(limit, freedom, shift))
    # Of two one-sided tests: the mean and the deviation are independent, so it is the expectation
    # over the deviation (Phillips 1990), here at the middles of equally probable parts.
    freedom = seeds - 1
    parts = (np.arange(2000) + 0.5) / 2000
    measured = deviation * np.sqrt(scipy.stats.chi2.ppf(parts, freedom) / freedom)
    limit = effect - scipy.stats.t.ppf(1 - ALPHA, freedom) * measured / math.sqrt(seeds)
    within = 2 * scipy.stats.norm.cdf(limit * math.sqrt(seeds) / deviation) - 1
    return float(np.where(limit > 0, within, 0).mean())


def seeds_for_half_width(deviation: float, half_width: float) -> int | None:
    """The fewest seeds whose expected interval is as narrow as that; None for more than MOST."""
    for seeds in range(2, MOST + 1):
        expected = scipy.stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * deviation / math.sqrt(seeds)
        if expected <= half_width:
            return seeds
    return None


def seeds_for_power(
    deviation: float, effect: float, expected: str = BETTER, least: float = 0.9
) -> int | None:
    """The fewest seeds with that power; None for more than MOST. Arguments are those of `power`."""
    for seeds in range(2, MOST + 1):
        if power(deviation, seeds, effect, expected) >= least:
            return seeds
    return None
