"""The figures: a study's errors, how the time of a step grows, and the gates of SE blocks."""

import collections
import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.study import Study


def draw(study: Study, rows: Sequence[dict[str, Any]], theirs: str, caption: str) -> bytes:
    """A PNG: top-1 error as published on the left, ours with its spread on the right.

    Rows go from top to bottom as in the table, so that labels of any length have room. Where
    nothing is published there is no left panel; `theirs` are the networks and data of it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = [row[study.column] for row in rows]
    published = {}
    for name, key in study.plotted.items():
        points = [(row[f"paper_{key}"], y) for y, row in enumerate(rows)]
        if known := [(x, y) for x, y in points if x is not None]:
            published[name] = known
    figure = Figure(figsize=(9, 2.2 + 0.26 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    *left, right = figure.subplots(1, 2 if published else 1, sharey=True, squeeze=False)[0]
    for axes in left:
        for fill, (name, points) in zip(("full", "none"), published.items(), strict=False):
            axes.plot(*zip(*points, strict=True), "o", markersize=7, fillstyle=fill, label=name)
        axes.set_title(f"{theirs}, as published")
        axes.legend(frameon=False)
    found = [(row, y) for y, row in enumerate(rows) if row["our_seeds"]]
    right.errorbar(
        [row["our_top1_error_mean"] for row, _ in found],
        [y for _, y in found],
        xerr=[row["our_top1_error_std"] or 0.0 for row, _ in found],
        fmt="s",
        capsize=4,
        color="tab:green",
    )
    seeds = sorted({row["our_seeds"] for row, _ in found})
    right.set_title(f"ours, mean ± std, n = {', '.join(map(str, seeds))}")
    for axes in (*left, right):
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("top-1 error (%)")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(study.column)
    figure.suptitle(study.title)
    return _png(figure, caption)


# What grows in a panel of `growth`, by the column that says it.
NAMES = {"batch": "images in a batch", "size": "pixels", "network": "depth"}


def growth(rows: Sequence[dict[str, str]]) -> bytes:
    """A PNG: time of a step against its multiply-adds, as batch, image size and depth grow.

    `rows` are those of experiments/benchmark.py. The dashed lines are proportional to the
    multiply-adds, through the largest point.
    """
    from matplotlib import ticker
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ours = [row for row in rows if row["contestant"] == "ours"]
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, key in zip(figure.subplots(1, 3), NAMES, strict=True):
        groups = collections.defaultdict(dict)
        for row in ours:
            fixed = tuple(row[other] for other in ("what", *NAMES) if other != key)
            groups[fixed][row[key]] = row
        fixed, found = max(groups.items(), key=lambda item: len(item[1]))
        points = sorted(found.values(), key=lambda row: float(row["gmacs"]))
        x, y = ([float(row[field]) for row in points] for field in ("gmacs", "median_s"))
        axes.loglog(x, y, "o", color="tab:blue")
        axes.loglog(x, [y[-1] * value / x[-1] for value in x], "--", color="0.6", lw=1)
        for row, *place in zip(points, x, y, strict=True):
            label = row[key].removeprefix("seresnet")
            axes.annotate(label, place, xytext=(6, -10), textcoords="offset points", fontsize=8)
        axes.margins(0.15)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            axis.set_minor_locator(ticker.NullLocator())
        axes.set_title(f"{NAMES[key]} ({', '.join(fixed)})", fontsize=9)
        axes.set_xlabel("10$^9$ multiply-adds, forward")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("s / step")
    machines = dict.fromkeys(f"{row['machine']}, commit {row['commit']}" for row in ours)
    return _png(figure, f"Dashed: proportional to multiply-adds. {'; '.join(machines)}.")


MAX_CHANNELS = 50  # in a panel, as in the paper
EVERYTHING = "all classes"  # the legend of their mean


def gates(panels: Mapping[str, Mapping[str, np.ndarray]], title: str, caption: str) -> bytes:
    """A PNG like Figures 6 and 7 of Hu et al.: gate against channel, a line for each class.

    Args:
      panels: name of a block to its lines, by legend: gates [C], of which fifty, evenly spaced, are
        drawn. The line EVERYTHING is black.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns + 0.5, 2.6 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (name, lines) in zip(grid.flat, panels.items(), strict=False):
        for label, values in lines.items():
            count = min(MAX_CHANNELS, len(values))
            drawn = np.linspace(0, len(values) - 1, count).round().astype(int)
            style = {"color": "black", "lw": 1.6, "zorder": 3} if label == EVERYTHING else {"lw": 1}
            axes.plot(drawn, values[drawn], marker=".", markersize=3, label=label, **style)
        axes.set_title(name, fontsize=10)
        axes.margins(x=0.02)
        axes.grid(alpha=0.3)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    for column in range(columns):
        last = [axes for axes in grid[:, column] if axes.get_visible()][-1]
        last.set_xlabel("channel")
    for axes in grid[:, 0]:
        axes.set_ylabel("mean gate")
    values = np.concatenate([line for lines in panels.values() for line in lines.values()])
    if values.min() >= 0 and values.max() <= 1:
        grid[0, 0].set_ylim(0, 1)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=len(labels),
        frameon=False,
        title=title,
        title_fontsize=11,
    )
    return _png(figure, caption)


def _png(figure: Any, caption: str) -> bytes:
    figure.supxlabel(_wrap(caption), fontsize=7, color="0.35")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def _wrap(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 150))
