"""The study's figure: the paper's errors beside ours."""

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
    figure.supxlabel(_wrap(caption), fontsize=7, color="0.35")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def _wrap(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 150))
