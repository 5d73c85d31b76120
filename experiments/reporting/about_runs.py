"""Remarks on single runs of a table: far from the others of their row, stopped early, no better."""

from experiments.grid.study import Study
from experiments.reporting import compare
from experiments.reporting.collect import Results, at_chance


def in_words(study: Study, results: Results) -> list[str]:
    """The remarks on seeds that ended far from the others of their row, or learnt nothing."""
    lines = []
    for label, gain in compare.gains(study, results).items():
        if gain.unstable:
            ends = [f"{r['eval/top1_error']:.2f} (seed {r['seed']})" for r in results[label]]
            lines.append(f"Row {label} is unstable: its seeds end at {', '.join(ends)} per cent.")
    for label, runs in results.items():
        if ends := [
            f"seed {run['seed']} at step {run['step']:,} of {run['planned_steps']:,}"
            for run in runs
            if "planned_steps" in run
        ]:
            patience = runs[0]["config"]["train.patience"]
            lines.append(
                f"Row {label} stopped early (train.patience {patience}): {', '.join(ends)}; its "
                "errors are those of these steps, which the evaluation images chose."
            )
        if seeds := at_chance(runs):
            whose = ("seed {}" if len(seeds) == 1 else "seeds {}").format(
                ", ".join(map(str, seeds))
            )
            lines.append(f"Row {label}: {whose} ended no better than guessing.")
    return lines
