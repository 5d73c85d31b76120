"""Differences of paired seeds: intervals, tests of what was expected, and Holm's correction.

A difference is the reference's error less the row's, in points, so that it is positive where the
row is better. All tests are Student's t tests on the differences.

`scipy.stats` is named in full, here and in the other files: SciPy then imports it at first use, as
it takes most of a second, which commands that only train need not wait for.
"""

import dataclasses
import statistics
from collections.abc import Sequence

import scipy

LEVEL = 0.95
ALPHA = 1 - LEVEL
# In points. Errors are multiples of 100 / examples, so a smaller difference is due to rounding.
ROUNDING = 1e-9

BETTER, WORSE, EQUIVALENT = EXPECTATIONS = ("better", "worse", "equivalent")
CONFIRMED, CONTRADICTED, UNDECIDED = ("confirmed", "contradicted", "undecided")


def standard_error(values: Sequence[float], shared: float = 0.0) -> float:
    """The standard error of a mean.

    Args:
      shared: number of test examples per training example of runs on folds, which share training
        examples; their variance is that of the corrected resampled t test (Nadeau and Bengio 2003,
        "Inference for the generalization error"). 0 for independent runs.
    """
    return statistics.stdev(values) * (1 / len(values) + shared) ** 0.5


def t_interval(
    values: Sequence[float], level: float = LEVEL, shared: float = 0.0
) -> tuple[float, float] | None:
    """The confidence interval of the mean by Student's t; see standard_error for `shared`.

    It is None for fewer than two values, and for equal ones: without a spread there is nothing to
    estimate it from, and an interval without width would claim a certainty that two or three seeds
    do not give.
    """
    if not has_spread(values):
        return None
    mean, error = statistics.fmean(values), standard_error(values, shared)
    half = float(scipy.stats.t.ppf((1 + level) / 2, len(values) - 1)) * error
    return mean - half, mean + half


def has_spread(values: Sequence[float]) -> bool:
    """Whether there are two values that differ by more than rounding."""
    return len(values) > 1 and max(values) - min(values) >= ROUNDING


def half_width(values: Sequence[float], shared: float = 0.0) -> float:
    """Half the width of `t_interval`; infinite where there is none."""
    interval = t_interval(values, shared=shared)
    return (interval[1] - interval[0]) / 2 if interval else float("inf")


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the differences say about an expectation, before a correction for several of them.

    Attributes:
      p: the smaller of the p values for it and against it; 1 where there is no spread.
      supports: whether the smaller one is that for it.
    """

    p: float
    supports: bool


NO_EVIDENCE = Evidence(1.0, supports=False)


def check_expectation(
    differences: Sequence[float], expected: str, margin: float = 0.0, shared: float = 0.0
) -> Evidence:
    """Test whether differences are as expected, and whether they are the contrary.

    BETTER and WORSE: the two-sided t test, of which one direction is the expected one. EQUIVALENT:
    two one-sided tests (TOST) on whether the mean is within the margin, and, for the contrary, the
    two-sided test on whether it is beyond. Whichever is true, only one of the two conclusions is
    false, so the probability of a false one is at most the level.

    Args:
      margin: most points that count as none; needed for EQUIVALENT alone.
      shared: see standard_error.
    """
    if not has_spread(differences):
        return NO_EVIDENCE

    mean, count = statistics.fmean(differences), len(differences)
    error = standard_error(differences, shared)

    def p_above(least: float) -> float:
        """The p value of one-sided Student's t for a mean above `least`."""
        return float(scipy.special.stdtr(count - 1, (least - mean) / error))

    if expected == EQUIVALENT:
        within = max(p_above(-margin), 1 - p_above(margin))
        beyond = min(1.0, 2 * min(p_above(margin), 1 - p_above(-margin)))
        return Evidence(min(within, beyond), supports=within <= beyond)
    is_better = p_above(0.0)
    two_sided = 2 * min(is_better, 1 - is_better)
    return Evidence(two_sided, supports=(is_better < 0.5) == (expected == BETTER))


def decide(evidence: Sequence[Evidence]) -> list[tuple[str, float]]:
    """The verdict on each expectation and its p value, corrected for all of them by Holm's method.

    The probability that any verdict but UNDECIDED is false is at most ALPHA.
    """
    order = sorted(range(len(evidence)), key=lambda place: evidence[place].p)
    decided, p = [(UNDECIDED, 1.0)] * len(evidence), 0.0
    for number, place in enumerate(order):
        p = min(1.0, max(p, (len(order) - number) * evidence[place].p))
        verdict = CONFIRMED if evidence[place].supports else CONTRADICTED
        decided[place] = (verdict if p < ALPHA else UNDECIDED, p)
    return decided
