"""The figures of the benchmarks: how the time of a step grows, and what SE costs."""

import collections
from collections.abc import Mapping, Sequence

from experiments.timing.cost_table import measured_at
from senet_jax.errors import counted
from senet_jax.system.figures import canvas, drawing, literal, png

# The columns of rows that grow in the panels of `growth`, and their names there.
NAMES = {"batch": "images in a batch", "size": "pixels", "network": "depth"}


@drawing
def growth(rows: Sequence[dict[str, str]]) -> bytes:
    """A PNG of a step's time against its multiply-adds, as batch, image size and depth grow.

    `rows` are those of experiments/benchmark.py. The dashed lines are proportional to the
    multiply-adds, through the largest point.
    """
    from matplotlib import ticker

    ours = [row for row in rows if row["contestant"] == "ours"]
    figure = canvas((10, 3.8))
    for axes, key in zip(figure.subplots(1, 3), NAMES, strict=True):
        groups = collections.defaultdict(dict)
        for row in ours:
            fixed = tuple(row[other] for other in ("what", *NAMES) if other != key)
            groups[fixed][row[key]] = row
        fixed, largest = max(groups.items(), key=lambda item: len(item[1]))
        points = sorted(largest.values(), key=lambda row: float(row["gmacs"]))
        x, y = ([float(row[field]) for row in points] for field in ("gmacs", "median_s"))
        axes.loglog(x, y, "o", color="tab:blue")
        axes.loglog(x, [y[-1] * value / x[-1] for value in x], "--", color="0.6", lw=1)
        for row, *place in zip(points, x, y, strict=True):
            label = literal(row[key].removeprefix("seresnet"))
            axes.annotate(label, place, xytext=(6, -10), textcoords="offset points", fontsize=8)
        axes.margins(0.15)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            axis.set_minor_locator(ticker.NullLocator())
        axes.set_title(literal(f"{NAMES[key]} ({', '.join(fixed)})"), fontsize=9)
        axes.set_xlabel("10$^9$ multiply-adds, forward")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("s / step")
    machines = dict.fromkeys(f"{row['machine']}, commit {row['commit']}" for row in ours)
    return png(figure, f"Dashed: proportional to multiply-adds. {'; '.join(machines)}.")


@drawing
def costs(rows: Sequence[Mapping[str, str]], paper: Mapping[str, float]) -> bytes:
    """A PNG of time against the plain network's, with a panel each for training and inference.

    `rows` are those of experiments/cost.py; bars are the 95 % intervals that they have. `paper`
    has the paper's ratios for the standard SE block, which are drawn as lines.
    """
    labels = list(dict.fromkeys(row["row"] for row in rows))
    kinds = list(dict.fromkeys(row["what"] for row in rows))
    figure = canvas((10, 2 + 0.24 * len(labels)))
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, what in zip(panels, kinds, strict=True):
        measured = [row for row in rows if row["what"] == what]
        values = [
            [float(row[key] or row["times_plain"]) for key in ("times_plain", "low", "high")]
            for row in measured
        ]
        axes.errorbar(
            [middle for middle, _, _ in values],
            [labels.index(row["row"]) for row in measured],
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
        axes.set_yticks(range(len(labels)), [*map(literal, labels)])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_title(literal(f"{what}, {counted(int(measured[0]['batch']), 'image')}"))
        axes.set_xlabel("time / plain network's")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(literal(f"Cost of SE in {rows[0]['network']}"))
    return png(
        figure, " ".join(["Bars: 95 % intervals of the medians over turns.", *measured_at(rows)])
    )
