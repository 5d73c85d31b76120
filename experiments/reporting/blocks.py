"""Blocks in Markdown pages that commands write, between `<!-- NAME -->` and `<!-- end NAME -->`."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from senet_jax.errors import InputError
from senet_jax.system import files

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/**/*.md")  # the pages that may have blocks


def pages_with(name: str) -> list[Path]:
    """Find the pages that have a place for the block of this name."""
    pages = [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]
    return [page for page in pages if f"<!-- {name} -->" in page.read_text("utf-8")]


def write_block(name: str, content: Callable[[Path], str]) -> list[Path]:
    """Bring a block up to date wherever it is; `content` makes its text for a page.

    Returns: the pages that have the block.

    Raises: InputError if a block lacks its end.
    """
    pages = pages_with(name)
    for page in pages:
        text = page.read_text("utf-8")
        if (changed := insert(text, name, content(page))) != text:
            files.write(page, changed.encode())
    return pages


def insert(text: str, name: str, content: str) -> str:
    """Replace the text between a page's marks. Raises: InputError if the page lacks them."""
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise InputError(f"there is no place marked {start} ... {end}")
    return pattern.sub(lambda _: f"{start}\n{content}{end}", text)


def table(headings: Sequence[str], rule: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; a cell may have several lines.

    Args:
      rule: "---" for each column, or "---:" for one of numbers.
    """
    cells = (" | ".join(line).replace("\n", "<br>") for line in (headings, rule, *lines))
    return "".join(f"| {line} |\n" for line in cells)


def link(page: Path, target: Path) -> str:
    """The target's address, relative to the page."""
    return Path(os.path.relpath(target, page.parent)).as_posix()
