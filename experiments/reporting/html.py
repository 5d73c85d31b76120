"""Pieces of an HTML page that needs no other file."""

import base64
from collections.abc import Iterable, Sequence
from html import escape


def figure(alt: str, png: bytes) -> str:
    """An image as part of the page."""
    return (
        f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">\n'
    )


def remarks(lines: Iterable[str], kind: str) -> str:
    """A list of sentences, whose CSS class is `kind`; "" for none."""
    items = "".join(f"<li>{escape(line)}\n" for line in lines)
    return f'<ul class="{kind}">\n{items}</ul>\n' if items else ""


def table(
    head: Sequence[str], rows: Iterable[Iterable[str]], kind: str = "", marked: int | None = None
) -> str:
    """A table whose cells are HTML.

    Args:
      head: the headings, as text.
      rows: the rows' cells, as HTML.
      kind: the table's CSS class.
      marked: index of the row that the others are compared with; None for no such row.
    """
    headings = "".join(f"<th>{escape(heading)}" for heading in head)
    body = "".join(
        f"<tr{' class=reference' if index == marked else ''}>"
        + "".join(f"<td>{cell}" for cell in cells)
        + "\n"
        for index, cells in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table class="{kind}">\n<thead><tr>{headings}</thead>\n'
        f"<tbody>\n{body}</tbody></table></div>\n"
    )
