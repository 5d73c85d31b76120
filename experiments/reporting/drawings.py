"""The two drawings of README and docs; how all figures look is in senet_jax/system/figures.py.

    python -m experiments.reporting.drawings    (docs/images/se_block.png and docs/images/rooms.png)

The gates in the first drawing are published results; whoever publishes new ones draws it again.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from senet_jax.system.figures import COLOURS, canvas, drawing, png

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
# The gates of a trained network, one row per block, written by `python -m experiments.gates`.
PUBLISHED_GATES = ROOT / "experiments" / "results" / "gates" / "digits" / "excitation.csv"

INK, MUTED, PAPER = "0.15", "0.4", "0.97"
# The floors of the house from the top down: each room's name and what it does.
FLOORS = (
    (("experiments", "commands: run,\nreport, gates ..."),),
    (("reporting", "results to tables,\nfigures, pages"),),
    (
        ("studies", "a file per table\nof the paper"),
        ("launch", "ways to train\na grid"),
        ("timing", "races between\nprograms"),
    ),
    (("grid", "a study to\nplanned runs"),),
    (("statistics", "differences to\nverdicts"),),
    (("senet_jax", "commands: main,\nevaluate, predict ..."),),
    (("inference", "a trained network,\nasked"),),
    (("training", "a configuration\nto a result"),),
    (("weights", "timm's names, files,\ncatalogue"),),
    (("runs", "a run\non disk"), ("evaluation", "a split,\nscored")),
    (
        ("models", "a file per\nfamily"),
        ("data", "a name to\nbatches"),
    ),
    (("system", "what the machine\nis asked"),),
    (("layers", "what a network\nis made of"),),
    (("config", "types and algebra\nof keys"),),
    (("configs", "programs that\nreturn a ConfigDict"), ("errors", "bad input in\none sentence")),
)


@drawing
def se_block(blocks: Sequence[Mapping[str, str]]) -> bytes:
    """A PNG of what an SE block does, beside the gates of a trained network.

    Args:
      blocks: rows of excitation.csv in the order of the computation: `block`, `stage`, `mean`,
        `std`, and `share`, the part of the gates' variance that lies between classes.
    """
    figure = canvas((11, 3.6))
    left, right = figure.subfigures(1, 2, width_ratios=(1.75, 1))
    axes = left.subplots()
    axes.set_xlim(0, 19)
    axes.set_ylim(-1.3, 7.6)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title("A squeeze-and-excitation block", fontsize=12, loc="left", color=INK)
    _draw_block(axes)
    _draw_gates(right, blocks)
    caption = (
        "Left: Hu et al., arXiv 1709.01507. Right: SE-ResNet-20 on scikit-learn's digits, "
        "seed 0 of the study of Table 14, 360 test images."
    )
    return png(figure, caption, dpi=160)


def _draw_block(axes: Any) -> None:
    """Draw the feature map, the squeezed vector, the gates, and the map times its gates."""
    gates = (0.95, 0.25, 0.6, 0.1, 0.8, 0.4)
    even = (0.75,) * len(gates)
    middle = 4.0
    _maps(axes, 0.3, even)
    axes.text(1.9, 6.9, "U", ha="center", fontsize=12, weight="bold", color=INK)
    axes.text(1.9, 0.65, "H x W x C", ha="center", fontsize=8, color=MUTED)
    _arrow(axes, (3.9, middle), (5.5, middle))
    axes.text(4.7, 4.3, "squeeze", ha="center", fontsize=10, color=INK)
    axes.text(4.7, 3.3, "mean over\nH and W", ha="center", va="top", fontsize=8, color=MUTED)
    _vector(axes, 5.7, even, "z")
    _arrow(axes, (6.6, middle), (11.4, middle))
    axes.text(9.0, 4.3, "excitation", ha="center", fontsize=10, color=INK)
    axes.text(9.0, 5.0, "C → C/r → C", ha="center", fontsize=8, color=MUTED)
    axes.text(9.0, 3.6, "s = gate(W₂ ReLU(W₁ z))", ha="center", va="top", fontsize=9, color=INK)
    axes.text(9.0, 2.9, "a gate from 0 to 1\nper channel", ha="center", va="top", fontsize=8,
              color=MUTED)  # fmt: skip
    _vector(axes, 11.6, gates, "s")
    _arrow(axes, (12.5, middle), (14.9, middle))
    axes.text(13.5, 4.3, "scale", ha="center", fontsize=10, color=INK)
    axes.text(13.5, 3.6, "U s", ha="center", va="top", fontsize=9, color=INK)
    _maps(axes, 15.1, gates)
    axes.text(16.7, 0.65, "each channel by its gate", ha="center", fontsize=8, color=MUTED)
    # The feature map itself goes around the gate.
    style = {"color": MUTED, "lw": 1.2, "solid_capstyle": "round"}
    axes.plot([1.9, 1.9, 13.5, 13.5], [0.4, -0.4, -0.4, 2.1], **style)
    _arrow(axes, (13.5, 2.0), (13.5, 2.9))
    axes.text(7.6, -0.2, "U itself", ha="center", fontsize=8, color=MUTED)


def _maps(axes: Any, x: float, shades: Sequence[float]) -> None:
    """Draw a stack of channels, the last in front, each as dark as its shade from 0 to 1."""
    from matplotlib.patches import Rectangle

    for index, shade in enumerate(shades):
        corner = (x + 0.22 * index, 3.6 - 0.35 * index)
        colour = COLOURS[index % len(COLOURS)]
        axes.add_patch(Rectangle(corner, 2.2, 2.6, fc="white", ec="none", zorder=2 * index + 1))
        style = {"fc": colour, "ec": INK, "lw": 0.7, "alpha": shade}
        axes.add_patch(Rectangle(corner, 2.2, 2.6, **style, zorder=2 * index + 2))


def _vector(axes: Any, x: float, shades: Sequence[float], name: str) -> None:
    """Draw a vector as a column of cells, each as dark as its shade from 0 to 1."""
    from matplotlib.patches import Rectangle

    for index, shade in enumerate(shades):
        corner = (x, 5.35 - 0.6 * index)
        colour = COLOURS[index % len(COLOURS)]
        axes.add_patch(Rectangle(corner, 0.6, 0.6, fc=colour, ec="none", alpha=shade))
        axes.add_patch(Rectangle(corner, 0.6, 0.6, fc="none", ec=INK, lw=0.7))
    axes.text(x + 0.3, 6.3, name, ha="center", fontsize=12, weight="bold", color=INK)
    axes.text(x + 0.3, 1.75, "C", ha="center", fontsize=8, color=MUTED)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.2})


def _draw_gates(figure: Any, blocks: Sequence[Mapping[str, str]]) -> None:
    """Draw the mean and spread of each block's gates, and how far they follow the class."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1))
    names = [block["block"].replace("stage", "").replace("/block", ".") for block in blocks]
    places = np.arange(len(blocks))
    means = np.array([float(block["mean"]) for block in blocks])
    spreads = np.array([float(block["std"]) for block in blocks])
    shares = np.array([float(block["share"]) for block in blocks])
    stages = sorted({block["stage"] for block in blocks})
    colours = [COLOURS[stages.index(block["stage"])] for block in blocks]
    above.vlines(places, means - spreads, means + spreads, colors=colours, lw=2.5)
    above.scatter(places, means, c=colours, s=28, zorder=3)
    above.set_ylim(0, 1)
    above.set_ylabel("gate", fontsize=9)
    above.set_title("Gates of a trained network", fontsize=12, loc="left", color=INK)
    above.annotate("mean ± standard deviation", (0.02, 0.07), xycoords="axes fraction", fontsize=8,
                   color=MUTED)  # fmt: skip
    below.bar(places, 100 * shares, color=colours, width=0.65)
    below.set_ylim(0, 100)
    below.set_ylabel("% between\nclasses", fontsize=9)
    below.set_xticks(places, names, fontsize=8)
    below.set_xlabel("block (stage.number)", fontsize=9)
    for axes in (above, below):
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)


@drawing
def rooms() -> bytes:
    """A PNG of the house: its floors, and the one direction of its imports."""
    from matplotlib.patches import FancyBboxPatch

    figure = canvas((8.6, 8.0))
    axes = figure.subplots()
    axes.set_xlim(-0.8, 10)
    axes.set_ylim(-0.1, len(FLOORS))
    axes.axis("off")
    first = next(i for i, floor in enumerate(FLOORS) if floor[0][0] == "senet_jax")
    for level, floor in enumerate(FLOORS):
        bottom = len(FLOORS) - 1 - level
        width = 9.4 / 3
        start = (9.8 - width * len(floor)) / 2
        for place, (name, answer) in enumerate(floor):
            ours = COLOURS[1] if level < first else COLOURS[0]
            colour = COLOURS[2] if name == "configs" else ours
            x = start + place * width
            box = FancyBboxPatch(
                (x + 0.1, bottom + 0.12), width - 0.2, 0.72, boxstyle="round,pad=0.02",
                fc=PAPER, ec=colour, lw=1.4,
            )  # fmt: skip
            axes.add_patch(box)
            axes.text(x + 0.22, bottom + 0.48, name, va="center", fontsize=9.5, weight="bold",
                      color=INK)  # fmt: skip
            axes.text(x + width - 0.22, bottom + 0.48, answer, va="center", ha="right",
                      fontsize=7.2, color=MUTED)  # fmt: skip
    _arrow(axes, (-0.3, len(FLOORS) - 0.3), (-0.3, 0.3))
    axes.text(-0.55, len(FLOORS) / 2, "imports point down", rotation=90, va="center", ha="center",
              fontsize=9, color=MUTED)  # fmt: skip
    caption = (
        "Blue: senet_jax, orange: experiments, green: configs, which know nothing of ours. "
        "Rooms on one floor do not know each other; tests/test_architecture.py holds this."
    )
    return png(figure, caption)


def main() -> None:
    """Draw both drawings and write them to docs/images/."""
    with PUBLISHED_GATES.open(encoding="utf-8") as file:
        drawings = {"se_block.png": se_block(list(csv.DictReader(file))), "rooms.png": rooms()}
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, content in drawings.items():
        (IMAGES / name).write_bytes(content)
        print(f"-> {(IMAGES / name).relative_to(ROOT)}")


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit("error: drawings takes no arguments")
    main()
