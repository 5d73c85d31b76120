"""The gain of a row over its reference: mean over paired seeds, interval, verdict.

A gain is the reference's top-1 error less the row's, in points: positive where the row is better.
One seed gives both rows the same order of images and the same crops. Differences are therefore
taken seed by seed, and only over seeds that both rows have. A row whose own seeds vary far more
than the reference's is called unstable: its mean says little, and no interval does.
"""

import dataclasses
import functools
import statistics
from collections.abc import Mapping, Sequence

import scipy

from experiments.grid.plan import is_fold_of_seed
from experiments.grid.study import Study
from experiments.reporting.collect import Result, Results
from experiments.statistics.paired import ROUNDING, t_interval

FALSE_ALARMS = 0.01  # rows called unstable among those that vary like their reference


def is_unstable(errors: Sequence[float], reference: Sequence[float], examples: int) -> bool:
    """Whether a row varies over its seeds by more than chance gives one that varies like another.

    It is the one-sided F test on the two variances, at FALSE_ALARMS. With three seeds each, the
    limit is about ten times the standard deviation. The reference's variance counts as no less than
    that of one error measured on so many examples: two or three seeds can agree by luck.

    Args:
      errors, reference: top-1 errors in per cent, one per seed; False for fewer than two of either.
      examples: number of images that the errors were measured on.
    """
    if min(len(errors), len(reference)) < 2:
        return False
    share = statistics.fmean(reference) / 100
    of_sampling = 1e4 * max(share * (1 - share), 1 / examples) / examples
    least = max(statistics.variance(reference), of_sampling)
    return statistics.variance(errors) > _limit(len(errors), len(reference)) * least


@functools.cache
def _limit(seeds: int, of_reference: int) -> float:
    """The ratio of variances that FALSE_ALARMS of equal ones exceed."""
    return float(scipy.stats.f.isf(FALSE_ALARMS, seeds - 1, of_reference - 1))


@dataclasses.dataclass(frozen=True)
class Gain:
    """The gain of a row over its reference.

    Attributes:
      differences: the reference's error less the row's, in points, one for each paired seed.
      unstable: whether the row's errors vary far more than the reference's; see is_unstable.
      shared: number of test examples per training example of folds; see standard_error.
    """

    differences: tuple[float, ...]
    unstable: bool = False
    shared: float = 0.0

    @property
    def mean(self) -> float | None:
        """The mean difference in points; None without paired seeds."""
        return statistics.fmean(self.differences) if self.differences else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The confidence interval of the mean, in points; see t_interval."""
        return t_interval(self.differences, shared=self.shared)

    @property
    def decision(self) -> str:
        """ "better" or "worse" where the interval leaves out 0; "" where it does not."""
        low, high = self.interval or (0.0, 0.0)
        return "better" if low > 0 else "worse" if high < 0 else ""

    @property
    def verdict(self) -> str:
        """The verdict on the row, in words that its label completes."""
        n, run = len(self.differences), "fold" if self.shared else "seed"
        if self.decision:
            return f"{self.decision}, but {UNSTABLE}" if self.unstable else self.decision
        if self.interval:
            return f"{UNSTABLE if self.unstable else UNDECIDED} at n = {n}"
        if n > 1 and abs(self.differences[0]) < ROUNDING:
            return f"identical in all {n} {run}s"
        if n > 1:
            return f"the same difference in all {n} {run}s, which gives no interval"
        return f"one paired {run}, which gives no interval" if n else f"no {run} in common"


UNDECIDED = "not distinguishable"
UNSTABLE = "unstable"


def folds_of(results: Results) -> int:
    """The number of folds of a study on folds, in which seed N is on fold N + 1; 0 for others."""
    runs = [run for of_row in results.values() for run in of_row]
    if not all(is_fold_of_seed(run.get("config", {})) for run in runs):
        return 0
    folds = {tuple(run["config"]["data.fold"]) for run in runs}
    return max(fold[1] for fold in folds) if len(folds) > 1 else 0


def shared_by_folds(results: Results) -> float:
    """Test examples per training example of runs on folds, see standard_error; 0 for others."""
    folds = folds_of(results)
    return 1 / (folds - 1) if folds else 0.0


def paired_runs(results: Results, label: str, reference: str) -> list[tuple[Result, Result]]:
    """The runs of a row, each with the reference's run of the same seed, where there is one."""
    ours, theirs = (
        {run["seed"]: run for run in results.get(row, [])} for row in (label, reference)
    )
    return [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]


def differences(results: Results, label: str, reference: str) -> tuple[float, ...]:
    """The reference's top-1 error less the row's, in points, one for each paired seed."""
    pairs = paired_runs(results, label, reference)
    return tuple(theirs["eval/top1_error"] - ours["eval/top1_error"] for ours, theirs in pairs)


def gains(study: Study, results: Results) -> dict[str, Gain]:
    """The gains by row label, for the rows that have results and a reference."""
    by_label = {}
    for row in study.rows:
        reference = study.reference_of(row)
        if reference is not None and row.label in results:
            ours, theirs = (
                [run["eval/top1_error"] for run in results.get(label, [])]
                for label in (row.label, reference.label)
            )
            examples = results[row.label][0]["eval/examples"]
            by_label[row.label] = Gain(
                differences(results, row.label, reference.label),
                is_unstable(ours, theirs, examples),
                shared_by_folds(results),
            )
    return by_label


def in_words(study: Study, by_label: Mapping[str, Gain]) -> list[str]:
    """The definition of the gains and the verdicts, as remarks below a table."""
    if not by_label:
        return []
    labels: dict[str, list[str]] = {}
    for label, gain in sorted(by_label.items(), key=lambda item: _order(item[1])):
        labels.setdefault(gain.verdict, []).append(label)
    key = study.gain_of
    heading = next((name for name, keys in study.paper_columns.items() if key in keys), None)
    theirs = f"the paper's in the column {heading}, " if heading else ""
    verdicts = "; ".join(f"{verdict}: {', '.join(rows)}" for verdict, rows in labels.items())
    runs = "folds" if any(gain.shared for gain in by_label.values()) else "seeds"
    unstable = [
        f"Unstable: over its {runs} the row varies more than chance gives one that varies like "
        f"{study.reference_name} (one-sided F test on the variances, which calls "
        f"{100 * FALSE_ALARMS:g} % of rows unstable that vary alike); its mean says little."
    ]
    return [
        f"Gain: the top-1 error of {study.reference_name} less that of the row, in points, "
        f"positive where the row is better; {theirs}ours over the {runs} that both have, with the "
        "95 % confidence interval of the mean (Student's t on the differences), for each row by "
        "itself and not corrected for the number of rows.",
        f"Compared with {study.reference_name}: {verdicts}.",
        *(unstable if any(gain.unstable for gain in by_label.values()) else ()),
    ]


def in_short(study: Study, by_label: Mapping[str, Gain]) -> str:
    """The verdicts in a few words, for a list of studies."""
    if not any(len(gain.differences) > 1 for gain in by_label.values()):
        return "too few paired seeds to compare"
    parts = []
    for decision in ("better", "worse"):
        rows = [label for label, gain in by_label.items() if gain.decision == decision]
        if rows:
            parts.append(f"{decision} than {study.reference_name}: {', '.join(rows)}")
    if rows := [label for label, gain in by_label.items() if gain.unstable]:
        parts.append(f"{UNSTABLE} beside {study.reference_name}: {', '.join(rows)}")
    if not parts:
        return f"none distinguishable from {study.reference_name}"
    rest = any(not (gain.decision or gain.unstable) for gain in by_label.values())
    return "; ".join(parts) + ("; others not distinguishable" if rest else "")


def _order(gain: Gain) -> int:
    """The place of a gain's verdict in a sentence: better, worse, unstable, then the undecided."""
    return {"better": 0, "worse": 1}.get(gain.decision, 2 if gain.unstable else 3)
