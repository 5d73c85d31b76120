"""The primary comparisons of a study, decided: what it set out to say, and nothing else."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.grid.comparison import Comparison
from experiments.grid.study import Study
from experiments.reporting import compare
from experiments.reporting.collect import Result, Results
from experiments.reporting.csv_files import EXAMPLES
from experiments.statistics.crossed import Deviations, crossed_interval, split_deviation
from experiments.statistics.paired import (
    ALPHA,
    LEVEL,
    NO_EVIDENCE,
    check_expectation,
    decide,
    half_width,
    t_interval,
)
from senet_jax.evaluation.loop import unpack

PROBABILITY, AVERAGES = "eval/probability", "eval_ema/top1_error"
FEWEST = 6  # seeds before a study may end by the width of its intervals
NOT_WHOLE = "a primary comparison has no interval, as runs are missing or do not differ"


@dataclasses.dataclass(frozen=True)
class Decided:
    """A primary comparison and what the runs say about it.

    Attributes:
      comparison: what was expected.
      differences: the reference's top-1 error less the row's, in points, one per paired seed.
      verdict: "confirmed", "contradicted" or "undecided".
      p: the p value of the verdict, corrected for all primary comparisons of the study.
      new_images: the interval of the gain for new test images as well; see crossed_interval. None
        where the runs do not say which images they have right.
      shared: number of test examples per training example of folds; see standard_error.
    """

    comparison: Comparison
    differences: tuple[float, ...]
    verdict: str
    p: float
    new_images: tuple[float, float] | None
    shared: float = 0.0

    @property
    def half_width(self) -> float:
        """Half the width of the interval, in points; infinite for fewer than two seeds."""
        return half_width(self.differences, self.shared)

    @property
    def numbers(self) -> str:
        """Mean, interval, p value and number of seeds, in words."""
        if not self.differences:
            return f"no {'fold' if self.shared else 'seed'} in common"
        mean = f"{np.mean(self.differences):+.2f}"
        interval = t_interval(self.differences, shared=self.shared)
        if interval is None:
            return f"{mean}, n = {len(self.differences)}"
        between = f"[{interval[0]:.2f}, {interval[1]:.2f}]"
        if self.new_images:
            between += f", for new images [{self.new_images[0]:.2f}, {self.new_images[1]:.2f}]"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{mean} {between}, {p}, n = {len(self.differences)}"


def decisions(study: Study, results: Results) -> list[Decided]:
    """Decide the primary comparisons of which both rows have results.

    They are corrected for the others as well: more runs of those must not undo a verdict.
    """
    compared, shared = _compared(study, results), compare.shared_by_folds(results)
    evidence = [check_expectation(d, c.expected, c.margin, shared) for c, d in compared]
    lacking = [NO_EVIDENCE] * (len(study.primary) - len(compared))
    verdicts = decide(evidence + lacking)[: len(compared)]
    return [
        Decided(c, d, verdict, p, _for_new_images(results, c), shared)
        for (c, d), (verdict, p) in zip(compared, verdicts, strict=True)
    ]


def _compared(study: Study, results: Results) -> list[tuple[Comparison, tuple[float, ...]]]:
    """The primary comparisons of which both rows have results, each with its differences."""
    present = [c for c in study.primary if {c.row, c.reference} <= results.keys()]
    return [(c, compare.differences(results, c.row, c.reference)) for c in present]


def widest(study: Study, results: Results) -> float:
    """The largest half width of the intervals of the primary comparisons, in points.

    It is infinite as long as one of them has fewer than FEWEST seeds, whose spread is too often
    small by luck to stop at. Of a study that declares no comparisons it is that of all gains.
    """
    if study.primary:
        compared = [differences for _, differences in _compared(study, results)]
        lacking = len(study.primary) - len(compared)
    else:
        compared = [gain.differences for gain in compare.gains(study, results).values()]
        lacking = not compared
    if lacking or min(map(len, compared)) < FEWEST:
        return float("inf")
    shared = compare.shared_by_folds(results)
    return max(half_width(differences, shared) for differences in compared)


def _for_new_images(results: Results, comparison: Comparison) -> tuple[float, float] | None:
    pairs = compare.paired_runs(results, comparison.row, comparison.reference)
    if len(pairs) < 2 or compare.folds_of(results):
        return None
    right, reference = (_rights(runs) for runs in zip(*pairs, strict=True))
    if right is None or reference is None or right.shape != reference.shape:
        return None
    return crossed_interval(right, reference)


def _rights(runs: Sequence[Result]) -> np.ndarray | None:
    """What runs have right, [seeds, images]; None if one does not say it, or saw more images."""
    if not all(EXAMPLES in run for run in runs):
        return None  # those that say it are not the runs that the other numbers are of
    right = [right_of(run) for run in runs]
    return np.stack(right) if len({len(each) for each in right}) == 1 else None


def right_of(run: Result) -> np.ndarray:
    """Which images a run that says so has right, [images] of zeros and ones."""
    return unpack(run[EXAMPLES], run["eval/examples"])


def deviations(results: Results) -> dict[str, Deviations]:
    """The deviation of each row over its seeds, split, where all say what they have right."""
    split = {}
    for label, runs in results.items() if not compare.folds_of(results) else ():
        right = _rights(runs)
        if right is not None and (found := split_deviation(right)):
            split[label] = found
    return split


def in_words(study: Study, results: Results) -> list[str]:
    """The primary comparisons as remarks below a table, with what they mean."""
    if not study.primary:
        return []
    decided = decisions(study, results)
    claims = "; ".join(in_a_sentence(study, comparison) for comparison in study.primary)
    if not any(len(d.differences) > 1 for d in decided):
        return [f"Written down to be decided by these runs, which are too few: {claims}."]
    runs = "folds" if compare.folds_of(results) else "seeds"
    lines = [
        f"Primary comparisons, written down {_when(study, results)}: top-1 error at the last step, "
        f"mean gain in points with its {100 * LEVEL:g} % interval over {runs}, p by Student's t "
        "(equivalence: two one-sided tests), corrected for all of them by Holm's method; decided "
        f"below {ALPHA:.2g}."
    ]
    lines += [f"{in_a_sentence(study, d.comparison)}: {d.verdict} ({d.numbers})." for d in decided]
    if runs == "folds":  # their number is given, and no interval ends them
        return lines
    ended = widest(study, results) <= study.precision
    width = max(d.half_width for d in decided)
    is_whole = len(decided) == len(study.primary) and width < float("inf")
    lines.append(
        f"The study {'has enough seeds' if ended else 'needs more seeds'}: "
        + (f"the widest of these intervals is ± {width:.2f}" if is_whole else NOT_WHOLE)
        + f", and it ends at ± {study.precision:g}, with {FEWEST} seeds or more, whatever they say."
    )
    return lines


def _when(study: Study, results: Results) -> str:
    """When the comparisons were written down, before or after the runs were known."""
    finished = [str(run.get("finished", "")) for runs in results.values() for run in runs]
    order = "before these runs" if min(finished) >= study.declared else "when runs were known"
    return f"on {study.declared}, {order}"


def in_a_sentence(study: Study, comparison: Comparison) -> str:
    """The comparison as a claim, with its rows as sentences name them."""
    row, reference = study.in_words(comparison.row), study.in_words(comparison.reference)
    return f"{row} is {comparison.claim} {reference}"


def about_secondary(study: Study, results: Results) -> list[str]:
    """The remark on the other end points, where the runs have them: gains with their intervals.

    A loss and a probability move more against their noise than the number of errors does.
    """
    parts, shared = [], compare.shared_by_folds(results)
    for row in study.rows:
        reference = study.reference_of(row)
        if reference is None:
            continue
        runs = [*results.get(row.label, []), *results.get(reference.label, [])]
        if not all(PROBABILITY in run for run in runs):
            continue
        pairs = compare.paired_runs(results, row.label, reference.label)
        loss = [theirs["eval/loss"] - ours["eval/loss"] for ours, theirs in pairs]
        gained = [100 * (ours[PROBABILITY] - theirs[PROBABILITY]) for ours, theirs in pairs]
        if half_width(loss) < float("inf"):
            both = f"{_with_interval(loss, 4, shared)}; {_with_interval(gained, 2, shared)}"
            parts.append(f"{row.label}: {both}")
    if not parts:
        return []
    return [
        "Secondary end points, gains over the reference with 95 % intervals, of the loss in nats "
        f"and of the mean probability of the right class in points: {'. '.join(parts)}."
    ]


def _with_interval(values: list[float], digits: int, shared: float) -> str:
    low, high = t_interval(values, shared=shared) or (float("nan"), float("nan"))
    return f"{np.mean(values):+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def about_deviations(results: Results) -> list[str]:
    """The remark that splits each row's deviation over seeds, where the runs allow it."""
    if not (split := deviations(results)):
        return []
    rows = "; ".join(
        f"{label}: {d.total:.2f} = {d.test_set:.2f} and {d.genuine:.2f}"
        for label, d in split.items()
    )
    return [
        "The deviation over seeds, as measured, is that of a finite test set and a genuine one "
        "between networks (equation 3 of Jordan 2023: total^2 = first^2 + second^2 (N - 1) / N for "
        f"N test images, where the second is not 0): {rows}."
    ]


def about_averages(results: Results) -> list[str]:
    """The remark on errors of averages of the weights, where runs have them."""
    by_row = {
        label: [run[AVERAGES] for run in runs if run.get(AVERAGES) is not None]
        for label, runs in results.items()
    }
    rows = "; ".join(
        f"{label}: {np.mean(errors):.2f} ({len(errors)})"
        for label, errors in by_row.items()
        if errors
    )
    if not rows:
        return []
    configs = [run["config"] for runs in results.values() for run in runs if "config" in run]
    keys = [k for k in ("train.ema_decay", "train.swa_epochs") if any(c.get(k) for c in configs)]
    over = "folds" if compare.folds_of(results) else "seeds"
    return [
        "All errors and gains above are those of the final weights. Of their averages "
        f"({', '.join(keys)}) the mean top-1 errors in per cent ({over}) are: {rows}."
    ]
