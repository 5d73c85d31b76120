"""The figures: a study's errors beside the paper's, and how the time of a step grows."""

import collections
import io
import textwrap
from collections.abc import Sequence
from typing import Any

from experiments.study import Study


def draw(study: Study, rows: Sequence[dict[str, Any]], caption: str) -> bytes:
    """A PNG: top-1 error as published on the left, ours with its spread on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = [row[study.column] for row in rows]
    positions = range(len(rows))
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for key, name in (("top1", "journal version"), ("cvpr1", "CVPR 2018")):
        known = [(x, row.get(f"paper_{key}")) for x, row in zip(positions, rows, strict=True)]
        points = [(x, y) for x, y in known if y is not None]
        if points:
            left.plot(*zip(*points, strict=True), "o", label=name)
    left.set_title(f"{study.network}, ImageNet, as published")
    left.legend(frameon=False)
    found = [(x, row) for x, row in zip(positions, rows, strict=True) if row["our_seeds"]]
    right.errorbar(
        [x for x, _ in found],
        [row["our_top1_error_mean"] for _, row in found],
        yerr=[row["our_top1_error_std"] or 0.0 for _, row in found],
        fmt="s",
        capsize=4,
        color="tab:green",
    )
    seeds = sorted({row["our_seeds"] for _, row in found})
    right.set_title(f"ours, mean ± std, n = {', '.join(map(str, seeds))}")
    for axes in (left, right):
        axes.set_xticks(list(positions), labels)
        axes.set_xlim(-0.5, len(rows) - 0.5)
        axes.set_xlabel(study.column)
        axes.set_ylabel("top-1 error (%)")
        axes.grid(axis="y", alpha=0.3)
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


def _png(figure: Any, caption: str) -> bytes:
    figure.supxlabel(_wrap(caption), fontsize=7, color="0.35")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def _wrap(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 150))
