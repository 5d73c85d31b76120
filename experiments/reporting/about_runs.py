"""Remarks on single runs of a table: not there, stopped early, far from the others, no better."""

from collections.abc import Iterable, Sequence

from experiments.grid.study import Study
from experiments.launch.pruning import PRUNED
from experiments.reporting import compare
from experiments.reporting.collect import Result, Results, Unfinished


def name_of(seeds: Iterable[int], folds: int) -> str:
    """Runs by their seeds, or by their folds where a table is over folds: "seeds 0, 2".

    Args:
      folds: number of folds; 0 for none. Seed N is on fold N + 1.
    """
    numbers = [str(seed + 1 if folds else seed) for seed in sorted(seeds)]
    return f"{'fold' if folds else 'seed'}{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"


def missing(study: Study, results: Results, unfinished: Unfinished) -> list[str]:
    """Sentences that name the seeds each row lacks, among those that any row has or was begun with.

    Args:
      study: the study with the rows.
      results: the finished runs.
      unfinished: the runs that were started and lack a result.
    """
    expected = {run["seed"] for runs in results.values() for run in runs}
    expected |= {seed for seeds in unfinished.values() for seed in seeds}
    lines, folds = [], compare.folds_of(results)
    for row in study.rows:
        lacking = expected - {run["seed"] for run in results.get(row.label, [])}
        reasons = {
            seed: why
            for seed, why in unfinished.get(row.label, {}).items()
            if why and seed in lacking
        }
        for seed, why in sorted(reasons.items()):
            first = why.splitlines()[0].rstrip(".")
            outcome = f"was {first}" if first.startswith(PRUNED) else f"failed: {first}"
            lines.append(f"Row {row.label}: {name_of([seed], folds)} {outcome}.")
        if silent := lacking - reasons.keys():
            have = "has" if len(silent) == 1 else "have"
            lines.append(f"Row {row.label}: {name_of(silent, folds)} {have} no result.")
    return lines


def at_chance(runs: Sequence[Result]) -> list[int]:
    """The seeds whose runs end no better than guessing, by two standard errors of that.

    Results of versions that did not record the number of classes are left out.
    """
    seeds = []
    for run in runs:
        if classes := run.get("classes"):
            right = 1 / classes
            error = (right * (1 - right) / run["eval/examples"]) ** 0.5
            if run["eval/top1_error"] >= 100 * (1 - right - 2 * error):
                seeds.append(run["seed"])
    return seeds


def in_words(study: Study, results: Results) -> list[str]:
    """The remarks on seeds that ended far from the others of their row, or learnt nothing."""
    lines, folds = [], compare.folds_of(results)
    for label, gain in compare.gains(study, results).items():
        if gain.unstable:
            ends = [
                f"{run['eval/top1_error']:.2f} ({name_of([run['seed']], folds)})"
                for run in results[label]
            ]
            what = "folds" if folds else "seeds"
            lines.append(f"Row {label} is unstable: its {what} end at {', '.join(ends)} per cent.")
    for label, runs in results.items():
        if ends := [
            f"{name_of([run['seed']], folds)} at step {run['step']:,} of {run['planned_steps']:,}"
            for run in runs
            if "planned_steps" in run
        ]:
            patience = runs[0]["config"]["train.patience"]
            lines.append(
                f"Row {label} stopped early (train.patience {patience}): {', '.join(ends)}; its "
                "errors are those of these steps, which the evaluation images chose."
            )
        if seeds := at_chance(runs):
            lines.append(f"Row {label}: {name_of(seeds, folds)} ended no better than guessing.")
    return lines
