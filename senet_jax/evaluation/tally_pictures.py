"""Pictures of a tally: the confusion matrix of 2 or of 1,000 classes, and the reliability."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from senet_jax.evaluation.tally import BINS, Tally
from senet_jax.system.figures import COLOURS, canvas, drawing, literals, png

WITH_NUMBERS = 25  # classes up to which every cell has its number
WITH_NAMES = 60  # classes up to which every line has its name
LISTED = 15  # confusions, and classes, that are listed beside a matrix of more than ten classes


@drawing
def confusion(tally: Tally, names: Sequence[str], caption: str) -> bytes:
    """A PNG of the confusion matrix, in shares of each right class.

    Cells of few classes have their numbers; beside many classes stand the worst of them and the
    most frequent confusions, which no eye finds in a thousand lines.
    """
    side = min(9.0, 3.4 + 0.24 * len(names))
    if len(names) > 10:
        figure = canvas((side + 4.6, max(side, 7.0)))
        left, right = figure.subfigures(1, 2, width_ratios=(side, 4.6))
        _lists(right, tally, names)
    else:
        figure = left = canvas((side + 1, side))
    draw_matrix(left.subplots(), tally, names)
    left.suptitle(f"balanced error {tally.balanced_error:.2f} %", fontsize=10)
    # Of a thousand classes each has more than a pixel.
    return png(figure, caption, dpi=max(150, round(1.4 * len(names) / (0.7 * side))))


def draw_matrix(axes: Any, tally: Tally, names: Sequence[str], *, numbers: bool = True) -> None:
    """Draw a confusion matrix into axes, of few classes with the numbers in its cells."""
    from matplotlib.colors import PowerNorm

    assert tally.confusion is not None
    count, few = len(names), len(names) <= WITH_NUMBERS
    share = tally.confusion / np.maximum(tally.examples, 1)[:, None]
    # Rare confusions among many classes would be invisible on a linear scale.
    norm = PowerNorm(1.0 if few else 0.4, 0, 1)
    image = axes.imshow(share, norm=norm, cmap="Blues", interpolation="nearest")
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.7)
    bar.set_label("share of the right class")
    axes.set_xlabel("most probable class")
    axes.set_ylabel("right class")
    if count <= WITH_NAMES:
        labels, size = literals(names, 18), 9 if few else 6
        axes.set_xticks(range(count), labels, rotation=90, fontsize=size)
        axes.set_yticks(range(count), labels, fontsize=size)
    if few and numbers:
        longest = max(len(str(tally.confusion.max())), 2)
        for (row, column), number in np.ndenumerate(tally.confusion):
            if number:
                axes.text(
                    column,
                    row,
                    str(number),
                    ha="center",
                    va="center",
                    fontsize=min(9, 20 / longest),
                    color="white" if share[row, column] > 0.6 else "0.15",
                )


def _lists(figure: Any, tally: Tally, names: Sequence[str]) -> None:
    """Draw the classes with the highest errors, and the most frequent confusions, as text."""
    assert tally.confusion is not None
    errors = np.nan_to_num(tally.class_errors, nan=-1).tolist()
    wrong = [n for n in range(len(names)) if errors[n] > 0]
    worst = sorted(wrong, key=lambda number: -errors[number])[:LISTED]
    shown = literals(names, 26)
    lines = [f"Highest errors{_of(len(wrong))}"]
    lines += [f"{errors[n]:.1f} %  {shown[n]} ({tally.examples[n]:,})" for n in worst] or ["none"]
    others = tally.confusion - np.diag(np.diag(tally.confusion))
    most = np.argsort(-others, axis=None, kind="stable")[:LISTED]
    pairs = [divmod(int(place), len(names)) for place in most if others.flat[place]]
    shown = literals(names, 18)
    count = _of(int(np.count_nonzero(others)))
    lines += ["", f"Most frequent confusions{count}: right, most probable"]
    lines += [f"{others[pair]:,}  {shown[pair[0]]}, {shown[pair[1]]}" for pair in pairs] or ["none"]
    text = "\n".join(lines)
    figure.text(0.02, 0.97, text, va="top", fontsize=8)


def _of(count: int) -> str:
    """How many of all are listed, where those are more."""
    return f" ({LISTED} of {count:,})" if count > LISTED else ""


@drawing
def calibration(tally: Tally, caption: str) -> bytes:
    """A PNG of the reliability diagram: accuracy against confidence, and how many examples."""
    figure = canvas((5, 5.6))
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    draw_reliability(above, tally)
    above.legend(frameon=False, fontsize=8, loc="upper left")
    lows = np.arange(BINS) / BINS
    share = 100 * tally.bins[:, 0] / max(tally.bins[:, 0].sum(), 1)
    below.bar(lows, share, 1 / BINS, align="edge", color=COLOURS[6], edgecolor="white")
    below.set_xlabel("confidence: probability of the most probable class")
    below.set_ylabel("examples (%)")
    above.set_title(f"expected calibration error {tally.calibration_error:.2f} %", fontsize=10)
    return png(figure, caption)


def draw_reliability(axes: Any, tally: Tally) -> None:
    """Draw accuracy by bins of confidence, and its distance from the mean confidence, into axes."""
    number, right, confidence = tally.bins.T
    some = number > 0
    lows = (np.arange(BINS) / BINS)[some]
    accuracy, mean = (sums[some] / number[some] for sums in (right, confidence))
    width = 1 / BINS
    axes.bar(lows, accuracy, width, align="edge", color=COLOURS[4], ec="white", label="accuracy")
    axes.bar(
        lows,
        mean - accuracy,
        width,
        bottom=accuracy,
        align="edge",
        color=COLOURS[1],
        alpha=0.35,
        ec=COLOURS[1],
        hatch="//",
        label="to the mean confidence",
    )
    axes.plot((0, 1), (0, 1), color="0.3", lw=0.8, ls="--")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy")
