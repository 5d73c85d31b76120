"""Gains are of paired seeds, and say no more than these can."""

import numpy as np
import pytest
from helpers.results import results
from scipy import stats

from experiments.reporting import about_runs, compare
from experiments.studies import load_study

REDUCTION = load_study("reduction")


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


# --- Unstable rows --------------------------------------------------------------------------------

SIMULATED = 4000  # of which 1 % are 40 +- 6


def share_called_unstable(rows, references, examples=10**9):
    pairs = zip(rows.tolist(), references.tolist(), strict=True)
    return np.mean([compare.is_unstable(row, reference, examples) for row, reference in pairs])


@pytest.mark.parametrize(("seeds", "of_reference"), [(2, 2), (3, 3), (5, 3), (3, 10)])
def test_false_alarms_are_as_rare_as_is_said_where_spreads_are_equal(seeds, of_reference):
    random = np.random.default_rng(0)
    rows = random.normal(25, 0.7, (SIMULATED, seeds))
    references = random.normal(23, 0.7, (SIMULATED, of_reference))
    assert share_called_unstable(rows, references) == pytest.approx(compare.FALSE_ALARMS, abs=0.006)


def test_false_alarms_are_no_more_where_seeds_are_paired_or_errors_are_few():
    random = np.random.default_rng(0)
    common = random.normal(23, 0.7, (SIMULATED, 3))
    rows, references = (common + random.normal(0, 0.5, (SIMULATED, 3)) for _ in range(2))
    assert share_called_unstable(rows, references) < 0.015
    for wrong in (0.0005, 0.03, 0.5):  # with equal errors in many a reference of three
        rows, references = (random.binomial(360, wrong, (SIMULATED, 3)) / 3.6 for _ in range(2))
        assert share_called_unstable(rows, references, 360) < 0.015


def test_a_spread_of_many_times_is_found_at_three_seeds():
    random = np.random.default_rng(0)
    rows, references = random.normal(20, 35, (999, 3)), random.normal(3, 0.7, (999, 3))
    assert share_called_unstable(rows, references, 360) > 0.9
    assert not compare.is_unstable([1.0], [3.0, 4.0], 360)
    assert not compare.is_unstable([1.0, 99.0], [3.0], 360)


def test_an_unstable_row_is_called_so_and_not_just_undecided():
    """The ReLU gate on digits."""
    relu, sigmoid = {0: 21.94, 1: 74.72, 2: 4.72}, {0: 3.89, 1: 1.94, 2: 3.06}
    by_label = gains(_2=relu, _4=sigmoid, _16=sigmoid)
    _, verdicts, rule = compare.in_words(REDUCTION, by_label)
    assert verdicts.startswith("Compared with r = 16: unstable at n = 3: 2; identical")
    assert "which calls 1 % of rows unstable that vary alike" in rule
    assert compare.in_short(REDUCTION, by_label) == (
        "unstable beside r = 16: 2; others not distinguishable"
    )
    ends = "21.94 (seed 0), 74.72 (seed 1), 4.72 (seed 2)"
    (line,) = about_runs.in_words(REDUCTION, results(_2=relu, _16=sigmoid))
    assert line == f"Row 2 is unstable: its seeds end at {ends} per cent."


def test_a_decision_stands_where_a_row_is_unstable_as_well():
    worse = compare.Gain((-40.0, -41.0, -42.0), unstable=True)
    assert worse.verdict == "worse, but unstable"
    assert compare.in_short(REDUCTION, {"4": worse}) == (
        "worse than r = 16: 4; unstable beside r = 16: 4"
    )


def test_seeds_that_end_no_better_than_guessing_are_named():
    ends = {0: 90.0, 1: 87.0, 2: 86.0, 3: 3.0}  # of guesses: 90 +- 1.6
    runs = results(_2=ends, _16={0: 89.0})
    assert (
        about_runs.in_words(REDUCTION, runs) == []
    )  # of a version that did not record the classes
    for run in (*runs["2"], *runs["16"]):
        run["classes"] = 10
    assert about_runs.in_words(REDUCTION, runs) == [
        "Row 2: seeds 0, 1 ended no better than guessing.",
        "Row 16: seed 0 ended no better than guessing.",
    ]


def test_the_reference_has_no_gain_and_without_it_nothing_is_said():
    assert gains(_16={0: 1.0, 1: 2.0}) == {}
    assert compare.in_words(REDUCTION, {}) == []
    assert compare.in_short(REDUCTION, {}) == "too few paired seeds to compare"
    alone = gains(_4={0: 1.0, 1: 2.0})
    assert alone["4"].mean is None
    assert compare.in_words(REDUCTION, alone)[1].endswith("no seed in common: 4.")
