"""How any figure looks and is written."""

import io
import textwrap
from typing import Any

# Okabe and Ito's, told apart by the colour-blind as well, without their yellow and black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f")


STYLES = ("-", "--", ":", "-.")


def canvas(size: tuple[float, float]) -> Any:
    """An empty figure of so many inches by inches; no window, whatever the user's settings."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any, caption: str, dpi: int = 150) -> bytes:
    """The figure with a caption below it, in so many pixels an inch."""
    figure.supxlabel("\n".join(textwrap.wrap(caption, 150)), fontsize=7, color="0.35")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()
