"""The figures of a study: errors beside the paper's, and curves."""

import collections
import math
import statistics
from collections.abc import Sequence
from typing import Any

from experiments.grid.study import Study
from experiments.reporting.collect import Results
from senet_jax.system.figures import COLOURS, STYLES, canvas, drawing, literal, literals, png

OURS = "tab:green"
TICKS = (0, 0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 25, 30, 40, 50, 70, 100)


@drawing
def draw(
    study: Study, results: Results, rows: Sequence[dict[str, Any]], theirs: str, caption: str
) -> bytes:
    """A PNG of top-1 errors: published on the left; ours, with interval and seeds, on the right.

    Rows go from top to bottom as in the table, so that labels of any length have room. Without
    published errors there is no left panel. A line marks the reference's error.

    Args:
      study, results: the study and its runs.
      rows: the numbers behind the table; see number_rows.
      theirs: the paper's networks and data, for the left panel's title.
      caption: the text below the figure.
    """
    labels = literals(row[study.column] for row in rows)
    printed = {}
    for name, key in study.plotted.items():
        points = [(row[f"paper_{key}"], y) for y, row in enumerate(rows)]
        if drawn := [(x, y) for x, y in points if x is not None]:
            printed[name] = drawn
    figure = canvas((9, 2.2 + 0.26 * len(rows)))
    *left, right = figure.subplots(1, 2 if printed else 1, sharey=True, squeeze=False)[0]
    for axes in left:
        for fill, (name, points) in zip(("full", "none"), printed.items(), strict=False):
            axes.plot(*zip(*points, strict=True), "o", markersize=7, fillstyle=fill, label=name)
        _head(axes, literal(f"{theirs}, as published"))
    _draw_ours(right, study, results, rows)
    for axes in (*left, right):
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("top-1 error (%)")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(literal(study.column))
    figure.suptitle(literal(study.title, longest=110))
    return png(figure, caption)


def _draw_ours(axes: Any, study: Study, results: Results, rows: Sequence[dict[str, Any]]) -> None:
    trained = [(row, y) for y, row in enumerate(rows) if row["our_seeds"]]
    means, heights = [row["our_top1_error_mean"] for row, _ in trained], [y for _, y in trained]
    has_interval = any(row["our_top1_error_high"] is not None for row, _ in trained)
    axes.errorbar(
        means,
        heights,
        # Half of each interval; not a number for a row without one, which draws nothing.
        xerr=[
            (row["our_top1_error_high"] or math.nan) - row["our_top1_error_mean"]
            for row, _ in trained
        ],
        fmt="s",
        markersize=5,
        capsize=4,
        color=OURS,
        label="mean, 95 % t-interval" if has_interval else "mean",
    )
    labelled = [(row[study.column], y) for row, y in trained]
    seeds = [(run["eval/top1_error"], y) for label, y in labelled for run in results[label]]
    x, y = zip(*seeds, strict=True)
    below = [height + 0.22 for height in y]
    axes.plot(x, below, "o", color="0.2", alpha=0.6, markersize=3, mew=0, label="single seeds")
    for (label, _), mean in zip(labelled, means, strict=True):
        if label == study.reference:
            reference = literal(study.reference_name)
            axes.axvline(mean, color="0.3", lw=0.8, zorder=1, label=reference)
    if axes.get_xlim()[0] < 0:  # an interval may reach below the least possible error
        axes.set_xlim(left=0)
    counts = sorted({row["our_seeds"] for row, _ in trained})
    _head(axes, f"ours, n = {', '.join(map(str, counts))}")


def _head(axes: Any, title: str) -> None:
    """Draw a title, and the legend between it and the panel, where it hides no point."""
    axes.set_title(title, fontsize=10, pad=22)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 0.99))


@drawing
def curves(study: Study, results: Results, caption: str) -> bytes:
    """A PNG of evaluation top-1 error against epoch: one line per row, a band over its seeds."""
    from matplotlib.ticker import MaxNLocator

    figure = canvas((9, max(5, 1.6 + 0.21 * len(results))))
    axes = figure.subplots()
    names = literals(results, longest=40)
    for label, name, look in zip(results, names, looks(study, list(results)), strict=True):
        errors = collections.defaultdict(list)
        for run in results[label]:
            for point in run["curve"]:
                errors[point["epoch"]].append(point["eval/top1_error"])
        epochs = sorted(errors)
        means = [statistics.fmean(errors[epoch]) for epoch in epochs]
        low, high = ([which(errors[epoch]) for epoch in epochs] for which in (min, max))
        marker = "." if len(epochs) < 30 else ""  # without it a single evaluation would not be seen
        axes.plot(epochs, means, marker=marker, label=name, **look)
        axes.fill_between(epochs, low, high, color=look["color"], alpha=0.12, lw=0)
    # On a linear scale the end of a run, where rows are close to each other, would be one line.
    # Below 1 % the scale is linear, since an error can be 0.
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    bottom, top = axes.get_ylim()
    choices = [TICKS, MaxNLocator(6).tick_values(bottom, top)]  # the latter if errors are alike
    ticks = max(([t for t in choice if bottom <= t <= top] for choice in choices), key=len)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    if axes.get_xlim()[1] > 2:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("evaluation top-1 error (%)")
    axes.grid(alpha=0.3)
    stopped = any("planned_steps" in run for runs in results.values() for run in runs)
    of_others = "\nafter a seed has stopped early: of the others" if stopped else ""
    axes.set_title(f"lines: mean over seeds; bands: least to greatest{of_others}", fontsize=10)
    axes.legend(  # below the titles, which may be as wide as the figure
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        borderaxespad=0,
        title=literal(study.column, longest=40),
        frameon=False,
        fontsize=9,
        handlelength=3,
    )
    figure.suptitle(literal(study.title, longest=110))
    return png(figure, caption)


def looks(study: Study, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The colour and style of each row's line; a network with and without SE share their colour."""
    rows = {row.label: row for row in study.rows}
    groups: dict[str, int] = collections.Counter()
    styles = []
    for label in labels:
        reference = None if study.reference else study.reference_of(rows[label])
        group = reference.label if reference else label
        groups[group] += 1
        place = list(groups).index(group)
        style = (1 if study.reference else 2) * (place // len(COLOURS)) + groups[group] - 1
        look = {"color": COLOURS[place % len(COLOURS)], "linestyle": STYLES[style % len(STYLES)]}
        styles.append(look | {"linewidth": 2.4 if label == study.reference else 1.4})
    return styles
