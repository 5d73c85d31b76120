"""Gains are of paired seeds, and say no more than these can."""

import pytest
from scipy import stats

from experiments.reporting import compare
from experiments.studies import load_study

REDUCTION = load_study("reduction")


def results(**errors):
    """Results from the errors by seed of each row, named by its label after an underscore."""
    return {
        label.removeprefix("_"): [
            {"seed": seed, "eval/top1_error": error} for seed, error in by_seed.items()
        ]
        for label, by_seed in errors.items()
    }


def gains(**errors):
    return compare.gains(REDUCTION, results(**errors))


def test_an_interval_is_that_of_a_paired_t_test():
    ours, theirs = (24.1, 23.2, 25.0, 22.9), (24.9, 24.6, 25.1, 24.8)
    gain = gains(_4=dict(enumerate(ours)), _16=dict(enumerate(theirs)))["4"]
    expected = stats.ttest_rel(theirs, ours).confidence_interval(0.95)
    assert gain.interval == pytest.approx((expected.low, expected.high))
    assert gain.mean == pytest.approx(1.05)


def test_an_interval_computed_by_hand():
    # Differences 1, 2, 3: mean 2, deviation 1, standard error 1 / sqrt(3); t(0.975, 2) = 4.30265.
    gain = gains(_4={0: 9, 1: 8, 2: 7}, _16={0: 10, 1: 10, 2: 10})["4"]
    assert gain.mean == 2
    assert gain.interval == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)
    assert gain.verdict == "not distinguishable at n = 3"


def test_seeds_that_one_row_lacks_do_not_count():
    paired = gains(_4={0: 9, 1: 8}, _16={0: 10, 1: 10})["4"]
    more = gains(_4={1: 8, 0: 9, 7: 99}, _16={0: 10, 1: 10, 3: 0})["4"]
    assert sorted(more.differences) == sorted(paired.differences) == [1, 2]


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        ({0: 1.0, 1: 1.1, 2: 0.9}, "better"),
        ({0: 20.0, 1: 20.1, 2: 20.2}, "worse"),
        ({0: 9.0, 1: 11.0, 2: 10.5}, "not distinguishable at n = 3"),
        ({0: 9.0, 1: 11.0}, "not distinguishable at n = 2"),
        ({0: 10.0, 1: 10.0, 2: 10.0}, "identical in all 3 seeds"),
        # 1 / 360 of a hundred, computed in two ways: equal but for rounding.
        ({0: 10 - 1 / 3.6, 1: 10 - 0.1 / 0.36, 2: 10 - 1 / 3.6}, "the same difference in all 3"),
        ({0: 9.0}, "one paired seed"),
        ({5: 9.0}, "no seed in common"),
    ],
)
def test_verdicts(row, verdict):
    gain = gains(_4=row, _16={0: 10.0, 1: 10.0, 2: 10.0})["4"]
    assert gain.verdict.startswith(verdict)
    assert (gain.interval is None) == (not verdict.startswith(("better", "worse", "not dist")))


def test_words_name_every_row_once_and_the_reference():
    reference = {0: 10.0, 1: 10.1, 2: 10.2}
    by_label = gains(
        _original={seed: error + 9 + seed / 10 for seed, error in reference.items()},
        _2={0: 1.0, 1: 1.1, 2: 1.3},
        _4=reference,
        _8={0: 9.0, 1: 11.0, 2: 10.0},
        _16=reference,
    )
    definition, verdicts = compare.in_words(REDUCTION, by_label)
    assert "not corrected for the number of rows" in definition
    assert verdicts == (
        "Compared with r = 16: better: 2; worse: original; identical in all 3 seeds: 4; "
        "not distinguishable at n = 3: 8."
    )
    assert compare.in_short(REDUCTION, by_label) == (
        "better than r = 16: 2; worse than r = 16: original; others not distinguishable"
    )


def test_the_reference_has_no_gain_and_without_it_nothing_is_said():
    assert gains(_16={0: 1.0, 1: 2.0}) == {}
    assert compare.in_words(REDUCTION, {}) == []
    assert compare.in_short(REDUCTION, {}) == "too few paired seeds to compare"
    alone = gains(_4={0: 1.0, 1: 2.0})
    assert alone["4"].mean is None
    assert compare.in_words(REDUCTION, alone)[1].endswith("no seed in common: 4.")
