"""How many seeds the primary comparisons of a study need, by the runs that there are.

    python -m experiments.power reduction --dataset=cifar100_half [--published] [--margin=0.5]

For each comparison: the standard deviation of its differences, how wide its interval is now, how
many seeds make it as narrow as the study wants and find a gain, or an equivalence, of the margin in
nine of ten studies, and what these cost: of all rows, in hours of one run after another, as long as
the runs so far took.
"""

import statistics
from typing import Any

from absl import flags
from rich import box
from rich.table import Table
from rich.text import Text

from experiments.grid.plan import define_flags, define_published, directory_of
from experiments.grid.study import Study
from experiments.studies import the_study
from senet_jax.errors import InputError, refuse
from senet_jax.system import cli
from senet_jax.system.terminal import print_whole

POWER = 0.9
OF_FOLDS = "folds share their training examples, so no plan of seeds holds for them"
HEADINGS = ("comparison", "n", "deviation", "half width", "for ± {:g}", "for {:g} points", "hours")


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    define_flags(values)
    define_published(values)
    flags.DEFINE_float(
        "margin", 0.5, "The gain to find, in points.", lower_bound=0.01, flag_values=values
    )
    study = the_study(cli.parse_flags(argv, values), "power")
    if values.folds:
        raise InputError(OF_FOLDS)
    if not study.primary:
        raise InputError(f"study {study.name} declares no primary comparisons to plan for")

    # These import JAX and the models.
    from experiments.reporting import compare, primary, published
    from experiments.reporting.collect import collect

    directory = directory_of(study, values)
    collected = collect(study, directory)
    results = published.counted(study, collected.results, values)
    if not results and collected.damaged:
        refuse(collected.damaged)
    if not results:
        results, _ = published.stand_in(study, values, directory)
    if compare.folds_of(results):
        raise InputError(f"{directory} has runs on folds: {OF_FOLDS}")
    if not primary.decisions(study, results):
        raise InputError(
            f"there are no results in {directory} of two rows to compare; "
            f"make two seeds with `python -m experiments.run {study.name} --seeds=0,1`"
        )
    show(study, results, values.margin)
    refuse(collected.damaged)


def show(study: Study, results: Any, margin: float) -> None:
    """Print the plan as a table, what its hours are, and what its runs do not have in common."""
    from experiments.reporting import same_images
    from experiments.reporting.primary import FEWEST

    drawn = Table(title=Text(study.title), title_justify="left", box=box.SIMPLE_HEAD)
    for number, heading in enumerate(HEADINGS):
        text = heading.format(margin if "points" in heading else study.precision)
        drawn.add_column(Text(text), justify="left" if number == 0 else "right", no_wrap=True)
    for cells in lines(study, results, margin):
        drawn.add_row(*map(Text, cells))
    print_whole(drawn)
    print(
        f"Seeds of each row for a 95 % interval of ± {study.precision:g} points, at least the "
        f"{FEWEST} with which a study may end, and to confirm a gain, or an equivalence within, "
        f"{margin:g} points with probability {POWER:g} (before Holm's correction). Hours: all rows "
        "with the larger of the two numbers of seeds, less what there is, one run after another "
        "as long as those of its row took."
    )
    for line in same_images.in_words(study, results):
        print(line)


def lines(study: Study, results: Any, margin: float) -> list[tuple[str, ...]]:
    """The cells of the table, a row per comparison."""
    from experiments.reporting import primary
    from experiments.statistics.paired import has_spread
    from experiments.statistics.planning import seeds_for_half_width, seeds_for_power

    seconds = {
        label: statistics.median(run["wall_time_seconds"] for run in runs)
        for label, runs in results.items()
    }
    usual = statistics.median(seconds.values())  # of a row that has no run yet
    rows = []
    for decided in primary.decisions(study, results):
        comparison, n = decided.comparison, len(decided.differences)
        name = primary.in_a_sentence(study, comparison)
        if not has_spread(decided.differences):
            rows.append((name, str(n), *["-"] * 5))
            continue
        deviation = statistics.stdev(decided.differences)
        narrow = seeds_for_half_width(deviation, study.precision)
        narrow = narrow and max(narrow, primary.FEWEST)  # the study does not end before
        strong = seeds_for_power(deviation, margin, comparison.expected, POWER)
        hours = "-"
        if narrow and strong:
            missing = {
                row.label: max(0, max(narrow, strong) - len(results.get(row.label, [])))
                for row in study.rows
            }
            together = sum(n * seconds.get(label, usual) for label, n in missing.items())
            hours = f"{together / 3600:.1f}"
        rows.append(
            (
                name,
                str(n),
                f"{deviation:.2f}",
                f"± {decided.half_width:.2f}",
                *("more than 1000" if seeds is None else str(seeds) for seeds in (narrow, strong)),
                hours,
            )
        )
    return rows


if __name__ == "__main__":
    cli.run(main, __doc__)
