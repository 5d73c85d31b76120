"""What a study set out to say is decided by its runs, and words say no more than these.

The file is long because it goes from statistics to what is published and claimed, on the same runs.
"""

import dataclasses
import io
import itertools
import re

import numpy as np
import pytest
from helpers.results import results
from helpers.runs import finish
from PIL import Image

from experiments import power, report
from experiments.grid.comparison import Comparison, better, equivalent, worse
from experiments.grid.plan import base_config, plan
from experiments.reporting import blocks, forest, primary, publish, published, table, verdicts
from experiments.reporting.claims import CLAIMS, Claim
from experiments.reporting.collect import collect
from experiments.run import main as run_main
from experiments.statistics.paired import CONFIRMED, CONTRADICTED, UNDECIDED, t_interval
from experiments.studies import load_studies, load_study
from senet_jax.errors import InputError
from senet_jax.evaluation.loop import pack

REDUCTION = load_study("reduction")


def spread(mean, *deviations):
    return {seed: mean + deviation for seed, deviation in enumerate(deviations)}


NOISE = (0.1, -0.1, 0.05, -0.05, 0.02, -0.02)
OTHER = (0.02, 0.1, -0.02, -0.1, 0.05, -0.05)


def decided(**errors):
    found = primary.decisions(REDUCTION, results(**errors))
    return {each.comparison.row: each for each in found}


def test_each_primary_comparison_has_its_verdict_and_interval():
    by_row = decided(
        _original=spread(31, *NOISE),  # 16 is better than it, as expected
        _16=spread(30, *OTHER),
        _2=spread(30.1, *NOISE),  # level, as expected
        _4=spread(31.5, *NOISE),  # beyond the margin
        _8=spread(30.5, *NOISE),  # on its edge
        _32=spread(29, *NOISE),  # better, against what was expected
    )
    assert {row: each.verdict for row, each in by_row.items()} == {
        "16": CONFIRMED,
        "2": CONFIRMED,
        "4": CONTRADICTED,
        "8": UNDECIDED,
        "32": CONTRADICTED,
    }
    gain = by_row["16"]
    assert np.mean(gain.differences) == pytest.approx(1)
    low, high = t_interval(gain.differences)
    assert gain.half_width == pytest.approx((high - low) / 2)
    assert gain.new_images is None
    assert f"+1.00 [{low:.2f}, {high:.2f}], p < 0.001, n = 6" == gain.numbers


@pytest.mark.parametrize("level", [29.9, 30, 30.4, 31])
def test_rows_without_results_are_not_decided_but_their_runs_undo_no_verdict(level):
    errors = {"_original": spread(30.2, *NOISE[:5]), "_16": spread(30, *OTHER[:5])}
    alone = decided(**errors)
    assert alone.keys() == {"16"}
    others = {f"_{ratio}": spread(level, *NOISE[:5]) for ratio in (2, 4, 8, 32)}
    assert alone["16"].verdict == UNDECIDED  # which without the correction it would not be
    assert decided(**errors, **others)["16"].p <= alone["16"].p
    assert primary.widest(REDUCTION, results(**errors)) == float("inf")
    assert primary.NOT_WHOLE in primary.in_words(REDUCTION, with_right(errors))[-1]


def test_without_a_spread_it_is_not_that_runs_are_too_few():
    same = with_right({f"_{row.label}": dict.fromkeys(range(7), 25.0) for row in REDUCTION.rows})
    lines = primary.in_words(REDUCTION, same)
    assert "r = 2 is within 0.5 points of r = 16: undecided (+0.00, n = 7)." in lines
    assert "needs more seeds" in lines[-1]
    assert primary.NOT_WHOLE in lines[-1]
    assert "inf" not in "".join(lines)


def test_numbers_of_one_sentence_are_of_the_same_runs():
    """Runs of earlier versions do not say which images they have right."""
    found = with_right({"_original": spread(33, 1, -1, 0.5), "_16": spread(30, 0.5, -0.5, 1)})
    assert primary.decisions(REDUCTION, found)[0].new_images is not None
    assert primary.deviations(found).keys() == {"original", "16"}
    del found["16"][1]["eval/right"]
    (gain,) = primary.decisions(REDUCTION, found)
    assert len(gain.differences) == 3
    assert gain.new_images is None
    assert primary.deviations(found).keys() == {"original"}


@pytest.mark.parametrize("seeds", [0, 1])
def test_too_few_seeds_are_not_decided_but_what_will_be_is_said(seeds):
    given = {label: spread(30, *NOISE[:seeds]) for label in ("_original", "_16")} if seeds else {}
    (line,) = primary.in_words(REDUCTION, results(**given))
    assert "too few" in line
    assert "r = 2 is within 0.5 points of r = 16" in line


def with_right(label_errors, images=400, seed=0):
    """Results whose runs say which images they have right."""
    rng = np.random.default_rng(seed)
    found = results(**label_errors)
    for runs in found.values():
        for run in runs:
            wrong = rng.permutation(images) < round(run["eval/top1_error"] / 100 * images)
            run["eval/right"], run["eval/examples"] = pack(~wrong), images
            run["eval/top1_error"] = 100 * wrong.mean()
            run["eval/loss"], run["eval/probability"] = 2 * wrong.mean(), 1 - wrong.mean()
            run["finished"] = "2026-11-28T00:00:00+00:00"
    return found


def test_what_runs_have_right_gives_intervals_for_new_images_and_splits_deviations():
    found = with_right({"_original": spread(33, 1, -1, 0.5), "_16": spread(30, 0.5, -0.5, 1)})
    (gain,) = primary.decisions(REDUCTION, found)
    low, high = t_interval(gain.differences)
    assert gain.new_images[1] - gain.new_images[0] >= 0.99 * (high - low)
    text = "\n".join(table_lines(found))
    assert f"for new images [{gain.new_images[0]:.2f}, {gain.new_images[1]:.2f}]" in text
    split = primary.deviations(found)["16"]
    assert f"16: {split.total:.2f} = {split.test_set:.2f} and {split.genuine:.2f}" in text
    assert "Secondary end points" in text
    # Only runs that saw the same number of images can be compared image by image.
    found["16"][0]["eval/right"], found["16"][0]["eval/examples"] = pack(np.ones(5)), 5
    (gain,) = primary.decisions(REDUCTION, found)
    assert gain.new_images is None


def table_lines(found):
    return [
        *primary.in_words(REDUCTION, found),
        *primary.about_secondary(REDUCTION, found),
        *primary.about_deviations(found),
    ]


def test_the_table_says_whether_runs_were_known_when_claims_were_written_down():
    found = with_right({"_original": spread(33, 1, -1), "_16": spread(30, 0.5, -0.5)})
    assert "before these runs" in primary.in_words(REDUCTION, found)[0]
    found["16"][0]["finished"] = "2026-01-01T00:00:00+00:00"
    assert "when runs were known" in primary.in_words(REDUCTION, found)[0]


@pytest.mark.parametrize("study", load_studies(), ids=lambda study: study.name)
def test_primary_comparisons_are_of_rows_that_there_are(study):
    labels = {row.label for row in study.rows}
    for comparison in study.primary:
        assert {comparison.row, comparison.reference} <= labels
    rows = [comparison.row for comparison in study.primary]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize(
    "fields", [("a", "b", "best"), ("a", "b", "better", 0.5), ("a", "b", "equivalent")]
)
def test_a_comparison_that_means_nothing_is_refused(fields):
    with pytest.raises(ValueError, match=r"expected must be|a margin above 0"):
        Comparison(*fields)


def test_every_claim_is_decided_by_comparisons_that_its_study_declares():
    assert len(CLAIMS) >= 15
    for claim in CLAIMS:
        declared = {comparison.row for comparison in load_study(claim.study).primary}
        assert set(claim.rows) <= declared, claim.text


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ((CONFIRMED, CONFIRMED), "reproduced"),
        ((CONFIRMED, UNDECIDED), "undecided"),
        ((CONFIRMED,), "undecided"),
        ((UNDECIDED, CONTRADICTED), "contradicted"),
    ],
)
def test_a_claim_is_reproduced_if_all_of_it_is(found, verdict):
    comparisons = [better("a", "x"), equivalent("b", "x"), worse("c", "x")]
    claim = Claim("", "", "", ("a", "b"))
    of_rows = [
        primary.Decided(comparison, (), each, 1.0, None)
        for comparison, each in zip(comparisons, found, strict=False)
    ]
    others = [primary.Decided(comparisons[2], (), CONTRADICTED, 1.0, None)]
    assert verdicts.verdict(claim, of_rows + others) == verdict


def runs_of(study, directory, seeds, labels=None):
    """Finished runs of a study on the digits, of some rows or all, whose errors are drawn."""
    _, runs = planned(study, directory, seeds)
    for run in runs:
        if labels is None or run.row.label in labels:
            rng = np.random.default_rng([run.seed, *run.row.label.encode()])
            finish(run.workdir, run.config, **{"eval/top1_error": 3 + 0.12 * rng.standard_normal()})


@pytest.fixture
def checkout(checkout, tmp_path, monkeypatch):
    """A checkout with the runs of two seeds of the reduction study published, without figures."""
    runs_of(REDUCTION, tmp_path / "theirs", (0, 1))
    with monkeypatch.context() as patched:
        patched.setattr(publish, "figure_files", lambda *_: {})
        publish.publish(REDUCTION, collect(REDUCTION, tmp_path / "theirs").results, {})
    return checkout


def planned(study, directory, seeds):
    bases = [base_config(study, row, "digits", smoke=False) for row in study.rows]
    return bases, plan(study, bases, seeds, directory)


def test_published_runs_of_the_same_configuration_are_done(checkout, tmp_path):
    known = published.read(REDUCTION, "digits")
    bases, runs = planned(REDUCTION, tmp_path / "ours", (0, 1, 2))
    assert {run.seed for run in published.remaining(runs, known)} == {2}
    runs_of(REDUCTION, tmp_path / "ours", (2,))
    ours = collect(REDUCTION, tmp_path / "ours").results
    together = published.add(REDUCTION, ours, bases, known)
    assert {tuple(r["seed"] for r in of_row) for of_row in together.values()} == {(0, 1, 2)}
    for run in runs:  # another configuration is not done
        run.config.train.epochs = 99.0
    assert published.remaining(runs, known) == runs
    other = load_study("wrong_variants")  # whose plain and SE rows are the same networks
    _, runs = planned(other, tmp_path / "other", (0, 5))
    done = {(r.row.label, r.seed) for r in runs} - {
        (r.row.label, r.seed) for r in published.remaining(runs, known)
    }
    assert done == {("plain", 0), ("SE", 0)}


def test_it_is_said_which_rows_no_published_run_counts_for_and_why(checkout, tmp_path, capsys):
    bases, _ = planned(REDUCTION, tmp_path, (0,))
    published.announce(REDUCTION, bases, "digits")
    assert capsys.readouterr().out == ""
    bases[1] = bases[1].copy_and_resolve_references()
    bases[1].update({"train": {"epochs": 99.0}})
    published.announce(REDUCTION, bases, "digits")
    assert capsys.readouterr().out == (
        "no published run has the configuration of 2; the nearest to 2 differs in "
        "train.epochs (15.0 there, 99.0 here)\n"
    )
    published.announce(REDUCTION, bases, "digits:1.0.0")
    assert "nothing is published on digits:1.0.0" in capsys.readouterr().out
    transfer = load_study("transfer")
    published.announce(transfer, planned(transfer, tmp_path, (0,))[0], "digits")
    assert "counts for linear-probe, all-layers, layer-decay" in capsys.readouterr().out


def test_a_report_adds_published_runs_of_the_flags_that_runs_here_had(
    checkout, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("experiments.reporting.write.figure_files", lambda *_: {})
    bases, _ = planned(REDUCTION, tmp_path, (0,))
    for base in bases:
        base.train.epochs = 3.0
    for place, seeds in (("theirs", (0, 1)), ("ours", (2,))):
        for one in plan(REDUCTION, bases, seeds, tmp_path / "flags" / place):
            finish(one.workdir, one.config, **{"eval/top1_error": 3.0 + one.seed})
    theirs, ours = (tmp_path / "flags" / place for place in ("theirs", "ours"))
    publish.publish(REDUCTION, collect(REDUCTION, theirs).results, {})
    capsys.readouterr()
    report.main(["report", "reduction", "--published", f"--workdir={ours}"])
    assert "no published run has the configuration" not in capsys.readouterr().out
    assert "4.00 ± 1.00 (3)" in (ours / "table.md").read_text()


def test_it_is_said_where_runs_here_count_for_published_ones_with_other_results(
    checkout, tmp_path, capsys
):
    known = published.read(REDUCTION, "digits")
    bases, runs = planned(REDUCTION, tmp_path / "ours", (0, 1))
    runs_of(REDUCTION, tmp_path / "ours", (0, 1, 2), labels={"original", "2", "16"})
    for run in runs:
        if run.row.label == "2" or (run.row.label, run.seed) == ("16", 1):
            finish(run.workdir, run.config, **{"eval/top1_error": 9.0})
    ours = collect(REDUCTION, tmp_path / "ours").results
    published.announce_exchanged(REDUCTION, ours, bases, known)
    counts = "the runs here count; published ones have other results"
    assert capsys.readouterr().out.splitlines() == [
        f"of 2, seeds 0, 1 {counts}",
        f"of 16, seeds 1 {counts}",
    ]
    together = published.add(REDUCTION, ours, bases, known)
    assert {run["eval/top1_error"] for run in together["2"] if run["seed"] < 2} == {9.0}
    publish.publish(REDUCTION, together, {})
    assert capsys.readouterr().out.splitlines() == [
        "published anew, with other results: 2, seeds 0, 1",
        "published anew, with other results: 16, seeds 1",
    ]
    publish.publish(REDUCTION, together, {})  # what has not changed needs no word
    assert capsys.readouterr().out == ""


def test_what_publishing_takes_away_is_said(checkout, tmp_path, capsys):
    runs_of(REDUCTION, tmp_path / "ours", (1, 2), labels={"original", "2"})
    publish.publish(REDUCTION, collect(REDUCTION, tmp_path / "ours").results, {})
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(";")[0].partition(": ")[2] for line in said] == [
        f"{row.label}, seeds {'0' if row.label in ('original', '2') else '0, 1'}"
        for row in REDUCTION.rows
    ]


def test_what_starts_from_another_run_is_trained_with_it(checkout, tmp_path):
    transfer = load_study("transfer")
    runs_of(transfer, tmp_path / "transfer", (0,))
    publish.publish(transfer, collect(transfer, tmp_path / "transfer").results, {})
    known = published.read(transfer, "digits")
    _, runs = planned(transfer, tmp_path / "ours", (0,))
    rest = {run.row.label for run in published.remaining(runs, known)}
    assert rest == {row.label for row in transfer.rows} - {"scratch"}


def test_seeds_are_added_in_whole_rounds_until_intervals_are_narrow(
    tmp_path, monkeypatch, capsys, checkout
):
    """With published runs as the first rounds; and the end is a matter of widths alone."""
    monkeypatch.chdir(tmp_path)
    rounds = []

    def launcher(runs):
        rounds.append([(run.row.label, run.seed) for run in runs])
        for run in runs:
            runs_of(REDUCTION, run.workdir.parents[1], (run.seed,), labels={run.row.label})
        return {}

    monkeypatch.setattr("experiments.run.choice.launcher_of", lambda *_, **__: launcher)
    monkeypatch.setattr("experiments.reporting.write.figure_files", lambda *_: {})
    arguments = ["run", "reduction", "--published", "--seeds=0,1,2", "--precision=0.35"]
    run_main([*arguments, "--most_seeds=15"])
    labels = [row.label for row in REDUCTION.rows]
    assert rounds == [[(label, seed) for label in labels] for seed in range(2, 2 + len(rounds))]
    found = published.add(
        REDUCTION,
        collect(REDUCTION, tmp_path / "runs" / "reduction" / "digits").results,
        planned(REDUCTION, tmp_path, (0,))[0],
        published.read(REDUCTION, "digits"),
    )
    assert 4 < len(found["16"]) < 10
    assert primary.widest(REDUCTION, found) <= 0.35
    fewer = {label: runs[:-1] for label, runs in found.items()}
    assert primary.widest(REDUCTION, fewer) > 0.35
    few = {label: runs[: primary.FEWEST - 1] for label, runs in found.items()}
    assert primary.widest(REDUCTION, few) == float("inf")
    run_main([*arguments, "--most_seeds=3"])  # enough as it is
    assert "6 of 18 runs" not in capsys.readouterr().err
    # Seeds that are there already count, those of other calls and published ones.
    rounds.clear()
    there = len(found["16"])
    beyond = f"--seeds={there}", "--precision=0.01", f"--most_seeds={there + 2}"
    run_main(["run", "reduction", "--published", *beyond])
    assert [{seed for _, seed in each} for each in rounds] == [{there}, {there + 1}]
    said = re.compile(
        rf"no more than {there + 2} seeds of a row: the widest interval is ± (0\.\d\d), and was to "
        r"be ± 0\.01\n"
    )
    assert 0.01 < float(said.search(capsys.readouterr().out)[1]) < 0.35


def test_a_table_of_published_runs_alone_is_written_all_the_same(
    tmp_path, monkeypatch, checkout, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiments.reporting.write.figure_files", lambda *_: {})
    run_main(["run", "reduction", "--published", "--seeds=0,1"])
    assert "12 of 12 runs are published" in capsys.readouterr().out
    assert (tmp_path / "runs" / "reduction" / "digits" / "table.md").exists()
    report.main(["report", "reduction", "--published", f"--workdir={tmp_path / 'none'}"])
    assert (tmp_path / "none" / "table.md").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["cifar", "--precision=0.3"], "cifar declares none"),
        (["reduction", "--most_seeds=4"], "--most_seeds=4 needs --precision"),
        (["reduction", "--precision=0"], "0.01"),
        (["reduction", "--precision=1", "--most_seeds=2"], "less than the 3 seeds to begin with"),
    ],
)
def test_precision_is_refused_where_it_has_no_effect(arguments, sentence, tmp_path):
    with pytest.raises(InputError, match=re.escape(sentence)):
        run_main(["run", *arguments, f"--workdir={tmp_path}"])


def test_a_plan_says_what_seeds_cost(tmp_path, monkeypatch, capsys, checkout):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    power.main(["power", "reduction"])
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if "r = 32 is worse than r = 16" in line)
    assert " 2 " in line
    versions = itertools.count()  # as if each run were of another
    monkeypatch.setattr(published, "identity", lambda flat: str(next(versions)))
    power.main(["power", "reduction"])  # which is no reason not to plan by them
    assert line in capsys.readouterr().out.splitlines()
    with pytest.raises(InputError, match="no primary comparisons"):
        power.main(["power", "cifar"])
    with pytest.raises(InputError, match="there are no results"):
        power.main(["power", "squeeze"])


def test_a_plan_names_runs_that_it_leaves_out_and_is_of_no_folds(tmp_path, capsys):
    study = load_study("bias")
    for place, folds in (("seeds", None), ("folds", 3)):
        bases = [base_config(study, row, "digits", smoke=False) for row in study.rows]
        for one in plan(study, bases, (0, 1, 2), tmp_path / place, folds):
            error = 5.0 + one.seed * len(one.row.label)
            finish(one.workdir, one.config, **{"eval/top1_error": error})
    damaged = tmp_path / "seeds" / "with" / "seed2" / "result.json"
    damaged.write_text("{ damage")
    with pytest.raises(InputError, match=f"{damaged} cannot be read"):
        power.main(["power", "bias", f"--workdir={tmp_path / 'seeds'}"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "within 0.5" in line[:60])
    assert re.search(r" 2 +2\.12 ", line)  # what is left, and the deviation of that
    with pytest.raises(InputError, match="has runs on folds: folds share their training examples"):
        power.main(["power", "bias", f"--workdir={tmp_path / 'folds'}"])


def test_a_plan_is_of_the_seeds_and_the_hours_that_the_study_takes():
    """It ends with no fewer than FEWEST seeds, however narrow; rows take their own time."""
    rows = ("_original", "_16", "_2", "_4", "_8", "_32")
    found = results(**{row: spread(30, *(NOISE, OTHER)[row == "_16"][:3]) for row in rows})
    for label, runs in found.items():
        for run in runs:
            run["wall_time_seconds"] = 36000.0 if label == "2" else 3600.0
    for line in power.lines(REDUCTION, found, 0.5):
        assert line[1] == "3"
        assert int(line[4]) == primary.FEWEST
        more = max(int(line[4]), int(line[5])) - 3
        assert line[6] == f"{more * (10 + 5):.1f}"


def test_claims_are_decided_by_what_is_published(checkout, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    rows = list(verdicts.rows())
    assert len(rows) == len(CLAIMS)
    assert sum("not run yet" in row[1] for row in rows) == len(CLAIMS) - 3
    assert all(len(row) == len(verdicts.HEADINGS) for row in rows)
    verdicts.show()
    assert "SE improves the network" in capsys.readouterr().out


def test_claims_on_rows_that_half_a_study_lacks_are_not_run(checkout, tmp_path):
    runs_of(REDUCTION, tmp_path / "half", (0, 1), ("original", "16", "4"))
    found = collect(REDUCTION, tmp_path / "half").results
    publish.publish(REDUCTION, found, {})
    by_claim = {row[0]: row[1:] for row in verdicts.rows()}
    assert by_claim["SE improves the network"][1] == "16 better than original"
    assert by_claim["Between r = 2 and r = 16 the reduction ratio hardly matters"][0] == UNDECIDED
    verdict, *gains, data, _ = by_claim["r = 32 is worse than r = 16"]
    assert data == "digits, seresnet20_cifar"
    assert gains == ["-", "-"]
    assert verdict.startswith("not run yet")
    for run in (run for runs in found.values() for run in runs):
        run["config"]["optim.learning_rate"] = 0.3
    publish.publish(REDUCTION, found, {})
    assert next(verdicts.rows())[4] == "digits, seresnet20_cifar (not the study's own recipe)"


def test_our_pairs_are_above_all_that_are_published(checkout):
    pairs = forest.in_order()
    mean, half = pairs[0]["gain"], pairs[0]["half"]
    assert pairs[0]["source"] == f"ours, n = 2: {mean:+.2f} ± {half:.2f}"
    assert pairs[1]["source"] == "SE paper Table 5"
    assert len(pairs) == 35
    datasets = [pair["dataset"] for pair, _ in itertools.groupby(pairs[1:], lambda p: p)]
    assert len(list(itertools.groupby(datasets))) == len(set(datasets))
    assert forest.draw().startswith(b"\x89PNG")


def test_every_study_of_a_plain_row_and_se_gives_the_forest_its_pair(
    checkout, tmp_path, monkeypatch
):
    study = load_study("preactivation")
    for label, errors in (("plain", (5.0, 6.0)), ("SE", (4.0, 4.5))):
        _, runs = planned(study, tmp_path / "pairs", (0, 1))
        for run in (run for run in runs if run.row.label == label):
            finish(run.workdir, run.config, **{"eval/top1_error": errors[run.seed]})
    monkeypatch.setattr(publish, "figure_files", lambda *_: {})
    publish.publish(study, collect(study, tmp_path / "pairs").results, {})
    of_reduction, pair, theirs, *_ = forest.in_order()
    assert of_reduction["network"] == "resnet20_cifar"
    assert (pair["dataset"], pair["network"]) == ("digits", "preresnet20_cifar")
    assert pair["gain"] == pytest.approx(1.25)
    assert pair["half"] == pytest.approx(0.25 * 12.706, rel=1e-4)  # t of one degree of freedom
    assert theirs["source"] == "SE paper Table 5"


def test_the_picture_in_the_docs_has_all_pairs():
    """One that had been drawn without ours stood there for a day."""
    picture = (blocks.ROOT / "docs" / "images" / "forest.png").read_bytes()
    (_, height), drawn = (Image.open(io.BytesIO(png)).size for png in (picture, forest.draw()))
    assert height == drawn[1]


def test_remarks_of_a_study_without_claims_are_as_they_were():
    study = dataclasses.replace(REDUCTION, primary=())
    assert primary.in_words(study, results(_16={0: 3.0})) == []
    assert table.primary is primary
