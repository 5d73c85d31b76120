"""The figure of a run's gates, like Figures 6 and 7 of Hu et al."""

from collections.abc import Mapping

import numpy as np

from senet_jax.system.figures import canvas, drawing, in_lines, literals, png

MAX_CHANNELS = 50  # per panel, as in the paper
EVERYTHING = "all classes"  # the legend of their mean


@drawing
def gates(
    panels: Mapping[str, Mapping[str, np.ndarray]], title: str, caption: str, dpi: int = 150
) -> bytes:
    """A PNG like Figures 6 and 7 of Hu et al.: gate against channel, one line per class.

    Args:
      panels: name of a block to its lines. Lines are gates [C] by legend; at most MAX_CHANNELS,
        evenly spaced, are drawn. The line EVERYTHING is black.
      title, caption: the text above and below the figure.
      dpi: pixels per inch; the figure is up to 12.5 inches wide.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    width = 4 * columns + 0.5
    names = literals(next(iter(panels.values())), longest=40)
    across = max(1, min(len(names), int(width / (0.7 + 0.09 * max(map(len, names))))))
    legend_rows = -(-len(names) // across)
    title = in_lines(title, width, 11, longest=110)
    figure = canvas((width, 2.6 * rows + 0.9 + 0.2 * (legend_rows - 1 + title.count("\n"))))
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (name, lines) in zip(grid.flat, panels.items(), strict=False):
        for label, values in lines.items():
            count = min(MAX_CHANNELS, len(values))
            drawn = np.linspace(0, len(values) - 1, count).round().astype(int)
            style = {"color": "black", "lw": 1.6, "zorder": 3} if label == EVERYTHING else {"lw": 1}
            axes.plot(drawn, values[drawn], marker=".", markersize=3, **style)
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
    figure.legend(
        grid[0, 0].get_lines(),
        names,
        loc="outside upper center",
        ncols=across,
        frameon=False,
        title=title,
        title_fontsize=11,
    )
    return png(figure, caption, dpi)
