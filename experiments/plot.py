"""The figures: a study's errors beside the paper's, and how the time of a step grows."""

import collections
import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

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


def costs(rows: Sequence[Mapping[str, str]], paper: Mapping[str, float]) -> bytes:
    """A PNG: time against the plain network, a panel for training and one for inference.

    `rows` are those of experiments/cost.py; bars span the middle half of the steps. `paper` has the
    paper's ratio for the standard SE block, drawn as a line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(row["row"] for row in rows))
    kinds = list(dict.fromkeys(row["what"] for row in rows))
    figure = Figure(figsize=(10, 2 + 0.24 * len(labels)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, what in zip(panels, kinds, strict=True):
        found = [row for row in rows if row["what"] == what]
        values = [[float(row[key]) for key in ("times_plain", "low", "high")] for row in found]
        axes.errorbar(
            [middle for middle, _, _ in values],
            [labels.index(row["row"]) for row in found],
            xerr=list(zip(*((m - low, high - m) for m, low, high in values), strict=True)),
            fmt="o",
            markersize=5,
            capsize=2,
        )
        axes.axvline(1, color="0.6", lw=1)
        axes.axvline(paper[what], color="tab:orange", lw=1, ls="--", label="SE in the paper")
        if max(middle for middle, _, _ in values) > 2:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_title(f"{what}, {found[0]['batch']} image(s)")
        axes.set_xlabel("time / plain network's")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"Cost of SE in {rows[0]['network']}")
    return _png(figure, f"{rows[0]['machine']}, commit {rows[0]['commit']}.")


def _png(figure: Any, caption: str) -> bytes:
    figure.supxlabel(_wrap(caption), fontsize=7, color="0.35")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def _wrap(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 150))
