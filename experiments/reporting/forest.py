"""All published pairs of a plain network and the same with SE, in one figure, with ours on top.

published_pairs.csv has a line per pair, with its source. Nearly all are single runs without an
interval; the few that say how far their runs spread say it in a note.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.grid.study import Study
from experiments.reporting import blocks, primary, publish
from experiments.reporting.plot import OURS
from experiments.statistics.paired import t_interval
from experiments.studies import load_study
from senet_jax.system.figures import canvas, drawing, literal, png
from senet_jax.system.figures import write as write_figure

PAIRS = Path(__file__).with_name("published_pairs.csv")
THEIRS = "0.35"
CAPTION = (
    "Gain: top-1 error of the plain network less that with SE, in points. Others' pairs are single "
    "runs unless a note says more, so they have no interval; ours are means over n seeds with 95 % "
    "intervals (Student's t). An arrow: the interval goes on."
)
PLAIN_ROWS = {"reduction": "original", "preactivation": "plain"}  # by study
ROOM = 1.4  # what is shown, of the largest gain; the interval of few seeds would press all others


def published() -> list[dict[str, Any]]:
    """The pairs of others: dataset, network, gain in points, note and source."""
    lines = csv.DictReader(PAIRS.read_text("utf-8").splitlines())
    return [
        {**line, "gain": float(line["plain_top1_error"]) - float(line["se_top1_error"])}
        for line in lines
    ]


def ours() -> Iterator[dict[str, Any]]:
    """Our pairs, from the published runs of PLAIN_ROWS: what is compared with the plain network."""
    for name, plain in PLAIN_ROWS.items():
        study = load_study(name)
        for dataset in publish.published_datasets(study):
            yield from _pairs_on(dataset, study, plain)


def _pairs_on(dataset: str, study: Study, plain: str) -> Iterator[dict[str, Any]]:
    """The pairs of a study's published runs on a dataset with its row without SE."""
    results, _ = publish.read(study, dataset)
    for decided in primary.decisions(study, results):
        interval = t_interval(decided.differences)
        if decided.comparison.reference == plain and interval:
            mean = sum(interval) / 2
            half = interval[1] - mean
            yield {
                "dataset": dataset,
                "network": results[plain][0]["model"].removeprefix("se"),
                "gain": mean,
                "half": half,
                "source": f"ours, n = {len(decided.differences)}: {mean:+.2f} ± {half:.2f}",
            }


def in_order() -> list[dict[str, Any]]:
    """All pairs from top to bottom: ours, then by dataset as listed and by depth."""
    theirs = published()
    datasets = list(dict.fromkeys(pair["dataset"] for pair in theirs))

    def place(pair: dict[str, Any]) -> tuple[int, int]:
        depth = re.search(r"\d+", pair["network"])
        return datasets.index(pair["dataset"]), int(depth[0]) if depth else 0

    return [*ours(), *sorted(theirs, key=place)]


@drawing
def draw() -> bytes:
    """The figure as PNG."""
    pairs = in_order()
    figure = canvas((8, 1.4 + 0.2 * len(pairs)))
    axes = figure.subplots()
    axes.axvline(0, color="0.6", linewidth=1)
    end = ROOM * max(abs(pair["gain"]) for pair in pairs)
    axes.set_xlim(-end, end)
    for y, pair in enumerate(pairs):
        colour = OURS if "half" in pair else THEIRS
        axes.errorbar(
            pair["gain"], y, xerr=pair.get("half"), fmt="s", markersize=4, capsize=3, color=colour
        )
        for sign, arrow in ((-1, "<"), (1, ">")):
            if sign * pair["gain"] + pair.get("half", 0) > end:
                axes.plot(sign * end, y, arrow, markersize=6, color=colour, clip_on=False)
    for y in range(1, len(pairs)):
        if pairs[y]["dataset"] != pairs[y - 1]["dataset"] or "half" in pairs[y - 1]:
            axes.axhline(y - 0.5, color="0.85", linewidth=0.8)
    labels = [literal(f"{pair['dataset']}, {pair['network']}") for pair in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=8)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_xlabel("gain of SE (points of top-1 error)")
    axes.grid(axis="x", alpha=0.3)
    sources = axes.secondary_yaxis("right")
    sources.set_yticks(
        range(len(pairs)), [literal(pair["source"]) for pair in pairs], fontsize=7, color="0.35"
    )
    figure.suptitle("Plain networks and the same with SE, as published")
    return png(figure, CAPTION)


def write() -> None:
    """Draw the figure of the docs again, if there are docs here.

    Raises: InputError if it cannot be written.
    """
    folder = blocks.ROOT / "docs" / "images"
    if folder.is_dir():
        write_figure(folder / "forest.png", draw)
