"""Intervals and tests of errors against those of other libraries."""

import numpy as np
import pytest
from scipy.stats import binomtest

from senet_jax.evaluation import intervals


@pytest.mark.parametrize(("one", "other"), [(0, 0), (3, 12), (40, 41), (7, 0)])
def test_mcnemars_test_is_that_of_statsmodels(one, other):
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    expected = contingency.mcnemar([[50, one], [other, 10]], exact=True).pvalue
    assert intervals.mcnemar(one, other) == pytest.approx(expected)
    if one + other:
        assert intervals.mcnemar(one, other) == binomtest(one, one + other).pvalue


def test_a_bootstrap_interval_is_near_the_normal_one():
    values = np.random.default_rng(1).normal(3, 2, 400)
    half = 1.96 * values.std() / 20
    low, high = intervals.bootstrap(values)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)
