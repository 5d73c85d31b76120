"""Folds in place of seeds: the runs that are planned, and what their table says of them."""

import dataclasses
import statistics

import pytest
from helpers.results import results
from helpers.runs import finish
from scipy import stats

from experiments import run
from experiments.grid.plan import base_configs, directory_of, on_folds, plan
from experiments.launch import launch
from experiments.reporting import about_runs, collect, compare, primary, publish, same_images, table
from experiments.statistics.paired import (
    BETTER,
    check_expectation,
    half_width,
    standard_error,
    t_interval,
)
from experiments.studies import load_study
from senet_jax.errors import InputError
from senet_jax.system import cli

REDUCTION = load_study("reduction")


def flags_of(*arguments):
    values = run.define_all_flags()
    cli.parse_flags(["run", *arguments], values)
    return values


def planned(*arguments, directory):
    values = flags_of("--folds=5", *arguments)
    bases = run.override(
        on_folds(base_configs(REDUCTION, values), [], values), [], REDUCTION, [*values]
    )
    return plan(REDUCTION, bases, tuple(range(5)), directory, values.folds)


def on(found, folds):
    """Results of runs of which seed N is on fold N + 1."""
    for runs in found.values():
        for each in runs:
            fold = [each["seed"] + 1, folds]
            each["config"] = {"data.fold": fold, "data.train_split": "train", "seed": each["seed"]}
    return found


def test_each_row_is_planned_on_every_fold_and_seeds_number_them(tmp_path):
    runs = planned(directory=tmp_path)
    assert len(runs) == 5 * len(REDUCTION.rows)
    for each in runs:
        assert each.config.data.fold == (each.seed + 1, 5)
        assert each.config.data.eval_split == "test"  # its default, as it has no effect
        assert each.workdir.name == f"seed{each.seed}"
    assert str(directory_of(REDUCTION, flags_of("--folds=5"))) == "runs/reduction/digits-5folds"
    assert str(directory_of(REDUCTION, flags_of())) == "runs/reduction/digits"


@pytest.mark.parametrize(
    ("arguments", "overrides", "sentence"),
    [
        (["--seeds=0"], [], "--seeds is about seeds, and --folds=5 trains seed N on fold N"),
        (["--precision=1"], [], "--precision is about seeds"),
        (["--published"], [], "--published is about seeds"),
        ([], ["--config.data.fold=(1,5)"], "--folds=5 chooses the fold"),
    ],
)
def test_what_goes_by_seeds_is_refused(arguments, overrides, sentence):
    values = flags_of("--folds=5", *arguments)
    with pytest.raises(InputError, match=sentence):
        on_folds(base_configs(REDUCTION, values), overrides, values)


def test_the_corrected_variance_is_that_of_nadeau_and_bengio():
    """The corrected resampled t test with n folds: (1/n + test/train) times the variance."""
    gains, shared = [1.0, 2.0, 4.0, 1.5, 2.5], 1 / 4
    error = (statistics.variance(gains) * (1 / 5 + 1 / 4)) ** 0.5
    assert standard_error(gains, shared) == pytest.approx(error)
    low, high = t_interval(gains, shared=shared)
    half = stats.t.ppf(0.975, 4) * error
    assert (low, high) == pytest.approx((2.2 - half, 2.2 + half))
    assert half_width(gains, shared) == pytest.approx(half)
    p = 2 * stats.t.sf(2.2 / error, 4)
    assert check_expectation(gains, BETTER, shared=shared).p == pytest.approx(p)
    assert half_width(gains, 0) == pytest.approx(half * (0.2 / 0.45) ** 0.5)  # as it was


def test_intervals_of_folds_are_wider_and_the_table_says_why():
    ours, theirs = dict(enumerate((5.0, 6.0, 7.0, 4.0, 6.5))), dict(enumerate((7.0, 9, 8, 7, 8)))
    seeds = compare.gains(REDUCTION, results(_2=ours, _16=theirs))["2"]
    found = on(results(_2=ours, _16=theirs), 5)
    folds = compare.gains(REDUCTION, found)["2"]
    assert folds.differences == seeds.differences
    assert (seeds.shared, folds.shared) == (0.0, 0.25)
    (low, high), (lower, higher) = seeds.interval, folds.interval
    assert (higher - lower) / (high - low) == pytest.approx((0.45 / 0.2) ** 0.5)
    assert primary.deviations(found) == {}
    said = table._folds(found)
    assert "Seed N was evaluated on fold N + 1 of 5 of split 'train', stratified" in said
    assert "Nadeau and Bengio (2003), 1/n + 1/4 times" in said
    assert "over the folds that both have" in compare.in_words(REDUCTION, {"2": folds})[0]
    assert table._folds(results(_2=ours)) == ""
    one_fold = on(results(_2={0: 5.0}), 5)
    assert compare.shared_by_folds(one_fold) == 0.0


def test_runs_on_folds_are_named_by_their_folds():
    """Seed N is on fold N + 1, which is what a reader of the table looks for."""
    found = on(results(_2={0: 5.0, 1: 90.0, 2: 5.5}, _16={0: 5.0, 1: 5.1, 2: 5.5}), 5)
    for runs in found.values():
        for each in runs:
            each.update({"classes": 10, "eval/examples": 720, "step": 20, "planned_steps": 30})
            each["config"]["train.patience"] = 2
    unfinished = {"4": {1: "out of memory.", 3: "", 4: ""}}
    said = " ".join(
        [
            *about_runs.in_words(REDUCTION, found),
            *about_runs.missing(REDUCTION, found, unfinished),
            compare.Gain((0.0, 0.0), shared=0.25).verdict,
            compare.Gain((), shared=0.25).verdict,
            compare.Gain((1.0,), shared=0.25).verdict,
        ]
    )
    for sentence in (
        "Row 2 is unstable: its folds end at 5.00 (fold 1), 90.00 (fold 2), 5.50 (fold 3) per cent",
        "Row 2: fold 2 ended no better than guessing.",
        "fold 1 at step 20 of 30, fold 2 at step",
        "Row 4: fold 2 failed: out of memory.",
        "Row 4: folds 1, 3, 4, 5 have no result.",
        "identical in all 2 folds",
        "no fold in common",
        "one paired fold",
    ):
        assert sentence in said
    assert "seed" not in said


def test_runs_on_folds_are_one_study_but_not_with_others(tmp_path):
    sizes = {seed: 288 - (seed > 1) for seed in range(5)}
    for each in planned(directory=tmp_path):
        if each.row.label in ("2", "16"):
            finish(each.workdir, each.config, **{"eval/examples": sizes[each.seed]})
    found = collect.collect(REDUCTION, tmp_path)
    assert [len(runs) for runs in found.results.values()] == [5, 5]
    assert not found.damaged
    assert same_images.in_words(REDUCTION, found.results) == []
    with pytest.raises(InputError, match="these runs are on folds"):
        publish.publish(REDUCTION, found.results, {})
    config = planned(directory=tmp_path)[0].config
    config.update_from_flattened_dict({"data.fold": (), "seed": 5})
    finish(tmp_path / "2" / "seed5", config)
    with pytest.raises(InputError, match=r"different configurations: data\.fold"):
        collect.collect(REDUCTION, tmp_path)


def test_folds_that_do_not_go_by_seeds_are_no_study_on_folds(tmp_path):
    """One fold with several seeds is one set of images; two folds with any seeds are two."""

    def with_folds(folder, *numbers):
        for seed, number in enumerate(numbers):
            config = base_configs(REDUCTION, flags_of())[0]
            with config.unlocked():
                config.update_from_flattened_dict({"data.fold": (number, 5), "seed": seed})
            finish(tmp_path / folder / REDUCTION.rows[0].label / f"seed{seed}", config)
        return collect.collect(REDUCTION, tmp_path / folder).results

    found = with_folds("one", 2, 2, 2)
    assert compare.folds_of(found) == 0
    assert "Seed N was evaluated" not in table.caption(REDUCTION, found)
    assert "data.fold ([] in the study, [2, 5] here)" in table.caption(REDUCTION, found)
    with pytest.raises(InputError, match="these runs are on folds"):
        publish.publish(REDUCTION, found, {})
    with pytest.raises(InputError, match=r"different configurations: data\.fold"):
        with_folds("others", 2, 1)


def test_rows_on_different_folds_are_no_study_on_folds_and_said_to_be_on_other_images():
    found = on(results(_2={0: 5.0, 1: 6.0}, _16={0: 5.5, 1: 6.5}), 5)
    assert compare.folds_of(found) == 5
    assert same_images.in_words(REDUCTION, found) == []
    for label, fold in (("2", 1), ("16", 2)):
        for each in found[label]:
            each["config"]["data.fold"] = [fold, 5]
    assert compare.folds_of(found) == 0
    assert compare.gains(REDUCTION, found)["2"].shared == 0.0
    (said,) = same_images.in_words(REDUCTION, found)
    assert "2" in said


def test_a_study_on_folds_continues_and_refuses_other_folds(tmp_path):
    """Runs of a row are on the folds of their seeds: the same command trains what is missing."""
    runs = planned(directory=tmp_path)
    for each in runs[:-1]:
        finish(each.workdir, each.config)
    trained = []
    assert launch(runs, lambda missing: trained.extend(missing) or {}) == {}
    assert trained == runs[-1:]
    for change in ({"data.fold": (1, 4)}, {"data.fold": (1, 5, 7)}, {"data.fold": ()}):
        other = planned(directory=tmp_path)[0]
        other.config.update_from_flattened_dict(change)
        with pytest.raises(InputError, match=r"another configuration, differing in data\.fold"):
            launch([dataclasses.replace(other, workdir=tmp_path / other.row.label / "new")], print)
