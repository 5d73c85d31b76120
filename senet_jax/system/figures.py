"""The look of all figures, and how they are written."""

import collections
import functools
import io
import re
import textwrap
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, ParamSpec

from senet_jax.errors import first_line
from senet_jax.system import files

P = ParamSpec("P")
CODE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")  # of `literal`

# Okabe and Ito's colours, which the colour-blind can tell apart, without yellow and black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f")
SIGN = ("Software", "senet_jax")  # in a picture of ours, which is nobody's input
STYLES = ("-", "--", ":", "-.")


def canvas(size: tuple[float, float]) -> Any:
    """An empty figure of `size`, in inches, without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def drawing(function: Callable[P, bytes]) -> Callable[P, bytes]:
    """Have a function draw in matplotlib's own style, whatever the user's settings."""

    @functools.wraps(function)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        import matplotlib.style

        with matplotlib.style.context("default"):
            return function(*args, **kwargs)

    return drawn


def literal(text: str, longest: int = 60) -> str:
    """A text of others, such as the name of a class, as matplotlib draws it letter by letter.

    Dollars make no formula, and what begins with _ or is empty is not left out of a legend. What
    cannot be printed, or has no glyph, becomes its code, such as \\u732b; of a text of more
    characters than `longest` the middle is left out.
    """
    shown = "".join(
        character
        if character.isprintable() and ord(character) in _glyphs()
        else character.encode("unicode_escape").decode()
        for character in text
    )
    if len(shown) > longest:
        shown = f"{shown[: longest // 2]}…{shown[-longest // 2 :]}"
    shown = shown.replace("$", r"\$") or "''"
    return f" {shown}" if shown.startswith("_") else shown


def literals(texts: Iterable[str], longest: int = 60) -> list[str]:
    """The texts of a list as `literal` shows them, told apart: cut ones that look alike by place.

    The place counts from 0, as the numbers of classes do.
    """
    shown = [literal(text, longest) for text in texts]
    count = collections.Counter(shown)
    return [f"{text} ({n})" if count[text] > 1 else text for n, text in enumerate(shown)]


@functools.cache
def _glyphs() -> Collection[int]:
    """The characters of the font that comes with matplotlib and is its default."""
    from matplotlib import font_manager

    return font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap().keys()


def attempt(what: object, draw: Callable[[], bytes]) -> tuple[bytes, str]:
    """Draw a figure, called `what`: its bytes and "", or b"" and a sentence if it cannot be drawn.

    That is no reason to lose anything else.
    """
    try:
        return draw(), ""
    except Exception as error:  # whatever matplotlib makes of what it is given
        return b"", f"{what} cannot be drawn: {type(error).__name__}: {first_line(error)}"


def write(path: Path, draw: Callable[[], bytes]) -> str:
    """Draw a figure and write it.

    Returns: a sentence if it cannot be drawn; an older figure is removed then. "" if it can.

    Raises: InputError if it cannot be written.
    """
    content, failure = attempt(path, draw)
    if failure:
        path.unlink(missing_ok=True)
    else:
        files.write(path, content)
    return failure


def in_lines(text: str, width: float, points: float, longest: int = 2000) -> str:
    """A literal in lines that fit into `width` inches, at most 150 letters, at a size in points."""
    letters = min(150, int(120 * width / points))  # a letter is 0.53 of its height, on average
    return "\n".join(textwrap.wrap(literal(text, longest), letters))


def png(figure: Any, caption: str, dpi: int = 150) -> bytes:
    """Render a figure as PNG with a caption below it, at `dpi` pixels per inch."""
    from matplotlib.text import Text

    codes = [CODE.search(text.get_text()) for text in figure.findobj(Text)]
    if code := next(filter(None, codes), None):
        caption += f" {code[0]} and the like are codes of characters that cannot be drawn."
    figure.supxlabel(in_lines(caption, figure.get_figwidth(), 7), fontsize=7, color="0.35")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi, metadata=dict([SIGN]))
    return content.getvalue()
